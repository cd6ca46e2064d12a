//! Bodies of requests: when they are asked for, and what the API makes of them.

use crate::client::Window;
use crate::server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;

const BODY: &str = r#"{"destination":"/topic/a","body":"x"}"#;

/// The head of a publish, whose body follows once it is asked for.
fn head() -> String {
    format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    )
}

fn rest(mut socket: TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the server answers and closes");
    answer
}

#[test]
fn a_body_is_asked_for_where_the_client_waits_and_has_not_sent_it() {
    let server = Server::embedded();
    let mut waiting = server.connect();
    waiting.write_all(head().as_bytes()).expect("the server reads");
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    waiting.read_exact(&mut interim).expect("it is asked for");
    assert_eq!(interim, *b"HTTP/1.1 100 Continue\r\n\r\n");
    waiting.write_all(BODY.as_bytes()).expect("the server reads");
    assert!(rest(waiting).starts_with("HTTP/1.1 200 "));
    // RFC 9110 §10.1.1: no interim answer where some of the body has come with the head.
    let mut at_once = server.connect();
    let request = format!("{}{BODY}", head());
    at_once.write_all(request.as_bytes()).expect("the server reads");
    assert!(rest(at_once).starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_the_api_publishes_has_one_content_type() {
    let server = Server::embedded();
    let mut window = Window::subscribed(&server, None, &["/topic/a"]);
    for (item, kind, body) in [
        (r#""body":"x""#, "text/plain;charset=UTF-8", "x"),
        (r#""body":{"a": 1.50}"#, "application/json", r#"{"a": 1.50}"#),
        (r#""body":null"#, "application/json", "null"),
        (r#""body":"<a/>","headers":{"content-type":"text/xml"}"#, "text/xml", "<a/>"),
    ] {
        let item = format!(r#"{{"destination":"/topic/a",{item}}}"#);
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{item}",
            item.len()
        );
        let mut socket = server.connect();
        socket.write_all(request.as_bytes()).expect("the server reads");
        let answer = rest(socket);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let frame = window.receives();
        let kinds = frame.headers.iter().filter(|(name, _)| name == "content-type");
        assert_eq!(kinds.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), [kind], "{item}");
        assert_eq!(frame.body, body, "{item}");
    }
}

//! Bodies of requests: `100 Continue`, and how the API reads them.

use crate::client::Session;
use crate::server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;

const BODY: &str = r#"{"destination":"/topic/a","body":"x"}"#;

/// The head of a publish, whose body follows after `100 Continue`.
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
fn a_body_is_requested_if_the_client_waits_and_has_not_sent_it() {
    let server = Server::embedded();
    let mut waiting = server.connect();
    waiting.write_all(head().as_bytes()).expect("the server reads");
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    waiting.read_exact(&mut interim).expect("it is asked for");
    assert_eq!(interim, *b"HTTP/1.1 100 Continue\r\n\r\n");
    waiting.write_all(BODY.as_bytes()).expect("the server reads");
    assert!(rest(waiting).starts_with("HTTP/1.1 200 "));
    // RFC 9110 §10.1.1: no interim answer if some of the body has arrived with the head.
    let mut at_once = server.connect();
    let request = format!("{}{BODY}", head());
    at_once.write_all(request.as_bytes()).expect("the server reads");
    assert!(rest(at_once).starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_the_api_publishes_has_one_content_type() {
    let server = Server::embedded();
    let mut session = Session::subscribed(&server, None, &["/topic/a"]);
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
        let frame = session.receives();
        let kinds = frame.headers.iter().filter(|(name, _)| name == "content-type");
        assert_eq!(kinds.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), [kind], "{item}");
        assert_eq!(frame.body, body, "{item}");
    }
}

#[test]
fn a_push_answers_how_many_receive_it() {
    let server = Server::embedded();
    // `?` does not match the topic of presence.
    let destinations = ["/topic/a", "/topic/?", "/user/queue/sub"];
    let _sessions = ["7", "7"].map(|user| Session::subscribed(&server, Some(user), &destinations));
    let said = |body: &str| (200, body.to_owned());
    let get = |target: &str| server.get(target);
    let one = get("/sendMsToUser?userId=7&subscribePath=/queue/sub");
    assert_eq!(one, said("{\"code\":0,\"sessions\":2}"));
    let nobody = get("/sendMsToUser?userId=8&subscribePath=/queue/sub");
    assert_eq!(nobody, said("{\"code\":0,\"sessions\":0}"));
    // Spring's messaging template puts the leading slash where there is none.
    let all = get("/sendMsAll?subscribePath=topic/a");
    assert_eq!(all, said("{\"code\":0,\"subscriptions\":4}"));

    let topic = r#"{"destination":"/topic/b","body":1}"#;
    let user = r#"{"destination":"/user/7/queue/sub","body":1}"#;
    let publish = |body: &str| server.post("/api/publish", "", body);
    assert_eq!(publish(topic), said("{\"code\":0,\"subscriptions\":2}"));
    let both = r#"[{"code":0,"sessions":2},{"code":0,"subscriptions":2}]"#;
    assert_eq!(publish(&format!("[{user},{topic}]")), said(both));
    let own = r#"{"destination":"/queue/sub","body":1}"#;
    let message = server.post("/api/users/7/messages", "", own);
    assert_eq!(message, said("{\"code\":0,\"sessions\":2}"));
}

#[test]
fn a_bad_item_is_named_and_none_of_its_array_is_pushed() {
    let server = Server::embedded();
    let mut session = Session::subscribed(&server, None, &["/topic/a"]);
    let good = r#"{"destination":"/topic/a","body":"good"}"#;
    let publish = |body: &str| server.post("/api/publish", "", body);
    for (bad, status, text) in [
        (
            r#"{"destination":"/topic/a","body":1,"colour":2}"#,
            400,
            "item 1: unknown field `colour`",
        ),
        (r#"{"destination":"/none","body":1}"#, 404, "item 1: /none begins with no broker"),
        (r#"{"destination":"/topic/a","body":1,"session":"x"}"#, 400, "item 1: an item of /api/"),
        ("1", 400, "item 1: invalid type: integer `1`, expected an object"),
        (r#"["/topic/a",{},1,null]"#, 400, "item 1: an item is an object"),
    ] {
        let (answered, said) = publish(&format!("[{good},{bad}]"));
        assert_eq!(answered, status, "{said}");
        assert!(said.contains(&format!("\"msg\":\"{text}")), "{said}");
    }
    let one = server.post("/api/users/7/messages", "", r#"{"destination":"/queue/a","text":1}"#);
    assert_eq!(one.0, 400);
    assert!(one.1.contains("unknown field `text`"), "{}", one.1);
    // Nothing of the arrays has arrived before this.
    assert_eq!(publish(r#"{"destination":"/topic/a","body":"last"}"#).0, 200);
    assert_eq!(session.hears("/topic/a"), "last");
}

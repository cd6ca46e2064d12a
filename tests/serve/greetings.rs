//! Paths below an endpoint besides the WebSocket: SockJS's greeting and `/info`.

use crate::peer::Peer;
use crate::server::{Folder, Server};
use ringpush::ws::Opcode;
use std::io::{Read, Write};

const ENDPOINTS: &str = "\
[[endpoint]]\npath = '/open'\nprotocol = 'stomp'\nsockjs = true\n\
allowed-origins = ['https://page.example']\n\
[[endpoint]]\npath = '/shut'\nprotocol = 'raw'\non-message = 'echo'\n\
sockjs = { websocket = false, cookie = true }\n\
[[endpoint]]\npath = '/bare'\nprotocol = 'raw'\non-message = 'echo'\nsockjs = false\n";

/// An answer with its headers.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        let first = found.next();
        assert_eq!(found.next(), None, "{name} is repeated: {}", self.head);
        first
    }
}

/// Asks with these header lines, each with its line end.
fn ask(server: &Server, method: &str, target: &str, lines: &str) -> Answer {
    let mut socket = server.connect();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n"
    );
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the server answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn server(more: &str) -> (Server, Folder) {
    let folder = Folder::new();
    let server = Server::with(&folder.write("config.toml", &format!("{more}{ENDPOINTS}")));
    (server, folder)
}

#[test]
fn an_endpoint_greets_and_refuses_unknown_paths_below_it() {
    let (server, _folder) = server("");
    for path in ["/open", "/open/", "/shut"] {
        let greeting = ask(&server, "GET", path, "");
        assert_eq!((greeting.status, &*greeting.body), (200, "Welcome to SockJS!\n"), "{path}");
        assert_eq!(greeting.header("content-type"), Some("text/plain; charset=UTF-8"));
        let other = ask(&server, "DELETE", path, "");
        assert_eq!((other.status, other.header("allow")), (405, Some("GET")), "{path}");
    }
    // Not SockJS: a WebSocket or nothing.
    assert_eq!(ask(&server, "GET", "/bare", "").status, 400);
    for path in ["/bare/", "/bare/info", "/bare/websocket", "/open/none", "/openinfo", "/shu"] {
        assert_eq!(ask(&server, "GET", path, "").status, 404, "{path}");
    }
}

#[test]
fn info_lists_the_capabilities_of_the_endpoint() {
    let (server, _folder) = server("");
    let info = |path: &str| {
        let answer = ask(&server, "GET", path, "");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=UTF-8"));
        let never_kept = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
        assert_eq!(answer.header("cache-control"), Some(never_kept));
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let entropy = body["entropy"].as_u64().expect("a number");
        (body["websocket"] == true, body["cookie_needed"] == true, entropy)
    };
    let (one, other) = (info("/open/info"), info("/open/info"));
    assert_eq!((one.0, one.1, other.0), (true, false, true));
    assert_ne!(one.2, other.2, "each answer has its own random number");
    let shut = info("/shut/info");
    assert_eq!((shut.0, shut.1), (false, true));
}

#[test]
fn info_says_which_pages_may_read_it() {
    let (server, _folder) = server("");
    let anybody = ask(&server, "GET", "/open/info", "");
    assert_eq!(anybody.header("vary"), Some("Origin"));
    assert_eq!(anybody.header("access-control-allow-origin"), Some("*"));
    assert_eq!(anybody.header("access-control-allow-credentials"), None);

    let page = "Origin: https://page.example\r\n";
    let asked = "Access-Control-Request-Headers: x-one, x-two\r\n";
    let allowed = ask(&server, "GET", "/open/info", page);
    let before = ask(&server, "OPTIONS", "/open/info", &format!("{page}{asked}"));
    for answer in [&allowed, &before] {
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://page.example"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    }
    assert_eq!((allowed.status, before.status, &*before.body), (200, 204, ""));
    assert_eq!(allowed.header("access-control-allow-methods"), None);
    assert_eq!(before.header("access-control-allow-methods"), Some("OPTIONS, GET"));
    assert_eq!(before.header("access-control-allow-headers"), Some("x-one, x-two"));
    assert_eq!(before.header("access-control-max-age"), Some("31536000"));
    assert_eq!(before.header("cache-control"), Some("public, max-age=31536000"));
    for lines in ["", "Access-Control-Request-Headers:\r\n"] {
        let answer = ask(&server, "OPTIONS", "/open/info", lines);
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-headers"), None, "{lines:?}");
    }
    let other = ask(&server, "DELETE", "/open/info", "");
    assert_eq!((other.status, other.header("allow")), (405, Some("OPTIONS, GET")));
    for method in ["GET", "OPTIONS", "DELETE"] {
        let foreign = ask(&server, method, "/open/info", "Origin: https://other.example\r\n");
        assert_eq!(foreign.status, 403, "{method}");
    }
}

#[test]
fn sockjs_websockets_have_two_paths_where_they_are_offered() {
    let (server, _folder) = server("");
    let mut framed = Peer::open(&server, "/open/000/session/websocket", "");
    let opened = framed.receives();
    assert_eq!((opened.opcode, &*opened.payload), (Opcode::Text, &b"o"[..]));
    // Without SockJS frames the server sends nothing first.
    for path in ["/open", "/open/websocket", "/shut"] {
        let mut plain = Peer::open(&server, path, "");
        plain.pings(b"?");
        assert_eq!(plain.receives().opcode, Opcode::Pong, "{path}");
    }
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for path in ["/shut/websocket", "/shut/000/session/websocket"] {
        assert_eq!(ask(&server, "GET", path, upgrade).status, 404, "{path}");
    }
}

#[test]
fn only_a_trusted_proxy_may_name_the_servers_origin() {
    let said = "Origin: https://push.example\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: push.example\r\n";
    let status = |server: &Server, lines: &str| ask(server, "GET", "/open/info", lines).status;
    let (untrusting, _folder) = server("");
    assert_eq!(status(&untrusting, said), 403);
    let (trusting, _folder) = server("listen.trusted-proxies = ['127.0.0.1']\n");
    assert_eq!(status(&trusting, said), 200);
    for part in ["X-Forwarded-Proto: https\r\n", "X-Forwarded-Host: push.example\r\n"] {
        assert_eq!(status(&trusting, &said.replace(part, "")), 403, "without {part}");
    }
}

#[test]
fn after_a_refused_upgrade_the_connection_ends() {
    let (server, _folder) = server("");
    let with = |version: &str, extensions: &str| {
        let mut socket = server.connect();
        let request = format!(
            "GET /open HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: {version}\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n"
        );
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        // Read to the end: the server closes the connection.
        socket.read_to_string(&mut answer).expect("the server closes");
        answer
    };
    assert!(with("12", "").starts_with("HTTP/1.1 426 "));
    let answer = with("13", "Sec-WebSocket-Extensions: permessage-deflate; =\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("bad Sec-WebSocket-Extensions"), "{answer}");
}

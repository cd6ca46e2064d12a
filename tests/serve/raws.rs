//! Raw endpoints: what they do on open and on a message, over WebSocket and SockJS.

use crate::client::Session;
use crate::peer::Peer;
use crate::server::{Folder, Server};
use ringpush::ws::Opcode;

/// SockJS's websocket transport of an endpoint.
const SOCKJS: &str = "/000/abcdefgh/websocket";

fn server(endpoint: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let config = format!(
        "[[endpoint]]\npath = '/raw'\nprotocol = 'raw'\nsockjs = true\n{endpoint}\n\
         [[endpoint]]\npath = '/portfolio'\n"
    );
    let server = Server::with(&folder.write("config.toml", &config));
    (folder, server)
}

/// A SockJS session that has been greeted.
fn sockjs(server: &Server) -> Peer {
    let mut peer = Peer::open(server, &format!("/raw{SOCKJS}"), "");
    assert_eq!(peer.hears(), "o");
    peer
}

#[test]
fn on_open_closes_at_once() {
    let (_folder, server) = server("on-open = { close = { code = 3000, reason = 'Go away!' } }");
    for path in ["/raw", "/raw/websocket"] {
        Peer::open(&server, path, "").hears_close(3000, "Go away!");
    }
    let mut peer = sockjs(&server);
    assert_eq!(peer.hears(), "c[3000,\"Go away!\"]");
    peer.hears_close(3000, "Go away!");
}

#[test]
fn echo_returns_each_message() {
    let (_folder, server) = server("on-message = 'echo'");
    let mut peer = Peer::open(&server, "/raw", "");
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    for (opcode, message) in [
        (Opcode::Text, "κόσµε".as_bytes()),
        (Opcode::Binary, &bytes[..]),
        (Opcode::Text, b""),
        (Opcode::Binary, b""),
    ] {
        // Whole, and in parts that end within a code point, with a Ping between them.
        peer.sends_parts(opcode, &[message]);
        let (head, tail) = message.split_at(message.len() / 3);
        peer.sends_parts(opcode, &[head, b"", tail]);
        for _ in 0..2 {
            let echo = peer.receives();
            assert_eq!((echo.opcode, &echo.payload[..]), (opcode, message));
        }
        peer.pings(b"between");
        let pong = peer.receives();
        assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::Pong, &b"between"[..]));
    }
    let mut peer = sockjs(&server);
    peer.sends_parts(Opcode::Text, &[b"[\"a\",\"\\u00e9 \xc3", b"\xa9\"", b",\"\"]"]);
    for expected in ["a[\"a\"]", "a[\"é é\"]", "a[\"\"]"] {
        assert_eq!(peer.hears(), expected);
    }
    peer.sends("\"one\"");
    assert_eq!(peer.hears(), "a[\"one\"]");
    peer.sends("[\"broken");
    assert_eq!(peer.hears(), "c[3000,\"Broken framing.\"]");
}

#[test]
fn reply_answers_each_message() {
    let (_folder, server) = server("on-message = { reply = '来自服务器的消息！' }");
    let mut peer = Peer::open(&server, "/raw", "");
    peer.sends("a");
    peer.sends_parts(Opcode::Binary, &[b"\xff", b"\xfe"]);
    for _ in 0..2 {
        assert_eq!(peer.hears(), "来自服务器的消息！");
    }
    let mut peer = sockjs(&server);
    peer.sends("[\"a\",\"b\"]");
    for _ in 0..2 {
        assert_eq!(peer.hears(), "a[\"来自服务器的消息！\"]");
    }
}

#[test]
fn publish_reaches_stomp_subscribers() {
    let (_folder, server) = server("on-message = { publish = '/topic/raw' }");
    let mut session = Session::subscribed(&server, None, &["/topic/raw"]);
    let mut peer = Peer::open(&server, "/raw", "");
    peer.sends("from a WebSocket");
    let frame = session.receives();
    assert_eq!(frame.command, "MESSAGE");
    assert_eq!(frame.header("destination"), Some("/topic/raw"));
    assert_eq!(frame.header("content-type"), Some("text/plain;charset=UTF-8"));
    assert_eq!(frame.body, "from a WebSocket");
    peer.sends_parts(Opcode::Text, &[b"in ", b"parts"]);
    assert_eq!(session.hears("/topic/raw"), "in parts");

    let mut peer = sockjs(&server);
    peer.sends("[\"from SockJS\",\"and \\u0022once\\u0022 more\"]");
    assert_eq!(session.hears("/topic/raw"), "from SockJS");
    assert_eq!(session.hears("/topic/raw"), "and \"once\" more");
}

#[test]
fn a_binary_message_is_published_as_bytes() {
    let (_folder, server) = server("on-message = { publish = '/topic/raw' }");
    let mut subscriber = Peer::open(&server, "/portfolio", "");
    subscriber.sends("CONNECT\naccept-version:1.2\nhost:x\n\n\0");
    assert!(subscriber.hears().starts_with("CONNECTED\n"));
    subscriber.sends("SUBSCRIBE\nid:1\ndestination:/topic/raw\nreceipt:1\n\n\0");
    assert!(subscriber.hears().starts_with("RECEIPT\n"));
    let mut peer = Peer::open(&server, "/raw", "");
    peer.sends_parts(Opcode::Binary, &[b"\xff\0", b"\xfe"]);
    let message = subscriber.receives();
    assert_eq!(message.opcode, Opcode::Binary);
    let text = String::from_utf8_lossy(&message.payload);
    assert!(text.contains("content-type:application/octet-stream\n"), "{text}");
    assert!(text.contains("content-length:3\n"), "{text}");
    assert!(message.payload.ends_with(b"\n\n\xff\0\xfe\0"), "{text}");
}

//! Users named by a signed token: at the handshake, and at CONNECT.

use crate::server::{Folder, Server, ringpush};
use crate::web::{UPGRADE, ask};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use std::net::TcpStream;
use tungstenite::{Message, WebSocket};

const SECRET: &str = "a secret of tokens, long enough";
const SETTINGS: &str = "[auth]\nmethods = ['token']\nanonymous = false\n\
                        [[endpoint]]\npath = '/raw'\nprotocol = 'raw'\non-message = 'echo'\n\
                        [[endpoint]]\npath = '/stomp'\nprotocol = 'stomp'\n";

fn server() -> (Server, Folder) {
    let folder = Folder::new();
    let file = folder.write("config.toml", SETTINGS);
    let file = file.to_str().expect("a path of the tests is text");
    let arguments = ["serve", "--config", file, "--listen", "127.0.0.1:0", "--shards", "1"];
    let mut command = ringpush(&arguments);
    command.env("RINGPUSH_TOKEN_SECRET", SECRET);
    (Server::start(command), folder)
}

fn token(claims: &str, secret: &str) -> String {
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Refused tokens, and the reason in the answer and in the metrics.
fn bad_tokens() -> [(String, &'static str, &'static str); 5] {
    [
        ("a.b.c".to_owned(), "malformed-token", "auth_token_malformed"),
        (
            token(r#"{"sub":"7"}"#, "another secret than the server has"),
            "token-signature",
            "auth_token_signature",
        ),
        (token(r#"{"sub":"7","exp":1000000}"#, SECRET), "token-expired", "auth_token_expired"),
        (
            token(r#"{"sub":"7","nbf":100000000000}"#, SECRET),
            "token-not-yet-valid",
            "auth_token_not_yet_valid",
        ),
        (token(r#"{"sub":""}"#, SECRET), "bad-user-name", "auth_user_name"),
    ]
}

#[test]
fn a_handshake_without_a_valid_token_is_a_401_that_says_why() {
    let (server, _folder) = server();
    let upgrade = |line: &str| {
        ask(server.address, "GET /raw", &format!("Host: localhost\r\n{UPGRADE}{line}"), "")
    };
    let good = token(r#"{"sub":"7"}"#, SECRET);
    assert_eq!(upgrade(&format!("Authorization: Bearer {good}\r\n")).status, 101);
    let mut all = vec![(String::new(), "not-authenticated", "auth_missing")];
    for (token, word, reason) in bad_tokens() {
        all.push((format!("Authorization: Bearer {token}\r\n"), word, reason));
    }
    for (line, word, reason) in all {
        let answer = upgrade(&line);
        assert_eq!(answer.status, 401, "{word}");
        assert_eq!(answer.body, format!("{{\"code\":401,\"msg\":\"{word}\"}}"));
        let name = format!("ringpush_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&name), 1, "{reason}");
    }
}

/// A WebSocket on `/stomp` that has sent CONNECT with these header lines, and the answer.
fn connect(server: &Server, lines: &str) -> (WebSocket<TcpStream>, String) {
    let url = format!("ws://{}/stomp", server.address);
    let (mut socket, _) = tungstenite::client(url, server.connect()).expect("it upgrades");
    let frame = format!("CONNECT\naccept-version:1.2\nhost:x\n{lines}\n\0");
    socket.send(Message::text(frame)).expect("the server reads");
    let answer = socket.read().expect("an answer").into_text().expect("text");
    (socket, answer.to_string())
}

#[test]
fn a_connect_without_a_valid_token_is_an_error_and_a_policy_close() {
    let (server, _folder) = server();
    let good = token(r#"{"sub":"a/b"}"#, SECRET);
    for lines in [format!("passcode:{good}\n"), format!("Authorization:Bearer {good}\n")] {
        let (_, answer) = connect(&server, &lines);
        assert!(answer.starts_with("CONNECTED\n"), "{answer}");
        assert!(answer.contains("\nuser-name:a/b\n"), "{answer}");
    }
    let mut all = vec![("passcode:guest\n".to_owned(), "not-authenticated")];
    all.push((String::new(), "not-authenticated"));
    for (token, word, _) in bad_tokens() {
        all.push((format!("passcode:{token}\n"), word));
    }
    for (lines, word) in all {
        let (mut socket, answer) = connect(&server, &lines);
        assert!(answer.starts_with("ERROR\n"), "{answer}");
        assert!(answer.contains(&format!("\nmessage:{word}\n")), "{answer}");
        match socket.read().expect("a Close frame") {
            Message::Close(Some(close)) => assert_eq!(u16::from(close.code), 1008, "{word}"),
            other => panic!("{other:?}"),
        }
    }
}

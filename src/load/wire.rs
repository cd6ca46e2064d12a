//! Writes what a client sends: the opening handshake, masked frames, STOMP frames in the form of
//! the transport, HTTP requests.

use crate::limits::WS_CLIENT_HEAD_MAX;
use crate::stomp::{ClientFrame, Version};
use crate::ws::{self, Opcode, mask};

/// The protocol of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// WebSocket messages with any content.
    Raw,
    /// STOMP over WebSocket.
    Stomp,
    /// STOMP over the websocket transport of SockJS.
    Sockjs,
}

/// The nonce of every handshake; no server notices that it is always the same.
const KEY: &str = "cmluZ3B1c2ggbG9hZCBnbw==";
/// No context takeover in either direction (RFC 7692 §7.1.1), so sessions keep no window.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                     client_no_context_takeover\r\n";
/// The key of every frame: a server has to unmask with any that is not zero.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];

impl Protocol {
    /// Whether the protocol is STOMP.
    pub fn is_stomp(self) -> bool {
        self != Protocol::Raw
    }

    /// The opening handshake for `path`; `query` is appended unless it is empty.
    pub fn upgrade(
        self,
        host: &str,
        path: &str,
        query: &str,
        session: usize,
        deflate: bool,
    ) -> Vec<u8> {
        let inner = match self {
            Protocol::Sockjs => format!("/000/rp{session:08}/websocket"),
            _ => String::new(),
        };
        let mark = if query.is_empty() { "" } else { "?" };
        let subprotocol = match self {
            Protocol::Stomp => "Sec-WebSocket-Protocol: v12.stomp\r\n",
            _ => "",
        };
        let extensions = if deflate { OFFER } else { "" };
        format!(
            "GET {path}{inner}{mark}{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
             {subprotocol}{extensions}\r\n"
        )
        .into_bytes()
    }

    /// Appends a text in the form of the transport.
    pub fn put_text(self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Protocol::Sockjs => {
                // A run sends only UTF-8.
                let quoted = serde_json::Value::from(String::from_utf8_lossy(text));
                put_frame(Opcode::Text, format!("[{quoted}]").as_bytes(), out);
            }
            _ => put_frame(Opcode::Text, text, out),
        }
    }

    /// Appends a STOMP frame.
    pub fn put_stomp(self, frame: &ClientFrame<'_>, out: &mut Vec<u8>) {
        let mut text = vec![0; frame.len(Version::V1_2)];
        frame.write(Version::V1_2, &mut text);
        self.put_text(&text, out);
    }
}

/// Appends a masked frame.
pub fn put_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let mut head = [0; WS_CLIENT_HEAD_MAX];
    let head_len = ws::client_head(opcode, true, payload.len() as u64, MASK, &mut head);
    out.extend_from_slice(&head[..head_len]);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], MASK, 0);
}

/// An HTTP request with a JSON body; `headers` are whole lines.
pub fn request(host: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

/// The status of the answer that `input` begins with and the bytes of its head and its body;
/// `None`: more bytes are needed. Bodies by length only, as ringpush sends them.
pub fn answer(input: &[u8]) -> Option<(u16, usize, usize)> {
    let mut storage = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut storage);
    let head = match response.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return None,
        // Not a valid answer: the caller ends the session.
        Err(_) => return Some((0, input.len(), 0)),
    };
    let is_length =
        |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
    let length = response.headers.iter().find(is_length);
    let length = length.and_then(|header| core::str::from_utf8(header.value).ok()?.parse().ok());
    Some((response.code.unwrap_or(0), head, length.unwrap_or(0)))
}

/// Whether the head of an answer grants permessage-deflate.
pub fn grants_deflate(head: &[u8]) -> bool {
    let mut storage = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut storage);
    let is_whole = matches!(response.parse(head), Ok(httparse::Status::Complete(_)));
    is_whole
        && response.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("sec-websocket-extensions")
                && header.value.starts_with(b"permessage-deflate")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;
    use crate::stomp::Command;

    #[test]
    fn our_own_server_takes_the_handshake() {
        let bounds = http::Bounds { head: 16_384, headers: 100, target: 8_192 };
        for protocol in [Protocol::Raw, Protocol::Stomp, Protocol::Sockjs] {
            let request = protocol.upgrade("127.0.0.1:8080", "/portfolio", "userId=7", 3, true);
            let mut storage = [http::EMPTY_HEADER; http::HEADERS_MAX];
            let head = http::parse(&request, &mut storage, &bounds).expect("sound").expect("whole");
            assert!(http::check(&head).is_ok());
            assert_eq!(head.target.query, "userId=7");
            let offers = head.header_values("sec-websocket-extensions");
            let agreement = ws::negotiate(offers, ws::Policy::default()).expect("a list");
            assert!(agreement.is_some());
            assert_eq!(head.len, request.len());
        }
    }

    #[test]
    fn a_sockjs_text_is_an_array_of_one_string() {
        let mut out = Vec::new();
        let frame = ClientFrame { command: Command::Send, headers: &[("a", "b")], body: b"\"" };
        Protocol::Sockjs.put_stomp(&frame, &mut out);
        let event = ws::Decoder::server().next(&mut out, 1000).expect("sound").1;
        let Some(ws::Event::Data { payload, last: true, .. }) = event else { panic!("{event:?}") };
        assert_eq!(payload, br#"["SEND\na:b\ncontent-length:1\n\n\"\u0000"]"#);
    }

    #[test]
    fn an_answer_grants_deflate_or_declines_it() {
        let head = |line: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{line}\r\n");
        let granted = head("sec-websocket-extensions: permessage-deflate; a=b\r\n");
        assert!(grants_deflate(granted.as_bytes()));
        for other in ["", "Sec-WebSocket-Extensions: x-other\r\n", "X: permessage-deflate\r\n"] {
            assert!(!grants_deflate(head(other).as_bytes()), "{other}");
        }
    }

    #[test]
    fn answers_have_a_head_and_a_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP";
        assert_eq!(answer(text), Some((200, 38, 2)));
        assert_eq!(answer(&text[..30]), None);
        assert_eq!(answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Some((101, 36, 0)));
        assert_eq!(answer(b"nonsense\r\n\r\n").map(|answer| answer.0), Some(0));
    }
}

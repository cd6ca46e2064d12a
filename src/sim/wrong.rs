//! What no server may guess at, and the word by which each is counted: HTTP requests, handshakes,
//! WebSocket frames, STOMP frames.

use super::browser::handshake;
use super::wire::Wire;

/// What comes before the wrong bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// A request line of a handshake; the bytes are header lines in place of those of this name.
    Head(&'static str),
    /// A raw WebSocket.
    Raw,
    /// One of STOMP, before CONNECT; the bytes are a frame.
    Socket,
    /// A STOMP session; the bytes are a frame.
    Session,
}

/// Something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    before: Before,
    bytes: &'static [u8],
    /// Its word in the metrics.
    pub(super) label: &'static str,
}

/// Stand for many bytes.
const LONG: &str = "{long}";
const LINES: &str = "{lines}";

const fn wrong(before: Before, bytes: &'static [u8], label: &'static str) -> Wrong {
    Wrong { before, bytes, label }
}

use Before::{Head, Nothing, Raw, Session, Socket};

/// All of it.
pub(super) const ALL: [Wrong; 66] = [
    wrong(Nothing, b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", "bare-line-feed"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\n\r\n", "bare-line-feed"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "host"),
    wrong(Nothing, b"GET / HTTP/1.1\r\n\r\n", "host-missing"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host-repeated"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", "header-name"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0\r\n\r\n", "header-value"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", "folding"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n", "expectation"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n", "too-many-headers"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n", "head-too-long"),
    wrong(Nothing, b"GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n", "target-too-long"),
    wrong(Nothing, b"GET x HTTP/1.1\r\nHost: localhost\r\n\r\n", "target"),
    wrong(Nothing, b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "method"),
    wrong(Nothing, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n\r\n", "method-too-long"),
    wrong(Nothing, b"BREW /pot HTCPCP/1.0\r\n\r\n", "version"),
    wrong(Nothing, b"GET / HTTP/2.0\r\n\r\n", "version-unknown"),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "content-length"),
    wrong(
        Nothing,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "content-length-repeated",
    ),
    wrong(
        Nothing,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "length-and-encoding",
    ),
    wrong(
        Nothing,
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "encoding-in-1.0",
    ),
    wrong(
        Nothing,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        "encoding-unknown",
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        "chunk",
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
          1;{long}\r\n",
        "chunk-extensions",
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\nX: {long}\r\n",
        "trailers-too-long",
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n",
        "body-too-large",
    ),
    wrong(Head("Connection"), b"Connection: close\r\n", "upgrade-connection"),
    wrong(Head("Sec-WebSocket-Key"), b"Sec-WebSocket-Key: short\r\n", "upgrade-key"),
    wrong(Head("Sec-WebSocket-Version"), b"Sec-WebSocket-Version: 8\r\n", "upgrade-version"),
    wrong(Head("-"), b"Content-Length: 2\r\n\r\n", "upgrade-body"),
    wrong(Nothing, b"GET /portfolio/websocket HTTP/1.1\r\nHost: x\r\n\r\n", "not-an-upgrade"),
    wrong(
        Nothing,
        b"GET /portfolio/websocket HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\n\
          Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
        "upgrade-http-1.0",
    ),
    wrong(
        Nothing,
        b"POST /portfolio/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
          Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
        "upgrade-method",
    ),
    wrong(Head("-"), b"Sec-WebSocket-Extensions: a;=\r\n", "bad_extensions"),
    wrong(Head("-"), b"Origin: http://other.example\r\n", "origin"),
    wrong(Raw, b"\xc1\x80\0\0\0\0", "reserved-bits"),
    wrong(Raw, b"\x83\x80\0\0\0\0", "reserved-opcode"),
    wrong(Raw, b"\x81\x01a", "not-masked"),
    wrong(Raw, b"\x09\x80\0\0\0\0", "control-fragmented"),
    wrong(Raw, b"\x89\xfe\x00\x7e\0\0\0\0", "control-too-long"),
    wrong(Raw, b"\x80\x80\0\0\0\0", "continuation-unexpected"),
    wrong(Raw, b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", "continuation-expected"),
    wrong(Raw, b"\x81\xfe\x00\x05\0\0\0\0hello", "length-not-minimal"),
    wrong(Raw, b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", "length-high-bit"),
    wrong(Raw, b"\x81\xff\0\0\0\x01\0\0\0\0\0\0\0\0", "message-too-big"),
    wrong(Raw, b"\x81\x82\0\0\0\0\xff\xfe", "text-not-utf8"),
    wrong(Raw, b"\x88\x81\0\0\0\0\x03", "close-length"),
    wrong(Raw, b"\x88\x82\0\0\0\0\x03\xed", "close-code"),
    wrong(Raw, b"\x88\x83\0\0\0\0\x03\xe8\xff", "close-reason"),
    wrong(Socket, b"SEND\ndestination:/topic/t0\n\n\0", "stomp_not_connected"),
    wrong(Socket, b"CONNECT\naccept-version:9.9\nhost:x\n\n\0", "stomp_version"),
    wrong(Socket, b"CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0", "bad_heart_beat"),
    wrong(Session, b"SEND\n\nbody\0", "missing_header"),
    wrong(Session, b"SEND\ndestination:/nowhere\n\nbody\0", "unknown_destination"),
    wrong(Session, b"FLY\n\n\0", "unknown_command"),
    wrong(Session, b"SEND\na:b\rc\n\n\0", "bare_cr"),
    wrong(Session, b"SEND\na:b\0", "nul_in_head"),
    wrong(Session, b"SEND\na:\xff\n\n\0", "not_utf8"),
    wrong(Session, b"SEND\nab\n\n\0", "no_colon"),
    wrong(Session, b"SEND\n:b\n\n\0", "empty_name"),
    wrong(Session, b"SEND\ndestination:/topic/t0\nbad\\escape:x\n\n\0", "bad_escape"),
    wrong(Session, b"SEND\ndestination:/topic/t0\ncontent-length:x\n\n\0", "bad_content_length"),
    wrong(Session, b"SEND\ndestination:/topic/t0\ncontent-length:9999\n\n", "too_large"),
    wrong(Session, b"SEND\ndestination:/topic/t0\ncontent-length:1\n\nab\0", "no_nul_after_body"),
    wrong(Session, b"SUBSCRIBE\nid:1\ndestination:/topic/t0\n\nbody\0", "body_not_allowed"),
    wrong(Session, b"BEGIN\ntransaction:t\n\n\0", "transactions"),
];

/// Words of what is refused beside [`ALL`]: what asks for too much, is not permitted, is forged, or
/// comes too late.
const OTHERS: [&str; 30] = [
    "accept_failed",
    "api_without_token",
    "heartbeat_missed",
    "kept_back_header",
    "name_too_long",
    "no_longer_permitted",
    "not-json",
    "not_permitted",
    "nul_in_body",
    "pointer-missing",
    "pointer-unfit",
    "share_of_destinations",
    "share_of_patterns_alike",
    "signature-ambiguous",
    "signature-garbled",
    "signature-missing",
    "signature-wrong",
    "sockjs_broken_json",
    "stomp_connected_twice",
    "too-deep",
    "too_many_destinations",
    "too_many_headers",
    "too_many_patterns",
    "too_many_patterns_alike",
    "too_many_subscriptions",
    "too_many_subscriptions_alike",
    "crowded_out",
    "empty_name",
    "unknown_destination",
    "missing_header",
];

/// Words by which a campaign has to have counted something refused. Those that no run of tiny
/// limits reaches are held by tests of their own: compression and tokens (no endpoint of a run has
/// them), `message_larger_than_pool`, `held_bytes`, `no_room_for_subscription` and
/// `subscriptions_too_long` (bounds behind others that are met first), and `no_answer` (where a
/// home is as late as that its small mailbox is full, and sessions wait for room).
pub fn words() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|wrong| wrong.label).chain(OTHERS)
}

impl Wrong {
    /// Says it.
    pub(super) fn put(self, wire: &mut Wire) {
        match self.before {
            Nothing => {}
            Head(name) => return wire.put(&self.head(name)),
            Raw => wire.put(&handshake("/echo", "")),
            Socket => wire.put(&handshake("/portfolio", "?userId=u5")),
            Session => {
                wire.put(&handshake("/portfolio", "?userId=u5"));
                put_binary(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0", wire);
            }
        }
        match self.before {
            Socket | Session => put_binary(self.bytes, wire),
            _ => wire.put(&filled(self.bytes)),
        }
    }

    /// A handshake with other header lines.
    fn head(self, name: &str) -> Vec<u8> {
        let own = String::from_utf8(handshake("/portfolio", "")).expect("it is text");
        let other = String::from_utf8_lossy(self.bytes);
        let others = |line: &&str| !line.starts_with(name) && *line != "\r\n";
        let lines: String = own.split_inclusive("\r\n").filter(others).collect();
        format!("{lines}{other}\r\n").into_bytes()
    }
}

/// Bytes of STOMP that need not be text, under a key that changes nothing.
fn put_binary(bytes: &[u8], wire: &mut Wire) {
    let len = bytes.len() as u8;
    assert!(len < 126, "a short frame");
    wire.put(&[0x82, 0x80 | len, 0, 0, 0, 0]);
    wire.put(bytes);
}

fn filled(bytes: &[u8]) -> Vec<u8> {
    match core::str::from_utf8(bytes) {
        Ok(text) => {
            let text = text.replace(LONG, &"a".repeat(5_000));
            text.replace(LINES, &"X: a\r\n".repeat(30)).into_bytes()
        }
        Err(_) => bytes.to_vec(),
    }
}

//! The opening handshake of WebSocket (RFC 6455 §4.2) and the choice of a STOMP version in it.

use super::head::{BodyKind, Head, Method};
use super::response::{header_line, put, status_line};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use core::fmt;
use sha1::{Digest, Sha1};

/// Why a request is not answered with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeRefusal {
    /// The request has a body.
    Body,
    /// Connection does not name `upgrade`.
    Connection,
    /// Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64.
    Key,
    /// The method is not GET.
    Method,
    /// Upgrade does not name `websocket`.
    NotAnUpgrade,
    /// The request is HTTP/1.0, which has no upgrade (RFC 9110 §7.8).
    Old,
    /// Sec-WebSocket-Version is missing, repeated or not 13.
    Version,
}

impl UpgradeRefusal {
    /// Status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            UpgradeRefusal::Method => 405,
            UpgradeRefusal::Version => 426,
            UpgradeRefusal::Body
            | UpgradeRefusal::Connection
            | UpgradeRefusal::Key
            | UpgradeRefusal::NotAnUpgrade
            | UpgradeRefusal::Old => 400,
        }
    }

    /// Header lines that belong to the status.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            UpgradeRefusal::Method => &[("Allow", "GET")],
            // RFC 6455 §4.4; RFC 9110 §15.5.22 and §7.8: 426 names the protocol in Upgrade, and an
            // answer with Upgrade lists it in Connection.
            UpgradeRefusal::Version => &[
                ("Sec-WebSocket-Version", "13"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
            ],
            _ => &[],
        }
    }

    /// A sentence for the peer.
    pub const fn text(self) -> &'static str {
        match self {
            UpgradeRefusal::Body => "a WebSocket handshake has no body",
            UpgradeRefusal::Connection => "Connection must name upgrade",
            UpgradeRefusal::Key => "Sec-WebSocket-Key must be 16 bytes in base64",
            UpgradeRefusal::Method => "a WebSocket handshake is a GET request",
            UpgradeRefusal::NotAnUpgrade => "Upgrade must name websocket",
            UpgradeRefusal::Old => "a WebSocket handshake is an HTTP/1.1 request",
            UpgradeRefusal::Version => "Sec-WebSocket-Version must be 13",
        }
    }
}

impl fmt::Display for UpgradeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for UpgradeRefusal {}

/// A handshake that may be answered with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Value of Sec-WebSocket-Accept.
    pub accept: [u8; 28],
}

/// Whether the request is meant as a WebSocket handshake; [`check`] decides whether it is valid.
pub fn is_upgrade(head: &Head<'_, '_>) -> bool {
    head.has_token("upgrade", "websocket")
}

/// Checks a handshake (RFC 6455 §4.2.1). The caller checks the user and the origin.
pub fn check(head: &Head<'_, '_>) -> Result<Upgrade, UpgradeRefusal> {
    if head.method != Method::Get {
        return Err(UpgradeRefusal::Method);
    }
    if head.minor_version == 0 {
        return Err(UpgradeRefusal::Old);
    }
    if head.body != BodyKind::None {
        return Err(UpgradeRefusal::Body);
    }
    if !is_upgrade(head) {
        return Err(UpgradeRefusal::NotAnUpgrade);
    }
    if !head.has_token("connection", "upgrade") {
        return Err(UpgradeRefusal::Connection);
    }
    if only(head, "sec-websocket-version") != Some(b"13") {
        return Err(UpgradeRefusal::Version);
    }
    let key = only(head, "sec-websocket-key").ok_or(UpgradeRefusal::Key)?;
    if !is_nonce(key) {
        return Err(UpgradeRefusal::Key);
    }
    Ok(Upgrade { accept: accept(key) })
}

/// The value of a header that has exactly one line.
fn only<'b>(head: &Head<'b, '_>, name: &str) -> Option<&'b [u8]> {
    let mut values = head.header_values(name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// RFC 6455 §4.1: 16 bytes in base64. Bits past the 16th byte are ignored.
fn is_nonce(key: &[u8]) -> bool {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    let mut nonce = [0; 18];
    key.len() == 24 && BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

/// Sec-WebSocket-Accept of a key (RFC 6455 §4.2.2).
fn accept(key: &[u8]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut out = [0; 28];
    let written = base64::engine::general_purpose::STANDARD.encode_slice(hash.finalize(), &mut out);
    assert_eq!(written, Ok(28), "20 bytes are 28 characters");
    out
}

/// Which STOMP subprotocol a handshake offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// No Sec-WebSocket-Protocol.
    Absent,
    /// Offers without STOMP.
    Unknown,
    /// `v10.stomp` is the highest.
    V10,
    /// `v11.stomp` is the highest.
    V11,
    /// `v12.stomp` is the highest.
    V12,
}

impl Offer {
    /// The subprotocol of the answer; `None`: it has no Sec-WebSocket-Protocol (RFC 6455 §4.2.2).
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Offer::Absent | Offer::Unknown => None,
            Offer::V10 => Some("v10.stomp"),
            Offer::V11 => Some("v11.stomp"),
            Offer::V12 => Some("v12.stomp"),
        }
    }
}

/// The highest STOMP version among the offered subprotocols, in any order and case.
pub fn stomp_subprotocol(head: &Head<'_, '_>) -> Offer {
    let mut offered = head.tokens("sec-websocket-protocol").peekable();
    if offered.peek().is_none() {
        return Offer::Absent;
    }
    let known = [Offer::V12, Offer::V11, Offer::V10];
    let highest = known.into_iter().find(|offer| {
        let name = offer.name().expect("a version has a name");
        head.has_token("sec-websocket-protocol", name)
    });
    highest.unwrap_or(Offer::Unknown)
}

/// Bytes enough for a 101 whose subprotocol and extensions have at most 128 bytes together.
pub const UPGRADE_MAX: usize = 320;

/// Writes the 101 (RFC 6455 §4.2.2) at the start of `out`. Panics if it does not fit.
pub fn write_101(
    accept: &[u8; 28],
    subprotocol: Option<&str>,
    extensions: Option<&str>,
    out: &mut [u8],
) -> usize {
    let mut at = 0;
    let mut part = |bytes: &[u8]| put(out, &mut at, bytes);
    status_line(101, &mut part);
    part(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    part(accept);
    part(b"\r\n");
    if let Some(name) = subprotocol {
        header_line("Sec-WebSocket-Protocol", name, &mut part);
    }
    if let Some(value) = extensions {
        header_line("Sec-WebSocket-Extensions", value, &mut part);
    }
    part(b"\r\n");
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::with_head;

    const LINES: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn checked(start: &str, lines: &str) -> Result<Upgrade, UpgradeRefusal> {
        with_head(&format!("{start}\r\nHost: a\r\n{lines}\r\n"), check)
    }

    /// The sample of RFC 6455 §1.3.
    #[test]
    fn sample_of_the_rfc() {
        let upgrade = checked("GET /chat HTTP/1.1", LINES).expect("the RFC's own sample");
        assert_eq!(&upgrade.accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut out = [0; UPGRADE_MAX];
        let len = write_101(&upgrade.accept, Some("v12.stomp"), None, &mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            Sec-WebSocket-Protocol: v12.stomp\r\n\r\n";
        assert_eq!(str::from_utf8(&out[..len]), Ok(expected));
        let len = write_101(&upgrade.accept, None, Some("permessage-deflate"), &mut out);
        assert!(out[..len].ends_with(b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
        assert!(write_101(&upgrade.accept, Some(&"a".repeat(128)), Some(""), &mut out) > 0);
    }

    #[test]
    fn variants_that_browsers_and_proxies_send() {
        let get = "GET / HTTP/1.1";
        for (from, to) in [
            ("websocket", "WebSocket"),
            ("Connection: Upgrade", "Connection: keep-alive, UPGRADE"),
            ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: ,upgrade"),
            ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: foo ,\twebsocket"),
            ("Upgrade: websocket", "UPGRADE: websocket\r\nContent-Length: 0"),
        ] {
            assert!(checked(get, &LINES.replacen(from, to, 1)).is_ok(), "{to}");
        }
    }

    #[test]
    fn refusals() {
        use UpgradeRefusal::*;
        let get = "GET / HTTP/1.1";
        assert_eq!(checked("POST / HTTP/1.1", LINES), Err(Method));
        assert_eq!(checked("HEAD / HTTP/1.1", LINES), Err(Method));
        assert_eq!(checked("GET / HTTP/1.0", LINES), Err(Old));
        assert_eq!(checked(get, ""), Err(NotAnUpgrade));
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        for (from, to, refusal) in [
            ("Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 1", Body),
            ("Upgrade: websocket", "Upgrade: websocket2", NotAnUpgrade),
            ("Upgrade: websocket", "Upgrade: web socket", NotAnUpgrade),
            ("Connection: Upgrade", "Connection: close", Connection),
            ("Version: 13", "Version: 8", Version),
            ("Version: 13", "Version: 13, 8", Version),
            ("Version: 13", "Version: 013", Version),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", Version),
            ("Version: 13", "Versio: 13", Version),
            (key, "X: y", Key),
            (key, &format!("{key}\r\n{key}"), Key),
            (key, "Sec-WebSocket-Key:", Key),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=", Key),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", Key),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=", Key),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy", Key),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-Q==", Key),
        ] {
            let lines = LINES.replacen(from, to, 1);
            assert_eq!(checked(get, &lines), Err(refusal), "{to}");
        }
        assert_eq!((Version.status(), Method.status(), Key.status()), (426, 405, 400));
        assert_eq!(Version.headers()[0], ("Sec-WebSocket-Version", "13"));
        assert_eq!(Method.headers(), [("Allow", "GET")]);
    }

    #[test]
    fn the_highest_stomp_version_is_chosen() {
        let offer = |lines: &str| {
            with_head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), stomp_subprotocol)
        };
        let name = "Sec-WebSocket-Protocol";
        assert_eq!(offer(""), Offer::Absent);
        assert_eq!(offer(&format!("{name}: mqtt, v12.stompx\r\n")), Offer::Unknown);
        assert_eq!(offer(&format!("{name}: v10.stomp, v11.stomp, v12.stomp\r\n")), Offer::V12);
        assert_eq!(offer(&format!("{name}: mqtt\r\n{name}: V11.STOMP,v10.stomp\r\n")), Offer::V11);
        assert_eq!(offer(&format!("{name}: v10.stomp\r\n")), Offer::V10);
        assert_eq!(Offer::V12.name(), Some("v12.stomp"));
        assert_eq!(Offer::Unknown.name(), None);
    }
}

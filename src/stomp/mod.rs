#![forbid(unsafe_code)]
//! STOMP 1.0, 1.1 and 1.2: bytes from a client become [`Frame`]s, and the server's frames
//! (CONNECTED, MESSAGE, RECEIPT, ERROR) become bytes.
//!
//! It does not know WebSocket, sockets, sessions, destinations or time. It allocates nothing and
//! buffers nothing: input and output are the caller's slices.
//!
//! # How to drive it
//!
//! One [`Decoder`] per session. Feed it the bytes that are not yet consumed, always from the same
//! start, until it returns `NeedMore`; drop `consumed` bytes after every step. After an error the
//! session is over: send an [`ErrorFrame`] and close with [`Error::close_code`].
//!
//! ```
//! use ringpush::stomp::{Command, Decoder, Header, Step, Version};
//!
//! let mut input = *b"\nSEND\ndestination:/ws/trade\nnote:a\\cb\n\nhello\0";
//! let mut headers = [Header::EMPTY; 8];
//! let mut decoder = Decoder::new();
//! let mut rest = &mut input[..];
//! loop {
//!     match decoder.next(rest, &mut headers, Some(Version::V1_2), 65_536) {
//!         Ok(Step::NeedMore) => break,
//!         Ok(Step::Eol { consumed }) => rest = &mut rest[consumed..],
//!         Ok(Step::Frame { frame, .. }) => {
//!             assert_eq!(frame.command(), Command::Send);
//!             assert_eq!(frame.header(b"note"), Some(&b"a:b"[..]));
//!             assert_eq!(frame.body(), b"hello");
//!             break;
//!         }
//!         Err(error) => panic!("{}", error.text()),
//!     }
//! }
//! ```
//!
//! Encoding: `len(version)` is exact, `write(version, out)` panics if `out` is shorter than that.
//!
//! # Bounds
//!
//! `limits.stomp_frame` (before login `limits.stomp_first_frame`) is passed as `frame_max` and
//! `limits.stomp_headers` is the length of the header slice. Past them: [`Error::TooLarge`] and
//! [`Error::TooManyHeaders`], close code 1009. A larger `content-length` is refused at once.
//!
//! # State
//!
//! ```text
//! BOUNDARY ──byte──▶ HEAD ──blank line──▶ BODY ──NUL──▶ BOUNDARY
//!   ▲  │ EOL, stray NUL                 (n bytes, or up to the first NUL)
//!   └──┘
//! ```
//! 12 bytes: how far the head was searched, where the body starts, where the frame must end. The
//! head's lines are parsed when the head is whole, and again when the body is (unless both arrive
//! together), so a frame that arrives byte by byte still costs time linear in its length.

use core::fmt;

mod client;
mod decoder;
mod encoder;
pub mod escape;
mod forge;
mod frame;
pub mod heartbeat;
#[cfg(test)]
mod oracle;

pub use client::{ClientFrame, ServerFrame, parse_server_frame};
pub use decoder::Decoder;
pub use encoder::{
    Connected, ErrorFrame, Message, Part, Receipt, canonical_headers, header_is_plain,
    header_line_len, write_canonical_headers, write_header_line,
};
pub use forge::{is_blank_name, is_forwarded, splits};
pub use frame::{Command, Frame, Header, Headers, Step};

/// A version of the protocol, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// STOMP 1.0: no escapes, no heart-beats.
    V1_0,
    /// STOMP 1.1.
    V1_1,
    /// STOMP 1.2.
    V1_2,
}

impl Version {
    /// Its text in `version` and `accept-version`.
    pub fn text(self) -> &'static str {
        match self {
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.1",
            Version::V1_2 => "1.2",
        }
    }
}

/// The version of a session: the highest that both sides know; `None` if they share none.
///
/// STOMP 1.1 "Protocol Negotiation": a CONNECT without `accept-version` means 1.0.
pub fn negotiate(accept_version: Option<&[u8]>) -> Option<Version> {
    let Some(list) = accept_version else { return Some(Version::V1_0) };
    let known = |token: &[u8]| match token.trim_ascii() {
        b"1.0" => Some(Version::V1_0),
        b"1.1" => Some(Version::V1_1),
        b"1.2" => Some(Version::V1_2),
        _ => None,
    };
    list.split(|&byte| byte == b',').filter_map(known).max()
}

/// What a peer did wrong. The session ends with any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The first line is not a client's command.
    UnknownCommand,
    /// A CR in the head that no LF follows.
    BareCarriageReturn,
    /// A NUL before the head's blank line.
    NulInHead,
    /// The head is not UTF-8.
    NotUtf8,
    /// A header line without a colon.
    NoColon,
    /// A header line whose name is empty, or that some client trims to nothing.
    EmptyName,
    /// A backslash that starts no escape of the session's version.
    BadEscape,
    /// `content-length` is not a number, or there are two different ones.
    BadContentLength,
    /// The byte after `content-length` bytes of body is not NUL.
    NoNulAfterBody,
    /// A body on a frame that is not SEND.
    BodyNotAllowed,
    /// `heart-beat` is not two non-negative numbers.
    BadHeartBeat,
    /// The frame is longer than the bound.
    TooLarge,
    /// The frame has more headers than the bound.
    TooManyHeaders,
}

impl Error {
    /// A sentence for the body of the ERROR frame.
    pub fn text(self) -> &'static str {
        match self {
            Error::UnknownCommand => "The frame's command is unknown.",
            Error::BareCarriageReturn => "A header line contains a CR that no LF follows.",
            Error::NulInHead => "A NUL stands before the blank line that ends the headers.",
            Error::NotUtf8 => "The headers are not valid UTF-8.",
            Error::NoColon => "A header line has no colon.",
            Error::EmptyName => "A header's name is empty or blank.",
            Error::BadEscape => "A header contains an undefined escape sequence.",
            Error::BadContentLength => "The content-length header is not one number.",
            Error::NoNulAfterBody => "No NUL follows the body at the end of its content-length.",
            Error::BodyNotAllowed => "Only a SEND frame may have a body.",
            Error::BadHeartBeat => "The heart-beat header is not two numbers.",
            Error::TooLarge => "The frame is too large.",
            Error::TooManyHeaders => "The frame has too many headers.",
        }
    }

    /// The WebSocket close code that follows the ERROR frame (RFC 6455 §7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Error::TooLarge | Error::TooManyHeaders => 1009,
            Error::UnknownCommand
            | Error::BareCarriageReturn
            | Error::NulInHead
            | Error::NotUtf8
            | Error::NoColon
            | Error::EmptyName
            | Error::BadEscape
            | Error::BadContentLength
            | Error::NoNulAfterBody
            | Error::BodyNotAllowed
            | Error::BadHeartBeat => 1002,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_wins() {
        assert_eq!(negotiate(None), Some(Version::V1_0));
        assert_eq!(negotiate(Some(b"1.2,1.1,1.0")), Some(Version::V1_2));
        assert_eq!(negotiate(Some(b"1.1,1.0")), Some(Version::V1_1));
        assert_eq!(negotiate(Some(b"1.0, 1.2 ,9.9")), Some(Version::V1_2));
        assert_eq!(negotiate(Some(b"1.0")), Some(Version::V1_0));
        assert_eq!(negotiate(Some(b"2.0,1.20")), None);
        assert_eq!(negotiate(Some(b"")), None);
    }

    #[test]
    fn sizes_decide_the_close_code() {
        assert_eq!(Error::TooLarge.close_code(), 1009);
        assert_eq!(Error::TooManyHeaders.close_code(), 1009);
        assert_eq!(Error::BadEscape.close_code(), 1002);
    }
}

//! A WebSocket client that sees frames: for raw endpoints, SockJS and permessage-deflate.

use crate::server::Server;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use ringpush::ws::{self, Opcode};
use std::io::{Read, Write};
use std::net::TcpStream;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// FIN and RSV1 of a frame's first byte.
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// One connection after its upgrade.
pub struct Peer {
    socket: TcpStream,
    /// One stream for all messages: the context is taken over.
    stream: Compress,
    /// The answer's Sec-WebSocket-Extensions.
    pub extensions: Option<String>,
}

/// A message as received.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub opcode: Opcode,
    pub compressed: bool,
    /// Bytes on the wire, without the head.
    pub wire_bytes: usize,
    pub payload: Vec<u8>,
}

impl Peer {
    /// Upgrades at `path`; `offer` is the Sec-WebSocket-Extensions, if not empty.
    pub fn open(server: &Server, path: &str, offer: &str) -> Peer {
        let mut socket = server.connect();
        let offer = match offer {
            "" => String::new(),
            offer => format!("Sec-WebSocket-Extensions: {offer}\r\n"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("the head of an answer");
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8(head).expect("ASCII");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let extensions = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-extensions").then(|| value.to_owned())
        });
        let stream = Compress::new(Compression::new(6), false);
        Peer { socket, stream, extensions }
    }

    /// Its compressed messages will not refer further back than 2^`bits` bytes.
    pub fn with_window(mut self, bits: u8) -> Peer {
        self.stream = Compress::new_with_window_bits(Compression::new(6), false, bits);
        self
    }

    /// One frame with this first byte.
    fn sends_frame(&mut self, first: u8, payload: &[u8]) {
        let mut head = [0; 14];
        let len = ws::client_head(Opcode::Text, true, payload.len() as u64, KEY, &mut head);
        head[0] = first;
        let mut masked = payload.to_vec();
        ws::mask::apply(&mut masked, KEY, 0);
        let frame = [&head[..len], &masked].concat();
        self.socket.write_all(&frame).expect("the server reads");
    }

    /// A message with one frame for each of its parts.
    pub fn sends_parts(&mut self, opcode: Opcode, parts: &[&[u8]]) {
        self.sends_from(opcode as u8, parts);
    }

    fn sends_from(&mut self, mut first: u8, parts: &[&[u8]]) {
        for (at, part) in parts.iter().enumerate() {
            let fin = if at + 1 == parts.len() { FIN } else { 0 };
            self.sends_frame(first | fin, part);
            first = 0;
        }
    }

    /// A whole text message.
    pub fn sends(&mut self, text: &str) {
        self.sends_parts(Opcode::Text, &[text.as_bytes()]);
    }

    /// A Ping.
    pub fn pings(&mut self, payload: &[u8]) {
        self.sends_frame(FIN | Opcode::Ping as u8, payload);
    }

    /// A compressed text message in this many frames, with the earlier messages as its context.
    /// Returns its length in bytes.
    pub fn sends_compressed(&mut self, text: &str, frames: usize) -> usize {
        let mut bytes = Vec::with_capacity(text.len() + 64);
        let status = self.stream.compress_vec(text.as_bytes(), &mut bytes, FlushCompress::Sync);
        status.expect("a raw stream does not fail");
        // RFC 7692 §7.2.1.
        assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
        bytes.truncate(bytes.len() - 4);
        let parts: Vec<&[u8]> = bytes.chunks(bytes.len().div_ceil(frames)).collect();
        self.sends_from(RSV1 | Opcode::Text as u8, &parts);
        bytes.len()
    }

    /// The next message: the server sends each in one frame, and refers to none before it.
    pub fn receives(&mut self) -> Message {
        let mut head = [0; 2];
        self.socket.read_exact(&mut head).expect("a frame");
        let [first, short] = head;
        assert!(first & FIN != 0 && short < 0x80, "{head:02x?}");
        let len = match short {
            126 => u64::from(u16::from_be_bytes(self.bytes())),
            127 => u64::from_be_bytes(self.bytes()),
            len => u64::from(len),
        };
        let mut raw = vec![0; len as usize];
        self.socket.read_exact(&mut raw).expect("a payload");
        let compressed = first & RSV1 != 0;
        let payload = if compressed { inflated(&raw) } else { raw.clone() };
        let opcode = match first & 0xf {
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => panic!("opcode {other}"),
        };
        Message { opcode, compressed, wire_bytes: raw.len(), payload }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).expect("the rest of a head");
        bytes
    }

    /// The next message, which is a text.
    pub fn hears(&mut self) -> String {
        let message = self.receives();
        assert_eq!(message.opcode, Opcode::Text, "{message:?}");
        String::from_utf8(message.payload).expect("a text is UTF-8")
    }

    /// The next message is a Close with this code and reason.
    pub fn hears_close(&mut self, code: u16, reason: &str) {
        let message = self.receives();
        let expected = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        assert_eq!((message.opcode, message.payload), (Opcode::Close, expected));
    }
}

/// A message that refers to none before it.
fn inflated(raw: &[u8]) -> Vec<u8> {
    let raw = [raw, &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(1 << 20);
    let status = Decompress::new(false).decompress_vec(&raw, &mut out, FlushDecompress::Sync);
    status.expect("a valid stream");
    assert!(out.len() < out.capacity());
    out
}

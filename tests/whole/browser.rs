//! A browser with a STOMP session over WebSocket, on a blocking socket of its own.

use super::PATIENCE;
use ringpush::limits::WS_CLIENT_HEAD_MAX;
use ringpush::stomp::{ClientFrame, Command, Version, parse_server_frame};
use ringpush::ws::{self, Opcode, mask};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The key of every frame: a server has to unmask with any that is not zero.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];

/// A frame of the server.
#[derive(Debug)]
pub struct Message {
    /// The first line.
    pub command: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Message {
    /// The first header of a name; empty without one.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value)
    }
}

/// What was received.
#[derive(Debug)]
pub enum Heard {
    /// A STOMP frame.
    Frame(Message),
    /// A heart-beat.
    Beat,
    /// A Close frame with its code.
    Close(u16),
}

/// One session.
pub struct Browser {
    socket: TcpStream,
    /// Bytes of the server that are not parsed yet.
    input: Vec<u8>,
    /// How many of them are parsed.
    used: usize,
    /// Bytes that `flush` will write.
    output: Vec<u8>,
    /// The session's id, once `connected` has it.
    pub session: String,
}

impl Browser {
    /// Connects and requests the upgrade; does not wait for it.
    pub fn open(address: SocketAddr, path: &str) -> Browser {
        let socket = TcpStream::connect(address).expect("the server accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout of some seconds");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout of some seconds");
        socket.set_nodelay(true).expect("a TCP socket");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        let output = request.into_bytes();
        let mut browser =
            Browser { socket, input: Vec::new(), used: 0, output, session: String::new() };
        browser.flush();
        browser
    }

    /// Waits for the upgrade and sends CONNECT; does not wait for the answer.
    pub fn connect(&mut self, versions: &str, beat: &str) {
        let head = loop {
            let end = self.input.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break self.input.drain(..end + 4).collect::<Vec<u8>>(),
                None => self.read(),
            }
        };
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let headers = [("accept-version", versions), ("host", "x"), ("heart-beat", beat)];
        self.put(Command::Connect, &headers, b"");
        self.flush();
    }

    /// Waits for CONNECTED; returns the shard of the session.
    pub fn connected(&mut self) -> usize {
        let connected = self.expect("CONNECTED");
        connected.header("session").clone_into(&mut self.session);
        // A session's id begins with its shard.
        usize::from_str_radix(&self.session[..2], 16).expect("two digits")
    }

    /// Queues a SUBSCRIBE with its id as its receipt.
    pub fn subscribe(&mut self, id: &str, destination: &str) {
        let headers = [("id", id), ("destination", destination), ("receipt", id)];
        self.put(Command::Subscribe, &headers, b"");
    }

    /// Queues a SEND.
    pub fn send(&mut self, destination: &str, headers: &[(&str, &str)], body: &str) {
        let mut all = vec![("destination", destination)];
        all.extend_from_slice(headers);
        self.put(Command::Send, &all, body.as_bytes());
    }

    /// Queues a frame as one WebSocket message.
    pub fn put(&mut self, command: Command, headers: &[(&str, &str)], body: &[u8]) {
        let frame = ClientFrame { command, headers, body };
        let mut text = vec![0; frame.len(Version::V1_2)];
        frame.write(Version::V1_2, &mut text);
        self.put_ws(Opcode::Text, &mut text);
    }

    /// Sends a heart-beat.
    pub fn beat(&mut self) {
        self.put_ws(Opcode::Text, &mut [b'\n']);
        self.flush();
    }

    /// Waits for a heart-beat, which must be what is received next.
    pub fn expect_beat(&mut self) {
        let next = self.next();
        assert!(matches!(next, Heard::Beat), "expected a heart-beat, not {next:?}");
    }

    fn put_ws(&mut self, opcode: Opcode, payload: &mut [u8]) {
        let mut head = [0; WS_CLIENT_HEAD_MAX];
        let len = ws::client_head(opcode, true, payload.len() as u64, MASK, &mut head);
        self.output.extend_from_slice(&head[..len]);
        mask::apply(payload, MASK, 0);
        self.output.extend_from_slice(payload);
    }

    /// Writes what is queued.
    pub fn flush(&mut self) {
        self.socket.write_all(&self.output).expect("the server reads");
        self.output.clear();
    }

    /// The next frame, which must have this command; heart-beats are skipped.
    pub fn expect(&mut self, command: &str) -> Message {
        loop {
            match self.next() {
                Heard::Beat => {}
                Heard::Frame(frame) if frame.command == command => return frame,
                other => panic!("expected {command}, not {other:?}"),
            }
        }
    }

    /// Waits for the RECEIPT of this id.
    pub fn receipt(&mut self, id: &str) {
        assert_eq!(self.expect("RECEIPT").header("receipt-id"), id);
    }

    /// The next frame or heart-beat; pings are answered.
    pub fn next(&mut self) -> Heard {
        loop {
            let Some((opcode, payload)) = self.frame() else {
                self.read();
                continue;
            };
            let bytes = &self.input[payload];
            match opcode {
                Opcode::Text if bytes == b"\n" => return Heard::Beat,
                Opcode::Text => return Heard::Frame(message(bytes)),
                Opcode::Ping => {
                    let mut copy = bytes.to_vec();
                    self.put_ws(Opcode::Pong, &mut copy);
                    self.flush();
                }
                Opcode::Close => {
                    let code = bytes.first_chunk().map_or(1005, |two| u16::from_be_bytes(*two));
                    return Heard::Close(code);
                }
                other => panic!("{other:?} from the server"),
            }
        }
    }

    /// The next whole WebSocket frame: its opcode, and where its payload is.
    fn frame(&mut self) -> Option<(Opcode, core::ops::Range<usize>)> {
        let rest = &self.input[self.used..];
        let len = usize::try_from(ws::frame_len(rest)?).expect("it fits memory");
        if rest.len() < len {
            return None;
        }
        // RFC 6455 §5.1: a server does not mask. What this one sends is never in fragments.
        assert!(rest[0] & 0xf0 == 0x80 && rest[1] & 0x80 == 0, "{:?}", &rest[..2]);
        let opcode = Opcode::from_first_byte(rest[0]).expect("a known opcode");
        let head = match rest[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let start = self.used;
        self.used += len;
        Some((opcode, start + head..start + len))
    }

    fn read(&mut self) {
        self.input.drain(..self.used);
        self.used = 0;
        let mut bytes = [0; 16 * 1024];
        let count = self.socket.read(&mut bytes).expect("bytes in time");
        assert!(count > 0, "the server has closed");
        self.input.extend_from_slice(&bytes[..count]);
    }
}

fn message(bytes: &[u8]) -> Message {
    let frame = parse_server_frame(bytes).expect("one whole frame a message");
    assert_eq!(frame.consumed(), bytes.len(), "one frame per message, and nothing after it");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Message {
        command: text(frame.command()),
        headers: frame.headers().map(|(name, value)| (text(name), text(value))).collect(),
        body: text(frame.body()),
    }
}

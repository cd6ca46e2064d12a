//! One HTTP request as raw text, and its answer.

use crate::server::PATIENCE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An answer: its status, its header lines and its body. Of a 101 only the head is read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends a request (`first` is its method and target) and reads what comes. The connection ends
/// with the answer, unless it is upgraded.
pub fn ask(to: SocketAddr, first: &str, lines: &str, body: &str) -> Answer {
    let mut socket = TcpStream::connect(to).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a span is fine");
    let upgrades = lines.to_ascii_lowercase().contains("upgrade: websocket");
    let close = if upgrades { "" } else { "Connection: close\r\n" };
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    let request = format!("{first} HTTP/1.1\r\n{lines}{close}{length}\r\n{body}");
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap_or_else(|error| panic!("{request}: {error}"));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
    let mut answer = Answer { status, head, body: String::new() };
    if status != 101 {
        let len = answer.header("content-length").and_then(|text| text.parse().ok());
        let mut body = vec![0; if first.starts_with("HEAD ") { 0 } else { len.unwrap_or(0) }];
        socket.read_exact(&mut body).expect("the whole body");
        answer.body = String::from_utf8(body).expect("the body is text");
    }
    answer
}

/// What a browser's WebSocket handshake has besides Host and Origin.
pub const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

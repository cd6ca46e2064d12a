//! The same work with tungstenite and fastwebsockets, over bytes in memory. Their sockets are made
//! once, so that buffers are not part of the time, and they never wait.

use fastwebsockets::{OpCode, Role as FastRole};
use std::hint::black_box;
use std::io::{Read, Result, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::{Message, Role, WebSocket};

/// Reads a slice over and over; keeps what is written until it is cleared.
pub struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
    pub written: Vec<u8>,
}

impl<'a> Wire<'a> {
    pub fn new(bytes: &'a [u8]) -> Wire<'a> {
        Wire { bytes, at: 0, written: Vec::with_capacity(1 << 20) }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let done = (&self.bytes[self.at..]).read(out)?;
        self.at = (self.at + done) % self.bytes.len();
        Ok(done)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let done = out.remaining().min(self.bytes.len() - self.at);
        out.put_slice(&self.bytes[self.at..self.at + done]);
        self.at = (self.at + done) % self.bytes.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Poll::Ready(self.write(bytes))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future that never waits: cheaper than any runtime, and so in the peer's favour.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("bytes in memory are always there"),
    }
}

pub type Tungstenite<'a> = WebSocket<Wire<'a>>;
pub type Fast<'a> = fastwebsockets::WebSocket<Wire<'a>>;

pub fn tungstenite(bytes: &[u8]) -> Tungstenite<'_> {
    WebSocket::from_raw_socket(Wire::new(bytes), Role::Server, None)
}

pub fn fast(bytes: &[u8]) -> Fast<'_> {
    fastwebsockets::WebSocket::after_handshake(Wire::new(bytes), FastRole::Server)
}

/// The next `count` messages: their number and bytes.
pub fn tungstenite_decode(socket: &mut Tungstenite<'_>, count: usize) -> (usize, usize) {
    let mut sum = 0;
    for _ in 0..count {
        match black_box(socket.read().expect("no fault in the stream")) {
            Message::Text(text) => sum += text.len(),
            Message::Binary(bytes) => sum += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    (count, sum)
}

/// The next `count` messages, each of one frame: fastwebsockets puts others together elsewhere.
pub fn fast_decode(socket: &mut Fast<'_>, count: usize) -> (usize, usize) {
    let all = async {
        let mut sum = 0;
        for _ in 0..count {
            let frame = black_box(socket.read_frame().await.expect("no fault in the stream"));
            assert!(frame.fin && matches!(frame.opcode, OpCode::Text | OpCode::Binary));
            sum += frame.payload.len();
        }
        sum
    };
    (count, now(all))
}

/// `count` messages into the wire's buffer, as one batch.
pub fn tungstenite_encode(socket: &mut Tungstenite<'_>, message: &Message, count: usize) -> usize {
    socket.get_mut().written.clear();
    for _ in 0..count {
        socket.write(message.clone()).expect("a wire takes everything");
    }
    socket.flush().expect("a wire takes everything");
    socket.get_ref().written.len()
}

/// `count` frames, each made in its own buffer and appended to the others: fastwebsockets has no
/// batch.
pub fn fast_encode(out: &mut Vec<u8>, frame: &mut Vec<u8>, payload: &[u8], count: usize) -> usize {
    out.clear();
    for _ in 0..count {
        let payload = fastwebsockets::Payload::Borrowed(payload);
        out.extend_from_slice(fastwebsockets::Frame::text(payload).write(frame));
    }
    out.len()
}

/// A handshake of tungstenite: its answer.
pub fn tungstenite_upgrade(request: &[u8]) -> Vec<u8> {
    let socket = tungstenite::accept(Wire { bytes: request, at: 0, written: Vec::new() });
    std::mem::take(&mut socket.expect("a valid request").get_mut().written)
}

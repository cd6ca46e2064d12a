//! One client: its socket, the stage of its session, and what it has received.
//!
//! ```text
//!  Connecting ─▶ Upgrading ─▶ Greeting ─▶ LoggingIn ─▶ Subscribing ─▶ Ready ─▶ Closed
//!                    │         (SockJS)    (STOMP)      (STOMP, with    ▲
//!                    └────────────────── raw ──────────  a destination) ┘
//! ```

use super::plan::Plan;
use super::stamp::{Stamp, Stamps};
use super::unpack::Unpacked;
use super::wire::{self, Protocol, put_frame};
use crate::stomp::{self, ClientFrame, Command};
use crate::ws::{self, Decoder, Opcode};
use mio::net::TcpStream;
use socket2::SockRef;
use std::io::{ErrorKind, Write};

/// The longest message that a run accepts.
const MESSAGE_MAX: u32 = 16 << 20;
/// `("content-type", …)` of a message; text, so that servers forward it as text.
const CONTENT_TYPE: (&str, &str) = ("content-type", "text/plain");

/// The stage of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// TCP is not established yet.
    Connecting,
    /// The answer to the opening handshake has not arrived.
    Upgrading,
    /// SockJS's `o` has not arrived.
    Greeting,
    /// CONNECTED has not arrived.
    LoggingIn,
    /// The RECEIPT of the SUBSCRIBE has not arrived.
    Subscribing,
    /// Receives messages.
    Ready,
    /// HTTP: receives answers.
    Calling,
    /// Over.
    Closed,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server sent a Close frame with this code (1005: without one).
    Code(u16),
    /// The server ended the connection without a Close frame.
    Eof,
    /// The connection failed, with its errno.
    Failed(i32),
    /// The handshake was answered with this status.
    Refused(u16),
    /// The handshake was answered without the permessage-deflate that it offered.
    Declined,
    /// The server broke the protocol.
    Nonsense,
}

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its session is open and its subscription has taken effect.
    Ready {
        /// The client.
        peer: usize,
        /// When.
        at: u64,
    },
    /// A message of the run arrived.
    Message {
        /// The client.
        peer: usize,
        /// Number and time of the message.
        stamp: Stamp,
        /// When it arrived.
        at: u64,
    },
    /// An HTTP request was answered.
    Answer {
        /// The client.
        peer: usize,
        /// Status of the answer.
        status: u16,
        /// When.
        at: u64,
    },
    /// Its session is over.
    Closed {
        /// The client.
        peer: usize,
        /// Why.
        ending: Ending,
    },
}

/// A client.
#[derive(Debug)]
pub struct Peer {
    /// Its socket; `None` before it connects and after it has closed.
    pub(super) stream: Option<TcpStream>,
    /// Its stage.
    pub(super) stage: Stage,
    /// Its stage once TCP is established.
    pub(super) then: Stage,
    /// The beginning of a frame whose end has not arrived.
    pub(super) tail: Vec<u8>,
    /// Bytes that the kernel has not taken yet.
    out: Vec<u8>,
    /// It does not read.
    pub(super) is_paused: bool,
}

/// What reading needs beside the client itself.
pub(super) struct Ears<'a> {
    pub plan: &'a Plan,
    pub stamps: &'a Stamps,
    pub events: &'a mut Vec<Event>,
    /// The first ERROR frame of the run, for the report.
    pub complaint: &'a mut Option<String>,
    pub at: u64,
}

impl Peer {
    /// A client that has not connected.
    pub(super) fn new() -> Peer {
        let (tail, out) = (Vec::new(), Vec::new());
        let (stage, then) = (Stage::Closed, Stage::Closed);
        Peer { stream: None, stage, then, tail, out, is_paused: false }
    }

    /// TCP is established, or will be; the client then sends `first`, and its stage is `then`.
    pub(super) fn connect(&mut self, stream: TcpStream, first: Vec<u8>, then: Stage) {
        let (stream, stage) = (Some(stream), Stage::Connecting);
        *self = Peer { stream, stage, then, out: first, ..Peer::new() };
    }

    /// Sends, and keeps the bytes that the kernel does not take.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        if self.out.is_empty() && self.stage != Stage::Connecting {
            let taken = self.write(bytes)?;
            self.out.extend_from_slice(&bytes[taken..]);
        } else {
            self.out.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The socket has room.
    pub(super) fn flush(&mut self) -> Result<(), Ending> {
        if !self.out.is_empty() {
            let out = core::mem::take(&mut self.out);
            let taken = self.write(&out)?;
            self.out = out;
            self.out.drain(..taken);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Ending> {
        let Some(stream) = &mut self.stream else { return Ok(bytes.len()) };
        let mut taken = 0;
        while taken < bytes.len() {
            match stream.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Failed(error.raw_os_error().unwrap_or(0))),
            }
        }
        Ok(taken)
    }

    /// Handles received bytes; returns how many were consumed.
    pub(super) fn take(
        &mut self,
        index: usize,
        input: &mut [u8],
        unpacked: &mut Unpacked,
        ears: &mut Ears<'_>,
    ) -> Result<usize, Ending> {
        let mut done = match self.stage {
            Stage::Upgrading => match self.upgraded(index, input, ears)? {
                0 => return Ok(0),
                done => done,
            },
            Stage::Calling => return self.answers(index, input, ears),
            _ => 0,
        };
        loop {
            let rest = &mut input[done..];
            let Some(len) = ws::frame_len(rest) else { return Ok(done) };
            let len = usize::try_from(len).map_err(|_| Ending::Nonsense)?;
            let Some(frame) = rest.get_mut(..len) else { return Ok(done) };
            // The frame is whole, and no server here sends messages in fragments: a new decoder for
            // each is enough, and a fragment is an error.
            let decoder = Decoder::client();
            let mut decoder = if ears.plan.deflate { decoder.with_compression() } else { decoder };
            let event = decoder.next(frame, MESSAGE_MAX);
            match event.map_err(|_| Ending::Nonsense)?.1 {
                Some(ws::Event::Data { payload, last: true, compressed: false, .. }) => {
                    self.hear(index, payload, ears)?;
                }
                Some(ws::Event::Data { payload, last: true, .. }) => {
                    let plain = unpacked.plain(payload, MESSAGE_MAX);
                    self.hear(index, plain.map_err(|_| Ending::Nonsense)?, ears)?;
                }
                Some(ws::Event::Ping(payload)) => {
                    let mut pong = Vec::new();
                    put_frame(Opcode::Pong, payload, &mut pong);
                    self.send(&pong)?;
                }
                Some(ws::Event::Close { code, .. }) => {
                    let mut close = Vec::new();
                    let payload = code.map(u16::to_be_bytes);
                    put_frame(Opcode::Close, payload.as_ref().map_or(&[], |two| two), &mut close);
                    // The server may have gone; it has said why.
                    let _ = self.send(&close);
                    return Err(Ending::Code(code.unwrap_or(1005)));
                }
                Some(ws::Event::Data { .. }) => return Err(Ending::Nonsense),
                Some(ws::Event::Pong(_)) | None => {}
            }
            done += len;
        }
    }

    fn hear(&mut self, index: usize, text: &[u8], ears: &mut Ears<'_>) -> Result<(), Ending> {
        let mut from = 0;
        while let Some((stamp, end)) = ears.stamps.find(&text[from..]) {
            ears.events.push(Event::Message { peer: index, stamp, at: ears.at });
            from += end;
            if ears.plan.protocol != Protocol::Sockjs {
                break;
            }
        }
        if from > 0 || self.stage == Stage::Ready && !text.starts_with(b"ERROR") {
            return Ok(());
        }
        let plain = text.strip_prefix(b"a[\"").unwrap_or(text);
        match self.stage {
            _ if plain.starts_with(b"ERROR") => {
                let said = || String::from_utf8_lossy(text).into_owned();
                ears.complaint.get_or_insert_with(said);
                Ok(())
            }
            Stage::Greeting if text == b"o" => self.log_in(ears),
            Stage::LoggingIn if plain.starts_with(b"CONNECTED") => self.subscribe(index, ears),
            Stage::Subscribing if plain.starts_with(b"RECEIPT") => {
                self.ready(index, ears);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ready(&mut self, index: usize, ears: &mut Ears<'_>) {
        self.stage = Stage::Ready;
        if let Some(stream) = &self.stream {
            // After several requests and answers, as in STOMP, a socket delays its
            // acknowledgements, and the kernel then sends them on the server's core. After only an
            // upgrade, it sends them when the client reads. From here on all sockets do the latter,
            // so that only the servers differ. If the option cannot be set, the figures are a
            // little less exact.
            let _ = SockRef::from(stream).set_tcp_quickack(true);
        }
        ears.events.push(Event::Ready { peer: index, at: ears.at });
    }

    fn upgraded(
        &mut self,
        index: usize,
        input: &[u8],
        ears: &mut Ears<'_>,
    ) -> Result<usize, Ending> {
        let Some((status, head, _)) = wire::answer(input) else { return Ok(0) };
        if status != 101 {
            return Err(Ending::Refused(status));
        }
        if ears.plan.deflate && !wire::grants_deflate(&input[..head]) {
            return Err(Ending::Declined);
        }
        match ears.plan.protocol {
            Protocol::Raw => self.ready(index, ears),
            Protocol::Stomp => self.log_in(ears)?,
            Protocol::Sockjs => self.stage = Stage::Greeting,
        }
        Ok(head)
    }

    fn log_in(&mut self, ears: &Ears<'_>) -> Result<(), Ending> {
        self.stage = Stage::LoggingIn;
        let beat = format!("{0},{0}", ears.plan.heart_beat_millis);
        let headers = [("accept-version", "1.2"), ("host", "load"), ("heart-beat", &beat)];
        self.say(Command::Connect, &headers, ears)
    }

    fn subscribe(&mut self, index: usize, ears: &mut Ears<'_>) -> Result<(), Ending> {
        let Some(destination) = &ears.plan.subscribe else {
            self.ready(index, ears);
            return Ok(());
        };
        let id = ears.plan.subscription_id(index);
        let headers = [("id", &*id), ("destination", destination), ("receipt", "r")];
        if ears.plan.receipts {
            self.stage = Stage::Subscribing;
            return self.say(Command::Subscribe, &headers, ears);
        }
        self.say(Command::Subscribe, &headers[..2], ears)?;
        self.ready(index, ears);
        Ok(())
    }

    fn say(
        &mut self,
        command: Command,
        headers: &[(&str, &str)],
        ears: &Ears<'_>,
    ) -> Result<(), Ending> {
        let mut out = Vec::new();
        ears.plan.protocol.put_stomp(&ClientFrame { command, headers, body: b"" }, &mut out);
        self.send(&out)
    }

    /// Handles answers to HTTP requests; stamps in them are ignored.
    fn answers(
        &mut self,
        index: usize,
        input: &[u8],
        ears: &mut Ears<'_>,
    ) -> Result<usize, Ending> {
        let mut done = 0;
        while let Some((status, head, body)) = wire::answer(&input[done..]) {
            if status == 0 {
                return Err(Ending::Nonsense);
            }
            if input.len() < done + head + body {
                break;
            }
            done += head + body;
            ears.events.push(Event::Answer { peer: index, status, at: ears.at });
        }
        Ok(done)
    }
}

/// The bytes of a message to `destination` (STOMP), or of a bare text (raw).
pub fn message(protocol: Protocol, destination: &str, body: &[u8], out: &mut Vec<u8>) {
    if protocol.is_stomp() {
        let headers = [("destination", destination), CONTENT_TYPE];
        let frame = stomp::ClientFrame { command: Command::Send, headers: &headers, body };
        protocol.put_stomp(&frame, out);
    } else {
        protocol.put_text(body, out);
    }
}

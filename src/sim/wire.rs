//! A client's end of a connection: writes as the socket has room, reads as the client wants to, and
//! parses WebSocket frames and HTTP answers. On a sealed connection all of that is in records.

use super::answer::{self, Answer};
use super::counts::Event;
use super::over_http::{Frame, OverHttp};
use super::random::Random;
use super::records::Records;
use super::socket::{Read, SocketId};
use super::violation::{Oracle, Violation};
use super::world::World;
use crate::limits::WS_CLIENT_HEAD_MAX;
use crate::transport::Transport;
use crate::ws::{self, Opcode};
use core::net::SocketAddr;

/// What a WebSocket client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A whole message.
    Message(Vec<u8>),
    /// A ping, to be answered.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The server's Close frame.
    Close(u16),
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server ended its direction with a FIN.
    Eof,
    /// It was reset.
    Broken,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: SocketId,
    /// What the connection is sealed by, and what waits to be sealed.
    layer: Option<Records>,
    plain: Vec<u8>,
    /// The next records are spoiled.
    spoils: bool,
    /// What is wrong with the records of the server.
    broken: Option<Violation>,
    out: Vec<u8>,
    input: Vec<u8>,
    decoder: ws::Decoder,
    message: Vec<u8>,
    pub(super) end: Option<End>,
    /// Nothing more is written.
    pub(super) write_ended: bool,
    /// It is of a session over HTTP, and changes its connection.
    over_http: Option<Box<OverHttp>>,
}

impl Wire {
    pub(super) fn new(socket: SocketId) -> Wire {
        Wire {
            socket,
            layer: None,
            plain: Vec::new(),
            spoils: false,
            broken: None,
            out: Vec::new(),
            input: Vec::new(),
            decoder: ws::Decoder::client(),
            message: Vec::new(),
            end: None,
            write_ended: false,
            over_http: None,
        }
    }

    /// It is the end of a session over HTTP. It asks something first, or may receive at once.
    pub(super) fn over(mut self, mut over_http: Box<OverHttp>, asks: bool) -> Wire {
        over_http.begin(asks);
        if asks {
            self.put(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        Wire { over_http: Some(over_http), ..self }
    }

    /// What it has as that.
    pub(super) fn over_http(&self) -> Option<&OverHttp> {
        self.over_http.as_deref()
    }

    /// The same, to be changed.
    pub(super) fn over_http_mut(&mut self) -> Option<&mut OverHttp> {
        self.over_http.as_deref_mut()
    }

    /// Another connection takes the place of the one before.
    pub(super) fn reconnect(&mut self, sealed: bool, world: &mut World) {
        let Some(over_http) = self.over_http.take() else { return };
        let wire = Wire::connect(over_http.ring, over_http.peer(), sealed, world);
        // One that is sealed has its handshake first.
        let asks = sealed || world.random.chance(300);
        *self = wire.over(over_http, asks);
    }

    /// A client connects to this ring, to the listener whose connections are sealed or the other.
    pub(super) fn connect(ring: usize, peer: SocketAddr, sealed: bool, world: &mut World) -> Wire {
        match sealed {
            true => Wire::sealed(world.connect(ring, 1, peer), peer.port().into()),
            false => Wire::new(world.connect(ring, 0, peer)),
        }
    }

    /// The end of a sealed connection; the number is for its keys.
    pub(super) fn sealed(socket: SocketId, number: u64) -> Wire {
        Wire { layer: Some(Records::client(number)), ..Wire::new(socket) }
    }

    /// Whether it is sealed.
    pub(super) fn is_sealed(&self) -> bool {
        self.layer.is_some()
    }

    /// Whether the handshake of what seals it is not over.
    pub(super) fn is_greeting(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| !layer.is_established())
    }

    /// From now on it speaks as if it were not.
    pub(super) fn unseal(&mut self) {
        self.layer = None;
    }

    /// What it says next is spoiled once it is sealed.
    pub(super) fn spoil(&mut self) {
        self.spoils = true;
    }

    /// Says this in a record, and in the same write something in one that is spoiled.
    #[cfg(test)]
    pub(super) fn spoil_after(&mut self, bytes: &[u8], world: &mut World) {
        let layer = self.layer.as_mut().expect("it is sealed");
        layer.seal(bytes, &mut self.out);
        layer.seal(b"spoiled", &mut self.out);
        *self.out.last_mut().expect("it was sealed") ^= 1;
        assert_eq!(world.write(self.socket, &self.out), Some(self.out.len()), "it has room");
        self.out.clear();
    }

    /// It has its keys changed this many times.
    #[cfg(test)]
    pub(super) fn rekeys(&mut self, times: usize) {
        let layer = self.layer.as_mut().expect("it is sealed");
        (0..times).for_each(|_| layer.rekey(&mut self.out));
    }

    /// Whether the server has said by a record that nothing more comes.
    #[cfg(test)]
    pub(super) fn is_told_the_end(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.ended)
    }

    /// Whether the server could not open what it was sent.
    #[cfg(test)]
    pub(super) fn is_alerted(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.alerted)
    }

    /// Whether bytes wait that may be written.
    pub(super) fn has_output(&self) -> bool {
        let to_seal = self.layer.as_ref().is_some_and(|layer| {
            layer.owed() > 0 || layer.is_established() && !self.plain.is_empty()
        });
        let has_bytes = !self.out.is_empty() || to_seal;
        has_bytes && !self.write_ended && self.end.is_none()
    }

    /// Whether everything received was parsed.
    pub(super) fn is_read_out(&self) -> bool {
        let is_open = self.layer.as_ref().is_none_or(|layer| layer.held() == 0);
        is_open && self.input.is_empty() && self.message.is_empty()
    }

    /// Queues bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let queue = if self.is_sealed() { &mut self.plain } else { &mut self.out };
        queue.extend_from_slice(bytes);
    }

    /// Seals what is queued, as far as the handshake has come.
    fn seal(&mut self, random: &mut Random) {
        let Some(layer) = &mut self.layer else { return };
        layer.take_owed(&mut self.out);
        if !layer.is_established() || self.plain.is_empty() {
            return;
        }
        if random.chance(30) {
            layer.rekey(&mut self.out);
        }
        if random.chance(30) {
            layer.say_nothing(&mut self.out);
        }
        let start = self.out.len();
        layer.seal(&self.plain, &mut self.out);
        self.plain.clear();
        if core::mem::take(&mut self.spoils) {
            // Not the length of the first: else the server would only wait for more.
            let at = start + 3 + random.index(self.out.len() - start - 3);
            self.out[at] ^= 1 << random.below(8);
        }
    }

    /// Ends its direction: by a record, by a FIN, or by both.
    pub(super) fn end_writing(&mut self, world: &mut World) {
        if core::mem::replace(&mut self.write_ended, true) {
            return;
        }
        if let Some(layer) = self.layer.as_mut().filter(|layer| layer.is_established())
            && self.out.is_empty()
            && world.random.chance(700)
        {
            layer.close(&mut self.out);
            let taken = world.write(self.socket, &self.out);
            let is_whole = taken == Some(self.out.len());
            self.out.clear();
            if is_whole && world.random.chance(500) {
                world.counts.note(Event::EndedByRecord);
                return;
            }
        }
        world.end(self.socket);
    }

    /// Queues a WebSocket frame.
    pub(super) fn put_frame(&mut self, op: Opcode, fin: bool, payload: &[u8], random: &mut Random) {
        if let Some(over_http) = &mut self.over_http {
            // Whoever closes a session over HTTP goes.
            over_http.leaves |= op == Opcode::Close;
            return;
        }
        let key = (random.next() as u32).to_be_bytes();
        let mut head = [0; WS_CLIENT_HEAD_MAX];
        let len = ws::client_head(op, fin, payload.len() as u64, key, &mut head);
        self.put(&head[..len]);
        let masked = payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]);
        self.put(&masked.collect::<Vec<u8>>());
    }

    /// Writes what has room, in parts of random size.
    pub(super) fn flush(&mut self, world: &mut World) {
        if !self.has_output() {
            return;
        }
        self.seal(&mut world.random);
        let mut len = self.out.len();
        if world.random.chance(300) {
            len = world.random.between(1, len as u64) as usize;
        }
        match world.write(self.socket, &self.out[..len]) {
            Some(taken) => drop(self.out.drain(..taken)),
            None => self.write_ended = true,
        }
    }

    /// Reads at most `max` bytes. True if something has changed.
    pub(super) fn read(&mut self, max: usize, world: &mut World) -> bool {
        let start = self.input.len();
        match world.read(self.socket, max, &mut self.input) {
            Read::Some(_) => {
                self.open(start, world);
                true
            }
            Read::Nothing => false,
            Read::Eof => self.end.replace(End::Eof).is_none(),
            Read::Broken => self.end.replace(End::Broken).is_none(),
        }
    }

    /// Opens what was received from `start` on.
    fn open(&mut self, start: usize, world: &mut World) {
        let Some(layer) = &mut self.layer else { return };
        let mut records = self.input.split_off(start);
        let before = (layer.is_established(), layer.ended, layer.alerted);
        if let Err(error) = layer.open(&mut records, &mut self.input) {
            let text = format!("a record of the server: {error:?}");
            self.broken.get_or_insert(Violation::new(Oracle::Protocol, text));
        }
        let now = (layer.is_established(), layer.ended, layer.alerted);
        let events = [
            (before.0, now.0, Event::Sealed),
            (before.1, now.1, Event::SealedEnd),
            (before.2, now.2, Event::SealedAlert),
        ];
        for (_, _, event) in events.into_iter().filter(|(before, now, _)| before != now) {
            world.counts.note(event);
        }
    }

    /// What is wrong with the records of the server, if anything is.
    pub(super) fn take_broken(&mut self) -> Option<Violation> {
        self.broken.take()
    }

    /// Discards what was received.
    pub(super) fn forget(&mut self) {
        self.input.clear();
    }

    /// The next message of a WebSocket stream.
    pub(super) fn hear(&mut self) -> Result<Option<Heard>, Violation> {
        if let Some(mut over_http) = self.over_http.take() {
            let heard = over_http.hear(&mut self.input)?;
            self.over_http = Some(over_http);
            return Ok(heard.map(|frame| match frame {
                Frame::Message(bytes) => Heard::Message(bytes),
                Frame::Close(code) => Heard::Close(code),
            }));
        }
        loop {
            if self.input.is_empty() {
                return Ok(None);
            }
            let next = self.decoder.next(&mut self.input, u32::MAX);
            let (used, event) = next.map_err(|error| {
                Violation::new(Oracle::Protocol, format!("frame of the server: {}", error.reason()))
            })?;
            let heard = match event {
                None => None,
                Some(ws::Event::Ping(payload)) => Some(Heard::Ping(payload.to_vec())),
                Some(ws::Event::Pong(_)) => Some(Heard::Pong),
                Some(ws::Event::Close { code, .. }) => Some(Heard::Close(code.unwrap_or(1005))),
                Some(ws::Event::Data { payload, last, .. }) => {
                    self.message.extend_from_slice(payload);
                    last.then(|| Heard::Message(core::mem::take(&mut self.message)))
                }
            };
            self.input.drain(..used);
            if heard.is_some() || used == 0 {
                return Ok(heard);
            }
        }
    }

    /// The next HTTP answer, whole.
    pub(super) fn answer(&mut self) -> Result<Option<Answer>, Violation> {
        answer::next(&mut self.input)
    }
}

/// A WebSocket handshake of a browser on this machine.
pub(super) fn handshake(path: &str, query: &str) -> Vec<u8> {
    format!(
        "GET {path}{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Setup;
    use super::*;
    use crate::mem::region::Owner;

    fn wire() -> Wire {
        let mut world = World::new(1);
        let memory = || Owner::new(64).expect("memory").lend();
        world.add_ring(Setup {
            receive: memory(),
            receive_buffers: 1,
            receive_bytes: 64,
            segments: memory(),
            segment_size: 64,
            slots: 1,
            listeners: 1,
            submission_entries: 1,
            completion_entries: 1,
            send_chunk: 1,
        });
        Wire::new(world.connect(0, 0, SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    #[test]
    fn answers_are_read_one_after_another_and_only_when_whole() {
        let mut wire = wire();
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 503 No\r\n\
                    Connection: close\r\ncontent-length: 0\r\n\r\n";
        let mut answers = Vec::new();
        for byte in two {
            wire.input.push(*byte);
            answers.extend(wire.answer().expect("an answer"));
        }
        let first = Answer { status: 200, body: b"abc".to_vec(), close: false };
        let second = Answer { status: 503, body: Vec::new(), close: true };
        assert_eq!(answers, [first, second]);
        wire.input.extend(b"ICY 200\r\n\r\n");
        assert!(wire.answer().is_err());
    }

    #[test]
    fn frames_of_a_server_are_received_whole() {
        let mut wire = wire();
        let stream = b"\x01\x02ab\x89\x01p\x80\x01c\x88\x02\x11\x94";
        let mut heard = Vec::new();
        for byte in stream {
            wire.input.push(*byte);
            heard.extend(wire.hear().expect("frames"));
        }
        let expected =
            [Heard::Ping(b"p".to_vec()), Heard::Message(b"abc".to_vec()), Heard::Close(4500)];
        assert_eq!(heard, expected);
        wire.input.extend(b"\x81\x80");
        assert!(wire.hear().is_err(), "a server does not mask");
    }
}

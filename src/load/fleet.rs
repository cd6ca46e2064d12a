//! All clients of a run, on one thread: opens them, reads from them, and reports what arrived.

use super::clock::{Clock, SECOND};
use super::peer::{Ears, Ending, Event, Peer, Stage};
use super::plan::Plan;
use super::stamp::Stamps;
use super::unpack::Unpacked;
use super::wire::put_frame;
use crate::ws::Opcode;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;
/// Wake-ups taken from the kernel at once.
const WAKES: usize = 1024;
/// The kernel's clock for sleeps is coarse, so the last part of a wait polls.
const COARSE: u64 = 2_000_000;
/// SO_RCVBUF of a client that reads again.
const RESUME_BUFFER: usize = 1 << 20;
/// How often heart-beats are sent, each time to a part of the clients.
const BEAT_EVERY: u64 = SECOND / 20;

/// How a turn waits for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It polls once.
    Look,
    /// It sleeps until this time of the clock at most, and polls for the last part.
    Until(u64),
}

/// Counters of a fleet, from its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Bytes received.
    pub received_bytes: u64,
    /// Reads that returned bytes.
    pub reads: u64,
    /// Nanoseconds in which there was nothing to do.
    pub idle_nanos: u64,
}

/// The clients.
#[derive(Debug)]
pub struct Fleet {
    /// The plan of all clients.
    pub plan: Plan,
    /// The clock of the run.
    pub clock: Clock,
    /// The counters so far.
    pub counters: Counters,
    /// The first ERROR frame that a server sent.
    pub complaint: Option<String>,
    poll: Poll,
    wakes: mio::Events,
    peers: Vec<Peer>,
    stamps: Stamps,
    unpacked: Unpacked,
    buffer: Vec<u8>,
    /// The client whose heart-beat is next, and when the next part of them is due.
    beat: (usize, u64),
}

impl Fleet {
    /// No clients yet.
    pub fn new(plan: Plan) -> io::Result<Fleet> {
        Ok(Fleet {
            plan,
            clock: Clock::started(),
            counters: Counters::default(),
            complaint: None,
            poll: Poll::new()?,
            wakes: mio::Events::with_capacity(WAKES),
            peers: Vec::new(),
            stamps: Stamps::default(),
            unpacked: Unpacked::default(),
            buffer: vec![0; READ_BYTES],
            beat: (0, 0),
        })
    }

    /// The stage of a client.
    pub fn stage(&self, peer: usize) -> Stage {
        self.peers[peer].stage
    }

    /// Count of clients, closed ones included.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is no client.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Opens client `peer`: the next number, or one whose session is over.
    pub fn open(&mut self, peer: usize) -> io::Result<()> {
        let upgrade = self.plan.upgrade(peer);
        self.connect(peer, upgrade, Stage::Upgrading)
    }

    /// Opens client `peer` as one that makes HTTP requests.
    pub fn open_caller(&mut self, peer: usize) -> io::Result<()> {
        self.connect(peer, Vec::new(), Stage::Calling)
    }

    fn connect(&mut self, peer: usize, first: Vec<u8>, then: Stage) -> io::Result<()> {
        if peer == self.peers.len() {
            self.peers.push(Peer::new());
        }
        assert_eq!(self.peers[peer].stage, Stage::Closed, "a client has one session at a time");
        let socket = Socket::new(Domain::for_address(self.plan.to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = self.plan.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.plan.source(peer) {
            socket.bind(&source.into())?;
        }
        match socket.connect(&self.plan.to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(peer), interest)?;
        self.peers[peer].connect(stream, first, then);
        Ok(())
    }

    /// Sends on a client's connection. A client that is gone sends nothing.
    pub fn send(&mut self, peer: usize, bytes: &[u8], events: &mut Vec<Event>) {
        if let Err(ending) = self.peers[peer].send(bytes) {
            self.end(peer, ending, events);
        }
    }

    /// Ends a client's connection without a Close frame; no event reports it.
    pub fn close(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        peer.stream = None;
        peer.stage = Stage::Closed;
    }

    /// Ends a client's session with a Close frame; no event reports it.
    pub fn farewell(&mut self, peer: usize) {
        let mut out = Vec::new();
        put_frame(Opcode::Close, &1000u16.to_be_bytes(), &mut out);
        // A connection that is gone needs no Close frame.
        let _ = self.peers[peer].send(&out);
        self.close(peer);
    }

    /// The client stops reading.
    pub fn pause(&mut self, peer: usize) {
        self.peers[peer].is_paused = true;
    }

    /// The client reads again, with a large receive buffer.
    pub fn resume(&mut self, peer: usize, events: &mut Vec<Event>) {
        self.peers[peer].is_paused = false;
        if let Some(stream) = &self.peers[peer].stream {
            // A small receive buffer would keep the rest waiting.
            let _ = SockRef::from(stream).set_recv_buffer_size(RESUME_BUFFER);
        }
        if let Err(ending) = self.read(peer, true, events) {
            self.end(peer, ending, events);
        }
    }

    /// Waits as given, reads from every client that has bytes, and appends the events.
    pub fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let before = self.clock.now();
        self.heart_beat(before, events);
        let timeout = match wait {
            Wait::Look => Duration::ZERO,
            Wait::Until(until) => Duration::from_nanos(until.saturating_sub(before + COARSE)),
        };
        match self.poll.poll(&mut self.wakes, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if self.wakes.is_empty() || !timeout.is_zero() {
            self.counters.idle_nanos += self.clock.now() - before;
        }
        let wakes = core::mem::replace(&mut self.wakes, mio::Events::with_capacity(0));
        for wake in &wakes {
            let Token(peer) = wake.token();
            if let Err(ending) = self.woken(peer, wake, events) {
                self.end(peer, ending, events);
            }
        }
        self.wakes = wakes;
        Ok(())
    }

    fn woken(
        &mut self,
        index: usize,
        wake: &mio::event::Event,
        events: &mut Vec<Event>,
    ) -> Result<(), Ending> {
        let peer = &mut self.peers[index];
        let Some(stream) = &peer.stream else { return Ok(()) };
        if wake.is_error() {
            let error = stream.take_error().ok().flatten();
            return Err(Ending::Failed(error.and_then(|e| e.raw_os_error()).unwrap_or(0)));
        }
        if peer.stage == Stage::Connecting && wake.is_writable() {
            peer.stage = peer.then;
        }
        if wake.is_writable() {
            peer.flush()?;
        }
        if !wake.is_readable() || peer.is_paused {
            return Ok(());
        }
        self.read(index, wake.is_read_closed(), events)
    }

    /// Reads what is there. `to_end`: until nothing is left or the stream has ended.
    fn read(&mut self, index: usize, to_end: bool, events: &mut Vec<Event>) -> Result<(), Ending> {
        let peer = &mut self.peers[index];
        loop {
            let Some(stream) = &mut peer.stream else { return Ok(()) };
            let kept = peer.tail.len();
            if self.buffer.len() < 2 * kept {
                self.buffer.resize(4 * kept, 0);
            }
            let count = match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return Err(Ending::Eof),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ending::Failed(error.raw_os_error().unwrap_or(0))),
            };
            self.counters.reads += 1;
            self.counters.received_bytes += count as u64;
            self.buffer[..kept].copy_from_slice(&peer.tail);
            let filled = kept + count;
            let mut ears = Ears {
                plan: &self.plan,
                stamps: &self.stamps,
                events,
                complaint: &mut self.complaint,
                at: self.clock.now(),
            };
            let input = &mut self.buffer[..filled];
            let done = peer.take(index, input, &mut self.unpacked, &mut ears)?;
            peer.tail.clear();
            peer.tail.extend_from_slice(&self.buffer[done..filled]);
            // A read that leaves room has emptied the socket, and later bytes wake the fleet again.
            // But the end of the stream may have arrived with the bytes, in the same wake-up.
            if filled < self.buffer.len() && !to_end {
                return Ok(());
            }
        }
    }

    fn end(&mut self, peer: usize, ending: Ending, events: &mut Vec<Event>) {
        self.close(peer);
        events.push(Event::Closed { peer, ending });
    }

    /// Sends the heart-beats that are due: a part of the clients each time, all of them within an
    /// interval, with a third of it to spare.
    fn heart_beat(&mut self, now: u64, events: &mut Vec<Event>) {
        let interval = self.plan.heart_beat_nanos() * 2 / 3;
        if interval == 0 || now < self.beat.1 || self.peers.is_empty() {
            return;
        }
        self.beat.1 = now + BEAT_EVERY;
        let count = self.peers.len() as u64 * BEAT_EVERY / interval + 1;
        let mut beat = Vec::new();
        self.plan.protocol.put_text(b"\n", &mut beat);
        for _ in 0..count.min(self.peers.len() as u64) {
            let peer = self.beat.0 % self.peers.len();
            self.beat.0 = peer + 1;
            if self.peers[peer].stage == Stage::Ready {
                self.send(peer, &beat, events);
            }
        }
    }
}

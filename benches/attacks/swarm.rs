//! The attackers, or the polite clients in their place: many connections on one thread, in a
//! separate process, so that neither their work nor their descriptors count as the innocents'.

use crate::scripts::{Endpoint, Group, Turn, token};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use ringpush::load::clock::Clock;
use ringpush::load::wire::Protocol;
use socket2::{Domain, Socket, Type};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Counters of a swarm, to show that it attacked at all.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Deeds {
    /// Connections whose handshake was answered with 101.
    pub opened: u64,
    /// Handshakes that were answered otherwise, or not.
    pub refused: u64,
    /// Connections that the server ended later.
    pub ended: u64,
    /// ERROR frames.
    pub errors: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Beats left out because the last one had not been taken.
    pub stalled_beats: u64,
}

/// Between the end of a connection and its successor.
const PAUSE: u64 = 250_000_000;
/// What a connection does at its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Open,
    Beat,
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Gone,
    Upgrading,
    Talking,
}

struct Attacker {
    group: usize,
    turn: Turn,
    stage: Stage,
    stream: Option<TcpStream>,
    out: Vec<u8>,
}

pub struct Swarm {
    to: SocketAddr,
    groups: Vec<Group>,
    attackers: Vec<Attacker>,
    poll: Poll,
    clock: Clock,
    /// Time, connection, action, and the connection's round.
    due: BinaryHeap<Reverse<(u64, usize, Wake, u32)>>,
    deeds: Deeds,
    buffer: Vec<u8>,
}

impl Swarm {
    pub fn new(to: SocketAddr, groups: Vec<Group>) -> Swarm {
        let mut swarm = Swarm {
            to,
            attackers: Vec::new(),
            poll: Poll::new().expect("an epoll instance"),
            clock: Clock::started(),
            due: BinaryHeap::new(),
            deeds: Deeds::default(),
            buffer: vec![0; 256 * 1024],
            groups: Vec::new(),
        };
        for (group, what) in groups.iter().enumerate() {
            for index in 0..what.count {
                let at = what.from.as_nanos() as u64 + index as u64 * 100_000;
                swarm.due.push(Reverse((at, swarm.attackers.len(), Wake::Open, 0)));
                let turn = Turn { index, round: 0, beat: 0 };
                let (stage, stream, out) = (Stage::Gone, None, Vec::new());
                swarm.attackers.push(Attacker { group, turn, stage, stream, out });
            }
        }
        swarm.groups = groups;
        swarm
    }

    /// Attacks for this long; all sockets are closed with the process.
    pub fn run(mut self, span: Duration) -> Deeds {
        let end = span.as_nanos() as u64;
        let mut events = Events::with_capacity(1024);
        loop {
            let now = self.clock.now();
            if now >= end {
                return self.deeds;
            }
            let mut done = 0;
            while let Some(&Reverse((at, index, wake, round))) = self.due.peek()
                && at <= now
                && done < 64
            {
                self.due.pop();
                done += 1;
                if round == self.attackers[index].turn.round {
                    self.wake(index, wake, at);
                }
            }
            let next = self.due.peek().map_or(end, |next| next.0.0).min(end);
            let wait = Duration::from_nanos(next.saturating_sub(self.clock.now()));
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
                _ => {}
            }
            for event in &events {
                let Token(index) = event.token();
                if self.heard(index, event).is_err() {
                    self.gone(index);
                }
            }
        }
    }

    fn later(&mut self, index: usize, at: u64, wake: Wake) {
        let round = self.attackers[index].turn.round;
        self.due.push(Reverse((at, index, wake, round)));
    }

    fn wake(&mut self, index: usize, wake: Wake, at: u64) {
        match wake {
            Wake::Open => {
                if self.open(index).is_err() {
                    self.gone(index);
                }
            }
            Wake::Beat => {
                let attacker = &mut self.attackers[index];
                let group = &self.groups[attacker.group];
                let every = group.every.as_nanos() as u64;
                if attacker.out.is_empty() {
                    attacker.out = (group.beat)(attacker.turn);
                } else {
                    self.deeds.stalled_beats += 1;
                }
                attacker.turn.beat += 1;
                self.later(index, at + every, Wake::Beat);
                if self.flush(index).is_err() {
                    self.gone(index);
                }
            }
            Wake::Leave => {
                self.attackers[index].stream = None;
                self.attackers[index].stage = Stage::Gone;
                self.again(index);
            }
        }
    }

    fn open(&mut self, index: usize) -> std::io::Result<()> {
        let attacker = &mut self.attackers[index];
        let group = &self.groups[attacker.group];
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        if let Some(bytes) = group.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let number = group.source + (attacker.turn.index % usize::from(group.sources)) as u8;
        let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, number), 0);
        socket.bind(&SocketAddr::V4(source).into())?;
        match socket.connect(&self.to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        let (protocol, path) = match group.endpoint {
            Endpoint::Echo => (Protocol::Raw, "/echo"),
            Endpoint::Stomp => (Protocol::Stomp, "/portfolio"),
        };
        let query = match group.user {
            Some(name) => format!("access_token={}", token(&format!("{name}{index}"))),
            None => String::new(),
        };
        attacker.out = protocol.upgrade(&self.to.to_string(), path, &query, index, group.deflate);
        attacker.stream = Some(stream);
        attacker.stage = Stage::Upgrading;
        Ok(())
    }

    /// The server has ended the connection.
    fn gone(&mut self, index: usize) {
        match self.attackers[index].stage {
            Stage::Talking => self.deeds.ended += 1,
            _ => self.deeds.refused += 1,
        }
        self.attackers[index].stream = None;
        self.attackers[index].stage = Stage::Gone;
        self.again(index);
    }

    fn again(&mut self, index: usize) {
        let attacker = &mut self.attackers[index];
        attacker.out.clear();
        attacker.turn.round += 1;
        attacker.turn.beat = 0;
        let at = self.clock.now() + PAUSE;
        self.later(index, at, Wake::Open);
    }

    fn heard(&mut self, index: usize, event: &mio::event::Event) -> Result<(), ()> {
        if self.attackers[index].stream.is_none() {
            return Ok(());
        }
        if event.is_writable() {
            self.flush(index)?;
        }
        let attacker = &self.attackers[index];
        let is_talking = attacker.stage == Stage::Talking;
        if is_talking && !self.groups[attacker.group].reads {
            return if event.is_error() || event.is_read_closed() { Err(()) } else { Ok(()) };
        }
        if event.is_readable() {
            self.read(index)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), ()> {
        loop {
            let attacker = &mut self.attackers[index];
            let Some(stream) = &mut attacker.stream else { return Ok(()) };
            let count = match stream.read(&mut self.buffer) {
                Ok(0) => return Err(()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(()),
            };
            self.deeds.read_bytes += count as u64;
            let heard = &self.buffer[..count];
            self.deeds.errors += memchr::memmem::find_iter(heard, b"ERROR\n").count() as u64;
            if attacker.stage == Stage::Upgrading {
                if !heard.starts_with(b"HTTP/1.1 101") {
                    return Err(());
                }
                self.greet(index)?;
                if !self.groups[self.attackers[index].group].reads {
                    return Ok(());
                }
            }
        }
    }

    fn greet(&mut self, index: usize) -> Result<(), ()> {
        let now = self.clock.now();
        let attacker = &mut self.attackers[index];
        let group = &self.groups[attacker.group];
        attacker.stage = Stage::Talking;
        attacker.out.extend((group.hello)(attacker.turn));
        self.deeds.opened += 1;
        let (every, life) = (group.every.as_nanos() as u64, group.life.as_nanos() as u64);
        let share = attacker.turn.index as u64 * every / group.count as u64;
        if every > 0 {
            self.later(index, now + share, Wake::Beat);
        }
        if life > 0 {
            self.later(index, now + life, Wake::Leave);
        }
        self.flush(index)
    }

    fn flush(&mut self, index: usize) -> Result<(), ()> {
        let attacker = &mut self.attackers[index];
        let Some(stream) = &mut attacker.stream else { return Ok(()) };
        let mut taken = 0;
        while taken < attacker.out.len() {
            match stream.write(&attacker.out[taken..]) {
                Ok(count) => taken += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => break,
                Err(error) if error.kind() == ErrorKind::NotConnected => break,
                Err(_) => return Err(()),
            }
        }
        self.deeds.sent_bytes += taken as u64;
        attacker.out.drain(..taken);
        Ok(())
    }
}

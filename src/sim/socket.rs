//! One TCP connection of the fake network: the queues between a client and the server's kernel.
//!
//! ```text
//!   client ──write──▶ inbound  ──receive──▶ server      inbound_ended: the client's FIN
//!   client ◀──read─── outbound ◀───send──── server      outbound_ended: the server's FIN
//! ```
//! Both queues are small, so that sends park and writers wait. `broken` is the state after an RST,
//! separately for each side.

use super::counts::{Counts, Event};
use super::random::Random;
use crate::ids::Slot;
use crate::time::Instant;
use core::net::SocketAddr;
use std::collections::VecDeque;

/// Number of a connection, unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId(pub(super) usize);

/// The result of a client's read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes.
    Some(usize),
    /// No bytes now.
    Nothing,
    /// The server has ended its direction, and everything is read.
    Eof,
    /// The connection was reset.
    Broken,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Socket {
    /// The ring whose listener the client reached.
    pub(super) ring: usize,
    /// The client's address.
    pub(super) peer: SocketAddr,
    /// It reached a listener whose connections are sealed: any but the first.
    pub(super) sealed: bool,
    /// Its slot while the server has it.
    pub(super) slot: Option<Slot>,
    /// When it came into the table of its ring.
    pub(super) came_at: Instant,
    pub(super) inbound: VecDeque<u8>,
    pub(super) inbound_max: usize,
    pub(super) inbound_ended: bool,
    pub(super) outbound: VecDeque<u8>,
    pub(super) outbound_max: usize,
    pub(super) outbound_ended: bool,
    /// The server's side has seen an RST.
    pub(super) broken: bool,
    /// The client has released its descriptor: bytes sent to it provoke an RST.
    pub(super) gone: bool,
    /// When it did.
    pub(super) gone_at: Option<Instant>,
    /// The server has released its descriptor.
    pub(super) closed: bool,
    /// The client's side has seen an RST.
    pub(super) client_broken: bool,
}

impl Socket {
    pub(super) fn new(ring: usize, peer: SocketAddr, random: &mut Random) -> Socket {
        Socket {
            ring,
            peer,
            sealed: false,
            slot: None,
            came_at: Instant(0),
            inbound: VecDeque::new(),
            inbound_max: random.between(16, 600) as usize,
            inbound_ended: false,
            outbound: VecDeque::new(),
            outbound_max: random.between(64, 900) as usize,
            outbound_ended: false,
            broken: false,
            gone: false,
            gone_at: None,
            closed: false,
            client_broken: false,
        }
    }

    /// The client writes; returns how many bytes had room, `None` if the connection is broken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        assert!(!self.gone && !self.inbound_ended, "a client writes before it ends");
        if self.client_broken {
            return None;
        }
        if self.closed {
            // The server's side is gone: its host answers with an RST.
            self.client_broken = true;
            return None;
        }
        let taken = bytes.len().min(self.inbound_max - self.inbound.len());
        self.inbound.extend(&bytes[..taken]);
        Some(taken)
    }

    /// The client reads at most `max` bytes.
    pub(super) fn read(&mut self, max: usize, into: &mut Vec<u8>) -> Read {
        assert!(!self.gone, "a client reads before it closes");
        let len = self.outbound.len().min(max);
        if len > 0 {
            into.extend(self.outbound.drain(..len));
            return Read::Some(len);
        }
        match (self.client_broken, self.outbound_ended) {
            (true, _) => Read::Broken,
            (false, true) => Read::Eof,
            (false, false) => Read::Nothing,
        }
    }

    /// The client ends its direction.
    pub(super) fn end_inbound(&mut self) {
        self.inbound_ended = true;
    }

    /// The client releases its descriptor; with `reset` by an RST.
    pub(super) fn leave(&mut self, reset: bool) {
        self.gone = true;
        // Bytes that the client has not read turn its close into a reset (RFC 1122 §4.2.2.13).
        let reset = reset || !self.outbound.is_empty();
        self.outbound.clear();
        self.inbound_ended = true;
        if reset {
            self.inbound.clear();
            self.broken = true;
        }
    }

    /// The server's kernel takes bytes of a send. False if the connection is broken.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        assert!(!self.outbound_ended, "nothing is sent after a FIN");
        if self.broken {
            return false;
        }
        if self.gone {
            // The bytes are sent, the client is gone, and an RST comes back.
            self.broken = true;
            return true;
        }
        assert!(bytes.len() <= self.room(), "the kernel takes what has room");
        self.outbound.extend(bytes);
        true
    }

    /// Bytes that a send may add now.
    pub(super) fn room(&self) -> usize {
        match self.gone {
            true => self.outbound_max,
            false => self.outbound_max - self.outbound.len(),
        }
    }

    /// The server releases its descriptor.
    pub(super) fn close(&mut self, random: &mut Random, counts: &mut Counts) {
        self.slot = None;
        self.closed = true;
        self.outbound_ended = true;
        if !self.inbound.is_empty() && !self.broken {
            // RFC 1122 §4.2.2.13: unread bytes turn the close into a reset, and bytes that have not
            // reached the client by then never do.
            counts.note(Event::CloseUnread);
            self.client_broken = true;
            let arrived = random.index(self.outbound.len() + 1);
            self.outbound.truncate(arrived);
        }
        self.inbound = VecDeque::new();
    }

    /// The connection never reaches the server's program.
    pub(super) fn refuse(&mut self) {
        self.closed = true;
        self.client_broken = true;
        self.inbound = VecDeque::new();
    }

    /// A summary of both sides' state.
    pub(super) fn tell(&self) -> String {
        let Socket { ring, slot, inbound, outbound, .. } = self;
        format!(
            "ring {ring} slot {slot:?}, {} bytes in (ended {}), {} out (ended {}), gone {}, closed \
             {}, broken {}, for the client {}",
            inbound.len(),
            self.inbound_ended,
            outbound.len(),
            self.outbound_ended,
            self.gone,
            self.closed,
            self.broken,
            self.client_broken
        )
    }

    /// Whether both sides are done with it.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Socket {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut socket = Socket::new(0, peer, &mut Random::new(1));
        (socket.inbound_max, socket.outbound_max) = (10, 10);
        socket
    }

    #[test]
    fn queues_are_bounded_and_end_after_their_bytes() {
        let mut socket = socket();
        assert_eq!(socket.write(&[1; 7]), Some(7));
        assert_eq!(socket.write(&[2; 7]), Some(3));
        assert!(socket.take(&[3; 10]));
        assert_eq!(socket.room(), 0);
        socket.outbound_ended = true;
        let mut read = Vec::new();
        assert_eq!(socket.read(6, &mut read), Read::Some(6));
        assert_eq!(socket.read(6, &mut read), Read::Some(4));
        assert_eq!(socket.read(6, &mut read), Read::Eof);
        assert_eq!(read, [3; 10]);
    }

    #[test]
    fn a_close_over_unread_bytes_resets_the_client() {
        let (mut random, mut counts) = (Random::new(2), Counts::default());
        let mut socket = socket();
        socket.write(&[1; 7]);
        socket.close(&mut random, &mut counts);
        assert_eq!(counts.of(Event::CloseUnread), 1);
        assert_eq!(socket.read(1, &mut Vec::new()), Read::Broken);
        assert_eq!(socket.write(&[1]), None);
    }

    #[test]
    fn a_send_to_nobody_is_taken_once_and_then_breaks() {
        let mut socket = socket();
        socket.leave(false);
        assert!(!socket.broken);
        assert!(socket.take(&[1; 10]));
        assert!(!socket.take(&[1; 10]));
        socket.closed = true;
        assert!(socket.is_over());
    }
}

#![forbid(unsafe_code)]
//! The table of connections: what the engine knows of each socket.
//!
//! ```text
//! Free ─accepted─▶ Open ─drain─▶ Draining ─terminate─▶ Terminated ─join─▶ Closing ─▶ Free
//!                   └───────────── reset ───────────────▲
//! ```
//! The index is the slot of the direct descriptor. `Conn` holds small structs: the outbox, what was
//! received but not yet understood, the protocol's state, and the times of last life.

use super::outbox::Outbox;
use super::pong::Pongs;
use super::takeover::Histories;
use super::web::Request;
use crate::encoding::Encoding;
use crate::ids::{ConnId, EndpointIndex, ListenerId, SessionIndex, Slot};
use crate::mem::shares::Place;
use crate::ws;
use core::net::{IpAddr, SocketAddr};
use hashbrown::HashMap;
use std::sync::Arc;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The slot is not in use.
    #[default]
    Free,
    /// In use.
    Open,
    /// Its last bytes are being sent; nothing new begins.
    Draining,
    /// Cut; the kernel is giving back what it holds.
    Terminated,
    /// The descriptor is being released.
    Closing,
}

/// What is known of the peer's direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// It may send more.
    #[default]
    Here,
    /// It has ended; bytes of it may be unread, in the socket or here.
    HungUp,
    /// It has ended, and the socket is read to its end.
    Ended,
}

/// What a connection waits for before it is read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// Nothing: it is read.
    #[default]
    No,
    /// Room in queues or pools: it stands in the shard's list and is looked at every turn.
    Room,
    /// An answer (receipts at their bound, a parked HTTP request): whoever brings it resumes it.
    Answer,
    /// That its client takes what it has been answered: the end of a send resumes it.
    Outbox,
}

/// What the connection speaks.
#[derive(Debug, Default)]
pub enum Proto {
    /// Between requests: nothing of the next one is there.
    #[default]
    HttpIdle,
    /// Some bytes of a request head are there.
    HttpHead,
    /// A body is being received.
    HttpBody(Box<Request>),
    /// The request waits for an answer or for room.
    HttpParked(Box<Request>),
    /// The last answer is in flight; what comes is thrown away.
    HttpDone,
    /// A raw WebSocket endpoint. Behind a pointer: the other ones are many.
    Raw(Box<Raw>),
    /// A STOMP session over WebSocket or SockJS.
    Stomp(Stomp),
}

/// State of a raw WebSocket.
#[derive(Debug)]
pub struct Raw {
    /// The framer.
    pub decoder: ws::Decoder,
    /// Which endpoint of the configuration.
    pub endpoint: EndpointIndex,
    /// How messages travel.
    pub encoding: Encoding,
    /// Chunks of a message that is not complete yet.
    pub message: Held,
    /// Nobody has said who it is, and it has sent nothing.
    pub is_stranger: bool,
    /// SockJS only: messages of a frame that wait until the connection is read on, each behind its
    /// length in four bytes.
    pub backlog: Held,
}

/// State of a STOMP WebSocket.
#[derive(Debug)]
pub struct Stomp {
    /// The framer.
    pub decoder: ws::Decoder,
    /// How messages travel.
    pub encoding: Encoding,
    /// Index of the session in the shard's table.
    pub session: SessionIndex,
    /// Chunks of a SockJS or compressed message that is not complete yet.
    pub message: Held,
}

/// Bytes of which the first are done with. They are moved only when most of them are, so that
/// taking a little of much, again and again, costs what is taken.
#[derive(Debug, Default)]
pub struct Bytes {
    all: Vec<u8>,
    /// How many of them are done with; less than half of them between two takings.
    done: usize,
}

impl Bytes {
    /// Adds bytes at the end.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
    }
}

impl core::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.all[self.done..]
    }
}

impl core::ops::DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.done..]
    }
}

/// Bytes behind one pointer: 8 bytes instead of 24 in every idle connection.
pub type Kept = Box<Bytes>;

/// Bytes that a connection keeps for later, allocated only while there are some.
#[derive(Debug, Default)]
pub struct Held(Option<Kept>);

impl Held {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Count of bytes, with those of them that are done with and still there.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |bytes| bytes.all.len())
    }

    /// Adds bytes at the end.
    pub fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default().extend(bytes);
        }
    }

    /// Takes all of it out.
    pub fn take(&mut self) -> Option<Kept> {
        self.0.take()
    }

    /// Puts back what `take` gave, without the first `used` bytes; frees it when that is all.
    pub fn put_back(&mut self, mut bytes: Kept, used: usize) {
        assert!(self.0.is_none(), "nothing came in between");
        if used < bytes.len() {
            bytes.done += used;
            if bytes.done >= bytes.all.len() / 2 {
                bytes.all.drain(..bytes.done);
                bytes.done = 0;
            }
            self.0 = Some(bytes);
        }
    }
}

/// One connection. 144 bytes.
#[derive(Debug)]
pub struct Conn {
    /// How often the slot was used before.
    pub generation: u32,
    /// Where it is in its life.
    pub state: State,
    /// Why it is not read, if so.
    pub pause: Pause,
    /// A multishot receive is armed.
    pub receiving: bool,
    /// Its end has been asked for.
    pub receive_stopping: bool,
    /// It waits for a receive buffer.
    pub starved: bool,
    /// Whether its peer has ended its direction.
    pub peer: Peer,
    /// A poll for the end of its peer is armed: it has been paused with its receive stopped.
    pub watched: bool,
    /// The shutdown of our direction was asked for.
    pub write_ended: bool,
    /// The shutdown of both directions was asked for.
    pub cut: bool,
    /// Operations without a state of their own (shutdowns) in the kernel.
    pub pending_operations: u8,
    /// The send in flight was asked to stop.
    pub send_stopping: bool,
    /// It stands in the list of outboxes to flush.
    pub dirty: bool,
    /// A ping was sent because nothing came for an interval.
    pub pinged: bool,
    /// The listener it came from.
    pub listener: ListenerId,
    /// The peer's address; after an upgrade through a trusted proxy its client's.
    pub address: IpAddr,
    /// What waits for it.
    pub outbox: Outbox,
    /// Received and not yet understood, or not yet allowed.
    pub tail: Held,
    /// It is one of the process's connections, which are counted.
    pub is_counted: bool,
    /// Bytes that it keeps, as counted in the shard's sum.
    pub buffered_noted: u32,
    /// What it speaks.
    pub proto: Proto,
    /// When bytes last came (HTTP: when the present phase began), in milliseconds of the clock.
    pub last_in: u32,
    /// When bytes last went out.
    pub last_out: u32,
    /// When its present phase began: a request, the time before CONNECT, the wait of a session for
    /// an answer, the end of its peer, the closing.
    pub since: u32,
    /// When the send in flight began.
    pub send_since: u32,
}

const _: () = assert!(size_of::<Proto>() <= 40);
const _: () = assert!(size_of::<Conn>() <= 144);

impl Conn {
    fn free(generation: u32) -> Conn {
        Conn {
            generation,
            state: State::Free,
            pause: Pause::No,
            receiving: false,
            receive_stopping: false,
            starved: false,
            peer: Peer::Here,
            watched: false,
            write_ended: false,
            cut: false,
            pending_operations: 0,
            send_stopping: false,
            dirty: false,
            pinged: false,
            listener: ListenerId(0),
            address: IpAddr::from([0, 0, 0, 0]),
            outbox: Outbox::default(),
            tail: Held::default(),
            is_counted: false,
            buffered_noted: 0,
            proto: Proto::default(),
            last_in: 0,
            last_out: 0,
            since: 0,
            send_since: 0,
        }
    }

    /// Whether the kernel still holds something of it.
    pub fn is_joined(&self) -> bool {
        !self.receiving
            && !self.watched
            && !self.outbox.is_sending()
            && self.pending_operations == 0
    }

    /// A phase of it begins. After the end of its peer no new time runs.
    pub fn begin_phase(&mut self, now: u32) {
        if self.peer == Peer::Here {
            self.since = now;
        }
    }

    /// Bytes of unfinished input that it keeps.
    pub fn buffered(&self) -> usize {
        let message = match &self.proto {
            Proto::Raw(raw) => raw.message.len() + raw.backlog.len(),
            Proto::Stomp(stomp) => stomp.message.len(),
            Proto::HttpBody(request) | Proto::HttpParked(request) => request.held(),
            Proto::HttpIdle | Proto::HttpHead | Proto::HttpDone => 0,
        };
        self.tail.len() + message
    }

    /// Asserts what holds between its fields whenever a turn is over, in use or not. Slow.
    fn invariants(&self) {
        use State::{Closing, Draining, Free, Open, Terminated};
        self.outbox.invariants();
        let is_in = |states: &[State]| states.contains(&self.state);
        assert!(!self.receive_stopping || self.receiving, "only a receive is stopped");
        assert!(!self.send_stopping || self.outbox.is_sending(), "only a send is stopped");
        assert!(!self.receiving || !self.starved, "who waits for a buffer does not receive");
        assert!(self.pending_operations <= 1, "one shutdown at a time");
        assert!(
            !self.write_ended || is_in(&[Draining, Terminated, Closing]),
            "our end is a drain's"
        );
        assert!(!self.cut || is_in(&[Terminated, Closing]), "only who is terminated is cut");
        assert!(self.pause == Pause::No || !is_in(&[Free, Draining]), "who drains is read");
        assert!(is_in(&[Open]) || self.tail.is_empty(), "only who is open keeps input");
        assert!(!is_in(&[Free, Closing]) || self.is_joined(), "the kernel holds nothing of it");
        assert!(!is_in(&[Free, Closing]) || self.outbox.is_empty(), "nothing waits for it");
        assert!(!is_in(&[Terminated]) || !self.is_joined(), "it goes on when it is joined");
        if is_in(&[Open, Draining]) {
            self.is_looked_after();
        }
        if let Proto::Stomp(stomp) = &self.proto {
            let has_session = stomp.session.get().is_some();
            assert_eq!(has_session, self.state == Open, "who is open has its session");
        }
    }

    /// Something goes on with it: what comes from its peer is received, or its end is polled for;
    /// what waits for it is being sent, or stands in the list of what is to be.
    fn is_looked_after(&self) {
        let is_heard = self.receiving || self.starved || self.peer == Peer::Ended;
        let waits = self.pause != Pause::No && !self.tail.is_empty();
        let is_watched = waits && (self.watched || self.peer == Peer::HungUp);
        assert!(is_heard || is_watched, "its peer is listened to");
        let is_sent = self.outbox.is_empty() || self.outbox.is_sending() || self.dirty;
        assert!(is_sent, "what waits for it is sent");
    }

    /// How messages of its session travel; None before it has one.
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.proto {
            Proto::Raw(raw) => Some(raw.encoding),
            Proto::Stomp(stomp) => Some(stomp.encoding),
            Proto::HttpIdle
            | Proto::HttpHead
            | Proto::HttpBody(_)
            | Proto::HttpParked(_)
            | Proto::HttpDone => None,
        }
    }

    /// Whether it has a session, STOMP or raw, whose client is told why it ends. Else it is between
    /// two requests or in one.
    pub fn has_session(&self) -> bool {
        self.encoding().is_some()
    }
}

/// All connections of a shard, by descriptor slot.
#[derive(Debug)]
pub struct Conns {
    table: Vec<Conn>,
    open: u32,
    /// What the clients with context takeover said before.
    pub histories: Histories,
    /// Pings that are answered when the send in flight is over.
    pub pongs: Pongs,
    /// Users of raw sessions that have one, by slot (which the kernel chooses): the others pay
    /// nothing for it.
    pub raw_users: HashMap<Slot, Arc<str>, foldhash::fast::FixedState>,
    /// Where each is counted for its address.
    places: Vec<Place>,
}

impl Conns {
    /// None yet; the table does not move before it has so many slots.
    pub fn with_capacity(slots: u32) -> Conns {
        Conns {
            table: Vec::with_capacity(slots as usize),
            open: 0,
            raw_users: HashMap::default(),
            histories: Histories::default(),
            pongs: Pongs::default(),
            places: Vec::with_capacity(slots as usize),
        }
    }

    /// Where a connection is counted for its address.
    pub fn place(&self, slot: Slot) -> Place {
        self.places[slot.index()]
    }

    /// It is counted there.
    pub fn set_place(&mut self, slot: Slot, place: Place) {
        self.places[slot.index()] = place;
    }

    /// A connection has come in at `slot`.
    pub fn open(&mut self, slot: Slot, listener: ListenerId, peer: SocketAddr, now: u32) -> ConnId {
        while self.table.len() <= slot.index() {
            self.table.push(Conn::free(0));
            self.places.push(Place::NONE);
        }
        let conn = &mut self.table[slot.index()];
        assert_eq!(conn.state, State::Free, "the kernel gives a slot once");
        let generation = conn.generation;
        *conn = Conn::free(generation);
        conn.state = State::Open;
        conn.listener = listener;
        conn.address = peer.ip();
        (conn.last_in, conn.last_out, conn.since) = (now, now, now);
        self.open += 1;
        ConnId { slot, generation }
    }

    /// The descriptor is released: the slot may be used again.
    pub fn close(&mut self, slot: Slot) {
        let conn = &mut self.table[slot.index()];
        assert_eq!(conn.state, State::Closing);
        assert!(conn.is_joined() && conn.outbox.is_empty());
        self.places[slot.index()] = Place::NONE;
        self.histories.close(slot);
        self.raw_users.remove(&slot);
        let generation = conn.generation.wrapping_add(1);
        *conn = Conn::free(generation);
        self.open -= 1;
    }

    /// The connection of an id, if it is still the same one.
    pub fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.table.get_mut(id.slot.index())?;
        (conn.generation == id.generation && conn.state != State::Free).then_some(conn)
    }

    /// The connection at a slot in use.
    pub fn at(&self, slot: Slot) -> &Conn {
        &self.table[slot.index()]
    }

    /// The connection at a slot in use.
    pub fn at_mut(&mut self, slot: Slot) -> &mut Conn {
        &mut self.table[slot.index()]
    }

    /// The id of the connection at a slot in use.
    pub fn id(&self, slot: Slot) -> ConnId {
        ConnId { slot, generation: self.table[slot.index()].generation }
    }

    /// Count of connections.
    pub fn len(&self) -> usize {
        self.open as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Asserts what holds between the table and its connections, and within each of these, whenever
    /// a turn is over. Slow.
    pub fn invariants(&self) {
        assert_eq!(self.slots().count(), self.len(), "connections in use are counted");
        assert_eq!(self.places.len(), self.table.len(), "each slot has its place");
        for (slot, conn) in self.table.iter().enumerate() {
            conn.invariants();
            let slot = Slot(slot as u32);
            if conn.state == State::Free {
                assert!(matches!(conn.proto, Proto::HttpIdle), "a free slot speaks nothing");
                assert!(self.place(slot) == Place::NONE, "a free slot is counted for nobody");
                assert_eq!(self.pongs.bytes_of(slot), 0, "a free slot owes nothing");
            }
        }
        let is_raw = |slot: &Slot| matches!(self.at(*slot).proto, Proto::Raw(_));
        assert!(self.raw_users.keys().all(is_raw), "only raw sessions have raw users");
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let used =
            |(slot, conn): (usize, &Conn)| (conn.state != State::Free).then_some(Slot(slot as u32));
        self.table.iter().enumerate().filter_map(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_former_connection_finds_nothing() {
        let mut conns = Conns::with_capacity(1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let former = conns.open(Slot(0), ListenerId(0), peer, 0);
        assert!(conns.find(former).is_some());
        conns.at_mut(Slot(0)).state = State::Closing;
        conns.close(Slot(0));
        assert!(conns.find(former).is_none(), "the slot is free");
        let present = conns.open(Slot(0), ListenerId(0), peer, 0);
        assert!(conns.find(former).is_none() && conns.find(present).is_some());
    }

    #[test]
    fn a_little_of_much_is_taken_again_and_again() {
        let (mut held, mut model) = (Held::default(), Vec::new());
        let mut next = 0u8;
        for round in 0..2_000usize {
            let come: Vec<u8> = (0..round % 7)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            held.extend(&come);
            model.extend(come);
            if let Some(bytes) = held.take() {
                assert_eq!(bytes[..], model[..]);
                let used = (round % 5).min(bytes.len());
                held.put_back(bytes, used);
                model.drain(..used);
            }
            assert_eq!(held.is_empty(), model.is_empty());
            assert!(held.len() <= 2 * model.len(), "{} for {}", held.len(), model.len());
        }
    }
}

#![forbid(unsafe_code)]
//! Connections: their table, their times, and what the kernel is asked to do for them.
//!
//! **What it turns into what.** Decisions of the parts above (receive, send, drain, cut) into
//! operations of the ring, which the loop takes with [`Net::ops`]; completions into the state of
//! the connection.
//!
//! **What it does not know.** Sessions, requests, what the bytes mean. When a connection is drained
//! or cut is decided above; here only how many there may be ([`Net::admit`]), and who is asked to
//! leave when they become many ([`Crowd`]).
//!
//! **Closing**, in four steps. *Drain*: what is queued is still sent, then our direction ends.
//! *Terminate*: the socket is shut down, so that whatever the kernel holds comes back. *Close*:
//! when nothing is in the kernel any more the descriptor is released. *Closed*: the slot's
//! generation goes up.
//!
//! **Bounds.** One connection a slot; of each at most one receive, one send, one poll and one
//! shutdown in the kernel.

mod accepts;
mod address;
mod conn;
mod crowd;
mod flight;
mod held;
mod input;
mod moves;
#[cfg(test)]
mod spoiled;
mod transports;
mod view;

pub use accepts::Accepts;
pub use conn::{CONN_BYTES, Client, Peer, Sending, State, Times};
pub use crowd::Crowd;
pub use held::{Held, Kept};
pub use input::{INPUT_BYTES, Input};
pub use moves::Moves;
pub use transports::Transports;
pub use view::View;

use super::context::Context;
use crate::ids::{ConnId, EndpointIndex, LinkIndex, ListenerId, Range, Slot};
use crate::mem::shares::Place;
use crate::mem::wheel::Wheel;
use crate::ring::{Op, RecvEnd};
use crate::time::{Instant, Millis};
use conn::{Conn, Receive};
use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

/// A send that has not ended for so long stands still. Before that the kernel is given the time to
/// take what it was given.
pub const PATIENCE: Millis = Millis(250);

/// All connections of a shard, by descriptor slot.
#[derive(Debug)]
pub struct Net {
    conns: Vec<Conn>,
    /// Where each is counted for its address.
    places: Vec<Place>,
    open: u32,
    /// What the ring is to do, in order.
    ops: Vec<Op>,
    starved: VecDeque<ConnId>,
    /// One for all links: an entry has a link's index, which for that of a connection is its slot's
    /// number. A second one would have to be asked each turn, too.
    wheel: Wheel,
    /// The layers of those that are sealed.
    transports: Transports,
    /// From this index on links have no connection of their own.
    slots: u32,
    /// The clients of those.
    clients: Vec<Client>,
}

impl Net {
    /// None yet; the tables do not move while there are at most `slots`.
    pub fn new(slots: u32, now: Instant, transports: Transports) -> Net {
        Net {
            transports,
            conns: Vec::with_capacity(slots as usize),
            places: Vec::with_capacity(slots as usize),
            open: 0,
            ops: Vec::new(),
            starved: VecDeque::new(),
            wheel: Wheel::new(now.millis(), slots as usize),
            slots,
            clients: Vec::new(),
        }
    }

    /// A connection has come in at `slot`.
    pub fn accept(&mut self, slot: Slot, listener: ListenerId, peer: SocketAddr, ms: u32) {
        while self.conns.len() <= slot.index() {
            self.conns.push(Conn::free(0));
            self.places.push(Place::NONE);
        }
        let conn = self.at_mut(slot);
        assert_eq!(conn.state, State::Free, "the kernel gives a slot once");
        *conn = Conn::free(conn.generation);
        conn.state = State::Open;
        conn.listener = listener;
        conn.address = peer.ip();
        conn.times = Times { last_in: ms, last_out: ms, since: ms, send_since: 0 };
        self.open += 1;
        self.transports.accept(slot, listener);
    }

    /// The layers of sealed connections.
    #[inline]
    pub fn transports(&self) -> &Transports {
        &self.transports
    }

    /// The same, to open and to seal.
    #[inline]
    pub fn transports_mut(&mut self) -> &mut Transports {
        &mut self.transports
    }

    /// What the ring is to do since the last call, in order.
    pub fn ops(&mut self) -> impl Iterator<Item = Op> {
        self.ops.drain(..)
    }

    fn at(&self, slot: Slot) -> &Conn {
        &self.conns[slot.index()]
    }

    fn at_mut(&mut self, slot: Slot) -> &mut Conn {
        &mut self.conns[slot.index()]
    }

    /// Whether the connection of an id is still the one at its slot.
    pub fn is_current(&self, id: ConnId) -> bool {
        let conn = self.conns.get(id.slot.index());
        conn.is_some_and(|c| c.generation == id.generation && c.state != State::Free)
    }

    /// The id of the connection at a slot in use.
    pub fn id(&self, slot: Slot) -> ConnId {
        ConnId { slot, generation: self.at(slot).generation }
    }

    /// Count of connections.
    pub fn len(&self) -> usize {
        self.open as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let used =
            |(slot, conn): (usize, &Conn)| (conn.state != State::Free).then_some(Slot(slot as u32));
        self.conns.iter().enumerate().filter_map(used)
    }

    /// Where a connection is in its life.
    pub fn state(&self, slot: Slot) -> State {
        self.at(slot).state
    }

    /// Whether its peer has ended its direction.
    pub fn peer(&self, slot: Slot) -> Peer {
        self.at(slot).peer
    }

    /// The address that it is counted for and known by.
    pub fn address(&self, slot: Slot) -> IpAddr {
        self.at(slot).address
    }

    /// The listener that it came from.
    pub fn listener(&self, slot: Slot) -> ListenerId {
        self.at(slot).listener
    }

    /// It is upgraded at this endpoint.
    pub fn set_endpoint(&mut self, slot: Slot, endpoint: EndpointIndex) {
        self.at_mut(slot).endpoint = endpoint;
    }

    // ---- receiving

    /// Bytes of a connection have come in; the receive goes on or not.
    pub fn received(&mut self, slot: Slot, more: bool) {
        let conn = self.at_mut(slot);
        if !more {
            conn.receive = Receive::Off;
        }
    }

    /// The receive of a connection has ended.
    pub fn receive_ended(&mut self, id: ConnId, end: RecvEnd) {
        let conn = self.at_mut(id.slot);
        conn.receive = Receive::Off;
        match end {
            RecvEnd::Starved => {
                conn.receive = Receive::Starved;
                self.starved.push_back(id);
            }
            RecvEnd::Failed(_) => conn.peer = Peer::Ended,
            RecvEnd::Stopped | RecvEnd::Eof => {}
        }
    }

    /// Arms the receive where one is wanted and none is armed. Paused with bytes that wait
    /// (`waits`) none is, so the end of the peer is polled for. The poll stays when the connection
    /// is read again: it costs nothing until it is wanted again.
    pub fn receive_more(&mut self, slot: Slot, waits: bool) {
        let conn = &mut self.conns[slot.index()];
        let may_read = conn.is_live() && conn.peer != Peer::Ended && conn.receive == Receive::Off;
        if !may_read {
            return;
        }
        let id = ConnId { slot, generation: conn.generation };
        if !waits {
            conn.receive = Receive::On;
            self.ops.push(Op::Recv { conn: id });
        } else if !conn.watched && conn.peer == Peer::Here {
            conn.watched = true;
            self.ops.push(Op::Poll { conn: id });
        }
    }

    /// A paused connection shall not drain the shared buffers.
    pub fn stop_receiving(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot.index()];
        if conn.receive == Receive::On {
            conn.receive = Receive::Stopping;
            let id = ConnId { slot, generation: conn.generation };
            self.ops.push(Op::RecvStop { conn: id });
        }
    }

    /// Sockets that found no buffer may be tried again: buffers have been given back.
    pub fn take_starved(&mut self) -> Option<Slot> {
        while let Some(id) = self.starved.pop_front() {
            if self.is_current(id) && self.at(id.slot).receive == Receive::Starved {
                self.at_mut(id.slot).receive = Receive::Off;
                return Some(id.slot);
            }
        }
        None
    }

    /// Bytes of a connection have been read: its client lives. `is_life`: it counts as a sign of
    /// life beyond that.
    pub fn heard(&mut self, slot: Slot, ms: u32, is_life: bool) {
        let conn = self.at_mut(slot);
        conn.pinged = false;
        if is_life {
            conn.times.last_in = ms;
        }
    }

    /// The end of the peer's direction is known. True if that is news.
    pub fn hang_up(&mut self, slot: Slot, peer: Peer) -> bool {
        let conn = self.at_mut(slot);
        let is_news = conn.peer == Peer::Here;
        conn.peer = peer;
        is_news
    }

    /// The poll for the end of a peer is over.
    pub fn poll_ended(&mut self, slot: Slot) {
        self.at_mut(slot).watched = false;
    }

    // ---- sending

    /// Begins a send; `ms` is now. At millisecond `due` of the clock its link is looked at.
    pub fn send(&mut self, slot: Slot, range: Range, ms: u32, due: u64) {
        let conn = &mut self.conns[slot.index()];
        assert!(conn.sending == Sending::No, "one send a socket");
        conn.sending = Sending::Yes;
        (conn.times.last_out, conn.times.send_since) = (ms, ms);
        let id = ConnId { slot, generation: conn.generation };
        self.ops.push(Op::Send { conn: id, range });
        self.wheel.set(slot.0, due);
    }

    /// Begins a send of bytes that nobody took: their age goes on.
    pub fn send_again(&mut self, slot: Slot, range: Range) {
        self.at_mut(slot).sending = Sending::Yes;
        let id = self.id(slot);
        self.ops.push(Op::Send { conn: id, range });
    }

    /// The send in flight is over. True if it was asked to stop.
    pub fn sent(&mut self, slot: Slot, taken: u32, ms: u32) -> bool {
        let conn = self.at_mut(slot);
        let was_stopping = conn.sending == Sending::Stopping;
        conn.sending = Sending::No;
        if taken > 0 {
            conn.times.last_out = ms;
        }
        was_stopping
    }

    /// Asks the send in flight to stop.
    pub fn stop_sending(&mut self, slot: Slot) {
        let conn = self.at_mut(slot);
        if conn.sending == Sending::Yes {
            conn.sending = Sending::Stopping;
            let id = self.id(slot);
            self.ops.push(Op::SendCancel { conn: id });
        }
    }

    /// Whether a send is in flight.
    #[inline]
    pub fn sending(&self, slot: Slot) -> Sending {
        self.at(slot).sending
    }

    /// Milliseconds since the send in flight began.
    pub fn send_age(&self, slot: Slot, ms: u32) -> u32 {
        ms.wrapping_sub(self.at(slot).times.send_since)
    }

    /// Whether the send in flight has stood still for some time.
    pub fn has_stood_still(&self, slot: Slot, ms: u32) -> bool {
        self.at(slot).sending == Sending::Yes && self.send_age(slot, ms) >= PATIENCE.0
    }

    // ---- closing

    /// Its last bytes are queued: nothing more of it is read as input.
    pub fn drain(&mut self, slot: Slot, ms: u32) {
        let conn = self.at_mut(slot);
        conn.go(&[State::Open], State::Draining);
        conn.times.since = ms;
    }

    /// A draining connection has sent all that it had: our direction ends.
    pub fn end_writing(&mut self, slot: Slot) {
        let id = self.id(slot);
        let conn = self.at_mut(slot);
        assert_eq!(conn.state, State::Draining, "only who drains ends so");
        if !conn.write_ended {
            conn.write_ended = true;
            conn.pending_operations += 1;
            self.ops.push(Op::ShutdownWrite { conn: id });
        }
    }

    /// Cuts a connection: whatever the kernel holds of it comes back.
    pub fn terminate(&mut self, slot: Slot) {
        let id = self.id(slot);
        let conn = self.at_mut(slot);
        conn.go(&[State::Open, State::Draining], State::Terminated);
        if conn.watched {
            self.ops.push(Op::PollStop { conn: id });
        }
        self.shut_socket(slot);
    }

    /// Shuts a terminated connection down if the kernel holds anything of it. One shutdown at a
    /// time: if that of our direction is still in flight, its end comes back here.
    fn shut_socket(&mut self, slot: Slot) {
        let id = self.id(slot);
        let conn = self.at_mut(slot);
        let is_held = conn.is_receiving() || conn.sending != Sending::No;
        if is_held && !conn.cut && conn.pending_operations == 0 {
            conn.cut = true;
            conn.pending_operations += 1;
            self.ops.push(Op::Shutdown { conn: id });
        }
    }

    /// A shutdown is done.
    pub fn shut_down(&mut self, slot: Slot) {
        let conn = self.at_mut(slot);
        conn.pending_operations -= 1;
        if conn.state == State::Terminated {
            self.shut_socket(slot);
        }
    }

    /// Whether nothing of a terminated connection is in the kernel any more.
    pub fn may_close(&self, slot: Slot) -> bool {
        let conn = self.at(slot);
        conn.state == State::Terminated && conn.is_joined()
    }

    /// Releases the descriptor.
    pub fn close(&mut self, slot: Slot) {
        let id = self.id(slot);
        let conn = self.at_mut(slot);
        assert!(conn.is_joined(), "the kernel holds nothing of it");
        conn.go(&[State::Terminated], State::Closing);
        self.ops.push(Op::Close { conn: id });
    }

    /// The descriptor has left the table: the slot may be used again.
    pub fn closed(&mut self, slot: Slot) {
        self.wheel.cancel(slot.0);
        self.places[slot.index()] = Place::NONE;
        self.transports.closed(slot);
        let conn = self.at_mut(slot);
        conn.go(&[State::Closing, State::Releasing], State::Free);
        *conn = Conn::free(conn.generation.wrapping_add(1));
        self.open -= 1;
    }

    // ---- times

    /// A phase of it begins. After the end of its peer no new time runs.
    pub fn begin_phase(&mut self, link: impl Into<LinkIndex>, ms: u32) {
        let link = link.into();
        let conn = self.conns.get(link.index());
        if link.0 >= self.slots || conn.is_some_and(|conn| conn.peer == Peer::Here) {
            self.times_mut(link).since = ms;
        }
    }

    /// When what happened last to the client of a link.
    pub fn times(&self, link: impl Into<LinkIndex>) -> Times {
        let link = link.into();
        match link.0.checked_sub(self.slots) {
            Some(at) => self.clients[at as usize].times,
            None => self.conns[link.index()].times,
        }
    }

    /// The same, to be changed.
    pub fn times_mut(&mut self, link: impl Into<LinkIndex>) -> &mut Times {
        let link = link.into();
        match link.0.checked_sub(self.slots) {
            Some(at) => &mut self.clients[at as usize].times,
            None => &mut self.conns[link.index()].times,
        }
    }

    /// Whether a ping was sent because nothing came for an interval.
    pub fn is_pinged(&self, slot: Slot) -> bool {
        self.at(slot).pinged
    }

    /// A ping is sent because nothing came for an interval.
    pub fn set_pinged(&mut self, slot: Slot) {
        self.at_mut(slot).pinged = true;
    }

    /// A link is looked at in `left` milliseconds, or earlier if that was set before.
    pub fn set_timer(&mut self, link: impl Into<LinkIndex>, now: Instant, left: u32) {
        self.wheel.set(link.into().0, now.millis() + u64::from(left));
    }

    /// Time has come this far. True if a link is to be looked at.
    #[inline]
    pub fn advance(&mut self, now: Instant) -> bool {
        self.wheel.advance(now.millis())
    }

    /// The next link that is to be looked at.
    pub fn next_timer(&mut self) -> Option<LinkIndex> {
        self.wheel.pop().map(LinkIndex)
    }

    /// When the next one is.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline_millis().map(|ms| Instant(ms * 1_000_000))
    }

    // ---- looking

    /// Whether a slot was ever in use.
    pub fn knows(&self, slot: Slot) -> bool {
        slot.index() < self.conns.len()
    }

    /// Connections of which a poll for the end of the peer is armed.
    pub fn watched(&self) -> usize {
        self.conns.iter().filter(|conn| conn.watched).count()
    }

    /// Asserts what holds between the table and its connections, and within each of these, whenever
    /// a turn is over; `waits` says which are paused with bytes that wait. Slow.
    pub fn invariants(&self, waits: impl Fn(Slot) -> bool) {
        assert_eq!(self.slots().count(), self.len(), "connections in use are counted");
        assert_eq!(self.places.len(), self.conns.len(), "each slot has its place");
        for (slot, conn) in self.conns.iter().enumerate() {
            conn.invariants();
            let is_sending = conn.sending != Sending::No;
            self.transports.invariants(Slot(slot as u32), is_sending);
            if conn.state == State::Free {
                assert!(self.places[slot] == Place::NONE, "a free slot is counted for nobody");
            } else {
                conn.assert_listened_to(waits(Slot(slot as u32)));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_former_connection_finds_nothing() {
        let mut net = Net::new(1, Instant(0), Transports::new(Vec::new()));
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let slot = Slot(0);
        net.accept(slot, ListenerId(0), peer, 0);
        let former = net.id(slot);
        assert!(net.is_current(former));
        net.terminate(slot);
        assert!(net.may_close(slot));
        net.close(slot);
        net.closed(slot);
        assert!(!net.is_current(former), "the slot is free");
        net.accept(slot, ListenerId(0), peer, 0);
        assert!(!net.is_current(former) && net.is_current(net.id(slot)));
    }
}

#![forbid(unsafe_code)]
//! Entries between threads: bounded lock-free queues, one of each class for each pair of peers.
//!
//! **Classes.** There are four, in an order; `broker::core` says which, what handling an entry of
//! each may produce, and why nobody can wait in a circle. Each class has its own type and its own
//! queues, so an entry cannot lie in a queue of another class: [`Callback`] in `Dedupe`, [`ToHome`]
//! in `Home`, [`ToControl`] in `Outside`, [`ToShard`] in `Event`.
//!
//! **Waking.** A peer that is about to wait sets its flag and looks at its queues once more;
//! whoever writes to it afterwards sees the flag and rings, once.
//!
//! **Order of calls.** Per turn: `take` from the queues, `room` before `send`, `doorbells` at the
//! end, `may_sleep` before waiting and `awake` after it.
//!
//! **Bounds.** `mailbox` entries a queue; of callbacks one for each [`MAILBOX_CALLBACKS`] of them.

use crate::broker::command::{Callback, Command, Event, ReplyTo};
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::ids::{ConnId, PeerId, SessionId, ShardId};
use crate::limits::{HOMES_MAX, MAILBOX_CALLBACKS};
use crate::mem::shares::Place;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::events;
use super::shared::Shared;
use super::sleeping::Sleeping;

/// What an API query wants to know, or to happen; every shard answers for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Users whose home a shard is, as JSON items.
    Users,
    /// Sessions of a user on a shard, as JSON items.
    Sessions(Arc<str>),
    /// End all sessions of a user on a shard.
    KickUser(Arc<str>),
    /// End one session.
    KickSession(SessionId),
}

/// To the homes of a shard, and to the shard as the one that knows its sessions. Class `Home`.
#[derive(Clone, Debug)]
pub enum ToHome {
    /// For its homes.
    Command(Command),
    /// An API query, at every shard.
    Query {
        /// What is asked.
        query: Query,
        /// Who asks.
        shard: ShardId,
        /// Its parked request.
        conn: ConnId,
    },
}

/// To the control thread. Class `Outside`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum ToControl {
    /// Ask an application's hook. The control thread gives the place back when the call is over.
    Hook {
        message: Arc<Message>,
        user: Option<Arc<str>>,
        session: SessionId,
        reply_to: ReplyTo,
        place: Place,
    },
    /// Something for the log.
    Log(events::Event),
}

/// To a shard, which takes it whatever else is full. Class `Event`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum ToShard {
    /// What a home says, or the control thread in its stead.
    Event(Event),
    /// Answer to a query: JSON items, their count, and whether some are left out.
    Answer { conn: ConnId, items: Arc<str>, count: u32, cut: bool },
    /// A new configuration.
    Reload(Arc<Shared>),
    /// End all sessions, then the shard.
    Drain,
}

/// Half of what one place in all queues from one shard to another takes.
pub const ENTRY_BYTES: usize = (size_of::<ToHome>()
    + size_of::<ToShard>()
    + size_of::<Callback>() / MAILBOX_CALLBACKS as usize)
    .div_ceil(2);

const _: () = assert!(ENTRY_BYTES <= 52 && size_of::<ToControl>() <= 64);

/// The writers' ends of the queues from one peer to another.
#[derive(Debug)]
pub struct Writers {
    dedupe: Producer<Callback>,
    home: Producer<ToHome>,
    outside: Producer<ToControl>,
    event: Producer<ToShard>,
}

/// The readers' ends of the queues from one peer to another.
#[derive(Debug)]
pub struct Readers {
    dedupe: Consumer<Callback>,
    home: Consumer<ToHome>,
    outside: Consumer<ToControl>,
    event: Consumer<ToShard>,
}

/// An entry: the type of one class.
pub trait Entry: Sized {
    /// Its class.
    const CLASS: Class;
    /// The queue of its class.
    fn writer(writers: &mut Writers) -> &mut Producer<Self>;
    /// The queue of its class.
    fn reader(readers: &mut Readers) -> &mut Consumer<Self>;
}

macro_rules! entries {
    ($($entry:ty: $class:ident $queue:ident;)*) => {$(
        impl Entry for $entry {
            const CLASS: Class = Class::$class;
            fn writer(writers: &mut Writers) -> &mut Producer<Self> {
                &mut writers.$queue
            }
            fn reader(readers: &mut Readers) -> &mut Consumer<Self> {
                &mut readers.$queue
            }
        }
    )*};
}

entries! {
    Callback: Dedupe dedupe;
    ToHome: Home home;
    ToControl: Outside outside;
    ToShard: Event event;
}

impl Writers {
    fn room(&self, class: Class) -> usize {
        match class {
            Class::Dedupe => self.dedupe.slots(),
            Class::Home => self.home.slots(),
            Class::Outside => self.outside.slots(),
            Class::Event => self.event.slots(),
        }
    }
}

impl Readers {
    fn is_empty(&self) -> bool {
        self.dedupe.is_empty()
            && self.home.is_empty()
            && self.outside.is_empty()
            && self.event.is_empty()
    }
}

/// One peer's end of all its queues.
#[derive(Debug)]
pub struct Mailbox {
    me: PeerId,
    outgoing: Vec<Writers>,
    incoming: Vec<Readers>,
    sleeping: Arc<[Sleeping]>,
    finished: Arc<[AtomicBool]>,
    /// Peers that were written to since they were rung last.
    written: u64,
    /// Entries that were sent to others.
    sent: u64,
}

/// The ends of `peers` peers, each connected to each, itself included. The last one is the control
/// thread: it has no homes, and nobody else is asked for what is outside.
pub fn connect(peers: usize, entries: u32) -> Vec<Mailbox> {
    assert!((2..=HOMES_MAX).contains(&peers), "a shard at least, and the control thread");
    let sleeping: Arc<[Sleeping]> = (0..peers).map(|_| Sleeping::default()).collect();
    let finished: Arc<[AtomicBool]> = (0..peers).map(|_| AtomicBool::new(false)).collect();
    let mut mailboxes: Vec<Mailbox> = (0..peers)
        .map(|me| Mailbox {
            me: PeerId(me as u8),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            sleeping: sleeping.clone(),
            finished: finished.clone(),
            written: 0,
            sent: 0,
        })
        .collect();
    let control = peers - 1;
    for from in 0..peers {
        for to in 0..peers {
            let (writers, readers) = queues(entries as usize, from != control, to != control);
            mailboxes[from].outgoing.push(writers);
            mailboxes[to].incoming.push(readers);
        }
    }
    mailboxes
}

/// The queues between two peers, of which each is a shard or the control thread. Those that nothing
/// is sent through have no room.
fn queues(entries: usize, from_shard: bool, to_shard: bool) -> (Writers, Readers) {
    let of = |exists: bool, entries: usize| if exists { entries } else { 0 };
    let callbacks = entries.div_ceil(MAILBOX_CALLBACKS as usize).max(entries.min(2));
    let (dedupe, dedupe_out) = RingBuffer::new(of(from_shard && to_shard, callbacks));
    let (home, home_out) = RingBuffer::new(of(to_shard, entries));
    let (outside, outside_out) = RingBuffer::new(of(from_shard && !to_shard, entries));
    let (event, event_out) = RingBuffer::new(of(to_shard, entries));
    let readers =
        Readers { dedupe: dedupe_out, home: home_out, outside: outside_out, event: event_out };
    (Writers { dedupe, home, outside, event }, readers)
}

impl Mailbox {
    /// Free entries of a class towards a peer.
    pub fn room(&self, to: PeerId, class: Class) -> usize {
        self.outgoing[to.index()].room(class)
    }

    /// The smallest room of a class towards a shard.
    pub fn room_everywhere(&self, class: Class) -> usize {
        let shards = &self.outgoing[..self.outgoing.len() - 1];
        shards.iter().map(|writers| writers.room(class)).min().unwrap_or(0)
    }

    /// Writes an entry. The caller has asked for room.
    pub fn send<E: Entry>(&mut self, to: PeerId, entry: E) {
        let queue = E::writer(&mut self.outgoing[to.index()]);
        assert!(queue.push(entry).is_ok(), "the caller asked for room first");
        if to != self.me {
            self.written |= 1 << to.index();
            self.sent += 1;
        }
    }

    /// The next entry of a class from a peer.
    pub fn take<E: Entry>(&mut self, from: PeerId) -> Option<E> {
        E::reader(&mut self.incoming[from.index()]).pop().ok()
    }

    /// Entries that were sent to other peers so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Count of peers, this one included.
    pub fn peers(&self) -> usize {
        self.incoming.len()
    }

    /// Peers to ring now: written to since the last call, and waiting.
    pub fn doorbells(&mut self) -> impl Iterator<Item = PeerId> + use<> {
        let mut left = core::mem::take(&mut self.written);
        let sleeping = self.sleeping.clone();
        core::iter::from_fn(move || {
            while left != 0 {
                let peer = left.trailing_zeros() as usize;
                left &= left - 1;
                if sleeping[peer].must_ring() {
                    return Some(PeerId(peer as u8));
                }
            }
            None
        })
    }

    /// This peer has nothing left to do but to answer others.
    pub fn finish(&self) {
        self.finished[self.me.index()].store(true, Ordering::Release);
    }

    /// Whether the first `count` peers have finished.
    pub fn all_finished(&self, count: usize) -> bool {
        self.finished[..count].iter().all(|finished| finished.load(Ordering::Acquire))
    }

    /// Sets the flag and looks once more: true if there is nothing to do and waiting is safe.
    pub fn may_sleep(&mut self) -> bool {
        let empty = || self.incoming.iter().all(Readers::is_empty);
        self.sleeping[self.me.index()].may_sleep(empty)
    }

    /// The wait is over.
    pub fn awake(&mut self) {
        self.sleeping[self.me.index()].clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionIndex;

    fn ended(key: u32) -> ToShard {
        let session = SessionId::new(ShardId(0), SessionIndex(0), 0);
        ToShard::Event(Event::Ended { session, key })
    }

    #[test]
    fn queues_are_bounded_and_independent_and_a_sleeper_is_rung_once() {
        let mut mailboxes = connect(4, 2);
        assert!(mailboxes[2].may_sleep());
        mailboxes[0].send(PeerId(2), ended(1));
        mailboxes[0].send(PeerId(2), ended(2));
        assert_eq!(mailboxes[0].room(PeerId(2), Class::Event), 0);
        assert_eq!(mailboxes[0].room(PeerId(2), Class::Home), 2);
        assert_eq!(mailboxes[0].room_everywhere(Class::Event), 0);
        assert_eq!(mailboxes[0].doorbells().collect::<Vec<_>>(), vec![PeerId(2)]);
        mailboxes[1].send(PeerId(2), ended(3));
        assert_eq!(mailboxes[1].doorbells().count(), 0, "it was rung already");
        assert!(!mailboxes[2].may_sleep());
        assert!(matches!(
            mailboxes[2].take::<ToShard>(PeerId(0)),
            Some(ToShard::Event(Event::Ended { key: 1, .. }))
        ));
        assert!(mailboxes[2].take::<ToHome>(PeerId(0)).is_none());
    }

    #[test]
    fn the_control_thread_is_asked_and_says_and_is_no_home() {
        let mailboxes = connect(3, 8);
        let rooms =
            |from: usize, to: u8| Class::ALL.map(|class| mailboxes[from].room(PeerId(to), class));
        assert_eq!(rooms(0, 1), [2, 8, 0, 8]);
        assert_eq!(rooms(0, 2), [0, 0, 8, 0]);
        assert_eq!(rooms(2, 1), [0, 8, 0, 8]);
        assert_eq!(rooms(2, 2), [0; 4]);
    }
}

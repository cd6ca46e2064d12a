#![forbid(unsafe_code)]
//! Entries between threads: bounded lock-free queues, one of each class for each pair of peers.
//!
//! **Classes.** There are four, in an order; `broker::core` says which, what handling an entry of
//! each may produce, and why nobody can wait in a circle. Each class has its own type and its own
//! queues, so an entry cannot lie in a queue of another class: [`Callback`] in `Dedupe`, [`ToHome`]
//! in `Home`, [`ToControl`] in `Outside`, [`ToShard`] in `Event`.
//!
//! **Mail.** Who writes to a queue sets its bit in the mask of that class, and a turn looks at
//! those queues only. What a peer sends to itself is noted in a plain word.
//!
//! **Waking.** A peer that is about to wait sets its flag and looks at its masks once more; a
//! peer that writes to it afterwards sees the flag and rings, once.
//!
//! **Order of calls.** Per turn: `take` from the queues that `with_mail` names, `room` before
//! `send`, `doorbells` at the end, `may_sleep` before waiting and `awake` after it.
//!
//! **Bounds.** `mailbox` entries a queue; of callbacks one for each [`MAILBOX_CALLBACKS`] of them.

use crate::broker::command::{Callback, Command, Event, ReplyTo};
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::ids::{ConnId, PeerId, SessionId, ShardId};
use crate::limits::{HOMES_MAX, MAILBOX_CALLBACKS};
use crate::mem::shares::Place;
use core::fmt;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;

use super::ending::Ending;
use super::mask::Mask;
use super::sleeping::Sleeping;
use crate::engine::events;
use crate::engine::moved::Moved;
use crate::engine::shared::Shared;

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
#[derive(Debug)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum ToShard {
    /// What a home says, or the control thread in its stead.
    Event(Event),
    /// Answer to a query: JSON items, their count, and whether some are left out.
    Answer { conn: ConnId, items: Arc<str>, count: u32, cut: bool },
    /// A connection that goes on there.
    Moved(Box<Moved>),
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
    fn is_empty(&self, class: Class) -> bool {
        match class {
            Class::Dedupe => self.dedupe.is_empty(),
            Class::Home => self.home.is_empty(),
            Class::Outside => self.outside.is_empty(),
            Class::Event => self.event.is_empty(),
        }
    }
}

/// The masks of one owner: a class each, in a line of memory of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Masks([Mask; Class::ALL.len()]);

impl Masks {
    /// Who has written since the owner has taken, in whatever class.
    fn look(&self) -> u64 {
        self.0.iter().fold(0, |all, mask| all | mask.look())
    }
}

/// One peer's end of all its queues.
#[derive(Debug)]
pub struct Mailbox {
    me: PeerId,
    outgoing: Vec<Writers>,
    incoming: Vec<Readers>,
    masks: Arc<[Masks]>,
    /// Of each class, writers that have mail as far as is known; bits stay until their queue was
    /// found empty.
    ready: [u64; Class::ALL.len()],
    /// Of each class, the writer that is looked at first.
    first: [u8; Class::ALL.len()],
    /// Classes whose mail found no room for what it produces, one bit each.
    stuck: u8,
    sleeping: Arc<[Sleeping]>,
    endings: Arc<[Ending]>,
    /// Whether this shard has told others of its ending.
    has_told: bool,
    /// Peers that were written to since they were rung last.
    written: u64,
    /// Entries that were sent to others.
    sent: u64,
    /// Those of them that were sent to the control thread.
    sent_outside: u64,
    /// Entries of other shards that were taken.
    taken: u64,
}

/// The ends of `peers` peers, each connected to each, itself included. The last one is the control
/// thread: it has no homes, and nobody else is asked for what is outside.
pub fn connect(peers: usize, entries: u32) -> Vec<Mailbox> {
    assert!((2..=HOMES_MAX).contains(&peers), "a shard at least, and the control thread");
    let sleeping: Arc<[Sleeping]> = (0..peers).map(|_| Sleeping::default()).collect();
    let masks: Arc<[Masks]> = (0..peers).map(|_| Masks::default()).collect();
    let endings: Arc<[Ending]> = (0..peers - 1).map(|_| Ending::default()).collect();
    let mut mailboxes: Vec<Mailbox> = (0..peers)
        .map(|me| Mailbox {
            me: PeerId(me as u8),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            masks: masks.clone(),
            ready: [0; Class::ALL.len()],
            first: [0; Class::ALL.len()],
            stuck: 0,
            sleeping: sleeping.clone(),
            endings: endings.clone(),
            has_told: false,
            written: 0,
            sent: 0,
            sent_outside: 0,
            taken: 0,
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
        let is_own = to == self.me;
        if !is_own {
            self.sent += 1;
            self.sent_outside += u64::from(!self.is_shard(to));
            if self.has_told {
                self.endings[self.me.index()].sends(self.sent - self.sent_outside);
            }
        }
        let queue = E::writer(&mut self.outgoing[to.index()]);
        assert!(queue.push(entry).is_ok(), "the caller asked for room first");
        if is_own {
            self.ready[E::CLASS as usize] |= 1 << to.index();
        } else {
            self.masks[to.index()].0[E::CLASS as usize].set(self.me.index());
            self.written |= 1 << to.index();
        }
    }

    /// Whether any queue may hold an entry, as far as masks say: most turns need not go through the
    /// classes.
    pub fn may_have_mail(&self) -> bool {
        let known = self.ready.iter().fold(0, |all, ready| all | ready);
        known | self.masks[self.me.index()].look() != 0
    }

    /// Peers with mail of a class, in the order in which they are to be looked at.
    pub fn with_mail(&mut self, class: Class) -> impl Iterator<Item = PeerId> + use<> {
        let first = self.first[class as usize];
        self.stuck &= !(1 << class as u8);
        let ready = self.ready(class).rotate_right(first.into());
        bits(ready).map(move |bit| PeerId((bit as u8 + first) % u64::BITS as u8))
    }

    /// There was no room for what the entries of this peer produce. It is looked at first the next
    /// time, so that those before it do not use up all the room for ever. Until then the mail of
    /// its class is no reason to be awake.
    pub fn found_no_room(&mut self, peer: PeerId, class: Class) {
        self.first[class as usize] = peer.0;
        self.stuck |= 1 << class as u8;
    }

    /// Whether mail waits for room. Nobody rings when there is some.
    pub fn is_stuck(&self) -> bool {
        self.stuck != 0
    }

    /// Peers with mail of a class, one bit each.
    fn ready(&mut self, class: Class) -> u64 {
        let ready = &mut self.ready[class as usize];
        *ready |= self.masks[self.me.index()].0[class as usize].take();
        *ready
    }

    /// The next entry of a class from a peer.
    pub fn take<E: Entry>(&mut self, from: PeerId) -> Option<E> {
        let entry = E::reader(&mut self.incoming[from.index()]).pop().ok();
        match entry {
            Some(_) => self.taken += u64::from(from != self.me && self.is_shard(from)),
            None => self.ready[E::CLASS as usize] &= !(1 << from.index()),
        }
        entry
    }

    /// A peer's entries of a class that are not taken yet, oldest first, as `Debug` shows them.
    pub fn waiting<E: Entry + fmt::Debug>(&mut self, from: PeerId) -> Vec<String> {
        let queue = E::reader(&mut self.incoming[from.index()]);
        // A chunk that is not committed takes nothing.
        let chunk = queue.read_chunk(queue.slots()).expect("there are that many");
        let (first, rest) = chunk.as_slices();
        first.iter().chain(rest).map(|entry| format!("{entry:?}")).collect()
    }

    /// Whether a peer is not the control thread.
    fn is_shard(&self, peer: PeerId) -> bool {
        peer.index() < self.endings.len()
    }

    /// Whether any queue holds an entry that has not been found to wait for room.
    fn has_mail(&mut self) -> bool {
        for class in Class::ALL {
            let ready = self.ready(class);
            if self.stuck & 1 << class as u8 != 0 {
                continue;
            }
            for from in bits(ready) {
                if !self.incoming[from].is_empty(class) {
                    return true;
                }
                self.ready[class as usize] &= !(1 << from);
            }
        }
        false
    }

    /// Entries that were sent to other peers so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether others were written to since they were rung last.
    #[inline]
    pub fn has_written(&self) -> bool {
        self.written != 0
    }

    /// Peers to ring now: written to since the last call, and waiting.
    pub fn doorbells(&mut self) -> impl Iterator<Item = PeerId> + use<> {
        let written = self.written;
        self.written = 0;
        let sleeping = (written != 0).then(|| self.sleeping.clone());
        let must_ring =
            move |peer: &usize| sleeping.as_ref().is_some_and(|all| all[*peer].must_ring());
        bits(written).filter(must_ring).map(|peer| PeerId(peer as u8))
    }

    /// This shard drains, and has nothing left to do but to answer others, or has. True when that
    /// is so of all shards, and nothing is in flight between them.
    pub fn all_are_over(&mut self, is_idle: bool) -> bool {
        let is_idle = is_idle && !self.has_mail();
        let sent = self.sent - self.sent_outside;
        self.has_told = true;
        self.endings[self.me.index()].tell(is_idle, self.taken, sent);
        Ending::all_are_over(&self.endings)
    }

    /// If there is nothing to do, sets the flag and looks once more: true if waiting is safe.
    pub fn may_sleep(&mut self) -> bool {
        if self.may_have_mail() && self.has_mail() {
            return false;
        }
        let me = self.me.index();
        let masks = &self.masks[me];
        self.sleeping[me].may_sleep(|| masks.look() == 0)
    }

    /// The wait is over.
    pub fn awake(&mut self) {
        self.sleeping[self.me.index()].clear();
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
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
    fn only_queues_with_mail_are_named_until_they_are_found_empty() {
        let mut mailboxes = connect(4, 4);
        for from in [0, 1, 1] {
            mailboxes[from].send(PeerId(2), ended(1));
        }
        mailboxes[2].send(PeerId(2), ended(1));
        assert_eq!(mailboxes[2].ready(Class::Home), 0);
        assert_eq!(mailboxes[2].ready(Class::Event), 0b111);
        for (from, count) in [(0, 1), (1, 2), (2, 1)] {
            let taken = (0..9).map_while(|_| mailboxes[2].take::<ToShard>(PeerId(from)));
            assert_eq!(taken.count(), count);
        }
        assert_eq!(mailboxes[2].ready(Class::Event), 0);
        mailboxes[1].send(PeerId(2), ended(1));
        assert_eq!(mailboxes[2].ready(Class::Event), 0b10);
        assert!(!mailboxes[2].may_sleep(), "what is known to be there has not been taken");
        assert!(mailboxes[2].take::<ToShard>(PeerId(1)).is_some());
        assert!(mailboxes[2].may_sleep());
    }

    #[test]
    fn who_found_no_room_is_looked_at_first() {
        let mut mailboxes = connect(4, 4);
        for from in [0, 1, 3] {
            mailboxes[from].send(PeerId(2), ended(1));
        }
        let order = |mailbox: &mut Mailbox| -> Vec<u8> {
            mailbox.with_mail(Class::Event).map(|peer| peer.0).collect()
        };
        assert_eq!(order(&mut mailboxes[2]), [0, 1, 3]);
        mailboxes[2].found_no_room(PeerId(1), Class::Event);
        assert_eq!(order(&mut mailboxes[2]), [1, 3, 0]);
        mailboxes[2].found_no_room(PeerId(2), Class::Event);
        assert_eq!(order(&mut mailboxes[2]), [3, 0, 1]);
        mailboxes[2].found_no_room(PeerId(0), Class::Home);
        assert_eq!(order(&mut mailboxes[2]), [3, 0, 1], "each class has its own");
    }

    #[test]
    fn mail_that_waits_for_room_keeps_nobody_awake_and_new_mail_does() {
        let mut mailboxes = connect(4, 4);
        mailboxes[0].send(PeerId(2), ended(1));
        assert_eq!(mailboxes[2].with_mail(Class::Event).collect::<Vec<_>>(), [PeerId(0)]);
        assert!(!mailboxes[2].may_sleep(), "nobody has said that it waits");
        mailboxes[2].found_no_room(PeerId(0), Class::Event);
        assert!(mailboxes[2].is_stuck() && mailboxes[2].may_sleep());
        // What comes anew rings, and is looked at with what waits.
        mailboxes[1].send(PeerId(2), ended(2));
        assert_eq!(mailboxes[1].doorbells().collect::<Vec<_>>(), [PeerId(2)]);
        assert_eq!(mailboxes[2].with_mail(Class::Event).count(), 2);
        assert!(!mailboxes[2].is_stuck() && !mailboxes[2].may_sleep());
    }

    #[test]
    fn what_is_in_flight_keeps_all() {
        let all: [Ending; 3] = Default::default();
        assert!(!Ending::all_are_over(&all), "nobody has said that it is idle");
        all.iter().for_each(|ending| ending.tell(true, 0, 0));
        assert!(Ending::all_are_over(&all));
        all[0].tell(true, 0, 2);
        assert!(!Ending::all_are_over(&all), "two are in flight");
        all[1].tell(true, 1, 0);
        assert!(!Ending::all_are_over(&all), "one is");
        // It is taken by one that has work by it, and sends one more.
        all[2].tell(false, 1, 0);
        assert!(!Ending::all_are_over(&all), "it is not idle");
        all[2].tell(true, 1, 1);
        assert!(!Ending::all_are_over(&all), "that one is in flight");
        all[1].tell(true, 2, 0);
        assert!(Ending::all_are_over(&all));
    }

    #[test]
    fn what_is_taken_before_its_sender_has_told_keeps_all() {
        let mut mailboxes = connect(3, 4);
        assert!(!mailboxes[1].all_are_over(true), "the other has said nothing");
        mailboxes[0].send(PeerId(1), ended(1));
        assert!(!mailboxes[0].all_are_over(true), "one is in flight");
        // Its turn is not over when the first of two that it sends is taken.
        assert!(mailboxes[1].take::<ToShard>(PeerId(0)).is_some());
        mailboxes[1].send(PeerId(0), ended(2));
        mailboxes[0].take::<ToShard>(PeerId(1)).expect("it was sent");
        assert!(!mailboxes[0].all_are_over(true), "a shard is in the middle of a turn");
        mailboxes[1].send(PeerId(0), ended(3));
        assert!(!mailboxes[1].all_are_over(true), "the second is in flight");
        mailboxes[0].take::<ToShard>(PeerId(1)).expect("it was sent");
        assert!(mailboxes[0].all_are_over(true) && mailboxes[1].all_are_over(true));
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

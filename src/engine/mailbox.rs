#![forbid(unsafe_code)]
//! Entries between threads: bounded lock-free queues, one pair of queues for each pair of peers.
//!
//! **Classes.** A *request* goes to a home; handling one may produce deliveries. A *delivery* comes
//! from a home; handling one produces bytes for own sockets only. Deliveries are always taken;
//! requests only while there is room for the deliveries that they produce. So two shards that are
//! full towards each other cannot wait for each other: deliveries flow whatever the requests do.
//! What has no room is never put in a list: a session that begins or ends and a user whose presence
//! changes keep a mark in their own record, and the mark is turned into an entry when there is
//! room.
//!
//! **Waking.** A peer that is about to wait sets its flag and looks at its queues once more;
//! whoever writes to it afterwards sees the flag and rings, once.
//!
//! **Order of calls.** Per turn: `take` from both queues, `room` before `send`, `doorbells` at the
//! end, `may_sleep` before waiting and `awake` after it.
//!
//! **Bounds.** `mailbox` entries a class.

use crate::broker::home::Full;
use crate::broker::message::Message;
use crate::ids::{ConnId, PeerId, SessionId, ShardId};
use crate::mem::shares::{self, Place};
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::events::Event;
use super::shared::Shared;
use super::sleeping::Sleeping;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// Nobody.
    None,
    /// A STOMP frame with a receipt: session and number of the frame.
    Frame(SessionId, u32),
    /// A parked HTTP request.
    Request(ShardId, ConnId),
}

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

/// One entry of a mailbox.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum Entry {
    // Requests.
    /// Publish to a broker destination, at the broker home.
    Publish { message: Arc<Message>, reply_to: ReplyTo },
    /// A session wants to hear a broker destination, at the broker home. Its address, if that is
    /// counted.
    Subscribe { destination: Arc<str>, session: SessionId, key: u32, owner: Option<shares::Key> },
    /// A session wants to hear it no longer. Without a `key` the session is gone.
    Unsubscribe { destination: Arc<str>, session: SessionId, key: Option<u32> },
    /// Publish to a user, at the user's home.
    PublishUser { message: Arc<Message>, only: Option<SessionId>, reply_to: ReplyTo },
    /// A session wants to hear a destination of its user, at the user's home.
    SubscribeUser { user: Arc<str>, destination: Arc<str>, session: SessionId, key: u32 },
    /// A session wants to hear it no longer.
    UnsubscribeUser { user: Arc<str>, destination: Arc<str>, session: SessionId, key: u32 },
    /// A session of a user has begun, at the user's home.
    Join { user: Arc<str>, session: SessionId },
    /// A session of a user has ended, with all its user subscriptions.
    Leave { user: Arc<str>, session: SessionId },
    /// Was this callback seen before? At the key's home.
    Dedupe { key: u128, until_millis: u64, message: Arc<Message>, shard: ShardId, conn: ConnId },
    /// An API query, at every shard.
    Query { query: Query, shard: ShardId, conn: ConnId },
    /// A new configuration.
    Reload(Arc<Shared>),
    /// End all sessions, then the shard.
    Drain,
    /// Ask an application's hook, at the control thread, which gives the place back when the call
    /// is over.
    Hook {
        message: Arc<Message>,
        application: u16,
        user: Option<Arc<str>>,
        session: SessionId,
        reply_to: ReplyTo,
        place: Place,
    },
    /// A line for the log, at the control thread: how often it came, and the last one's text.
    Event(Event),

    // Deliveries.
    /// A message for the subscribers of its destination.
    Deliver { message: Arc<Message>, number: u64 },
    /// A message for the sessions of its user.
    DeliverUser { message: Arc<Message>, number: u64, only: Option<SessionId> },
    /// A subscription holds from here on; or the home had no room for it, and why.
    Begun { session: SessionId, key: u32, refused: Option<Full> },
    /// A subscription has ended.
    Ended { session: SessionId, key: u32 },
    /// A publish is sequenced, and so many subscriptions will hear it.
    Sequenced { reply_to: ReplyTo, heard: u32 },
    /// Answer to `Dedupe`, with the message to be pushed if the callback is fresh.
    Deduped { conn: ConnId, fresh: bool, message: Arc<Message> },
    /// Answer to `Query`: JSON items, their count, and whether some are left out.
    Answer { conn: ConnId, items: Arc<str>, count: u32, cut: bool },
    /// A message for one session, wherever it comes from.
    DeliverSession { message: Arc<Message>, session: SessionId, number: u64 },
}

/// The two queues of a pair of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Towards a home or the control thread.
    Request,
    /// From a home.
    Delivery,
}

impl Entry {
    /// The class of this entry.
    pub fn class(&self) -> Class {
        match self {
            Entry::Publish { .. }
            | Entry::Subscribe { .. }
            | Entry::Unsubscribe { .. }
            | Entry::PublishUser { .. }
            | Entry::SubscribeUser { .. }
            | Entry::UnsubscribeUser { .. }
            | Entry::Join { .. }
            | Entry::Leave { .. }
            | Entry::Dedupe { .. }
            | Entry::Query { .. }
            | Entry::Reload(_)
            | Entry::Drain
            | Entry::Hook { .. }
            | Entry::Event(_) => Class::Request,
            Entry::Deliver { .. }
            | Entry::DeliverUser { .. }
            | Entry::Begun { .. }
            | Entry::Ended { .. }
            | Entry::Sequenced { .. }
            | Entry::Deduped { .. }
            | Entry::Answer { .. }
            | Entry::DeliverSession { .. } => Class::Delivery,
        }
    }
}

/// One peer's end of all its queues.
#[derive(Debug)]
pub struct Mailbox {
    me: PeerId,
    outgoing: Vec<[Producer<Entry>; 2]>,
    incoming: Vec<[Consumer<Entry>; 2]>,
    sleeping: Arc<[Sleeping]>,
    finished: Arc<[AtomicBool]>,
    written: u128,
}

/// The ends of `peers` peers, each connected to each, itself included.
pub fn connect(peers: usize, entries: u32) -> Vec<Mailbox> {
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
        })
        .collect();
    for from in 0..peers {
        for to in 0..peers {
            let (request_in, request_out) = RingBuffer::new(entries as usize);
            let (delivery_in, delivery_out) = RingBuffer::new(entries as usize);
            mailboxes[from].outgoing.push([request_in, delivery_in]);
            mailboxes[to].incoming.push([request_out, delivery_out]);
        }
    }
    mailboxes
}

impl Mailbox {
    /// Free entries of a class towards a peer.
    pub fn room(&self, to: PeerId, class: Class) -> usize {
        self.outgoing[to.index()][class as usize].slots()
    }

    /// The smallest room of a class towards the first `count` peers.
    pub fn room_everywhere(&self, count: usize, class: Class) -> usize {
        let rooms = self.outgoing[..count].iter().map(|queues| queues[class as usize].slots());
        rooms.min().unwrap_or(0)
    }

    /// Writes an entry. The caller has asked for room.
    pub fn send(&mut self, to: PeerId, entry: Entry) {
        let class = &mut self.outgoing[to.index()][entry.class() as usize];
        assert!(class.push(entry).is_ok(), "the caller asked for room first");
        if to != self.me {
            self.written |= 1 << to.index();
        }
    }

    /// The next entry of a class from a peer.
    pub fn take(&mut self, from: PeerId, class: Class) -> Option<Entry> {
        self.incoming[from.index()][class as usize].pop().ok()
    }

    /// Whether a class from a peer holds an entry.
    pub fn holds(&self, from: PeerId, class: Class) -> bool {
        !self.incoming[from.index()][class as usize].is_empty()
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
        let empty = || self.incoming.iter().flatten().all(|class| class.is_empty());
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

    #[test]
    fn queues_are_bounded_and_independent_and_a_sleeper_is_rung_once() {
        let mut mailboxes = connect(3, 2);
        let begun =
            |key| Entry::Ended { session: SessionId::new(ShardId(0), SessionIndex(0), 0), key };
        assert!(mailboxes[2].may_sleep());
        mailboxes[0].send(PeerId(2), begun(1));
        mailboxes[0].send(PeerId(2), begun(2));
        assert_eq!(mailboxes[0].room(PeerId(2), Class::Delivery), 0);
        assert_eq!(mailboxes[0].room(PeerId(2), Class::Request), 2);
        assert_eq!(mailboxes[0].room_everywhere(3, Class::Delivery), 0);
        assert_eq!(mailboxes[0].doorbells().collect::<Vec<_>>(), vec![PeerId(2)]);
        mailboxes[1].send(PeerId(2), begun(3));
        assert_eq!(mailboxes[1].doorbells().count(), 0, "it was rung already");
        assert!(!mailboxes[2].may_sleep());
        assert!(matches!(
            mailboxes[2].take(PeerId(0), Class::Delivery),
            Some(Entry::Ended { key: 1, .. })
        ));
        assert!(mailboxes[2].take(PeerId(0), Class::Request).is_none());
    }

    #[test]
    fn an_entry_is_small() {
        assert!(core::mem::size_of::<Entry>() <= 64, "{}", core::mem::size_of::<Entry>());
    }
}

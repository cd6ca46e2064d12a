#![forbid(unsafe_code)]
//! The table of STOMP sessions of a shard.
//!
//! ```text
//!   Connecting ──CONNECT──▶ Live ──drain──▶ Leaving ──all its entries are out──▶ gone
//!        └────────────── drain ─────────────────────────────────────────────────▲
//! ```
//! A session that is leaving has no connection any more; its record stays until every home knows
//! that it is gone, since what has no room in a mailbox now is kept in the record it is about.

use super::refuse::Problem;
use crate::ids::{EndpointIndex, GroupIndex, SessionId, SessionIndex, ShardId, Slot};
use crate::mem::intern::Sym;
use crate::mem::secret::HashKey;
use crate::mem::slab::{Key, Slab};
use crate::stomp::{self, Version};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::sync::Arc;

/// Index of no receipt.
const NONE: u32 = u32::MAX;

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No CONNECT yet.
    Connecting,
    /// Logged in.
    Live,
    /// Ended; its homes are being told.
    Leaving,
}

/// Where a subscription is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Its home has been asked.
    Beginning,
    /// It hears.
    Active,
    /// Its home has been asked to end it; it still hears what the home sequenced before.
    Ending,
}

/// One subscription of a session. 24 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// The client's id for it.
    pub id: Sym,
    /// Destination or pattern, without the user prefix.
    pub destination: Sym,
    /// Number of the SUBSCRIBE frame: what the home's answers name.
    pub key: u32,
    /// Its group while it hears a broker destination.
    pub group: GroupIndex,
    /// Its place in the group.
    pub position: u32,
    /// Where it is in its life.
    pub state: SubscriptionState,
    /// It is one of a user destination.
    pub of_user: bool,
    /// Its MESSAGEs have an `ack` header.
    pub acks: bool,
    /// Its destination is a pattern.
    pub is_pattern: bool,
}

const _: () = assert!(size_of::<Subscription>() <= 24);

/// A frame that has to wait for a home, and its connection with it.
#[derive(Debug)]
pub enum Deferred {
    /// A SUBSCRIBE whose RECEIPT would overtake those that another home still owes; and its first
    /// MESSAGE may not overtake its RECEIPT.
    Subscribe { id: String, destination: String, receipt: Vec<u8>, sequence: u32, acks: bool },
    /// An UNSUBSCRIBE of a subscription (by its key) that has not begun yet.
    Unsubscribe { key: u32, receipt: Option<Vec<u8>>, sequence: u32 },
    /// A frame that is answered with ERROR when the receipts of those before it are given.
    /// Nothing that the rules keep from its session is heard until then.
    Refuse { problem: Problem<'static>, body: String, receipt: Option<Vec<u8>>, sequence: u32 },
}

/// Bytes of a session's frames that are not handled yet, and how far the decoder is in the first
/// of them: one pointer in every idle session.
#[derive(Debug, Default)]
pub struct Partial(Option<Box<(Vec<u8>, stomp::Decoder)>>);

impl Partial {
    /// Count of bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |rest| rest.0.len())
    }

    /// Takes all of it out.
    pub fn take(&mut self) -> Option<Box<(Vec<u8>, stomp::Decoder)>> {
        self.0.take()
    }

    /// Keeps bytes that no frame has come of yet.
    pub fn keep(&mut self, bytes: &[u8], decoder: stomp::Decoder) {
        assert!(self.0.is_none(), "nothing came in between");
        if !bytes.is_empty() {
            self.0 = Some(Box::new((bytes.to_vec(), decoder)));
        }
    }

    /// Puts back what `take` gave, without the first `used` bytes; frees it when that is all.
    pub fn put_back(&mut self, mut rest: Box<(Vec<u8>, stomp::Decoder)>, used: usize) {
        assert!(self.0.is_none(), "nothing came in between");
        if used < rest.0.len() {
            rest.0.drain(..used);
            self.0 = Some(rest);
        }
    }
}

/// One session. 112 bytes.
#[derive(Debug)]
pub struct Session {
    /// Slot of its connection; meaningless while leaving.
    pub slot: Slot,
    /// Where it is in its life.
    pub phase: Phase,
    /// STOMP version; 1.2 until CONNECT has said.
    pub version: Version,
    /// Which endpoint of the configuration.
    pub endpoint: EndpointIndex,
    /// Bytes of frames not yet handled.
    pub partial: Partial,
    /// Its user, if it has a name.
    pub user: Option<Arc<str>>,
    /// The user's home was told of it.
    pub joined: bool,
    /// Heart-beats agreed: what we send, what we expect, in milliseconds; 0 is none.
    pub beat: stomp::heartbeat::Agreed,
    /// Its subscriptions.
    pub subscriptions: SmallVec<[Subscription; 1]>,
    /// Number of its last frame.
    pub sequence: u32,
    /// Receipts that wait.
    pub receipts: ReceiptList,
    /// The home that all of them wait for; None if they wait for several.
    pub receipts_home: Option<ShardId>,
    /// DISCONNECT has come: the connection ends when the receipts are given.
    pub disconnecting: bool,
    /// A frame that waits for a home.
    pub deferred: Option<Box<Deferred>>,
    /// Neighbours in the list of its user's sessions on this shard.
    pub same_user: Neighbours,
    /// The turn of a fan-out that has seen it.
    pub seen_turn: u32,
}

const _: () = assert!(size_of::<Session>() <= 112);

/// The receipts of one session that wait, a list within the shard's table of them.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptList {
    first: u32,
    last: u32,
    count: u32,
}

impl ReceiptList {
    const EMPTY: ReceiptList = ReceiptList { first: NONE, last: NONE, count: 0 };

    /// How many wait.
    pub fn count(self) -> u32 {
        self.count
    }
}

/// The sessions before and behind one in the list of its user's sessions on this shard.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    previous: SessionIndex,
    next: SessionIndex,
}

impl Neighbours {
    const ALONE: Neighbours = Neighbours { previous: SessionIndex::NONE, next: SessionIndex::NONE };

    /// The one behind it.
    pub fn next(self) -> Option<SessionIndex> {
        self.next.get()
    }
}

/// A RECEIPT that waits for its home.
#[derive(Debug)]
pub struct WaitingReceipt {
    /// The client's receipt id.
    pub id: SmallVec<[u8; 24]>,
    /// Number of its frame.
    pub sequence: u32,
    /// Answers it still waits for.
    pub answers: u32,
    /// The next one of the session.
    pub next: u32,
}

/// All sessions of a shard.
#[derive(Debug)]
pub struct Sessions {
    shard: ShardId,
    table: Slab<Session>,
    /// First sessions of the lists of users, found by the name that the session holds: a key here
    /// would cost each of them 16 bytes more.
    by_user: HashTable<SessionIndex>,
    key: HashKey,
    receipts: Slab<WaitingReceipt>,
}

impl Sessions {
    /// None yet; with the hash key of the table of users.
    /// The table does not move before it has `capacity` sessions.
    pub fn new(shard: ShardId, key: HashKey, capacity: u32) -> Sessions {
        Sessions {
            shard,
            table: Slab::with_capacity(capacity as usize),
            by_user: HashTable::with_capacity(capacity as usize),
            key,
            receipts: Slab::default(),
        }
    }

    /// Puts a session in.
    pub fn insert(&mut self, session: Session) -> SessionIndex {
        SessionIndex(self.table.insert(session).index)
    }

    /// The id of a session in use.
    pub fn id(&self, index: SessionIndex) -> SessionId {
        SessionId::new(self.shard, index, self.table.generation(index.0))
    }

    /// The index of an id, if the session is still there.
    pub fn find(&self, id: SessionId) -> Option<SessionIndex> {
        let key = Key { index: id.index().0, generation: id.generation() };
        (id.shard() == self.shard && self.table.find(key).is_some()).then_some(id.index())
    }

    /// One more than the largest index that was ever in use.
    pub fn places(&self) -> u32 {
        self.table.places()
    }

    /// Whether an index is in use.
    pub fn contains(&self, index: SessionIndex) -> bool {
        self.table.contains(index.0)
    }

    /// A session in use.
    pub fn at(&self, index: SessionIndex) -> &Session {
        self.table.at(index.0)
    }

    /// A session in use.
    pub fn at_mut(&mut self, index: SessionIndex) -> &mut Session {
        self.table.at_mut(index.0)
    }

    /// Takes a session out.
    pub fn remove(&mut self, index: SessionIndex) -> Session {
        self.table.remove(index.0)
    }

    /// Count of records, leaving ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.table.iter().map(|(_, session)| session)
    }

    /// All records with their indices.
    pub fn indexed(&self) -> impl Iterator<Item = (SessionIndex, &Session)> {
        self.table.iter().map(|(index, session)| (SessionIndex(index), session))
    }

    /// Puts a session into the list of its user.
    pub fn link_user(&mut self, index: SessionIndex, user: Arc<str>) {
        let hash = self.key.hash(&user);
        let head = match self.entry_of(&user) {
            Some(entry) => core::mem::replace(entry, index),
            None => SessionIndex::NONE,
        };
        if let Some(head) = head.get() {
            self.at_mut(head).same_user.previous = index;
        }
        let session = self.at_mut(index);
        session.user = Some(user);
        session.same_user = Neighbours { previous: SessionIndex::NONE, next: head };
        if head == SessionIndex::NONE {
            let (table, key) = (&self.table, &self.key);
            let hash_of = |other: &SessionIndex| key.hash(name(table, *other));
            self.by_user.insert_unique(hash, index, hash_of);
        }
    }

    /// Takes a session out of the list of its user; it keeps the name.
    pub fn unlink_user(&mut self, index: SessionIndex) {
        let session = self.at_mut(index);
        let beside = core::mem::replace(&mut session.same_user, Neighbours::ALONE);
        if let Some(next) = beside.next.get() {
            self.at_mut(next).same_user.previous = beside.previous;
        }
        if let Some(previous) = beside.previous.get() {
            self.at_mut(previous).same_user.next = beside.next;
            return;
        }
        let hash = self.key.hash(name(&self.table, index));
        let entry = self.by_user.find_entry(hash, |&head| head == index);
        let mut entry = entry.expect("the first of a list is in the table");
        match beside.next.get() {
            Some(next) => *entry.get_mut() = next,
            None => drop(entry.remove()),
        }
    }

    fn entry_of(&mut self, user: &str) -> Option<&mut SessionIndex> {
        let table = &self.table;
        self.by_user.find_mut(self.key.hash(user), |&head| name(table, head) == user)
    }

    /// First session of a user on this shard, live or about to CONNECT; the others follow by
    /// `same_user.next()`.
    pub fn first_of(&self, user: &str) -> Option<SessionIndex> {
        let same = |&head: &SessionIndex| name(&self.table, head) == user;
        self.by_user.find(self.key.hash(user), same).copied()
    }

    /// Puts a receipt at the end of a session's list.
    pub fn push_receipt(&mut self, index: SessionIndex, id: &[u8], sequence: u32, answers: u32) {
        let receipt =
            WaitingReceipt { id: SmallVec::from_slice(id), sequence, answers, next: NONE };
        let place = self.receipts.insert(receipt).index;
        let ReceiptList { first, last, count } = self.table.at(index.0).receipts;
        if last != NONE {
            self.receipts.at_mut(last).next = place;
        }
        let first = if first == NONE { place } else { first };
        self.table.at_mut(index.0).receipts = ReceiptList { first, last: place, count: count + 1 };
    }

    /// One answer for the frame of this number has come.
    pub fn answer_receipt(&mut self, index: SessionIndex, sequence: u32) {
        let mut place = self.table.at(index.0).receipts.first;
        while place != NONE {
            let receipt = self.receipts.at_mut(place);
            if receipt.sequence == sequence {
                receipt.answers = receipt.answers.checked_sub(1).expect("as many answers as asked");
                return;
            }
            place = receipt.next;
        }
    }

    /// The first receipt of a session, if all its answers are there.
    pub fn pop_receipt(&mut self, index: SessionIndex) -> Option<WaitingReceipt> {
        let ReceiptList { first, last, count } = self.table.at(index.0).receipts;
        if first == NONE || self.receipts.at(first).answers > 0 {
            return None;
        }
        let receipt = self.receipts.remove(first);
        let last = if receipt.next == NONE { NONE } else { last };
        self.table.at_mut(index.0).receipts =
            ReceiptList { first: receipt.next, last, count: count - 1 };
        Some(receipt)
    }

    /// The id of the first receipt of a session that is not given.
    pub fn first_receipt(&self, index: SessionIndex) -> Option<&[u8]> {
        let first = self.table.at(index.0).receipts.first;
        (first != NONE).then(|| &*self.receipts.at(first).id)
    }

    /// Takes the receipt of the frame with this number out of a session's list, and forgets those
    /// behind it: the frame is refused, and after its ERROR comes nothing.
    pub fn cut_receipts(
        &mut self,
        index: SessionIndex,
        sequence: u32,
    ) -> Option<SmallVec<[u8; 24]>> {
        let (mut before, mut kept, mut place) = (NONE, 0, self.table.at(index.0).receipts.first);
        while place != NONE && self.receipts.at(place).sequence != sequence {
            (before, kept, place) = (place, kept + 1, self.receipts.at(place).next);
        }
        if place == NONE {
            return None;
        }
        let receipt = self.receipts.remove(place);
        self.forget_receipts(receipt.next);
        let state = self.table.at_mut(index.0);
        let first = if before == NONE { NONE } else { state.receipts.first };
        state.receipts = ReceiptList { first, last: before, count: kept };
        if before != NONE {
            self.receipts.at_mut(before).next = NONE;
        }
        Some(receipt.id)
    }

    /// Forgets all receipts of a session.
    pub fn drop_receipts(&mut self, index: SessionIndex) {
        self.forget_receipts(self.table.at(index.0).receipts.first);
        self.table.at_mut(index.0).receipts = ReceiptList::EMPTY;
    }

    /// Asserts what holds between the tables and the records. Slow.
    pub fn invariants(&self) {
        let mut receipts = 0;
        for (index, session) in self.indexed() {
            session.invariants();
            receipts += session.receipts.count as usize;
            self.receipts_are_a_list(index, session.receipts);
        }
        assert_eq!(receipts, self.receipts.len(), "each receipt is some session's");
        let is_linked = |s: &&Session| s.user.is_some() && s.phase != Phase::Leaving;
        let with_user = self.iter().filter(is_linked).count();
        let listed: usize = self.by_user.iter().map(|head| self.count_user(*head)).sum();
        assert_eq!(listed, with_user, "who has a user stands in his list");
    }

    fn receipts_are_a_list(&self, index: SessionIndex, list: ReceiptList) {
        let (mut last, mut count, mut place) = (NONE, 0, list.first);
        while place != NONE {
            (last, count) = (place, count + 1);
            assert!(count <= list.count, "{index:?}: receipts are counted");
            place = self.receipts.at(place).next;
        }
        assert_eq!((last, count), (list.last, list.count), "{index:?}: receipts are counted");
    }

    /// Sessions in the list of a user, from its head on.
    fn count_user(&self, head: SessionIndex) -> usize {
        let user = name(&self.table, head);
        assert_eq!(self.first_of(user), Some(head), "a user has one list");
        let (mut previous, mut next, mut count) = (SessionIndex::NONE, Some(head), 0);
        while let Some(index) = next {
            let session = self.at(index);
            assert_ne!(session.phase, Phase::Leaving, "who leaves leaves the list");
            assert_eq!(session.same_user.previous, previous, "{index:?}: neighbours agree");
            assert_eq!(name(&self.table, index), user, "a list is of one user");
            count += 1;
            assert!(count <= self.len(), "a list ends");
            (previous, next) = (index, session.same_user.next());
        }
        count
    }

    fn forget_receipts(&mut self, mut place: u32) {
        while place != NONE {
            place = self.receipts.remove(place).next;
        }
    }
}

/// The user's name of a session in the table of users.
fn name(table: &Slab<Session>, index: SessionIndex) -> &str {
    table.at(index.0).user.as_deref().expect("only sessions with a user are linked")
}

impl Session {
    /// A session that has just been upgraded.
    pub fn new(slot: Slot, endpoint: EndpointIndex) -> Session {
        Session {
            slot,
            phase: Phase::Connecting,
            version: Version::V1_2,
            endpoint,
            partial: Partial::default(),
            user: None,
            joined: false,
            beat: stomp::heartbeat::Agreed { send: 0, receive: 0 },
            subscriptions: SmallVec::new(),
            sequence: 0,
            receipts: ReceiptList::EMPTY,
            receipts_home: None,
            disconnecting: false,
            deferred: None,
            same_user: Neighbours::ALONE,
            seen_turn: 0,
        }
    }

    /// Asserts what holds between its fields. Slow.
    fn invariants(&self) {
        let is_live = self.phase == Phase::Live;
        assert!(is_live || self.receipts.count == 0, "only who is live is owed receipts");
        assert!(is_live || self.deferred.is_none(), "only who is live waits for a home");
        assert!(self.phase != Phase::Leaving || self.partial.len() == 0, "who leaves is not read");
        assert!(!self.joined || self.user.is_some(), "only a user's home is told");
        assert!(!self.disconnecting || self.phase != Phase::Connecting, "CONNECT comes first");
        for (at, subscription) in self.subscriptions.iter().enumerate() {
            assert_eq!(self.by_key(subscription.key), Some(at), "a key is one subscription's");
            let hears = subscription.group != GroupIndex::NONE;
            let may_hear = is_live && subscription.state != SubscriptionState::Beginning;
            assert!(!hears || may_hear && !subscription.of_user, "only who hears is in a group");
        }
    }

    /// The subscription that a home's answer names.
    pub fn by_key(&self, key: u32) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| subscription.key == key)
    }

    /// The live subscription of a client's id.
    pub fn by_id(&self, id: Sym) -> Option<usize> {
        let live = |s: &Subscription| s.id == id && s.state != SubscriptionState::Ending;
        self.subscriptions.iter().position(live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;

    /// What spoils a table, and a word of the assertion that finds it.
    type Spoil = (fn(&mut Sessions), &'static str);

    /// Three live sessions, two of them of one user; the first is owed two receipts.
    fn sessions() -> Sessions {
        let mut sessions = Sessions::new(ShardId(0), HashKey::known(1), 4);
        for (number, user) in ["ann", "bob", "ann"].into_iter().enumerate() {
            let mut session = Session::new(Slot(number as u32), EndpointIndex(0));
            session.phase = Phase::Live;
            let index = sessions.insert(session);
            assert_eq!(index, SessionIndex(number as u32));
            sessions.link_user(index, user.into());
        }
        sessions.push_receipt(SessionIndex(0), b"one", 1, 1);
        sessions.push_receipt(SessionIndex(0), b"two", 2, 1);
        sessions
    }

    #[test]
    fn what_does_not_fit_together_is_found() {
        const FIRST: SessionIndex = SessionIndex(0);
        let spoil: [Spoil; 8] = [
            (|all| all.at_mut(FIRST).receipts.count = 1, "receipts are counted"),
            (|all| all.at_mut(FIRST).receipts.last = 0, "receipts are counted"),
            (|all| all.at_mut(FIRST).receipts = ReceiptList::EMPTY, "is some session's"),
            (|all| all.at_mut(FIRST).phase = Phase::Leaving, "is owed receipts"),
            (|all| all.at_mut(FIRST).same_user = Neighbours::ALONE, "neighbours agree"),
            (|all| all.at_mut(SessionIndex(2)).same_user = Neighbours::ALONE, "in his list"),
            (|all| all.at_mut(SessionIndex(1)).user = Some("ann".into()), "one list"),
            (|all| all.at_mut(SessionIndex(1)).user = None, "only sessions with a user"),
        ];
        for (spoil, expected) in spoil {
            let mut sessions = sessions();
            sessions.invariants();
            spoil(&mut sessions);
            let said = catch_unwind(AssertUnwindSafe(|| sessions.invariants()));
            let said = said.expect_err(expected);
            let text = said.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| said.downcast_ref::<&str>().copied());
            assert!(text.is_some_and(|text| text.contains(expected)), "{text:?}: {expected}");
        }
    }
}

#![forbid(unsafe_code)]
//! The table of STOMP sessions of a shard, and the lists that they stand in: of their links, of
//! their users, of their receipts.

use super::record::{NONE, Neighbours, Phase, ReceiptList, Session, WaitingReceipt};
use crate::ids::{LinkIndex, SessionId, SessionIndex, ShardId};
use crate::mem::secret::HashKey;
use crate::mem::slab::{Key, Slab};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::sync::Arc;

/// All sessions of a shard.
#[derive(Debug)]
pub struct Sessions {
    shard: ShardId,
    table: Slab<Session>,
    /// The session of each link that has one.
    by_link: Vec<SessionIndex>,
    /// First sessions of the lists of users, found by the name that the session holds: a key here
    /// would cost each of them 16 bytes more.
    by_user: HashTable<SessionIndex>,
    key: HashKey,
    receipts: Slab<WaitingReceipt>,
    /// Steps that patterns have taken for the frame or entry that is being handled.
    pub(super) steps: u32,
}

impl Sessions {
    /// None yet; with the hash key of the table of users.
    /// The table does not move before it has `capacity` sessions.
    pub fn new(shard: ShardId, key: HashKey, capacity: u32) -> Sessions {
        Sessions {
            shard,
            table: Slab::with_capacity(capacity as usize),
            by_link: Vec::with_capacity(capacity as usize),
            by_user: HashTable::with_capacity(capacity as usize),
            key,
            receipts: Slab::default(),
            steps: 0,
        }
    }

    /// Puts a session in, that of its link from now on.
    pub fn insert(&mut self, session: Session) -> SessionIndex {
        let link = session.link.index();
        let index = SessionIndex(self.table.insert(session).index);
        if self.by_link.len() <= link {
            self.by_link.resize(link + 1, SessionIndex::NONE);
        }
        let former = core::mem::replace(&mut self.by_link[link], index);
        assert_eq!(former, SessionIndex::NONE, "a link has one session");
        index
    }

    /// The session of a link.
    pub fn of(&self, link: LinkIndex) -> Option<SessionIndex> {
        self.by_link.get(link.index()).copied().and_then(SessionIndex::get)
    }

    /// The record of the session of a link.
    pub fn of_link(&self, link: LinkIndex) -> Option<&Session> {
        self.of(link).map(|index| self.at(index))
    }

    /// The link of a session goes on without it.
    pub fn unlink(&mut self, link: LinkIndex) {
        self.by_link[link.index()] = SessionIndex::NONE;
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

    /// Sessions of a user on this shard, live or about to CONNECT. None of them leaves while they
    /// are looked at: their links may end.
    pub fn of_user(&self, user: &str) -> impl Iterator<Item = SessionIndex> {
        core::iter::successors(self.first_of(user), |&index| self.at(index).same_user.next())
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
        for (at, index) in self.by_link.iter().enumerate() {
            let Some(index) = index.get() else { continue };
            assert!(self.contains(index), "link {at}: its session is there");
            assert_eq!(self.at(index).link.index(), at, "link {at}: a session has one link");
        }
        for (index, session) in self.indexed().filter(|(_, s)| s.phase != Phase::Leaving) {
            assert_eq!(self.of(session.link), Some(index), "{index:?}: a link has its session");
        }
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
            let mut session = Session::new(LinkIndex(number as u32));
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

#![forbid(unsafe_code)]
//! The home of users: which sessions each has, what they subscribed to, and whether it is online.
//!
//! ```text
//!            first session joins            announced
//!   absent ─────────────────────▶ present ───────────▶ present, ON_LINE known
//!      ▲                             │ last session leaves        │
//!      └──── announced ──── leaving ◀┴────────────────────────────┘
//! ```
//! A change is not announced at once: the user's record is linked into a list, and the shard takes
//! announcements from it when it has room for a publish. A user who comes back before that has
//! nothing to announce, so every ON_LINE is followed by exactly one OFF_LINE and the reverse.

use super::home::Audience;
use super::message::Message;
use super::pattern::{Budget, Outcome};
use crate::ids::SessionId;
use crate::mem::secret::HashKey;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// A change of presence to be made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Who.
    pub user: Arc<str>,
    /// ON_LINE or OFF_LINE.
    pub online: bool,
    /// Sessions at this moment.
    pub sessions: u32,
    /// Rises with every announcement of this home.
    pub epoch: u64,
}

impl Announcement {
    /// Writes it as a message to the topic of presence.
    pub fn write(&self, topic: &str, message: &mut Message) {
        let status = if self.online { "ON_LINE" } else { "OFF_LINE" };
        let user = serde_json::Value::from(&*self.user);
        let (sessions, epoch) = (self.sessions, self.epoch);
        let body = format!(
            r#"{{"user":{user},"status":"{status}","sessions":{sessions},"epoch":{epoch}}}"#
        );
        message.begin(None, topic);
        message.header(b"destination", topic.as_bytes());
        message.header(b"content-type", b"application/json");
        message.finish(body.as_bytes());
    }
}

#[derive(Debug)]
struct Member {
    session: SessionId,
    destinations: SmallVec<[Arc<str>; 1]>,
}

/// The record of a user. 64 bytes.
#[derive(Debug)]
struct User {
    name: Arc<str>,
    members: SmallVec<[Member; 1]>,
    /// What was last made known: online or not.
    announced: bool,
    /// It stands in the list of changes.
    listed: bool,
}

const _: () = assert!(size_of::<User>() == 64);

/// The users whose home this shard is.
#[derive(Debug)]
pub struct Users {
    /// Records, found by the name that they hold.
    table: HashTable<u32>,
    records: Slab<User>,
    key: HashKey,
    /// Records to be announced; they stay until then.
    changed: VecDeque<u32>,
    announcements: u64,
    separator: char,
}

impl Users {
    /// Nobody, with the table's hash key. Records do not move before there are `capacity` of them.
    pub fn new(separator: char, key: HashKey, capacity: u32) -> Users {
        Users {
            table: HashTable::with_capacity(capacity as usize),
            records: Slab::with_capacity(capacity as usize),
            key,
            changed: VecDeque::new(),
            announcements: 0,
            separator,
        }
    }

    fn find(&self, name: &str) -> Option<u32> {
        let same = |&index: &u32| *self.records[index as usize].name == *name;
        self.table.find(self.key.hash(name), same).copied()
    }

    fn begin(&mut self, name: &Arc<str>) -> u32 {
        let (announced, listed) = (false, false);
        let record = User { name: name.clone(), members: SmallVec::new(), announced, listed };
        let index = self.records.insert(record) as u32;
        let (records, key) = (&self.records, &self.key);
        let hash_of = |other: &u32| key.hash(&records[*other as usize].name);
        self.table.insert_unique(key.hash(name), index, hash_of);
        index
    }

    fn forget(&mut self, index: u32) {
        let hash = self.key.hash(&self.records[index as usize].name);
        let entry = self.table.find_entry(hash, |&other| other == index);
        entry.expect("a record is in the table").remove();
        self.records.remove(index as usize);
    }

    /// A session of this user has begun.
    pub fn join(&mut self, user: &Arc<str>, session: SessionId) {
        let index = self.find(user).unwrap_or_else(|| self.begin(user));
        let record = &mut self.records[index as usize];
        assert!(!record.members.iter().any(|member| member.session == session));
        record.members.push(Member { session, destinations: SmallVec::new() });
        self.note(index);
    }

    /// A session of this user has ended, with all its subscriptions.
    pub fn leave(&mut self, user: &Arc<str>, session: SessionId) {
        let index = self.find(user).expect("a session leaves after it joined");
        let record = &mut self.records[index as usize];
        let place = record.members.iter().position(|member| member.session == session);
        record.members.swap_remove(place.expect("a session leaves once"));
        self.note(index);
    }

    /// Lists a user whose presence differs from what was announced.
    fn note(&mut self, index: u32) {
        let record = &mut self.records[index as usize];
        let online = !record.members.is_empty();
        if online == record.announced {
            if !online && !record.listed {
                self.forget(index);
            }
        } else if !record.listed {
            record.listed = true;
            self.changed.push_back(index);
        }
    }

    /// Whether `announce` has something.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The next change of presence to make known.
    pub fn announce(&mut self) -> Option<Announcement> {
        while let Some(index) = self.changed.pop_front() {
            let record = &mut self.records[index as usize];
            record.listed = false;
            let sessions = record.members.len() as u32;
            let online = sessions > 0;
            let changed = online != record.announced;
            record.announced = online;
            let user = record.name.clone();
            if !online {
                self.forget(index);
            }
            if changed {
                self.announcements += 1;
                return Some(Announcement { user, online, sessions, epoch: self.announcements });
            }
        }
        None
    }

    /// A session subscribed to a destination of its user's.
    pub fn subscribe(&mut self, user: &str, session: SessionId, destination: &Arc<str>) {
        if let Some(member) = self.member(user, session) {
            member.destinations.push(destination.clone());
        }
    }

    /// A session left such a destination.
    pub fn unsubscribe(&mut self, user: &str, session: SessionId, destination: &str) {
        if let Some(member) = self.member(user, session)
            && let Some(place) = member.destinations.iter().position(|d| **d == *destination)
        {
            member.destinations.swap_remove(place);
        }
    }

    fn member(&mut self, user: &str, session: SessionId) -> Option<&mut Member> {
        let index = self.find(user)?;
        let members = &mut self.records[index as usize].members;
        members.iter_mut().find(|member| member.session == session)
    }

    /// Which shards have sessions that hear a message to this user, and how many sessions.
    pub fn audience(
        &self,
        user: &str,
        destination: &str,
        only: Option<SessionId>,
        budget: &mut Budget,
    ) -> Audience {
        let mut audience = Audience::default();
        let record = self.find(user).map(|index| &self.records[index as usize]);
        let members = record.map_or(&[][..], |record| &record.members);
        for member in members.iter().filter(|m| only.is_none_or(|only| m.session == only)) {
            let compare = |d: &Arc<str>| budget.compare(d, destination, self.separator);
            let outcomes = member.destinations.iter().map(compare);
            // The first that matches is enough.
            let (mut hears, mut gave_up) = (false, false);
            for outcome in outcomes {
                hears = outcome == Outcome::Match;
                gave_up |= outcome == Outcome::GaveUp;
                if hears {
                    break;
                }
            }
            audience.gave_up |= gave_up && !hears;
            if hears {
                audience.shards |= 1 << member.session.shard().index();
                audience.subscriptions += 1;
            }
        }
        audience
    }

    /// Asserts what holds between the tables. Slow.
    pub fn invariants(&self) {
        assert_eq!(self.table.len(), self.records.len(), "each user has one record");
        let mut listed = 0;
        for (index, record) in &self.records {
            let name = &record.name;
            assert_eq!(self.find(name), Some(index as u32), "{name} is found by the name");
            let is_known = record.listed || record.announced != record.members.is_empty();
            assert!(is_known, "{name}: a change of presence is listed");
            listed += usize::from(record.listed);
            for (at, member) in record.members.iter().enumerate() {
                let same = |other: &Member| other.session == member.session;
                assert!(!record.members[..at].iter().any(same), "{name}: a session joins once");
            }
        }
        assert_eq!(listed, self.changed.len(), "who is listed stands in the list");
        let is_listed = |index: &u32| self.records[*index as usize].listed;
        assert!(self.changed.iter().all(is_listed), "who stands in the list is listed");
    }

    /// The last session of a user is forgotten, or what was announced. False if there is nobody.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self, forgets_session: bool) -> bool {
        let fits = |record: &User| record.announced && !record.listed && record.members.len() == 1;
        let found = self.records.iter_mut().map(|(_, record)| record).find(|record| fits(record));
        let Some(record) = found else { return false };
        match forgets_session {
            true => drop(record.members.pop()),
            false => record.listed = true,
        }
        true
    }

    /// Users online with the count of their sessions.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let records = self.table.iter().map(|&index| &self.records[index as usize]);
        let online = records.filter(|record| !record.members.is_empty());
        online.map(|record| (&record.name, record.members.len()))
    }

    /// Count of users with a record: online, or with an OFF_LINE still to be told.
    pub fn online(&self) -> usize {
        self.records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(users: &Users, user: &str, to: &str, only: Option<SessionId>) -> Audience {
        users.audience(user, to, only, &mut Budget::default())
    }
    use crate::ids::{SessionIndex, ShardId};
    use crate::mem::secret::Random;

    fn session(n: u32) -> SessionId {
        SessionId::new(ShardId((n % 3) as u8), SessionIndex(n), 0)
    }

    #[test]
    fn the_first_session_and_the_last_one_are_announced_once() {
        let mut users = Users::new('/', Random::known(1).key(), 4);
        let seven: Arc<str> = "7".into();
        users.join(&seven, session(1));
        users.join(&seven, session(2));
        let on = users.announce().expect("online");
        assert_eq!((on.online, on.sessions, on.epoch), (true, 2, 1));
        users.leave(&seven, session(1));
        assert_eq!(users.announce(), None);
        users.leave(&seven, session(2));
        let off = users.announce().expect("off line");
        assert_eq!((off.online, off.sessions, off.epoch), (false, 0, 2));
        assert!(users.online() == 0);
    }

    #[test]
    fn a_flap_between_announcements_is_not_told_and_leaves_nothing_behind() {
        let mut users = Users::new('/', Random::known(1).key(), 4);
        let seven: Arc<str> = "7".into();
        users.join(&seven, session(1));
        users.leave(&seven, session(1));
        assert_eq!(users.announce(), None);
        assert!(users.online() == 0 && !users.has_changes());
        users.join(&seven, session(1));
        assert!(users.announce().expect("online").online);
        users.leave(&seven, session(1));
        users.join(&seven, session(2));
        assert_eq!(users.announce(), None);
        assert_eq!(users.online(), 1);
    }

    #[test]
    fn only_sessions_that_subscribed_hear_a_message() {
        let mut users = Users::new('/', Random::known(1).key(), 4);
        let seven: Arc<str> = "7".into();
        users.join(&seven, session(1));
        users.join(&seven, session(2));
        users.subscribe("7", session(1), &"/queue/sub".into());
        users.subscribe("7", session(2), &"/queue/*".into());
        users.subscribe("8", session(2), &"/queue/sub".into());
        let both = audience(&users, "7", "/queue/sub", None);
        assert_eq!(both, Audience { shards: 0b110, subscriptions: 2, gave_up: false });
        let one = audience(&users, "7", "/queue/sub", Some(session(2)));
        assert_eq!(one, Audience { shards: 0b100, subscriptions: 1, gave_up: false });
        users.unsubscribe("7", session(2), "/queue/*");
        let none = Audience::default();
        assert_eq!(audience(&users, "7", "/queue/x", None), none);
        assert_eq!(audience(&users, "8", "/queue/sub", None), Audience::default());
        let hard: Arc<str> = format!("/queue/*{}b*", "a?".repeat(10)).into();
        users.subscribe("7", session(1), &hard);
        let endless = format!("/queue/{}", "a".repeat(1_000));
        assert_eq!(audience(&users, "7", &endless, None), Audience { gave_up: true, ..none });
    }
}

#![forbid(unsafe_code)]
//! The home of the broker destinations: it sequences every publish and knows which shards care.

use super::pattern::{self, Budget, Outcome};
use super::prefix::ByPrefix;
use crate::ids::ShardId;
use crate::mem::secret::{HashKey, Random};
use crate::mem::shares::{Bound, Key, Kind, Place, Shares, may_hold};
use core::fmt;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// Who hears a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// One bit a shard.
    pub shards: u64,
    /// Count of subscriptions.
    pub subscriptions: u32,
    /// Some pattern gave up: whoever subscribed to it is not among them.
    pub gave_up: bool,
}

impl Audience {
    /// The shards, one after another.
    pub fn shards(self) -> impl Iterator<Item = ShardId> {
        let mut left = self.shards;
        core::iter::from_fn(move || {
            let shard = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (shard < 64).then_some(ShardId(shard as u8))
        })
    }

    fn add(&mut self, shard: usize, count: u32) {
        if count > 0 {
            self.shards |= 1 << shard;
            self.subscriptions += count;
        }
    }
}

/// Why there is no room for a destination or pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The table is full (limit `destinations`).
    Table,
    /// Too many patterns begin like this one (limit `patterns-alike`).
    Alike,
    /// The address holds its share of the table.
    Share,
    /// The address holds its share of the patterns that begin like this one.
    ShareAlike,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Full::Table => "the table of destinations and patterns is full",
            Full::Alike => "too many patterns begin alike",
            Full::Share => "the address has its share of the table",
            Full::ShareAlike => "the address has its share of the patterns that begin alike",
        })
    }
}

impl core::error::Error for Full {}

/// Whose share a new destination comes out of.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What each address holds.
    pub shares: &'a Shares,
    /// The address of who asks; one that is not counted has no bound but the table's.
    pub owner: Option<Key>,
    /// What each may have (limit `share-least`).
    pub least: u32,
}

/// A destination or pattern with a subscription.
#[derive(Debug)]
struct Entry {
    /// Subscriptions, by shard.
    counts: SmallVec<[u32; 4]>,
    /// Where it is counted for the address that brought it, until its last subscription ends.
    place: Place,
}

type Table = HashMap<Arc<str>, Entry, HashKey>;

/// The home's table.
#[derive(Debug)]
pub struct Home {
    destinations: Table,
    patterns: Table,
    by_prefix: ByPrefix<(Arc<str>, Place)>,
    separator: char,
    max: u32,
    alike_max: u32,
}

impl Home {
    /// An empty home; the keys of its tables are drawn.
    pub fn new(separator: char, max: u32, alike_max: u32, random: &mut Random) -> Home {
        Home {
            destinations: HashMap::with_hasher(random.key()),
            patterns: HashMap::with_hasher(random.key()),
            by_prefix: ByPrefix::new(separator, random.key()),
            separator,
            max,
            alike_max,
        }
    }

    /// A session of `shard` subscribed to a destination or pattern. Only what nobody else has
    /// subscribed to takes room, of the table and of the asker's share.
    pub fn subscribe(
        &mut self,
        destination: &Arc<str>,
        shard: ShardId,
        claim: Claim<'_>,
    ) -> Result<(), Full> {
        if !self.table_of(destination).contains_key(destination) {
            let place = self.claim(destination, claim)?;
            if pattern::is_pattern(destination) {
                self.by_prefix.insert(destination, (destination.clone(), place));
            }
            let entry = Entry { counts: SmallVec::new(), place };
            self.table_of(destination).insert(destination.clone(), entry);
        }
        let entry = self.table_of(destination).get_mut(destination).expect("it is there now");
        let counts = &mut entry.counts;
        if counts.len() <= shard.index() {
            counts.resize(shard.index() + 1, 0);
        }
        counts[shard.index()] += 1;
        Ok(())
    }

    /// Takes room for a new destination or pattern.
    fn claim(&self, destination: &str, claim: Claim<'_>) -> Result<Place, Full> {
        let Claim { shares, owner, least } = claim;
        let used = self.len() as u32;
        if used >= self.max {
            return Err(Full::Table);
        }
        if pattern::is_pattern(destination) {
            let (mut alike, mut own) = (0, 0);
            for (_, place) in self.by_prefix.list(destination) {
                alike += 1;
                own += u32::from(owner.is_some_and(|key| shares.is_of(*place, key)));
            }
            if alike >= self.alike_max {
                return Err(Full::Alike);
            }
            let bound = Bound { capacity: self.alike_max, least };
            if owner.is_some() && !may_hold(own, alike, bound) {
                return Err(Full::ShareAlike);
            }
        }
        let Some(key) = owner else { return Ok(Place::NONE) };
        let bound = Bound { capacity: self.max, least };
        shares.take_share(key, Kind::Destinations, Some(used), bound).ok_or(Full::Share)
    }

    /// A session of `shard` left a destination or pattern that it had subscribed to.
    pub fn unsubscribe(&mut self, destination: &Arc<str>, shard: ShardId, shares: &Shares) {
        let table = self.table_of(destination);
        let entry = table.get_mut(destination).expect("a subscription ends after it began");
        let count = &mut entry.counts[shard.index()];
        *count = count.checked_sub(1).expect("a subscription ends once");
        if entry.counts.iter().all(|&count| count == 0) {
            let place = entry.place;
            table.remove(destination);
            shares.give_back(place, Kind::Destinations);
            if pattern::is_pattern(destination) {
                self.by_prefix.remove(destination, &(destination.clone(), place));
            }
        }
    }

    fn table_of(&mut self, destination: &str) -> &mut Table {
        match pattern::is_pattern(destination) {
            true => &mut self.patterns,
            false => &mut self.destinations,
        }
    }

    /// Who hears a publish to `destination`.
    pub fn audience(&self, destination: &str, budget: &mut Budget) -> Audience {
        let mut audience = Audience::default();
        let mut add = |entry: &Entry| {
            for (shard, &count) in entry.counts.iter().enumerate() {
                audience.add(shard, count);
            }
        };
        if let Some(entry) = self.destinations.get(destination) {
            add(entry);
        }
        let mut gave_up = false;
        self.by_prefix.may_match(destination, |(pattern, _)| {
            match budget.compare(pattern, destination, self.separator) {
                Outcome::Match => add(&self.patterns[pattern]),
                Outcome::NoMatch => {}
                Outcome::GaveUp => gave_up = true,
            }
        });
        audience.gave_up = gave_up;
        audience
    }

    /// Count of destinations and patterns with a subscription.
    pub fn len(&self) -> usize {
        self.destinations.len() + self.patterns.len()
    }

    /// Asserts what holds between the tables. Slow.
    pub fn invariants(&self) {
        assert!(self.len() <= self.max as usize, "destinations are bounded");
        for (table, of_patterns) in [(&self.destinations, false), (&self.patterns, true)] {
            for (name, entry) in table {
                assert_eq!(pattern::is_pattern(name), of_patterns, "{name} is in its table");
                let is_heard = entry.counts.iter().any(|count| *count > 0);
                assert!(is_heard, "{name}: a destination has a subscription");
            }
        }
        for name in self.patterns.keys() {
            let alike = self.by_prefix.list(name).iter();
            let found = alike.filter(|(other, _)| other == name).count();
            assert_eq!(found, 1, "{name}: a pattern is found by how it begins");
        }
        assert_eq!(self.by_prefix.count(), self.patterns.len(), "only patterns are looked for");
    }

    /// The last subscription to a destination is forgotten, or to a pattern how it begins. False
    /// if there is none.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self, of_pattern: bool) -> bool {
        let table = if of_pattern { &self.patterns } else { &self.destinations };
        let Some(name) = table.keys().next().cloned() else { return false };
        let entry = self.table_of(&name).get_mut(&name).expect("it was just seen");
        if of_pattern {
            let place = entry.place;
            self.by_prefix.remove(&name, &(name.clone(), place));
        } else {
            entry.counts.clear();
        }
        true
    }

    /// Whether nobody has subscribed to anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(home: &Home, destination: &str) -> Audience {
        home.audience(destination, &mut Budget::default())
    }

    #[test]
    fn counts_come_and_go_by_shard_and_patterns_count_too() {
        let shares = Shares::new(16, HashKey::known(1));
        let free = Claim { shares: &shares, owner: None, least: 0 };
        let mut home = Home::new('/', 3, 9, &mut Random::known(1));
        let (all, any): (Arc<str>, Arc<str>) = ("/topic/all".into(), "/topic/**".into());
        home.subscribe(&all, ShardId(0), free).expect("room");
        home.subscribe(&all, ShardId(2), free).expect("room");
        home.subscribe(&any, ShardId(2), free).expect("room");
        let all_hear = audience(&home, "/topic/all");
        assert_eq!(all_hear, Audience { shards: 0b101, subscriptions: 3, gave_up: false });
        assert_eq!(all_hear.shards().collect::<Vec<_>>(), vec![ShardId(0), ShardId(2)]);
        let one = Audience { shards: 0b100, subscriptions: 1, gave_up: false };
        assert_eq!(audience(&home, "/topic/x"), one);
        home.subscribe(&"/topic/c".into(), ShardId(1), free).expect("room");
        assert_eq!(home.subscribe(&"/topic/d".into(), ShardId(1), free), Err(Full::Table));
        home.unsubscribe(&any, ShardId(2), &shares);
        home.unsubscribe(&all, ShardId(2), &shares);
        home.unsubscribe(&all, ShardId(0), &shares);
        assert_eq!(audience(&home, "/topic/all"), Audience::default());
        assert_eq!(home.len(), 1);
    }

    #[test]
    fn a_pattern_that_gives_up_hears_nothing_and_is_told_of() {
        let shares = Shares::new(16, HashKey::known(1));
        let free = Claim { shares: &shares, owner: None, least: 0 };
        let mut home = Home::new('/', 100, 100, &mut Random::known(1));
        for pattern in [format!("/topic/*{}b*", "a?".repeat(10)), "/topic/**".to_owned()] {
            home.subscribe(&pattern.into(), ShardId(1), free).expect("room");
        }
        let endless = format!("/topic/{}", "a".repeat(1_000));
        let one = Audience { shards: 0b10, subscriptions: 1, gave_up: true };
        assert_eq!(audience(&home, &endless), one);
        assert_eq!(audience(&home, &format!("{}b", &endless[..40])).subscriptions, 2);
    }

    #[test]
    fn patterns_that_begin_alike_are_bounded() {
        let shares = Shares::new(16, HashKey::known(1));
        let free = Claim { shares: &shares, owner: None, least: 0 };
        let mut home = Home::new('/', 100, 2, &mut Random::known(1));
        for (pattern, fits) in
            [("/a/*", true), ("/a/?", true), ("/a/*x", false), ("/a/*", true), ("/b/*", true)]
        {
            assert_eq!(
                home.subscribe(&pattern.into(), ShardId(0), free).is_ok(),
                fits,
                "{pattern}"
            );
        }
        assert_eq!(audience(&home, "/a/xx").subscriptions, 2);
        home.unsubscribe(&"/a/?".into(), ShardId(0), &shares);
        assert!(home.subscribe(&"/a/*x".into(), ShardId(0), free).is_ok());
        assert_eq!(audience(&home, "/a/xx").subscriptions, 3);
    }

    #[test]
    fn what_an_address_brings_is_its_share_until_the_last_subscription_ends() {
        let shares = Shares::new(64, HashKey::known(1));
        let claim = |host: u8| {
            let owner = Some(shares.key(core::net::IpAddr::from([10, 0, 0, host])));
            Claim { shares: &shares, owner, least: 1 }
        };
        let mut home = Home::new('/', 16, 8, &mut Random::known(1));
        let names: Vec<Arc<str>> = (0..6).map(|n| format!("/topic/{n}").into()).collect();
        for name in &names[..4] {
            home.subscribe(name, ShardId(0), claim(1)).expect("a quarter of 16");
        }
        assert_eq!(home.subscribe(&names[4], ShardId(0), claim(1)), Err(Full::Share));
        // What is there already takes nothing, and whoever else comes has a share of the rest.
        home.subscribe(&names[0], ShardId(1), claim(1)).expect("known");
        home.subscribe(&names[0], ShardId(1), claim(2)).expect("known");
        home.subscribe(&names[4], ShardId(0), claim(2)).expect("one of three");
        // It is the first one's until nobody has it.
        home.unsubscribe(&names[0], ShardId(0), &shares);
        home.unsubscribe(&names[0], ShardId(1), &shares);
        assert_eq!(home.subscribe(&names[5], ShardId(0), claim(1)), Err(Full::Share));
        home.unsubscribe(&names[0], ShardId(1), &shares);
        assert_eq!(home.subscribe(&names[5], ShardId(0), claim(1)), Err(Full::Share), "of 15");
        home.unsubscribe(&names[1], ShardId(0), &shares);
        home.subscribe(&names[5], ShardId(0), claim(1)).expect("two are gone");
        for name in &names[2..] {
            home.unsubscribe(name, ShardId(0), &shares);
        }
        assert!(home.is_empty() && shares.is_empty());
    }

    #[test]
    fn an_address_has_its_share_of_the_patterns_that_begin_alike() {
        let shares = Shares::new(64, HashKey::known(1));
        let claim = |host: u8| {
            let owner = Some(shares.key(core::net::IpAddr::from([10, 0, 0, host])));
            Claim { shares: &shares, owner, least: 1 }
        };
        let mut home = Home::new('/', 1_000, 8, &mut Random::known(1));
        let mut subscribe =
            |name: &str, host| home.subscribe(&name.into(), ShardId(0), claim(host));
        assert_eq!((subscribe("/a/*", 1), subscribe("/a/?", 1)), (Ok(()), Ok(())));
        assert_eq!(subscribe("/a/x*", 1), Err(Full::ShareAlike));
        assert_eq!((subscribe("/b/*", 1), subscribe("/a/x*", 2)), (Ok(()), Ok(())));
        assert_eq!(subscribe("/a/y*", 2), Err(Full::ShareAlike), "a quarter of six");
        assert_eq!(subscribe("/a/y*", 3), Ok(()), "the least");
    }

    #[test]
    fn those_without_a_place_have_one_share_of_the_patterns_together() {
        let shares = Shares::new(16, HashKey::known(1));
        let key = |host: u8| shares.key(core::net::IpAddr::from([10, 0, 0, host]));
        // Sixteen addresses hold a connection each: there is no place for more.
        for host in 0..16 {
            let _ = shares.take(key(host), Kind::Connections);
        }
        let mut home = Home::new('/', 1_000, 8, &mut Random::known(1));
        let mut subscribe = |name: &str, host| {
            let claim = Claim { shares: &shares, owner: Some(key(host)), least: 1 };
            home.subscribe(&name.into(), ShardId(0), claim)
        };
        assert_eq!((subscribe("/a/*", 20), subscribe("/a/?", 21)), (Ok(()), Ok(())));
        assert_eq!(subscribe("/a/x*", 22), Err(Full::ShareAlike));
        assert_eq!(subscribe("/a/x*", 3), Ok(()), "one with a place of its own");
    }
}

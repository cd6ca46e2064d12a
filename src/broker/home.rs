#![forbid(unsafe_code)]
//! The home of the broker destinations: it sequences every publish and knows which shards care.

use super::pattern::{self, Outcome};
use super::prefix::ByPrefix;
use crate::ids::ShardId;
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

/// The table of destinations is full (limit `destinations`), or too many patterns begin like this
/// one (limit `patterns-alike`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Subscriptions of one destination, by shard.
type Counts = SmallVec<[u32; 4]>;

/// The home's table.
#[derive(Debug)]
pub struct Home {
    destinations: HashMap<Arc<str>, Counts, foldhash::fast::FixedState>,
    patterns: HashMap<Arc<str>, Counts, foldhash::fast::FixedState>,
    by_prefix: ByPrefix<Arc<str>>,
    separator: char,
    max: usize,
    alike_max: usize,
}

impl Home {
    /// An empty home with its hash key.
    pub fn new(separator: char, max: u32, alike_max: u32, seed: u64) -> Home {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Home {
            destinations: HashMap::with_hasher(hasher.clone()),
            patterns: HashMap::with_hasher(hasher),
            by_prefix: ByPrefix::new(separator, seed),
            separator,
            max: max as usize,
            alike_max: alike_max as usize,
        }
    }

    /// A session of `shard` subscribed to a destination or pattern.
    pub fn subscribe(&mut self, destination: &Arc<str>, shard: ShardId) -> Result<(), Full> {
        let room = self.destinations.len() + self.patterns.len() < self.max;
        let is_new = !self.table_of(destination).contains_key(destination);
        if is_new && pattern::is_pattern(destination) {
            if !room || self.by_prefix.alike(destination) >= self.alike_max {
                return Err(Full);
            }
            self.by_prefix.insert(destination, destination.clone());
        } else if is_new && !room {
            return Err(Full);
        }
        let table = self.table_of(destination);
        let counts = table.entry(destination.clone()).or_default();
        if counts.len() <= shard.index() {
            counts.resize(shard.index() + 1, 0);
        }
        counts[shard.index()] += 1;
        Ok(())
    }

    /// A session of `shard` left a destination or pattern that it had subscribed to.
    pub fn unsubscribe(&mut self, destination: &Arc<str>, shard: ShardId) {
        let table = self.table_of(destination);
        let counts = table.get_mut(destination).expect("a subscription ends after it began");
        let count = &mut counts[shard.index()];
        *count = count.checked_sub(1).expect("a subscription ends once");
        if counts.iter().all(|&count| count == 0) {
            table.remove(destination);
            if pattern::is_pattern(destination) {
                self.by_prefix.remove(destination, destination);
            }
        }
    }

    fn table_of(
        &mut self,
        destination: &str,
    ) -> &mut HashMap<Arc<str>, Counts, foldhash::fast::FixedState> {
        match pattern::is_pattern(destination) {
            true => &mut self.patterns,
            false => &mut self.destinations,
        }
    }

    /// Who hears a publish to `destination`.
    pub fn audience(&self, destination: &str) -> Audience {
        let mut audience = Audience::default();
        let mut add = |counts: &Counts| {
            for (shard, &count) in counts.iter().enumerate() {
                audience.add(shard, count);
            }
        };
        if let Some(counts) = self.destinations.get(destination) {
            add(counts);
        }
        let mut gave_up = false;
        self.by_prefix.may_match(destination, |pattern| {
            match pattern::compare(pattern, destination, self.separator) {
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

    /// Whether nobody has subscribed to anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_and_go_by_shard_and_patterns_count_too() {
        let mut home = Home::new('/', 3, 9, 1);
        let (all, any): (Arc<str>, Arc<str>) = ("/topic/all".into(), "/topic/**".into());
        home.subscribe(&all, ShardId(0)).expect("room");
        home.subscribe(&all, ShardId(2)).expect("room");
        home.subscribe(&any, ShardId(2)).expect("room");
        let audience = home.audience("/topic/all");
        assert_eq!(audience, Audience { shards: 0b101, subscriptions: 3, gave_up: false });
        assert_eq!(audience.shards().collect::<Vec<_>>(), vec![ShardId(0), ShardId(2)]);
        let one = Audience { shards: 0b100, subscriptions: 1, gave_up: false };
        assert_eq!(home.audience("/topic/x"), one);
        home.subscribe(&"/topic/c".into(), ShardId(1)).expect("room");
        assert_eq!(home.subscribe(&"/topic/d".into(), ShardId(1)), Err(Full));
        home.unsubscribe(&any, ShardId(2));
        home.unsubscribe(&all, ShardId(2));
        home.unsubscribe(&all, ShardId(0));
        assert_eq!(home.audience("/topic/all"), Audience::default());
        assert_eq!(home.len(), 1);
    }

    #[test]
    fn a_pattern_that_gives_up_hears_nothing_and_is_told_of() {
        let mut home = Home::new('/', 100, 100, 1);
        for pattern in [format!("/topic/*{}b", "a".repeat(20)), "/topic/**".to_owned()] {
            home.subscribe(&pattern.into(), ShardId(1)).expect("room");
        }
        let endless = format!("/topic/{}", "a".repeat(1_000));
        let one = Audience { shards: 0b10, subscriptions: 1, gave_up: true };
        assert_eq!(home.audience(&endless), one);
        assert_eq!(home.audience(&format!("{}b", &endless[..40])).subscriptions, 2);
    }

    #[test]
    fn patterns_that_begin_alike_are_bounded() {
        let mut home = Home::new('/', 100, 2, 1);
        for (pattern, fits) in
            [("/a/*", true), ("/a/?", true), ("/a/*x", false), ("/a/*", true), ("/b/*", true)]
        {
            assert_eq!(home.subscribe(&pattern.into(), ShardId(0)).is_ok(), fits, "{pattern}");
        }
        assert_eq!(home.audience("/a/xx").subscriptions, 2);
        home.unsubscribe(&"/a/?".into(), ShardId(0));
        assert!(home.subscribe(&"/a/*x".into(), ShardId(0)).is_ok());
        assert_eq!(home.audience("/a/xx").subscriptions, 3);
    }
}

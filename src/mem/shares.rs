#![forbid(unsafe_code)]
//! Counts how much of the shared resources each address uses, in one table of atomics for the whole
//! process.
//!
//! An address is an IPv4 address, or the first 64 bits of an IPv6 one. It may use a quarter of what
//! the others leave free, and always `share-least`: [`may_hold`]. Its place in the table is found
//! by a keyed hash, so that no client can aim at another's. The place is taken by the first
//! resource that the address uses, and is free again after the last.
//!
//! Order of calls: [`Shares::key`], then [`Shares::take`] or [`Shares::take_share`] for each
//! resource, and [`Shares::give_back`] with the returned place, on any thread.
//!
//! Bound: `share-addresses`. Addresses whose bucket is full are counted together
//! ([`Place::REST`]): they have one share between them, and nobody is refused for it.
//!
//! Two threads that take for a new address at the same time may give it two places. This does no
//! harm: what an address uses is always the sum.

use super::secret::HashKey;
use crate::ids::address_block;
use core::hash::BuildHasher;
use core::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connections.
    Connections,
    /// Destinations and patterns that an address has created at their home.
    Destinations,
    /// Hook calls that wait or are running.
    HookCalls,
}

/// Count of kinds.
const KINDS: usize = 3;
/// The places where an address may be counted.
const WAYS: usize = 16;
/// The places of one address are adjacent: 16 words are two cache lines.
const TAG_SHIFT: u32 = 32;

/// An address as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    bucket: u32,
    tag: u32,
}

/// Where a resource is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    /// Not counted: it belongs to a trusted proxy itself.
    pub const NONE: Place = Place(u32::MAX);
    /// All addresses without a place of their own.
    pub const REST: Place = Place(u32::MAX - 1);
}

/// The size of a resource, and how much of it each address may always use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its size.
    pub capacity: u32,
    /// What an address may always use (limit `share-least`).
    pub least: u32,
}

/// Whether an address that uses `held` of a resource may have one more, if all together use `used`:
/// a quarter of what the others leave free, at least [`Bound::least`].
///
/// Each newcomer may use a quarter of the rest, so one address never has more than a quarter, and
/// four of them never more than 69 %.
pub fn may_hold(held: u32, used: u32, bound: Bound) -> bool {
    let others = used.saturating_sub(held);
    held < (bound.capacity.saturating_sub(others) / 4).max(bound.least)
}

/// The table.
#[derive(Debug)]
pub struct Shares {
    secret: HashKey,
    /// A tag and the count of resources in use; zero for a free place.
    words: Box<[AtomicU64]>,
    /// The counts of each place; the last entry is that of the rest.
    counts: Box<[[AtomicU32; KINDS]]>,
    /// What all addresses use together.
    totals: [AtomicU32; KINDS],
    /// Connections, those of trusted proxies among them.
    connections: AtomicU32,
}

impl Shares {
    /// A table for this many addresses, with the key of its hash.
    pub fn new(addresses: u32, secret: HashKey) -> Shares {
        let buckets = (addresses as usize).div_ceil(WAYS).max(1);
        let places = buckets * WAYS;
        Shares {
            secret,
            words: (0..places).map(|_| AtomicU64::default()).collect(),
            counts: (0..=places).map(|_| Default::default()).collect(),
            totals: Default::default(),
            connections: AtomicU32::default(),
        }
    }

    /// An address as the table knows it.
    pub fn key(&self, address: IpAddr) -> Key {
        let network = match address_block(address) {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let hash = self.secret.hash_one(network);
        let buckets = (self.words.len() / WAYS) as u64;
        let bucket = ((hash & u64::from(u32::MAX)) * buckets) >> 32;
        Key { bucket: bucket as u32, tag: (hash >> 32) as u32 }
    }

    /// Counts one more for an address.
    pub fn take(&self, key: Key, kind: Kind) -> Place {
        let place = self.take_place(key);
        self.held_at(place)[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.totals[kind as usize].fetch_add(1, Ordering::Relaxed);
        place
    }

    /// The same, if it is within the address's share. `used` is how much of the resource is in use;
    /// None: what is counted here.
    pub fn take_share(
        &self,
        key: Key,
        kind: Kind,
        used: Option<u32>,
        bound: Bound,
    ) -> Option<Place> {
        // Counted before the check, so that several threads at once cannot exceed the share.
        let place = self.take(key, kind);
        let used = used.unwrap_or_else(|| self.total(kind).saturating_sub(1));
        if may_hold(self.held(key, kind).saturating_sub(1), used, bound) {
            return Some(place);
        }
        self.give_back(place, kind);
        None
    }

    /// Counts one less at a place.
    pub fn give_back(&self, place: Place, kind: Kind) {
        if place == Place::NONE {
            return;
        }
        let before = self.held_at(place)[kind as usize].fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "it is given back once");
        self.totals[kind as usize].fetch_sub(1, Ordering::Relaxed);
        if let Some(word) = self.words.get(place.0 as usize) {
            let one_less = |word: u64| Some(if word as u32 == 1 { 0 } else { word - 1 });
            // A thread that finds the place free also sees the counts above as given back.
            let less = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less);
            less.expect("the update always returns a value");
        }
    }

    /// Takes a place for this address: its own, a free one, or that of the rest.
    fn take_place(&self, key: Key) -> Place {
        let first = key.bucket as usize * WAYS;
        let bucket = &self.words[first..first + WAYS];
        // If a round fails, another thread has made progress.
        loop {
            let mut free = None;
            let mut own = None;
            for (at, word) in bucket.iter().enumerate() {
                match word.load(Ordering::Acquire) {
                    0 => free = free.or(Some((at, 0))),
                    word if (word >> TAG_SHIFT) as u32 == key.tag => {
                        own = Some((at, word));
                        break;
                    }
                    _ => {}
                }
            }
            let Some((at, seen)) = own.or(free) else { return Place::REST };
            let next = (u64::from(key.tag) << TAG_SHIFT) | (u64::from(seen as u32) + 1);
            let order = (Ordering::AcqRel, Ordering::Relaxed);
            if bucket[at].compare_exchange(seen, next, order.0, order.1).is_ok() {
                return Place((first + at) as u32);
            }
        }
    }

    fn held_at(&self, place: Place) -> &[AtomicU32; KINDS] {
        let at = (place.0 as usize).min(self.words.len());
        &self.counts[at]
    }

    /// What is counted at a place.
    pub fn count_at(&self, place: Place, kind: Kind) -> u32 {
        match place {
            Place::NONE => 0,
            place => self.held_at(place)[kind as usize].load(Ordering::Relaxed),
        }
    }

    /// What an address uses.
    pub fn held(&self, key: Key, kind: Kind) -> u32 {
        if self.is_with_the_rest(key) {
            return self.count_at(Place::REST, kind);
        }
        let own = self.places_of(key).filter(|&place| self.is_of(place, key));
        own.map(|place| self.count_at(place, kind)).sum()
    }

    /// The places that an address may have.
    fn places_of(&self, key: Key) -> impl Iterator<Item = Place> + use<> {
        let first = key.bucket * WAYS as u32;
        (first..first + WAYS as u32).map(Place)
    }

    /// Whether an address has no place of its own, and would find none.
    fn is_with_the_rest(&self, key: Key) -> bool {
        let is_others = |place| self.word(place) != 0 && !self.is_of(place, key);
        self.places_of(key).all(is_others)
    }

    /// The value at a place of the table; that of a free place for the places outside the table.
    fn word(&self, place: Place) -> u64 {
        self.words.get(place.0 as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Whether a place is this address's, alone or with the rest.
    pub fn is_of(&self, place: Place, key: Key) -> bool {
        if place == Place::REST {
            return self.is_with_the_rest(key);
        }
        let word = self.word(place);
        word != 0 && place.0 / WAYS as u32 == key.bucket && (word >> TAG_SHIFT) as u32 == key.tag
    }

    /// What all addresses use together.
    pub fn total(&self, kind: Kind) -> u32 {
        self.totals[kind as usize].load(Ordering::Relaxed)
    }

    /// Counts one more connection of any address, if there are fewer than `most`.
    pub fn connect(&self, most: u32) -> bool {
        let has_room = self.connections.fetch_add(1, Ordering::Relaxed) < most;
        if !has_room {
            self.disconnect();
        }
        has_room
    }

    /// Counts one connection less.
    pub fn disconnect(&self) {
        let before = self.connections.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection ends once");
    }

    /// Count of connections.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether nothing is in use.
    pub fn is_empty(&self) -> bool {
        let nothing = |count: &AtomicU32| count.load(Ordering::Relaxed) == 0;
        self.words.iter().all(|word| word.load(Ordering::Relaxed) == 0)
            && self.counts.iter().flatten().all(nothing)
            && self.totals.iter().all(nothing)
            && nothing(&self.connections)
    }
}

/// Bytes of one place, for the memory estimate.
pub const PLACE_BYTES: usize = size_of::<AtomicU64>() + size_of::<[AtomicU32; KINDS]>();

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const KIND: Kind = Kind::Destinations;

    #[test]
    fn an_address_is_identified_by_what_its_owner_cannot_change() {
        let shares = Shares::new(1 << 20, HashKey::known(7));
        let key = |text| shares.key(address(text));
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_ne!(key("::10.0.0.1"), key("10.0.0.1"));
        let other = Shares::new(1 << 20, HashKey::known(8));
        assert_ne!(key("10.0.0.1"), other.key(address("10.0.0.1")), "the hash has a key");
    }

    #[test]
    fn a_share_is_a_quarter_of_what_others_leave_and_never_less_than_the_least() {
        let bound = Bound { capacity: 100, least: 3 };
        let most = |others: u32| (0..).find(|&held| !may_hold(held, others + held, bound));
        assert_eq!(most(0), Some(25));
        assert_eq!(most(25), Some(18));
        assert_eq!(most(80), Some(5));
        for others in [88, 99, 100, 1_000] {
            assert_eq!(most(others), Some(3), "{others}");
        }
        assert!(may_hold(0, u32::MAX, bound) && !may_hold(u32::MAX, u32::MAX, bound));
    }

    #[test]
    fn what_is_past_the_share_is_not_counted() {
        let shares = Shares::new(64, HashKey::known(1));
        let key = shares.key(address("10.0.0.1"));
        let bound = Bound { capacity: 16, least: 1 };
        let taken: Vec<Place> =
            (0..9).map_while(|_| shares.take_share(key, KIND, None, bound)).collect();
        assert_eq!((taken.len(), shares.held(key, KIND), shares.total(KIND)), (4, 4, 4));
        let other = shares.key(address("10.0.0.2"));
        // A resource may have more users than those counted here.
        let none = Bound { capacity: 16, least: 0 };
        assert!(shares.take_share(other, KIND, Some(13), none).is_none());
        let third = shares.take_share(other, KIND, Some(9), bound).expect("one of seven");
        for place in taken {
            assert!(shares.is_of(place, key) && !shares.is_of(place, other));
            shares.give_back(place, KIND);
        }
        shares.give_back(third, KIND);
        shares.give_back(Place::NONE, KIND);
        assert!(shares.is_empty());
    }

    #[test]
    fn an_address_that_finds_the_table_full_counts_with_the_rest() {
        let shares = Shares::new(16, HashKey::known(1));
        let key = |number: u8| shares.key(IpAddr::from([10, 0, 0, number]));
        let own: Vec<Place> = (0..16).map(|n| shares.take(key(n), KIND)).collect();
        assert!(!own.contains(&Place::REST));
        let rest: Vec<Place> = (16..20).map(|n| shares.take(key(n), KIND)).collect();
        assert_eq!(rest, [Place::REST; 4]);
        assert_eq!((shares.held(key(16), KIND), shares.held(key(77), KIND)), (4, 4));
        assert_eq!(shares.held(key(3), KIND), 1);
        let with_the_rest = |n| shares.is_of(Place::REST, key(n));
        assert!(with_the_rest(16) && with_the_rest(77) && !with_the_rest(3));
        own.into_iter().chain(rest).for_each(|place| shares.give_back(place, KIND));
        assert!(shares.is_empty());
        assert_eq!(shares.held(key(16), KIND), 0);
        assert!(!shares.is_of(Place::REST, key(16)), "it has a place of its own");
    }

    #[test]
    fn connections_are_counted_up_to_the_bound() {
        let shares = Shares::new(16, HashKey::known(1));
        assert!(shares.connect(2) && shares.connect(2) && !shares.connect(2));
        shares.disconnect();
        assert!(shares.connect(2) && shares.connections() == 2);
    }

    /// Threads take and give back for the same few addresses: none sees a wrong count, and nothing
    /// is left at the end.
    #[test]
    fn threads_agree_on_what_is_in_use() {
        let shares = Shares::new(16, HashKey::known(1));
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let shares = &shares;
                scope.spawn(move || {
                    for round in 0..2_000u32 {
                        // One address that all threads use, and one per thread, in one bucket.
                        let all = shares.key(IpAddr::from([10, 0, 0, 0]));
                        let own = shares.key(IpAddr::from([10, 0, 1, thread]));
                        let places = [shares.take(all, KIND), shares.take(own, KIND)];
                        assert_eq!(shares.held(own, KIND), 1, "{round}");
                        let held = shares.held(all, KIND);
                        assert!((1..=4).contains(&held), "{held}");
                        for place in places {
                            shares.give_back(place, KIND);
                        }
                    }
                });
            }
        });
        assert!(shares.is_empty());
    }

    proptest! {
        /// Compares with a map: an address uses what it took and did not give back.
        #[test]
        fn counts_are_those_of_a_map(
            steps in prop::collection::vec((0u8..12, any::<bool>()), 0..200),
        ) {
            let shares = Shares::new(4, HashKey::known(3));
            let mut held: Vec<Vec<Place>> = vec![Vec::new(); 12];
            for (number, takes) in steps {
                let key = shares.key(IpAddr::from([10, 0, 0, number]));
                let own = &mut held[usize::from(number)];
                if takes {
                    own.push(shares.take(key, Kind::HookCalls));
                } else if let Some(place) = own.pop() {
                    shares.give_back(place, Kind::HookCalls);
                }
                prop_assert_eq!(shares.held(key, Kind::HookCalls) as usize, own.len());
                let all: usize = held.iter().map(Vec::len).sum();
                prop_assert_eq!(shares.total(Kind::HookCalls) as usize, all);
            }
        }
    }
}

#![forbid(unsafe_code)]
//! One shard's subscribers, grouped by what they see on the wire.
//!
//! A MESSAGE differs between subscribers only in its `subscription` header, the STOMP version's
//! escapes and how it travels. Subscribers that agree in all three are one group, and a
//! message is encoded once per group: ten thousand browsers with the id `sub-0` are one group.

use super::pattern::{self, Budget, Outcome};
use super::prefix::ByPrefix;
use crate::encoding::Encoding;
use crate::ids::{GroupIndex, LinkIndex};
use crate::mem::intern::{Interner, Sym};
use crate::mem::secret::{HashKey, Random};
use crate::mem::slab::Slab;
use crate::stomp::Version;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Everything but the subscription id that decides how a MESSAGE looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameFormat {
    /// How frames travel.
    pub encoding: Encoding,
    /// STOMP version.
    pub version: Version,
    /// MESSAGE has an `ack` header (ack modes client and client-individual).
    pub acks: bool,
}

/// Subscribers of one destination (or pattern) that see the same bytes.
#[derive(Debug)]
pub struct Group {
    /// Destination or pattern.
    pub destination: Sym,
    /// Subscription id.
    pub id: Sym,
    /// How it travels, version and `ack`.
    pub format: FrameFormat,
    /// The destination is a pattern.
    pub is_pattern: bool,
    /// Its place among the groups of its destination.
    place: u32,
    /// The links of its members.
    pub members: Vec<LinkIndex>,
    /// Deliveries of this turn that the group has still to be given: numbers of the turn's list.
    pub pending: Vec<u32>,
    /// Count of messages that wait for the end of a batch for it.
    pub batched: u32,
}

/// Entries of `pending` that a group keeps memory for when it has been given all.
const KEEP_PENDING: usize = 32;
/// What the allocator adds to a small run of bytes.
const HEAP: usize = 16;
/// A table that has just grown has room for twice its entries; the ones of `hashbrown` are at most
/// seven eighths full and have one byte more for each.
const GROWN: usize = 2;

/// Bytes of a group with one member, beside its names: its record, its places in the two tables,
/// its members and what was pending for it. It is what a group may cost, not what it mostly does.
pub const GROUP: u64 = (GROWN * (size_of::<Group>() + size_of::<u32>())
    + GROWN * (size_of::<((Sym, Sym, FrameFormat), GroupIndex)>() + 1) * 8 / 7
    + GROWN * (size_of::<(Sym, SmallVec<[GroupIndex; 2]>)>() + 1) * 8 / 7
    + (HEAP + 4 * size_of::<LinkIndex>())
    + (HEAP + KEEP_PENDING * size_of::<u32>())) as u64;

impl Group {
    /// Gives the memory of many pending deliveries back when none is left.
    pub fn give_back(&mut self) {
        if self.pending.is_empty() && self.pending.capacity() > KEEP_PENDING {
            self.pending.shrink_to(KEEP_PENDING);
        }
    }
}

/// The index of one shard.
#[derive(Debug)]
pub struct Index {
    groups: Slab<Group>,
    keys: HashMap<(Sym, Sym, FrameFormat), GroupIndex, HashKey>,
    /// By a number that we give, under a secret seed: clients choose how many, not which.
    by_destination: HashMap<Sym, SmallVec<[GroupIndex; 2]>, foldhash::fast::FixedState>,
    patterns: ByPrefix<Sym>,
    names: Interner,
    separator: char,
}

impl Index {
    /// An empty index; the keys of its tables are drawn.
    pub fn new(separator: char, random: &mut Random) -> Index {
        let numbers = foldhash::fast::FixedState::with_seed(random.number());
        Index {
            groups: Slab::default(),
            keys: HashMap::with_hasher(random.key()),
            by_destination: HashMap::with_hasher(numbers),
            patterns: ByPrefix::new(separator, random.key()),
            names: Interner::new(random.key()),
            separator,
        }
    }

    /// Strings of destinations and subscription ids; sessions name theirs by it, too.
    pub fn names(&mut self) -> &mut Interner {
        &mut self.names
    }

    /// Count of strings.
    pub fn names_len(&self) -> usize {
        self.names.len()
    }

    /// The string of a name.
    pub fn text(&self, sym: Sym) -> &std::sync::Arc<str> {
        self.names.text(sym)
    }

    /// Puts a link into the group of (destination, id, format), and says which and where in it.
    pub fn join(
        &mut self,
        destination: Sym,
        id: Sym,
        format: FrameFormat,
        link: LinkIndex,
    ) -> (GroupIndex, u32) {
        let group = match self.keys.get(&(destination, id, format)) {
            Some(&group) => group,
            None => self.open(destination, id, format),
        };
        let members = &mut self.groups.at_mut(group.0).members;
        members.push(link);
        (group, members.len() as u32 - 1)
    }

    fn open(&mut self, destination: Sym, id: Sym, format: FrameFormat) -> GroupIndex {
        let text = self.names.text(destination).clone();
        let is_pattern = pattern::is_pattern(&text);
        // The group keeps its names alive while it exists.
        self.names.intern(&text);
        let id_text = self.names.text(id).clone();
        self.names.intern(&id_text);
        let groups = self.by_destination.entry(destination).or_default();
        if groups.is_empty() && is_pattern {
            self.patterns.insert(&text, destination);
        }
        let group = Group {
            destination,
            id,
            format,
            is_pattern,
            place: groups.len() as u32,
            members: Vec::new(),
            pending: Vec::new(),
            batched: 0,
        };
        let index = GroupIndex(self.groups.insert(group).index);
        self.keys.insert((destination, id, format), index);
        groups.push(index);
        index
    }

    /// The group of (destination, id, format), if it has members.
    pub fn find(&self, destination: Sym, id: Sym, format: FrameFormat) -> Option<&Group> {
        self.keys.get(&(destination, id, format)).map(|&group| self.groups.at(group.0))
    }

    /// Takes the member at `position` out. The last member moves to its place: gives its link, so
    /// that the caller can note its new position.
    pub fn leave(&mut self, group: GroupIndex, position: u32) -> Option<LinkIndex> {
        let state = self.groups.at_mut(group.0);
        state.members.swap_remove(position as usize);
        let moved = state.members.get(position as usize).copied();
        if state.members.is_empty() {
            let is_due = !state.pending.is_empty() || state.batched > 0;
            assert!(!is_due, "what is pending is given before a member leaves");
            self.close(group);
        }
        moved
    }

    fn close(&mut self, index: GroupIndex) {
        let group = self.groups.remove(index.0);
        self.keys.remove(&(group.destination, group.id, group.format));
        if let Some(groups) = self.by_destination.get_mut(&group.destination) {
            // One destination may have a group for each of many ids: none of them is searched.
            groups.swap_remove(group.place as usize);
            if let Some(&moved) = groups.get(group.place as usize) {
                self.groups.at_mut(moved.0).place = group.place;
            }
            if groups.is_empty() {
                self.by_destination.remove(&group.destination);
                if group.is_pattern {
                    let text = self.names.text(group.destination);
                    self.patterns.remove(text, &group.destination);
                }
            }
        }
        self.names.release(group.destination);
        self.names.release(group.id);
    }

    /// Every group that hears a message to `destination`, each once. Where no pattern gave up at
    /// the home, none does here: the home has these patterns and others.
    pub fn heard_by(
        &self,
        destination: &str,
        budget: &mut Budget,
        mut visit: impl FnMut(GroupIndex),
    ) {
        if let Some(sym) = self.names.find(destination)
            && let Some(groups) = self.by_destination.get(&sym)
            && !groups.first().is_some_and(|&group| self.groups.at(group.0).is_pattern)
        {
            groups.iter().for_each(|&group| visit(group));
        }
        self.patterns.may_match(destination, |sym| {
            let pattern = self.names.text(*sym);
            if budget.compare(pattern, destination, self.separator) == Outcome::Match {
                self.by_destination[sym].iter().for_each(|&group| visit(group));
            }
        });
    }

    /// A group in use.
    pub fn group(&self, group: GroupIndex) -> &Group {
        self.groups.at(group.0)
    }

    /// A group in use.
    pub fn group_mut(&mut self, group: GroupIndex) -> &mut Group {
        self.groups.at_mut(group.0)
    }

    /// Asserts what holds between the tables and the groups, and gives the count of all members.
    /// Slow.
    pub fn invariants(&self) -> usize {
        let mut members = 0;
        for (index, group) in self.groups.iter() {
            let index = GroupIndex(index);
            let key = (group.destination, group.id, group.format);
            assert_eq!(self.keys.get(&key), Some(&index), "a group is found by what it is");
            let place = self.by_destination[&group.destination].get(group.place as usize);
            assert_eq!(place, Some(&index), "a group is found by its destination");
            assert!(!group.members.is_empty(), "an empty group is closed");
            members += group.members.len();
        }
        assert_eq!(self.keys.len(), self.groups.len(), "each group has one key");
        let listed: usize = self.by_destination.values().map(|groups| groups.len()).sum();
        assert_eq!(listed, self.groups.len(), "each group is at one destination");
        members
    }

    /// Count of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nobody has subscribed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: FrameFormat =
        FrameFormat { encoding: Encoding::PLAIN, version: Version::V1_2, acks: false };

    fn heard(index: &Index, destination: &str) -> Vec<u32> {
        let mut members = Vec::new();
        index.heard_by(destination, &mut Budget::default(), |group| {
            members.extend(index.group(group).members.iter().map(|session| session.0));
        });
        members.sort_unstable();
        members
    }

    #[test]
    fn equal_formats_share_a_group_and_patterns_are_heard_once() {
        let mut index = Index::new('/', &mut Random::known(3));
        assert!(index.is_empty());
        let all = index.names().intern("/topic/all");
        let any = index.names().intern("/topic/**");
        let id = index.names().intern("sub-0");
        let old = FrameFormat { version: Version::V1_0, ..FORMAT };
        let (a, _) = index.join(all, id, FORMAT, LinkIndex(1));
        let (b, place) = index.join(all, id, FORMAT, LinkIndex(2));
        assert_eq!((a, place), (b, 1));
        let (c, _) = index.join(all, id, old, LinkIndex(3));
        assert_ne!(a, c);
        index.join(any, id, FORMAT, LinkIndex(4));
        assert_eq!(heard(&index, "/topic/all"), vec![1, 2, 3, 4]);
        assert_eq!(heard(&index, "/topic/x"), vec![4]);
        assert_eq!(heard(&index, "/topic/**"), vec![4]);
        assert_eq!(index.leave(a, 0), Some(LinkIndex(2)));
        assert_eq!(index.leave(a, 0), None);
        assert_eq!(heard(&index, "/topic/all"), vec![3, 4]);
        assert_eq!((index.len(), index.is_empty()), (2, false));
        let other = index.names().intern("sub-1");
        let (d, _) = index.join(all, other, FORMAT, LinkIndex(5));
        assert_eq!(index.leave(c, 0), None);
        assert_eq!(heard(&index, "/topic/all"), vec![4, 5]);
        assert_eq!(index.leave(d, 0), None);
        assert_eq!(heard(&index, "/topic/all"), vec![4]);
    }
}

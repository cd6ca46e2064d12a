#![forbid(unsafe_code)]
//! A hashed timer wheel over small indexes: one entry per index, O(1) to set, move and cancel.
//!
//! Ticks are 128 ms and the horizon is 65 s. An entry farther away is visited at the horizon and
//! set again by its owner; so is an entry whose deadline has moved later (lazy re-insertion).
//!
//! Order of calls: `set`, `cancel` at any time; `advance` once per turn, then `pop` until `None`.

use crate::limits::{TICK_SHIFT, WHEEL_SLOTS};

const NONE: u32 = u32::MAX;
/// Value of an entry's `previous` if it is not in the wheel.
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    previous: u32,
    /// Tick at which it is due, low 32 bits; meaningful while linked.
    tick: u32,
}

impl Node {
    const EMPTY: Node = Node { next: NONE, previous: UNLINKED, tick: 0 };

    fn is_linked(&self) -> bool {
        self.previous != UNLINKED
    }

    fn slot(&self) -> usize {
        self.tick as usize % WHEEL_SLOTS
    }
}

const _: () = assert!(size_of::<Node>() == 12);

/// The wheel. 12 bytes per index.
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    slots: Vec<u32>,
    occupied: [u64; WHEEL_SLOTS / 64],
    /// Every tick up to this one has been handled.
    now: u64,
    target: u64,
    /// The first tick with an entry, or [`NEVER`].
    first: u64,
}

/// Stands for the tick of an empty wheel's first entry.
const NEVER: u64 = u64::MAX;

impl Wheel {
    /// An empty wheel whose clock is at `now_millis`, for indexes below `indexes` without
    /// reallocation.
    pub fn new(now_millis: u64, indexes: usize) -> Wheel {
        let now = now_millis >> TICK_SHIFT;
        Wheel {
            nodes: Vec::with_capacity(indexes),
            slots: vec![NONE; WHEEL_SLOTS],
            occupied: [0; WHEEL_SLOTS / 64],
            now,
            target: now,
            first: NEVER,
        }
    }

    /// Ensures that `index` is visited at `deadline_millis` or up to one tick later. An entry that
    /// is due earlier stays where it is: its owner checks the deadline when it is visited.
    #[inline]
    pub fn set(&mut self, index: u32, deadline_millis: u64) {
        let tick = ((deadline_millis >> TICK_SHIFT) + 1)
            .clamp(self.now + 1, self.now + WHEEL_SLOTS as u64 - 1);
        // Both lie within the horizon, so their distances from now can be compared.
        let now = self.now as u32;
        let is_early = |node: &Node| {
            node.is_linked() && node.tick.wrapping_sub(now) <= (tick as u32).wrapping_sub(now)
        };
        if !self.nodes.get(index as usize).is_some_and(is_early) {
            self.move_to(index, tick);
        }
    }

    #[inline(never)] // Most are due earlier already.
    fn move_to(&mut self, index: u32, tick: u64) {
        if index as usize >= self.nodes.len() {
            self.nodes.resize(index as usize + 1, Node::EMPTY);
        }
        self.cancel(index);
        self.link(index, tick);
    }

    /// Removes an entry.
    pub fn cancel(&mut self, index: u32) {
        if self.nodes.get(index as usize).is_some_and(Node::is_linked) {
            self.unlink(index);
        }
    }

    /// Moves the clock; `pop` then returns the due entries. True if there is one.
    #[inline]
    pub fn advance(&mut self, now_millis: u64) -> bool {
        self.target = self.target.max(now_millis >> TICK_SHIFT);
        let is_due = self.first <= self.target;
        if !is_due {
            self.now = self.target;
        }
        is_due
    }

    /// The next due entry, taken out of the wheel.
    pub fn pop(&mut self) -> Option<u32> {
        if self.first > self.target {
            self.now = self.target;
            return None;
        }
        self.now = self.first - 1;
        let index = self.slots[self.first as usize % WHEEL_SLOTS];
        debug_assert_eq!(self.nodes[index as usize].tick, self.first as u32);
        self.unlink(index);
        Some(index)
    }

    /// When the next entry is due, in milliseconds; None if the wheel is empty.
    #[inline]
    pub fn next_deadline_millis(&self) -> Option<u64> {
        (self.first != NEVER).then_some(self.first << TICK_SHIFT)
    }

    fn next_tick(&self) -> Option<u64> {
        let first = (self.now + 1) as usize % WHEEL_SLOTS;
        let mut word = first / 64;
        let mut bits = self.occupied[word] & u64::MAX << (first % 64);
        // At last the first word again: of it only what is before `first` is left.
        for _ in 0..=self.occupied.len() {
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let distance = (slot + WHEEL_SLOTS - first) % WHEEL_SLOTS;
                return Some(self.now + 1 + distance as u64);
            }
            word = (word + 1) % self.occupied.len();
            bits = self.occupied[word];
        }
        None
    }

    fn link(&mut self, index: u32, tick: u64) {
        let node = Node { next: NONE, previous: NONE, tick: tick as u32 };
        let slot = node.slot();
        let head = self.slots[slot];
        self.nodes[index as usize] = Node { next: head, ..node };
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
        self.slots[slot] = index;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.first = self.first.min(tick);
    }

    fn unlink(&mut self, index: u32) {
        let node = self.nodes[index as usize];
        assert!(node.is_linked());
        let slot = node.slot();
        if node.previous == NONE {
            self.slots[slot] = node.next;
            if node.next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                if node.tick == self.first as u32 {
                    self.first = self.next_tick().unwrap_or(NEVER);
                }
            }
        } else {
            self.nodes[node.previous as usize].next = node.next;
        }
        if node.next != NONE {
            self.nodes[node.next as usize].previous = node.previous;
        }
        self.nodes[index as usize] = Node::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let is_due = wheel.advance(now);
        let mut all: Vec<u32> = core::iter::from_fn(|| wheel.pop()).collect();
        assert_eq!(is_due, !all.is_empty(), "who advances is told whether something is due");
        assert_eq!(wheel.first, wheel.next_tick().unwrap_or(NEVER), "the first is known");
        all.sort_unstable();
        all
    }

    #[test]
    fn an_entry_is_due_at_its_deadline_or_a_tick_later_and_once() {
        let mut wheel = Wheel::new(1_000, 8);
        wheel.set(7, 1_500);
        assert_eq!(due(&mut wheel, 1_500), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 1_500 + 128), vec![7]);
        assert_eq!(due(&mut wheel, 90_000), Vec::<u32>::new());
    }

    proptest! {
        /// Compares with a list of (index, deadline); the earliest of several settings counts.
        #[test]
        fn like_a_plain_list(
            steps in prop::collection::vec((0u32..20, 0u64..80_000, 0u64..3_000, 0u8..4), 1..200),
        ) {
            let (mut wheel, mut now) = (Wheel::new(5_000, 0), 5_000u64);
            let mut list = std::collections::BTreeMap::<u32, u64>::new();
            for (index, ahead, pass, what) in steps {
                if what == 0 {
                    wheel.cancel(index);
                    list.remove(&index);
                } else {
                    wheel.set(index, now + ahead);
                    let entry = list.entry(index).or_insert(now + ahead);
                    *entry = (*entry).min(now + ahead);
                }
                now += pass;
                for index in due(&mut wheel, now) {
                    let deadline = list.remove(&index).expect("only what was set is due");
                    if deadline > now {
                        // It was beyond the horizon: its owner sets it again.
                        prop_assert!(deadline + 128 > now, "visited early: {deadline} at {now}");
                        list.insert(index, deadline);
                        wheel.set(index, deadline);
                    }
                }
                for deadline in list.values() {
                    prop_assert!(deadline + 256 > now, "an entry is never more than a tick late");
                }
            }
        }
    }
}

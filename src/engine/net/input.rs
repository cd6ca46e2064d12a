#![forbid(unsafe_code)]
//! Input that connections keep: here bytes that are not understood yet, or not yet allowed; and
//! how much each keeps in whatever part, so that all together keep no more than `held-bytes`.

use super::held::{Held, Kept};
use crate::ids::{LinkIndex, Slot};

/// What all connections of a shard keep, by slot.
#[derive(Debug, Default)]
pub struct Input {
    tails: Vec<Held>,
    /// Bytes that each keeps, as counted in the sum.
    noted: Vec<u32>,
    held: usize,
}

impl Input {
    /// Nothing yet; the tables do not move while there are at most `slots`.
    pub fn new(slots: u32) -> Input {
        let slots = slots as usize;
        let (tails, noted) = (Vec::with_capacity(slots), Vec::with_capacity(slots));
        Input { tails, noted, held: 0 }
    }

    /// A connection has come in.
    pub fn open(&mut self, slot: Slot) {
        if self.tails.len() <= slot.index() {
            self.tails.resize_with(slot.index() + 1, Held::default);
        }
        if self.noted.len() <= slot.index() {
            self.noted.resize(slot.index() + 1, 0);
        }
    }

    /// Keeps bytes that have no use yet.
    pub fn keep(&mut self, slot: Slot, bytes: &[u8]) {
        self.tails[slot.index()].extend(bytes);
    }

    /// Whether bytes wait.
    pub fn waits(&self, slot: Slot) -> bool {
        !self.tails[slot.index()].is_empty()
    }

    /// Takes out what is kept.
    pub fn take(&mut self, slot: Slot) -> Option<Kept> {
        self.tails[slot.index()].take()
    }

    /// Puts back what was taken out, without the first `used` bytes.
    pub fn put_back(&mut self, slot: Slot, tail: Kept, used: usize) {
        self.tails[slot.index()].put_back(tail, used);
    }

    /// Bytes that a connection keeps here.
    pub fn len(&self, slot: Slot) -> usize {
        self.tails[slot.index()].len()
    }

    /// Counts what a connection keeps now, here and in `others`, instead of what it kept before.
    pub fn note(&mut self, slot: Slot, others: usize) {
        self.note_link(slot.into(), self.len(slot) + others);
    }

    /// The same of a link that has no connection of its own, and keeps so much.
    pub fn note_link(&mut self, link: LinkIndex, held: usize) {
        if self.noted.len() <= link.index() {
            self.noted.resize(link.index() + 1, 0);
        }
        let noted = &mut self.noted[link.index()];
        self.held = self.held + held - *noted as usize;
        *noted = held as u32;
    }

    /// Bytes that a link was last counted with.
    pub fn noted(&self, link: LinkIndex) -> usize {
        self.noted.get(link.index()).map_or(0, |noted| *noted as usize)
    }

    /// Bytes that all connections keep, as last counted.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Asserts that what all keep is added up. Slow.
    pub fn invariants(&self) {
        let noted: usize = self.noted.iter().map(|noted| *noted as usize).sum();
        assert_eq!(self.held, noted, "what all keep is added up");
    }

    /// A byte more is counted than is kept.
    #[cfg(test)]
    pub fn spoil(&mut self, slot: Slot) {
        self.noted[slot.index()] += 1;
        self.held += 1;
    }
}

/// Bytes of what one connection keeps, while that is nothing.
pub const INPUT_BYTES: usize = size_of::<Held>() + size_of::<u32>();

#![forbid(unsafe_code)]
//! What waits for a client without a connection: quoted strings `,"…"`, copied out of the log so
//! that nothing there is pinned. One run of bytes, from which answers take whole units.

use super::shed::Dropped;
use crate::encoding::Encoding;
use crate::mem::marks::Droppable;
use crate::sockjs;
use hashbrown::HashSet;
use std::collections::VecDeque;

/// A unit that waits.
#[derive(Clone, Copy, Debug)]
struct Unit {
    len: u32,
    /// When it may be dropped; None: never.
    droppable: Option<Droppable>,
}

/// Units in their order.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    /// How many of the bytes are done with; less than half of them between two takings.
    done: usize,
    units: VecDeque<Unit>,
}

impl Kept {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Count of units.
    pub fn count(&self) -> usize {
        self.units.len()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Bytes that it keeps, with those that are done with and still there.
    pub fn held(&self) -> usize {
        self.bytes.len() + self.units.len() * size_of::<Unit>()
    }

    /// Adds a unit behind all others.
    pub fn push(&mut self, unit: &[u8], droppable: Option<Droppable>) {
        self.bytes.extend_from_slice(unit);
        self.units.push_back(Unit { len: unit.len() as u32, droppable });
    }

    /// The same for a unit as groups have it.
    pub fn push_as(&mut self, encoding: Encoding, unit: &[u8], droppable: Option<Droppable>) {
        let start = self.bytes.len();
        match encoding.stream() {
            Some((wrap, chunked)) => sockjs::unwrap_unit(wrap, chunked, unit, &mut self.bytes),
            None => self.bytes.extend_from_slice(unit),
        }
        self.units.push_back(Unit { len: (self.bytes.len() - start) as u32, droppable });
    }

    /// As many whole units as fit `most` bytes, from the first on; at least one if there is any.
    pub fn front(&self, most: usize) -> &[u8] {
        let mut len = 0;
        for unit in &self.units {
            if len > 0 && len + unit.len as usize > most {
                break;
            }
            len += unit.len as usize;
        }
        &self.bytes[self.done..][..len]
    }

    /// The first units, of this many bytes, are in flight.
    pub fn drop_front(&mut self, len: usize) {
        let mut left = len;
        while left > 0 {
            let unit = self.units.pop_front().expect("only what waits is taken");
            left = left.checked_sub(unit.len as usize).expect("whole units are taken");
        }
        self.done += len;
        if self.units.is_empty() {
            // What nobody waits for keeps no memory.
            *self = Kept::default();
        } else if self.done >= self.bytes.len() / 2 {
            self.bytes.drain(..self.done);
            self.done = 0;
            // What was much once is counted no more, and does not stay.
            if self.bytes.capacity() > 4 * self.bytes.len() {
                self.bytes.shrink_to(2 * self.bytes.len());
            }
            if self.units.capacity() > 4 * self.units.len() {
                self.units.shrink_to(2 * self.units.len());
            }
        }
    }

    /// Drops all.
    pub fn clear(&mut self) {
        *self = Kept::default();
    }

    /// Drops what newer ones stand for, then the oldest that may be dropped, but never the newest
    /// of them, until at most `bytes` in at most `count` units wait.
    pub fn shed(&mut self, bytes: usize, count: usize) -> Dropped {
        // The keys are keyed hashes already.
        let hasher = foldhash::fast::FixedState::with_seed(0);
        let (mut dropped, mut keys) = (Dropped::default(), HashSet::with_hasher(hasher));
        let (mut left, mut units) = (self.len(), self.units.len());
        let mut goes = vec![false; units];
        for (unit, goes) in self.units.iter().zip(&mut goes).rev() {
            if let Some(Droppable::Superseded(key)) = unit.droppable
                && !keys.insert(key)
            {
                *goes = true;
                (left, units) = (left - unit.len as usize, units - 1);
                dropped.conflated += 1;
            }
        }
        let is_oldest = |unit: &Unit| unit.droppable == Some(Droppable::Oldest);
        let newest = self.units.iter().rposition(is_oldest).unwrap_or(0);
        for (unit, goes) in self.units.iter().zip(&mut goes).take(newest) {
            if left <= bytes && units <= count {
                break;
            }
            if is_oldest(unit) {
                *goes = true;
                (left, units) = (left - unit.len as usize, units - 1);
                dropped.oldest += 1;
            }
        }
        if dropped != Dropped::default() {
            let former = core::mem::take(self);
            let mut rest = &former.bytes[former.done..];
            for (unit, goes) in former.units.iter().zip(goes) {
                let (own, behind) = rest.split_at(unit.len as usize);
                rest = behind;
                if !goes {
                    self.push(own, unit.droppable);
                }
            }
        }
        dropped
    }

    /// Asserts that its units are its bytes. Slow.
    pub fn invariants(&self) {
        let units: usize = self.units.iter().map(|unit| unit.len as usize).sum();
        assert_eq!(self.len(), units, "what is kept are whole units");
    }

    /// A byte is lost.
    #[cfg(test)]
    pub fn spoil(&mut self) {
        self.bytes.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kept: &Kept) -> String {
        String::from_utf8(kept.front(usize::MAX).to_vec()).expect("text")
    }

    #[test]
    fn whole_units_are_taken_and_one_at_least() {
        let mut kept = Kept::default();
        assert_eq!(kept.front(9), b"");
        [",\"a\"", ",\"bcdefgh\"", ",\"c\""].iter().for_each(|u| kept.push(u.as_bytes(), None));
        assert_eq!((kept.count(), kept.len()), (3, 18));
        for (most, taken) in [(0, 4), (4, 4), (13, 4), (14, 14), (17, 14), (18, 18), (99, 18)] {
            assert_eq!(kept.front(most).len(), taken, "{most}");
        }
        kept.drop_front(4);
        kept.invariants();
        kept.push(b",\"d\"", None);
        assert_eq!(text(&kept), ",\"bcdefgh\",\"c\",\"d\"");
        kept.drop_front(18);
        assert_eq!((kept.is_empty(), kept.held(), kept.bytes.capacity()), (true, 0, 0));
    }

    #[test]
    fn what_has_been_taken_does_not_stay_resident() {
        let mut kept = Kept::default();
        (0..1_000).for_each(|_| kept.push(b",\"abcdefgh\"", None));
        while kept.count() > 1 {
            kept.drop_front(11);
            let (bytes, units) = (kept.bytes.len(), kept.units.len());
            assert!(kept.bytes.capacity() <= 4 * bytes, "{bytes} bytes");
            assert!(kept.units.capacity() <= 8 * units.max(4), "{units} units");
        }
        kept.invariants();
    }

    #[test]
    fn what_may_be_dropped_is_as_in_the_log() {
        let (oldest, key) = (Some(Droppable::Oldest), |key| Some(Droppable::Superseded(key)));
        let all = [("a", oldest), ("b", key(1)), ("c", None), ("d", oldest), ("e", key(1))];
        let all = all.into_iter().chain([("f", key(2)), ("g", oldest), ("h", None)]);
        for (bytes, count, rest, dropped) in [
            (99, 99, "acdefgh", (0, 1)),
            (99, 6, "cdefgh", (1, 1)),
            (6, 99, "cdefgh", (1, 1)),
            (0, 0, "cefgh", (2, 1)),
        ] {
            let mut kept = Kept::default();
            all.clone().for_each(|(unit, droppable)| kept.push(unit.as_bytes(), droppable));
            let (oldest, conflated) = dropped;
            assert_eq!(kept.shed(bytes, count), Dropped { oldest, conflated });
            kept.invariants();
            assert_eq!(text(&kept), rest);
        }
    }
}

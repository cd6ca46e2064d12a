#![forbid(unsafe_code)]
//! Which callbacks were seen: fingerprints of their ids, for a window of time, the oldest forgotten
//! first. Bound: `dedupe-keys`.

use hashbrown::HashMap;
use std::collections::VecDeque;

/// The fingerprints whose home a shard is.
#[derive(Debug)]
pub struct Dedupe {
    until: HashMap<u128, u64, foldhash::fast::FixedState>,
    order: VecDeque<(u128, u64)>,
    max: usize,
}

impl Dedupe {
    /// None, and at most `max`.
    pub fn new(max: u32) -> Dedupe {
        // The keys are keyed fingerprints already: no client chooses their bucket.
        let until = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(0));
        Dedupe { until, order: VecDeque::new(), max: max as usize }
    }

    /// Whether a fingerprint is new at `now`; it is remembered until `until` (wall milliseconds).
    pub fn is_fresh(&mut self, key: u128, now: u64, until: u64) -> bool {
        while let Some(&(old, end)) = self.order.front() {
            if end > now && self.order.len() < self.max {
                break;
            }
            self.order.pop_front();
            if self.until.get(&old) == Some(&end) {
                self.until.remove(&old);
            }
        }
        if self.until.get(&key).is_some_and(|end| *end > now) {
            return false;
        }
        self.until.insert(key, until);
        self.order.push_back((key, until));
        true
    }

    /// Entries of the list of ages; the table has as many or fewer.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Asserts what holds between the table and the list of ages. Slow.
    pub fn invariants(&self) {
        assert!(self.order.len() <= self.max.max(1), "callbacks are bounded");
        let listed = |(key, until): (&u128, &u64)| self.order.contains(&(*key, *until));
        assert!(self.until.iter().all(listed), "whatever is remembered is forgotten one day");
    }

    /// One is remembered for ever. False if there is none.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self) -> bool {
        self.order.pop_front().is_some_and(|(key, until)| self.until.get(&key) == Some(&until))
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_fresh_once_a_window_and_the_oldest_goes_first() {
        let mut seen = Dedupe::new(3);
        assert!(seen.is_fresh(1, 0, 100));
        assert!(!seen.is_fresh(1, 99, 199));
        assert!(seen.is_fresh(1, 100, 200));
        assert!(seen.is_fresh(2, 100, 200) && seen.is_fresh(3, 100, 200));
        assert!(seen.is_fresh(4, 100, 200), "the bound is met");
        assert!(!seen.is_fresh(4, 100, 200));
        assert!(seen.is_fresh(1, 101, 201), "the oldest was forgotten");
    }
}

//! Decides when completions are reported: each is late at random, in any order between different
//! sockets, but in order where the kernel keeps an order.

use super::counts::{Counts, Event};
use super::random::Random;
use crate::ids::Slot;
use crate::ring::Done;
use std::collections::VecDeque;

/// Completions of one key keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The beginning and the end of connections and of accepts.
    Life,
    /// Doorbells.
    Doorbell,
    /// Receives of a slot.
    Receive(Slot),
    /// The send of a slot.
    Send(Slot),
    /// The shutdown of a slot.
    Shutdown(Slot),
    /// The poll of a slot.
    Poll(Slot),
}

/// Completions that are there, and those that the engine may pop.
#[derive(Debug, Default)]
pub(super) struct Completions {
    waiting: Vec<(Key, Done)>,
    ready: VecDeque<Done>,
    /// Kept for its memory.
    released: Vec<(Key, Done)>,
    held: Vec<Key>,
}

impl Completions {
    pub(super) fn push(&mut self, key: Key, done: Done) {
        self.waiting.push((key, done));
    }

    /// Count of completions that the engine has not popped.
    pub(super) fn count(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    /// Whether the engine would pop nothing.
    pub(super) fn gives_nothing(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether nothing but doorbells has not been popped.
    pub(super) fn are_doorbells(&self) -> bool {
        let is_doorbell = |done: &Done| *done == Done::Rung;
        self.ready.iter().all(is_doorbell) && self.waiting.iter().all(|(_, done)| is_doorbell(done))
    }

    pub(super) fn pop(&mut self) -> Option<Done> {
        self.ready.pop_front()
    }

    /// Makes completions ready: all but those that are late, in a random order.
    pub(super) fn release(&mut self, late: u32, random: &mut Random, counts: &mut Counts) {
        self.held.clear();
        self.released.clear();
        let (held, released) = (&mut self.held, &mut self.released);
        self.waiting.retain(|&(key, done)| {
            if held.contains(&key) || (late > 0 && random.chance(late)) {
                counts.note(Event::LateCompletion);
                held.push(key);
                return true;
            }
            released.push((key, done));
            false
        });
        // Places are drawn for keys; the completions of a key fill its places in their order.
        let mut places: Vec<Key> = released.iter().map(|&(key, _)| key).collect();
        random.shuffle(&mut places);
        for place in places {
            let next = released.iter().position(|&(key, _)| key == place);
            let (_, done) = released.remove(next.expect("a place for each completion"));
            self.ready.push_back(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BufferId, ConnId};

    fn received(slot: Slot, buffer: u16) -> (Key, Done) {
        let conn = ConnId { slot, generation: 0 };
        let done = Done::Received { conn, buffer: BufferId(buffer), len: 1, more: true };
        (Key::Receive(slot), done)
    }

    #[test]
    fn each_key_keeps_its_order_and_others_mix() {
        let (mut mixed, mut late) = (false, false);
        for seed in 0..50 {
            let (mut random, mut counts) = (Random::new(seed), Counts::default());
            let mut completions = Completions::default();
            for n in 0..6 {
                let (key, done) = received(Slot(u32::from(n) % 2), n);
                completions.push(key, done);
            }
            let mut order = Vec::new();
            while completions.count() > 0 {
                completions.release(300, &mut random, &mut counts);
                while let Some(Done::Received { buffer, .. }) = completions.pop() {
                    order.push(buffer.0);
                }
            }
            mixed |= order != [0, 1, 2, 3, 4, 5];
            late |= counts.of(Event::LateCompletion) > 0;
            order.sort_by_key(|n| n % 2);
            assert_eq!(order, [0, 2, 4, 1, 3, 5], "seed {seed}");
        }
        assert!(mixed && late);
    }
}

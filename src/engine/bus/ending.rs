#![forbid(unsafe_code)]
//! When all shards have drained: each has nothing left to do, and no entry is in flight between
//! two of them.
//!
//! A shard that is idle may still be given work: a session that ends elsewhere tells the homes
//! here, and those tell others. So it is not enough that each was idle once. Each says at the end
//! of its turns whether it is, how many entries of other shards it has taken and how many it has
//! sent; and once it has said so, it counts each entry before it sends it, since others may take
//! that at once. Idle, it sends only because of what it takes. Who looks adds up what was taken
//! first and what was sent after that: if these are equal and all were idle, nothing is in flight
//! and nothing can be again. `tests/loom_ending.rs` tries this very file.

use super::sync::{AtomicU64, Ordering};

/// What one shard says of itself.
#[derive(Debug, Default)]
pub struct Ending {
    /// Entries of other shards that it has taken, and in the lowest bit whether it is idle: both
    /// are read at once.
    taken: AtomicU64,
    /// Entries that it has sent to other shards.
    sent: AtomicU64,
}

impl Ending {
    /// Called by its owner at the end of a turn.
    pub fn tell(&self, is_idle: bool, taken: u64, sent: u64) {
        self.sent.store(sent, Ordering::Release);
        self.taken.store(taken << 1 | u64::from(is_idle), Ordering::Release);
    }

    /// Called by its owner before it sends an entry, once it has told of itself: this many
    /// with it.
    pub fn sends(&self, sent: u64) {
        self.sent.store(sent, Ordering::Release);
    }

    /// Whether all shards are idle, with nothing in flight between them.
    pub fn all_are_over(all: &[Ending]) -> bool {
        let mut taken = 0_u64;
        for ending in all {
            let word = ending.taken.load(Ordering::Acquire);
            if word & 1 == 0 {
                return false;
            }
            taken += word >> 1;
        }
        let sent: u64 = all.iter().map(|ending| ending.sent.load(Ordering::Acquire)).sum();
        sent == taken
    }
}

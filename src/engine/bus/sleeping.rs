#![forbid(unsafe_code)]
//! The flag of a peer that waits for its doorbell.
//!
//! The owner sets it, looks at its queues once more, and only then waits. A peer that writes to it
//! afterwards sees the flag and rings. Every change of the flag is a swap, so that each follows the
//! one before it, no matter who made it. `tests/loom_mailbox.rs` tries this very file.

use super::sync::{AtomicBool, Ordering, fence};

/// Whether the owner waits. One byte.
#[derive(Debug, Default)]
pub struct Sleeping(AtomicBool);

impl Sleeping {
    /// The owner is about to wait. True if it may: the flag is set, and its queues were empty after
    /// that. What comes later, rings.
    pub fn may_sleep(&self, queues_are_empty: impl FnOnce() -> bool) -> bool {
        self.0.swap(true, Ordering::Relaxed);
        // Pairs with the fence in `must_ring`: either the owner sees the entry, or the writer sees
        // the flag.
        fence(Ordering::SeqCst);
        let empty = queues_are_empty();
        if !empty {
            self.clear();
        }
        empty
    }

    /// The owner is awake again.
    pub fn clear(&self) {
        // Turns that did not wait leave the line of memory, which writers read, as it is.
        if self.0.load(Ordering::Relaxed) {
            self.0.swap(false, Ordering::Relaxed);
        }
    }

    /// Asked by a writer after its entries are in the queue: whether it has to ring. Of several
    /// writers one rings.
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

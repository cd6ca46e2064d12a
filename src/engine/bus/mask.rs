#![forbid(unsafe_code)]
//! Which queues of one class have mail for their owner: a bit for each writer.
//!
//! A writer sets its bit when its entry lies in the queue. The owner takes all bits at once and
//! then looks at those queues alone; what is written after it looked sets the bit again. One mask a
//! class and owner, not one a pair of peers: a turn takes class after class, each as far as there
//! is room for what it produces, so it asks four words whatever the count of peers, and a class
//! that has to wait keeps its bits. There are at most 64 peers. `tests/loom_mailbox.rs` tries this
//! very file.

use super::sync::{AtomicU64, Ordering};

/// One bit for each writer.
#[derive(Debug, Default)]
pub struct Mask(AtomicU64);

impl Mask {
    /// Called by a writer after its entry is in the queue, and before it asks whether to ring.
    pub fn set(&self, writer: usize) {
        // With the entry's own store before it, a reader that sees the bit sees the entry.
        self.0.fetch_or(1 << writer, Ordering::Release);
    }

    /// Called by the owner: who has written since the last call.
    pub fn take(&self) -> u64 {
        // Mostly nobody: then the line of memory, which writers change, is only read.
        if self.is_empty() { 0 } else { self.0.swap(0, Ordering::Acquire) }
    }

    /// Whether nobody has written since the last `take`.
    pub fn is_empty(&self) -> bool {
        self.look() == 0
    }

    /// Who has written since the last `take`, which leaves it so. The owner's second look, behind
    /// the fence of its flag.
    pub fn look(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

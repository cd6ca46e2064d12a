#![forbid(unsafe_code)]
//! The atomics of `sleeping`, `mask` and `ending`. The models in `tests/loom_mailbox.rs` and
//! `tests/loom_ending.rs` compile these with a `sync` of their own, whose atomics try every order
//! that the memory model allows.

pub use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

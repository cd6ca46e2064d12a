#![forbid(unsafe_code)]
//! The atomics of `sleeping` and `mask`. The model in `tests/loom_mailbox.rs` compiles those files
//! with its own `sync`, whose atomics try every order that the memory model allows.

pub use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

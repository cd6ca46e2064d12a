#![forbid(unsafe_code)]
//! The atomics of `sleeping`, `mask` and `ending`. The model in `tests/loom_mailbox.rs` compiles
//! the first two with its own `sync`, whose atomics try every order that the memory model allows.

pub use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#![forbid(unsafe_code)]
//! The atomics of `sleeping`. The model in `tests/loom_mailbox.rs` compiles that file with its own
//! `sync`, whose atomics try every order that the memory model allows.

pub use core::sync::atomic::{AtomicBool, Ordering, fence};

//! The binary as a whole, and browsers on real sockets. Nothing here sleeps or polls: a read waits
//! for bytes, at most `PATIENCE`.

mod browser;
mod memory;
mod order;
mod server;

use ringpush::ring::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sessions of a test with many.
const CROWD: usize = 10_000;

/// Raises the descriptor limit for a crowd. Only one test at a time has a crowd.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let needed = CROWD as u32 + 500;
    assert!(process::raise_descriptors() >= needed, "the test needs {needed} descriptors");
    // A failed test must not block the others.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

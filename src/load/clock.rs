//! The clock of a run: nanoseconds since its start. The only place of the room that reads time.

use std::time::{Duration, Instant};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// Counts from its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock at zero.
    pub fn started() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub fn now(self) -> u64 {
        // 584 years fit.
        self.origin.elapsed().as_nanos() as u64
    }
}

/// Nanoseconds of a span.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

//! Time as a value. Rooms get `now` as an argument; only `ring`, `control` and `load` read a clock.

use core::fmt;
use core::ops::{Add, Sub};

/// A point of the monotonic clock, in nanoseconds from an origin that the clock's owner chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

/// A span of time in milliseconds; the unit of every timer of the engine. Zero means "off" where a
/// limit says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u32);

/// A span of time in microseconds, for what is shorter than a tick of a timer. Zero means "off".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u32);

impl Instant {
    /// Milliseconds since `earlier`, at most `u32::MAX`; zero if `earlier` is later.
    pub fn millis_since(self, earlier: Instant) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0) / 1_000_000).unwrap_or(u32::MAX)
    }

    /// Whole milliseconds since the clock's origin.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Millis {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u32) -> Millis {
        Millis(seconds * 1000)
    }

    /// The span in nanoseconds.
    pub fn nanos(self) -> u64 {
        u64::from(self.0) * 1_000_000
    }
}

impl Add<Millis> for Instant {
    type Output = Instant;
    fn add(self, span: Millis) -> Instant {
        Instant(self.0 + span.nanos())
    }
}

impl Add<Micros> for Instant {
    type Output = Instant;
    fn add(self, span: Micros) -> Instant {
        Instant(self.0 + u64::from(span.0) * 1_000)
    }
}

impl Sub<Millis> for Instant {
    type Output = Instant;
    fn sub(self, span: Millis) -> Instant {
        Instant(self.0.saturating_sub(span.nanos()))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}s", self.0 / 1000)
        } else {
            write!(f, "{}ms", self.0)
        }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0us"),
            n if n.is_multiple_of(1000) => write!(f, "{}", Millis(n / 1000)),
            n => write!(f, "{n}us"),
        }
    }
}

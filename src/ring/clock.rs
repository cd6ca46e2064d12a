//! The clock, read once per turn.
#![allow(unsafe_code)]

use crate::time::Instant;

/// Both clocks as they were at the last reading.
#[derive(Debug)]
pub(super) struct Clock {
    /// Monotonic time from the kernel's origin (boot), the same for all threads.
    pub(super) now: Instant,
    /// When the last entry began to wait.
    pub(super) waited_from: Instant,
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) wall_millis: u64,
}

impl Clock {
    /// A clock that has been read.
    pub(super) fn started() -> Clock {
        let mut clock = Clock { now: Instant(0), waited_from: Instant(0), wall_millis: 0 };
        clock.read();
        clock
    }

    /// Reads both clocks.
    pub(super) fn read(&mut self) {
        let now = monotonic();
        assert!(now >= self.now, "the monotonic clock does not go back");
        self.now = now;
        self.wall_millis = nanos(libc::CLOCK_REALTIME) / 1_000_000;
    }
}

/// The monotonic clock at this moment.
pub(super) fn monotonic() -> Instant {
    Instant(nanos(libc::CLOCK_MONOTONIC))
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec, which is all that the call writes.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clocks 0 and 1 exist on every Linux");
    let seconds = u64::try_from(time.tv_sec).expect("the clock is after its origin");
    seconds * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_are_plausible_and_do_not_go_back() {
        let mut clock = Clock::started();
        let (now, wall) = (clock.now, clock.wall_millis);
        clock.read();
        assert!(clock.now >= now && clock.now <= monotonic());
        let years = wall / 1000 / 86_400 / 365;
        assert!((54..200).contains(&years), "{years} years after 1970");
    }
}

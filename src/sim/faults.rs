//! The fault rates of a run: each fault's chance in a thousand, drawn from the seed.

use super::random::Random;

/// Chances of the fake kernel's faults.
#[derive(Clone, Debug, Default)]
pub struct FaultRates {
    /// A completion is reported late.
    pub late: u32,
    /// The kernel does not check a socket yet.
    pub idle: u32,
    /// A receive takes less than there is.
    pub short_receive: u32,
    /// A multishot receive ends with data.
    pub receive_ends: u32,
    /// Bytes arrive after a `RecvStop`.
    pub after_stop: u32,
    /// A send takes less than there is room for.
    pub short_take: u32,
    /// A send is not tried at once.
    pub late_send: u32,
    /// A multishot accept ends by itself.
    pub accept_ends: u32,
    /// An accept fails.
    pub accept_fails: u32,
    /// A connection is gone before its peer's address is known.
    pub nameless: u32,
    /// A shutdown is late.
    pub late_shutdown: u32,
    /// A connection that leaves gets no number.
    pub release_fails: u32,
    /// A connection that comes gets no slot.
    pub adopt_fails: u32,
    /// How many milliseconds late a wait without a completion ends at most.
    pub oversleep: u32,
}

impl FaultRates {
    /// The fault rates of a seed: each fault is absent, occasional or frequent.
    pub fn draw(random: &mut Random) -> FaultRates {
        let mut one = |fair: u32, foul: u32| match random.below(3) {
            0 => 0,
            1 => fair,
            _ => foul,
        };
        FaultRates {
            late: one(50, 400),
            idle: one(50, 300),
            short_receive: one(100, 700),
            receive_ends: one(10, 200),
            after_stop: one(300, 900),
            short_take: one(100, 700),
            late_send: one(50, 500),
            accept_ends: one(50, 300),
            accept_fails: one(5, 30),
            nameless: one(5, 30),
            late_shutdown: one(200, 700),
            release_fails: one(30, 300),
            adopt_fails: one(30, 300),
            // A shard that has no room looks again every millisecond: without this most turns of a
            // campaign would be such looks.
            oversleep: if random.chance(100) { 0 } else { random.between(4, 40) as u32 },
        }
    }
}

//! Checks that the numbers arriving at one receiver are complete, unique and in order.

/// The most gaps that are kept; beyond that the oldest count as lost.
const GAPS_MAX: usize = 1024;

/// Counts of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Faults {
    /// Never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived after a later one.
    pub reordered: u64,
}

impl Faults {
    /// Adds the counts of another.
    pub fn plus(self, other: Faults) -> Faults {
        Faults {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }

    /// Whether there are no faults.
    pub fn is_none(self) -> bool {
        self == Faults::default()
    }
}

/// The numbers of one stream as one receiver sees them.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// The expected number.
    next: u64,
    /// Numbers below `next` that have not arrived: start and end of each gap, in order.
    gaps: Vec<(u64, u64)>,
    faults: Faults,
}

impl Sequence {
    /// A receiver that joins when `next` is the next number.
    pub fn from(next: u64) -> Sequence {
        Sequence { next, ..Sequence::default() }
    }

    /// A number has arrived. Whether it arrived for the first time.
    #[inline]
    pub fn on(&mut self, number: u64) -> bool {
        if number == self.next {
            self.next += 1;
            return true;
        }
        self.on_unexpected(number)
    }

    #[cold]
    fn on_unexpected(&mut self, number: u64) -> bool {
        if number > self.next {
            if self.gaps.len() == GAPS_MAX {
                let (start, end) = self.gaps.remove(0);
                self.faults.lost += end - start;
            }
            self.gaps.push((self.next, number));
            self.next = number + 1;
            return true;
        }
        let Some(at) = self.gaps.iter().position(|gap| (gap.0..gap.1).contains(&number)) else {
            self.faults.duplicated += 1;
            return false;
        };
        let (start, end) = self.gaps.remove(at);
        for part in [(number + 1, end), (start, number)] {
            if part.0 < part.1 {
                self.gaps.insert(at, part);
            }
        }
        self.faults.reordered += 1;
        true
    }

    /// The expected number.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The faults, if the numbers below `end` were sent.
    pub fn faults(&self, end: u64) -> Faults {
        let in_gaps: u64 = self.gaps.iter().map(|gap| gap.1 - gap.0).sum();
        let at_end = end.saturating_sub(self.next);
        Faults { lost: self.faults.lost + in_gaps + at_end, ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_without_a_gap_is_no_fault() {
        let mut sequence = Sequence::default();
        assert!((0..5).all(|number| sequence.on(number)));
        assert!(sequence.faults(5).is_none());
        assert_eq!(sequence.faults(7).lost, 2);
    }

    #[test]
    fn a_late_receiver_misses_nothing_of_before() {
        let mut sequence = Sequence::from(10);
        assert!(sequence.on(10));
        assert!(sequence.faults(11).is_none());
    }

    proptest! {
        /// Compares with a naive count over the whole list.
        #[test]
        fn any_arrivals_are_counted_as_by_hand(
            arrivals in proptest::collection::vec(0u64..12, 0..30),
        ) {
            let mut sequence = Sequence::default();
            let mut expected = Faults::default();
            for (at, number) in arrivals.iter().enumerate() {
                let before = &arrivals[..at];
                let is_new = !before.contains(number);
                prop_assert_eq!(sequence.on(*number), is_new);
                expected.duplicated += u64::from(!is_new);
                let is_late = before.iter().any(|other| other > number);
                expected.reordered += u64::from(is_new && is_late);
            }
            expected.lost = (0..12).filter(|number| !arrivals.contains(number)).count() as u64;
            prop_assert_eq!(sequence.faults(12), expected);
        }
    }
}

//! How long things take: counts in fixed buckets, powers of two of a microsecond.
//!
//! Like a [`Counter`] it has a single writer, costs no locked instruction and may be read by every
//! thread. A reader between two stores sees one observation more in the buckets than in the sum;
//! the count is that of the buckets, so buckets and count always agree.

use super::Counter;
use core::fmt::Write;

/// The first bucket ends at `2^FIRST` microseconds: 16 µs.
const FIRST: u32 = 4;
/// Each of them ends at twice the end of the one before; the last at 8.4 s.
const BUCKETS: usize = 20;

/// Durations of one kind.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The observations of each bucket, and those longer than all buckets.
    buckets: [Counter; BUCKETS + 1],
    /// Nanoseconds of all observations together.
    nanos: Counter,
}

impl Histogram {
    /// Counts something that took this many nanoseconds. Only its owner may.
    pub fn observe(&self, nanos: u64) {
        // A bucket includes its end.
        let micros = nanos.saturating_sub(1) / 1_000;
        let bits = u64::BITS - micros.leading_zeros();
        let bucket = (bits.saturating_sub(FIRST) as usize).min(BUCKETS);
        self.buckets[bucket].add(1);
        self.nanos.add(nanos);
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::value).sum()
    }

    /// Appends its lines: `_bucket` with what took at most `le` seconds, `_sum`, `_count`.
    pub(super) fn write(&self, name: &str, shard: usize, out: &mut String) {
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.value();
            let _ = write!(out, "{name}_bucket{{shard=\"{shard}\",le=\"");
            let _ = match at {
                BUCKETS => write!(out, "+Inf"),
                _ => seconds(1_000 << (FIRST as usize + at), out),
            };
            let _ = writeln!(out, "\"}} {count}");
        }
        let _ = write!(out, "{name}_sum{{shard=\"{shard}\"}} ");
        let _ = seconds(self.nanos.value(), out);
        let _ = writeln!(out, "\n{name}_count{{shard=\"{shard}\"}} {count}");
    }
}

fn seconds(nanos: u64, out: &mut String) -> core::fmt::Result {
    write!(out, "{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_does_not_end_before_it() {
        let of = |nanos| {
            let histogram = Histogram::default();
            histogram.observe(nanos);
            let found = histogram.buckets.iter().position(|bucket| bucket.value() == 1);
            found.expect("it is counted")
        };
        assert_eq!((of(0), of(1), of(16_000)), (0, 0, 0));
        for bucket in 1..BUCKETS {
            let end = 16_000 << bucket;
            assert_eq!((of(end), of(end / 2 + 1), of(end / 2)), (bucket, bucket, bucket - 1));
        }
        assert_eq!(of((16_000 << (BUCKETS - 1)) + 1), BUCKETS);
        assert_eq!(of(u64::MAX), BUCKETS);
    }

    #[test]
    fn the_text_has_cumulative_buckets_a_sum_and_a_count() {
        let histogram = Histogram::default();
        for nanos in [1_000, 16_000, 40_000, 9_000_000_000] {
            histogram.observe(nanos);
        }
        let mut text = String::new();
        histogram.write("x_seconds", 3, &mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), BUCKETS + 3);
        assert_eq!(lines[0], "x_seconds_bucket{shard=\"3\",le=\"0.000016000\"} 2");
        assert_eq!(lines[1], "x_seconds_bucket{shard=\"3\",le=\"0.000032000\"} 2");
        assert_eq!(lines[2], "x_seconds_bucket{shard=\"3\",le=\"0.000064000\"} 3");
        assert_eq!(lines[BUCKETS - 1], "x_seconds_bucket{shard=\"3\",le=\"8.388608000\"} 3");
        assert_eq!(lines[BUCKETS], "x_seconds_bucket{shard=\"3\",le=\"+Inf\"} 4");
        assert_eq!(lines[BUCKETS + 1], "x_seconds_sum{shard=\"3\"} 9.000057000");
        assert_eq!(lines[BUCKETS + 2], "x_seconds_count{shard=\"3\"} 4");
        assert_eq!(histogram.count(), 4);
    }
}

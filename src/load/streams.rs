//! Messages that each go to one receiver: every receiver has a stream of its own.

use super::report;
use super::sequence::{Faults, Sequence};
use super::stamp::Stamp;
use hdrhistogram::Histogram;

/// What was sent to whom, and what arrived.
#[derive(Debug)]
pub struct Streams {
    /// Per receiver: how many were sent to it, and what it has received.
    streams: Vec<(u64, Sequence)>,
    outstanding: usize,
    /// Messages due from this time on are measured.
    measured_from: u64,
    sent: u64,
    delivered: u64,
    /// How long deliveries took, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Streams {
    /// Nothing was sent.
    pub fn new(receivers: usize) -> Streams {
        Streams {
            streams: vec![(0, Sequence::default()); receivers],
            outstanding: 0,
            measured_from: 0,
            sent: 0,
            delivered: 0,
            latency: report::histogram(),
        }
    }

    /// The stamp of the message that is sent to a receiver now.
    pub fn send(&mut self, receiver: usize, due: u64) -> Stamp {
        let stream = &mut self.streams[receiver];
        let sequence = stream.0;
        stream.0 += 1;
        self.outstanding += 1;
        self.sent += 1;
        Stamp { sequence, due }
    }

    /// A message has arrived; whether it was expected.
    pub fn on_delivery(&mut self, receiver: usize, stamp: Stamp, at: u64) -> bool {
        let Some(stream) = self.streams.get_mut(receiver) else { return false };
        if !stream.1.on(stamp.sequence) {
            return false;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        if stamp.due >= self.measured_from {
            self.delivered += 1;
            self.latency.saturating_record(at.saturating_sub(stamp.due));
        }
        true
    }

    /// From `now` on deliveries count.
    pub fn measure(&mut self, now: u64) {
        self.measured_from = now;
        self.sent = 0;
        self.delivered = 0;
        self.latency.reset();
    }

    /// Messages that have not arrived.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Messages sent since the measuring began.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Deliveries since the measuring began.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The faults, if nothing more arrives.
    pub fn faults(&self) -> Faults {
        let none = Faults::default();
        self.streams.iter().fold(none, |sum, (sent, heard)| sum.plus(heard.faults(*sent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_numbered_apart() {
        let mut streams = Streams::new(2);
        let stamps = [streams.send(0, 5), streams.send(1, 5), streams.send(1, 6)];
        assert_eq!(stamps.map(|stamp| stamp.sequence), [0, 0, 1]);
        streams.measure(6);
        assert!(streams.on_delivery(1, stamps[1], 7));
        assert!(streams.on_delivery(1, stamps[2], 8));
        assert!(!streams.on_delivery(1, stamps[2], 9));
        assert!(!streams.on_delivery(9, stamps[0], 9));
        assert_eq!((streams.outstanding(), streams.delivered()), (1, 1));
        assert_eq!(streams.faults(), Faults { lost: 1, duplicated: 1, reordered: 0 });
    }
}

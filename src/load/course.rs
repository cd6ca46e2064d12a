//! Follows numbered messages to many receivers: which are in flight, how long each took, and which
//! faults occurred.

use super::report;
use super::sequence::{Faults, Sequence};
use super::stamp::Stamp;
use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// Messages of one publisher to receivers that each get all of them.
#[derive(Debug)]
pub struct Course {
    receivers: Vec<Option<Sequence>>,
    /// Count of receivers that are there.
    present: u32,
    /// Messages sent so far: the next number.
    published: u64,
    /// How many receivers each message in flight has still to reach; the first is `oldest`.
    left: VecDeque<u32>,
    oldest: u64,
    /// Messages that have not reached everybody.
    outstanding: usize,
    /// Messages from this number on are measured.
    measured_from: u64,
    /// Deliveries of measured messages.
    delivered: u64,
    /// Faults of receivers that have left.
    faults: Faults,
    /// How long deliveries took, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Course {
    /// Nothing was sent, and nobody receives.
    pub fn new() -> Course {
        Course {
            receivers: Vec::new(),
            present: 0,
            published: 0,
            left: VecDeque::new(),
            oldest: 0,
            outstanding: 0,
            measured_from: 0,
            delivered: 0,
            faults: Faults::default(),
            latency: report::histogram(),
        }
    }

    /// A receiver joins: it gets what is published from now on.
    pub fn join(&mut self, receiver: usize) {
        if receiver >= self.receivers.len() {
            self.receivers.resize(receiver + 1, None);
        }
        let before = self.receivers[receiver].replace(Sequence::from(self.published));
        assert!(before.is_none(), "a receiver joins once");
        self.present += 1;
    }

    /// A client is gone; messages in flight to it do not count as lost. Whether it was a receiver.
    pub fn leave(&mut self, receiver: usize) -> bool {
        let Some(sequence) = self.receivers.get_mut(receiver).and_then(Option::take) else {
            return false;
        };
        self.present -= 1;
        let next = sequence.next();
        self.faults = self.faults.plus(sequence.faults(next));
        for number in next.max(self.oldest)..self.published {
            self.reached(number);
        }
        true
    }

    /// The number of the message that is published now.
    pub fn publish(&mut self) -> u64 {
        if self.present > 0 {
            self.outstanding += 1;
        }
        self.left.push_back(self.present);
        self.published += 1;
        self.published - 1
    }

    /// From here on deliveries count.
    pub fn measure(&mut self) {
        self.measured_from = self.published;
        self.delivered = 0;
        self.latency.reset();
    }

    /// A message has reached somebody; whether it is a receiver.
    #[inline]
    pub fn on_delivery(&mut self, receiver: usize, stamp: Stamp, at: u64) -> bool {
        let Some(Some(sequence)) = self.receivers.get_mut(receiver) else { return false };
        if !sequence.on(stamp.sequence) {
            return true;
        }
        if stamp.sequence >= self.measured_from {
            self.delivered += 1;
            self.latency.saturating_record(at.saturating_sub(stamp.due));
        }
        self.reached(stamp.sequence);
        true
    }

    #[inline]
    fn reached(&mut self, number: u64) {
        let Some(place) = number.checked_sub(self.oldest) else { return };
        let Some(left) = self.left.get_mut(place as usize) else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.outstanding -= 1;
            while self.left.front() == Some(&0) {
                self.left.pop_front();
                self.oldest += 1;
            }
        }
    }

    /// Messages that have not reached everybody.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Messages sent.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Messages sent since the measuring began.
    pub fn measured(&self) -> u64 {
        self.published - self.measured_from
    }

    /// Deliveries of measured messages.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The faults, if nothing more arrives.
    pub fn faults(&self) -> Faults {
        let present = self.receivers.iter().flatten();
        present.fold(self.faults, |sum, sequence| sum.plus(sequence.faults(self.published)))
    }
}

impl Default for Course {
    fn default() -> Course {
        Course::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(course: &mut Course, receiver: usize, sequence: u64) {
        course.on_delivery(receiver, Stamp { sequence, due: 10 }, 30);
    }

    #[test]
    fn a_message_is_in_flight_until_everybody_has_it() {
        let mut course = Course::new();
        course.join(0);
        course.join(1);
        assert_eq!((course.publish(), course.publish()), (0, 1));
        deliver(&mut course, 0, 0);
        deliver(&mut course, 0, 1);
        assert_eq!(course.outstanding(), 2);
        deliver(&mut course, 1, 1);
        assert_eq!(course.outstanding(), 1);
        deliver(&mut course, 1, 0);
        assert_eq!((course.outstanding(), course.delivered()), (0, 4));
        assert_eq!(course.faults(), Faults { reordered: 1, ..Faults::default() });
        assert_eq!(course.latency.max(), 20);
    }

    #[test]
    fn a_receiver_that_leaves_loses_nothing() {
        let mut course = Course::new();
        course.join(0);
        course.join(1);
        course.publish();
        deliver(&mut course, 0, 0);
        assert!(course.leave(1));
        assert!(!course.leave(1));
        assert_eq!(course.outstanding(), 0);
        assert!(course.faults().is_none());
        course.publish();
        course.join(1);
        deliver(&mut course, 0, 1);
        assert_eq!(course.outstanding(), 0);
        assert!(course.faults().is_none());
    }

    #[test]
    fn missing_messages_are_lost_and_repeated_ones_count_once() {
        let mut course = Course::new();
        course.join(0);
        course.publish();
        course.measure();
        (0..3).for_each(|_| _ = course.publish());
        deliver(&mut course, 0, 0);
        deliver(&mut course, 0, 1);
        deliver(&mut course, 0, 1);
        deliver(&mut course, 0, 3);
        assert_eq!((course.measured(), course.delivered(), course.outstanding()), (3, 2, 1));
        assert_eq!(course.faults(), Faults { lost: 1, duplicated: 1, reordered: 0 });
    }
}

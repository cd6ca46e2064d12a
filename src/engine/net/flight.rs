#![forbid(unsafe_code)]
//! What a sealed connection has to send: bytes of the wire, in extents of the segment log that are
//! its own. They belong to no link any more, and are never dropped: what is sealed is sent, in its
//! order, or the connection ends.

use crate::ids::Range;
use crate::mem::segment::{Extent, Extents, Log, Segments};
use smallvec::SmallVec;

/// Sealed bytes that the kernel has not taken, the first of them in one send.
#[derive(Debug, Default)]
pub struct Flight {
    extents: SmallVec<[Extent; 1]>,
    /// Bytes of the first extent that the kernel has taken.
    sent: u32,
    /// Bytes behind them that are in the kernel's hands now.
    in_flight: u32,
}

impl Flight {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Bytes that the kernel has not taken.
    pub fn unsent(&self) -> u32 {
        self.extents.iter().map(|extent| extent.range.len).sum::<u32>() - self.sent
    }

    /// The extents, first first.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Whether bytes of it lie in this segment.
    pub fn holds(&self, segment: u32) -> bool {
        self.extents.iter().any(|extent| extent.range.segment == segment)
    }

    /// Adds sealed bytes; it takes over the references of their segments.
    pub fn push(&mut self, extents: Extents) {
        self.extents.extend(extents);
    }

    /// What to send next; it is in the kernel's hands from now on.
    pub fn begin_send(&mut self) -> Option<Range> {
        assert_eq!(self.in_flight, 0, "one send a socket");
        let Range { segment, offset, len } = self.extents.first()?.range;
        self.in_flight = len - self.sent;
        Some(Range { segment, offset: offset + self.sent, len: self.in_flight })
    }

    /// The send is over; `taken` bytes of it are the kernel's. Says how many were asked for.
    pub fn end_send(&mut self, taken: u32, segments: &mut Segments) -> u32 {
        assert!(taken <= self.in_flight, "the kernel takes no more than it was given");
        let asked = self.in_flight;
        self.in_flight = 0;
        self.sent += taken;
        let first = self.extents[0].range;
        if self.sent == first.len {
            segments.release(first.segment);
            self.extents.remove(0);
            self.sent = 0;
        }
        asked
    }

    /// Copies what is left into other segments if any of it lies in this one. False if there is no
    /// room for that. Nothing may be in the kernel's hands.
    pub fn leave(&mut self, segment: u32, segments: &mut Segments) -> bool {
        assert_eq!(self.in_flight, 0, "the kernel reads where it was told to");
        if !self.holds(segment) {
            return true;
        }
        let mut rest = Vec::with_capacity(self.unsent() as usize);
        for extent in &self.extents {
            rest.extend_from_slice(segments.bytes(extent.range));
        }
        rest.drain(..self.sent as usize);
        segments.write_elsewhere(segment);
        let Ok(extents) = segments.append(Log::Private, &rest) else { return false };
        self.clear(segments);
        self.push(extents);
        !self.holds(segment)
    }

    /// Drops everything; nothing may be in the kernel's hands.
    pub fn clear(&mut self, segments: &mut Segments) {
        assert_eq!(self.in_flight, 0, "the kernel has given it back");
        for extent in self.extents.drain(..) {
            segments.release(extent.range.segment);
        }
        self.sent = 0;
    }

    /// Asserts what holds between its fields; `is_sending` is what its connection says. Slow.
    pub fn invariants(&self, is_sending: bool) {
        let first = self.extents.first().map_or(0, |extent| extent.range.len);
        assert!(self.sent + self.in_flight <= first, "a flight's send lies in its first extent");
        assert!(self.sent == 0 || self.sent < first, "what is taken of a flight is gone");
        assert_eq!(self.in_flight > 0, is_sending, "what is sealed is sent, known to both");
    }

    /// The kernel has taken a byte more than it was given.
    #[cfg(test)]
    pub fn spoil(&mut self) {
        self.sent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::region::Owner;

    fn segments() -> Segments {
        Segments::new(Owner::new(64 * 6).expect("memory"), 64, 64 * 6)
    }

    /// A flight of these bytes.
    fn flight(segments: &mut Segments, bytes: &[u8]) -> Flight {
        let mut flight = Flight::default();
        flight.push(segments.append(Log::Private, bytes).expect("room"));
        flight
    }

    /// Sends with `takes` bytes taken at each, over and over, until nothing is left.
    fn send_all(flight: &mut Flight, segments: &mut Segments, takes: &[u32]) -> Vec<u8> {
        let mut wire = Vec::new();
        for take in takes.iter().cycle() {
            let Some(range) = flight.begin_send() else { break };
            flight.invariants(true);
            let taken = range.len.min(*take);
            wire.extend_from_slice(segments.bytes(Range { len: taken, ..range }));
            assert_eq!(flight.end_send(taken, segments), range.len);
            flight.invariants(false);
        }
        wire
    }

    #[test]
    fn every_byte_goes_out_once_however_much_is_taken_at_a_time() {
        let bytes: Vec<u8> = (0..150).collect();
        for takes in [&[1][..], &[64], &[1000], &[0, 3, 0, 70], &[63, 1]] {
            let mut segments = segments();
            let mut flight = flight(&mut segments, &bytes);
            assert_eq!(flight.unsent(), 150);
            assert_eq!(send_all(&mut flight, &mut segments, takes), bytes, "{takes:?}");
            assert!(flight.is_empty() && segments.refcounts() == 0);
        }
    }

    #[test]
    fn the_rest_of_a_cancelled_send_leaves_its_segment_and_goes_on() {
        let mut segments = segments();
        let mut flight = flight(&mut segments, &[7; 50]);
        let first = flight.begin_send().expect("something to send");
        flight.end_send(20, &mut segments);
        assert!(flight.leave(first.segment, &mut segments));
        assert!(!flight.holds(first.segment));
        assert_eq!((flight.unsent(), segments.refcounts()), (30, 1));
        assert_eq!(send_all(&mut flight, &mut segments, &[9]), [7; 30]);
    }

    #[test]
    fn without_room_it_stays_where_it_is() {
        let mut segments = segments();
        let mut flight = flight(&mut segments, &[7; 50]);
        let segment = flight.extents()[0].range.segment;
        let others = segments.append(Log::Private, &[1; 64 * 5]).expect("room");
        assert!(!flight.leave(segment, &mut segments));
        assert_eq!(flight.unsent(), 50);
        segments.release_all(&others);
        flight.clear(&mut segments);
        assert_eq!(segments.refcounts(), 0);
    }
}

#![forbid(unsafe_code)]
//! A link, the ordered way to one client: how messages travel on it, whether it is open, and what
//! waits for it: extents of the segment log, in order, the first of them in flight.
//!
//! Adjacent extents merge, also while the first is in the kernel: the next send then takes all of
//! it. Every extent starts with a unit (a frame of the client's encoding) unless it is marked as
//! continuing one, so that boundaries can be found again from the bytes themselves ([`unit_len`])
//! when a closing has to cut between two units.

use super::encode::unit_len;
use crate::encoding::Encoding;
use crate::mem::segment::{Extent, Segments};
use crate::ring::Range;
use smallvec::SmallVec;

/// Why a link's client is not read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// It is read.
    #[default]
    No,
    /// Room in queues or pools: it stands in a list and is looked at every turn.
    Room,
    /// An answer (receipts at their bound, a parked HTTP request): what brings it resumes it.
    Answer,
    /// That its client takes what it has been answered: the end of a send resumes it.
    Outbox,
}

/// Whether more may be put into a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// No: it is not in use, or has been cut.
    #[default]
    Closed,
    /// Yes; its client is read, or waits.
    Open(Pause),
    /// No; what is there is still sent.
    Ending,
}

/// The lists of all links that one stands in. They outlive its use: an entry of a former client
/// stands for the next one, and does it no harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists(u8);

impl Lists {
    /// Of those to flush.
    pub const DIRTY: Lists = Lists(1);
    /// Of those whose clients wait for room.
    pub const ROOM: Lists = Lists(2);
    /// Of those whose connection receives for a link that has none of its own.
    pub const SERVING: Lists = Lists(4);

    /// Whether it stands in this one.
    pub fn has(self, list: Lists) -> bool {
        self.0 & list.0 != 0
    }

    /// It is put into this one. True if it was not there.
    pub fn enter(&mut self, list: Lists) -> bool {
        let is_new = !self.has(list);
        self.0 |= list.0;
        is_new
    }

    /// It is taken out of this one.
    pub fn leave(&mut self, list: Lists) {
        self.0 &= !list.0;
    }
}

/// A link. 40 bytes.
#[derive(Debug, Default)]
pub struct Link {
    /// Whether more may be put into it.
    pub(super) way: Way,
    /// The lists that it stands in.
    pub(super) lists: Lists,
    /// How messages travel; None for HTTP.
    pub(super) encoding: Option<Encoding>,
    pub(super) extents: SmallVec<[Extent; 1]>,
    /// Bytes of the first extent that the kernel has taken.
    pub(super) sent: u32,
    /// Bytes behind them that are in the kernel's hands now.
    pub(super) in_flight: u32,
    /// Bytes not yet taken, in flight ones included.
    pub(super) waiting: u32,
}

/// Extents that a link keeps memory for: a client with more at a time is a slow one.
const KEEP_EXTENTS: usize = 64;

/// Bytes of a link.
pub const LINK_BYTES: usize = size_of::<Link>();
const _: () = assert!(LINK_BYTES <= 40);

impl Link {
    /// Bytes that the kernel has not taken.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether a send is in flight.
    pub fn is_sending(&self) -> bool {
        self.in_flight > 0
    }

    /// Bytes in the kernel's hands.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Adds an extent; the link takes over one reference of its segment. Within the walk over a
    /// group's members it would take 11 instructions more a delivery than by itself.
    #[inline(never)]
    pub fn push(&mut self, extent: Extent, segments: &mut Segments) {
        self.waiting += extent.range.len;
        if let Some(last) = self.extents.last_mut()
            && !extent.continued
            && !last.continued
            && last.range.segment == extent.range.segment
            && last.range.offset + last.range.len == extent.range.offset
        {
            last.range.len += extent.range.len;
            segments.release(extent.range.segment);
            return;
        }
        self.extents.push(extent);
    }

    /// Adds an extent that others hold, too.
    pub fn push_shared(&mut self, extent: Extent, segments: &mut Segments) {
        segments.retain(extent.range.segment);
        self.push(extent, segments);
    }

    /// What to send next, at most `max` bytes; it is in flight from now on.
    #[inline]
    pub fn begin_send(&mut self, max: u32) -> Option<Range> {
        assert!(!self.is_sending(), "one send a socket");
        let first = self.extents.first()?;
        let len = (first.range.len - self.sent).min(max);
        self.in_flight = len;
        let Range { segment, offset, .. } = first.range;
        Some(Range { segment, offset: offset + self.sent, len })
    }

    /// The extents from the front that are small and would go out one by one: their count, if there
    /// are several of together at most `max` bytes. Copying them into one extent saves
    /// sends.
    pub fn small_extents(&self, max: u32) -> Option<(usize, u32)> {
        if self.is_sending() || self.sent > 0 || self.extents.len() < 2 {
            return None;
        }
        let (mut count, mut bytes) = (0, 0);
        for extent in &self.extents {
            if bytes + extent.range.len > max || extent.continued {
                break;
            }
            bytes += extent.range.len;
            count += 1;
        }
        // A large frame that goes on in the next extent must stay with it.
        if self.extents.get(count).is_some_and(|next| next.continued) {
            count = count.checked_sub(1)?;
            bytes -= self.extents[count].range.len;
        }
        (count >= 2).then_some((count, bytes))
    }

    /// The extents, first first.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Replaces the first `count` extents by one with the same bytes.
    pub fn replace_front(&mut self, count: usize, extent: Extent, segments: &mut Segments) {
        assert!(!self.is_sending() && self.sent == 0);
        let old: u32 = self.extents[..count].iter().map(|extent| extent.range.len).sum();
        assert_eq!(old, extent.range.len, "the same bytes");
        for old in self.extents.drain(..count) {
            segments.release(old.range.segment);
        }
        self.extents.insert(0, extent);
        self.give_back();
    }

    /// The send in flight is over; `taken` bytes of it are the kernel's.
    #[inline(always)] // Each send of a fan-out ends by it.
    pub fn end_send(&mut self, taken: u32, segments: &mut Segments) {
        assert!(taken <= self.in_flight, "the kernel takes no more than it was given");
        self.in_flight = 0;
        self.sent += taken;
        self.waiting -= taken;
        let first = &self.extents[0];
        if self.sent == first.range.len {
            segments.release(first.range.segment);
            // The only one, almost always: no move of what is behind it.
            if self.extents.len() == 1 {
                self.extents.pop();
            } else {
                self.extents.remove(0);
                self.give_back();
            }
            self.sent = 0;
        }
    }

    /// The first `len` bytes that wait, where they lie or gathered in `scratch`.
    pub fn front<'a>(
        &self,
        len: u32,
        segments: &'a Segments,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        let Some(Range { segment, offset, len: whole }) = self.extents.first().map(|e| e.range)
        else {
            return &[];
        };
        if len <= whole - self.sent {
            return segments.bytes(Range { segment, offset: offset + self.sent, len });
        }
        scratch.clear();
        let mut skip = self.sent as usize;
        for extent in &self.extents {
            let left = len as usize - scratch.len();
            let bytes = &segments.bytes(extent.range)[skip..];
            scratch.extend_from_slice(&bytes[..bytes.len().min(left)]);
            skip = 0;
        }
        scratch
    }

    /// The first `len` bytes that wait are no longer the link's; nothing of it may be in flight.
    pub fn part_with(&mut self, len: u32, segments: &mut Segments) {
        assert!(!self.is_sending(), "what is in flight is the link's");
        let mut left = len;
        while left > 0 {
            let now = left.min(self.extents[0].range.len - self.sent);
            self.in_flight = now;
            self.end_send(now, segments);
            left -= now;
        }
    }

    /// It is paused for this reason, or not, if it is open.
    pub(super) fn set_pause(&mut self, pause: Pause) {
        if let Way::Open(was) = &mut self.way {
            *was = pause;
        }
    }

    /// Gives the memory of many extents back when few are left.
    pub(super) fn give_back(&mut self) {
        if self.extents.capacity() > KEEP_EXTENTS && self.extents.len() <= 1 {
            self.extents.shrink_to_fit();
        }
    }

    /// Whether some bytes wait in this segment.
    pub fn holds(&self, segment: u32) -> bool {
        self.extents.iter().any(|extent| extent.range.segment == segment)
    }

    /// Drops every unit that has not begun. What is in flight stays.
    pub fn keep_begun(&mut self, segments: &mut Segments, encoding: Encoding) {
        let (keep, keep_first) = self.begun(segments, encoding);
        for dropped in self.extents.drain(keep..) {
            segments.release(dropped.range.segment);
        }
        if keep > 0 {
            self.extents[0].range.len = keep_first;
        }
        self.forget_finished(segments);
        self.waiting = self.extents.iter().map(|extent| extent.range.len).sum::<u32>() - self.sent;
    }

    /// Drops a first extent that the kernel has taken to its end.
    pub(super) fn forget_finished(&mut self, segments: &mut Segments) {
        if let Some(first) = self.extents.first()
            && self.sent > 0
            && self.sent == first.range.len
        {
            segments.release(first.range.segment);
            self.extents.remove(0);
            self.sent = 0;
        }
    }

    /// What has begun, to the end of its unit: the count of extents, and the bytes of the first
    /// that belong to it.
    pub fn begun(&self, segments: &Segments, encoding: Encoding) -> (usize, u32) {
        let begun = self.sent + self.in_flight;
        let Some(&first) = self.extents.first() else { return (0, 0) };
        let mut boundary: u64 = 0;
        if first.continued {
            boundary = u64::from(first.range.len);
        }
        while boundary < u64::from(begun) {
            let start = Range {
                offset: first.range.offset + boundary as u32,
                len: first.range.len - boundary as u32,
                ..first.range
            };
            match unit_len(encoding, segments.bytes(start)) {
                Some(len) => boundary += len,
                None => return (self.extents.len(), first.range.len),
            }
        }
        // A unit longer than the extent goes on in the continued ones behind it.
        let whole_first = first.continued || boundary > u64::from(first.range.len);
        let keep_first = boundary.min(u64::from(first.range.len)) as u32;
        let mut keep = usize::from(keep_first > 0);
        if whole_first || keep_first == first.range.len {
            while self.extents.get(keep).is_some_and(|extent| extent.continued) {
                keep += 1;
            }
        }
        (keep, keep_first)
    }

    /// Asserts what holds between its fields. `is_own`: it is a connection's, and sends. Slow.
    pub fn invariants(&self, is_own: bool) {
        let queued: u32 = self.extents.iter().map(|extent| extent.range.len).sum();
        assert!(self.extents.iter().all(|extent| extent.range.len > 0), "no extent is empty");
        assert_eq!(self.waiting + self.sent, queued, "what is queued waits or is taken");
        let first = self.extents.first().map_or(0, |extent| extent.range.len);
        assert!(self.sent + self.in_flight <= first, "a send lies in the first extent");
        assert!(is_own || self.sent + self.in_flight == 0, "only a connection's own link sends");
        assert!(self.sent == 0 || self.sent < first, "what is taken to its end is gone");
    }

    /// Whether it keeps memory beside its place in the table.
    pub fn keeps_memory(&self) -> bool {
        self.extents.spilled()
    }

    /// Whether its client is not read.
    pub fn is_paused(&self) -> bool {
        matches!(self.way, Way::Open(pause) if pause != Pause::No)
    }

    /// Drops everything; nothing may be in flight.
    pub fn clear(&mut self, segments: &mut Segments) {
        assert!(!self.is_sending());
        for extent in self.extents.drain(..) {
            segments.release(extent.range.segment);
        }
        self.extents = SmallVec::new();
        self.sent = 0;
        self.waiting = 0;
    }

    /// Takes all bytes not yet sent out of the log, for a copy; nothing may be in flight.
    pub fn take_bytes(&mut self, segments: &mut Segments, into: &mut Vec<u8>) {
        assert!(!self.is_sending());
        let mut skip = self.sent as usize;
        for extent in &self.extents {
            into.extend_from_slice(&segments.bytes(extent.range)[skip..]);
            skip = 0;
        }
        self.clear(segments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::region::Owner;
    use crate::mem::segment::{Extents, Log};
    use crate::ws;

    fn segments() -> Segments {
        Segments::new(Owner::new(64 * 6).expect("memory"), 64, 64 * 6)
    }

    /// A frame that is so long with its head.
    fn frame(len: usize) -> Vec<u8> {
        let (mut bytes, mut head) = (vec![0; len], [0; 10]);
        let head_len = if len < 2 + 126 { 2 } else { 4 };
        assert_eq!(
            ws::head(ws::Opcode::Binary, true, (len - head_len) as u64, &mut head),
            head_len
        );
        bytes[..head_len].copy_from_slice(&head[..head_len]);
        bytes
    }

    fn push(link: &mut Link, segments: &mut Segments, bytes: &[u8]) -> Extents {
        let extents = segments.append(Log::Shared, bytes).expect("room");
        for extent in &extents {
            link.push(*extent, segments);
        }
        extents
    }

    #[test]
    fn neighbours_merge_also_behind_a_send_in_flight() {
        let (mut link, mut segments) = (Link::default(), segments());
        push(&mut link, &mut segments, &frame(10));
        let first = link.begin_send(100).expect("something to send");
        assert_eq!(first.len, 10);
        push(&mut link, &mut segments, &frame(7));
        push(&mut link, &mut segments, &frame(8));
        assert_eq!(link.extents().len(), 1);
        link.end_send(10, &mut segments);
        let next = link.begin_send(100).expect("the rest");
        assert_eq!((next.offset, next.len), (first.offset + 10, 15));
        link.end_send(15, &mut segments);
        assert!(link.is_empty() && link.waiting() == 0);
        assert_eq!(segments.refcounts(), 0);
    }

    #[test]
    fn what_has_begun_is_kept_to_the_end_of_its_frame() {
        for (max, taken, kept) in [(1, 0, 10), (10, 0, 10), (11, 0, 17), (17, 0, 17), (5, 5, 10)] {
            let (mut link, mut segments) = (Link::default(), segments());
            for len in [10, 7, 8] {
                push(&mut link, &mut segments, &frame(len));
            }
            link.begin_send(max).expect("something to send");
            if taken > 0 {
                link.end_send(taken, &mut segments);
            }
            link.keep_begun(&mut segments, Encoding::PLAIN);
            assert_eq!(link.waiting() + taken, kept, "max {max} taken {taken}");
        }
    }

    #[test]
    fn nothing_begun_means_nothing_kept() {
        let (mut link, mut segments) = (Link::default(), segments());
        push(&mut link, &mut segments, &frame(10));
        link.keep_begun(&mut segments, Encoding::PLAIN);
        assert!(link.is_empty() && link.waiting() == 0);
        assert_eq!(segments.refcounts(), 0);
    }

    #[test]
    fn a_frame_over_several_segments_is_kept_whole_wherever_the_cut_comes() {
        for sent_extents in 0..3 {
            let (mut link, mut segments) = (Link::default(), segments());
            let large = push(&mut link, &mut segments, &frame(150));
            assert_eq!(large.len(), 3);
            push(&mut link, &mut segments, &frame(9));
            for _ in 0..sent_extents {
                let range = link.begin_send(100).expect("an extent");
                link.end_send(range.len, &mut segments);
            }
            link.begin_send(3).expect("an extent");
            link.keep_begun(&mut segments, Encoding::PLAIN);
            assert_eq!(link.waiting(), 150 - sent_extents * 64, "after {sent_extents} extents");
        }
    }

    #[test]
    fn small_extents_are_found_and_replaced() {
        let (mut link, mut segments) = (Link::default(), segments());
        push(&mut link, &mut segments, &frame(10));
        let private = segments.append(Log::Private, &frame(5)).expect("room");
        link.push(private[0], &mut segments);
        push(&mut link, &mut segments, &frame(6));
        assert_eq!(link.small_extents(100), Some((3, 21)));
        assert_eq!(link.small_extents(15), Some((2, 15)));
        let copy = segments.append(Log::Private, &[1; 15]).expect("room");
        link.replace_front(2, copy[0], &mut segments);
        assert_eq!((link.extents().len(), link.waiting()), (2, 21));
    }

    #[test]
    fn who_is_gone_keeps_no_memory() {
        let (mut link, mut segments) = (Link::default(), segments());
        for _ in 0..8 {
            // Answers of HTTP never merge.
            let extents = segments.append(Log::Private, &[1; 5]).expect("room");
            link.push(Extent { continued: true, ..extents[0] }, &mut segments);
        }
        assert!(link.keeps_memory(), "more than one extent has a place of its own");
        link.clear(&mut segments);
        assert!(!link.keeps_memory());
    }
}

#![forbid(unsafe_code)]
//! Slow consumers that stay: messages that have not begun are dropped out of their links.
//!
//! Which frames may be dropped, and when, stands beside them in the segment log (`mem::marks`).
//! Everything else is kept, in its order: receipts, errors, answers, messages of other
//! destinations. If what is kept alone comes near `send-buffer` the client is closed (4500), as
//! every slow consumer is where nothing may be dropped.
//!
//! - **drop-oldest**: the oldest go until half of `send-buffer` is free; never the newest.
//! - **conflate**: of each subscription and destination only the newest stays.
//!
//! A send that stands still is stopped when `send-time` is over, or when the pool wants its
//! segment: the kernel's count is exact. A client that took nothing in `send-time` is closed; one
//! that took some stays. What a client must still get out of a wanted segment is copied, at most
//! one segment and never out of the room that is kept for answers; else the client is closed.

use super::encode::unit_len;
use super::link::Link;
use crate::encoding::Encoding;
use crate::ids::Range;
use crate::mem::marks::Droppable;
use crate::mem::segment::{Extent, Log, Segments};
use hashbrown::HashSet;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// It stays, and its bytes are copied out of a segment that is wanted.
    Moves,
}

/// A frame that has not begun.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// The extent that it begins in, where in the extent, and how much of it lies there.
    extent: u32,
    offset: u32,
    len: u32,
    /// All of it, with what lies in the extents behind.
    bytes: u32,
    droppable: Option<Droppable>,
    fate: Fate,
}

/// The places to work in; they live on.
#[derive(Debug, Default)]
pub struct Shedding {
    units: Vec<Unit>,
    extents: Vec<Extent>,
    keys: HashSet<u64, foldhash::fast::FixedState>,
    bytes: Vec<u8>,
}

/// How many messages were dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// As the oldest.
    pub oldest: u64,
    /// As there were newer ones.
    pub conflated: u64,
}

impl Shedding {
    /// Finds the frames of a link that have not begun.
    fn look(&mut self, link: &Link, segments: &Segments, encoding: Encoding) {
        self.units.clear();
        let (begun, begun_first) = link.begun(segments, encoding);
        for (at, extent) in link.extents.iter().enumerate() {
            let Range { segment, offset: start, len } = extent.range;
            if extent.continued || at > 0 && at < begun {
                if at >= begun
                    && let Some(last) = self.units.last_mut()
                {
                    last.bytes += len;
                }
                continue;
            }
            let mut offset = if at == 0 { begun_first } else { 0 };
            while offset < len {
                let rest = Range { segment, offset: start + offset, len: len - offset };
                let whole = unit_len(encoding, segments.bytes(rest)).unwrap_or(u64::MAX);
                let own = whole.min(u64::from(rest.len)) as u32;
                let droppable = segments.droppable(segment, rest.offset);
                let (extent, bytes, fate) = (at as u32, own, Fate::Stays);
                self.units.push(Unit { extent, offset, len: own, bytes, droppable, fate });
                offset += own;
            }
        }
    }

    /// Drops what newer ones stand for, then the oldest until at most `goal` bytes wait.
    fn validate(&mut self, waiting: u32, goal: u32) -> Dropped {
        let mut dropped = Dropped::default();
        let mut left = waiting;
        self.keys.clear();
        for unit in self.units.iter_mut().rev() {
            if let Some(Droppable::Superseded(key)) = unit.droppable
                && !self.keys.insert(key)
            {
                unit.fate = Fate::Goes;
                left -= unit.bytes;
                dropped.conflated += 1;
            }
        }
        let is_oldest = |unit: &Unit| unit.droppable == Some(Droppable::Oldest);
        let newest = self.units.iter().rposition(is_oldest).unwrap_or(0);
        for unit in self.units[..newest].iter_mut().filter(|unit| is_oldest(unit)) {
            if left <= goal {
                break;
            }
            unit.fate = Fate::Goes;
            left -= unit.bytes;
            dropped.oldest += 1;
        }
        dropped
    }

    /// Frees a segment: what lies there and may be dropped is, the rest is to be moved.
    fn vacate(&mut self, link: &Link, wanted: u32, dropped: &mut Dropped) {
        let is_oldest = |unit: &Unit| unit.droppable == Some(Droppable::Oldest);
        let newest = self.units.iter().rposition(is_oldest);
        for (at, unit) in self.units.iter_mut().enumerate() {
            let first = &link.extents[unit.extent as usize];
            let mut extents = link.tail(unit).iter().chain([first]);
            if unit.fate == Fate::Goes || !extents.any(|extent| extent.range.segment == wanted) {
                continue;
            }
            let goes = is_oldest(unit) && Some(at) != newest;
            unit.fate = if goes { Fate::Goes } else { Fate::Moves };
            dropped.oldest += u64::from(goes);
        }
    }
}

impl Link {
    /// Whether a frame of it may be dropped at some time.
    pub fn has_droppable(&self, segments: &Segments) -> bool {
        self.extents.iter().any(|extent| segments.has_droppable(extent.range))
    }

    /// Drops frames that may be dropped, until at most `goal` bytes wait if that is possible.
    pub fn shed(
        &mut self,
        segments: &mut Segments,
        encoding: Encoding,
        goal: u32,
        work: &mut Shedding,
    ) -> Dropped {
        work.look(self, segments, encoding);
        let dropped = work.validate(self.waiting, goal);
        if dropped != Dropped::default() {
            self.rebuild((segments, encoding), work, &[], None);
        }
        dropped
    }

    /// Gets out of a segment, by dropping and by copying; nothing may be in flight. False if there
    /// is no room for the copy.
    pub fn vacate(
        &mut self,
        segments: &mut Segments,
        encoding: Encoding,
        wanted: u32,
        work: &mut Shedding,
    ) -> (Dropped, bool) {
        assert!(!self.is_sending());
        work.look(self, segments, encoding);
        let mut dropped = work.validate(self.waiting, u32::MAX);
        work.vacate(self, wanted, &mut dropped);
        let (begun, begun_first) = self.begun(segments, encoding);
        let moves_begun = self.extents[..begun].iter().any(|p| p.range.segment == wanted);
        work.bytes.clear();
        if moves_begun {
            self.copy_begun(segments, (begun, begun_first), &mut work.bytes);
        }
        let rest = work.bytes.len();
        self.copy_units(segments, work);
        let size = segments.size() as usize;
        let (all, moved) = (work.bytes.len(), work.bytes.len() - rest);
        // Each of the two copies may leave the end of a segment unused.
        if segments.is_short() || moved > size || !segments.has_room(Log::Private, all + size) {
            work.units.iter_mut().filter(|u| u.fate == Fate::Moves).for_each(|u| {
                u.fate = Fate::Stays;
            });
            self.rebuild((segments, encoding), work, &[], None);
            // All that lay there may be gone.
            return (dropped, !self.holds(wanted));
        }
        let append = |segments: &mut Segments, bytes: &[u8]| match bytes {
            [] => crate::mem::segment::Extents::new(),
            bytes => segments.append(Log::Private, bytes).expect("the pool has room"),
        };
        let mut begun = append(segments, &work.bytes[..rest]);
        // It goes on with a frame that the kernel has a part of.
        begun.iter_mut().for_each(|extent| extent.continued = true);
        let units = append(segments, &work.bytes[rest..]);
        self.rebuild((segments, encoding), work, &begun, units.first().copied());
        (dropped, !self.holds(wanted))
    }

    /// The extents that a frame goes on in.
    fn tail(&self, unit: &Unit) -> &[Extent] {
        if unit.bytes == unit.len {
            return &[];
        }
        let behind = &self.extents[unit.extent as usize + 1..];
        let count = behind.iter().take_while(|extent| extent.continued).count();
        &behind[..count]
    }

    /// The rest of the frame that has begun.
    fn copy_begun(&self, segments: &Segments, begun: (usize, u32), into: &mut Vec<u8>) {
        for (at, extent) in self.extents[..begun.0].iter().enumerate() {
            let end = if at == 0 { begun.1 } else { extent.range.len } as usize;
            let start = if at == 0 { self.sent as usize } else { 0 };
            into.extend_from_slice(&segments.bytes(extent.range)[start..end]);
        }
    }

    fn copy_units(&self, segments: &Segments, work: &mut Shedding) {
        let Shedding { units, bytes, .. } = work;
        for unit in units.iter().filter(|unit| unit.fate == Fate::Moves) {
            let first = &self.extents[unit.extent as usize];
            let own = &segments.bytes(first.range)[unit.offset as usize..];
            bytes.extend_from_slice(&own[..unit.len as usize]);
            for extent in self.tail(unit) {
                bytes.extend_from_slice(segments.bytes(extent.range));
            }
        }
    }

    /// Makes the list of extents anew: what has begun (or `begun` in its place), then the frames
    /// that stay, and those that have moved, one after the other, to `moved`. Both come with their
    /// holds.
    fn rebuild(
        &mut self,
        (segments, encoding): (&mut Segments, Encoding),
        work: &mut Shedding,
        begun: &[Extent],
        moved: Option<Extent>,
    ) {
        let (keep, keep_first) = self.begun(segments, encoding);
        let Shedding { units, extents, .. } = work;
        extents.clear();
        extents.extend_from_slice(begun);
        for (at, extent) in self.extents[..keep].iter().enumerate().filter(|_| begun.is_empty()) {
            let len = if at == 0 { keep_first } else { extent.range.len };
            let range = Range { len, ..extent.range };
            extents.push(Extent { range, ..*extent });
            segments.retain(range.segment);
        }
        let mut copied = 0;
        for unit in units.iter().filter(|unit| unit.fate != Fate::Goes) {
            if let (Fate::Moves, Some(moved)) = (unit.fate, moved) {
                let offset = moved.range.offset + copied;
                let range = Range { offset, len: unit.bytes, ..moved.range };
                copied += unit.bytes;
                if let Some(droppable) = unit.droppable {
                    segments.mark(range, droppable);
                }
                add(extents, segments, Extent { range, continued: false });
                continue;
            }
            let first = self.extents[unit.extent as usize].range;
            let range = Range { offset: first.offset + unit.offset, len: unit.len, ..first };
            add(extents, segments, Extent { range, continued: false });
            for extent in self.tail(unit) {
                add(extents, segments, *extent);
            }
        }
        for old in self.extents.drain(..) {
            segments.release(old.range.segment);
        }
        if let Some(moved) = moved {
            segments.release(moved.range.segment);
        }
        self.extents.extend_from_slice(extents);
        self.give_back();
        if !begun.is_empty() {
            self.sent = 0;
        }
        self.forget_finished(segments);
        self.waiting = self.extents.iter().map(|extent| extent.range.len).sum::<u32>() - self.sent;
    }
}

/// Adds an extent with a reference of its own, to the last one where it lies right behind it.
fn add(extents: &mut Vec<Extent>, segments: &mut Segments, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.is_before(&extent) => last.range.len += extent.range.len,
        _ => {
            segments.retain(extent.range.segment);
            extents.push(extent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::region::Owner;
    use crate::mem::segment::Extents;
    use crate::ws;

    const SIZE: u32 = 512;

    fn segments() -> Segments {
        Segments::new(Owner::new(512 * 16).expect("memory"), SIZE, SIZE * 16)
    }

    /// A text frame whose payload is `len` times this entry.
    fn frame(entry: u8, len: usize) -> Vec<u8> {
        let mut head = [0; 10];
        let head_len = ws::head(ws::Opcode::Text, true, len as u64, &mut head);
        [&head[..head_len], &vec![entry; len]].concat()
    }

    fn push(
        link: &mut Link,
        segments: &mut Segments,
        (entry, len): (u8, usize),
        droppable: Option<Droppable>,
    ) -> Extents {
        let extents = segments.append(Log::Shared, &frame(entry, len)).expect("room");
        if let Some(droppable) = droppable {
            segments.mark(extents[0].range, droppable);
        }
        extents.iter().for_each(|extent| link.push(*extent, segments));
        extents
    }

    /// The entries of the frames that a client gets from now on.
    fn drained(link: &mut Link, segments: &mut Segments) -> String {
        let mut bytes = Vec::new();
        link.take_bytes(segments, &mut bytes);
        assert_eq!(segments.refcounts(), 0, "nothing is held any more");
        let mut entries = String::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = unit_len(Encoding::PLAIN, rest).expect("a whole frame") as usize;
            entries.push(char::from(rest[len - 1]));
            rest = &rest[len..];
        }
        entries
    }

    #[test]
    fn the_oldest_go_but_nothing_that_has_begun_or_is_not_theirs() {
        let (mut link, mut segments) = (Link::default(), segments());
        for entry in b'a'..=b'h' {
            let droppable = (entry != b'd').then_some(Droppable::Oldest);
            push(&mut link, &mut segments, (entry, 60), droppable);
        }
        link.begin_send(10).expect("something to send");
        let dropped = link.shed(&mut segments, Encoding::PLAIN, 200, &mut Shedding::default());
        assert_eq!(dropped, Dropped { oldest: 5, conflated: 0 });
        assert_eq!(link.waiting(), 3 * 62);
        link.end_send(0, &mut segments);
        assert_eq!(drained(&mut link, &mut segments), "adh");
    }

    #[test]
    fn the_newest_stays_whatever_the_goal() {
        let (mut link, mut segments) = (Link::default(), segments());
        for entry in b'a'..=b'c' {
            push(&mut link, &mut segments, (entry, 60), Some(Droppable::Oldest));
        }
        let dropped = link.shed(&mut segments, Encoding::PLAIN, 0, &mut Shedding::default());
        assert_eq!(dropped.oldest, 2);
        assert_eq!(drained(&mut link, &mut segments), "c");
    }

    #[test]
    fn of_each_destination_the_newest_stays_in_its_place() {
        let (mut link, mut segments) = (Link::default(), segments());
        for (entry, key) in [(b'a', 1), (b'b', 2), (b'c', 1), (b'd', 0), (b'e', 1), (b'f', 2)] {
            let droppable = (key > 0).then_some(Droppable::Superseded(key));
            push(&mut link, &mut segments, (entry, 130), droppable);
        }
        let dropped = link.shed(&mut segments, Encoding::PLAIN, 0, &mut Shedding::default());
        assert_eq!(dropped, Dropped { oldest: 0, conflated: 3 });
        assert_eq!(drained(&mut link, &mut segments), "def");
    }

    #[test]
    fn a_frame_over_several_segments_goes_or_stays_whole() {
        for stays in [false, true] {
            let (mut link, mut segments) = (Link::default(), segments());
            push(&mut link, &mut segments, (b'a', 20), None);
            let large = (!stays).then_some(Droppable::Oldest);
            assert!(push(&mut link, &mut segments, (b'b', 1_200), large).len() > 2);
            push(&mut link, &mut segments, (b'c', 20), Some(Droppable::Oldest));
            push(&mut link, &mut segments, (b'd', 20), Some(Droppable::Oldest));
            link.shed(&mut segments, Encoding::PLAIN, 0, &mut Shedding::default());
            let left = drained(&mut link, &mut segments);
            assert_eq!(left, if stays { "abd" } else { "ad" });
        }
    }

    #[test]
    fn a_segment_is_left_and_the_stream_stays_whole() {
        for taken in [0, 5, 62, 100] {
            let (mut link, mut segments) = (Link::default(), segments());
            let first = push(&mut link, &mut segments, (b'a', 60), Some(Droppable::Oldest));
            for entry in b'b'..=b'z' {
                let droppable = (entry % 2 == 0).then_some(Droppable::Oldest);
                push(&mut link, &mut segments, (entry, 60), droppable);
            }
            let range = link.begin_send(200).expect("something to send");
            let mut got = segments.bytes(range)[..taken as usize].to_vec();
            link.end_send(taken, &mut segments);
            let wanted = first[0].range.segment;
            let work = &mut Shedding::default();
            let (dropped, is_out) = link.vacate(&mut segments, Encoding::PLAIN, wanted, work);
            assert!(is_out && !link.holds(wanted), "after {taken}");
            assert!(dropped.oldest > 0);
            link.take_bytes(&mut segments, &mut got);
            assert_eq!(segments.refcounts(), 0);
            let mut rest = &got[..];
            let mut before = 0;
            while !rest.is_empty() {
                let len = unit_len(Encoding::PLAIN, rest).expect("a whole frame") as usize;
                assert!(rest[2..len].iter().all(|byte| *byte == rest[2]), "after {taken}");
                assert!(rest[2] > before, "in order");
                before = rest[2];
                rest = &rest[len..];
            }
            assert_eq!(before, b'z');
        }
    }

    #[test]
    fn a_segment_that_is_left_by_dropping_needs_no_room() {
        let (mut link, mut segments) = (Link::default(), segments());
        let first = push(&mut link, &mut segments, (b'a', 60), Some(Droppable::Oldest));
        let wanted = first[0].range.segment;
        while push(&mut link, &mut segments, (b'b', 60), Some(Droppable::Oldest))[0].range.segment
            == wanted
        {}
        let mut others = Vec::new();
        while let Ok(extents) = segments.append(Log::Private, &[0]) {
            others.extend(extents);
        }
        let work = &mut Shedding::default();
        let (dropped, is_out) = link.vacate(&mut segments, Encoding::PLAIN, wanted, work);
        assert!(segments.is_short() && is_out && !link.holds(wanted));
        assert!(dropped.oldest > 0);
        assert_eq!(segments.refcount_of(wanted), 0, "it is free");
        others.iter().for_each(|other: &Extent| segments.release(other.range.segment));
        assert_eq!(drained(&mut link, &mut segments), "b");
    }

    #[test]
    fn what_moves_keeps_its_mark() {
        let (mut link, mut segments) = (Link::default(), segments());
        let first = push(&mut link, &mut segments, (b'a', 60), Some(Droppable::Superseded(1)));
        for entry in b'b'..=b'j' {
            push(&mut link, &mut segments, (entry, 60), None);
        }
        let work = &mut Shedding::default();
        let (_, is_out) = link.vacate(&mut segments, Encoding::PLAIN, first[0].range.segment, work);
        assert!(is_out);
        push(&mut link, &mut segments, (b'k', 60), Some(Droppable::Superseded(1)));
        assert_eq!(link.shed(&mut segments, Encoding::PLAIN, 0, work).conflated, 1);
        assert_eq!(drained(&mut link, &mut segments), "bcdefghijk");
    }
}

#![forbid(unsafe_code)]
//! The log of segments: every byte in flight to a client is here, with a refcount per segment.
//!
//! A fixed pool of equal segments. Two logs write into it, one for shared bytes and one for private
//! bytes, so that the messages of one group of subscribers in consecutive turns are adjacent, and
//! their extents merge. A segment is free again when no extent of it is referenced and no log
//! writes into it.
//!
//! Order of calls: `append` returns extents, each with one reference; `retain` for each further
//! reference, `release` when the bytes are sent or dropped.
//!
//! Bounds: `segment-bytes`, `segment-size`. `append` refuses if the pool has no room; the caller
//! then makes room by ending connections that pin the most (`refcount_of` shows what an end frees).
//! `is_low`, `is_short`, `may_answer` and `is_scarce` say how much is left.

use super::marks::{Droppable, Marks};
use super::region::Owner;
use crate::ids::Range;
use core::fmt;
use smallvec::SmallVec;

/// An extent: a range of bytes of the log in the queue of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its range.
    pub range: Range,
    /// It continues a frame that began in the extent before; otherwise it starts with a frame.
    pub continued: bool,
}

impl Extent {
    /// Whether `next` directly follows it, so that the two may merge.
    #[inline]
    pub fn is_before(&self, next: &Extent) -> bool {
        !next.continued
            && !self.continued
            && self.range.segment == next.range.segment
            && self.range.offset + self.range.len == next.range.offset
    }
}

/// The extents of one append: one, unless the append is larger than a segment.
pub type Extents = SmallVec<[Extent; 2]>;

/// Which of the two logs to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Bytes that many connections send.
    Shared,
    /// Bytes of one connection.
    Private,
}

/// The pool has no room for this append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool of segments has no room")
    }
}

impl core::error::Error for Full {}

#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    /// Count of references to its extents.
    refcount: u32,
    used: u32,
    /// When its oldest bytes were written: smaller is older. Zero while free.
    order: u64,
}

/// The pool and its two logs.
#[derive(Debug)]
pub struct Segments {
    memory: Owner,
    size: u32,
    segments: Vec<Segment>,
    free: Vec<u32>,
    open: [Option<u32>; 2],
    marks: Marks,
    orders: u64,
    /// With fewer free segments, nothing is read that needs an answer.
    answer_least: usize,
}

impl Segments {
    /// A pool of `bytes / size` segments over `memory`.
    pub fn new(memory: Owner, size: u32, bytes: u32) -> Segments {
        let count = bytes / size;
        assert!(count >= 4, "the two logs and their successors need four segments");
        Segments {
            memory,
            size,
            segments: vec![Segment::default(); count as usize],
            free: (0..count).rev().collect(),
            open: [None; 2],
            marks: Marks::new(count as usize, size),
            orders: 0,
            answer_least: 0,
        }
    }

    /// Sets how many bytes one answer may have.
    pub fn expect_answers(&mut self, bytes: usize) {
        let least = self.scarce() + bytes.div_ceil(self.size as usize);
        // An unused pool must have at least that many.
        self.answer_least = least.min(self.largest() / self.size as usize);
    }

    /// Whether less than a quarter of the segments is free. Then a client that has not read its
    /// last answer gets no further one.
    #[inline]
    pub fn is_low(&self) -> bool {
        self.free.len() < self.segments.len() / 4
    }

    /// Whether one more request may be read: its answer has room beside the reserve for messages
    /// that are not answers.
    #[inline]
    pub fn may_answer(&self) -> bool {
        self.free.len() >= self.answer_least
    }

    /// Whether less than a sixteenth is free, the reserve for bytes that cannot wait.
    pub fn is_scarce(&self) -> bool {
        self.free.len() < self.scarce()
    }

    fn scarce(&self) -> usize {
        self.reserve() / 2
    }

    /// References to a segment.
    pub fn refcount_of(&self, segment: u32) -> u32 {
        self.segments[segment as usize].refcount
    }

    /// Count of free segments.
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Count of all segments.
    pub fn count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of one segment.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Segments that only the private log may take: answers must not suffer because others read
    /// shared bytes late.
    fn reserve(&self) -> usize {
        self.segments.len() / 8
    }

    /// Whether even private bytes will soon have no room.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.free.len() < self.reserve()
    }

    /// Free segments that are enough: the shared log may take one, and an answer has room.
    pub fn least(&self) -> usize {
        (self.reserve() + 1).max(self.answer_least)
    }

    /// Whether fewer are free.
    pub fn is_wanting(&self) -> bool {
        self.free.len() < self.least()
    }

    /// Free segments that the shared log may take.
    pub fn free_to_share(&self) -> usize {
        self.free.len().saturating_sub(self.reserve())
    }

    /// Bytes of the largest append that fits an unused pool: two segments belong to the logs.
    pub fn largest(&self) -> usize {
        (self.segments.len() - self.reserve() - 2) * self.size as usize
    }

    /// Segments that are always enough for appends of `bytes` in total, however these are divided.
    /// An append that does not fit the rest of a segment begins the next one, so two neighbouring
    /// segments together have more bytes than one segment can have.
    pub fn of_runs(bytes: usize, size: usize) -> usize {
        (2 * bytes).div_ceil(size) + 1
    }

    /// Whether an append of `len` bytes has room.
    pub fn has_room(&self, log: Log, len: usize) -> bool {
        let free = match log {
            Log::Shared => self.free_to_share(),
            Log::Private => self.free.len(),
        };
        let size = self.size as usize;
        let left =
            self.open[log as usize].map_or(0, |s| size - self.segments[s as usize].used as usize);
        len <= left || len.div_ceil(size) <= free
    }

    /// Bytes of the largest private append that is in one extent now.
    pub fn fits_one(&self) -> usize {
        let left = |open: u32| (self.size - self.segments[open as usize].used) as usize;
        match self.free.is_empty() {
            true => self.open[Log::Private as usize].map_or(0, left),
            false => self.size as usize,
        }
    }

    /// Writes whole frames into a log. The extents have one reference each. Frames that fit one
    /// segment are in one extent.
    pub fn append(&mut self, log: Log, bytes: &[u8]) -> Result<Extents, Full> {
        if let Some(extent) = self.append_in_place(log, bytes) {
            return Ok(Extents::from_slice(&[extent]));
        }
        if !self.has_room(log, bytes.len()) {
            return Err(Full);
        }
        let mut extents = Extents::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let segment = self.writable(log, rest.len());
            let left = self.size - self.segments[segment as usize].used;
            let (now, later) = rest.split_at(rest.len().min(left as usize));
            let range = self.write(segment, now);
            extents.push(Extent { range, continued: !extents.is_empty() });
            rest = later;
        }
        Ok(extents)
    }

    /// The same for frames that fit what is left of the open segment, as most do; None if these do
    /// not.
    #[inline]
    pub fn append_in_place(&mut self, log: Log, bytes: &[u8]) -> Option<Extent> {
        let segment = self.open[log as usize]?;
        let left = self.size - self.segments[segment as usize].used;
        if bytes.is_empty() || bytes.len() > left as usize {
            return None;
        }
        Some(Extent { range: self.write(segment, bytes), continued: false })
    }

    /// Writes bytes that fit behind what a segment has, with one reference.
    fn write(&mut self, segment: u32, bytes: &[u8]) -> Range {
        assert!(!bytes.is_empty(), "no extent is empty");
        let state = &mut self.segments[segment as usize];
        if state.refcount == 0 {
            // The segment may have been opened long ago, but all its bytes are new.
            self.orders += 1;
            state.order = self.orders;
        }
        let offset = state.used;
        state.used += bytes.len() as u32;
        state.refcount += 1;
        let place = segment as usize * self.size as usize + offset as usize;
        self.memory.bytes_mut(place, bytes.len()).copy_from_slice(bytes);
        Range { segment, offset, len: bytes.len() as u32 }
    }

    /// The open segment of a log if `len` bytes fit its rest, else a fresh one.
    fn writable(&mut self, log: Log, len: usize) -> u32 {
        if let Some(segment) = self.open[log as usize] {
            if len <= (self.size - self.segments[segment as usize].used) as usize {
                return segment;
            }
            self.open[log as usize] = None;
            if self.segments[segment as usize].refcount == 0 {
                self.free(segment);
            }
        }
        let segment = self.free.pop().expect("the caller has asked has_room");
        self.segments[segment as usize] = Segment::default();
        self.marks.clear(segment);
        self.open[log as usize] = Some(segment);
        segment
    }

    /// Moves the private log to another segment than this one, so that this one can become free.
    pub fn write_elsewhere(&mut self, segment: u32) {
        let open = &mut self.open[Log::Private as usize];
        if *open == Some(segment) && self.segments[segment as usize].refcount > 0 {
            *open = None;
        }
    }

    /// Adds one reference to this segment.
    pub fn retain(&mut self, segment: u32) {
        let state = &mut self.segments[segment as usize];
        assert!(state.order > 0, "a free segment has no references");
        state.refcount += 1;
    }

    /// Drops the references that `append` gave.
    pub fn release_all(&mut self, extents: &Extents) {
        extents.iter().for_each(|extent| self.release(extent.range.segment));
    }

    /// Removes one reference.
    #[inline]
    pub fn release(&mut self, segment: u32) {
        let state = &mut self.segments[segment as usize];
        assert!(state.refcount > 0, "a reference is released once");
        state.refcount -= 1;
        if state.refcount == 0 {
            self.free(segment);
        }
    }

    /// Frees a segment without references. Rare, while references are released for each connection.
    #[cold]
    fn free(&mut self, segment: u32) {
        let state = &mut self.segments[segment as usize];
        if self.open.contains(&Some(segment)) {
            // Nothing refers to its bytes any more: write it again from the start.
            state.used = 0;
            self.marks.clear(segment);
            return;
        }
        state.order = 0;
        self.free.push(segment);
    }

    /// The bytes of a range.
    pub fn bytes(&self, range: Range) -> &[u8] {
        let place = range.segment as usize * self.size as usize + range.offset as usize;
        self.memory.bytes(place, range.len as usize)
    }

    /// Marks when the frame that begins there may be dropped. Frames are marked in order.
    pub fn mark(&mut self, frame: Range, droppable: Droppable) {
        self.marks.add(frame.segment, frame.offset, droppable);
    }

    /// When the frame that begins at this place may be dropped; None: never.
    pub fn droppable(&self, segment: u32, offset: u32) -> Option<Droppable> {
        self.marks.at(segment, offset)
    }

    /// Whether a frame that begins within this range may be dropped at some time.
    pub fn has_droppable(&self, range: Range) -> bool {
        self.marks.any(range)
    }

    /// Adds the extents of one append to a list. Adjacent ones merge, and have one reference.
    pub fn join(&mut self, run: &mut Extents, extents: &Extents) {
        for extent in extents {
            match run.last_mut() {
                Some(last) if last.is_before(extent) => {
                    last.range.len += extent.range.len;
                    self.release(extent.range.segment);
                }
                _ => run.push(*extent),
            }
        }
    }

    /// The referenced segment whose bytes are oldest.
    pub fn oldest(&self) -> Option<u32> {
        let used = self.segments.iter().enumerate().filter(|(_, s)| s.order > 0 && s.refcount > 0);
        used.min_by_key(|(_, s)| s.order).map(|(index, _)| index as u32)
    }

    /// Asserts that the pool, its logs and its segments agree with each other. Slow.
    pub fn invariants(&self) {
        let mut is_free = vec![false; self.count()];
        for &segment in &self.free {
            let twice = core::mem::replace(&mut is_free[segment as usize], true);
            assert!(!twice, "segment {segment} is free once");
        }
        let [shared, private] = self.open;
        assert!(shared.is_none() || shared != private, "the two logs write different segments");
        for (at, (segment, is_free)) in self.segments.iter().zip(is_free).enumerate() {
            let is_open = self.open.contains(&Some(at as u32));
            let is_used = segment.refcount > 0;
            assert!(segment.used <= self.size, "segment {at} is written within its size");
            assert_eq!(is_free, !is_open && !is_used, "segment {at} is free, open or referenced");
            assert_eq!(is_free, segment.order == 0, "segment {at} has an order unless it is free");
            assert!(is_used || is_free || segment.used == 0, "segment {at} is written anew");
            self.marks.invariants(at as u32, if is_free { self.size } else { segment.used });
        }
    }

    /// The sum of all refcounts, to check that nothing leaks.
    pub fn refcounts(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.refcount)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What spoils a pool, and a word of the assertion that finds it.
    type Spoil = (fn(&mut Segments), &'static str);

    fn pool() -> Segments {
        Segments::new(Owner::new(64 * 4).expect("memory"), 64, 64 * 4)
    }

    #[test]
    fn consecutive_appends_are_neighbours_and_large_ones_continue() {
        let mut pool = pool();
        let a = pool.append(Log::Shared, &[1; 20]).expect("room");
        let b = pool.append(Log::Shared, &[2; 20]).expect("room");
        assert_eq!(a[0].range.offset + a[0].range.len, b[0].range.offset);
        assert_eq!(a[0].range.segment, b[0].range.segment);
        let big = pool.append(Log::Private, &[3; 100]).expect("room");
        assert_eq!(big.iter().map(|p| p.range.len).collect::<Vec<_>>(), vec![64, 36]);
        assert_eq!(big.iter().map(|p| p.continued).collect::<Vec<_>>(), vec![false, true]);
        assert_eq!(pool.bytes(b[0].range), &[2; 20]);
    }

    #[test]
    fn a_segment_returns_with_its_last_reference_and_a_full_pool_refuses() {
        let mut pool = pool();
        let all = pool.append(Log::Shared, &[1; 64 * 4]).expect("room");
        assert_eq!(pool.append(Log::Private, &[1]), Err(Full));
        assert_eq!(pool.oldest(), Some(all[0].range.segment));
        pool.retain(all[0].range.segment);
        pool.release(all[0].range.segment);
        assert_eq!(pool.append(Log::Private, &[1]), Err(Full));
        pool.release(all[0].range.segment);
        assert!(pool.append(Log::Private, &[1]).is_ok());
        assert_eq!(pool.oldest(), Some(all[1].range.segment));
        assert_eq!(pool.refcounts(), 4);
    }

    #[test]
    fn bytes_that_leave_the_open_private_segment_go_to_another() {
        let mut pool = pool();
        let first = pool.append(Log::Private, &[1; 8]).expect("room");
        pool.write_elsewhere(first[0].range.segment);
        let second = pool.append(Log::Private, &[2; 8]).expect("room");
        assert_ne!(first[0].range.segment, second[0].range.segment);
        let free = pool.free_count();
        pool.release(first[0].range.segment);
        assert_eq!(pool.free_count(), free + 1, "no log keeps it");
    }

    #[test]
    fn an_emptied_open_segment_counts_as_new() {
        let mut pool = pool();
        let private = pool.append(Log::Private, &[1; 8]).expect("room");
        let shared = pool.append(Log::Shared, &[2; 8]).expect("room");
        assert_eq!(pool.oldest(), Some(private[0].range.segment));
        pool.release(private[0].range.segment);
        pool.mark(shared[0].range, Droppable::Oldest);
        let again = pool.append(Log::Private, &[3; 8]).expect("room");
        assert_eq!(again[0].range.segment, private[0].range.segment);
        assert_eq!(pool.oldest(), Some(shared[0].range.segment));
        let place = shared[0].range;
        assert!(pool.has_droppable(place) && !pool.has_droppable(again[0].range));
        pool.release(place.segment);
        assert_eq!(pool.droppable(place.segment, place.offset), None, "its bytes are gone");
    }

    #[test]
    fn inconsistencies_are_found() {
        let spoil: [Spoil; 7] = [
            (|pool| pool.free.push(pool.free[0]), "is free once"),
            (|pool| pool.open[1] = pool.open[0], "write different segments"),
            (|pool| pool.segments[0].used = 65, "within its size"),
            (|pool| pool.free.truncate(1), "is free, open or referenced"),
            (|pool| pool.segments[0].order = 0, "has an order unless it is free"),
            (|pool| pool.segments[1].refcount = 0, "is written anew"),
            (
                |pool| pool.mark(Range { segment: 0, offset: 20, len: 9 }, Droppable::Oldest),
                "a mark",
            ),
        ];
        for (spoil, expected) in spoil {
            let mut pool = pool();
            assert_eq!(pool.append(Log::Shared, &[1; 20]).expect("room")[0].range.segment, 0);
            assert_eq!(pool.append(Log::Private, &[2; 20]).expect("room")[0].range.segment, 1);
            pool.invariants();
            spoil(&mut pool);
            let said =
                std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| pool.invariants()));
            let said = said.expect_err(expected);
            let text = said.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| said.downcast_ref::<&str>().copied());
            assert!(text.is_some_and(|text| text.contains(expected)), "{text:?}: {expected}");
        }
    }

    #[test]
    fn adjacent_extents_become_one() {
        let mut pool = pool();
        let mut run = Extents::new();
        for len in [20, 30, 40] {
            let extents = pool.append(Log::Shared, &vec![1; len]).expect("room");
            pool.join(&mut run, &extents);
        }
        assert_eq!(run.iter().map(|extent| extent.range.len).collect::<Vec<_>>(), vec![50, 40]);
        assert_eq!(pool.refcounts(), 2);
    }

    proptest! {
        #[test]
        fn appends_never_need_more_segments_than_computed(
            runs in prop::collection::vec(1usize..200, 1..20),
        ) {
            let bytes: usize = runs.iter().sum();
            let count = Segments::of_runs(bytes, 64).max(4);
            let memory = Owner::new(64 * count * 2).expect("memory");
            // The shared log may not use an eighth; here only the count matters.
            let mut pool = Segments::new(memory, 64, (64 * count * 2) as u32);
            let before = pool.free_count();
            for run in &runs {
                pool.append(Log::Shared, &vec![7; *run]).expect("room");
            }
            prop_assert!(before - pool.free_count() <= Segments::of_runs(bytes, 64));
        }
    }
}

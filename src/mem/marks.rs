#![forbid(unsafe_code)]
//! Which frames of the segment log may be dropped before they are sent.
//!
//! A mark belongs to a segment, not to an extent: extents of marked and unmarked frames merge like
//! any others, and a mark lives exactly as long as its bytes. If nothing may be dropped there are
//! no marks and no cost.
//!
//! Bound: one mark per `FRAME_MIN` bytes of a segment. If the list is full, the frame may not be
//! dropped.

use crate::ids::Range;

/// When a frame may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Droppable {
    /// When it is the oldest waiting frame.
    Oldest,
    /// When another frame with this key waits after it.
    Superseded(u64),
}

/// Approximate bytes of the shortest MESSAGE; bounds the marks of a segment.
const FRAME_MIN: u32 = 64;

/// Where a frame begins, and its key; [`OLDEST`] means that it has none. 16 bytes.
type Mark = (u32, u64);

const OLDEST: u64 = 0;

/// Marks of all segments, each list in the order of its offsets.
#[derive(Debug)]
pub struct Marks {
    lists: Vec<Vec<Mark>>,
    most: usize,
}

impl Marks {
    /// No marks, for `count` segments of this size.
    pub fn new(segments: usize, size: u32) -> Marks {
        Marks { lists: vec![Vec::new(); segments], most: (size / FRAME_MIN) as usize }
    }

    /// Marks the frame that begins at `offset`, after all frames already marked there.
    pub fn add(&mut self, segment: u32, offset: u32, droppable: Droppable) {
        let list = &mut self.lists[segment as usize];
        assert!(list.last().is_none_or(|(last, _)| *last < offset), "a log is written in order");
        if list.len() < self.most {
            let key = match droppable {
                Droppable::Oldest => OLDEST,
                Droppable::Superseded(key) => key.max(OLDEST + 1),
            };
            list.push((offset, key));
        }
    }

    /// The mark of the frame that begins at `offset`.
    pub fn at(&self, segment: u32, offset: u32) -> Option<Droppable> {
        let list = &self.lists[segment as usize];
        let place = list.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        match list[place].1 {
            OLDEST => Some(Droppable::Oldest),
            key => Some(Droppable::Superseded(key)),
        }
    }

    /// Whether a marked frame begins within the range.
    pub fn any(&self, range: Range) -> bool {
        let list = &self.lists[range.segment as usize];
        let first = list.partition_point(|(offset, _)| *offset < range.offset);
        list.get(first).is_some_and(|(offset, _)| *offset < range.offset + range.len)
    }

    /// Asserts that the marks of a segment are in order and within its first `used` bytes. Slow.
    pub fn invariants(&self, segment: u32, used: u32) {
        let list = &self.lists[segment as usize];
        assert!(list.is_sorted_by(|(one, _), (next, _)| one < next), "marks are in order");
        assert!(list.last().is_none_or(|(last, _)| *last < used), "a mark is of a frame");
        assert!(list.len() <= self.most, "the list of marks is bounded");
    }

    /// Removes the marks of a segment that is about to be written again.
    pub fn clear(&mut self, segment: u32) {
        self.lists[segment as usize].clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_by_their_place_and_end_with_the_segment() {
        let mut marks = Marks::new(2, 256);
        marks.add(1, 0, Droppable::Oldest);
        marks.add(1, 100, Droppable::Superseded(7));
        assert_eq!(marks.at(1, 100), Some(Droppable::Superseded(7)));
        assert_eq!((marks.at(1, 50), marks.at(0, 0)), (None, None));
        let range = |offset, len| Range { segment: 1, offset, len };
        assert!(marks.any(range(0, 1)) && marks.any(range(60, 41)));
        assert!(!marks.any(range(1, 99)) && !marks.any(range(101, 100)));
        marks.add(1, 110, Droppable::Oldest);
        marks.add(1, 120, Droppable::Oldest);
        marks.add(1, 130, Droppable::Oldest);
        assert_eq!(marks.at(1, 130), None, "the list is bounded");
        marks.clear(1);
        assert!(!marks.any(range(0, 256)));
    }
}

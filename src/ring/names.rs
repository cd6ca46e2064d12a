#![forbid(unsafe_code)]
//! Places where the kernel writes the addresses of peers that have just been accepted.
//!
//! A place is in use only while its request is in flight, so a few are enough for all connections.
//! Bounds: [`PLACES`]; a connection that finds no free place waits for one.

use crate::ids::{ListenerId, Slot};
use crate::mem::region::Owner;
use std::collections::VecDeque;
use std::io;

/// Bytes of the longest socket address, rounded up.
pub(super) const NAME_SIZE: usize = 32;
/// The most requests in flight.
const PLACES: u8 = 128;

/// The places, and the slots that wait for one.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) memory: Owner,
    free: Vec<u8>,
    waiting: VecDeque<(ListenerId, Slot)>,
}

impl Names {
    pub(super) fn new() -> io::Result<Names> {
        let memory = Owner::new(usize::from(PLACES) * NAME_SIZE)?;
        Ok(Names { memory, free: (0..PLACES).collect(), waiting: VecDeque::new() })
    }

    /// A free place for the address of a slot; if there is none, the slot waits for `next`.
    pub(super) fn take(&mut self, listener: ListenerId, slot: Slot) -> Option<u8> {
        let place = self.free.pop();
        if place.is_none() {
            self.waiting.push_back((listener, slot));
        }
        place
    }

    /// Offset of a place in the memory.
    pub(super) fn offset(place: u8) -> usize {
        usize::from(place) * NAME_SIZE
    }

    /// The bytes that the kernel has written there; frees the place.
    pub(super) fn give_back(&mut self, place: u8) -> [u8; NAME_SIZE] {
        self.free.push(place);
        let bytes = self.memory.bytes(Names::offset(place), NAME_SIZE);
        bytes.try_into().expect("a place has this size")
    }

    /// The slot that has waited longest, if any.
    pub(super) fn next(&mut self) -> Option<(ListenerId, Slot)> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_finds_no_place_waits_for_one() {
        let mut names = Names::new().expect("memory");
        let listener = ListenerId(0);
        let places: Vec<u8> =
            (0..u32::from(PLACES)).map_while(|s| names.take(listener, Slot(s))).collect();
        assert_eq!(places.len(), usize::from(PLACES));
        assert_eq!(names.take(listener, Slot(500)), None);
        assert_eq!(names.take(ListenerId(1), Slot(501)), None);
        names.give_back(places[3]);
        assert_eq!(names.next(), Some((listener, Slot(500))));
        assert_eq!(names.take(listener, Slot(500)), Some(places[3]));
        assert_eq!(names.next(), Some((ListenerId(1), Slot(501))));
        assert_eq!(names.next(), None);
    }
}

//! What a ring keeps of sockets that leave its table or come into it.
//!
//! Leaving takes two operations: the descriptor gets a number, and when it has that its slot is
//! closed. The answer is given when both are over, or there is no number. For coming in the kernel
//! reads the number from a place in our memory and writes the slot there. Bound: [`PLACES`]; a
//! number that finds no free place waits for one.
#![allow(unsafe_code)]

use crate::ids::{ConnId, Slot};
use crate::mem::region::Owner;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes of a number.
pub(super) const NUMBER_SIZE: usize = size_of::<i32>();
/// The most numbers that are taken in at a time.
const PLACES: u8 = 64;

/// Sockets that leave, numbers that have left, and places of those that come.
#[derive(Debug)]
pub(super) struct Moving {
    /// The kernel has what it needs.
    pub(super) is_possible: bool,
    pub(super) memory: Owner,
    free: Vec<u8>,
    waiting: VecDeque<i32>,
    /// Connections that have their number; the close of their slot is still to come.
    leaving: Vec<(ConnId, OwnedFd)>,
    /// Numbers that nobody has claimed yet.
    left: Vec<OwnedFd>,
}

impl Moving {
    pub(super) fn new(is_possible: bool) -> io::Result<Moving> {
        let memory = Owner::new(usize::from(PLACES) * NUMBER_SIZE)?;
        let free = (0..PLACES).collect();
        let (waiting, leaving, left) = (VecDeque::new(), Vec::new(), Vec::new());
        Ok(Moving { is_possible, memory, free, waiting, leaving, left })
    }

    /// A connection has got its number.
    pub(super) fn numbered(&mut self, conn: ConnId, number: u32) {
        // SAFETY: the kernel has just made this descriptor, and nobody else has heard of it.
        let fd = unsafe { OwnedFd::from_raw_fd(number as i32) };
        self.leaving.push((conn, fd));
    }

    /// The close of a connection that leaves is over: its number, which can be claimed now.
    pub(super) fn closed(&mut self, conn: ConnId) -> i32 {
        let at = self.leaving.iter().position(|(of, _)| *of == conn);
        let fd = self.leaving.swap_remove(at.expect("it got its number before its close")).1;
        let number = fd.as_raw_fd();
        self.left.push(fd);
        number
    }

    /// Gives away a number that has left.
    pub(super) fn claim(&mut self, number: i32) -> OwnedFd {
        let at = self.left.iter().position(|fd| fd.as_raw_fd() == number);
        self.left.swap_remove(at.expect("a number is claimed once"))
    }

    /// A place for a number that comes, with the number in it; if none is free, the number waits
    /// for `next`.
    pub(super) fn take(&mut self, number: i32) -> Option<u8> {
        let Some(place) = self.free.pop() else {
            self.waiting.push_back(number);
            return None;
        };
        let bytes = self.memory.bytes_mut(Moving::offset(place), NUMBER_SIZE);
        bytes.copy_from_slice(&number.to_ne_bytes());
        Some(place)
    }

    /// Offset of a place in the memory.
    pub(super) fn offset(place: u8) -> usize {
        usize::from(place) * NUMBER_SIZE
    }

    /// What the kernel has written there; frees the place.
    pub(super) fn give_back(&mut self, place: u8) -> Slot {
        self.free.push(place);
        let bytes = self.memory.bytes(Moving::offset(place), NUMBER_SIZE);
        Slot(u32::from_ne_bytes(bytes.try_into().expect("a place has this size")))
    }

    /// The number that has waited longest, if any.
    pub(super) fn next(&mut self) -> Option<i32> {
        self.waiting.pop_front()
    }

    /// Places that the kernel may write to.
    pub(super) fn lent(&self) -> usize {
        usize::from(PLACES) - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_number_that_finds_no_place_waits_for_one() {
        let mut moving = Moving::new(true).expect("memory");
        let places: Vec<u8> = (0..i32::from(PLACES)).map_while(|n| moving.take(n)).collect();
        assert_eq!((places.len(), moving.lent()), (usize::from(PLACES), usize::from(PLACES)));
        assert_eq!(moving.take(500), None);
        assert_eq!(moving.give_back(places[3]), Slot(3), "the kernel has not written there");
        assert_eq!(moving.next(), Some(500));
        assert_eq!(moving.take(500), Some(places[3]));
        assert_eq!(moving.next(), None);
    }

    #[test]
    fn a_number_is_claimed_once_its_slot_is_closed() {
        let mut moving = Moving::new(true).expect("memory");
        let conn = |slot| ConnId { slot: Slot(slot), generation: 1 };
        let fd = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        let number = fd.into_raw_fd();
        moving.numbered(conn(1), number as u32);
        assert_eq!(moving.closed(conn(1)), number);
        assert_eq!(moving.claim(number).as_raw_fd(), number);
        assert!(moving.left.is_empty() && moving.leaving.is_empty());
    }
}

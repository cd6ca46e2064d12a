//! What is in flight per descriptor slot: one byte of flags each.
//!
//! It checks two promises of the engine: at most one send and one receive of a connection are in
//! flight, and none when its slot is closed. It also counts the operations that may still read or
//! write this process's memory; `Uring::drop` waits for them.

use crate::ids::Slot;

/// The peer's address is being asked for.
pub(super) const NAMING: u8 = 1;
/// A receive is armed.
pub(super) const RECEIVING: u8 = 1 << 1;
/// A send is in flight.
pub(super) const SENDING: u8 = 1 << 2;
/// A shutdown is in flight.
pub(super) const SHUTTING: u8 = 1 << 3;
/// This process has shut down both directions, so the end of a receive is not the peer's doing.
pub(super) const SHUT: u8 = 1 << 4;
/// A close is in flight.
pub(super) const CLOSING: u8 = 1 << 5;
/// A poll is armed.
pub(super) const POLLING: u8 = 1 << 6;
/// A release is in flight.
const LEAVING: u8 = 1 << 7;

/// Flags of operations that touch our memory.
const LENT: u8 = NAMING | RECEIVING | SENDING;

/// Flags of all slots.
#[derive(Debug)]
pub(super) struct Slots {
    flags: Box<[u8]>,
    /// Count of flags of [`LENT`] that are set.
    lent: u32,
}

impl Slots {
    pub(super) fn new(count: u32) -> Slots {
        Slots { flags: vec![0; count as usize].into_boxed_slice(), lent: 0 }
    }

    /// Count of slots.
    pub(super) fn count(&self) -> u32 {
        self.flags.len() as u32
    }

    /// Count of operations that touch our memory.
    pub(super) fn lent(&self) -> u32 {
        self.lent
    }

    /// Marks the beginning of an operation.
    pub(super) fn begin(&mut self, slot: Slot, flag: u8) {
        let flags = &mut self.flags[slot.index()];
        assert!(*flags & flag == 0, "slot {slot}: operation {flag:#x} is in flight already");
        let is_over = *flags & (CLOSING | LEAVING) != 0;
        assert!(!is_over, "slot {slot}: operation {flag:#x} after close");
        *flags |= flag;
        self.lent += u32::from(flag & LENT != 0);
    }

    /// Marks the end of an operation.
    pub(super) fn end(&mut self, slot: Slot, flag: u8) {
        let flags = &mut self.flags[slot.index()];
        assert!(*flags & flag != 0, "slot {slot}: operation {flag:#x} ends that never began");
        *flags &= !flag;
        self.lent -= u32::from(flag & LENT != 0);
    }

    /// Marks that we end both directions.
    pub(super) fn shut(&mut self, slot: Slot) {
        self.flags[slot.index()] |= SHUT;
    }

    /// Marks the beginning of a close: nothing may be in flight.
    pub(super) fn begin_close(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot.index()];
        assert!(*flags & !SHUT == 0, "slot {slot}: close while {:#x} is in flight", *flags);
        *flags = CLOSING;
    }

    /// Marks the end of a close: the slot is free.
    pub(super) fn end_close(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot.index()];
        assert!(*flags == CLOSING, "slot {slot}: closed, but the flags are {:#x}", *flags);
        *flags = 0;
    }

    /// Marks the beginning of a release: nothing may be in flight, and both directions are open.
    pub(super) fn begin_leave(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot.index()];
        assert!(*flags == 0, "slot {slot}: release while {:#x} is in flight", *flags);
        *flags = LEAVING;
    }

    /// Marks the end of a release: the slot is free, or the connection is as it was.
    pub(super) fn end_leave(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot.index()];
        assert!(*flags == LEAVING, "slot {slot}: released, but the flags are {:#x}", *flags);
        *flags = 0;
    }

    /// Marks that a connection has come into a free slot.
    pub(super) fn adopt(&mut self, slot: Slot) {
        let flags = self.flags[slot.index()];
        assert!(flags == 0, "slot {slot}: adopted, but the flags are {flags:#x}");
    }

    /// Whether any of `flags` is set.
    pub(super) fn any(&self, slot: Slot, flags: u8) -> bool {
        self.flags[slot.index()] & flags != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_of_a_slot() {
        let mut slots = Slots::new(2);
        slots.begin(Slot(1), NAMING);
        slots.end(Slot(1), NAMING);
        slots.begin(Slot(1), RECEIVING);
        slots.begin(Slot(1), SENDING);
        assert_eq!(slots.lent(), 2);
        slots.begin(Slot(1), SHUTTING);
        slots.shut(Slot(1));
        assert_eq!(slots.lent(), 2, "a shutdown touches no memory");
        slots.end(Slot(1), SENDING);
        slots.end(Slot(1), RECEIVING);
        assert!(slots.any(Slot(1), SHUT) && !slots.any(Slot(0), SHUT));
        slots.end(Slot(1), SHUTTING);
        slots.begin_close(Slot(1));
        slots.end_close(Slot(1));
        assert!(!slots.any(Slot(1), SHUT), "the next use of the slot starts clean");
        assert_eq!((slots.lent(), slots.count()), (0, 2));
    }

    #[test]
    #[should_panic(expected = "in flight already")]
    fn a_second_send_is_our_bug() {
        let mut slots = Slots::new(1);
        slots.begin(Slot(0), SENDING);
        slots.begin(Slot(0), SENDING);
    }

    #[test]
    #[should_panic(expected = "close while 0x2 is in flight")]
    fn a_close_under_a_receive_is_our_bug() {
        let mut slots = Slots::new(1);
        slots.begin(Slot(0), RECEIVING);
        slots.begin_close(Slot(0));
    }

    #[test]
    #[should_panic(expected = "release while 0x4 is in flight")]
    fn a_release_under_a_send_is_our_bug() {
        let mut slots = Slots::new(1);
        slots.begin(Slot(0), SENDING);
        slots.begin_leave(Slot(0));
    }

    #[test]
    #[should_panic(expected = "after close")]
    fn an_operation_after_a_release_is_our_bug() {
        let mut slots = Slots::new(1);
        slots.begin_leave(Slot(0));
        slots.end_leave(Slot(0));
        slots.adopt(Slot(0));
        slots.begin_leave(Slot(0));
        slots.begin(Slot(0), SENDING);
    }

    #[test]
    #[should_panic(expected = "after close")]
    fn an_operation_after_close_is_our_bug() {
        let mut slots = Slots::new(1);
        slots.begin_close(Slot(0));
        slots.begin(Slot(0), SENDING);
    }
}

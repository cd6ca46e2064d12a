#![forbid(unsafe_code)]
//! The histories of sessions with context takeover (RFC 7692 §7.1.1): what their clients said
//! before.
//!
//! Few sessions have one, so the others pay nothing: they stand in a table of their own, by the
//! connection's slot. Bound: `inflate-histories`, counted when a handshake is answered, so that an
//! agreement never meets a full table. The bytes are allocated with a session's first compressed
//! message.

use crate::ids::Slot;
use crate::ws::Window;
use hashbrown::HashMap;

/// All histories of a shard.
#[derive(Debug, Default)]
pub struct Histories {
    /// By slot: the kernel chooses those, so no client aims at a bucket.
    table: HashMap<Slot, (Window, u8), foldhash::fast::FixedState>,
    bytes: usize,
}

impl Histories {
    /// Whether a history of 2^`bits` bytes fits into `bytes_max`.
    pub fn has_room_for(&self, bits: u8, bytes_max: u32) -> bool {
        self.bytes + (1 << bits) <= bytes_max as usize
    }

    /// The client at this slot may refer back by 2^`bits` bytes.
    pub fn open(&mut self, slot: Slot, bits: u8) {
        let former = self.table.insert(slot, (Window::new(bits), bits));
        assert!(former.is_none(), "a connection is upgraded once");
        self.bytes += 1 << bits;
    }

    /// The history of the connection at this slot, if it has one.
    pub fn of(&mut self, slot: Slot) -> Option<&mut Window> {
        // Most shards have none.
        if self.table.is_empty() {
            return None;
        }
        self.table.get_mut(&slot).map(|(history, _)| history)
    }

    /// The connection at this slot is gone.
    pub fn close(&mut self, slot: Slot) {
        if let Some((_, bits)) = self.table.remove(&slot) {
            self.bytes -= 1 << bits;
        }
    }

    /// Bytes that are spoken for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_makes_room() {
        let mut histories = Histories::default();
        assert!(histories.of(Slot(3)).is_none());
        assert!(histories.has_room_for(15, 32_768) && !histories.has_room_for(15, 32_767));
        histories.open(Slot(3), 15);
        histories.open(Slot(4), 8);
        assert_eq!(histories.bytes(), 32_768 + 256);
        assert!(!histories.has_room_for(8, 32_768 + 300));
        // Spoken for, and not yet there.
        assert_eq!(histories.of(Slot(3)).map(|history| history.held()), Some(0));
        histories.close(Slot(3));
        histories.close(Slot(3));
        assert!(histories.of(Slot(3)).is_none() && histories.of(Slot(4)).is_some());
        histories.close(Slot(4));
        assert_eq!(histories.bytes(), 0);
    }
}

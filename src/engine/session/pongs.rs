#![forbid(unsafe_code)]
//! Pings that wait for their answer: of each connection the newest, while a send is in flight.
//!
//! RFC 6455 §5.5.3: who has several pings to answer may answer the newest alone. So a client
//! that pings and does not read has one answer queued for it and one ping kept here. Bound: one a
//! connection, counted against `held-bytes`.

use crate::ids::Slot;
use crate::limits::WS_CONTROL_MAX;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Bytes of a Ping, which its Pong gives back.
pub type Payload = SmallVec<[u8; WS_CONTROL_MAX]>;

/// Bytes that one of them is counted with.
const PLACE: usize = size_of::<(Slot, Payload)>();

/// The newest ping of each slot that has one.
#[derive(Debug)]
pub struct Pongs(HashMap<Slot, Payload, foldhash::fast::FixedState>);

impl Default for Pongs {
    fn default() -> Pongs {
        // Slots are ours: no client chooses its bucket.
        Pongs(HashMap::with_hasher(foldhash::fast::FixedState::with_seed(0)))
    }
}

impl Pongs {
    /// A ping has come; it stands for those before it.
    pub fn owe(&mut self, slot: Slot, payload: &[u8]) {
        let place = self.0.entry(slot).or_default();
        place.clear();
        place.extend_from_slice(payload);
    }

    /// Whether any slot owes one: asked after each send.
    #[inline]
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes the ping of a slot out.
    pub fn take(&mut self, slot: Slot) -> Option<Payload> {
        self.0.remove(&slot)
    }

    /// Bytes that a slot is counted with.
    pub fn bytes_of(&self, slot: Slot) -> usize {
        if !self.0.is_empty() && self.0.contains_key(&slot) { PLACE } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ping_of_each_slot_is_kept() {
        let mut pongs = Pongs::default();
        assert_eq!((pongs.take(Slot(1)), pongs.bytes_of(Slot(1))), (None, 0));
        pongs.owe(Slot(1), &[1; 125]);
        pongs.owe(Slot(2), b"other");
        pongs.owe(Slot(1), b"newest");
        assert_eq!((pongs.bytes_of(Slot(1)), pongs.bytes_of(Slot(3))), (PLACE, 0));
        assert_eq!(pongs.take(Slot(1)).as_deref(), Some(&b"newest"[..]));
        assert_eq!(pongs.take(Slot(1)), None);
        assert_eq!(pongs.take(Slot(2)).as_deref(), Some(&b"other"[..]));
    }
}

//! Identifies the operation of a completion: kind, slot and generation, packed into the 64 bits
//! that the kernel returns (`user_data`). A late completion of a reused slot has the old
//! generation, so that the engine recognises it.
//!
//! ```text
//!  63      56 55                    32 31                                0
//! ┌──────────┬────────────────────────┬───────────────────────────────────┐
//! │   kind   │          slot          │            generation             │
//! └──────────┴────────────────────────┴───────────────────────────────────┘
//! ```

use crate::ids::{ConnId, SLOT_MAX, Slot};

/// The operation that a completion answers. Zero is not used, so that a missing token is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Multishot accept; the slot is the listener.
    Accept = 1,
    /// Peer address of an accepted descriptor; the generation is the listener.
    PeerName,
    /// Close of a descriptor that the engine never knew.
    Refuse,
    /// Multishot receive.
    Recv,
    /// Send.
    Send,
    /// Shutdown of one or both directions.
    Shutdown,
    /// Close of a descriptor.
    Close,
    /// Cancellation of any of these; only the cancelled operation's result matters.
    Cancel,
    /// A socket option that could not be set; the listener's value stays in effect.
    Option,
    /// Ringing another thread's doorbell has failed.
    Doorbell,
    /// Another ring rang this doorbell.
    Rung,
    /// A thread without a ring rang this doorbell: poll of its eventfd.
    EventFd,
    /// Poll for the end of a peer.
    Poll,
    /// A number for a connection that leaves.
    Number,
    /// Close of the slot of a connection that leaves.
    Leave,
    /// A number that is taken into the table; the slot is a place, the generation the number.
    Adopt,
}

impl Kind {
    const ALL: [Kind; 16] = [
        Kind::Accept,
        Kind::PeerName,
        Kind::Refuse,
        Kind::Recv,
        Kind::Send,
        Kind::Shutdown,
        Kind::Close,
        Kind::Cancel,
        Kind::Option,
        Kind::Doorbell,
        Kind::Rung,
        Kind::EventFd,
        Kind::Poll,
        Kind::Number,
        Kind::Leave,
        Kind::Adopt,
    ];

    fn parse(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }
}

/// An unpacked token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The operation.
    pub(super) kind: Kind,
    /// Its object: a slot, a listener or a peer.
    pub(super) number: u32,
    /// The generation of the slot.
    pub(super) generation: u32,
}

impl Token {
    /// A token that belongs to no connection.
    pub(super) fn new(kind: Kind, number: u32, generation: u32) -> Token {
        assert!(number <= SLOT_MAX, "a slot has 24 bits");
        Token { kind, number, generation }
    }

    /// A token of a connection.
    pub(super) fn of(kind: Kind, conn: ConnId) -> Token {
        Token::new(kind, conn.slot.0, conn.generation)
    }

    /// Its slot, if it has one.
    pub(super) fn slot(self) -> Slot {
        Slot(self.number)
    }

    /// Its connection.
    pub(super) fn conn(self) -> ConnId {
        ConnId { slot: self.slot(), generation: self.generation }
    }

    /// The 64 bits.
    pub(super) fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.number) << 32 | u64::from(self.generation)
    }

    /// From the 64 bits; `None` if this ring did not write them.
    pub(super) fn unpack(bits: u64) -> Option<Token> {
        let kind = Kind::parse((bits >> 56) as u8)?;
        Some(Token { kind, number: (bits >> 32) as u32 & SLOT_MAX, generation: bits as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_foreign_bits_are_refused() {
        for kind in Kind::ALL {
            for (slot, generation) in [(0, 0), (SLOT_MAX, u32::MAX), (5, 7)] {
                let token = Token::new(kind, slot, generation);
                assert_eq!(Token::unpack(token.pack()), Some(token));
            }
        }
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(17 << 56), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}

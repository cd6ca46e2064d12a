//! Connections spoiled on purpose: the invariants have to find it.

use super::conn::{Receive, Sending};
use super::{Net, State};
use crate::ids::Slot;

impl Net {
    /// Whether a connection is open and read, with a send in flight or none.
    pub fn is_at_rest(&self, slot: Slot, with_send: bool) -> bool {
        let conn = self.at(slot);
        let expected = if with_send { Sending::Yes } else { Sending::No };
        conn.state == State::Open && conn.receive == Receive::On && conn.sending == expected
    }

    /// Nobody receives for it.
    pub fn spoil_receive(&mut self, slot: Slot) {
        self.at_mut(slot).receive = Receive::Off;
    }

    /// A send that is not in flight is being stopped.
    pub fn spoil_sending(&mut self, slot: Slot) {
        self.at_mut(slot).sending = Sending::Stopping;
    }
}

#![forbid(unsafe_code)]
//! From the queue of a link to the wire where the connection is sealed: what goes out in one send
//! is sealed into extents of its own, and leaves the link at once. So a link is cut and shed at
//! units, as ever, and what is in flight is counted in bytes of the wire.

use super::link::{Link, Way};
use crate::engine::net::Transports;
use crate::ids::Slot;
use crate::mem::segment::{Full, Log, Segments};

/// Seals at most `max` bytes of a link, behind what its connection's layer owes by itself; of a
/// link that ends, the end of our direction after its last byte. `scratch` is to gather in.
pub(super) fn seal(
    (state, segments): (&mut Link, &mut Segments),
    transports: &mut Transports,
    slot: Slot,
    max: u32,
    scratch: &mut Vec<u8>,
) -> Result<(), Full> {
    let may_seal = transports.may_seal(slot);
    let len = if may_seal { state.waiting().min(max) } else { 0 };
    let is_last = may_seal && state.way == Way::Ending && len == state.waiting();
    let most = transports.most(slot, len as usize, is_last);
    if most == 0 {
        return Ok(());
    }
    if !segments.has_room(Log::Private, most) {
        return Err(Full);
    }
    transports.seal(slot, state.front(len, segments, scratch), is_last);
    state.part_with(len, segments);
    transports.launch(slot, segments);
    Ok(())
}

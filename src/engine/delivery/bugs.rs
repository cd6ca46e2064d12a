#![forbid(unsafe_code)]
//! Bugs that the simulator adds to links without a connection of their own, to show that it finds
//! them.

use super::links::Links;
use crate::ids::LinkIndex;
use crate::mem::segment::Log;

/// The first unit that waits outside the log is lost, or comes again. False if none waits.
pub fn spoil_unit(links: &mut Links, link: LinkIndex, twice: bool) -> bool {
    let Some(state) = links.table.standalone_mut(link) else { return false };
    let unit = state.kept.front(1).to_vec();
    if unit.is_empty() {
        return false;
    }
    match twice {
        true => state.kept.push(&unit, None),
        false => state.kept.drop_front(unit.len()),
    }
    links.note_kept(link);
    true
}

/// A link that nobody receives holds bytes of the log. False if somebody does, or there is no room.
pub fn pin(links: &mut Links, link: LinkIndex) -> bool {
    if links.receiver(link).is_some() || !links.is_open(link) {
        return false;
    }
    let Ok(extents) = links.segments.append(Log::Shared, b"1\r\n\n\r\n") else { return false };
    extents
        .into_iter()
        .for_each(|extent| links.table.at_mut(link).push(extent, &mut links.segments));
    true
}

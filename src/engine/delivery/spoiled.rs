//! Links and segments spoiled on purpose: the invariants have to find it.

use super::link::{Lists, Pause, Way};
use super::links::Links;
use super::receiver::{Answer, Receiver};
use crate::ids::{LinkIndex, Slot};
use crate::mem::segment::Log;

/// Whether a link is read, and does not stand in the list of those to flush.
pub fn is_at_rest(links: &Links, link: LinkIndex) -> bool {
    links.is_read(link) && !links.at(link).lists.has(Lists::DIRTY)
}

/// One byte more waits than is queued.
pub fn waiting(links: &mut Links, link: LinkIndex) {
    links.table.at_mut(link).waiting += 1;
}

/// More of an extent is taken than it has.
pub fn taken(links: &mut Links, link: LinkIndex) {
    let state = links.table.at_mut(link);
    let rest = state.extents[0].range.len - state.sent;
    state.sent += rest;
    state.waiting -= rest;
}

/// What waits is neither in flight nor to be sent.
pub fn flight(links: &mut Links, link: LinkIndex) {
    links.table.at_mut(link).in_flight = 0;
}

/// Its client waits for room, and nobody knows.
pub fn pause(links: &mut Links, link: LinkIndex) {
    links.table.at_mut(link).way = Way::Open(Pause::Room);
}

/// A segment is held once more or less than links do. False if none is in use.
pub fn segment(links: &mut Links, more: bool) -> bool {
    let Some(segment) = links.segments.oldest() else { return false };
    match more {
        true => links.segments.retain(segment),
        false => links.segments.release(segment),
    }
    true
}

/// A unit that waits outside the log is lost, or there twice. Where none waits, one that never
/// was is there.
pub fn kept(links: &mut Links, link: LinkIndex, twice: bool) {
    let state = links.table.standalone_mut(link).expect("it has no connection of its own");
    let kept = &mut state.kept;
    let unit = if kept.is_empty() { b",\"#0 \"".to_vec() } else { kept.front(1).to_vec() };
    if kept.is_empty() || twice {
        kept.push(&unit, None);
    } else {
        kept.drop_front(unit.len());
    }
    state.noted = state.held();
}

/// Nobody looks at links without a connection of their own: they keep what they have in the
/// log.
pub fn feeding(links: &mut Links) {
    let Links { table, dirty, .. } = links;
    dirty.retain(|link| table.slot(*link).is_some());
}

/// A detached link holds bytes of the log.
pub fn pin(links: &mut Links, link: LinkIndex) {
    let extents = links.segments.append(Log::Shared, b"1\r\n\n\r\n").expect("room");
    links.table.at_mut(link).push(extents[0], &mut links.segments);
}

/// It says that a connection receives for it, which does not.
pub fn receiver(links: &mut Links, link: LinkIndex) {
    let answer = Answer::Poll { head: Box::default(), callback: None };
    let receiver = Receiver { slot: Slot(1), answer, is_done: false };
    links.table.standalone_mut(link).expect("it has none of its own").receiver = Some(receiver);
}

/// The link of a connection that receives does not know it.
pub fn serving(links: &mut Links) {
    links.table.list.iter_mut().for_each(|link| link.lists.leave(Lists::SERVING));
}

/// It keeps a byte more than the loop knows.
pub fn noted(links: &mut Links, link: LinkIndex) {
    links.table.standalone_mut(link).expect("it has none of its own").noted -= 1;
}

/// It is in use, and free as well.
pub fn free(links: &mut Links, link: LinkIndex) {
    links.table.spoil_free(link);
}

/// One byte less is kept than units have.
pub fn units(links: &mut Links, link: LinkIndex) {
    links.table.standalone_mut(link).expect("it has none of its own").kept.spoil();
}

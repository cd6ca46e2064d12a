//! Links and segments spoiled on purpose: the invariants have to find it.

use super::link::{Lists, Pause, Way};
use super::links::Links;
use crate::ids::LinkIndex;

impl Links {
    /// Whether a link is read, and does not stand in the list of those to flush.
    pub fn is_at_rest(&self, link: LinkIndex) -> bool {
        self.is_read(link) && !self.at(link).lists.has(Lists::DIRTY)
    }

    /// One byte more waits than is queued.
    pub fn spoil_waiting(&mut self, link: LinkIndex) {
        self.table.at_mut(link).waiting += 1;
    }

    /// More of an extent is taken than it has.
    pub fn spoil_taken(&mut self, link: LinkIndex) {
        let state = self.table.at_mut(link);
        let rest = state.extents[0].range.len - state.sent;
        state.sent += rest;
        state.waiting -= rest;
    }

    /// What waits is neither in flight nor to be sent.
    pub fn spoil_flight(&mut self, link: LinkIndex) {
        self.table.at_mut(link).in_flight = 0;
    }

    /// Its client waits for room, and nobody knows.
    pub fn spoil_pause(&mut self, link: LinkIndex) {
        self.table.at_mut(link).way = Way::Open(Pause::Room);
    }

    /// A segment is held once more or less than links do. False if none is in use.
    pub fn spoil_segment(&mut self, more: bool) -> bool {
        let Some(segment) = self.segments.oldest() else { return false };
        match more {
            true => self.segments.retain(segment),
            false => self.segments.release(segment),
        }
        true
    }
}

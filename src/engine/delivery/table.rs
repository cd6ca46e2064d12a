#![forbid(unsafe_code)]
//! The table of links, to be looked at: those of connections at the numbers of their slots, and
//! above all slots those that have no connection of their own.

use super::link::{Link, Pause, Way};
use crate::encoding::Encoding;
use crate::ids::{LinkIndex, Slot};

/// All links of a shard.
#[derive(Debug)]
pub struct Table {
    pub(super) list: Vec<Link>,
    /// From this index on links have no connection of their own.
    slots: u32,
    /// So many of those at most.
    most: u32,
    /// Those of them that are free again.
    free: Vec<LinkIndex>,
}

impl Table {
    /// None yet; `slots` of them can be those of connections, and `most` have none of their own.
    pub(super) fn new(slots: u32, most: u32) -> Table {
        Table { list: Vec::with_capacity(slots as usize), slots, most, free: Vec::new() }
    }

    /// The connection whose own a link is.
    #[inline]
    pub fn slot(&self, link: LinkIndex) -> Option<Slot> {
        (link.0 < self.slots).then_some(Slot(link.0))
    }

    /// Those of connections.
    pub(super) fn of_connections(&self) -> impl Iterator<Item = (Slot, &Link)> {
        let own = self.list.iter().take(self.slots as usize).enumerate();
        own.map(|(slot, link)| (Slot(slot as u32), link))
    }

    /// A connection has come: its link is open, for HTTP.
    pub fn open(&mut self, slot: Slot) {
        while self.list.len() <= slot.index() {
            self.list.push(Link::default());
        }
        let state = &mut self.list[slot.index()];
        assert!(state.way == Way::Closed && state.is_empty(), "a link is used once at a time");
        state.way = Way::Open(Pause::No);
        state.encoding = None;
    }

    /// A session opens whose link has no connection of its own: its link, if there is one left.
    pub(super) fn allocate(&mut self, encoding: Encoding) -> Option<LinkIndex> {
        let link = match self.free.pop() {
            Some(link) => link,
            None => {
                let next = self.list.len().max(self.slots as usize);
                if next >= (self.slots + self.most) as usize {
                    return None;
                }
                self.list.resize_with(next + 1, Link::default);
                LinkIndex(next as u32)
            }
        };
        let state = self.at_mut(link);
        assert!(state.way == Way::Closed && state.is_empty(), "a link is used once at a time");
        state.way = Way::Open(Pause::No);
        state.encoding = Some(encoding);
        Some(link)
    }

    /// Such a link is not in use any more.
    pub(super) fn give_back(&mut self, link: LinkIndex) {
        assert!(self.slot(link).is_none() && self.at(link).way == Way::Closed);
        self.at_mut(link).encoding = None;
        self.free.push(link);
    }

    /// From here on its client is sent messages, as they travel so.
    pub fn upgrade(&mut self, slot: Slot, encoding: Encoding) {
        self.list[slot.index()].encoding = Some(encoding);
    }

    /// A link in use.
    pub fn at(&self, link: LinkIndex) -> &Link {
        &self.list[link.index()]
    }

    pub(super) fn at_mut(&mut self, link: LinkIndex) -> &mut Link {
        &mut self.list[link.index()]
    }

    /// Whether more may be put into it.
    pub fn is_open(&self, link: LinkIndex) -> bool {
        matches!(self.at(link).way, Way::Open(_))
    }

    /// Whether its client is read: it is open and not paused.
    pub fn is_read(&self, link: LinkIndex) -> bool {
        self.at(link).way == Way::Open(Pause::No)
    }

    /// Whether it still sends what it has.
    pub fn is_ending(&self, link: LinkIndex) -> bool {
        self.at(link).way == Way::Ending
    }

    /// Why its client waits.
    pub fn pause(&self, link: LinkIndex) -> Pause {
        match self.at(link).way {
            Way::Open(pause) => pause,
            Way::Closed | Way::Ending => Pause::No,
        }
    }

    /// How messages of a link that has a session travel.
    pub fn encoding(&self, link: LinkIndex) -> Encoding {
        self.at(link).encoding.expect("only sessions have messages")
    }

    /// Whether it has a session, STOMP or raw, whose client is told why it ends. Else its
    /// connection is between two requests or in one.
    pub fn has_session(&self, link: LinkIndex) -> bool {
        self.at(link).encoding.is_some()
    }
}

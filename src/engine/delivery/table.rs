#![forbid(unsafe_code)]
//! The table of links: those of connections at the numbers of their slots, and above all slots
//! those that have no connection of their own. Whether each is in use, why its client waits, and
//! what the loop has to know of it.

use super::link::{Link, Lists, Pause, Way};
use super::receiver::Standalone;
use crate::encoding::Encoding;
use crate::engine::context::Context;
use crate::engine::net::Net;
use crate::ids::{LinkIndex, Slot};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// What the loop has to know of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is not open any more: it sends what it has, or has been cut.
    Ended,
    /// Its client waits for an answer.
    Waits,
    /// A phase of its client begins: a request, or the time of a parked one.
    Phase,
    /// Its client's request is answered.
    Answered,
    /// Its next deadline may have moved.
    Timer,
    /// It keeps more or fewer bytes outside the log. Only of links without a connection of their
    /// own, like the next.
    Kept,
    /// Nobody receives what it has any more: the answer has ended.
    Released,
}

/// All links of a shard.
#[derive(Debug)]
pub struct Table {
    pub(super) list: Vec<Link>,
    /// From this index on links have no connection of their own.
    slots: u32,
    /// This many of those at most.
    most: u32,
    /// What else they have, each above the slots.
    standalone: Vec<Standalone>,
    /// Those of them that are free again.
    free: Vec<LinkIndex>,
    /// Connections that receive what such a link has, and which.
    serving: HashMap<Slot, LinkIndex, foldhash::fast::FixedState>,
    /// Links whose clients wait for room.
    pub(super) for_room: VecDeque<LinkIndex>,
    /// Links whose clients' wait for an answer, or for their own reading, may be over.
    pub(super) woken: VecDeque<LinkIndex>,
    /// Links without a connection of their own that wait for room to be given to who receives.
    pub(super) hungry: Vec<LinkIndex>,
    reports: VecDeque<(LinkIndex, Report)>,
}

impl Table {
    /// None yet; `slots` of them can be those of connections, and `most` have none of their own.
    pub(super) fn new(slots: u32, most: u32) -> Table {
        Table {
            list: Vec::with_capacity(slots as usize),
            slots,
            most,
            standalone: Vec::new(),
            free: Vec::new(),
            serving: HashMap::default(),
            for_room: VecDeque::new(),
            woken: VecDeque::new(),
            hungry: Vec::new(),
            reports: VecDeque::new(),
        }
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
    pub(super) fn allocate(&mut self, encoding: Encoding, queue: u32) -> Option<LinkIndex> {
        let link = match self.free.pop() {
            Some(link) => link,
            None => {
                let next = self.list.len().max(self.slots as usize);
                if next >= (self.slots + self.most) as usize {
                    return None;
                }
                self.list.resize_with(next + 1, Link::default);
                self.standalone.push(Standalone::default());
                LinkIndex(next as u32)
            }
        };
        let state = self.at_mut(link);
        assert!(state.way == Way::Closed && state.is_empty(), "a link is used once at a time");
        state.way = Way::Open(Pause::No);
        state.encoding = Some(encoding);
        let state = self.standalone_mut(link)?;
        *state = Standalone { queue, opens: true, ..Standalone::default() };
        Some(link)
    }

    /// Such a link is not in use any more.
    pub(super) fn give_back(&mut self, link: LinkIndex) {
        assert!(self.slot(link).is_none() && self.at(link).way == Way::Closed);
        self.at_mut(link).encoding = None;
        self.hungry.retain(|hungry| *hungry != link);
        self.free.push(link);
    }

    /// It may be given away once more.
    #[cfg(test)]
    pub(super) fn spoil_free(&mut self, link: LinkIndex) {
        self.free.push(link);
    }

    /// Whether links are in use that have no connection of their own.
    #[inline]
    pub fn has_standalone(&self) -> bool {
        self.free.len() < self.standalone.len()
    }

    /// Links in use that have no connection of their own.
    pub fn all_standalone(&self) -> impl Iterator<Item = LinkIndex> {
        let all = (0..self.standalone.len() as u32).map(|at| LinkIndex(self.slots + at));
        all.filter(|link| self.at(*link).way != Way::Closed)
    }

    /// What a link has that has no connection of its own.
    pub(super) fn standalone(&self, link: LinkIndex) -> Option<&Standalone> {
        let at = link.0.checked_sub(self.slots)?;
        Some(&self.standalone[at as usize])
    }

    pub(super) fn standalone_mut(&mut self, link: LinkIndex) -> Option<&mut Standalone> {
        let at = link.0.checked_sub(self.slots)?;
        Some(&mut self.standalone[at as usize])
    }

    /// A link, and what else it has.
    pub(super) fn both_mut(&mut self, link: LinkIndex) -> (&mut Link, Option<&mut Standalone>) {
        let at = link.0.checked_sub(self.slots);
        let standalone = at.map(|at| &mut self.standalone[at as usize]);
        (&mut self.list[link.index()], standalone)
    }

    /// The connection that receives what a link has.
    pub fn receiver(&self, link: LinkIndex) -> Option<Slot> {
        self.standalone(link)?.receiver.as_ref().map(|receiver| receiver.slot)
    }

    /// The link that a connection receives for.
    pub fn served_by(&self, slot: Slot) -> Option<LinkIndex> {
        let serves = self.at(slot.into()).lists.has(Lists::SERVING);
        serves.then(|| self.serving.get(&slot).copied()).flatten()
    }

    /// Links that somebody receives.
    pub(super) fn served(&self) -> impl Iterator<Item = LinkIndex> {
        self.serving.values().copied()
    }

    /// A connection receives for a link from now on.
    pub(super) fn serve(&mut self, slot: Slot, link: LinkIndex) {
        let is_new = self.at_mut(slot.into()).lists.enter(Lists::SERVING);
        let former = self.serving.insert(slot, link);
        assert!(is_new && former.is_none(), "a connection receives for one link");
    }

    /// And no longer.
    pub(super) fn stop_serving(&mut self, slot: Slot) {
        self.at_mut(slot.into()).lists.leave(Lists::SERVING);
        let former = self.serving.remove(&slot);
        assert!(former.is_some(), "it received");
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

    // ---- waiting

    /// Pauses a link until there is room; every turn looks at it.
    pub fn pause_for_room(&mut self, ctx: &Context, link: LinkIndex) {
        ctx.metrics.producers_paused_total.add(1);
        self.at_mut(link).set_pause(Pause::Room);
        self.wait_for_room(link);
    }

    /// Pauses a link until an answer resumes it.
    pub fn pause_for_answer(&mut self, link: LinkIndex) {
        if self.is_open(link) && self.pause(link) != Pause::Answer {
            self.at_mut(link).set_pause(Pause::Answer);
            self.report(link, Report::Waits);
        }
    }

    /// The pause of a link is over. False if it was not paused.
    pub fn resume(&mut self, link: LinkIndex) -> bool {
        let was_paused = self.at(link).is_paused();
        self.at_mut(link).set_pause(Pause::No);
        was_paused
    }

    /// Puts a link behind all others that wait for room, once.
    pub fn wait_for_room(&mut self, link: LinkIndex) {
        if self.at_mut(link).lists.enter(Lists::ROOM) {
            self.for_room.push_back(link);
        }
    }

    /// The link whose client has waited longest for room.
    pub fn next_waiting(&mut self) -> Option<LinkIndex> {
        while let Some(link) = self.for_room.pop_front() {
            let state = self.at_mut(link);
            state.lists.leave(Lists::ROOM);
            if state.way == Way::Open(Pause::Room) {
                return Some(link);
            }
        }
        None
    }

    /// Whatever a client waited for may be there: it is looked at again.
    pub fn wake(&mut self, link: LinkIndex) {
        self.woken.push_back(link);
    }

    /// The next client that is to be looked at again.
    pub fn next_woken(&mut self) -> Option<LinkIndex> {
        self.woken.pop_front()
    }

    /// Count of clients that are to be looked at again.
    pub fn woken(&self) -> usize {
        self.woken.len()
    }

    /// Count of clients that wait for room.
    pub fn waiting(&self) -> usize {
        self.for_room.len() + self.hungry.len()
    }

    // ---- what the loop has to know

    /// What the loop has to know, in order.
    pub fn next_report(&mut self) -> Option<(LinkIndex, Report)> {
        self.reports.pop_front()
    }

    /// Whether there is something that the loop has to know.
    #[inline]
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Something that the loop has to know.
    pub fn report(&mut self, link: LinkIndex, report: Report) {
        self.reports.push_back((link, report));
    }

    /// Asserts that links and connections that receive for them agree, both ways. Slow.
    pub(super) fn invariants(&self, net: &Net) {
        let flagged = self.of_connections().filter(|(_, own)| own.lists.has(Lists::SERVING));
        assert_eq!(flagged.count(), self.serving.len(), "who receives is known by its own link");
        for (&slot, &link) in &self.serving {
            assert_eq!(self.receiver(link), Some(slot), "{slot:?}: who receives is known");
            let is_fit = self.is_open(slot.into()) && !self.has_session(slot.into());
            assert!(is_fit, "{slot:?}: who receives waits for an answer");
        }
        let received = self.standalone.iter().filter(|state| state.receiver.is_some());
        assert_eq!(received.count(), self.serving.len(), "each is received by one");
        let used = self.all_standalone().count();
        assert_eq!(self.free.len() + used, self.standalone.len(), "who is free is free once");
        for (at, state) in self.standalone.iter().enumerate() {
            let link = LinkIndex(self.slots + at as u32);
            state.kept.invariants();
            let is_used = self.at(link).way != Way::Closed;
            assert_eq!(is_used, !self.free.contains(&link), "{link:?}: it is in use or free");
            let (held, noted) = (state.held(), state.noted);
            assert!(held == noted, "{link:?}: what it keeps is told: {held} {noted}");
            assert!(is_used || held == 0, "{link:?}: who is free keeps nothing");
            // A stream's client, which is being sent what came before.
            let encoding = self.at(link).encoding;
            let is_sent = self
                .receiver(link)
                .is_some_and(|slot| !self.at(slot.into()).is_empty() || net.sending(slot).is_on());
            let may_pin = is_sent && encoding.is_some_and(|encoding| state.receives(encoding));
            let pins = !self.at(link).is_empty();
            assert!(may_pin || !pins, "{link:?}: it pins nothing past its turn");
        }
    }
}

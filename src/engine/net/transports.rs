#![forbid(unsafe_code)]
//! The layers of sealed connections, by slot, and what each of them has to send.
//!
//! A connection that is not sealed has nothing here, and while none is, the table is empty: then
//! each question costs one comparison.

use super::flight::Flight;
use crate::ids::{ListenerId, Range, Slot};
use crate::mem::segment::{Extent, Log, Segments};
use crate::transport::{Error, MakeTransport, Transport};
use std::sync::Arc;

/// A sealed connection.
#[derive(Debug)]
struct Sealed {
    transport: Box<dyn Transport>,
    flight: Flight,
    /// Its peer's bytes could not be opened: nothing more is sealed, what it owes is still sent.
    failed: bool,
    /// The record that ends our direction has been made.
    closed: bool,
    /// Since when there has been no room for what it would seal.
    blocked: Option<u32>,
}

/// The layers of all sealed connections of a shard.
#[derive(Debug)]
pub struct Transports {
    /// What the connections of each listener are sealed by.
    makes: Vec<Option<Arc<dyn MakeTransport>>>,
    list: Vec<Option<Box<Sealed>>>,
    /// What was just sealed, to be copied into the log.
    wire: Vec<u8>,
}

impl Transports {
    /// None yet; each listener with what its connections are sealed by.
    pub fn new(makes: Vec<Option<Arc<dyn MakeTransport>>>) -> Transports {
        Transports { makes, list: Vec::new(), wire: Vec::new() }
    }

    /// A connection has come from this listener.
    pub(super) fn accept(&mut self, slot: Slot, listener: ListenerId) {
        let make = self.makes.get(usize::from(listener.0)).and_then(Option::as_ref);
        let Some(make) = make else { return };
        if self.list.len() <= slot.index() {
            self.list.resize_with(slot.index() + 1, || None);
        }
        let (transport, flight) = (make.make(), Flight::default());
        let (failed, closed, blocked) = (false, false, None);
        let sealed = Sealed { transport, flight, failed, closed, blocked };
        let former = self.list[slot.index()].replace(Box::new(sealed));
        assert!(former.is_none(), "a former connection's layer is gone");
    }

    /// A connection of another shard has come with the layer that it had there.
    pub(super) fn adopt(&mut self, slot: Slot, transport: Option<Box<dyn Transport>>) {
        let is_sealed = self.is_sealed(slot);
        assert_eq!(transport.is_some(), is_sealed, "it is sealed here as it was there");
        if let (Some(transport), Some(sealed)) = (transport, self.at_mut(slot)) {
            sealed.transport = transport;
        }
    }

    /// A connection with nothing to send leaves: gives its layer, which goes with it.
    pub(super) fn part_with(&mut self, slot: Slot) -> Option<Box<dyn Transport>> {
        let sealed = self.list.get_mut(slot.index())?.take()?;
        assert!(sealed.flight.is_empty(), "what is sealed is sent from here");
        Some(sealed.transport)
    }

    /// The slot is free again.
    pub(super) fn closed(&mut self, slot: Slot) {
        if let Some(place) = self.list.get_mut(slot.index()) {
            assert!(place.as_ref().is_none_or(|s| s.flight.is_empty()), "nothing is left to send");
            *place = None;
        }
    }

    #[inline]
    fn at(&self, slot: Slot) -> Option<&Sealed> {
        self.list.get(slot.index())?.as_deref()
    }

    fn at_mut(&mut self, slot: Slot) -> Option<&mut Sealed> {
        self.list.get_mut(slot.index())?.as_deref_mut()
    }

    /// Whether a connection is sealed.
    #[inline]
    pub fn is_sealed(&self, slot: Slot) -> bool {
        self.at(slot).is_some()
    }

    // ---- opening

    /// Opens what has come; see [`Transport::open`].
    pub fn open(&mut self, slot: Slot, wire: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Error> {
        let Some(sealed) = self.at_mut(slot).filter(|sealed| !sealed.failed) else { return Ok(()) };
        let most = plain.len() + sealed.transport.held() + wire.len();
        let result = sealed.transport.open(wire, plain);
        assert!(plain.len() <= most, "opening gives no more than has come");
        sealed.failed = result.is_err();
        result
    }

    /// Bytes that a connection's layer keeps of what has come.
    pub fn held(&self, slot: Slot) -> usize {
        self.at(slot).map_or(0, |sealed| sealed.transport.held())
    }

    /// Nothing more of it is opened.
    pub fn forget(&mut self, slot: Slot) {
        if let Some(sealed) = self.at_mut(slot) {
            sealed.transport.forget();
        }
    }

    /// Whether its handshake is still to be done.
    pub fn is_greeting(&self, slot: Slot) -> bool {
        self.at(slot).is_some_and(|sealed| !sealed.failed && !sealed.transport.is_established())
    }

    /// Whether its peer has said that nothing more comes.
    pub fn is_ended(&self, slot: Slot) -> bool {
        self.at(slot).is_some_and(|sealed| sealed.transport.is_ended())
    }

    /// Whether something is to be sent that no link knows of.
    pub fn owes(&self, slot: Slot) -> bool {
        self.at(slot).is_some_and(|sealed| sealed.transport.owed() > 0)
    }

    /// Whether more than `most` bytes wait since a peer makes its layer answer, and does not read.
    pub fn owes_too_much(&self, slot: Slot, most: u32) -> bool {
        self.at(slot).is_some_and(|Sealed { transport, flight, .. }| {
            let owed = transport.owed();
            owed > 0 && owed + flight.unsent() as usize > most as usize
        })
    }

    // ---- sealing

    /// Whether plaintext may be sealed now.
    pub fn may_seal(&self, slot: Slot) -> bool {
        self.at(slot).is_some_and(|sealed| {
            !sealed.failed && !sealed.closed && sealed.transport.is_established()
        })
    }

    /// The most bytes of the wire that come of what is owed, of `plain` bytes to be sealed, and,
    /// if this `is_last`, of the end of our direction.
    pub fn most(&self, slot: Slot, plain: usize, is_last: bool) -> usize {
        let Some(Sealed { transport, .. }) = self.at(slot) else { return 0 };
        let sealed = if plain > 0 { transport.sealed_max(plain) } else { 0 };
        let close = if is_last { transport.close_max() } else { 0 };
        transport.owed() + sealed + close
    }

    /// Makes what is owed, what `plain` becomes, and the end of our direction if this `is_last`, to
    /// be sent in this order. The caller has asked whether there is room for the most of it, and
    /// whether anything may be sealed.
    pub fn seal(&mut self, slot: Slot, plain: &[u8], is_last: bool) {
        let most = self.most(slot, plain.len(), is_last);
        self.wire.clear();
        let Some(sealed) = self.list.get_mut(slot.index()).and_then(Option::as_mut) else { return };
        sealed.transport.take_owed(&mut self.wire);
        if !plain.is_empty() {
            sealed.transport.seal(plain, &mut self.wire);
        }
        if is_last {
            sealed.transport.close(&mut self.wire);
            sealed.closed = true;
        }
        assert!(self.wire.len() <= most, "a layer makes no more than it said");
    }

    /// What was just sealed goes into the log, from where it is sent.
    pub fn launch(&mut self, slot: Slot, segments: &mut Segments) {
        let Transports { list, wire, .. } = self;
        let sealed = list.get_mut(slot.index()).and_then(Option::as_mut);
        if let (Some(sealed), false) = (sealed, wire.is_empty()) {
            let extents = segments.append(Log::Private, wire);
            sealed.flight.push(extents.expect("the caller has asked whether there is room"));
        }
        wire.clear();
    }

    // ---- sending

    /// Sealed bytes of a connection that the kernel has not taken.
    #[inline]
    pub fn unsent(&self, slot: Slot) -> u32 {
        self.at(slot).map_or(0, |sealed| sealed.flight.unsent())
    }

    /// The extents where these lie.
    pub fn extents(&self, slot: Slot) -> &[Extent] {
        self.at(slot).map_or(&[], |sealed| sealed.flight.extents())
    }

    /// What to send next.
    pub fn begin_send(&mut self, slot: Slot) -> Option<Range> {
        let sealed = self.at_mut(slot)?;
        sealed.blocked = None;
        sealed.flight.begin_send()
    }

    /// A send is over; says how many bytes were asked for.
    pub fn end_send(&mut self, slot: Slot, taken: u32, segments: &mut Segments) -> u32 {
        self.at_mut(slot).map_or(0, |sealed| sealed.flight.end_send(taken, segments))
    }

    /// Moves what is sealed out of a segment. False if there is no room for it elsewhere.
    pub fn leave(&mut self, slot: Slot, segment: u32, segments: &mut Segments) -> bool {
        self.at_mut(slot).is_none_or(|sealed| sealed.flight.leave(segment, segments))
    }

    /// Drops what is sealed.
    pub fn clear(&mut self, slot: Slot, segments: &mut Segments) {
        if let Some(sealed) = self.at_mut(slot) {
            sealed.flight.clear(segments);
        }
    }

    /// There is no room for what it would seal; `ms` is now.
    pub fn block(&mut self, slot: Slot, ms: u32) {
        if let Some(sealed) = self.at_mut(slot) {
            sealed.blocked.get_or_insert(ms);
        }
    }

    /// For how many milliseconds there has been no room for what it would seal.
    pub fn blocked_for(&self, slot: Slot, ms: u32) -> u32 {
        let since = self.at(slot).and_then(|sealed| sealed.blocked);
        since.map_or(0, |since| ms.wrapping_sub(since))
    }

    /// Asserts what holds for a connection, which is `sending` or not. Slow.
    pub(super) fn invariants(&self, slot: Slot, is_sending: bool) {
        if let Some(sealed) = self.at(slot) {
            sealed.flight.invariants(is_sending);
            assert!(self.wire.is_empty(), "what is sealed is sent");
        }
    }

    /// The kernel has taken a byte more of what is sealed than it was given.
    #[cfg(test)]
    pub fn spoil(&mut self, slot: Slot) {
        if let Some(sealed) = self.at_mut(slot) {
            sealed.flight.spoil();
        }
    }
}

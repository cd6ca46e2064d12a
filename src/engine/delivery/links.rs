#![forbid(unsafe_code)]
//! All links of a shard, and the bytes that wait in them: what is put in, and how they end.
//!
//! A link that ends tells the loop by a [`Report`]; the loop tells its session and its connection.

use super::encode::{Encoder, MessageId};
use super::link::{Lists, Pause, Way};
use super::parts::Recent;
use super::shed::Shedding;
use super::table::{Report, Table};
use crate::broker::message::Message;
use crate::broker::subscription::FrameFormat;
use crate::encoding::Encoding;
use crate::engine::context::Context;
use crate::engine::events::Cause;
use crate::engine::net::{Net, View};
use crate::ids::{LinkIndex, Slot};
use crate::mem::marks::Droppable;
use crate::mem::segment::{Extent, Extents, Log, Segments};
use crate::metrics::Refusal;
use crate::stomp::Version;
use crate::time::Instant;
use crate::ws;
use core::ops::{Deref, DerefMut};
use std::collections::VecDeque;

/// Close code of a session that reads too slowly (Spring's).
pub const SLOW_CONSUMER: u16 = 4500;

/// All links of a shard, and the bytes that wait in them.
#[derive(Debug)]
pub struct Links {
    pub(super) table: Table,
    pub(super) segments: Segments,
    pub(super) encoder: Encoder,
    /// The message that was last written for one session, in the variants so far.
    recent: Recent,
    /// Links that have something to begin.
    pub(super) dirty: VecDeque<LinkIndex>,
    /// Links without a connection of their own that have something new.
    pub(super) to_feed: VecDeque<LinkIndex>,
    /// Those of them that have no room for what they would seal: they are looked at in the next
    /// turn.
    pub(super) blocked: VecDeque<LinkIndex>,
    pub(super) shedding: Shedding,
    pub(super) gathered: Vec<u8>,
    /// The pool had no room: somebody has to part with some.
    pub(super) needs_room: bool,
    /// When room was made last.
    pub(super) room_made: Instant,
    /// Messages wait for a segment before they can be fanned out.
    pub(super) is_wanted: bool,
}

impl Deref for Links {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for Links {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Links {
    /// None yet, with the segments that the ring sends from; at most of this many connections, and
    /// this many sessions over HTTP.
    pub fn new(segments: Segments, (slots, sessions): (u32, u32), now: Instant) -> Links {
        Links {
            table: Table::new(slots, sessions),
            segments,
            encoder: Encoder::default(),
            recent: Recent::default(),
            dirty: VecDeque::new(),
            to_feed: VecDeque::new(),
            blocked: VecDeque::new(),
            shedding: Shedding::default(),
            gathered: Vec::new(),
            needs_room: false,
            room_made: now,
            is_wanted: false,
        }
    }

    /// The settings have changed: messages of at least `deflate_min` bytes are compressed, and
    /// answers have at most `answer_max`.
    pub fn configure(&mut self, deflate_min: u32, answer_max: usize) {
        self.encoder.compress_from(deflate_min);
        self.segments.expect_answers(answer_max);
    }

    /// The turn is over: what large messages needed does not stay resident.
    pub fn give_back(&mut self) {
        self.encoder.give_back();
        self.recent.give_back();
    }

    /// Times that the compressor has run.
    pub fn deflates(&self) -> u64 {
        self.encoder.deflates()
    }

    /// The pool of segments.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    // ---- putting in

    /// Sends what `write` encodes to the client of a session. Whole units only. May end the link.
    pub fn send(
        &mut self,
        view: View<'_>,
        link: LinkIndex,
        write: impl FnOnce(&mut Encoder, Encoding),
    ) {
        if !self.is_open(link) {
            return;
        }
        let encoding = self.encoding(link).for_one();
        self.encoder.clear();
        write(&mut self.encoder, encoding);
        self.queue(view, link, None, None);
    }

    /// Sends bytes as they are: whole units of a session, an HTTP answer or a part of one. May end
    /// the link.
    pub fn send_bytes(&mut self, view: View<'_>, link: LinkIndex, bytes: &[u8]) {
        if self.is_open(link) {
            self.queue(view, link, Some(bytes), None);
        }
    }

    /// Sends a MESSAGE for one session, which may be dropped where it cannot be sent soon enough.
    pub fn send_message(
        &mut self,
        view: View<'_>,
        link: LinkIndex,
        message: (&Message, u64, &MessageId),
        (subscription, version, acks): (&str, Version, bool),
        droppable: Option<Droppable>,
    ) {
        if !self.is_open(link) {
            return;
        }
        let (message, number, id) = message;
        let format = FrameFormat { encoding: self.encoding(link).for_one(), version, acks };
        self.encoder.clear();
        self.recent.encode(&mut self.encoder, format, message, (number, id), subscription);
        self.queue(view, link, None, droppable);
    }

    /// A WebSocket frame as it is.
    pub fn send_frame(
        &mut self,
        view: View<'_>,
        link: LinkIndex,
        opcode: ws::Opcode,
        payload: &[u8],
    ) {
        self.send(view, link, |encoder, _| encoder.ws(opcode, payload));
    }

    /// Sends an HTTP answer, or a part of one.
    pub fn send_http(&mut self, view: View<'_>, link: LinkIndex, bytes: &[u8]) {
        self.send_bytes(view, link, bytes);
    }

    /// Puts what is encoded, or `ready` instead, into the log and the queue of one link. May end
    /// the link.
    pub(super) fn queue(
        &mut self,
        view: View<'_>,
        link: LinkIndex,
        ready: Option<&[u8]>,
        droppable: Option<Droppable>,
    ) {
        let Some(slot) = self.slot(link) else {
            if let Some(bytes) = ready {
                self.encoder.clear();
                self.encoder.raw(bytes);
            }
            self.keep_encoded(link, droppable);
            // One turn may bring more than its end allows, but no more than this.
            self.check_bounds(view, link, Some(view.limits.message));
            return self.note_kept(link);
        };
        if self.segments.is_scarce() && self.must_not_have_the_last(view, slot) {
            self.needs_room = true;
            return self.too_slow(view, link);
        }
        let Links { table, segments, encoder, .. } = self;
        let (state, bytes) =
            (&mut table.list[link.index()], ready.unwrap_or_else(|| encoder.bytes()));
        // An HTTP answer has no frame boundaries: it never merges with what follows.
        let has_units = state.encoding.is_some();
        let mut push = |extent: Extent, segments: &mut Segments| {
            let continued = extent.continued || !has_units;
            state.push(Extent { continued, ..extent }, segments);
        };
        if let Some(extent) = segments.append_in_place(Log::Private, bytes) {
            if let Some(droppable) = droppable {
                segments.mark(extent.range, droppable);
            }
            push(extent, segments);
        } else if let Ok(extents) = segments.append(Log::Private, bytes) {
            if let Some(droppable) = droppable {
                segments.mark(extents[0].range, droppable);
            }
            extents.into_iter().for_each(|extent| push(extent, segments));
        } else {
            // Nobody else can be let go in the middle of this: room is made later in the turn.
            self.needs_room = true;
            view.refuse(link, Refusal::LimitSegmentBytes);
            return self.cut(link);
        }
        self.mark_dirty(link);
    }

    /// Gives extents of the log to a link that is open, which holds them too from now on.
    #[inline(always)] // The walk over a group's members is made of it.
    pub(super) fn share(&mut self, link: LinkIndex, extents: &Extents) {
        let Links { table, segments, dirty, .. } = self;
        let state = &mut table.list[link.index()];
        for extent in extents {
            state.push_shared(*extent, segments);
        }
        if state.lists.enter(Lists::DIRTY) {
            dirty.push_back(link);
        }
    }

    /// The last of the pool is for those who take what they are sent.
    #[cold]
    fn must_not_have_the_last(&self, view: View<'_>, slot: Slot) -> bool {
        let (link, stands_still) = (slot.into(), view.net.has_stood_still(slot, view.ms));
        self.is_open(link) && stands_still && !self.may_shed(view.ctx, link)
    }

    /// Puts a link into the list of those to look at.
    #[inline]
    pub fn mark_dirty(&mut self, link: LinkIndex) {
        let state = &mut self.table.list[link.index()];
        if state.way != Way::Closed && state.lists.enter(Lists::DIRTY) {
            self.dirty.push_back(link);
        }
    }

    // ---- waiting

    /// Pauses a link whose client does not take what it has been answered: true if so. Else a few
    /// clients that ask and do not read would fill the pool that all are answered from. Where that
    /// pool is low one answer is enough to wait for; and where it has no room for one more, the
    /// client that asks waits until those who take nothing have given some back (`make_room`).
    pub fn pause_for_outbox(&mut self, view: View<'_>, link: LinkIndex) -> bool {
        // Who has no connection of its own is not answered there.
        let waiting = self.slot(link).map_or(0, |slot| unsent(self, view.net, slot));
        if waiting > view.limits.send_bytes || waiting > 0 && self.segments.is_low() {
            self.table.at_mut(link).set_pause(Pause::Outbox);
            return true;
        }
        if !self.segments.may_answer() {
            self.needs_room = true;
            self.pause_for_room(view.ctx, link);
            return true;
        }
        false
    }

    // ---- ending

    /// Ends the link of a session: what is queued and the Close frame are still sent. Of a slow
    /// consumer only the rest of the frame in flight, and the Close. Without a session it is cut.
    pub fn drain(&mut self, view: View<'_>, link: LinkIndex, code: u16, reason: &str) {
        self.drain_after(view, link, code, reason, |_, _| {});
    }

    /// The same with a last frame before the Close.
    pub fn drain_after(
        &mut self,
        view: View<'_>,
        link: LinkIndex,
        code: u16,
        reason: &str,
        write: impl FnOnce(&mut Encoder, Encoding),
    ) {
        if !self.is_open(link) {
            return;
        }
        let Some(encoding) = self.at(link).encoding else { return self.cut(link) };
        if self.slot(link).is_none() {
            return self.drain_standalone(link, (code, reason), write);
        }
        if code == SLOW_CONSUMER {
            // It would not read them in time anyway. Who ends for another reason hears all that
            // is due to it, also more than send-buffer: one turn may bring that to a client that
            // reads well, and its RECEIPTs stand among it.
            self.table.list[link.index()].keep_begun(&mut self.segments, encoding);
        }
        self.encoder.clear();
        write(&mut self.encoder, encoding);
        if encoding.has_sockjs_frames() {
            self.encoder.sockjs_close(code, reason);
        }
        self.encoder.close(code, reason);
        self.report(link, Report::Ended);
        self.table.at_mut(link).way = Way::Ending;
        self.queue(view, link, None, None);
        self.mark_dirty(link);
    }

    /// The last answer of an HTTP connection is queued: the link ends when it is sent.
    pub fn drain_http(&mut self, link: LinkIndex) {
        if self.is_open(link) {
            self.table.at_mut(link).way = Way::Ending;
            self.report(link, Report::Ended);
            self.mark_dirty(link);
        }
    }

    /// What its client sends cannot be opened: what waits in the link cannot be sealed any more,
    /// and is dropped. It ends when its connection has sent what that owes, also if it was ending.
    pub fn fail(&mut self, link: LinkIndex) {
        if self.at(link).way != Way::Closed {
            self.table.list[link.index()].clear(&mut self.segments);
            self.drain_http(link);
            self.mark_dirty(link);
        }
    }

    /// Ends a link at once; what waits in it is not sent.
    pub fn cut(&mut self, link: LinkIndex) {
        if self.at(link).way != Way::Closed {
            self.table.at_mut(link).way = Way::Closed;
            self.report(link, Report::Ended);
        }
    }

    /// The connection has failed. Its receive, its send and its poll may all tell; it counts once.
    pub fn reset(&mut self, ctx: &Context, link: LinkIndex) {
        if self.at(link).way != Way::Closed {
            ctx.metrics.resets_total.add(1);
            self.cut(link);
        }
    }

    /// A client does not take what is due to it.
    pub fn too_slow(&mut self, view: View<'_>, link: LinkIndex) {
        view.metrics.slow_consumers_total.add(1);
        view.note(Cause::SlowConsumer, link);
        self.drain(view, link, SLOW_CONSUMER, "the client reads too slowly");
    }

    /// Nothing of a link that was cut is in the kernel any more.
    pub fn clear(&mut self, net: &mut Net, link: LinkIndex) {
        assert!(self.at(link).way == Way::Closed, "only what has been cut is thrown away");
        self.table.list[link.index()].clear(&mut self.segments);
        if let Some(slot) = self.slot(link) {
            net.transports_mut().clear(slot, &mut self.segments);
        }
    }

    // ---- looking

    /// Asserts what holds between links, segments and lists. Slow.
    pub fn invariants(&self, net: &Net) {
        self.segments.invariants();
        let mut holds = vec![0; self.segments.count()];
        self.table.invariants(net);
        for (at, link) in self.table.list.iter().enumerate() {
            let index = LinkIndex(at as u32);
            link.invariants(self.slot(index).is_some());
            let count = |list: &VecDeque<LinkIndex>| list.iter().filter(|at| **at == index).count();
            let is_blocked = count(&self.blocked);
            let is_dirty = usize::from(link.lists.has(Lists::DIRTY));
            assert_eq!(
                count(&self.dirty) + is_blocked,
                is_dirty,
                "{index:?}: it is to be flushed, once"
            );
            let is_waiting = usize::from(link.lists.has(Lists::ROOM));
            assert_eq!(
                count(&self.table.for_room),
                is_waiting,
                "{index:?}: it waits for room once"
            );
            let waits = link.way == Way::Open(Pause::Room);
            assert!(!waits || is_waiting == 1, "{index:?}: who waits for room is asked again");
            link.extents().iter().for_each(|e| holds[e.range.segment as usize] += 1);
            let Some(slot) = self.slot(index) else { continue };
            let transports = net.transports();
            let is_sealed = transports.is_sealed(slot);
            // Behind a handshake it waits for the peer.
            let is_sending = match is_sealed {
                true if net.sending(slot).is_on() => true,
                true => {
                    let is_sealed = transports.unsent(slot) == 0 && !transports.owes(slot);
                    is_sealed && (link.is_empty() || !transports.may_seal(slot))
                }
                false => link.is_sending() || link.is_empty(),
            };
            assert!(
                link.way == Way::Closed || is_sending || is_dirty > 0,
                "what waits for it is sent"
            );
            assert!(!is_sealed || !link.is_sending(), "what is sealed is in flight by itself");
            transports.extents(slot).iter().for_each(|e| holds[e.range.segment as usize] += 1);
        }
        // Between two turns nobody else does.
        for (segment, holds) in holds.into_iter().enumerate() {
            let known = self.segments.refcount_of(segment as u32);
            assert_eq!(known, holds, "segment {segment}: links hold it");
        }
        assert!(!self.has_reports(), "the loop knows what links report");
    }
}

/// Bytes that wait for the client of a connection, sealed or not: the kernel has not taken them.
pub fn unsent(links: &Links, net: &Net, slot: Slot) -> u32 {
    links.at(slot.into()).waiting() + net.transports().unsent(slot)
}

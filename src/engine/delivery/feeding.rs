#![forbid(unsafe_code)]
//! Links that have no connection of their own: what is put into them leaves the log at the end of
//! its turn, and goes to a connection that comes for it.
//!
//! Such a link never sends by itself: it gives parts of an answer to the link of the connection
//! that receives, one at a time, and the next when that one has been taken whole. So one socket has
//! one order, and only a connection's own link has a send in flight. In the log stays only what the
//! client of a stream, which gets it just as groups have it, has yet to be sent.

use super::encode::{Encoder, unit_len};
use super::link::{Link, Lists, Way};
use super::links::{Links, SLOW_CONSUMER, unsent};
use super::receiver::{Answer, Receiver};
use super::sending::count_dropped;
use super::table::Report;
use crate::encoding::Encoding;
use crate::engine::context::Context;
use crate::engine::net::{Net, View};
use crate::ids::{LinkIndex, Range, Slot};
use crate::mem::marks::Droppable;
use crate::mem::segment::{Extent, Extents, Full, Log, Segments};
use crate::sockjs;
use smallvec::SmallVec;

impl Links {
    /// A session opens whose link has no connection of its own, and for which at most `queue`
    /// messages wait while nobody receives: its link, if there is one left.
    pub fn open_standalone(&mut self, encoding: Encoding, queue: u32) -> Option<LinkIndex> {
        self.table.allocate(encoding, queue)
    }

    /// Such a link has been cut: it is thrown away. Who receives does not get its answer's end.
    pub fn close_standalone(&mut self, net: &mut Net, link: LinkIndex) {
        let state = self.table.standalone_mut(link).expect("it has no connection of its own");
        let receiver = core::mem::take(state).receiver;
        if let Some(receiver) = receiver {
            self.table.stop_serving(receiver.slot);
            self.cut(receiver.slot.into());
        }
        self.clear(net, link);
        self.table.give_back(link);
    }

    /// A connection has come for what a link has, and is answered like this. Nothing else of its
    /// client is read until the answer is over ([`Report::Answered`]).
    pub fn attach(&mut self, link: LinkIndex, slot: Slot, answer: Answer) {
        assert!(self.is_open(slot.into()), "who receives is open");
        self.table.serve(slot, link);
        self.pause_for_answer(slot.into());
        let state = self.table.standalone_mut(link).expect("it has no connection of its own");
        assert!(state.receiver.is_none(), "one receives at a time");
        state.receiver = Some(Receiver { slot, answer, is_done: false });
        self.mark_dirty(link);
    }

    /// A connection has ended that a link was received by: what the kernel took of the answer is
    /// not known, so the link ends, too.
    pub fn lose_receiver(&mut self, slot: Slot) {
        if let Some(link) = self.served_by(slot) {
            self.table.stop_serving(slot);
            self.table.standalone_mut(link).expect("it has none of its own").receiver = None;
            self.cut(link);
        }
    }

    /// A frame of SockJS that is no message: to a link without a connection of its own a
    /// heart-beat, and only if somebody receives.
    pub fn beat(&mut self, view: View<'_>, link: LinkIndex) {
        let Some(state) = self.table.standalone_mut(link) else {
            return self.send_frame(
                view,
                link,
                crate::ws::Opcode::Text,
                sockjs::HEARTBEAT.as_bytes(),
            );
        };
        state.beats = state.receiver.is_some();
        self.mark_dirty(link);
    }

    /// Bytes that a link keeps outside the log.
    pub fn kept(&self, link: LinkIndex) -> usize {
        self.standalone(link).map_or(0, |state| state.held())
    }

    // ---- the end of a turn

    /// What has been put into links without a connection of their own goes to those who receive,
    /// or leaves the log.
    pub fn feed(&mut self, net: &mut Net, ctx: &Context) {
        if !self.has_standalone() {
            return;
        }
        while let Some(link) = self.table.hungry.pop() {
            self.mark_dirty(link);
        }
        let Links { table, dirty, to_feed, .. } = self;
        dirty.retain(|link| {
            let is_own = table.slot(*link).is_some();
            if !is_own {
                to_feed.push_back(*link);
            }
            is_own
        });
        while let Some(link) = self.to_feed.pop_front() {
            self.feed_one(net, ctx, link);
        }
    }

    pub(super) fn feed_one(&mut self, net: &mut Net, ctx: &Context, link: LinkIndex) {
        self.table.at_mut(link).lists.leave(Lists::DIRTY);
        let Some(encoding) = self.at(link).encoding.filter(|_| self.at(link).way != Way::Closed)
        else {
            return;
        };
        let state = self.standalone(link).expect("it has no connection of its own");
        let receiver = state.receiver.as_ref().filter(|receiver| !receiver.is_done);
        let receiver = receiver.map(|receiver| receiver.slot);
        let is_direct = receiver.is_some() && state.receives(encoding);
        let is_idle = receiver.is_some_and(|slot| is_idle(self, net, slot));
        if !is_direct {
            self.keep(link, encoding);
        }
        if let Some(slot) = receiver.filter(|_| is_idle) {
            let has_given = match is_direct {
                true => self.give_units(ctx, (link, encoding), slot),
                false => self.give_piece(ctx, link, slot),
            };
            if has_given {
                net.times_mut(link).last_out = ctx.ms;
            }
        }
        self.check_bounds(View { ctx, net }, link, None);
        self.note_kept(link);
    }

    /// More waits for a client than may. Within a turn `more` bytes may, of any number of messages.
    pub(super) fn check_bounds(&mut self, view: View<'_>, link: LinkIndex, more: Option<u32>) {
        let bytes = (view.limits.send_buffer + more.unwrap_or(0)) as usize;
        let Some(state) = self.standalone(link).filter(|_| self.is_open(link)) else { return };
        let is_any = more.is_some() || state.receiver.is_some();
        let count = if is_any { usize::MAX } else { state.queue as usize };
        let waiting = state.kept.len() + self.at(link).waiting() as usize;
        if waiting <= bytes && state.kept.count() <= count {
            return;
        }
        if view.ctx.shared.sheds {
            self.keep(link, self.encoding(link));
            let kept = &mut self.table.standalone_mut(link).expect("it was there").kept;
            count_dropped(view.ctx, kept.shed(bytes / 2, count));
            if kept.len() <= bytes - bytes / 8 && kept.count() <= count {
                return;
            }
        }
        self.too_slow(view, link);
    }

    /// Moves what a link has in the log out of it.
    fn keep(&mut self, link: LinkIndex, encoding: Encoding) {
        let Links { table, segments, gathered, .. } = self;
        let (list, standalone) = table.both_mut(link);
        let kept = &mut standalone.expect("it has no connection of its own").kept;
        for (first, behind) in list.units() {
            let own = segments.bytes(first.range);
            let bytes = if behind.is_empty() {
                own
            } else {
                gathered.clear();
                gathered.extend_from_slice(own);
                behind.iter().for_each(|e| gathered.extend_from_slice(segments.bytes(e.range)));
                &gathered[..]
            };
            let mut at = 0;
            while at < bytes.len() {
                let len = unit_len(encoding, &bytes[at..]).expect("units are whole") as usize;
                let is_own = at < own.len();
                let place = (first.range.segment, first.range.offset + at as u32);
                let droppable = is_own.then(|| segments.droppable(place.0, place.1)).flatten();
                kept.push_as(encoding, &bytes[at..at + len], droppable);
                at += len;
            }
        }
        list.clear(segments);
    }

    /// Whatever holds bytes of the log while somebody receives lets go of them.
    pub(super) fn keep_all(&mut self) {
        for link in self.table.served().collect::<SmallVec<[LinkIndex; 8]>>() {
            self.keep(link, self.encoding(link));
            self.note_kept(link);
        }
    }

    /// What a link keeps has changed.
    pub(super) fn note_kept(&mut self, link: LinkIndex) {
        let Some(state) = self.table.standalone_mut(link) else { return };
        let held = state.held();
        if core::mem::replace(&mut state.noted, held) != held {
            self.report(link, Report::Kept);
        }
    }

    // ---- those who receive

    /// Gives the link of a connection units as they are, without a copy; true if there were any.
    fn give_units(
        &mut self,
        ctx: &Context,
        (link, encoding): (LinkIndex, Encoding),
        slot: Slot,
    ) -> bool {
        let Links { table, segments, .. } = self;
        let (state, standalone) = table.both_mut(link);
        let standalone = standalone.expect("it has no connection of its own");
        let Some(Receiver { answer: Answer::Stream { limit, .. }, .. }) = standalone.receiver
        else {
            return false;
        };
        let most = ctx.limits.send_bytes;
        let (bytes, body) = state.front_units(segments, encoding, (most, limit));
        if bytes == 0 {
            return false;
        }
        let has_end = body >= limit && encoding.stream().is_some_and(|(_, chunked)| chunked);
        if has_end && !segments.has_room(Log::Private, sockjs::LAST_CHUNK.len()) {
            // The answer's end has to come with them: they wait outside the log.
            self.needs_room = true;
            table.hungry.push(link);
            self.keep(link, encoding);
            return false;
        }
        let ends = standalone.spend(body);
        let taken = state.take_front(bytes, segments);
        let own = table.at_mut(slot.into());
        taken.into_iter().for_each(|extent| own.push(extent, segments));
        self.mark_dirty(slot.into());
        if ends {
            self.end_answer(ctx, link, slot);
        }
        true
    }

    /// A stream has reached its limit: its answer ends.
    fn end_answer(&mut self, ctx: &Context, link: LinkIndex, slot: Slot) {
        let state = self.table.standalone_mut(link).expect("it has no connection of its own");
        let receiver = state.receiver.as_mut().expect("somebody receives");
        receiver.is_done = true;
        if let Answer::Stream { encoding, .. } = receiver.answer
            && encoding.stream().is_some_and(|(_, chunked)| chunked)
        {
            let appended = self.segments.append(Log::Private, sockjs::LAST_CHUNK);
            self.push_private(ctx, slot, appended);
        }
    }

    /// Bytes of an answer that cannot do without them, if there was room for them.
    fn push_private(&mut self, ctx: &Context, slot: Slot, appended: Result<Extents, Full>) {
        let Ok(extents) = appended else {
            self.needs_room = true;
            ctx.refuse_for_nobody(crate::metrics::Refusal::LimitSegmentBytes);
            return self.cut(slot.into());
        };
        for extent in extents {
            let extent = Extent { continued: true, ..extent };
            self.table.at_mut(slot.into()).push(extent, &mut self.segments);
        }
        self.mark_dirty(slot.into());
    }

    /// Gives the link of a connection the next part of an answer; true if there was one.
    fn give_piece(&mut self, ctx: &Context, link: LinkIndex, slot: Slot) -> bool {
        let Links { table, segments, gathered, .. } = self;
        let state = table.standalone_mut(link).expect("it has no connection of its own");
        gathered.clear();
        let most = ctx.limits.send_bytes as usize;
        let Some(piece) = state.write(most, gathered) else { return false };
        if !segments.may_answer() || !segments.has_room(Log::Private, gathered.len()) {
            self.needs_room = true;
            table.hungry.push(link);
            return false;
        }
        state.wrote(piece);
        let appended = segments.append(Log::Private, gathered);
        self.push_private(ctx, slot, appended);
        true
    }

    /// A connection has been sent all that it had, and receives for a link: the next part, or its
    /// answer is over.
    pub(super) fn go_on_serving(&mut self, net: &mut Net, ctx: &Context, slot: Slot) {
        let Some(link) = self.served_by(slot).filter(|_| is_idle(self, net, slot)) else { return };
        let state = self.table.standalone_mut(link).expect("it has no connection of its own");
        if !state.receiver.as_ref().is_some_and(|receiver| receiver.is_done) {
            return self.feed_one(net, ctx, link);
        }
        let receiver = state.receiver.take();
        state.beats = false;
        self.table.stop_serving(slot);
        // What the answer had no room for leaves the log with it.
        if let Some(encoding) = self.at(link).encoding {
            self.keep(link, encoding);
            self.note_kept(link);
        }
        self.report(slot.into(), Report::Answered);
        self.wake(slot.into());
        self.report(link, Report::Released);
        let closes =
            |receiver: &Receiver| matches!(receiver.answer, Answer::Stream { closes: true, .. });
        if ctx.draining.is_some() || receiver.as_ref().is_some_and(closes) {
            self.drain_http(slot.into());
        }
    }

    // ---- putting in, ending

    /// What is encoded for a link without a connection of its own does not go through the log.
    pub(super) fn keep_encoded(&mut self, link: LinkIndex, droppable: Option<Droppable>) {
        self.keep(link, self.encoding(link));
        let Links { table, encoder, .. } = self;
        if let Some(state) = table.standalone_mut(link)
            && !encoder.bytes().is_empty()
        {
            state.kept.push(encoder.bytes(), droppable);
        }
        self.mark_dirty(link);
    }

    /// Ends a link without a connection of its own: what waits, a last frame and the reason are
    /// for whoever receives, until it is cut.
    pub(super) fn drain_standalone(
        &mut self,
        link: LinkIndex,
        (code, reason): (u16, &str),
        write: impl FnOnce(&mut Encoder, Encoding),
    ) {
        if code == SLOW_CONSUMER {
            let Links { table, segments, .. } = self;
            let (list, standalone) = table.both_mut(link);
            list.clear(segments);
            standalone.expect("it has no connection of its own").kept.clear();
        }
        // There may be no last frame.
        self.encoder.give_back();
        write(&mut self.encoder, Encoding::Queued);
        self.keep_encoded(link, None);
        let mut frame = vec![0; sockjs::close_len(code, reason)];
        sockjs::write_close(code, reason, &mut frame);
        let state = self.table.standalone_mut(link).expect("it has no connection of its own");
        state.close = Some(frame.into());
        self.table.at_mut(link).way = Way::Ending;
        self.report(link, Report::Ended);
        self.note_kept(link);
    }
}

/// Whether the kernel has taken all that a connection has, sealed or not.
fn is_idle(links: &Links, net: &Net, slot: Slot) -> bool {
    unsent(links, net, slot) == 0 && !net.sending(slot).is_on()
}

impl Link {
    /// Its extents, each that begins with a unit together with those that continue it.
    fn units(&self) -> impl Iterator<Item = (&Extent, &[Extent])> {
        let mut rest = &self.extents[..];
        core::iter::from_fn(move || {
            let (first, behind) = rest.split_first()?;
            let count = behind.iter().take_while(|extent| extent.continued).count();
            let (own, others) = behind.split_at(count);
            rest = others;
            Some((first, own))
        })
    }

    /// Bytes of as many whole units from the first on as are at most `most`, one at least, and
    /// reach `limit` with the last one only; and how many bytes of a body they are.
    fn front_units(
        &self,
        segments: &Segments,
        encoding: Encoding,
        (most, limit): (u32, u32),
    ) -> (u32, u32) {
        let (wrap, chunked) = encoding.stream().expect("only streams share what groups have");
        let (mut bytes, mut body) = (0, 0);
        for (first, behind) in self.units() {
            let all = first.range.len + behind.iter().map(|e| e.range.len).sum::<u32>();
            let mut at = 0;
            while at < all {
                let rest = Range {
                    offset: first.range.offset + at,
                    len: first.range.len - at,
                    ..first.range
                };
                let unit = sockjs::wrapped_len(wrap, chunked, segments.bytes(rest));
                let unit = unit.filter(|(len, _)| *len as u32 <= rest.len);
                // What goes on in further extents goes as a whole.
                let (len, own) =
                    unit.map_or((all - at, all - at), |(len, b)| (len as u32, b as u32));
                if bytes > 0 && bytes + len > most || limit <= body {
                    return (bytes, body);
                }
                (bytes, body, at) = (bytes + len, body + own, at + len);
            }
        }
        (bytes, body)
    }

    /// Takes out the first bytes, which end with a unit. Their references go with them.
    fn take_front(&mut self, bytes: u32, segments: &mut Segments) -> SmallVec<[Extent; 2]> {
        assert!(!self.is_sending() && self.sent == 0, "nothing of it has begun");
        let (mut taken, mut left) = (SmallVec::new(), bytes);
        while left > 0 {
            let first = &mut self.extents[0];
            if first.range.len <= left {
                left -= first.range.len;
                taken.push(self.extents.remove(0));
                continue;
            }
            taken.push(Extent { range: Range { len: left, ..first.range }, ..*first });
            segments.retain(first.range.segment);
            first.range.offset += left;
            first.range.len -= left;
            left = 0;
        }
        self.waiting -= bytes;
        self.give_back();
        taken
    }
}

#[cfg(test)]
mod tests;

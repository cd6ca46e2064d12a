#![forbid(unsafe_code)]
//! The end of a connection, in four named steps.
//!
//! **drain**: the session leaves the broker at once; what is queued, an ERROR where one is due and
//! the Close frame are still sent (to a slow consumer only the rest of the frame in flight, and
//! the Close); then our direction ends and the peer may end its own. Bound: `linger`.
//! **terminate**: the socket is shut down, so that whatever the kernel holds comes back.
//! **join**: every completion asks; nothing may be in the kernel any more.
//! **close**: the descriptor is released and the slot's generation goes up.
//!
//! Errors, kicks, shutdown and slow consumers all pass drain; only a reset or a deadline skips it.

use super::conn::{Pause, Peer, Proto, State};
use super::events::Cause;
use super::shard::Shard;
use crate::encoding::Encoding;
use crate::ids::{ConnId, SessionIndex, Slot};
use crate::mem::segment::{Extent, Log, Segments};
use crate::ring::{Op, PollEnd, Ring};
use crate::time::Millis;
use hashbrown::HashMap;

/// Close code of a session that reads too slowly (Spring's).
pub(super) const SLOW_CONSUMER: u16 = 4500;
/// Stands for a Close frame without a code (RFC 6455 §7.1.5); it never goes onto the wire.
pub(super) const NO_CODE: u16 = 1005;
/// Whoever holds what the pool wants is let go only when its send has stood still this long; before
/// that the kernel is given the time to take it.
const PATIENCE: Millis = Millis(250);

impl<R: Ring> Shard<R> {
    /// Begins the end of a WebSocket: `error` is a whole encoded ERROR frame for before the Close.
    pub(super) fn drain(&mut self, slot: Slot, error: &[u8], code: u16, reason: &str) {
        let conn = self.conns.at_mut(slot);
        if conn.state != State::Open {
            return;
        }
        let Some(encoding) = conn.encoding() else {
            self.terminate(slot);
            return;
        };
        conn.state = State::Draining;
        conn.tail.take();
        if code == SLOW_CONSUMER {
            // It would not read them in time anyway. Whoever ends for another reason hears all that
            // is due to it, also more than send-buffer: one turn may bring that to a client that
            // reads well, and its RECEIPTs stand among it.
            conn.outbox.keep_begun(&mut self.segments, encoding);
        }
        self.leave_proto(slot);
        let mut last = core::mem::take(&mut self.encoder);
        last.clear();
        if encoding.has_sockjs_frames() {
            last.sockjs_close(code, reason);
        }
        last.close(code, reason);
        if !error.is_empty() {
            self.send_private(slot, error);
        }
        self.send_private(slot, last.bytes());
        self.encoder = last;
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        conn.since = now;
        self.note_buffered(slot);
        self.mark_dirty(slot);
        self.set_timer(slot);
        self.watch_for_end(slot);
    }

    /// A draining connection is read until its end, whatever it was paused for.
    fn watch_for_end(&mut self, slot: Slot) {
        self.conns.at_mut(slot).pause = Pause::No;
        self.receive_more(self.conns.id(slot));
    }

    /// The last answer of an HTTP connection is queued: nothing more is read as a request.
    pub(super) fn drain_http(&mut self, slot: Slot) {
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        if conn.state == State::Open {
            conn.state = State::Draining;
            conn.proto = Proto::HttpDone;
            conn.tail.take();
            conn.since = now;
            self.note_buffered(slot);
            self.mark_dirty(slot);
            self.set_timer(slot);
            self.watch_for_end(slot);
        }
    }

    /// The session of a connection leaves its homes.
    fn leave_proto(&mut self, slot: Slot) {
        self.conns.pongs.take(slot);
        match &mut self.conns.at_mut(slot).proto {
            Proto::Stomp(stomp) => {
                stomp.message.take();
                let session = core::mem::replace(&mut stomp.session, SessionIndex::NONE);
                if let Some(session) = session.get() {
                    self.leave_broker(session);
                }
            }
            Proto::Raw(raw) => {
                raw.message.take();
                raw.backlog.take();
            }
            _ => {}
        }
    }

    /// All of an outbox is with the kernel.
    pub(super) fn on_flushed(&mut self, slot: Slot) {
        let id = self.conns.id(slot);
        let conn = self.conns.at_mut(slot);
        if conn.state != State::Draining {
            return;
        }
        if conn.peer == Peer::Ended {
            self.terminate(slot);
        } else if !conn.write_ended {
            conn.write_ended = true;
            conn.pending_operations += 1;
            self.ring.push(Op::ShutdownWrite { conn: id });
        }
    }

    /// The peer has ended its direction, and the socket is read to its end.
    pub(super) fn on_peer_ended(&mut self, slot: Slot) {
        self.hang_up(slot, Peer::Ended);
        let conn = self.conns.at_mut(slot);
        match (conn.state, &conn.proto) {
            // It may still read the answer that it asked for, and what it sent before may count.
            (State::Open, _) if conn.pause != Pause::No => {}
            (State::Open, Proto::HttpIdle) if !conn.outbox.is_empty() => self.drain_http(slot),
            (State::Draining, _) if !conn.outbox.is_empty() => {}
            (State::Open | State::Draining, _) => self.terminate(slot),
            (State::Free | State::Terminated | State::Closing, _) => {}
        }
    }

    /// The end of the peer's direction is known. While the connection is paused that ends nothing
    /// at once: who sends a request and then FIN waits for its answer, and what came before the FIN
    /// was sent in good faith. But whoever is paused is not listened to, so nothing else would
    /// tell that the peer has gone: after HANGUP_GRACE the connection ends, whatever it waits for.
    /// That time runs from the first news of the FIN and is never begun anew. A reset ends it at
    /// once.
    fn hang_up(&mut self, slot: Slot, peer: Peer) {
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        let is_news = conn.peer == Peer::Here;
        conn.peer = peer;
        if is_news && conn.state == State::Open && conn.pause != Pause::No {
            conn.since = now;
            self.set_timer(slot);
        }
    }

    /// The poll for the end of a peer is over.
    pub(super) fn on_poll_ended(&mut self, id: ConnId, end: PollEnd) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.watched = false;
        if conn.state == State::Open {
            match end {
                // Whoever is read again hears of it by its receive.
                PollEnd::HungUp if conn.pause == Pause::No || conn.peer != Peer::Here => {}
                PollEnd::HungUp => self.hang_up(id.slot, Peer::HungUp),
                PollEnd::Reset => self.reset(id.slot),
                PollEnd::Stopped => {}
            }
        }
        self.after_input(id);
    }

    /// The second of a peer that has hung up is over.
    pub(super) fn on_grace_over(&mut self, slot: Slot) {
        let conn = self.conns.at(slot);
        if matches!(conn.proto, Proto::HttpParked(_)) && conn.outbox.is_empty() {
            self.refuse_request(slot, 504, "no answer in time");
        } else {
            self.terminate(slot);
        }
    }

    /// The connection has failed. Its receive, its send and its poll may all tell; it counts once.
    pub(super) fn reset(&mut self, slot: Slot) {
        if matches!(self.conns.at(slot).state, State::Open | State::Draining) {
            self.metrics.resets_total.add(1);
            self.terminate(slot);
        }
    }

    /// Cuts a connection: whatever the kernel holds of it comes back.
    pub(super) fn terminate(&mut self, slot: Slot) {
        if !matches!(self.conns.at(slot).state, State::Open | State::Draining) {
            return;
        }
        self.leave_proto(slot);
        let id = self.conns.id(slot);
        let conn = self.conns.at_mut(slot);
        conn.state = State::Terminated;
        conn.tail.take();
        if conn.watched {
            self.ring.push(Op::PollStop { conn: id });
        }
        self.note_buffered(slot);
        self.cut(slot);
        self.join(slot);
    }

    /// Shuts a terminated connection down if the kernel holds anything of it. One shutdown at a
    /// time: if that of our direction is still in flight, its end comes back here.
    fn cut(&mut self, slot: Slot) {
        let id = self.conns.id(slot);
        let conn = self.conns.at_mut(slot);
        let held = conn.receiving || conn.outbox.is_sending();
        if held && !conn.cut && conn.pending_operations == 0 {
            conn.cut = true;
            conn.pending_operations += 1;
            self.ring.push(Op::Shutdown { conn: id });
        }
    }

    /// Goes on to the release when nothing is in the kernel any more.
    pub(super) fn join(&mut self, slot: Slot) {
        let id = self.conns.id(slot);
        let conn = self.conns.at_mut(slot);
        if conn.state != State::Terminated || !conn.is_joined() {
            return;
        }
        conn.state = State::Closing;
        conn.outbox.clear(&mut self.segments);
        self.ring.push(Op::Close { conn: id });
    }

    /// A shutdown is done.
    pub(super) fn on_shut_down(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.find(id) {
            conn.pending_operations -= 1;
            if conn.state == State::Terminated {
                self.cut(id.slot);
            }
            self.join(id.slot);
        }
    }

    /// The descriptor is released.
    pub(super) fn on_closed(&mut self, id: ConnId) {
        if self.conns.find(id).is_none() {
            return;
        }
        self.wheel.cancel(id.slot.0);
        self.buffered -= self.conns.at(id.slot).buffered_noted as usize;
        if matches!(self.conns.at(id.slot).proto, Proto::Raw(_)) {
            self.metrics.raw_sessions.set(self.metrics.raw_sessions.value() - 1);
        }
        self.uncount_connection(id.slot);
        self.conns.close(id.slot);
    }

    /// A client does not take what is due to it.
    pub(super) fn too_slow(&mut self, slot: Slot) {
        self.metrics.slow_consumers_total.add(1);
        self.note(Cause::SlowConsumer, slot);
        if self.conns.at(slot).has_session() {
            self.drain(slot, &[], SLOW_CONSUMER, "the client reads too slowly");
        } else {
            self.terminate(slot);
        }
    }

    /// Whether the send in flight has stood still for some time.
    pub(super) fn has_stood_still(&self, slot: Slot) -> bool {
        let conn = self.conns.at(slot);
        let age = self.ms().wrapping_sub(conn.send_since);
        conn.outbox.is_sending() && !conn.send_stopping && age >= PATIENCE.0
    }

    /// The segment pool has no room: whoever holds most and has stood still meets the policy. What
    /// is left of the frame in flight is copied when the cancelled send has come back.
    pub(super) fn make_room(&mut self) {
        self.metrics.segment_shortages_total.add(1);
        let Some(oldest) = self.segments.oldest() else { return };
        for slot in self.those_to_part_with(oldest) {
            match self.conns.at(slot).state {
                State::Open if self.may_shed(slot) => self.stop_send(slot),
                State::Open => {
                    self.too_slow(slot);
                    let id = self.conns.id(slot);
                    let conn = self.conns.at_mut(slot);
                    if conn.state == State::Draining && conn.outbox.is_sending() {
                        conn.send_stopping = true;
                        self.ring.push(Op::SendCancel { conn: id });
                    }
                }
                State::Draining => self.terminate(slot),
                State::Free | State::Terminated | State::Closing => {}
            }
        }
    }

    /// Those whose end gives the pool what it lacks, at least one segment. Those who hold most come
    /// first; but a segment is free only when the last of its holders has gone, so whoever's end
    /// would free none stays. Clients that may lose messages instead only leave the oldest one.
    fn those_to_part_with(&self, oldest: u32) -> Vec<Slot> {
        let mut holders: Vec<(u32, Slot)> = Vec::new();
        let mut freed = Freed::default();
        for slot in self.conns.slots() {
            let conn = self.conns.at(slot);
            if conn.send_stopping || matches!(conn.state, State::Terminated | State::Closing) {
                // It is in flight already.
                freed.add(conn.outbox.extents(), &self.segments);
            } else if self.has_stood_still(slot) {
                holders.push((conn.outbox.waiting(), slot));
            }
        }
        holders.sort_unstable_by_key(|&(waiting, _)| core::cmp::Reverse(waiting));
        let (mut chosen, mut useful) = (Vec::new(), 0);
        for (_, slot) in holders {
            if freed.count > 0 && self.segments.free_count() + freed.count >= self.segments.least()
            {
                break;
            }
            let before = freed.count;
            let outbox = &self.conns.at(slot).outbox;
            if self.may_shed(slot) {
                if !outbox.holds(oldest) {
                    continue;
                }
                let leaves = outbox.extents().iter().filter(|p| p.range.segment == oldest);
                freed.add(leaves, &self.segments);
            } else {
                freed.add(outbox.extents(), &self.segments);
            }
            chosen.push(slot);
            if freed.count > before {
                useful = chosen.len();
            }
        }
        chosen.truncate(useful);
        chosen
    }

    /// A cancelled send has come back: what is left moves out of the old segments.
    #[cold]
    pub(super) fn on_send_stopped(&mut self, slot: Slot, taken: u32) {
        if self.conns.at(slot).state == State::Open {
            self.go_on_or_close(slot, taken);
            let conn = self.conns.at(slot);
            if conn.pause == Pause::Outbox && conn.outbox.waiting() <= self.limits.send_bytes {
                self.answered.push_back(self.conns.id(slot));
            }
        }
        if self.conns.at(slot).state != State::Draining {
            self.mark_dirty(slot);
            return;
        }
        if let Some(oldest) = self.segments.oldest() {
            self.segments.write_elsewhere(oldest);
        }
        let mut rest = core::mem::take(&mut self.gathered);
        rest.clear();
        self.conns.at_mut(slot).outbox.take_bytes(&mut self.segments, &mut rest);
        if !rest.is_empty() {
            let is_large = rest.len() > self.segments.size() as usize / 2;
            if self.segments.is_scarce() || is_large && self.segments.is_short() {
                // To copy it would take as much as its end gives.
                self.gathered = rest;
                return self.terminate(slot);
            }
            match self.segments.append(Log::Private, &rest) {
                Ok(extents) => {
                    for extent in extents {
                        // It may begin in the middle of a frame.
                        let extent = Extent { continued: true, ..extent };
                        self.conns.at_mut(slot).outbox.push(extent, &mut self.segments);
                    }
                    self.mark_dirty(slot);
                }
                Err(_) => self.terminate(slot),
            }
        } else {
            self.mark_dirty(slot);
        }
        self.gathered = rest;
    }

    /// Ends every connection of the shard: shutdown.
    pub(super) fn drain_all(&mut self) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(self.now + self.limits.drain_time);
        // What was sequenced before is still for those who are here.
        self.fanout.end_batches(&mut self.index, None);
        self.fan_out();
        let slots: Vec<Slot> = self.conns.slots().collect();
        for slot in slots {
            let conn = self.conns.at(slot);
            match (&conn.proto, conn.outbox.is_empty()) {
                (Proto::Raw(_) | Proto::Stomp(_), _) => self.drain(slot, &[], 1001, ""),
                (Proto::HttpIdle | Proto::HttpHead, true) => self.terminate(slot),
                (Proto::HttpIdle | Proto::HttpHead, false) => self.drain_http(slot),
                (Proto::HttpBody(_) | Proto::HttpParked(_) | Proto::HttpDone, _) => {}
            }
        }
    }

    /// How messages of a connection that has a session travel.
    pub(super) fn encoding_of(&self, slot: Slot) -> Encoding {
        self.conns.at(slot).encoding().expect("only sessions have messages")
    }
}

/// The segments that would be free without some of their holders.
#[derive(Debug, Default)]
struct Freed {
    /// References that are given back, by segment.
    given: HashMap<u32, u32, foldhash::fast::FixedState>,
    count: usize,
}

impl Freed {
    /// The references of these extents are given back.
    fn add<'a>(&mut self, extents: impl IntoIterator<Item = &'a Extent>, segments: &Segments) {
        for extent in extents {
            let segment = extent.range.segment;
            let given = self.given.entry(segment).or_default();
            *given += 1;
            self.count += usize::from(*given == segments.refcount_of(segment));
        }
    }
}

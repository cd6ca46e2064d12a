#![forbid(unsafe_code)]
//! Outboxes: what is put into them, and the sends that empty them.

use super::conn::{Pause, State};
use super::shard::Shard;
use crate::ids::{ConnId, Slot};
use crate::mem::marks::Droppable;
use crate::mem::segment::{Extent, Log};
use crate::metrics::Refusal;
use crate::ring::{Op, Ring};
use crate::ws;

/// Up to here copying several runs into one beats a send for each.
const GATHER_MAX: u32 = 16 * 1024;

impl<R: Ring> Shard<R> {
    pub(super) fn on_sent(&mut self, id: ConnId, result: Result<u32, i32>) {
        let Some(conn) = self.conns.find(id) else { return };
        let taken = result.unwrap_or(0);
        let asked = conn.outbox.in_flight();
        let stopped = core::mem::take(&mut conn.send_stopping);
        conn.outbox.end_send(taken, &mut self.segments);
        self.metrics.sends_total.add(1);
        self.metrics.sent_bytes_total.add(u64::from(taken));
        if taken > 0 {
            conn.last_out = (self.now.millis()) as u32;
        }
        if stopped {
            self.on_send_stopped(id.slot, taken);
        } else if taken < asked {
            // WAITALL was not satisfied: the peer is gone.
            self.reset(id.slot);
        } else {
            if conn.pause == Pause::Outbox && conn.outbox.waiting() <= self.limits.send_bytes {
                self.answered.push_back(id);
            }
            if conn.state == State::Draining || !conn.outbox.is_empty() {
                self.mark_dirty(id.slot);
            }
        }
        if self.conns.pongs.any() {
            self.send_owed_pong(id.slot);
        }
        self.join(id.slot);
    }

    /// The newest ping of a connection is answered when nothing else is in flight.
    #[cold]
    fn send_owed_pong(&mut self, slot: Slot) {
        if !self.conns.at(slot).outbox.is_sending()
            && let Some(payload) = self.conns.pongs.take(slot)
        {
            self.send_frame(slot, ws::Opcode::Pong, &payload);
            self.note_buffered(slot);
        }
    }

    /// Puts a connection into the list of outboxes to look at.
    pub(super) fn mark_dirty(&mut self, slot: Slot) {
        let conn = self.conns.at_mut(slot);
        if !conn.dirty && matches!(conn.state, State::Open | State::Draining) {
            conn.dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// Begins sends, at most `send-chunk` of them, so that a large fan-out does not blind the loop.
    pub(super) fn flush(&mut self) {
        let mut sends = 0;
        let millis = self.now.millis();
        let now = millis as u32;
        while sends < self.limits.send_chunk {
            let Some(slot) = self.dirty.pop_front() else { break };
            let conn = self.conns.at_mut(slot);
            conn.dirty = false;
            if !matches!(conn.state, State::Open | State::Draining) {
                continue;
            }
            if conn.outbox.is_sending() {
                if conn.state == State::Open && conn.outbox.waiting() > self.limits.send_buffer {
                    self.over_bound(slot);
                }
                continue;
            }
            if conn.outbox.is_empty() {
                self.on_flushed(slot);
                continue;
            }
            self.gather(slot);
            let conn = self.conns.at_mut(slot);
            let range = conn.outbox.begin_send(self.limits.send_bytes);
            let range = range.expect("it is not empty");
            (conn.last_out, conn.send_since) = (now, now);
            let id = self.conns.id(slot);
            self.ring.push(Op::Send { conn: id, range });
            self.wheel.set(slot.0, millis + u64::from(self.limits.send_time.0));
            sends += 1;
        }
    }

    /// Copies several small runs into one, which is cheaper than a send for each.
    fn gather(&mut self, slot: Slot) {
        let outbox = &self.conns.at(slot).outbox;
        let most = GATHER_MAX.min(self.segments.size());
        let Some(mut small) = outbox.small_extents(most) else { return };
        if self.shared.sheds && small.1 > self.limits.send_bytes {
            // What goes out in one send: marks of frames are not copied.
            let Some(fewer) = outbox.small_extents(self.limits.send_bytes) else { return };
            small = fewer;
        }
        let (count, bytes) = small;
        if !self.segments.has_room(Log::Private, bytes as usize) {
            return;
        }
        let mut scratch = core::mem::take(&mut self.gathered);
        scratch.clear();
        for extent in &self.conns.at(slot).outbox.extents()[..count] {
            scratch.extend_from_slice(self.segments.bytes(extent.range));
        }
        if let Ok(extents) = self.segments.append(Log::Private, &scratch) {
            let outbox = &mut self.conns.at_mut(slot).outbox;
            outbox.replace_front(count, extents[0], &mut self.segments);
        }
        self.gathered = scratch;
    }

    /// The last of the pool is for those who take what they are sent.
    #[cold]
    fn must_not_have_the_last(&self, slot: Slot) -> bool {
        let is_open = self.conns.at(slot).state == State::Open;
        is_open && self.has_stood_still(slot) && !self.may_shed(slot)
    }

    /// Queues bytes for one connection alone. Whole frames only. May end the connection.
    pub(super) fn send_private(&mut self, slot: Slot, bytes: &[u8]) {
        self.send_droppable(slot, bytes, None);
    }

    /// The same for one frame that may be dropped where it cannot be sent soon enough.
    pub(super) fn send_droppable(
        &mut self,
        slot: Slot,
        bytes: &[u8],
        droppable: Option<Droppable>,
    ) {
        let conn = self.conns.at(slot);
        if !matches!(conn.state, State::Open | State::Draining) {
            return;
        }
        let has_units = conn.has_session();
        if self.segments.is_scarce() && self.must_not_have_the_last(slot) {
            self.needs_room = true;
            return self.too_slow(slot);
        }
        let Ok(extents) = self.segments.append(Log::Private, bytes) else {
            // Nobody else can be let go in the middle of this: room is made later in the turn.
            self.needs_room = true;
            self.refuse(slot, Refusal::LimitSegmentBytes);
            self.terminate(slot);
            return;
        };
        if let Some(droppable) = droppable {
            self.segments.mark(extents[0].range, droppable);
        }
        for extent in extents {
            // An HTTP answer has no frame boundaries: it never merges with what follows.
            let continued = extent.continued || !has_units;
            let extent = Extent { continued, ..extent };
            self.conns.at_mut(slot).outbox.push(extent, &mut self.segments);
        }
        self.mark_dirty(slot);
    }
}

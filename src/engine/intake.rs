#![forbid(unsafe_code)]
//! From received bytes to the protocol that a connection speaks.
//!
//! Bytes are read where they lie, in the receive buffer; only an incomplete rest is kept with the
//! connection. A paused connection keeps everything, and its receive is stopped so that it does
//! not drain the shared buffers. Bound: `held-bytes` for all that connections keep.

use super::close::NO_CODE;
use super::conn::{Conn, Pause, Peer, Proto, State};
use super::shard::Shard;
use crate::ids::{ConnId, Slot};
use crate::metrics::Refusal;
use crate::ring::{Op, Ring};
use crate::ws;

/// What a protocol did with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It used so many bytes and wants to go on with the rest.
    Used(usize),
    /// It used so many and needs more, or waits, or is over.
    Stop(usize),
}

/// Inflating so many bytes counts as a frame.
const DEFLATED_FRAME: usize = 256;
/// When a turn has no time left a connection still has this part of one.
const GOES: u32 = 32;

impl<R: Ring> Shard<R> {
    /// Bytes have come in.
    pub(super) fn take_bytes(&mut self, slot: Slot, bytes: &mut [u8]) {
        let now = self.ms();
        let id = self.conns.id(slot);
        let share = self.begin_go(self.turn_left);
        let conn = self.conns.at_mut(slot);
        conn.pinged = false;
        if !matches!(conn.proto, Proto::HttpHead | Proto::HttpBody(_) | Proto::HttpParked(_)) {
            conn.last_in = now;
        }
        match conn.state {
            State::Open if conn.pause != Pause::No => {
                conn.tail.extend(bytes);
                stop_receiving(conn, id, &mut self.ring);
            }
            State::Open if conn.tail.is_empty() => {
                let used = self.process(slot, bytes);
                let conn = self.conns.at_mut(slot);
                if conn.state == State::Open {
                    conn.tail.extend(&bytes[used..]);
                }
            }
            State::Open => {
                conn.tail.extend(bytes);
                self.process_tail(slot);
            }
            // Nothing that comes now is answered; the end of it is what is waited for.
            State::Free | State::Draining | State::Terminated | State::Closing => {}
        }
        self.end_go(share);
        self.note_buffered(slot);
        if self.buffered > self.limits.held_bytes as usize {
            self.refuse_buffered();
        }
    }

    /// A connection may do this much now, and a few frames in any case. Says how much.
    fn begin_go(&mut self, share: u32) -> u32 {
        self.frames_left = share.max((self.limits.turn_frames / GOES).max(1));
        self.frames_left
    }

    /// It has done what it did of its share.
    fn end_go(&mut self, share: u32) {
        self.turn_left = self.turn_left.saturating_sub(share - self.frames_left);
    }

    /// Goes on with what is kept.
    pub(super) fn process_tail(&mut self, slot: Slot) {
        let Some(mut tail) = self.conns.at_mut(slot).tail.take() else { return };
        let used = self.process(slot, &mut tail);
        let conn = self.conns.at_mut(slot);
        if conn.state == State::Open {
            conn.tail.put_back(tail, used);
        }
    }

    /// Runs the protocol until it stops. Says how many bytes it used.
    fn process(&mut self, slot: Slot, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        loop {
            let conn = self.conns.at(slot);
            if used == bytes.len() || conn.state != State::Open || conn.pause != Pause::No {
                return used;
            }
            let has_session = conn.has_session();
            if self.pause_for_outbox(slot) || has_session && self.had_its_turn(slot) {
                return used;
            }
            let rest = &mut bytes[used..];
            let step = match self.conns.at(slot).proto {
                Proto::HttpIdle | Proto::HttpHead => self.http_head(slot, rest),
                Proto::HttpBody(_) => self.http_body(slot, rest),
                Proto::HttpParked(_) => Step::Stop(0),
                Proto::HttpDone => Step::Stop(rest.len()),
                Proto::Raw(_) | Proto::Stomp(_) => self.websocket(slot, rest),
            };
            match step {
                Step::Used(n) => used += n,
                Step::Stop(n) => return used + n,
            }
        }
    }

    /// One WebSocket event.
    fn websocket(&mut self, slot: Slot, bytes: &mut [u8]) -> Step {
        if self.raw_needs_room(slot) && !self.has_room_for_frame() {
            self.pause_for_room(slot);
            return Step::Stop(0);
        }
        let message_max = self.message_max(slot);
        let conn = self.conns.at_mut(slot);
        let decoder = match &mut conn.proto {
            Proto::Raw(raw) => &mut raw.decoder,
            Proto::Stomp(stomp) => &mut stomp.decoder,
            _ => unreachable!("only WebSockets come here"),
        };
        let (used, event) = match decoder.next(bytes, message_max) {
            Ok(next) => next,
            Err(error) => {
                self.refuse(slot, error);
                self.drain(slot, &[], error.close_code(), error.reason());
                return Step::Stop(0);
            }
        };
        match event {
            None if used == 0 => return Step::Stop(0),
            None => {}
            Some(_) => self.frames_left = self.frames_left.saturating_sub(1),
        }
        match event {
            None => {}
            // RFC 6455 §5.5.3: of several pings the newest may be answered alone.
            Some(ws::Event::Ping(payload)) if self.conns.at(slot).outbox.is_sending() => {
                self.conns.pongs.owe(slot, payload);
            }
            Some(ws::Event::Ping(payload)) => self.send_frame(slot, ws::Opcode::Pong, payload),
            Some(ws::Event::Pong(_)) => {}
            Some(ws::Event::Close { code, reason: _ }) => {
                // RFC 6455 §5.5.1: the answer echoes the code; a Close without one gets one
                // without.
                self.on_close_frame(slot, code);
                return Step::Stop(used);
            }
            Some(ws::Event::Data { opcode, payload, first: _, last, compressed }) => {
                // A data event ends with its payload.
                let payload = payload.len();
                let payload = &mut bytes[used - payload..used];
                if compressed {
                    self.compressed_chunk(slot, opcode, payload, last);
                } else {
                    self.chunk(slot, opcode, payload, last);
                }
            }
        }
        Step::Used(used)
    }

    /// A chunk of a message, plain.
    fn chunk(&mut self, slot: Slot, opcode: ws::Opcode, payload: &mut [u8], last: bool) {
        match &self.conns.at(slot).proto {
            Proto::Raw(_) => self.raw_chunk(slot, opcode, payload, last),
            _ => self.stomp_chunk(slot, opcode, payload, last),
        }
    }

    /// A chunk of a compressed message: kept as it is until the message is whole, so that a session
    /// needs no inflater of its own, and no window but for context takeover.
    fn compressed_chunk(&mut self, slot: Slot, opcode: ws::Opcode, payload: &[u8], last: bool) {
        let message_max = self.message_max(slot);
        let kept = match &mut self.conns.at_mut(slot).proto {
            Proto::Raw(raw) => &mut raw.message,
            Proto::Stomp(stomp) => &mut stomp.message,
            _ => return,
        };
        if !last {
            return kept.extend(payload);
        }
        let kept = kept.take();
        let mut plain = core::mem::take(&mut self.inflated);
        plain.clear();
        let kept = kept.as_ref().map_or(&[][..], |kept| &kept[..]);
        let mut history = self.conns.histories.of(slot);
        match &history {
            Some(history) => self.inflater.begin_after(opcode, message_max, history),
            None => self.inflater.begin(opcode, message_max),
        }
        let inflated = self.inflater.feed(kept, &mut plain);
        let inflated = inflated.and_then(|()| self.inflater.feed(payload, &mut plain));
        // A few bytes may have become many frames, or much work.
        let work = (plain.len() / DEFLATED_FRAME) as u32;
        self.frames_left = self.frames_left.saturating_sub(work);
        match inflated.and_then(|()| self.inflater.finish(&mut plain)) {
            Ok(()) => {
                // Before it is read, since it is read in place.
                if let Some(history) = &mut history {
                    history.push(&plain);
                }
                self.chunk(slot, opcode, &mut plain, true);
            }
            Err(error) => {
                self.refuse(slot, error);
                self.drain(slot, &[], error.close_code(), error.reason());
            }
        }
        self.inflated = plain;
    }

    /// Bytes of the longest message. A message of STOMP always has room for a frame that is
    /// somewhat too long, so that its sender hears of it by an ERROR; SockJS's quoting makes one
    /// longer still.
    fn message_max(&self, slot: Slot) -> u32 {
        let frame = self.limits.stomp_frame;
        match &self.conns.at(slot).proto {
            Proto::Stomp(stomp) => {
                let longer = if stomp.encoding.is_quoted() { 6 } else { 2 };
                self.limits.message.max(frame.saturating_mul(longer))
            }
            _ => self.limits.message,
        }
    }

    /// The peer's Close frame: its code goes back, then TCP ends.
    fn on_close_frame(&mut self, slot: Slot, code: Option<u16>) {
        match code {
            Some(code) => self.drain(slot, &[], code, ""),
            None => self.drain(slot, &[], NO_CODE, ""),
        }
    }

    /// The rest of a message that a connection waited for may go on: resumes it.
    pub(super) fn resume(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        if conn.state != State::Open || conn.pause == Pause::No {
            return;
        }
        conn.pause = Pause::No;
        // Others that wait have as much.
        let share = self.begin_go(self.turn_left / (self.waiting.len() as u32 + 1));
        self.continue_parked(id.slot);
        self.continue_session(id.slot);
        self.continue_raw(id.slot);
        let conn = self.conns.at(id.slot);
        if conn.state == State::Open && conn.pause == Pause::No {
            self.process_tail(id.slot);
        }
        self.end_go(share);
        let conn = self.conns.at(id.slot);
        if conn.state == State::Open && conn.pause == Pause::No && conn.peer == Peer::Ended {
            // What came before its end is read now.
            self.on_peer_ended(id.slot);
        }
        self.note_buffered(id.slot);
        self.receive_more(id);
        self.heard_again(id.slot);
        self.join(id.slot);
    }

    /// While a WebSocket was paused its client was not listened to: its time begins anew.
    fn heard_again(&mut self, slot: Slot) {
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        if conn.state == State::Open && conn.pause == Pause::No && conn.has_session() {
            conn.last_in = now;
            conn.pinged = false;
            self.set_timer(slot);
        }
    }

    /// Pauses a connection whose client does not take what it has been answered: true if so.
    /// Else a few clients that ask and do not read would fill the pool that all are answered from.
    /// Where that pool is low one answer is enough to wait for; and where it has no room for one
    /// more, whoever asks waits until those who take nothing have given some back (`make_room`).
    pub(super) fn pause_for_outbox(&mut self, slot: Slot) -> bool {
        let conn = self.conns.at_mut(slot);
        let waiting = conn.outbox.waiting();
        if waiting > self.limits.send_bytes || waiting > 0 && self.segments.is_low() {
            conn.pause = Pause::Outbox;
            return true;
        }
        if !self.segments.may_answer() {
            self.needs_room = true;
            self.pause_for_room(slot);
            return true;
        }
        false
    }

    /// Pauses a connection that has had its turn, until the others have had theirs: true if
    /// so. A message of 250 bytes may be compressed from ten thousand frames.
    pub(super) fn had_its_turn(&mut self, slot: Slot) -> bool {
        let is_over = self.frames_left == 0;
        if is_over {
            self.pause_for_room(slot);
        }
        is_over
    }

    /// Pauses a connection until there is room; every turn looks at it.
    pub(super) fn pause_for_room(&mut self, slot: Slot) {
        let id = self.conns.id(slot);
        self.metrics.producers_paused_total.add(1);
        self.conns.at_mut(slot).pause = Pause::Room;
        self.waiting.push_back(id);
    }

    /// Pauses a connection until an answer resumes it. A session's time for that begins anew
    /// with each answer that resumes it; that of a request has begun when it was parked.
    pub(super) fn pause_for_answer(&mut self, slot: Slot) {
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        if core::mem::replace(&mut conn.pause, Pause::Answer) != Pause::Answer && conn.has_session()
        {
            conn.begin_phase(now);
            self.set_timer(slot);
        }
    }

    /// Connections that waited for room try again, each once, as many as this turn has time for.
    /// Half of it is theirs: whoever comes anew has had the other.
    pub(super) fn run_waiting(&mut self) {
        self.needs_room |= !self.waiting.is_empty() && !self.segments.may_answer();
        self.turn_left += self.limits.turn_frames.div_ceil(2);
        for _ in 0..self.waiting.len() {
            if self.turn_left == 0 {
                return;
            }
            let Some(id) = self.waiting.pop_front() else { return };
            let has_room = self.segments.may_answer() && self.has_room_for_frame();
            if has_room || self.holds_message(id) {
                self.resume(id);
            } else {
                self.waiting.push_back(id);
            }
        }
    }

    /// Counts what a connection keeps now instead of what it kept when last counted.
    pub(super) fn note_buffered(&mut self, slot: Slot) {
        let conn = self.conns.at(slot);
        let partial = match &conn.proto {
            Proto::Stomp(stomp) => {
                let session = stomp.session.get().map(|session| self.sessions.at(session));
                session.map_or(0, |session| session.partial.len())
            }
            _ => 0,
        };
        let held = conn.buffered() + partial + self.conns.pongs.bytes_of(slot);
        self.buffered = self.buffered + held - conn.buffered_noted as usize;
        self.conns.at_mut(slot).buffered_noted = held as u32;
    }

    /// The shard keeps as much unfinished input as it may: whoever keeps most of it is let go, not
    /// whoever comes next.
    fn refuse_buffered(&mut self) {
        let open = |slot: &Slot| self.conns.at(*slot).state == State::Open;
        let held = |slot: &Slot| self.conns.at(*slot).buffered_noted;
        let Some(slot) = self.conns.slots().filter(open).max_by_key(held) else { return };
        self.refuse(slot, Refusal::LimitBufferedBytes);
        if self.conns.at(slot).has_session() {
            self.drain(slot, &[], 1013, "try again later");
        } else if self.conns.at(slot).state == State::Open {
            self.refuse_capacity(slot);
        }
        self.note_buffered(slot);
    }
}

fn stop_receiving<R: Ring>(conn: &mut Conn, id: ConnId, ring: &mut R) {
    if conn.receiving && !conn.receive_stopping {
        conn.receive_stopping = true;
        ring.push(Op::RecvStop { conn: id });
    }
}

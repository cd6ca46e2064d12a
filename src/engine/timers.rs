#![forbid(unsafe_code)]
//! Deadlines: what happens to a connection when nothing happens on it.
//!
//! One entry of the wheel a connection. When it is due the connection's next deadline is worked out
//! afresh from its state; often that is later than it was, and the entry is only set again.

use super::close::SLOW_CONSUMER;
use super::conn::{Pause, Peer, Proto, State};
use super::encode;
use super::refuse::Problem;
use super::session::Phase;
use super::shard::Shard;
use crate::ids::{EndpointIndex, SessionIndex, Slot};
use crate::limits::HANGUP_GRACE;
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::ws::Opcode;
use smallvec::SmallVec;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Draining took too long.
    Linger,
    /// The kernel has not taken bytes for too long.
    Slow,
    /// A kept-alive connection without a request.
    Idle,
    /// A request head or body that does not end.
    Request,
    /// A parked request or a session without its answer.
    Answer,
    /// It is paused, and its peer has hung up.
    HungUp,
    /// No CONNECT.
    FirstMessage,
    /// Time to send a heart-beat.
    Beat,
    /// Nothing came for an interval: ask with a ping.
    Ping,
    /// Nothing came for two.
    Missed,
    /// Time for SockJS's own heart-beat.
    SockJs,
}

/// A heart-beat goes out this much before it is due, for a tick of the wheel and one of delay.
const SLACK: u32 = 256;
/// What a client's heart-beat may be late beyond two intervals.
const GRACE: u32 = 1000;

impl<R: Ring> Shard<R> {
    /// Handles everything that is due.
    pub(super) fn run_timers(&mut self) {
        self.wheel.advance(self.now.millis());
        while let Some(number) = self.wheel.pop() {
            let slot = Slot(number);
            while let Some((0, due)) = self.next_due(slot) {
                if !self.on_due(slot, due) {
                    break;
                }
            }
            self.set_timer(slot);
        }
    }

    /// Sees to it that a connection is looked at when its next deadline comes.
    pub(super) fn set_timer(&mut self, slot: Slot) {
        if let Some((left, _)) = self.next_due(slot) {
            self.wheel.set(slot.0, self.now.millis() + u64::from(left));
        }
    }

    /// The next deadline of a connection: milliseconds from now, and what it is.
    fn next_due(&self, slot: Slot) -> Option<(u32, Due)> {
        let now = self.ms();
        let left = |since: u32, span: u32| span.saturating_sub(now.wrapping_sub(since));
        let conn = self.conns.at(slot);
        let limits = &self.limits;
        match conn.state {
            State::Free | State::Terminated | State::Closing => return None,
            State::Draining => return Some((left(conn.since, limits.linger.0), Due::Linger)),
            State::Open => {}
        }
        let slow = conn.outbox.is_sending() && !conn.send_stopping;
        let slow = slow.then(|| (left(conn.send_since, limits.send_time.0), Due::Slow));
        let own = match &conn.proto {
            Proto::HttpIdle => Some((left(conn.last_in, limits.idle_time.0), Due::Idle)),
            Proto::HttpHead => Some((left(conn.since, limits.head_time.0), Due::Request)),
            Proto::HttpBody(_) => Some((left(conn.since, limits.body_time.0), Due::Request)),
            Proto::HttpParked(_) => Some((left(conn.since, limits.answer_time.0), Due::Answer)),
            Proto::HttpDone => Some((left(conn.since, limits.linger.0), Due::Linger)),
            Proto::Raw(raw) if raw.encoding.has_sockjs_frames() => {
                self.sockjs_beat(raw.endpoint, slot)
            }
            Proto::Raw(_) => None,
            Proto::Stomp(stomp) => {
                stomp.session.get().and_then(|session| self.session_due(slot, session))
            }
        };
        let hung_up = conn.peer != Peer::Here && conn.pause != Pause::No;
        let hung_up = hung_up.then(|| (left(conn.since, HANGUP_GRACE.0), Due::HungUp));
        earlier(earlier(slow, own), hung_up)
    }

    fn sockjs_beat(&self, endpoint: EndpointIndex, slot: Slot) -> Option<(u32, Due)> {
        let sockjs = self.shared.endpoints.get(endpoint.index())?.config.sockjs.as_ref()?;
        let silent = self.ms().wrapping_sub(self.conns.at(slot).last_out);
        Some((sockjs.heartbeat.0.saturating_sub(silent), Due::SockJs))
    }

    fn session_due(&self, slot: Slot, session: SessionIndex) -> Option<(u32, Due)> {
        let now = self.ms();
        let left = |since: u32, span: u32| span.saturating_sub(now.wrapping_sub(since));
        let conn = self.conns.at(slot);
        let state = self.sessions.at(session);
        if state.phase == Phase::Connecting {
            return Some((left(conn.since, self.limits.first_message.0), Due::FirstMessage));
        }
        let (send, receive) = (state.beat.send, state.beat.receive);
        let beat = (send > 0).then(|| {
            let span = send.saturating_sub(SLACK).max(send / 2).max(1);
            (left(conn.last_out, span), Due::Beat)
        });
        // While it is paused nothing of it is read: what it sends cannot be told from silence, and
        // the age of what it is sent is bounded anyway.
        let life = (receive > 0 && conn.pause == Pause::No).then(|| {
            if conn.pinged {
                (left(conn.last_in, receive.saturating_mul(2).saturating_add(GRACE)), Due::Missed)
            } else {
                (left(conn.last_in, receive.saturating_add(SLACK)), Due::Ping)
            }
        });
        // Each answer that comes ends the pause; this is the time without one.
        let answer = (conn.pause == Pause::Answer)
            .then(|| (left(conn.since, self.limits.answer_time.0), Due::Answer));
        // A session whose server sends STOMP heart-beats needs none of SockJS (Spring does the
        // same).
        let sockjs = match &conn.proto {
            Proto::Stomp(stomp) if stomp.encoding.has_sockjs_frames() && send == 0 => {
                self.sockjs_beat(state.endpoint, slot)
            }
            _ => None,
        };
        earlier(earlier(earlier(beat, life), answer), sockjs)
    }

    /// True if the connection may have more that is due.
    fn on_due(&mut self, slot: Slot, due: Due) -> bool {
        match due {
            Due::Linger | Due::Idle => {
                self.metrics.timeouts_total.add(1);
                self.terminate(slot);
            }
            Due::Slow => self.stands_still(slot),
            Due::Request => {
                self.metrics.timeouts_total.add(1);
                let refusal = match self.conns.at(slot).proto {
                    Proto::HttpHead => Refusal::LimitHeadTime,
                    _ => Refusal::LimitBodyTime,
                };
                self.refuse(slot, refusal);
                self.refuse_request(slot, 408, "the request took too long");
            }
            Due::Answer => self.on_unanswered(slot),
            Due::HungUp => {
                self.metrics.timeouts_total.add(1);
                self.on_grace_over(slot);
            }
            Due::FirstMessage => {
                self.metrics.timeouts_total.add(1);
                self.refuse(slot, Refusal::LimitFirstMessage);
                self.drain(slot, &[], SLOW_CONSUMER, "no CONNECT in time");
            }
            Due::Beat => {
                // A send in flight is a sign of life, too, or the client is too slow for one.
                if !self.conns.at(slot).outbox.is_sending() {
                    let frame = encode::heart_beat(self.encoding_of(slot));
                    self.send_private(slot, frame);
                }
                let now = self.ms();
                self.conns.at_mut(slot).last_out = now;
            }
            Due::SockJs => {
                self.send_frame(slot, Opcode::Text, crate::sockjs::HEARTBEAT.as_bytes());
                let now = self.ms();
                self.conns.at_mut(slot).last_out = now;
            }
            Due::Ping => {
                self.conns.at_mut(slot).pinged = true;
                self.send_frame(slot, Opcode::Ping, b"");
            }
            Due::Missed => self.on_missed(slot),
        }
        true
    }

    fn on_unanswered(&mut self, slot: Slot) {
        self.metrics.timeouts_total.add(1);
        let Proto::Stomp(stomp) = &self.conns.at(slot).proto else {
            self.refuse(slot, Refusal::LimitAnswerTime);
            return self.refuse_request(slot, 504, "no answer in time");
        };
        let session = stomp.session;
        let problem = Problem {
            message: "no answer in time",
            body: "The server could not tell in time what became of a frame (limit answer-time).",
            code: 1011,
            refusal: Refusal::LimitAnswerTime,
        };
        // The frame that has no answer is the first one whose receipt is still owed.
        let receipt = self.sessions.first_receipt(session).map(SmallVec::<[u8; 24]>::from_slice);
        let body = self.with_facts(session, problem.body, None);
        let problem = Problem { body: &body, ..problem };
        self.refuse_frame(slot, session, problem, receipt.as_deref());
    }

    fn on_missed(&mut self, slot: Slot) {
        self.metrics.heartbeat_missed_total.add(1);
        let Proto::Stomp(stomp) = &self.conns.at(slot).proto else { return };
        let session = stomp.session;
        let problem = Problem {
            message: "heart-beat missed",
            body: "Nothing came from the client for two of its heart-beat intervals.",
            code: 1002,
            refusal: Refusal::StompHeartBeatMissed,
        };
        let body = self.with_facts(session, problem.body, None);
        let problem = Problem { body: &body, ..problem };
        self.refuse_frame(slot, session, problem, None);
    }

    /// A WebSocket frame as it is.
    pub(super) fn send_frame(&mut self, slot: Slot, opcode: Opcode, payload: &[u8]) {
        let mut encoder = core::mem::take(&mut self.encoder);
        encoder.clear();
        encoder.ws(opcode, payload);
        self.send_private(slot, encoder.bytes());
        self.encoder = encoder;
    }
}

/// The earlier of two deadlines; of two at one time the first.
fn earlier(one: Option<(u32, Due)>, other: Option<(u32, Due)>) -> Option<(u32, Due)> {
    match (one, other) {
        (Some((left, _)), Some((other_left, _))) if other_left < left => other,
        (None, other) => other,
        (one, _) => one,
    }
}

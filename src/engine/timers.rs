#![forbid(unsafe_code)]
//! Deadlines: what happens to a connection when nothing happens on it.
//!
//! One entry of the wheel a connection. When it is due the connection's next deadline is worked out
//! afresh from its state; often that is later than it was, and the entry is only set again.

use super::delivery::{Pause, SLOW_CONSUMER, heart_beat, unsent};
use super::dispatch::Dispatch;
use super::net::{Peer, Sending, State, View};
use super::session::Phase;
use super::web::Stage;
use crate::ids::{EndpointIndex, LinkIndex, Slot};
use crate::limits::HANGUP_GRACE;
use crate::metrics::Refusal;
use crate::sockjs;
use crate::ws::Opcode;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Its receive does not end, so it is not moved.
    Move,
    /// Draining took too long.
    Linger,
    /// The kernel has not taken bytes for too long.
    Slow,
    /// A kept-alive connection without a request.
    Idle,
    /// A request head or body that does not end, or the handshake of what seals a connection.
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

/// The earliest of some deadlines: milliseconds from now, and what it is.
#[derive(Default)]
struct Earliest(Option<(u32, Due)>);

impl Earliest {
    /// One more of them; of two at one time the first counts.
    fn add(&mut self, left: u32, due: Due) {
        if self.0.is_none_or(|(least, _)| left < least) {
            self.0 = Some((left, due));
        }
    }
}

/// A heart-beat goes out this much before it is due, for a tick of the wheel and one of delay.
const SLACK: u32 = 256;
/// What a client's heart-beat may be late beyond two intervals.
const GRACE: u32 = 1000;

impl Dispatch {
    /// Handles everything that is due.
    pub(super) fn run_timers(&mut self) {
        self.net.advance(self.ctx.now);
        while let Some(slot) = self.net.next_timer() {
            // Each moves its own deadline, or ends the link.
            let mut next = next_due(self, slot);
            while let Some((0, due)) = next {
                self.on_due(slot, due);
                next = next_due(self, slot);
            }
            if let Some((left, _)) = next {
                self.net.set_timer(slot, self.ctx.now, left);
            }
        }
    }

    /// Sees to it that a connection is looked at when its next deadline comes.
    pub(super) fn set_timer(&mut self, slot: Slot) {
        if let Some((left, _)) = next_due(self, slot) {
            self.net.set_timer(slot, self.ctx.now, left);
        }
    }

    /// Does what is due.
    fn on_due(&mut self, slot: Slot, due: Due) {
        let ms = self.ctx.ms;
        let Dispatch { ctx, net, delivery, stomp, web, .. } = self;
        let (links, link) = (&mut delivery.links, LinkIndex::from(slot));
        let is_timeout = matches!(
            due,
            Due::Linger | Due::Idle | Due::Request | Due::Answer | Due::HungUp | Due::FirstMessage
        );
        ctx.metrics.timeouts_total.add(u64::from(is_timeout));
        match due {
            Due::Move => self.stay(slot),
            Due::Slow => links.stands_still(net, ctx, link),
            Due::Beat => {
                // A send in flight is a sign of life, too, or the client is too slow for one.
                if !net.sending(slot).is_on() {
                    links.send(View { ctx, net }, link, |encoder, encoding| {
                        encoder.raw(heart_beat(encoding));
                    });
                }
                net.times_mut(slot).last_out = ms;
            }
            Due::SockJs => {
                let frame = sockjs::HEARTBEAT.as_bytes();
                links.send_frame(View { ctx, net }, link, Opcode::Text, frame);
                net.times_mut(slot).last_out = ms;
            }
            Due::Ping => {
                net.set_pinged(slot);
                links.send_frame(View { ctx, net }, link, Opcode::Ping, b"");
            }
            // Who is sealed is told that this is the end.
            Due::Idle if net.transports().may_seal(slot) => links.drain_http(link),
            Due::Linger | Due::Idle => links.cut(link),
            Due::Request => {
                let view = View { ctx, net };
                let refusal = match web.stage(slot) {
                    Stage::Idle | Stage::Head => Refusal::LimitHeadTime,
                    _ => Refusal::LimitBodyTime,
                };
                view.refuse(slot, refusal);
                web.refuse(links, view, slot, 408, "the request took too long");
            }
            Due::Answer if links.has_session(link) => {
                stomp.replies().on_unanswered(links, View { ctx, net }, link);
            }
            Due::Answer => {
                let view = View { ctx, net };
                view.refuse(slot, Refusal::LimitAnswerTime);
                web.refuse(links, view, slot, 504, "no answer in time");
            }
            Due::HungUp if web.stage(slot) == Stage::Parked && unsent(links, net, link) == 0 => {
                web.refuse(links, View { ctx, net }, slot, 504, "no answer in time");
            }
            Due::HungUp => links.cut(link),
            Due::FirstMessage => {
                let view = View { ctx, net };
                view.refuse(slot, Refusal::LimitFirstMessage);
                links.drain(view, link, SLOW_CONSUMER, "no CONNECT in time");
            }
            Due::Missed => stomp.replies().on_missed(links, View { ctx, net }, link),
        }
        self.hear();
    }
}

/// The next deadline of a connection: milliseconds from now, and what it is.
fn next_due(parts: &Dispatch, slot: Slot) -> Option<(u32, Due)> {
    let (net, limits) = (&parts.net, &parts.ctx.limits);
    let left = |since: u32, span: u32| left(parts, since, span);
    match net.state(slot) {
        State::Free | State::Terminated | State::Closing | State::Releasing => return None,
        State::Moving => return Some((parts.moves.left(slot, parts.ctx.ms), Due::Move)),
        State::Draining => {
            return Some((left(net.times(slot).since, limits.linger.0), Due::Linger));
        }
        State::Open => {}
    }
    let mut next = Earliest::default();
    if net.sending(slot) == Sending::Yes {
        let age = net.send_age(slot, parts.ctx.ms);
        next.add(limits.send_time.0.saturating_sub(age), Due::Slow);
    }
    let times = net.times(slot);
    if parts.sockets.is_raw(slot) {
        sockjs_beat(parts, slot, &mut next);
    } else if parts.sockets.is_upgraded(slot) {
        session_due(parts, slot, &mut next);
    } else {
        match parts.web.stage(slot) {
            Stage::Idle if net.transports().is_greeting(slot) => {
                next.add(left(times.since, limits.head_time.0), Due::Request);
            }
            Stage::Idle => next.add(left(times.last_in, limits.idle_time.0), Due::Idle),
            Stage::Head => next.add(left(times.since, limits.head_time.0), Due::Request),
            Stage::Body => next.add(left(times.since, limits.body_time.0), Due::Request),
            Stage::Parked => next.add(left(times.since, limits.answer_time.0), Due::Answer),
        }
    }
    if net.peer(slot) != Peer::Here && parts.delivery.links.at(slot.into()).is_paused() {
        next.add(left(times.since, HANGUP_GRACE.0), Due::HungUp);
    }
    next.0
}

/// Milliseconds that are left of a span.
fn left(parts: &Dispatch, since: u32, span: u32) -> u32 {
    span.saturating_sub(parts.ctx.ms.wrapping_sub(since))
}

/// When SockJS's heart-beat is due, at an endpoint that has one, to a client that expects one.
fn sockjs_beat(parts: &Dispatch, slot: Slot, next: &mut Earliest) {
    if !parts.delivery.links.encoding(slot.into()).has_sockjs_frames() {
        return;
    }
    let endpoint = parts.net.endpoint(slot).map(EndpointIndex::index);
    let endpoint = endpoint.and_then(|at| parts.ctx.shared.endpoints.get(at));
    if let Some(sockjs) = endpoint.and_then(|endpoint| endpoint.config.sockjs.as_ref()) {
        let last_out = parts.net.times(slot).last_out;
        next.add(left(parts, last_out, sockjs.heartbeat.0), Due::SockJs);
    }
}

fn session_due(parts: &Dispatch, slot: Slot, next: &mut Earliest) {
    let left = |since: u32, span: u32| left(parts, since, span);
    let (times, pause) = (parts.net.times(slot), parts.delivery.links.pause(slot.into()));
    let Some((phase, agreed)) = parts.stomp.phase_and_beat(slot.into()) else { return };
    if phase == Phase::Connecting {
        let span = parts.ctx.limits.first_message.0;
        return next.add(left(times.since, span), Due::FirstMessage);
    }
    let (send, receive) = (agreed.send, agreed.receive);
    if send > 0 {
        let span = send.saturating_sub(SLACK).max(send / 2).max(1);
        next.add(left(times.last_out, span), Due::Beat);
    }
    // While it is paused nothing of it is read: what it sends cannot be told from silence, and
    // the age of what it is sent is bounded anyway.
    if receive > 0 && pause == Pause::No {
        if parts.net.is_pinged(slot) {
            let span = receive.saturating_mul(2).saturating_add(GRACE);
            next.add(left(times.last_in, span), Due::Missed);
        } else {
            next.add(left(times.last_in, receive.saturating_add(SLACK)), Due::Ping);
        }
    }
    // Each answer that comes ends the pause; this is the time without one.
    if pause == Pause::Answer {
        next.add(left(times.since, parts.ctx.limits.answer_time.0), Due::Answer);
    }
    // A session whose server sends STOMP heart-beats needs none of SockJS (Spring does the
    // same).
    if send == 0 {
        sockjs_beat(parts, slot, next);
    }
}

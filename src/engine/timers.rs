#![forbid(unsafe_code)]
//! Deadlines: what happens to a link, and to its connection, when nothing happens on it.
//!
//! One entry of the wheel a link. When it is due the link's next deadline is worked out afresh from
//! its state; often that is later than it was, and the entry is only set again.

use super::delivery::{PING, Pause, SLOW_CONSUMER, heart_beat, unsent};
use super::dispatch::Dispatch;
use super::net::{Peer, Sending, State, Times, View};
use super::session::Phase;
use super::web::Stage;
use crate::ids::{EndpointIndex, LinkIndex, Slot};
use crate::limits::HANGUP_GRACE;
use crate::metrics::Refusal;

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
    /// Handles everything that is due. True if something was.
    pub(super) fn run_timers(&mut self) -> bool {
        if !self.net.advance(self.ctx.now) {
            return false;
        }
        let mut found = false;
        while let Some(link) = self.net.next_timer() {
            found = true;
            // Each moves its own deadline, or ends the link.
            let mut next = next_due(self, link);
            while let Some((0, due)) = next {
                self.on_due(link, due);
                next = next_due(self, link);
            }
            if let Some((left, _)) = next {
                self.net.set_timer(link, self.ctx.now, left);
            }
        }
        found
    }

    /// Sees to it that a link is looked at when its next deadline comes.
    pub(super) fn set_timer(&mut self, link: impl Into<LinkIndex>) {
        let link = link.into();
        if let Some((left, _)) = next_due(self, link) {
            self.net.set_timer(link, self.ctx.now, left);
        }
    }

    /// Does what is due.
    fn on_due(&mut self, link: LinkIndex, due: Due) {
        let ms = self.ctx.ms;
        let Dispatch { ctx, net, delivery, stomp, .. } = self;
        let links = &mut delivery.links;
        let is_timeout = matches!(
            due,
            Due::Linger | Due::Idle | Due::Request | Due::Answer | Due::HungUp | Due::FirstMessage
        );
        ctx.metrics.timeouts_total.add(u64::from(is_timeout));
        match due {
            Due::Beat => {
                // A send in flight is a sign of life, too, or the client is too slow for one; and
                // who is away needs none.
                let to = links.slot(link).or_else(|| links.receiver(link));
                if to.is_some_and(|slot| !net.sending(slot).is_on()) {
                    let bytes = heart_beat(links.encoding(link).for_one());
                    links.send_bytes(View { ctx, net }, link, bytes);
                }
                net.times_mut(link).last_out = ms;
            }
            Due::SockJs => {
                links.beat(View { ctx, net }, link);
                net.times_mut(link).last_out = ms;
            }
            Due::Answer if links.has_session(link) => {
                stomp.sessions_mut().on_unanswered(links, View { ctx, net }, link);
            }
            Due::FirstMessage => {
                let view = View { ctx, net };
                view.refuse(link, Refusal::LimitFirstMessage);
                links.drain(view, link, SLOW_CONSUMER, "no CONNECT in time");
            }
            Due::Missed => stomp.sessions_mut().on_missed(links, View { ctx, net }, link),
            Due::Move
            | Due::Slow
            | Due::Ping
            | Due::Linger
            | Due::Idle
            | Due::Request
            | Due::Answer
            | Due::HungUp => {
                let slot = links.slot(link).expect("only a connection has such a deadline");
                self.on_due_of_connection(slot, due);
            }
        }
        self.hear();
    }

    fn on_due_of_connection(&mut self, slot: Slot, due: Due) {
        if due == Due::Move {
            return self.stay(slot);
        }
        let Dispatch { ctx, net, delivery, web, .. } = self;
        let (links, link) = (&mut delivery.links, LinkIndex::from(slot));
        match due {
            Due::Slow => links.stands_still(net, ctx, slot),
            Due::Ping => {
                net.set_pinged(slot);
                links.send_bytes(View { ctx, net }, link, PING);
            }
            // Who is sealed is told that this is the end.
            Due::Idle if net.transports().may_seal(slot) => links.drain_http(link),
            Due::Request => {
                let view = View { ctx, net };
                let refusal = match web.stage(slot) {
                    Stage::Idle | Stage::Head => Refusal::LimitHeadTime,
                    _ => Refusal::LimitBodyTime,
                };
                view.refuse(slot, refusal);
                web.refuse(links, view, slot, 408, "the request took too long");
            }
            Due::Answer => {
                let view = View { ctx, net };
                view.refuse(slot, Refusal::LimitAnswerTime);
                web.refuse(links, view, slot, 504, "no answer in time");
            }
            Due::HungUp
                if web.stage(slot) == Stage::Parked
                    && unsent(links, net, slot) == 0
                    && links.served_by(slot).is_none() =>
            {
                web.refuse(links, View { ctx, net }, slot, 504, "no answer in time");
            }
            // Linger, Idle, HungUp.
            _ => links.cut(link),
        }
    }
}

/// The next deadline of a link: milliseconds from now, and what it is.
fn next_due(parts: &Dispatch, link: LinkIndex) -> Option<(u32, Due)> {
    let links = &parts.delivery.links;
    let mut next = Earliest::default();
    match links.slot(link) {
        Some(slot) => connection_due(parts, slot, &mut next),
        None if links.is_open(link) => {
            session_due(parts, link, (parts.net.times(link), None), &mut next);
        }
        // How long it is remembered is the business of whoever opened it.
        None => {}
    }
    next.0
}

fn connection_due(parts: &Dispatch, slot: Slot, next: &mut Earliest) {
    let (net, limits) = (&parts.net, &parts.ctx.limits);
    let left = |since: u32, span: u32| left(parts, since, span);
    if net.state(slot) != State::Open {
        return leaver_due(parts, slot, next);
    }
    let times = net.times(slot);
    if net.sending(slot) == Sending::Yes {
        let age = net.send_age(slot, parts.ctx.ms);
        next.add(limits.send_time.0.saturating_sub(age), Due::Slow);
    }
    if parts.sockets.is_raw(slot) {
        sockjs_beat(parts, slot.into(), next);
    } else if parts.sockets.is_upgraded(slot) {
        session_due(parts, slot.into(), (times, Some(slot)), next);
    } else if parts.delivery.links.served_by(slot).is_none() {
        // Who receives for a session over HTTP waits as long as that has nothing to say.
        match parts.web.stage(slot) {
            Stage::Idle if net.transports().is_greeting(slot) => {
                next.add(left(times.since, limits.head_time.0), Due::Request);
            }
            Stage::Idle => next.add(left(times.last_in, limits.idle_time.0), Due::Idle),
            Stage::Head => next.add(left(times.since, limits.head_time.0), Due::Request),
            Stage::Body => next.add(left(times.since, limits.body_time.0), Due::Request),
            Stage::Parked => next.add(left(times.since, limits.answer_time.0), Due::Answer),
        }
    } else if parts.ctx.draining.is_some() {
        // It is told the end of its session, as those are that drain.
        next.add(left(times.since, limits.linger.0), Due::Linger);
    }
    if net.peer(slot) != Peer::Here && parts.delivery.links.at(slot.into()).is_paused() {
        next.add(left(times.since, HANGUP_GRACE.0), Due::HungUp);
    }
}

/// The same of one that is about to go.
#[cold]
fn leaver_due(parts: &Dispatch, slot: Slot, next: &mut Earliest) {
    match parts.net.state(slot) {
        State::Moving => next.add(parts.moves.left(slot, parts.ctx.ms), Due::Move),
        State::Draining => {
            let since = parts.net.times(slot).since;
            next.add(left(parts, since, parts.ctx.limits.linger.0), Due::Linger);
        }
        State::Free | State::Open | State::Terminated | State::Closing | State::Releasing => {}
    }
}

/// Milliseconds that are left of a span.
fn left(parts: &Dispatch, since: u32, span: u32) -> u32 {
    span.saturating_sub(parts.ctx.ms.wrapping_sub(since))
}

/// When SockJS's heart-beat is due, at an endpoint that has one, to a client that expects one.
fn sockjs_beat(parts: &Dispatch, link: LinkIndex, next: &mut Earliest) {
    let links = &parts.delivery.links;
    let is_there = links.slot(link).is_some() || links.receiver(link).is_some();
    if !is_there || !links.encoding(link).has_sockjs_frames() {
        return;
    }
    let client = parts.net.client(link);
    let endpoint = client.endpoint().map(EndpointIndex::index);
    let endpoint = endpoint.and_then(|at| parts.ctx.shared.endpoints.get(at));
    if let Some(sockjs) = endpoint.and_then(|endpoint| endpoint.config.sockjs.as_ref()) {
        next.add(left(parts, client.times.last_out, sockjs.heartbeat.0), Due::SockJs);
    }
}

#[inline(always)] // The deadline of nearly every connection.
fn session_due(
    parts: &Dispatch,
    link: LinkIndex,
    (times, slot): (Times, Option<Slot>),
    next: &mut Earliest,
) {
    let left = |since: u32, span: u32| left(parts, since, span);
    let Some((phase, agreed)) = parts.stomp.phase_and_beat(link) else { return };
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
    let pause = parts.delivery.links.pause(link);
    if receive > 0 && pause == Pause::No {
        // Who has no connection of its own cannot be asked with a ping.
        if slot.is_none_or(|slot| parts.net.is_pinged(slot)) {
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
        sockjs_beat(parts, link, next);
    }
}

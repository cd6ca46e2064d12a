#![forbid(unsafe_code)]
//! Deadlines: what happens to a link, and to its connection, when nothing happens on it.
//!
//! One entry of the wheel a link. When it is due the link's next deadline is worked out afresh from
//! its state; often that is later than it was, and the entry is only set again.

use super::delivery::{Pause, SLOW_CONSUMER, heart_beat};
use super::dispatch::Dispatch;
use super::net::{Peer, Sending, State, View};
use super::session::Phase;
use super::web::Stage;
use crate::ids::{LinkIndex, Slot};
use crate::limits::HANGUP_GRACE;
use crate::metrics::Refusal;
use crate::ws::Opcode;

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

impl Dispatch {
    /// Handles everything that is due.
    pub(super) fn run_timers(&mut self) {
        self.net.advance(self.ctx.now);
        while let Some(link) = self.net.next_timer() {
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
                // A send in flight is a sign of life, too, or the client is too slow for one.
                if !links.at(link).is_sending() {
                    links.send(View { ctx, net }, link, |encoder, encoding| {
                        encoder.raw(heart_beat(encoding));
                    });
                }
                net.times_mut(link).last_out = ms;
            }
            Due::SockJs => {
                links.beat(View { ctx, net }, link);
                net.times_mut(link).last_out = ms;
            }
            Due::Answer if links.has_session(link) => {
                stomp.replies().on_unanswered(links, View { ctx, net }, link);
            }
            Due::FirstMessage => {
                let view = View { ctx, net };
                view.refuse(link, Refusal::LimitFirstMessage);
                links.drain(view, link, SLOW_CONSUMER, "no CONNECT in time");
            }
            Due::Missed => stomp.replies().on_missed(links, View { ctx, net }, link),
            Due::Slow
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
        let Dispatch { ctx, net, delivery, web, .. } = self;
        let (links, link) = (&mut delivery.links, LinkIndex::from(slot));
        match due {
            Due::Slow => links.stands_still(net, ctx, slot),
            Due::Ping => {
                net.set_pinged(slot);
                links.send_frame(View { ctx, net }, link, Opcode::Ping, b"");
            }
            Due::Request => {
                let view = View { ctx, net };
                let refusal = match web.stage(slot) {
                    Stage::Head => Refusal::LimitHeadTime,
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
            Due::HungUp if web.stage(slot) == Stage::Parked && links.at(link).is_empty() => {
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
    match links.slot(link) {
        Some(slot) => next_of_connection(parts, slot),
        None if links.is_open(link) => session_due(parts, link),
        // How long it is remembered is the business of whoever opened it.
        None => None,
    }
}

fn next_of_connection(parts: &Dispatch, slot: Slot) -> Option<(u32, Due)> {
    let (net, limits) = (&parts.net, &parts.ctx.limits);
    let left = |since: u32, span: u32| left_of(parts, since, span);
    match net.state(slot) {
        State::Free | State::Terminated | State::Closing => return None,
        State::Draining => {
            return Some((left(net.times(slot).since, limits.linger.0), Due::Linger));
        }
        State::Open => {}
    }
    let is_sending = net.sending(slot) == Sending::Yes;
    let age = net.send_age(slot, parts.ctx.ms);
    let slow = is_sending.then(|| (limits.send_time.0.saturating_sub(age), Due::Slow));
    let own = if parts.sockets.is_raw(slot) {
        sockjs_beat(parts, slot.into())
    } else if parts.sockets.is_upgraded(slot) {
        session_due(parts, slot.into())
    } else {
        Some(match parts.web.stage(slot) {
            Stage::Idle => (left(net.times(slot).last_in, limits.idle_time.0), Due::Idle),
            Stage::Head => (left(net.times(slot).since, limits.head_time.0), Due::Request),
            Stage::Body => (left(net.times(slot).since, limits.body_time.0), Due::Request),
            Stage::Parked => (left(net.times(slot).since, limits.answer_time.0), Due::Answer),
        })
    };
    let is_paused = parts.delivery.links.at(slot.into()).is_paused();
    let hung_up = (net.peer(slot) != Peer::Here && is_paused)
        .then(|| (left(net.times(slot).since, HANGUP_GRACE.0), Due::HungUp));
    earlier(earlier(slow, own), hung_up)
}

/// Milliseconds that are left of a span.
fn left_of(parts: &Dispatch, since: u32, span: u32) -> u32 {
    span.saturating_sub(parts.ctx.ms.wrapping_sub(since))
}

/// When SockJS's heart-beat is due, at an endpoint that has one, to a client that expects one.
fn sockjs_beat(parts: &Dispatch, link: LinkIndex) -> Option<(u32, Due)> {
    let links = &parts.delivery.links;
    let is_there = links.slot(link).is_some() || links.receiver(link).is_some();
    if !is_there || !links.encoding(link).has_sockjs_frames() {
        return None;
    }
    let endpoint = parts.net.client(link).endpoint()?;
    let endpoint = parts.ctx.shared.endpoints.get(endpoint.index())?;
    let sockjs = endpoint.config.sockjs.as_ref()?;
    Some((left_of(parts, parts.net.client(link).times.last_out, sockjs.heartbeat.0), Due::SockJs))
}

fn session_due(parts: &Dispatch, link: LinkIndex) -> Option<(u32, Due)> {
    let left = |since: u32, span: u32| left_of(parts, since, span);
    let (times, pause) = (parts.net.client(link).times, parts.delivery.links.pause(link));
    let (phase, agreed) = parts.stomp.phase_and_beat(link)?;
    if phase == Phase::Connecting {
        let span = parts.ctx.limits.first_message.0;
        return Some((left(times.since, span), Due::FirstMessage));
    }
    let (send, receive) = (agreed.send, agreed.receive);
    let beat = (send > 0).then(|| {
        let span = send.saturating_sub(SLACK).max(send / 2).max(1);
        (left(times.last_out, span), Due::Beat)
    });
    // While it is paused nothing of it is read: what it sends cannot be told from silence, and
    // the age of what it is sent is bounded anyway.
    let life = (receive > 0 && pause == Pause::No).then(|| {
        // Who has no connection of its own cannot be asked with a ping.
        let is_asked = parts.delivery.links.slot(link).is_none_or(|s| parts.net.is_pinged(s));
        if is_asked {
            let span = receive.saturating_mul(2).saturating_add(GRACE);
            (left(times.last_in, span), Due::Missed)
        } else {
            (left(times.last_in, receive.saturating_add(SLACK)), Due::Ping)
        }
    });
    // Each answer that comes ends the pause; this is the time without one.
    let answer = (pause == Pause::Answer)
        .then(|| (left(times.since, parts.ctx.limits.answer_time.0), Due::Answer));
    // A session whose server sends STOMP heart-beats needs none of SockJS (Spring does the
    // same).
    let sockjs = if send == 0 { sockjs_beat(parts, link) } else { None };
    earlier(earlier(earlier(beat, life), answer), sockjs)
}

/// The earlier of two deadlines; of two at one time the first.
fn earlier(one: Option<(u32, Due)>, other: Option<(u32, Due)>) -> Option<(u32, Due)> {
    match (one, other) {
        (Some((left, _)), Some((other_left, _))) if other_left < left => other,
        (None, other) => other,
        (one, _) => one,
    }
}

#![forbid(unsafe_code)]
//! Sessions over HTTP: their links have no connection of their own, and outlive those that come for
//! what waits in them.

use super::delivery;
use super::dispatch::Dispatch;
use super::net::{State, View};
use super::web::Stage;
use crate::encoding::Encoding;
use crate::ids::{LinkIndex, Slot};
use std::sync::Arc;

pub use super::delivery::Answer;
pub use super::net::Client;

/// Opens the link of a STOMP session over HTTP, as its client is known from its first request.
/// At most `queue` messages wait while nobody receives. None if there are as many links as may be,
/// or the server shuts down.
pub fn open(
    parts: &mut Dispatch,
    (encoding, queue): (Encoding, u32),
    client: Client,
    user: Option<Arc<str>>,
) -> Option<LinkIndex> {
    if parts.ctx.draining.is_some() {
        return None;
    }
    let link = parts.delivery.links.open_standalone(encoding, queue)?;
    parts.net.set_client(link, client);
    parts.stomp.open(link, user);
    parts.set_timer(link);
    Some(link)
}

/// What the client of such a session has sent.
pub fn feed(parts: &mut Dispatch, link: LinkIndex, bytes: &mut [u8]) {
    let Dispatch { ctx, net, delivery, stomp, bus, share, .. } = parts;
    net.times_mut(link).last_in = ctx.ms;
    share.begin(ctx, 1);
    stomp.feed(delivery, bus, View { ctx, net }, share, link, bytes);
    share.end();
    parts.hear();
    parts.note_session(link);
}

/// A connection receives what the session's link has, and is answered like this.
pub fn attach(parts: &mut Dispatch, link: LinkIndex, slot: Slot, answer: Answer) {
    assert!(parts.net.state(slot) == State::Open, "one that moves receives nothing");
    let is_over = matches!(answer, Answer::Stream { limit: 0, .. });
    assert!(!is_over, "a stream has room for a frame");
    parts.delivery.links.attach(link, slot, answer);
    // A heart-beat is due so long after that.
    parts.net.times_mut(link).last_out = parts.ctx.ms;
    parts.hear();
    parts.set_timer(link);
}

/// Ends such a session at once: nobody has come for what waits.
pub fn cut(parts: &mut Dispatch, link: LinkIndex) {
    parts.delivery.links.cut(link);
    parts.hear();
}

/// Whether such a link is in use: its session is open, or its end has yet to be told.
pub fn is_in_use(parts: &Dispatch, link: LinkIndex) -> bool {
    parts.delivery.links.all_standalone().any(|used| used == link)
}

/// Whether its session is open.
pub fn is_open(parts: &Dispatch, link: LinkIndex) -> bool {
    parts.delivery.links.is_open(link)
}

/// The connection that receives what it has.
pub fn receiver(parts: &Dispatch, link: LinkIndex) -> Option<Slot> {
    parts.delivery.links.receiver(link)
}

/// Bytes that it keeps.
pub fn kept(parts: &Dispatch, link: LinkIndex) -> usize {
    parts.delivery.links.kept(link)
}

/// Whether what its client has sent can be handled now.
pub fn may_feed(parts: &Dispatch, link: LinkIndex) -> bool {
    parts.delivery.links.is_read(link)
}

/// Whether a connection may receive now what a link has: it has nothing else to do, and the link
/// has no other.
pub fn may_attach(parts: &Dispatch, link: LinkIndex, slot: Slot) -> bool {
    let Dispatch { net, delivery, web, .. } = parts;
    let is_open = net.knows(slot) && net.state(slot) == State::Open;
    let is_idle = is_open && web.stage(slot) == Stage::Idle;
    is_idle && delivery.links.is_read(slot.into()) && receiver(parts, link).is_none()
}

/// The first unit that waits is lost, or comes again: a bug of the simulator's. False if none
/// waits.
pub fn spoil_unit(parts: &mut Dispatch, link: LinkIndex, twice: bool) -> bool {
    let is_spoiled = delivery::spoil_unit(&mut parts.delivery.links, link, twice);
    parts.hear();
    is_spoiled
}

/// It holds bytes of the log though nobody receives: another one. False if somebody does.
pub fn pin(parts: &mut Dispatch, link: LinkIndex) -> bool {
    delivery::pin(&mut parts.delivery.links, link)
}

/// What the clock showed when the turn began, for a client that comes now.
pub fn now(parts: &Dispatch) -> u32 {
    parts.ctx.ms
}

/// It ends, and its owner cuts it before anybody has heard of that.
#[cfg(test)]
pub(crate) fn end_and_cut(parts: &mut Dispatch, link: LinkIndex) {
    let Dispatch { ctx, net, delivery, .. } = &mut *parts;
    delivery.links.drain(View { ctx, net }, link, 1001, "");
    cut(parts, link);
}

#![forbid(unsafe_code)]
//! Sessions over HTTP: their links have no connection of their own, and outlive those that come for
//! what waits in them.

use super::dispatch::Dispatch;
use super::net::{State, View};
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

/// It ends, and its owner cuts it before anybody has heard of that.
#[cfg(test)]
pub(crate) fn end_and_cut(parts: &mut Dispatch, link: LinkIndex) {
    let Dispatch { ctx, net, delivery, .. } = &mut *parts;
    delivery.links.drain(View { ctx, net }, link, 1001, "");
    cut(parts, link);
}

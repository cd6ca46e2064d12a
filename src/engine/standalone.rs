#![forbid(unsafe_code)]
//! Sessions over HTTP: their links have no connection of their own, and outlive those that come for
//! what waits in them.

use super::dispatch::Dispatch;
use super::net::View;
use crate::encoding::Encoding;
use crate::ids::LinkIndex;
use std::sync::Arc;

pub use super::net::Client;

/// Opens the link of a STOMP session over HTTP, as its client is known from its first request.
/// None if there are as many as there may be.
pub fn open(
    parts: &mut Dispatch,
    encoding: Encoding,
    client: Client,
    user: Option<Arc<str>>,
) -> Option<LinkIndex> {
    let link = parts.delivery.links.open_standalone(encoding)?;
    parts.net.set_client(link, client);
    parts.stomp.open(link, user);
    parts.set_timer(link);
    Some(link)
}

/// What the client of such a session has sent.
pub fn feed(parts: &mut Dispatch, link: LinkIndex, bytes: &mut [u8]) {
    let Dispatch { ctx, net, delivery, stomp, bus, share, .. } = parts;
    net.times_mut(link).last_in = ctx.ms;
    stomp.feed(delivery, bus, View { ctx, net }, share, link, bytes);
    parts.hear();
}

/// Ends such a session at once: nobody has come for what waits.
pub fn cut(parts: &mut Dispatch, link: LinkIndex) {
    parts.delivery.links.cut(link);
    parts.hear();
}

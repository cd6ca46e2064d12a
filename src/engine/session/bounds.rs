#![forbid(unsafe_code)]
//! What a session may subscribe to: not what it has already, and not more than fits.

use super::problem::{
    Handled, NAME_TOO_LONG, NO_ROOM, TOO_LONG, TOO_MANY, TOO_MANY_ALIKE, TOO_MANY_PATTERNS,
};
use super::record::{Session, SubscriptionState};
use crate::broker::pattern;
use crate::broker::subscription::GROUP;
use crate::engine::context::Context;
use crate::engine::delivery::Fanout;
use crate::mem::intern::Sym;

/// Bytes of a subscription beside its names: in its session, in its group, in the home's counts.
/// What the group itself costs is [`GROUP`].
const SUBSCRIPTION: u32 = 64;

/// What a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub id: &'a str,
    pub destination: &'a str,
    pub receipt: Option<&'a [u8]>,
    /// Number of its frame.
    pub key: u32,
    pub acks: bool,
}

/// Whether a session has this subscription already: by its id, or, where STOMP 1.0 lets it have
/// none, by its destination.
pub(super) fn has_subscribed(
    session: &Session,
    fanout: &mut Fanout,
    ctx: &Context,
    asked: Asked<'_>,
) -> bool {
    let Some(known) = fanout.names().find(asked.id) else { return false };
    if !asked.id.is_empty() {
        return session.by_id(known).is_some();
    }
    by_destination(session, fanout, ctx, asked.destination, Some(known)).is_some()
}

/// The live subscription of a session to a destination, as the client writes it; with an id only if
/// it has this one.
pub(super) fn by_destination(
    session: &Session,
    fanout: &mut Fanout,
    ctx: &Context,
    destination: &str,
    id: Option<Sym>,
) -> Option<usize> {
    let own = ctx.shared.names.own(destination);
    let name = fanout.names().find(own.unwrap_or(destination))?;
    session.subscriptions.iter().position(|s| {
        s.destination == name
            && s.of_user == own.is_some()
            && s.state != SubscriptionState::Ending
            && id.is_none_or(|id| id == s.id)
    })
}

/// Whether one more subscription keeps the session and the shard within their bounds, where
/// `counted` are there and `beginning` of those begin. Patterns are looked at for each message, so
/// they have a bound of their own.
pub(super) fn fits(
    session: &Session,
    fanout: &mut Fanout,
    ctx: &Context,
    Asked { id, destination, .. }: Asked<'_>,
    (counted, beginning): (u32, u32),
) -> Handled {
    let limits = &ctx.limits;
    if destination.len().max(id.len()) > limits.name_bytes as usize {
        return Err(NAME_TOO_LONG);
    }
    let subscriptions = &session.subscriptions;
    if subscriptions.len() >= limits.subscriptions as usize {
        return Err(TOO_MANY);
    }
    let own = ctx.shared.names.own(destination);
    let (of_user, plain) = (own.is_some(), own.unwrap_or(destination));
    let known = fanout.names().find(plain);
    let (mut bytes, mut patterns, mut alike) = (id.len() + destination.len(), 1, 0);
    // A session may have a thousand, and each new one looks at all before it: no text is read.
    for subscription in subscriptions {
        let name = fanout.text(subscription.destination);
        bytes += fanout.text(subscription.id).len() + name.len();
        patterns += u32::from(subscription.is_pattern);
        // One that is ending makes place for another: a page may change all it has at once.
        let is_alike = subscription.of_user == of_user && Some(subscription.destination) == known;
        alike += u32::from(is_alike && subscription.state != SubscriptionState::Ending);
    }
    if alike >= limits.subscriptions_alike {
        return Err(TOO_MANY_ALIKE);
    }
    // What all subscriptions of the shard cost. One that is beginning may open a group.
    let names = fanout.names().bytes() as u64;
    let groups = fanout.groups() as u64 + u64::from(beginning);
    let all = names + u64::from(counted) * u64::from(SUBSCRIPTION) + groups * GROUP;
    let new = (id.len() + destination.len()) as u64;
    let new = new + u64::from(SUBSCRIPTION) + u64::from(!of_user) * GROUP;
    if all + new > u64::from(limits.subscribed_bytes) {
        return Err(NO_ROOM);
    }
    if bytes > limits.subscription_bytes as usize {
        return Err(TOO_LONG);
    }
    if pattern::is_pattern(destination) && patterns > limits.patterns {
        return Err(TOO_MANY_PATTERNS);
    }
    Ok(())
}

#![forbid(unsafe_code)]
//! What the rules let a session hear.

use super::record::{Deferred, Session, Subscription, SubscriptionState};
use crate::broker::pattern::{Budget, Outcome};
use crate::broker::rule::Verdict;
use crate::engine::context::Context;
use crate::engine::net::View;
use crate::metrics::Refusal;

/// Whether a session waits for its receipts alone, and then ends.
pub(super) fn is_ending(session: &Session) -> bool {
    session.disconnecting || matches!(session.deferred.as_deref(), Some(Deferred::Refuse { .. }))
}

/// Whether a session hears a message to one of its user's destinations by this subscription, whose
/// destination has this text: of what a pattern covers, rules may keep some, and a reload what is
/// no longer permitted.
pub(super) fn hears_own(
    view: View<'_>,
    session: &Session,
    (subscription, pattern): (&Subscription, &str),
    destination: &str,
    budget: &mut Budget,
) -> bool {
    let names = &view.shared.names;
    match budget.compare(pattern, destination, names.separator) {
        Outcome::Match => {}
        Outcome::NoMatch => return false,
        Outcome::GaveUp => {
            view.refuse(session.link, Refusal::BrokerPatternGaveUp);
            return false;
        }
    }
    let is_filtered = view.shared.rules_restrict_patterns
        && (subscription.is_pattern
            || subscription.state == SubscriptionState::Ending
            || is_ending(session));
    if !is_filtered {
        return true;
    }
    let shown = names.shown(destination);
    let shown = core::str::from_utf8(&shown).expect("two texts are a text");
    may_hear(view.ctx, session.user.as_deref(), shown, budget)
}

/// Whether the rules let a user hear a destination.
pub(super) fn may_hear(
    ctx: &Context,
    user: Option<&str>,
    destination: &str,
    budget: &mut Budget,
) -> bool {
    let shared = &ctx.shared;
    let verdict = shared.rules.may_subscribe(&shared.names, destination, user, budget);
    if verdict == Verdict::Unclear {
        ctx.refuse_for_nobody(Refusal::BrokerPatternGaveUp);
    }
    verdict.is_allowed()
}

/// Whether the rules allow a user a subscription to a destination or pattern, as the client wrote
/// it.
pub(super) fn may_have(
    ctx: &Context,
    user: Option<&str>,
    written: &str,
    budget: &mut Budget,
) -> Verdict {
    ctx.shared.rules.may_subscribe(&ctx.shared.names, written, user, budget)
}

/// A subscription's destination, whose text this is, as its client wrote it.
pub(super) fn written(ctx: &Context, subscription: &Subscription, destination: &str) -> String {
    let prefix = if subscription.of_user { ctx.shared.names.user.as_str() } else { "" };
    format!("{prefix}{destination}")
}

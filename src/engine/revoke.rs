#![forbid(unsafe_code)]
//! What rules take away: the verdict on a frame, and after a reload the end of every session that
//! has a subscription which its user may no longer have. The subscription hears nothing from then
//! on, and the session hears why when the receipts of its frames so far are given. Patterns are
//! filtered at each delivery, so nothing that the rules keep is heard before its turn has come but
//! by exact subscriptions.
//!
//! Bound: [`WORK_A_TURN`] places and subscriptions are looked at in one turn, so that nobody waits
//! for the rest; one session's are looked at together.

use super::refuse::{Handled, NOT_PERMITTED, Problem};
use super::session::{Deferred, Phase, Subscription, SubscriptionState};
use super::shard::Shard;
use crate::broker::pattern::{Budget, Outcome};
use crate::broker::rule::Verdict;
use crate::ids::SessionIndex;
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::metrics::Refusal;
use crate::ring::Ring;

/// Places of the table of sessions and subscriptions of those that one turn looks at; comparisons
/// that take many steps count as more.
const WORK_A_TURN: u32 = 1_024;

/// What a frame hears of a verdict.
pub(super) fn permit(verdict: Verdict) -> Handled {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Refused => Err(NOT_PERMITTED),
        Verdict::Unclear => Err(UNCLEAR),
    }
}

impl<R: Ring> Shard<R> {
    /// The rules have changed: every session is looked at.
    pub(super) fn begin_revoking(&mut self) {
        self.revoke_below = self.sessions.places();
    }

    /// Looks at some of the sessions that a change of the rules is about.
    pub(super) fn run_revoking(&mut self) {
        let mut left = WORK_A_TURN;
        while left > 0 {
            let Some(below) = self.revoke_below.checked_sub(1) else { return };
            self.revoke_below = below;
            let session = SessionIndex(below);
            let mut work = 1;
            if self.sessions.contains(session) && self.sessions.at(session).phase == Phase::Live {
                work += self.sessions.at(session).subscriptions.len() as u32;
                self.steps = 0;
                self.revoke(session);
                work += self.steps / PATTERN_STEPS_A_FRAME;
            }
            left = left.saturating_sub(work);
        }
    }

    fn revoke(&mut self, session: SessionIndex) {
        let Some(destination) = self.leave_what_is_kept(session) else { return };
        let state = self.sessions.at(session);
        if state.disconnecting {
            // It ends anyway, when its receipts are given.
            return;
        }
        let slot = state.slot;
        let body = format!("The rules no longer allow this user to use {destination}.");
        let body = self.with_facts(session, &body, None);
        let problem =
            Problem { body: &body, refusal: Refusal::BrokerNoLongerPermitted, ..NOT_PERMITTED };
        self.refuse_in_turn(slot, session, problem, None);
    }

    /// Takes a session out of the groups of what the rules do not allow; the first of it as its
    /// client wrote it. A SUBSCRIBE that waits for its turn is validated when that comes.
    fn leave_what_is_kept(&mut self, session: SessionIndex) -> Option<String> {
        let mut first = None;
        for at in 0..self.sessions.at(session).subscriptions.len() {
            let subscription = self.sessions.at(session).subscriptions[at];
            if self.is_permitted(session, &subscription) {
                continue;
            }
            self.leave_group(session, at);
            // Whose client has ended it itself hears nothing more of it, and goes on.
            if subscription.state != SubscriptionState::Ending {
                first = first.or_else(|| Some(self.written(&subscription)));
            }
        }
        first
    }

    /// Whether the rules allow a session a subscription that it has.
    fn is_permitted(&mut self, session: SessionIndex, subscription: &Subscription) -> bool {
        let (user, destination) = (&self.sessions.at(session).user, self.written(subscription));
        let (rules, names) = (&self.shared.rules, &self.shared.names);
        let mut budget = Budget::default();
        let verdict = rules.may_subscribe(names, &destination, user.as_deref(), &mut budget);
        self.steps += budget.spent();
        verdict.is_allowed()
    }

    /// Whether a subscription that has begun is to hear anything: not where a reload took it away
    /// and its session lives on for its receipts alone.
    pub(super) fn may_begin(&mut self, session: SessionIndex, subscription: &Subscription) -> bool {
        !self.is_ending(session) || self.is_permitted(session, subscription)
    }

    /// Whether a session waits for its receipts alone, and then ends.
    fn is_ending(&self, session: SessionIndex) -> bool {
        let state = self.sessions.at(session);
        state.disconnecting || matches!(state.deferred.as_deref(), Some(Deferred::Refuse { .. }))
    }

    /// A subscription's destination as its client wrote it.
    fn written(&self, subscription: &Subscription) -> String {
        let destination = self.index.text(subscription.destination);
        let prefix = if subscription.of_user { self.shared.names.user.as_str() } else { "" };
        format!("{prefix}{destination}")
    }

    /// Whether a session hears a message to one of its user's destinations by this subscription:
    /// of what a pattern covers, rules may keep some, and a reload what is no longer permitted.
    pub(super) fn hears_own(
        &self,
        session: SessionIndex,
        subscription: &Subscription,
        destination: &str,
        budget: &mut Budget,
    ) -> bool {
        let names = &self.shared.names;
        let subscribed = self.index.text(subscription.destination);
        match budget.compare(subscribed, destination, names.separator) {
            Outcome::Match => {}
            Outcome::NoMatch => return false,
            Outcome::GaveUp => {
                self.refuse(self.sessions.at(session).slot, Refusal::BrokerPatternGaveUp);
                return false;
            }
        }
        let is_filtered = self.shared.rules_restrict_patterns
            && (subscription.is_pattern
                || subscription.state == SubscriptionState::Ending
                || self.is_ending(session));
        let user = self.sessions.at(session).user.as_deref();
        !is_filtered || self.may_user_hear_own(user, destination, budget)
    }

    /// Whether the rules let a user hear a destination of his own, given without the prefix.
    pub(super) fn may_user_hear_own(
        &self,
        user: Option<&str>,
        destination: &str,
        budget: &mut Budget,
    ) -> bool {
        let shown = self.shared.names.shown(destination);
        let shown = core::str::from_utf8(&shown).expect("two texts are a text");
        self.may_user_hear(user, shown, budget)
    }

    /// Whether the rules let a session hear what its pattern covers.
    pub(super) fn may_hear(&self, session: SessionIndex, destination: &str) -> bool {
        let user = self.sessions.at(session).user.as_deref();
        self.may_user_hear(user, destination, &mut Budget::default())
    }

    fn may_user_hear(&self, user: Option<&str>, destination: &str, budget: &mut Budget) -> bool {
        let shared = &self.shared;
        let verdict = shared.rules.may_subscribe(&shared.names, destination, user, budget);
        if verdict == Verdict::Unclear {
            self.refuse_for_nobody(Refusal::BrokerPatternGaveUp);
        }
        verdict.is_allowed()
    }
}

const UNCLEAR: Problem<'static> = Problem {
    body: "The rules cannot be compared with this destination: it takes too many steps.",
    refusal: Refusal::BrokerPatternGaveUp,
    ..NOT_PERMITTED
};

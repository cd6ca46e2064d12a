#![forbid(unsafe_code)]
//! What a reload takes away: the end of every session that has a subscription which its user may no
//! longer have. The subscription hears nothing from then on, and the session hears why when the
//! receipts of its frames so far are given. Patterns are filtered at each delivery, so nothing that
//! the rules keep is heard before its turn has come but by exact subscriptions.
//!
//! Bound: [`WORK_A_TURN`] places and subscriptions are looked at in one turn, so that nobody waits
//! for the rest; one session's are looked at together.

use super::problem::{NOT_PERMITTED, Problem};
use super::record::{Phase, SubscriptionState};
use super::rules::written;
use super::stomp::Stomp;
use crate::engine::delivery::Delivery;
use crate::engine::net::View;
use crate::ids::SessionIndex;
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::metrics::Refusal;

/// Places of the table of sessions and subscriptions of those that one turn looks at; comparisons
/// that take many steps count as more.
const WORK_A_TURN: u32 = 1_024;

/// How far the sessions have been compared with rules that have changed.
#[derive(Debug, Default)]
pub struct Revocation {
    /// Sessions below this index have yet to be.
    below: u32,
}

impl Revocation {
    /// The rules have changed: every session is looked at.
    pub fn begin(&mut self, stomp: &Stomp) {
        self.below = stomp.sessions.places();
    }

    /// Whether there is something left to look at.
    pub fn is_going_on(&self) -> bool {
        self.below > 0
    }

    /// Looks at some of the sessions.
    pub fn run(&mut self, stomp: &mut Stomp, delivery: &mut Delivery, view: View<'_>) {
        let mut left = WORK_A_TURN;
        while left > 0 {
            let Some(below) = self.below.checked_sub(1) else { return };
            self.below = below;
            let session = SessionIndex(below);
            let mut work = 1;
            let is_there = stomp.sessions.contains(session);
            if is_there && stomp.sessions.at(session).phase == Phase::Live {
                work += stomp.sessions.at(session).subscriptions.len() as u32;
                stomp.sessions.steps = 0;
                revoke(stomp, delivery, view, session);
                work += stomp.take_steps() / PATTERN_STEPS_A_FRAME;
            }
            left = left.saturating_sub(work);
        }
    }
}

fn revoke(stomp: &mut Stomp, delivery: &mut Delivery, view: View<'_>, session: SessionIndex) {
    let Some(destination) = leave_what_is_kept(stomp, delivery, view, session) else { return };
    if stomp.sessions.at(session).disconnecting {
        // It ends anyway, when its receipts are given.
        return;
    }
    let body = format!("The rules no longer allow this user to use {destination}.");
    let body = stomp.sessions.with_facts(session, &body, None);
    let problem =
        Problem { body: &body, refusal: Refusal::BrokerNoLongerPermitted, ..NOT_PERMITTED };
    stomp.sessions.refuse_in_turn(delivery, view, session, problem, None);
}

/// Takes a session out of the groups of what the rules do not allow; the first of it as its client
/// wrote it. A SUBSCRIBE that waits for its turn is validated when that comes.
fn leave_what_is_kept(
    stomp: &mut Stomp,
    delivery: &mut Delivery,
    view: View<'_>,
    session: SessionIndex,
) -> Option<String> {
    let mut first = None;
    for at in 0..stomp.sessions.at(session).subscriptions.len() {
        let subscription = stomp.sessions.at(session).subscriptions[at];
        let name = written(view.ctx, &subscription, delivery.fanout.text(subscription.destination));
        if stomp.is_permitted(view.ctx, session, &name) {
            continue;
        }
        stomp.leave_group(&mut delivery.fanout, session, at);
        // Whose client has ended it itself hears nothing more of it, and goes on.
        if subscription.state != SubscriptionState::Ending {
            first = first.or(Some(name));
        }
    }
    first
}

//! What is around a client while it acts, and what it decides.

use super::history::History;
use super::random::Random;
use super::world::World;
use crate::config::Callback;
use crate::time::Instant;

/// A point of time that never comes.
pub(super) const NEVER: Instant = Instant(u64::MAX);

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Clients connect, act and leave.
    Main,
    /// Clients begin nothing new and finish what they have begun.
    Settle,
    /// Everybody leaves.
    Leave,
}

/// What clients share.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) phase: Phase,
    /// Actions left in this run.
    pub(super) budget: u32,
    /// The rule by which callbacks are signed.
    pub(super) callback: Callback,
    /// The publication of each call id.
    pub(super) calls: Vec<Option<usize>>,
    /// Sessions that are known by their ids: the id, the client, its user.
    pub(super) sessions: Vec<(String, usize, Option<usize>)>,
    /// Many slow readers on one shard, and large messages.
    pub(super) crowd: bool,
    /// The second listener's connections are sealed.
    pub(super) sealed: bool,
    /// How many of a thousand turns begin a move that the engine would not begin by itself.
    pub(super) moves: u32,
    /// How many of a hundred clients have sessions over HTTP.
    pub(super) over_http: u64,
    /// After how many actions the rules are loaded anew, if they are.
    pub(super) reload_at: Option<u64>,
}

/// Everything around a client while it acts.
pub(super) struct Scene<'a> {
    pub(super) world: &'a mut World,
    pub(super) history: &'a mut History,
    pub(super) plan: &'a mut Plan,
}

impl Scene<'_> {
    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.world.random
    }

    /// A random time from now, between these numbers of microseconds.
    pub(super) fn soon(&mut self, low_micros: u64, high_micros: u64) -> Instant {
        let micros = self.world.random.between(low_micros, high_micros);
        Instant(self.world.now().0 + micros * 1000)
    }

    /// Takes an action from the budget. False if none is left.
    pub(super) fn spend(&mut self) -> bool {
        if self.plan.phase != Phase::Main || self.plan.budget == 0 {
            return false;
        }
        self.plan.budget -= 1;
        self.history.actions += 1;
        true
    }
}

/// What a role wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Do something again at this time.
    Wait(Instant),
    /// Release the descriptor; true: by a reset.
    Leave(bool),
    /// End the own direction, and read on.
    End,
    /// Disappear.
    Vanish,
}

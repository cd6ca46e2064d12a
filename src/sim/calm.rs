//! Whether a run is calm, and what keeps it from being calm.

use super::client::Client;
use super::run::{Simulation, Sleep};
use super::violation::{Oracle, Violation};
use crate::engine::shard::Shard;
use crate::time::Instant;

/// Virtual time in which a phase has to end.
const PATIENCE: u64 = 30_000_000_000;
/// Virtual time in which something visible has to happen: every deadline of `Limits::tiny` and
/// every pause of a client is shorter.
const STALL: u64 = 10_000_000_000;
/// Steps in which something has to happen.
const STALL_STEPS: u64 = 100_000;

/// Why a run is not calm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unrest {
    /// A client waits for the server.
    Owed(usize),
    /// The control thread has something to do.
    Control,
    /// A shard has something to do.
    Shard(usize),
    /// A client has something to do.
    Client(usize),
    /// A session over HTTP has yet to be given up.
    Session,
    /// Something waits in a shard.
    Waits(usize),
}

/// The visible progress of a run: acknowledged frames and messages, and ended connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    tick: u64,
    active: usize,
    open: usize,
}

impl Simulation {
    /// Continues until `done`. A run without progress ends at once.
    pub(super) fn go_on(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Simulation) -> bool,
    ) -> Result<(), Violation> {
        let begun = self.world.borrow().now();
        let mut seen = (self.sight(), begun, self.steps);
        while !done(self) {
            self.step()?;
            let now = self.world.borrow().now();
            if now.0 < seen.1.0 + STALL && !self.steps.is_multiple_of(1_024) {
                continue;
            }
            let sight = self.sight();
            if sight != seen.0 {
                seen = (sight, now, self.steps);
            }
            let is_stalled = now.0 > seen.1.0 + STALL || self.steps > seen.2 + STALL_STEPS;
            if is_stalled || now.0 > begun.0 + PATIENCE {
                return Err(self.stuck(what, begun));
            }
        }
        Ok(())
    }

    fn stuck(&mut self, what: &str, begun: Instant) -> Violation {
        let span = self.world.borrow().now().millis_since(begun);
        let text = format!("{what}, {span} ms: {}", self.owed());
        Violation::new(Oracle::Progress, text)
    }

    fn sight(&self) -> Sight {
        let open = self.world.borrow().open_connections();
        Sight { tick: self.history.now(), active: self.active.len(), open }
    }

    /// The client that the server still owes something, or what else is not calm.
    pub(super) fn owed(&mut self) -> String {
        let unrest = self.unrest();
        let open = self.world.borrow().open_sockets();
        let owed = self.clients.iter().filter(|c| c.is_owed() || !c.over && c.number > 0);
        let list: Vec<String> =
            owed.take(3).map(|c| format!("{} {:?} {:?}", c.number, c.reading, c.role)).collect();
        let audits: Vec<_> = self.shards.iter_mut().map(Shard::audit).collect();
        format!(
            "{} steps; {unrest:?}; open sockets: {open:?}; owed: {list:?}; shards: {audits:?}",
            self.steps
        )
    }

    /// Whether nothing happens any more, and the server owes nothing.
    pub(super) fn is_calm(&mut self) -> bool {
        self.unrest().is_none()
    }

    fn unrest(&mut self) -> Option<Unrest> {
        let mut active = self.active.iter().map(|&at| &self.clients[at]);
        if let Some(client) = active.find(|client| client.is_owed()) {
            return Some(Unrest::Owed(client.number));
        }
        if !self.control.is_idle() {
            return Some(Unrest::Control);
        }
        let mut world = self.world.borrow_mut();
        let now = world.now();
        for ring in 0..self.shards.len() {
            let waits = match self.sleeps[ring] {
                Sleep::Until(until) => until > now,
                Sleep::Over => true,
                Sleep::Awake => false,
            };
            if !waits
                || self.sessions.has_asked(ring)
                || world.is_ready(ring)
                || world.is_busy(ring)
            {
                return Some(Unrest::Shard(ring));
            }
        }
        // The kernels may just have moved bytes, so the clients are checked after them.
        let is_ready = |client: &&Client| client.is_ready(&world);
        if let Some(client) = self.active.iter().map(|&at| &self.clients[at]).find(is_ready) {
            return Some(Unrest::Client(client.number));
        }
        drop(world);
        if self.sessions.has_abandoned(&self.clients) {
            return Some(Unrest::Session);
        }
        let mut audits = self.shards.iter_mut().map(Shard::audit);
        audits.position(|audit| audit.waiting > 0 || audit.blocks > 0).map(Unrest::Waits)
    }
}

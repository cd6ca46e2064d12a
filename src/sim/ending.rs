//! The end of a run: all clients leave, the shards drain, and nothing may be left.

use super::client::{Client, Reading, Role};
use super::counts::Event;
use super::oracle;
use super::run::{Simulation, Sleep};
use super::scene::{Phase, Scene};
use super::sessions::Owner;
use super::violation::{Oracle, Violation};
use crate::engine::shard::Shard;
use crate::limits::Limits;
use crate::mem::shares::Kind;
use crate::time::Millis;

impl Simulation {
    /// A shard stalls from now on, for this many milliseconds.
    pub(super) fn stand_still(&mut self, least: u64, most: u64) {
        let mut world = self.world.borrow_mut();
        world.counts.note(Event::ShardStalls);
        let shard = world.random.index(self.shards.len());
        let millis = world.random.between(least, most);
        self.stalled[shard] = world.now() + Millis(millis as u32);
    }

    /// Shards that stand still go on.
    fn end_stalls(&mut self) {
        let now = self.world.borrow().now();
        for until in &mut self.stalled {
            *until = now.min(*until);
        }
    }

    /// Clients begin nothing new and finish what they have begun; sessions in order have then read
    /// everything.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        self.plan.phase = Phase::Settle;
        self.end_stalls();
        let world = self.world.clone();
        self.clients.iter_mut().for_each(|client| client.wake(&world.borrow()));
        self.go_on("settling", |s| s.is_calm())?;
        self.shards.iter().for_each(Shard::invariants);
        for client in self.clients.iter().filter(|client| !client.over && !client.vanished) {
            let Role::Browser(browser) = &client.role else { continue };
            if browser.is_live() && client.reading != Reading::Never && client.wire.end.is_none() {
                oracle::validate_kicks(
                    &self.history,
                    browser.number,
                    browser.user,
                    browser.open_at,
                )?;
                for subscription in browser.open_subscriptions() {
                    self.history.subscriptions[subscription].complete = true;
                }
            }
        }
        self.plan.phase = Phase::Leave;
        self.clients.iter_mut().skip(1).for_each(|client| {
            client.wake(&world.borrow());
            client.vanished = false;
        });
        self.clients_reset(|client| client.left || client.reading == Reading::Never);
        self.go_on("leaving", |s| s.are_gone() && s.is_calm())?;
        let watched = self.watched();
        if !self.clients[0].over
            && let Some(watched) = watched
        {
            oracle::validate_watcher(&self.history, watched)?;
            self.watched_all = true;
        }
        self.audit_alone()
    }

    /// All but the watcher have gone, and the server has noticed.
    pub(super) fn are_gone(&mut self) -> bool {
        let watchers = usize::from(!self.clients[0].over);
        self.clients.iter().skip(1).all(|client| client.over)
            && self.world.borrow().open_connections() <= watchers
    }

    /// Resets clients that would not end by themselves.
    pub(super) fn clients_reset(&mut self, which: impl Fn(&Client) -> bool) {
        let Simulation { world, history, plan, clients, .. } = self;
        let mut world = world.borrow_mut();
        let mut scene = Scene { world: &mut world, history, plan };
        for client in clients.iter_mut().skip(1).filter(|client| !client.over) {
            if which(client) {
                client.release(&mut scene, true);
            }
        }
        drop(world);
        self.find_active();
    }

    /// Only the watcher is there: nothing of the others may be left.
    pub(super) fn audit_alone(&mut self) -> Result<(), Violation> {
        let watchers = usize::from(!self.clients[0].over);
        let audits: Vec<_> = self.shards.iter_mut().map(Shard::audit).collect();
        let sum =
            |of: fn(&crate::engine::audit::Audit) -> usize| audits.iter().map(of).sum::<usize>();
        let shares = self.control.shares();
        let held = |kind| shares.total(kind) as usize;
        let left = [
            ("connections of addresses", held(Kind::Connections), watchers),
            ("all connections", shares.connections() as usize, watchers),
            ("destinations of addresses", held(Kind::Destinations), watchers),
            ("hook calls of addresses", held(Kind::HookCalls), 0),
            ("connections", sum(|a| a.connections), watchers),
            ("sessions", sum(|a| a.sessions), watchers),
            ("destinations", sum(|a| a.destinations), watchers),
            ("groups", sum(|a| a.groups), watchers),
            ("users", sum(|a| a.users), 0),
            ("receipts", sum(|a| a.receipts), 0),
            ("held bytes", sum(|a| a.buffered), 0),
        ];
        for (what, count, at_most) in left {
            if count > at_most {
                let text = format!("{count} {what} when all are gone: {audits:?}");
                return Err(Violation::new(Oracle::Leak, text));
            }
        }
        Ok(())
    }

    /// The server shuts down; nothing at all may be left.
    pub(super) fn end(&mut self) -> Result<(), Violation> {
        let now = self.world.borrow().now();
        self.control.drain(now);
        self.sessions.drains = true;
        self.arrivals.left = 0;
        self.end_stalls();
        self.go_on("shutting down", |s| s.sleeps.iter().all(|sleep| *sleep == Sleep::Over))?;
        self.shards.iter().for_each(Shard::invariants);
        let took = self.world.borrow().now().millis_since(now);
        let audits: Vec<_> = self.shards.iter_mut().map(Shard::audit).collect();
        if took < Limits::tiny().drain_time.0 {
            self.audit_empty(&audits)?;
            self.audit_log()?;
        } else if self.jumps_taken() == 0 && self.stalled.iter().all(|until| *until <= now) {
            // No shard has stood still in the meantime, which keeps the others from their end.
            let text = format!("the shutdown met its deadline: {audits:?}");
            return Err(Violation::new(Oracle::Progress, text));
        }
        for ring in 0..self.shards.len() {
            self.world.borrow_mut().end_ring(ring);
        }
        self.end_sessions();
        self.plan.phase = Phase::Leave;
        self.clients_reset(|client| client.vanished || client.reading == Reading::Never);
        self.go_on("clients notice", |s| s.clients.iter().all(|client| client.over))
    }

    /// The log has been told of everything that was refused, and how often.
    fn audit_log(&mut self) -> Result<(), Violation> {
        self.control.act(&mut self.world.borrow_mut());
        let refused: u64 = self.metrics.refusals().iter().map(|(_, times)| times).sum();
        let slow: u64 = self.metrics.shards().map(|one| one.slow_consumers_total.value()).sum();
        let told = self.control.told();
        if told == refused + slow {
            return Ok(());
        }
        let text = format!("{refused} refused and {slow} too slow, the log was told of {told}");
        Err(Violation::new(Oracle::Refusal, text))
    }

    pub(super) fn jumps_taken(&self) -> u64 {
        self.world.borrow().counts.of(Event::ClockJump)
    }

    pub(super) fn audit_empty(
        &mut self,
        audits: &[crate::engine::audit::Audit],
    ) -> Result<(), Violation> {
        for (ring, audit) in audits.iter().enumerate() {
            let zero = crate::engine::audit::Audit {
                segments_free: audit.segments_free,
                blocks_free: audit.blocks_free,
                ..Default::default()
            };
            let lent = self.world.borrow().buffers_lent(ring);
            let idle = self.world.borrow().is_idle(ring);
            if *audit != zero || lent != Limits::tiny().receive_buffers as usize || !idle {
                let text = format!("shard {ring}, {lent} buffers lent, idle {idle}: {audit:?}");
                return Err(Violation::new(Oracle::Leak, text));
            }
        }
        Ok(())
    }
}

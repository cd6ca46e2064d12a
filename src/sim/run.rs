//! One run: shards, clients and the control thread take turns at random, on one thread, until
//! everything has ended; then the oracles check the history.

use super::bounds::Look;
use super::browser::Browser;
use super::client::{Client, Reading, Role};
use super::control::Control;
use super::counts::{Counts, Event};
use super::echoer::Echoer;
use super::entries::{Bug, Mail};
use super::history::{History, Secret};
use super::http_client::{CALLS, HttpClient};
use super::misbehaving::Misbehaving;
use super::mutation::Mutation;
use super::oracle;
use super::over_http::OverHttp;
use super::panics::{Caught, caught};
use super::ring::SimRing;
use super::scene::{NEVER, Phase, Plan, Scene};
use super::sessions::{Owner, Sessions};
use super::setting::Setting;
use super::trace::{self, Waiting};
use super::violation::{Oracle, Violation};
use super::wire::Wire;
use super::world::World;
use crate::engine::shard::Shard;
use crate::ids::{ShardId, Slot};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::ring::Wait;
use crate::time::Instant;
use core::net::SocketAddr;
use std::cell::RefCell;
use std::rc::Rc;

/// Options of a run besides its seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A bug to add.
    pub mutation: Option<Mutation>,
    /// Record what happens.
    pub trace: bool,
    /// Stop after this many operations of the rings, at the end of the step.
    pub until: Option<u64>,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// Of a panic: where it was, and the functions that were running, the innermost first.
    pub backtrace: Vec<String>,
    /// How often each fault happened.
    pub counts: Counts,
    /// Operations that the rings requested.
    pub operations: u64,
    /// Actions that clients took.
    pub actions: u64,
    /// Messages that clients received.
    pub received: u64,
    /// Subscriptions that received everything to the end.
    pub complete: u64,
    /// Presence was watched from the beginning to the end.
    pub watched: bool,
    /// A checksum of everything that happened: equal for equal runs.
    pub digest: u64,
    /// What happened, line by line, if it was recorded.
    pub trace: Vec<String>,
}

/// Virtual time in which the main part has to be over.
const PLAY_MAX: u64 = 600_000_000_000;
/// Virtual time after the last arrival in which clients act.
const LAST_ACTIONS: u64 = 20_000_000_000;
/// The most virtual time that passes in one step while the end of a phase is waited for.
const LEAP: u64 = 1_000_000_000;
/// The least number of operations of a run.
pub const OPERATIONS_MIN: u64 = 2_000;
/// How many of a thousand runs have sessions over HTTP.
const OVER_HTTP: u32 = 250;
/// Client addresses on this machine.
const HOSTS: u64 = 6;

/// When a shard continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// It has ended a turn, and is about to wait.
    Awake,
    /// It waits for a completion, until this time.
    Until(Instant),
    /// It has ended.
    Over,
}

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Report {
    let mut simulation = Simulation::new(seed, options);
    let (violation, backtrace) = match caught(|| simulation.play()) {
        Ok(result) => (result.err(), Vec::new()),
        Err(Caught { text, backtrace }) => (Some(Violation::new(Oracle::Panic, text)), backtrace),
    };
    Report { backtrace, ..simulation.report(seed, violation) }
}

/// Clients that are still to come, and when the next one does.
pub(super) struct Arrivals {
    pub(super) left: u32,
    next_at: Instant,
}

pub(super) struct Simulation {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) shards: Vec<Shard<SimRing>>,
    pub(super) sleeps: Vec<Sleep>,
    pub(super) control: Control,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) plan: Plan,
    pub(super) metrics: Metrics,
    pub(super) bug: Bug,
    /// Sessions over HTTP.
    pub(super) sessions: Sessions,
    pub(super) arrivals: Arrivals,
    pub(super) steps: u64,
    turns: u64,
    /// Clients that have neither left nor vanished: only these are checked.
    pub(super) active: Vec<usize>,
    pub(super) limits: Limits,
    /// The watcher has seen everything.
    pub(super) watched_all: bool,
    /// Jumps of the clock that are left, and when the next one comes.
    jumps: (u32, Instant),
    /// How many stalls of shards are left, and until when each shard is or was last stalled.
    stalls: u32,
    pub(super) stalled: Vec<Instant>,
    /// The run is ended in the middle, after this many operations.
    pub(super) power_cut: Option<u64>,
}

impl Simulation {
    pub(super) fn new(seed: u64, options: Options) -> Simulation {
        let mut world = World::new(seed);
        if options.trace {
            world.start_trace();
        }
        world.until = options.until;
        world.mutation = options.mutation.filter(|mutation| mutation.is_of_kernel());
        let setting = Setting::new(world);
        let Setting { world, shared, shards, control, metrics, limits, .. } = setting;
        let Setting { secret, rules, reloaded, sealed, .. } = setting;
        let mut machine = world.borrow_mut();
        let (now, random) = (machine.now(), &mut machine.random);
        let arrivals = Arrivals { left: random.between(30, 70) as u32, next_at: now };
        let jumps = if random.chance(200) { 2 } else { 0 };
        let stalls = if random.chance(250) { 2 } else { 0 };
        let power_cut = random.chance(200).then(|| random.between(OPERATIONS_MIN, 4_000));
        let moves = *random.pick(&[0, 10, 100]);
        let over_http = if random.chance(OVER_HTTP) { 25 } else { 0 };
        let budget = random.between(400, 700) as u32;
        let crowd = random.chance(300);
        let reload_at = reloaded.as_ref().map(|_| random.between(50, 400));
        drop(machine);
        let sleeps = shards.len();
        Simulation {
            world,
            sleeps: vec![Sleep::Awake; sleeps],
            shards,
            clients: Vec::new(),
            history: History::new(secret, rules),
            plan: Plan {
                phase: Phase::Main,
                budget,
                callback: shared.config.callbacks[0].clone(),
                calls: vec![None; CALLS],
                sessions: Vec::new(),
                crowd,
                moves,
                over_http,
                reload_at,
                sealed,
            },
            control: Control::new(control, shared, reloaded),
            metrics,
            bug: Bug::new(options.mutation.filter(|mutation| !mutation.is_of_kernel())),
            arrivals,
            steps: 0,
            turns: 0,
            active: Vec::new(),
            limits,
            watched_all: false,
            jumps: (jumps, Instant(now.0 + 300_000_000)),
            stalls,
            stalled: vec![Instant(0); sleeps],
            sessions: Sessions::new(sleeps),
            power_cut,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.arrive(true);
        self.go_on("the watcher subscribes", |s| s.watched().is_some() || s.clients[0].over)?;
        let begun = self.world.borrow().now().0;
        while !self.has_played() {
            self.step()?;
            if self.world.borrow().now().0 > begun + PLAY_MAX {
                let text = format!("the main part: {}", self.owed());
                return Err(Violation::new(Oracle::Progress, text));
            }
        }
        if self.power_cut.is_none() {
            self.settle()?;
        }
        self.end()?;
        let missed = oracle::validate(&self.history)?;
        let (oldest, conflated) = self.dropped();
        oracle::validate_missed(missed, oldest + conflated)
    }

    /// Messages that shards have counted as dropped.
    fn dropped(&self) -> (u64, u64) {
        let shards = self.metrics.shards();
        shards.fold((0, 0), |(oldest, conflated), shard| {
            (oldest + shard.dropped_oldest.value(), conflated + shard.dropped_conflated.value())
        })
    }

    fn report(&mut self, seed: u64, violation: Option<Violation>) -> Report {
        let mut world = self.world.borrow_mut();
        let mut counts = world.counts.clone();
        counts.refuse(&self.metrics);
        for shard in self.metrics.shards() {
            counts.add(Event::SegmentsShort, shard.segment_shortages_total.value());
            counts.add(Event::SlowConsumer, shard.slow_consumers_total.value());
            counts.add(Event::DroppedOldest, shard.dropped_oldest.value());
            counts.add(Event::Conflated, shard.dropped_conflated.value());
            counts.add(Event::ProducerPaused, shard.producers_paused_total.value());
            counts.add(Event::CapacityRefused, shard.refused_capacity_total.value());
            counts.add(Event::Deadline, shard.timeouts_total.value());
        }
        let received = |s: &super::history::Subscription| s.received.len() as u64;
        Report {
            seed,
            violation,
            backtrace: Vec::new(),
            counts,
            operations: world.operations(),
            actions: self.history.actions,
            received: self.history.subscriptions.iter().map(received).sum(),
            complete: self.history.subscriptions.iter().filter(|s| s.complete).count() as u64,
            watched: self.watched_all,
            digest: world.digest(),
            trace: world.take_trace(),
        }
    }

    /// The watcher's subscription, once it has begun.
    pub(super) fn watched(&mut self) -> Option<usize> {
        let Simulation { world, history, plan, clients, .. } = self;
        let mut world = world.borrow_mut();
        let scene = Scene { world: &mut world, history, plan };
        match &clients.first()?.role {
            Role::Browser(browser) => browser.watched(&scene),
            _ => None,
        }
    }

    /// The main part is over when its actions are taken or its clients have gone, but not before
    /// the least number of operations.
    pub(super) fn has_played(&mut self) -> bool {
        let world = self.world.borrow();
        let operations = world.operations();
        if self.power_cut.is_some_and(|cut| operations >= cut) {
            return true;
        }
        let gone = self.active.iter().all(|&client| client == 0);
        let gone = gone || world.now().0 > self.arrivals.next_at.0 + LAST_ACTIONS;
        let stands = self.stalled.iter().any(|until| world.now() < *until);
        let played = !stands && (self.plan.budget == 0 || self.arrivals.left == 0 && gone);
        if played && operations < OPERATIONS_MIN {
            self.plan.budget = self.plan.budget.max(100);
            self.arrivals.left = self.arrivals.left.max(10);
            return false;
        }
        played
    }

    /// One step: something happens, or time passes.
    pub(super) fn step(&mut self) -> Result<(), Violation> {
        if self.world.borrow().is_to_stop() {
            return Err(Violation::new(Oracle::Until, "the run stops here".to_owned()));
        }
        self.steps += 1;
        let count = self.shards.len();
        let all = count + self.active.len() + 1;
        let (first, signal) = {
            let mut world = self.world.borrow_mut();
            let nanos = world.random.below(20_000);
            world.advance(nanos);
            let random = &mut world.random;
            let first = if random.chance(500) { random.index(count) } else { random.index(all) };
            (first, random.chance(5).then(|| random.index(count)))
        };
        self.steps_of_chance();
        self.look_after();
        let now = self.world.borrow().now();
        if let Some(shard) = signal
            && let Sleep::Until(_) = self.sleeps[shard]
            && now >= self.stalled[shard]
        {
            // A signal ends a wait.
            return self.turn(shard);
        }
        match self.next_actor(first, all) {
            Some(actor) if actor < count => self.turn(actor),
            Some(actor) if actor < all - 1 => self.act(self.active[actor - count]),
            Some(_) => {
                let before = self.entries(count);
                self.control.act(&mut self.world.borrow_mut());
                trace::tell(before, self.entries(count), &self.world);
                Ok(())
            }
            None => {
                self.pass_time();
                Ok(())
            }
        }
    }

    /// The next one with something to do, from `first` on: a shard, an active client, or the
    /// control thread, which is the last of `all`.
    fn next_actor(&mut self, first: usize, all: usize) -> Option<usize> {
        let count = self.shards.len();
        let mut world = self.world.borrow_mut();
        let now = world.now();
        let mut actor = first;
        for _ in 0..all {
            let is_ready = if actor < count {
                match self.sleeps[actor] {
                    _ if now < self.stalled[actor] => false,
                    Sleep::Awake => true,
                    Sleep::Until(_) if self.sessions.has_asked(actor) => true,
                    Sleep::Until(until) => now >= until || world.is_ready(actor),
                    Sleep::Over => false,
                }
            } else if actor < all - 1 {
                self.clients[self.active[actor - count]].is_ready(&world)
            } else {
                while world.rung_outsider().is_some() {
                    self.control.ring();
                }
                self.control.is_ready(now)
            };
            if is_ready {
                return Some(actor);
            }
            actor = if actor + 1 == all { 0 } else { actor + 1 };
        }
        None
    }

    /// Whether one more client is to connect; none does before the watcher is subscribed.
    fn may_arrive(&mut self) -> bool {
        let is_time = self.plan.phase == Phase::Main && self.arrivals.left > 0;
        is_time && (self.clients[0].over || self.watched().is_some())
    }

    /// Arrivals, and what happens to clocks.
    fn steps_of_chance(&mut self) {
        let now = self.world.borrow().now();
        if now >= self.arrivals.next_at && self.may_arrive() {
            self.arrive(false);
        }
        if self.stalls > 0 && self.plan.phase == Phase::Main && self.steps.is_multiple_of(1_000) {
            // Its thread gets no time, and everything that waits for its answer has to wait.
            self.stalls -= 1;
            self.stand_still(500, 4_000);
        }
        if self.jumps.0 > 0 && now >= self.jumps.1 && self.plan.phase == Phase::Main {
            self.jumps.0 -= 1;
            let mut world = self.world.borrow_mut();
            let millis = world.random.between(500, 6_000);
            world.jump(millis);
            self.jumps.1 = Instant(world.now().0 + 700_000_000);
        }
        match self.history.secret {
            Secret::Open if self.plan.reload_at.is_some_and(|at| self.history.actions >= at) => {
                self.control.reload(now);
                self.history.secret = Secret::Closing;
                if self.world.borrow_mut().random.chance(500) {
                    // Sessions that lose a subscription by it may have outstanding RECEIPTs.
                    self.stand_still(100, 1_500);
                }
            }
            Secret::Closing if self.control.has_reloaded() => {
                let tick = self.history.tick();
                self.history.secret = Secret::Closed(tick);
            }
            _ => {}
        }
        if self.steps.is_multiple_of(16) && self.world.borrow().has_jumped() {
            self.world.borrow_mut().end_jump();
        }
    }

    /// Nothing is to be done now: moves time on to the next event.
    fn pass_time(&mut self) {
        let may_arrive = self.may_arrive();
        let mut world = self.world.borrow_mut();
        let mut next = self.control.next_at();
        for (ring, sleep) in self.sleeps.iter().enumerate() {
            if world.now() < self.stalled[ring] {
                next = next.min(self.stalled[ring]);
                continue;
            }
            match sleep {
                Sleep::Until(until) => next = next.min(*until),
                Sleep::Awake => next = world.now(),
                Sleep::Over => continue,
            }
            if self.sessions.has_asked(ring) {
                next = world.now();
            }
            if world.is_busy(ring) {
                next = world.now();
            }
        }
        for &client in &self.active {
            next = next.min(self.clients[client].next_at(&world));
        }
        if may_arrive {
            next = next.min(self.arrivals.next_at);
        }
        let now = world.now();
        let all_is_over = self.plan.phase != Phase::Main;
        if next == NEVER || all_is_over {
            // Calm is checked between steps: an idle shard wakes up only after a minute, which is
            // longer than the phases wait.
            next = next.min(Instant(now.0 + LEAP));
        }
        world.advance(next.0.saturating_sub(now.0));
    }

    /// A shard goes to sleep, or wakes up for a turn.
    fn turn(&mut self, at: usize) -> Result<(), Violation> {
        if self.sleeps[at] == Sleep::Awake && !self.sessions.has_asked(at) {
            match self.shards[at].wait() {
                Wait::No => {}
                Wait::Until(until) => {
                    let mut world = self.world.borrow_mut();
                    world.submit(at);
                    self.sleeps[at] = Sleep::Until(until + world.oversleep());
                    return Ok(());
                }
            }
        }
        self.mutate(at);
        self.move_one(at);
        self.sessions.is_heard(at);
        self.turns += 1;
        trace::tell_turn(&self.world, self.turns, at);
        let before = self.entries(at);
        self.sleeps[at] = match self.shards[at].turn() {
            true => Sleep::Awake,
            false => Sleep::Over,
        };
        trace::tell(before, self.entries(at), &self.world);
        if self.turns.is_multiple_of(16) {
            self.shards[at].invariants();
        }
        if self.sleeps[at] == Sleep::Over {
            // Its last operations still reach the kernel.
            self.world.borrow_mut().submit(at);
        }
        self.look_at(at)?;
        self.serve(at);
        Ok(())
    }

    /// What waits of a peer, for a trace.
    fn entries(&mut self, from: usize) -> Option<Waiting> {
        let is_traced = self.world.borrow().is_traced();
        is_traced.then(|| Waiting::of(from, &mut self.shards, &mut self.control))
    }

    /// Checks the bounds after a turn. Only for a sample of turns, since it walks the tables.
    fn look_at(&mut self, at: usize) -> Result<(), Violation> {
        if self.shards[at].blocked() > 0 {
            self.world.borrow_mut().counts.note(Event::SealedBlocked);
        }
        if !self.steps.is_multiple_of(8) {
            return Ok(());
        }
        let look = Look {
            at,
            limits: &self.limits,
            collects: self.history.rules.collect(),
            stalled: (self.jumps_taken() == 0).then_some(&self.stalled),
            shard: &mut self.shards[at],
        };
        look.check(&mut self.world.borrow_mut())
    }

    /// A connection is moved that has nothing to be told: the engine moves fewer by itself.
    fn move_one(&mut self, from: usize) {
        let mut world = self.world.borrow_mut();
        if self.plan.phase != Phase::Main || !world.random.chance(self.plan.moves) {
            return;
        }
        let first = Slot(world.random.below(20) as u32);
        let to = ShardId(world.random.index(self.shards.len()) as u8);
        drop(world);
        self.shards[from].move_one(first, to);
    }

    fn mutate(&mut self, to: usize) {
        let Some(mutation) = self.bug.mutation else { return };
        let mut world = self.world.borrow_mut();
        let is_idle = mutation == Mutation::Uncounted && !self.history.rules.shed_all();
        if is_idle || self.history.actions < 50 || !world.random.chance(300) {
            return;
        }
        let from = world.random.index(self.shards.len());
        let mail = Mail { shards: &mut self.shards, from, to };
        self.bug.add(mail, &mut world.random);
    }

    fn act(&mut self, client: usize) -> Result<(), Violation> {
        let Simulation { world, history, plan, clients, .. } = self;
        let mut world = world.borrow_mut();
        let acted = clients[client].act(&mut Scene { world: &mut world, history, plan });
        if clients[client].over || clients[client].vanished {
            self.active.retain(|&other| other != client);
        }
        drop(world);
        self.bring(client);
        acted
    }

    /// Handles clients that have come back or were ended from outside.
    pub(super) fn find_active(&mut self) {
        let active = self.clients.iter().filter(|client| !client.over && !client.vanished);
        self.active = active.map(|client| client.number).collect();
    }

    /// A client connects.
    pub(super) fn arrive(&mut self, is_watcher: bool) {
        let number = self.clients.len();
        let Simulation { world, history, plan, clients, shards, sessions, .. } = self;
        let mut world = world.borrow_mut();
        let aside = !plan.crowd || world.random.chance(300);
        let ring = if aside { world.random.index(shards.len()) } else { shards.len() - 1 };
        let foreign = !is_watcher && world.random.chance(50);
        let own = world.random.between(1, HOSTS) as u8;
        let host = if foreign { [10, 0, 0, 7] } else { [127, 0, 0, own] };
        let peer = SocketAddr::from((host, 1_024 + number as u16));
        let is_sealed = plan.sealed && world.random.chance(500);
        let mut wire = Wire::connect(ring, peer, is_sealed, &mut world);
        let mut scene = Scene { world: &mut world, history, plan };
        let kind = if foreign { 90 } else { scene.random().below(100) };
        if !foreign && !is_watcher && kind < scene.plan.over_http {
            let over_http = Box::new(OverHttp::new(ring, peer, scene.random()));
            wire = wire.over(over_http, is_sealed);
            sessions.begin(number, ring);
        }
        let role = match kind {
            _ if is_watcher => Role::Browser(Browser::watcher(number, &mut scene, &mut wire)),
            0..=64 => {
                let user = scene.random().below(9) as usize;
                let user = (user < super::target::USERS).then_some(user);
                Role::Browser(Browser::new(number, user, &mut scene, &mut wire))
            }
            65..=72 => Role::Echoer(Echoer::new(&mut scene, &mut wire)),
            73..=84 => Role::Misbehaving(Misbehaving::new(&mut scene, &mut wire)),
            _ => Role::HttpClient(HttpClient::new(number, foreign, &mut scene)),
        };
        let slow = if scene.plan.crowd { 8 } else { 20 };
        let reading = match scene.random().below(slow) {
            _ if is_watcher => Reading::Prompt,
            _ if role.is_deaf() => Reading::Never,
            0..=1 => Reading::Slow(scene.random().between(20, 300)),
            2..=3 => Reading::Moody,
            4 => Reading::Never,
            _ => Reading::Prompt,
        };
        clients.push(Client::new(number, wire, reading, role));
        self.active.push(number);
        if !is_watcher {
            self.arrivals.left -= 1;
            let late = if scene.random().chance(100) { 900_000 } else { 20_000 };
            self.arrivals.next_at = scene.soon(10, late);
        }
    }
}

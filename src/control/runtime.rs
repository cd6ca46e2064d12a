//! The thread: its loop, and how it starts and ends.

use super::call;
use super::events;
use super::hooks::{Call, Calls};
use super::log::{self, Level, Log};
use super::outgoing::Outgoing;
use super::provider::Provider;
use super::reload::merge;
use super::reply::{self, Answered, Backend, Fault};
use super::signals::{Signal, Signals};
use crate::broker::command::ReplyTo;
use crate::config::Sources;
use crate::engine::mailbox::{Mailbox, ToControl, ToShard};
use crate::engine::shared::Shared;
use crate::ids::{PeerId, ShardId};
use crate::limits::{self, HOMES_MAX, REFUSALS_WAITING};
use crate::mem::shares::Kind;
use crate::ring::{Doorbells, Flavor, StartError};
use hashbrown::HashMap;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// Entries of this thread's own ring: it carries the log and nothing else.
const ENTRIES: u32 = 16;
/// A signal to end so soon after the first one does not count as a second one: what stops a whole
/// group of processes (a terminal, a supervisor with its shell) sends several.
const STOP_AGAIN: Duration = Duration::from_millis(limits::STOP_AGAIN.0 as u64);
/// How soon a full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// Shards count `drain-time` from their entry; they get this much longer to report that they ended.
const DRAIN_MARGIN: Duration = Duration::from_millis(200);
/// How long the last lines of the log may take.
const LOG_TIME: Duration = Duration::from_secs(1);

/// Why a configuration that would be good at a start is not good at a reload.
const KEPT: &str = "keys that need a restart keep their values, and the new ones do not fit them";

/// What a shard's thread reports of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is ready to run.
    Ready {
        /// Which one.
        shard: ShardId,
        /// Connections that it has room for.
        slots: u32,
        /// The kind of its ring.
        flavor: Flavor,
    },
    /// It cannot start.
    Refused {
        /// Which one.
        shard: ShardId,
        /// Why.
        error: StartError,
    },
    /// It has ended.
    Ended {
        /// Which one.
        shard: ShardId,
        /// Whether it ended by a panic.
        panicked: bool,
    },
}

/// Reports for one shard's thread. When it is dropped it reports that the thread has ended, by
/// return or by panic: make it the thread's first value, so that it is dropped last.
#[derive(Debug)]
pub struct Reporter {
    shard: ShardId,
    reports: mpsc::UnboundedSender<Report>,
}

impl Reporter {
    /// Whose reporter it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The shard is ready to run.
    pub fn ready(&self, slots: u32, flavor: Flavor) {
        self.say(Report::Ready { shard: self.shard, slots, flavor });
    }

    /// The shard cannot start.
    pub fn refused(&self, error: StartError) {
        self.say(Report::Refused { shard: self.shard, error });
    }

    fn say(&self, report: Report) {
        // Nobody listens any more when the process ends.
        let _ = self.reports.send(report);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.say(Report::Ended { shard: self.shard, panicked });
    }
}

/// Receives the shards' reports.
#[derive(Debug)]
pub struct Reports(mpsc::UnboundedReceiver<Report>);

impl Reports {
    /// The next report, for a thread outside of the runtime. None when every reporter is gone.
    pub fn wait(&mut self) -> Option<Report> {
        self.0.blocking_recv()
    }
}

/// A reporter for each shard, and what receives their reports. A shard makes at most two.
pub fn reports(shards: u8) -> (Vec<Reporter>, Reports) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let voice = |shard| Reporter { shard: ShardId(shard), reports: sender.clone() };
    ((0..shards).map(voice).collect(), Reports(receiver))
}

/// What the control thread is made of.
pub struct Setup {
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// What a reload reads.
    pub sources: Sources,
    /// Its end of the mailboxes: the last peer.
    pub mailbox: Mailbox,
    /// The doorbells of all peers.
    pub doorbells: Doorbells,
    /// The shards' reports; each shard has reported that it is ready.
    pub reports: Reports,
    /// The log file; standard error without one.
    pub log: Option<PathBuf>,
    /// Called when signals are handled and the log is open.
    pub ready: Box<dyn FnOnce(&Log) + Send>,
}

/// How a run ended without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All sessions were told, or `drain-time` was over.
    Drained,
    /// A second signal, not within a second of the first, cut it short.
    Hurried,
}

/// Why the control thread cannot run, or go on.
#[derive(Debug)]
pub enum Failure {
    /// Its runtime, doorbell, HTTP client or signals could not be made.
    Start(io::Error),
    /// The log file cannot be opened.
    Log(PathBuf, io::Error),
    /// A shard has ended unexpectedly.
    ShardEnded(ShardId),
}

/// Runs the control plane on this thread until the process is to end.
pub fn run(setup: Setup) -> Result<End, Failure> {
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(ENTRIES));
    let runtime = runtime.map_err(Failure::Start)?;
    let end = runtime.block_on(run_inside(setup));
    // Dropping it would wait for host names that are still being resolved, however long that takes.
    core::mem::forget(runtime);
    end
}

async fn run_inside(setup: Setup) -> Result<End, Failure> {
    let signals = Signals::install().map_err(Failure::Start)?;
    let path = setup.log.clone();
    let (log, writer) = log::channel(setup.log).await.map_err(|error| match path {
        Some(path) => Failure::Log(path, error),
        None => Failure::Start(error),
    })?;
    let me = PeerId(setup.shared.shards);
    let doorbell = setup.doorbells.event(me).try_clone_to_owned();
    let doorbell = doorbell.and_then(pipe::Receiver::from_owned_fd_unchecked);
    let shards = usize::from(setup.shared.shards);
    let mut control = Control {
        doorbell: doorbell.map_err(Failure::Start)?,
        client: call::client().map_err(|error| Failure::Start(io::Error::other(error)))?,
        shared: setup.shared,
        sources: setup.sources,
        mailbox: setup.mailbox,
        doorbells: setup.doorbells,
        reports: setup.reports,
        signals,
        log: log.clone(),
        outgoing: Outgoing::new(shards),
        calls: Calls::default(),
        running: JoinSet::new(),
        provider: Provider::default(),
        asking: HashMap::new(),
        numbers: 0,
        alive: shards,
        deadline: None,
        stopped_at: None,
    };
    tokio_uring::spawn(writer.run());
    (setup.ready)(&log);
    let end = control.run().await;
    let _ = tokio::time::timeout(LOG_TIME, log.finish()).await;
    end
}

type Outcome = Result<Answered, (Fault, String)>;

struct Control {
    /// Its eventfd, which is read like a pipe: 8 bytes, and then nothing until it rings again.
    doorbell: pipe::Receiver,
    client: reqwest::Client,
    shared: Arc<Shared>,
    sources: Sources,
    mailbox: Mailbox,
    doorbells: Doorbells,
    reports: Reports,
    signals: Signals,
    log: Log,
    outgoing: Outgoing,
    calls: Calls,
    running: JoinSet<Outcome>,
    /// For the demo.
    provider: Provider,
    /// The call of each running task, without its body.
    asking: HashMap<Id, Call>,
    numbers: u64,
    /// Shards that have not ended.
    alive: usize,
    /// Set by the first signal to end.
    deadline: Option<Instant>,
    /// When that signal came.
    stopped_at: Option<Instant>,
}

/// What ended a wait.
enum Woken {
    Doorbell,
    Answered(Id, Outcome),
    Signal(Signal),
    Report(Report),
    Time,
}

impl Control {
    async fn run(&mut self) -> Result<End, Failure> {
        loop {
            self.take_entries();
            self.begin_calls();
            let was_blocked = self.is_blocked();
            self.flush();
            if was_blocked && !self.is_blocked() {
                continue;
            }
            if let Some(deadline) = self.deadline {
                let is_done = self.alive == 0 && self.calls.is_empty();
                if is_done || Instant::now() >= deadline {
                    self.say_what_is_left();
                    return Ok(End::Drained);
                }
            }
            if !self.mailbox.may_sleep() {
                tokio::task::yield_now().await;
                continue;
            }
            let woken = self.wait().await;
            self.mailbox.awake();
            match woken {
                Woken::Doorbell => {
                    // An error means that there was nothing to read.
                    let _ = self.doorbell.try_read(&mut [0; 8]);
                }
                Woken::Answered(id, outcome) => self.on_answered(id, outcome),
                Woken::Signal(Signal::Reload) => self.reload(),
                Woken::Signal(Signal::Reopen) => self.log.reopen(),
                Woken::Signal(Signal::Stop) => match self.stopped_at {
                    None => self.drain(),
                    Some(then) if then.elapsed() >= STOP_AGAIN => return Ok(End::Hurried),
                    Some(_) => self.log.info("ending already", &[]),
                },
                Woken::Report(report) => self.on_report(report)?,
                Woken::Time => {}
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let blocked = !self.outgoing.is_empty();
        let until = self.deadline.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            signal = self.signals.next() => Woken::Signal(signal),
            Some(report) = self.reports.0.recv() => Woken::Report(report),
            ready = self.doorbell.readable() => {
                ready.expect("the runtime outlives its tasks");
                Woken::Doorbell
            }
            Some(joined) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                match joined {
                    Ok((id, outcome)) => Woken::Answered(id, outcome),
                    Err(error) => {
                        Woken::Answered(error.id(), Err((Fault::Broken, error.to_string())))
                    }
                }
            }
            () = tokio::time::sleep(RETRY), if blocked => Woken::Time,
            () = tokio::time::sleep_until(until), if self.deadline.is_some() => Woken::Time,
        }
    }

    /// Whether too many entries wait for a call to begin: its answer would have to wait too.
    fn is_blocked(&self) -> bool {
        self.outgoing.len() >= self.shared.limits.mailbox as usize
    }

    /// Takes everything that the shards send, however much waits: what is past a bound is refused,
    /// and no shard waits for this thread.
    fn take_entries(&mut self) {
        for shard in (0..self.shared.shards).map(PeerId) {
            for _ in 0..self.shared.limits.mailbox {
                let Some(entry) = self.mailbox.take(shard) else { break };
                match entry {
                    ToControl::Hook { message, user, session, reply_to, place } => {
                        self.on_hook(Call::new(&message, session, user).at(place), reply_to);
                    }
                    ToControl::Log(event) => events::write(&self.log, &self.shared, &event),
                }
            }
        }
    }

    fn on_hook(&mut self, call: Call, reply_to: ReplyTo) {
        let hooks = self.shared.config.hooks;
        if self.calls.has_room(call.session, hooks.queue, hooks.concurrent) {
            self.calls.take(call);
        } else {
            let counters = self.shared.metrics.control();
            counters.hooks_refused_total.add(1);
            // If a shard does not take its refusals, only receipts are sent, and `receipts` bounds
            // those.
            let most = REFUSALS_WAITING * self.shared.limits.mailbox as usize;
            match self.outgoing.events_of(call.session.shard()) < most {
                true => self.tell(&call, Fault::Full),
                false => counters.refuse(Fault::Full.into()),
            }
            self.give_back(&call);
        }
        if let Some(effect) = reply::receipt(reply_to) {
            self.outgoing.push(effect);
        }
    }

    fn begin_calls(&mut self) {
        let hooks = self.shared.config.hooks;
        while !self.is_blocked()
            && let Some(mut call) = self.calls.next(hooks.concurrent)
        {
            let url = match reply::backend(&self.shared, &call.destination) {
                Some(Backend::Url(url)) => url,
                Some(Backend::Provider) => {
                    let (shared, client) = (&self.shared, &self.client);
                    let outcome = self.provider.take(&call, shared, client, &self.log);
                    self.settle(&call, outcome);
                    continue;
                }
                None => {
                    // A reload has removed the hook.
                    self.tell(&call, Fault::NoHook);
                    self.give_back(&call);
                    self.calls.done(call.session);
                    continue;
                }
            };
            let timeout = Duration::from_millis(u64::from(hooks.timeout.0));
            let body_max = self.shared.limits.hook_body;
            let exchange =
                call::post(self.client.clone(), url.to_owned(), call.clone(), timeout, body_max);
            let id = self.running.spawn_local(exchange).id();
            call.body = Vec::new();
            self.asking.insert(id, call);
        }
    }

    fn on_answered(&mut self, id: Id, outcome: Outcome) {
        let call = self.asking.remove(&id).expect("every task has its call");
        self.settle(&call, outcome);
    }

    /// Sends a call's answer to where the application says, or tells the sender what went wrong.
    fn settle(&mut self, call: &Call, outcome: Outcome) {
        match outcome.and_then(|answer| reply::sendable(&self.shared, answer)) {
            Ok(answer) => {
                let number = self.number();
                for effect in reply::effects(&self.shared, call, &answer, number) {
                    self.outgoing.push(effect);
                }
            }
            Err((fault, error)) => {
                let values: [(&str, &dyn Display); 4] = [
                    ("destination", &call.destination),
                    ("session", &call.session),
                    ("fault", &fault.text()),
                    ("error", &error),
                ];
                let count = if error.is_empty() { 3 } else { 4 };
                // Clients cause these by sending to a hook that is down: one a second for each
                // application.
                let place = reply::place(&self.shared, &call.destination);
                self.log.limited(Level::Warn, "a hook call failed", place, &values[..count]);
                self.tell(call, fault);
            }
        }
        self.give_back(call);
        self.calls.done(call.session);
    }

    /// A call is over: its address may have another.
    fn give_back(&self, call: &Call) {
        self.shared.shares.give_back(call.place, Kind::HookCalls);
    }

    fn tell(&mut self, call: &Call, fault: Fault) {
        self.shared.metrics.control().refuse(fault.into());
        let number = self.number();
        self.outgoing.push(reply::error(&self.shared, call, fault, number));
    }

    /// Numbers as a home gives them, `counter * HOMES_MAX + home`; the last home is this thread.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers * HOMES_MAX as u64 + (HOMES_MAX as u64 - 1)
    }

    fn flush(&mut self) {
        self.outgoing.flush(&mut self.mailbox);
        for peer in self.mailbox.doorbells() {
            self.doorbells.ring_from_outside(peer);
        }
    }

    fn reload(&mut self) {
        self.log.reopen();
        let loaded = match self.sources.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                let values: [(&str, &dyn Display); 1] = [("error", &error)];
                return self.log.error("not reloaded, the configuration stays", &values);
            }
        };
        for warning in &loaded.warnings {
            self.log.warn("the configuration may be a mistake", &[("warning", warning)]);
        }
        let (config, differences) = match merge(&self.shared.config, loaded, &self.sources) {
            Ok(merged) => merged,
            Err(error) => {
                let values: [(&str, &dyn Display); 2] = [("error", &error), ("why", &KEPT)];
                return self.log.error("not reloaded, the configuration stays", &values);
            }
        };
        for difference in &differences {
            let values: [(&str, &dyn Display); 1] = [("key", &difference.key)];
            match difference.reloadable {
                true => self.log.info("changed", &values),
                false => self.log.warn("takes effect after a restart", &values),
            }
        }
        let changed = differences.iter().filter(|difference| difference.reloadable).count();
        if changed > 0 {
            self.shared = Arc::new(self.shared.reloaded(config));
            self.send_all(&ToShard::Reload(self.shared.clone()));
        }
        self.log.info("reloaded", &[("changed", &changed)]);
    }

    fn drain(&mut self) {
        let span = Duration::from_millis(u64::from(self.shared.limits.drain_time.0));
        let now = Instant::now();
        self.stopped_at = Some(now);
        self.deadline = Some(now + span + DRAIN_MARGIN);
        self.send_all(&ToShard::Drain);
        self.log.info("ending", &[("hook-calls", &self.calls.len())]);
    }

    fn send_all(&mut self, entry: &ToShard) {
        for shard in (0..self.shared.shards).map(ShardId) {
            self.outgoing.tell(shard, entry.clone());
        }
    }

    fn on_report(&mut self, report: Report) -> Result<(), Failure> {
        match report {
            Report::Ended { shard, panicked } if panicked || self.deadline.is_none() => {
                self.log.error("a shard has ended", &[("shard", &shard.0), ("panic", &panicked)]);
                Err(Failure::ShardEnded(shard))
            }
            Report::Ended { shard, .. } => {
                self.alive -= 1;
                self.outgoing.end(shard);
                Ok(())
            }
            Report::Ready { .. } | Report::Refused { .. } => {
                unreachable!("the shards were ready before this thread ran: {report:?}")
            }
        }
    }

    fn say_what_is_left(&self) {
        if self.alive > 0 || !self.calls.is_empty() {
            let values: [(&str, &dyn Display); 2] =
                [("shards", &self.alive), ("hook-calls", &self.calls.len())];
            self.log.warn("drain-time is over", &values);
        }
        self.log.info("ended", &[]);
    }
}

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
use core::fmt;
use hashbrown::HashMap;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
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

/// A shard is ready to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Connections that it has room for.
    pub slots: u32,
    /// The kind of its ring.
    pub flavor: Flavor,
}

/// Why not all shards are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// One cannot start.
    Refused(StartError),
    /// One has ended before it was ready.
    Ended(ShardId),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReady::Refused(error) => write!(f, "{error}"),
            NotReady::Ended(shard) => write!(f, "{}", Failure::ShardEnded(*shard)),
        }
    }
}

impl core::error::Error for NotReady {}

/// A shard's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub shard: ShardId,
    /// Whether it ended by a panic.
    pub panicked: bool,
}

/// Reports for one shard's thread. When it is dropped it reports that the thread has ended, by
/// return or by panic: make it the thread's first value, so that it is dropped last.
#[derive(Debug)]
pub struct Reporter {
    shard: ShardId,
    /// Until the shard has said how it starts.
    start: Option<oneshot::Sender<Result<Ready, StartError>>>,
    ends: mpsc::UnboundedSender<Ended>,
}

impl Reporter {
    /// Whose reporter it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How the shard starts. It is said once: what is said after it is not heard.
    pub fn start(&mut self, start: Result<Ready, StartError>) {
        if let Some(to) = self.start.take() {
            // Nobody listens any more when the process ends.
            let _ = to.send(start);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // The same here.
        let _ = self.ends.send(Ended { shard: self.shard, panicked: std::thread::panicking() });
    }
}

/// Receives how the shards start, and then their ends.
#[derive(Debug)]
pub struct Reports {
    starts: Vec<oneshot::Receiver<Result<Ready, StartError>>>,
    ends: Ends,
}

/// Receives the ends of shards that were all ready.
#[derive(Debug)]
pub struct Ends(pub(super) mpsc::UnboundedReceiver<Ended>);

impl Reports {
    /// Waits until all shards are ready, on a thread outside of the runtime.
    ///
    /// The error is that of the first shard, by number, that is not.
    pub fn ready(self) -> Result<(Vec<Ready>, Ends), NotReady> {
        let mut all = Vec::with_capacity(self.starts.len());
        for (shard, start) in (0..).map(ShardId).zip(self.starts) {
            // A thread that ends drops its reporter, and with it the other end.
            let start = start.blocking_recv().map_err(|_| NotReady::Ended(shard))?;
            all.push(start.map_err(NotReady::Refused)?);
        }
        Ok((all, self.ends))
    }
}

/// A reporter for each shard, and what receives their reports. A shard makes at most two.
pub fn reports(shards: u8) -> (Vec<Reporter>, Reports) {
    let (ends, receiver) = mpsc::unbounded_channel();
    let reporter = |shard| {
        let (start, started) = oneshot::channel();
        let shard = ShardId(shard);
        (Reporter { shard, start: Some(start), ends: ends.clone() }, started)
    };
    let (reporters, starts) = (0..shards).map(reporter).unzip();
    (reporters, Reports { starts, ends: Ends(receiver) })
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
    /// The ends of the shards, which are all ready.
    pub ends: Ends,
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(error) => write!(f, "cannot start: {error}"),
            Failure::Log(path, error) => {
                write!(f, "cannot open the log file {}: {error}", path.display())
            }
            Failure::ShardEnded(shard) => {
                write!(f, "shard {} has ended unexpectedly; the process ends with it", shard.0)
            }
        }
    }
}

impl core::error::Error for Failure {}

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
        ends: setup.ends,
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
    ends: Ends,
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
    Ended(Ended),
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
                Woken::Ended(ended) => self.on_ended(ended)?,
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
            Some(ended) = self.ends.0.recv() => Woken::Ended(ended),
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
                for line in error.lines() {
                    let values: [(&str, &dyn Display); 1] = [("error", &line)];
                    self.log.error("not reloaded, the configuration stays", &values);
                }
                return;
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
            let shared = self.shared.clone();
            self.send_all(|| ToShard::Reload(shared.clone()));
        }
        self.log.info("reloaded", &[("changed", &changed)]);
    }

    fn drain(&mut self) {
        let span = Duration::from_millis(u64::from(self.shared.limits.drain_time.0));
        let now = Instant::now();
        self.stopped_at = Some(now);
        self.deadline = Some(now + span + DRAIN_MARGIN);
        self.send_all(|| ToShard::Drain);
        self.log.info("ending", &[("hook-calls", &self.calls.len())]);
    }

    fn send_all(&mut self, entry: impl Fn() -> ToShard) {
        for shard in (0..self.shared.shards).map(ShardId) {
            self.outgoing.tell(shard, entry());
        }
    }

    fn on_ended(&mut self, Ended { shard, panicked }: Ended) -> Result<(), Failure> {
        if panicked || self.deadline.is_none() {
            self.log.error("a shard has ended", &[("shard", &shard.0), ("panic", &panicked)]);
            return Err(Failure::ShardEnded(shard));
        }
        self.alive -= 1;
        self.outgoing.end(shard);
        Ok(())
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

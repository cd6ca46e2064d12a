#![forbid(unsafe_code)]
//! `ringpush serve`: wires configuration, listeners, the shards' threads and the control plane.
//!
//! It turns the sources of a configuration into a running server, and the server's end into a
//! result. It knows no protocol, and not how the rooms that it connects work.
//!
//! **How to drive it.** [`run`] once; it returns when the process is to end. One line for each
//! listener goes to standard output when all shards are ready, and only then are connections
//! accepted.
//!
//! **Bounds.** [`SHARDS_MAX`] shards; the memory that `ringpush check` prints.
//!
//! ```text
//!  load ─▶ bind ─▶ threads: pools, ring ─▶ all ready ─▶ control runs, signals ─▶ gate opens ─▶ end
//! ```

use crate::config::{Config, ConfigError, Sources, check};
use crate::control::{self, End, Failure, NotReady, Ready, Reporter};
use crate::engine::mailbox::{Mailbox, connect};
use crate::engine::shard::{self, ListenerKind, Serves, Shard};
use crate::engine::shared::{Keys, Shared};
use crate::ids::ShardId;
use crate::limits::Limits;
use crate::mem::receive::ReceivePool;
use crate::mem::region::Owner;
use crate::mem::secret::Random;
use crate::mem::segment::Segments;
use crate::metrics::Metrics;
use crate::ring::listen::{SendBound, bind};
use crate::ring::{Doorbells, Ring, StartError, Uring, process};
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The most shards. The last number below the engine's own bound is the control thread's, which
/// numbers messages like a home.
pub use crate::limits::SHARDS_MAX;

/// The command-line options of `serve`.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Where the configuration comes from, now and on reload.
    pub sources: Sources,
    /// The log file; standard error without one.
    pub log: Option<PathBuf>,
}

/// Why the server cannot start, or could not go on.
#[derive(Debug)]
pub enum ServeError {
    /// The configuration is bad.
    Config(ConfigError),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A shard's ring cannot be started.
    Ring(StartError),
    /// The machine's cores, doorbells, threads or randomness cannot be had.
    Start(io::Error),
    /// The control thread cannot run, or a shard has ended unexpectedly.
    Control(Failure),
    /// A second signal, after a second or later, cut the end short.
    Hurried,
}

impl ServeError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Hurried => 1,
            ServeError::Config(_) => crate::config::EXIT,
            // The same code as after a panic of the main thread.
            ServeError::Control(Failure::ShardEnded(_)) => 101,
            ServeError::Listen(..)
            | ServeError::Ring(_)
            | ServeError::Start(_)
            | ServeError::Control(Failure::Start(_) | Failure::Log(..)) => 3,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Config(error) => write!(f, "{error}"),
            ServeError::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            ServeError::Ring(error) => write!(f, "{error}"),
            ServeError::Start(error) => write!(f, "cannot start: {error}"),
            ServeError::Control(failure) => write!(f, "{failure}"),
            ServeError::Hurried => f.write_str("ended at once by a second signal"),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<NotReady> for ServeError {
    fn from(why: NotReady) -> ServeError {
        match why {
            NotReady::Refused(error) => ServeError::Ring(error),
            NotReady::Ended(shard) => ServeError::Control(Failure::ShardEnded(shard)),
        }
    }
}

impl From<Failure> for ServeError {
    fn from(failure: Failure) -> ServeError {
        ServeError::Control(failure)
    }
}

/// Warns everyone who starts the demo.
const DEMO: &str = "DEMO: anyone on this machine may act as any user and needs no token; \
                    for real use: demo.enabled = false";

/// One bound address: a socket for each shard.
struct Listener {
    address: SocketAddr,
    serves: Serves,
    sockets: Vec<OwnedFd>,
}

/// What one shard's thread needs to start.
struct Start {
    shard: ShardId,
    shared: Arc<Shared>,
    mailbox: Mailbox,
    doorbells: Doorbells,
    sockets: Vec<OwnedFd>,
    serves: Vec<Serves>,
    slots: u32,
    keys: Random,
    entropy: Random,
    core: Option<usize>,
    /// Opens when the server is ready as a whole.
    gate: Arc<OnceLock<()>>,
}

/// Runs the server until a signal ends it.
pub fn run(options: ServeOptions) -> Result<(), ServeError> {
    let ServeOptions { mut sources, log } = options;
    let mut config = load(&mut sources)?;
    let cores = process::cores().map_err(ServeError::Start)?;
    let machine =
        check::Machine { cores: cores.len() as u32, descriptors: process::raise_descriptors() };
    let shards = shards(&config, machine);
    let slots = slots(check::connections(&config, machine), config.limits.connections);
    let mut listeners = listen(&config, usize::from(shards))?;
    let public = listeners.iter().filter(|listener| listener.serves.endpoints);
    config.listen.bound = public.map(|listener| listener.address).collect();
    let demo = config.demo.enabled;
    let pins = if config.engine.pin { &cores[..] } else { &[] };
    let metrics = Metrics::new(usize::from(shards));
    let shared =
        Arc::new(Shared::new(config, shards, Keys::draw(&mut seeded()?), &boot()?, metrics));

    let peers = usize::from(shards) + 1;
    let doorbells = Doorbells::new(peers).map_err(ServeError::Start)?;
    let mut mailboxes = connect(peers, shared.limits.mailbox_of(peers as u32));
    let mailbox = mailboxes.pop().expect("the control thread is the last peer");
    let (reporters, reports) = control::reports(shards);
    let gate = Arc::new(OnceLock::new());
    let serves: Vec<Serves> = listeners.iter().map(|listener| listener.serves).collect();
    for (mailbox, reporter) in mailboxes.into_iter().zip(reporters) {
        let shard = reporter.shard();
        let start = Start {
            shard,
            shared: shared.clone(),
            mailbox,
            doorbells: doorbells.clone(),
            sockets: listeners.iter_mut().filter_map(|one| one.sockets.pop()).collect(),
            serves: serves.clone(),
            slots,
            keys: seeded()?,
            entropy: seeded()?,
            core: pins.get(shard.index() % pins.len().max(1)).copied(),
            gate: gate.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("shard-{}", shard.0));
        thread.spawn(move || run_shard(start, reporter)).map_err(ServeError::Start)?;
    }
    let (all, ends) = reports.ready()?;
    let flavor = all.last().map_or("", |ready| ready.flavor.label());
    let addresses = listeners.iter().map(|listener| (listener.address, listener.serves)).collect();
    let ready = Box::new(move |log: &control::Log| {
        log.info("serving", &[("shards", &shards), ("slots", &slots), ("ring", &flavor)]);
        announce(addresses, demo);
        gate.set(()).expect("it is opened here only");
    });
    let setup = control::Setup { shared, sources, mailbox, doorbells, ends, log, ready };
    match control::run(setup)? {
        End::Drained => Ok(()),
        End::Hurried => Err(ServeError::Hurried),
    }
}

/// Loads the configuration and prints warnings.
fn load(sources: &mut Sources) -> Result<Config, ServeError> {
    // The demo generates its secret; a reload must use the same one.
    sources.made_up = Some(format!("{:016x}{:016x}", random()?, random()?));
    let config = sources.load().map_err(ServeError::Config)?;
    for warning in &config.warnings {
        // If standard error is closed, nobody can be told.
        let _ = writeln!(io::stderr(), "ringpush: {warning}");
    }
    Ok(config)
}

fn shards(config: &Config, machine: check::Machine) -> u8 {
    let shards = check::shards(config, machine).min(SHARDS_MAX as u32);
    u8::try_from(shards).expect("SHARDS_MAX is small")
}

/// The descriptors that a shard requests: those of its connections, and some for connections that
/// it refuses.
fn slots(connections: u32, configured: u32) -> u32 {
    if configured == 0 { connections } else { connections + connections / 4 + 16 }
}

fn listen(config: &Config, shards: usize) -> Result<Vec<Listener>, ServeError> {
    let has_own = config.listen.api_address.is_some();
    let public = Serves { endpoints: true, api: !has_own, loopback: false };
    let api = Serves { endpoints: false, api: true, loopback: false };
    let public = config.listen.addresses.iter().map(|address| (*address, public));
    let wanted = public.chain(config.listen.api_address.map(|address| (address, api)));
    let bound = match config.limits.unsent_bytes {
        0 => SendBound::Kernel,
        bytes => SendBound::NotSent(bytes),
    };
    let listener = |(address, serves)| {
        let (address, sockets) =
            bind(address, shards, bound).map_err(|error| ServeError::Listen(address, error))?;
        let loopback = address.ip().to_canonical().is_loopback();
        Ok(Listener { address, serves: Serves { loopback, ..serves }, sockets })
    };
    wanted.map(listener).collect()
}

/// Prints one line for each listener, and one for the demo.
fn announce(addresses: Vec<(SocketAddr, Serves)>, demo: bool) {
    let mut out = io::stdout().lock();
    for (address, serves) in addresses {
        let what = if serves.endpoints { "" } else { " for the API and the page" };
        // If standard output is closed, nobody reads these lines.
        let _ = writeln!(out, "listening on http://{address}{what}");
    }
    if demo {
        let _ = writeln!(out, "{DEMO}");
    }
    let _ = out.flush();
}

/// The whole life of a shard's thread. The reporter reports its end, however it ends.
fn run_shard(start: Start, mut reporter: Reporter) {
    let gate = start.gate.clone();
    match make_shard(start) {
        Ok((mut shard, slots)) => {
            reporter.start(Ok(Ready { slots, flavor: shard.ring().flavor() }));
            gate.wait();
            while shard.turn() {}
        }
        Err(error) => reporter.start(Err(error)),
    }
}

fn make_shard(start: Start) -> Result<(Shard<Uring>, u32), StartError> {
    let at =
        |step| move |error: io::Error| StartError::System(step, error.raw_os_error().unwrap_or(0));
    if let Some(core) = start.core {
        process::pin(core).map_err(at("pin a shard to its core"))?;
    }
    let limits: &Limits = &start.shared.limits;
    let receive = ReceivePool::new(limits.receive_buffers, limits.receive_bytes)
        .map_err(at("map the receive buffers"))?;
    let memory = Owner::new(limits.segment_bytes as usize).map_err(at("map the segments"))?;
    let lent = memory.lend();
    let segments = Segments::new(memory, limits.segment_size, limits.segment_bytes);
    let ring = crate::ring::start(crate::ring::Setup {
        submission_entries: limits.submission_entries,
        completion_entries: limits.completion_entries,
        slots: start.slots,
        receive: receive.lend(),
        receive_buffers: limits.receive_buffers,
        receive_bytes: limits.receive_bytes,
        segments: lent,
        segment_size: limits.segment_size,
        listeners: start.sockets,
        send_chunk: limits.send_chunk,
        doorbells: start.doorbells,
        peer: start.shard.into(),
        flavor: None,
    })?;
    let (now, slots) = (ring.now(), ring.slots());
    let setup = shard::Setup {
        shard: start.shard,
        shared: start.shared,
        mailbox: start.mailbox,
        receive,
        segments,
        listeners: start.serves.into_iter().map(ListenerKind::from).collect(),
        slots,
        sessions: 0,
        keys: start.keys,
        entropy: start.entropy,
        now,
    };
    Ok((Shard::new(ring, setup), slots))
}

/// A generator with a seed of its own.
fn seeded() -> Result<Random, ServeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| ServeError::Start(io::Error::other(error)))?;
    Ok(Random::new(&seed))
}

fn random() -> Result<u64, ServeError> {
    getrandom::u64().map_err(|error| ServeError::Start(io::Error::other(error)))
}

/// The token of this boot: six characters of `0-9a-z`.
fn boot() -> Result<String, ServeError> {
    let mut rest = random()?;
    let mut digit = || {
        let digit = (rest % 36) as u32;
        rest /= 36;
        char::from_digit(digit, 36).expect("below 36")
    };
    Ok((0..6).map(|_| digit()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_six_characters_and_is_another_one_each_time() {
        let boots: Vec<String> = (0..4).map(|_| boot().expect("randomness")).collect();
        for boot in &boots {
            let is_digit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            assert!(boot.len() == 6 && boot.chars().all(is_digit), "{boot}");
        }
        assert!(boots.iter().any(|boot| *boot != boots[0]), "{boots:?}");
    }

    #[test]
    fn a_bound_of_connections_leaves_slots_for_those_that_are_refused() {
        assert_eq!(slots(1000, 0), 1000);
        for configured in [1, 10, 16, 1000, 20_000] {
            let slots = slots(configured, configured);
            // The engine keeps an eighth, at most 64, for refusals.
            assert!(slots - (slots / 8).min(64) > configured, "{configured}: {slots}");
        }
    }

    #[test]
    fn the_embedded_secret_is_the_same_after_a_reload() {
        let mut sources = Sources::default();
        let config = load(&mut sources).expect("the embedded application is good");
        let again = sources.load().expect("the embedded application is good");
        assert!(config.embedded && config.differences(&again).is_empty());
    }

    #[test]
    fn exit_codes_distinguish_bad_settings_from_a_bad_environment() {
        let refused = io::Error::from(io::ErrorKind::AddrInUse);
        let listen = ServeError::Listen(SocketAddr::from(([127, 0, 0, 1], 80)), refused);
        assert_eq!(listen.exit_code(), 3);
        assert!(listen.to_string().starts_with("cannot listen on 127.0.0.1:80: "), "{listen}");
        assert_eq!(ServeError::Ring(StartError::NotSupported).exit_code(), 3);
        assert_eq!(ServeError::Control(Failure::ShardEnded(ShardId(1))).exit_code(), 101);
    }
}

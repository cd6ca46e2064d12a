//! The setting of a run: its configuration and its shards.

use super::history::Secret;
use super::kernel::Setup as Kernel;
use super::mutation::Mutation;
use super::records::Sealed;
use super::ring::SimRing;
use super::rules::Rules;
use super::target::USERS;
use super::world::World;
use crate::config::{Config, SlowConsumer, Sources};
use crate::engine::mailbox::{self, Mailbox};
use crate::engine::shard::{ListenerKind, Serves, Setup, Shard};
use crate::engine::shared::{Keys, Shared};
use crate::ids::ShardId;
use crate::limits::Limits;
use crate::mem::receive::ReceivePool;
use crate::mem::region::Owner;
use crate::mem::secret::Random;
use crate::mem::segment::Segments;
use crate::metrics::Metrics;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

const CONFIG: &str = r#"
[demo]
enabled = true

[auth]
methods = ["query"]
query = { name = "userId" }

[[endpoint]]
path = "/portfolio"
protocol = "stomp"
sockjs = { heartbeat = "2s" }

[[endpoint]]
path = "/echo"
protocol = "raw"
sockjs = { heartbeat = "2s" }
on-message = "echo"

[broker]
prefixes = ["/topic", "/queue"]
application-prefixes = ["/ws"]
user-prefix = "/user"
heartbeat = ["1500ms", "1500ms"]

[[allow]]
action = "send"
destination = "/topic/**"
users = "*"

[[allow]]
action = "send"
destination = "/queue/**"
users = "*"

[[allow]]
action = "send"
destination = "/user/**"
users = "authenticated"

[[application]]
destination = "/trade"
reply = { code = 0, mess = "ok" }
to-user = "/queue/sub"

[[application]]
destination = "/call"
hook = "http://127.0.0.1:9/call"
to-user = "/queue/sub"

[[application]]
destination = "/forward"
forward = "/topic/a/forward"

[[callback]]
path = "/callback/inbound"
profile = "generic"
secret-env = "RINGPUSH_CALLBACK_SECRET"
id = "/callId"
user = "/agentId"
destination = "/queue/sub"
business-type = "CALL_IN"

[presence]
topic = "/topic/presence"
"#;

/// One destination is for one user only, also under a pattern.
const SECRET: &str = r#"
[[allow]]
action = "subscribe"
destination = "/topic/secret"
users = ["u0"]
"#;

/// How many of a thousand runs have the smallest bounds.
const POOR: u32 = 300;
/// How many have a listener whose connections are sealed.
const SEALED: u32 = 400;
/// Bounds of destinations, and of patterns that begin alike, in those runs.
const FEW: (u32, u32) = (6, 2);

thread_local! {
    /// Both configurations, read once per thread.
    static CONFIGS: [Config; 2] = [read(CONFIG), read(&format!("{CONFIG}{SECRET}"))];
}

fn read(text: &str) -> Config {
    let secret = ("RINGPUSH_CALLBACK_SECRET".to_owned(), "a secret of the simulator".to_owned());
    let sources = Sources { environment: vec![secret], ..Sources::default() };
    let mut config = sources.parse(text, false).expect("the simulator's configuration is valid");
    config.limits = Limits::tiny();
    config
}

/// A run's machine and server.
pub(super) struct Setting {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Vec<Shard<SimRing>>,
    /// The control thread's end of the mailboxes.
    pub(super) control: Mailbox,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) secret: Secret,
    pub(super) rules: Rules,
    /// The shards' settings after a reload in the middle of the run, if there is one.
    pub(super) reloaded: Option<Arc<Shared>>,
    /// There is a second listener, whose connections are sealed.
    pub(super) sealed: bool,
}

/// The configuration of a run.
pub(super) struct Configured {
    pub(super) config: Config,
    pub(super) shards: u8,
    pub(super) secret: Secret,
    pub(super) rules: Rules,
    /// The configuration is reloaded, with the rule about the secret.
    pub(super) reloads: bool,
    /// There is a second listener, whose connections are sealed.
    pub(super) sealed: bool,
}

impl Setting {
    /// Builds everything with the world's randomness.
    pub(super) fn new(mut world: World) -> Setting {
        let shards = world.random.between(2, 4) as u8;
        let secret = if world.random.chance(300) { Secret::Kept } else { Secret::Open };
        let reloads = secret == Secret::Open && world.random.chance(300);
        let mut config = CONFIGS.with(|both| both[usize::from(secret == Secret::Kept)].clone());
        // Some runs have even smaller bounds.
        if world.random.chance(400) {
            config.limits.segment_bytes =
                config.limits.segment_size * world.random.between(8, 20) as u32;
            config.limits.message_blocks = world.random.between(2, 6) as u32;
        }
        if world.random.chance(POOR) {
            (config.limits.destinations, config.limits.patterns_alike) = FEW;
            config.limits.share_least = *world.random.pick(&[1, 2, FEW.0]);
        }
        // Connections move often in some runs, and by themselves never in others.
        config.limits.move_lead = *world.random.pick(&[0, 1, 1_000]);
        // The oracles use these limits, even if a mutation changes the server's.
        let limits = config.limits.clone();
        if world.mutation.take_if(|m| *m == Mutation::Limit).is_some() {
            config.limits.send_buffer *= 16;
        }
        let rules = Rules::draw(&mut world.random);
        rules.apply(&mut config);
        if world.mutation.take_if(|m| *m == Mutation::Policy).is_some() {
            config.slow = Vec::new();
            config.slow_consumer = SlowConsumer::DropOldest;
        }
        let sealed = world.random.chance(SEALED);
        let configured = Configured { config, shards, secret, rules, reloads, sealed };
        Setting { limits, ..Setting::of(world, configured) }
    }

    /// The same with everything given.
    pub(super) fn of(mut world: World, configured: Configured) -> Setting {
        let Configured { config, shards, secret, rules, reloads, sealed } = configured;
        let metrics = Metrics::new(usize::from(shards));
        let keys = Keys::known(world.random.next());
        let shared = Shared::new(config, shards, keys, "b00t", metrics.clone());
        let reloaded = reloads.then(|| {
            let mut config = shared.config.clone();
            config.allow = CONFIGS.with(|both| both[1].allow.clone());
            Arc::new(shared.reloaded(config))
        });
        let shared = Arc::new(shared);
        let entries = shared.limits.mailbox;
        let mut mailboxes = mailbox::connect(usize::from(shards) + 1, entries);
        let control = mailboxes.pop().expect("one more than shards");
        let world = Rc::new(RefCell::new(world));
        let shards = mailboxes.into_iter().enumerate();
        let shards = shards
            .map(|(number, mailbox)| shard(&world, &shared, (number, sealed), mailbox))
            .collect();
        let limits = shared.limits.clone();
        Setting { world, shared, shards, control, metrics, limits, secret, rules, reloaded, sealed }
    }

    /// The configuration of every run, without a rule about the secret.
    #[cfg(test)]
    pub(super) fn config() -> Config {
        CONFIGS.with(|both| both[0].clone())
    }

    /// Name of a user.
    pub(super) fn users() -> impl Iterator<Item = String> {
        (0..USERS).map(|user| format!("u{user}"))
    }
}

fn shard(
    world: &Rc<RefCell<World>>,
    shared: &Arc<Shared>,
    (number, sealed): (usize, bool),
    mailbox: Mailbox,
) -> Shard<SimRing> {
    let limits = &shared.limits;
    let pool = ReceivePool::new(limits.receive_buffers, limits.receive_bytes);
    let receive = pool.expect("a small pool can be mapped");
    let memory = Owner::new(limits.segment_bytes as usize).expect("a small pool can be mapped");
    let serves = Serves { endpoints: true, api: true, loopback: true };
    let mut listeners = vec![ListenerKind::from(serves)];
    if sealed {
        listeners.push(ListenerKind { serves, transport: Some(Arc::new(Sealed)) });
    }
    let mut machine = world.borrow_mut();
    let slots = machine.random.between(8, 20) as u32;
    let completion_entries = machine.random.between(4, u64::from(limits.completion_entries));
    let ring = machine.add_ring(Kernel {
        receive: receive.lend(),
        receive_buffers: limits.receive_buffers,
        receive_bytes: limits.receive_bytes,
        segments: memory.lend(),
        segment_size: limits.segment_size,
        slots,
        listeners: listeners.len() as u32,
        submission_entries: limits.submission_entries,
        completion_entries: completion_entries as u32,
        send_chunk: limits.send_chunk,
    });
    let secret = machine.random.next();
    let (keys, entropy) = (Random::known(secret), Random::known(!secret));
    let now = machine.now();
    drop(machine);
    let setup = Setup {
        shard: ShardId(number as u8),
        shared: shared.clone(),
        mailbox,
        receive,
        segments: Segments::new(memory, limits.segment_size, limits.segment_bytes),
        listeners,
        slots,
        sessions: 16,
        keys,
        entropy,
        now,
    };
    Shard::new(SimRing::new(world.clone(), ring), setup)
}

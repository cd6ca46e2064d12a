//! The whole engine on quiet kernels, with sessions that browsers would have.

use super::quiet::Quiet;
use ringpush::config::Sources;
use ringpush::engine::mailbox::{self, Mailbox};
use ringpush::engine::shard::{Serves, Setup, Shard};
use ringpush::engine::shared::{Keys, Shared};
use ringpush::ids::{ConnId, ShardId, Slot};
use ringpush::limits::WS_CLIENT_HEAD_MAX;
use ringpush::mem::receive::ReceivePool;
use ringpush::mem::region::Owner;
use ringpush::mem::secret::Random;
use ringpush::mem::segment::Segments;
use ringpush::metrics::Metrics;
use ringpush::ring::Ring;
use ringpush::stomp::{ClientFrame, Command, Version};
use ringpush::time::Millis;
use ringpush::ws::{self, Opcode, mask};
use std::net::SocketAddr;
use std::sync::Arc;

const CONFIG: &str = r#"
[demo]
enabled = true

[auth]
methods = ["query"]
query = { name = "userId" }

[[endpoint]]
path = "/stomp"
protocol = "stomp"
sockjs = true

[broker]
heartbeat = ["10s", "10s"]

[[allow]]
action = "send"
destination = "/topic/**"
users = "*"

[[application]]
destination = "/trade"
reply = { code = 0, mess = "ok" }
to-user = "/queue/sub"

[[callback]]
path = "/callback"
profile = "generic"
secret-env = "SECRET"
id = "/callId"
user = "/agentId"
destination = "/queue/sub"
business-type = "CALL_IN"
"#;

/// The secret that signs callbacks.
pub const SECRET: &str = "a secret of the bench";

/// The offer of a browser that compresses.
pub const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// The key of every frame: a server has to unmask with any that is not zero.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];

/// One session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    pub shard: usize,
    pub conn: ConnId,
}

/// The shards, and the control thread's end of the mailboxes.
pub struct House {
    shards: Vec<Shard<Quiet>>,
    /// What all shards know alike.
    #[allow(dead_code, reason = "the tests of a turn ask where homes are")]
    pub shared: Arc<Shared>,
    _control: Mailbox,
    /// Connections of each shard so far.
    used: Vec<u32>,
}

impl House {
    /// Shards with room for this many sessions each.
    pub fn new(shards: u8, sessions: u32) -> House {
        House::seeded(shards, sessions, [7, 11, 12])
    }

    /// The same with given seeds: for the keys that all shards share, for the keys of each shard's
    /// tables, and for the numbers that clients are told.
    pub fn seeded(shards: u8, sessions: u32, secrets: [u64; 3]) -> House {
        let environment = vec![("SECRET".to_string(), SECRET.to_string())];
        let sources = Sources { environment, ..Sources::default() };
        let config = sources.parse(CONFIG, false).expect("the configuration is right");
        let metrics = Metrics::new(usize::from(shards));
        let shared =
            Arc::new(Shared::new(config, shards, Keys::known(secrets[0]), "b00t", metrics));
        let mut mailboxes = mailbox::connect(usize::from(shards) + 1, shared.limits.mailbox);
        let control = mailboxes.pop().expect("one more than shards");
        let shards: Vec<_> = (0..shards)
            .zip(mailboxes)
            .map(|(number, mailbox)| {
                shard(&shared, ShardId(number), mailbox, sessions + 64, secrets)
            })
            .collect();
        House { used: vec![0; shards.len()], shards, shared, _control: control }
    }

    /// A kernel.
    pub fn kernel(&mut self, shard: usize) -> &mut Quiet {
        self.shards[shard].ring()
    }

    /// Entries that shards have sent to other threads so far.
    #[allow(dead_code, reason = "the tests of a turn count them")]
    pub fn entries(&mut self) -> u64 {
        self.shards.iter_mut().map(|shard| shard.mailbox().sent()).sum()
    }

    /// One turn of every shard. True if none of them had anything to do.
    pub fn turn(&mut self) -> bool {
        let mut idle = true;
        for shard in &mut self.shards {
            assert!(shard.turn(), "nobody ends it");
            idle &= shard.ring().idle;
        }
        idle
    }

    /// Runs turns until nothing is left to do. Returns the count of turns.
    pub fn settle(&mut self) -> u32 {
        let mut turns = 1;
        while !self.turn() {
            turns += 1;
            assert!(turns < 100_000, "it never comes to rest");
        }
        turns
    }

    /// Lets time pass on all shards.
    pub fn advance(&mut self, span: Millis) {
        self.shards.iter_mut().for_each(|shard| shard.ring().advance(span));
    }

    /// Sends and bytes of all kernels so far.
    pub fn sent(&mut self) -> (u64, u64) {
        let kernels = self.shards.iter_mut().map(Shard::ring);
        kernels.fold((0, 0), |(sends, bytes), k| (sends + k.sends, bytes + k.bytes))
    }

    /// Opens sessions on a shard, each with the subscriptions of this list.
    pub fn open(&mut self, shard: usize, users: &[String], subscribe: &[&str]) -> Vec<Session> {
        self.open_with(shard, users, subscribe, "", |_, number| format!("sub-{number}"))
    }

    /// The same with permessage-deflate, and with subscription ids made of session and number.
    pub fn open_with(
        &mut self,
        shard: usize,
        users: &[String],
        subscribe: &[&str],
        offer: &str,
        id: impl Fn(&str, usize) -> String,
    ) -> Vec<Session> {
        let upgraded = users.iter().map(|user| self.upgrade(shard, user, offer));
        let sessions: Vec<Session> = upgraded.collect();
        self.settle();
        let connect = [("accept-version", "1.2"), ("host", "x"), ("heart-beat", "10000,10000")];
        for (&session, user) in sessions.iter().zip(users) {
            self.say(session, &frame(Command::Connect, &connect, ""));
            for (number, destination) in subscribe.iter().enumerate() {
                let id = id(user, number);
                let headers = [("id", &*id), ("destination", destination)];
                self.say(session, &frame(Command::Subscribe, &headers, ""));
            }
            // A few at a time, since receive buffers are few.
            self.turn();
        }
        self.settle();
        sessions
    }

    /// A connection that has sent nothing yet.
    pub fn connect(&mut self, shard: usize) -> Session {
        let slot = Slot(self.used[shard]);
        self.used[shard] += 1;
        self.shards[shard].ring().accept(slot, SocketAddr::from(([127, 0, 0, 1], 9)));
        Session { shard, conn: ConnId { slot, generation: 0 } }
    }

    fn upgrade(&mut self, shard: usize, user: &str, offer: &str) -> Session {
        let session = self.connect(shard);
        let kernel = self.shards[shard].ring();
        let request = format!(
            "GET /stomp?userId={user} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        kernel.receive(session.conn, request.as_bytes());
        self.turn();
        session
    }

    /// A browser's bytes reach its shard's kernel.
    pub fn say(&mut self, session: Session, bytes: &[u8]) {
        self.shards[session.shard].ring().receive(session.conn, bytes);
    }

    /// Keeps what is sent to this session from now on.
    pub fn watch(&mut self, session: Session) {
        let kernel = self.kernel(session.shard);
        kernel.watched = session.conn.slot;
        kernel.seen.clear();
    }
}

fn shard(
    shared: &Arc<Shared>,
    number: ShardId,
    mailbox: Mailbox,
    slots: u32,
    [_, tables, entropy]: [u64; 3],
) -> Shard<Quiet> {
    let limits = &shared.limits;
    let pool = ReceivePool::new(limits.receive_buffers, limits.receive_bytes);
    let receive = pool.expect("memory for the receive buffers");
    let memory = Owner::new(limits.segment_bytes as usize).expect("memory for the segments");
    let buffers = (limits.receive_buffers, limits.receive_bytes);
    let ring = Quiet::new(receive.lend(), buffers, memory.lend(), limits.segment_size);
    let setup = Setup {
        shard: number,
        shared: shared.clone(),
        mailbox,
        receive,
        segments: Segments::new(memory, limits.segment_size, limits.segment_bytes),
        listeners: vec![Serves { endpoints: true, api: true, loopback: true }.into()],
        slots,
        sessions: 0,
        keys: Random::known(tables),
        entropy: Random::known(entropy),
        now: ring.now(),
    };
    Shard::new(ring, setup)
}

/// A frame as one masked WebSocket message.
pub fn frame(command: Command, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let frame = ClientFrame { command, headers, body: body.as_bytes() };
    let mut text = vec![0; frame.len(Version::V1_2)];
    frame.write(Version::V1_2, &mut text);
    masked(&mut text)
}

/// A text message.
pub fn masked(text: &mut [u8]) -> Vec<u8> {
    let mut head = [0; WS_CLIENT_HEAD_MAX];
    let len = ws::client_head(Opcode::Text, true, text.len() as u64, MASK, &mut head);
    mask::apply(text, MASK, 0);
    [&head[..len], text].concat()
}

/// Names of users.
pub fn users(count: usize) -> Vec<String> {
    (0..count).map(|user| format!("agent{user}")).collect()
}

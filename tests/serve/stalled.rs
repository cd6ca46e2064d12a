//! Two shards on real rings in the test's own thread. The one with the listener runs all the time.
//! The other one, which is home to all broker destinations, runs only when a test says so: until
//! then everything that waits for it waits.

use crate::server::PATIENCE;
use ringpush::broker::command::Event;
use ringpush::broker::core::Class;
use ringpush::broker::message::Message;
use ringpush::config::{Config, Sources};
use ringpush::engine::audit::Audit;
use ringpush::engine::mailbox::{self, Mailbox, ToShard};
use ringpush::engine::shard::{self, Serves, Shard};
use ringpush::engine::shared::{Keys, Shared};
use ringpush::ids::{SessionId, SessionIndex, ShardId};
use ringpush::limits::{Limits, WS_CLIENT_HEAD_MAX};
use ringpush::mem::receive::ReceivePool;
use ringpush::mem::region::Owner;
use ringpush::mem::secret::Random;
use ringpush::mem::segment::Segments;
use ringpush::metrics::Metrics;
use ringpush::ring::listen::{self, SendBound};
use ringpush::ring::{Doorbells, Setup, Uring};
use ringpush::time::Millis;
use ringpush::ws::{self, Opcode, mask};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

const CONFIG: &str = "[api]\ntoken-env = 'TOKEN'\n\
     [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
     [[endpoint]]\npath = '/raw'\nprotocol = 'raw'\non-message = 'echo'\n\
     [[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'\n\
     [[application]]\ndestination = '/call'\nhook = 'http://127.0.0.1:9/'\n\
     to-user = '/queue/sub'\n";
const TOKEN: &str = "a token of the tests";
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The shards.
pub struct House {
    home: Shard<Uring>,
    front: Shard<Uring>,
    metrics: Metrics,
    doorbells: Doorbells,
    control: Mailbox,
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl House {
    /// With the given limits. Only the event under test ends a wait.
    pub fn new(set: impl FnOnce(&mut Limits)) -> House {
        let environment = vec![("TOKEN".to_owned(), TOKEN.to_owned())];
        let sources = Sources { environment, ..Sources::default() };
        let mut config: Config = sources.parse(CONFIG, false).expect("it is right");
        let limits = &mut config.limits;
        (limits.answer_time, limits.send_time) = (Millis::seconds(600), Millis::seconds(600));
        (limits.segment_bytes, limits.receive_buffers) = (16 << 20, 256);
        // One shard stands still: nobody is to move there.
        limits.moves = 0;
        set(limits);
        let metrics = Metrics::new(2);
        let shared = Arc::new(Shared::new(config, 2, Keys::known(7), "b00t", metrics.clone()));
        let mut mailboxes = mailbox::connect(3, shared.limits.mailbox);
        let control = mailboxes.pop().expect("three");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, sockets) =
            listen::bind(any, 1, SendBound::Buffer(4_096)).expect("a free port");
        let doorbells = Doorbells::new(3).expect("an eventfd");
        let front = make(&shared, 1, mailboxes.pop().expect("two"), sockets, doorbells.clone());
        let home = make(&shared, 0, mailboxes.pop().expect("one"), Vec::new(), doorbells.clone());
        House { home, front, metrics, doorbells, control, shared, address }
    }

    /// Adds these rules to the configuration of the shard with the listener.
    pub fn reloads(&mut self, rules: &str) {
        let environment = vec![("TOKEN".to_owned(), TOKEN.to_owned())];
        let sources = Sources { environment, ..Sources::default() };
        let mut config: Config =
            sources.parse(&format!("{CONFIG}{rules}"), false).expect("it is right");
        config.limits = self.shared.limits.clone();
        let reloaded = Arc::new(self.shared.reloaded(config));
        self.control.send(ShardId(1).into(), ToShard::Reload(reloaded));
        // The turn that handles the entry checks all sessions.
        let entries = self.shared.limits.mailbox as usize;
        self.until("a reload", |house| {
            house.control.room(ShardId(1).into(), Class::Event) == entries
        });
    }

    /// A hook's answer to the first session of the shard with the listener.
    pub fn answers_hook(&mut self, queue: &str) {
        let mut message = Message::default();
        message.begin(Some(""), queue);
        message.header(b"destination", b"/user/queue");
        message.finish(b"{}");
        let session = SessionId::new(ShardId(1), SessionIndex(0), 0);
        let event = Event::DeliverSession { message: Arc::new(message), session, number: 7 };
        self.control.send(ShardId(1).into(), ToShard::Event(event));
        let entries = self.shared.limits.mailbox as usize;
        self.until("an answer", |house| {
            house.control.room(ShardId(1).into(), Class::Event) == entries
        });
    }

    /// The audit of the shard with the listener.
    pub fn audit(&mut self) -> Audit {
        self.front.audit()
    }

    /// A counter of that shard.
    pub fn metrics(&self) -> &ringpush::metrics::ShardMetrics {
        self.metrics.shard(1)
    }

    /// Turns the shard with the listener until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut House) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.audit());
            // Its doorbell is rung so that it does not wait: the client is in the same thread.
            self.doorbells.ring_from_outside(ShardId(1).into());
            assert!(self.front.turn(), "nobody ends it");
        }
    }

    /// Turns both until `done`: what waited for the home continues.
    pub fn until_with_home(&mut self, what: &str, mut done: impl FnMut(&mut House) -> bool) {
        self.until(what, |house| {
            house.doorbells.ring_from_outside(ShardId(0).into());
            assert!(house.home.turn(), "nobody ends it");
            done(house)
        });
    }

    /// A connection that has sent nothing.
    pub fn connect(&mut self) -> Client {
        // Bytes that a client does not read must not fit into its socket either.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("TCP");
        socket.set_recv_buffer_size(4_096).expect("a size is valid");
        socket.connect(&self.address.into()).expect("it listens");
        socket.set_nonblocking(true).expect("a socket may be");
        let before = self.audit().connections;
        self.until("accept", |house| house.audit().connections > before);
        Client { socket: socket.into(), unsaid: Vec::new(), seen: Vec::new() }
    }

    /// One that has been upgraded.
    pub fn upgraded(&mut self, path: &str) -> Client {
        let mut client = self.connect();
        client.says(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        self.until("upgrade", |_| client.hears("\r\n\r\n"));
        client.seen.clear();
        client
    }

    /// A STOMP session.
    pub fn session(&mut self) -> Client {
        let mut client = self.upgraded("/portfolio");
        client.says_frame("CONNECT\naccept-version:1.2\nhost:x\n\n\0");
        self.until("CONNECTED", |_| client.hears("CONNECTED"));
        client.seen.clear();
        client
    }
}

fn make(
    shared: &Arc<Shared>,
    number: u8,
    mailbox: Mailbox,
    sockets: Vec<OwnedFd>,
    doorbells: Doorbells,
) -> Shard<Uring> {
    let limits = &shared.limits;
    let receive = ReceivePool::new(limits.receive_buffers, limits.receive_bytes).expect("memory");
    let memory = Owner::new(limits.segment_bytes as usize).expect("memory");
    let serves = Serves { endpoints: true, api: true, loopback: true };
    let listeners = vec![serves.into(); sockets.len()];
    let ring = ringpush::ring::start(Setup {
        submission_entries: 64,
        completion_entries: 1_024,
        slots: 256,
        receive: receive.lend(),
        receive_buffers: limits.receive_buffers,
        receive_bytes: limits.receive_bytes,
        segments: memory.lend(),
        segment_size: limits.segment_size,
        listeners: sockets,
        send_chunk: limits.send_chunk,
        doorbells,
        peer: ShardId(number).into(),
        flavor: None,
    })
    .expect("this kernel has io_uring");
    let (now, slots) = (ringpush::ring::Ring::now(&ring), ring.slots());
    let segments = Segments::new(memory, limits.segment_size, limits.segment_bytes);
    let setup = shard::Setup {
        shard: ShardId(number),
        shared: shared.clone(),
        mailbox,
        receive,
        segments,
        listeners,
        slots,
        sessions: 0,
        keys: Random::known(11),
        entropy: Random::known(12),
        now,
    };
    Shard::new(ring, setup)
}

/// A client that reads only when it is asked to.
pub struct Client {
    pub socket: TcpStream,
    unsaid: Vec<u8>,
    seen: Vec<u8>,
}

impl Client {
    /// Writes all of it; the sockets have room.
    pub fn says(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("there is room");
    }

    /// Writes as much as has room; the rest is written first the next time.
    pub fn says_some(&mut self, bytes: &[u8]) {
        if self.unsaid.is_empty() {
            self.unsaid.extend_from_slice(bytes);
        }
        self.goes_on();
    }

    /// Writes more of the rest, if it has room now.
    pub fn goes_on(&mut self) {
        // A closed client writes nothing more.
        let len = self.socket.write(&self.unsaid).unwrap_or(0);
        self.unsaid.drain(..len);
    }

    /// A text message.
    pub fn says_frame(&mut self, text: &str) {
        self.says(&frame(Opcode::Text, text.as_bytes()));
    }

    /// A request that waits for the home.
    pub fn publishes(&mut self, number: usize) {
        let body = format!("{{\"destination\":\"/topic/a\",\"body\":\"{number}\"}}");
        let len = body.len();
        self.says(
            format!(
                "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\
                 \r\nContent-Length: {len}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
    }

    /// Reads what is there. False at the end of the stream.
    pub fn reads(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(len) => self.seen.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    /// Reads; returns whether this text has arrived so far.
    pub fn hears(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reads();
        self.count(bytes) > 0
    }

    /// The position of its first arrival, in bytes.
    pub fn place(&self, bytes: impl AsRef<[u8]>) -> Option<usize> {
        let bytes = bytes.as_ref();
        self.seen.windows(bytes.len()).position(|window| window == bytes)
    }

    /// How often it has arrived.
    pub fn count(&self, bytes: impl AsRef<[u8]>) -> usize {
        let bytes = bytes.as_ref();
        self.seen.windows(bytes.len()).filter(|window| *window == bytes).count()
    }

    /// Ends the connection by a reset.
    pub fn resets(self) {
        let linger = Some(std::time::Duration::ZERO);
        socket2::SockRef::from(&self.socket).set_linger(linger).expect("an option");
    }
}

/// A client's frame.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; WS_CLIENT_HEAD_MAX];
    let len = ws::client_head(opcode, true, payload.len() as u64, KEY, &mut head);
    let mut masked = payload.to_vec();
    mask::apply(&mut masked, KEY, 0);
    [&head[..len], &masked].concat()
}

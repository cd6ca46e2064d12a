//! Scripts on a kernel without faults: clients that send exactly this, shards that take their turns
//! in exactly this order, and a server whose every answer is known. Failures that a campaign found
//! at random are kept here as tests.

use super::faults::FaultRates;
use super::history::Secret;
use super::ring::SimRing;
use super::rules::Rules;
use super::setting::{Configured, Setting};
use super::wire::{Heard, Wire, handshake};
use super::world::World;
use super::wrong;
use crate::config::{Action, Allow, Config, Users};
use crate::engine::mailbox::{Mailbox, ToShard};
use crate::engine::shard::Shard;
use crate::engine::shared::Shared;
use crate::ids::{PeerId, ShardId};
use crate::metrics::Metrics;
use crate::ring::Wait;
use crate::time::Millis;
use crate::ws::Opcode;
use core::net::SocketAddr;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A server of a few shards and its clients, by their numbers.
pub(super) struct Stage {
    pub(super) metrics: Metrics,
    pub(super) world: Rc<RefCell<World>>,
    pub(super) shards: Vec<Shard<SimRing>>,
    pub(super) shared: Arc<Shared>,
    pub(super) clients: Vec<Wire>,
    /// The control thread's end of the mailboxes.
    pub(super) control: Mailbox,
}

impl Stage {
    /// `change` makes the campaign's configuration that of the script.
    pub(super) fn new(shards: u8, change: impl FnOnce(&mut Config)) -> Stage {
        let mut world = World::new(1);
        world.set_fault_rates(FaultRates::default());
        let mut config = Setting::config();
        change(&mut config);
        let (secret, rules) = (Secret::Open, Rules::default());
        let setting = Setting::of(
            world,
            Configured { config, shards, secret, rules, reloads: false, sealed: true },
        );
        let Setting { world, shards, shared, control, metrics, .. } = setting;
        Stage { metrics, world, shards, shared, clients: Vec::new(), control }
    }

    /// Queues and pools with room for everything that a script does in one turn.
    pub(super) fn roomy(config: &mut Config) {
        let limits = &mut config.limits;
        (limits.mailbox, limits.turn_entries, limits.turn_frames) = (64, 64, 64);
        (limits.message_blocks, limits.message_bytes) = (64, 65_536);
        (limits.receive_buffers, limits.receive_bytes) = (16, 4_096);
    }

    /// A client connects and sends this request.
    pub(super) fn connects(&mut self, shard: usize, request: &[u8]) -> usize {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1_000 + self.clients.len() as u16));
        let mut world = self.world.borrow_mut();
        let socket = world.connect(shard, 0, peer);
        world.size_socket(socket, 65_536, 65_536);
        drop(world);
        self.clients.push(Wire::new(socket));
        let client = self.clients.len() - 1;
        self.writes(client, request);
        client
    }

    /// A client whose connection is sealed, its handshake over, and sends this request.
    pub(super) fn connects_sealed(&mut self, shard: usize, request: &[u8]) -> usize {
        let number = self.clients.len() as u16;
        let peer = SocketAddr::from(([127, 0, 0, 1], 1_000 + number));
        let mut world = self.world.borrow_mut();
        let socket = world.connect(shard, 1, peer);
        world.size_socket(socket, 65_536, 65_536);
        drop(world);
        self.clients.push(Wire::sealed(socket, u64::from(number)));
        let client = self.clients.len() - 1;
        self.writes(client, b"");
        self.settle();
        self.clients[client].read(65_536, &mut self.world.borrow_mut());
        self.writes(client, request);
        client
    }

    /// A STOMP session, logged in.
    pub(super) fn session(&mut self, shard: usize, user: &str) -> usize {
        let query = format!("?userId={user}");
        let client = self.connects(shard, &handshake("/portfolio", &query));
        self.settle();
        let wire = &mut self.clients[client];
        wire.read(65_536, &mut self.world.borrow_mut());
        let answer = wire.answer().expect("an answer").expect("to the handshake");
        assert_eq!(answer.status, 101);
        self.says(client, &["CONNECT\naccept-version:1.2\nhost:x\n\n"]);
        self.settle();
        let heard = self.hears(client);
        assert!(heard.len() == 1 && heard[0].starts_with("CONNECTED\n"), "{heard:?}");
        client
    }

    /// Sends an HTTP request on a new connection; returns status and body of the answer.
    fn asks(&mut self, shard: usize, method: &str, path: &str, body: &str) -> (u16, String) {
        let len = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        let client = self.connects(shard, request.as_bytes());
        self.settle();
        let wire = &mut self.clients[client];
        wire.read(65_536, &mut self.world.borrow_mut());
        let answer = wire.answer().expect("an answer").expect("it is there");
        (answer.status, String::from_utf8(answer.body).expect("it is text"))
    }

    pub(super) fn writes(&mut self, client: usize, bytes: &[u8]) {
        let mut world = self.world.borrow_mut();
        let wire = &mut self.clients[client];
        wire.put(bytes);
        while wire.has_output() {
            wire.flush(&mut world);
        }
    }

    /// Sends STOMP frames, given without their NUL: each in a message, all in one write.
    pub(super) fn says(&mut self, client: usize, frames: &[&str]) {
        let mut world = self.world.borrow_mut();
        for frame in frames {
            let text = format!("{frame}\0");
            let wire = &mut self.clients[client];
            wire.put_frame(Opcode::Text, true, text.as_bytes(), &mut world.random);
        }
        drop(world);
        self.writes(client, b"");
    }

    /// Everything that a client has received: messages, and "close" with the code.
    pub(super) fn hears(&mut self, client: usize) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let more = self.clients[client].read(65_536, &mut self.world.borrow_mut());
            while let Some(one) = self.clients[client].hear().expect("frames of a server") {
                match one {
                    Heard::Message(bytes) => {
                        let text = String::from_utf8(bytes).expect("the server says text");
                        heard.push(text.trim_end_matches('\0').to_owned());
                    }
                    Heard::Close(code) => heard.push(format!("close {code}")),
                    Heard::Ping(_) => heard.push("ping".to_owned()),
                    Heard::Pong => heard.push("pong".to_owned()),
                }
            }
            if !self.settle() && !more {
                return heard;
            }
        }
    }

    /// Gives all shards another configuration.
    pub(super) fn reload(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.shared.config.clone();
        change(&mut config);
        let reloaded = Arc::new(self.shared.reloaded(config));
        for shard in 0..self.shards.len() {
            self.control.send(PeerId(shard as u8), ToShard::Reload(reloaded.clone()));
        }
    }

    /// One turn of one shard.
    pub(super) fn turn(&mut self, shard: usize) {
        assert!(self.shards[shard].turn(), "the shard has not ended");
    }

    /// Runs turns of all shards until none has anything to do. False if none had.
    pub(super) fn settle(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut busy = false;
            for shard in 0..self.shards.len() {
                let awake = self.shards[shard].wait() == Wait::No;
                self.world.borrow_mut().submit(shard);
                if awake || self.world.borrow_mut().is_ready(shard) {
                    self.turn(shard);
                    busy = true;
                }
            }
            if !busy {
                return any;
            }
            any = true;
        }
    }
}

/// The first line, and the header of this name, of each frame.
fn named<'a>(heard: &'a [String], header: &str) -> Vec<(&'a str, &'a str)> {
    let value = |text: &'a str| {
        let lines = text.lines().take_while(|line| !line.is_empty());
        let mut values = lines.filter_map(|line| line.split_once(':'));
        values.find(|(name, _)| *name == header).map_or("", |(_, value)| value)
    };
    heard.iter().map(|text| (text.lines().next().unwrap_or(""), value(text))).collect()
}

/// Seed 7141128: for a session that reads well, more than `send-buffer` waits within a turn, and in
/// the same turn a home answers the request for which its wrong frame waits. Nothing that the
/// session was due may be missing before the ERROR.
#[test]
fn what_is_due_before_an_error_arrives_even_above_send_buffer() {
    let mut stage = Stage::new(2, Stage::roomy);
    let home = stage.shared.homes.of_destination("/topic/t0").index();
    let aside = 1 - home;
    let (reader, sender) = (stage.session(aside, "u1"), stage.session(home, "u2"));
    stage.says(reader, &["SUBSCRIBE\nid:s\ndestination:/topic/t0\nreceipt:r1\n\n"]);
    stage.settle();
    assert_eq!(named(&stage.hears(reader), "receipt-id"), [("RECEIPT", "r1")]);

    // Ten messages are in the mailbox of the reader's shard.
    let send = format!("SEND\ndestination:/topic/t0\n\n{}", "x".repeat(300));
    stage.says(sender, &[send.as_str(); 10]);
    stage.turn(home);
    // The wrong frame waits for the RECEIPT of the one before it, which that shard's home owes.
    let socket = stage.clients[reader].socket;
    stage.world.borrow_mut().size_socket(socket, 65_536, 100);
    stage.says(reader, &["SUBSCRIBE\nid:t\ndestination:/topic/t1\nreceipt:r2\n\n", "SEND\n\n"]);
    stage.turn(aside);
    let waiting = stage.shards[aside].audit().outbox_most;
    assert!(waiting > stage.shared.limits.send_buffer, "{waiting} bytes");
    stage.settle();

    let heard = stage.hears(reader);
    let commands = named(&heard, "receipt-id");
    let mut expected = vec![("MESSAGE", ""); 10];
    expected.extend([("RECEIPT", "r2"), ("ERROR", ""), ("close 1002", "")]);
    assert_eq!(commands, expected);
}

/// Seed 613758302498: a shard stalls while a message to one of its users is sequenced and
/// acknowledged. Only then does the client unsubscribe; its shard reads that first.
#[test]
fn what_was_sequenced_before_a_user_unsubscribes_is_received() {
    let mut stage = Stage::new(2, Stage::roomy);
    let home = stage.shared.homes.of_user("u1").index();
    let aside = 1 - home;
    let (reader, sender) = (stage.session(aside, "u1"), stage.session(home, "u2"));
    stage.says(reader, &["SUBSCRIBE\nid:s\ndestination:/user/queue/other\nreceipt:r1\n\n"]);
    stage.settle();
    assert_eq!(named(&stage.hears(reader), "receipt-id"), [("RECEIPT", "r1")]);

    stage.says(sender, &["SEND\ndestination:/user/u1/queue/other\n\nx"]);
    stage.turn(home);
    stage.says(reader, &["UNSUBSCRIBE\nid:s\nreceipt:r2\n\n"]);
    stage.settle();
    let heard = stage.hears(reader);
    assert_eq!(named(&heard, "receipt-id"), [("MESSAGE", ""), ("RECEIPT", "r2")]);
}

/// Seed 227477751303: clients have unsubscribed, and the rules change before the home knows. What
/// it sequences until then is not for them.
#[test]
fn what_a_reload_keeps_is_not_received_by_a_subscription_that_ends() {
    let mut stage = Stage::new(2, Stage::roomy);
    // The home takes its own commands before those of the other shard.
    let (home, aside) = (0, 1);
    let homes = stage.shared.homes;
    let mut topics = (0..).map(|n| format!("/topic/k{n}"));
    let topic =
        topics.find(|topic| homes.of_destination(topic).index() == home).expect("one of many");
    let mut users = (1..).map(|n| format!("u{n}"));
    let user = users.find(|user| homes.of_user(user).index() == home).expect("one of many");
    let (reader, sender) = (stage.session(aside, &user), stage.session(home, "u0"));
    let own = format!("/user/{user}/queue/other");
    for (id, destination) in [("s", topic.as_str()), ("o", "/user/queue/other")] {
        let frame = format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\nreceipt:{id}\n\n");
        stage.says(reader, &[&frame]);
        stage.settle();
        assert_eq!(named(&stage.hears(reader), "receipt-id"), [("RECEIPT", id)]);
    }

    stage.says(reader, &["UNSUBSCRIBE\nid:s\nreceipt:r1\n\n"]);
    stage.says(reader, &["UNSUBSCRIBE\nid:o\nreceipt:r2\n\n"]);
    let kept = |destination: &str| Allow {
        action: Action::Subscribe,
        destination: destination.to_owned(),
        users: Users::Named(vec!["u0".to_owned()]),
    };
    stage.reload(|config| config.allow = vec![kept(&topic), kept("/user/queue/other")]);
    stage.turn(aside);
    let sends = [topic, own].map(|to| format!("SEND\ndestination:{to}\nreceipt:sent\n\nx"));
    stage.says(sender, &[&sends[0], &sends[1]]);
    stage.settle();
    assert_eq!(named(&stage.hears(sender), "receipt-id"), [("RECEIPT", "sent"); 2]);
    let heard = stage.hears(reader);
    assert_eq!(named(&heard, "receipt-id"), [("RECEIPT", "r1"), ("RECEIPT", "r2")]);
}

#[test]
fn bad_input_is_counted_by_its_reason() {
    let mut miscounted = Vec::new();
    for wrong in wrong::ALL {
        let mut stage = Stage::new(1, Stage::roomy);
        let client = stage.connects(0, b"");
        wrong.put(&mut stage.clients[client]);
        stage.writes(client, b"");
        stage.settle();
        let counted = stage.metrics.refusals();
        if counted != [(wrong.refusal, 1)] {
            miscounted.push((wrong.refusal, counted));
        }
    }
    assert_eq!(miscounted, []);
}

#[test]
fn each_message_of_a_sockjs_frame_counts_against_the_turn() {
    const MESSAGES: usize = 140;
    let mut stage = Stage::new(1, |config| {
        Stage::roomy(config);
        config.limits.turn_frames = 8;
    });
    let client = stage.connects(0, &handshake("/echo/1/x/websocket", ""));
    stage.settle();
    let wire = &mut stage.clients[client];
    wire.read(65_536, &mut stage.world.borrow_mut());
    assert_eq!(wire.answer().expect("an answer").expect("it is there").status, 101);
    assert_eq!(stage.hears(client), ["o"]);

    let frame = format!("[{}]", vec!["\"a\""; MESSAGES].join(","));
    let mut world = stage.world.borrow_mut();
    stage.clients[client].put_frame(Opcode::Text, true, frame.as_bytes(), &mut world.random);
    drop(world);
    stage.writes(client, b"");
    stage.world.borrow_mut().submit(0);
    stage.turn(0);
    let queued = stage.shards[0].audit().outbox_most as usize;
    let one = "xxa[\"a\"]".len();
    assert!((one..=8 * one).contains(&queued), "{queued} bytes for one turn");
    assert_eq!(stage.hears(client), vec!["a[\"a\"]"; MESSAGES]);
}

#[test]
fn what_a_user_sends_to_himself_after_he_unsubscribed_is_not_received() {
    let mut stage = Stage::new(1, Stage::roomy);
    let client = stage.session(0, "u1");
    stage.says(client, &["SUBSCRIBE\nid:s\ndestination:/user/queue/other\nreceipt:r1\n\n"]);
    stage.settle();
    assert_eq!(named(&stage.hears(client), "receipt-id"), [("RECEIPT", "r1")]);
    let send = "SEND\ndestination:/user/u1/queue/other\nreceipt:r3\n\nx";
    stage.says(client, &["UNSUBSCRIBE\nid:s\nreceipt:r2\n\n", send]);
    stage.settle();
    let heard = stage.hears(client);
    assert_eq!(named(&heard, "receipt-id"), [("RECEIPT", "r2"), ("RECEIPT", "r3")]);
}

#[test]
fn a_subscription_never_gets_the_number_of_another() {
    let mut stage = Stage::new(1, Stage::roomy);
    let client = stage.session(0, "u1");
    let subscribe =
        |id: &str| format!("SUBSCRIBE\nid:{id}\ndestination:/topic/t0\nreceipt:{id}\n\n");
    // CONNECT is the first frame of a session, this one its second.
    stage.says(client, &[&subscribe("a")]);
    stage.settle();
    stage.shards[0].number_frames(2);
    stage.says(client, &[&subscribe("b")]);
    stage.settle();
    let heard = stage.hears(client);
    let expected = [("RECEIPT", "a"), ("ERROR", "b"), ("close 1008", "")];
    assert_eq!(named(&heard, "receipt-id"), expected);
    assert!(heard[1].contains("message:too many frames\n"), "{heard:?}");
    stage.shards[0].invariants();
}

#[test]
fn the_last_subscription_that_fits_works_and_one_more_ends_the_session() {
    let mut stage = Stage::new(1, Stage::roomy);
    let client = stage.session(0, "u1");
    let topics = ["/topic/t0", "/topic/t1", "/topic/a/b", "/topic/a/c"];
    assert_eq!(topics.len(), stage.shared.limits.subscriptions as usize + 1);
    for (n, topic) in topics.iter().enumerate() {
        let frame = format!("SUBSCRIBE\nid:s{n}\ndestination:{topic}\nreceipt:r{n}\n\n");
        stage.says(client, &[&frame]);
    }
    stage.settle();
    let heard = stage.hears(client);
    let receipts = [("RECEIPT", "r0"), ("RECEIPT", "r1"), ("RECEIPT", "r2")];
    let refused = [("ERROR", "r3"), ("close 1008", "")];
    assert_eq!(named(&heard, "receipt-id"), [&receipts[..], &refused].concat());
    assert!(heard[3].contains("message:too many subscriptions\n"), "{heard:?}");
}

/// Sessions of one user on two shards, each subscribed to its queue, and their session ids.
fn windows(stage: &mut Stage) -> Vec<(usize, String)> {
    let subscribe = "SUBSCRIBE\nid:s\ndestination:/user/queue/sub\nreceipt:r\n\n";
    let mut windows = Vec::new();
    for shard in [0, 1, 1] {
        let client = stage.connects(shard, &handshake("/portfolio", "?userId=u1"));
        stage.settle();
        stage.clients[client].read(65_536, &mut stage.world.borrow_mut());
        let answer = stage.clients[client].answer().expect("an answer");
        assert_eq!(answer.map(|answer| answer.status), Some(101));
        stage.says(client, &["CONNECT\naccept-version:1.2\nhost:x\n\n", subscribe]);
        stage.settle();
        let heard = stage.hears(client);
        let [(_, id), (receipt, _)] = named(&heard, "session")[..] else {
            panic!("CONNECTED and RECEIPT, not {heard:?}");
        };
        assert_eq!(receipt, "RECEIPT");
        windows.push((client, id.to_owned()));
    }
    windows
}

#[test]
fn a_message_for_one_session_reaches_only_that_session() {
    let mut stage = Stage::new(2, Stage::roomy);
    let windows = windows(&mut stage);
    for (number, (_, id)) in windows.iter().enumerate() {
        let body = format!(r#"{{"destination":"/queue/sub","session":"{id}","body":"x"}}"#);
        let answer = stage.asks(0, "POST", "/api/users/u1/messages", &body);
        assert_eq!(answer, (200, r#"{"code":0,"sessions":1}"#.to_owned()));
        for (other, (client, _)) in windows.iter().enumerate() {
            let heard = stage.hears(*client);
            assert_eq!(heard.len(), usize::from(other == number), "{other} of {number}: {heard:?}");
        }
    }
    // The session of another user is not one of this user's.
    let stranger = stage.session(0, "u2");
    let theirs =
        format!(r#"{{"destination":"/queue/sub","session":"{}","body":"x"}}"#, windows[0].1);
    let answer = stage.asks(1, "POST", "/api/users/u2/messages", &theirs);
    assert_eq!(answer, (200, r#"{"code":0,"sessions":0}"#.to_owned()));
    assert!(stage.hears(windows[0].0).is_empty() && stage.hears(stranger).is_empty());
}

#[test]
fn a_kick_ends_every_session_of_its_user_and_nobody_elses() {
    let mut stage = Stage::new(2, Stage::roomy);
    let windows = windows(&mut stage);
    let other = stage.session(1, "u2");
    let answer = stage.asks(0, "DELETE", "/api/users/u1", "");
    assert_eq!(answer, (200, r#"{"code":0,"closed":3}"#.to_owned()));
    for (client, _) in windows {
        assert_eq!(stage.hears(client), ["close 1008"]);
    }
    assert!(stage.hears(other).is_empty());
    assert_eq!(stage.asks(1, "DELETE", "/api/users/u1", "").1, r#"{"code":0,"closed":0}"#);
}

#[test]
fn a_client_that_does_not_read_is_soon_not_answered() {
    let mut stage = Stage::new(1, Stage::roomy);
    for asked in [Opcode::Ping, Opcode::Text] {
        let client = stage.connects(0, &handshake("/echo", ""));
        let socket = stage.clients[client].socket;
        stage.world.borrow_mut().size_socket(socket, 65_536, 100);
        for _ in 0..100 {
            let mut world = stage.world.borrow_mut();
            stage.clients[client].put_frame(asked, true, &[b'?'; 100], &mut world.random);
            drop(world);
            stage.writes(client, b"");
        }
        stage.settle();
        let (limits, audit) = (&stage.shared.limits, stage.shards[0].audit());
        let most = limits.send_bytes + 200;
        assert!((limits.send_bytes..=most).contains(&audit.answers_most), "{asked:?}: {audit:?}");
    }
}

#[test]
fn a_shard_drains_until_the_end_of_its_users_is_told() {
    let mut stage = Stage::new(2, |config| {
        Stage::roomy(config);
        (config.limits.mailbox, config.limits.drain_time) = (2, Millis(60_000));
    });
    let names = (0..).map(|n| format!("u{n}"));
    let homes = stage.shared.homes;
    let here = names.filter(|name| homes.of_user(name) == ShardId(1));
    let clients: Vec<_> = here.take(6).map(|name| stage.session(1, &name)).collect();
    assert_eq!(stage.shards[1].audit().users, 6);
    // The other one has nobody: it is through at once.
    stage.control.send(PeerId(0), ToShard::Drain);
    for _ in 0..10 {
        stage.turn(0);
        stage.world.borrow_mut().submit(0);
    }
    // It is the home of the presence topic, and sleeps until its queue is full.
    stage.control.send(PeerId(1), ToShard::Drain);
    for client in clients {
        stage.world.borrow_mut().leave(stage.clients[client].socket, true);
    }
    for _ in 0..20 {
        stage.turn(1);
        stage.world.borrow_mut().submit(1);
    }
    assert_eq!(stage.shards[1].audit().connections, 0);
    assert_ne!(stage.shards[1].audit().users, 0, "the queue was full");
    let mut goes_on = [true; 2];
    for shard in [1, 0].into_iter().cycle().take(40) {
        goes_on[shard] = goes_on[shard] && stage.shards[shard].turn();
        stage.world.borrow_mut().submit(shard);
    }
    assert_eq!(goes_on, [false; 2], "both have ended");
    assert_eq!(stage.shards[1].audit().users, 0);
}

/// A home that has to tell another shard of each message waits while that shard stands still; it
/// does not ask again and again, which would take the processor from the very shard it waits for.
#[test]
fn who_waits_for_room_in_a_mailbox_sleeps() {
    let mut stage = Stage::new(2, |config| {
        Stage::roomy(config);
        config.limits.mailbox = 4;
    });
    let home = stage.shared.homes.of_destination("/topic/t0").index();
    let aside = 1 - home;
    let (reader, sender) = (stage.session(aside, "u1"), stage.session(home, "u2"));
    stage.says(reader, &["SUBSCRIBE\nid:s\ndestination:/topic/t0\nreceipt:r\n\n"]);
    stage.settle();
    assert_eq!(named(&stage.hears(reader), "receipt-id"), [("RECEIPT", "r")]);

    stage.says(sender, &["SEND\ndestination:/topic/t0\n\nx"; 12]);
    for _ in 0..20 {
        stage.turn(home);
        stage.world.borrow_mut().submit(home);
    }
    let now = stage.world.borrow().now();
    assert_eq!(stage.shards[home].wait(), Wait::Until(now + Millis(1)));
    stage.settle();
    let is_message = |heard: &&String| heard.starts_with("MESSAGE");
    let mut received = 0;
    while received < 12 {
        stage.world.borrow_mut().advance(1_000_000);
        stage.turn(home);
        received += stage.hears(reader).iter().filter(is_message).count();
    }
}

/// A home has nothing to do, and then gets the end of others' users, which a third shard has no
/// room to be told.
#[test]
fn a_home_that_was_idle_drains_until_the_end_of_users_elsewhere_is_told() {
    let mut stage = Stage::new(3, |config| {
        Stage::roomy(config);
        (config.limits.mailbox, config.limits.drain_time) = (2, Millis(60_000));
    });
    let homes = stage.shared.homes;
    let topic = stage.shared.config.presence.topic.as_deref().expect("the simulator has one");
    let told = homes.of_destination(topic).index();
    let (home, aside) = ((told + 1) % 3, (told + 2) % 3);
    let names = (0..).map(|n| format!("u{n}"));
    let there = names.filter(|name| homes.of_user(name).index() == home);
    let clients: Vec<_> = there.take(6).map(|name| stage.session(aside, &name)).collect();
    for shard in [told, home, aside] {
        stage.control.send(PeerId(shard as u8), ToShard::Drain);
        if shard != aside {
            stage.turn(shard);
        }
    }
    for client in clients {
        stage.world.borrow_mut().leave(stage.clients[client].socket, true);
    }
    let mut goes_on = [true; 3];
    let mut run = |shards: &[usize]| {
        for &shard in shards {
            goes_on[shard] = goes_on[shard] && stage.shards[shard].turn();
            stage.world.borrow_mut().submit(shard);
        }
        (goes_on, stage.shards[home].audit().users)
    };
    let (goes_on, users) = run(&[aside, home].repeat(20));
    assert!(users > 0, "there is no room to tell of them");
    assert_eq!(goes_on, [true; 3]);
    assert_eq!(run(&[told, aside, home].repeat(20)), ([false; 3], 0));
}

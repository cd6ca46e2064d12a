//! The whole thread against a stand-in for a shard, with mailboxes of two entries, and hooks that
//! are real HTTP servers.

use super::*;
use crate::broker::command::{Event, ReplyTo};
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::config::Sources;
use crate::engine::mailbox::{Mailbox, ToControl, ToHome, ToShard, connect};
use crate::engine::shared::{Keys, Shared};
use crate::ids::{PeerId, SessionId, SessionIndex, ShardId};
use crate::limits::{Limits, REFUSALS_WAITING};
use crate::mem::shares::Place;
use crate::metrics::{Metrics, Refusal};
use crate::ring::{Doorbells, Flavor, StartError};
use hashbrown::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::unix::pipe;

const SHARD: PeerId = PeerId(0);
const CONTROL: PeerId = PeerId(1);
/// Longer than anything takes if it works.
const LONG: Duration = Duration::from_secs(20);

const READY: Ready = Ready { slots: 1, flavor: Flavor::Full };

/// One shard's end of everything.
struct StandIn {
    mailbox: Mailbox,
    doorbells: Doorbells,
    reporter: Reporter,
    runtime: tokio::runtime::Runtime,
    doorbell: pipe::Receiver,
    control: JoinHandle<Result<End, Failure>>,
    metrics: Metrics,
}

fn start(settings: &str) -> StandIn {
    let mut config = Sources::default().parse(settings, false).expect("the test's TOML is good");
    config.limits = Limits { hook_body: 64, ..Limits::tiny() };
    let metrics = Metrics::new(1);
    let shared = Arc::new(Shared::new(config, 1, Keys::known(7), "abcdef", metrics.clone()));
    let mut mailboxes = connect(2, shared.limits.mailbox);
    let doorbells = Doorbells::new(2).expect("two eventfds can be made");
    let (mut reporters, reports) = reports(1);
    reporters[0].start(Ok(READY));
    let (_, ends) = reports.ready().expect("it is ready");
    let setup = Setup {
        shared,
        sources: Sources::default(),
        mailbox: mailboxes.pop().expect("two mailboxes"),
        doorbells: doorbells.clone(),
        ends,
        log: Some("/dev/null".into()),
        ready: Box::new(|_| {}),
    };
    let control = std::thread::spawn(move || run(setup));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let inside = runtime.enter();
    let event = doorbells.event(SHARD).try_clone_to_owned().expect("a descriptor is free");
    let doorbell = pipe::Receiver::from_owned_fd_unchecked(event).expect("it can be watched");
    drop(inside);
    let (mailbox, reporter) = (mailboxes.remove(0), reporters.remove(0));
    StandIn { mailbox, doorbells, reporter, runtime, doorbell, control, metrics }
}

impl StandIn {
    /// The control thread's next answer as a home.
    fn next(&mut self) -> Event {
        loop {
            match self.mailbox.take(CONTROL) {
                Some(ToShard::Event(event)) => return event,
                Some(entry) => panic!("{entry:?}"),
                None => {}
            }
            let command: Option<ToHome> = self.mailbox.take(CONTROL);
            assert!(command.is_none(), "{command:?}");
            if self.mailbox.may_sleep() {
                let doorbell = &self.doorbell;
                let rung = self
                    .runtime
                    .block_on(async move { tokio::time::timeout(LONG, doorbell.readable()).await });
                rung.expect("the control thread rings").expect("the eventfd is open");
                let _ = self.doorbell.try_read(&mut [0; 8]);
                self.mailbox.awake();
            }
        }
    }

    /// Sends an entry if there is room.
    fn send(&mut self, entry: ToControl) -> Result<(), ToControl> {
        if self.mailbox.room(CONTROL, Class::Outside) == 0 {
            return Err(entry);
        }
        self.mailbox.send(CONTROL, entry);
        for peer in self.mailbox.doorbells() {
            self.doorbells.ring_from_outside(peer);
        }
        Ok(())
    }

    /// Ends the shard, and returns the control thread's result.
    fn end(self) -> Result<End, Failure> {
        drop(self.reporter);
        self.control.join().expect("the control thread does not panic")
    }
}

fn session(index: u32) -> SessionId {
    SessionId::new(ShardId(0), SessionIndex(index), 1)
}

fn hook(destination: &str, index: u32, user: Option<&str>, number: u32) -> ToControl {
    let mut message = Message::default();
    message.begin(None, destination);
    message.finish(number.to_string().as_bytes());
    let (session, user) = (session(index), user.map(Arc::from));
    let reply_to = ReplyTo::Frame(session, number);
    ToControl::Hook { message: Arc::new(message), user, session, reply_to, place: Place::NONE }
}

/// A server that answers every request with its own body, one connection after the other.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || echo_one(socket.expect("a client")));
        }
    });
    url
}

fn echo_one(mut socket: TcpStream) {
    let mut asked = Vec::new();
    loop {
        let mut bytes = [0; 1024];
        match socket.read(&mut bytes) {
            Ok(len) if len > 0 => asked.extend_from_slice(&bytes[..len]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&asked).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let len: usize = len.and_then(|len| len.parse().ok()).expect("a length");
        if body.len() == len {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).expect("the client waits");
            asked.clear();
        }
    }
}

/// 60 calls of five sessions through mailboxes of two entries: each gets its receipt, each
/// session's replies come in the order it sent, nothing is lost and nothing comes twice.
#[test]
fn every_call_gets_its_receipt_and_its_reply_in_order() {
    let url = echo();
    let settings = format!(
        "hooks.concurrent = 3\n\
         [[application]]\ndestination = '/call'\nhook = '{url}'\nto-user = '/queue/sub'"
    );
    let mut shard = start(&settings);
    let mut wanted: Vec<ToControl> =
        (1..=60).rev().map(|number| hook("/ws/call", number % 5, None, number)).collect();
    let mut receipts = Vec::new();
    let mut replies: HashMap<SessionId, Vec<u32>> = HashMap::new();
    let mut numbers = Vec::new();
    while receipts.len() < 60 || replies.values().map(Vec::len).sum::<usize>() < 60 {
        while let Some(entry) = wanted.pop() {
            if let Err(entry) = shard.send(entry) {
                wanted.push(entry);
                break;
            }
        }
        match shard.next() {
            Event::Sequenced { reply_to: ReplyTo::Frame(_, number), heard: 0 } => {
                receipts.push(number)
            }
            Event::DeliverSession { message, session, number } => {
                assert_eq!(message.destination(), "/queue/sub");
                let body = core::str::from_utf8(message.body()).expect("digits");
                replies.entry(session).or_default().push(body.parse().expect("digits"));
                numbers.push(number);
            }
            entry => panic!("{entry:?}"),
        }
    }
    assert_eq!(receipts, (1..=60).collect::<Vec<u32>>());
    for (index, heard) in replies.iter().map(|(session, heard)| (session.index().0, heard)) {
        let sent: Vec<u32> = (1..=60).filter(|number| number % 5 == index).collect();
        assert_eq!(*heard, sent);
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 60, "every message has its own number");
    assert!(numbers.iter().all(|number| number % 64 == 63));
    assert!(matches!(shard.end(), Err(Failure::ShardEnded(ShardId(0)))));
}

/// No hook answers; one call runs and one waits, as many as there may be. The second is sent only
/// when the first has begun, because otherwise it would find the first still waiting.
fn with_a_full_queue() -> (TcpListener, StandIn) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let settings = format!(
        "hooks = {{ concurrent = 1, queue = 1, timeout = '60s' }}\n\
         [[application]]\ndestination = '/call'\nhook = '{url}'\nto-user = '/queue/sub'"
    );
    let mut shard = start(&settings);
    for number in 1..=2 {
        shard.send(hook("/ws/call", number, Some("7"), number)).expect("room");
        let entry = shard.next();
        assert!(matches!(entry, Event::Sequenced { heard: 0, .. }), "{entry:?}");
    }
    (listener, shard)
}

#[test]
fn a_call_past_the_queue_is_refused_before_its_receipt_and_counted() {
    let (_listener, mut shard) = with_a_full_queue();
    shard.send(hook("/ws/call", 3, Some("7"), 3)).expect("room");
    let Event::DeliverSession { message, session: asking, .. } = shard.next() else {
        panic!("the sender hears so");
    };
    assert_eq!((asking, message.destination()), (session(3), "/queue/errors"));
    let body = String::from_utf8_lossy(message.body());
    assert!(body.contains("\"code\":503") && body.contains("hooks.queue"), "{body}");
    let entry = shard.next();
    assert!(matches!(entry, Event::Sequenced { reply_to: ReplyTo::Frame(_, 3), .. }), "{entry:?}");
    assert_eq!(shard.metrics.control().hooks_refused_total.value(), 1);
    assert_eq!(shard.metrics.refusals(), [(Refusal::HookQueueFull, 1)]);
    drop(shard.end());
}

/// The calls of a shard that takes nothing are taken nevertheless. What waits for that shard is
/// bounded: past the bound a refusal is only a receipt.
#[test]
fn calls_are_always_taken_and_what_waits_for_a_shard_is_bounded() {
    const CALLS: u32 = 200;
    let (_listener, mut shard) = with_a_full_queue();
    let begun = std::time::Instant::now();
    for number in 3..=CALLS {
        while shard.send(hook("/ws/call", number, None, number)).is_err() {
            assert!(begun.elapsed() < LONG, "call {number} is not taken");
            std::thread::yield_now();
        }
    }
    let (mut receipts, mut refusals) = (2, 0);
    while receipts < CALLS {
        match shard.next() {
            Event::Sequenced { .. } => receipts += 1,
            Event::DeliverSession { .. } => refusals += 1,
            event => panic!("{event:?}"),
        }
    }
    let mailbox = Limits::tiny().mailbox;
    let most = (REFUSALS_WAITING as u32 + 1) * mailbox;
    assert!((1..=most).contains(&refusals), "{refusals} refusals, at most {most}");
    let refused = u64::from(CALLS) - 2;
    assert_eq!(shard.metrics.control().hooks_refused_total.value(), refused);
    assert_eq!(shard.metrics.refusals(), [(Refusal::HookQueueFull, refused)]);
    drop(shard.end());
}

#[test]
fn a_destination_without_a_hook_is_told_so() {
    let mut shard = start("[[application]]\ndestination = '/call'\nreply = 'x'");
    shard.send(hook("/ws/call", 1, None, 1)).expect("room");
    let entry = shard.next();
    assert!(matches!(entry, Event::Sequenced { .. }), "{entry:?}");
    let Event::DeliverSession { message, .. } = shard.next() else {
        panic!("the sender hears so");
    };
    assert!(String::from_utf8_lossy(message.body()).contains("\"code\":501"));
    assert_eq!(shard.metrics.refusals(), [(Refusal::HookUnset, 1)]);
    drop(shard.end());
}

/// Ends the thread of a reporter by a panic.
fn panic_with(reporter: Reporter) {
    let thread = std::thread::spawn(move || {
        let _last = reporter;
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
}

#[test]
fn a_shard_that_panics_ends_the_process() {
    let (mut reporters, reports) = reports(2);
    reporters.iter_mut().for_each(|reporter| reporter.start(Ok(READY)));
    let (all, mut ends) = reports.ready().expect("both are ready");
    assert_eq!(all, [READY; 2]);
    panic_with(reporters.pop().expect("two"));
    assert_eq!(ends.0.blocking_recv(), Some(Ended { shard: ShardId(1), panicked: true }));
    drop(reporters);
    assert_eq!(ends.0.blocking_recv(), Some(Ended { shard: ShardId(0), panicked: false }));
    assert_eq!(ends.0.blocking_recv(), None);
}

#[test]
fn a_shard_that_does_not_get_ready_says_why_or_has_ended() {
    let error = StartError::System("map the segments", 12);
    let starts: [(Option<_>, NotReady); 2] =
        [(Some(Err(error)), NotReady::Refused(error)), (None, NotReady::Ended(ShardId(1)))];
    for (start, expected) in starts {
        let (mut reporters, reports) = reports(2);
        let mut last = reporters.pop().expect("two");
        reporters[0].start(Ok(READY));
        if let Some(start) = start {
            last.start(start);
        }
        panic_with(last);
        assert_eq!(reports.ready().map(|(all, _)| all), Err(expected));
    }
}

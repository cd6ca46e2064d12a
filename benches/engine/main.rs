//! The whole engine on a quiet kernel: its own cost, without the kernel's TCP.
//!
//! `cargo bench --bench engine`. Every bench checks its answer. `benches/engine/ratchet` counts
//! instructions, which other work of the machine does not disturb, and compares them with
//! `counts.toml`. By hand: `valgrind --tool=callgrind --toggle-collect='*::measured*'
//! target/release/deps/engine-… count W T`: W is 0, 1, 2 for a fan-out of 1, 100, 10 000, 3 for an
//! idle turn with 100 000 sessions, 4 for a heart-beat of 10 000, 5 for a callback, 6 and 7 for 2
//! KiB to 1000 compressed sessions with one id and with an id each; T is how many times. The
//! difference of two counts over that of their T is one.

mod house;
mod quiet;

use criterion::{Criterion, Throughput};
use hmac::{Hmac, KeyInit, Mac};
use house::{DEFLATE, House, SECRET, Session, frame, users};
use ringpush::stomp::Command;
use ringpush::time::Millis;
use sha2::Sha256;
use std::time::Duration;

/// The binary's allocator: counts include it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CROWD: usize = 10_000;
/// Sessions that do nothing.
const IDLE: usize = 100_000;
/// A destination, and its number of subscribers.
const FANOUT: [(&str, u64); 3] =
    [("/topic/one", 1), ("/topic/hundred", 100), ("/topic/all", CROWD as u64)];

/// A house with a crowd, its publisher, and a SEND of 128 bytes for each destination.
struct Bench {
    house: House,
    sender: Session,
    /// A third party's connection, and how often it has called.
    provider: Session,
    calls: u64,
    sends: [Vec<u8>; 3],
}

impl Bench {
    fn new() -> Bench {
        let mut house = House::new(1, CROWD as u32 + 2);
        let names = users(CROWD + 1);
        // The first of the crowd have more subscriptions than the others; all use the same id.
        let all = FANOUT[2].0;
        let first = house.open(0, &names[..1], &[all, FANOUT[1].0, FANOUT[0].0]);
        house.open(0, &names[1..100], &[all, FANOUT[1].0]);
        house.open(0, &names[100..CROWD], &[all]);
        let sender = house.open(0, &names[CROWD..], &["/user/queue/sub"])[0];
        let provider = house.connect(0);
        let body = "x".repeat(128);
        let send = |to| frame(Command::Send, &[("destination", to)], &body);
        let mut bench =
            Bench { house, sender, provider, calls: 0, sends: FANOUT.map(|(to, _)| send(to)) };
        bench.house.watch(first[0]);
        (0..3).for_each(|which| bench.publish(which));
        bench
    }

    /// One message from its SEND to the last byte of the last subscriber.
    fn publish(&mut self, which: usize) {
        let before = self.house.sent();
        self.house.kernel(0).seen.clear();
        measured(&mut self.house, self.sender, &self.sends[which]);
        let after = self.house.sent();
        let each = self.house.kernel(0).seen.len() as u64;
        let count = FANOUT[which].1;
        assert_eq!((after.0 - before.0, after.1 - before.1), (count, count * each));
        assert!(each > 128);
    }

    /// A callback: the agent's session receives it, and the provider gets its success.
    fn callback(&mut self) {
        let request = callback(self.calls, &format!("agent{CROWD}"));
        self.calls += 1;
        let before = self.house.sent().0;
        measured(&mut self.house, self.provider, &request);
        assert_eq!(self.house.sent().0 - before, 2);
    }

    /// Ten seconds pass: a heart-beat for each session.
    fn beat(&mut self) {
        let before = self.house.sent().0;
        self.house.advance(Millis(10_000));
        measured_rest(&mut self.house);
        assert!(self.house.sent().0 - before >= CROWD as u64);
    }
}

/// Compressed sessions, all with one subscription id or each with its own, and a SEND to them.
struct Compressed {
    house: House,
    sender: Session,
    send: Vec<u8>,
}

const COMPRESSED: usize = 1_000;

impl Compressed {
    fn new(own_ids: bool) -> Compressed {
        let mut house = House::new(1, COMPRESSED as u32 + 1);
        let names = users(COMPRESSED + 1);
        let id = |user: &str, _| if own_ids { user.to_owned() } else { "agent-zero".to_owned() };
        house.open_with(0, &names[..COMPRESSED], &["/topic/all"], DEFLATE, id);
        let sender = house.open(0, &names[COMPRESSED..], &[])[0];
        // Calls, each with different numbers.
        let call = |n: u64| {
            let (id, from) = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24, n * 7_919 % 100_000);
            let agent = n * 31 % 400;
            format!(r#"{{"callId":"c-{id:x}","agentId":"{agent}","from":"+86138{from:08}","#)
                + r#""state":"ringing"},"#
        };
        let body: String = (1..40).map(call).collect();
        let send = frame(Command::Send, &[("destination", "/topic/all")], &body[..2048]);
        Compressed { house, sender, send }
    }

    /// Every session receives it, compressed.
    fn publish(&mut self) {
        let before = self.house.sent();
        measured(&mut self.house, self.sender, &self.send);
        let after = self.house.sent();
        assert_eq!(after.0 - before.0, COMPRESSED as u64);
        assert!(after.1 - before.1 < 1024 * COMPRESSED as u64);
    }
}

/// A separate function, so that callgrind finds it.
#[inline(never)]
fn measured(house: &mut House, sender: Session, bytes: &[u8]) {
    house.say(sender, bytes);
    house.settle();
}

#[inline(never)]
fn measured_rest(house: &mut House) {
    house.settle();
}

/// A provider's request: a call for an agent.
fn callback(number: u64, agent: &str) -> Vec<u8> {
    let body = format!(r#"{{"callId":"c-{number}","agentId":"{agent}","from":"+8613800000000"}}"#);
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key will do");
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let len = body.len();
    format!(
        "POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         X-Signature: sha256={hex}\r\nContent-Length: {len}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A house full of sessions that do nothing.
fn idle_house() -> House {
    let mut house = House::new(1, IDLE as u32);
    house.open(0, &users(IDLE), &[]);
    house
}

/// A turn in which nothing happens.
fn idle(house: &mut House) {
    let before = house.sent();
    assert!(measured_turn(house));
    assert_eq!(house.sent(), before);
}

#[inline(never)]
fn measured_turn(house: &mut House) -> bool {
    house.turn()
}

/// Repeats one thing, for callgrind.
fn count(which: usize, times: usize) {
    if which == 3 {
        let mut house = idle_house();
        return (0..times).for_each(|_| idle(&mut house));
    }
    if which == 6 || which == 7 {
        let mut compressed = Compressed::new(which == 7);
        return (0..times).for_each(|_| compressed.publish());
    }
    let mut bench = Bench::new();
    (0..times).for_each(|_| match which {
        4 => bench.beat(),
        5 => bench.callback(),
        which => bench.publish(which),
    });
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("count") {
        let mut number = || arguments.next().and_then(|text| text.parse::<usize>().ok());
        let (which, times) = (number().unwrap_or(0), number().unwrap_or(1));
        return count(which, times);
    }
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    let mut bench = Bench::new();
    let mut group = criterion.benchmark_group("engine");
    let mut idlers = idle_house();
    group.bench_function("turn/idle_100k", |b| b.iter(|| idle(&mut idlers)));
    drop(idlers);
    group.bench_function("callback", |b| b.iter(|| bench.callback()));
    for (which, name) in ["1", "100", "10k"].into_iter().enumerate() {
        group.throughput(Throughput::Elements(FANOUT[which].1));
        let name = format!("publish/fanout_{name}");
        group.bench_function(name, |b| b.iter(|| bench.publish(which)));
    }
    group.throughput(Throughput::Elements(COMPRESSED as u64));
    for (name, own_ids) in [("one_id", false), ("own_ids", true)] {
        let mut compressed = Compressed::new(own_ids);
        group.bench_function(format!("publish/deflate_{name}"), |b| {
            b.iter(|| compressed.publish());
        });
    }
    group.throughput(Throughput::Elements(CROWD as u64));
    group.sample_size(10);
    // The clients do not answer, so the third ten seconds would end the sessions: a new house each
    // time.
    group.bench_function("beat/10k", |b| {
        b.iter_batched_ref(Bench::new, Bench::beat, criterion::BatchSize::PerIteration);
    });
    group.finish();
    criterion.final_summary();
}

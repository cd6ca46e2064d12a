//! The whole engine on a quiet kernel: what it costs itself, without the kernel's TCP.
//!
//! `cargo bench --bench engine`. Every bench checks its answer. Instructions instead of time, which
//! no neighbour disturbs: `cargo bench --bench engine --no-run`, then
//! `valgrind --tool=callgrind --toggle-collect='*::measured' target/release/deps/engine-… count`
//! (`count`: each once, no criterion).

mod house;
mod quiet;

use criterion::{Criterion, Throughput};
use house::{House, Session, frame, users};
use ringpush::stomp::Command;
use ringpush::time::Millis;
use std::time::Duration;

const CROWD: usize = 10_000;
/// Destination, and how many hear it.
const FANOUT: [(&str, u64); 3] =
    [("/topic/one", 1), ("/topic/hundred", 100), ("/topic/all", CROWD as u64)];

/// A house with a crowd, its publisher, and a SEND of 128 octets for each destination.
struct Bench {
    house: House,
    sender: Session,
    sends: [Vec<u8>; 3],
}

impl Bench {
    fn new() -> Bench {
        let mut house = House::new(1, CROWD as u32 + 1);
        let names = users(CROWD + 1);
        // The first of the crowd hear more than the others; all have the same subscription id.
        let all = FANOUT[2].0;
        let first = house.open(0, &names[..1], &[all, FANOUT[1].0, FANOUT[0].0]);
        house.open(0, &names[1..100], &[all, FANOUT[1].0]);
        house.open(0, &names[100..CROWD], &[all]);
        let sender = house.open(0, &names[CROWD..], &[])[0];
        let body = "x".repeat(128);
        let send = |to| frame(Command::Send, &[("destination", to)], &body);
        let mut bench = Bench { house, sender, sends: FANOUT.map(|(to, _)| send(to)) };
        bench.house.watch(first[0]);
        (0..3).for_each(|which| bench.publish(which));
        bench
    }

    /// One message from its SEND to the last octet of the last subscriber.
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

    /// A turn in which nothing happens.
    fn idle(&mut self) {
        let before = self.house.sent();
        assert!(turned(&mut self.house));
        assert_eq!(self.house.sent(), before);
    }

    /// Ten seconds pass: a heart-beat for everybody.
    fn beat(&mut self) {
        let before = self.house.sent().0;
        self.house.advance(Millis(10_000));
        self.house.settle();
        assert!(self.house.sent().0 - before >= CROWD as u64);
    }
}

/// By itself, so that callgrind finds it.
#[inline(never)]
fn measured(house: &mut House, sender: Session, octets: &[u8]) {
    house.say(sender, octets);
    house.settle();
}

#[inline(never)]
fn turned(house: &mut House) -> bool {
    house.turn()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("count") {
        let which = arguments.next().map(|text| text.parse::<usize>().expect("0, 1, 2 or 3"));
        let mut bench = Bench::new();
        match which {
            Some(3) => bench.idle(),
            Some(which) => bench.publish(which),
            None => (0..3).for_each(|which| bench.publish(which)),
        }
        return;
    }
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    let mut bench = Bench::new();
    let mut group = criterion.benchmark_group("engine");
    group.bench_function("turn/idle_10k", |b| b.iter(|| bench.idle()));
    for (which, name) in ["1", "100", "10k"].into_iter().enumerate() {
        group.throughput(Throughput::Elements(FANOUT[which].1));
        let name = format!("publish/fanout_{name}");
        group.bench_function(name, |b| b.iter(|| bench.publish(which)));
    }
    group.throughput(Throughput::Elements(CROWD as u64));
    group.sample_size(10);
    // Without clients that answer, the third ten seconds would end the sessions: each time afresh.
    group.bench_function("beat/10k", |b| {
        b.iter_batched_ref(Bench::new, Bench::beat, criterion::BatchSize::PerIteration);
    });
    group.finish();
    criterion.final_summary();
}

//! The simulator's campaign: many seeds, each a run of the whole engine on 2 to 4 shards with tiny
//! limits, validated by the oracles of `ringpush::sim`.
//!
//! `RINGPUSH_SIM_SEEDS=10000 cargo test --profile sim --test simulator all_seeds -- --nocapture`
//! runs ten thousand of them, optimised, with all assertions and overflow checks. The first seed is
//! drawn at random and printed first, unless `RINGPUSH_SIM_FIRST` names it. Without both variables
//! a fixed range of seeds from 0 on is run, and then some from a random first one. A campaign stops
//! after its first few failures and prints how to replay each. After each ten thousand seeds it
//! prints its results so far to stderr, in case it is interrupted.
//!
//! `examples/seed.rs` runs one seed and shows what happened in it.

use ringpush::sim::{Counts, Event, Mutation, OPERATIONS_MIN, Options, Oracle, Report, run};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A run builds its whole world anew: the system's allocator would take a quarter of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// From this many seeds on, every fault must have happened often enough.
const CAMPAIGN: u64 = 10_000;
/// How often that is, per campaign.
const OFTEN: u64 = 100;
/// After this many seeds it prints its progress.
const PROGRESS: u64 = 10_000;
/// Seeds in which a mutation has to be found.
const MUTATION_SEEDS: u64 = 3_000;
/// Seeds of every run of the tests: those that never change, and those from a random first one.
const SEEDS: (u64, u64) = (200, 100);
/// A campaign stops after this many failures.
const FAILURES_MAX: usize = 3;
/// Random first seeds are below this, so that they can be read and typed.
const FIRST_MAX: u64 = 1_000_000_000_000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A random first seed.
fn random_first() -> u64 {
    getrandom::u64().expect("the system has entropy") % FIRST_MAX
}

/// The results of many runs.
#[derive(Default)]
struct Campaign {
    counts: Counts,
    runs: u64,
    operations: u64,
    least: Option<u64>,
    actions: u64,
    received: u64,
    complete: u64,
    watched: u64,
    failed: Vec<u64>,
}

impl Campaign {
    fn add(&mut self, report: &Report) {
        if let Some(violation) = &report.violation {
            println!(
                "seed {seed}: {violation}\nreplay: cargo run --profile sim --example seed -- \
                 {seed} --trace",
                seed = report.seed
            );
            for line in &report.backtrace {
                println!("  {line}");
            }
            self.failed.push(report.seed);
        }
        self.counts.merge(&report.counts);
        self.runs += 1;
        self.operations += report.operations;
        self.least = Some(self.least.unwrap_or(u64::MAX).min(report.operations));
        self.actions += report.actions;
        self.received += report.received;
        self.complete += report.complete;
        self.watched += u64::from(report.watched);
    }

    /// A line of progress: the results so far, should the campaign be interrupted.
    fn tell_progress(&self, first: u64, seeds: u64) {
        if self.runs.is_multiple_of(PROGRESS) {
            let (runs, failed) = (self.runs, &self.failed);
            let count = failed.len();
            say(&format!("{runs} of {seeds} seeds from {first} on, {count} failed {failed:?}"));
        }
    }

    fn tell(&self) {
        let Campaign { runs, operations, actions, received, complete, watched, .. } = self;
        println!(
            "{runs} runs, {} of them failed: {operations} operations (at least {} a run), \
             {actions} actions of clients, {received} messages received, {complete} \
             subscriptions heard to the end, presence watched from beginning to end in {watched}",
            self.failed.len(),
            self.least.unwrap_or(0),
        );
        print!("{}", self.counts.table());
    }
}

/// Writes a line to stderr at once, even if the output of tests is captured until they end.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs seeds on all cores, until some have failed.
fn campaign(first: u64, seeds: u64, options: Options) -> Campaign {
    match seeds >= PROGRESS {
        true => say(&format!("{seeds} seeds from {first} on")),
        false => println!("{seeds} seeds from {first} on"),
    }
    let next = AtomicU64::new(first);
    let campaign = Mutex::new(Campaign::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = campaign.lock().expect("no run panics").failed.len();
                    if seed >= first + seeds || failed >= FAILURES_MAX {
                        return;
                    }
                    let report = run(seed, options);
                    let mut campaign = campaign.lock().expect("no run panics");
                    campaign.add(&report);
                    campaign.tell_progress(first, seeds);
                }
            });
        }
    });
    campaign.into_inner().expect("no run panics")
}

/// Runs seeds and checks their results.
fn all_are_green(first: u64, seeds: u64) {
    let campaign = campaign(first, seeds, Options::default());
    campaign.tell();
    assert_eq!(campaign.failed, Vec::<u64>::new(), "these seeds failed, of {seeds} from {first}");
    assert!(campaign.least.is_none_or(|least| least >= OPERATIONS_MIN));
    if seeds >= 100 {
        // The oracles must have had something to check.
        assert!(campaign.complete >= 3 * seeds, "{} subscriptions to the end", campaign.complete);
        assert!(campaign.watched * 2 > seeds, "{} runs watched to the end", campaign.watched);
    }
    if seeds >= CAMPAIGN {
        let seldom = Event::ALL.iter().filter(|event| campaign.counts.of(**event) < OFTEN);
        let seldom: Vec<&str> = seldom.map(|event| event.name()).collect();
        assert_eq!(seldom, Vec::<&str>::new(), "these happened less than {OFTEN} times");
        let counts = &campaign.counts;
        let never = ringpush::sim::refusals().filter(|refusal| counts.refused(*refusal) == 0);
        assert_eq!(never.collect::<Vec<_>>(), [], "nothing was refused for these reasons");
    }
}

#[test]
fn all_seeds_are_green() {
    match (number("RINGPUSH_SIM_FIRST"), number("RINGPUSH_SIM_SEEDS")) {
        (None, None) => {
            all_are_green(0, SEEDS.0);
            all_are_green(random_first(), SEEDS.1);
        }
        (first, seeds) => {
            all_are_green(first.unwrap_or_else(random_first), seeds.unwrap_or(SEEDS.0));
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let (one, other) = (run(seed, Options::default()), run(seed, Options::default()));
        assert_eq!(one.digest, other.digest, "seed {seed}");
        assert_eq!((&one.counts, one.received), (&other.counts, other.received), "seed {seed}");
    }
}

#[test]
fn a_trace_changes_nothing_and_ends_where_it_is_to() {
    let plain = run(1, Options::default());
    let traced = run(1, Options { trace: true, ..Options::default() });
    assert_eq!((plain.digest, plain.operations), (traced.digest, traced.operations));
    assert!(plain.trace.is_empty());
    for part in [" of shard 0", "shard 0 -> shard 1: ", " -> control: ", "control -> shard "] {
        assert!(traced.trace.iter().any(|line| line.contains(part)), "{part}");
    }
    let until = Some(plain.operations / 2);
    let half = run(1, Options { trace: true, until, ..Options::default() });
    assert_eq!(half.violation.map(|violation| violation.oracle), Some(Oracle::Until));
    assert!((plain.operations / 2..plain.operations).contains(&half.operations));
    assert!(half.trace.len() > 100 && traced.trace.starts_with(&half.trace));
}

#[test]
fn every_mutation_is_found_by_its_oracle() {
    for mutation in Mutation::ALL {
        let oracle = match mutation {
            Mutation::Lost => Oracle::Lost,
            Mutation::Twice => Oracle::Twice,
            Mutation::Order => Oracle::Order,
            Mutation::Presence => Oracle::Presence,
            Mutation::Leak => Oracle::Leak,
            Mutation::Limit => Oracle::Limit,
            Mutation::Wake => Oracle::Progress,
            Mutation::Isolation => Oracle::Isolation,
            Mutation::Callback => Oracle::Twice,
            Mutation::Policy | Mutation::Uncounted => Oracle::Lost,
            Mutation::Effect => Oracle::Progress,
            Mutation::Overtaken => Oracle::Order,
            Mutation::Unsent => Oracle::Protocol,
            Mutation::Forgotten => Oracle::Leak,
            Mutation::UnitLost => Oracle::Lost,
            Mutation::UnitTwice => Oracle::Twice,
            // An assertion: who is detached holds nothing of the log.
            Mutation::Pinned => Oracle::Panic,
        };
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let found = (0..MUTATION_SEEDS).find(|&seed| {
            let violation = run(seed, options).violation;
            violation.is_some_and(|violation| violation.oracle == oracle)
        });
        println!("{mutation:?} is found by {oracle:?} at seed {found:?}");
        assert!(found.is_some(), "{mutation:?} is not found by {oracle:?}");
    }
}

//! A model of how shards end a drain: every interleaving, and every value that the memory model
//! lets a load see, of three shards that hand work on to each other.
//!
//! What they say of themselves is the engine's own file, compiled with the model's atomics. One
//! shard has a session whose end it tells a home; that home tells a third shard. Nobody may see
//! that all are over before the last of it has been handled. The model has to find the older rule,
//! a flag that stays set, and others that look right.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The atomics that the engine's file uses.
mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}
#[path = "../src/engine/bus/ending.rs"]
mod ending;

use ending::Ending;

const SHARDS: usize = 3;
/// The home, which is told of the end of a session, and tells of it in that turn and in its next.
const HOME: usize = 0;
/// The shard with that session. It has one turn.
const LEAVES: usize = 1;
/// The shard that the home tells, twice.
const TOLD: usize = 2;
/// All entries: one to the home, and those that it sends.
const ENTRIES: usize = 3;

/// What a shard says of itself, and how others see that all are over.
trait Rule: Default + Send + Sync + Sized + 'static {
    fn tell(&self, is_idle: bool, taken: u64, sent: u64);
    fn sends(&self, sent: u64);
    fn all_are_over(all: &[Self]) -> bool;
}

impl Rule for Ending {
    fn tell(&self, is_idle: bool, taken: u64, sent: u64) {
        self.tell(is_idle, taken, sent);
    }

    fn sends(&self, sent: u64) {
        self.sends(sent);
    }

    fn all_are_over(all: &[Ending]) -> bool {
        Ending::all_are_over(all)
    }
}

/// A flag, "finished". It stays set, or it follows its shard.
#[derive(Default)]
struct Flag<const STAYS: bool>(AtomicU64);

impl<const STAYS: bool> Rule for Flag<STAYS> {
    fn tell(&self, is_idle: bool, _: u64, _: u64) {
        if is_idle || !STAYS {
            self.0.store(is_idle.into(), Ordering::Release);
        }
    }

    fn sends(&self, _: u64) {}

    fn all_are_over(all: &[Flag<STAYS>]) -> bool {
        all.iter().all(|flag| flag.0.load(Ordering::Acquire) == 1)
    }
}

/// What counts can do wrong.
const NOTHING: u8 = 0;
const COUNTED_LATE: u8 = 1;
const SENT_FIRST: u8 = 2;

/// A copy of the counts that does one thing wrong.
#[derive(Default)]
struct Counts<const WRONG: u8> {
    taken: AtomicU64,
    sent: AtomicU64,
}

impl<const WRONG: u8> Rule for Counts<WRONG> {
    fn tell(&self, is_idle: bool, taken: u64, sent: u64) {
        self.sent.store(sent, Ordering::Release);
        self.taken.store(taken << 1 | u64::from(is_idle), Ordering::Release);
    }

    fn sends(&self, sent: u64) {
        if WRONG != COUNTED_LATE {
            self.sent.store(sent, Ordering::Release);
        }
    }

    fn all_are_over(all: &[Counts<WRONG>]) -> bool {
        let sum = || all.iter().map(|one| one.sent.load(Ordering::Acquire)).sum::<u64>();
        let early = if WRONG == SENT_FIRST { sum() } else { 0 };
        let mut taken = 0;
        for one in all {
            let word = one.taken.load(Ordering::Acquire);
            if word & 1 == 0 {
                return false;
            }
            taken += word >> 1;
        }
        taken == if WRONG == SENT_FIRST { early } else { sum() }
    }
}

/// The shards: what each says, and how many entries each has been sent.
#[derive(Default)]
struct Shards<R> {
    rules: [R; SHARDS],
    queues: [AtomicU64; SHARDS],
    // Not the model's atomics: these only count.
    handled: AtomicUsize,
    over: AtomicUsize,
}

/// A shard's turns, as `Shard::turn` and the mailbox go: take what is there, send what it leads to,
/// say what it has done, and look whether all are over. The home only says.
fn run<R: Rule>(shards: &Shards<R>, me: usize) {
    let (mut taken, mut sent, mut has_told, mut has_work) = (0, 0, false, false);
    let turns = [3, 1, 2][me];
    for _ in 0..turns {
        let had_work = has_work;
        if me != LEAVES {
            let there = shards.queues[me].load(Ordering::Acquire);
            has_work = me == HOME && there > taken;
            shards.handled.fetch_add((there - taken) as usize, Relaxed);
            taken = there;
        }
        let to = match me {
            HOME => (had_work || has_work).then_some(TOLD),
            _ => (me == LEAVES).then_some(HOME),
        };
        if let Some(other) = to {
            sent += 1;
            if has_told {
                shards.rules[me].sends(sent);
            }
            shards.queues[other].fetch_add(1, Ordering::Release);
        }
        has_told = true;
        shards.rules[me].tell(!has_work, taken, sent);
        if me != HOME && R::all_are_over(&shards.rules) {
            let handled = shards.handled.load(Relaxed);
            assert_eq!(handled, ENTRIES, "shard {me} ends before all is handled");
            shards.over.fetch_add(1, Relaxed);
            return;
        }
    }
}

/// All runs of the model, as far as `preemptions` forced switches from a thread to another go.
/// Gives their count, and how many shards have ended in them.
fn model<R: Rule>(preemptions: usize) -> (usize, usize) {
    let totals = std::sync::Arc::new([const { AtomicUsize::new(0) }; 2]);
    let counts = totals.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let shards = Arc::new(Shards::<R>::default());
        let others: Vec<_> = (1..SHARDS)
            .map(|me| {
                let shards = shards.clone();
                loom::thread::spawn(move || run(&shards, me))
            })
            .collect();
        run(&shards, 0);
        others.into_iter().for_each(|other| other.join().expect("it has its turns"));
        counts[0].fetch_add(1, Relaxed);
        counts[1].fetch_add(shards.over.load(Relaxed), Relaxed);
    });
    (totals[0].load(Relaxed), totals[1].load(Relaxed))
}

/// Whether the model finds fault with a rule.
fn is_found<R: Rule>() -> bool {
    std::thread::spawn(|| model::<R>(2)).join().is_err()
}

#[test]
fn no_shard_ends_before_all_is_handled() {
    let full = std::env::var("RINGPUSH_TESTS").is_ok_and(|which| which == "full");
    let (runs, over) = model::<Ending>(if full { 3 } else { 2 });
    println!("{runs} runs, {over} ends");
    assert!(over > 0, "shards do end");
}

#[test]
fn a_rule_that_ends_too_early_is_found() {
    assert!(!is_found::<Counts<NOTHING>>(), "nothing is wrong, nothing is found");
    assert!(is_found::<Flag<true>>(), "a flag that stays set");
    assert!(is_found::<Flag<false>>(), "a flag that follows its shard");
    assert!(is_found::<Counts<COUNTED_LATE>>(), "entries that are counted after they are sent");
    assert!(is_found::<Counts<SENT_FIRST>>(), "what was sent, read before what was taken");
}

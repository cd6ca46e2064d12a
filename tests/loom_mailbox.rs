//! A model of queues, sleeping flag and doorbell: every interleaving, and every value that the
//! memory model lets a load see, of an owner that sleeps and two peers that write to it.
//!
//! The flag is the engine's own file, compiled with the model's atomics. The queue has the loads
//! and stores of `rtrb`: slots, a tail that the writer stores with Release and the reader loads
//! with Acquire. The owner waits at the doorbell; it must not wait there when nobody is left to
//! ring. The model has to find flags with a part missing.

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The atomics that the flag's file uses.
mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
#[path = "../src/engine/sleeping.rs"]
mod sleeping;

use sleeping::Sleeping;

/// Peers that write.
const WRITERS: usize = 2;
/// Entries of each peer: its queue has room for all of them.
const LETTERS: usize = 2;

/// A flag as the mailbox uses it.
trait Flag: Default + Send + Sync + 'static {
    fn may_sleep(&self, queues_are_empty: impl FnOnce() -> bool) -> bool;
    fn clear(&self);
    fn must_ring(&self) -> bool;
}

impl Flag for Sleeping {
    fn may_sleep(&self, queues_are_empty: impl FnOnce() -> bool) -> bool {
        self.may_sleep(queues_are_empty)
    }

    fn clear(&self) {
        self.clear();
    }

    fn must_ring(&self) -> bool {
        self.must_ring()
    }
}

/// The parts that a flag can lack.
const NOTHING: u8 = 0;
const FENCE_OF_OWNER: u8 = 1;
const FENCE_OF_WRITER: u8 = 2;
const SECOND_LOOK: u8 = 3;
const SWAP: u8 = 4;

/// A copy of the flag without one of its parts.
#[derive(Default)]
struct Without<const PART: u8>(AtomicBool);

impl<const PART: u8> Flag for Without<PART> {
    fn may_sleep(&self, queues_are_empty: impl FnOnce() -> bool) -> bool {
        self.0.swap(true, Ordering::Relaxed);
        if PART != FENCE_OF_OWNER {
            fence(Ordering::SeqCst);
        }
        let empty = PART == SECOND_LOOK || queues_are_empty();
        if !empty {
            self.clear();
        }
        empty
    }

    fn clear(&self) {
        if self.0.load(Ordering::Relaxed) {
            self.0.swap(false, Ordering::Relaxed);
        }
    }

    fn must_ring(&self) -> bool {
        if PART != FENCE_OF_WRITER {
            fence(Ordering::SeqCst);
        }
        let set = self.0.load(Ordering::Relaxed);
        set && (PART == SWAP || self.0.swap(false, Ordering::Relaxed))
    }
}

/// A queue of one writer.
#[derive(Default)]
struct Class {
    slots: [AtomicU32; LETTERS],
    tail: AtomicU32,
}

/// Where the owner waits.
#[derive(Default)]
struct Doorbell {
    state: Mutex<DoorbellState>,
    changed: Condvar,
}

#[derive(Default)]
struct DoorbellState {
    rung: bool,
    /// Writers that are done.
    ended: usize,
}

impl Doorbell {
    fn change(&self, change: impl FnOnce(&mut DoorbellState)) {
        change(&mut self.state.lock().expect("nobody panics while he holds it"));
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut state = self.state.lock().expect("nobody panics while he holds it");
        while !state.rung && state.ended < WRITERS {
            state = self.changed.wait(state).expect("nobody panics while he holds it");
        }
        let rung = std::mem::take(&mut state.rung);
        drop(state);
        assert!(rung, "a wake-up is lost: the owner waits, and nobody is left to ring");
    }
}

#[derive(Default)]
struct Mailbox<F> {
    flag: F,
    doorbell: Doorbell,
    queues: [Class; WRITERS],
    // Not the model's atomics: these only count.
    raised: AtomicUsize,
    rings: AtomicUsize,
}

/// A peer: an entry, then a doorbell if one is needed; and again.
fn write<F: Flag>(mailbox: &Mailbox<F>, writer: usize) {
    let class = &mailbox.queues[writer];
    for number in 0..LETTERS {
        class.slots[number].store(1 + number as u32, Ordering::Relaxed);
        class.tail.store(1 + number as u32, Ordering::Release);
        if mailbox.flag.must_ring() {
            mailbox.rings.fetch_add(1, Relaxed);
            mailbox.doorbell.change(|doorbell| doorbell.rung = true);
        }
    }
    mailbox.doorbell.change(|doorbell| doorbell.ended += 1);
}

/// The owner's loop, as `Shard::turn` goes: sleep if nothing is there, be awake, take what is
/// there.
fn read<F: Flag>(mailbox: &Mailbox<F>) {
    let mut taken = [0; WRITERS];
    let held = |class: &Class| class.tail.load(Ordering::Acquire) as usize;
    while taken.iter().sum::<usize>() < WRITERS * LETTERS {
        let empty = || (0..WRITERS).all(|writer| held(&mailbox.queues[writer]) == taken[writer]);
        // The flag is raised for a moment even if the second check finds an entry.
        mailbox.raised.fetch_add(1, Relaxed);
        if mailbox.flag.may_sleep(empty) {
            mailbox.doorbell.wait();
        }
        mailbox.flag.clear();
        for (class, taken) in mailbox.queues.iter().zip(&mut taken) {
            for number in *taken..held(class) {
                let entry = class.slots[number].load(Ordering::Relaxed);
                assert_eq!(entry, 1 + number as u32, "the entry, and not what was there before");
                *taken += 1;
            }
        }
    }
    let (raised, rings) = (mailbox.raised.load(Relaxed), mailbox.rings.load(Relaxed));
    assert!(rings <= raised, "{rings} doorbells, the flag was raised {raised} times");
}

/// All executions of the model with at most `preemptions` forced switches between threads. Returns
/// their count.
fn model<F: Flag>(preemptions: usize) -> usize {
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        let mailbox = Arc::new(Mailbox::<F>::default());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let mailbox = mailbox.clone();
                loom::thread::spawn(move || write(&mailbox, writer))
            })
            .collect();
        read(&mailbox);
        writers.into_iter().for_each(|writer| writer.join().expect("it writes all"));
    });
    runs.load(Relaxed)
}

/// Whether the model finds a fault in a flag.
fn is_found<F: Flag>() -> bool {
    std::thread::spawn(|| model::<F>(2)).join().is_err()
}

#[test]
fn no_wake_up_and_no_entry_is_lost() {
    let full = std::env::var("RINGPUSH_TESTS").is_ok_and(|which| which == "full");
    println!("{} runs", model::<Sleeping>(if full { 3 } else { 2 }));
}

#[test]
fn a_flag_without_one_of_its_parts_is_found() {
    assert!(!is_found::<Without<NOTHING>>(), "nothing is missing, nothing is found");
    assert!(is_found::<Without<FENCE_OF_OWNER>>(), "the owner's fence");
    assert!(is_found::<Without<FENCE_OF_WRITER>>(), "the writer's fence");
    assert!(is_found::<Without<SECOND_LOOK>>(), "the second check of the queues");
    assert!(is_found::<Without<SWAP>>(), "one doorbell of several writers");
}

//! A model of queues, mask, sleeping flag and doorbell: every interleaving, and every value that
//! the memory model lets a load see, of an owner that sleeps and two peers that write to it.
//!
//! Mask and flag are the engine's own files, compiled with the model's atomics. The queue has the
//! loads and stores of `rtrb`: slots, a tail that the writer stores with Release and the reader
//! loads with Acquire. The owner waits at the doorbell; it must not wait there when nobody is left
//! to ring. The model has to find flags with a part missing, and masks that are used wrongly.

use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The atomics that the engine's files use.
mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}
#[path = "../src/engine/bus/mask.rs"]
mod mask;
#[path = "../src/engine/bus/sleeping.rs"]
mod sleeping;

use mask::Mask;
use sleeping::Sleeping;

/// Peers that write.
const WRITERS: usize = 2;
/// Entries of each peer: its queue has room for all of them.
const ENTRIES: usize = 2;

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

/// A mask as the mailbox uses it.
trait Bits: Default + Send + Sync + 'static {
    /// The bit is set before the entry is in the queue.
    const EARLY: bool = false;
    fn set(&self, writer: usize);
    fn take(&self) -> u64;
    fn is_empty(&self) -> bool;
}

impl Bits for Mask {
    fn set(&self, writer: usize) {
        self.set(writer);
    }

    fn take(&self) -> u64 {
        self.take()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// The mask, but a writer sets its bit first and writes afterwards.
#[derive(Default)]
struct Early(Mask);

impl Bits for Early {
    const EARLY: bool = true;

    fn set(&self, writer: usize) {
        self.0.set(writer);
    }

    fn take(&self) -> u64 {
        self.0.take()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A mask whose bits are taken in two steps.
#[derive(Default)]
struct Split(AtomicU64);

impl Bits for Split {
    fn set(&self, writer: usize) {
        self.0.fetch_or(1 << writer, Ordering::Release);
    }

    fn take(&self) -> u64 {
        let bits = self.0.load(Ordering::Acquire);
        self.0.store(0, Ordering::Relaxed);
        bits
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A queue of one writer.
#[derive(Default)]
struct Queue {
    slots: [AtomicU32; ENTRIES],
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
struct Mailbox<F, M> {
    flag: F,
    mask: M,
    doorbell: Doorbell,
    queues: [Queue; WRITERS],
    // Not the model's atomics: these only count.
    raised: AtomicUsize,
    rings: AtomicUsize,
}

/// A peer: an entry, its bit, then a doorbell if one is needed; and again.
fn write<F: Flag, M: Bits>(mailbox: &Mailbox<F, M>, writer: usize) {
    let class = &mailbox.queues[writer];
    for number in 0..ENTRIES {
        if M::EARLY {
            mailbox.mask.set(writer);
        }
        class.slots[number].store(1 + number as u32, Ordering::Relaxed);
        class.tail.store(1 + number as u32, Ordering::Release);
        if !M::EARLY {
            mailbox.mask.set(writer);
        }
        if mailbox.flag.must_ring() {
            mailbox.rings.fetch_add(1, Relaxed);
            mailbox.doorbell.change(|doorbell| doorbell.rung = true);
        }
    }
    mailbox.doorbell.change(|doorbell| doorbell.ended += 1);
}

/// The owner's loop, as `Shard::turn` goes: sleep if nothing is there, be awake, take what is there
/// of those that the mask names.
fn read<F: Flag, M: Bits>(mailbox: &Mailbox<F, M>) {
    let mut taken = [0; WRITERS];
    let held = |class: &Queue| class.tail.load(Ordering::Acquire) as usize;
    while taken.iter().sum::<usize>() < WRITERS * ENTRIES {
        let mut ready = mailbox.mask.take();
        if ready == 0 {
            // The flag is up for a moment also when the second look finds an entry.
            mailbox.raised.fetch_add(1, Relaxed);
            if mailbox.flag.may_sleep(|| mailbox.mask.is_empty()) {
                mailbox.doorbell.wait();
            }
            mailbox.flag.clear();
            ready = mailbox.mask.take();
        }
        for (writer, (class, taken)) in mailbox.queues.iter().zip(&mut taken).enumerate() {
            let end = if ready & 1 << writer == 0 { *taken } else { held(class) };
            for number in *taken..end {
                let entry = class.slots[number].load(Ordering::Relaxed);
                assert_eq!(entry, 1 + number as u32, "the entry, and not what was there before");
                *taken += 1;
            }
        }
    }
    let (raised, rings) = (mailbox.raised.load(Relaxed), mailbox.rings.load(Relaxed));
    assert!(rings <= raised, "{rings} doorbells, the flag was raised {raised} times");
}

/// All runs of the model, as far as `preemptions` forced switches from a thread to another go.
/// Gives their count.
fn model<F: Flag, M: Bits>(preemptions: usize) -> usize {
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        let mailbox = Arc::new(Mailbox::<F, M>::default());
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

/// Whether the model finds fault with a flag and a mask.
fn is_found<F: Flag, M: Bits>() -> bool {
    std::thread::spawn(|| model::<F, M>(2)).join().is_err()
}

#[test]
fn no_wake_up_and_no_entry_is_lost() {
    let full = std::env::var("RINGPUSH_TESTS").is_ok_and(|which| which == "full");
    println!("{} runs", model::<Sleeping, Mask>(if full { 3 } else { 2 }));
}

#[test]
fn a_flag_without_one_of_its_parts_is_found() {
    assert!(!is_found::<Without<NOTHING>, Mask>(), "nothing is missing, nothing is found");
    assert!(is_found::<Without<FENCE_OF_OWNER>, Mask>(), "the owner's fence");
    assert!(is_found::<Without<FENCE_OF_WRITER>, Mask>(), "the writer's fence");
    assert!(is_found::<Without<SECOND_LOOK>, Mask>(), "the second look at the mask");
    assert!(is_found::<Without<SWAP>, Mask>(), "one doorbell of several writers");
}

#[test]
fn a_mask_that_is_used_wrongly_is_found() {
    assert!(is_found::<Sleeping, Early>(), "the bit before the entry");
    assert!(is_found::<Sleeping, Split>(), "bits that are taken in two steps");
}

//! Doorbells between threads.

use crate::bench::{Bench, PATIENCE, Shape};
use ringpush::ids::PeerId;
use ringpush::ring::{Done, Doorbells, Op, Ring, Wait};
use std::sync::Barrier;

const A: PeerId = PeerId(0);
const B: PeerId = PeerId(1);
const CONTROL: PeerId = PeerId(2);

fn doorbells() -> Doorbells {
    Doorbells::new(3).expect("eventfds can be made")
}

fn ring_of(doorbells: &Doorbells, peer: PeerId) -> Bench {
    Shape { doorbells: Some((doorbells.clone(), peer)), ..Shape::default() }.start()
}

fn rung(bench: &mut Bench) {
    bench.wait_for(|done| (*done == Done::Rung).then_some(()));
}

#[test]
fn a_doorbell_wakes_a_sleeping_ring() {
    let (doorbells, started) = (doorbells(), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bench = ring_of(&doorbells, B);
            started.wait();
            // Rounds: each side sleeps in the kernel until the other rings.
            for _ in 0..100 {
                rung(&mut bench);
                bench.ring.push(Op::Doorbell { peer: A });
                bench.ring.enter(Wait::No);
            }
        });
        let mut bench = ring_of(&doorbells, A);
        started.wait();
        for _ in 0..100 {
            bench.ring.push(Op::Doorbell { peer: B });
            rung(&mut bench);
        }
        assert_eq!(bench.collect(), [], "ringing a doorbell has no answer for the ringer");
        assert_eq!(bench.ring.stats().unheard, 0);
    });
}

#[test]
fn a_doorbell_is_rung_by_the_entry_that_sleeps() {
    let (doorbells, started) = (doorbells(), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bench = ring_of(&doorbells, B);
            started.wait();
            rung(&mut bench);
            // Wakes A, which went to sleep with the same entry that rang here.
            bench.ring.push(Op::Doorbell { peer: A });
            bench.ring.enter(Wait::No);
        });
        let mut bench = ring_of(&doorbells, A);
        started.wait();
        bench.ring.push(Op::Doorbell { peer: B });
        bench.ring.enter(Wait::No);
        let deadline = bench.ring.now() + PATIENCE;
        bench.ring.enter(Wait::Until(deadline));
        assert_eq!(bench.ring.pop(), Some(Done::Rung));
        assert!(bench.ring.now() < deadline);
    });
}

#[test]
fn every_doorbell_wakes_its_peer() {
    const RINGS: usize = 500;
    let doorbells = doorbells();
    let mut a = ring_of(&doorbells, A);
    let shape = Shape { submission: 8, completion: 16, ..Shape::default() };
    let mut b = Shape { doorbells: Some((doorbells.clone(), B)), ..shape }.start();
    for _ in 0..RINGS {
        a.ring.push(Op::Doorbell { peer: B });
    }
    assert_eq!(a.collect(), []);
    // B's queue of 16 is full many times over: the kernel keeps the rest.
    for _ in 0..RINGS {
        rung(&mut b);
    }
    assert_eq!(b.collect(), []);
    assert_eq!(a.ring.stats().unheard, 0);
}

#[test]
fn the_control_thread_is_rung_by_a_write() {
    let doorbells = doorbells();
    let mut bench = ring_of(&doorbells, A);
    assert!(!doorbells.silence(CONTROL));
    bench.ring.push(Op::Doorbell { peer: CONTROL });
    assert!(!doorbells.silence(CONTROL), "not before the entry");
    assert_eq!(bench.collect(), []);
    assert!(doorbells.silence(CONTROL));
    assert!(!doorbells.silence(CONTROL));
}

#[test]
fn the_control_thread_rings_a_sleeping_ring() {
    let (doorbells, started) = (doorbells(), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bench = ring_of(&doorbells, B);
            started.wait();
            for _ in 0..50 {
                rung(&mut bench);
                bench.ring.push(Op::Doorbell { peer: CONTROL });
                bench.ring.enter(Wait::No);
            }
        });
        started.wait();
        for _ in 0..50 {
            doorbells.ring_from_outside(B);
            while !doorbells.silence(CONTROL) {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn a_doorbell_is_kept_for_a_ring_that_has_not_started() {
    let doorbells = doorbells();
    let mut a = ring_of(&doorbells, A);
    a.ring.push(Op::Doorbell { peer: B });
    assert_eq!(a.collect(), []);
    let mut b = ring_of(&doorbells, B);
    rung(&mut b);
}

#[test]
fn a_ring_that_has_ended_is_not_missed() {
    let doorbells = doorbells();
    let mut a = ring_of(&doorbells, A);
    let b = ring_of(&doorbells, B);
    a.ring.push(Op::Doorbell { peer: B });
    drop(b);
    // The doorbell was in flight to a ring that is now closed.
    assert_eq!(a.collect(), []);
    assert_eq!(a.ring.stats().unheard, 1);
    a.ring.push(Op::Doorbell { peer: B });
    assert_eq!(a.collect(), []);
    assert_eq!(a.ring.stats().unheard, 1);
}

#[test]
#[should_panic(expected = "a thread does not ring its own doorbell")]
fn ringing_its_own_doorbell_is_our_bug() {
    ring_of(&doorbells(), A).ring.push(Op::Doorbell { peer: A });
}

//! Shards whose records are spoiled in the middle of a run: their invariants notice.

use super::run::{Options, Simulation};
use crate::engine::corruption::Corruption;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Steps in which there has to be something to spoil.
const STEPS: u32 = 20_000;

/// What the invariants say of a shard in which something was spoiled.
fn found(seed: u64, corruption: Corruption) -> Option<String> {
    let mut simulation = Simulation::new(seed, Options::default());
    simulation.arrive(true);
    for _ in 0..STEPS {
        simulation.step().expect("nothing is spoiled yet");
        for shard in &mut simulation.shards {
            if shard.corrupt(corruption) {
                let said = catch_unwind(AssertUnwindSafe(|| shard.invariants()));
                let said = said.expect_err("something is spoiled");
                let text = said.downcast_ref::<String>().cloned();
                let text = text.or_else(|| said.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                return Some(text.expect("an assertion's words"));
            }
        }
    }
    None
}

#[test]
fn each_corruption_is_found_at_once() {
    for (corruption, expected) in Corruption::ALL {
        // Not every run has sealed connections.
        let said = (1..9).find_map(|seed| found(seed, corruption)).expect("something to spoil");
        assert!(said.contains(expected), "{corruption:?}: {said}");
    }
}

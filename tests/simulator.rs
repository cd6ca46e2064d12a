//! Runs of the simulator.
use ringpush::sim::{Counts, Options, run};
#[test]
fn seeds() {
    let n: u64 =
        std::env::var("RINGPUSH_SIM_SEEDS").ok().and_then(|v| v.parse().ok()).unwrap_or(20);
    let first: u64 =
        std::env::var("RINGPUSH_SIM_FIRST").ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut counts = Counts::default();
    let mut bad = 0;
    let (mut ops, mut least, mut received, mut actions) = (0, u64::MAX, 0, 0);
    let begun = std::time::Instant::now();
    for seed in first..first + n {
        let report = run(
            seed,
            Options {
                trace: std::env::var_os("RINGPUSH_SIM_TRACE").is_some(),
                ..Options::default()
            },
        );
        for line in &report.trace {
            println!("{line}");
        }
        counts.merge(&report.counts);
        ops += report.operations;
        least = least.min(report.operations);
        received += report.received;
        actions += report.actions;
        if let Some(violation) = report.violation {
            bad += 1;
            let text: String = violation.to_string().chars().take(900).collect();
            println!("seed {seed}: {text}");
        }
    }
    println!(
        "{} bad, {n} seeds, {ops} operations, least {least}, {actions} actions, {received} received, {:?}",
        bad,
        begun.elapsed()
    );
    print!("{}", counts.table());
}

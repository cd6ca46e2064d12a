//! Runs one seed of the simulator, for who looks for the cause of a violation.
//!
//! ```text
//! cargo run --profile sim --example seed -- SEED [--trace] [--until OPERATION] [--mutation NAME]
//! ```
//!
//! With `--trace` it prints what happened: virtual microseconds, then a ring's operation or
//! completion, the turn of a shard, an entry from thread to thread, or what a client has done. With
//! `--until` the run stops after that many operations. A mutation is a bug that is added on
//! purpose.

use ringpush::sim::{Mutation, Options, run};
use std::io::{BufWriter, Write};
use std::process::ExitCode;

const USAGE: &str = "seed SEED [--trace] [--until OPERATION] [--mutation NAME]";

/// The arguments, or what is wrong with them.
fn read(mut arguments: impl Iterator<Item = String>) -> Result<(u64, Options), String> {
    let (mut seed, mut options) = (None, Options::default());
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).ok_or(USAGE);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--trace" => options.trace = true,
            "--until" => options.until = Some(number(arguments.next())?),
            "--mutation" => {
                let name = arguments.next().unwrap_or_default();
                let is_it = |one: &&Mutation| format!("{one:?}").eq_ignore_ascii_case(&name);
                let found = Mutation::ALL.iter().find(is_it);
                let known = || format!("the mutations are {:?}", Mutation::ALL);
                options.mutation = Some(*found.ok_or_else(known)?);
            }
            _ => seed = Some(number(Some(argument))?),
        }
    }
    Ok((seed.ok_or(USAGE)?, options))
}

fn main() -> ExitCode {
    let (seed, options) = match read(std::env::args().skip(1)) {
        Ok(read) => read,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let report = run(seed, options);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let printed = report.trace.iter().try_for_each(|line| writeln!(out, "{line}"));
    // `head` may have read enough.
    let _ = printed.and_then(|()| out.flush());
    drop(out);
    eprintln!("seed {seed}: {} operations, {} actions", report.operations, report.actions);
    let Some(violation) = report.violation else { return ExitCode::SUCCESS };
    eprintln!("{violation}");
    for line in &report.backtrace {
        eprintln!("  {line}");
    }
    ExitCode::FAILURE
}

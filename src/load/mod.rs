#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a client measures time")]
#![expect(clippy::disallowed_types, reason = "a client has sockets")]
//! `ringpush load`: many clients on one thread, which measure a server.
//!
//! **What it turns into what.** Arguments ([`Options`]) into a [`Report`]: figures, latencies,
//! faults, as a table, JSON and a page with plots.
//!
//! **What it does not know.** The inside of any server: it talks to ringpush as to any other
//! WebSocket or STOMP server, and reads what a process uses from /proc.
//!
//! **How to drive it.** [`run()`] with the parsed arguments; it prints and writes what they ask
//! for. A scenario opens its clients in a [`fleet::Fleet`], runs its turns, and follows the
//! messages with a [`course::Course`]:
//!
//! ```
//! use ringpush::load::course::Course;
//! use ringpush::load::stamp::Stamp;
//! let mut course = Course::new();
//! course.join(0);
//! let stamp = Stamp { sequence: course.publish(), due: 1_000 };
//! course.on_delivery(0, stamp, 21_000);
//! assert_eq!((course.outstanding(), course.delivered()), (0, 1));
//! // A histogram stores three digits of a value.
//! assert!(course.latency.max().abs_diff(20_000) < 100);
//! ```
//!
//! **Honesty.** Latency counts from when a message was *due*, so that a server does not look faster
//! by making the client wait. Every message has a number: lost, repeated and reordered ones are
//! counted. The report warns if the client was busy all the time. What the server used is read when
//! nothing is in flight, so that it belongs to the counted messages.
//!
//! **Bounds.** The descriptors of the process bound the sessions of one run; several runs at the
//! same time can open more. Source addresses 127.0.0.1, .2, … have up to 20 000 sessions each.
//!
//! **State.** Some 150 bytes per client beside the kernel's, and 56 per receiver.

pub mod broadcast;
mod churn;
pub mod clock;
mod connect;
pub mod course;
mod exchange;
mod fanout;
pub mod fleet;
pub mod meter;
mod mixed;
pub mod peer;
pub mod plan;
pub mod plot;
pub mod report;
pub mod run;
pub mod sequence;
mod slow;
pub mod stamp;
pub mod streams;
mod unpack;
pub mod wire;

pub use plan::Options;
pub use report::Report;
pub use run::Failure;

use plan::{Scenario, Target};
use std::io::Write;
use std::path::Path;

/// Runs a scenario, and prints and writes its result.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (report, target) = match &options.scenario {
        Scenario::Connect(connect) => (connect::run(connect)?, &connect.target),
        Scenario::Fanout(fanout) => (fanout::run(fanout)?, &fanout.target),
        Scenario::Unicast(unicast) => (exchange::unicast(unicast)?, &unicast.target),
        Scenario::Echo(echo) => (exchange::echo(echo)?, &echo.target),
        Scenario::Callback(callback) => (exchange::callback(callback)?, &callback.target),
        Scenario::Churn(churn) => (churn::run(churn)?, &churn.target),
        Scenario::Slow(slow) => (slow::run(slow)?, &slow.target),
        Scenario::Mixed(mixed) => (mixed::run(mixed)?, &mixed.target),
    };
    publish(&report, target)
}

fn publish(report: &Report, target: &Target) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    if !target.quiet {
        output.write_all(report.table().as_bytes())?;
    }
    match target.json.as_deref() {
        None => {}
        Some(path) if path == Path::new("-") => output.write_all(report.json().as_bytes())?,
        Some(path) => write(path, &report.json())?,
    }
    if let Some(path) = &target.html {
        write(path, &plot::page(report)?)?;
    }
    if let Some(folder) = &target.svg {
        for plot in plot::plots(report)? {
            let name = format!("{}-{}.svg", report.scenario, plot.name);
            write(&folder.join(name), &plot.svg)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| Failure(format!("{}: {error}", path.display()));
    std::fs::write(path, text).map_err(failed)
}

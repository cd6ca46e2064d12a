//! Innocent clients beside attackers, and beside as many polite clients that send the same bytes.
//!
//!     cargo bench --bench attacks                     all of them, some four minutes
//!     cargo bench --bench attacks -- 4-ids-10 6       those whose names begin like this
//!     cargo bench --bench attacks -- --seconds 12     the length of each run
//!     cargo bench --bench attacks -- --busy           other work of the machine is kept out of
//!                                                     the figures, if SCHED_RR is permitted
//!     RINGPUSH_BIN=… cargo bench --bench attacks      another build of the server
//!
//! Each attack runs twice, first with polite clients and then with attackers, each time against a
//! new server with one shard on the first core. All clients are on the second core, innocents
//! before attackers (SCHED_RR, where permitted), so that the attackers' own work is not in the
//! figures. While they run, 50 raw clients echo (500 messages per second), and 20 subscribers
//! receive 100 publishes per second from the HTTP API, both at fixed times; every 0.2 s visitors
//! ask for a new destination, a pattern, a hook and an echo.
//!
//! Exits with 1 if a promise is broken: echo or publish p99 above 3 times that beside polite
//! clients, or above 20 ms; an innocent that is reset, refused, or waits for something that never
//! arrives; a forged header that is received; a socket or user of the attackers that is left 1.2 s
//! after they have gone; more memory than `ringpush check` prints.

mod innocents;
mod scripts;
mod server;
mod swarm;
mod visitors;

use hdrhistogram::Histogram;
use innocents::{Innocents, Tally};
use scripts::{ATTACKS, Attack};
use server::{Server, hurry};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;
use swarm::{Deeds, Swarm};
use visitors::{Visitors, Visits};

/// How long the innocents are alone, so that their connections are warm.
const ALONE: Duration = Duration::from_millis(500);
/// How soon after the attackers have gone everything of theirs must be gone.
const FORGET: Duration = Duration::from_millis(1200);
/// The promised bounds.
const RATIO_MAX: f64 = 3.0;
const MILLIS_MAX: f64 = 20.0;

/// One of the two histograms of a run.
type Of = fn(&Tally) -> &Histogram<u64>;

/// One run.
struct Run {
    tally: Tally,
    visits: Visits,
    deeds: Deeds,
    left: usize,
    peak: u64,
    bound: u64,
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--swarm") {
        swarm_process(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    // `cargo bench` passes this flag; `cargo test --all-targets` does not, and must not wait.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    if !is_bench {
        return ExitCode::SUCCESS;
    }
    arguments.retain(|argument| argument != "--bench");
    let mut seconds = 6;
    if let Some(at) = arguments.iter().position(|argument| argument == "--seconds") {
        seconds = arguments.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(seconds);
        arguments.drain(at..(at + 2).min(arguments.len()));
    }
    let busy = arguments.iter().any(|argument| argument == "--busy");
    arguments.retain(|argument| argument != "--busy");
    let id = std::process::id();
    hurry(2, id, true);
    let mut taskset = Command::new("taskset");
    let _ = taskset.args(["-cp", "1", &id.to_string()]).stdout(Stdio::null()).status();
    let is_wanted = |attack: &&Attack| {
        arguments.is_empty() || arguments.iter().any(|name| attack.name.starts_with(name))
    };
    println!("{HEAD}");
    let span = Duration::from_secs(seconds);
    let held = ATTACKS.iter().filter(is_wanted).filter(|attack| !holds(attack, span, busy)).count();
    println!("{held} attacks broke a promise");
    if held == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The child that attacks: name, polite or not, address, milliseconds.
fn swarm_process(arguments: &[String]) {
    let [name, manner, to, millis] = arguments else { panic!("four arguments") };
    let attack = ATTACKS.iter().find(|attack| attack.name == name).expect("it has a name");
    let to: SocketAddr = to.parse().expect("an address");
    let span = Duration::from_millis(millis.parse().expect("a number"));
    let deeds = Swarm::new(to, attack.groups(manner == "polite")).run(span);
    println!("{}", serde_json::to_string(&deeds).expect("numbers"));
}

fn run(attack: &Attack, manner: &str, span: Duration, busy: bool) -> Run {
    let server = Server::start(attack.descriptors, busy);
    let to = server.address;
    let innocents = Innocents::start(to, ALONE + span);
    let visitors = Visitors::start(to);
    thread::sleep(ALONE);
    // With a lower priority than the innocents, who must not wait on their own core.
    let swarm = Command::new("chrt")
        .args(["--other", "0"])
        .arg(std::env::current_exe().expect("we run"))
        .args(["--swarm", attack.name, manner, &to.to_string(), &span.as_millis().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("we can be run again");
    if busy {
        hurry(1, swarm.id(), true);
    }
    let output = swarm.wait_with_output().expect("it ends");
    let deeds = serde_json::from_slice(&output.stdout).expect("it tells what it did");
    thread::sleep(FORGET);
    let left = server.left();
    let visits = visitors.finish();
    let tally = innocents.finish();
    Run { tally, visits, deeds, left, peak: server.peak(), bound: server.bound }
}

const HEAD: &str = "\
attack            echo p50/p99 ms                    publish p50/p99 ms                 ended lost \
refused forged left  peak/check MB
                    polite        attack      ratio    polite        attack      ratio";

/// Runs an attack, prints its row, and returns whether all promises were kept.
fn holds(attack: &Attack, span: Duration, busy: bool) -> bool {
    let polite = run(attack, "polite", span, busy);
    let hostile = run(attack, "hostile", span, busy);
    let millis = |value: u64| value as f64 / 1e6;
    let mut broken = Vec::new();
    let mut columns = format!("{:<16}", attack.name);
    let both: [(&str, Of); 2] = [("echo", Tally::echo), ("publish", Tally::publish)];
    for (name, of) in both {
        let at = |run: &Run, quantile| millis(of(&run.tally).value_at_quantile(quantile));
        let (before, after) = (at(&polite, 0.99), at(&hostile, 0.99));
        let ratio = after / before;
        let (low, high) = (at(&polite, 0.5), at(&hostile, 0.5));
        columns += &format!(" {low:>6.2}/{before:<7.2} {high:>6.2}/{after:<8.2} {ratio:>6.2} ");
        if ratio > RATIO_MAX {
            broken.push(format!("{name} p99 {ratio:.1} times"));
        }
        if after > MILLIS_MAX {
            broken.push(format!("{name} p99 {after:.1} ms"));
        }
    }
    let Run { tally, visits, left, peak, bound, .. } = &hostile;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{columns} {:>5} {:>4} {:>3}/{:<3} {:>6} {left:>4} {:>5.0}/{:.0}",
        tally.ended,
        tally.lost,
        visits.refused,
        visits.made,
        visits.forged,
        megabytes(*peak),
        megabytes(*bound)
    );
    let counts = [
        (tally.ended, "ended"),
        (tally.lost, "lost"),
        (visits.refused, "refused"),
        (visits.forged, "forged"),
        (*left as u64, "left"),
    ];
    broken.extend(counts.iter().filter(|c| c.0 > 0).map(|(n, what)| format!("{n} {what}")));
    if peak > bound {
        broken.push("more memory than the bound".into());
    }
    println!(
        "    {}: {}",
        attack.what,
        if broken.is_empty() { "held".into() } else { broken.join(", ") }
    );
    for (manner, run) in [("polite", &polite), ("hostile", &hostile)] {
        tell(manner, run);
    }
    let _ = std::io::stdout().flush();
    broken.is_empty()
}

fn tell(manner: &str, run: &Run) {
    let Deeds { opened, refused, ended, errors, sent_bytes, read_bytes, stalled_beats } = run.deeds;
    let (sent, read) = (sent_bytes as f64 / 1e6, read_bytes as f64 / 1e6);
    println!(
        "    {manner}: {opened} opened, {refused} refused, {ended} ended, {errors} ERRORs, \
         {sent:.1} MB sent, {read:.1} MB read, {stalled_beats} beats not taken"
    );
    if manner == "polite" {
        let (tally, visits) = (&run.tally, &run.visits);
        let bad = [tally.ended, tally.lost, visits.refused, visits.forged, run.left as u64];
        if bad.iter().any(|count| *count > 0) {
            println!("    polite: ended, lost, refused, forged, left: {bad:?}");
        }
    }
    for words in run.tally.words.iter().chain(&run.visits.words) {
        println!("    {manner}: {words}");
    }
}

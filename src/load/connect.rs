//! `load connect`: opens sessions, keeps them open, and measures what each costs the server.

use super::clock::{SECOND, nanos};
use super::fleet::{Fleet, Wait};
use super::peer::Event;
use super::plan::{Connect, Plan};
use super::report::Report;
use super::run::{Failure, Watch, ended, open_all};

/// Opens the sessions and keeps them open.
pub fn run(options: &Connect) -> Result<Report, Failure> {
    let target = &options.target;
    let mut watch = Watch::new(target)?;
    let mut fleet = Fleet::new(Plan::new(target, &options.subscribe))?;
    let mut report = Report::new("connect", "sessions", target);
    if target.protocol.is_stomp() {
        report.setting("subscribe", &options.subscribe);
        report.setting("heart_beat_ms", target.heart_beat);
    }
    report.setting("users", target.users);

    let start = fleet.clock.now();
    watch.measure(start);
    let before = watch.read();
    open_all(&mut fleet, 0, target.sessions, target.concurrent, &mut watch)?;
    let seconds = (fleet.clock.now() - start) as f64 / 1e9;
    let busy = 1.0 - fleet.counters.idle_nanos as f64 / 1e9 / seconds;
    let open = watch.read();
    hold(&mut fleet, nanos(options.hold), &mut watch)?;
    let last = watch.read();

    let sessions = target.sessions as f64;
    report.figure("connects_per_s", sessions / seconds);
    if watch.is_measuring() {
        let cpu = (open.cpu_nanos - before.cpu_nanos) as f64;
        report.figure("server_cpu_us_per_connect", cpu / 1e3 / sessions);
        let grown = last.rss_bytes as f64 - before.rss_bytes as f64;
        report.figure("server_rss_bytes_per_session", grown / sessions);
        let idle = (last.cpu_nanos - open.cpu_nanos) as f64;
        let hold_nanos = nanos(options.hold).max(1) as f64;
        report.figure("server_cpu_share_while_held", idle / hold_nanos);
    }
    watch.tell(&mut report, &last, target.sessions as u64, "session");
    report.busy(busy);
    Ok(report)
}

/// Keeps all sessions open; one that ends is a failure.
fn hold(fleet: &mut Fleet, length: u64, watch: &mut Watch) -> Result<(), Failure> {
    watch.phase("holding", length / SECOND);
    let mut events = Vec::new();
    let start = fleet.clock.now();
    loop {
        let now = fleet.clock.now();
        if now >= start + length {
            return Ok(());
        }
        watch.on(now, (now - start) / SECOND, || fleet.len() as u64);
        fleet.turn(Wait::Until((now + SECOND / 20).min(start + length)), &mut events)?;
        for event in events.drain(..) {
            if let Event::Closed { peer, ending } = event {
                return Err(ended(fleet, peer, ending));
            }
        }
    }
}

//! `load slow`: some subscribers stop reading. What happens to them, and do the others notice?

use super::broadcast::Broadcast;
use super::clock::SECOND;
use super::fleet::Fleet;
use super::peer::Stage;
use super::plan::{Plan, Slow};
use super::report::Report;
use super::run::{Failure, Watch, open_all};

/// How long slow subscribers are read once they read again, and how long they may be silent.
const AFTERMATH: u64 = 15 * SECOND;
const SILENCE: u64 = 2 * SECOND;

/// Opens, pauses the last ones, measures the others, and lets the slow ones read again.
pub fn run(options: &Slow) -> Result<Report, Failure> {
    let target = &options.target;
    if options.slow >= target.sessions {
        return Err(Failure("at least one session must read".into()));
    }
    let fast = target.sessions - options.slow;
    let mut watch = Watch::new(target)?;
    let fleet = Fleet::new(Plan::new(target, &options.destination))?;
    let mut report = Report::new("slow", "deliveries", target);
    report.setting("slow", options.slow);
    report.setting("size", options.pace.size);
    report.setting("rate", options.pace.rate.unwrap_or_default());

    let mut broadcast = Broadcast::new(fleet, &options.destination, &options.pace);
    open_all(&mut broadcast.fleet, 0, fast, target.concurrent, &mut watch)?;
    broadcast.fleet.plan.receive_buffer = Some(options.receive_buffer);
    open_all(&mut broadcast.fleet, fast, target.sessions, target.concurrent, &mut watch)?;
    (0..fast).for_each(|peer| broadcast.course.join(peer));
    broadcast.warm_up(&mut watch)?;
    (fast..target.sessions).for_each(|peer| broadcast.fleet.pause(peer));
    broadcast.measure(&mut watch, &mut report)?;

    let used = watch.read();
    report.figure("server_rss_at_end_bytes", used.rss_bytes as f64);
    (fast..target.sessions).for_each(|peer| broadcast.resume(peer));
    broadcast.listen(AFTERMATH, SILENCE)?;
    let is_there = |peer: &usize| broadcast.fleet.stage(*peer) == Stage::Ready;
    report.figure("slow_still_there", (fast..target.sessions).filter(is_there).count() as f64);
    for (what, count) in &broadcast.endings {
        report.figure(&format!("slow_ended_{what}"), *count as f64);
    }
    report.figure("slow_received", broadcast.heard_by_others as f64);
    Ok(report)
}

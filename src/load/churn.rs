//! `load churn`: sessions that open, send themselves one message, and close, again and again.

use super::clock::{SECOND, nanos};
use super::fleet::{Fleet, Wait};
use super::peer::{Event, message};
use super::plan::{Churn, Plan};
use super::report::{self, Report};
use super::run::{Failure, Watch, ended};
use super::stamp::Stamp;

/// Longest sleep, so that the progress bar moves.
const NAP: u64 = SECOND / 10;
/// Bytes of that message.
const WORD: usize = 64;

/// Runs loops for a time.
pub fn run(options: &Churn) -> Result<Report, Failure> {
    let target = &super::plan::Target { users: true, ..options.target.clone() };
    let mut watch = Watch::new(target)?;
    let mut fleet = Fleet::new(Plan::new(target, "/user/queue/sub"))?;
    let mut report = Report::new("churn", "loops", target);
    let talks = !options.silent;
    report.setting("talks", talks);
    let mut latency = report::histogram();
    let mut began = vec![0; target.sessions];
    let (mut loops, mut events) = (0u64, Vec::new());
    watch.phase("churning", nanos(options.duration) / SECOND);
    let start = fleet.clock.now();
    let end = start + nanos(options.duration);
    watch.measure(start);
    for (peer, began) in began.iter_mut().enumerate() {
        *began = fleet.clock.now();
        fleet.open(peer)?;
    }
    loop {
        let now = fleet.clock.now();
        if now >= end {
            break;
        }
        watch.on(now, (now - start) / SECOND, || loops);
        fleet.turn(Wait::Until((now + NAP).min(end)), &mut events)?;
        for event in core::mem::take(&mut events) {
            let over = match event {
                Event::Ready { peer, at } if talks => {
                    say(&mut fleet, peer, at, &mut events);
                    None
                }
                Event::Ready { peer, at } | Event::Message { peer, at, .. } => Some((peer, at)),
                Event::Closed { peer, ending } => return Err(ended(&fleet, peer, ending)),
                Event::Answer { .. } => None,
            };
            if let Some((peer, at)) = over {
                loops += 1;
                latency.saturating_record(at - began[peer]);
                fleet.farewell(peer);
                began[peer] = fleet.clock.now();
                fleet.open(peer)?;
            }
        }
    }
    let last = watch.read();
    let wall = (fleet.clock.now() - start) as f64;
    watch.tell(&mut report, &last, loops, "loop");
    report.figure("loops", loops as f64);
    report.figure("loops_per_s", loops as f64 * 1e9 / wall);
    report.busy(1.0 - fleet.counters.idle_nanos as f64 / wall);
    report.latency(&latency);
    Ok(report)
}

/// Sends the message of a session to itself.
fn say(fleet: &mut Fleet, peer: usize, due: u64, events: &mut Vec<Event>) {
    let body = Stamp { sequence: 0, due }.body(WORD);
    let mut out = Vec::new();
    let destination = format!("/user/{}/queue/sub", fleet.plan.user(peer));
    message(fleet.plan.protocol, &destination, &body, &mut out);
    fleet.send(peer, &out, events);
}

//! Publishes messages at a given pace, follows them to all receivers, and measures.

use super::clock::{SECOND, nanos};
use super::course::Course;
use super::fleet::{Fleet, Wait};
use super::peer::{Ending, Event, message};
use super::plan::{Pace, PaceArguments, WaitKind};
use super::report::Report;
use super::run::{Failure, Watch, ended};
use super::stamp::Stamp;
use core::ops::Range;
use std::collections::BTreeMap;

/// How long messages may be in flight after the last one was sent, or a closed loop may stall.
const STALL: u64 = 10 * SECOND;
/// Longest sleep, so that the progress bar moves.
const NAP: u64 = SECOND / 10;
/// The client that publishes.
const PUBLISHER: usize = 0;

/// A sequence of numbered messages.
#[derive(Debug)]
pub struct Broadcast {
    /// The clients.
    pub fleet: Fleet,
    /// Which messages each receiver has.
    pub course: Course,
    /// Receivers that ended while the load ran.
    pub ended: u64,
    /// How sessions that are not receivers ended.
    pub endings: BTreeMap<String, u64>,
    /// Messages that reached sessions that are not receivers.
    pub heard_by_others: u64,
    /// Sessions that come and go, and how often they have come.
    churners: Range<usize>,
    churned: u64,
    destination: String,
    pace: PaceArguments,
    events: Vec<Event>,
    out: Vec<u8>,
    /// Time of the last delivery.
    last: u64,
}

impl Broadcast {
    /// Nothing was sent.
    pub fn new(fleet: Fleet, destination: &str, pace: &PaceArguments) -> Broadcast {
        Broadcast {
            fleet,
            course: Course::new(),
            ended: 0,
            endings: BTreeMap::new(),
            heard_by_others: 0,
            churners: 0..0,
            churned: 0,
            destination: destination.to_owned(),
            pace: pace.clone(),
            events: Vec::new(),
            out: Vec::new(),
            last: 0,
        }
    }

    /// Runs the load without measuring.
    pub fn warm_up(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        let length = nanos(self.pace.warm_up);
        watch.phase("warming up", length / SECOND);
        self.load(length, watch)?;
        self.drain(watch)
    }

    /// Runs the load and reports it. Everything sent before has arrived, so what the server uses
    /// from here on is for what is sent from here on.
    pub fn measure(&mut self, watch: &mut Watch, report: &mut Report) -> Result<(), Failure> {
        let length = nanos(self.pace.duration);
        watch.phase("measuring", length / SECOND);
        self.course.measure();
        let before = self.fleet.counters;
        self.churned = 0;
        let start = self.fleet.clock.now();
        watch.measure(start);
        self.load(length, watch)?;
        self.drain(watch)?;
        let last = watch.read();
        let wall = (self.fleet.clock.now() - start) as f64;

        let delivered = self.course.delivered();
        let used = watch.tell(report, &last, delivered, "delivery");
        report.figure("published", self.course.measured() as f64);
        report.figure("delivered", delivered as f64);
        report.figure("deliveries_per_s", delivered as f64 * 1e9 / wall);
        if watch.is_measuring() {
            report.figure("server_busy_share", used as f64 / wall);
        }
        let after = self.fleet.counters;
        let each = |count: u64| count as f64 / delivered.max(1) as f64;
        let bytes = after.received_bytes - before.received_bytes;
        report.figure("wire_bytes_per_delivery", each(bytes));
        report.figure("client_reads_per_delivery", each(after.reads - before.reads));
        report.busy(1.0 - (after.idle_nanos - before.idle_nanos) as f64 / wall);
        report.latency(&self.course.latency);
        report.faults = self.course.faults();
        if !self.churners.is_empty() {
            report.figure("connects", self.churned as f64);
            report.figure("connects_per_s", self.churned as f64 * 1e9 / wall);
        }
        if self.ended > 0 {
            report.warnings.push(format!("{} sessions ended while the load ran", self.ended));
        }
        if self.course.outstanding() > 0 {
            let count = self.course.outstanding();
            report.warnings.push(format!("{count} messages did not reach everybody"));
        }
        Ok(())
    }

    /// From here on these open sessions leave and come back, again and again.
    pub fn churn(&mut self, churners: Range<usize>) -> Result<(), Failure> {
        self.churners = churners.clone();
        for peer in churners {
            self.fleet.farewell(peer);
            self.fleet.open(peer)?;
        }
        Ok(())
    }

    /// Lets a paused client read again.
    pub fn resume(&mut self, peer: usize) {
        self.fleet.resume(peer, &mut self.events);
    }

    /// Receives for a time, or until nothing has arrived for `silence`, and sends nothing.
    pub fn listen(&mut self, length: u64, silence: u64) -> Result<(), Failure> {
        let end = self.fleet.clock.now() + length;
        self.last = self.fleet.clock.now();
        while self.fleet.clock.now() < end.min(self.last + silence) {
            self.turn(end)?;
        }
        Ok(())
    }

    /// Publishes at the pace for a time.
    fn load(&mut self, length: u64, watch: &mut Watch) -> Result<(), Failure> {
        let start = self.fleet.clock.now();
        let end = start + length;
        let mut due = start;
        self.last = start;
        loop {
            let now = self.fleet.clock.now();
            if now >= end {
                return Ok(());
            }
            match self.pace.pace() {
                Pace::Every(gap) => {
                    while due <= now {
                        self.publish(due);
                        due += gap;
                    }
                }
                Pace::Window(window) => {
                    while self.course.outstanding() < window {
                        self.publish(now);
                    }
                    due = now + NAP;
                }
            }
            self.send();
            self.turn(due.min(end))?;
            watch.on(now, (now - start) / SECOND, || self.course.delivered());
            if now > self.last + STALL && self.course.outstanding() > 0 {
                return Ok(());
            }
        }
    }

    /// Waits until everything has arrived, or nothing more does.
    fn drain(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        self.last = self.fleet.clock.now();
        while self.course.outstanding() > 0 {
            let now = self.fleet.clock.now();
            if now > self.last + STALL {
                return Ok(());
            }
            self.turn(now + NAP)?;
            watch.on(now, 0, || self.course.delivered());
        }
        Ok(())
    }

    fn publish(&mut self, due: u64) {
        let sequence = self.course.publish();
        let body = self.pace.body(Stamp { sequence, due });
        message(self.fleet.plan.protocol, &self.destination, &body, &mut self.out);
    }

    /// Sends everything that is due in one write.
    fn send(&mut self) {
        if !self.out.is_empty() {
            self.fleet.send(PUBLISHER, &self.out, &mut self.events);
            self.out.clear();
        }
    }

    /// Waits until something happens or the time has come, and records deliveries.
    fn turn(&mut self, until: u64) -> Result<(), Failure> {
        let spins = self.pace.wait == WaitKind::Spin && self.course.outstanding() > 0;
        let now = self.fleet.clock.now();
        let wait = if spins { Wait::Look } else { Wait::Until(until.min(now + NAP)) };
        self.fleet.turn(wait, &mut self.events)?;
        let mut events = core::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Message { peer, stamp, at } => {
                    self.last = at;
                    if !self.course.on_delivery(peer, stamp, at) {
                        self.heard_by_others += 1;
                    }
                }
                Event::Closed { peer: PUBLISHER, ending } => {
                    return Err(ended(&self.fleet, PUBLISHER, ending));
                }
                Event::Ready { peer, .. } | Event::Closed { peer, .. }
                    if self.churners.contains(&peer) =>
                {
                    self.churned += 1;
                    self.fleet.farewell(peer);
                    self.fleet.open(peer)?;
                }
                Event::Closed { peer, ending } => self.gone(peer, ending),
                Event::Ready { .. } | Event::Answer { .. } => {}
            }
        }
        events.append(&mut self.events);
        self.events = events;
        Ok(())
    }

    fn gone(&mut self, peer: usize, ending: Ending) {
        if self.course.leave(peer) {
            self.ended += 1;
        } else {
            *self.endings.entry(ending.label()).or_default() += 1;
        }
    }
}

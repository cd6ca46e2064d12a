//! Shared by all scenarios: opens the sessions, watches the server, shows the progress.

use super::clock::SECOND;
use super::fleet::{Fleet, Wait};
use super::meter::{Meter, Reading};
use super::peer::{Ending, Event};
use super::plan::Target;
use super::report::{Report, Sample};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::io;

/// How long nothing may happen before a run gives up.
const PATIENCE: u64 = 15 * SECOND;
/// How often the server is sampled and the progress bar is drawn.
const SAMPLE_EVERY: u64 = SECOND / 4;

/// Why there is no result.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let hint = match error.raw_os_error() {
            Some(libc::EMFILE) => ": raise the number of open files (ulimit -n)",
            Some(libc::EADDRNOTAVAIL) => ": all ports are in use; wait a minute for old ones",
            _ => "",
        };
        Failure(format!("{error}{hint}"))
    }
}

/// Watches the server and draws the progress bar while the load runs.
#[derive(Debug)]
pub struct Watch {
    meter: Option<Meter>,
    bar: ProgressBar,
    next: u64,
    start: u64,
    first: Reading,
    samples: Vec<Sample>,
}

impl Watch {
    /// Finds the process that is to be measured.
    pub fn new(target: &Target) -> Result<Watch, Failure> {
        let meter = match target.pid {
            None => None,
            Some(pid) => {
                let missing = || Failure(format!("there is no process {pid}"));
                Some(Meter::of(pid).ok_or_else(missing)?)
            }
        };
        let bar = if target.quiet { ProgressBar::hidden() } else { ProgressBar::new(1) };
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len}");
        bar.set_style(style.expect("the template is sound").progress_chars("=> "));
        let (next, start, samples) = (0, 0, Vec::new());
        Ok(Watch { meter, bar, next, start, first: Reading::default(), samples })
    }

    /// What the server has used so far; zeros if it is not measured.
    pub fn read(&self) -> Reading {
        self.meter.as_ref().map(Meter::read).unwrap_or_default()
    }

    /// Whether the server is measured.
    pub fn is_measuring(&self) -> bool {
        self.meter.is_some()
    }

    /// A new part of the run begins.
    pub fn phase(&mut self, name: &'static str, length: u64) {
        self.bar.set_length(length);
        self.bar.set_position(0);
        self.bar.set_message(name);
        self.next = 0;
    }

    /// The part that is measured begins.
    pub fn measure(&mut self, now: u64) {
        self.first = self.read();
        self.start = now;
        self.next = 0;
        self.samples.clear();
    }

    /// Draws and takes a sample, if it is time.
    #[inline]
    pub fn on(&mut self, now: u64, position: u64, count: impl FnOnce() -> u64) {
        if now >= self.next {
            self.next = now + SAMPLE_EVERY;
            self.bar.set_position(position);
            self.bar.tick();
            let (server_cpu_ns, server_rss_bytes) =
                self.meter.as_ref().map(Meter::glance).unwrap_or_default();
            let seconds = now.saturating_sub(self.start) as f64 / 1e9;
            self.samples.push(Sample { seconds, count: count(), server_cpu_ns, server_rss_bytes });
        }
    }

    /// Reports what the server has used since `measure`, in total and for each of `count`.
    pub fn tell(&mut self, report: &mut Report, last: &Reading, count: u64, what: &str) -> u64 {
        report.samples = core::mem::take(&mut self.samples);
        self.bar.finish_and_clear();
        if self.meter.is_none() {
            return 0;
        }
        let used = last.cpu_nanos - self.first.cpu_nanos;
        let each = used as f64 / count.max(1) as f64;
        report.figure(&format!("server_cpu_ns_per_{what}"), each);
        report.figure("server_cpu_s", used as f64 / 1e9);
        report.figure("server_rss_before_bytes", self.first.rss_bytes as f64);
        report.figure("server_rss_after_bytes", last.rss_bytes as f64);
        let peak = report.samples.iter().map(|sample| sample.server_rss_bytes).max();
        report.figure("server_rss_peak_bytes", peak.unwrap_or(0).max(last.rss_bytes) as f64);
        report.server_threads_ns.0 =
            last.threads_since(&self.first).into_iter().filter(|thread| thread.1 > 0).collect();
        used
    }
}

/// Opens sessions `from..to`, at most `concurrent` of them at the same time.
pub fn open_all(
    fleet: &mut Fleet,
    from: usize,
    to: usize,
    concurrent: usize,
    watch: &mut Watch,
) -> Result<(), Failure> {
    watch.phase("connecting", (to - from) as u64);
    let mut events = Vec::new();
    let (mut started, mut ready) = (from, from);
    let mut last = fleet.clock.now();
    while ready < to {
        while started < to && started - ready < concurrent {
            fleet.open(started)?;
            started += 1;
        }
        fleet.turn(Wait::Until(last + PATIENCE), &mut events)?;
        let now = fleet.clock.now();
        for event in events.drain(..) {
            match event {
                Event::Ready { .. } => {
                    ready += 1;
                    last = now;
                }
                Event::Closed { peer, ending } => return Err(ended(fleet, peer, ending)),
                Event::Message { .. } | Event::Answer { .. } => {}
            }
        }
        watch.on(now, (ready - from) as u64, || (ready - from) as u64);
        if now - last > PATIENCE {
            let text = format!("{ready} of {to} sessions stand, and no more come");
            return Err(Failure(text));
        }
    }
    Ok(())
}

/// Why a session could not be opened.
pub fn ended(fleet: &Fleet, peer: usize, ending: Ending) -> Failure {
    let why = match ending {
        Ending::Code(code) => format!("was closed with {code}"),
        Ending::Eof => "was closed without a word".to_owned(),
        Ending::Failed(errno) => format!("failed: {}", io::Error::from_raw_os_error(errno)),
        Ending::Refused(status) => format!("was answered with HTTP status {status}"),
        Ending::Declined => "was declined permessage-deflate".to_owned(),
        Ending::Nonsense => "heard what is not WebSocket".to_owned(),
    };
    let complaint = fleet.complaint.as_ref().map(|text| format!(" ({})", text.escape_debug()));
    Failure(format!("session {peer} {why}{}", complaint.unwrap_or_default()))
}

impl Ending {
    /// The end of a figure's name.
    pub fn label(self) -> String {
        match self {
            Ending::Code(code) => format!("with_{code}"),
            Ending::Refused(status) => format!("with_status_{status}"),
            Ending::Eof => "without_a_word".to_owned(),
            Ending::Failed(_) => "by_failure".to_owned(),
            Ending::Declined => "without_deflate".to_owned(),
            Ending::Nonsense => "with_nonsense".to_owned(),
        }
    }
}

//! `load fanout`: one publisher, which is a subscriber as well, and many subscribers.

use super::broadcast::Broadcast;
use super::fleet::Fleet;
use super::plan::{Fanout, Pace, Plan};
use super::report::Report;
use super::run::{Failure, Watch, open_all};
use super::stamp::STAMP_LEN;

/// Opens, warms up, measures.
pub fn run(options: &Fanout) -> Result<Report, Failure> {
    let target = &options.target;
    let mut watch = Watch::new(target)?;
    let fleet = Fleet::new(Plan::new(target, &options.destination))?;
    let mut report = Report::new("fanout", "deliveries", target);
    if target.protocol.is_stomp() {
        report.setting("destination", &options.destination);
        report.setting("ids", target.ids);
    }
    report.setting("size", options.pace.size.max(STAMP_LEN));
    if target.deflate {
        report.setting("deflate", true);
    }
    match options.pace.pace() {
        Pace::Every(_) => report.setting("rate", options.pace.rate.unwrap_or_default()),
        Pace::Window(window) => report.setting("window", window),
    }

    let mut broadcast = Broadcast::new(fleet, &options.destination, &options.pace);
    open_all(&mut broadcast.fleet, 0, target.sessions, target.concurrent, &mut watch)?;
    (0..target.sessions).for_each(|peer| broadcast.course.join(peer));
    broadcast.warm_up(&mut watch)?;
    broadcast.measure(&mut watch, &mut report)?;
    Ok(report)
}

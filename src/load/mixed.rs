//! `load mixed`: a fan-out while other sessions come and go all the time.

use super::broadcast::Broadcast;
use super::fleet::Fleet;
use super::plan::{Mixed, Plan};
use super::report::Report;
use super::run::{Failure, Watch, open_all};

/// Opens, warms up, measures.
pub fn run(options: &Mixed) -> Result<Report, Failure> {
    let target = &options.target;
    let mut watch = Watch::new(target)?;
    let fleet = Fleet::new(Plan::new(target, &options.destination))?;
    let mut report = Report::new("mixed", "deliveries", target);
    report.setting("churners", options.churners);
    report.setting("size", options.pace.size);
    let mut broadcast = Broadcast::new(fleet, &options.destination, &options.pace);
    open_all(&mut broadcast.fleet, 0, target.sessions, target.concurrent, &mut watch)?;
    (0..target.sessions).for_each(|peer| broadcast.course.join(peer));
    let all = target.sessions + options.churners;
    open_all(&mut broadcast.fleet, target.sessions, all, target.concurrent, &mut watch)?;
    broadcast.churn(target.sessions..all)?;
    broadcast.warm_up(&mut watch)?;
    broadcast.measure(&mut watch, &mut report)?;
    Ok(report)
}

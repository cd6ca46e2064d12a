//! Turns the shards' events into lines of the log. The shards keep them few (`engine::events`).

use super::log::Log;
use crate::engine::events::{Cause, Event, Site};
use crate::engine::shared::Shared;
use std::fmt::Display;

/// Writes the line of an event: cause, count, path, address, and a text.
pub(super) fn write(log: &Log, shared: &Shared, event: &Event) {
    let (message, reason, why) = match event.key.cause {
        Cause::Refused(refusal) => ("refused", refusal.label(), refusal.text()),
        Cause::SlowConsumer => ("closed", "slow_consumer", "A client reads too slowly."),
        Cause::Others => ("refused", "others", "More causes and clients than have lines."),
    };
    // After a reload, a number may no longer have a path.
    let path = match event.key.site {
        Site::None => None,
        Site::Callback(at) => shared.config.callbacks.get(usize::from(at)).map(|rule| &rule.path),
        Site::Endpoint(at) => shared.endpoints.get(at.index()).map(|it| &it.config.path),
    };
    let mut values: Vec<(&str, &dyn Display)> = vec![("reason", &reason), ("times", &event.count)];
    if let Some(path) = &path {
        values.push(("path", path));
    }
    if let Some(block) = &event.key.block {
        values.push(("address", block));
    }
    match &event.text {
        Some(text) => values.push(("first", text)),
        None => values.push(("why", &why)),
    }
    log.warn(message, &values);
}

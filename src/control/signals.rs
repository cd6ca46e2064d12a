//! Signals as values.

use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What somebody asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT: end.
    Stop,
    /// SIGHUP: read the configuration again, reopen the log.
    Reload,
}

/// The signals of the process. From `install` on the kernel no longer ends the process for them.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
}

impl Signals {
    /// Inside the runtime only.
    pub(super) fn install() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            // Of several that are there a reload comes first: it was not sent to be lost.
            biased;
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
        }
    }
}

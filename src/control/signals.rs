//! Signals as values.

use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT: end.
    Stop,
    /// SIGHUP: read the configuration again, reopen the log.
    Reload,
    /// SIGUSR1: reopen the log, and nothing else.
    Reopen,
}

/// The signals of the process. From `install` on the kernel no longer ends the process for them,
/// nor for SIGUSR2, which is ignored.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    reopen: Stream,
}

impl Signals {
    /// Inside the runtime only.
    pub(super) fn install() -> io::Result<Signals> {
        // Its handler stays and does nothing.
        drop(signal(SignalKind::user_defined2())?);
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next one. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            // If several wait, the end comes last, so that the others are not lost.
            biased;
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.reopen.recv() => Signal::Reopen,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
        }
    }
}

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it reads clocks, and its tables are of our ids")]
//! The control plane: one thread without a ring of ours, for everything that is not on the path of
//! a push. It turns entries of the shards into HTTP calls and their answers into entries, signals
//! into a reload or a graceful end, and lines of log into writes.
//!
//! It does not know protocols, sockets of clients or what a shard is doing. A shard never waits
//! for it: they meet in the mailboxes only (`engine::mailbox`), in which this thread is the last
//! peer.
//!
//! **How to drive it.** Start the shards' threads, each with a [`Reporter`] of [`reports`]; when
//! all are ready ([`Reports::ready`]), [`run`], which returns when the process is to end. It runs
//! on tokio-uring: a current-thread tokio runtime, so that an HTTP client written for tokio
//! runs in it, whose file writes go through a ring of their own.
//!
//! ```text
//!            first signal            all shards ended and no call left,
//!  Serving ───────────────▶ Draining ───or `drain-time`, or a later signal──▶ End
//!     │ a shard ended           │ a shard ended by a panic
//!     └───────▶ Failure ◀───────┘
//! ```
//!
//! **Signals.** SIGTERM and SIGINT end the process gracefully; another one, `STOP_AGAIN` or more
//! after the first, ends it at once. SIGHUP reads the configuration again and reopens the log,
//! SIGUSR1 only reopens the log, SIGUSR2 is ignored.
//!
//! **Hooks.** A SEND to an application destination with a `hook` is one POST: the message's body,
//! its `content-type`, and the headers `X-Ringpush-User`, `X-Ringpush-Session`,
//! `X-Ringpush-Destination`. The body of a 2xx answer is the reply; an empty one is none. Its
//! receipt is given when the call is accepted: from then on the call will be made, also during a
//! graceful end. If a call is not accepted or fails, the session that sent it is told on
//! `/user/queue/errors` (before its receipt if it was not accepted). Calls of one session are made
//! one after the other, in the order sent; there is no order between different sessions. No call is
//! made twice.
//!
//! **Bounds.** `hooks.timeout` of one call from its start to the end of its answer, past it 504;
//! `hooks.concurrent` calls at a time, the others wait; `hooks.queue` waiting calls, of which one
//! session fills at most half, past it 503; `hook-body` bytes of an answer, past it 502; entries
//! for a full mailbox wait here, and while `mailbox` of them wait no call is begun;
//! [`log::LINES_MAX`] lines of log wait, past it they are dropped, counted, and the log says so;
//! lines that bad input causes are written once a second for each cause and place: the shards'
//! events (`engine::events`) and failed hooks ([`log::Log::limited`]); `drain-time`.

mod call;
mod events;
pub mod hooks;
pub mod limiter;
pub mod log;
mod outgoing;
mod provider;
mod reload;
mod reply;
mod runtime;
mod signals;

#[cfg(test)]
mod tests;

pub use log::Log;
pub use reload::merge;
pub use runtime::{
    End, Ended, Ends, Failure, NotReady, Ready, Reporter, Reports, Setup, reports, run,
};

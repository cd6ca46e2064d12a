#![forbid(unsafe_code)]
//! The control plane: one thread without a ring of ours, for everything that is not on the way of
//! a push. It turns entries of the shards into HTTP calls and their answers into entries, signals
//! into a reload or an orderly end, and lines of log into writes.
//!
//! It does not know protocols, sockets of clients or what a shard is doing. A shard never waits
//! for it: they meet in the mailboxes only (`engine::mailbox`), in which this thread is the last
//! peer.
//!
//! **How to drive it.** Start the shards' threads, each with a [`Reporter`] of [`reports`]; when
//! all have said that they are ready, [`run`], which returns when the process shall end. It runs
//! on tokio-uring: a current-thread tokio runtime, so that an HTTP client written for tokio runs
//! in it, whose file writes go through a ring of their own.
//!
//! ```text
//!            first signal            all shards ended and no call left,
//!  Serving ───────────────▶ Draining ───or `drain-time`, or a later signal──▶ End
//!     │ a shard ended           │ a shard ended by a panic
//!     └───────▶ Failure ◀───────┘
//! ```
//!
//! **Signals.** SIGTERM and SIGINT end the process in order; another one after `STOP_AGAIN` at
//! once. SIGHUP reads the configuration again and reopens the log, SIGUSR1 only reopens the log,
//! SIGUSR2 is ignored.
//!
//! **Hooks.** A SEND to an application destination with a `hook` is one POST: the message's body,
//! its `content-type`, and the headers `X-Ringpush-User`, `X-Ringpush-Session`,
//! `X-Ringpush-Destination`. The body of a 2xx answer is the reply; an empty one is none. Its
//! receipt is given when the call is accepted: the call has its place in a queue whose every
//! entry is called, also during an orderly end. A call that is not accepted, or fails, is told to
//! the asking session on `/user/queue/errors` (before its receipt where it was not accepted).
//! Calls of one session are made one after the other in the order sent; those of different
//! sessions have no order. Nothing is called twice.
//!
//! **Bounds.** `hooks.timeout` of one call from its start to the end of its answer, past it 504;
//! `hooks.concurrent` calls at once, the others wait; `hooks.queue` waiting calls, of which one
//! session alone fills at most half, past it 503; `hook-body` bytes of an answer, past it 502;
//! entries for a full mailbox wait here, and beyond `mailbox` of them none is taken and no call
//! is begun; [`log::LINES_MAX`] lines of log wait, past it they are dropped, counted, and the log
//! says so; lines that bad input causes are written once a second, cause and place: what shards
//! tell (`engine::events`), and failed hooks ([`log::Log::limited`]); `drain-time`.

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
pub use runtime::{End, Failure, Report, Reporter, Reports, Setup, reports, run};

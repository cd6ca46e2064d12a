#![forbid(unsafe_code)]
//! The simulator: a seed into a whole life of several shards, their clients and a kernel that has
//! bad days, and into a verdict.
//!
//! **What it does not know.** The kernel, a clock, a thread: everything happens on one thread, in
//! virtual time, and follows from the seed alone.
//!
//! **How to drive it.** [`run`] with a seed and [`Options`]; the [`Report`] says what happened, how
//! often each fault fired, and which [`Oracle`] was violated, if one was. The same seed does the
//! same again. A [`Mutation`] spoils one thing on purpose, to show that its oracle would notice.
//!
//! **Bounds.** `Limits::tiny()`: mailboxes of two entries, four receive buffers, 32 small segments,
//! so that every bound is met; in some runs less still, and clients that ask for one more than
//! each.
//!
//! **Parts.** [`World`] holds the sockets and the clock; [`SimRing`] is the other implementor of
//! the ring's trait; `client`, `browser`, `http_client`, `misbehaving` are who connects; `history`
//! and `oracle` are what was promised and what was seen.

mod browser;
mod calm;
mod client;
mod completion;
mod control;
#[cfg(test)]
mod corrupted;
mod counts;
mod echoer;
mod ending;
mod entries;
mod faults;
mod forged;
mod greed;
mod history;
mod http_client;
mod kernel;
mod misbehaving;
mod mutation;
mod oracle;
mod overtaken;
#[cfg(test)]
mod pauses;
mod progress;
mod random;
mod ring;
mod rules;
mod run;
mod screen;
#[cfg(test)]
mod script;
mod setting;
mod socket;
mod wire;
mod world;
mod wrong;

pub use counts::{Counts, Event};
pub use faults::FaultRates;
pub use kernel::Setup;
pub use mutation::Mutation;
pub use oracle::{Oracle, Violation};
pub use random::Random;
pub use ring::SimRing;
pub use run::{OPERATIONS_MIN, Options, Report, run};
pub use socket::{Read, SocketId};
pub use world::World;
pub use wrong::refusals;

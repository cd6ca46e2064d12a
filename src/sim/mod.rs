#![forbid(unsafe_code)]
//! The simulator: turns a seed into a run of several shards, their clients and a kernel with
//! faults, and into a verdict.
//!
//! **What it does not know.** The kernel, a clock, a thread: everything happens on one thread, in
//! virtual time, and follows from the seed alone.
//!
//! **How to drive it.** [`run()`] with a seed and [`Options`]; the [`Report`] says what happened,
//! how often each fault fired, and which [`Oracle`] was violated, if one was. The same seed does
//! the same again. A [`Mutation`] adds a bug on purpose, to show that its oracle finds it.
//!
//! **Bounds.** `Limits::tiny()`: mailboxes of two entries, four receive buffers, 32 small segments,
//! so that every bound is reached. Some runs have even less, and clients that exceed each limit by
//! one.
//!
//! **Parts.** [`World`] has the sockets and the clock; [`SimRing`] is the second implementor of the
//! ring's trait; `client`, `browser`, `echoer`, `http_client` and `misbehaving` are the clients,
//! `over_http` is the end of a browser's session that has no WebSocket, and `attending` asks the
//! engine for what it wants;
//! `history` records what was promised and what was received, and `oracle` checks it.

mod adrift;
mod answer;
mod attending;
mod bounds;
mod browser;
mod calm;
mod client;
mod completion;
mod control;
#[cfg(test)]
mod corrupted;
mod counts;
#[cfg(test)]
mod detached;
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
#[cfg(test)]
mod moves;
mod mutation;
mod oracle;
mod over_http;
mod overtaken;
mod panics;
#[cfg(test)]
mod pauses;
mod progress;
mod random;
mod records;
mod ring;
mod rules;
mod run;
mod scene;
mod screen;
#[cfg(test)]
mod script;
#[cfg(test)]
mod sealed;
mod sessions;
mod setting;
mod socket;
mod target;
mod trace;
mod violation;
mod wire;
mod world;
mod wrong;

pub use counts::{Counts, Event};
pub use faults::FaultRates;
pub use kernel::Setup;
pub use mutation::Mutation;
pub use random::Random;
pub use ring::SimRing;
pub use run::{OPERATIONS_MIN, Options, Report, run};
pub use socket::{Read, SocketId};
pub use violation::{Oracle, Violation};
pub use world::World;
pub use wrong::refusals;

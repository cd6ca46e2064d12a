#![forbid(unsafe_code)]
//! The simulator.

mod browser;
mod client;
mod completion;
mod control;
mod counts;
mod echoer;
mod history;
mod kernel;
mod letters;
mod mutation;
mod oracle;
mod poster;
mod progress;
mod random;
mod ring;
mod run;
mod screen;
mod setting;
mod socket;
mod stranger;
mod weather;
mod wire;
mod world;

pub use counts::{Counts, Event};
pub use kernel::Setup;
pub use mutation::Mutation;
pub use oracle::{Oracle, Violation};
pub use random::Random;
pub use ring::SimRing;
pub use run::{OPERATIONS_MIN, Options, Report, run};
pub use socket::{Read, SocketId};
pub use weather::Weather;
pub use world::World;

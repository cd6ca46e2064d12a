#![forbid(unsafe_code)]
//! The simulator.

mod completion;
mod counts;
mod kernel;
mod mutation;
mod progress;
mod random;
mod ring;
mod socket;
mod weather;
mod world;

pub use counts::{Counts, Event};
pub use kernel::Setup;
pub use mutation::Mutation;
pub use random::Random;
pub use ring::SimRing;
pub use socket::{Read, SocketId};
pub use weather::Weather;
pub use world::World;

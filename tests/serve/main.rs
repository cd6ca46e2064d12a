//! The binary as an operator runs it: started, used, reloaded, ended, over real sockets.
//!
//! No test sleeps: each waits for a line, a frame, a request or an exit, at most
//! [`server::PATIENCE`].
//!
//! **Mutants.** `cargo mutants` shows whether the tests notice changes of the code (`cargo install
//! cargo-mutants --locked`). `.cargo/mutants.toml` sets what it changes, which tests run, and the
//! profile. Authentication and authorisation are to be tested completely:
//!
//! ```text
//! cargo mutants -f 'src/identity/**' -f 'src/callback/**' -f src/broker/rule.rs \
//!     -f src/http/origin.rs -f src/engine/route.rs -f src/engine/handshake.rs
//! cargo mutants -f src/engine/web.rs --re admit
//! ```
//!
//! For the rest a sample is enough: `--sharding round-robin --shard 5/17` takes every seventeenth,
//! about 300 (draw the first number at random). `-F` with a part of a mutant's name runs that one
//! again. Nine of ten mutants that compile must be noticed; a test that hangs counts as noticing.
//! Each of the others is reviewed, and gets a test unless its change cannot be observed. A mutant
//! costs a build of the crate and its tests.

mod answers;
mod bodies;
mod callbacks;
mod client;
mod crowding;
mod crowds;
mod deflates;
mod demo;
mod doors;
mod ends;
mod errors;
mod forged;
mod greetings;
mod hook;
mod hooks;
mod kicks;
mod logs;
mod moves;
mod origins;
mod pauses;
mod peer;
mod pushes;
mod raws;
mod reloads;
mod rules;
mod server;
mod shares;
mod slow;
mod stalled;
mod tokens;
mod web;

//! The binary as an operator runs it: started, asked, reloaded, ended, over real sockets.
//!
//! No test sleeps: each waits for a line, a frame, a request or an exit, at most
//! [`server::PATIENCE`].
//!
//! **Mutants.** Whether these tests and the others notice when the code is changed is what
//! `cargo mutants` answers (`cargo install cargo-mutants --locked`). What it changes, which tests
//! run and with which profile stands in `.cargo/mutants.toml`. Who may do what is to be tested
//! whole:
//!
//! ```text
//! cargo mutants -f 'src/identity/**' -f 'src/callback/**' -f src/broker/rule.rs \
//!     -f src/http/origin.rs -f src/engine/route.rs -f src/engine/handshake.rs
//! cargo mutants -f src/engine/web.rs --re admit
//! ```
//!
//! Of the rest a sample is enough: `--sharding round-robin --shard 5/17` takes every seventeenth,
//! about 300 (draw the first number). `-F` with a part of a mutant's name runs that one again. Nine
//! of ten that compile have to be noticed, and a test that hangs notices too; each of the others is
//! looked at, and gets a test unless nobody can see what it changes. A mutant costs a build of the
//! crate and its tests.

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

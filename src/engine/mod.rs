#![forbid(unsafe_code)]
//! Where the rooms meet: one shard's loop, its connections, sessions, outboxes and letters.
//!
//! **What it turns into what.** Completions of a ring and letters of other threads into octets for
//! its own sockets and letters to other threads.
//!
//! **What it does not know.** The kernel: it drives any [`crate::ring::Ring`], the real one or the
//! simulator's.
//!
//! **How to drive it.** [`shard::Shard::new`], then [`shard::Shard::turn`] until it says that it is
//! over. A turn, in this order: enter the kernel, completions (`intake`, `web`, `stomp`), letters
//! (`homes`), connections that waited for room, timers, fan-out, outboxes, doorbells.
//!
//! **The way of a message**, six hops: `ring` pops a completion → `shard` finds the connection →
//! `intake` runs the protocol → `stomp` or `web` makes a publish for its home → `homes` sequences
//! it and `fanout` encodes it once → `outbox` sends it once per socket at the end of the turn.
//!
//! **Bounds.** All of `limits`; each is named where it is kept.
//!
//! **Closing** is `close`: drain, terminate, join, close.

pub mod audit;
pub mod mailbox;
pub mod shard;
pub mod shared;

mod api;
mod application;
mod close;
mod conn;
mod encode;
mod fanout;
mod handshake;
mod homes;
mod intake;
mod outbox;
mod push;
mod raw;
mod route;
mod seen;
mod session;
mod sleeping;
mod stomp;
mod subscribe;
mod sync;
mod timers;
mod web;
mod windows;

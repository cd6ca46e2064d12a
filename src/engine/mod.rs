#![forbid(unsafe_code)]
//! Where the rooms meet: one shard's loop, its connections, sessions, outboxes and entries.
//!
//! **What it turns into what.** Completions of a ring and entries of other threads into bytes for
//! its own sockets and entries to other threads.
//!
//! **What it does not know.** The kernel: it drives any [`crate::ring::Ring`], the real one or the
//! simulator's.
//!
//! **How to drive it.** [`shard::Shard::new`], then [`shard::Shard::turn`] until it says that it is
//! over. A turn, in this order: enter the kernel, completions (`intake`, `web`, `stomp`), entries
//! (`homes`), connections that waited for room, presence, timers, what waited for segments, batches
//! that are due, fan-out, room in a pool that is low, `flush` of the outboxes, doorbells.
//!
//! **The way of a message**, six hops: `ring` pops a completion → `shard` finds the connection →
//! `intake` runs the protocol → `stomp` or `web` makes a publish for its home → `homes` sequences
//! it and `fanout` encodes it once → `flush` sends each outbox once at the end of the turn.
//!
//! **Bounds.** All of `limits`; each is named where it is kept.
//!
//! **Closing** is `close`: drain, terminate, join, close.

pub mod audit;
mod bus;
mod context;
#[cfg(test)]
pub(crate) mod corruption;
mod delivery;
mod dispatch;
pub mod events;
mod invariants;
mod net;
mod reading;
mod reason;
mod session;
pub mod shard;
pub mod shared;
mod timers;
mod web;

pub use bus::mailbox;

/// What `ringpush check` reckons with: the sizes of what the engine keeps.
pub const RECORDS: RecordBytes = RecordBytes {
    connection: net::CONN_BYTES
        + delivery::LINK_BYTES
        + session::SOCKET_BYTES
        + session::SESSION_BYTES
        + IDLE_REST,
    message_block: size_of::<Message>() + 3 * size_of::<usize>(),
    receipt: size_of::<session::WaitingReceipt>() + size_of::<u32>(),
    // The name's pointer, the counts of up to four shards, and a hash table's empty places.
    destination: 2 * (size_of::<Arc<str>>() + 3 * size_of::<u64>()),
    // In a hash table and in the order of their ages.
    dedupe_key: 4 * size_of::<(u128, u64)>(),
    entry: mailbox::ENTRY_BYTES,
    address: crate::mem::shares::PLACE_BYTES,
};

/// Of a connection: user's record and name, places in hash tables, timer, generation.
const IDLE_REST: usize = 160;

use crate::broker::message::Message;
use crate::config::check::RecordBytes;
use std::sync::Arc;

#![forbid(unsafe_code)]
//! Where the rooms meet: one shard's loop, and the parts that it drives.
//!
//! **What it turns into what.** Completions of a ring and entries of other threads into bytes for
//! its own sockets and entries to other threads.
//!
//! **What it does not know.** The kernel: it drives any [`crate::ring::Ring`], the real one or the
//! simulator's.
//!
//! **How to drive it.** [`shard::Shard::new`], then [`shard::Shard::turn`] until it says that it is
//! over. A turn, in this order: enter the kernel, completions, entries, sessions that a reload is
//! about, clients that waited for room, sessions that leave, presence, timers, entries once more,
//! what waited for segments, batches that are due, fan-out, room in a pool that is low, sends,
//! doorbells.
//!
//! **Parts**, from the highest to the lowest: `web` (HTTP), `session` (who a client is), `delivery`
//! (links and fan-out), `net` (connections) and `bus` (other threads, and the homes here). Each
//! owns its fields and takes what else it changes as parameters; what it cannot do itself it
//! reports. The loop (`shard`, `dispatch`, `reading`, `standalone`, `timers`) knows them all.
//!
//! **The way of a message**, six hops: `ring` pops a completion → `reading` finds what the
//! connection speaks → `session` or `web` makes a publish for its home → `bus` has the home number
//! it → `delivery` encodes it once and gives it to links → which are sent once at the end of the
//! turn.
//!
//! **Bounds.** All of `limits`; each is named where it is kept.

pub mod audit;
mod bus;
mod context;
#[cfg(test)]
pub(crate) mod corruption;
mod delivery;
mod dispatch;
pub mod events;
mod invariants;
mod moved;
mod net;
mod reading;
mod reason;
mod session;
pub mod shard;
mod share;
pub mod shared;
pub mod standalone;
mod timers;
mod web;

pub use bus::mailbox;

/// What `ringpush check` reckons with: the sizes of what the engine keeps.
pub const RECORDS: RecordBytes = RecordBytes {
    connection: net::CONN_BYTES
        + net::INPUT_BYTES
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

/// Of a connection: user's record and name, places in hash tables, timer, its request, its session,
/// the fan-out that has seen it.
const IDLE_REST: usize = 176;

use crate::broker::message::Message;
use crate::config::check::RecordBytes;
use std::sync::Arc;

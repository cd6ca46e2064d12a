//! The engine's data structures and its two memory pools.
//!
//! **What it turns into what.** Bounds into storage: a slab whose keys have a generation, a timer
//! wheel, an interner, the keys of hash tables, the log of segments with every byte in flight to a
//! client, the pool of receive buffers, and the counts of what each address uses.
//!
//! **What it does not know.** Protocols, sockets, the meaning of what it stores.
//!
//! **How to drive it.** Each structure is independent; its file gives the order of calls.
//!
//! **Bounds.** `segment-bytes`, `segment-size`, `receive-buffers`, `receive-bytes`,
//! `share-addresses`. Nothing here allocates once warm.

pub mod intern;
pub mod marks;
pub mod receive;
pub mod region;
pub mod secret;
pub mod segment;
pub mod shares;
pub mod slab;
pub mod wheel;

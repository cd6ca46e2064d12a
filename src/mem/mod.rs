//! The engine's data structures and its two memory pools.
//!
//! **What it turns into what.** Bounds into places to keep things: a slab whose keys carry a
//! generation, a timer wheel, an interner, the keys of hash tables, the log of segments that holds
//! every byte on its way to a client, the pool of receive buffers, and the counts of what each
//! address holds.
//!
//! **What it does not know.** Protocols, sockets, what is kept.
//!
//! **How to drive it.** Each structure stands alone; its file says the order of calls.
//!
//! **Bounds.** `segment-bytes`, `segment-size`, `receive-buffers`, `receive-bytes`,
//! `share-addresses`. Nothing here
//! allocates once warm.

pub mod intern;
pub mod marks;
pub mod receive;
pub mod region;
pub mod secret;
pub mod segment;
pub mod shares;
pub mod slab;
pub mod wheel;

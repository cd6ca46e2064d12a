#![forbid(unsafe_code)]
//! Links, the ordered ways to clients, and the fan-out of messages to them.
//!
//! **What it turns into what.** Messages and frames into units in the queues of links, those into
//! sends of their connections.
//!
//! **What it does not know.** Who a client is and what it may: it asks an [`Audience`]. Frames that
//! come in.
//!
//! **How to drive it.** Put in with [`Links::send`] and [`Fanout::deliver`]; once a turn
//! [`Fanout::run`], then [`Links::flush`]; `next_report` of the links after each call, until it
//! gives none.
//!
//! **Bounds.** `segment-bytes` for all that waits; `send-buffer` for one link, past which the
//! policy for slow consumers decides; `batch-messages`, `batch-bytes`.

mod batch;
mod bugs;
mod encode;
mod fanout;
mod feeding;
mod kept;
mod link;
mod links;
mod parts;
mod pending;
mod receiver;
mod sealing;
mod sending;
mod shed;
#[cfg(test)]
pub mod spoiled;
mod table;

pub use bugs::{pin, spoil_unit};
pub use encode::{MessageId, NO_CODE, PING, heart_beat};
pub use fanout::{Audience, Fanout};
pub use link::{LINK_BYTES, Pause};
pub use links::{Links, SLOW_CONSUMER, unsent};
pub use receiver::Answer;
pub use table::Report;

/// The links of a shard and the fan-out to them.
#[derive(Debug)]
pub struct Delivery {
    /// The ways to clients.
    pub links: Links,
    /// Who has subscribed to what, and what they have yet to be given.
    pub fanout: Fanout,
}

#![forbid(unsafe_code)]
//! Who a client is: WebSocket framing, STOMP sessions, raw endpoints, and how sessions end.
//!
//! **What it turns into what.** Bytes of upgraded connections into frames and messages
//! ([`Sockets`]), frames into commands for homes and answers for their sender ([`Stomp`]), what
//! homes say into receipts and the beginnings and ends of subscriptions.
//!
//! **What it does not know.** HTTP, sockets, the ring. It pauses and ends links; the loop does the
//! rest.
//!
//! **Bounds.** Those of `limits` for frames, names, subscriptions and receipts; of each client that
//! is read, as many frames as the loop allows it (`Share`).

mod application;
mod bounds;
mod histories;
mod pongs;
mod problem;
mod query;
mod raw;
mod record;
mod replies;
mod revocation;
mod rules;
mod sockets;
#[cfg(test)]
mod spoiled;
mod stomp;
mod subscribe;
mod table;

pub use query::answer_query;
pub use raw::{Message, answer as answer_raw};
pub use record::{Phase, SESSION_BYTES, SubscriptionState, WaitingReceipt};
pub use revocation::Revocation;
pub use sockets::{Arrived, SOCKET_BYTES, Sockets};
#[cfg(test)]
pub use spoiled::Spoil;
pub use stomp::Stomp;

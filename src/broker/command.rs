#![forbid(unsafe_code)]
//! What is said to a home, and what a home says: the two conversations of [`super::core::Core`].

use super::home::Full;
use super::message::Message;
use crate::ids::{ConnId, SessionId, ShardId};
use crate::mem::shares;
use std::sync::Arc;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// Nobody.
    None,
    /// A STOMP frame with a receipt: session and number of the frame.
    Frame(SessionId, u32),
    /// A parked HTTP request.
    Request(ShardId, ConnId),
}

impl ReplyTo {
    /// The shard where it waits.
    pub fn shard(self) -> Option<ShardId> {
        match self {
            ReplyTo::None => None,
            ReplyTo::Frame(session, _) => Some(session.shard()),
            ReplyTo::Request(shard, _) => Some(shard),
        }
    }
}

/// A callback at the home of its id. If the id is new, the message goes on from there.
#[derive(Clone, Debug)]
pub struct Callback {
    /// A keyed fingerprint of its id, in two halves: a `u128` would make every queue of these
    /// wider.
    pub key: [u64; 2],
    /// Wall time in milliseconds until which the id is remembered.
    pub until_millis: u64,
    /// What it pushes.
    pub message: Arc<Message>,
    /// The parked request.
    pub reply_to: ReplyTo,
}

/// Said to the broker home or to the home of a user.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum Command {
    /// Publish to a broker destination, at the broker home.
    Publish { message: Arc<Message>, reply_to: ReplyTo },
    /// A session wants to hear a broker destination, at the broker home. Its address, if that is
    /// counted.
    Subscribe { destination: Arc<str>, session: SessionId, key: u32, owner: Option<shares::Key> },
    /// A session wants to hear it no longer. Without a `key` the session is gone.
    Unsubscribe { destination: Arc<str>, session: SessionId, key: Option<u32> },
    /// Publish to a user, at the user's home.
    PublishUser { message: Arc<Message>, only: Option<SessionId>, reply_to: ReplyTo },
    /// A session wants to hear a destination of its user, at the user's home.
    SubscribeUser { user: Arc<str>, destination: Arc<str>, session: SessionId, key: u32 },
    /// A session wants to hear it no longer.
    UnsubscribeUser { user: Arc<str>, destination: Arc<str>, session: SessionId, key: u32 },
    /// A session of a user has begun, at the user's home.
    Join { user: Arc<str>, session: SessionId },
    /// A session of a user has ended, with all its user subscriptions.
    Leave { user: Arc<str>, session: SessionId },
}

impl Command {
    /// The publish of a message: to its user, if it has one, or to its broker destination.
    pub fn publish(message: Arc<Message>, only: Option<SessionId>, reply_to: ReplyTo) -> Command {
        match message.user().is_empty() {
            true => Command::Publish { message, reply_to },
            false => Command::PublishUser { message, only, reply_to },
        }
    }
}

/// Said by a home to a shard. The shard always takes it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum Event {
    /// A message for the subscribers of its destination.
    Deliver { message: Arc<Message>, number: u64 },
    /// A message for the sessions of its user.
    DeliverUser { message: Arc<Message>, number: u64, only: Option<SessionId> },
    /// A message for one session, wherever it comes from.
    DeliverSession { message: Arc<Message>, session: SessionId, number: u64 },
    /// A subscription holds from here on; or the home had no room for it, and why.
    Begun { session: SessionId, key: u32, refused: Option<Full> },
    /// A subscription has ended.
    Ended { session: SessionId, key: u32 },
    /// A publish is sequenced, and this many subscriptions will hear it.
    Sequenced { reply_to: ReplyTo, heard: u32 },
    /// A callback's id was seen before: nothing is pushed.
    Duplicate { reply_to: ReplyTo },
}

#![forbid(unsafe_code)]
//! Who hears what: destinations, patterns, subscriptions, users, presence and the rules about them.
//!
//! **What it turns into what.** Publishes into deliveries, in one order, and subscription changes
//! into counts of who is interested where.
//!
//! **What it does not know.** Sockets, frames of any transport, threads, the clock.
//!
//! **How to drive it.** A *home* (`home::Home` for broker destinations, `user::Users` for users)
//! lives on one shard and sequences: it numbers a publish and says which shards hear it. Each shard
//! has its own `subscription::Index`, which groups its subscribers by what they see on the wire.
//! `destination` says what a destination is, `rule` who may use it, `application` what answers it.
//!
//! **Bounds.** `destinations` (a home's table), `subscriptions` (of one session), `message-blocks`.

pub mod application;
pub mod destination;
pub mod home;
pub mod message;
pub mod pattern;
pub mod prefix;
pub mod rule;
pub mod setting;
pub mod subscription;
pub mod user;

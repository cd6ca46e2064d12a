#![forbid(unsafe_code)]
//! Who hears what: destinations, patterns, subscriptions, users, presence and the rules about them.
//!
//! **What it turns into what.** Publishes into deliveries, in one order, and subscription changes
//! into counts of who is interested where.
//!
//! **What it does not know.** Sockets, threads, the clock. Of frames it knows two things: header
//! lines are kept escaped as STOMP 1.2 writes them, and groups have the encoding of their members
//! as a key.
//!
//! **How to drive it.** The *homes* of a shard are one state machine, `core::Core`: it takes a
//! command, numbers a publish and says which shards hear it. Inside of it are the home of broker
//! destinations (`home::Home`), that of users (`user::Users`) and that of callbacks' ids
//! (`dedupe::Dedupe`); `homes::Homes` says which shard is the home of what. Each shard has its own
//! `subscription::Index`, which groups its subscribers by what they see on the wire. `destination`
//! says what a destination is, `rule` who may use it, `application` what answers it,
//! `reply` where the answer goes.
//!
//! **Bounds.** `destinations` (a home's table), `dedupe-keys`, `subscriptions` (of one session),
//! `message-blocks`.

pub mod application;
pub mod command;
pub mod core;
pub mod dedupe;
pub mod destination;
pub mod home;
pub mod homes;
pub mod message;
pub mod pattern;
pub mod prefix;
pub mod reply;
pub mod rule;
pub mod setting;
pub mod subscription;
pub mod user;

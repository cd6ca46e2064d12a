#![forbid(unsafe_code)]
//! What every part of a shard may read, and none of them changes: the time, the settings, the
//! counters, and where refusals are told.

use super::events::{Cause, Events, Key, Site};
use super::shared::Shared;
use crate::ids::{PeerId, ShardId};
use crate::limits::Limits;
use crate::metrics::{Refusal, ShardMetrics};
use crate::time::Instant;
use crate::transport::MakeTransport;
use core::net::IpAddr;
use std::sync::Arc;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    /// Endpoints and callbacks.
    pub endpoints: bool,
    /// The API, metrics and the page.
    pub api: bool,
    /// It is bound to loopback: a Host proves less there (DNS rebinding).
    pub loopback: bool,
}

/// A listener as a shard knows it.
#[derive(Clone, Debug)]
pub struct ListenerKind {
    /// What it serves.
    pub serves: Serves,
    /// What its connections are sealed by; None: they are not.
    pub transport: Option<Arc<dyn MakeTransport>>,
}

impl From<Serves> for ListenerKind {
    fn from(serves: Serves) -> ListenerKind {
        ListenerKind { serves, transport: None }
    }
}

/// What all parts read. The loop alone sets it, between two of their calls.
#[derive(Debug)]
pub struct Context {
    /// The shard's number.
    pub me: ShardId,
    /// What the clock shows in this turn.
    pub now: Instant,
    /// The same in milliseconds, as connections keep it: it wraps, so only differences count.
    pub ms: u32,
    /// Wall time of this turn, in milliseconds since 1970.
    pub wall_millis: u64,
    /// The bounds; those of pools stay as they were at the start.
    pub limits: Limits,
    /// What all shards know alike.
    pub shared: Arc<Shared>,
    /// The shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// What each listener serves.
    pub listeners: Vec<Serves>,
    /// Descriptors that the ring can hold.
    pub slots: u32,
    /// Connections can be moved to other shards.
    pub can_move: bool,
    /// The shard is ending; it does so by then.
    pub draining: Option<Instant>,
    /// What there is to tell the log.
    pub events: Events,
}

impl Context {
    /// A turn begins, at this time.
    pub(super) fn begin_turn(&mut self, now: Instant, wall_millis: u64) {
        self.now = now;
        self.ms = now.millis() as u32;
        self.wall_millis = wall_millis;
    }

    /// The control thread's place in the mailboxes.
    pub fn control(&self) -> PeerId {
        PeerId(self.shared.shards)
    }

    /// Slots kept free for connections that are told 503.
    pub fn reserve(&self) -> u32 {
        (self.slots / 8).min(64)
    }

    /// Counts a refusal and tells the log of it: where, for whom, and what there is to say.
    pub fn refuse_from(
        &self,
        block: Option<IpAddr>,
        site: Site,
        refusal: Refusal,
        text: Option<&str>,
    ) {
        self.metrics.refuse(refusal);
        self.tell(Key { cause: Cause::Refused(refusal), site, block }, text);
    }

    /// The same for what no connection of this shard has caused.
    pub fn refuse_for_nobody(&self, refusal: Refusal) {
        self.refuse_from(None, Site::None, refusal, None);
    }

    /// Tells the log of something.
    pub fn tell(&self, key: Key, text: Option<&str>) {
        if !self.events.add(self.now, key, text) {
            self.metrics.log_events_merged_total.add(1);
        }
    }
}

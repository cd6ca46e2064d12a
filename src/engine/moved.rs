#![forbid(unsafe_code)]
//! What travels with a connection from one shard to another, and how many are in flight.

use crate::ids::{ListenerId, ShardId};
use crate::ring::Descriptor;
use crate::transport::Transport;
use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A connection in flight. Thrown away, it is closed.
#[derive(Debug)]
pub struct Moved {
    /// The socket.
    pub descriptor: Descriptor,
    /// What was received and not used; of a sealed one, not opened either.
    pub received: Vec<u8>,
    /// Its layer, if it is sealed.
    pub transport: Option<Box<dyn Transport>>,
    /// The address that it is counted for and known by.
    pub address: IpAddr,
    /// The listener that it came from: all shards have the same ones.
    pub listener: ListenerId,
    /// When its client last gave a sign of life, and when its present phase began, by the clock
    /// that all shards share.
    pub times: (u32, u32),
    /// It is counted as being in flight.
    pub ticket: Ticket,
}

/// Connections in flight to each shard, from any.
#[derive(Clone, Debug)]
pub struct Coming(Arc<[AtomicU32]>);

impl Coming {
    /// None yet, for this many shards.
    pub fn new(shards: u8) -> Coming {
        Coming((0..shards).map(|_| AtomicU32::new(0)).collect())
    }

    /// How many are in flight to a shard.
    pub fn count(&self, to: ShardId) -> u32 {
        self.0[to.index()].load(Ordering::Relaxed)
    }

    /// One more is, as long as its ticket lives; no more than `most` at a time.
    pub fn announce(&self, to: ShardId, most: u32) -> Option<Ticket> {
        let one_more = |count: u32| (count < most).then(|| count + 1);
        let count = &self.0[to.index()];
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Ticket { coming: self.clone(), to })
    }
}

/// Stands for one connection in flight to a shard.
#[derive(Debug)]
pub struct Ticket {
    coming: Coming,
    to: ShardId,
}

impl Ticket {
    /// Where it goes.
    pub fn to(&self) -> ShardId {
        self.to
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.coming.0[self.to.index()].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_his_way_is_counted_until_his_ticket_is_dropped() {
        let coming = Coming::new(2);
        let to = ShardId(1);
        let tickets = [&coming, &coming.clone()].map(|coming| coming.announce(to, 2));
        assert_eq!((coming.count(ShardId(0)), coming.count(ShardId(1))), (0, 2));
        assert!(tickets.iter().all(|ticket| ticket.as_ref().is_some_and(|it| it.to() == to)));
        assert!(coming.announce(to, 2).is_none(), "no more may be");
        assert_eq!(coming.count(to), 2, "and that one is not counted");
        drop(tickets);
        assert_eq!(coming.count(ShardId(1)), 0);
    }
}

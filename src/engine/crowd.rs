#![forbid(unsafe_code)]
//! Whose a connection is, how many connections there may be, and who leaves when they become many.
//!
//! A connection counts for its peer's address; behind a trusted proxy for the address that the
//! proxy names at the upgrade, and never for the proxy's own. Where more than three quarters of the
//! slots (or of `connections`) are taken, each newcomer makes one stranger leave: the oldest
//! anonymous connection that has neither subscribed nor, on a raw endpoint, sent anything, of the
//! address that holds most. So no address takes all slots.
//!
//! Whoever has just come is about to subscribe, and is spared for a time: `stranger-time`, less as
//! fewer slots are left. Else many who come at once would make each other leave, and nobody could
//! come in any more where three quarters of the slots have been taken by valid clients.
//!
//! Nothing is kept for this while there is room. When there is none the table is walked once for
//! the next `slots / 32` newcomers; a walk that found fewer strangers is the last one for
//! [`PAUSE`].

use super::conn::{Proto, State};
use super::shard::Shard;
use crate::http::{self, Head};
use crate::ids::{ConnId, Slot};
use crate::limits::FAREWELL;
use crate::mem::shares::{Key, Kind, Place};
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::time::{Instant, Millis};
use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// One walk through the table finds strangers for this part of the slots.
const WALK_SHARE: u32 = 32;
/// After a walk that found too few.
const PAUSE: Millis = Millis(100);

/// A connection that may be made to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stranger {
    place: Place,
    /// Milliseconds since its present phase began.
    age: u32,
    conn: ConnId,
}

/// Who leaves next.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// In their order, each with what its address holds when its turn comes.
    leavers: VecDeque<(ConnId, u32)>,
    look_after: Instant,
}

impl Crowd {
    /// Chooses `most` strangers: each time the oldest of the address that holds most then.
    fn choose(&mut self, mut strangers: Vec<Stranger>, held: impl Fn(Place) -> u32, most: usize) {
        strangers.sort_unstable_by_key(|one| (one.place, Reverse(one.age), one.conn.slot));
        let mut holders = BinaryHeap::new();
        let mut from = 0;
        for run in strangers.chunk_by(|one, next| one.place == next.place) {
            holders.push((held(run[0].place), run[0].age, from, from + run.len()));
            from += run.len();
        }
        while self.leavers.len() < most
            && let Some((held, _, first, end)) = holders.pop()
        {
            self.leavers.push_back((strangers[first].conn, held));
            if first + 1 < end {
                let age = strangers[first + 1].age;
                holders.push((held.saturating_sub(1), age, first + 1, end));
            }
        }
    }
}

impl<R: Ring> Shard<R> {
    /// Counts a new connection. False if there are too many, of all or of its address.
    pub(super) fn admit_connection(&mut self, slot: Slot) -> bool {
        let most = match self.limits.connections {
            0 => u32::MAX,
            most => most,
        };
        // The hard bound of the table is never met: there the kernel drops connections silently.
        let is_full = self.conns.len() as u32 + self.reserve() > self.slots;
        if is_full || !self.shared.shares.connect(most) {
            self.refuse(slot, Refusal::LimitConnections);
            return false;
        }
        self.conns.at_mut(slot).is_counted = true;
        self.count_address(slot)
    }

    /// Counts a connection for its address, if that is counted. False if it has too many.
    fn count_address(&mut self, slot: Slot) -> bool {
        let Some(key) = self.share_key(slot) else { return true };
        let shares = &self.shared.shares;
        let place = shares.take(key, Kind::Connections);
        let bound = self.limits.connections_per_address;
        // Those who found no place of their own are many addresses.
        let is_own = place != Place::REST;
        if bound > 0 && is_own && shares.held(key, Kind::Connections) > bound {
            shares.give_back(place, Kind::Connections);
            self.refuse(slot, Refusal::LimitConnectionsPerAddress);
            return false;
        }
        self.conns.set_place(slot, place);
        true
    }

    /// The address of a connection as shares know it; None for a trusted proxy's own.
    pub(super) fn share_key(&self, slot: Slot) -> Option<Key> {
        let address = self.conns.at(slot).address;
        let is_proxy = self.shared.config.listen.trusts(address);
        (!is_proxy).then(|| self.shared.shares.key(address))
    }

    /// A connection through a trusted proxy becomes its client's. False if that has too many.
    pub(super) fn settle_address(&mut self, slot: Slot, head: &Head<'_, '_>) -> bool {
        let listen = &self.shared.config.listen;
        if !listen.trusts(self.conns.at(slot).address) {
            return true;
        }
        let elements = head.tokens("x-forwarded-for");
        let Some(client) = http::client_of(elements, |address| listen.trusts(address)) else {
            return true;
        };
        self.conns.at_mut(slot).address = client;
        self.count_address(slot)
    }

    /// A connection is gone: it is not counted any more.
    pub(super) fn uncount_connection(&mut self, slot: Slot) {
        let shares = &self.shared.shares;
        if self.conns.at(slot).is_counted {
            shares.disconnect();
        }
        shares.give_back(self.conns.place(slot), Kind::Connections);
    }

    /// A connection has come: where there are many, a stranger leaves.
    pub(super) fn ease_crowd(&mut self, newcomer: Slot) {
        let Some(patience) = self.patience() else { return self.crowd.leavers.clear() };
        if !self.let_stranger_go(patience) && self.now >= self.crowd.look_after {
            self.find_strangers(newcomer, patience);
            self.let_stranger_go(patience);
        }
    }

    /// For how many milliseconds a stranger is spared now: `stranger-time` where three quarters of
    /// the slots are taken, down to nothing where all are. None: fewer are taken.
    fn patience(&self) -> Option<u32> {
        let time = u64::from(self.limits.stranger_time.0);
        let of = |used: u64, all: u64| {
            let left = all.saturating_sub(used);
            (left * 4 < all).then(|| (time * left * 4 / all) as u32)
        };
        let slots = of(self.conns.len() as u64, u64::from(self.slots - self.reserve()));
        let most = u64::from(self.limits.connections);
        let bound = (most > 0).then(|| of(self.shared.shares.connections().into(), most));
        slots.into_iter().chain(bound.flatten()).min()
    }

    fn find_strangers(&mut self, newcomer: Slot, patience: u32) {
        let strangers = self.conns.slots().filter(|&slot| slot != newcomer);
        let strangers = strangers.filter(|&slot| self.is_stranger(slot, patience));
        let strangers = strangers.map(|slot| Stranger {
            place: self.conns.place(slot),
            age: self.age(slot),
            conn: self.conns.id(slot),
        });
        let strangers = strangers.collect();
        let most = (self.slots / WALK_SHARE).max(1) as usize;
        let shares = &self.shared.shares;
        self.crowd.choose(strangers, |place| shares.count_at(place, Kind::Connections), most);
        let is_short = self.crowd.leavers.len() < most;
        self.crowd.look_after = if is_short { self.now + PAUSE } else { self.now };
    }

    /// The next one leaves who still is what it was when it was chosen.
    fn let_stranger_go(&mut self, patience: u32) -> bool {
        while let Some((conn, held)) = self.crowd.leavers.pop_front() {
            if self.conns.find(conn).is_none() || !self.is_stranger(conn.slot, patience) {
                continue;
            }
            let place = self.conns.place(conn.slot);
            if self.shared.shares.count_at(place, Kind::Connections) < held {
                continue;
            }
            self.refuse(conn.slot, Refusal::LimitStrangerTime);
            if self.conns.at(conn.slot).has_session() {
                self.drain(conn.slot, &[], 1013, "try again later");
                self.hurry(conn.slot);
            } else {
                self.terminate(conn.slot);
            }
            return true;
        }
        false
    }

    /// A connection that drains is not waited for as long as others: its slot is wanted.
    fn hurry(&mut self, slot: Slot) {
        let spared = self.limits.linger.0.saturating_sub(FAREWELL.0);
        self.conns.at_mut(slot).since = self.ms().wrapping_sub(spared);
        self.set_timer(slot);
    }

    /// Milliseconds since the present phase of a connection began.
    fn age(&self, slot: Slot) -> u32 {
        self.ms().wrapping_sub(self.conns.at(slot).since)
    }

    /// Whether a connection is anonymous, has neither subscribed nor (raw) sent anything, and is
    /// spared no longer. One that asks for something by HTTP is not, until it is answered.
    fn is_stranger(&self, slot: Slot, patience: u32) -> bool {
        let conn = self.conns.at(slot);
        let is_known = conn.state != State::Open || self.conns.place(slot) == Place::NONE;
        if is_known || self.age(slot) < patience {
            return false;
        }
        match &conn.proto {
            Proto::HttpIdle => conn.outbox.is_empty(),
            Proto::HttpHead => true,
            Proto::Raw(raw) => raw.is_stranger,
            Proto::Stomp(stomp) => stomp.session.get().is_some_and(|session| {
                let session = self.sessions.at(session);
                session.user.is_none() && session.subscriptions.is_empty()
            }),
            Proto::HttpBody(_) | Proto::HttpParked(_) | Proto::HttpDone => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::secret::HashKey;
    use crate::mem::shares::Shares;
    use core::net::IpAddr;

    /// Strangers of these hosts, from the oldest on; who leaves, in order.
    fn leavers(hosts: &[u8], most: usize) -> Vec<u32> {
        let shares = Shares::new(64, HashKey::known(1));
        let take = |host: u8| {
            let key = shares.key(IpAddr::from([10, 0, 0, host]));
            shares.take(key, Kind::Connections)
        };
        let places: Vec<Place> = hosts.iter().map(|host| take(*host)).collect();
        // One more connection of host 9 that is no stranger.
        let _ = take(9);
        let stranger = |(slot, place): (usize, &Place)| Stranger {
            place: *place,
            age: 1_000 - slot as u32,
            conn: ConnId { slot: Slot(slot as u32), generation: 0 },
        };
        let strangers = places.iter().enumerate().map(stranger).collect();
        let mut crowd = Crowd::default();
        crowd.choose(strangers, |place| shares.count_at(place, Kind::Connections), most);
        crowd.leavers.iter().map(|(conn, _)| conn.slot.0).collect()
    }

    #[test]
    fn each_time_the_oldest_of_whoever_holds_most_leaves() {
        assert_eq!(leavers(&[1, 2, 2, 2, 3, 2], 9), [1, 2, 3, 0, 4, 5]);
        assert_eq!(leavers(&[1, 2, 2, 2, 3, 2], 2), [1, 2]);
        // What is no stranger counts as well.
        assert_eq!(leavers(&[1, 1, 9, 9], 3), [2, 0, 3]);
        assert!(leavers(&[], 3).is_empty());
    }
}

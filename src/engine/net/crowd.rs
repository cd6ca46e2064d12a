#![forbid(unsafe_code)]
//! Who leaves when connections become many.
//!
//! Where more than three quarters of the slots (or of `connections`) are taken, each newcomer makes
//! one stranger leave: the oldest anonymous connection that has neither subscribed nor, on a raw
//! endpoint, sent anything, of the address that holds most. So no address takes all slots.
//!
//! A client that has just come is about to subscribe, and is spared for a time: `stranger-time`,
//! less as fewer slots are left. Else many who come at once would make each other leave, and nobody
//! could come in any more where three quarters of the slots have been taken by valid clients.
//!
//! Nothing is kept for this while there is room. When there is none the table is walked once for
//! the next `slots / 32` newcomers; a walk that found fewer strangers is the last one for
//! [`PAUSE`].

use super::{Context, Net, State};
use crate::ids::{ConnId, Slot};
use crate::mem::shares::{Kind, Place};
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
pub struct Crowd {
    /// In their order, each with what its address holds when its turn comes.
    leavers: VecDeque<(ConnId, u32)>,
    look_after: Instant,
}

impl Crowd {
    /// A connection has come: where there are many, this stranger leaves. `is_stranger` says of a
    /// connection whether it is anonymous and has done nothing yet.
    pub fn next_leaver(
        &mut self,
        net: &Net,
        ctx: &Context,
        newcomer: Slot,
        is_stranger: impl Fn(Slot) -> bool,
    ) -> Option<Slot> {
        let Some(patience) = patience(net, ctx) else {
            self.leavers.clear();
            return None;
        };
        let is_stranger = |slot: Slot| {
            let is_open = net.state(slot) == State::Open && net.place(slot) != Place::NONE;
            is_open && age(net, ctx, slot) >= patience && is_stranger(slot)
        };
        let next = self.first(net, ctx, &is_stranger);
        if next.is_some() || ctx.now < self.look_after {
            return next;
        }
        let strangers = net.slots().filter(|&slot| slot != newcomer && is_stranger(slot));
        let strangers = strangers.map(|slot| Stranger {
            place: net.place(slot),
            age: age(net, ctx, slot),
            conn: net.id(slot),
        });
        let most = (ctx.slots / WALK_SHARE).max(1) as usize;
        let shares = &ctx.shared.shares;
        self.choose(strangers.collect(), |place| shares.count_at(place, Kind::Connections), most);
        let is_short = self.leavers.len() < most;
        self.look_after = if is_short { ctx.now + PAUSE } else { ctx.now };
        self.first(net, ctx, &is_stranger)
    }

    /// The first of those who were chosen that still is what it was then.
    fn first(
        &mut self,
        net: &Net,
        ctx: &Context,
        is_stranger: &impl Fn(Slot) -> bool,
    ) -> Option<Slot> {
        while let Some((conn, held)) = self.leavers.pop_front() {
            let shares = &ctx.shared.shares;
            let holds = |slot| shares.count_at(net.place(slot), Kind::Connections);
            if net.is_current(conn) && is_stranger(conn.slot) && holds(conn.slot) >= held {
                return Some(conn.slot);
            }
        }
        None
    }

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

/// For how many milliseconds a stranger is spared now: `stranger-time` where three quarters of the
/// slots are taken, down to nothing where all are. None: fewer are taken.
fn patience(net: &Net, ctx: &Context) -> Option<u32> {
    let time = u64::from(ctx.limits.stranger_time.0);
    let of = |used: u64, all: u64| {
        let left = all.saturating_sub(used);
        (left * 4 < all).then(|| (time * left * 4 / all) as u32)
    };
    let slots = of(net.len() as u64, u64::from(ctx.slots - ctx.reserve()));
    let most = u64::from(ctx.limits.connections);
    let bound = (most > 0).then(|| of(ctx.shared.shares.connections().into(), most));
    slots.into_iter().chain(bound.flatten()).min()
}

/// Milliseconds since the present phase of a connection began.
fn age(net: &Net, ctx: &Context, slot: Slot) -> u32 {
    ctx.ms.wrapping_sub(net.times(slot).since)
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

#![forbid(unsafe_code)]
//! Connections that go to another shard, and those that come from one.
//!
//! ```text
//! here:  Open ─begin─▶ Moving ─nothing in the kernel─▶ Releasing ─▶ Free, and an entry to there
//!          ▲             │ the peer ends, or it takes    │
//!          │             │ too long: it stays            │ no number: it stays
//!          └─────────────┴───────────────────────────────┘
//! there: an entry ─adopt─▶ Open, in a slot of that table
//! ```
//!
//! While a connection is moving its receive is being stopped, and what still comes is kept. It is
//! released only when the receive has told its end: bytes that the kernel hands out after that
//! would be lost.
//!
//! **Bounds.** `moves` leave at a time, and as many are in flight to one shard from all others.

use super::conn::Receive;
use super::{Net, State, Times};
use crate::engine::context::Context;
use crate::engine::moved::{Moved, Ticket};
use crate::ids::{ConnId, ShardId, Slot};
use crate::limits::MOVE_TIME;
use crate::ring::{Descriptor, Op};
use core::net::SocketAddr;
use std::collections::VecDeque;

/// A connection that leaves.
#[derive(Debug)]
struct Leaver {
    slot: Slot,
    ticket: Ticket,
    /// When the move began.
    since: u32,
}

/// The moves of a shard.
#[derive(Debug, Default)]
pub struct Moves {
    leaving: Vec<Leaver>,
    /// Released, and not sent yet: there was no room for the entry.
    waiting: VecDeque<Box<Moved>>,
    /// Received, and not in the table yet.
    arriving: Vec<Moved>,
}

impl Moves {
    /// Where a connection goes that has just come in, if not here: to the emptiest shard, if this
    /// one has no place for it or holds `move-lead` and a quarter more than that one.
    pub fn choose(&self, net: &Net, ctx: &Context) -> Option<ShardId> {
        let (used, lead) = ((net.len() - self.leaving.len()) as u32, ctx.limits.move_lead);
        let is_full = used + ctx.reserve() > ctx.slots;
        if !is_full && used <= lead {
            return None;
        }
        let load = |to: ShardId| {
            let connections = ctx.shared.metrics.shard(to.index()).connections.value() as u32;
            (connections + ctx.shared.coming.count(to), to.0)
        };
        let others = (0..ctx.shared.shards).map(ShardId).filter(|to| *to != ctx.me);
        let (least, to) = others.map(load).min()?;
        let is_ahead = used > least.saturating_add(least / 4).saturating_add(lead);
        let to = ShardId(to);
        ((is_ahead || is_full && least < used) && self.has_place(ctx, to)).then_some(to)
    }

    /// Whether one more may leave for this shard.
    fn has_place(&self, ctx: &Context, to: ShardId) -> bool {
        let leaving = (self.leaving.len() + self.waiting.len()) as u32;
        let may = ctx.can_move && ctx.draining.is_none();
        may && leaving.max(ctx.shared.coming.count(to)) < ctx.limits.moves
    }

    /// Begins to move a connection, of which no send is in flight. False if it may not leave.
    pub fn begin(&mut self, net: &mut Net, ctx: &Context, slot: Slot, to: ShardId) -> bool {
        let id = net.id(slot);
        let conn = &mut net.conns[slot.index()];
        if conn.state != State::Open || !conn.is_whole() || !self.has_place(ctx, to) {
            return false;
        }
        // Others may announce theirs at the same moment.
        let Some(ticket) = ctx.shared.coming.announce(to, ctx.limits.moves) else { return false };
        conn.go(&[State::Open], State::Moving);
        if conn.watched {
            net.ops.push(Op::PollStop { conn: id });
        }
        net.stop_receiving(slot);
        self.leaving.push(Leaver { slot, ticket, since: ctx.ms });
        true
    }

    /// Releases a moving connection once nothing of it is in the kernel.
    pub fn release(&mut self, net: &mut Net, slot: Slot) {
        let conn = &mut net.conns[slot.index()];
        if conn.state == State::Moving && conn.is_joined() {
            conn.go(&[State::Moving], State::Releasing);
            let id = ConnId { slot, generation: conn.generation };
            net.ops.push(Op::Release { conn: id });
        }
    }

    /// A connection stays.
    pub fn stay(&mut self, net: &mut Net, slot: Slot) {
        net.conns[slot.index()].go(&[State::Moving, State::Releasing], State::Open);
        self.take(slot);
    }

    /// A connection is released: it goes with what was received of it.
    pub fn leave(
        &mut self,
        net: &mut Net,
        slot: Slot,
        descriptor: Descriptor,
        received: Vec<u8>,
    ) -> Box<Moved> {
        let conn = net.at(slot);
        assert_eq!(conn.state, State::Releasing, "only what leaves is released");
        let (listener, address) = (conn.listener, conn.address);
        let (times, ticket) = ((conn.times.last_in, conn.times.since), self.take(slot).ticket);
        let transport = net.transports.part_with(slot);
        Box::new(Moved { descriptor, received, transport, address, listener, times, ticket })
    }

    fn take(&mut self, slot: Slot) -> Leaver {
        let at = self.leaving.iter().position(|leaver| leaver.slot == slot);
        self.leaving.swap_remove(at.expect("a connection that leaves is known"))
    }

    /// Milliseconds until a moving connection stays because its receive does not end.
    pub fn left(&self, slot: Slot, ms: u32) -> u32 {
        let leaver = self.leaving.iter().find(|leaver| leaver.slot == slot);
        let age = leaver.map_or(0, |leaver| ms.wrapping_sub(leaver.since));
        MOVE_TIME.0.saturating_sub(age)
    }

    /// A connection is to be sent to where it goes.
    pub fn wait(&mut self, moved: Box<Moved>) {
        self.waiting.push_back(moved);
    }

    /// The first that waits for a shard which has room.
    pub fn next(&mut self, has_room: impl Fn(ShardId) -> bool) -> Option<Box<Moved>> {
        let at = self.waiting.iter().position(|moved| has_room(moved.ticket.to()))?;
        self.waiting.remove(at)
    }

    /// The shard is ending: what waits to be sent is closed.
    pub fn drop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// A connection has come from another shard: it is to be in the table.
    pub fn adopt(&mut self, net: &mut Net, moved: Moved) {
        net.ops.push(Op::Adopt { number: moved.descriptor.number() });
        self.arriving.push(moved);
    }

    /// It is in the table, or cannot be.
    pub fn adopted(&mut self, number: i32) -> Moved {
        let at = self.arriving.iter().position(|moved| moved.descriptor.number() == number);
        self.arriving.swap_remove(at.expect("what is adopted has come"))
    }

    /// It has this slot now, and is in use. Gives what was received of it before.
    pub fn open(net: &mut Net, slot: Slot, moved: Moved, ms: u32) -> Vec<u8> {
        let Moved { received, transport, address, listener, times, .. } = moved;
        net.accept(slot, listener, SocketAddr::new(address, 0), ms);
        net.transports.adopt(slot, transport);
        let (last_in, since) = times;
        *net.times_mut(slot) = Times { last_in, since, ..net.times(slot) };
        received
    }

    /// Whether a connection was let in here.
    pub fn is_admitted(net: &Net, slot: Slot) -> bool {
        net.at(slot).is_counted
    }

    /// Connections that are in no table, as far as this shard has them.
    pub fn between(&self) -> usize {
        self.waiting.len() + self.arriving.len()
    }

    /// Whether some wait for room in a mailbox.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Asserts that it knows who leaves. Slow.
    pub fn invariants(&self, net: &Net) {
        let leaves = |slot: &Slot| matches!(net.state(*slot), State::Moving | State::Releasing);
        let known = self.leaving.iter().filter(|leaver| leaves(&leaver.slot)).count();
        assert_eq!(known, self.leaving.len(), "who leaves is moving");
        assert_eq!(net.slots().filter(leaves).count(), known, "who is moving is known");
        for leaver in &self.leaving {
            let receive = net.at(leaver.slot).receive;
            assert_ne!(receive, Receive::On, "what is moving is not read on");
        }
    }
}

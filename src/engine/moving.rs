#![forbid(unsafe_code)]
//! Connections that move between shards: what the parts do when one leaves, stays or comes.

use super::bus::mailbox::ToShard;
use super::delivery::unsent;
use super::dispatch::Dispatch;
use super::events::Site;
use super::net::{Moves, Peer, View};
use super::web::Stage;
use crate::broker::core::Class;
use crate::ids::{ConnId, LinkIndex, ShardId, Slot, address_block};
use crate::metrics::Refusal;
use crate::ring::{Descriptor, RecvEnd};

/// For a connection from another shard that finds no slot. Behind bytes that nobody has read it
/// may not arrive: the close resets the connection then.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";

impl Dispatch {
    /// Begins to move a connection that has nothing to be told and asks for nothing. False if it
    /// cannot be moved now.
    pub(super) fn begin_move(&mut self, slot: Slot, to: ShardId) -> bool {
        let link = LinkIndex::from(slot);
        let links = &self.delivery.links;
        let is_idle = links.is_read(link)
            && unsent(links, &self.net, link) == 0
            && self.may_leave_sealed(slot)
            && !self.sockets.is_upgraded(slot)
            && matches!(self.web.stage(slot), Stage::Idle | Stage::Head);
        let begins = is_idle && self.moves.begin(&mut self.net, &self.ctx, slot, to);
        if begins {
            self.set_timer(slot);
            self.settle(slot);
        }
        begins
    }

    /// Whether the layer of a connection may go with it, if it has one: nothing is to be sent, and
    /// what is kept while it moves is not mixed with what was opened before.
    fn may_leave_sealed(&self, slot: Slot) -> bool {
        let transports = self.net.transports();
        !transports.is_sealed(slot) || !transports.owes(slot) && !self.input.waits(slot)
    }

    /// The receive of a moving connection has ended. At the end of its peer it stays.
    pub(super) fn on_moving_ended(&mut self, slot: Slot, end: RecvEnd) {
        match end {
            RecvEnd::Eof => {
                self.net.hang_up(slot, Peer::Ended);
                self.net.times_mut(slot).since = self.ctx.ms;
                self.stay(slot);
            }
            RecvEnd::Failed(_) => self.moves.stay(&mut self.net, slot),
            RecvEnd::Starved | RecvEnd::Stopped => {}
        }
    }

    /// A connection stays after all: it goes on where it was.
    pub(super) fn stay(&mut self, slot: Slot) {
        self.moves.stay(&mut self.net, slot);
        if !Moves::is_admitted(&self.net, slot) {
            self.welcome(slot);
        }
        self.read_kept(slot);
        self.hear();
        self.set_timer(slot);
        self.settle(slot);
    }

    /// A connection has left the table, or could not.
    pub(super) fn on_released(&mut self, id: ConnId, result: Result<Descriptor, i32>) {
        assert!(self.net.is_current(id), "its slot is its own until then");
        let (slot, link) = (id.slot, LinkIndex::from(id.slot));
        let is_open = self.delivery.links.is_open(link);
        let Ok(descriptor) = result else {
            self.ctx.metrics.moves_failed_total.add(1);
            if is_open {
                return self.stay(slot);
            }
            // It has ended meanwhile.
            self.moves.stay(&mut self.net, slot);
            return self.on_ended(slot);
        };
        let received = self.input.take(slot).map_or_else(Vec::new, |kept| kept.to_vec());
        let moved = self.moves.leave(&mut self.net, slot, descriptor, received);
        self.delivery.links.cut(link);
        self.hear();
        self.delivery.links.clear(&mut self.net, link);
        self.free(slot);
        // What has ended meanwhile is closed with its entry.
        if is_open {
            self.ctx.metrics.moved_total.add(1);
            self.moves.wait(moved);
            self.send_moved();
        }
    }

    /// Sends what waits to the shards that have room.
    pub(super) fn send_moved(&mut self) {
        let Dispatch { moves, bus, .. } = self;
        while let Some(moved) = moves.next(|to| bus.room(to.into(), Class::Event) > 0) {
            let to = moved.ticket.to();
            bus.send(to.into(), ToShard::Moved(moved));
        }
    }

    /// A connection of another shard is in the table, or cannot be.
    pub(super) fn on_adopted(&mut self, number: i32, result: Result<Slot, i32>) {
        let moved = self.moves.adopted(number);
        let Ok(slot) = result else {
            let block = Some(address_block(moved.address));
            self.ctx.refuse_from(block, Site::None, Refusal::NetMoveFailed, None);
            self.ctx.metrics.refused_capacity_total.add(1);
            // Bytes that nothing seals are no answer for one that is sealed: it is closed.
            if moved.transport.is_none() {
                moved.descriptor.refuse(NO_PLACE);
            }
            return;
        };
        let received = Moves::open(&mut self.net, slot, moved, self.ctx.ms);
        self.input.open(slot);
        self.delivery.links.open(slot.into());
        self.welcome(slot);
        if self.delivery.links.is_open(slot.into()) {
            self.input.keep(slot, &received);
            self.read_kept(slot);
        }
        self.hear();
        self.set_timer(slot);
        self.settle(slot);
    }

    /// A connection is in the table: it is let in, or told why not.
    pub(super) fn welcome(&mut self, slot: Slot) {
        if self.ctx.draining.is_some() {
            return self.delivery.links.cut(slot.into());
        }
        if !self.net.admit(&self.ctx, slot) {
            let Dispatch { ctx, net, delivery, web, .. } = self;
            web.refuse_capacity(&mut delivery.links, View { ctx, net }, slot);
        }
        self.ease_crowd(slot);
    }
}

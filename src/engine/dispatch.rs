#![forbid(unsafe_code)]
//! The hands of the loop: finds for each completion, entry and deadline the part that handles it,
//! and carries what one part reports to the others. Who calls whom is readable here, in `shard`
//! (the order of a turn), in `reading` (what bytes become) and in `timers` (what is due) alone; the
//! parts do not know each other but downwards.

use super::bus::Bus;
use super::bus::mailbox::{ToHome, ToShard};
use super::context::Context;
use super::delivery::{Delivery, Report, unsent};
use super::events::Site;
use super::net::{Client, Crowd, Input, Moves, Net, Peer, State, View};
use super::session::{Revocation, Sockets, Stomp, answer_query};
use super::share::Share;
use super::shared::Shared;
use super::web::{Stage, Web};
use crate::broker::command::{Event, ReplyTo};
use crate::broker::core::Class;
use crate::broker::pattern::Budget;
use crate::ids::{ConnId, LinkIndex, ListenerId, ShardId, Slot, address_block};
use crate::limits::{FAREWELL, WS_HEAD_MAX};
use crate::metrics::Refusal;
use crate::ring::{Descriptor, RecvEnd};
use crate::ws::Opcode;
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

/// For a connection from another shard that finds no slot. Behind bytes that nobody has read it
/// may not arrive: the close resets the connection then.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";

/// The parts of a shard.
#[derive(Debug)]
pub struct Dispatch {
    pub(super) ctx: Context,
    pub(super) net: Net,
    pub(super) input: Input,
    pub(super) delivery: Delivery,
    pub(super) stomp: Stomp,
    pub(super) sockets: Sockets,
    pub(super) web: Web,
    pub(super) bus: Bus,
    pub(super) revocation: Revocation,
    pub(super) crowd: Crowd,
    pub(super) moves: Moves,
    /// Deliveries and changes of subscriptions that wait for segments, in order.
    pub(super) stash: VecDeque<Event>,
    pub(super) share: Share,
}

impl Dispatch {
    /// The settings have changed.
    pub(super) fn configure(&mut self) {
        let limits = &self.ctx.limits;
        let answer_max = limits.message as usize + WS_HEAD_MAX;
        self.delivery.links.configure(limits.deflate_min, answer_max);
        self.delivery.fanout.compress_from(limits.deflate_min);
    }

    // ---- connections

    /// A connection has come in.
    pub(super) fn on_accepted(&mut self, listener: ListenerId, slot: Slot, peer: SocketAddr) {
        self.ctx.metrics.accepted_total.add(1);
        self.net.accept(slot, listener, peer, self.ctx.ms);
        self.input.open(slot);
        self.delivery.links.open(slot);
        let to = self.moves.choose(&self.net, &self.ctx);
        if to.is_none_or(|to| !self.begin_move(slot, to)) {
            self.welcome(slot);
        }
        self.hear();
        self.set_timer(slot);
        self.settle(slot);
    }

    /// A connection has come: where there are many, a stranger leaves. Its slot is wanted, so
    /// that it is not waited for as long as others.
    pub(super) fn ease_crowd(&mut self, newcomer: Slot) {
        let Dispatch { ctx, net, delivery, stomp, sockets, web, crowd, .. } = self;
        let is_stranger = |slot: Slot| match web.stage(slot) {
            _ if sockets.is_upgraded(slot) => {
                sockets.is_raw_stranger(slot) || stomp.is_stranger(slot.into())
            }
            // Who receives for a session over HTTP is none.
            _ if delivery.links.served_by(slot).is_some() => false,
            Stage::Idle => unsent(&delivery.links, net, slot) == 0,
            Stage::Head => true,
            Stage::Body | Stage::Parked => false,
        };
        let Some(slot) = crowd.next_leaver(net, ctx, newcomer, is_stranger) else { return };
        let (view, link) = (View { ctx, net }, LinkIndex::from(slot));
        view.refuse(slot, Refusal::LimitStrangerTime);
        delivery.links.drain(view, link, 1013, "try again later");
        self.hear();
        if self.net.state(slot) == State::Draining {
            let spared = self.ctx.limits.linger.0.saturating_sub(FAREWELL.0);
            self.net.times_mut(slot).since = self.ctx.ms.wrapping_sub(spared);
            self.set_timer(slot);
        }
    }

    // ---- moves between shards

    /// Begins to move a connection that has nothing to be told and asks for nothing. False if it
    /// cannot be moved now.
    pub(super) fn begin_move(&mut self, slot: Slot, to: ShardId) -> bool {
        let link = LinkIndex::from(slot);
        let links = &self.delivery.links;
        // The layer of a sealed one goes with it: nothing is to be sent, and what is kept while it
        // moves is not mixed with what was opened before.
        let transports = self.net.transports();
        let is_owed = transports.owes(slot) || self.input.waits(slot);
        let may_leave = !transports.is_sealed(slot) || !is_owed;
        let is_idle = links.is_read(link)
            && unsent(links, &self.net, slot) == 0
            && may_leave
            && !self.sockets.is_upgraded(slot)
            && matches!(self.web.stage(slot), Stage::Idle | Stage::Head);
        let begins = is_idle && self.moves.begin(&mut self.net, &self.ctx, slot, to);
        if begins {
            self.set_timer(slot);
            self.settle(slot);
        }
        begins
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
        self.delivery.links.open(slot);
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

    // ---- sends and closes

    /// A send has ended.
    pub(super) fn on_sent(&mut self, id: ConnId, result: Result<u32, i32>) {
        if !self.net.is_current(id) {
            return;
        }
        let (slot, link) = (id.slot, LinkIndex::from(id.slot));
        self.delivery.links.on_sent(&mut self.net, &self.ctx, slot, result);
        self.hear();
        if self.sockets.owes_pongs()
            && !self.net.sending(slot).is_on()
            && let Some(payload) = self.sockets.take_pong(slot)
        {
            let Dispatch { ctx, net, delivery, .. } = self;
            let view = View { ctx, net };
            delivery.links.send_frame(view, link, Opcode::Pong, &payload);
            self.hear();
            self.settle(slot);
        }
        self.try_close(slot);
    }

    /// A shutdown is done.
    pub(super) fn on_shut_down(&mut self, id: ConnId) {
        if self.net.is_current(id) {
            self.net.shut_down(id.slot);
            self.try_close(id.slot);
        }
    }

    /// The descriptor is released.
    pub(super) fn on_closed(&mut self, id: ConnId) {
        if self.net.is_current(id) {
            self.free(id.slot);
        }
    }

    /// Nothing of a connection is here any more.
    pub(super) fn free(&mut self, slot: Slot) {
        if self.sockets.is_raw(slot) {
            let gauge = &self.ctx.metrics.raw_sessions;
            gauge.set(gauge.value() - 1);
        }
        self.net.uncount(&self.ctx, slot);
        self.net.closed(slot);
        self.sockets.closed(slot);
        self.input.note(slot, 0);
        assert_eq!(self.web.stage(slot), Stage::Idle, "nothing is kept of a request");
    }

    // ---- what parts report

    /// What links report is told to those whom it concerns, until nothing is left.
    #[inline]
    pub(super) fn hear(&mut self) {
        if self.delivery.links.has_reports() {
            self.hear_reports();
        }
    }

    fn hear_reports(&mut self) {
        while let Some((link, report)) = self.delivery.links.next_report() {
            let (slot, ms) = (self.delivery.links.slot(link), self.ctx.ms);
            match report {
                Report::Ended => match slot {
                    Some(slot) => self.on_ended(slot),
                    None => self.on_session_ended(link),
                },
                // The time of a parked request began when it was parked.
                Report::Waits if slot.is_some_and(|slot| !self.sockets.is_upgraded(slot)) => {}
                Report::Waits | Report::Phase => self.net.begin_phase(link, ms),
                Report::Answered => {
                    self.net.times_mut(link).last_in = ms;
                    self.net.begin_phase(link, ms);
                }
                Report::Timer => {}
                Report::Kept => self.note_session(link),
                Report::Released => self.net.begin_phase(link, ms),
            }
            self.set_timer(link);
        }
    }

    /// The link of a session over HTTP has ended: the session leaves. A link that was cut is free
    /// again, once: one that was drained and cut before this was heard is told of twice.
    fn on_session_ended(&mut self, link: LinkIndex) {
        self.share.spend_turn(self.stomp.leave(&mut self.delivery.fanout, &self.ctx, link));
        let links = &mut self.delivery.links;
        if links.has_session(link) && !links.is_ending(link) {
            links.close_standalone(&mut self.net, link);
            self.net.set_client(link, Client::NONE);
            self.input.note_link(link, 0);
        }
    }

    /// The link of a connection has ended.
    pub(super) fn on_ended(&mut self, slot: Slot) {
        let link = LinkIndex::from(slot);
        if self.net.state(slot) == State::Moving {
            self.moves.stay(&mut self.net, slot);
        }
        self.delivery.links.lose_receiver(slot);
        self.share.spend_turn(self.stomp.leave(&mut self.delivery.fanout, &self.ctx, link));
        self.sockets.leave(slot);
        self.web.leave(slot);
        self.input.take(slot);
        self.net.transports_mut().forget(slot);
        let is_ending = self.delivery.links.is_ending(link);
        match self.net.state(slot) {
            State::Open if is_ending => {
                self.net.drain(slot, self.ctx.ms);
                // If it has sent all before this was heard, nothing else would look at it.
                self.delivery.links.mark_dirty(link);
            }
            State::Open | State::Draining if !is_ending => self.net.terminate(slot),
            _ => {}
        }
        self.settle(slot);
    }

    /// After whatever has happened to a connection: what it keeps is counted, it is received from
    /// where that is wanted, and it is closed where nothing is left of it.
    pub(super) fn settle(&mut self, slot: Slot) {
        let link = LinkIndex::from(slot);
        let others = match self.sockets.is_upgraded(slot) {
            true => self.sockets.held(slot) + self.stomp.held(link),
            false => self.web.held(slot),
        };
        self.input.note(slot, others + self.net.transports().held(slot));
        let is_paused = self.delivery.links.at(link).is_paused();
        self.net.receive_more(slot, is_paused && self.input.waits(slot));
        if is_paused && self.net.peer(slot) != Peer::Here {
            // Its time runs already, and may be the next thing that is due.
            self.set_timer(slot);
        }
        self.moves.release(&mut self.net, slot);
        self.try_close(slot);
    }

    /// Releases the descriptor of a connection that has been cut, when nothing of it is in the
    /// kernel any more.
    fn try_close(&mut self, slot: Slot) {
        if self.net.may_close(slot) {
            self.delivery.links.clear(&mut self.net, slot.into());
            self.net.close(slot);
        }
    }

    // ---- entries

    /// An entry for the homes here. Says how many steps patterns took.
    pub(super) fn on_command(&mut self, entry: ToHome) -> u32 {
        match entry {
            ToHome::Command(command) => self.bus.on_command(command, &self.ctx),
            ToHome::Query { query, shard, conn } => {
                let Dispatch { ctx, net, delivery, stomp, sockets, bus, .. } = self;
                let (users, view) = (bus.core().users(), View { ctx, net });
                let (items, count, cut) =
                    answer_query(&query, stomp, sockets, users, delivery, view);
                self.bus.send(shard.into(), ToShard::Answer { conn, items, count, cut });
                self.hear();
                0
            }
        }
    }

    /// An entry for this shard, likewise.
    pub(super) fn on_entry(&mut self, entry: ToShard) -> u32 {
        match entry {
            ToShard::Event(event) => return self.on_event(event),
            ToShard::Answer { conn, items, count, cut } if self.net.is_current(conn) => {
                let links = &mut self.delivery.links;
                self.web.on_query_answer(links, conn.slot, &items, count, cut);
                self.settle(conn.slot);
            }
            ToShard::Answer { .. } => {}
            ToShard::Moved(moved) => self.moves.adopt(&mut self.net, *moved),
            ToShard::Reload(shared) => self.reload(shared),
            ToShard::Drain => self.drain_all(),
        }
        0
    }

    /// What a home says. Changes of subscriptions come after what was delivered before them: when
    /// the pool has no room to encode that, they and what follows them wait, in order.
    fn on_event(&mut self, event: Event) -> u32 {
        let changes = matches!(event, Event::Begun { .. } | Event::Ended { .. });
        let ordered = changes || matches!(event, Event::Deliver { .. });
        if ordered && (!self.stash.is_empty() || changes && !self.fan_out_before(&event)) {
            self.stash.push_back(event);
            return 0;
        }
        self.handle_event(event)
    }

    /// What waited for the pool goes on.
    pub(super) fn run_stash(&mut self) {
        while let Some(event) = self.stash.pop_front() {
            let changes = matches!(event, Event::Begun { .. } | Event::Ended { .. });
            if changes && !self.fan_out_before(&event) {
                return self.stash.push_front(event);
            }
            self.handle_event(event);
        }
    }

    /// Gives what is pending before a subscription changes. Batches end, too, if something waits in
    /// one for the very group that is about to have one member more or fewer.
    fn fan_out_before(&mut self, change: &Event) -> bool {
        if self.delivery.fanout.has_batches()
            && let Event::Begun { session, key, .. } | Event::Ended { session, key } = change
            && self.stomp.changes_batched_group(&self.delivery, *session, *key)
        {
            self.delivery.fanout.end_batches(None);
        }
        self.fan_out()
    }

    /// Gives every group what it has heard. False if something is left, because there is no room.
    pub(super) fn fan_out(&mut self) -> bool {
        let Dispatch { ctx, net, delivery: Delivery { links, fanout }, stomp, .. } = self;
        let is_whole = fanout.run(links, stomp, ctx);
        if !is_whole {
            links.make_room(net, ctx);
            self.hear();
        }
        is_whole
    }

    fn handle_event(&mut self, event: Event) -> u32 {
        let Dispatch { ctx, net, delivery, stomp, web, .. } = self;
        let view = View { ctx, net };
        match event {
            Event::Deliver { message, number } => {
                let mut budget = Budget::default();
                delivery.fanout.deliver(ctx, (message, number), &mut budget);
                return budget.spent();
            }
            Event::DeliverUser { message, number, only } => {
                stomp.sessions_mut().deliver_to_user(delivery, view, (&message, number), only);
            }
            Event::DeliverSession { message, session, number } => {
                stomp.sessions_mut().deliver_to_session(
                    delivery,
                    view,
                    (&message, number),
                    session,
                );
            }
            Event::Begun { session, key, refused } => {
                stomp.on_begun(delivery, view, session, key, refused);
            }
            Event::Ended { session, key } => stomp.on_ended(delivery, view, session, key),
            Event::Sequenced { reply_to, heard } => match reply_to {
                ReplyTo::None => {}
                ReplyTo::Frame(id, sequence) => {
                    stomp.sessions_mut().on_sequenced(delivery, view, id, sequence)
                }
                ReplyTo::Request(_, conn) if net.is_current(conn) => {
                    web.on_pushed(&mut delivery.links, conn.slot, heard);
                }
                ReplyTo::Request(..) => {}
            },
            Event::Duplicate { reply_to } => {
                ctx.metrics.callback_duplicates_total.add(1);
                if let ReplyTo::Request(_, conn) = reply_to
                    && net.is_current(conn)
                {
                    web.on_pushed(&mut delivery.links, conn.slot, 0);
                }
            }
        }
        self.hear();
        self.stomp.take_steps()
    }

    /// A new configuration. What belongs to a running session stays as it is.
    fn reload(&mut self, shared: Arc<Shared>) {
        // What waits under the old batches goes before what comes under the new ones.
        self.delivery.fanout.end_batches(None);
        let changed = self.ctx.shared.rules != shared.rules;
        let mut limits = shared.limits.clone();
        limits.keep_fixed(&self.ctx.limits);
        (self.ctx.limits, self.ctx.shared) = (limits, shared);
        self.configure();
        if changed {
            self.revocation.begin(&self.stomp);
        }
    }

    /// Ends every connection of the shard: shutdown.
    fn drain_all(&mut self) {
        if self.ctx.draining.is_some() {
            return;
        }
        self.ctx.draining = Some(self.ctx.now + self.ctx.limits.drain_time);
        // What was sequenced before is still for those who are here.
        self.delivery.fanout.end_batches(None);
        self.fan_out();
        self.moves.drop_waiting();
        let slots: Vec<Slot> = self.net.slots().collect();
        for slot in slots {
            let Dispatch { ctx, net, delivery, sockets, web, .. } = self;
            let (view, links) = (View { ctx, net }, &mut delivery.links);
            let link = LinkIndex::from(slot);
            // Of a sealed one the end of our direction is sent, but not of one that moves.
            let says_end = net.transports().is_sealed(slot) && net.state(slot) == State::Open;
            let is_quiet = unsent(links, net, slot) == 0 && !says_end;
            match web.stage(slot) {
                _ if sockets.is_upgraded(slot) => links.drain(view, link, 1001, ""),
                _ if !links.is_open(link) => {}
                // It is given the end of the session that it receives for, and then its own.
                _ if links.served_by(slot).is_some() => {}
                Stage::Idle | Stage::Head if is_quiet => links.cut(link),
                Stage::Idle | Stage::Head => links.drain_http(link),
                Stage::Body | Stage::Parked => {}
            }
        }
        self.end_sessions_over_http();
    }
}

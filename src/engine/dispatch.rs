#![forbid(unsafe_code)]
//! The hands of the loop: finds for each completion, entry and deadline the part that handles it,
//! and carries what one part reports to the others. Who calls whom is readable here, in `reading`
//! (what bytes become) and in `timers` (what is due) alone; the parts do not know each other but
//! downwards.

use super::bus::Bus;
use super::bus::mailbox::{Entry, ToHome, ToShard};
use super::context::Context;
use super::delivery::{Delivery, Report};
use super::net::{Client, Crowd, Input, Net, Peer, State, View};
use super::session::{Revocation, Sockets, Stomp, answer_query};
use super::share::Share;
use super::shared::Shared;
use super::web::{Stage, Web};
use crate::broker::command::{Callback, Event, ReplyTo};
use crate::broker::pattern::Budget;
use crate::ids::{ConnId, LinkIndex, ListenerId, Slot};
use crate::limits::{FAREWELL, PATTERN_STEPS_A_FRAME, WS_HEAD_MAX};
use crate::metrics::Refusal;
use crate::ring::{Op, PollEnd, RecvEnd};
use crate::time::Instant;
use crate::ws::Opcode;
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

/// A shard sends entries to itself: a round takes the classes in their order, so that a message
/// that stays on its shard is delivered in the turn it came in. More rounds than this wait a turn.
const ROUNDS: usize = 4;

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

    // ---- turns

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Instant, wall_millis: u64) {
        self.ctx.now = now;
        self.ctx.ms = now.millis() as u32;
        self.ctx.wall_millis = wall_millis;
        self.share.begin_turn(&self.ctx);
    }

    /// All that a turn does between what has come and what goes out.
    pub(super) fn run_turn(&mut self) {
        let Dispatch { ctx, net, delivery, stomp, revocation, .. } = self;
        revocation.run(stomp, delivery, View { ctx, net });
        self.hear();
        self.run_waiting();
        if !self.stomp.run_leaving(&mut self.delivery.fanout, &mut self.bus, &self.ctx) {
            // The next turn goes on with it, and does not sleep before.
            self.share.end_turn();
        }
        self.bus.announce_presence(&self.ctx);
        self.run_timers();
        self.take_entries();
        self.run_stash();
        self.run_woken();
        if self.delivery.fanout.has_batches() {
            self.delivery.fanout.end_batches(Some(self.ctx.now));
        }
        self.fan_out();
        self.feed_links();
        // Before the last of it is gone: clients that cannot be answered then are let go.
        self.delivery.links.make_room_if_wanted(&mut self.net, &self.ctx);
        self.hear();
        self.delivery.links.flush(&mut self.net, &self.ctx);
        self.hear();
        // This turn has given buffers back.
        while let Some(slot) = self.net.take_starved() {
            self.settle(slot);
        }
        // What nobody can add to is told at once: the control thread ends after the shards.
        let is_last = self.ctx.draining.is_some() && self.net.is_empty();
        let to = (self.ctx.control(), self.ctx.now);
        self.bus.tell_log(&mut self.ctx.events, to, is_last);
    }

    /// What a turn leaves behind: buffers, and what outside is known of the shard.
    pub(super) fn end_turn(&mut self) {
        let Dispatch { ctx, delivery, sockets, .. } = self;
        delivery.fanout.give_back();
        delivery.links.give_back();
        sockets.give_back();
        let metrics = &ctx.metrics;
        metrics.turns_total.add(1);
        metrics.deflates_total.set(delivery.links.deflates() + delivery.fanout.deflates());
        metrics.connections.set(self.net.len() as u64);
        metrics.segments_free.set(delivery.links.segments().free_count() as u64);
        metrics.inflate_history_bytes.set(sockets.history_bytes() as u64);
        metrics.buffered_bytes.set(self.input.held() as u64);
        metrics.subscription_groups.set(delivery.fanout.groups() as u64);
    }

    /// What the ring is to do.
    pub(super) fn ops(&mut self) -> impl Iterator<Item = Op> {
        self.net.ops()
    }

    /// Whether the next turn has something to do, whatever comes.
    pub(super) fn is_busy(&self) -> bool {
        self.delivery.links.has_dirty()
            || self.revocation.is_going_on()
            || self.share.is_turn_over()
    }

    /// Whether something could not be done because there was no room. It is tried again soon, not
    /// at once: others need the time to make it.
    pub(super) fn is_blocked(&self) -> bool {
        self.delivery.links.waiting() > 0
            || self.stomp.has_leaving()
            || !self.delivery.fanout.is_empty()
            || !self.stash.is_empty()
            || self.bus.core().has_announcements()
    }

    /// When something is due, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let times = [self.net.next_deadline(), self.delivery.fanout.batches_due()];
        times.into_iter().flatten().min()
    }

    /// Whether nobody is here any more, and nothing is left to be told.
    pub(super) fn is_deserted(&self) -> bool {
        let is_empty = self.net.is_empty() && self.stomp.is_empty() && self.ctx.events.is_empty();
        is_empty && !self.is_blocked()
    }

    // ---- connections

    /// A connection has come in.
    pub(super) fn on_accepted(&mut self, listener: ListenerId, slot: Slot, peer: SocketAddr) {
        let link = LinkIndex::from(slot);
        self.ctx.metrics.accepted_total.add(1);
        self.net.accept(slot, listener, peer, self.ctx.ms);
        self.input.open(slot);
        self.delivery.links.open(slot);
        if self.ctx.draining.is_some() {
            self.delivery.links.cut(link);
        } else {
            if !self.net.admit(&self.ctx, slot) {
                let Dispatch { ctx, net, delivery, web, .. } = self;
                web.refuse_capacity(&mut delivery.links, View { ctx, net }, slot);
            }
            self.ease_crowd(slot);
        }
        self.hear();
        self.set_timer(slot);
        self.settle(slot);
    }

    /// A connection has come: where there are many, a stranger leaves. Its slot is wanted, so
    /// that it is not waited for as long as others.
    fn ease_crowd(&mut self, newcomer: Slot) {
        let Dispatch { ctx, net, delivery, stomp, sockets, web, crowd, .. } = self;
        let is_stranger = |slot: Slot| match web.stage(slot) {
            _ if sockets.is_upgraded(slot) => {
                sockets.is_raw_stranger(slot) || stomp.is_stranger(slot.into())
            }
            Stage::Idle => delivery.links.at(slot.into()).is_empty(),
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

    /// The receive of a connection has ended.
    pub(super) fn on_receive_ended(&mut self, id: ConnId, end: RecvEnd) {
        if !self.net.is_current(id) {
            return;
        }
        self.net.receive_ended(id, end);
        match end {
            RecvEnd::Stopped => {}
            RecvEnd::Starved => self.ctx.metrics.receive_starved_total.add(1),
            RecvEnd::Eof => self.on_peer_ended(id.slot),
            RecvEnd::Failed(_) => self.delivery.links.reset(&self.ctx, id.slot.into()),
        }
        self.hear();
        self.settle(id.slot);
    }

    /// The peer has ended its direction, and the socket is read to its end.
    pub(super) fn on_peer_ended(&mut self, slot: Slot) {
        self.hang_up(slot, Peer::Ended);
        let links = &mut self.delivery.links;
        let link = LinkIndex::from(slot);
        let has_bytes = !links.at(link).is_empty();
        let is_idle = self.web.stage(slot) == Stage::Idle && !self.sockets.is_upgraded(slot);
        if links.at(link).is_paused() || links.is_ending(link) && has_bytes {
            // It may still read the answer that it asked for, and what it sent before may count.
        } else if links.is_open(link) && is_idle && has_bytes {
            links.drain_http(link);
        } else {
            links.cut(link);
        }
    }

    /// The end of the peer's direction is known. While the link is paused that ends nothing at
    /// once: who sends a request and then FIN waits for its answer, and what came before the FIN
    /// was sent in good faith. But a paused client is not listened to, so nothing else would
    /// tell that the peer has gone: after HANGUP_GRACE the connection ends, whatever it waits for.
    /// That time runs from the first news of the FIN and is never begun anew. A reset ends it at
    /// once.
    fn hang_up(&mut self, slot: Slot, peer: Peer) {
        let is_news = self.net.hang_up(slot, peer);
        if is_news && self.delivery.links.at(slot.into()).is_paused() {
            self.net.times_mut(slot).since = self.ctx.ms;
            self.set_timer(slot);
        }
    }

    /// The poll for the end of a peer is over.
    pub(super) fn on_poll_ended(&mut self, id: ConnId, end: PollEnd) {
        if !self.net.is_current(id) {
            return;
        }
        let link = LinkIndex::from(id.slot);
        self.net.poll_ended(id.slot);
        let is_here = self.net.peer(id.slot) == Peer::Here;
        let is_paused = self.delivery.links.at(link).is_paused();
        match end {
            _ if !self.delivery.links.is_open(link) => {}
            // Who is read again hears of it by its receive.
            PollEnd::HungUp if !is_paused || !is_here => {}
            PollEnd::HungUp => self.hang_up(id.slot, Peer::HungUp),
            PollEnd::Reset => self.delivery.links.reset(&self.ctx, link),
            PollEnd::Stopped => {}
        }
        self.hear();
        self.settle(id.slot);
    }

    /// A send has ended.
    pub(super) fn on_sent(&mut self, id: ConnId, result: Result<u32, i32>) {
        if !self.net.is_current(id) {
            return;
        }
        let (slot, link) = (id.slot, LinkIndex::from(id.slot));
        self.delivery.links.on_sent(&mut self.net, &self.ctx, slot, result);
        self.hear();
        if self.sockets.owes_pongs()
            && !self.delivery.links.at(link).is_sending()
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
        if !self.net.is_current(id) {
            return;
        }
        let slot = id.slot;
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
    /// again.
    fn on_session_ended(&mut self, link: LinkIndex) {
        self.share.spend_turn(self.stomp.leave(&mut self.delivery.fanout, &self.ctx, link));
        if !self.delivery.links.is_ending(link) {
            self.delivery.links.close_standalone(link);
            self.net.set_client(link, Client::NONE);
            self.input.note_link(link, 0);
        }
    }

    /// The link of a connection has ended.
    fn on_ended(&mut self, slot: Slot) {
        let link = LinkIndex::from(slot);
        self.delivery.links.lose_receiver(slot);
        self.share.spend_turn(self.stomp.leave(&mut self.delivery.fanout, &self.ctx, link));
        self.sockets.leave(slot);
        self.web.leave(slot);
        self.input.take(slot);
        let is_ending = self.delivery.links.is_ending(link);
        match self.net.state(slot) {
            State::Open if is_ending => self.net.drain(slot, self.ctx.ms),
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
        self.input.note(slot, others);
        let is_paused = self.delivery.links.at(link).is_paused();
        self.net.receive_more(slot, is_paused && self.input.waits(slot));
        if is_paused && self.net.peer(slot) != Peer::Here {
            // Its time runs already, and may be the next thing that is due.
            self.set_timer(slot);
        }
        self.try_close(slot);
    }

    /// Releases the descriptor of a connection that has been cut, when nothing of it is in the
    /// kernel any more.
    fn try_close(&mut self, slot: Slot) {
        if self.net.may_close(slot) {
            self.delivery.links.clear(slot.into());
            self.net.close(slot);
        }
    }

    // ---- entries

    /// Takes what lies in the mailboxes, of a class while there is room for what its entries
    /// produce. True if there were any.
    pub(super) fn take_entries(&mut self) -> bool {
        for round in 0..ROUNDS {
            let mut found = self.take_class(Dispatch::on_callback);
            found |= self.take_class(Dispatch::on_command);
            found |= self.take_class(Dispatch::on_entry);
            self.run_woken();
            if !found {
                return round > 0;
            }
        }
        true
    }

    /// Each is handled by `handle`, which says how many steps patterns took.
    fn take_class<E: Entry>(&mut self, handle: fn(&mut Self, E) -> u32) -> bool {
        let mut found = false;
        for peer in self.bus.mailbox().with_mail(E::CLASS) {
            let mut left = self.ctx.limits.turn_entries;
            while left > 0 {
                if !self.bus.has_room_to_take(E::CLASS) {
                    self.bus.mailbox().look_first_at(peer, E::CLASS);
                    return found;
                }
                let Some(entry) = self.bus.mailbox().take(peer) else { break };
                found = true;
                let steps = handle(self, entry);
                left = left.saturating_sub(1 + steps / PATTERN_STEPS_A_FRAME);
            }
        }
        found
    }

    fn on_callback(&mut self, callback: Callback) -> u32 {
        self.bus.on_callback(callback, &self.ctx);
        0
    }

    fn on_command(&mut self, entry: ToHome) -> u32 {
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

    fn on_entry(&mut self, entry: ToShard) -> u32 {
        match entry {
            ToShard::Event(event) => return self.on_event(event),
            ToShard::Answer { conn, items, count, cut } if self.net.is_current(conn) => {
                let links = &mut self.delivery.links;
                self.web.on_query_answer(links, conn.slot, &items, count, cut);
                self.settle(conn.slot);
            }
            ToShard::Answer { .. } => {}
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
    fn run_stash(&mut self) {
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
    fn fan_out(&mut self) -> bool {
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
                stomp.replies().deliver_to_user(delivery, view, (&message, number), only);
            }
            Event::DeliverSession { message, session, number } => {
                stomp.replies().deliver_to_session(delivery, view, (&message, number), session);
            }
            Event::Begun { session, key, refused } => {
                stomp.on_begun(delivery, view, session, key, refused);
            }
            Event::Ended { session, key } => stomp.on_ended(delivery, view, session, key),
            Event::Sequenced { reply_to, heard } => match reply_to {
                ReplyTo::None => {}
                ReplyTo::Frame(id, sequence) => {
                    stomp.replies().on_sequenced(delivery, view, id, sequence)
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
        let slots: Vec<Slot> = self.net.slots().collect();
        for slot in slots {
            let Dispatch { ctx, net, delivery, sockets, web, .. } = self;
            let (view, link, links) = (View { ctx, net }, slot.into(), &mut delivery.links);
            match web.stage(slot) {
                _ if sockets.is_upgraded(slot) => links.drain(view, link, 1001, ""),
                _ if !links.is_open(link) => {}
                Stage::Idle | Stage::Head if links.at(link).is_empty() => links.cut(link),
                Stage::Idle | Stage::Head => links.drain_http(link),
                Stage::Body | Stage::Parked => {}
            }
        }
        self.end_sessions_over_http();
    }
}

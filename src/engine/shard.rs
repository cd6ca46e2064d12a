#![forbid(unsafe_code)]
//! One shard: its loop between the ring and the parts.

use super::audit::{Audit, audit, set_gauges};
use super::bus::Bus;
use super::bus::mailbox::{Entry, Mailbox};
use super::context::Context;
use super::delivery::{Delivery, Fanout, Links};
use super::dispatch::Dispatch;
use super::events::Events;
use super::invariants::invariants;
use super::net::{Accepts, Crowd, Input, Moves, Net, Transports, View};
use super::session::{Revocation, Sockets, Stomp};
use super::share::Share;
use super::shared::Shared;
use super::web::Web;
use crate::broker::command::Callback;
use crate::ids::{BufferId, ConnId, ShardId, Slot};
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::mem::receive::ReceivePool;
use crate::mem::secret::Random;
use crate::mem::segment::Segments;
use crate::metrics::Refusal;
use crate::ring::{AcceptEnd, Done, Op, Ring, Wait};
use crate::time::{Instant, Millis};
use std::collections::VecDeque;
use std::sync::Arc;

pub use super::context::{ListenerKind, Serves};

/// What a shard is made of.
pub struct Setup {
    /// Its number.
    pub shard: ShardId,
    /// What all shards know alike.
    pub shared: Arc<Shared>,
    /// Its end of the mailboxes.
    pub mailbox: Mailbox,
    /// Its receive buffers, lent to the ring already.
    pub receive: ReceivePool,
    /// Its segments, lent to the ring already.
    pub segments: Segments,
    /// Its listeners: what each serves, and what its connections are sealed by.
    pub listeners: Vec<ListenerKind>,
    /// Descriptors that its ring can hold.
    pub slots: u32,
    /// Sessions over HTTP at most, each with a link that has no connection of its own. Nothing
    /// opens one by itself yet.
    pub sessions: u32,
    /// Gives the keys of its hash tables, which no client may know.
    pub keys: Random,
    /// Gives what clients are told: no secret comes from it.
    pub entropy: Random,
    /// What the clock shows.
    pub now: Instant,
}

/// One shard.
pub struct Shard<R: Ring> {
    ring: R,
    receive: ReceivePool,
    /// What the bytes of one receive say, where they were sealed.
    opened: Vec<u8>,
    accepts: Accepts,
    parts: Dispatch,
    /// The last turn found completions or entries.
    found_work: bool,
    /// It does not sleep before, but looks for work (`engine.spin`).
    spin_until: Instant,
}

/// What the turns before have left to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing, whatever time it is.
    Nothing,
    /// Something that had no room. It is tried again soon, not at once: others need the time to
    /// make it.
    Blocked,
    /// Something that the next turn does, whatever comes.
    Work,
}

/// A shard sends entries to itself: a round takes the classes in their order, so that a message
/// that stays on its shard is delivered in the turn it came in. More rounds than this wait a turn.
const ROUNDS: usize = 4;
/// What a shard that has drained waits at most before it looks whether the others have, too.
const DRAIN_WAIT: Millis = Millis(10);
/// What a shard waits at most when nothing is due.
const IDLE_WAIT: Millis = Millis(60_000);

impl<R: Ring> Shard<R> {
    /// A shard on its ring. It accepts from the first turn on.
    pub fn new(ring: R, setup: Setup) -> Shard<R> {
        let Setup { shard: me, shared, mailbox, receive, segments, listeners, .. } = setup;
        let Setup { slots, sessions, mut keys, entropy, now, .. } = setup;
        let limits = shared.limits.clone();
        let separator = shared.names.separator;
        let (listeners, makes) =
            listeners.into_iter().map(|kind| (kind.serves, kind.transport)).unzip();
        let bus = Bus::new(mailbox, me, separator, &limits, slots, &mut keys);
        let parts = Dispatch {
            net: Net::new(slots, now, Transports::new(makes)),
            input: Input::new(slots),
            delivery: Delivery {
                links: Links::new(segments, (slots, sessions), now),
                fanout: Fanout::new(separator, &mut keys),
            },
            stomp: Stomp::new(me, keys.key(), slots),
            sockets: Sockets::new(slots),
            web: Web::new(slots, entropy),
            bus,
            revocation: Revocation::default(),
            crowd: Crowd::default(),
            moves: Moves::default(),
            stash: VecDeque::new(),
            share: Share::default(),
            ctx: Context {
                me,
                now,
                ms: now.millis() as u32,
                wall_millis: ring.wall_millis(),
                metrics: shared.metrics.shard(me.index()).clone(),
                limits,
                shared,
                listeners,
                slots,
                can_move: ring.can_move(),
                draining: None,
                events: Events::default(),
            },
        };
        let accepts = Accepts::new(parts.ctx.listeners.len(), now);
        let (opened, found_work, spin_until) = (Vec::new(), false, now);
        let mut shard = Shard { ring, receive, opened, accepts, parts, found_work, spin_until };
        // Before the first wait, which nothing else would end.
        shard.steer_accepts();
        shard.parts.share.begin_turn(&shard.parts.ctx);
        shard.parts.configure();
        set_gauges(&shard.parts);
        shard
    }

    /// One turn of the loop. False when the shard has drained and nothing is left to do.
    pub fn turn(&mut self) -> bool {
        let was_spinning = self.is_spinning();
        let left = self.left();
        let wait = self.wait_with(left);
        let began = self.parts.ctx.now;
        self.ring.enter(wait);
        let metrics = &self.parts.ctx.metrics;
        if self.found_work {
            let took = self.ring.waited_from().0.saturating_sub(began.0);
            metrics.turn_duration.observe(took);
        }
        self.parts.bus.mailbox().awake();
        self.parts.ctx.begin_turn(self.ring.now(), self.ring.wall_millis());
        self.parts.share.begin_turn(&self.parts.ctx);
        let mut found = false;
        while let Some(done) = self.ring.pop() {
            found = true;
            self.on_done(done);
        }
        found |= self.take_entries();
        self.found_work = found;
        if found {
            let spin = self.parts.ctx.shared.config.engine.spin;
            self.spin_until = self.parts.ctx.now + spin;
        } else if was_spinning {
            self.parts.ctx.metrics.spins_total.add(1);
        }
        self.parts.share.add_rest(&self.parts.ctx);
        if found || left != Left::Nothing || self.is_due() {
            found |= self.run_turn();
            self.give_back();
        }
        self.steer_accepts();
        for op in self.parts.net.ops() {
            self.ring.push(op);
        }
        if self.parts.bus.mailbox().has_written() {
            self.ring_doorbells();
        }
        self.parts.ctx.metrics.turns_total.add(1);
        if found {
            set_gauges(&self.parts);
        }
        !self.is_over()
    }

    /// All that a turn does between what has come and what goes out. True if there was something.
    fn run_turn(&mut self) -> bool {
        let parts = &mut self.parts;
        if parts.revocation.is_going_on() {
            let Dispatch { ctx, net, delivery, stomp, revocation, .. } = parts;
            revocation.run(stomp, delivery, View { ctx, net });
        }
        parts.hear();
        if parts.delivery.links.waiting() > 0 {
            parts.run_waiting();
        }
        if parts.moves.has_waiting() {
            parts.send_moved();
        }
        if parts.stomp.has_leaving()
            && !parts.stomp.run_leaving(&mut parts.delivery.fanout, &mut parts.bus, &parts.ctx)
        {
            // The next turn goes on with it, and does not sleep before.
            parts.share.end_turn();
        }
        parts.bus.announce_presence(&parts.ctx);
        let mut found = parts.run_timers();
        found |= self.take_entries();
        let parts = &mut self.parts;
        if !parts.stash.is_empty() {
            parts.run_stash();
        }
        if parts.delivery.links.woken() > 0 {
            parts.run_woken();
        }
        if parts.delivery.fanout.has_batches() {
            found = true;
            parts.delivery.fanout.end_batches(Some(parts.ctx.now));
        }
        if !parts.delivery.fanout.is_empty() {
            parts.fan_out();
        }
        if parts.delivery.links.has_standalone() {
            parts.feed_links();
        }
        // Before the last of it is gone: clients that cannot be answered then are let go.
        parts.delivery.links.make_room_if_wanted(&mut parts.net, &parts.ctx);
        parts.hear();
        parts.delivery.links.flush(&mut parts.net, &parts.ctx);
        parts.hear();
        // This turn has given buffers back.
        while let Some(slot) = parts.net.take_starved() {
            parts.settle(slot);
        }
        // What nobody can add to is told at once: the control thread ends after the shards.
        let is_last = parts.ctx.draining.is_some() && parts.net.is_empty();
        parts.bus.tell_log(&mut parts.ctx, is_last);
        found
    }

    /// The buffers that a turn leaves behind.
    fn give_back(&mut self) {
        let Dispatch { delivery, sockets, .. } = &mut self.parts;
        delivery.fanout.give_back();
        delivery.links.give_back();
        sockets.give_back();
    }

    #[inline(never)] // Most turns write to nobody.
    fn ring_doorbells(&mut self) {
        for peer in self.parts.bus.mailbox().doorbells() {
            self.ring.push(Op::Doorbell { peer });
        }
    }

    /// What the turns before have left to do.
    fn left(&self) -> Left {
        let parts = &self.parts;
        let has_work = parts.delivery.links.has_dirty()
            || parts.revocation.is_going_on()
            || parts.share.is_turn_over();
        if has_work {
            Left::Work
        } else if self.is_blocked() {
            Left::Blocked
        } else {
            Left::Nothing
        }
    }

    /// Where nothing was left and nothing has come: whether there is something to do since it is
    /// time, or since somebody outside has done something. Most turns of an idle shard end here.
    fn is_due(&mut self) -> bool {
        let Dispatch { ctx, net, delivery, .. } = &mut self.parts;
        net.advance(ctx.now)
            || delivery.fanout.has_batches()
            || delivery.links.wants_room()
            || delivery.links.has_reports()
            || ctx.now >= ctx.events.due()
            || ctx.draining.is_some()
    }

    /// Whether something could not be done because there was no room.
    fn is_blocked(&self) -> bool {
        let parts = &self.parts;
        parts.delivery.links.waiting() > 0
            || parts.delivery.links.blocked() > 0
            || parts.stomp.has_leaving()
            || !parts.delivery.fanout.is_empty()
            || !parts.stash.is_empty()
            || parts.bus.core().has_announcements()
            || parts.bus.has_stuck_mail()
            || parts.moves.has_waiting()
    }

    /// When something is due, if nothing happens before.
    fn next_deadline(&self) -> Option<Instant> {
        let parts = &self.parts;
        match (parts.net.next_deadline(), parts.delivery.fanout.batches_due()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether nobody is here any more, and nothing is left to be told.
    fn is_deserted(&self) -> bool {
        let parts = &self.parts;
        let is_empty =
            parts.net.is_empty() && parts.stomp.is_empty() && parts.ctx.events.is_empty();
        is_empty && parts.moves.between() == 0 && !self.is_blocked()
    }

    /// Takes what lies in the mailboxes, of a class while there is room for what its entries
    /// produce. True if there were any.
    fn take_entries(&mut self) -> bool {
        for round in 0..ROUNDS {
            let found = self.parts.bus.mailbox().may_have_mail() && self.take_classes();
            self.parts.run_woken();
            if !found {
                return round > 0;
            }
        }
        true
    }

    #[inline(never)] // A turn without mail shall not pay for its frame.
    fn take_classes(&mut self) -> bool {
        let found = self.take_class(|parts: &mut Dispatch, callback: Callback| {
            parts.bus.on_callback(callback, &parts.ctx);
            0
        });
        let found = self.take_class(Dispatch::on_command) | found;
        self.take_class(Dispatch::on_entry) | found
    }

    /// Each is handled by `handle`, which says how many steps patterns took.
    fn take_class<E: Entry>(&mut self, handle: fn(&mut Dispatch, E) -> u32) -> bool {
        let mut found = false;
        for peer in self.parts.bus.mailbox().with_mail(E::CLASS) {
            let mut left = self.parts.ctx.limits.turn_entries;
            while left > 0 {
                if !self.parts.bus.has_room_to_take(E::CLASS) {
                    self.parts.bus.mailbox().found_no_room(peer, E::CLASS);
                    return found;
                }
                let Some(entry) = self.parts.bus.mailbox().take(peer) else { break };
                found = true;
                let steps = handle(&mut self.parts, entry);
                left = left.saturating_sub(1 + steps / PATTERN_STEPS_A_FRAME);
            }
        }
        found
    }

    /// How long the next entry may wait. Asked by `turn` itself, and by a thread that runs several
    /// shards on one thread, before it lets one sleep.
    pub fn wait(&mut self) -> Wait {
        let left = self.left();
        self.wait_with(left)
    }

    fn wait_with(&mut self, left: Left) -> Wait {
        // While it looks for work by itself nobody has to ring for it.
        if left == Left::Work || self.is_spinning() || !self.parts.bus.mailbox().may_sleep() {
            return Wait::No;
        }
        Wait::Until(self.wait_until(left).min(self.parts.ctx.events.due()))
    }

    /// Whether it goes on looking for work, since there was some a moment ago.
    fn is_spinning(&self) -> bool {
        self.parts.ctx.now < self.spin_until
    }

    /// When there is something to do again, if nothing happens.
    fn wait_until(&self, left: Left) -> Instant {
        let now = self.parts.ctx.now;
        let idle = if left == Left::Blocked {
            now + Millis(1)
        } else if self.parts.ctx.draining.is_some() {
            now + DRAIN_WAIT
        } else {
            self.accepts.paused_until(now).unwrap_or(now + IDLE_WAIT)
        };
        self.next_deadline().map_or(idle, |deadline| deadline.min(idle))
    }

    fn on_done(&mut self, done: Done) {
        let parts = &mut self.parts;
        match done {
            Done::Accepted { listener, slot, peer } => parts.on_accepted(listener, slot, peer),
            Done::AcceptEnded { listener, end } => {
                self.accepts.ended(listener);
                if end != AcceptEnd::Stopped {
                    self.accepts.pause(parts.ctx.now);
                    parts.ctx.refuse_for_nobody(Refusal::NetAcceptFailed);
                }
            }
            Done::Received { conn, buffer, len, more } => {
                self.on_received(conn, buffer, len, more);
            }
            Done::RecvEnded { conn, end } => parts.on_receive_ended(conn, end),
            Done::Sent { conn, result } => parts.on_sent(conn, result),
            Done::ShutDown { conn } => parts.on_shut_down(conn),
            Done::Closed { conn } => parts.on_closed(conn),
            Done::PollEnded { conn, end } => parts.on_poll_ended(conn, end),
            Done::Released { conn, result } => {
                parts.on_released(conn, result.map(|number| self.ring.own(number)));
            }
            Done::Adopted { number, result } => parts.on_adopted(number, result),
            Done::Rung => {}
        }
    }

    /// Bytes are read where they lie, and their buffer goes back at once.
    fn on_received(&mut self, id: ConnId, buffer: BufferId, len: u32, more: bool) {
        self.receive.on_received(buffer);
        let bytes = self.receive.bytes_mut(buffer, len);
        self.parts.on_received(id, bytes, &mut self.opened, more);
        self.receive.give_back(buffer);
        self.ring.push(Op::GiveBack { buffer });
    }

    /// Accepts while there are slots, stops before the table is full.
    fn steer_accepts(&mut self) {
        let ctx = &self.parts.ctx;
        let used = self.parts.net.len() as u32;
        let has_room = ctx.draining.is_none() && used + ctx.reserve() / 2 < ctx.slots;
        if self.accepts.is_steady(has_room, ctx.now) {
            return;
        }
        for op in self.accepts.steer(has_room, ctx.now) {
            self.ring.push(op);
        }
    }

    /// Whether the shard has drained and may end. All end together: a shard that still tells a
    /// home of its sessions' end needs that home.
    fn is_over(&mut self) -> bool {
        let Some(deadline) = self.parts.ctx.draining else { return false };
        let is_idle = self.is_deserted() && self.accepts.are_off();
        self.parts.bus.mailbox().all_are_over(is_idle) || self.parts.ctx.now >= deadline
    }

    /// The kernel's ring, to be looked at from outside.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Its end of the mailboxes.
    pub fn mailbox(&mut self) -> &mut Mailbox {
        self.parts.bus.mailbox()
    }

    /// Count of links that have no room for what they would seal.
    pub fn blocked(&self) -> usize {
        self.parts.delivery.links.blocked()
    }

    /// Looks at everything that it holds. Slow: it walks the tables.
    pub fn audit(&mut self) -> Audit {
        audit(&self.parts, self.receive.held())
    }

    /// Asserts that everything fits together. Slow: it walks all tables.
    pub fn invariants(&self) {
        invariants(&self.parts);
    }

    /// Begins to move one of the connections that may be moved: the next from slot `from` on. False
    /// if there is none. For the simulator, which moves more than the engine does by itself.
    pub fn move_one(&mut self, from: Slot, to: ShardId) -> bool {
        let parts = &mut self.parts;
        let (mut slots, mut first): (Vec<Slot>, Vec<Slot>) =
            parts.net.slots().partition(|slot| *slot >= from);
        slots.append(&mut first);
        to != parts.ctx.me && slots.into_iter().any(|slot| parts.begin_move(slot, to))
    }

    /// Its parts: sessions over HTTP are opened there, and tests look at them.
    pub fn parts(&mut self) -> &mut Dispatch {
        &mut self.parts
    }
}

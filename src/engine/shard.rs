#![forbid(unsafe_code)]
//! One shard: its loop between the ring and the parts.

use super::audit::{Audit, audit};
use super::bus::Bus;
use super::bus::mailbox::Mailbox;
use super::context::Context;
use super::delivery::{Delivery, Fanout, Links};
use super::dispatch::Dispatch;
use super::events::Events;
use super::invariants::invariants;
use super::net::{Accepts, Crowd, Input, Net};
use super::session::{Revocation, Sockets, Stomp};
use super::share::Share;
use super::shared::Shared;
use super::web::Web;
use crate::ids::{BufferId, ConnId, ShardId};
use crate::mem::receive::ReceivePool;
use crate::mem::secret::Random;
use crate::mem::segment::Segments;
use crate::metrics::Refusal;
use crate::ring::{AcceptEnd, Done, Op, Ring, Wait};
use crate::time::{Instant, Millis};
use std::collections::VecDeque;
use std::sync::Arc;

pub use super::context::Serves;

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
    /// Count of its listeners, and whether each serves the API and the page (the others serve
    /// endpoints and callbacks; with one kind of listener each serves everything).
    pub listeners: Vec<Serves>,
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
    accepts: Accepts,
    parts: Dispatch,
    /// The last turn found completions or entries.
    found_work: bool,
    /// It does not sleep before, but looks for work (`engine.spin`).
    spin_until: Instant,
}

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
        let bus = Bus::new(mailbox, me, separator, &limits, slots, &mut keys);
        let parts = Dispatch {
            net: Net::new(slots, now),
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
                draining: None,
                events: Events::default(),
            },
        };
        let accepts = Accepts::new(parts.ctx.listeners.len(), now);
        let mut shard = Shard { ring, receive, accepts, parts, found_work: false, spin_until: now };
        // Before the first wait, which nothing else would end.
        shard.steer_accepts();
        shard.parts.share.begin_turn(&shard.parts.ctx);
        shard.parts.configure();
        shard
    }

    /// One turn of the loop. False when the shard has drained and nothing is left to do.
    pub fn turn(&mut self) -> bool {
        let was_spinning = self.is_spinning();
        let wait = self.wait();
        let began = self.parts.ctx.now;
        self.ring.enter(wait);
        let metrics = &self.parts.ctx.metrics;
        if self.found_work {
            let took = self.ring.waited_from().0.saturating_sub(began.0);
            metrics.turn_duration.observe(took);
        }
        self.parts.bus.mailbox().awake();
        self.parts.begin_turn(self.ring.now(), self.ring.wall_millis());
        let mut found = false;
        while let Some(done) = self.ring.pop() {
            found = true;
            self.on_done(done);
        }
        found |= self.parts.take_entries();
        self.found_work = found;
        if found {
            let spin = self.parts.ctx.shared.config.engine.spin;
            self.spin_until = self.parts.ctx.now + spin;
        } else if was_spinning {
            self.parts.ctx.metrics.spins_total.add(1);
        }
        self.parts.run_turn();
        self.steer_accepts();
        for op in self.parts.ops() {
            self.ring.push(op);
        }
        for peer in self.parts.bus.mailbox().doorbells() {
            self.ring.push(Op::Doorbell { peer });
        }
        self.parts.end_turn();
        !self.is_over()
    }

    /// How long the next entry may wait. Asked by `turn` itself, and by a thread that runs several
    /// shards on one thread, before it lets one sleep.
    pub fn wait(&mut self) -> Wait {
        // While it looks for work by itself nobody has to ring for it.
        let is_busy = self.parts.is_busy() || self.is_spinning();
        if is_busy || !self.parts.bus.mailbox().may_sleep() {
            return Wait::No;
        }
        Wait::Until(self.wait_until().min(self.parts.ctx.events.due()))
    }

    /// Whether it goes on looking for work, since there was some a moment ago.
    fn is_spinning(&self) -> bool {
        self.parts.ctx.now < self.spin_until
    }

    /// When there is something to do again, if nothing happens.
    fn wait_until(&self) -> Instant {
        let now = self.parts.ctx.now;
        let idle = if self.parts.is_blocked() {
            now + Millis(1)
        } else if self.parts.ctx.draining.is_some() {
            now + DRAIN_WAIT
        } else {
            self.accepts.paused_until(now).unwrap_or(now + IDLE_WAIT)
        };
        self.parts.next_deadline().map_or(idle, |deadline| deadline.min(idle))
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
            Done::Rung => {}
        }
    }

    /// Bytes are read where they lie, and their buffer goes back at once.
    fn on_received(&mut self, id: ConnId, buffer: BufferId, len: u32, more: bool) {
        self.receive.on_received(buffer);
        self.parts.on_received(id, self.receive.bytes_mut(buffer, len), more);
        self.receive.give_back(buffer);
        self.ring.push(Op::GiveBack { buffer });
    }

    /// Accepts while there are slots, stops before the table is full.
    fn steer_accepts(&mut self) {
        let ctx = &self.parts.ctx;
        let used = self.parts.net.len() as u32;
        let has_room = ctx.draining.is_none() && used + ctx.reserve() / 2 < ctx.slots;
        for op in self.accepts.steer(has_room, ctx.now) {
            self.ring.push(op);
        }
    }

    /// Whether the shard has drained and may end. All end together: a shard that still tells a
    /// home of its sessions' end needs that home.
    fn is_over(&mut self) -> bool {
        let Some(deadline) = self.parts.ctx.draining else { return false };
        let (now, shards) = (self.parts.ctx.now, usize::from(self.parts.ctx.shared.shards));
        if self.parts.is_deserted() && self.accepts.are_off() {
            self.parts.bus.mailbox().finish();
        }
        self.parts.bus.mailbox().all_finished(shards) || now >= deadline
    }

    /// The kernel's ring, to be looked at from outside.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Its end of the mailboxes.
    pub fn mailbox(&mut self) -> &mut Mailbox {
        self.parts.bus.mailbox()
    }

    /// Looks at everything that it holds. Slow: it walks the tables.
    pub fn audit(&mut self) -> Audit {
        audit(&self.parts, self.receive.held())
    }

    /// Asserts that everything fits together. Slow: it walks all tables.
    pub fn invariants(&self) {
        invariants(&self.parts);
    }

    /// Its parts: sessions over HTTP are opened there, and tests look at them.
    pub fn parts(&mut self) -> &mut Dispatch {
        &mut self.parts
    }
}

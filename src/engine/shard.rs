#![forbid(unsafe_code)]
//! One shard: its loop, and everything it owns.

use super::conn::{Conns, Pause, Peer, State};
use super::encode::Encoder;
use super::events::Events;
use super::fanout::Fanout;
use super::mailbox::Mailbox;
use super::session::Sessions;
use super::shared::Shared;
use super::shed::Shedding;
use crate::broker::command::Event;
use crate::broker::core::Core;
use crate::broker::message;
use crate::broker::subscription::Index;
use crate::ids::{BufferId, ConnId, ListenerId, PeerId, SessionIndex, ShardId, Slot};
use crate::limits::{Limits, WS_HEAD_MAX};
use crate::mem::receive::ReceivePool;
use crate::mem::secret::Random;
use crate::mem::segment::Segments;
use crate::mem::wheel::Wheel;
use crate::metrics::{Refusal, ShardMetrics};
use crate::ring::{AcceptEnd, Done, Op, RecvEnd, Ring, Wait};
use crate::time::{Instant, Millis};
use crate::ws;
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

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
    /// Gives the keys of its hash tables, which no client may know.
    pub keys: Random,
    /// Gives what clients are told: no secret comes from it.
    pub entropy: Random,
    /// What the clock shows.
    pub now: Instant,
}

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

/// One shard.
pub struct Shard<R: Ring> {
    pub(super) ring: R,
    pub(super) me: ShardId,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
    pub(super) now: Instant,
    pub(super) mailbox: Mailbox,
    pub(super) conns: Conns,
    pub(super) sessions: Sessions,
    pub(super) segments: Segments,
    /// Away only while bytes of it are being read.
    pub(super) receive: Option<ReceivePool>,
    pub(super) index: Index,
    pub(super) fanout: Fanout,
    /// The homes that are here.
    pub(super) core: Core,
    pub(super) blocks: message::Pool,
    pub(super) wheel: Wheel,
    pub(super) encoder: Encoder,
    pub(super) sockjs_messages: crate::sockjs::Messages,
    pub(super) inflater: ws::Inflater,
    pub(super) inflated: Vec<u8>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) listeners: Vec<Serves>,
    pub(super) events: Events,
    accepting: Vec<Accepting>,
    /// Nothing is accepted before.
    accept_after: Instant,
    pub(super) slots: u32,
    /// Who leaves when there are many connections.
    pub(super) crowd: super::crowd::Crowd,
    /// Slots whose outbox has something to begin.
    pub(super) dirty: VecDeque<Slot>,
    /// Connections that wait for room.
    pub(super) waiting: VecDeque<ConnId>,
    /// Connections paused whose answer has come.
    pub(super) answered: VecDeque<ConnId>,
    /// Deliveries and changes of subscriptions that wait for segments, in order.
    pub(super) stash: VecDeque<Event>,
    /// Sessions whose end is not known everywhere.
    pub(super) leaving: VecDeque<SessionIndex>,
    starved: Vec<ConnId>,
    pub(super) gathered: Vec<u8>,
    pub(super) shedding: Shedding,
    pub(super) scratch: Vec<u8>,
    pub(super) entropy: Random,
    /// The second that the date was made for, and the date as HTTP writes it.
    pub(super) date: (u64, String),
    /// Frames that the connection which is being read may still have handled before the others.
    pub(super) frames_left: u32,
    /// Steps that patterns have taken for the frame or entry that is being handled.
    pub(super) steps: u32,
    /// What all connections together may still do in this turn.
    pub(super) turn_left: u32,
    /// Subscriptions of all sessions.
    pub(super) subscriptions: u32,
    /// Those of them to broker destinations that their home has not answered yet.
    pub(super) beginning: u32,
    /// The pool had no room: somebody has to part with some.
    pub(super) needs_room: bool,
    /// When room was made last.
    room_made: Instant,
    /// Bytes that connections hold.
    pub(super) buffered: usize,
    pub(super) draining: Option<Instant>,
    /// Sessions below this index have yet to be compared with rules that have changed.
    pub(super) revoke_below: u32,
    /// The last turn found completions or entries.
    found_work: bool,
    /// It does not sleep before, but looks for work (`engine.spin`).
    spin_until: Instant,
}

/// A listener's accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Off,
    On,
    Stopping,
}

/// After an accept that failed.
const ACCEPT_PAUSE: Millis = Millis(100);
/// What a shard that has drained waits at most before it looks whether the others have, too.
const DRAIN_WAIT: Millis = Millis(10);
/// A pool that stays short is looked through so often at most: all connections are looked at.
const ROOM_PAUSE: Millis = Millis(10);
/// The same while somebody waits for room. Those who make them wait stand still for longer.
const ROOM_PAUSE_WANTED: Millis = Millis(4);
/// What a shard waits at most when nothing is due.
const IDLE_WAIT: Millis = Millis(60_000);

impl<R: Ring> Shard<R> {
    /// A shard on its ring. It accepts from the first turn on.
    pub fn new(ring: R, setup: Setup) -> Shard<R> {
        let Setup { shard: me, shared, mailbox, receive, segments, listeners, .. } = setup;
        let Setup { slots, mut keys, entropy, now, .. } = setup;
        let limits = shared.limits.clone();
        let separator = shared.names.separator;
        let mut shard = Shard {
            ring,
            me,
            metrics: shared.metrics.shard(me.index()).clone(),
            now,
            mailbox,
            conns: Conns::with_capacity(slots),
            sessions: Sessions::new(me, keys.key(), slots),
            segments,
            receive: Some(receive),
            index: Index::new(separator, &mut keys),
            fanout: Fanout::default(),
            core: Core::new(me, separator, &limits, slots, &mut keys),
            blocks: message::Pool::new(limits.message_blocks, limits.message_bytes),
            wheel: Wheel::new(now.millis(), slots as usize),
            encoder: Encoder::default(),
            sockjs_messages: crate::sockjs::Messages::default(),
            inflater: ws::Inflater::new(),
            inflated: Vec::new(),
            accepting: vec![Accepting::Off; listeners.len()],
            accept_after: now,
            crowd: super::crowd::Crowd::default(),
            listeners,
            slots,
            dirty: VecDeque::new(),
            waiting: VecDeque::new(),
            answered: VecDeque::new(),
            stash: VecDeque::new(),
            leaving: VecDeque::new(),
            starved: Vec::new(),
            gathered: Vec::new(),
            shedding: Shedding::default(),
            scratch: Vec::new(),
            events: Events::default(),
            entropy,
            date: (0, String::new()),
            frames_left: 0,
            steps: 0,
            turn_left: 1,
            subscriptions: 0,
            beginning: 0,
            needs_room: false,
            room_made: now,
            buffered: 0,
            draining: None,
            revoke_below: 0,
            found_work: false,
            spin_until: now,
            limits,
            shared,
        };
        // Before the first wait, which nothing else would end.
        shard.steer_accepts();
        shard.compress_from();
        shard
    }

    /// Tells those who encode, and those who have room for it, what the limits say.
    pub(super) fn compress_from(&mut self) {
        self.encoder.compress_from(self.limits.deflate_min);
        self.fanout.compress_from(self.limits.deflate_min);
        self.segments.expect_answers(self.limits.message as usize + WS_HEAD_MAX);
    }

    /// One turn of the loop. False when the shard has drained and nothing is left to do.
    pub fn turn(&mut self) -> bool {
        let was_spinning = self.is_spinning();
        let wait = self.wait();
        let began = self.now;
        self.ring.enter(wait);
        if self.found_work {
            let took = self.ring.waited_from().0.saturating_sub(began.0);
            self.metrics.turn_duration.observe(took);
        }
        self.mailbox.awake();
        self.now = self.ring.now();
        self.turn_left = self.limits.turn_frames / 2;
        let mut found = false;
        while let Some(done) = self.ring.pop() {
            found = true;
            self.on_done(done);
        }
        found |= self.take_entries();
        self.found_work = found;
        if found {
            self.spin_until = self.now + self.shared.config.engine.spin;
        } else if was_spinning {
            self.metrics.spins_total.add(1);
        }
        self.run_revoking();
        self.run_waiting();
        self.run_leaving();
        self.announce_presence();
        self.run_timers();
        self.take_entries();
        self.run_stash();
        if !self.fanout.batches.is_empty() {
            self.fanout.end_batches(&mut self.index, Some(self.now));
        }
        self.fan_out();
        // Before the last of it is gone: whoever cannot be answered then is let go.
        let pause = if self.needs_room { ROOM_PAUSE_WANTED } else { ROOM_PAUSE };
        let wanted = self.needs_room || self.segments.is_short();
        if wanted && self.now >= self.room_made + pause {
            self.needs_room = false;
            self.room_made = self.now;
            self.make_room();
        }
        self.flush();
        self.feed_starved();
        self.steer_accepts();
        self.tell_log();
        for peer in self.mailbox.doorbells() {
            self.ring.push(Op::Doorbell { peer });
        }
        self.fanout.give_back();
        self.encoder.give_back();
        self.publish_gauges();
        !self.is_over()
    }

    /// How long the next entry may wait. Asked by `turn` itself, and by whoever runs several shards
    /// on one thread, before it lets one sleep.
    pub fn wait(&mut self) -> Wait {
        // While it looks for work by itself nobody has to ring for it.
        let is_busy = !self.dirty.is_empty()
            || self.revoke_below > 0
            || self.turn_left == 0
            || self.is_spinning();
        if is_busy || !self.mailbox.may_sleep() {
            return Wait::No;
        }
        let until = self.wait_until().min(self.events.due());
        Wait::Until(self.fanout.batches.due().map_or(until, |due| due.min(until)))
    }

    /// Whether it goes on looking for work, since there was some a moment ago.
    fn is_spinning(&self) -> bool {
        self.now < self.spin_until
    }

    /// When there is something to do again, if nothing happens and no batch ends.
    fn wait_until(&self) -> Instant {
        // What could not be done for want of room is tried again soon, not at once: others need the
        // time to make it.
        let blocked = !self.waiting.is_empty()
            || !self.leaving.is_empty()
            || !self.fanout.is_empty()
            || !self.stash.is_empty()
            || self.core.has_announcements();
        if blocked {
            return self.now + Millis(1);
        }
        if self.draining.is_some() {
            return self.now + DRAIN_WAIT;
        }
        let paused = self.accept_after > self.now;
        let idle = if paused { self.accept_after } else { self.now + IDLE_WAIT };
        let tick = self.wheel.next_deadline_millis().map(|ms| Instant(ms * 1_000_000));
        tick.map_or(idle, |tick| tick.min(idle))
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Accepted { listener, slot, peer } => self.on_accepted(listener, slot, peer),
            Done::AcceptEnded { listener, end } => self.on_accept_ended(listener, end),
            Done::Received { conn, buffer, len, more } => self.on_received(conn, buffer, len, more),
            Done::RecvEnded { conn, end } => self.on_recv_ended(conn, end),
            Done::Sent { conn, result } => self.on_sent(conn, result),
            Done::ShutDown { conn } => self.on_shut_down(conn),
            Done::Closed { conn } => self.on_closed(conn),
            Done::PollEnded { conn, end } => self.on_poll_ended(conn, end),
            Done::Rung => {}
        }
    }

    fn on_accepted(&mut self, listener: ListenerId, slot: Slot, peer: SocketAddr) {
        self.metrics.accepted_total.add(1);
        let id = self.conns.open(slot, listener, peer, self.ms());
        self.receive_more(id);
        if self.draining.is_some() {
            self.terminate(slot);
            return;
        }
        if !self.admit_connection(slot) {
            self.refuse_capacity(slot);
        }
        self.ease_crowd(slot);
        self.set_timer(slot);
    }

    /// Slots kept free for connections that are told 503.
    pub(super) fn reserve(&self) -> u32 {
        (self.slots / 8).min(64)
    }

    fn on_accept_ended(&mut self, listener: ListenerId, end: AcceptEnd) {
        self.accepting[listener.0 as usize] = Accepting::Off;
        if end != AcceptEnd::Stopped {
            // Whatever it was is not over in the next turn.
            self.accept_after = self.now + ACCEPT_PAUSE;
            self.refuse_for_nobody(Refusal::NetAcceptFailed);
        }
    }

    /// Accepts while there are slots, stops before the table is full.
    fn steer_accepts(&mut self) {
        let used = self.conns.len() as u32;
        let room = self.draining.is_none()
            && used + self.reserve() / 2 < self.slots
            && self.now >= self.accept_after;
        for at in 0..self.accepting.len() {
            let listener = ListenerId(at as u8);
            match (self.accepting[at], room) {
                (Accepting::Off, true) => {
                    self.accepting[at] = Accepting::On;
                    self.ring.push(Op::Accept { listener });
                }
                (Accepting::On, false) => {
                    self.accepting[at] = Accepting::Stopping;
                    self.ring.push(Op::AcceptStop { listener });
                }
                _ => {}
            }
        }
    }

    fn on_received(&mut self, id: ConnId, buffer: BufferId, len: u32, more: bool) {
        // The pool is taken out while its bytes are read, so that everything else can be changed.
        let mut pool = self.receive.take().expect("only this function takes it");
        pool.on_received(buffer);
        if let Some(conn) = self.conns.find(id) {
            conn.receiving = more;
            if !more {
                conn.receive_stopping = false;
            }
            self.metrics.received_bytes_total.add(u64::from(len));
            self.take_bytes(id.slot, pool.bytes_mut(buffer, len));
        }
        pool.give_back(buffer);
        self.ring.push(Op::GiveBack { buffer });
        self.receive = Some(pool);
        self.after_input(id);
    }

    fn on_recv_ended(&mut self, id: ConnId, end: RecvEnd) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.receiving = false;
        conn.receive_stopping = false;
        match end {
            RecvEnd::Stopped => {}
            RecvEnd::Starved => {
                self.metrics.receive_starved_total.add(1);
                conn.starved = true;
                self.starved.push(id);
            }
            RecvEnd::Eof => self.on_peer_ended(id.slot),
            RecvEnd::Failed(_) => {
                conn.peer = Peer::Ended;
                self.reset(id.slot);
            }
        }
        self.after_input(id);
    }

    /// Goes on after input or its end: receives again, or joins a connection that is being cut.
    pub(super) fn after_input(&mut self, id: ConnId) {
        if self.conns.find(id).is_some() {
            self.receive_more(id);
            self.join(id.slot);
        }
    }

    /// Arms the receive where one is wanted and none is armed. Paused with bytes that wait none
    /// is, so the end of the peer is polled for. The poll stays when the connection is read again:
    /// it costs nothing until it is wanted again.
    pub(super) fn receive_more(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        let may_read = matches!(conn.state, State::Open | State::Draining)
            && conn.peer != Peer::Ended
            && !conn.starved
            && !conn.receiving;
        if !may_read {
            return;
        }
        if conn.pause == Pause::No || conn.tail.is_empty() {
            conn.receiving = true;
            self.ring.push(Op::Recv { conn: id });
        } else if !conn.watched && conn.peer == Peer::Here {
            conn.watched = true;
            self.ring.push(Op::Poll { conn: id });
        }
    }

    /// Sockets that found no buffer are tried again: this turn has given buffers back.
    fn feed_starved(&mut self) {
        for id in core::mem::take(&mut self.starved) {
            if let Some(conn) = self.conns.find(id) {
                conn.starved = false;
                self.receive_more(id);
            }
        }
    }

    /// The clock in milliseconds, as connections keep it: it wraps, so only differences count.
    pub(super) fn ms(&self) -> u32 {
        self.now.millis() as u32
    }

    /// What the listener of a connection serves.
    pub(super) fn serves(&self, slot: Slot) -> Serves {
        self.listeners[self.conns.at(slot).listener.0 as usize]
    }

    /// The control thread's place in the mailboxes.
    pub(super) fn control(&self) -> PeerId {
        PeerId(self.shared.shards)
    }

    fn publish_gauges(&mut self) {
        let metrics = &self.metrics;
        metrics.turns_total.add(1);
        metrics.deflates_total.set(self.encoder.deflates() + self.fanout.deflates());
        metrics.connections.set(self.conns.len() as u64);
        metrics.segments_free.set(self.segments.free_count() as u64);
        metrics.inflate_history_bytes.set(self.conns.histories.bytes() as u64);
        metrics.buffered_bytes.set(self.buffered as u64);
        metrics.subscription_groups.set(self.index.len() as u64);
    }

    /// Whether the shard has drained and may end. All end together: whoever still tells a home of
    /// its sessions' end needs that home.
    fn is_over(&mut self) -> bool {
        let Some(deadline) = self.draining else { return false };
        let gone = self.conns.is_empty() && self.sessions.len() == 0 && self.events.is_empty();
        if gone && self.accepting.iter().all(|accepting| *accepting == Accepting::Off) {
            self.mailbox.finish();
        }
        self.mailbox.all_finished(self.shared.shards as usize) || self.now >= deadline
    }

    /// Asks for the kernel's ring, for whoever looks at it from outside.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }
}

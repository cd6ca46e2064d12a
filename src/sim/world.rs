//! The simulated machine: its clock, its connections, and the kernels of its rings.
//!
//! Time moves only when `advance` is called. A client reaches the listener of the ring that it
//! names, as if SO_REUSEPORT had chosen it.

use super::adrift::Adrift;
use super::counts::{Counts, Event};
use super::faults::FaultRates;
use super::kernel::{Kernel, Outside, Setup};
use super::mutation::Mutation;
use super::random::Random;
use super::socket::{Read, Socket, SocketId};
use crate::ids::{PeerId, Slot};
use crate::ring::{Descriptor, Done, Op, Wait};
use crate::time::{Instant, Millis};
use core::net::SocketAddr;

/// Wall time at the beginning of every run: 2025-01-01 UTC.
const WALL_START_MILLIS: u64 = 1_735_689_600_000;

/// A ring's clock when it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) wall_millis: u64,
}

/// The machine.
#[derive(Debug)]
pub struct World {
    /// The run's randomness.
    pub random: Random,
    /// Counts of what has happened.
    pub counts: Counts,
    /// The added bug, until it has happened.
    pub mutation: Option<Mutation>,
    fault_rates: FaultRates,
    kernels: Vec<Kernel>,
    sockets: Vec<Socket>,
    adrift: Adrift,
    now: Instant,
    wall_millis: u64,
    /// The clock has just jumped: no ring may be late with what was there before.
    jumped: bool,
    rung: Vec<PeerId>,
    outsiders_rung: Vec<PeerId>,
    operations: u64,
    digest: u64,
    /// What happened, line by line, if it is recorded.
    trace: Option<Vec<String>>,
    /// The run stops after this many operations.
    pub(super) until: Option<u64>,
}

impl World {
    /// An empty machine; everything else follows from the seed.
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let fault_rates = FaultRates::draw(&mut random);
        World {
            random,
            counts: Counts::default(),
            mutation: None,
            fault_rates,
            kernels: Vec::new(),
            sockets: Vec::new(),
            adrift: Adrift::default(),
            now: Instant(1_000_000_000),
            wall_millis: WALL_START_MILLIS,
            jumped: false,
            rung: Vec::new(),
            outsiders_rung: Vec::new(),
            operations: 0,
            digest: 0,
            trace: None,
            until: None,
        }
    }

    /// Records what happens from now on.
    pub fn start_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The record.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// Whether a record is made.
    pub(super) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Records a line.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12} {}", self.now.0 / 1000, line()));
        }
    }

    /// Replaces the seed's fault rates.
    pub fn set_fault_rates(&mut self, fault_rates: FaultRates) {
        self.fault_rates = fault_rates;
    }

    /// Adds the kernel of one more ring, whose number is the count of rings before.
    pub fn add_ring(&mut self, setup: Setup) -> usize {
        let number = self.kernels.len();
        self.kernels.push(Kernel::new(PeerId(number as u8), setup));
        number
    }

    /// The clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Time passes.
    pub fn advance(&mut self, nanos: u64) {
        self.now = Instant(self.now.0 + nanos);
        self.wall_millis = WALL_START_MILLIS + self.now.millis();
    }

    /// The monotonic clock jumps, as after the machine was suspended.
    pub fn jump(&mut self, millis: u64) {
        self.counts.note(Event::ClockJump);
        self.advance(millis * 1_000_000);
        self.jumped = true;
    }

    /// Operations that rings have requested.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Whether the run is to stop here.
    pub(super) fn is_to_stop(&self) -> bool {
        self.until.is_some_and(|until| self.operations >= until)
    }

    /// A checksum of all operations and completions: equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn note(&mut self, ring: usize, code: u64, a: u64, b: u64) {
        for value in [ring as u64 ^ code << 8, a, b] {
            self.digest = (self.digest ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
        }
    }

    fn with<T>(&mut self, ring: usize, act: impl FnOnce(&mut Kernel, &mut Outside<'_>) -> T) -> T {
        self.adrift.settle(&mut self.sockets, &mut self.random, &mut self.counts);
        let mut outside = Outside {
            random: &mut self.random,
            counts: &mut self.counts,
            fault_rates: &self.fault_rates,
            sockets: &mut self.sockets,
            adrift: &mut self.adrift,
            now: self.now,
            mutation: &mut self.mutation,
            rung: &mut self.rung,
        };
        let result = act(&mut self.kernels[ring], &mut outside);
        self.deliver_doorbells();
        result
    }

    fn deliver_doorbells(&mut self) {
        while let Some(peer) = self.rung.pop() {
            let unheard = self.mutation == Some(Mutation::Wake) && self.random.chance(20);
            if unheard {
                self.mutation = None;
                continue;
            }
            match self.kernels.get_mut(peer.index()) {
                Some(kernel) => kernel.ring(&mut self.counts),
                None => self.outsiders_rung.push(peer),
            }
        }
    }

    /// A ring queues an operation.
    pub(super) fn push(&mut self, ring: usize, op: Op) {
        self.operations += 1;
        self.tell(|| format!("ring {ring} push {op:?}"));
        let (code, a, b) = op_numbers(op);
        self.note(ring, code, a, b);
        self.with(ring, |kernel, outside| kernel.push(op, outside));
    }

    /// A ring enters its kernel.
    pub(super) fn enter(&mut self, ring: usize, wait: Wait) -> Clock {
        let late = if self.jumped { 0 } else { self.fault_rates.late };
        let now = self.now;
        self.with(ring, |kernel, outside| {
            kernel.enters += 1;
            kernel.submit(outside);
            kernel.progress(outside);
            kernel.completions.release(late, outside.random, outside.counts);
            let nothing = kernel.completions.gives_nothing();
            if nothing && matches!(wait, Wait::Until(until) if until > now) {
                outside.counts.note(Event::SpuriousWake);
            }
        });
        let mut wall_millis = self.wall_millis;
        if self.random.chance(1) {
            // The wall clock is set wrong, and then right again.
            self.counts.note(Event::WallJump);
            wall_millis = wall_millis + self.random.below(20_000) - 10_000;
        }
        Clock { now: self.now, wall_millis }
    }

    /// A ring pops a completion.
    pub(super) fn pop(&mut self, ring: usize) -> Option<Done> {
        let kernel = &mut self.kernels[ring];
        let done = kernel.completions.pop()?;
        if let Done::Sent { conn, .. } = done {
            kernel.slots[conn.slot.index()].sent_told = kernel.enters;
        }
        self.tell(|| format!("ring {ring} pop  {done:?}"));
        let (code, a, b) = done_numbers(done);
        self.note(ring, code, a, b);
        Some(done)
    }

    /// How late a wait ends that no completion ends.
    pub(super) fn oversleep(&mut self) -> Millis {
        let most = u64::from(self.fault_rates.oversleep);
        Millis(self.random.below(most + 1) as u32)
    }

    /// The owner of a number that a ring has released.
    pub(super) fn own(&self, number: i32) -> Descriptor {
        self.adrift.own(number)
    }

    /// Passes what a ring has queued to its kernel, as the `enter` does in which its shard is about
    /// to wait.
    pub fn submit(&mut self, ring: usize) {
        self.with(ring, |kernel, outside| kernel.submit(outside));
    }

    /// Whether a wait of this ring would end now because of a completion.
    pub fn is_ready(&mut self, ring: usize) -> bool {
        self.with(ring, |kernel, outside| {
            kernel.progress(outside);
            kernel.completions.count() > 0
        })
    }

    /// Whether a kernel may have more to do by itself.
    pub fn is_busy(&self, ring: usize) -> bool {
        let kernel = &self.kernels[ring];
        kernel.poked || kernel.completions.count() > 0
    }

    /// All rings have handled what was there before the clock jumped.
    pub fn end_jump(&mut self) {
        self.jumped = false;
    }

    /// Whether the clock has just jumped.
    pub fn has_jumped(&self) -> bool {
        self.jumped
    }

    /// Whether a ring's kernel has nothing of its engine any more.
    pub fn is_idle(&self, ring: usize) -> bool {
        self.kernels[ring].is_idle()
    }

    /// Count of receive buffers that a ring's kernel has.
    pub fn buffers_lent(&self, ring: usize) -> usize {
        self.kernels[ring].buffers_lent()
    }

    /// A peer without a ring rings.
    pub fn ring_from_outside(&mut self, peer: PeerId) {
        self.rung.push(peer);
        self.deliver_doorbells();
    }

    /// A peer without a ring that was rung.
    pub fn rung_outsider(&mut self) -> Option<PeerId> {
        self.outsiders_rung.pop()
    }

    /// The process behind a ring has ended: its connections are reset.
    pub fn end_ring(&mut self, ring: usize) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.ring == ring) {
            if !socket.closed {
                socket.refuse();
            }
        }
    }

    /// A client connects to a listener of a ring.
    pub fn connect(&mut self, ring: usize, listener: usize, peer: SocketAddr) -> SocketId {
        let id = SocketId(self.sockets.len());
        self.tell(|| format!("client {} connects to ring {ring} from {peer}", id.0));
        let mut socket = Socket::new(ring, peer, &mut self.random);
        socket.sealed = listener != 0;
        self.sockets.push(socket);
        let kernel = &mut self.kernels[ring];
        kernel.listeners[listener].backlog.push_back(id);
        kernel.poked = true;
        id
    }

    /// Replaces a connection's random queue sizes: bytes in, bytes out.
    #[cfg(test)]
    pub(super) fn size_socket(&mut self, id: SocketId, inbound: usize, outbound: usize) {
        let socket = &mut self.sockets[id.0];
        (socket.inbound_max, socket.outbound_max) = (inbound, outbound);
    }

    /// A client writes. `None` if the connection is broken, else the count of bytes that had room.
    pub fn write(&mut self, id: SocketId, bytes: &[u8]) -> Option<usize> {
        self.poke(id);
        self.sockets[id.0].write(bytes)
    }

    /// A client reads at most `max` bytes.
    pub fn read(&mut self, id: SocketId, max: usize, into: &mut Vec<u8>) -> Read {
        let read = self.sockets[id.0].read(max, into);
        if matches!(read, Read::Some(_)) {
            self.poke(id);
        }
        read
    }

    /// Whether a read would return something.
    pub fn can_read(&self, id: SocketId) -> bool {
        let socket = &self.sockets[id.0];
        !socket.outbound.is_empty() || socket.outbound_ended || socket.client_broken
    }

    /// Whether a write would have room, or find the connection broken.
    pub fn can_write(&self, id: SocketId) -> bool {
        let socket = &self.sockets[id.0];
        socket.closed || socket.client_broken || socket.inbound.len() < socket.inbound_max
    }

    /// A client ends its direction.
    pub fn end(&mut self, id: SocketId) {
        self.counts.note(Event::HalfClose);
        self.sockets[id.0].end_inbound();
        self.poke(id);
    }

    /// A client releases its descriptor.
    pub fn leave(&mut self, id: SocketId, reset: bool) {
        self.tell(|| format!("client {} leaves, by a reset: {reset}", id.0));
        if reset {
            self.counts.note(Event::ConnectionReset);
            self.counts.add(Event::ResetAdrift, self.adrift.has(id).into());
        }
        self.sockets[id.0].leave(reset);
        self.sockets[id.0].gone_at = Some(self.now);
        self.poke(id);
    }

    /// The ring that has a connection in its table, and its slot there.
    pub(super) fn place(&self, id: SocketId) -> Option<(usize, Slot)> {
        let socket = &self.sockets[id.0];
        Some((socket.ring, socket.slot?))
    }

    /// Whether the server has released its descriptor of a connection.
    pub fn is_closed(&self, id: SocketId) -> bool {
        self.sockets[id.0].closed
    }

    /// A connection that a ring still has although its client has been gone for this long, and its
    /// shard has had time since then.
    pub(super) fn overdue(&self, ring: usize, since: Instant, nanos: u64) -> Option<String> {
        let late = |id: &SocketId| {
            let socket = &self.sockets[id.0];
            let since = since.max(socket.came_at);
            socket.gone_at.is_some_and(|gone_at| self.now.0 > gone_at.max(since).0 + nanos)
        };
        let late = self.kernels[ring].slots.iter().filter_map(|slot| slot.socket).find(late)?;
        Some(format!("{}: {}", late.0, self.sockets[late.0].tell()))
    }

    /// A connection that is in no table, and has not been for this long, although all shards have
    /// had time since then.
    pub(super) fn forgotten(&self, since: Instant, nanos: u64) -> Option<String> {
        let before = self.now.0.checked_sub(nanos).filter(|before| *before > since.0)?;
        let id = self.adrift.released_before(Instant(before))?;
        Some(format!("{}: {}", id.0, self.sockets[id.0].tell()))
    }

    /// Count of connections that are not over on both sides.
    pub fn open_connections(&self) -> usize {
        self.sockets.iter().filter(|socket| !socket.is_over()).count()
    }

    /// Those connections, with the state of both sides.
    pub(super) fn open_sockets(&self) -> Vec<String> {
        let open = self.sockets.iter().enumerate().filter(|(_, socket)| !socket.is_over());
        open.map(|(id, socket)| format!("{id}: {}", socket.tell())).collect()
    }

    fn poke(&mut self, id: SocketId) {
        let socket = &self.sockets[id.0];
        self.kernels[socket.ring].poked |= socket.slot.is_some();
    }
}

fn op_numbers(op: Op) -> (u64, u64, u64) {
    let of = |slot: u32, generation: u32| u64::from(slot) << 32 | u64::from(generation);
    match op {
        Op::Accept { listener } => (1, listener.0.into(), 0),
        Op::AcceptStop { listener } => (2, listener.0.into(), 0),
        Op::Recv { conn } => (3, of(conn.slot.0, conn.generation), 0),
        Op::RecvStop { conn } => (4, of(conn.slot.0, conn.generation), 0),
        Op::GiveBack { buffer } => (5, buffer.0.into(), 0),
        Op::Send { conn, range } => {
            (6, of(conn.slot.0, conn.generation), of(range.segment ^ range.len << 8, range.offset))
        }
        Op::SendCancel { conn } => (7, of(conn.slot.0, conn.generation), 0),
        Op::Shutdown { conn } => (8, of(conn.slot.0, conn.generation), 0),
        Op::ShutdownWrite { conn } => (9, of(conn.slot.0, conn.generation), 0),
        Op::Close { conn } => (10, of(conn.slot.0, conn.generation), 0),
        Op::Doorbell { peer } => (11, peer.0.into(), 0),
        Op::Poll { conn } => (12, of(conn.slot.0, conn.generation), 0),
        Op::PollStop { conn } => (13, of(conn.slot.0, conn.generation), 0),
        Op::Release { conn } => (14, of(conn.slot.0, conn.generation), 0),
        Op::Adopt { number } => (15, number as u64, 0),
    }
}

fn number_of(result: Result<i32, i32>) -> u64 {
    result.map_or(u64::MAX, |number| number as u64)
}

fn done_numbers(done: Done) -> (u64, u64, u64) {
    match done {
        Done::Accepted { slot, peer, .. } => (20, slot.0.into(), peer.port().into()),
        Done::AcceptEnded { listener, .. } => (21, listener.0.into(), 0),
        Done::Received { conn, buffer, len, more } => (
            22,
            conn.slot.0.into(),
            u64::from(buffer.0) << 33 | u64::from(len) << 1 | u64::from(more),
        ),
        Done::RecvEnded { conn, .. } => (23, conn.slot.0.into(), 0),
        Done::Sent { conn, result } => (24, conn.slot.0.into(), result.map_or(u64::MAX, u64::from)),
        Done::ShutDown { conn } => (25, conn.slot.0.into(), 0),
        Done::Closed { conn } => (26, conn.slot.0.into(), 0),
        Done::Rung => (27, 0, 0),
        Done::PollEnded { conn, .. } => (28, conn.slot.0.into(), 0),
        Done::Released { conn, result } => (29, conn.slot.0.into(), number_of(result)),
        Done::Adopted { number, result } => {
            (30, number as u64, number_of(result.map(|slot| slot.0 as i32)))
        }
    }
}

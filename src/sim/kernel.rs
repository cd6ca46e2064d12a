//! The fake kernel of one ring: its table of descriptors, and how operations begin.
//!
//! Besides doing what a kernel does it checks the promises of the seam (the same that `ring::Uring`
//! checks): one receive, one send and one shutdown in flight per connection, nothing in flight at a
//! close, buffers given back once, generations that change between two uses of a slot.
//! `progress.rs` has what happens over time, `completion.rs` when completions are reported.

use super::adrift::Adrift;
use super::completion::{Completions, Key};
use super::counts::{Counts, Event};
use super::faults::FaultRates;
use super::mutation::Mutation;
use super::random::Random;
use super::socket::{Socket, SocketId};
use crate::ids::{ConnId, PeerId};
use crate::mem::region::Region;
use crate::ring::{AcceptEnd, Done, Op, PollEnd, Range, RecvEnd};
use crate::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;

/// ECANCELED.
pub(super) const CANCELED: i32 = 125;
/// EPIPE.
pub(super) const BROKEN_PIPE: i32 = 32;
/// EMFILE.
const TOO_MANY: i32 = 24;
/// ECONNRESET.
pub(super) const RESET: i32 = 104;

/// The setup of a ring of the fake kernel.
#[derive(Debug)]
pub struct Setup {
    /// Memory of the receive buffers.
    pub receive: Arc<Region>,
    /// Count of receive buffers.
    pub receive_buffers: u32,
    /// Bytes of one receive buffer.
    pub receive_bytes: u32,
    /// Memory of the segments.
    pub segments: Arc<Region>,
    /// Bytes of one segment.
    pub segment_size: u32,
    /// Descriptor slots.
    pub slots: u32,
    /// Count of listeners.
    pub listeners: u32,
    /// Operations that are queued before the kernel is entered.
    pub submission_entries: u32,
    /// Completions that are queued before multishot operations end.
    pub completion_entries: u32,
    /// Sends that are queued before the kernel is entered.
    pub send_chunk: u32,
}

/// The world around a kernel while it works.
pub(super) struct Outside<'a> {
    pub(super) random: &'a mut Random,
    pub(super) counts: &'a mut Counts,
    pub(super) fault_rates: &'a FaultRates,
    pub(super) sockets: &'a mut [Socket],
    pub(super) adrift: &'a mut Adrift,
    pub(super) now: Instant,
    pub(super) mutation: &'a mut Option<Mutation>,
    /// Peers that were rung.
    pub(super) rung: &'a mut Vec<PeerId>,
}

/// A send that is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) range: Range,
    pub(super) taken: u32,
    /// It has waited for a full socket, which is counted once.
    pub(super) parked: bool,
    /// How often the kernel has tried it.
    pub(super) looks: u32,
}

/// One place in the table of descriptors.
#[derive(Debug, Default)]
pub(super) struct SlotState {
    pub(super) socket: Option<SocketId>,
    /// Its connection is sealed.
    pub(super) sealed: bool,
    /// The engine's id of the connection; known from its first operation on.
    pub(super) conn: Option<ConnId>,
    last_generation: Option<u32>,
    pub(super) receiving: bool,
    /// The end of the stream, or its failure, was reported.
    pub(super) receive_over: bool,
    pub(super) sending: Option<Sending>,
    /// A poll for the end of the peer is armed.
    pub(super) polling: bool,
    /// A shutdown is in flight; true for both directions.
    pub(super) shutting: Option<bool>,
    /// Both directions were shut down.
    pub(super) shut: bool,
    /// The entry that handed out the last `Sent`.
    pub(super) sent_told: u64,
}

impl SlotState {
    /// The generation of its previous use, if there was one.
    pub(super) fn former(&self) -> Option<u32> {
        self.last_generation
    }
}

/// A listening socket.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) armed: bool,
    pub(super) backlog: VecDeque<SocketId>,
}

/// One ring's kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) me: PeerId,
    pub(super) setup: Setup,
    pub(super) slots: Vec<SlotState>,
    pub(super) listeners: Vec<Listener>,
    /// Receive buffers that may be filled, in the order in which they were given.
    pub(super) free_buffers: VecDeque<u16>,
    /// Per buffer: whether it is the kernel's.
    pub(super) lent: Vec<bool>,
    queued: Vec<Op>,
    sends_queued: u32,
    pub(super) completions: Completions,
    /// Something has changed since the last check.
    pub(super) poked: bool,
    /// Entries so far.
    pub(super) enters: u64,
}

impl Kernel {
    pub(super) fn new(me: PeerId, setup: Setup) -> Kernel {
        Kernel {
            me,
            slots: (0..setup.slots).map(|_| SlotState::default()).collect(),
            listeners: (0..setup.listeners).map(|_| Listener::default()).collect(),
            free_buffers: (0..setup.receive_buffers as u16).collect(),
            lent: vec![true; setup.receive_buffers as usize],
            queued: Vec::new(),
            sends_queued: 0,
            completions: Completions::default(),
            poked: false,
            enters: 0,
            setup,
        }
    }

    /// Queues an operation, and enters the kernel when the queue or the chunk of sends is full.
    pub(super) fn push(&mut self, op: Op, outside: &mut Outside<'_>) {
        if self.queued.len() >= self.setup.submission_entries as usize {
            self.submit(outside);
        }
        self.queued.push(op);
        if matches!(op, Op::Send { .. }) {
            self.sends_queued += 1;
            if self.sends_queued >= self.setup.send_chunk {
                self.submit(outside);
            }
        }
    }

    /// Starts everything that is queued, in its order.
    pub(super) fn submit(&mut self, outside: &mut Outside<'_>) {
        self.sends_queued = 0;
        let mut queued = core::mem::take(&mut self.queued);
        for op in queued.drain(..) {
            self.start(op, outside);
            self.poked = true;
        }
        self.queued = queued;
    }

    fn start(&mut self, op: Op, outside: &mut Outside<'_>) {
        match op {
            Op::Accept { listener } => {
                let listener = &mut self.listeners[usize::from(listener.0)];
                assert!(!listener.armed, "a listener accepts once");
                listener.armed = true;
            }
            Op::AcceptStop { listener } => {
                let state = &mut self.listeners[usize::from(listener.0)];
                if core::mem::take(&mut state.armed) {
                    let end = AcceptEnd::Stopped;
                    self.completions.push(Key::Life, Done::AcceptEnded { listener, end });
                }
            }
            Op::Recv { conn } => {
                let slot = self.named(conn);
                assert!(!slot.receiving, "{conn:?}: one receive at a time");
                assert!(!slot.receive_over, "{conn:?}: nothing is received after the end");
                slot.receiving = true;
            }
            Op::RecvStop { conn } => self.stop_receive(conn, outside),
            Op::GiveBack { buffer } => self.take_back(buffer.0, outside),
            Op::Send { conn, range } => self.start_send(conn, range, outside),
            Op::SendCancel { conn } => self.cancel_send(conn, outside),
            Op::Poll { conn } => {
                let slot = self.named(conn);
                assert!(!slot.polling, "{conn:?}: one poll at a time");
                slot.polling = true;
            }
            Op::PollStop { conn } => {
                if core::mem::take(&mut self.named(conn).polling) {
                    outside.counts.note(Event::PollStopped);
                    let end = PollEnd::Stopped;
                    self.completions.push(Key::Poll(conn.slot), Done::PollEnded { conn, end });
                }
            }
            Op::Shutdown { conn } => self.start_shutdown(conn, true),
            Op::ShutdownWrite { conn } => self.start_shutdown(conn, false),
            Op::Close { conn } => self.close(conn, outside),
            Op::Release { conn } => self.release(conn, outside),
            Op::Adopt { number } => self.adopt(number, outside),
            Op::Doorbell { peer } => {
                assert_ne!(peer, self.me, "a thread does not ring its own doorbell");
                outside.rung.push(peer);
            }
        }
    }

    /// The slot of a connection; checks that the engine uses one id for all its life.
    fn named(&mut self, conn: ConnId) -> &mut SlotState {
        let slot = &mut self.slots[conn.slot.index()];
        assert!(slot.socket.is_some(), "{conn:?}: the slot is empty");
        match slot.conn {
            Some(known) => assert_eq!(known, conn, "an operation of an earlier use of the slot"),
            None => {
                let last = slot.last_generation;
                assert_ne!(last, Some(conn.generation), "{conn:?}: the generation goes up");
                slot.conn = Some(conn);
            }
        }
        slot
    }

    fn stop_receive(&mut self, conn: ConnId, outside: &mut Outside<'_>) {
        if !self.named(conn).receiving {
            return;
        }
        if outside.random.chance(outside.fault_rates.after_stop) {
            let before = self.completions.count();
            self.receive(conn.slot, outside);
            if self.completions.count() > before {
                outside.counts.note(Event::ReceiveAfterStop);
            }
        }
        let slot = &mut self.slots[conn.slot.index()];
        if core::mem::take(&mut slot.receiving) {
            let end = RecvEnd::Stopped;
            self.completions.push(Key::Receive(conn.slot), Done::RecvEnded { conn, end });
        }
    }

    fn take_back(&mut self, buffer: u16, outside: &mut Outside<'_>) {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!*lent, "buffer {buffer} is given back once");
        if outside.mutation.take_if(|m| *m == Mutation::Leak).is_some() {
            return;
        }
        *lent = true;
        self.free_buffers.push_back(buffer);
    }

    fn start_send(&mut self, conn: ConnId, range: Range, outside: &mut Outside<'_>) {
        assert!(range.len > 0, "a send has at least one byte");
        assert!(range.offset + range.len <= self.setup.segment_size, "{range:?} lies in a segment");
        let enters = self.enters;
        let slot = self.named(conn);
        assert!(slot.sending.is_none(), "{conn:?}: one send at a time");
        if slot.sent_told == enters {
            outside.counts.note(Event::SendBehindSend);
        }
        slot.sending = Some(Sending { range, taken: 0, parked: false, looks: 0 });
        // The kernel tries it at once.
        if !outside.random.chance(outside.fault_rates.late_send) {
            self.send(conn.slot, outside);
        }
    }

    fn cancel_send(&mut self, conn: ConnId, outside: &mut Outside<'_>) {
        let slot = self.named(conn);
        let (sending, sealed) = (slot.sending.take(), slot.sealed);
        let Some(sending) = sending else { return };
        let result = match sending.taken {
            // `Uring` reports that nothing was taken; the seam allows the errno, too.
            0 if outside.random.chance(500) => Err(CANCELED),
            taken => Ok(taken),
        };
        outside.counts.add(Event::SealedCancelled, u64::from(sealed));
        let is_unsent = |m: &mut Mutation| sealed && *m == Mutation::Unsent;
        let result = match outside.mutation.take_if(is_unsent) {
            Some(_) => Ok(sending.range.len),
            None => result,
        };
        let begun = sending.taken > 0;
        outside.counts.note(if begun { Event::CancelPartly } else { Event::CancelNotBegun });
        self.completions.push(Key::Send(conn.slot), Done::Sent { conn, result });
    }

    fn start_shutdown(&mut self, conn: ConnId, both: bool) {
        let slot = self.named(conn);
        assert!(slot.shutting.is_none(), "{conn:?}: one shutdown at a time");
        if !both {
            assert!(slot.sending.is_none(), "{conn:?}: our FIN under a send in flight");
        }
        slot.shutting = Some(both);
    }

    fn close(&mut self, conn: ConnId, outside: &mut Outside<'_>) {
        let id = self.leave_slot(conn);
        assert!(!outside.adrift.has(id), "{conn:?}: close while a number keeps it open");
        outside.sockets[id.0].close(outside.random, outside.counts);
        self.completions.push(Key::Life, Done::Closed { conn });
    }

    /// A connection of which nothing is in flight leaves its slot.
    fn leave_slot(&mut self, conn: ConnId) -> SocketId {
        let slot = self.named(conn);
        // With an armed receive the slot would become free, but the peer would see no FIN.
        assert!(!slot.receiving, "{conn:?}: close under an armed receive");
        assert!(slot.sending.is_none(), "{conn:?}: close under a send");
        assert!(slot.shutting.is_none(), "{conn:?}: close under a shutdown");
        assert!(!slot.polling, "{conn:?}: close under a poll");
        let id = slot.socket.take().expect("`named` has seen it");
        *slot = SlotState { last_generation: Some(conn.generation), ..SlotState::default() };
        id
    }

    fn release(&mut self, conn: ConnId, outside: &mut Outside<'_>) {
        let slot = self.named(conn);
        assert!(!slot.shut && !slot.receive_over, "{conn:?}: released after an end");
        let result = if outside.random.chance(outside.fault_rates.release_fails) {
            outside.counts.note(Event::ReleaseFails);
            Err(TOO_MANY)
        } else {
            outside.counts.note(Event::Released);
            let id = self.leave_slot(conn);
            outside.sockets[id.0].slot = None;
            Ok(outside.adrift.number(id, outside.now))
        };
        self.completions.push(Key::Life, Done::Released { conn, result });
    }

    /// Its doorbell was rung.
    pub(super) fn ring(&mut self, counts: &mut Counts) {
        if self.is_overflown() {
            counts.note(Event::DoorbellIntoFullQueue);
        }
        self.completions.push(Key::Doorbell, Done::Rung);
    }

    /// Whether more completions wait than the queue has entries.
    pub(super) fn is_overflown(&self) -> bool {
        self.completions.count() >= self.setup.completion_entries as usize
    }

    /// Whether the kernel no longer uses the engine's memory (except receive buffers) or has any of
    /// its sockets.
    pub(super) fn is_idle(&self) -> bool {
        let free = |slot: &SlotState| slot.socket.is_none();
        self.queued.is_empty() && self.completions.are_doorbells() && self.slots.iter().all(free)
    }

    /// Count of receive buffers that the kernel has.
    pub(super) fn buffers_lent(&self) -> usize {
        self.lent.iter().filter(|lent| **lent).count()
    }
}

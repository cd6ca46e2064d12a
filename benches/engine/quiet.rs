//! A kernel without a network: it takes every byte at once, and delivers what it is given. All
//! instructions that are counted on it are the engine's own.

use ringpush::ids::{BufferId, ConnId, ListenerId, Slot};
use ringpush::mem::region::Region;
use ringpush::ring::{Descriptor, Done, Op, RecvEnd, Ring, Wait};
use ringpush::time::{Instant, Millis};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// Wall time of every run: 2025-01-01 UTC.
const WALL_MILLIS: u64 = 1_735_689_600_000;

/// The kernel of one shard.
pub struct Quiet {
    receive: Arc<Region>,
    receive_bytes: usize,
    segments: Arc<Region>,
    segment_size: usize,
    done: VecDeque<Done>,
    free: VecDeque<u16>,
    now: Instant,
    /// The last entry found nothing, and its shard would have waited for long.
    pub idle: bool,
    /// Sends so far.
    pub sends: u64,
    /// Bytes sent so far.
    pub bytes: u64,
    /// The watched slot, and the bytes sent to it.
    pub watched: Slot,
    /// Bytes that the watched connection was sent.
    pub seen: Vec<u8>,
}

impl Quiet {
    pub fn new(
        receive: Arc<Region>,
        (buffers, receive_bytes): (u32, u32),
        segments: Arc<Region>,
        segment_size: u32,
    ) -> Quiet {
        Quiet {
            receive,
            receive_bytes: receive_bytes as usize,
            segments,
            segment_size: segment_size as usize,
            // No entry makes more completions than connections, so it never grows during a count.
            done: VecDeque::with_capacity(1 << 16),
            free: (0..buffers as u16).collect(),
            now: Instant(1_000_000_000),
            idle: false,
            sends: 0,
            bytes: 0,
            watched: Slot(0),
            seen: Vec::with_capacity(1 << 20),
        }
    }

    /// A client has connected; its slot has to be free.
    pub fn accept(&mut self, slot: Slot, peer: SocketAddr) {
        self.done.push_back(Done::Accepted { listener: ListenerId(0), slot, peer });
    }

    /// A client has sent bytes.
    #[expect(unsafe_code, reason = "it is a kernel")]
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        for chunk in bytes.chunks(self.receive_bytes) {
            let buffer = self.free.pop_front().expect("few are used at once");
            let at = usize::from(buffer) * self.receive_bytes;
            // SAFETY: a free buffer is lent to this ring until it is `Received`.
            unsafe { self.receive.kernel_write(at, chunk) };
            let (buffer, len) = (BufferId(buffer), chunk.len() as u32);
            self.done.push_back(Done::Received { conn, buffer, len, more: true });
        }
    }

    /// Time passes; it stands still otherwise.
    pub fn advance(&mut self, span: Millis) {
        self.now = self.now + span;
    }
}

impl Ring for Quiet {
    #[expect(unsafe_code, reason = "it is a kernel")]
    fn push(&mut self, op: Op) {
        match op {
            Op::Send { conn, range } => {
                self.sends += 1;
                self.bytes += u64::from(range.len);
                if conn.slot == self.watched {
                    let at = range.segment as usize * self.segment_size + range.offset as usize;
                    // SAFETY: the range is lent until it is `Sent`.
                    unsafe { self.segments.kernel_read(at, range.len as usize, &mut self.seen) };
                }
                self.done.push_back(Done::Sent { conn, result: Ok(range.len) });
            }
            Op::GiveBack { buffer } => self.free.push_back(buffer.0),
            Op::Shutdown { conn } => {
                self.done.push_back(Done::RecvEnded { conn, end: RecvEnd::Stopped });
                self.done.push_back(Done::ShutDown { conn });
            }
            Op::ShutdownWrite { conn } => self.done.push_back(Done::ShutDown { conn }),
            Op::Close { conn } => self.done.push_back(Done::Closed { conn }),
            // Receives and accepts are always armed. The shards run one after the other, so none
            // needs a doorbell.
            Op::Recv { .. } | Op::Accept { .. } | Op::Doorbell { .. } => {}
            Op::RecvStop { .. }
            | Op::SendCancel { .. }
            | Op::AcceptStop { .. }
            | Op::Release { .. }
            | Op::Adopt { .. }
            | Op::Poll { .. }
            | Op::PollStop { .. } => {
                panic!("{op:?}: everything is taken at once, so nothing has to be stopped")
            }
        }
    }

    fn enter(&mut self, wait: Wait) {
        let soon = self.now + Millis(2);
        self.idle = self.done.is_empty() && matches!(wait, Wait::Until(until) if until > soon);
    }

    fn pop(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    fn can_move(&self) -> bool {
        false
    }

    fn own(&mut self, number: i32) -> Descriptor {
        panic!("{number}: nothing moves")
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn waited_from(&self) -> Instant {
        self.now
    }

    fn wall_millis(&self) -> u64 {
        WALL_MILLIS
    }
}

//! The ring on io_uring: entry into the kernel, and its end. `start.rs` starts it, `ops.rs` turns
//! each [`Op`] into an entry, `completion.rs` turns completions into `Done`s.
//!
//! ```text
//!  push(Op) ─▶ submission queue ─▶ enter ─▶ kernel ─▶ completion queue ─▶ pop() ─▶ Done
//!                    │ full, or `send_chunk` sends        │ half full at a submission
//!                    └────────▶ enter without waiting     └────────▶ spill (memory) ─▶ pop()
//! ```
//!
//! Peers' addresses: a multishot accept does not return them, so each accepted descriptor is asked
//! for its peer's address before `Done::Accepted`.
#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::clock::{Clock, monotonic};
use super::moving::Moving;
use super::names::Names;
use super::own_fd::unregister_ring_fd;
use super::probe::Flavor;
use super::slots::Slots;
use super::token::{Kind, Token};
use super::{AcceptEnd, Descriptor, Done, Doorbells, Op, Ring, Wait};
use crate::ids::PeerId;
use crate::mem::region::Region;
use crate::time::Instant;
use core::marker::PhantomData;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How often the kernel may refuse a submission because memory is short before the ring panics.
const REFUSALS_MAX: u32 = 10_000;
/// How long the end of a ring waits for the kernel to stop using its memory, per turn and in turns.
const LET_GO_NANOS: u64 = 20_000_000;
const LET_GO_TURNS: u32 = 100;

/// Counters of a ring, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Entries into the kernel.
    pub enters: u64,
    /// Operations submitted.
    pub submitted: u64,
    /// Completions read.
    pub completed: u64,
    /// Entries at which the completion queue had overflowed (this loses nothing).
    pub overflows: u64,
    /// Completions that had to be moved out of the queue.
    pub spilled: u64,
    /// Receives that found no free buffer.
    pub starved: u64,
    /// Connections that were gone before their peer's address was known.
    pub nameless: u64,
    /// Multishot operations that the kernel ended without being asked and without an error.
    pub ended_multishots: u64,
    /// Doorbells that could not be rung because their ring had ended.
    pub unheard: u64,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) fd: OwnedFd,
    /// Bytes of an address of its family: the kernel wants the exact number.
    pub(super) name_len: u32,
    /// Whether `AcceptEnded` is owed.
    pub(super) armed: bool,
    /// Accepted descriptors whose peer's address is being asked for.
    pub(super) naming: u32,
    /// The accept has ended, but `naming` is not zero yet.
    pub(super) ended: Option<AcceptEnd>,
}

/// A ring on io_uring. Made on the thread that uses it, and used there only (the kernel refuses
/// other threads; the type is not `Send`).
///
/// ```compile_fail,E0277
/// fn to_another_thread<T: Send>(_: T) {}
/// fn example(ring: ringpush::ring::Uring) {
///     to_another_thread(ring);
/// }
/// ```
pub struct Uring {
    pub(super) ring: IoUring,
    /// What to enter: the registered index of the ring, or its descriptor.
    pub(super) enter_fd: i32,
    /// `REGISTERED_RING` or nothing.
    pub(super) enter_flags: EnterFlags,
    pub(super) flavor: Flavor,
    pub(super) buffers: Buffers,
    pub(super) slots: Slots,
    pub(super) segments: Arc<Region>,
    pub(super) segment_size: u32,
    pub(super) names: Names,
    pub(super) moving: Moving,
    pub(super) listeners: Vec<Listener>,
    pub(super) doorbells: Doorbells,
    pub(super) peer: PeerId,
    pub(super) send_chunk: u32,
    /// Sends pushed since the last entry.
    pub(super) sends_queued: u32,
    /// Completions that were moved out of the queue; older than those in it.
    pub(super) spill: VecDeque<cqueue::Entry>,
    /// A second answer of the completion that was popped last.
    pub(super) after: Option<Done>,
    pub(super) clock: Clock,
    pub(super) stats: RingStats,
    /// The kernel binds the ring to its thread.
    pub(super) not_send: PhantomData<*const ()>,
}

impl Uring {
    /// The kind of ring that the kernel granted.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Count of descriptor slots.
    pub fn slots(&self) -> u32 {
        self.slots.count()
    }

    /// Entries of the submission and of the completion queue that the kernel granted.
    pub fn entries(&self) -> (u32, u32) {
        (self.ring.params().sq_entries(), self.ring.params().cq_entries())
    }

    /// Counters from the start of the ring.
    pub fn stats(&self) -> &RingStats {
        &self.stats
    }

    /// Queues an entry; enters the kernel first if the queue is full.
    ///
    /// The memory that `entry` names must be lent to the ring until the completion. All callers are
    /// in `ops.rs`, where each says what keeps that memory valid.
    pub(super) fn queue(&mut self, entry: &squeue::Entry) {
        if self.ring.submission().is_full() {
            self.submit(None);
        }
        // SAFETY: by the contract of this function; the memory stays valid until the completion,
        // or until the end of the ring, which waits for it (`drop`).
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("a queue that was submitted has room");
    }

    /// Counts a queued send, and enters the kernel after `send_chunk` of them, so that a large
    /// fan-out does not keep completions waiting.
    pub(super) fn count_send(&mut self) {
        self.sends_queued += 1;
        if self.sends_queued >= self.send_chunk {
            self.submit(None);
        }
    }

    /// Submits everything, and waits for a completion for at most the given time.
    fn submit(&mut self, wait_nanos: Option<u64>) {
        self.sends_queued = 0;
        self.buffers.publish();
        let mut refusals = 0;
        loop {
            let submission = self.ring.submission();
            let queued = submission.len() as u32;
            let is_kernel_busy = submission.taskrun() || submission.cq_overflow();
            drop(submission);
            // While the kernel has deferred work, completions appear only after an entry.
            if queued == 0 && wait_nanos.is_none() && !is_kernel_busy {
                return;
            }
            self.make_room(queued);
            self.stats.enters += 1;
            match self.enter_kernel(queued, wait_nanos) {
                Ok(submitted) => {
                    self.stats.submitted += u64::from(submitted);
                    if submitted == queued {
                        break;
                    }
                }
                Err(libc::ETIME) => break,
                // A signal: the wait is over, but the queue must still be submitted.
                Err(libc::EINTR) if queued == 0 => break,
                Err(libc::EINTR) => {}
                // The kernel has no memory, or (before 5.19) its completions must be read first.
                Err(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {
                    refusals += 1;
                    assert!(refusals < REFUSALS_MAX, "the kernel has no memory for operations");
                    self.spill();
                }
                Err(libc::EEXIST) => panic!("a ring is entered by the thread that made it"),
                Err(libc::EBADR) => panic!("the kernel had no memory and lost completions"),
                Err(errno) => panic!("io_uring_enter: {}", io::Error::from_raw_os_error(errno)),
            }
        }
        if self.ring.submission().cq_overflow() {
            self.stats.overflows += 1;
        }
    }

    /// Moves completions aside if those of the next entry might not fit.
    fn make_room(&mut self, queued: u32) {
        let completion = self.ring.completion();
        if completion.len() + queued as usize > completion.capacity() / 2 {
            drop(completion);
            self.spill();
        }
    }

    fn spill(&mut self) {
        let before = self.spill.len();
        self.spill.extend(self.ring.completion());
        self.stats.spilled += (self.spill.len() - before) as u64;
    }

    /// One io_uring_enter. Always asks for completions (GETEVENTS): otherwise the kernel would not
    /// run its deferred work.
    fn enter_kernel(&self, to_submit: u32, wait_nanos: Option<u64>) -> Result<u32, i32> {
        let mut flags = self.enter_flags | EnterFlags::GETEVENTS;
        let (seconds, nanos) = {
            let nanos = wait_nanos.unwrap_or(0);
            (nanos / 1_000_000_000, (nanos % 1_000_000_000) as u32)
        };
        let timeout = types::Timespec::new().sec(seconds).nsec(nanos);
        let args = types::SubmitArgs::new().timespec(&timeout);
        let (mut argument, mut size) = (core::ptr::null(), 0);
        if wait_nanos.is_some() {
            flags |= EnterFlags::EXT_ARG;
            (argument, size) = (core::ptr::from_ref(&args), size_of_val(&args));
        }
        let min_complete = u32::from(wait_nanos.is_some());
        // SAFETY: `enter_fd` is this ring, open as long as `self`; the argument is null or points
        // to `args` (and that to `timeout`), which live until the call returns. What queued entries
        // name is lent to the ring (`queue`).
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                min_complete,
                flags.bits(),
                argument,
                size,
            )
        };
        // A negative result is -1, with errno.
        u32::try_from(result).map_err(|_| errno())
    }

    /// The next completion, oldest first.
    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        if let Some(entry) = self.spill.pop_front() {
            return Some(entry);
        }
        self.ring.completion().next()
    }

    /// Cancels everything and waits until the kernel no longer uses this process's memory. False if
    /// that takes too long.
    fn let_go(&mut self) -> bool {
        let everything = types::CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(everything).build();
        self.queue(&entry.user_data(Token::new(Kind::Cancel, 0, 0).pack()));
        for _ in 0..LET_GO_TURNS {
            self.submit(Some(LET_GO_NANOS));
            while let Some(completion) = self.next_completion() {
                let token = self.settle(&completion);
                let number = u32::try_from(completion.result());
                match (token.kind, number) {
                    // It has no owner else, and would stay open.
                    (Kind::Number, Ok(number)) => self.moving.numbered(token.conn(), number),
                    (Kind::Adopt, _) => {
                        self.moving.give_back(token.number as u8);
                    }
                    _ => {}
                }
            }
            if self.slots.lent() == 0 && self.moving.lent() == 0 {
                return true;
            }
        }
        false
    }
}

impl Ring for Uring {
    fn push(&mut self, op: Op) {
        self.start_operation(op);
    }

    fn enter(&mut self, wait: Wait) {
        let is_answer_here = self.after.is_some() || !self.spill.is_empty();
        let wait_nanos = match wait {
            Wait::Until(until) if !is_answer_here => {
                let now = monotonic();
                (until > now).then(|| until.0 - now.0)
            }
            _ => None,
        };
        self.submit(wait_nanos);
        self.clock.read();
        self.clock.waited_from = match (wait, wait_nanos) {
            (Wait::Until(until), Some(nanos)) => Instant(until.0 - nanos),
            _ => self.clock.now,
        };
    }

    fn pop(&mut self) -> Option<Done> {
        if self.after.is_some() {
            return self.after.take();
        }
        loop {
            let completion = self.next_completion()?;
            self.stats.completed += 1;
            if let Some(done) = self.complete(&completion) {
                return Some(done);
            }
        }
    }

    fn now(&self) -> Instant {
        self.clock.now
    }

    fn can_move(&self) -> bool {
        self.moving.is_possible
    }

    fn own(&mut self, number: i32) -> Descriptor {
        self.moving.claim(number).into()
    }

    fn waited_from(&self) -> Instant {
        self.clock.waited_from
    }

    fn wall_millis(&self) -> u64 {
        self.clock.wall_millis
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.doorbells.retire(self.peer);
        // After the ring's descriptor is closed the kernel cancels what is in flight in its own
        // time; the memory must not be used for anything else before.
        if std::thread::panicking() || !self.let_go() {
            core::mem::forget(Arc::clone(&self.segments));
            core::mem::forget(self.names.memory.lend());
            core::mem::forget(self.moving.memory.lend());
            self.buffers.leak();
        }
        if self.enter_flags.contains(EnterFlags::REGISTERED_RING) {
            unregister_ring_fd(&self.ring, self.enter_fd);
        }
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().expect("the last error is an errno")
}

#[cfg(test)]
mod tests {
    use super::super::listen::{self, SendBound};
    use super::super::{Setup, start};
    use super::*;
    use crate::ids::{ListenerId, Slot};
    use crate::mem::region::Owner;
    use crate::time::Millis;
    use core::net::SocketAddr;
    use std::net::TcpStream;

    fn ring(slots: u32) -> (Uring, SocketAddr) {
        let (address, listeners) =
            listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, SendBound::Kernel)
                .expect("a free port");
        let memory = Owner::new(4096).expect("memory");
        let setup = Setup {
            submission_entries: 8,
            completion_entries: 32,
            slots,
            receive: memory.lend(),
            receive_buffers: 4,
            receive_bytes: 64,
            segments: memory.lend(),
            segment_size: 64,
            listeners,
            send_chunk: 4,
            doorbells: Doorbells::new(1).expect("an eventfd"),
            peer: PeerId(0),
            flavor: None,
        };
        (start(setup).expect("this kernel has io_uring"), address)
    }

    #[test]
    fn a_connection_without_a_name_is_closed() {
        let (mut ring, address) = ring(1);
        // The kernel refuses a length that is wrong for the family, so the address stays unknown.
        let name_len = core::mem::replace(&mut ring.listeners[0].name_len, 30);
        ring.push(Op::Accept { listener: ListenerId(0) });
        ring.enter(Wait::No);
        let _nameless = TcpStream::connect(address).expect("the ring listens");
        let deadline = ring.now() + Millis::seconds(20);
        while ring.stats().nameless == 0 || ring.slots.any(Slot(0), u8::MAX) {
            assert!(ring.now() < deadline, "{:?}", ring.stats());
            ring.enter(Wait::Until(deadline));
            assert_eq!(ring.pop(), None, "the engine is not told");
        }
        // The only slot is free again.
        ring.listeners[0].name_len = name_len;
        let named = TcpStream::connect(address).expect("the ring listens");
        let accepted = loop {
            ring.enter(Wait::Until(deadline));
            if let Some(done) = ring.pop() {
                break done;
            }
            assert!(ring.now() < deadline);
        };
        let peer = named.local_addr().expect("connected");
        assert_eq!(accepted, Done::Accepted { listener: ListenerId(0), slot: Slot(0), peer });
    }

    #[test]
    fn signals_end_a_wait_and_lose_nothing() {
        extern "C" fn ignore(_signal: libc::c_int) {}
        let handler: extern "C" fn(libc::c_int) = ignore;
        // SAFETY: the handler does nothing, and nobody else in this process uses SIGURG.
        unsafe { libc::signal(libc::SIGURG, handler as libc::sighandler_t) };
        let (mut ring, address) = ring(8);
        // SAFETY: takes no memory.
        let this = unsafe { libc::pthread_self() };
        let is_over = Arc::new(core::sync::atomic::AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let storm = std::thread::spawn(move || {
            while !over.load(core::sync::atomic::Ordering::Relaxed) {
                // SAFETY: the thread lives: it joins this one.
                unsafe { libc::pthread_kill(this, libc::SIGURG) };
                std::thread::yield_now();
            }
        });
        ring.push(Op::Accept { listener: ListenerId(0) });
        let start = ring.now();
        let mut clients = Vec::new();
        let mut accepted = 0;
        while accepted < 5 || ring.now() < start + Millis(50) {
            if clients.len() < 5 {
                clients.push(TcpStream::connect(address).expect("the ring listens"));
            }
            ring.enter(Wait::Until(start + Millis(20_000)));
            while let Some(done) = ring.pop() {
                assert!(matches!(done, Done::Accepted { .. }), "{done:?}");
                accepted += 1;
            }
            assert!(ring.now() < start + Millis(20_000));
        }
        is_over.store(true, core::sync::atomic::Ordering::Relaxed);
        storm.join().expect("no panic");
        assert_eq!(accepted, 5);
    }
}

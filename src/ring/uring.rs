//! The ring on io_uring: start, entry into the kernel, end. What an [`Op`] becomes stands in
//! `ops.rs`, what a completion becomes in `completion.rs`.
//!
//! ```text
//!  push(Op) ─▶ submission queue ─▶ enter ─▶ kernel ─▶ completion queue ─▶ pop() ─▶ Done
//!                    │ full, or `send_chunk` sends        │ half full at a submission
//!                    └────────▶ enter without waiting     └────────▶ spill (memory) ─▶ pop()
//! ```
//!
//! Peers' addresses: a multishot accept does not tell them, so each accepted descriptor is asked
//! for its own before `Done::Accepted`.
#![allow(unsafe_code)]

use super::buffers::{Buffers, GROUP};
use super::clock::{Clock, monotonic};
use super::probe::{self, Flavor, StartError};
use super::slots::Slots;
use super::token::{Kind, Token};
use super::{AcceptEnd, Done, Doorbells, Op, Ring, Wait};
use crate::ids::{PeerId, SLOT_MAX};
use crate::mem::region::{Owner, Region};
use crate::time::Instant;
use core::marker::PhantomData;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Worker threads that the kernel may start for a ring; only shutdowns need one.
const WORKERS_MAX: u32 = 4;
/// How often the kernel may refuse a submission for want of memory before we give up.
const REFUSALS_MAX: u32 = 10_000;
/// How long the end of a ring waits for the kernel to let go of our memory, per turn and in turns.
const LET_GO_NANOS: u64 = 20_000_000;
const LET_GO_TURNS: u32 = 100;
/// Octets of memory for one peer address (sockaddr_in6 has 28).
pub(super) const NAME_SIZE: usize = 32;
/// Opcode of io_uring_register that registers the ring's own descriptor, and what it takes.
const REGISTER_RING_FDS: libc::c_uint = 20;

/// What a ring needs to start.
#[derive(Debug)]
pub struct Setup {
    /// Entries of the submission queue (`submission-entries`).
    pub submission_entries: u32,
    /// Entries of the completion queue (`completion-entries`).
    pub completion_entries: u32,
    /// Descriptor slots wanted; at most RLIMIT_NOFILE are had, see [`Uring::slots`].
    pub slots: u32,
    /// Memory of the receive buffers.
    pub receive: Arc<Region>,
    /// Count of receive buffers (`receive-buffers`), at most 32 768.
    pub receive_buffers: u32,
    /// Octets of one receive buffer (`receive-bytes`).
    pub receive_bytes: u32,
    /// Memory of the segments.
    pub segments: Arc<Region>,
    /// Octets of one segment (`segment-size`).
    pub segment_size: u32,
    /// Listening sockets; the index is the `ListenerId`.
    pub listeners: Vec<OwnedFd>,
    /// Sends after which a push enters the kernel by itself (`send-chunk`).
    pub send_chunk: u32,
    /// The bells of all peers.
    pub doorbells: Doorbells,
    /// Whose ring this is.
    pub peer: PeerId,
    /// The kind of ring; `None` is the best that the kernel grants.
    pub flavor: Option<Flavor>,
}

/// Counters of a ring, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Entries into the kernel.
    pub enters: u64,
    /// Operations submitted.
    pub submitted: u64,
    /// Completions taken.
    pub completed: u64,
    /// Entries that found the completion queue overflown (nothing is lost by it).
    pub overflows: u64,
    /// Completions that had to be moved out of the queue's way.
    pub spilled: u64,
    /// Receives that found no free buffer.
    pub starved: u64,
    /// Connections that were gone before their peer's address was known.
    pub nameless: u64,
    /// Multishot operations that the kernel ended without being asked and without an error.
    pub ended_multishots: u64,
    /// Bells that could not be rung (their ring has ended).
    pub unheard: u64,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) fd: OwnedFd,
    /// Octets of an address of its family: the kernel wants the exact number.
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
pub struct Uring {
    pub(super) ring: IoUring,
    /// What to enter: the registered index of the ring, or its descriptor.
    enter_fd: i32,
    /// `REGISTERED_RING` or nothing.
    enter_flags: EnterFlags,
    flavor: Flavor,
    pub(super) buffers: Buffers,
    pub(super) slots: Slots,
    pub(super) segments: Arc<Region>,
    pub(super) segment_size: u32,
    /// [`NAME_SIZE`] octets per slot: the kernel writes the peer's address there (`NAMING`).
    pub(super) names: Owner,
    pub(super) listeners: Vec<Listener>,
    pub(super) doorbells: Doorbells,
    pub(super) peer: PeerId,
    send_chunk: u32,
    /// Sends pushed since the last entry.
    sends_queued: u32,
    /// Completions that were moved out of the queue's way; older than those in the queue.
    spill: VecDeque<cqueue::Entry>,
    /// A second answer of the completion that was popped last.
    pub(super) after: Option<Done>,
    clock: Clock,
    pub(super) stats: RingStats,
    /// The kernel binds the ring to its thread.
    not_send: PhantomData<*const ()>,
}

impl Uring {
    /// Makes the ring, gives it its memory and publishes its doorbell.
    pub fn start(setup: Setup) -> Result<Uring, StartError> {
        assert!(setup.segment_size > 0 && setup.send_chunk > 0, "limits are not zero");
        let (ring, flavor) =
            probe::ring(setup.flavor, setup.submission_entries, setup.completion_entries)?;
        let open_max = probe::limit(libc::RLIMIT_NOFILE).min(u64::from(SLOT_MAX)) as u32;
        let slots = setup.slots.min(open_max).max(1);
        let submitter = ring.submitter();
        submitter
            .register_files_sparse(slots)
            .map_err(|e| StartError::at("register the table of descriptors", &e))?;
        submitter
            .register_iowq_max_workers(&mut [WORKERS_MAX; 2])
            .map_err(|e| StartError::at("bound the ring's workers", &e))?;
        let memory = |e: io::Error| StartError::at("map memory", &e);
        let buffers = Buffers::new(setup.receive, setup.receive_buffers, setup.receive_bytes)
            .map_err(memory)?;
        // SAFETY: the entries lie in memory that `buffers` holds, which lives as long as the ring;
        // there are `entry_count` of them (`Buffers::new`).
        unsafe {
            let (address, count) = (buffers.address(), buffers.entry_count());
            submitter.register_buf_ring_with_flags(address, count, GROUP, 0)
        }
        .map_err(|e| StartError::at("register the receive buffers", &e))?;
        let names = Owner::new(slots as usize * NAME_SIZE).map_err(memory)?;
        let listeners = setup.listeners.into_iter().map(listener).collect::<Result<_, _>>()?;
        // Without registration (Linux before 5.18) the descriptor itself is entered.
        let (enter_fd, enter_flags) = match register_ring_fd(&ring) {
            Some(index) => (index, EnterFlags::REGISTERED_RING),
            None => (ring.as_raw_fd(), EnterFlags::empty()),
        };
        let spill = VecDeque::with_capacity(ring.params().cq_entries() as usize);
        let mut uring = Uring {
            ring,
            enter_fd,
            enter_flags,
            flavor,
            buffers,
            slots: Slots::new(slots),
            segments: setup.segments,
            segment_size: setup.segment_size,
            names,
            listeners,
            doorbells: setup.doorbells,
            peer: setup.peer,
            send_chunk: setup.send_chunk,
            sends_queued: 0,
            spill,
            after: None,
            clock: Clock::started(),
            stats: RingStats::default(),
            not_send: PhantomData,
        };
        uring.watch_bell();
        uring.doorbells.publish(uring.peer, uring.ring.as_raw_fd());
        Ok(uring)
    }

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
    /// The memory that `entry` names must be lent to the ring until the completion: all callers
    /// stand in `ops.rs`, where each names the keeper of that memory.
    pub(super) fn queue(&mut self, entry: &squeue::Entry) {
        if self.ring.submission().is_full() {
            self.submit(None);
        }
        // SAFETY: by the contract of this function; the keepers hold the memory until the
        // completion, or until the end of the ring, which waits for it (`drop`).
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

    /// Submits everything, and waits for a completion at most as long as told.
    fn submit(&mut self, wait_nanos: Option<u64>) {
        self.sends_queued = 0;
        self.buffers.publish();
        let mut refusals = 0;
        loop {
            let submission = self.ring.submission();
            let queued = submission.len() as u32;
            let is_kernel_busy = submission.taskrun() || submission.cq_overflow();
            drop(submission);
            // Completions do not show while the kernel has deferred work: it wants an entry.
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
                // A signal: the wait is over, but what is queued must go.
                Err(libc::EINTR) if queued == 0 => break,
                Err(libc::EINTR) => {}
                // The kernel has no memory, or (before 5.19) wants its completions taken first.
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

    /// Cancels everything and waits until the kernel touches our memory no more. False if it
    /// does not let go in time.
    fn let_go(&mut self) -> bool {
        let everything = types::CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(everything).build();
        self.queue(&entry.user_data(Token::new(Kind::Cancel, 0, 0).pack()));
        for _ in 0..LET_GO_TURNS {
            self.submit(Some(LET_GO_NANOS));
            while let Some(completion) = self.next_completion() {
                self.settle(&completion);
            }
            if self.slots.lent() == 0 {
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

    fn wall_millis(&self) -> u64 {
        self.clock.wall_millis
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.doorbells.retire(self.peer);
        // After the ring's descriptor is closed the kernel cancels what is on its way in its own
        // time; the memory must not be used for anything else before.
        if std::thread::panicking() || !self.let_go() {
            core::mem::forget(Arc::clone(&self.segments));
            core::mem::forget(self.names.lend());
            self.buffers.leak();
        }
    }
}

/// A listener from its socket.
fn listener(fd: OwnedFd) -> Result<Listener, StartError> {
    let address = SockRef::from(&fd).local_addr();
    let address = address.map_err(|e| StartError::at("read a listener's address", &e))?;
    let Some(address) = address.as_socket() else {
        return Err(StartError::System("listen on a socket that is not TCP", libc::EAFNOSUPPORT));
    };
    let name_len = match address.is_ipv4() {
        true => size_of::<libc::sockaddr_in>(),
        false => size_of::<libc::sockaddr_in6>(),
    } as u32;
    Ok(Listener { fd, name_len, armed: false, naming: 0, ended: None })
}

/// Registers the ring's own descriptor, which spares the kernel a look-up per entry.
fn register_ring_fd(ring: &IoUring) -> Option<i32> {
    /// struct io_uring_rsrc_update.
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let fd = ring.as_raw_fd();
    let mut update = Update { offset: u32::MAX, reserved: 0, data: fd as u64 };
    let place = core::ptr::from_mut(&mut update);
    // SAFETY: `fd` is an open ring; `place` is one valid update, read and written in the call only.
    let count =
        unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, place, 1) };
    (count == 1).then_some(update.offset as i32)
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().expect("the last error is an errno")
}

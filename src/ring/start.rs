//! The start of a ring: queues, table of descriptors, buffers, listeners, doorbell.
#![allow(unsafe_code)]

use super::Doorbells;
use super::buffers::{Buffers, GROUP};
use super::clock::Clock;
use super::moving::Moving;
use super::names::Names;
use super::own_fd::register_ring_fd;
use super::probe::{self, Flavor, StartError, limit};
use super::slots::Slots;
use super::uring::{Listener, RingStats, Uring};
use crate::ids::{PeerId, SLOT_MAX};
use crate::mem::region::Region;
use core::marker::PhantomData;
use io_uring::{EnterFlags, IoUring};
use socket2::SockRef;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Worker threads that the kernel may start for a ring; only shutdowns need one.
const WORKERS_MAX: u32 = 4;

/// What a ring needs to start.
#[derive(Debug)]
pub struct Setup {
    /// Entries of the submission queue (`submission-entries`).
    pub submission_entries: u32,
    /// Entries of the completion queue (`completion-entries`).
    pub completion_entries: u32,
    /// Descriptor slots requested; RLIMIT_NOFILE bounds them, see [`Uring::slots`].
    pub slots: u32,
    /// Memory of the receive buffers.
    pub receive: Arc<Region>,
    /// Count of receive buffers (`receive-buffers`), at most 32 768.
    pub receive_buffers: u32,
    /// Bytes of one receive buffer (`receive-bytes`).
    pub receive_bytes: u32,
    /// Memory of the segments.
    pub segments: Arc<Region>,
    /// Bytes of one segment (`segment-size`).
    pub segment_size: u32,
    /// Listening sockets; the index is the `ListenerId`.
    pub listeners: Vec<OwnedFd>,
    /// Sends after which `push` enters the kernel (`send-chunk`).
    pub send_chunk: u32,
    /// The doorbells of all peers.
    pub doorbells: Doorbells,
    /// The peer that this ring belongs to.
    pub peer: PeerId,
    /// The kind of ring; `None` is the best that the kernel grants.
    pub flavor: Option<Flavor>,
}

/// Makes the ring, gives it its memory and publishes its doorbell.
pub fn start(setup: Setup) -> Result<Uring, StartError> {
    let least = setup.segment_size.min(setup.send_chunk).min(setup.slots);
    assert!(least > 0, "these limits are not zero: {setup:?}");
    let (ring, flavor) =
        probe::ring(setup.flavor, setup.submission_entries, setup.completion_entries)?;
    let open_max = probe::limit(libc::RLIMIT_NOFILE).min(u64::from(SLOT_MAX)) as u32;
    let slots = setup.slots.min(open_max);
    let memory = |e| StartError::at("map memory", &e);
    let buffers =
        Buffers::new(setup.receive, setup.receive_buffers, setup.receive_bytes).map_err(memory)?;
    register(&ring, slots, &buffers)?;
    let names = Names::new().map_err(memory)?;
    let moving = Moving::new(probe::can_move(&ring)).map_err(memory)?;
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
        moving,
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
    uring.watch_doorbell();
    uring.doorbells.publish(uring.peer, uring.ring.as_raw_fd());
    Ok(uring)
}

/// Registers the table of descriptors and the receive buffers.
fn register(ring: &IoUring, slots: u32, buffers: &Buffers) -> Result<(), StartError> {
    let submitter = ring.submitter();
    submitter
        .register_files_sparse(slots)
        .map_err(|e| StartError::at("register the table of descriptors", &e))?;
    submitter
        .register_iowq_max_workers(&mut [WORKERS_MAX; 2])
        .map_err(|e| StartError::at("bound the ring's workers", &e))?;
    let (address, count) = (buffers.address(), buffers.entry_count());
    // SAFETY: `address` is that of `count` entries in memory that `buffers` owns (`Buffers::new`),
    // which lives as long as the ring (`Uring`), or longer if the kernel still uses it.
    unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }.map_err(|e| match e
        .raw_os_error()
    {
        // The queues were made, and locking this much more was refused.
        Some(libc::ENOMEM) => StartError::LockedMemory {
            needed: queues_bytes(ring) + u64::from(count) * ENTRY_BYTES,
            limit: limit(libc::RLIMIT_MEMLOCK),
        },
        _ => StartError::at("register the receive buffers", &e),
    })
}

/// Bytes of an entry of the ring of receive buffers.
const ENTRY_BYTES: u64 = 16;

/// Bytes that the kernel locks for a ring's queues.
fn queues_bytes(ring: &IoUring) -> u64 {
    let params = ring.params();
    u64::from(params.sq_entries()) * 68 + u64::from(params.cq_entries()) * 16 + 8192
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

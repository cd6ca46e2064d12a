//! Doorbells: how one thread wakes another out of its wait.
//!
//! One doorbell per mailbox peer: an eventfd from the start, and the peer's io_uring once that has
//! started. A thread with an io_uring wakes another such thread by MSG_RING and all others by their
//! eventfd, in its next entry into the kernel; a thread without one writes the eventfd. A peer that
//! has not started finds its eventfd written when it does, so that no wake-up is lost.
#![allow(unsafe_code)]

use crate::ids::PeerId;
use core::sync::atomic::{AtomicI32, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// No ring is there.
const NO_RING: RawFd = -1;

/// The doorbells of all peers of a process.
#[derive(Clone, Debug)]
pub struct Doorbells {
    doorbells: Arc<[Doorbell]>,
}

#[derive(Debug)]
struct Doorbell {
    /// The peer's ring, or [`NO_RING`].
    ring: AtomicI32,
    /// Written by threads without an io_uring; non-blocking.
    event: OwnedFd,
}

/// How a doorbell is reached from a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By MSG_RING to this ring.
    Ring(RawFd),
    /// By a write to this eventfd.
    Event(RawFd),
}

impl Doorbells {
    /// Doorbells for peers `0..peers`.
    pub fn new(peers: usize) -> io::Result<Doorbells> {
        let doorbells: io::Result<Arc<[Doorbell]>> = (0..peers)
            .map(|_| Ok(Doorbell { ring: AtomicI32::new(NO_RING), event: event_fd()? }))
            .collect();
        Ok(Doorbells { doorbells: doorbells? })
    }

    /// Wakes a peer, from a thread that has no ring.
    pub fn ring_from_outside(&self, peer: PeerId) {
        let event = &self.doorbells[peer.index()].event;
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is valid for its 8 bytes, and `event` is open as long as `self`.
        let written = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        // The only error is a counter at its maximum, and then the peer is awake anyway.
        debug_assert!(written == 8 || io::Error::last_os_error().kind() == WOULD_BLOCK);
    }

    /// The eventfd that a peer without a ring waits on until it is readable.
    pub fn event(&self, peer: PeerId) -> BorrowedFd<'_> {
        self.doorbells[peer.index()].event.as_fd()
    }

    /// For a peer without a ring, after its wait: makes its eventfd unreadable until the next ring.
    /// Returns whether the doorbell was rung. Check the mailboxes afterwards, not before.
    pub fn silence(&self, peer: PeerId) -> bool {
        let mut count = [0u8; 8];
        let event = self.doorbells[peer.index()].event.as_raw_fd();
        // SAFETY: `count` is valid for its 8 bytes, and the eventfd is open as long as `self`.
        let read = unsafe { libc::read(event, count.as_mut_ptr().cast(), count.len()) };
        read == 8
    }

    /// From now on the peer is reached by its ring.
    pub(super) fn publish(&self, peer: PeerId, ring: RawFd) {
        let before = self.doorbells[peer.index()].ring.swap(ring, Ordering::Release);
        assert_eq!(before, NO_RING, "a peer has one ring");
    }

    /// The peer's io_uring ends. If another thread is just ringing, the kernel refuses the closed
    /// descriptor; rings end when the process does.
    pub(super) fn retire(&self, peer: PeerId) {
        self.doorbells[peer.index()].ring.store(NO_RING, Ordering::Release);
    }

    /// How to reach a peer from a ring.
    pub(super) fn way(&self, peer: PeerId) -> Way {
        let doorbell = &self.doorbells[peer.index()];
        match doorbell.ring.load(Ordering::Acquire) {
            NO_RING => Way::Event(doorbell.event.as_raw_fd()),
            ring => Way::Ring(ring),
        }
    }
}

const WOULD_BLOCK: io::ErrorKind = io::ErrorKind::WouldBlock;

fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no memory.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is new, open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_rings_until_it_is_silenced() {
        let doorbells = Doorbells::new(2).expect("two eventfds can be made");
        assert!(!doorbells.silence(PeerId(1)));
        doorbells.ring_from_outside(PeerId(1));
        doorbells.clone().ring_from_outside(PeerId(1));
        assert!(!doorbells.silence(PeerId(0)), "the neighbour is not woken");
        assert!(doorbells.silence(PeerId(1)));
        assert!(!doorbells.silence(PeerId(1)));
    }

    #[test]
    fn a_peer_is_reached_by_its_ring_while_it_has_one() {
        let doorbells = Doorbells::new(1).expect("an eventfd can be made");
        let event = Way::Event(doorbells.event(PeerId(0)).as_raw_fd());
        assert_eq!(doorbells.way(PeerId(0)), event);
        doorbells.publish(PeerId(0), 77);
        assert_eq!(doorbells.way(PeerId(0)), Way::Ring(77));
        doorbells.retire(PeerId(0));
        assert_eq!(doorbells.way(PeerId(0)), event);
    }
}

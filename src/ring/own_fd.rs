//! The registration of a ring's own descriptor (`IORING_REGISTER_RING_FDS`).
#![allow(unsafe_code)]

use io_uring::IoUring;
use std::os::fd::AsRawFd;

// Of linux/io_uring.h.
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

/// struct io_uring_rsrc_update.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// Registers the ring's own descriptor, which spares the kernel a look-up per entry. Its index.
pub(super) fn register_ring_fd(ring: &IoUring) -> Option<i32> {
    let mut update = Update { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
    let count = update_ring_fd(ring, REGISTER_RING_FDS, &mut update);
    (count == 1).then_some(update.offset as i32)
}

/// Undoes the registration, which would keep the ring open until its thread ends.
pub(super) fn unregister_ring_fd(ring: &IoUring, index: i32) {
    let mut update = Update { offset: index as u32, reserved: 0, data: 0 };
    let count = update_ring_fd(ring, UNREGISTER_RING_FDS, &mut update);
    debug_assert_eq!(count, 1, "what was registered can be unregistered");
}

fn update_ring_fd(ring: &IoUring, what: libc::c_uint, update: &mut Update) -> i64 {
    let place = core::ptr::from_mut(update);
    // SAFETY: the ring is open; `place` is one valid update, read and written in the call only.
    unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), what, place, 1) }
}

//! Memory that the program and the kernel share: anonymous, zeroed, touched lazily.
//!
//! A pool of `mem` has the [`Owner`] and hands out slices of it. A ring has the [`Region`] from
//! [`Owner::lend`], and lets the kernel read and write it.
//!
//! **Who may access what, and when.** Every byte belongs to one side at a time. The pool knows
//! which: it neither makes a slice over bytes that it has lent to the kernel, nor lends bytes
//! over which a slice is alive. A ring touches only bytes that an operation has lent to it (a
//! receive buffer before `Done::Received`, a range of `Op::Send` before its `Done::Sent`). Both
//! sides are checked where they meet: `ReceivePool` asserts the state of each buffer, `Uring` that
//! ranges and buffers lie within the pool and that none is returned twice.
//!
//! Only the crate itself can break that rule (it may make slices of any bytes, and has rings of its
//! own), or `unsafe` code of rings outside the crate. Safe code outside the crate cannot make two
//! views of one byte.
//!
//! ```compile_fail,E0133
//! let owner = ringpush::mem::region::Owner::new(16).unwrap();
//! owner.lend().kernel_write(0, b"a"); // a slice of it may be alive
//! ```
//!
//! ```compile_fail,E0624
//! let mut owner = ringpush::mem::region::Owner::new(16).unwrap();
//! owner.bytes_mut(0, 16)[0] = 1; // the kernel may be writing there
//! ```
#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::slice;
use std::io;
use std::sync::Arc;

/// A mapping of bytes, alive as long as its owner or a ring uses it.
#[derive(Debug)]
pub struct Region {
    /// Start of the mapping; valid for `len` bytes until `drop`, never null, page-aligned.
    base: NonNull<u8>,
    /// Length of the mapping in bytes, at least one, at most `isize::MAX`.
    len: usize,
}

// SAFETY: a region is an address and a length; the mapping belongs to no thread, and all access
// goes through `Owner` (borrow-checked) or through a ring under the rule in the head of this file.
unsafe impl Send for Region {}
// SAFETY: as for `Send`: a shared `Region` offers only copies through raw pointers, whose ranges
// the rule in the head of this file keeps apart from all others.
unsafe impl Sync for Region {}

impl Region {
    fn map(len: usize) -> io::Result<Region> {
        assert!(len > 0 && isize::try_from(len).is_ok(), "a region has 1 to isize::MAX bytes");
        // NORESERVE: pools are sized for the worst case; only pages that are used cost memory.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).expect("mmap never maps address zero unasked");
        Ok(Region { base, len })
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address of a byte, for a ring that passes it to the kernel. The address may be
    /// used as the head of this file says; `len` bytes from it lie within the region.
    pub(crate) fn address(&self, offset: usize, len: usize) -> *mut u8 {
        self.check(offset, len);
        // SAFETY: `check` has shown that `offset` lies within the mapping (or just at its end).
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Appends `len` bytes from `offset` to `into`, as a kernel does that sends them.
    ///
    /// # Safety
    /// For implementors of `Ring`: an operation has lent these bytes to the ring, which has not
    /// yet returned them. So nobody writes them meanwhile.
    pub unsafe fn kernel_read(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        self.read_lent(offset, len, into);
    }

    /// Writes `bytes` at `offset`, as a kernel does that receives them.
    ///
    /// # Safety
    /// For implementors of `Ring`: an operation has lent these bytes to the ring for writing,
    /// which has not yet returned them. So no slice of them is alive.
    pub unsafe fn kernel_write(&self, offset: usize, bytes: &[u8]) {
        self.write_lent(offset, bytes);
    }

    /// `kernel_read` for the crate's own rings, which keep the rule in the head of this file.
    pub(crate) fn read_lent(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        let from = self.address(offset, len);
        into.reserve(len);
        // SAFETY: `from` is valid for `len` bytes (`address`); `into` has room for them
        // (`reserve`) and is another allocation; mapped bytes are always initialised (the kernel
        // zeroes them). Nobody writes them meanwhile: they are lent to the caller (file head).
        unsafe {
            let end = into.as_mut_ptr().add(into.len());
            core::ptr::copy_nonoverlapping(from.cast_const(), end, len);
            into.set_len(into.len() + len);
        }
    }

    /// `kernel_write` for the crate's own rings, which keep the rule in the head of this file.
    pub(crate) fn write_lent(&self, offset: usize, bytes: &[u8]) {
        let to = self.address(offset, bytes.len());
        // SAFETY: `to` is valid for `bytes.len()` bytes (`address`). No slice over them is
        // alive: they are lent to the caller (file head), so `bytes` is other memory, too.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    fn check(&self, offset: usize, len: usize) {
        let end = offset.checked_add(len).expect("a range of a region ends within memory");
        assert!(end <= self.len, "bytes {offset}..{end} of a region of {}", self.len);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are the mapping that `map` made. The last reference is gone: no
        // slice is alive (they borrow an `Owner`, which keeps the region), and no ring lets the
        // kernel use it (a ring keeps the region until the kernel is done, see `Uring::drop`).
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0, "unmapping what was mapped succeeds");
    }
}

/// The owner of a region, the only one that may make slices of it: a pool of `mem`.
#[derive(Debug)]
pub struct Owner {
    region: Arc<Region>,
}

impl Owner {
    /// Maps a new region of `len` zeroed bytes.
    pub fn new(len: usize) -> io::Result<Owner> {
        Ok(Owner { region: Arc::new(Region::map(len)?) })
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.region.len
    }

    /// `len` bytes from `offset`. They must not be lent for writing (see the head of this file).
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.region.address(offset, len);
        // SAFETY: `start` is valid for `len` initialised bytes while `self` is borrowed. Slices
        // made by `bytes_mut` exclude this one by borrow; the kernel writes only what is lent to
        // it for writing, and the pool makes no slice over that (file head).
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// `len` bytes from `offset`, to write. They must not be lent (see the head of this file).
    pub(crate) fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.region.address(offset, len);
        // SAFETY: as in `bytes`; `&mut self` excludes every other slice, and the kernel neither
        // reads nor writes these bytes while the pool owns them (file head).
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// The region for a ring.
    pub fn lend(&self) -> Arc<Region> {
        Arc::clone(&self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_bytes() {
        let mut owner = Owner::new(10_000).expect("10 kB can be mapped");
        let region = owner.lend();
        assert_eq!((owner.len(), region.len()), (10_000, 10_000));
        assert!(owner.bytes(0, 10_000).iter().all(|&byte| byte == 0), "new bytes are zero");
        owner.bytes_mut(9_990, 10).copy_from_slice(b"0123456789");
        let mut out = b"x".to_vec();
        region.read_lent(9_995, 5, &mut out);
        assert_eq!(out, b"x56789");
        region.write_lent(9_996, b"abc");
        assert_eq!(owner.bytes(9_990, 10), b"012345abc9");
        region.write_lent(10_000, b"");
        assert_eq!(owner.bytes(10_000, 0), b"");
    }

    #[test]
    fn a_region_outlives_its_owner_while_a_ring_holds_it() {
        let owner = Owner::new(1).expect("one byte can be mapped");
        let region = owner.lend();
        drop(owner);
        region.write_lent(0, b"z");
        let mut out = Vec::new();
        region.read_lent(0, 1, &mut out);
        assert_eq!(out, b"z");
    }

    #[test]
    #[should_panic(expected = "bytes 4090..5000 of a region of 4096")]
    fn a_range_past_the_end_is_our_bug() {
        Owner::new(4096).expect("a page can be mapped").bytes(4090, 910);
    }

    #[test]
    #[should_panic(expected = "ends within memory")]
    fn a_range_past_memory_is_our_bug() {
        Owner::new(4096).expect("a page can be mapped").lend().write_lent(usize::MAX, b"a");
    }
}

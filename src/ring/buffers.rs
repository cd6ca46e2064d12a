//! The ring of receive buffers that the kernel takes from (a provided-buffer ring).
//!
//! Only this process writes its entries; the kernel takes them up to the published tail.
//! `give_back` writes an entry; `publish` makes all of them visible at once, before each entry into
//! the kernel.
#![allow(unsafe_code)]

use crate::ids::BufferId;
use crate::mem::receive::RECEIVE_BUFFERS_MAX;
use crate::mem::region::{Owner, Region};
use core::sync::atomic::{AtomicU16, Ordering};
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::Arc;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// Entries and the memory behind them.
#[derive(Debug)]
pub(super) struct Buffers {
    /// Memory of the entries: page-aligned, `mask + 1` entries long.
    entries: Arc<Region>,
    /// Memory of the buffers.
    region: Arc<Region>,
    /// Count of buffers.
    count: u32,
    /// Bytes of a buffer.
    size: u32,
    /// Count of entries minus one; the count is a power of two.
    mask: u16,
    /// Where the next entry is written; published by `publish`.
    tail: u16,
    /// The tail published last.
    published: u16,
    /// Count of buffers that the kernel has.
    lent: u32,
}

impl Buffers {
    /// `count` buffers of `size` bytes in `region`, all given to the kernel with `publish`.
    pub(super) fn new(region: Arc<Region>, count: u32, size: u32) -> io::Result<Buffers> {
        assert!((1..=RECEIVE_BUFFERS_MAX).contains(&count), "{count} receive buffers");
        assert!(size > 0, "a receive buffer has at least one byte");
        assert!(count as usize * size as usize <= region.len(), "the buffers fit the region");
        let entry_count = count.next_power_of_two();
        let memory = Owner::new(entry_count as usize * size_of::<BufRingEntry>())?;
        let mask = u16::try_from(entry_count - 1).expect("at most 32768 entries");
        let (tail, published, lent) = (0, 0, 0);
        let entries = memory.lend();
        let mut buffers = Buffers { entries, region, count, size, mask, tail, published, lent };
        for index in 0..count {
            buffers.give_back(BufferId(u16::try_from(index).expect("below 32768")));
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Address of the entries, for registration.
    pub(super) fn address(&self) -> u64 {
        self.entry(0) as u64
    }

    /// Count of entries, for registration.
    pub(super) fn entry_count(&self) -> u16 {
        self.mask + 1
    }

    /// The kernel has taken a buffer and written `len` bytes into it.
    pub(super) fn on_received(&mut self, buffer: BufferId, len: u32) {
        assert!(u32::from(buffer.0) < self.count, "the kernel takes only existing buffers");
        assert!(len <= self.size, "the kernel writes no more than fits a buffer");
        assert!(self.lent > 0, "the kernel takes only buffers that it has");
        self.lent -= 1;
    }

    /// Queues a buffer for the kernel.
    pub(super) fn give_back(&mut self, buffer: BufferId) {
        assert!(u32::from(buffer.0) < self.count, "buffer {} of {}", buffer.0, self.count);
        assert!(self.lent < self.count, "no buffer is given back twice");
        self.lent += 1;
        let size = self.size as usize;
        let address = self.region.address(usize::from(buffer.0) * size, size);
        let entry = self.entry(self.tail & self.mask);
        // SAFETY: `entry` lies within the entries (`entry`), is aligned, and the kernel does not
        // read it: it stands at the unpublished tail, and at most `count` <= `mask + 1` buffers are
        // lent. The fields are set one by one because the last two bytes of entry 0 are the tail,
        // which the kernel reads at any time; `BufRingEntry`'s setters do not touch those.
        unsafe {
            (*entry).set_addr(address as u64);
            (*entry).set_len(self.size);
            (*entry).set_bid(buffer.0);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes queued buffers visible to the kernel.
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        self.published = self.tail;
        // SAFETY: `tail` points into entry 0, which is mapped as long as `self.entries`; it is
        // two-aligned, and only this atomic store writes it (we are its only writer, the kernel
        // only reads).
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entry(0)).cast_mut()) };
        // Release: the kernel, which loads the tail with acquire, sees the entries before it.
        tail.store(self.published, Ordering::Release);
    }

    /// Keeps the memory mapped for ever, since the kernel may still use it.
    pub(super) fn leak(&self) {
        core::mem::forget(Arc::clone(&self.entries));
        core::mem::forget(Arc::clone(&self.region));
    }

    fn entry(&self, index: u16) -> *mut BufRingEntry {
        let offset = usize::from(index) * size_of::<BufRingEntry>();
        self.entries.address(offset, size_of::<BufRingEntry>()).cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(count: u32) -> Buffers {
        let pool = Owner::new(count as usize * 64).expect("a small pool can be mapped");
        Buffers::new(pool.lend(), count, 64).expect("a few entries can be mapped")
    }

    /// Entry as (address, length, id), and the published tail.
    fn entry(buffers: &Buffers, index: usize) -> (u64, u32, u16) {
        let mut bytes = Vec::new();
        buffers.entries.read_lent(index * 16, 14, &mut bytes);
        let address = u64::from_ne_bytes(bytes[..8].try_into().expect("8 bytes"));
        let len = u32::from_ne_bytes(bytes[8..12].try_into().expect("4 bytes"));
        (address, len, u16::from_ne_bytes(bytes[12..].try_into().expect("2 bytes")))
    }

    fn tail(buffers: &Buffers) -> u16 {
        let mut bytes = Vec::new();
        buffers.entries.read_lent(14, 2, &mut bytes);
        u16::from_ne_bytes(bytes[..].try_into().expect("2 bytes"))
    }

    #[test]
    fn entries_are_published_in_batches_and_wrap_around() {
        let mut buffers = buffers(3);
        let base = buffers.region.address(0, 0) as u64;
        assert_eq!((buffers.entry_count(), tail(&buffers)), (4, 3));
        assert_eq!(entry(&buffers, 1), (base + 64, 64, 1));
        for turn in 0..100_000u32 {
            let id = BufferId((turn % 3) as u16);
            buffers.on_received(id, 64);
            buffers.give_back(id);
            let before = tail(&buffers);
            assert_eq!(before, (turn + 3) as u16, "not visible before publish");
            buffers.publish();
            assert_eq!(tail(&buffers), before.wrapping_add(1));
            let written = entry(&buffers, (turn as usize + 3) % 4);
            assert_eq!(written, (base + u64::from(id.0) * 64, 64, id.0));
        }
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_what_the_kernel_has_is_our_bug() {
        buffers(2).give_back(BufferId(1));
    }
}

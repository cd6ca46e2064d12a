//! The receive buffers of a shard: one pool shared by all its sockets.
//!
//! A buffer is in one of two states, and each change is asserted:
//!
//! ```text
//!            on_received (Done::Received)
//!   lent  ─────────────────────────────────▶  owned
//!   (the kernel may write it)                 (the engine may read and change it)
//!         ◀─────────────────────────────────
//!            give_back (Op::GiveBack)
//! ```
//!
//! All buffers start as lent: a ring offers them to the kernel when it starts.
//! Bounds: `receive-buffers` buffers of `receive-bytes` bytes.

use super::region::{Owner, Region};
use crate::ids::BufferId;
use std::io;
use std::sync::Arc;

/// The most buffers that the kernel takes in one group.
pub const RECEIVE_BUFFERS_MAX: u32 = 32_768;

/// Receive buffers, each lent to the kernel or owned by the engine.
///
/// ```
/// use ringpush::{ids::BufferId, mem::receive::ReceivePool};
/// let mut pool = ReceivePool::new(4, 64).unwrap();
/// // SAFETY: buffer 2 is lent, so no slice of it is alive.
/// unsafe { pool.lend().kernel_write(2 * 64, b"hello") }; // the ring's part
/// pool.on_received(BufferId(2));
/// assert_eq!(pool.bytes_mut(BufferId(2), 5), b"hello");
/// pool.give_back(BufferId(2)); // and push Op::GiveBack
/// assert_eq!(pool.held(), 0);
/// ```
#[derive(Debug)]
pub struct ReceivePool {
    owner: Owner,
    /// Bytes of one buffer.
    size: u32,
    /// Per buffer: whether the engine owns it.
    is_owned: Box<[bool]>,
    /// Count of `true` in `is_owned`.
    owned: u32,
}

impl ReceivePool {
    /// Maps `count` buffers (1 to [`RECEIVE_BUFFERS_MAX`]) of `size` bytes, all lent.
    pub fn new(count: u32, size: u32) -> io::Result<ReceivePool> {
        assert!((1..=RECEIVE_BUFFERS_MAX).contains(&count), "{count} receive buffers");
        assert!(size > 0, "a receive buffer has at least one byte");
        let len = count as usize * size as usize;
        let mut owner = Owner::new(len)?;
        // The kernel will use all buffers in turn, so their pages are made now, not under load.
        owner.bytes_mut(0, len).fill(0);
        let is_owned = vec![false; count as usize].into_boxed_slice();
        Ok(ReceivePool { owner, size, is_owned, owned: 0 })
    }

    /// The memory for a ring.
    pub fn lend(&self) -> Arc<Region> {
        self.owner.lend()
    }

    /// Count of buffers.
    pub fn count(&self) -> u32 {
        self.is_owned.len() as u32
    }

    /// Bytes of one buffer.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Count of buffers that the engine owns.
    pub fn held(&self) -> u32 {
        self.owned
    }

    /// Takes over a buffer that `Done::Received` named.
    pub fn on_received(&mut self, buffer: BufferId) {
        let is_owned = &mut self.is_owned[usize::from(buffer.0)];
        assert!(!*is_owned, "the kernel fills only buffers that are lent to it");
        *is_owned = true;
        self.owned += 1;
    }

    /// The first `len` bytes of an owned buffer.
    pub fn bytes(&self, buffer: BufferId, len: u32) -> &[u8] {
        let offset = self.offset_of_owned(buffer, len);
        self.owner.bytes(offset, len as usize)
    }

    /// The first `len` bytes of an owned buffer, to change in place.
    pub fn bytes_mut(&mut self, buffer: BufferId, len: u32) -> &mut [u8] {
        let offset = self.offset_of_owned(buffer, len);
        self.owner.bytes_mut(offset, len as usize)
    }

    /// Lends a buffer to the kernel again: the caller pushes `Op::GiveBack` for it.
    pub fn give_back(&mut self, buffer: BufferId) {
        let is_owned = &mut self.is_owned[usize::from(buffer.0)];
        assert!(*is_owned, "only an owned buffer is given back");
        assert!(self.owned > 0, "an owned buffer is counted");
        *is_owned = false;
        self.owned -= 1;
    }

    fn offset_of_owned(&self, buffer: BufferId, len: u32) -> usize {
        let index = usize::from(buffer.0);
        assert!(self.is_owned[index], "bytes of a lent buffer belong to the kernel");
        assert!(len <= self.size, "{len} bytes of a receive buffer of {}", self.size);
        index * self.size as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool() -> ReceivePool {
        ReceivePool::new(4, 64).expect("a small pool can be mapped")
    }

    #[test]
    #[should_panic(expected = "belong to the kernel")]
    fn a_lent_buffer_cannot_be_read() {
        pool().bytes_mut(BufferId(1), 1);
    }

    #[test]
    #[should_panic(expected = "lent to it")]
    fn a_buffer_cannot_be_received_twice() {
        let mut pool = pool();
        pool.on_received(BufferId(1));
        pool.on_received(BufferId(1));
    }

    #[test]
    #[should_panic(expected = "only an owned buffer")]
    fn a_buffer_cannot_be_given_back_twice() {
        let mut pool = pool();
        pool.on_received(BufferId(1));
        pool.give_back(BufferId(1));
        pool.give_back(BufferId(1));
    }

    #[test]
    #[should_panic(expected = "65 bytes of a receive buffer of 64")]
    fn a_buffer_ends_where_it_ends() {
        let mut pool = pool();
        pool.on_received(BufferId(1));
        pool.bytes_mut(BufferId(1), 65);
    }

    proptest! {
        /// Compares with a naive model: buffers keep their bytes, and the count is right.
        #[test]
        fn buffers_do_not_overlap(
            steps in prop::collection::vec((0u16..4, 0u32..=64, any::<u8>()), 1..60),
        ) {
            let mut pool = pool();
            let region = pool.lend();
            let mut model: [Option<Vec<u8>>; 4] = Default::default();
            for (index, len, fill) in steps {
                let buffer = BufferId(index);
                match model[usize::from(index)].take() {
                    None => {
                        let bytes = vec![fill; len as usize];
                        region.write_lent(usize::from(index) * 64, &bytes);
                        pool.on_received(buffer);
                        model[usize::from(index)] = Some(bytes);
                    }
                    Some(bytes) => {
                        prop_assert_eq!(pool.bytes(buffer, bytes.len() as u32), &bytes[..]);
                        pool.give_back(buffer);
                    }
                }
                let owned = model.iter().flatten().count();
                prop_assert_eq!(pool.held() as usize, owned);
            }
        }
    }
}

#![forbid(unsafe_code)]
//! The message block: one published message, written once and read by every shard that delivers it.
//!
//! A block is an `Arc` that its publishing shard keeps a second reference of. When all others are
//! done the publisher finds itself alone with it (`Arc::get_mut`) and writes the next message into
//! it: blocks go home without a lock, and a warm shard allocates nothing.

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

/// One message: the names of user and destination, and a run of bytes: header lines and body.
#[derive(Default)]
pub struct Message {
    /// Texts of their own: each home and each shard looks at them, and need not validate them.
    names: String,
    bytes: Vec<u8>,
    user_len: u32,
    headers_len: u32,
    plain: bool,
    text: bool,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, destination) = self.names.split_at(self.user_len as usize);
        let bytes = self.bytes.escape_ascii();
        write!(f, "Message {{ user: {user:?}, destination: {destination:?}, bytes: \"{bytes}\" }}")
    }
}

impl Message {
    /// Starts a message to `destination`, at `user` when it is a user destination.
    pub fn begin(&mut self, user: Option<&str>, destination: &str) {
        self.names.clear();
        self.bytes.clear();
        let user = user.unwrap_or("");
        self.names.push_str(user);
        self.names.push_str(destination);
        self.user_len = user.len() as u32;
        self.headers_len = 0;
        self.plain = true;
        self.text = true;
    }

    /// Adds a header line that a MESSAGE frame will carry, escaped as STOMP 1.2 does.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        if crate::stomp::header_is_plain(name, value) {
            // Most are: nothing is looked at twice.
            for part in [name, b":", value, b"\n"] {
                self.bytes.extend_from_slice(part);
            }
        } else {
            self.plain = false;
            let len = crate::stomp::header_line_len(name, value);
            self.bytes.resize(start + len, 0);
            crate::stomp::write_header_line(name, value, &mut self.bytes[start..]);
        }
        self.headers_len += (self.bytes.len() - start) as u32;
    }

    /// Ends the message with its body.
    pub fn finish(&mut self, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.text = simdutf8::basic::from_utf8(&self.bytes).is_ok();
    }

    /// The user it is for; empty for a broker destination.
    pub fn user(&self) -> &str {
        &self.names[..self.user_len as usize]
    }

    /// The destination as a broker knows it (without the user prefix).
    pub fn destination(&self) -> &str {
        &self.names[self.user_len as usize..]
    }

    /// Header lines in STOMP 1.2 form, `destination` included.
    pub fn headers(&self) -> &[u8] {
        &self.bytes[..self.headers_len as usize]
    }

    /// Whether the header lines look the same in every STOMP version.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether header lines and body are valid UTF-8, so that it may go out as a text frame.
    pub fn is_text(&self) -> bool {
        self.text
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.headers_len as usize..]
    }

    /// Bytes that it keeps.
    fn capacity(&self) -> usize {
        self.names.capacity() + self.bytes.capacity()
    }

    /// Gives them back.
    fn give_back(&mut self) {
        (self.names, self.bytes) = (String::new(), Vec::new());
    }
}

/// Above this a block that becomes free gives its memory back, so that rare large messages do not
/// stay resident.
const KEEP_BYTES: usize = 16 * 1024;

/// Blocks that are looked at for a free one.
const LOOK_AT: usize = 8;

/// The blocks of one publisher, oldest first. Bounds: `message-blocks`, and `message-bytes`, which
/// what was asked for together may pass by.
#[derive(Debug)]
pub struct Pool {
    blocks: VecDeque<Arc<Message>>,
    max: usize,
    /// Bytes that the blocks hold, free ones included.
    bytes: usize,
    max_bytes: usize,
    /// Where the next free block is looked for that may give its bytes back.
    look_from: usize,
}

impl Pool {
    /// An empty pool that will hold at most `max` blocks with `max_bytes`.
    pub fn new(max: u32, max_bytes: u32) -> Pool {
        let (max, max_bytes) = (max as usize, max_bytes as usize);
        Pool { blocks: VecDeque::new(), max, bytes: 0, max_bytes, look_from: 0 }
    }

    /// Whether `make` would succeed.
    pub fn has_room(&mut self) -> bool {
        self.has_bytes() && (self.blocks.len() < self.max || self.has_free())
    }

    /// Whether the blocks hold fewer bytes than they may. If not, free ones give theirs back: a
    /// few are looked at each time.
    fn has_bytes(&mut self) -> bool {
        for _ in 0..self.blocks.len().min(LOOK_AT) {
            if self.bytes < self.max_bytes {
                return true;
            }
            self.look_from = (self.look_from + 1) % self.blocks.len();
            if let Some(message) = Arc::get_mut(&mut self.blocks[self.look_from]) {
                self.bytes -= message.capacity();
                message.give_back();
            }
        }
        self.bytes < self.max_bytes
    }

    /// Brings a free block to the front.
    fn has_free(&mut self) -> bool {
        // The one in front was used longest ago; one slow block must not hide the free ones.
        for _ in 0..self.blocks.len().min(LOOK_AT) {
            if self.blocks.front_mut().is_some_and(|block| Arc::get_mut(block).is_some()) {
                return true;
            }
            self.blocks.rotate_left(1);
        }
        false
    }

    /// Whether `make` would succeed `count` times.
    pub fn has_room_for(&mut self, count: usize) -> bool {
        if !self.has_bytes() {
            return false;
        }
        let unmade = self.max - self.blocks.len();
        if unmade >= count {
            return true;
        }
        // Those that are found come to the front, where `make` looks.
        let mut found = 0;
        let looked_at = self.blocks.len().min(count + LOOK_AT);
        for at in 0..looked_at {
            if Arc::get_mut(&mut self.blocks[at]).is_some() {
                self.blocks.swap(found, at);
                found += 1;
            }
        }
        let enough = unmade + found >= count;
        if !enough {
            self.blocks.rotate_left(looked_at);
        }
        enough
    }

    /// A message written by `fill` into a free block; None when all are in flight.
    pub fn make(&mut self, fill: impl FnOnce(&mut Message)) -> Option<Arc<Message>> {
        if let Some(front) = self.blocks.front_mut()
            && let Some(message) = Arc::get_mut(front)
        {
            self.bytes -= message.capacity();
            if message.capacity() > KEEP_BYTES {
                message.give_back();
            }
            fill(message);
            self.bytes += message.capacity();
            let block = front.clone();
            self.blocks.rotate_left(1);
            return Some(block);
        }
        // A slow block in front must not make the pool grow while those behind it are free.
        if self.has_free() {
            return self.make(fill);
        }
        if self.blocks.len() < self.max {
            let mut message = Message::default();
            fill(&mut message);
            self.bytes += message.capacity();
            let block = Arc::new(message);
            self.blocks.push_back(block.clone());
            return Some(block);
        }
        None
    }

    /// Count of blocks that somebody else still holds.
    pub fn in_flight(&self) -> usize {
        self.blocks.iter().filter(|block| Arc::strong_count(block) > 1).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_parts_apart() {
        let mut pool = Pool::new(1, 1 << 20);
        let block = pool
            .make(|message| {
                message.begin(Some("7"), "/queue/sub");
                message.header(b"destination", b"/user/queue/sub");
                message.header(b"x", b"a:b");
                message.finish("{\"é\":1}".as_bytes());
            })
            .expect("a free block");
        assert_eq!((block.user(), block.destination()), ("7", "/queue/sub"));
        assert_eq!(block.headers(), b"destination:/user/queue/sub\nx:a\\cb\n");
        assert!(!block.is_plain() && block.is_text());
        assert_eq!(block.body(), "{\"é\":1}".as_bytes());
    }

    #[test]
    fn a_block_is_reused_only_when_all_others_are_done_with_it() {
        let mut pool = Pool::new(2, 1 << 20);
        let fill = |message: &mut Message| {
            message.begin(None, "/topic/a");
            message.finish(&[0xff]);
        };
        let first = pool.make(fill).expect("first");
        assert!(!first.is_text());
        let second = pool.make(fill).expect("second");
        assert!(!pool.has_room() && pool.make(fill).is_none());
        let address = Arc::as_ptr(&second);
        drop(second);
        assert_eq!(pool.in_flight(), 1);
        let third = pool.make(fill).expect("the second block again");
        assert_eq!(Arc::as_ptr(&third), address);
        drop((first, third));
        assert_eq!(pool.in_flight(), 0);
        let mut pool = Pool::new(100, 1 << 20);
        let slow = pool.make(fill).expect("the slow one");
        for _ in 0..50 {
            drop(pool.make(fill).expect("a free block"));
        }
        assert!(pool.blocks.len() <= 3, "a slow block makes the pool grow: {}", pool.blocks.len());
        drop(slow);
        let mut pool = Pool::new(40, 1 << 20);
        let mut busy: Vec<_> = (0..40).map(|_| pool.make(fill)).collect();
        busy[3] = None;
        assert!(!pool.has_room_for(2), "there is one");
        while !pool.has_room_for(1) {}
        assert!(pool.make(fill).is_some(), "what was found is there to be made");
    }

    #[test]
    fn large_messages_in_flight_are_bounded_and_free_ones_give_their_memory_back() {
        let mut pool = Pool::new(1_000, 100_000);
        let large = |message: &mut Message| {
            message.begin(None, "/topic/a");
            message.finish(&[b'x'; 10_000]);
        };
        let mut in_flight = Vec::new();
        while pool.has_room() {
            in_flight.push(pool.make(large).expect("there is room"));
        }
        let bytes = pool.bytes;
        assert!((100_000..120_000).contains(&bytes), "{bytes}");
        in_flight.truncate(3);
        assert!(pool.has_room(), "the others are free");
        while pool.has_bytes() && !pool.has_room_for(900) {}
        assert!(pool.bytes < 100_000);
        let held: usize = pool.blocks.iter().map(|block| block.capacity()).sum();
        assert_eq!(pool.bytes, held, "the sum is that of all blocks");
    }
}

//! Compression of whole messages with permessage-deflate (RFC 7692 §7.2). One [`Compressor`] and
//! one [`Inflater`] per thread serve all its sessions; an idle session needs memory for neither.
//!
//! A session with context takeover keeps a [`Window`] for each direction, up to 32 KiB of plain
//! bytes; the same compressor and inflater start from it.

use super::error::Error;
use super::extension::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use super::frame::Opcode;
use super::utf8::Utf8;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// How hard the compressor tries: higher levels take up to three times as long for less than 1 %,
/// level 1 takes half as long for 40 % more bytes (JSON of 2 KiB).
const LEVEL: u32 = 2;
/// The smallest window that zlib's deflate has.
const ZLIB_BITS_MIN: u8 = 9;
/// Bytes inflated per step: the most that a decompression bomb costs past its bound.
const STEP: usize = 16_384;
/// The sender removes these bytes from the end of a message (RFC 7692 §7.2.1).
const FLUSH: [u8; 4] = [0, 0, 0xff, 0xff];
/// The receiver appends them again (§7.2.2); an empty final block follows, with which the stream
/// ends if and only if the message was whole.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// Compresses whole messages, for any session.
#[derive(Debug, Default)]
pub struct Compressor {
    /// One per window size from 2^9 on, made when first needed: the largest is about 0.3 MB.
    streams: [Option<Compress>; (WINDOW_BITS_MAX - ZLIB_BITS_MIN) as usize + 1],
}

impl Compressor {
    /// Allocates nothing yet.
    pub fn new() -> Compressor {
        Compressor::default()
    }

    /// Appends the compressed form of a message to `out`, for a peer that keeps a window of
    /// 2^`window_bits` bytes. `false`: it would not be shorter, and nothing was appended.
    ///
    /// The result is the same for all peers with that window, so a broadcast is compressed once.
    pub fn compress(&mut self, message: &[u8], window_bits: u8, out: &mut Vec<u8>) -> bool {
        self.compress_chunk(message, window_bits, true, out)
    }

    /// As [`Compressor::compress`], for one chunk of a message. The chunk refers to nothing before
    /// it, so it may follow any other chunk, also one made by [`store`]. A chunk that is not the
    /// last one ends with a whole block on a byte boundary (RFC 1951 §3.2.4).
    pub fn compress_chunk(
        &mut self,
        chunk: &[u8],
        window_bits: u8,
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        // References never reach back beyond the beginning of the chunk.
        let whole = chunk.len() <= 1 << window_bits;
        let bits = if whole { WINDOW_BITS_MAX } else { window_bits };
        let shorter = deflate(self.stream(bits), chunk, out);
        if shorter && !is_last {
            out.extend_from_slice(&FLUSH);
        }
        shorter
    }

    /// As [`Compressor::compress`], for a session with context takeover: the message may refer to
    /// those before it, and is added to the window once it is compressed.
    pub fn compress_after(
        &mut self,
        message: &[u8],
        window: &mut Window,
        out: &mut Vec<u8>,
    ) -> bool {
        let stream = self.stream(window.bits);
        if !window.bytes.is_empty() {
            stream.set_dictionary(&window.bytes).expect("a raw stream takes a dictionary");
        }
        let shorter = deflate(stream, message, out);
        if shorter {
            window.push(message);
        }
        shorter
    }

    /// The stream for a window size, reset to its start.
    fn stream(&mut self, window_bits: u8) -> &mut Compress {
        assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits));
        // zlib refers back at most 2^bits - 262 bytes: 250 for its smallest window of 2^9, which a
        // window of 2^8 covers as well.
        let bits = window_bits.max(ZLIB_BITS_MIN);
        let place = &mut self.streams[usize::from(bits - ZLIB_BITS_MIN)];
        if let Some(stream) = place {
            stream.reset();
        }
        place.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(LEVEL), false, bits)
        })
    }
}

/// Bytes of the longest stored block (RFC 1951 §3.2.4).
const STORED_MAX: usize = 65_535;
/// Bytes of its head after another whole block: three bits and their padding, LEN and NLEN.
const STORED_HEAD: usize = 5;

/// Bytes that [`store`] adds to a chunk of `len` bytes.
pub fn stored_len(len: usize) -> usize {
    len + STORED_HEAD * len.div_ceil(STORED_MAX)
}

/// Appends a chunk uncompressed, as stored blocks. It must not be the last chunk of its message.
/// Its bytes are two slices, `first` and then the second.
pub fn store(bytes: [&[u8]; 2], out: &mut Vec<u8>) {
    let [mut first, mut second] = bytes;
    let len = first.len() + second.len();
    // Of nothing there is no block: see `stored_len`.
    if (1..=STORED_MAX).contains(&len) {
        // The common case, taken once per subscriber.
        let [low, high] = (len as u16).to_le_bytes();
        out.extend_from_slice(&[0, low, high, !low, !high]);
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        return;
    }
    while !(first.is_empty() && second.is_empty()) {
        let len = (first.len() + second.len()).min(STORED_MAX);
        let (one, first_rest) = first.split_at(len.min(first.len()));
        let (other, second_rest) = second.split_at(len - one.len());
        let len = len as u16;
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(one);
        out.extend_from_slice(other);
        (first, second) = (first_rest, second_rest);
    }
}

fn deflate(stream: &mut Compress, message: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // Room for a result as long as the message: if that is not enough, compressing gains nothing.
    out.reserve(message.len() + 16);
    let status = stream.compress_vec(message, out, FlushCompress::Sync);
    status.expect("compressing a raw stream cannot fail");
    let full = out.len() == out.capacity();
    // RFC 7692 §7.2.1: the last four bytes are not sent.
    let end = out.len() - FLUSH.len();
    let shorter = !full && end - start < message.len();
    assert!(full || out[end..] == FLUSH, "a flush ends with an empty stored block");
    out.truncate(if shorter { end } else { start });
    shorter
}

/// The inflate history of one direction: the last plain bytes of its compressed messages, for
/// context takeover.
#[derive(Debug)]
pub struct Window {
    bytes: Vec<u8>,
    bits: u8,
}

impl Window {
    /// An empty window; `bits` as agreed for the direction.
    pub fn new(bits: u8) -> Window {
        assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits));
        Window { bytes: Vec::new(), bits }
    }

    /// Bytes that it has now, at most two to the power of its bits.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a compressed message; `message` is its plain form. The first one allocates the window,
    /// at its full size.
    pub fn push(&mut self, message: &[u8]) {
        let size = 1 << self.bits;
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(size);
        }
        let kept = &message[message.len().saturating_sub(size)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(size);
        self.bytes.drain(..over);
        self.bytes.extend_from_slice(kept);
    }
}

/// Inflates one message at a time, for any session.
///
/// Call [`Inflater::begin`], then [`Inflater::feed`] with the compressed bytes in any chunks, then
/// [`Inflater::finish`]. After an error, or for the next message, call `begin` again. A session
/// keeps the *compressed* bytes of an incomplete message until it is complete.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    /// Output of one step.
    step: Box<[u8; STEP]>,
    /// For a text message, the state at its last code point.
    text: Option<Utf8>,
    /// Bytes by which the message may still grow.
    room: usize,
    /// Nothing was fed since the stream was reset.
    fresh: bool,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater {
            stream: Decompress::new(false),
            step: Box::new([0; STEP]),
            text: None,
            room: 0,
            fresh: true,
        }
    }
}

impl Inflater {
    /// About 60 KiB.
    pub fn new() -> Inflater {
        Inflater::default()
    }

    /// Begins a message of at most `message_max` inflated bytes.
    pub fn begin(&mut self, opcode: Opcode, message_max: u32) {
        self.restart();
        self.text = (opcode == Opcode::Text).then(Utf8::new);
        self.room = message_max as usize;
    }

    /// As [`Inflater::begin`], for a session with context takeover. Once the message is finished,
    /// the caller pushes it to the window.
    pub fn begin_after(&mut self, opcode: Opcode, message_max: u32, window: &Window) {
        self.begin(opcode, message_max);
        if !window.bytes.is_empty() {
            let taken = self.stream.set_dictionary(&window.bytes);
            taken.expect("a raw stream accepts a dictionary at any time");
        }
    }

    fn restart(&mut self) {
        self.stream.reset(false);
        self.fresh = true;
    }

    /// Inflates a chunk of the message and appends it to `out`.
    pub fn feed(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        // A step that filled its output may have left input unread.
        let mut pending = false;
        while pending || !chunk.is_empty() {
            self.fresh = false;
            let (from, at) = (self.stream.total_in(), self.stream.total_out());
            let flush = FlushDecompress::None;
            let status = self.stream.decompress(chunk, &mut self.step[..], flush);
            // Both are lengths within slices.
            chunk = &chunk[(self.stream.total_in() - from) as usize..];
            let made = (self.stream.total_out() - at) as usize;
            // Bytes before a fault are validated first, however the input is cut.
            self.take(made, out)?;
            pending = made == STEP;
            match status {
                Err(_) => return Err(Error::NotDeflate),
                // RFC 7692 §7.2.3.4: blocks may follow a final block. They refer to nothing before
                // it.
                Ok(Status::StreamEnd) => {
                    self.restart();
                    pending = false;
                }
                // The output has room left, so the input has run out.
                Ok(Status::Ok | Status::BufError) => assert!(pending || chunk.is_empty()),
            }
        }
        Ok(())
    }

    /// Validates a step's output in the order of its bytes, and appends it to `out`.
    fn take(&mut self, made: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let fits = &self.step[..made.min(self.room)];
        if let Some(utf8) = &mut self.text
            && !utf8.push(fits)
        {
            return Err(Error::TextNotUtf8);
        }
        if made > self.room {
            return Err(Error::MessageTooBig);
        }
        self.room -= made;
        out.extend_from_slice(fits);
        Ok(())
    }

    /// Ends the message and appends the rest of it to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        // Fresh: the message has no bytes at all (RFC 7692 wants at least one), or it ended with a
        // final block. Clients send both, and nothing is missing.
        if !self.fresh {
            self.feed(&END, out)?;
            if !self.fresh {
                return Err(Error::NotDeflate);
            }
        }
        let whole = self.text.is_none_or(Utf8::is_complete);
        if whole { Ok(()) } else { Err(Error::TextNotUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u32 = 1_000_000;

    /// Inflates one message from the given chunks. Returns its bytes and the result.
    fn chunks(
        inflater: &mut Inflater,
        opcode: Opcode,
        max: u32,
        chunks: &[&[u8]],
    ) -> (Vec<u8>, Result<(), Error>) {
        let mut out = Vec::new();
        inflater.begin(opcode, max);
        let fed = chunks.iter().try_for_each(|chunk| inflater.feed(chunk, &mut out));
        let end = fed.and_then(|()| inflater.finish(&mut out));
        (out, end)
    }

    /// Inflates the bytes whole and one by one: both must give the same.
    fn inflated(opcode: Opcode, max: u32, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut inflater = Inflater::new();
        let (out, end) = chunks(&mut inflater, opcode, max, &[bytes]);
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        let (out_each, end_each) = chunks(&mut inflater, opcode, max, &each);
        assert_eq!(end, end_each);
        end.map(|()| {
            assert_eq!(out, out_each);
            out
        })
    }

    fn compressed(message: &[u8], bits: u8) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Compressor::new().compress(message, bits, &mut out));
        out
    }

    /// Pseudo-random bytes.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn the_examples_of_rfc_7692_7_2_3() {
        for bytes in [
            // One block. In two frames the bytes are the same.
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            // A block without compression.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // A block with BFINAL.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflated(Opcode::Text, 5, bytes), Ok(b"Hello".to_vec()), "{bytes:02x?}");
        }
        // An empty message, and one that has no bytes at all.
        assert_eq!(inflated(Opcode::Text, 0, &[0x00]), Ok(vec![]));
        assert_eq!(inflated(Opcode::Text, 0, &[]), Ok(vec![]));
    }

    #[test]
    fn the_shared_window_of_rfc_7692_7_2_3_2() {
        let (mut inflater, mut out) = (Inflater::new(), Vec::new());
        let mut window = Window::new(15);
        let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for bytes in [&first[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]] {
            out.clear();
            inflater.begin_after(Opcode::Text, 5, &window);
            inflater.feed(bytes, &mut out).expect("valid");
            inflater.finish(&mut out).expect("whole");
            assert_eq!(out, b"Hello");
            window.push(&out);
        }
        assert_eq!(window.held(), 10);
        // The message of another session cannot refer to it.
        let alone = chunks(&mut inflater, Opcode::Text, 5, &[&[0xf2, 0x00, 0x11, 0x00, 0x00]]);
        assert_eq!(alone.1, Err(Error::NotDeflate));
    }

    #[test]
    fn streams_that_end_within_a_message() {
        let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        // Without the byte of RFC 7692 §7.2.3.4 after it, and twice.
        assert_eq!(inflated(Opcode::Text, MAX, &hello), Ok(b"Hello".to_vec()));
        let twice = [&hello[..], &hello, &[0x00]].concat();
        assert_eq!(inflated(Opcode::Text, MAX, &twice), Ok(b"HelloHello".to_vec()));
    }

    #[test]
    fn incomplete_and_invalid_messages() {
        let error = |bytes: &[u8]| inflated(Opcode::Binary, MAX, bytes).expect_err("a fault");
        // A reserved block type; lengths that disagree; a reference beyond the beginning.
        assert_eq!(error(&[0x07]), Error::NotDeflate);
        assert_eq!(error(&[0x00, 0x05, 0x00, 0x00, 0x00, 0x48]), Error::NotDeflate);
        assert_eq!(error(&[0xf2, 0x00, 0x11, 0x00, 0x00]), Error::NotDeflate);
        // Cut at any byte: between blocks it is a valid, shorter message, elsewhere an error.
        let whole = compressed(&[&noise(300)[..], &[7; 900]].concat(), 15);
        for len in 1..whole.len() {
            assert_eq!(error(&whole[..len]), Error::NotDeflate, "{len}");
        }
        // With the tail that a sender has to remove.
        let left_on = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff];
        assert_eq!(error(&left_on), Error::NotDeflate);
        assert_eq!(Error::NotDeflate.close_code(), 1007);
    }

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let bomb = compressed(&vec![0; 64 << 20], 15);
        assert!(bomb.len() < 100_000);
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        inflater.begin(Opcode::Binary, 65_536);
        assert_eq!(inflater.feed(&bomb, &mut out), Err(Error::MessageTooBig));
        assert_eq!(Error::MessageTooBig.close_code(), 1009);
        assert!(out.len() <= 65_536 && inflater.stream.total_out() <= 65_536 + STEP as u64);
        for (len, fits) in [(1_000, true), (1_001, false), (STEP + 1, false), (0, true)] {
            let end = inflated(Opcode::Binary, 1_000, &compressed(&vec![5; len.max(50)], 15));
            assert_eq!(end.is_ok(), fits, "{len}");
        }
        // A message of exactly one step, whose end is exactly at the bound.
        let step = compressed(&vec![5; STEP], 15);
        assert_eq!(inflated(Opcode::Binary, STEP as u32, &step).map(|out| out.len()), Ok(STEP));
    }

    #[test]
    fn text_is_validated_as_it_is_inflated() {
        let text = |text: &[u8], max| inflated(Opcode::Text, max, &compressed(text, 15));
        let good = "κόσµε €😀".repeat(40);
        assert_eq!(text(good.as_bytes(), MAX), Ok(good.clone().into_bytes()));
        let mut bad = good.repeat(3_000).into_bytes();
        bad[20] = 0xff;
        let mut inflater = Inflater::new();
        let (out, end) = chunks(&mut inflater, Opcode::Text, MAX, &[&compressed(&bad, 15)]);
        assert_eq!((out.len(), end), (0, Err(Error::TextNotUtf8)));
        assert!(inflater.stream.total_out() <= STEP as u64);
        assert_eq!(inflated(Opcode::Binary, u32::MAX, &compressed(&bad, 15)), Ok(bad.clone()));
        // The first faulty byte decides the error: the bound, or an invalid byte before it.
        assert_eq!(text(&bad, 21), Err(Error::TextNotUtf8));
        assert_eq!(text(&bad, 20), Err(Error::MessageTooBig));
        let cut = &good.as_bytes()[..good.len() - 1];
        assert_eq!(text(cut, MAX), Err(Error::TextNotUtf8));
    }

    /// All window sizes (Autobahn 13.3 to 13.7 among them), with shorter and longer messages.
    #[test]
    fn every_window_and_size_comes_back() {
        let mut compressor = Compressor::new();
        let mut inflater = Inflater::new();
        for bits in 8..=15 {
            for len in [40, 250, 256, 257, 512, 600, 4_096, 40_000, 131_072] {
                let run = &noise(701)[..len.min(701)];
                let message: Vec<u8> = run.iter().copied().cycle().take(len).collect();
                let message = [&message[..], &[b'x'; 30]].concat();
                let mut out = b"before".to_vec();
                if !compressor.compress(&message, bits, &mut out) {
                    assert_eq!(out, b"before");
                    continue;
                }
                assert!(out.len() < 6 + message.len());
                let (back, end) = chunks(&mut inflater, Opcode::Binary, MAX, &[&out[6..]]);
                assert_eq!((back == message, end), (true, Ok(())), "{bits} {len}");
            }
        }
    }

    #[test]
    fn a_message_that_does_not_shrink_is_not_compressed() {
        let mut compressor = Compressor::new();
        let mut out = Vec::new();
        for message in [&b""[..], b"a", b"Hello", &noise(30_000)] {
            for window in 8..=15 {
                assert!(!compressor.compress(message, window, &mut out));
                assert!(out.is_empty());
            }
        }
        // The same result after a stream that was abandoned in the middle of its output.
        let text = b"destination:/topic/a ".repeat(50);
        assert!(compressor.compress(&text, 15, &mut out));
        assert_eq!(inflated(Opcode::Text, MAX, &out), Ok(text));
    }

    #[test]
    fn messages_with_takeover_refer_back_and_only_their_session_can_read_them() {
        for bits in [8, 9, 12, 15] {
            let mut compressor = Compressor::new();
            let (mut ours, mut theirs) = (Window::new(bits), Window::new(bits));
            let mut inflater = Inflater::new();
            // Random 6-bit values shrink by a quarter; only earlier messages can make them shorter.
            let quote: Vec<u8> = noise(100 << (bits - 8)).iter().map(|byte| byte & 63).collect();
            let mut sizes = Vec::new();
            for round in 0..6u8 {
                let message = [&quote[..], &[round; 40]].concat();
                let mut out = Vec::new();
                assert!(compressor.compress_after(&message, &mut ours, &mut out));
                let mut back = Vec::new();
                inflater.begin_after(Opcode::Binary, MAX, &theirs);
                inflater.feed(&out, &mut back).expect("valid");
                inflater.finish(&mut back).expect("whole");
                assert_eq!(back, message);
                theirs.push(&back);
                sizes.push(out.len());
            }
            assert_eq!(ours.bytes, theirs.bytes);
            assert!(ours.held() <= 1 << bits);
            assert!(sizes[1..].iter().all(|size| *size < sizes[0] / 2), "{sizes:?}");
        }
    }

    #[test]
    fn a_window_keeps_the_last_bytes() {
        let mut window = Window::new(8);
        let said = noise(1_000);
        let mut at = 0;
        for len in [0, 1, 200, 100, 255, 256, 0, 188] {
            window.push(&said[at..at + len]);
            at += len;
            assert_eq!(window.bytes, said[at.saturating_sub(256)..at]);
        }
        window.push(&said);
        assert_eq!(window.bytes, said[1_000 - 256..]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            words in proptest::collection::vec("[a-e]{1,9}|\\PC{1,3}", 0..200),
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            bits in 8u8..=15,
            max in prop::sample::select(vec![10, 300, 2_000]),
        ) {
            let text = words.concat().into_bytes();
            let mut bytes = Vec::new();
            Compressor::new().compress(&text, bits, &mut bytes);
            let valid = damage.is_none() && !bytes.is_empty();
            if let (Some((index, byte)), false) = (damage, bytes.is_empty()) {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut from = 0;
            let parts: Vec<&[u8]> = cuts.iter().map(|cut| {
                let part = &bytes[from..*cut];
                from = *cut;
                part
            }).collect();
            let whole = inflated(Opcode::Text, max, &bytes);
            let (out, end) = chunks(&mut Inflater::new(), Opcode::Text, max, &parts);
            prop_assert_eq!(end.map(|()| out), whole.clone());
            if valid && text.len() <= max as usize {
                prop_assert_eq!(whole, Ok(text));
            }
        }
    }
}

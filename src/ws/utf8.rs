//! Validates the UTF-8 of a text message that arrives in chunks (RFC 6455 §8.1), as early as
//! possible: the first byte that no valid text could have there is an error, even while its code
//! point is incomplete.

/// What is known about the code point at the boundary of two chunks. Three bytes of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Utf8 {
    /// Bytes that the open code point still needs; 0 if none is open.
    missing: u8,
    /// The lowest byte that may come next within the open code point.
    low: u8,
    /// The highest byte that may come next within the open code point.
    high: u8,
}

impl Utf8 {
    /// Before the first byte of a text.
    pub(super) const fn new() -> Utf8 {
        Utf8 { missing: 0, low: 0x80, high: 0xbf }
    }

    /// Whether the text may end here.
    pub(super) const fn is_complete(self) -> bool {
        self.missing == 0
    }

    /// Validates the next chunk. `false`: the text so far is no prefix of valid UTF-8.
    #[must_use]
    pub(super) fn push(&mut self, chunk: &[u8]) -> bool {
        // Most chunks end where a code point does.
        if self.missing == 0 && simdutf8::basic::from_utf8(chunk).is_ok() {
            return true;
        }
        self.push_any(chunk)
    }

    fn push_any(&mut self, mut chunk: &[u8]) -> bool {
        while self.missing > 0 {
            let Some((&byte, rest)) = chunk.split_first() else { return true };
            if !self.step(byte) {
                return false;
            }
            chunk = rest;
        }
        // simdutf8 validates the bulk at once; only the code point that the end of the chunk cuts
        // is validated byte by byte.
        let (bulk, tail) = chunk.split_at(chunk.len() - open_tail(chunk));
        simdutf8::basic::from_utf8(bulk).is_ok() && tail.iter().all(|&byte| self.step(byte))
    }

    /// One byte: the table of well-formed sequences (Unicode 16, table 3-7; RFC 3629 §4).
    fn step(&mut self, byte: u8) -> bool {
        if self.missing > 0 {
            let fits = (self.low..=self.high).contains(&byte);
            *self = Utf8 { missing: self.missing - 1, ..Utf8::new() };
            return fits;
        }
        let (missing, low, high) = match byte {
            0x00..=0x7f => (0, 0x80, 0xbf),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xe1..=0xec | 0xee..=0xef => (2, 0x80, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return false,
        };
        *self = Utf8 { missing, low, high };
        true
    }
}

/// How many bytes at the end belong to a code point that continues in the next chunk: 0 to 3.
fn open_tail(chunk: &[u8]) -> usize {
    for (back, &byte) in chunk.iter().rev().take(3).enumerate() {
        let len = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if len > back + 1 { back + 1 } else { 0 };
    }
    0
}

const _: () = assert!(core::mem::size_of::<Utf8>() <= 4);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the standard library: `None` if no valid text begins like this, otherwise
    /// whether the text is complete.
    fn naive(bytes: &[u8]) -> Option<bool> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Some(true),
            Err(error) if error.error_len().is_none() => Some(false),
            Err(_) => None,
        }
    }

    fn validated(chunks: &[&[u8]]) -> Option<bool> {
        let mut utf8 = Utf8::new();
        chunks.iter().all(|chunk| utf8.push(chunk)).then(|| utf8.is_complete())
    }

    #[test]
    fn every_boundary_byte_at_four_places() {
        // Both sides of every boundary in the table; every other byte behaves like one of these.
        let boundaries = [
            0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1,
            0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        for index in 0..boundaries.len().pow(4) {
            let at =
                |place: u32| boundaries[index / boundaries.len().pow(place) % boundaries.len()];
            let bytes = [at(0), at(1), at(2), at(3)];
            let expected = naive(&bytes);
            assert_eq!(validated(&[&bytes]), expected, "{bytes:02x?}");
            let (a, b) = bytes.split_at(index % 3 + 1);
            assert_eq!(validated(&[a, b]), expected, "{bytes:02x?} cut at {}", a.len());
            if naive(a).is_none() {
                assert_eq!(validated(&[a]), None, "{a:02x?} is refused at once");
            }
        }
    }

    #[test]
    fn one_byte_and_the_empty_chunk() {
        assert_eq!(validated(&[]), Some(true));
        assert_eq!(validated(&[b"", b""]), Some(true));
        for byte in 0..=255u8 {
            assert_eq!(validated(&[&[byte]]), naive(&[byte]));
            assert_eq!(validated(&[&[byte], b""]), naive(&[byte]));
        }
    }

    #[test]
    fn autobahn_6_4_fails_at_the_first_invalid_byte() {
        // U+110000 begins with f4, like valid text; only its second byte shows that it is invalid.
        let mut utf8 = Utf8::new();
        assert!(utf8.push("κόσµε".as_bytes()));
        assert!(utf8.push(&[0xf4]));
        assert!(!utf8.is_complete());
        assert!(!utf8.push(&[0x90]));
    }

    proptest! {
        #[test]
        fn chunks_agree_with_the_standard_library(
            text in "\\PC{0,80}",
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut bytes = text.into_bytes();
            if let (Some((index, byte)), false) = (damage, bytes.is_empty()) {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                chunks.push(&bytes[from..cut]);
                from = cut;
                let mut utf8 = Utf8::new();
                let alive = chunks.iter().all(|chunk| utf8.push(chunk));
                prop_assert_eq!(alive.then(|| utf8.is_complete()), naive(&bytes[..cut]));
            }
        }
    }
}

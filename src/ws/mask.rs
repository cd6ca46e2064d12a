//! Masking (RFC 6455 §5.3): each payload byte is XORed with the key byte at its position mod 4.
//!
//! Speed: a core stores one 32-byte vector per cycle, which also bounds memcpy and memset of a
//! payload in the cache. With AVX2, unmasking takes as long as memset at every size from 1 KiB on,
//! so nothing in place can be faster. Compared with memcpy: 1.0 × its speed at 1 KiB, 1.15 × at
//! 4 KiB, 1.1 to 1.6 × at 16 KiB (memcpy's two buffers may just fit the cache), 2.0 × from 64 KiB
//! on, since unmasking touches half the memory. AVX-512 gave no more (a store takes two cycles),
//! and the baseline's 16-byte vectors half. In decode, choosing AVX2 at run time gains 1.4 × at
//! 1 KiB and 1.9 × from 4 KiB on; payloads below `LONG` skip it. The command:
//! `cargo bench --bench frame -- ws/`

#[cfg(target_arch = "x86_64")]
use fearless_simd::{Level, Simd};

/// Masks or unmasks `payload` in place. `phase` is how many bytes of the frame's payload precede
/// it, so that a payload may be unmasked in chunks.
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4], phase: usize) {
    let key = rotated(key, phase);
    // Most messages are short; they should not pay for the choice of vectors.
    if payload.len() < LONG { short(payload, key) } else { dispatch(payload, key) }
}

#[inline(never)]
fn dispatch(payload: &mut [u8], key: [u8; 4]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = Level::new().as_avx2() {
        return avx2.vectorize(
            #[inline(always)]
            || long(payload, key),
        );
    }
    long(payload, key);
}

/// Uses vectors as wide as the caller's target has.
#[inline(always)]
fn long(payload: &mut [u8], key: [u8; 4]) {
    // A payload may begin at any address. A vector that crosses a cache line costs two stores, so
    // the bytes up to an aligned address are done first.
    let until_aligned = payload.as_ptr().addr().wrapping_neg() % VECTOR;
    let (head, bulk) = payload.split_at_mut(until_aligned);
    short(head, key);
    let key = rotated(key, until_aligned);
    // Eight bytes are two keys, so every word has the same mask, and LLVM makes vectors of it.
    let (words, rest) = bulk.as_chunks_mut::<8>();
    let pattern = twice(key);
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ pattern).to_ne_bytes();
    }
    short(rest, key);
}

/// Bytes from which on vectors are worth their set-up.
const LONG: usize = 256;
/// Bytes of the widest vector used.
const VECTOR: usize = 32;

/// Uses no vectors: no set-up, and few branches for the lengths of most frames.
#[inline]
fn short(payload: &mut [u8], key: [u8; 4]) {
    let pattern = u128::from(twice(key));
    let pattern = pattern << 64 | pattern;
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        *block = (u128::from_ne_bytes(*block) ^ pattern).to_ne_bytes();
    }
    let (keys, rest) = rest.as_chunks_mut::<4>();
    for bytes in keys {
        *bytes = (u32::from_ne_bytes(*bytes) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Two keys side by side.
fn twice(key: [u8; 4]) -> u64 {
    let key = u64::from(u32::from_ne_bytes(key));
    key << 32 | key
}

/// The key rotated to a payload that continues after `phase` bytes.
pub(super) const fn rotated(key: [u8; 4], phase: usize) -> [u8; 4] {
    let bits = (phase & 3) as u32 * 8;
    u32::from_le_bytes(key).rotate_right(bits).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6455 §5.3, word for word: byte i XOR key[i mod 4].
    fn naive(payload: &[u8], key: [u8; 4], phase: usize) -> Vec<u8> {
        payload.iter().enumerate().map(|(i, byte)| byte ^ key[(i + phase) % 4]).collect()
    }

    #[test]
    fn every_length_address_and_phase_agrees_with_the_rule() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * LONG).collect();
        for len in (0..80).chain(LONG - 2..LONG + 80) {
            for from in 0..=VECTOR {
                let phase = len + from;
                let mut fast = bytes.clone();
                apply(&mut fast[from..from + len], key, phase);
                assert_eq!(fast[from..from + len], naive(&bytes[from..from + len], key, phase));
                // Bytes outside the payload are unchanged.
                assert_eq!(fast[..from], bytes[..from]);
                if len >= VECTOR {
                    // As on a machine without AVX2.
                    long(&mut fast[from..from + len], rotated(key, phase));
                    assert_eq!(fast, bytes);
                    long(&mut fast[from..from + len], rotated(key, phase));
                }
                assert_eq!(fast[from + len..], bytes[from + len..]);
            }
        }
    }

    #[test]
    fn the_hello_of_rfc_6455_5_7() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }

    proptest! {
        #[test]
        fn chunks_make_the_same_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            key in any::<[u8; 4]>(),
            cut in 0usize..600,
            offset in 0usize..8,
        ) {
            let offset = offset.min(bytes.len());
            let bytes = &bytes[offset..];
            let cut = cut.min(bytes.len());
            let mut chunks = bytes.to_vec();
            apply(&mut chunks[..cut], key, 0);
            apply(&mut chunks[cut..], key, cut);
            prop_assert_eq!(&chunks, &naive(bytes, key, 0));
            apply(&mut chunks, key, 0);
            prop_assert_eq!(&chunks[..], bytes);
        }
    }
}

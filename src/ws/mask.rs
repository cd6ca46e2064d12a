//! Masking (RFC 6455 §5.3): every octet XOR the key octet of its place in the frame's payload.

/// Masks or unmasks `payload` in place. `phase` is how many octets of the frame's payload came
/// before it, so that a payload may be unmasked in pieces.
pub fn apply(payload: &mut [u8], key: [u8; 4], phase: usize) {
    let [a, b, c, d] = rotated(key, phase);
    // Eight octets are two keys, so every word meets the same pattern: a loop that LLVM turns into
    // vectors as wide as the target has them.
    let pattern = [a, b, c, d, a, b, c, d];
    let wide = u64::from_ne_bytes(pattern);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (octet, key) in rest.iter_mut().zip(pattern) {
        *octet ^= key;
    }
}

/// The key as it meets a payload that goes on after `phase` octets.
pub(super) const fn rotated(key: [u8; 4], phase: usize) -> [u8; 4] {
    let bits = (phase & 3) as u32 * 8;
    u32::from_le_bytes(key).rotate_right(bits).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6455 §5.3, word for word: octet i XOR key[i mod 4].
    fn naive(payload: &[u8], key: [u8; 4], phase: usize) -> Vec<u8> {
        payload.iter().enumerate().map(|(i, octet)| octet ^ key[(i + phase) % 4]).collect()
    }

    #[test]
    fn every_short_length_and_phase_agrees_with_the_rule() {
        let octets: Vec<u8> = (0..=255).cycle().take(300).collect();
        for len in 0..octets.len() {
            for phase in 0..5 {
                let mut fast = octets[..len].to_vec();
                apply(&mut fast, [0x37, 0xfa, 0x21, 0x3d], phase);
                assert_eq!(fast, naive(&octets[..len], [0x37, 0xfa, 0x21, 0x3d], phase));
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
        fn pieces_make_the_same_whole(
            octets in proptest::collection::vec(any::<u8>(), 0..600),
            key in any::<[u8; 4]>(),
            cut in 0usize..600,
            offset in 0usize..8,
        ) {
            let offset = offset.min(octets.len());
            let octets = &octets[offset..];
            let cut = cut.min(octets.len());
            let mut pieces = octets.to_vec();
            apply(&mut pieces[..cut], key, 0);
            apply(&mut pieces[cut..], key, cut);
            prop_assert_eq!(&pieces, &naive(octets, key, 0));
            apply(&mut pieces, key, 0);
            prop_assert_eq!(&pieces[..], octets);
        }
    }
}

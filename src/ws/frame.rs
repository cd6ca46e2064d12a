//! Frame heads (RFC 6455 §5.2): writes and measures them, and reads their length field.

use super::error::Error;
use crate::limits::{WS_CLIENT_HEAD_MAX, WS_CONTROL_MAX, WS_HEAD_MAX};

/// FIN: the frame ends its message.
pub(super) const FIN: u8 = 0x80;
/// RSV1: the message is compressed, where permessage-deflate was agreed (RFC 7692 §6).
pub(super) const RSV1: u8 = 0x40;
/// All three reserved bits.
pub(super) const RSV: u8 = 0x70;
/// MASK, in the second byte.
pub(super) const MASK: u8 = 0x80;
/// Length field: two bytes follow.
const LEN_16: u8 = 126;
/// Length field: eight bytes follow.
const LEN_64: u8 = 127;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further frame of a message.
    Continuation = 0,
    /// The first frame of a message in UTF-8.
    Text = 1,
    /// The first frame of a message of bytes.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// Asks for a Pong with the same payload.
    Ping = 9,
    /// Answers a Ping, or is sent unrequested as a heart-beat.
    Pong = 10,
}

impl Opcode {
    /// The opcode of a frame's first byte; `None` for the reserved ones.
    pub const fn from_first_byte(first: u8) -> Option<Opcode> {
        Some(match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// Close, Ping or Pong (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        self as u8 & 0x08 != 0
    }
}

/// Bytes of the shortest unmasked head for a payload of `len` bytes.
pub const fn head_len(len: u64) -> usize {
    match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Writes an unmasked head (what a server sends) in its shortest form and returns its length.
pub fn head(opcode: Opcode, fin: bool, len: u64, out: &mut [u8; WS_HEAD_MAX]) -> usize {
    // RFC 6455 §5.5: we must not send a control frame that we would refuse from a peer.
    assert!(!opcode.is_control() || (fin && len <= WS_CONTROL_MAX as u64));
    assert!(len >> 63 == 0, "RFC 6455 §5.2: the highest bit of a length is 0");
    out[0] = opcode as u8 | if fin { FIN } else { 0 };
    match len {
        0..=125 => out[1] = len as u8,
        126..=0xffff => {
            out[1] = LEN_16;
            out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out[1] = LEN_64;
            out[2..10].copy_from_slice(&len.to_be_bytes());
        }
    }
    head_len(len)
}

/// As [`head`], for the first frame of a compressed message (RFC 7692 §6: only the first frame has
/// RSV1).
pub fn compressed_head(opcode: Opcode, fin: bool, len: u64, out: &mut [u8; WS_HEAD_MAX]) -> usize {
    assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
    let at = head(opcode, fin, len, out);
    out[0] |= RSV1;
    at
}

/// Writes a masked head (what a client sends) in its shortest form and returns its length. The
/// payload has to be masked with the same key.
pub fn client_head(
    opcode: Opcode,
    fin: bool,
    len: u64,
    key: [u8; 4],
    out: &mut [u8; WS_CLIENT_HEAD_MAX],
) -> usize {
    let (unmasked, _) = out.split_first_chunk_mut().expect("14 bytes have a first 10");
    let at = head(opcode, fin, len, unmasked);
    out[1] |= MASK;
    out[at..at + 4].copy_from_slice(&key);
    at + 4
}

/// The whole length, head and payload, of the frame that begins with `head`, masked or not. `None`:
/// the length field is not complete yet. Does not validate the frame.
pub fn frame_len(head: &[u8]) -> Option<u64> {
    let (payload, at) = length(head)?;
    let key = if head[1] & MASK == 0 { 0 } else { 4 };
    // Only a length with its highest bit set (an error of the peer) comes near the end of u64.
    Some(payload.saturating_add(at as u64 + key))
}

/// The payload length and where the length field ends, not validated.
#[inline]
pub(super) fn length(input: &[u8]) -> Option<(u64, usize)> {
    match *input {
        [_, second, ..] if second & !MASK < LEN_16 => Some((u64::from(second & !MASK), 2)),
        [_, second, a, b, ..] if second & !MASK == LEN_16 => {
            Some((u64::from(u16::from_be_bytes([a, b])), 4))
        }
        [_, second, a, b, c, d, e, f, g, h, ..] if second & !MASK == LEN_64 => {
            Some((u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10))
        }
        _ => None,
    }
}

/// Validates a length field that ended at `at`.
#[inline]
pub(super) const fn validate_length(len: u64, at: usize) -> Result<(), Error> {
    // RFC 6455 §5.2: "the most significant bit MUST be 0".
    if len >> 63 != 0 {
        return Err(Error::LengthHighBit);
    }
    // RFC 6455 §5.2: "the minimal number of bytes MUST be used to encode the length".
    if at != head_len(len) {
        return Err(Error::LengthNotMinimal);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BORDERS: [u64; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, u32::MAX as u64, u64::MAX >> 1];

    #[test]
    fn heads_measure_what_they_announce() {
        for len in BORDERS {
            let mut out = [0; 10];
            let written = head(Opcode::Binary, true, len, &mut out);
            assert_eq!(written, head_len(len));
            assert_eq!(frame_len(&out[..written]), Some(len + written as u64));
            assert_eq!(length(&out[..written]), Some((len, written)));
            assert_eq!(validate_length(len, written), Ok(()));
            for short in 0..written {
                assert_eq!(frame_len(&out[..short]), None);
            }
            let mut masked = [0; 14];
            let with_key = client_head(Opcode::Binary, true, len, [1, 2, 3, 4], &mut masked);
            assert_eq!(with_key, written + 4);
            assert_eq!(frame_len(&masked[..written]), Some(len + with_key as u64));
            assert_eq!(masked[written..with_key], [1, 2, 3, 4]);
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_5_7() {
        let mut out = [0; 10];
        assert_eq!(head(Opcode::Text, true, 5, &mut out), 2);
        assert_eq!(out[..2], [0x81, 0x05]);
        assert_eq!(head(Opcode::Text, false, 3, &mut out), 2);
        assert_eq!(out[..2], [0x01, 0x03]);
        assert_eq!(head(Opcode::Continuation, true, 2, &mut out), 2);
        assert_eq!(out[..2], [0x80, 0x02]);
        assert_eq!(head(Opcode::Binary, true, 256, &mut out), 4);
        assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(head(Opcode::Binary, true, 65_536, &mut out), 10);
        assert_eq!(out, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        // RFC 7692 §7.2.3.1.
        assert_eq!(compressed_head(Opcode::Text, true, 7, &mut out), 2);
        assert_eq!(out[..2], [0xc1, 0x07]);
        assert_eq!(compressed_head(Opcode::Text, false, 3, &mut out), 2);
        assert_eq!(out[..2], [0x41, 0x03]);
        let mut masked = [0; 14];
        assert_eq!(client_head(Opcode::Text, true, 5, [0x37, 0xfa, 0x21, 0x3d], &mut masked), 6);
        assert_eq!(masked[..6], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]);
    }

    #[test]
    fn long_forms_of_short_lengths_are_wrong() {
        assert_eq!(validate_length(125, 4), Err(Error::LengthNotMinimal));
        assert_eq!(validate_length(0, 10), Err(Error::LengthNotMinimal));
        assert_eq!(validate_length(65_535, 10), Err(Error::LengthNotMinimal));
        assert_eq!(validate_length(1 << 63, 10), Err(Error::LengthHighBit));
    }

    #[test]
    fn opcodes_by_number() {
        let known: Vec<_> = (0..=255u8).filter_map(Opcode::from_first_byte).collect();
        assert_eq!(known.len(), 16 * 6);
        for opcode in &known[..6] {
            assert_eq!(Opcode::from_first_byte(*opcode as u8 | 0xf0), Some(*opcode));
            let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
            assert_eq!(opcode.is_control(), control);
        }
    }

    #[test]
    #[should_panic]
    fn a_ping_over_125_bytes_is_never_written() {
        head(Opcode::Ping, true, 126, &mut [0; 10]);
    }
}

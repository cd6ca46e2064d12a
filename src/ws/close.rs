//! The payload of a Close frame (RFC 6455 §5.5.1, §7.4).

use super::error::Error;
use crate::limits::WS_CONTROL_MAX;

/// Whether a Close frame may carry this code: codes of the IANA registry that are not reserved for
/// local use, and the ranges for libraries and applications (RFC 6455 §7.4.1, §7.4.2).
pub const fn close_code_is_valid(code: u16) -> bool {
    // 1004 has no meaning; 1005, 1006 and 1015 must never be on the wire.
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Writes a Close frame's payload and returns its length. A reason over 123 bytes is cut before
/// the first code point that does not fit.
pub fn close_payload(code: u16, reason: &str, out: &mut [u8; WS_CONTROL_MAX]) -> usize {
    assert!(close_code_is_valid(code), "close code {code} must not be sent");
    let reason = &reason[..reason.floor_char_boundary(WS_CONTROL_MAX - 2)];
    let len = 2 + reason.len();
    out[..2].copy_from_slice(&code.to_be_bytes());
    out[2..len].copy_from_slice(reason.as_bytes());
    len
}

/// Reads an unmasked Close payload.
pub(super) fn read(payload: &[u8]) -> Result<(Option<u16>, &str), Error> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(Error::CloseLength),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !close_code_is_valid(code) {
                return Err(Error::CloseCode);
            }
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Error::CloseReason)?;
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_wire() {
        // RFC 6455 §7.4: the boundaries of every range.
        for code in [1000, 1003, 1007, 1010, 1011, 1012, 1014, 3000, 3999, 4000, 4500, 4999] {
            assert!(close_code_is_valid(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            assert!(!close_code_is_valid(code), "{code}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = [0; WS_CONTROL_MAX];
        let len = close_payload(1000, "", &mut out);
        assert_eq!(read(&out[..len]), Ok((Some(1000), "")));
        let len = close_payload(4500, "no CONNECT came", &mut out);
        assert_eq!(read(&out[..len]), Ok((Some(4500), "no CONNECT came")));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_code_point() {
        let mut out = [0; WS_CONTROL_MAX];
        for lead in 0..4 {
            let reason = format!("{}{}", "x".repeat(lead), "€".repeat(60));
            let len = close_payload(1001, &reason, &mut out);
            let (code, read) = read(&out[..len]).expect("a payload of our own");
            assert_eq!(code, Some(1001));
            assert!(reason.starts_with(read));
            assert!((121..=123).contains(&read.len()));
        }
        assert_eq!(close_payload(1001, &"x".repeat(123), &mut out), 125);
        assert_eq!(close_payload(1001, &"x".repeat(124), &mut out), 125);
    }

    #[test]
    fn wrong_payloads() {
        assert_eq!(read(b""), Ok((None, "")));
        assert_eq!(read(&[3]), Err(Error::CloseLength));
        assert_eq!(read(&1005u16.to_be_bytes()), Err(Error::CloseCode));
        assert_eq!(read(&[0x03, 0xe8, 0xce]), Err(Error::CloseReason));
        // If code and reason are both wrong, the error names the code.
        assert_eq!(read(&[0x03, 0xed, 0xff]), Err(Error::CloseCode));
    }

    #[test]
    #[should_panic(expected = "must not be sent")]
    fn a_code_of_local_use_is_never_sent() {
        close_payload(1006, "", &mut [0; WS_CONTROL_MAX]);
    }
}

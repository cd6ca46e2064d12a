//! What every message of a run carries: its number and when it was due, in 32 octets of text that
//! every transport leaves as they are (no octet of it is ever escaped).
//!
//! ```text
//!  #rp:00000000002a:00000000075bcd15
//!  │   │            └ due, nanoseconds of the run's clock, 15 hexadecimal digits
//!  │   └ sequence number, 12 hexadecimal digits
//!  └ marker
//! ```

use memchr::memmem::Finder;

/// Octets of a stamp.
pub const STAMP_LEN: usize = 32;
const MARKER: &[u8; 4] = b"#rp:";
const SEQUENCE_END: usize = 4 + 12;
const DUE_START: usize = SEQUENCE_END + 1;

/// Number and time of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Counts the messages of one stream from zero.
    pub sequence: u64,
    /// When it was to be sent.
    pub due: u64,
}

/// Finds stamps; made once, used for every frame.
#[derive(Debug)]
pub struct Stamps {
    marker: Finder<'static>,
}

impl Default for Stamps {
    fn default() -> Stamps {
        Stamps { marker: Finder::new(MARKER) }
    }
}

impl Stamps {
    /// The first stamp in `payload`, and where it ends.
    #[inline]
    pub fn find(&self, payload: &[u8]) -> Option<(Stamp, usize)> {
        let start = self.marker.find(payload)?;
        let text: &[u8; STAMP_LEN] = payload[start..].first_chunk()?;
        let sequence = number(&text[MARKER.len()..SEQUENCE_END])?;
        let due = number(&text[DUE_START..])?;
        Some((Stamp { sequence, due }, start + STAMP_LEN))
    }
}

impl Stamp {
    /// Writes the stamp at the start of `out`, which has at least [`STAMP_LEN`] octets.
    pub fn write(self, out: &mut [u8]) {
        out[..MARKER.len()].copy_from_slice(MARKER);
        put(self.sequence, &mut out[MARKER.len()..SEQUENCE_END]);
        out[SEQUENCE_END] = b':';
        put(self.due, &mut out[DUE_START..STAMP_LEN]);
    }

    /// A body of `size` octets that begins with the stamp.
    pub fn body(self, size: usize) -> Vec<u8> {
        let mut body = vec![b'x'; size.max(STAMP_LEN)];
        self.write(&mut body);
        body
    }
}

/// Writes the lowest digits.
fn put(mut value: u64, out: &mut [u8]) {
    for octet in out.iter_mut().rev() {
        *octet = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[inline]
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let stamps = Stamps::default();
        for (sequence, due) in [(0, 0), (42, 123_456_789), ((1 << 48) - 1, (1 << 60) - 1)] {
            let stamp = Stamp { sequence, due };
            let mut text = b"a[\"MESSAGE\\n\\n".to_vec();
            let start = text.len();
            text.extend(stamp.body(128));
            assert_eq!(text.len(), start + 128);
            assert_eq!(stamps.find(&text), Some((stamp, start + STAMP_LEN)));
            assert_eq!(stamps.find(&text[..start + STAMP_LEN - 1]), None);
        }
    }

    #[test]
    fn two_stamps_in_one_frame_are_found_one_after_the_other() {
        let [first, second] = [1, 2].map(|sequence| Stamp { sequence, due: 7 });
        let text = [first.body(40), second.body(40)].concat();
        let stamps = Stamps::default();
        let (found, end) = stamps.find(&text).expect("two are there");
        assert_eq!(found, first);
        assert_eq!(stamps.find(&text[end..]).map(|found| found.0), Some(second));
    }

    #[test]
    fn other_text_is_no_stamp() {
        assert_eq!(Stamps::default().find(b"#rp:00000000zz2a:00000000075bcd15 and more"), None);
        assert_eq!(Stamps::default().find(b""), None);
    }
}

//! The stamp of every message of a run: its number and when it was due, in 32 bytes of text that
//! every transport leaves unchanged (no byte of it is ever escaped).
//!
//! ```text
//!  #rp:00000000002a:00000000075bcd15
//!  │   │            └ due, nanoseconds of the run's clock, 15 hexadecimal digits
//!  │   └ sequence number, 12 hexadecimal digits
//!  └ marker
//! ```

use memchr::memmem::Finder;

/// Bytes of a stamp.
pub const STAMP_LEN: usize = 32;
const MARKER: &[u8; 4] = b"#rp:";
const SEQUENCE_END: usize = 4 + 12;
const DUE_START: usize = SEQUENCE_END + 1;

/// The content of a message besides its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Filling {
    /// One letter, repeated; not meaningful for compression.
    Letters,
    /// JSON like that of a telephony cloud, with different numbers in each message.
    Json,
}

/// Number and time of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Counts the messages of one stream from zero.
    pub sequence: u64,
    /// When it was due.
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
    /// Writes the stamp at the start of `out`, which has at least [`STAMP_LEN`] bytes.
    pub fn write(self, out: &mut [u8]) {
        out[..MARKER.len()].copy_from_slice(MARKER);
        put(self.sequence, &mut out[MARKER.len()..SEQUENCE_END]);
        out[SEQUENCE_END] = b':';
        put(self.due, &mut out[DUE_START..STAMP_LEN]);
    }

    /// A body of `size` bytes that begins with the stamp.
    pub fn body(self, size: usize) -> Vec<u8> {
        let mut body = vec![b'x'; size.max(STAMP_LEN)];
        self.write(&mut body);
        body
    }

    /// A JSON object of `size` bytes with the stamp: calls, then blanks.
    fn json(self, size: usize) -> Vec<u8> {
        const END: &str = "]}";
        let text = String::from_utf8(self.body(STAMP_LEN)).expect("a stamp is text");
        let mut body = format!("{{\"stamp\":\"{text}\",\"calls\":[");
        // Different numbers in every message: steps of splitmix64.
        let mut state = self.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for call in 0.. {
            state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ state >> 27;
            let comma = if call == 0 { "" } else { "," };
            let row = format!(
                "{comma}{{\"callId\":\"{state:016x}\",\"from\":\"+4930{:07}\",\"agentId\":\"{}\",\
                 \"status\":\"{}\",\"seconds\":{}}}",
                state % 10_000_000,
                state >> 24 & 1023,
                ["RINGING", "ANSWERED", "BUSY", "NO_ANSWER"][(state >> 40 & 3) as usize],
                state >> 48 & 511,
            );
            if body.len() + row.len() + END.len() > size {
                break;
            }
            body.push_str(&row);
        }
        body.push_str(END);
        body.extend(core::iter::repeat_n(' ', size.saturating_sub(body.len())));
        body.into_bytes()
    }
}

impl Filling {
    /// A body of `size` bytes with the stamp; a JSON body is larger if the stamp needs it.
    pub fn body(self, stamp: Stamp, size: usize) -> Vec<u8> {
        match self {
            Filling::Letters => stamp.body(size),
            Filling::Json => stamp.json(size),
        }
    }

    /// The same as a value within other JSON.
    pub fn value(self, stamp: Stamp, size: usize) -> String {
        let body = String::from_utf8(self.body(stamp, size)).expect("it is text");
        match self {
            Filling::Letters => format!("\"{body}\""),
            Filling::Json => body,
        }
    }
}

/// Writes the lowest digits.
fn put(mut value: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(value & 15) as usize];
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
    fn json_is_json_of_its_size_with_the_stamp() {
        let stamp = Stamp { sequence: 3, due: 7 };
        for size in [64, 128, 200, 2_048] {
            let body = Filling::Json.body(stamp, size);
            assert_eq!(body.len(), size);
            assert_eq!(Stamps::default().find(&body).map(|found| found.0), Some(stamp));
            let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let calls = json["calls"].as_array().expect("a list").len();
            assert!(calls >= size.saturating_sub(160) / 110, "{json}");
        }
        assert_eq!(Filling::Json.body(stamp, 32).len(), 55);
        for filling in [Filling::Letters, Filling::Json] {
            let value = filling.value(stamp, 200);
            assert!(serde_json::from_str::<serde_json::Value>(&value).is_ok(), "{value}");
        }
    }

    #[test]
    fn other_text_is_no_stamp() {
        assert_eq!(Stamps::default().find(b"#rp:00000000zz2a:00000000075bcd15 and more"), None);
        assert_eq!(Stamps::default().find(b""), None);
    }
}

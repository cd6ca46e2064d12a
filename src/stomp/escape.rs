//! Header escaping of the three versions, in both directions.
//!
//! | version | in | out |
//! |---|---|---|
//! | 1.0 | none: a backslash is a backslash | cannot be escaped: CR and LF are dropped |
//! | 1.1 | `\\` `\n` `\c`, and `\r` as other servers do | `\\` `\n` `\c`; CR is dropped |
//! | 1.2 | `\\` `\n` `\c` `\r` | the same |
//!
//! A NUL anywhere ends a frame, and no version has an escape for it: it is dropped. In a *name*,
//! such bytes become `_` instead, so that a name never becomes empty or another header.

use super::{Error, Version};

/// Writes a text or counts its bytes. One code path serves both, so lengths are exact.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_all(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.put(part);
        }
    }
}

/// Counts.
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Writes.
pub(super) struct Fill<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) len: usize,
}

impl<'a> Fill<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Fill<'a> {
        Fill { out, len: 0 }
    }
}

impl Sink for Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        // The caller has asked for `len`, so a slice that is too short is its bug and panics here.
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Which half of a header line is being written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Name,
    Value,
}

/// Whether a byte may need more than a copy in a header.
pub(super) fn is_special(byte: u8) -> bool {
    SPECIAL[usize::from(byte)]
}

/// [`is_special`] as a table, since every byte of every name and value is checked.
const SPECIAL: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'\\' | b'\n' | b'\r' | b':' | 0);
        byte += 1;
    }
    table
};

/// The replacement of a special byte in a header of `version`.
fn replacement(byte: u8, version: Version, half: Half) -> &'static [u8] {
    assert!(is_special(byte), "only special bytes are replaced");
    let unsayable: &[u8] = if half == Half::Name { b"_" } else { b"" };
    match (byte, version) {
        (b'\\', Version::V1_0) => b"\\",
        // STOMP 1.0 splits at the first colon. In a value a colon is harmless; in a name it would
        // forge a header.
        (b':', Version::V1_0) if half == Half::Value => b":",
        (0, _) | (_, Version::V1_0) | (b'\r', Version::V1_1) => unsayable,
        (b'\\', _) => b"\\\\",
        (b'\n', _) => b"\\n",
        (b'\r', _) => b"\\r",
        // The only one that is left: the colon.
        _ => b"\\c",
    }
}

/// Writes the escaped form of a raw name or value.
pub(super) fn escape(sink: &mut impl Sink, raw: &[u8], version: Version, half: Half) {
    let mut rest = raw;
    // Most have none: all bytes are looked at, without a branch for each.
    if !raw.iter().fold(false, |any, &byte| any | is_special(byte)) {
        return sink.put(raw);
    }
    while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
        sink.put(&rest[..at]);
        sink.put(replacement(rest[at], version, half));
        rest = &rest[at + 1..];
    }
    sink.put(rest);
}

/// Rewrites one line half from 1.2's escaped form to the form of `version`.
pub(super) fn transcode(sink: &mut impl Sink, escaped: &[u8], version: Version, half: Half) {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        sink.put(&rest[..at]);
        let symbol = rest.get(at + 1).copied();
        let raw = symbol.and_then(meaning).expect("canonical headers are our own escaped form");
        sink.put(replacement(raw, version, half));
        rest = &rest[at + 2..];
    }
    sink.put(rest);
}

/// The byte that an escape stands for.
fn meaning(symbol: u8) -> Option<u8> {
    match symbol {
        b'\\' => Some(b'\\'),
        b'n' => Some(b'\n'),
        b'c' => Some(b':'),
        b'r' => Some(b'\r'),
        _ => None,
    }
}

/// Whether every backslash starts an escape.
pub(super) fn check(text: &[u8]) -> Result<(), Error> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        rest.get(at + 1).copied().and_then(meaning).ok_or(Error::BadEscape)?;
        rest = &rest[at + 2..];
    }
    Ok(())
}

/// Unescapes in place and returns the new length. In 1.0 nothing changes. On an undefined escape
/// nothing changes either.
///
/// STOMP 1.1 knows no `\r`; RabbitMQ, ActiveMQ and Spring accept it there, and so does this.
pub fn unescape(text: &mut [u8], version: Version) -> Result<usize, Error> {
    if version == Version::V1_0 {
        return Ok(text.len());
    }
    check(text)?;
    let Some(first) = memchr::memchr(b'\\', text) else { return Ok(text.len()) };
    let (mut read, mut write) = (first, first);
    while read < text.len() {
        let byte = text[read];
        let escaped = byte == b'\\';
        text[write] = if escaped { meaning(text[read + 1]).expect("checked above") } else { byte };
        read += 1 + usize::from(escaped);
        write += 1;
    }
    Ok(write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(raw: &[u8], version: Version, half: Half) -> Vec<u8> {
        let mut count = Count(0);
        escape(&mut count, raw, version, half);
        let mut out = vec![0; count.0];
        let mut fill = Fill::new(&mut out);
        escape(&mut fill, raw, version, half);
        assert_eq!(fill.len, count.0);
        out
    }

    fn unescaped(text: &[u8], version: Version) -> Result<Vec<u8>, Error> {
        let mut copy = text.to_vec();
        let len = unescape(&mut copy, version)?;
        copy.truncate(len);
        Ok(copy)
    }

    #[test]
    fn each_version_escapes_what_it_can() {
        let raw = b"a\\b\nc\rd:e\0f";
        assert_eq!(escaped(raw, Version::V1_0, Half::Value), b"a\\bcd:ef");
        assert_eq!(escaped(raw, Version::V1_1, Half::Value), b"a\\\\b\\ncd\\cef");
        assert_eq!(escaped(raw, Version::V1_2, Half::Value), b"a\\\\b\\nc\\rd\\cef");
        assert_eq!(escaped(raw, Version::V1_0, Half::Name), b"a\\b_c_d_e_f");
        assert_eq!(escaped(raw, Version::V1_1, Half::Name), b"a\\\\b\\nc_d\\ce_f");
    }

    #[test]
    fn escapes_are_read_strictly_but_for_the_old_version() {
        assert_eq!(unescaped(b"\\\\n\\n\\c\\r", Version::V1_2), Ok(b"\\n\n:\r".to_vec()));
        assert_eq!(unescaped(b"\\r", Version::V1_1), Ok(b"\r".to_vec()));
        for bad in [&b"\\t"[..], b"x\\", b"\\\\\\", b"\\N"] {
            assert_eq!(unescaped(bad, Version::V1_1), Err(Error::BadEscape));
            assert_eq!(unescaped(bad, Version::V1_2), Err(Error::BadEscape));
            assert_eq!(unescaped(bad, Version::V1_0), Ok(bad.to_vec()));
        }
    }

    proptest! {
        #[test]
        fn escaping_and_unescaping_changes_nothing(raw in "[\\\\\n\r:a-c\u{4e2d}]{0,24}") {
            let raw = raw.as_bytes();
            let there = escaped(raw, Version::V1_2, Half::Value);
            prop_assert_eq!(unescaped(&there, Version::V1_2).unwrap(), raw);
            let there = escaped(raw, Version::V1_1, Half::Value);
            let no_cr: Vec<u8> = raw.iter().copied().filter(|&byte| byte != b'\r').collect();
            prop_assert_eq!(unescaped(&there, Version::V1_1).unwrap(), no_cr);
        }

        #[test]
        fn transcoding_equals_escaping_the_raw(raw in "[\\\\\n\r:a-c\u{4e2d}]{0,24}") {
            for half in [Half::Name, Half::Value] {
                let canonical = escaped(raw.as_bytes(), Version::V1_2, half);
                for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
                    let mut out = vec![0; 2 * raw.len()];
                    let mut fill = Fill::new(&mut out);
                    transcode(&mut fill, &canonical, version, half);
                    let len = fill.len;
                    prop_assert_eq!(&out[..len], escaped(raw.as_bytes(), version, half));
                }
            }
        }
    }
}

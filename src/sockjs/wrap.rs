//! What answers over HTTP put around frames, and what waits for such an answer: units, which are
//! quoted strings behind a comma each, so that several of them make the frame `a[…]`.

use super::framing::{Fill, Sink};
use crate::encoding::Wrap;

/// What is put before a frame.
const fn opening(wrap: Wrap) -> &'static [u8] {
    match wrap {
        Wrap::Line => b"",
        Wrap::Event => b"data: ",
        Wrap::Script => b"<script>\np(\"",
    }
}

/// What is put behind a frame.
const fn end(wrap: Wrap) -> &'static [u8] {
    match wrap {
        Wrap::Line => b"\n",
        Wrap::Event => b"\r\n\r\n",
        Wrap::Script => b"\");\n</script>\r\n",
    }
}

/// Digits of the longest length of a chunk: what fits a limit's four bytes.
const CHUNK_DIGITS: usize = 8;
/// Bytes around a chunk at most.
pub const CHUNK: usize = CHUNK_DIGITS + 2 * b"\r\n".len();
/// The chunk after which none comes.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Adds a frame as an answer has it: what it is made of comes in `parts`. Says how many bytes of
/// the answer's body that is.
pub fn write_wrapped(wrap: Wrap, chunked: bool, parts: &[&[u8]], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    if chunked {
        out.extend_from_slice(&[b'0'; CHUNK_DIGITS]);
        out.extend_from_slice(b"\r\n");
    }
    let body = out.len();
    out.extend_from_slice(opening(wrap));
    for part in parts {
        match wrap {
            Wrap::Line => out.extend_from_slice(part),
            Wrap::Event => escape_event(part, out),
            Wrap::Script => escape_script(part, out),
        }
    }
    out.extend_from_slice(end(wrap));
    let len = out.len() - body;
    if chunked {
        out.extend_from_slice(b"\r\n");
        let digits = (usize::BITS - len.leading_zeros()).div_ceil(4) as usize;
        assert!(digits <= CHUNK_DIGITS, "a chunk is no longer than limits allow");
        for at in 0..digits {
            out[start + at] = b"0123456789abcdef"[len >> (4 * (digits - 1 - at)) & 0xf];
        }
        out.drain(start + digits..start + CHUNK_DIGITS);
    }
    len
}

/// The client decodes an event's data as it does a URL.
fn escape_event(bytes: &[u8], out: &mut Vec<u8>) {
    for (at, part) in bytes.split(|byte| *byte == b'%').enumerate() {
        out.extend_from_slice(if at == 0 { b"" } else { b"%25" });
        out.extend_from_slice(part);
    }
}

/// As the text of a JavaScript string, which cannot end the script around it. Frames have no
/// control characters left.
fn escape_script(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'<' => out.extend_from_slice(b"\\u003c"),
            byte => out.push(byte),
        }
    }
}

/// Adds the answer of a JSONP poll: a script that calls `callback` with the frame.
pub fn write_jsonp(callback: &str, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(b"/**/");
    out.extend_from_slice(callback.as_bytes());
    out.extend_from_slice(b"(\"");
    parts.iter().for_each(|part| escape_script(part, out));
    out.extend_from_slice(b"\");\r\n");
}

/// The lengths of the head and of the data of the chunk that begins with `bytes`; None if its head
/// is not there.
fn chunk_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.iter().take(CHUNK_DIGITS + 1).position(|byte| *byte == b'\r')?;
    let text = core::str::from_utf8(&bytes[..digits]).ok()?;
    let len = usize::from_str_radix(text, 16).ok()?;
    Some((digits + 2, len))
}

/// The whole length of the wrapped frame that begins with `bytes`, and how much of it is the
/// answer's body. Of a chunk its head is enough, and the rest may be missing; any other has to be
/// there to its end, which is that of a line, since no frame has one within. Else None.
pub fn wrapped_len(wrap: Wrap, chunked: bool, bytes: &[u8]) -> Option<(usize, usize)> {
    if chunked {
        let (head, len) = chunk_len(bytes)?;
        return Some((head + len + 2, len));
    }
    let end = match wrap {
        Wrap::Line => bytes.iter().position(|byte| *byte == b'\n')? + 1,
        Wrap::Event => bytes.iter().position(|byte| *byte == b'\r')? + 4,
        Wrap::Script => bytes.iter().position(|byte| *byte == b'\r')? + 2,
    };
    (end <= bytes.len()).then_some((end, end))
}

/// The length of the unit that begins with `bytes`; None if its end is not there.
pub fn unit_len(bytes: &[u8]) -> Option<usize> {
    let mut at = b",\"".len();
    loop {
        at += bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match bytes[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// Adds the unit that a whole wrapped frame `a["…"]` was made of.
pub fn unwrap_unit(wrap: Wrap, chunked: bool, bytes: &[u8], out: &mut Vec<u8>) {
    let head = if chunked { chunk_len(bytes).map_or(0, |(head, _)| head) } else { 0 };
    let tail = end(wrap).len() + if chunked { 2 } else { 0 };
    let frame = &bytes[head + opening(wrap).len()..bytes.len() - tail];
    // Without `a[` and `]`, of which no wrapping changes the length.
    let inner = &frame[2..frame.len() - 1];
    out.push(b',');
    match wrap {
        Wrap::Line => out.extend_from_slice(inner),
        Wrap::Event => {
            let mut rest = inner;
            while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
                out.extend_from_slice(&rest[..=at]);
                rest = &rest[at + b"%25".len()..];
            }
            out.extend_from_slice(rest);
        }
        Wrap::Script => {
            let mut rest = inner;
            while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
                out.extend_from_slice(&rest[..at]);
                let is_less = rest[at + 1] == b'u';
                out.push(if is_less { b'<' } else { rest[at + 1] });
                rest = &rest[at + if is_less { b"\\u003c".len() } else { 2 }..];
            }
            out.extend_from_slice(rest);
        }
    }
}

/// Writes the unit of a text and returns its length. Panics if `out` is shorter than
/// `quoted_len(text) + 3`.
pub fn write_unit(text: &str, out: &mut [u8]) -> usize {
    let mut fill = Fill::new(out);
    fill.put(b",");
    super::framing::put_quoted(&mut fill, text);
    fill.len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(text: &str) -> Vec<u8> {
        let mut out = vec![0; super::super::quoted_len(text) + 3];
        assert_eq!(write_unit(text, &mut out), out.len());
        out
    }

    #[test]
    fn frames_are_wrapped_as_the_protocol_shows_them() {
        let mut out = Vec::new();
        assert_eq!(write_wrapped(Wrap::Line, true, &[b"o"], &mut out), 2);
        assert_eq!(out, b"2\r\no\n\r\n");
        out.clear();
        write_wrapped(Wrap::Event, false, &[b"a[", b"\"100%\"", b"]"], &mut out);
        assert_eq!(out, b"data: a[\"100%25\"]\r\n\r\n");
        out.clear();
        write_wrapped(Wrap::Script, false, &[b"a[\"</script>\\n\"]"], &mut out);
        assert_eq!(
            out,
            b"<script>\np(\"a[\\\"\\u003c/script>\\\\n\\\"]\");\n</script>\r\n".as_slice()
        );
        out.clear();
        write_jsonp("_jp.a1", &[b"a[\"x\"]"], &mut out);
        assert_eq!(out, b"/**/_jp.a1(\"a[\\\"x\\\"]\");\r\n");
        out.clear();
        assert_eq!(write_wrapped(Wrap::Line, true, &[&[b'x'; 4095]], &mut out), 4096);
        assert!(out.starts_with(b"1000\r\nx") && out.len() == 4096 + 8);
    }

    proptest! {
        /// A unit comes back out of each wrapping, and its length out of its bytes alone.
        #[test]
        fn what_is_wrapped_can_be_unwrapped(
            text in "(\\PC{0,20}|[a-z%<\"\\\\]{0,20}|[\n\0\u{2028}\u{1f600}]){0,4}",
            behind in "[,\"\\\\a-z\r\n]{0,8}",
        ) {
            let unit = unit(&text);
            let and_more = [&unit, behind.as_bytes()].concat();
            prop_assert_eq!(unit_len(&and_more), Some(unit.len()));
            for short in 0..unit.len() {
                prop_assert_eq!(unit_len(&unit[..short]), None);
            }
            for wrap in [Wrap::Line, Wrap::Event, Wrap::Script] {
                for chunked in [false, true] {
                    let (mut out, mut back) = (Vec::new(), Vec::new());
                    let body = write_wrapped(wrap, chunked, &[b"a[", &unit[1..], b"]"], &mut out);
                    let len = out.len();
                    out.extend_from_slice(behind.as_bytes());
                    prop_assert_eq!(wrapped_len(wrap, chunked, &out), Some((len, body)));
                    unwrap_unit(wrap, chunked, &out[..len], &mut back);
                    prop_assert_eq!(&back, &unit);
                }
            }
        }
    }
}

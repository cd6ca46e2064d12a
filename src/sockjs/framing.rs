//! Writes messages and close reasons as frames: JSON, quoted so that every browser can read it.

/// The first frame of a session.
pub const OPEN: &str = "o";
/// A heart-beat frame.
pub const HEARTBEAT: &str = "h";

/// Counts bytes or writes them. One code path serves both, so lengths are exact.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
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
    out: &'a mut [u8],
    pub(super) len: usize,
}

impl<'a> Fill<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Fill<'a> {
        Fill { out, len: 0 }
    }
}

impl Sink for Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        // The caller has asked for the length, so a slice that is too short is its bug.
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Bytes of the frame `a["text"]`.
pub fn message_len(text: &str) -> usize {
    messages_len([text])
}

/// Writes the frame `a["text"]` and returns its length. Panics if `out` is shorter than
/// [`message_len`].
pub fn write_message(text: &str, out: &mut [u8]) -> usize {
    write_messages([text], out)
}

/// The bytes before the quoted text of the frame `a["text"]`.
pub const MESSAGE_OPENING: &str = "a[\"";
/// The bytes after it.
pub const MESSAGE_END: &str = "\"]";

/// Bytes of a text, or of a part of one, between the quotes of a frame.
pub fn quoted_len(text: &str) -> usize {
    let mut count = Count(0);
    put_text(&mut count, text);
    count.0
}

/// Writes a text, or a part of one, in its form between the quotes of a frame. Returns its
/// length. Panics if `out` is shorter than [`quoted_len`].
pub fn write_quoted(text: &str, out: &mut [u8]) -> usize {
    let mut fill = Fill::new(out);
    put_text(&mut fill, text);
    fill.len
}

/// Bytes of one frame with several messages.
pub fn messages_len<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    let mut count = Count(0);
    put_messages(&mut count, texts);
    count.0
}

/// Writes one frame with several messages and returns its length. Panics if `out` is shorter than
/// [`messages_len`].
pub fn write_messages<'a>(texts: impl IntoIterator<Item = &'a str>, out: &mut [u8]) -> usize {
    let mut fill = Fill::new(out);
    put_messages(&mut fill, texts);
    fill.len
}

/// Bytes of the frame `c[code,"reason"]`.
pub fn close_len(code: u16, reason: &str) -> usize {
    let mut count = Count(0);
    put_close(&mut count, code, reason);
    count.0
}

/// Writes the frame `c[code,"reason"]` and returns its length. Panics if `out` is shorter than
/// [`close_len`].
pub fn write_close(code: u16, reason: &str, out: &mut [u8]) -> usize {
    let mut fill = Fill::new(out);
    put_close(&mut fill, code, reason);
    fill.len
}

fn put_messages<'a>(sink: &mut impl Sink, texts: impl IntoIterator<Item = &'a str>) {
    let mut opening: &[u8] = b"a[";
    for text in texts {
        sink.put(opening);
        put_quoted(sink, text);
        opening = b",";
    }
    assert!(opening == b",", "a frame carries at least one message");
    sink.put(b"]");
}

fn put_close(sink: &mut impl Sink, code: u16, reason: &str) {
    sink.put(b"c[");
    put_number(sink, u32::from(code));
    sink.put(b",");
    put_quoted(sink, reason);
    sink.put(b"]");
}

pub(super) fn put_number(sink: &mut impl Sink, number: u32) {
    let (mut digits, mut at, mut rest) = ([0; 10], 10, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    sink.put(&digits[at..]);
}

/// Writes `text` as a JSON string.
pub(super) fn put_quoted(sink: &mut impl Sink, text: &str) {
    sink.put(b"\"");
    put_text(sink, text);
    sink.put(b"\"");
}

/// Writes the text between the quotes. Characters are independent, so it may come in parts.
fn put_text(sink: &mut impl Sink, text: &str) {
    let bytes = text.as_bytes();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = next_candidate(bytes, at) {
        let character = text[found..].chars().next().expect("a candidate starts a character");
        at = found + character.len_utf8();
        if is_escaped(character) {
            sink.put(&bytes[copied..found]);
            put_escaped(sink, character);
            copied = at;
        }
    }
    sink.put(&bytes[copied..]);
}

/// Whether a byte starts a character that may be escaped; all others are copied as they are. 0xE2
/// starts U+2000–2FFF, 0xEF U+F000–FFFF, and larger bytes start everything past U+FFFF.
const fn is_candidate(byte: u8) -> bool {
    // No `||`: its branch would keep the compiler from comparing many bytes at once.
    (byte < b' ') | (byte == b'"') | (byte == b'\\') | (byte == 0xE2) | (byte >= 0xEF)
}

/// [`is_candidate`] as a table, for one byte at a time.
const CANDIDATES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 256 {
        table[byte] = is_candidate(byte as u8);
        byte += 1;
    }
    table
};

/// The first candidate at or after `from`.
fn next_candidate(bytes: &[u8], from: usize) -> Option<usize> {
    const BLOCK: usize = 32;
    let scan = |range: &[u8]| range.iter().position(|&byte| CANDIDATES[usize::from(byte)]);
    // JSON has its quotes close together: blocks are worth it only if the next one is far.
    let mut at = bytes.len().min(from + BLOCK);
    if let Some(offset) = scan(&bytes[from..at]) {
        return Some(from + offset);
    }
    while let Some(block) = bytes.get(at..at + BLOCK) {
        if block.iter().fold(false, |any, &byte| any | is_candidate(byte)) {
            break;
        }
        at += BLOCK;
    }
    scan(&bytes[at..]).map(|offset| at + offset)
}

/// The protocol's set: characters that JSON requires to be escaped, and those that broke the JSON
/// or script engine of some browser.
fn is_escaped(character: char) -> bool {
    matches!(character,
        '\0'..='\x1f' | '"' | '\\'
        | '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}'
        | '\u{fff0}'..)
}

fn put_escaped(sink: &mut impl Sink, character: char) {
    match character {
        '"' => sink.put(b"\\\""),
        '\\' => sink.put(b"\\\\"),
        '\n' => sink.put(b"\\n"),
        '\r' => sink.put(b"\\r"),
        '\t' => sink.put(b"\\t"),
        '\x08' => sink.put(b"\\b"),
        '\x0c' => sink.put(b"\\f"),
        character => {
            // Past U+FFFF: a surrogate pair, as the reference server does.
            for &unit in &*character.encode_utf16(&mut [0; 2]) {
                let digit = |shift: u16| b"0123456789abcdef"[usize::from(unit >> shift & 0xf)];
                sink.put(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(text: &str) -> String {
        let mut out = vec![b'#'; message_len(text) + 1];
        let len = write_message(text, &mut out);
        assert_eq!((len + 1, out[len]), (out.len(), b'#'), "the length is exact");
        out.truncate(len);
        let frame = String::from_utf8(out).unwrap();
        frame.strip_prefix("a[\"").unwrap().strip_suffix("\"]").unwrap().to_string()
    }

    /// One character at a time, as the protocol describes it.
    fn naive(text: &str) -> String {
        let mut out = String::new();
        for character in text.chars() {
            let code = character as u32;
            let ranges = [0..=0x1f, 0x200c..=0x200f, 0x2028..=0x202f, 0x2060..=0x206f];
            let unsafe_one = code >= 0xfff0 || ranges.iter().any(|range| range.contains(&code));
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                '\n' => out += "\\n",
                '\r' => out += "\\r",
                '\t' => out += "\\t",
                '\u{8}' => out += "\\b",
                '\u{c}' => out += "\\f",
                _ if unsafe_one => {
                    character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                        out += &format!("\\u{unit:04x}");
                    });
                }
                _ => out.push(character),
            }
        }
        out
    }

    #[test]
    fn every_character_is_quoted_as_the_protocol_says() {
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            assert_eq!(quoted(&text), naive(&text), "{character:?}");
        }
    }

    #[test]
    fn the_edges_measured_on_the_reference_server() {
        let raw = "\x7f\u{80}\u{ad}\u{200b}\u{2010}\u{2030}\u{205f}\u{2070}\u{d7ff}\u{e000}\
            \u{feff}\u{ffef}/";
        assert_eq!(quoted(raw), raw);
        assert_eq!(quoted("\u{200c}\u{2028}\u{206f}\u{fff0}"), "\\u200c\\u2028\\u206f\\ufff0");
        assert_eq!(quoted("\u{ffff}\u{1f600}\0"), "\\uffff\\ud83d\\ude00\\u0000");
        assert_eq!(quoted("来自服务器的消息！"), "来自服务器的消息！");
        assert_eq!(quoted(""), "");
    }

    #[test]
    fn frames() {
        let mut out = [0; 64];
        let len = write_messages(["x", "\n", ""], &mut out);
        assert_eq!(&out[..len], br#"a["x","\n",""]"#);
        assert_eq!(len, messages_len(["x", "\n", ""]));
        let len = write_close(3000, "Go away!", &mut out);
        assert_eq!(&out[..len], br#"c[3000,"Go away!"]"#);
        assert_eq!(len, close_len(3000, "Go away!"));
        let len = write_close(65_535, "\"\u{2028}", &mut out);
        assert_eq!(&out[..len], br#"c[65535,"\"\u2028"]"#);
    }

    proptest! {
        #[test]
        fn texts_are_quoted_like_their_characters(
            text in "(\\PC{0,40}|[a-z \u{e9}\u{4e2d}]{0,70}|[\n\"\\\\\0\u{200f}\u{1f600}]){0,4}",
        ) {
            let frame = quoted(&text);
            prop_assert_eq!(&frame, &naive(&text));
            let back: String = serde_json::from_str(&format!("\"{frame}\"")).unwrap();
            prop_assert_eq!(back, text.clone());
            // In two parts, cut anywhere.
            let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at));
            let (first, second) = text.split_at(middle.unwrap_or(0));
            let mut out = vec![0; quoted_len(first) + quoted_len(second)];
            let len = write_quoted(first, &mut out);
            write_quoted(second, &mut out[len..]);
            let parts = [MESSAGE_OPENING.as_bytes(), &out, MESSAGE_END.as_bytes()].concat();
            let mut whole = vec![0; message_len(&text)];
            write_message(&text, &mut whole);
            prop_assert_eq!(parts, whole);
        }
    }
}

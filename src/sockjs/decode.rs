//! Decodes a client's message into the strings that it carries.

use super::alloc::string::String;
use super::alloc::vec::Vec;
use core::fmt;

/// What a client did wrong. It ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Not a JSON array of strings, nor one JSON string.
    BrokenJson,
}

impl Error {
    /// The protocol's wording.
    pub fn text(self) -> &'static str {
        match self {
            Error::BrokenJson => "Broken JSON encoding.",
        }
    }

    /// The WebSocket close code, the same as the reference server's.
    pub fn close_code(self) -> u16 {
        match self {
            Error::BrokenJson => 3000,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

/// The strings of one message of a client. The caller reuses it, so that nothing is allocated once
/// it has had the largest message.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// All strings, concatenated.
    text: String,
    /// The end of each string.
    ends: Vec<usize>,
}

impl Messages {
    /// Count of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.text[start..end];
            start = end;
            text
        })
    }

    /// The string at a place.
    pub fn at(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[place]]
    }

    /// Removes the strings and keeps the capacity.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

/// Reads a text message of the WebSocket transport into `out`, which is cleared first: a JSON array
/// of strings, or one bare JSON string. An empty message has no strings. On an error `out` is
/// empty.
///
/// An unpaired surrogate, which JSON allows and UTF-8 does not, becomes U+FFFD: a browser sends
/// what its user typed, and refusing it would cost the user the session.
pub fn decode(text: &str, out: &mut Messages) -> Result<(), Error> {
    out.clear();
    let result = message(text, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn message(text: &str, out: &mut Messages) -> Result<(), Error> {
    if text.is_empty() {
        return Ok(());
    }
    let mut json = Json { rest: text };
    json.skip_blanks();
    if json.take('[') {
        json.skip_blanks();
        if !json.take(']') {
            loop {
                json.string(out)?;
                json.skip_blanks();
                if json.take(']') {
                    break;
                }
                json.expect(',')?;
                json.skip_blanks();
            }
        }
    } else {
        json.string(out)?;
    }
    json.skip_blanks();
    if json.rest.is_empty() { Ok(()) } else { Err(Error::BrokenJson) }
}

/// A cursor over JSON text (RFC 8259).
struct Json<'a> {
    rest: &'a str,
}

impl Json<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, character: char) -> Result<(), Error> {
        if self.take(character) { Ok(()) } else { Err(Error::BrokenJson) }
    }

    /// Unescapes one string and appends it to `out`.
    fn string(&mut self, out: &mut Messages) -> Result<(), Error> {
        self.expect('"')?;
        loop {
            let bytes = self.rest.as_bytes();
            let at = memchr::memchr2(b'"', b'\\', bytes).ok_or(Error::BrokenJson)?;
            // RFC 8259 §7: control characters are always escaped.
            if bytes[..at].iter().fold(false, |any, &byte| any | (byte < b' ')) {
                return Err(Error::BrokenJson);
            }
            let (raw, rest) = self.rest.split_at(at);
            out.text.push_str(raw);
            self.rest = &rest[1..];
            if rest.starts_with('"') {
                out.ends.push(out.text.len());
                return Ok(());
            }
            let character = self.escape()?;
            out.text.push(character);
        }
    }

    /// The character of the escape after a backslash.
    fn escape(&mut self) -> Result<char, Error> {
        let character = *self.rest.as_bytes().first().ok_or(Error::BrokenJson)?;
        let meaning = match character {
            b'"' | b'\\' | b'/' => char::from(character),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.rest = &self.rest[1..];
                return self.unicode();
            }
            _ => return Err(Error::BrokenJson),
        };
        self.rest = &self.rest[1..];
        Ok(meaning)
    }

    /// The character of one `uXXXX`, or of a surrogate pair. The `u` has been read.
    fn unicode(&mut self) -> Result<char, Error> {
        let unit = self.unit()?;
        if (0xd800..0xdc00).contains(&unit) {
            let mut ahead = Json { rest: self.rest };
            if ahead.take('\\') && ahead.take('u') {
                let low = ahead.unit()?;
                if (0xdc00..0xe000).contains(&low) {
                    self.rest = ahead.rest;
                    let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    return Ok(char::from_u32(code).expect("a pair is a character"));
                }
            }
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn unit(&mut self) -> Result<u32, Error> {
        let digits = self.rest.as_bytes().get(..4).ok_or(Error::BrokenJson)?;
        let mut unit = 0;
        for &digit in digits {
            let value = char::from(digit).to_digit(16).ok_or(Error::BrokenJson)?;
            unit = unit << 4 | value;
        }
        self.rest = &self.rest[4..];
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_messages;
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &str) -> Result<Vec<String>, Error> {
        let mut messages = Messages::default();
        decode("\"left from before\"", &mut messages).unwrap();
        let result = decode(text, &mut messages);
        assert!(result.is_ok() || messages.is_empty());
        assert_eq!(messages.len(), messages.iter().count());
        result.map(|()| messages.iter().map(String::from).collect())
    }

    fn strings(texts: &[&str]) -> Result<Vec<String>, Error> {
        Ok(texts.iter().map(|text| text.to_string()).collect())
    }

    #[test]
    fn arrays_and_bare_strings() {
        assert_eq!(decoded(""), strings(&[]));
        assert_eq!(decoded("[]"), strings(&[]));
        assert_eq!(decoded(" [ ] "), strings(&[]));
        assert_eq!(decoded("\"a\""), strings(&["a"]));
        assert_eq!(decoded("\"\""), strings(&[""]));
        assert_eq!(decoded("[\"x\"]"), strings(&["x"]));
        assert_eq!(decoded("\t[\"x\" ,\r\n\"\", \"y\"]\n"), strings(&["x", "", "y"]));
        let escapes = r#"["\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"]"#;
        assert_eq!(decoded(escapes), strings(&["\"\\/\x08\x0c\n\r\té\u{1f600}"]));
        assert_eq!(decoded("[\"来自\x7f\u{ffff}\"]"), strings(&["来自\x7f\u{ffff}"]));
    }

    #[test]
    fn unpaired_surrogates_are_replaced() {
        assert_eq!(decoded(r#"["\ud800"]"#), strings(&["\u{fffd}"]));
        assert_eq!(decoded(r#"["\udc00x"]"#), strings(&["\u{fffd}x"]));
        assert_eq!(decoded(r#"["\ud800\ud83d\ude00"]"#), strings(&["\u{fffd}\u{1f600}"]));
        assert_eq!(decoded(r#"["\ud800\n"]"#), strings(&["\u{fffd}\n"]));
        assert_eq!(decoded(r#"["\ud800\u0041"]"#), strings(&["\u{fffd}A"]));
        let edges = r#""\ud800\udc00\udbff\udfff\ud7ff\ue000""#;
        assert_eq!(decoded(edges), strings(&["\u{10000}\u{10ffff}\u{d7ff}\u{e000}"]));
        assert_eq!(decoded(r#"["\ude00\ud83d"]"#), strings(&["\u{fffd}\u{fffd}"]));
    }

    #[test]
    fn everything_else_is_broken() {
        for text in [
            "[",
            "]",
            "[\"x\"",
            "[\"x",
            "\"x",
            "\"",
            "[,]",
            "[\"x\",]",
            "[\"x\"\"y\"]",
            "[\"x\"]]",
            "\"x\"\"y\"",
            "[1]",
            "1",
            "null",
            "true",
            "{}",
            "[null]",
            "[[\"x\"]]",
            "[{}]",
            "x",
            " ",
            "\u{feff}[\"x\"]",
            "['x']",
            "[\"\n\"]",
            "[\"\0\"]",
            "[\"\\x\"]",
            "[\"\\",
            "[\"\\u",
            "[\"\\u12\"]",
            "[\"\\u+123\"]",
            "[\"\\ud83d\\u12\"]",
            "[\"\\u00é\"]",
            "[\"\\é\"]",
        ] {
            assert_eq!(decoded(text), Err(Error::BrokenJson), "{text:?}");
        }
        assert_eq!(Error::BrokenJson.text(), "Broken JSON encoding.");
        assert_eq!(Error::BrokenJson.close_code(), 3000);
    }

    #[test]
    fn warm_messages_keep_their_capacity() {
        let mut messages = Messages::default();
        decode("[\"abc\",\"def\"]", &mut messages).unwrap();
        let room = (messages.text.as_ptr(), messages.ends.as_ptr());
        decode("[\"d\",\"ef\"]", &mut messages).unwrap();
        assert!(messages.iter().eq(["d", "ef"]));
        assert_eq!(room, (messages.text.as_ptr(), messages.ends.as_ptr()));
    }

    proptest! {
        #[test]
        fn our_own_frames_read_back(
            texts in proptest::collection::vec("(\\PC|[\n\0\"\\\\\u{2028}\u{1f600}]){0,20}", 1..5),
        ) {
            let mut out = vec![0; texts.iter().map(|text| 6 * text.len() + 3).sum::<usize>() + 3];
            let len = write_messages(texts.iter().map(String::as_str), &mut out);
            let frame = std::str::from_utf8(&out[..len]).unwrap();
            prop_assert_eq!(decoded(&frame[1..]).unwrap(), texts);
        }

        #[test]
        fn it_agrees_with_a_whole_json_parser(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                "[", "]", ",", "\"", "\"", "\"a\"", "\\", "n", "\\u00", "41", "\\ud83d", "\\ude00",
                " ", "1", "é", "\n",
            ]), 0..12),
        ) {
            let text = parts.concat();
            let array = serde_json::from_str::<Vec<String>>(&text).ok();
            let bare = || serde_json::from_str::<String>(&text).ok().map(|text| vec![text]);
            match array.or_else(bare) {
                Some(expected) => prop_assert_eq!(decoded(&text), Ok(expected)),
                // serde_json refuses unpaired surrogates; nothing else may differ.
                None if text.is_empty() || text.contains("\\ud") || text.contains("\\ude") => {}
                None => prop_assert_eq!(decoded(&text), Err(Error::BrokenJson)),
            }
        }
    }
}

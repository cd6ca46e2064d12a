//! Finds what a sender could use to forge a server's header or frame for other clients.
//!
//! Old clients (stompjs 2.3.3, webstomp-client) trim header names, use the first of several headers
//! with one name, and end a frame at any NUL in its body. Header names are case-sensitive in STOMP
//! and in these clients: `Subscription` is not `subscription`.

/// Whether some client trims this character from a name: JavaScript's `\s`, that of its older
/// engines (U+180E, U+200B), and control characters, C1 included, which other languages trim.
///
/// ECMA-262 §22.2.2.9 `\s`: white space and line terminators, U+FEFF among them.
fn is_blank(character: char) -> bool {
    let others = matches!(character, '\u{180e}' | '\u{200b}' | '\u{feff}');
    others || character.is_whitespace() || character.is_control()
}

/// A raw name without the characters that some client trims.
fn trimmed(name: &[u8]) -> &[u8] {
    let is_graphic = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    if is_graphic(name.first()) && is_graphic(name.last()) {
        return name;
    }
    // STOMP and the API accept only UTF-8; other bytes are never trimmed.
    core::str::from_utf8(name).map_or(name, |name| name.trim_matches(is_blank).as_bytes())
}

/// Whether a raw name is empty, or some client trims all of it.
pub fn is_blank_name(name: &[u8]) -> bool {
    trimmed(name).is_empty()
}

/// The same for a name as its line has it. `escapes`: it has the escapes of STOMP 1.2.
pub(super) fn is_blank_in_line(name: &[u8], escapes: bool) -> bool {
    if name.first().is_some_and(|&byte| byte.is_ascii_graphic() && byte != b'\\') {
        return false;
    }
    let Ok(name) = core::str::from_utf8(name) else { return false };
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        let blank = match letter {
            '\\' if escapes => matches!(letters.next(), Some('n' | 'r')),
            letter => is_blank(letter),
        };
        if !blank {
            return false;
        }
    }
    true
}

/// Whether a sender's header, by its raw name, is forwarded to subscribers. The others are meant
/// for the server, or are written by the server, or some client could mistake them for those.
pub fn is_forwarded(name: &[u8]) -> bool {
    !matches!(
        trimmed(name),
        b"" | b"receipt"
            | b"transaction"
            | b"subscription"
            | b"message-id"
            | b"ack"
            | b"destination"
            | b"content-length"
            | b"retract"
            | b"replayed"
            | b"recovered"
            | b"kept"
            | b"redelivered"
    )
}

/// Whether old clients could find a second frame in this body, so that it must not be sent. Either
/// it has a NUL and is text, by its type (JSON and XML too) or because it is UTF-8 without a type.
/// Or the bytes after a NUL begin like a server's frame, whatever the type: the sender chooses the
/// type, and these clients ignore it.
pub fn splits(content_type: Option<&[u8]>, body: &[u8]) -> bool {
    let Some(first) = memchr::memchr(0, body) else { return false };
    let is_text = match content_type.map(media_type).filter(|kind| !kind.is_empty()) {
        Some(kind) => is_text_type(kind),
        None => simdutf8::basic::from_utf8(body).is_ok(),
    };
    is_text || body[first..].split(|&byte| byte == 0).skip(1).any(begins_a_frame)
}

/// `text/plain` of `text/plain;charset=UTF-8`.
fn media_type(content_type: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

/// RFC 9110 §8.3.1: types are compared without case. RFC 6839 §3.1, RFC 7303 §4.2: `+json`, `+xml`.
fn is_text_type(kind: &[u8]) -> bool {
    const TEXTS: [&[u8]; 9] = [
        b"json",
        b"xml",
        b"javascript",
        b"x-javascript",
        b"ecmascript",
        b"x-ndjson",
        b"yaml",
        b"x-yaml",
        b"x-www-form-urlencoded",
    ];
    let begins = |text: &[u8], start: &[u8]| {
        text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    let ends = |text: &[u8], end: &[u8]| {
        let at = text.len().checked_sub(end.len());
        at.is_some_and(|at| text[at..].eq_ignore_ascii_case(end))
    };
    begins(kind, b"text/")
        || ends(kind, b"+json")
        || ends(kind, b"+xml")
        || begins(kind, b"application/")
            && TEXTS.iter().any(|text| kind[b"application/".len()..].eq_ignore_ascii_case(text))
}

/// Whether the bytes between two NULs begin, after EOLs, with a line that is the command of a
/// server's frame.
fn begins_a_frame(chunk: &[u8]) -> bool {
    let chunk = chunk.trim_ascii_start();
    [&b"CONNECTED"[..], b"MESSAGE", b"RECEIPT", b"ERROR"].iter().any(|command| {
        let behind = chunk.strip_prefix(*command).and_then(<[u8]>::first);
        behind.is_some_and(|byte| byte.is_ascii_whitespace())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What JavaScript's `\s` matches, and the controls that no header's name needs.
    const BLANKS: &str = "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\
        \u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\
        \u{feff}\0\u{1}\u{1f}\u{7f}\u{80}\u{85}\u{9f}\u{180e}\u{200b}";

    const KEPT: [&str; 12] = [
        "subscription",
        "message-id",
        "ack",
        "destination",
        "content-length",
        "retract",
        "replayed",
        "recovered",
        "kept",
        "redelivered",
        "receipt",
        "transaction",
    ];

    #[test]
    fn a_header_that_trims_to_one_of_the_servers_is_not_forwarded() {
        for name in KEPT {
            assert!(!is_forwarded(name.as_bytes()), "{name}");
            for blank in BLANKS.chars() {
                for name in [
                    format!("{blank}{name}"),
                    format!("{name}{blank}"),
                    format!("{blank}\u{3000}{name} {blank}"),
                ] {
                    assert!(!is_forwarded(name.as_bytes()), "{name:?}");
                }
            }
        }
        for name in
            ["Subscription", "sub scription", "ack2", "x-ack", "acks", "-", "中", "a\u{a0}b"]
        {
            assert!(is_forwarded(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_name_of_blanks_alone_is_blank() {
        assert!(is_blank_name(b"") && is_blank_name(BLANKS.as_bytes()));
        assert!(is_blank_in_line(b"", true) && is_blank_in_line(BLANKS.as_bytes(), false));
        assert!(is_blank_in_line(b" \\n\\r\t", true) && !is_blank_in_line(b" \\n", false));
        for name in [" a", "\u{a0}中\u{a0}", "\\\\", "\\c", "\\"] {
            assert!(!is_blank_name(name.as_bytes()), "{name}");
            assert!(!is_blank_in_line(name.as_bytes(), true), "{name}");
            assert!(!is_blank_in_line(name.as_bytes(), false), "{name}");
        }
    }

    #[test]
    fn a_nul_in_text_or_before_a_frame_splits() {
        let splits = |kind: &str, body: &[u8]| splits(Some(kind.as_bytes()), body);
        for text in [
            "text/plain",
            "TEXT/html; charset=UTF-16",
            "application/json",
            " Application/XML ;a=b",
            "application/vnd.x+json",
            "image/svg+XML",
            "application/javascript",
        ] {
            assert!(splits(text, b"a\0b"), "{text}");
            assert!(!splits(text, b"ab"), "{text}");
        }
        for other in ["application/octet-stream", "image/png", "application/jsonx", "x", "text"] {
            assert!(!splits(other, b"a\0b MESSAGE\n"), "{other}");
            assert!(!splits(other, b"MESSAGE\n\0MESSAGES\n\0message\n\0MESSAGE"), "{other}");
            for frame in ["\0MESSAGE\n", "x\0y\0\n\nERROR\r\n", "\0 RECEIPT ", "\0\0CONNECTED\n"] {
                assert!(splits(other, frame.as_bytes()), "{other} {frame:?}");
            }
        }
        for none in [None, Some(&b""[..]), Some(b" ;charset=x")] {
            assert!(super::splits(none, b"\0") && super::splits(none, "中\0".as_bytes()));
            assert!(!super::splits(none, b"\xff\0") && !super::splits(none, b"\xff"));
            assert!(super::splits(none, b"\xff\0\nMESSAGE\n"));
        }
    }

    /// As stompjs 2.3.3 reads it: it splits at NULs and the LFs after them; in each part that has a
    /// blank line, the first line is the command.
    fn naive_commands(body: &str) -> Vec<&str> {
        let chunks = body.split('\0').skip(1).map(|chunk| chunk.trim_start_matches('\n'));
        chunks.filter(|chunk| chunk.contains("\n\n")).filter_map(|p| p.split('\n').next()).collect()
    }

    proptest! {
        #[test]
        fn no_allowed_body_has_a_command_for_an_old_client(
            parts in proptest::collection::vec(
                proptest::sample::select(&["\0", "\n", "MESSAGE", "ERROR", "a", " ", "\r"]), 0..12),
        ) {
            let body = parts.concat();
            if !splits(Some(b"image/png"), body.as_bytes()) {
                for command in naive_commands(&body) {
                    prop_assert!(!["MESSAGE", "ERROR"].contains(&command), "{body:?}");
                }
            }
        }
    }
}

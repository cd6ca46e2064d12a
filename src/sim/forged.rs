//! Headers that a sender forges so that an old client takes them for the server's: it trims names,
//! and uses the first of several.

use crate::stomp::ServerFrame;

/// The forged headers.
pub(super) const HEADERS: [(&str, &str); 12] = [
    ("subscription", "sub-1"),
    (" subscription", "sub-1"),
    ("subscription ", "sub-1"),
    ("\tsubscription", "sub-2"),
    ("\u{a0}subscription", "sub-1"),
    ("\u{feff}message-id", "b00t-64"),
    ("message-id", "b00t-64"),
    ("\u{b}message-id", "b00t-64"),
    (" content-length", "3"),
    ("\u{1}destination", "/user/queue/sub"),
    ("ack", "a"),
    ("recovered ", "true"),
];

/// Header names of MESSAGE that only the server may use, and those that belong to SEND alone.
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
/// The server's headers in a MESSAGE without acknowledgement, once each.
const ITS_OWN: [&str; 4] = ["subscription", "message-id", "destination", "content-length"];

/// A header of a MESSAGE that is not the server's but could be taken for it.
pub(super) fn forged(frame: &ServerFrame<'_>) -> Option<String> {
    let mut seen = [false; ITS_OWN.len()];
    for (name, value) in frame.headers() {
        let name = String::from_utf8_lossy(name);
        let plain = unescaped(&name);
        // Characters that JavaScript's \\s trims, and control characters.
        let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
        let trimmed = plain.trim_matches(is_blank);
        if !KEPT.contains(&trimmed) {
            continue;
        }
        let own = ITS_OWN.iter().position(|own| *own == name);
        if own.is_none_or(|own| core::mem::replace(&mut seen[own], true)) {
            return Some(format!("{name:?}: {:?}", String::from_utf8_lossy(value)));
        }
    }
    None
}

/// A name as a client of 1.1 or 1.2 reads it.
fn unescaped(name: &str) -> String {
    let mut plain = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('c') => ':',
                other => other.unwrap_or('\\'),
            }),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stomp::parse_server_frame;

    #[test]
    fn a_header_that_a_lenient_client_would_believe_is_found() {
        let own = "destination:/topic/a\nsubscription:s\nmessage-id:b-1\ncontent-length:1\n";
        let found = |more: &str| {
            let text = format!("MESSAGE\n{more}{own}\nx\0");
            forged(&parse_server_frame(text.as_bytes()).expect("a frame")).is_some()
        };
        assert!(!found("") && !found("note:a\nsubscriptions:x\n"));
        for (name, value) in HEADERS {
            assert!(found(&format!("{name}:{value}\n")), "{name:?}");
        }
        assert!(found("\\nsubscription:x\n") && found("receipt:x\n"));
    }
}

#![forbid(unsafe_code)]
//! Ant patterns over destinations, as Spring's AntPathMatcher reads them: `?` one character, `*`
//! any within a segment, `**` any number of segments, `{name}` like `*` and remembered.

use smallvec::SmallVec;

/// Whether a destination is to be read as a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(is_wildcard)
}

/// Whether a character makes a pattern of its segment.
pub(super) fn is_wildcard(character: char) -> bool {
    matches!(character, '*' | '?' | '{')
}

/// The values of a pattern's variables, in order of appearance: name and value.
pub type Variables<'a> = SmallVec<[(&'a str, &'a str); 4]>;

/// Whether `text` matches `pattern`, both split at `separator`.
pub fn matches(pattern: &str, text: &str, separator: char) -> bool {
    let mut steps = STEPS_MAX;
    segments_match(pattern, text, separator, &mut steps)
}

/// Like `matches`, and gives the variables' values. Variables are whole segments: `{id}`.
pub fn captures<'a>(pattern: &'a str, text: &'a str, separator: char) -> Option<Variables<'a>> {
    if !matches(pattern, text, separator) {
        return None;
    }
    let mut variables = Variables::new();
    // `**` before a variable would make it ambiguous; segments are paired from the front up to it.
    for (segment, value) in pattern.split(separator).zip(text.split(separator)) {
        if segment == "**" {
            break;
        }
        if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            variables.push((name.split(':').next().unwrap_or(name), value));
        }
    }
    Some(variables)
}

/// Steps after which a match is given up as none. Whoever chooses both sides can make one take
/// their product; what people write takes a few dozen.
const STEPS_MAX: u32 = 10_000;

/// Segment by segment. When some after a `**` do not fit, that one takes one segment more: of
/// several `**` only the last has to be tried again, since whatever an earlier one could take
/// instead, the last one can take, too.
fn segments_match(pattern: &str, text: &str, separator: char, steps: &mut u32) -> bool {
    let (mut pattern, mut text) = (Some(pattern), Some(text));
    let mut retry: Option<(&str, Option<&str>)> = None;
    loop {
        match (pattern, text) {
            (None, None) => return true,
            (Some(left), _) if split(left, separator).0 == "**" => {
                pattern = split(left, separator).1;
                let Some(behind) = pattern else { return true };
                retry = Some((behind, text));
                continue;
            }
            (Some(left), Some(whole)) => {
                let (segment, pattern_rest) = split(left, separator);
                let (part, text_rest) = split(whole, separator);
                match segment_matches(segment.as_bytes(), part.as_bytes(), steps) {
                    None => return false,
                    Some(true) => {
                        (pattern, text) = (pattern_rest, text_rest);
                        continue;
                    }
                    Some(false) => {}
                }
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        let Some((behind, Some(skipped))) = retry else { return false };
        text = split(skipped, separator).1;
        pattern = Some(behind);
        retry = Some((behind, text));
    }
}

fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((head, rest)) => (head, Some(rest)),
        None => (text, None),
    }
}

/// Wildcards within one segment, with one point of return for the last `*`: linear in practice.
/// None: the steps are used up.
fn segment_matches(pattern: &[u8], text: &[u8], steps: &mut u32) -> Option<bool> {
    // What has no wildcard is compared in one go.
    if !pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'{')) {
        *steps = steps.checked_sub(1)?;
        return Some(pattern == text);
    }
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        *steps = steps.checked_sub(1)?;
        match pattern.get(p) {
            Some(b'{') => {
                let end = pattern[p..].iter().position(|&b| b == b'}');
                let Some(end) = end else { return Some(false) };
                // A variable takes one character at least.
                if t >= text.len() {
                    return Some(false);
                }
                t += 1;
                p += end + 1;
                retry = Some((p, t));
                continue;
            }
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            Some(&b) if t < text.len() && (b == text[t] || b == b'?') => {
                let width = if b == b'?' { character_len(&text[t..]) } else { 1 };
                p += 1;
                t += width;
                continue;
            }
            None if t == text.len() => return Some(true),
            _ => {}
        }
        match retry {
            Some((pattern_at, text_at)) if text_at < text.len() => {
                retry = Some((pattern_at, text_at + 1));
                (p, t) = (pattern_at, text_at + 1);
            }
            _ => return Some(false),
        }
    }
}

fn character_len(text: &[u8]) -> usize {
    1 + text[1..].iter().take_while(|&&b| b & 0xC0 == 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cases_that_spring_was_measured_with() {
        for (pattern, text, expected) in [
            ("/topic/**", "/topic", true),
            ("/topic/**", "/topic/", true),
            ("/topic/**", "/topic/a/b", true),
            ("/topic/**", "/topicfoo", false),
            ("/topic/*", "/topic/", true),
            ("/topic/*", "/topic/abc", true),
            ("/topic/*", "/topic/abc/", false),
            ("/topic/*", "/topic", false),
            ("/topic/a?c", "/topic/abc", true),
            ("/topic/a?c", "/topic/aéc", true),
            ("/topic/a?c", "/topic/ac", false),
            ("/topic/{x}", "/topic/1", true),
            ("/topic/{n:[0-9]+}", "/topic/12", true),
            ("/**/end", "/a/b/end", true),
            ("/**/end", "/end", true),
            ("/a/**/b/**/c", "/a/1/b/2/3/c", true),
            ("/a/**/b/**/c", "/a/1/2/3/c", false),
            ("/a*b*c", "/axxbyybzzc", true),
            ("/topic/all", "/topic/all/", false),
        ] {
            assert_eq!(matches(pattern, text, '/'), expected, "{pattern} {text}");
        }
        assert!(matches("/topic/price.*", "/topic/price.eur", '/'));
        assert!(matches("topic.price.*", "topic.price.eur", '.'));
        assert!(!matches("topic.price.*", "topic.price.eur.x", '.'));
    }

    #[test]
    fn variables_are_remembered() {
        let found = captures("/room/{id}/{what}", "/room/7/say", '/').expect("it matches");
        assert_eq!(found.as_slice(), &[("id", "7"), ("what", "say")]);
        assert!(captures("/room/{id}", "/room", '/').is_none());
    }

    #[test]
    fn many_wildcards_end_soon() {
        let pattern = "/**/a".repeat(40);
        let text = "/a".repeat(200) + "/b";
        assert!(!matches(&pattern, &text, '/'));
        // It does not give up early either: one `**` after another finds its place.
        assert!(matches(&pattern, &"/a".repeat(200), '/'));
        let mut steps = STEPS_MAX;
        let pattern = "*a".repeat(10_000) + "b";
        assert!(!segments_match(&pattern, &"a".repeat(60_000), '/', &mut steps));
    }

    /// Oracle: try every way to spend the text, segment by segment.
    fn naive(pattern: &[&str], text: &[&str]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), None) => naive(rest, text),
            (Some((&"**", rest)), Some((_, after))) => naive(rest, text) || naive(pattern, after),
            (Some((p, rest)), Some((t, after))) => {
                naive_segment(p.as_bytes(), t.as_bytes()) && naive(rest, after)
            }
            _ => false,
        }
    }

    fn naive_segment(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => naive_segment(rest, text),
            (Some((b'*', rest)), Some((_, after))) => {
                naive_segment(rest, text) || naive_segment(pattern, after)
            }
            (Some((p, rest)), Some((t, after))) => {
                (p == t || *p == b'?') && naive_segment(rest, after)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn like_the_naive_matcher(
            pattern in prop::collection::vec("[ab*?]{0,3}|\\*\\*", 1..5),
            text in prop::collection::vec("[ab]{0,3}", 1..5),
        ) {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let text: Vec<&str> = text.iter().map(String::as_str).collect();
            prop_assert_eq!(
                matches(&pattern.join("/"), &text.join("/"), '/'),
                naive(&pattern, &text),
                "{:?} {:?}", pattern, text
            );
        }
    }
}

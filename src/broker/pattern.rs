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

/// What came of comparing a text with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It matches.
    Match,
    /// It does not.
    NoMatch,
    /// It took more than [`STEPS_MAX`] steps, so nobody knows. Whoever guards something refuses;
    /// whoever gives something keeps it.
    GaveUp,
}

/// Compares `text` with `pattern`, both split at `separator`.
pub fn compare(pattern: &str, text: &str, separator: char) -> Outcome {
    let mut steps = STEPS_MAX;
    segments_match(pattern, text, separator, &mut steps)
}

/// Whether `text` is known to match `pattern`: for settings, not for what guards something.
pub fn matches(pattern: &str, text: &str, separator: char) -> bool {
    compare(pattern, text, separator) == Outcome::Match
}

/// Like `matches`, and gives the variables' values.
pub fn captures<'a>(pattern: &'a str, text: &'a str, separator: char) -> Option<Variables<'a>> {
    matches(pattern, text, separator).then(|| variables(pattern, text, separator))
}

/// The variables' values in a text that matches. Variables are whole segments: `{id}`.
pub fn variables<'a>(pattern: &'a str, text: &'a str, separator: char) -> Variables<'a> {
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
    variables
}

/// Steps after which a comparison is given up. Whoever chooses both sides can make one take their
/// product; what people write takes a few dozen.
pub const STEPS_MAX: u32 = 10_000;

/// Segment by segment. When some after a `**` do not fit, that one takes one segment more: of
/// several `**` only the last has to be tried again, since whatever an earlier one could take
/// instead, the last one can take, too.
fn segments_match(pattern: &str, text: &str, separator: char, steps: &mut u32) -> Outcome {
    let (mut pattern, mut text) = (Some(pattern), Some(text));
    let mut retry: Option<(&str, Option<&str>)> = None;
    loop {
        match (pattern, text) {
            (None, None) => return Outcome::Match,
            (Some(left), _) if split(left, separator).0 == "**" => {
                pattern = split(left, separator).1;
                let Some(behind) = pattern else { return Outcome::Match };
                retry = Some((behind, text));
                continue;
            }
            (Some(left), Some(whole)) => {
                let (segment, pattern_rest) = split(left, separator);
                let (part, text_rest) = split(whole, separator);
                match segment_matches(segment.as_bytes(), part.as_bytes(), steps) {
                    None => return Outcome::GaveUp,
                    Some(true) => {
                        (pattern, text) = (pattern_rest, text_rest);
                        continue;
                    }
                    Some(false) => {}
                }
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        let Some((behind, Some(skipped))) = retry else { return Outcome::NoMatch };
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
                t += character_len(&text[t..]);
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
                let next = text_at + character_len(&text[text_at..]);
                retry = Some((pattern_at, next));
                (p, t) = (pattern_at, next);
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
        let outcome = segments_match(&pattern, &"a".repeat(60_000), '/', &mut steps);
        assert_eq!((outcome, steps), (Outcome::GaveUp, 0));
    }

    /// Oracle: try every way to spend the text, segment by segment, character by character.
    fn naive(pattern: &[&str], text: &[&str]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), None) => naive(rest, text),
            (Some((&"**", rest)), Some((_, after))) => naive(rest, text) || naive(pattern, after),
            (Some((p, rest)), Some((t, after))) => {
                let (p, t): (Vec<char>, Vec<char>) = (p.chars().collect(), t.chars().collect());
                naive_segment(&p, &t) && naive(rest, after)
            }
            _ => false,
        }
    }

    fn naive_segment(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => naive_segment(rest, text),
            (Some(('*', rest)), Some((_, after))) => {
                naive_segment(rest, text) || naive_segment(pattern, after)
            }
            // A variable is one character and whatever follows.
            (Some(('{', rest)), Some((_, after))) => {
                let end = rest.iter().position(|&c| c == '}').expect("the tests close it");
                let any: Vec<char> = [&['*'], &rest[end + 1..]].concat();
                naive_segment(&any, after)
            }
            (Some((p, rest)), Some((t, after))) => {
                (p == t || *p == '?') && naive_segment(rest, after)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn like_the_naive_matcher(
            pattern in prop::collection::vec("([abé*?]|\\{x\\}){0,4}|\\*\\*", 1..6),
            text in prop::collection::vec("[abé]{0,4}", 1..6),
        ) {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let text: Vec<&str> = text.iter().map(String::as_str).collect();
            let expected = if naive(&pattern, &text) { Outcome::Match } else { Outcome::NoMatch };
            for separator in ["/", "."] {
                let (pattern, text) = (pattern.join(separator), text.join(separator));
                let separator = separator.chars().next().expect("one");
                prop_assert_eq!(
                    compare(&pattern, &text, separator),
                    expected,
                    "{} {}", pattern, text
                );
            }
        }

        /// With however few steps: what is said is true, or nothing is said.
        #[test]
        fn who_runs_out_of_steps_says_so(
            pattern in "(/(\\*\\*|[ab*]{1,6})){1,6}",
            text in "(/[ab]{0,6}){1,6}",
            few in 0u32..200,
        ) {
            let outcome = segments_match(&pattern, &text, '/', &mut few.clone());
            let known = compare(&pattern, &text, '/');
            prop_assert_ne!(known, Outcome::GaveUp);
            prop_assert!(outcome == known || outcome == Outcome::GaveUp, "{:?}", outcome);
        }
    }
}

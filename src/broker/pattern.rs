#![forbid(unsafe_code)]
//! Ant patterns over destinations, as Spring's AntPathMatcher reads them: `?` one character, `*`
//! any within a segment, `**` any number of segments, `{name}` like `*` and remembered.

use crate::limits::{PATTERN_STEPS_FREE, PATTERN_STEPS_MAX, PATTERN_STEPS_SHARED};
use memchr::{memchr, memchr2, memchr3, memmem};
use smallvec::SmallVec;

/// Whether a destination is to be read as a pattern.
pub fn is_pattern(text: &str) -> bool {
    memchr3(b'*', b'?', b'{', text.as_bytes()).is_some()
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
    /// It took more than [`PATTERN_STEPS_MAX`] steps, or more than others have left, so nobody
    /// knows. Whoever guards something refuses; whoever gives something keeps it.
    GaveUp,
}

/// Compares `text` with `pattern`, both split at `separator`.
pub fn compare(pattern: &str, text: &str, separator: char) -> Outcome {
    segments_match(pattern, text, separator, &mut { PATTERN_STEPS_MAX })
}

/// What one text may take with all patterns that it is compared with, and has taken. A step is
/// ten to forty nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// What is left of [`PATTERN_STEPS_SHARED`].
    shared: u32,
    spent: u32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { shared: PATTERN_STEPS_SHARED, spent: 0 }
    }
}

impl Budget {
    /// Compares `text` with one pattern more. It gives up where it needs more than a pattern has
    /// for itself and those before it have left nothing.
    pub fn compare(&mut self, pattern: &str, text: &str, separator: char) -> Outcome {
        let most = PATTERN_STEPS_MAX.min(PATTERN_STEPS_FREE + self.shared);
        let mut left = most;
        let outcome = segments_match(pattern, text, separator, &mut left);
        let used = most - left;
        self.shared -= used.saturating_sub(PATTERN_STEPS_FREE);
        self.spent = self.spent.saturating_add(used);
        outcome
    }

    /// Steps that were taken.
    pub fn spent(&self) -> u32 {
        self.spent
    }
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

/// Segment by segment. When some after a `**` do not fit, that one takes one segment more: of
/// several `**` only the last has to be tried again, since whatever an earlier one could take
/// instead, the last one can take, too.
fn segments_match(pattern: &str, text: &str, separator: char, steps: &mut u32) -> Outcome {
    if !is_pattern(pattern) {
        // Most are none, and all their segments fit if they are the same: they are not taken apart.
        return match take(steps, 1 + (pattern.len() + text.len()) / SCANNED) {
            Ok(()) if pattern == text => Outcome::Match,
            Ok(()) => Outcome::NoMatch,
            Err(UsedUp) => Outcome::GaveUp,
        };
    }
    let (mut pattern, mut text) = (Some(pattern), Some(text));
    let mut retry: Option<(&str, Option<&str>)> = None;
    loop {
        if let Some(left) = pattern {
            let (segment, pattern_rest) = split(left, separator);
            if segment == "**" {
                pattern = pattern_rest;
                let Some(behind) = pattern else { return Outcome::Match };
                retry = Some((behind, text));
                if take(steps, 1).is_err() {
                    return Outcome::GaveUp;
                }
                continue;
            }
            if let Some(whole) = text {
                let (part, text_rest) = split(whole, separator);
                match segment_matches(segment, part, steps) {
                    Err(UsedUp) => return Outcome::GaveUp,
                    Ok(true) => {
                        (pattern, text) = (pattern_rest, text_rest);
                        continue;
                    }
                    Ok(false) => {}
                }
            }
        } else if text.is_none() {
            return Outcome::Match;
        }
        let Some((behind, Some(skipped))) = retry else { return Outcome::NoMatch };
        text = split(skipped, separator).1;
        pattern = Some(behind);
        retry = Some((behind, text));
    }
}

fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    let end = match u8::try_from(separator) {
        Ok(byte) if byte.is_ascii() => memchr(byte, text.as_bytes()),
        _ => text.find(separator),
    };
    match end {
        Some(end) => (&text[..end], Some(&text[end + separator.len_utf8()..])),
        None => (text, None),
    }
}

/// Bytes that are looked at once in one step: scanned for a byte, or compared.
const SCANNED: usize = 256;
/// Bytes that are searched for a run in one step, when they are made to be hard to search.
const SEARCHED: usize = 4;
/// Bytes of a text from which on it pays to prepare the search for a run.
const LONG: usize = 64;
/// Steps that preparing it takes.
const PREPARED: usize = 2;

/// The steps are used up.
struct UsedUp;

fn take(steps: &mut u32, count: usize) -> Result<(), UsedUp> {
    let left = u32::try_from(count).ok().and_then(|count| steps.checked_sub(count));
    *steps = left.unwrap_or(0);
    left.map(|_| ()).ok_or(UsedUp)
}

/// Wildcards within one segment: the first run stands in front, the last one at the end, and each
/// one between at the leftmost place behind the one before, since that leaves most. So a segment
/// takes as many steps as it has bytes, unless there is a `?` within a run between two `*`.
fn segment_matches(pattern: &str, text: &str, steps: &mut u32) -> Result<bool, UsedUp> {
    take(steps, 1 + (pattern.len() + text.len()) / SCANNED)?;
    if !is_pattern(pattern) {
        return Ok(pattern == text);
    }
    let Some(first) = Run::first_of(pattern) else { return Ok(false) };
    let mut left = strip_front(first.pieces, text, steps)?;
    let Some(mut rest) = first.rest else { return Ok(left.is_some_and(str::is_empty)) };
    let mut is_named = first.is_named;
    while let Some(text) = left {
        let Some(text) = skip(text, usize::from(is_named)) else { break };
        let Some(run) = Run::first_of(rest) else { break };
        let Some(behind) = run.rest else {
            return Ok(strip_back(run.pieces, text, steps)?.is_some());
        };
        left = strip_leftmost(run.pieces, text, steps)?;
        (rest, is_named) = (behind, run.is_named);
    }
    Ok(false)
}

/// The part of a segment of a pattern up to the next `*`: literal bytes and `?`.
struct Run<'a> {
    pieces: &'a str,
    /// The `*` is a `{name}`, which takes one character at least.
    is_named: bool,
    /// What stands behind the `*`.
    rest: Option<&'a str>,
}

impl Run<'_> {
    /// None: a `{` is not closed, and nothing fits.
    fn first_of(pattern: &str) -> Option<Run<'_>> {
        let Some(at) = memchr2(b'*', b'{', pattern.as_bytes()) else {
            return Some(Run { pieces: pattern, is_named: false, rest: None });
        };
        let (pieces, star) = pattern.split_at(at);
        let is_named = star.starts_with('{');
        let end = if is_named { memchr(b'}', star.as_bytes())? } else { 0 };
        Some(Run { pieces, is_named, rest: Some(&star[end + 1..]) })
    }
}

/// The text without its first characters, if it has this many.
fn skip(text: &str, count: usize) -> Option<&str> {
    let mut chars = text.chars();
    (0..count).try_for_each(|_| chars.next().map(|_| ()))?;
    Some(chars.as_str())
}

/// What is left behind a run that stands in front.
fn strip_front<'a>(
    run: &str,
    mut text: &'a str,
    steps: &mut u32,
) -> Result<Option<&'a str>, UsedUp> {
    for (at, piece) in run.split('?').enumerate() {
        take(steps, at.min(1) + piece.len() / SCANNED)?;
        let behind = skip(text, usize::from(at > 0)).and_then(|text| text.strip_prefix(piece));
        let Some(behind) = behind else { return Ok(None) };
        text = behind;
    }
    Ok(Some(text))
}

/// What is left before a run that stands at the end.
fn strip_back<'a>(
    run: &str,
    mut text: &'a str,
    steps: &mut u32,
) -> Result<Option<&'a str>, UsedUp> {
    for (at, piece) in run.rsplit('?').enumerate() {
        take(steps, at.min(1) + piece.len() / SCANNED)?;
        let mut chars = text.chars();
        let is_there = at == 0 || chars.next_back().is_some();
        let before = chars.as_str().strip_suffix(piece);
        let Some(before) = before.filter(|_| is_there) else { return Ok(None) };
        text = before;
    }
    Ok(Some(text))
}

/// What is left behind the leftmost place of a run.
fn strip_leftmost<'a>(
    run: &str,
    text: &'a str,
    steps: &mut u32,
) -> Result<Option<&'a str>, UsedUp> {
    // `*?` is `?*`, so those in front and behind only take characters.
    let from = run.trim_start_matches('?');
    let inner = from.trim_end_matches('?');
    take(steps, 1 + run.len() - inner.len())?;
    let Some(mut text) = skip(text, run.len() - from.len()) else { return Ok(None) };
    let behind = from.len() - inner.len();
    let Some(first) = inner.chars().next() else { return Ok(skip(text, behind)) };
    let (head, tail) = inner.split_at(memchr(b'?', inner.as_bytes()).unwrap_or(inner.len()));
    let is_long = text.len() >= LONG;
    take(steps, if is_long { PREPARED + head.len() / SEARCHED } else { 0 })?;
    let finder = is_long.then(|| memmem::Finder::new(head));
    loop {
        // As far as the steps go.
        let far = text.len().min(SEARCHED * *steps as usize);
        let near = &text.as_bytes()[..far];
        let found = match &finder {
            Some(finder) => finder.find(near),
            None => memmem::find(near, head.as_bytes()),
        };
        take(steps, 1 + (found.unwrap_or(far) + head.len()) / SEARCHED)?;
        let Some(at) = found else { return Ok(None) };
        if let Some(rest) = strip_front(tail, &text[at + head.len()..], steps)? {
            return Ok(skip(rest, behind));
        }
        text = &text[at + first.len_utf8()..];
    }
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
        let mut steps = PATTERN_STEPS_MAX;
        let pattern = "*a".repeat(10_000) + "b";
        let outcome = segments_match(&pattern, &"a".repeat(60_000), '/', &mut steps);
        assert_eq!((outcome, steps), (Outcome::GaveUp, 0));
    }

    /// Steps of one name with a client's own patterns.
    fn steps_of(patterns: &[String], name: &str) -> (Vec<Outcome>, u32) {
        let mut budget = Budget::default();
        let outcomes = patterns.iter().map(|p| budget.compare(p, name, '/')).collect();
        (outcomes, budget.spent())
    }

    /// What clients are allowed to choose: names of 1,000 bytes, 32 patterns.
    #[test]
    fn no_name_and_patterns_of_ones_own_take_many_steps() {
        let name = format!("/topic/{}", "a".repeat(993));
        // Runs behind one or several `*` take as many steps as a segment has bytes.
        let runs = ["a".repeat(500), "ab".repeat(250), "a".repeat(2), "\u{e9}".repeat(250)];
        for run in runs {
            for (pattern, most) in [
                (format!("/topic/*{run}b"), 16),
                (format!("/topic/*{run}b*"), 640),
                (format!("/topic/{{x}}{run}b"), 16),
                (format!("/topic/*{run}*b*a"), 640),
            ] {
                let (outcomes, steps) = steps_of(std::slice::from_ref(&pattern), &name);
                assert_eq!(outcomes, [Outcome::NoMatch], "{pattern}");
                assert!(steps <= most, "{steps} steps: {pattern}");
            }
        }
        let segments = "/a".repeat(500);
        for (pattern, name) in [
            (format!("/topic/*{}b*", "a?".repeat(250)), &name),
            (format!("/topic/{}b", "*aa".repeat(330)), &name),
            (format!("/topic/{}b", "*".repeat(990)), &name),
            (format!("/topic/{}b", "{x}".repeat(330)), &name),
            (format!("/**{}/b", "/a".repeat(250)), &segments),
            (format!("/**{}", "/**/a".repeat(199)), &segments),
            (format!("/**/*{}b", "a".repeat(900)), &segments),
        ] {
            let (_, steps) = steps_of(&vec![pattern.clone(); 32], name);
            let most = 32 * PATTERN_STEPS_FREE + PATTERN_STEPS_SHARED;
            assert!(steps <= most && most <= 2_560, "{steps} steps: {pattern}");
        }
    }

    #[test]
    fn who_takes_few_steps_is_not_hurt_by_those_who_take_many() {
        let hard = format!("/**/{}b*", "*a?a".repeat(40));
        let easy = ["/topic/*", "/topic/**", "/**/end", "/topic/*aaa/*d", "/topic/{x}/e?d"];
        let patterns: Vec<String> =
            std::iter::repeat_n(hard, 20).chain(easy.map(str::to_owned)).collect();
        let (outcomes, steps) = steps_of(&patterns, &format!("/topic/{}/end", "a".repeat(900)));
        assert_eq!(outcomes[10..20], [Outcome::GaveUp; 10]);
        use Outcome::{Match, NoMatch};
        assert_eq!(outcomes[20..], [NoMatch, Match, Match, Match, Match]);
        assert!(steps >= PATTERN_STEPS_SHARED, "{steps}");
    }

    /// The longest names that there are, and patterns as people write them.
    #[test]
    fn names_of_many_segments_are_found() {
        let name = "/a".repeat(508) + "/b/end";
        for pattern in ["/**/end", "/**/b/end", "/**/a/**/end", "/**/b/*", "/a/**/*n*", "/**/e?d"] {
            assert_eq!(compare(pattern, &name, '/'), Outcome::Match, "{pattern}");
            let (outcomes, _) = steps_of(&[pattern.to_owned()], &name);
            assert_eq!(outcomes, [Outcome::Match], "{pattern}");
        }
        assert_eq!(compare("/**/a/x", &name, '/'), Outcome::NoMatch);
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

    /// Oracle for long ones: which beginnings of the text each beginning of the pattern fits.
    fn in_table(pattern: &str, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let mut fits = vec![false; text.len() + 1];
        fits[0] = true;
        let one = |fits: &[bool], p: char| -> Vec<bool> {
            let behind = |(at, &c)| fits[at] && (p == '?' || p == c);
            [false].into_iter().chain(text.iter().enumerate().map(behind)).collect()
        };
        for p in pattern.replace("{x}", "?*").chars() {
            if p == '*' {
                let first = fits.iter().position(|&fit| fit).unwrap_or(fits.len());
                fits[first..].fill(true);
            } else {
                fits = one(&fits, p);
            }
        }
        fits[text.len()]
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

        /// Long and repetitive, where what is compared twice is compared often.
        #[test]
        fn like_the_table_where_much_repeats(
            pattern in prop::collection::vec(
                "a{1,9}|(ab){1,20}|(\u{e9}a){1,5}|[abé?]{1,3}|\\*|\\*|\\{x\\}|\\?|a\\?", 0..12,
            ),
            text in prop::collection::vec("a{1,60}|(ab){1,40}|(\u{e9}a){1,20}|[abé]", 0..9),
        ) {
            let (pattern, text) = (pattern.concat(), text.concat());
            let expected = in_table(&pattern, &text);
            let mut many = u32::MAX;
            let outcome = segments_match(&pattern, &text, '/', &mut many);
            prop_assert_eq!(outcome == Outcome::Match, expected, "{} {}", pattern, text);
            let known = compare(&pattern, &text, '/');
            prop_assert!(known == outcome || known == Outcome::GaveUp, "{:?}", known);
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

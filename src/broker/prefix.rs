#![forbid(unsafe_code)]
//! Patterns by the segments they begin with, so that a publish meets only those that it may match.
//!
//! A pattern stands under its literal beginning: `/topic/7/**` under `/topic/7`, `/*/x` under the
//! empty text. A destination that matches it has the same first segments, so it is among the
//! patterns under one of the destination's own beginnings. Bound: `patterns-alike` (kept by the
//! home, which refuses).

use super::pattern;
use crate::mem::secret::HashKey;
use hashbrown::HashMap;

/// Patterns, or what stands for them.
#[derive(Debug)]
pub struct ByPrefix<T> {
    lists: HashMap<String, Vec<T>, HashKey>,
    separator: char,
}

impl<T: PartialEq> ByPrefix<T> {
    /// None, with the table's hash key.
    pub fn new(separator: char, key: HashKey) -> ByPrefix<T> {
        let lists = HashMap::with_hasher(key);
        ByPrefix { lists, separator }
    }

    /// The patterns that begin like this one.
    pub fn list(&self, pattern: &str) -> &[T] {
        self.lists.get(beginning(pattern, self.separator)).map_or(&[], Vec::as_slice)
    }

    /// Puts a pattern in that is not there yet.
    pub fn insert(&mut self, pattern: &str, item: T) {
        let beginning = beginning(pattern, self.separator);
        self.lists.entry_ref(beginning).or_default().push(item);
    }

    /// Takes a pattern out.
    pub fn remove(&mut self, pattern: &str, item: &T) {
        let beginning = beginning(pattern, self.separator);
        let list = self.lists.get_mut(beginning).expect("it was put in");
        let place = list.iter().position(|other| other == item).expect("it was put in");
        list.swap_remove(place);
        if list.is_empty() {
            self.lists.remove(beginning);
        }
    }

    /// Count of all patterns. Slow.
    pub fn count(&self) -> usize {
        self.lists.values().map(Vec::len).sum()
    }

    /// Every pattern that may match a destination.
    pub fn may_match(&self, destination: &str, mut visit: impl FnMut(&T)) {
        if self.lists.is_empty() {
            return;
        }
        let ends = destination.match_indices(self.separator).map(|(end, _)| end);
        // A separator in front makes the empty beginning, which is looked up anyway.
        let ends = ends.filter(|&end| end > 0).chain([destination.len()]);
        for end in [0].into_iter().chain(ends) {
            if let Some(list) = self.lists.get(&destination[..end]) {
                list.iter().for_each(&mut visit);
            }
        }
    }
}

/// The segments in front of the first one with a wildcard.
fn beginning(pattern: &str, separator: char) -> &str {
    let wildcard = pattern.find(pattern::is_wildcard).unwrap_or(pattern.len());
    pattern[..wildcard].rfind(separator).map_or("", |end| &pattern[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::secret::Random;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_stands_under_its_literal_segments() {
        for (pattern, expected) in [
            ("/topic/7/**", "/topic/7"),
            ("/topic/a*", "/topic"),
            ("/topic/{id}/x", "/topic"),
            ("/**", ""),
            ("**", ""),
            ("a?/b", ""),
        ] {
            assert_eq!(beginning(pattern, '/'), expected, "{pattern}");
        }
        assert_eq!(beginning("topic.a.*", '.'), "topic.a");
    }

    #[test]
    fn what_is_taken_out_is_gone() {
        let mut patterns = ByPrefix::new('/', Random::known(1).key());
        patterns.insert("/a/*", 1);
        patterns.insert("/a/?", 2);
        patterns.remove("/a/*", &1);
        assert_eq!((patterns.list("/a/**").len(), patterns.list("/b/*").len()), (1, 0));
        let mut seen = Vec::new();
        patterns.may_match("/a/x", |item| seen.push(*item));
        patterns.may_match("/b/x", |item| seen.push(*item));
        assert_eq!(seen, [2]);
        patterns.remove("/a/?", &2);
        assert!(patterns.lists.is_empty());
    }

    const PATTERN: &str = "/?([ab*?]{1,2}|\\*\\*)(/([ab*?]{1,2}|\\*\\*|)){0,3}";

    proptest! {
        /// The naive way looks at all of them.
        #[test]
        fn no_pattern_that_matches_is_missed(
            patterns in prop::collection::btree_set(PATTERN, 1..12),
            destination in "/?[ab]{1,2}(/[ab]{0,2}){0,3}",
        ) {
            let mut index = ByPrefix::new('/', Random::known(7).key());
            for pattern in &patterns {
                index.insert(pattern, pattern.clone());
            }
            let mut found = Vec::new();
            index.may_match(&destination, |candidate| {
                if pattern::matches(candidate, &destination, '/') {
                    found.push(candidate.clone());
                }
            });
            found.sort();
            let naive = patterns.iter().filter(|p| pattern::matches(p, &destination, '/'));
            prop_assert_eq!(found, naive.cloned().collect::<Vec<_>>());
        }
    }
}

#![forbid(unsafe_code)]
//! Something that is set for each destination: the first rule that matches decides.

use super::pattern::{Budget, Outcome};

/// Rules in their order, and what holds where none matches.
#[derive(Clone, Debug)]
pub struct PerDestination<T> {
    rules: Vec<(String, T)>,
    otherwise: T,
    separator: char,
}

impl<T: Copy + PartialEq> PerDestination<T> {
    /// Rules of destinations or patterns, and what holds otherwise.
    pub fn new(rules: Vec<(String, T)>, otherwise: T, separator: char) -> PerDestination<T> {
        PerDestination { rules, otherwise, separator }
    }

    /// What holds for a destination. Looks at each rule: asked once a message.
    pub fn of(&self, destination: &str) -> T {
        self.named(destination).unwrap_or(self.otherwise)
    }

    /// What a rule says about a destination, if one does.
    pub fn named(&self, destination: &str) -> Option<T> {
        self.named_below("", destination)
    }

    /// The same, of the rules that begin with `prefix` only.
    pub fn named_below(&self, prefix: &str, destination: &str) -> Option<T> {
        let mut budget = Budget::default();
        let matching = self.rules.iter().find(|(rule, _)| {
            rule.starts_with(prefix)
                && budget.compare(rule, destination, self.separator) == Outcome::Match
        });
        matching.map(|(_, value)| *value)
    }

    /// Whether nothing but `value` is ever set.
    pub fn is_always(&self, value: T) -> bool {
        self.otherwise == value && self.rules.iter().all(|(_, other)| *other == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = vec![("/topic/a/**".to_string(), 1), ("/topic/*".to_string(), 2)];
        let setting = PerDestination::new(rules, 3, '/');
        let of = |destination| setting.of(destination);
        assert_eq!((of("/topic/a/b"), of("/topic/a"), of("/topic/b")), (1, 1, 2));
        assert_eq!((of("/queue/a"), setting.named("/queue/a")), (3, None));
        assert_eq!(setting.named_below("/topic/a/", "/topic/a"), Some(1));
        assert_eq!(setting.named_below("/topic/a", "/topic/b"), None);
        assert!(!setting.is_always(3));
        assert!(PerDestination::new(vec![("/topic/a".to_string(), 3)], 3, '/').is_always(3));
    }
}

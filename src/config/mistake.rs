//! What is wrong with a configuration: each mistake with its place, its key and what is accepted.

use super::not_built;
use std::fmt;

/// Characters of a value that a mistake shows.
const SHOWN_MAX: usize = 200;
/// Characters of what is accepted that are shown beside a suggestion.
const BESIDE_MAX: usize = 120;

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, variable or flag; empty for text that is not TOML.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What was probably meant.
    pub meant: Option<String>,
    /// What is accepted instead.
    pub accepted: String,
    /// The line in the file, from 1; without one it is not from the file.
    pub line: Option<usize>,
}

impl Mistake {
    pub(super) fn new(key: &str, value: &str, accepted: &str) -> Mistake {
        let mut shown: String = value.chars().take(SHOWN_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        let accepted = format!("{accepted}{}", not_built::value(key, value));
        Mistake { key: key.to_string(), value: shown, meant: None, accepted, line: None }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { key, value, accepted, .. } = self;
        let mut line = match key.as_str() {
            "" => format!("{value}: "),
            _ => format!("{key} = {value}: "),
        };
        let is_short = accepted.len() <= BESIDE_MAX;
        line.push_str(&match &self.meant {
            Some(meant) if is_short => format!("did you mean {meant}? accepted: {accepted}"),
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("accepted: {accepted}"),
        });
        // One line, whatever the value contains.
        f.write_str(&line.replace(|c: char| c.is_control(), " "))
    }
}

impl core::error::Error for Mistake {}

/// Everything that is wrong with a configuration, in the order of the file; what is not from the
/// file comes last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if there is one.
    pub file: Option<String>,
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(file: Option<String>, mut mistakes: Vec<Mistake>) -> ConfigError {
        mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        ConfigError { file, mistakes }
    }

    /// The only mistake.
    #[cfg(test)]
    pub(super) fn only(mut self) -> Mistake {
        assert_eq!(self.mistakes.len(), 1, "{self}");
        self.mistakes.remove(0)
    }

    /// One line for each mistake, with its place.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.mistakes.iter().map(|mistake| match (&self.file, mistake.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: {mistake}"),
            (None, Some(line)) => format!("line {line}: {mistake}"),
            (_, None) => mistake.to_string(),
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_stand_in_the_order_of_the_file_with_their_places() {
        let at = |line, key: &str| Mistake { line, ..Mistake::new(key, "1", "true or false") };
        let mistakes = vec![at(None, "--x"), at(Some(7), "a.b"), at(Some(2), "")];
        let mut error = ConfigError::new(Some("r.toml".into()), mistakes);
        let shown = "r.toml:2: 1: accepted: true or false\nr.toml:7: a.b = 1: accepted: true or \
                     false\n--x = 1: accepted: true or false";
        assert_eq!(error.to_string(), shown);
        error.file = None;
        assert!(error.to_string().starts_with("line 2: 1: accepted"), "{error}");
    }

    #[test]
    fn a_suggestion_replaces_a_long_list() {
        let long = "x".repeat(BESIDE_MAX + 1);
        let mistake = |accepted: &str| {
            let meant = Some("shards".to_string());
            Mistake { meant, ..Mistake::new("engine.shard", "1\n", accepted) }.to_string()
        };
        assert_eq!(mistake(&long), "engine.shard = 1 : did you mean shards?");
        let both = "engine.shard = 1 : did you mean shards? accepted: only the keys";
        assert_eq!(mistake("only the keys"), both);
    }
}

//! `RINGPUSH_SECTION__KEY` and the command line's flags, which override the file's TOML.

use super::Mistake;
use super::reader::{quoted, show};
use toml::{Table, Value};

/// One value that overrides the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Override {
    /// How the user wrote it: the variable or the flag.
    pub(super) name: String,
    /// Its key, `limits.stomp-frame`, as errors name it.
    pub(super) path: String,
    parts: Vec<String>,
    value: Value,
}

const PREFIX: &str = "RINGPUSH_";

/// The overrides among the variables: names of ringpush with a double underscore.
pub(super) fn overrides(environment: &[(String, String)]) -> Vec<Override> {
    let mut found: Vec<Override> = environment
        .iter()
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX).filter(|key| key.contains("__"))?;
            let key = key.to_ascii_lowercase().replace("__", ".").replace('_', "-");
            Some(Override::new(name, &key, value))
        })
        .collect();
    // The environment has no order, and errors must not depend on it.
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

impl Override {
    /// An override by its dotted key.
    pub(super) fn new(name: &str, key: &str, text: &str) -> Override {
        let parts: Vec<String> = key.split('.').map(str::to_string).collect();
        let mut path = String::new();
        for part in &parts {
            if index(part).is_some() {
                path.push_str(&format!("[{part}]"));
            } else {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(part);
            }
        }
        // A TOML value if it is one, else the text itself: 127.0.0.1:8080 needs no quotes.
        let value = text.parse().unwrap_or_else(|_| Value::String(text.to_string()));
        Override { name: name.to_string(), path, parts, value }
    }

    /// Puts the value into the document.
    pub(super) fn apply(&self, document: &mut Table) -> Result<(), Mistake> {
        let (last, way) = self.parts.split_last().expect("a split has at least one part");
        if self.parts.iter().any(String::is_empty) || way.is_empty() {
            return Err(self.error("RINGPUSH_SECTION__KEY, such as RINGPUSH_LIMITS__STOMP_FRAME"));
        }
        let mut table = document;
        let mut parts = way.iter().peekable();
        while let Some(part) = parts.next() {
            let below = table.entry(part.as_str()).or_insert_with(|| Value::Table(Table::new()));
            table = match below {
                Value::Table(table) => table,
                Value::Array(list) => {
                    let count = list.len();
                    let at = parts.next().and_then(|part| index(part));
                    match at.and_then(|at| list.get_mut(at)) {
                        Some(Value::Table(table)) => table,
                        _ => {
                            let accepted =
                                format!("an entry of [[{part}]]; there are {count}, from 0");
                            return Err(self.error(&accepted));
                        }
                    }
                }
                other => {
                    let accepted = format!("a key; {part} is {}, not a table", show(other));
                    return Err(self.error(&accepted));
                }
            };
        }
        table.insert(last.clone(), self.value.clone());
        Ok(())
    }

    /// How another key of the same table is written where this one was.
    pub(super) fn renamed(&self, key: &str) -> String {
        let Some((before, _)) = self.name.rsplit_once("__") else { return key.to_string() };
        match key.contains('.') {
            true => variable(key),
            false => format!("{before}__{}", variable_part(key)),
        }
    }

    fn error(&self, accepted: &str) -> Mistake {
        let value = match &self.value {
            Value::String(text) => quoted(text),
            other => show(other),
        };
        Mistake::new(&self.name, &value, accepted)
    }
}

/// The variable that overrides a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", variable_part(path))
}

fn variable_part(path: &str) -> String {
    path.replace('.', "__").replace('-', "_").to_ascii_uppercase()
}

/// The variables that nothing reads: they have the prefix, and are neither overrides nor `known`.
pub(super) fn unknown(environment: &[(String, String)], known: impl Fn(&str) -> bool) -> Vec<&str> {
    let names = environment.iter().map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = names
        .filter(|name| name.starts_with(PREFIX) && !name.contains("__") && !known(name))
        .collect();
    names.sort_unstable();
    names
}

fn index(part: &str) -> Option<usize> {
    part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(toml: &str, name: &str, value: &str) -> Result<Table, Mistake> {
        let mut document: Table = toml.parse().expect("the test's TOML is good");
        for found in overrides(&[(name.to_string(), value.to_string())]) {
            found.apply(&mut document)?;
        }
        Ok(document)
    }

    fn table(toml: &str) -> Table {
        toml.parse().expect("the test's TOML is good")
    }

    #[test]
    fn values_are_toml_or_text() {
        let cases = [
            ("RINGPUSH_LIMITS__STOMP_FRAME", "1000", "limits = { stomp-frame = 1000 }"),
            ("RINGPUSH_LISTEN__ADDRESS", "1.2.3.4:5", "listen = { address = '1.2.3.4:5' }"),
            ("RINGPUSH_BROKER__PREFIXES", "['/a']", "broker = { prefixes = ['/a'] }"),
            ("RINGPUSH_AUTH__TOKEN__ISSUER", "x\ny=1", "auth.token.issuer = \"x\\ny=1\""),
            ("RINGPUSH_TOKEN_SECRET", "s", ""),
            ("HOME__X", "s", ""),
        ];
        for (name, value, expected) in cases {
            assert_eq!(apply("", name, value), Ok(table(expected)), "{name}");
        }
    }

    #[test]
    fn entries_are_named_by_their_number() {
        let toml = "[[application]]\ndestination = '/a'";
        let name = "RINGPUSH_APPLICATION__0__HOOK";
        let expected = table("[[application]]\ndestination = '/a'\nhook = 'http://x'");
        assert_eq!(apply(toml, name, "http://x"), Ok(expected));
        for name in ["RINGPUSH_APPLICATION__1__HOOK", "RINGPUSH_APPLICATION__X__HOOK"] {
            let error = apply(toml, name, "http://x").expect_err("no such entry");
            assert_eq!(error.key, name);
            assert_eq!(error.value, "\"http://x\"");
            assert_eq!(error.accepted, "an entry of [[application]]; there are 1, from 0");
        }
    }

    #[test]
    fn a_key_below_a_value_or_without_a_section_is_refused() {
        let error = apply("[a]\nb = 1", "RINGPUSH_A__B__C", "2").expect_err("b is a number");
        assert_eq!(error.accepted, "a key; b is 1, not a table");
        for name in ["RINGPUSH___A", "RINGPUSH_A__"] {
            let error = apply("", name, "2").expect_err("no section or no key");
            assert_eq!((error.key.as_str(), error.value.as_str()), (name, "2"));
        }
    }
}

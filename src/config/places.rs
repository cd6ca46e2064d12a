//! On which line of the file each key stands.

use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The lines of a file's keys, by their names as mistakes have them: `endpoint[0].path`.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, usize>);

impl Places {
    /// The places in a text. Of a text that is not TOML, those that can be told.
    pub(super) fn of(text: &str) -> Places {
        let (document, _) = DeTable::parse_recoverable(text);
        let mut places = Places::default();
        places.table(text, "", document.get_ref());
        places
    }

    /// The line of a key, or of the closest table around it that is written.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.0.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    fn table(&mut self, text: &str, path: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let name = key.get_ref();
            let name = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.0.insert(name.clone(), line_of(text, key.span().start));
            self.value(text, &name, value);
        }
    }

    fn value(&mut self, text: &str, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(text, name, table),
            DeValue::Array(list) => {
                for (at, item) in list.iter().enumerate() {
                    let name = format!("{name}[{at}]");
                    self.0.insert(name.clone(), line_of(text, item.span().start));
                    self.value(text, &name, item);
                }
            }
            _ => {}
        }
    }
}

/// The line of a byte, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_line_and_a_missing_one_that_of_its_table() {
        let text = "x = 1\n[engine]\nshards = 1\n[[endpoint]]\npath = '/a'\n\n[[endpoint]]\n\
                    path = '/b'\non-open.close.code = 1\nallowed-origins = [\n'a',\n'b']\n";
        let places = Places::of(text);
        for (key, line) in [
            ("x", Some(1)),
            ("engine", Some(2)),
            ("engine.shards", Some(3)),
            ("engine.pin", Some(2)),
            ("endpoint[0].path", Some(5)),
            ("endpoint[1].path", Some(8)),
            ("endpoint[1].protocol", Some(7)),
            ("endpoint[1].on-open.close.reason", Some(9)),
            ("endpoint[1].allowed-origins", Some(10)),
            ("limits.stomp-frame", None),
        ] {
            assert_eq!(places.line(key), line, "{key}");
        }
    }
}

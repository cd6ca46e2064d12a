//! One TOML table being read: typed values out, every mistake as one line, nothing left unread.

use super::{ConfigError, not_built};
use crate::time::{Micros, Millis};
use std::time::Duration;
use toml::{Table, Value};

/// A table whose keys are taken one by one; what is left at the end is an unknown key.
pub(super) struct Section {
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

const SPAN: &str = "a duration with its unit, such as \"10s\", \"500ms\" or \"10m\"";

impl Section {
    /// Starts to read the table that stands at `path` ("" for the document).
    pub(super) fn new(path: &str, table: Table) -> Section {
        Section { path: path.to_string(), table, known: Vec::new() }
    }

    /// The full name of one of its keys.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    /// An error about one of its keys.
    pub(super) fn error(&self, key: &str, value: &str, accepted: &str) -> ConfigError {
        let name = self.name(key);
        let not_built = not_built::value(&name, value);
        ConfigError::new(&name, value, &format!("{accepted}{not_built}"))
    }

    /// Whether the key was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The key's raw value.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// A value that `fit` makes something of, or an error that says what is accepted.
    pub(super) fn fit<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        fit: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match fit(&value) {
            Some(fitting) => Ok(Some(fitting)),
            None => Err(self.error(key, &show(&value), accepted)),
        }
    }

    /// A string for which `good` holds.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        accepted: &str,
        good: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, ConfigError> {
        self.fit(key, accepted, |value| value.as_str().filter(|t| good(t)).map(str::to_string))
    }

    /// A list of strings (one alone is accepted) for each of which `good` holds.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        accepted: &str,
        good: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        self.fits(key, accepted, |text| good(text).then(|| text.to_string()))
    }

    /// A list of strings (one alone is accepted) that `fit` makes something of.
    pub(super) fn fits<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        fit: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let list = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        let mut all = Vec::with_capacity(list.len());
        for item in &list {
            match item.as_str().and_then(&fit) {
                Some(fitting) => all.push(fitting),
                None => return Err(self.error(key, &show(item), accepted)),
            }
        }
        Ok(Some(all))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let accepted = list_of(words.iter().map(|(word, _)| *word));
        self.fit(key, &accepted, |value| pick(value.as_str()?, words))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        self.fit(key, "true or false", Value::as_bool)
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        least: u32,
        most: u32,
    ) -> Result<Option<u32>, ConfigError> {
        let accepted = format!("a whole number from {least} to {most}");
        self.fit(key, &accepted, |value| {
            let number = u32::try_from(value.as_integer()?).ok()?;
            (least..=most).contains(&number).then_some(number)
        })
    }

    /// A duration, up to 49 days.
    pub(super) fn span(&mut self, key: &'static str) -> Result<Option<Millis>, ConfigError> {
        self.fit(key, SPAN, |value| span(value.as_str()?))
    }

    /// A duration above zero.
    pub(super) fn period(&mut self, key: &'static str) -> Result<Option<Millis>, ConfigError> {
        let accepted = "a duration above zero, such as \"10s\"";
        self.fit(key, accepted, |value| span(value.as_str()?).filter(|span| span.0 > 0))
    }

    /// A duration in microseconds, from none to `most`.
    pub(super) fn short_span(
        &mut self,
        key: &'static str,
        most: Micros,
    ) -> Result<Option<Micros>, ConfigError> {
        let accepted =
            format!("a duration from \"0us\" to \"{most}\", such as \"50us\" or \"20ms\"");
        self.fit(key, &accepted, |value| {
            let span: Duration = humantime::parse_duration(value.as_str()?).ok()?;
            let micros = Micros(u32::try_from(span.as_micros()).ok()?);
            let fits = micros <= most && (micros.0 > 0 || span.is_zero());
            fits.then_some(micros)
        })
    }

    /// Two durations.
    pub(super) fn spans(&mut self, key: &'static str) -> Result<Option<[Millis; 2]>, ConfigError> {
        let accepted = "two durations, [send, receive], such as [\"10s\", \"10s\"]";
        self.fit(key, accepted, |value| match value.as_array()?.as_slice() {
            [send, receive] => Some([span(send.as_str()?)?, span(receive.as_str()?)?]),
            _ => None,
        })
    }

    /// A table below this one.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Option<Section>, ConfigError> {
        let table = self.fit(key, "a table", |value| value.as_table().cloned())?;
        Ok(table.map(|table| Section::new(&self.name(key), table)))
    }

    /// A table below this one, empty when it is not written.
    pub(super) fn part(&mut self, key: &'static str) -> Result<Section, ConfigError> {
        let path = self.name(key);
        Ok(self.section(key)?.unwrap_or_else(|| Section::new(&path, Table::new())))
    }

    /// The tables of a `[[key]]`.
    pub(super) fn entries(&mut self, key: &'static str) -> Result<Vec<Section>, ConfigError> {
        let accepted = format!("tables, each written [[{key}]]");
        let tables = self.fit(key, &accepted, |value| {
            value.as_array()?.iter().map(|entry| entry.as_table().cloned()).collect()
        })?;
        let tables: Vec<Table> = tables.unwrap_or_default();
        let named = tables.into_iter().enumerate();
        Ok(named.map(|(at, table)| Section::new(&format!("{key}[{at}]"), table)).collect())
    }

    /// Ends the reading: a key that nobody took is unknown.
    pub(super) fn finish(mut self) -> Result<(), ConfigError> {
        let Some((key, value)) = self.table.iter().next() else { return Ok(()) };
        self.known.sort_unstable();
        let known = || format!("only the keys {}", list_of(self.known.iter().copied()));
        let accepted = not_built::key(&self.name(key)).unwrap_or_else(known);
        Err(self.error(key, &show(value), &accepted))
    }
}

/// Finds a word's meaning.
pub(super) fn pick<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
}

/// `"a", "b" or "c"`, for error texts.
pub(super) fn list_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

/// A TOML value as it could be written, on one line.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let fields = table.iter().map(|(key, value)| format!("{key} = {}", show(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A TOML basic string, on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn span(text: &str) -> Option<Millis> {
    let span: Duration = humantime::parse_duration(text).ok()?;
    let millis = u32::try_from(span.as_millis()).ok()?;
    // Less than a millisecond is no span this engine can keep, and zero must be written as zero.
    (millis > 0 || span.is_zero()).then_some(Millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Section {
        Section::new("part", text.parse().expect("the test's TOML is good"))
    }

    #[test]
    fn spans_need_a_unit_and_fit_milliseconds() {
        assert_eq!(span("10s"), Some(Millis(10_000)));
        assert_eq!(span("1m 30s"), Some(Millis(90_000)));
        assert_eq!(span("0s"), Some(Millis(0)));
        for bad in ["10", "", "s", "-1s", "1us", "50days", "1 fortnight"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn short_spans_have_microseconds_and_an_end() {
        let most = Micros(1_000_000);
        let short = |text: &str| section(&format!("a = '{text}'")).short_span("a", most);
        for (text, micros) in [("0us", 0), ("50us", 50), ("20ms", 20_000), ("1s", 1_000_000)] {
            assert_eq!(short(text), Ok(Some(Micros(micros))), "{text}");
        }
        for bad in ["50", "2s", "-1us", "100ns", "", "1001ms"] {
            let error = short(bad).expect_err(bad);
            assert!(error.accepted.starts_with("a duration from \"0us\" to \"1s\""), "{error}");
        }
        assert_eq!(Micros(1_500).to_string(), "1500us");
        assert_eq!(Micros(2_000).to_string(), "2ms");
    }

    #[test]
    fn what_is_not_taken_is_unknown_and_the_known_are_listed() {
        let mut part = section("a = 1\nc = 'x'");
        assert_eq!(part.number("a", 0, 9), Ok(Some(1)));
        assert_eq!(part.flag("b"), Ok(None));
        let error = part.finish().expect_err("c is left");
        assert_eq!(error.key, "part.c");
        assert_eq!(error.value, "\"x\"");
        assert_eq!(error.accepted, "only the keys \"a\" or \"b\"");
    }

    #[test]
    fn a_value_is_shown_on_one_line() {
        let mut part = section("a = { b = [1, \"x\\ny\"] }");
        let value = part.take("a").expect("it is there");
        assert_eq!(show(&value), "{ b = [1, \"x\\u000Ay\"] }");
        assert_eq!(quoted("a\"\\"), "\"a\\\"\\\\\"");
    }
}

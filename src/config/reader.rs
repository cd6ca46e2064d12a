//! Reads one TOML table: values by their keys, every mistake as one line, no key left unread.

use super::context::Context;
use super::{Mistake, described, not_built};
use toml::{Table, Value};

/// A table whose keys are taken one by one; what is left at the end is an unknown key.
pub(super) struct Section {
    path: String,
    table: Table,
    known: Vec<String>,
}

impl Section {
    /// Starts to read the table that stands at `path` ("" for the document).
    pub(super) fn new(path: &str, table: Table) -> Section {
        Section { path: path.to_string(), table, known: Vec::new() }
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The full name of one of its keys.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    /// An error about one of its keys.
    pub(super) fn error(&self, key: &str, value: &str, accepted: &str) -> Mistake {
        Mistake::new(&self.name(key), value, accepted)
    }

    /// The key's value. A key with a dot stands in a table below this one.
    pub(super) fn take(&mut self, key: &str) -> Result<Option<Value>, Mistake> {
        self.known.push(key.to_string());
        match take(&mut self.table, key, "") {
            Ok(found) => Ok(found),
            Err((name, value)) => Err(self.error(&name, &show(&value), "a table")),
        }
    }

    /// A key's value, which is not taken.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.table.get(key)
    }

    /// The table of a key, to be read by itself; empty when it is not written.
    pub(super) fn below(&mut self, key: &str) -> Result<Section, Mistake> {
        let path = self.name(key);
        match self.take(key)? {
            None => Ok(Section::new(&path, Table::new())),
            Some(Value::Table(table)) => Ok(Section::new(&path, table)),
            Some(other) => Err(self.error(key, &show(&other), "a table")),
        }
    }

    /// The tables of a `[[key]]`.
    pub(super) fn entries(&mut self, key: &str) -> Result<Vec<Section>, Mistake> {
        let Some(written) = self.take(key)? else { return Ok(Vec::new()) };
        let tables: Option<Vec<Table>> = written
            .as_array()
            .and_then(|list| list.iter().map(|entry| entry.as_table().cloned()).collect());
        let accepted = format!("tables, each written [[{key}]]");
        let tables = tables.ok_or_else(|| self.error(key, &show(&written), &accepted))?;
        let named = tables.into_iter().enumerate();
        Ok(named.map(|(at, table)| Section::new(&format!("{key}[{at}]"), table)).collect())
    }

    /// Ends the reading: keys that nobody took are unknown.
    pub(super) fn finish(&self, context: &mut Context<'_>) {
        let mut left = Vec::new();
        self.left(&self.table, "", &mut left);
        for (key, value) in left {
            // What should have been a table is still there.
            if context.mistakes.iter().all(|mistake| mistake.key != self.name(&key)) {
                let unknown = self.unknown(&key, value);
                if let Some(meant) = &unknown.meant {
                    // It is not missing, but misspelt.
                    let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
                    let dot = if parent.is_empty() { "" } else { "." };
                    let missing = self.name(&format!("{parent}{dot}{meant}"));
                    let is_it = |one: &Mistake| one.key == missing && one.value == "nothing";
                    context.mistakes.retain(|one| !is_it(one));
                }
                context.mistakes.push(unknown);
            }
        }
    }

    fn unknown(&self, key: &str, value: &Value) -> Mistake {
        let parent = match value {
            // An empty table where there could be known keys.
            Value::Table(table) if table.is_empty() && !self.keys_below(key).is_empty() => key,
            _ => key.rsplit_once('.').map_or("", |(parent, _)| parent),
        };
        if let Some(accepted) = not_built::key(&self.name(key)) {
            return self.error(key, &show(value), &accepted);
        }
        let known = self.keys_below(parent);
        let accepted = format!("only the keys {}", list_of(&known));
        let last = key.rsplit_once('.').map_or(key, |(_, last)| last);
        let meant = closest(last, &known).map(str::to_string).or_else(|| elsewhere(last));
        Mistake { meant, ..self.error(key, &show(value), &accepted) }
    }

    /// The keys that nobody took, with their values.
    fn left<'t>(&self, table: &'t Table, before: &str, found: &mut Vec<(String, &'t Value)>) {
        for (key, value) in table {
            let key = format!("{before}{key}");
            match value {
                Value::Table(below) if !below.is_empty() && !self.keys_below(&key).is_empty() => {
                    self.left(below, &format!("{key}."), found);
                }
                other => found.push((key, other)),
            }
        }
    }

    /// The last parts of the known keys of one table.
    fn keys_below(&self, parent: &str) -> Vec<&str> {
        let inside = if parent.is_empty() { String::new() } else { format!("{parent}.") };
        let below = self.known.iter().filter_map(|key| key.strip_prefix(inside.as_str()));
        let mut keys: Vec<&str> = below.filter_map(|key| key.split('.').next()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// The word that somebody meant who wrote this one: it differs in a third of its letters at most.
pub(super) fn closest<'w>(written: &str, words: &[&'w str]) -> Option<&'w str> {
    let distance = |word: &&&str| strsim::damerau_levenshtein(written, word);
    let closest = words.iter().min_by_key(distance)?;
    (distance(&closest) <= written.len().max(3) / 3).then_some(*closest)
}

/// The full name of a key of another section, if there is just one of this name.
fn elsewhere(key: &str) -> Option<String> {
    let mut found = described().into_iter().filter_map(|(section, repeated, _, keys)| {
        let has_it = keys.iter().any(|one| one.name == key);
        let name =
            if repeated { format!("[[{section}]] {key}") } else { format!("{section}.{key}") };
        has_it.then_some(name)
    });
    found.next().filter(|_| found.next().is_none())
}

/// Takes a key out, and each table that has nothing else in it. The error is the value that should
/// be a table.
fn take(table: &mut Table, key: &str, before: &str) -> Result<Option<Value>, (String, Value)> {
    let Some((first, rest)) = key.split_once('.') else { return Ok(table.remove(key)) };
    let found = match table.get_mut(first) {
        None => None,
        Some(Value::Table(below)) => take(below, rest, &format!("{before}{first}."))?,
        Some(other) => return Err((format!("{before}{first}"), other.clone())),
    };
    let emptied = table.get(first).and_then(Value::as_table).is_some_and(Table::is_empty);
    if found.is_some() && emptied {
        table.remove(first);
    }
    Ok(found)
}

/// `"a", "b" or "c"`, for error texts.
pub(super) fn list_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
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
            let field = |(key, value): (&String, &Value)| {
                let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                match !key.is_empty() && key.bytes().all(is_bare) {
                    true => format!("{key} = {}", show(value)),
                    false => format!("{} = {}", quoted(key), show(value)),
                }
            };
            let fields = table.iter().map(field);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Section {
        Section::new("part", text.parse().expect("the test's TOML is good"))
    }

    #[test]
    fn what_is_not_taken_is_unknown_and_the_known_are_listed() {
        let mut part = section("a = 1\nc = 'x'");
        assert_eq!(part.take("a"), Ok(Some(Value::Integer(1))));
        assert_eq!(part.take("b"), Ok(None));
        let mut context = Context::default();
        part.finish(&mut context);
        let error = context.mistakes.remove(0);
        assert_eq!(error.key, "part.c");
        assert_eq!(error.value, "\"x\"");
        assert_eq!(error.accepted, "only the keys \"a\" or \"b\"");
    }

    #[test]
    fn a_key_with_a_dot_stands_in_a_table_below() {
        let finish = |text: &str| {
            let (mut part, mut context) = (section(text), Context::default());
            for key in ["a.b", "a.c.d"] {
                let found = part.take(key);
                context.note(found);
            }
            part.finish(&mut context);
            context.mistakes
        };
        assert_eq!(finish("a.b = 1\na.c.d = 2"), []);
        assert_eq!(finish(""), []);
        for (text, key, value, accepted) in [
            ("a = 1", "part.a", "1", "a table"),
            ("a.c = 1", "part.a.c", "1", "a table"),
            ("a.x = 1", "part.a.x", "1", "only the keys \"b\" or \"c\""),
            ("a.b = 1\na.c.x = 1", "part.a.c.x", "1", "only the keys \"d\""),
            ("a = {}", "part.a", "{  }", "only the keys \"b\" or \"c\""),
            ("x = {}", "part.x", "{  }", "only the keys \"a\""),
        ] {
            let error = &finish(text)[0];
            let found = (error.key.as_str(), error.value.as_str(), error.accepted.as_str());
            assert_eq!(found, (key, value, accepted));
        }
    }

    #[test]
    fn what_was_meant_is_close_or_stands_elsewhere() {
        let words = ["shards", "spin", "pin", "batch-window"];
        for (written, meant) in [
            ("shard", Some("shards")),
            ("sahrds", Some("shards")),
            ("spn", Some("spin")),
            ("batch_window", Some("batch-window")),
            ("cores", None),
            ("", None),
        ] {
            assert_eq!(closest(written, &words), meant, "{written}");
        }
        assert_eq!(closest("shards", &[]), None);
        assert_eq!(elsewhere("stomp-frame"), Some("limits.stomp-frame".to_string()));
        assert_eq!(elsewhere("protocol"), Some("[[endpoint]] protocol".to_string()));
        assert_eq!(elsewhere("path"), None, "endpoints and callbacks have one");
    }

    #[test]
    fn a_value_is_shown_on_one_line() {
        let mut part = section("a = { b = [1, \"x\\ny\"] }");
        let value = part.take("a").expect("a table").expect("it is there");
        assert_eq!(show(&value), "{ b = [1, \"x\\u000Ay\"] }");
        assert_eq!(quoted("a\"\\"), "\"a\\\"\\\\\"");
    }
}

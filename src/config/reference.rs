//! `docs/configuration.md`, made from the tables.

use super::kind::Key;
use super::settings::Change;
use super::{described, not_built};
use std::fmt::Write;

const HEAD: &str = "\
# Configuration

This page is made from the tables in `src/config`; do not edit it. \
`RINGPUSH_WRITE_DOCS=1 cargo test --lib config::reference` regenerates it.

TOML. Every key is optional except those marked *required*; unknown keys are errors. A variable \
`RINGPUSH_SECTION__KEY` overrides the file, and a flag of the command line overrides that: \
`RINGPUSH_LIMITS__STOMP_FRAME=32768`, `RINGPUSH_APPLICATION__1__HOOK=http://…` (entries count \
from 0). `ringpush check --config FILE` prints the effective configuration, in a form that can \
be read back. With a bad configuration the server does not start: it exits with 2 and one \
line for each mistake, which names file and line, the key, the value and what is accepted. What \
compares several sections is checked once each section is good. `ringpush config init FILE` writes \
a file to start from.

Durations are strings with a unit (`us`, `ms`, `s`, `m`, `h`, `d`). They are kept in \
milliseconds, up to 49 days; `window`, `batch-window` and `spin` in microseconds, up to what their \
row says.

*Change* says when a new value takes effect: at a **reload** (SIGHUP), or at a **restart**; the \
log names the keys that need one. A reload is refused as a whole, with a line in the log, if the \
file is bad, or if its new values do not fit the running values of keys that need a restart.
";

/// The page.
pub fn page() -> String {
    let mut out = String::from(HEAD);
    for (section, repeated, doc, keys) in described() {
        let heading = if repeated { format!("[[{section}]]") } else { format!("[{section}]") };
        line(&mut out, format_args!("\n## `{heading}`\n\n{doc}\n"));
        line(&mut out, format_args!("| key | what it is for | accepted | default | change |"));
        line(&mut out, format_args!("|---|---|---|---|---|"));
        for key in keys {
            row(&mut out, &key);
        }
    }
    line(&mut out, format_args!("\n## Not built yet\n\nThese are refused by name:\n"));
    for name in not_built::names() {
        line(&mut out, format_args!("- `{name}`"));
    }
    out
}

fn row(out: &mut String, key: &Key) {
    let change = match key.change {
        Change::Reload => "reload",
        Change::Restart => "restart",
    };
    let default = match key.default.as_str() {
        "required" => "*required*".to_string(),
        "–" => "–".to_string(),
        value => format!("`{value}`"),
    };
    let (name, doc, accepted) = (&key.name, cell(key.doc), cell(&key.accepted));
    line(out, format_args!("| `{name}` | {doc} | {accepted} | {default} | {change} |"));
}

/// Escapes stars and brackets outside code.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&part.replace('*', "\\*").replace('<', "&lt;").replace('|', "\\|")),
            _ => out.push_str(&format!("`{part}`")),
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{API_TOKEN, CALLBACK_SECRET, Setting, Sources, TOKEN_SECRET};

    #[test]
    fn the_page_is_what_the_tables_give() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("RINGPUSH_WRITE_DOCS").is_some() {
            std::fs::write(path, page()).expect("the page can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let same = written == page();
        assert!(same, "docs/configuration.md is out of date: RINGPUSH_WRITE_DOCS=1 regenerates it");
    }

    #[test]
    fn the_example_has_every_key_and_none_that_is_refused() {
        let text = include_str!("../../examples/every-key.toml");
        let document: toml::Table = text.parse().expect("TOML");
        for (section, _, _, keys) in described() {
            for key in keys {
                let name = format!("{section}.{}", key.name);
                assert_eq!(not_built::key(&name), None, "{name}");
                // The example has only some of the limits, and each secret in one of two ways.
                let elsewhere = section == "limits" || name.ends_with("-file");
                let parts: Vec<&str> = name.split('.').collect();
                assert!(elsewhere || has(&document, &parts), "{name}");
            }
        }
    }

    /// Whether any table that stands there has the key.
    fn has(table: &toml::Table, parts: &[&str]) -> bool {
        let Some((first, rest)) = parts.split_first() else { return true };
        match table.get(*first) {
            Some(toml::Value::Table(below)) => has(below, rest),
            Some(toml::Value::Array(list)) => {
                rest.is_empty()
                    || list.iter().filter_map(|one| one.as_table()).any(|t| has(t, rest))
            }
            Some(_) => rest.is_empty(),
            None => false,
        }
    }

    #[test]
    fn a_table_in_a_section_changes_as_its_key_does() {
        for (_, _, _, keys) in described() {
            for key in &keys {
                let inside = format!("{}.", key.name);
                let below = keys.iter().filter(|one| one.name.starts_with(&inside));
                for one in below {
                    assert_eq!(one.change, key.change, "{}", one.name);
                }
            }
        }
    }

    /// An entry of each repeated section, with nothing that has a default.
    const ENTRIES: &str = "
        [[endpoint]]
        path = '/a'
        [[allow]]
        action = 'send'
        destination = '/topic/a'
        [[slow]]
        destination = '/topic/a'
        policy = 'close'
        [[batch]]
        destination = '/topic/a'
        window = '1ms'
        [[application]]
        destination = '/a'
        [[callback]]
        path = '/b'
        destination = '/topic/a'
    ";

    #[test]
    fn every_default_holds_where_nothing_is_written() {
        let secret = |name: &str| (name.to_string(), "a secret of the tests".to_string());
        let shown = |toml: &str, names: &[&str]| {
            let environment = names.iter().map(|name| secret(name)).collect();
            let sources = Sources { environment, ..Sources::default() };
            sources.parse(toml, false).expect(toml).settings()
        };
        let plain = shown(ENTRIES, &[CALLBACK_SECRET]);
        // With the tables that are off by default.
        let tables = ENTRIES.replacen("'/a'", "'/a'\nsockjs = {}\non-open.close = {}", 1);
        let tables = shown(&tables, &[CALLBACK_SECRET, TOKEN_SECRET, API_TOKEN]);
        let mut numbers = 0;
        for (section, _, _, keys) in described() {
            for key in keys.iter().filter(|key| key.default != "required") {
                let is_it = |setting: &&Setting| setting.section == section;
                let of = |settings: &[Setting], name: &str| {
                    let found = settings.iter().filter(is_it).find(|one| one.key == name);
                    found.map(|setting| setting.value.clone())
                };
                let found = of(&plain, &key.name).or_else(|| of(&tables, &key.name));
                // A table that is on by default is shown by its keys.
                let inside = format!("{}.", key.name);
                let is_table = plain.iter().filter(is_it).any(|one| one.key.starts_with(&inside));
                let found = found.or_else(|| is_table.then(|| "true".to_string()));
                assert_eq!(found.unwrap_or_else(|| "–".to_string()), key.default, "{key:?}");
                numbers += usize::from(key.default.parse::<u32>().is_ok());
            }
        }
        assert!(numbers > 30, "only {numbers} numbers were compared");
    }
}

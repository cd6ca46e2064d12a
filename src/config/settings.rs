//! A configuration as lines of TOML, to be shown, and compared with another on reload.

use super::Config;
use std::collections::{BTreeMap, BTreeSet};

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// At the next SIGHUP.
    Reload,
    /// When the process starts again.
    Restart,
}

impl Change {
    /// Whether a reload leaves the key as it is.
    pub(super) fn waits(self) -> bool {
        self == Change::Restart
    }
}

/// One resolved setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its section: `limits`, `endpoint`.
    pub section: &'static str,
    /// Which entry of a repeated section: its path, destination or number.
    pub entry: Option<String>,
    /// The key in that section.
    pub key: String,
    /// The value in TOML, a secret by the name of where it is from.
    pub value: String,
    /// Whether a change takes effect without a restart.
    pub reloadable: bool,
    /// Only a restart adds or removes its entry.
    entry_stays: bool,
}

impl Setting {
    /// `listen.address`, or `endpoint[/chat].allowed-origins`.
    pub fn name(&self) -> String {
        match &self.entry {
            Some(entry) => format!("{}[{entry}].{}", self.section, self.key),
            None => format!("{}.{}", self.section, self.key),
        }
    }
}

/// One setting that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `listen.address`, or `endpoint[/chat].allowed-origins`.
    pub key: String,
    /// Whether it takes effect without a restart.
    pub reloadable: bool,
}

/// Collects settings. Secrets are named, or spelled out for a comparison that nobody sees.
pub(super) struct Lines {
    settings: Vec<Setting>,
    section: &'static str,
    entry: Option<String>,
    entry_stays: bool,
    change: Change,
    before: String,
    spelled_out: bool,
}

impl Lines {
    /// To be shown.
    pub(super) fn shown() -> Lines {
        Lines {
            settings: Vec::new(),
            section: "",
            entry: None,
            entry_stays: false,
            change: Change::Restart,
            before: String::new(),
            spelled_out: false,
        }
    }

    /// Begins a section, or an entry of a repeated one.
    pub(super) fn enter(&mut self, section: &'static str, entry: Option<String>, stays: bool) {
        (self.section, self.entry, self.entry_stays) = (section, entry, stays);
    }

    /// Begins a key of the section. The keys of a table below it change when it does.
    pub(super) fn row(&mut self, change: Change) {
        if self.before.is_empty() {
            self.change = change;
        }
    }

    /// Collects the keys of a table below the section.
    pub(super) fn below(&mut self, key: &str, show: impl FnOnce(&mut Lines)) {
        let before = format!("{}{key}.", self.before);
        let outer = core::mem::replace(&mut self.before, before);
        show(self);
        self.before = outer;
    }

    /// A key with its value in TOML.
    pub(super) fn raw(&mut self, key: &str, value: String) {
        self.settings.push(Setting {
            section: self.section,
            entry: self.entry.clone(),
            key: format!("{}{key}", self.before),
            value,
            reloadable: !self.change.waits(),
            entry_stays: self.entry_stays,
        });
    }

    /// Whether secrets are compared, not shown.
    pub(super) fn spelled_out(&self) -> bool {
        self.spelled_out
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.settings.iter().find(|one| one.key == key).map(|one| one.value.clone())
    }

    /// What was collected.
    pub(super) fn into_settings(self) -> Vec<Setting> {
        self.settings
    }
}

impl Config {
    /// Every setting, in the order in which sections are read, as it can be read again.
    pub fn settings(&self) -> Vec<Setting> {
        self.lines(Lines::shown())
    }

    /// What another configuration sets differently, ordered by key.
    pub fn differences(&self, other: &Config) -> Vec<Difference> {
        let (ours, theirs) = (self.by_key(), other.by_key());
        let entries = |settings: &BTreeMap<String, Setting>| -> BTreeSet<_> {
            let of = |setting: &Setting| Some((setting.section, setting.entry.clone()?));
            settings.values().filter_map(of).collect()
        };
        let (our_entries, their_entries) = (entries(&ours), entries(&theirs));
        let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let mut found = Vec::new();
        for key in keys {
            let (one, two) = (ours.get(key), theirs.get(key));
            if one.map(|setting| &setting.value) == two.map(|setting| &setting.value) {
                continue;
            }
            let setting = one.or(two).expect("the key comes from one of the two");
            let in_both = setting.entry.as_ref().is_none_or(|entry| {
                let entry = (setting.section, entry.clone());
                our_entries.contains(&entry) && their_entries.contains(&entry)
            });
            let reloadable = setting.reloadable && (in_both || !setting.entry_stays);
            found.push(Difference { key: key.clone(), reloadable });
        }
        found
    }

    fn by_key(&self) -> BTreeMap<String, Setting> {
        let lines = self.lines(Lines { spelled_out: true, ..Lines::shown() });
        lines.into_iter().map(|setting| (setting.name(), setting)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn load(toml: &str) -> Config {
        let secret = ("RINGPUSH_CALLBACK_SECRET".to_string(), "a secret of the tests".to_string());
        let sources = Sources { environment: vec![secret], ..Sources::default() };
        sources.parse(toml, false).expect("the test's TOML is good")
    }

    fn difference(one: &str, other: &str) -> Vec<(String, bool)> {
        let found = load(one).differences(&load(other));
        found.into_iter().map(|found| (found.key, found.reloadable)).collect()
    }

    #[test]
    fn nothing_differs_from_itself() {
        let text = include_str!("../../examples/call-centre.toml");
        assert_eq!(difference(text, text), []);
        assert_eq!(difference("", ""), []);
    }

    #[test]
    fn what_differs_says_whether_it_can_be_reloaded() {
        let cases: [(&str, &str, &str, bool); 16] = [
            ("", "listen.address = '1.2.3.4:5'", "listen.address", false),
            ("", "engine.shards = 2", "engine.shards", false),
            ("", "engine.spin = '50us'", "engine.spin", true),
            ("", "[[slow]]\ndestination = '/topic/a'\npolicy = 'close'", "slow[0].policy", true),
            ("", "auth.anonymous = false", "auth.anonymous", true),
            ("", "auth.header.name = 'X'", "auth.header.name", true),
            ("", "broker.separator = '.'", "broker.separator", false),
            ("", "hooks.queue = 2", "hooks.queue", true),
            ("", "presence.topic = '/topic/p'", "presence.topic", true),
            ("", "limits.send-time = '1s'", "limits.send-time", true),
            ("", "limits.subscriptions = 2", "limits.subscriptions", true),
            ("", "limits.slow-consumer = 'conflate'", "limits.slow-consumer", true),
            ("", "limits.segment-bytes = 1000000", "limits.segment-bytes", false),
            ("", "limits.stomp-frame = 70000", "limits.stomp-frame", false),
            (
                "[[endpoint]]\npath = '/a'",
                "[[endpoint]]\npath = '/a'\nallowed-origins = '*'",
                "endpoint[/a].allowed-origins",
                true,
            ),
            (
                "[[endpoint]]\npath = '/a'",
                "[[endpoint]]\npath = '/a'\nprotocol = 'stomp'\nsockjs = true",
                "endpoint[/a].sockjs",
                false,
            ),
        ];
        for (one, other, key, reloadable) in cases {
            let found = difference(one, other);
            assert!(found.contains(&(key.to_string(), reloadable)), "{other}: {found:?}");
        }
    }

    #[test]
    fn a_changed_secret_differs_and_stays_hidden() {
        let token = |value: &str| {
            let mut sources = Sources::default();
            sources.environment.push(("RINGPUSH_API_TOKEN".into(), value.into()));
            sources.parse("", false).expect("good")
        };
        let (one, other) = (token("first of the tokens"), token("second of the tokens"));
        let expected = Difference { key: "api.token".to_string(), reloadable: true };
        assert_eq!(one.differences(&other), [expected]);
        assert!(one.settings().iter().all(|setting| !setting.value.contains("first")));
        assert!(one.settings().iter().any(|setting| setting.value == "\"RINGPUSH_API_TOKEN\""));
    }
}

//! A configuration as lines of TOML, to be shown, and compared with another on reload.

use super::auth::ALGORITHMS;
use super::limits::SLOW;
use super::reader::quoted;
use super::{
    Action, Answer, Application, Auth, Callback, Config, Endpoint, NulInBody, Offline, OnMessage,
    Profile, Protocol, ReplyTo, Secret, SlowConsumer, TokenSource, UnknownDestination, Users,
};
use crate::limits::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// One resolved setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table it stands in: `limits`, `endpoint`.
    pub section: &'static str,
    /// Which entry of a repeated table: its path, destination or number.
    pub entry: Option<String>,
    /// The key in that table.
    pub key: &'static str,
    /// The value in TOML, secrets as `"***"`.
    pub value: String,
}

/// One setting that two configurations do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `listen.address`, or `endpoint[/chat].allowed-origins`.
    pub key: String,
    /// Whether it takes effect without a restart.
    pub reloadable: bool,
}

/// Collects settings. Secrets are shown, or spelled out for a comparison that nobody sees.
struct Lines {
    settings: Vec<Setting>,
    section: &'static str,
    entry: Option<String>,
    spelled_out: bool,
}

impl Lines {
    fn enter(&mut self, section: &'static str, entry: Option<String>) {
        (self.section, self.entry) = (section, entry);
    }

    fn raw(&mut self, key: &'static str, value: String) {
        let (section, entry) = (self.section, self.entry.clone());
        self.settings.push(Setting { section, entry, key, value });
    }

    fn plain(&mut self, key: &'static str, value: impl Display) {
        self.raw(key, value.to_string());
    }

    fn text(&mut self, key: &'static str, value: impl Display) {
        self.raw(key, quoted(&value.to_string()));
    }

    fn maybe(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn list(&mut self, key: &'static str, values: impl Iterator<Item = impl Display>) {
        self.raw(key, list(values));
    }

    fn secrets(&mut self, key: &'static str, secrets: &[Secret]) {
        match secrets {
            [one] => self.secret(key, Some(one)),
            _ if self.spelled_out => {
                let exposed: Vec<&[u8]> = secrets.iter().map(Secret::expose).collect();
                self.raw(key, format!("{exposed:?}"));
            }
            _ => self.list(key, secrets.iter().map(|_| "***")),
        }
    }

    fn secret(&mut self, key: &'static str, secret: Option<&Secret>) {
        match secret {
            None => {}
            Some(secret) if self.spelled_out => self.raw(key, format!("{:?}", secret.expose())),
            Some(_) => self.text(key, "***"),
        }
    }
}

fn list(values: impl Iterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", values.join(", "))
}

impl Config {
    /// Every setting but the limits' sentences, in the order of the file, secrets hidden.
    pub fn settings(&self) -> Vec<Setting> {
        self.lines(false)
    }

    /// What another configuration sets differently, ordered by key.
    pub fn differences(&self, other: &Config) -> Vec<Difference> {
        let (ours, theirs) = (self.by_key(), other.by_key());
        let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let mut found = Vec::new();
        for key in keys {
            let (one, two) = (ours.get(key), theirs.get(key));
            if one != two {
                let setting = one.or(two).expect("the key comes from one of the two");
                found.push(Difference { key: key.clone(), reloadable: reloadable(setting) });
            }
        }
        found
    }

    fn by_key(&self) -> BTreeMap<String, Setting> {
        let named = self.lines(true).into_iter().map(|setting| {
            let entry = setting.entry.as_ref().map_or(String::new(), |entry| format!("[{entry}]"));
            (format!("{}{entry}.{}", setting.section, setting.key), setting)
        });
        named.collect()
    }

    fn lines(&self, spelled_out: bool) -> Vec<Setting> {
        let mut to = Lines { settings: Vec::new(), section: "", entry: None, spelled_out };
        to.enter("listen", None);
        to.list("address", self.listen.addresses.iter());
        to.maybe("api-address", self.listen.api_address);
        to.maybe("external-url", self.listen.external_url.as_ref());
        to.list("trusted-proxies", self.listen.trusted_proxies.iter());
        to.enter("engine", None);
        to.plain("shards", self.engine.shards);
        to.plain("pin", self.engine.pin);
        to.text("batch-window", self.engine.batch_window);
        to.text("spin", self.engine.spin);
        to.enter("demo", None);
        to.plain("enabled", self.demo);
        auth(&mut to, &self.auth);
        to.enter("api", None);
        to.secret("token", self.api.token.as_ref());
        for one in &self.endpoints {
            endpoint(&mut to, one);
        }
        self.broker_lines(&mut to);
        for (at, rule) in self.allow.iter().enumerate() {
            to.enter("allow", Some(at.to_string()));
            let action = if rule.action == Action::Send { "send" } else { "subscribe" };
            to.text("action", action);
            to.text("destination", &rule.destination);
            match &rule.users {
                Users::Everyone => to.text("users", "*"),
                Users::Authenticated => to.text("users", "authenticated"),
                Users::Named(names) => to.list("users", names.iter()),
            }
        }
        for (at, rule) in self.slow.iter().enumerate() {
            to.enter("slow", Some(at.to_string()));
            to.text("destination", &rule.destination);
            to.text("policy", word(rule.policy));
        }
        for (at, rule) in self.batches.iter().enumerate() {
            to.enter("batch", Some(at.to_string()));
            to.text("destination", &rule.destination);
            to.text("window", rule.window);
        }
        for one in &self.applications {
            application(&mut to, one);
        }
        to.enter("hooks", None);
        to.text("timeout", self.hooks.timeout);
        to.plain("concurrent", self.hooks.concurrent);
        to.plain("queue", self.hooks.queue);
        for one in &self.callbacks {
            callback(&mut to, one);
        }
        to.enter("presence", None);
        to.maybe("topic", self.presence.topic.as_ref());
        self.limit_lines(&mut to);
        to.settings
    }

    fn broker_lines(&self, to: &mut Lines) {
        to.enter("broker", None);
        to.list("prefixes", self.broker.prefixes.iter());
        to.list("application-prefixes", self.broker.application_prefixes.iter());
        to.text("user-prefix", &self.broker.user_prefix);
        to.text("separator", char::from(self.broker.separator));
        to.list("heartbeat", self.broker.heartbeat.iter());
        to.text(
            "unknown-destination",
            match self.broker.unknown_destination {
                UnknownDestination::Error => "error",
                UnknownDestination::Ignore => "ignore",
            },
        );
        let nul_in_body = match self.broker.nul_in_body {
            NulInBody::Refuse => "refuse",
            NulInBody::Allow => "allow",
        };
        to.text("nul-in-body", nul_in_body);
    }

    fn limit_lines(&self, to: &mut Lines) {
        to.enter("limits", None);
        for line in self.limits.lines() {
            match line.value {
                Value::Number(number) => to.plain(line.key, number),
                Value::Span(span) => to.text(line.key, span),
            }
        }
        to.text("slow-consumer", word(self.slow_consumer));
    }
}

/// A policy as it is written.
fn word(policy: SlowConsumer) -> &'static str {
    SLOW.iter().find(|(_, one)| *one == policy).map_or("", |(word, _)| word)
}

fn auth(to: &mut Lines, auth: &Auth) {
    to.enter("auth", None);
    to.list("methods", auth.methods.iter().map(|method| method.word()));
    to.plain("anonymous", auth.anonymous);
    to.text("header.name", &auth.header);
    to.text("query.name", &auth.query);
    if let Some(token) = &auth.token {
        to.secret("token.secret", Some(&token.secret));
        let algorithms = token.algorithms.iter();
        let word = |algorithm| ALGORITHMS.iter().find(|(_, one)| one == algorithm);
        to.list("token.algorithms", algorithms.filter_map(word).map(|(word, _)| *word));
        to.text("token.user-claim", &token.user_claim);
        let source = |source: &TokenSource| match source {
            TokenSource::Bearer => "bearer".to_string(),
            TokenSource::Cookie(name) => format!("cookie:{name}"),
            TokenSource::Query(name) => format!("query:{name}"),
            TokenSource::Stomp => "stomp".to_string(),
        };
        to.list("token.from", token.from.iter().map(source));
        to.maybe("token.issuer", token.issuer.as_ref());
        to.maybe("token.audience", token.audience.as_ref());
        to.text("token.leeway", token.leeway);
    }
}

fn endpoint(to: &mut Lines, endpoint: &Endpoint) {
    to.enter("endpoint", Some(endpoint.path.clone()));
    to.text("path", &endpoint.path);
    let raw = endpoint.protocol == Protocol::Raw;
    to.text("protocol", if raw { "raw" } else { "stomp" });
    to.list("allowed-origins", endpoint.allowed_origins.iter());
    match endpoint.deflate {
        None => to.plain("deflate", false),
        Some(deflate) => {
            to.plain("deflate.context-takeover", deflate.context_takeover);
            to.plain("deflate.window-bits", deflate.window_bits);
        }
    }
    match &endpoint.sockjs {
        None => to.plain("sockjs", false),
        Some(sockjs) => {
            to.text("sockjs.heartbeat", sockjs.heartbeat);
            to.plain("sockjs.websocket", sockjs.websocket);
            to.plain("sockjs.cookie", sockjs.cookie);
        }
    }
    if let Some(open) = &endpoint.on_open {
        to.plain("on-open.close.code", open.code);
        to.text("on-open.close.reason", &open.reason);
    }
    match &endpoint.on_message {
        _ if !raw => {}
        OnMessage::Echo => to.text("on-message", "echo"),
        OnMessage::Reply(text) => to.text("on-message.reply", text),
        OnMessage::Publish(destination) => to.text("on-message.publish", destination),
    }
}

fn application(to: &mut Lines, application: &Application) {
    to.enter("application", Some(application.destination.clone()));
    to.text("destination", &application.destination);
    match &application.answer {
        Answer::Reply(reply) => to.text("reply", &reply.body),
        Answer::Hook(url) => to.text("hook", url),
        Answer::Forward(destination) => to.text("forward", destination),
        Answer::Unset => {}
    }
    match &application.to {
        ReplyTo::User(destination) => to.text("to-user", destination),
        ReplyTo::Destinations(list) => to.list("to", list.iter()),
        ReplyTo::Default => {}
    }
    to.plain("broadcast", application.broadcast);
}

fn callback(to: &mut Lines, callback: &Callback) {
    to.enter("callback", Some(callback.path.clone()));
    to.text("path", &callback.path);
    match &callback.profile {
        Profile::Generic { header, form, tolerance } => {
            to.text("profile", "generic");
            to.text("signature-header", header);
            to.text("signature-form", form);
            to.maybe("timestamp-tolerance", form.has_timestamp().then_some(tolerance));
        }
    }
    to.secrets("secret", &callback.secrets);
    to.maybe("id", callback.id.as_ref().map(|pointer| pointer.text()));
    to.maybe("user", callback.user.as_ref().map(|pointer| pointer.text()));
    to.text("destination", &callback.destination);
    to.maybe("business-type", callback.business_type.as_ref());
    to.text("dedupe-window", callback.dedupe_window);
    match &callback.offline {
        Offline::Drop => to.text("offline", "drop"),
        Offline::Topic(topic) => to.text("offline", format!("topic:{topic}")),
    }
}

/// What takes effect without a restart: who may do what and what is called, the bounds that each
/// client meets. Not what sizes a pool, owns a socket or has shaped the sessions that exist.
fn reloadable(setting: &Setting) -> bool {
    // Per-client bounds that are read each time; the units of the protocols shape buffers.
    const CLIENT: [&str; 8] = [
        "send-buffer",
        "subscriptions",
        "subscriptions-alike",
        "share-least",
        "receipts",
        "connections-per-address",
        "hook-body",
        "slow-consumer",
    ];
    match setting.section {
        "auth" | "api" | "allow" | "application" | "callback" | "hooks" | "presence" => true,
        "slow" | "batch" => true,
        "engine" => matches!(setting.key, "batch-window" | "spin"),
        "endpoint" => {
            setting.key == "allowed-origins"
                || setting.key.starts_with("on-open")
                || setting.key.starts_with("on-message")
        }
        // A bound that is written as text is a duration.
        "limits" => setting.value.starts_with('"') || CLIENT.contains(&setting.key),
        _ => false,
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
        assert!(one.settings().iter().any(|setting| setting.value == "\"***\""));
    }

    /// The leaves of a table as `key.key` and the value as a setting shows it.
    fn leaves(table: &toml::Table, before: &str, out: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let key = format!("{before}{key}");
            match value {
                // A reply is shown as the text that is sent.
                toml::Value::Table(reply) if key == "reply" => {
                    let json = serde_json::to_string(reply).expect("it is JSON");
                    out.push((key, quoted(&json)));
                }
                toml::Value::Table(inner) => leaves(inner, &format!("{key}."), out),
                toml::Value::Boolean(true) if key == "sockjs" => {}
                toml::Value::String(text) => out.push((key, quoted(text))),
                toml::Value::Array(values) => {
                    out.push((key, list(values.iter().filter_map(toml::Value::as_str))));
                }
                other => out.push((key, other.to_string())),
            }
        }
    }

    /// A span of time in one way of writing it; anything else as it is.
    fn span(value: &str) -> String {
        let span = humantime::parse_duration(value.trim_matches('"'));
        span.map_or(value.to_owned(), |span| format!("{span:?}"))
    }

    /// Every value of the file must be shown as it stands there.
    fn shows_what_is_written(text: &str) {
        let secret = |name: &str| (name.to_string(), "a secret of the tests".to_string());
        let names = ["RINGPUSH_TOKEN_SECRET", "RINGPUSH_API_TOKEN", "RINGPUSH_CALLBACK_SECRET"];
        let sources = Sources { environment: names.map(secret).into(), ..Sources::default() };
        let settings = sources.parse(text, false).expect("the test's TOML is good").settings();
        let file: toml::Table = text.parse().expect("TOML");
        for (section, value) in &file {
            let tables: Vec<&toml::Table> = match value {
                toml::Value::Array(list) => list.iter().filter_map(toml::Value::as_table).collect(),
                other => other.as_table().into_iter().collect(),
            };
            let shown: Vec<&Setting> =
                settings.iter().filter(|setting| setting.section == section).collect();
            let mut entries: Vec<&Option<String>> = shown.iter().map(|one| &one.entry).collect();
            entries.dedup();
            assert_eq!(entries.len(), tables.len(), "{section}");
            for (entry, table) in entries.into_iter().zip(tables) {
                let mut written = Vec::new();
                leaves(table, "", &mut written);
                for (key, value) in written {
                    let hidden = ["secret-env", "token-env", "token.secret-env"];
                    if hidden.contains(&&*key) || (section, &*key) == (&"listen".into(), "stomp") {
                        continue;
                    }
                    let found = shown.iter().find(|one| one.entry == *entry && one.key == key);
                    let found = found.map(|one| span(&one.value));
                    assert_eq!(found, Some(span(&value)), "{section} {entry:?} {key}");
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_shown() {
        let every = include_str!("../../examples/every-key.toml");
        // An address alone is shown as the network of one that it is.
        let every = every.replace("[\"127.0.0.1\", ", "[\"127.0.0.1/32\", ");
        shows_what_is_written(&every);
        // The values that it has not.
        let other = every
            .replace("\"HS256\", \"HS384\", \"HS512\"", "\"HS384\"")
            .replace("sha256={hex}", "v1={base64},")
            .replace("topic:/topic/unassigned", "drop")
            .replace("slow-consumer = \"close\"", "slow-consumer = \"conflate\"")
            .replace("policy = \"conflate\"", "policy = \"drop-oldest\"")
            .replace("action = \"send\"", "action = \"subscribe\"")
            .replace("users = \"authenticated\"", "users = [\"7\", \"8\"]")
            .replace("unknown-destination = \"error\"", "unknown-destination = \"ignore\"")
            .replace("separator = \"/\"", "separator = \".\"")
            .replace("on-message = { publish = \"/topic/chat\" }", "on-message = \"echo\"");
        shows_what_is_written(&other);
        for message in ["{ reply = \"ok\" }", "{ publish = \"/topic/all\" }"] {
            shows_what_is_written(&format!(
                "[[endpoint]]\npath = '/a'\nprotocol = 'raw'\non-message = {message}\n\
                 sockjs = false\ndeflate = false\n\
                 [[allow]]\naction = 'send'\ndestination = '/topic/a'\nusers = '*'\n"
            ));
        }
    }
}

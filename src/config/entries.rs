//! The tables that may stand several times: endpoints, rules, applications.

use super::file::{below, is_free_path};
use super::limits::SLOW;
use super::reader::{Section, list_of, quoted, show};
use super::syntax::{
    is_destination, is_origin, is_pattern, is_template, is_url, variables, variables_are_plain,
};
use super::{
    Action, Allow, Answer, Application, Batch, Broker, ConfigError, Deflate, Endpoint, NulInBody,
    OnMessage, OnOpen, Protocol, Reply, ReplyTo, Slow, Sockjs, Users,
};
use crate::time::{Micros, Millis};
use toml::Value;

/// The largest window of permessage-deflate, as a power of two (RFC 7692 §7.1.2).
const WINDOW_BITS_MAX: u8 = 15;
/// Bytes of a close reason (RFC 6455 §5.5: 125 with the code).
const REASON_MAX: usize = 123;

/// What is said about a path.
pub(super) const PATH: &str = "a path such as \"/chat\": a slash at its start, none at its end, \
                               plain ASCII, and not one of the server's own (/api, /metrics, …)";
const DESTINATION: &str = "a destination such as \"/queue/sub\"";
const URL: &str = "an http or https URL";

/// What is said about a destination of the broker.
pub(super) fn broker_text(broker: &Broker) -> String {
    format!("a destination below {}", broker.prefixes.join(" or "))
}

/// Whether the destination stands below a prefix of the broker.
pub(super) fn in_broker(broker: &Broker, destination: &str) -> bool {
    broker
        .prefixes
        .iter()
        .any(|prefix| below(prefix, destination) && destination.len() > prefix.len() + 1)
}

/// Notes a path; a second one of the same text is refused.
pub(super) fn unique(paths: &mut Vec<String>, key: &str, path: &str) -> Result<(), ConfigError> {
    if paths.iter().any(|one| one == path) {
        let accepted = "a path that no other [[endpoint]] or [[callback]] has";
        return Err(ConfigError::new(key, &quoted(path), accepted));
    }
    paths.push(path.to_string());
    Ok(())
}

/// The value, or an error if the key is not there.
pub(super) fn required<T>(
    section: &Section,
    key: &str,
    found: Option<T>,
    accepted: &str,
) -> Result<T, ConfigError> {
    found.ok_or_else(|| section.error(key, "nothing", accepted))
}

/// Reads every `[[endpoint]]`.
pub(super) fn endpoints(
    sections: Vec<Section>,
    broker: &Broker,
) -> Result<Vec<Endpoint>, ConfigError> {
    sections.into_iter().map(|section| endpoint(section, broker)).collect()
}

fn endpoint(mut section: Section, broker: &Broker) -> Result<Endpoint, ConfigError> {
    let path = section.text("path", PATH, is_free_path)?;
    let path = required(&section, "path", path, PATH)?;
    let words = [("raw", Protocol::Raw), ("stomp", Protocol::Stomp)];
    let protocol = section.choice("protocol", &words)?.unwrap_or(Protocol::Stomp);
    let accepted = "a list of origins such as \"https://a.example.com\", patterns such as \
                    \"https://*.example.com\" or \"https://a.example.com:[*]\", or \"*\"";
    let allowed_origins = section.texts("allowed-origins", accepted, is_origin)?;
    let sockjs = sockjs(&mut section)?;
    let deflate = deflate(&mut section)?;
    let on_open = match section.section("on-open")? {
        Some(part) => Some(on_open(part)?),
        None => None,
    };
    if section.has("on-message") && protocol == Protocol::Stomp {
        let accepted = "nothing with protocol = \"stomp\": see [[application]]";
        let value = section.take("on-message").map_or(String::new(), |value| show(&value));
        return Err(section.error("on-message", &value, accepted));
    }
    let on_message = on_message(&mut section, broker)?;
    section.finish()?;
    let allowed_origins = allowed_origins.unwrap_or_default();
    Ok(Endpoint { path, protocol, allowed_origins, sockjs, deflate, on_open, on_message })
}

fn deflate(section: &mut Section) -> Result<Option<Deflate>, ConfigError> {
    let accepted = "true, false or { context-takeover = true }";
    let written = section.fit("deflate", accepted, |value| match value {
        Value::Boolean(on) => Some(on.then(toml::Table::new)),
        Value::Table(table) => Some(Some(table.clone())),
        _ => None,
    })?;
    let Some(table) = written.unwrap_or(Some(toml::Table::new())) else { return Ok(None) };
    let mut part = Section::new(&section.name("deflate"), table);
    let context_takeover = part.flag("context-takeover")?.unwrap_or(false);
    // RFC 7692 §7.1.2 begins at 8, but zlib cannot make a stream for so small a window.
    let window_bits = part.number("window-bits", 9, 15)?.map_or(WINDOW_BITS_MAX, |bits| bits as u8);
    part.finish()?;
    Ok(Some(Deflate { context_takeover, window_bits }))
}

fn sockjs(section: &mut Section) -> Result<Option<Sockjs>, ConfigError> {
    let written = section.fit("sockjs", "true, false or a table", |value| match value {
        Value::Boolean(on) => Some(on.then(toml::Table::new)),
        Value::Table(table) => Some(Some(table.clone())),
        _ => None,
    })?;
    let Some(Some(table)) = written else { return Ok(None) };
    let mut part = Section::new(&section.name("sockjs"), table);
    let sockjs = Sockjs {
        heartbeat: part.period("heartbeat")?.unwrap_or(Millis::seconds(25)),
        websocket: part.flag("websocket")?.unwrap_or(true),
        cookie: part.flag("cookie")?.unwrap_or(false),
    };
    part.finish()?;
    Ok(Some(sockjs))
}

fn on_open(mut section: Section) -> Result<OnOpen, ConfigError> {
    let accepted = "{ close = { code = 3000, reason = \"…\" } }";
    let close = section.section("close")?;
    let mut close = required(&section, "close", close, accepted)?;
    let accepted = "a close code that a server may send: 1000 to 1003, 1007 to 1014, 3000 to 4999";
    // RFC 6455 §7.4: the others are reserved or never sent.
    let code = close.fit("code", accepted, |value| {
        let code = u16::try_from(value.as_integer()?).ok()?;
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(code)
    })?;
    let accepted = "a text of at most 123 bytes";
    let reason = close.text("reason", accepted, |text| text.len() <= REASON_MAX)?;
    close.finish()?;
    section.finish()?;
    Ok(OnOpen { code: code.unwrap_or(1000), reason: reason.unwrap_or_default() })
}

fn on_message(section: &mut Section, broker: &Broker) -> Result<OnMessage, ConfigError> {
    let accepted =
        format!("\"echo\", {{ reply = \"…\" }} or {{ publish = {} }}", broker_text(broker));
    let message = section.fit("on-message", &accepted, |value| match value {
        Value::String(word) => (word == "echo").then_some(OnMessage::Echo),
        Value::Table(table) if table.len() == 1 => {
            let (key, value) = table.iter().next()?;
            let text = value.as_str()?;
            let owned = text.to_string();
            match key.as_str() {
                "reply" => Some(OnMessage::Reply(owned)),
                "publish" if is_destination(text) && in_broker(broker, text) => {
                    Some(OnMessage::Publish(owned))
                }
                _ => None,
            }
        }
        _ => None,
    })?;
    Ok(message.unwrap_or(OnMessage::Echo))
}

/// Reads every `[[allow]]`.
pub(super) fn allow(sections: Vec<Section>, broker: &Broker) -> Result<Vec<Allow>, ConfigError> {
    sections.into_iter().map(|section| allow_one(section, broker)).collect()
}

fn allow_one(mut section: Section, broker: &Broker) -> Result<Allow, ConfigError> {
    let action =
        section.choice("action", &[("send", Action::Send), ("subscribe", Action::Subscribe)])?;
    let action = required(&section, "action", action, "\"send\" or \"subscribe\"")?;
    let accepted = "a pattern such as \"/topic/**\"; {user}, a whole segment before any **, is the \
                    own name";
    let separator = char::from(broker.separator);
    let fits = |text: &str| is_pattern(text) && variables_are_plain(text, separator);
    let destination = section.text("destination", accepted, fits)?;
    let destination = required(&section, "destination", destination, accepted)?;
    let accepted = "\"*\", \"authenticated\" or a list of names";
    let users = section.fit("users", accepted, |value| match value {
        Value::String(word) if word == "*" => Some(Users::Everyone),
        Value::String(word) if word == "authenticated" => Some(Users::Authenticated),
        Value::Array(list) => {
            let names = list.iter().map(|name| name.as_str().map(str::to_string));
            names.collect::<Option<Vec<_>>>().map(Users::Named)
        }
        _ => None,
    })?;
    section.finish()?;
    Ok(Allow { action, destination, users: users.unwrap_or(Users::Everyone) })
}

/// Reads every `[[slow]]`.
pub(super) fn slow(sections: Vec<Section>, broker: &Broker) -> Result<Vec<Slow>, ConfigError> {
    let one = |mut section: Section| {
        let accepted =
            "a destination or pattern such as \"/topic/prices/**\" or \"/user/queue/prices\"";
        let is_user = |text: &str| below(&broker.user_prefix, text);
        let fits = |text: &str| is_pattern(text) && (is_user(text) || may_meet(broker, text));
        let destination = section.text("destination", accepted, fits)?;
        let destination = required(&section, "destination", destination, accepted)?;
        let policy = section.choice("policy", &SLOW)?;
        let words = list_of(SLOW.iter().map(|(word, _)| *word));
        let policy = required(&section, "policy", policy, &words)?;
        section.finish()?;
        Ok(Slow { destination, policy })
    };
    sections.into_iter().map(one).collect()
}

/// Whether a destination or pattern is one of the broker's, or may match one.
fn may_meet(broker: &Broker, text: &str) -> bool {
    let first =
        text.trim_start_matches('/').split(char::from(broker.separator)).next().unwrap_or("");
    let has_wildcard = first.contains(['*', '?', '{']);
    has_wildcard || broker.prefixes.iter().any(|prefix| below(prefix, text))
}

/// The longest window: longer ones would only hold messages back.
pub(super) const WINDOW_MAX: Micros = Micros(10_000_000);

/// Reads every `[[batch]]`.
pub(super) fn batches(sections: Vec<Section>, broker: &Broker) -> Result<Vec<Batch>, ConfigError> {
    let one = |mut section: Section| {
        let accepted = "a destination or pattern of the broker such as \"/topic/dashboards/**\"";
        let fits = |text: &str| is_pattern(text) && may_meet(broker, text);
        let destination = section.text("destination", accepted, fits)?;
        let destination = required(&section, "destination", destination, accepted)?;
        let window = section.short_span("window", WINDOW_MAX)?;
        let window = required(&section, "window", window, "a duration such as \"20ms\"")?;
        section.finish()?;
        Ok(Batch { destination, window })
    };
    sections.into_iter().map(one).collect()
}

/// Reads every `[[application]]`.
pub(super) fn applications(
    sections: Vec<Section>,
    broker: &Broker,
) -> Result<Vec<Application>, ConfigError> {
    sections.into_iter().map(|section| application(section, broker)).collect()
}

fn application(mut section: Section, broker: &Broker) -> Result<Application, ConfigError> {
    let accepted = "a pattern below the application prefixes, such as \"/trade\" or \"/call/{id}\"";
    let destination = section.text("destination", accepted, is_pattern)?;
    let destination = required(&section, "destination", destination, accepted)?;
    let names = variables(&destination).unwrap_or_default();
    let accepted = format!(
        "{}; a {{variable}} in it must be one of destination = {}",
        broker_text(broker),
        quoted(&destination)
    );
    let target = |text: &str| {
        let known = |name: &&str| names.contains(name);
        is_template(text)
            && in_broker(broker, text)
            && variables(text).is_some_and(|used| used.iter().all(known))
    };
    let accepted_reply = "a text without NUL, or a table or list that becomes JSON";
    let reply = section.fit("reply", accepted_reply, |value| reply(value, broker))?;
    let hook = section.text("hook", URL, is_url)?;
    let forward = section.text("forward", &accepted, target)?;
    let count = u8::from(reply.is_some()) + u8::from(hook.is_some()) + u8::from(forward.is_some());
    if count > 1 {
        let accepted = "one of reply, hook and forward";
        return Err(section.error("destination", &quoted(&destination), accepted));
    }
    let answer = reply.map(Answer::Reply).or_else(|| hook.map(Answer::Hook));
    let answer = answer.or_else(|| forward.map(Answer::Forward)).unwrap_or(Answer::Unset);
    let to_user = section.text("to-user", DESTINATION, is_destination)?;
    let to = section.texts("to", &accepted, target)?;
    let to = match (to_user, to) {
        (Some(user), Some(_)) => {
            return Err(section.error("to-user", &quoted(&user), "one of to-user and to"));
        }
        (Some(user), None) => ReplyTo::User(user),
        (None, Some(list)) => ReplyTo::Destinations(list),
        (None, None) => ReplyTo::Default,
    };
    let broadcast = section.flag("broadcast")?.unwrap_or(true);
    section.finish()?;
    Ok(Application { destination, answer, to, broadcast })
}

fn reply(value: &Value, broker: &Broker) -> Option<Reply> {
    match value {
        Value::String(text) if text.contains('\0') && broker.nul_in_body == NulInBody::Refuse => {
            None
        }
        Value::String(text) => Some(Reply { body: text.clone(), json: false }),
        Value::Table(_) | Value::Array(_) => {
            Some(Reply { body: serde_json::to_string(value).ok()?, json: true })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Offline, Profile, SignatureForm, SlowConsumer, Sources};

    fn parse(toml: &str) -> Result<Config, ConfigError> {
        let secret = ("SECRET".to_string(), "a secret of the tests".to_string());
        Sources { environment: vec![secret], ..Sources::default() }.parse(toml, false)
    }

    #[test]
    fn compression_is_on_and_without_takeover_unless_set() {
        let deflate = |line: &str| {
            let config = parse(&format!("[[endpoint]]\n{ENDPOINT}{line}")).expect("good");
            config.endpoints[0].deflate
        };
        let none = Some(Deflate { context_takeover: false, window_bits: 15 });
        for line in ["", "deflate = true", "deflate = {}"] {
            assert_eq!(deflate(line), none);
        }
        assert_eq!(deflate("deflate = false"), None);
        let takeover = Some(Deflate { context_takeover: true, window_bits: 12 });
        assert_eq!(deflate("deflate = { context-takeover = true, window-bits = 12 }"), takeover);
    }

    const SLOWER: &str = "destination = '/topic/a'\n";
    const ENDPOINT: &str = "path = '/a'\n";
    const RULE: &str = "action = 'send'\ndestination = '/topic/a'\n";
    const HIDDEN: &str = "action = 'send'\ndestination = '/a/**/{user}'\n";
    const PART: &str = "action = 'send'\ndestination = '/a-{user}'\n";
    const APPLICATION: &str = "destination = '/a/{id}'\n";
    const CALLBACK: &str = "path = '/a'\nsecret-env = 'SECRET'\ndestination = '/topic/a'\n";
    // Table, its keys, the key that is wrong, its value, the start of what is accepted.
    const MISTAKES: &[[&str; 6]] = &[
        ["endpoint", "", "", "path", "nothing", "a path such as"],
        ["endpoint", "", "path = '/api/x'", "path", "\"/api/x\"", "a path such as"],
        ["endpoint", ENDPOINT, "protocol = 'mqtt'", "protocol", "\"mqtt\"", "\"raw\" or \"stomp\""],
        ["endpoint", ENDPOINT, "allowed-origins = ['a']", "allowed-origins", "\"a\"", "a list of"],
        ["endpoint", ENDPOINT, "deflate = 'on'", "deflate", "\"on\"", "true, false or { context"],
        [
            "endpoint",
            ENDPOINT,
            "deflate.window-bits = 8",
            "deflate.window-bits",
            "8",
            "a whole number from 9 to 15",
        ],
        ["endpoint", ENDPOINT, "deflate.x = 0", "deflate.x", "0", "only the keys"],
        ["endpoint", ENDPOINT, "sockjs = 1", "sockjs", "1", "true, false or a table"],
        ["endpoint", ENDPOINT, "sockjs.queue = 9", "sockjs.queue", "9", "nothing: it is not"],
        [
            "endpoint",
            ENDPOINT,
            "sockjs.heartbeat = '0s'",
            "sockjs.heartbeat",
            "\"0s\"",
            "a duration",
        ],
        ["endpoint", ENDPOINT, "sockjs.x = 0", "sockjs.x", "0", "only the keys"],
        ["endpoint", ENDPOINT, "on-open = {}", "on-open.close", "nothing", "{ close ="],
        [
            "endpoint",
            ENDPOINT,
            "on-open.close.code = 1005",
            "on-open.close.code",
            "1005",
            "a close code",
        ],
        ["endpoint", ENDPOINT, "on-message = 'echo'", "on-message", "\"echo\"", "nothing with"],
        [
            "endpoint",
            "path = '/a'\nprotocol = 'raw'\n",
            "on-message.publish = '/x'",
            "on-message",
            "{ publish = \"/x\" }",
            "\"echo\", { reply",
        ],
        ["allow", "", "destination = '/a'", "action", "nothing", "\"send\" or \"subscribe\""],
        ["allow", "", "action = 'send'", "destination", "nothing", "a pattern such as"],
        ["allow", HIDDEN, "", "destination", "\"/a/**/{user}\"", "a pattern such as"],
        ["allow", PART, "", "destination", "\"/a-{user}\"", "a pattern such as"],
        ["allow", RULE, "users = 'me'", "users", "\"me\"", "\"*\", \"authenticated\" or"],
        ["slow", "", "policy = 'close'", "destination", "nothing", "a destination or pattern"],
        ["slow", SLOWER, "", "policy", "nothing", "\"close\", \"drop-oldest\" or \"conflate\""],
        ["slow", SLOWER, "policy = 'wait'", "policy", "\"wait\"", "\"close\", \"drop-oldest\" or"],
        ["slow", SLOWER, "polic = 'close'", "policy", "nothing", "\"close\", \"drop-oldest\" or"],
        ["batch", "", "window = '1ms'", "destination", "nothing", "a destination or pattern of"],
        [
            "batch",
            "",
            "destination = '/user/queue/a'",
            "destination",
            "\"/user/queue/a\"",
            "a destination or pattern of the broker",
        ],
        ["batch", SLOWER, "", "window", "nothing", "a duration such as"],
        [
            "batch",
            SLOWER,
            "window = '11s'",
            "window",
            "\"11s\"",
            "a duration from \"0us\" to \"10s\"",
        ],
        ["batch", SLOWER, "window = 20", "window", "20", "a duration from"],
        ["application", "", "", "destination", "nothing", "a pattern below"],
        ["application", APPLICATION, "reply = 1", "reply", "1", "a text without NUL"],
        ["application", APPLICATION, "reply = \"a\\u0000\"", "reply", "\"a\\u0000\"", "a text w"],
        ["application", APPLICATION, "hook = 'x'", "hook", "\"x\"", "an http or https URL"],
        ["application", APPLICATION, "forward = '/x'", "forward", "\"/x\"", "a destination below"],
        [
            "application",
            APPLICATION,
            "to = ['/topic/{id}', '/topic/{x}']",
            "to",
            "\"/topic/{x}\"",
            "a destination below /topic or /queue; a {variable}",
        ],
        [
            "application",
            APPLICATION,
            "reply = 'a'\nforward = '/topic/a'",
            "destination",
            "\"/a/{id}\"",
            "one of reply, hook and forward",
        ],
        [
            "application",
            APPLICATION,
            "to-user = '/queue/a'\nto = '/topic/a'",
            "to-user",
            "\"/queue/a\"",
            "one of to-user and to",
        ],
        ["callback", "path = '/a'\n", "", "secret-env", "nothing", "the name of a variable"],
        ["callback", CALLBACK, "profile = 'x'", "profile", "\"x\"", "\"generic\""],
        ["callback", CALLBACK, "id = 'callId'", "id", "\"callId\"", "a JSON pointer"],
        ["callback", CALLBACK, "offline = 'wait'", "offline", "\"wait\"", "\"drop\" or \"topic:"],
        ["callback", CALLBACK, "offline = 'topic:/x'", "offline", "\"topic:/x\"", "\"drop\" or"],
        ["callback", CALLBACK, "ttl = '1h'", "ttl", "\"1h\"", "nothing: it is not built yet"],
        [
            "callback",
            CALLBACK,
            "signature-form = 'sha256='",
            "signature-form",
            "\"sha256=\"",
            "a text with one {hex}",
        ],
        [
            "callback",
            "path = '/a'\nsecret-env = 'SECRET'\n",
            "destination = '/x'",
            "destination",
            "\"/x\"",
            "a destination below /topic or /queue, as there is no user",
        ],
        [
            "callback",
            "path = '/a'\nsecret-env = 'SECRET'\nuser = '/u'\n",
            "destination = '/user/queue/a'",
            "destination",
            "\"/user/queue/a\"",
            "a destination of a user",
        ],
    ];

    #[test]
    fn every_mistake_names_key_value_and_what_is_accepted() {
        for [table, before, keys, key, value, accepted] in MISTAKES {
            let toml = format!("[[{table}]]\n{before}{keys}");
            let error = parse(&toml).expect_err(&toml);
            assert_eq!((error.key, error.value.as_str()), (format!("{table}[0].{key}"), *value));
            assert!(error.accepted.starts_with(accepted), "{toml}: {}", error.accepted);
        }
    }

    #[test]
    fn a_path_belongs_to_one() {
        let toml = "[[endpoint]]\npath = '/a'\n[[callback]]\npath = '/a'\nsecret-env = 'SECRET'\n\
                    destination = '/topic/a'";
        let error = parse(toml).expect_err("twice");
        assert_eq!((error.key.as_str(), error.value.as_str()), ("callback[0].path", "\"/a\""));
    }

    #[test]
    fn every_choice_is_read() {
        let toml = r#"
            [[endpoint]]
            path = "/a"
            protocol = "raw"
            allowed-origins = "https://*.example.com:[*]"
            sockjs = { heartbeat = "1s", websocket = true }
            on-open = { close = { code = 3000, reason = "Go away!" } }
            on-message = { publish = "/topic/x" }
            [[allow]]
            action = "subscribe"
            destination = "/topic/{user}/*"
            users = ["7", "8"]
            [[slow]]
            destination = "/topic/prices/**"
            policy = "conflate"
            [[batch]]
            destination = "/topic/dashboards/**"
            window = "1500us"
            [[application]]
            destination = "/a/{id}"
            forward = "/topic/{id}"
            [[application]]
            destination = "/b"
            reply = ["x", 1]
            to = ["/topic/a", "/queue/b"]
            broadcast = false
            [[callback]]
            path = "/c"
            secret-env = "SECRET"
            destination = "/topic/c"
            signature-header = "X-Hub"
            signature-form = "v1={base64};"
            dedupe-window = "1m"
            offline = "topic:/topic/unassigned"
        "#;
        let config = parse(toml).expect("good");
        assert_eq!(config.warnings, [""; 0]);
        let endpoint = &config.endpoints[0];
        assert_eq!(endpoint.on_message, OnMessage::Publish("/topic/x".to_string()));
        assert_eq!(endpoint.on_open, Some(OnOpen { code: 3000, reason: "Go away!".to_string() }));
        assert_eq!(endpoint.sockjs.as_ref().map(|s| s.heartbeat), Some(Millis::seconds(1)));
        let named = Users::Named(vec!["7".to_string(), "8".to_string()]);
        let prices = "/topic/prices/**".to_string();
        assert_eq!(config.slow, [Slow { destination: prices, policy: SlowConsumer::Conflate }]);
        let dashboards = "/topic/dashboards/**".to_string();
        assert_eq!(config.batches, [Batch { destination: dashboards, window: Micros(1500) }]);
        assert_eq!((config.allow[0].action, &config.allow[0].users), (Action::Subscribe, &named));
        let [forward, reply] = config.applications.as_slice() else { panic!("two") };
        assert_eq!(forward.answer, Answer::Forward("/topic/{id}".to_string()));
        assert_eq!(forward.to, ReplyTo::Default);
        let body = Reply { body: "[\"x\",1]".to_string(), json: true };
        assert_eq!((&reply.answer, reply.broadcast), (&Answer::Reply(body), false));
        let callback = &config.callbacks[0];
        assert_eq!(callback.offline, Offline::Topic("/topic/unassigned".to_string()));
        let form = SignatureForm::parse("v1={base64};").expect("good");
        let (header, tolerance) = ("X-Hub".to_string(), Millis::seconds(300));
        assert_eq!(callback.profile, Profile::Generic { header, form, tolerance });
    }

    #[test]
    fn a_value_that_is_not_built_yet_is_refused_as_such() {
        for (table, before, key, value) in
            [("callback", CALLBACK, "profile", "twilio"), ("callback", CALLBACK, "offline", "keep")]
        {
            let toml = format!("[[{table}]]\n{before}{key} = '{value}'");
            let error = parse(&toml).expect_err(&toml);
            let end = format!("; \"{value}\" is not built yet");
            assert_eq!((error.key, error.value), (format!("{table}[0].{key}"), quoted(value)));
            assert!(error.accepted.ends_with(&end), "{}", error.accepted);
        }
    }
}

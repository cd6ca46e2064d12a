//! The sections that may be written several times: what is read, and every mistake.

use super::*;
use crate::time::{Micros, Millis};

fn parse(toml: &str) -> Result<Config, Mistake> {
    let secret = ("SECRET".to_string(), "a secret of the tests".to_string());
    let sources = Sources { environment: vec![secret], ..Sources::default() };
    sources.parse(toml, false).map_err(ConfigError::only)
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
const FORWARD: &str = "destination = '/a'\nforward = '/topic/a'\n";
const REPLY: &str = "destination = '/a'\nreply = 'a'\n";
const UNSIGNED: &str = "path = '/a'\ndestination = '/topic/a'\n";
const CALLBACK: &str = "path = '/a'\nsecret-env = 'SECRET'\ndestination = '/topic/a'\n";
// Table, its keys, the key that is wrong, its value, the start of what is accepted.
const MISTAKES: &[[&str; 6]] = &[
    ["endpoint", "", "", "path", "nothing", "a path such as"],
    ["endpoint", "", "path = '/api/x'", "path", "\"/api/x\"", "a path such as"],
    ["endpoint", ENDPOINT, "protocol = 'mqtt'", "protocol", "\"mqtt\"", "\"raw\" or \"stomp\""],
    ["endpoint", ENDPOINT, "allowed-origins = ['a']", "allowed-origins", "\"a\"", "a list of"],
    ["endpoint", ENDPOINT, "deflate = 'on'", "deflate", "\"on\"", "true, false or a table"],
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
    ["endpoint", ENDPOINT, "sockjs.heartbeat = '0s'", "sockjs.heartbeat", "\"0s\"", "a duration"],
    ["endpoint", ENDPOINT, "sockjs.x = 0", "sockjs.x", "0", "only the keys"],
    ["endpoint", ENDPOINT, "on-open = {}", "on-open", "{  }", "only the keys \"close\""],
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
        "on-message.publish",
        "\"/x\"",
        "a destination below /topic or /queue",
    ],
    ["allow", "", "destination = '/a'", "action", "nothing", "\"send\" or \"subscribe\""],
    ["allow", "", "action = 'send'", "destination", "nothing", "a pattern such as"],
    ["allow", HIDDEN, "", "destination", "\"/a/**/{user}\"", "a pattern such as"],
    ["allow", PART, "", "destination", "\"/a-{user}\"", "a pattern such as"],
    ["allow", RULE, "users = 'me'", "users", "\"me\"", "\"*\", \"authenticated\" or"],
    ["slow", "", "policy = 'close'", "destination", "nothing", "a destination or pattern"],
    ["slow", SLOWER, "", "policy", "nothing", "\"close\", \"drop-oldest\" or \"conflate\""],
    ["slow", SLOWER, "policy = 'wait'", "policy", "\"wait\"", "\"close\", \"drop-oldest\" or"],
    ["slow", SLOWER, "polic = 'close'", "polic", "\"close\"", "only the keys \"destination\" or"],
    ["batch", "", "window = '1ms'", "destination", "nothing", "a destination or pattern of"],
    [
        "batch",
        "window = '1ms'\n",
        "destination = '/user/queue/a'",
        "destination",
        "\"/user/queue/a\"",
        "a destination or pattern of the broker",
    ],
    ["batch", SLOWER, "", "window", "nothing", "a duration from"],
    ["batch", SLOWER, "window = '11s'", "window", "\"11s\"", "a duration from \"0us\" to \"10s\""],
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
        "forward",
        "\"/topic/a\"",
        "one of \"reply\", \"hook\" and \"forward\", and reply is set",
    ],
    [
        "application",
        APPLICATION,
        "to-user = '/queue/a'\nto = '/topic/a'",
        "to",
        "[\"/topic/a\"]",
        "one of \"to-user\" and \"to\", and to-user is set",
    ],
    [
        "application",
        FORWARD,
        "to-user = '/queue/a'",
        "to-user",
        "\"/queue/a\"",
        "nothing with forward",
    ],
    ["application", FORWARD, "to = '/topic/b'", "to", "[\"/topic/b\"]", "nothing with forward"],
    ["application", FORWARD, "broadcast = false", "broadcast", "false", "true without to-user"],
    ["application", REPLY, "broadcast = false", "broadcast", "false", "true without to-user"],
    [
        "application",
        REPLY,
        "to = '/topic/b'\nbroadcast = false",
        "broadcast",
        "false",
        "true without to-user",
    ],
    ["application", REPLY, "to = []", "to", "[]", "a list of one or more"],
    ["callback", UNSIGNED, "", "secret-env", "nothing", "the name of a variable"],
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
        [[endpoint]]
        path = "/b"
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
        [[application]]
        destination = "/c"
        hook = "http://127.0.0.1:9000/c"
        to-user = "/queue/c"
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
    let publish = OnMessage::Publish("/topic/x".to_string());
    assert_eq!(endpoint.on_message, Some(publish));
    assert_eq!(endpoint.on_open, Some(OnOpen { code: 3000, reason: "Go away!".to_string() }));
    assert_eq!(endpoint.sockjs.as_ref().map(|s| s.heartbeat), Some(Millis::seconds(1)));
    let named = Users::Named(vec!["7".to_string(), "8".to_string()]);
    let prices = "/topic/prices/**".to_string();
    assert_eq!(config.slow, [Slow { destination: prices, policy: SlowConsumer::Conflate }]);
    let dashboards = "/topic/dashboards/**".to_string();
    assert_eq!(config.batches, [Batch { destination: dashboards, window: Micros(1500) }]);
    assert_eq!((config.allow[0].action, &config.allow[0].users), (Action::Subscribe, &named));
    let [forward, reply, hook] = config.applications.as_slice() else { panic!("three") };
    assert_eq!(forward.answer, Answer::Forward("/topic/{id}".to_string()));
    assert_eq!(forward.to, ReplyTo::Default);
    let body = Reply { body: "[\"x\",1]".to_string(), json: true };
    assert_eq!((&reply.answer, reply.broadcast), (&Answer::Reply(body), true));
    let to = ReplyTo::User("/queue/c".to_string());
    assert_eq!((&hook.to, hook.broadcast), (&to, false));
    let callback = &config.callbacks[0];
    assert_eq!(callback.offline, Offline::Topic("/topic/unassigned".to_string()));
    let form = SignatureForm::parse("v1={base64};").expect("good");
    assert_eq!((callback.signature_header.as_str(), &callback.signature_form), ("X-Hub", &form));
}

#[test]
fn whatever_is_not_built_yet_is_refused_as_such() {
    for name in not_built::names() {
        let (key, value) = match name.split_once(" = ") {
            Some((key, value)) => (key.to_string(), value.to_string()),
            None => (name.clone(), "\"x\"".to_string()),
        };
        let raw = format!("{ENDPOINT}protocol = 'raw'\n");
        let before = [
            ("allow", RULE),
            ("application", APPLICATION),
            ("callback", CALLBACK),
            ("endpoint", &raw),
        ];
        let entry = key.split_once('.').and_then(|(section, inside)| {
            let (_, before) = before.iter().find(|(name, _)| *name == section)?;
            Some(format!("[[{section}]]\n{before}{inside} = {value}"))
        });
        let toml = entry.unwrap_or_else(|| format!("{key} = {value}"));
        let error = parse(&toml).expect_err(&name);
        let found = error.key.replace("[0]", "");
        assert_eq!((found, &error.value), (key, &value));
        assert!(error.accepted.contains("not built yet"), "{error}");
    }
}

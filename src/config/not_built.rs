//! What the configuration will have and does not have yet. It is refused by name: a key that is
//! accepted has an effect.

/// Keys, without the numbers of entries, and what to do instead, if there is something.
const KEYS: &[(&str, &str)] = &[
    ("auth.certificate", ""),
    ("auth.hook", ""),
    ("auth.token.jwks-url", ""),
    ("auth.token.keys-file", ""),
    ("callback.basic", ""),
    ("callback.batch", ""),
    ("callback.rank", ""),
    ("callback.ttl", ""),
    ("callback.unsigned", ""),
    ("endpoint.on-message.hook", ""),
    ("endpoint.sockjs.client-url", ""),
    ("endpoint.sockjs.disconnect-delay", ""),
    ("endpoint.sockjs.queue", ""),
    ("endpoint.sockjs.stream-bytes", ""),
    ("events", ""),
    ("history", ""),
    ("listen.stomp-tcp", ""),
    ("listener", ""),
    ("log", ""),
    ("presence.hook", ""),
    ("store", ""),
    ("tls", "; put a proxy with TLS in front of ringpush"),
    ("user-destination", ""),
];

/// Values of keys that have others.
const VALUES: &[(&str, &[&str])] = &[
    ("auth.methods", &["hook", "certificate"]),
    ("auth.token.algorithms", &["RS256", "PS256", "ES256", "EdDSA"]),
    ("callback.offline", &["keep", "dead-letter"]),
    ("callback.profile", &["twilio", "vonage", "plivo", "sinch", "aliyun", "tencent", "huawei"]),
    ("listen.address", &["systemd"]),
];

/// All of it, for the reference.
pub(super) fn names() -> impl Iterator<Item = String> {
    let keys = KEYS.iter().map(|(name, _)| name.to_string());
    let of = |name: &'static str| move |value: &&str| format!("{name} = \"{value}\"");
    keys.chain(VALUES.iter().flat_map(move |(name, values)| values.iter().map(of(name))))
}

/// What an error says of a key that is not built yet.
pub(super) fn key(name: &str) -> Option<String> {
    let name = without_numbers(name);
    let (_, instead) = KEYS.iter().find(|(one, _)| *one == name)?;
    Some(format!("nothing: it is not built yet{instead}"))
}

/// What an error adds about a value, written as TOML, that is not built yet.
pub(super) fn value(name: &str, value: &str) -> String {
    let name = without_numbers(name);
    let listed = VALUES.iter().find(|(one, _)| *one == name);
    let text = value.trim_matches('"');
    match listed.is_some_and(|(_, values)| values.contains(&text)) {
        true => format!("; {value} is not built yet"),
        false => String::new(),
    }
}

fn without_numbers(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('[') {
        out.push_str(part.split_once(']').map_or(part, |(_, rest)| rest));
    }
    out
}

//! What the configuration does not have yet. It is refused by name, because a key that is accepted
//! must have an effect.

/// Keys, without the numbers of entries, and what to do instead, if there is something.
const KEYS: &[(&str, &str)] = &[
    ("allow.cache", ""),
    ("allow.hook", ""),
    ("api.token", ""),
    ("application.on", ""),
    ("auth.certificate", ""),
    ("auth.hook", ""),
    ("auth.token.jwks-url", ""),
    ("auth.token.keys-file", ""),
    ("auth.token.require-exp", ""),
    ("broker.dead-letter", ""),
    ("broker.dialect", ""),
    ("broker.redeliveries", ""),
    ("broker.work-queues", ""),
    ("callback.basic", ""),
    ("callback.batch", ""),
    ("callback.from", ""),
    ("callback.rank", ""),
    ("callback.success", ""),
    ("callback.ttl", ""),
    ("callback.unsigned", ""),
    ("cluster", ""),
    ("endpoint.on-message.hook", ""),
    ("endpoint.sockjs.client-url", ""),
    ("endpoint.sockjs.disconnect-delay", ""),
    ("endpoint.sockjs.queue", ""),
    ("endpoint.sockjs.stream-bytes", ""),
    ("events", ""),
    ("history", ""),
    ("limits.claim-time", ""),
    ("limits.drain-spread", ""),
    ("limits.history-bytes", ""),
    ("limits.kept-bytes", ""),
    ("limits.queue-bytes", ""),
    ("limits.sockjs-sessions", ""),
    ("limits.transaction-bytes", ""),
    ("limits.transaction-frames", ""),
    ("limits.transactions", ""),
    ("limits.unacked", ""),
    ("listen.stomp-tcp", ""),
    ("listener", ""),
    ("log", ""),
    ("presence.hook", ""),
    ("store", ""),
    ("tls", "; put a proxy with TLS in front of ringpush"),
    ("user-destination", ""),
];

/// Values of keys that have others. `…` at the end of one stands for any text.
const VALUES: &[(&str, &[&str])] = &[
    ("auth.methods", &["hook", "certificate"]),
    ("auth.token.algorithms", &["RS256", "PS256", "ES256", "EdDSA"]),
    ("callback.id", &["header:…"]),
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
    let is_it = |one: &&str| match one.strip_suffix('…') {
        Some(begin) => text.starts_with(begin),
        None => text == *one,
    };
    match listed.is_some_and(|(_, values)| values.iter().any(is_it)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::described;

    /// Every key that the product has or is going to have, by its section.
    const ALL: &[(&str, &str)] = &[
        ("listen", "address api-address stomp-tcp external-url trusted-proxies"),
        ("listener", "address serves tls proxy-protocol"),
        ("engine", "shards pin batch-window spin"),
        ("tls", "certificate key certificates client-ca min-version redirect-address hsts"),
        ("demo", "enabled"),
        ("log", "level format access"),
        ("auth", "methods anonymous header.name hook.url hook.cookies hook.cache query.name"),
        ("auth", "certificate.from token.secret-env token.secret-file token.algorithms"),
        ("auth", "token.user-claim token.from token.keys-file token.jwks-url token.issuer"),
        ("auth", "token.audience token.leeway token.require-exp"),
        ("api", "token-env token-file token"),
        ("endpoint", "path protocol allowed-origins deflate on-open.close.code"),
        ("endpoint", "on-open.close.reason on-message on-message.reply on-message.publish"),
        ("endpoint", "on-message.hook sockjs sockjs.heartbeat sockjs.disconnect-delay"),
        ("endpoint", "sockjs.stream-bytes sockjs.queue sockjs.websocket sockjs.cookie"),
        ("endpoint", "sockjs.client-url"),
        ("broker", "prefixes application-prefixes user-prefix separator heartbeat"),
        ("broker", "unknown-destination work-queues redeliveries dead-letter nul-in-body dialect"),
        ("history", "destination size ttl"),
        ("user-destination", "destination claim"),
        ("slow", "destination policy"),
        ("batch", "destination window"),
        ("allow", "action destination users hook cache"),
        ("application", "destination reply hook forward to-user to broadcast on"),
        ("hooks", "timeout concurrent queue"),
        ("callback", "path profile secret-env secret-file id user destination offline"),
        ("callback", "business-type dedupe-window ttl signature-header signature-form"),
        ("callback", "timestamp-tolerance unsigned from batch success basic rank"),
        ("store", "path keep max-bytes"),
        ("presence", "topic hook"),
        ("events", "hook"),
        ("limits", "stomp-frame message http-head http-body head-time body-time idle-time"),
        ("limits", "first-message send-buffer send-bytes send-time segment-bytes slow-consumer"),
        ("limits", "connections connections-per-address subscriptions subscriptions-alike"),
        ("limits", "sockjs-sessions unacked transactions transaction-frames transaction-bytes"),
        ("limits", "history-bytes queue-bytes kept-bytes answer-time claim-time drain-time"),
        ("limits", "drain-spread"),
        ("cluster", ""),
    ];

    fn all() -> Vec<String> {
        let keys = |(section, keys): &(&str, &str)| -> Vec<String> {
            keys.split(' ').map(|key| format!("{section}.{key}")).collect()
        };
        ALL.iter().flat_map(keys).collect()
    }

    /// Whether a key is `table`, or in it.
    fn is_in(key: &str, table: &str) -> bool {
        key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    #[test]
    fn every_key_is_either_built_or_listed_here() {
        let of = |(section, _, _, keys): (&str, _, _, Vec<crate::config::kind::Key>)| {
            let section = section.to_string();
            keys.into_iter().map(move |key| format!("{section}.{}", key.name))
        };
        let built: Vec<String> = described().into_iter().flat_map(of).collect();
        let all = all();
        for key in &all {
            let is_built = built.contains(key);
            let is_listed = KEYS.iter().any(|(name, _)| is_in(key, name));
            assert!(is_built != is_listed, "{key}: built {is_built}, listed {is_listed}");
        }
        for (name, _) in KEYS {
            assert!(all.iter().any(|key| is_in(key, name)), "{name} is promised nowhere");
        }
        // Of the bounds only those that operators touch are promised.
        for key in built.iter().filter(|key| !is_in(key, "limits")) {
            assert!(all.iter().any(|one| is_in(key, one)), "{key} is not promised");
        }
    }
}

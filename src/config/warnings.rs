//! What is accepted but looks like a mistake: one line each.

use super::environment::{unknown, variable};
use super::reader::closest;
use super::rules::{Action, Users};
use super::syntax::below;
use super::{API_TOKEN, CALLBACK_SECRET, Config, Protocol, TOKEN_SECRET, described};
use crate::limits::Limits;

/// All warnings about a configuration and the environment that it was read with.
pub(super) fn of(config: &Config, environment: &[(String, String)]) -> Vec<String> {
    let mut found = shares(&config.limits, config.hooks.queue);
    nobody(config, &mut found);
    rules(config, &mut found);
    plain_text(config, &mut found);
    variables(config, environment, &mut found);
    found
}

/// What each address may always have should be a small part of a table.
fn shares(limits: &Limits, queue: u32) -> Vec<String> {
    let least = limits.share_least;
    let tables = [
        ("limits.destinations", limits.destinations),
        ("limits.patterns-alike", limits.patterns_alike),
        ("hooks.queue", queue),
    ];
    let too_small = tables.into_iter().filter(|&(_, capacity)| least > capacity / 4);
    let line = |(key, capacity)| {
        format!(
            "limits.share-least {least} is over a quarter of {key} {capacity}: one address may \
             have more of it than its share"
        )
    };
    too_small.map(line).collect()
}

/// A file that serves nobody, and sections that nobody can use.
fn nobody(config: &Config, found: &mut Vec<String>) {
    if config.endpoints.is_empty() {
        found.push("there is no [[endpoint]]: no browser can connect".to_string());
        return;
    }
    if config.endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Stomp) {
        return;
    }
    let rules = [
        ("allow", config.allow.is_empty()),
        ("slow", config.slow.is_empty()),
        ("batch", config.batches.is_empty()),
        ("application", config.applications.is_empty()),
    ];
    for (name, _) in rules.into_iter().filter(|(_, is_empty)| !is_empty) {
        found.push(format!("[[{name}]] has no effect: no [[endpoint]] has protocol = \"stomp\""));
    }
}

/// A rule as far as it may be in the way of those after it.
#[derive(Clone, Copy)]
struct Rule<'c> {
    section: &'static str,
    pattern: &'c str,
    action: Option<Action>,
    users: &'c Users,
}

impl Rule<'_> {
    /// Whether a later rule never decides because this one does.
    fn hides(&self, later: &Rule<'_>) -> bool {
        let covers = match self.pattern.strip_suffix("/**") {
            Some(base) if !base.contains(['*', '?', '{']) => below(base, later.pattern),
            _ => self.pattern == later.pattern,
        };
        let has_all = *self.users == Users::Everyone || self.users == later.users;
        self.action == later.action && has_all && covers
    }
}

/// Rules of `[[allow]]` for destinations that nobody has, and rules behind others that match
/// everything that they match.
fn rules(config: &Config, found: &mut Vec<String>) {
    let rule = |section, pattern| Rule { section, pattern, action: None, users: &Users::Everyone };
    let allow = config.allow.iter().map(|one| {
        let action = Some(one.action);
        Rule { action, users: &one.users, ..rule("allow", &one.destination) }
    });
    let slow = config.slow.iter().map(|one| rule("slow", &one.destination));
    let batch = config.batches.iter().map(|one| rule("batch", &one.destination));
    let lists: [Vec<Rule<'_>>; 3] = [allow.collect(), slow.collect(), batch.collect()];
    for list in lists {
        for (at, rule) in list.iter().enumerate() {
            let name = format!("{}[{at}].destination = \"{}\"", rule.section, rule.pattern);
            if let Some(before) = list[..at].iter().position(|one| one.hides(rule)) {
                let section = rule.section;
                found.push(format!("{name} has no effect: {section}[{before}] decides before it"));
            } else if rule.action.is_some_and(|action| meets_nothing(config, rule.pattern, action))
            {
                found.push(format!("{name} has no effect: no destination begins like this"));
            }
        }
    }
}

/// Whether the first segment of a pattern is a name that no destination has there.
fn meets_nothing(config: &Config, pattern: &str, action: Action) -> bool {
    let broker = &config.broker;
    let applications = broker.application_prefixes.iter().filter(|_| action == Action::Send);
    let mut prefixes =
        broker.prefixes.iter().chain(applications).chain([&broker.user_prefix]).map(String::as_str);
    let fixed = &pattern[..pattern.find(['*', '?', '{']).unwrap_or(pattern.len())];
    let has_wildcard = fixed.len() < pattern.len();
    prefixes.all(|prefix| !(fixed.starts_with(prefix) || has_wildcard && prefix.starts_with(fixed)))
}

/// A listener that other machines reach, without TLS and without a proxy that has it.
fn plain_text(config: &Config, found: &mut Vec<String>) {
    let listen = &config.listen;
    let has_proxy = !listen.trusted_proxies.is_empty();
    let is_https = listen.external_url.as_ref().is_some_and(|url| url.starts_with("https://"));
    if has_proxy || is_https {
        return;
    }
    let public = listen.addresses.iter().map(|address| ("address", address));
    let api = listen.api_address.iter().map(|address| ("api-address", address));
    for (key, address) in public.chain(api) {
        if !address.ip().to_canonical().is_loopback() {
            found.push(format!(
                "listen.{key} = \"{address}\" can be reached from other machines, and nothing is \
                 encrypted: put a proxy with TLS in front, and set listen.trusted-proxies or \
                 listen.external-url"
            ));
        }
    }
}

/// Variables that look like settings and are none.
fn variables(config: &Config, environment: &[(String, String)], found: &mut Vec<String>) {
    const OWN: [&str; 3] = [CALLBACK_SECRET, TOKEN_SECRET, API_TOKEN];
    let settings = config.settings();
    // The configuration may name others for its secrets.
    let is_named = |name: &str| {
        let quoted = format!("\"{name}\"");
        settings.iter().any(|one| one.key.ends_with("-env") && one.value.contains(&quoted))
    };
    let unread = unknown(environment, |name| OWN.contains(&name) || is_named(name));
    if unread.is_empty() {
        return;
    }
    let keys = described().into_iter().flat_map(|(section, _, _, keys)| {
        keys.into_iter().map(move |key| variable(&format!("{section}.{}", key.name)))
    });
    let known: Vec<String> = OWN.iter().map(|name| name.to_string()).chain(keys).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for name in unread {
        let meant =
            closest(name, &known).map_or(String::new(), |key| format!("; did you mean {key}?"));
        found.push(format!("the variable {name} has no effect{meant}"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Sources;

    const SERVED: &str = "[[endpoint]]\npath = '/a'\n";

    fn warnings(toml: &str, names: &[&str]) -> Vec<String> {
        let environment = names.iter().map(|name| (name.to_string(), "x".repeat(16)));
        let sources = Sources { environment: environment.collect(), ..Sources::default() };
        sources.parse(toml, false).expect(toml).warnings
    }

    fn with(toml: &str) -> Vec<String> {
        warnings(&format!("{toml}\n{SERVED}"), &[])
    }

    #[test]
    fn a_least_share_that_is_no_share_is_warned_of() {
        let expected = "limits.share-least 32 is over a quarter of hooks.queue 127: one address \
                        may have more of it than its share";
        assert_eq!(with("hooks.queue = 127\nlimits.patterns-alike = 128"), [expected]);
    }

    #[test]
    fn a_file_that_serves_nobody_is_warned_of() {
        assert_eq!(with(""), [""; 0]);
        assert_eq!(warnings("", &[]), ["there is no [[endpoint]]: no browser can connect"]);
        let raw = format!("{SERVED}protocol = 'raw'\n[[application]]\ndestination = '/b'");
        let expected = "[[application]] has no effect: no [[endpoint]] has protocol = \"stomp\"";
        assert_eq!(warnings(&raw, &[]), [expected]);
    }

    #[test]
    fn rules_that_match_nothing_are_warned_of() {
        let rule = |action: &str, destination: &str, users: &str| {
            format!(
                "[[allow]]\naction = '{action}'\ndestination = '{destination}'\nusers = '{users}'\n"
            )
        };
        for (first, second, expected) in [
            (("send", "/topic/a"), ("send", "/topic/b"), None),
            (("send", "/topic/**"), ("subscribe", "/topic/b"), None),
            (("send", "/topic/*"), ("send", "/topic/b"), None),
            (("send", "/ws/a"), ("send", "/user/queue/a"), None),
            (("send", "/t*/a"), ("subscribe", "/**"), None),
            (("send", "/topic/**"), ("send", "/topic/a/*"), Some("allow[0] decides before it")),
            (("send", "/**"), ("send", "/topic/a"), Some("allow[0] decides before it")),
            (("send", "/topic/a"), ("send", "/topic/a"), Some("allow[0] decides before it")),
            (("send", "/topic/a"), ("send", "/news/**"), Some("no destination begins like this")),
            (("send", "/ws/a"), ("subscribe", "/ws/a"), Some("no destination begins like this")),
        ] {
            let toml = rule(first.0, first.1, "*") + &rule(second.0, second.1, "*");
            let found = with(&toml);
            let expected = expected
                .map(|why| format!("allow[1].destination = \"{}\" has no effect: {why}", second.1));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{toml}");
        }
        // The first rule leaves out those without a name.
        let toml = rule("send", "/topic/**", "authenticated") + &rule("send", "/topic/a", "*");
        assert_eq!(with(&toml), [""; 0]);
        let batch = "[[batch]]\nwindow = '1ms'\ndestination = '/topic/";
        let toml = format!("{batch}a/**'\n{batch}b'\n{batch}a/b'");
        let expected = "batch[2].destination = \"/topic/a/b\" has no effect: batch[0] decides \
                        before it";
        assert_eq!(with(&toml), [expected]);
    }

    #[test]
    fn a_listener_that_others_reach_is_warned_of_unless_there_is_a_proxy() {
        let listen = "listen.address = ['127.0.0.1:1', ':8080']\n";
        let found = with(listen);
        let begin = "listen.address = \"0.0.0.0:8080\" can be reached from other machines";
        assert!(found.len() == 1 && found[0].starts_with(begin), "{found:?}");
        for proxy in ["trusted-proxies = '10.0.0.1'", "external-url = 'https://a.example'"] {
            assert_eq!(with(&format!("{listen}listen.{proxy}")), [""; 0]);
        }
        assert_eq!(with(&format!("{listen}listen.external-url = 'http://a.example'")).len(), 1);
        assert_eq!(with("listen.api-address = '[::]:1'").len(), 1);
    }

    #[test]
    fn variables_that_nothing_reads_are_warned_of() {
        let named = format!("api.token-env = 'RINGPUSH_MINE'\n{SERVED}");
        let known = ["RINGPUSH_MINE", "RINGPUSH_TOKEN_SECRET", "OTHER_LIMITS_STOMP_FRAME"];
        assert_eq!(warnings(&named, &known), [""; 0]);
        for (name, meant) in [
            ("RINGPUSH_LIMITS_STOMP_FRAME", "; did you mean RINGPUSH_LIMITS__STOMP_FRAME?"),
            ("RINGPUSH_API_TOKENS", "; did you mean RINGPUSH_API_TOKEN?"),
            ("RINGPUSH_COLOUR_OF_THE_PAGE_AT_NIGHT_AND_BY_DAY", ""),
        ] {
            let expected = format!("the variable {name} has no effect{meant}");
            assert_eq!(warnings(SERVED, &[name]), [expected]);
        }
    }
}

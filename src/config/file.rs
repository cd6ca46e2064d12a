//! From the sources to a [`Config`]: the document, its plain sections, and what spans sections.

use super::context::Context;
use super::environment::{Override, overrides};
use super::reader::{Section, quoted};
use super::secret::Secrets;
use super::{Application, Config, ConfigError, ReplyTo, check, demo};
use crate::limits::{Limits, MAILBOX_LEAST};
use std::path::PathBuf;
use toml::Table;

/// What `ringpush serve` runs with no file.
const EMBEDDED: &str = include_str!("../../examples/call-centre.toml");

/// Where a configuration comes from. Later sources override earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file; without one the embedded application runs.
    pub path: Option<PathBuf>,
    /// The variables of the process: secrets, and overrides `RINGPUSH_SECTION__KEY`.
    pub environment: Vec<(String, String)>,
    /// Flags of the command line: the flag, the key that it sets, its value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// The callbacks' secret of a demo for which none is set. Without it, each reading makes up a
    /// new one.
    pub made_up: Option<String>,
}

impl Sources {
    /// Reads the file (or takes the embedded application) and checks everything.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let Some(path) = &self.path else { return self.parse(EMBEDDED, true) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let accepted = format!("a readable TOML file ({error})");
            ConfigError::new("--config", &quoted(&path.to_string_lossy()), &accepted)
        })?;
        self.parse(&text, false)
    }

    /// Checks a file's text, with the environment and the flags on top.
    pub fn parse(&self, text: &str, embedded: bool) -> Result<Config, ConfigError> {
        let mut document: Table = text.parse().map_err(|error| syntax_error(text, &error))?;
        let mut above = overrides(&self.environment);
        above.extend(self.flags.iter().map(|(flag, key, value)| Override::new(flag, key, value)));
        for one in &above {
            one.apply(&mut document)?;
        }
        self.read(document, embedded).map_err(|mut error| {
            // A mistake in a variable is reported by the variable's name, not by the key's.
            let cause = above.iter().rev().find(|one| {
                let below = one.path.strip_prefix(error.key.as_str());
                below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            if let Some(one) = cause {
                error.key = one.name.clone();
            }
            error
        })
    }

    /// Checks a configuration that was put together from two others as if it had been read itself.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let text = check::document(config);
        let document = text.parse().map_err(|error| syntax_error(&text, &error))?;
        self.read(document, config.embedded).map(|_| ())
    }

    fn read(&self, document: Table, embedded: bool) -> Result<Config, ConfigError> {
        let secrets = Secrets::new(&self.environment, self.made_up.as_deref());
        let context = Context { secrets, ..Context::default() };
        resolve(Section::new("", document), context, embedded)
    }
}

fn syntax_error(text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or("");
    let line = before.matches('\n').count();
    let shown = text.lines().nth(line).unwrap_or("");
    let accepted = format!("TOML ({})", error.message());
    ConfigError::new(&format!("line {}", line + 1), &quoted(shown.trim()), &accepted)
}

/// Reads the sections, then checks what spans several.
fn resolve(document: Section, context: Context<'_>, embedded: bool) -> Result<Config, ConfigError> {
    let mut config = Config::read(document, context, embedded)?;
    demo::check(config.demo.enabled, &config.listen, &config.auth)?;
    each_has_its_destination(&config.applications)?;
    room_for_answers(&config.applications, &config.limits)?;
    config.warnings = shares(&config.limits, config.hooks.queue);
    Ok(config)
}

/// What each address may always have should be a small part of a table. Warns where it is not.
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

/// Of two applications with one destination the second would never be asked. Names of variables
/// make no difference.
fn each_has_its_destination(applications: &[Application]) -> Result<(), ConfigError> {
    let nameless = |application: &Application| {
        let mut parts = application.destination.split('{');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for (inside, rest) in parts.filter_map(|part| part.split_once('}')) {
            let expression = inside.split_once(':').map_or("", |(_, expression)| expression);
            text += &format!("{{{expression}}}{rest}");
        }
        text
    };
    for (at, application) in applications.iter().enumerate() {
        if applications[..at].iter().any(|other| nameless(other) == nameless(application)) {
            return Err(ConfigError::new(
                &format!("application[{at}].destination"),
                &quoted(&application.destination),
                "a destination that no [[application]] before it has",
            ));
        }
    }
    Ok(())
}

/// A frame is read only when there is room for everything that its application publishes, so there
/// must be that much room at all.
fn room_for_answers(applications: &[Application], limits: &Limits) -> Result<(), ConfigError> {
    let entries = |application: &Application| match &application.to {
        ReplyTo::Destinations(list) => list.len() as u32 + 1,
        ReplyTo::User(_) | ReplyTo::Default => 2,
    };
    let most = applications.iter().map(entries).max().unwrap_or(1);
    let accepted = format!("at least {most}, for the [[application]] that answers to most");
    let mailbox = limits.mailbox.min(MAILBOX_LEAST);
    for (key, bound) in [("mailbox", mailbox), ("message-blocks", limits.message_blocks)] {
        if bound < most {
            return Err(ConfigError::new(&format!("limits.{key}"), &bound.to_string(), &accepted));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{API_TOKEN, Answer, CALLBACK_SECRET, Method, OnMessage, Protocol};
    use crate::config::{ReplyTo, Secret, TOKEN_SECRET};

    fn sources(environment: &[(&str, &str)]) -> Sources {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let environment = environment.iter().map(owned).collect();
        Sources { environment, ..Sources::default() }
    }

    fn parse(toml: &str) -> Result<Config, ConfigError> {
        sources(&[]).parse(toml, false)
    }

    #[test]
    fn the_embedded_application_is_that_of_the_contract() {
        let config = sources(&[]).load().expect("good");
        assert!(config.embedded);
        assert_eq!(config.warnings, [""; 0]);
        assert_eq!(config.listen.addresses, ["127.0.0.1:8080".parse().expect("an address")]);
        let [chat, portfolio] = config.endpoints.as_slice() else { panic!("two endpoints") };
        assert_eq!((chat.path.as_str(), chat.protocol), ("/chat", Protocol::Raw));
        let reply = OnMessage::Reply("来自服务器的消息！".to_string());
        assert_eq!(chat.on_message, Some(reply));
        assert_eq!((portfolio.path.as_str(), portfolio.protocol), ("/portfolio", Protocol::Stomp));
        assert!(chat.sockjs.is_some() && portfolio.sockjs.is_some());
        let [trade, call] = config.applications.as_slice() else { panic!("two applications") };
        let Answer::Reply(reply) = &trade.answer else { panic!("a reply") };
        assert_eq!(reply.body, r#"{"code":0,"mess":"服务端返回消息！"}"#);
        assert!(reply.json && trade.broadcast);
        assert_eq!(trade.to, ReplyTo::User("/queue/sub".to_string()));
        assert_eq!(call.answer, Answer::Unset);
        assert_eq!(config.auth.methods, [Method::Query]);
        let [outbound, inbound] = config.callbacks.as_slice() else { panic!("two callbacks") };
        assert_eq!(outbound.path, "/callback/outbound");
        assert_eq!(inbound.business_type.as_deref(), Some("CALL_IN"));
        assert_eq!(inbound.secrets, outbound.secrets);
        assert_eq!(inbound.secrets[0].expose().len(), 32);
        assert_eq!(config.presence.topic.as_deref(), Some("/topic/presence"));
        let set = sources(&[
            (CALLBACK_SECRET, "mine, and long enough"),
            ("RINGPUSH_APPLICATION__1__HOOK", "http://127.0.0.1:9000/call"),
        ]);
        let config = set.load().expect("good");
        assert_eq!(config.callbacks[0].secrets, [Secret::new("mine, and long enough")]);
        let hook = "http://127.0.0.1:9000/call".to_string();
        assert_eq!(config.applications[1].answer, Answer::Hook(hook));
    }

    #[test]
    fn an_empty_file_is_good_and_makes_no_secret_up() {
        let config = parse("").expect("every key is optional");
        assert!(!config.embedded && config.endpoints.is_empty() && config.auth.methods.is_empty());
        assert!(config.auth.anonymous && config.auth.token.is_none() && config.api.token.is_none());
        let with = sources(&[
            (TOKEN_SECRET, "a secret of the tests"),
            (API_TOKEN, "a token of the tests"),
        ])
        .parse("", false);
        let with = with.expect("good");
        assert_eq!(with.auth.methods, [Method::Token]);
        assert_eq!(with.api.token, Some(Secret::new("a token of the tests")));
    }

    #[test]
    fn flags_stand_above_the_environment_and_that_above_the_file() {
        let mut sources = sources(&[("RINGPUSH_ENGINE__SHARDS", "2")]);
        let shards = |sources: &Sources| {
            sources.parse("engine.shards = 1", false).expect("good").engine.shards
        };
        assert_eq!(shards(&sources), 2);
        sources.flags.push(("--shards", "engine.shards", "3".to_string()));
        assert_eq!(shards(&sources), 3);
        sources.flags.push(("--shards", "engine.shards", "65".to_string()));
        let error = sources.parse("", false).expect_err("too many");
        assert_eq!(error.to_string(), "--shards = 65: accepted: a whole number from 0 to 63");
    }

    // TOML, key, value, the start of what is accepted.
    const MISTAKES: &[(&str, &str, &str, &str)] = &[
        ("x = 1", "x", "1", "only the keys \"allow\", \"api\", "),
        ("[engine]\ncores = 1", "engine.cores", "1", "only the keys \"batch-window\", \"pin\", "),
        ("engine = 1", "engine", "1", "a table"),
        ("tls.key = 'k'", "tls", "{ key = \"k\" }", "nothing: it is not built yet; put a proxy"),
        ("store.path = 'x'", "store", "{ path = \"x\" }", "nothing: it is not built yet"),
        ("listen.stomp-tcp = '1'", "listen.stomp-tcp", "\"1\"", "nothing: it is not built yet"),
        ("auth.token.keys-file = 'k'", "auth.token.keys-file", "\"k\"", "nothing: it is not"),
        ("auth.hook.url = 'u'", "auth.hook", "{ url = \"u\" }", "nothing: it is not built yet"),
        ("presence.hook = 'http://a'", "presence.hook", "\"http://a\"", "nothing: it is not"),
        ("a = \n", "line 1", "\"a =\"", "TOML ("),
        ("\n\n[a\n", "line 3", "\"[a\"", "TOML ("),
        ("listen.address = 'x'", "listen.address", "\"x\"", "an IP address with a port"),
        ("listen.address = ['1.2.3.4:5', 6]", "listen.address", "6", "an IP address with"),
        ("listen.api-address = '1'", "listen.api-address", "\"1\"", "an IP address with"),
        (
            "listen.api-address = '127.0.0.1:8080'",
            "listen.api-address",
            "\"127.0.0.1:8080\"",
            "an address of its own",
        ),
        (
            "[[application]]\ndestination = '/a/{x}/b'\nreply = '1'\n\
             [[application]]\ndestination = '/a/b'\nreply = '2'\n\
             [[application]]\ndestination = '/a/{id}/b'\nreply = '3'\n",
            "application[2].destination",
            "\"/a/{id}/b\"",
            "a destination that no [[application]] before it has",
        ),
        ("listen.external-url = 'x'", "listen.external-url", "\"x\"", "an http or https URL"),
        ("listen.trusted-proxies = ['x']", "listen.trusted-proxies", "\"x\"", "a list of IP"),
        ("engine.shards = 65", "engine.shards", "65", "a whole number from 0 to 63"),
        ("engine.pin = 1", "engine.pin", "1", "true or false"),
        ("engine.batch-window = '1m'", "engine.batch-window", "\"1m\"", "a duration from \"0us\""),
        ("engine.spin = 50", "engine.spin", "50", "a duration from \"0us\" to \"1s\""),
        ("auth.methods = ['jwt']", "auth.methods", "\"jwt\"", "a list of \"token\", \"header\""),
        ("auth.methods = ['token']", "auth.methods", "[\"token\"]", "a list without \"token\""),
        ("auth.methods = ['hook']", "auth.methods", "\"hook\"", "a list of \"token\", \"header\""),
        ("auth.header.name = 'a b'", "auth.header.name", "\"a b\"", "a name without blanks"),
        ("auth.token.algorithms = ['none']", "auth.token.algorithms", "\"none\"", "a list of"),
        ("auth.token.algorithms = []", "auth.token.algorithms", "[]", "a list of one or more"),
        ("auth.token.from = ['cookie']", "auth.token.from", "\"cookie\"", "a list of"),
        ("auth.token.leeway = 5", "auth.token.leeway", "5", "a duration with its unit"),
        ("[auth.token]", "auth.token.secret-env", "nothing", "the name of a variable that is set"),
        ("auth.token.issuer = 'x'", "auth.token.secret-env", "nothing", "the name of a variable"),
        ("auth.token.secret-env = 'NO'", "auth.token.secret-env", "\"NO\"", "a variable that"),
        ("api.token-env = 'NO'", "api.token-env", "\"NO\"", "a variable that is set; NO is not"),
        ("broker.prefixes = ['topic']", "broker.prefixes", "\"topic\"", "prefixes of"),
        ("broker.separator = ','", "broker.separator", "\",\"", "\"/\" or \".\""),
        ("broker.heartbeat = ['10s']", "broker.heartbeat", "[\"10s\"]", "two durations"),
        ("broker.user-prefix = '/topic/u'", "broker.user-prefix", "\"/topic/u\"", "a prefix that"),
        (
            "broker.application-prefixes = ['/queue']",
            "broker.application-prefixes",
            "\"/queue\"",
            "a prefix that is not below or above \"/queue\"",
        ),
        ("broker.unknown-destination = 1", "broker.unknown-destination", "1", "\"error\" or"),
        ("broker.nul-in-body = true", "broker.nul-in-body", "true", "\"refuse\" or \"allow\""),
        ("hooks.timeout = '0s'", "hooks.timeout", "\"0s\"", "a duration above zero"),
        ("hooks.concurrent = 0", "hooks.concurrent", "0", "a whole number from 1 to 65536"),
        ("presence.topic = '/x'", "presence.topic", "\"/x\"", "a destination below /topic or"),
        ("limits.mailbox = 1", "limits.mailbox", "1", "a whole number from 2"),
        (SHOUT, "limits.mailbox", "2", "at least 4, for the [[application]]"),
    ];

    const SHOUT: &str = "limits.mailbox = 2\n[[application]]\ndestination = '/a'\nreply = 'x'\n\
                         to = ['/topic/1', '/topic/2', '/topic/3']\n";

    #[test]
    fn every_mistake_names_key_value_and_what_is_accepted() {
        for (toml, key, value, accepted) in MISTAKES {
            let error = parse(toml).expect_err(toml);
            assert_eq!((error.key.as_str(), error.value.as_str()), (*key, *value), "{error}");
            assert!(error.accepted.starts_with(accepted), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_mistake_in_the_environment_names_the_variable() {
        let cases = [
            ("RINGPUSH_LIMITS__STOMP_FRAM", "1", "1", "only the keys"),
            ("RINGPUSH_NOTHING__KEY", "1", "{ key = 1 }", "only the keys"),
            ("RINGPUSH_ENGINE__SHARDS", "many", "\"many\"", "a whole number"),
            ("RINGPUSH_LISTEN__ADDRESS", "x", "\"x\"", "an IP address"),
            ("RINGPUSH_ENDPOINT__0__PATH", "x", "\"x\"", "a path such as"),
            ("RINGPUSH_ENDPOINT__9__PATH", "/x", "\"/x\"", "an entry of [[endpoint]]"),
        ];
        for (name, text, value, accepted) in cases {
            let error = sources(&[(name, text)]).load().expect_err(name);
            assert_eq!((error.key.as_str(), error.value.as_str()), (name, value), "{error}");
            assert!(error.accepted.starts_with(accepted), "{error}");
        }
    }

    #[test]
    fn a_least_share_that_is_no_share_is_warned_of() {
        let config = parse("hooks.queue = 127\nlimits.patterns-alike = 128").expect("accepted");
        let expected = "limits.share-least 32 is over a quarter of hooks.queue 127: one address \
                        may have more of it than its share";
        assert_eq!(config.warnings, [expected]);
    }

    #[test]
    fn the_example_with_every_key_is_good() {
        let text = include_str!("../../examples/every-key.toml");
        let names = [TOKEN_SECRET, API_TOKEN, CALLBACK_SECRET];
        let secrets = sources(&names.map(|name| (name, "a secret of the tests")));
        let config = secrets.parse(text, false).expect("good");
        assert_eq!(config.warnings, [""; 0]);
        for name in names {
            let mut without = secrets.clone();
            without.environment.retain(|(key, _)| key != name);
            let error = without.parse(text, false).expect_err("a named secret is not set");
            assert_eq!(error.value, format!("\"{name}\""));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_of_the_flag() {
        let path = Some(PathBuf::from("no/such/file.toml"));
        let error = Sources { path, ..Sources::default() }.load().expect_err("no file");
        assert_eq!(
            (error.key.as_str(), error.value.as_str()),
            ("--config", "\"no/such/file.toml\"")
        );
        assert!(error.accepted.starts_with("a readable TOML file ("), "{error}");
    }

    #[test]
    fn a_trusted_proxy_is_found_by_its_address() {
        let listen = parse("listen.trusted-proxies = ['10.0.0.0/8', '::1']").expect("good").listen;
        let trusts = |address: &str| listen.trusts(address.parse().expect("an address"));
        assert!(trusts("10.1.2.3") && trusts("::ffff:10.1.2.3") && trusts("::1"));
        assert!(!trusts("11.1.2.3") && !trusts("127.0.0.1"));
    }
}

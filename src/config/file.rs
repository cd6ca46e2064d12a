//! From the sources to a [`Config`]: the document, its plain sections, and what spans sections.

use super::context::Context;
use super::environment::{Override, overrides};
use super::places::{Places, line_of};
use super::reader::{Section, quoted};
use super::secret::Secrets;
use super::{Application, Config, ConfigError, Mistake, ReplyTo, check, demo, warnings};
use crate::limits::{Limits, MAILBOX_LEAST};
use std::path::PathBuf;
use toml::Table;
use toml::de::DeTable;

/// What `ringpush serve` runs with no file.
const EMBEDDED: &str = include_str!("../../examples/call-centre.toml");
/// What `ringpush config init` writes: a file to start from.
pub const STARTING: &str = include_str!("../../examples/starting.toml");

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
            let mistake = Mistake::new("--config", &quoted(&path.to_string_lossy()), &accepted);
            ConfigError::new(None, vec![mistake])
        })?;
        self.parse(&text, false)
    }

    /// Checks a file's text, with the environment and the flags on top.
    pub fn parse(&self, text: &str, embedded: bool) -> Result<Config, ConfigError> {
        let file = self.path.as_ref().map(|path| path.display().to_string());
        let mut document = match parsed(text) {
            Ok(document) => document,
            Err(mistakes) => return Err(ConfigError::new(file, mistakes)),
        };
        let mut above = overrides(&self.environment);
        above.extend(self.flags.iter().map(|(flag, key, value)| Override::new(flag, key, value)));
        let mut mistakes: Vec<Mistake> =
            above.iter().filter_map(|one| one.apply(&mut document).err()).collect();
        match self.read(document, embedded) {
            Ok(config) if mistakes.is_empty() => Ok(config),
            Ok(_) => Err(ConfigError::new(file, mistakes)),
            Err(found) => {
                let places = Places::of(text);
                mistakes.extend(found.into_iter().map(|found| placed(found, &above, &places)));
                Err(ConfigError::new(file, mistakes))
            }
        }
    }

    /// Checks a configuration that was put together from two others as if it had been read itself.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let read = parsed(&check::document(config));
        let read = read.and_then(|document| self.read(document, config.embedded));
        read.map(|_| ()).map_err(|mistakes| ConfigError::new(None, mistakes))
    }

    fn read(&self, document: Table, embedded: bool) -> Result<Config, Vec<Mistake>> {
        let secrets = Secrets::new(&self.environment, self.made_up.as_deref());
        let context = Context { secrets, ..Context::default() };
        let mut config = resolve(Section::new("", document), context, embedded)?;
        config.warnings = warnings::of(&config, &self.environment);
        Ok(config)
    }
}

/// The document of a text.
fn parsed(text: &str) -> Result<Table, Vec<Mistake>> {
    let errors = DeTable::parse_recoverable(text).1;
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax_mistake(text, error)).collect());
    }
    text.parse().map_err(|error| vec![syntax_mistake(text, &error)])
}

fn syntax_mistake(text: &str, error: &toml::de::Error) -> Mistake {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    let shown = text.lines().nth(line - 1).unwrap_or("");
    let accepted = format!("TOML ({})", error.message());
    Mistake { line: Some(line), ..Mistake::new("", &quoted(shown.trim()), &accepted) }
}

/// Says where a mistake is: one in a variable is reported by the variable's name, not by the key's.
fn placed(mut found: Mistake, above: &[Override], places: &Places) -> Mistake {
    let cause = above.iter().rev().find(|one| {
        let below = one.path.strip_prefix(found.key.as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    });
    match cause {
        Some(one) => {
            found.meant = found.meant.map(|meant| one.renamed(&meant));
            found.key = one.name.clone();
        }
        None => found.line = places.line(&found.key),
    }
    found
}

/// Reads the sections, then checks what spans several.
fn resolve(
    document: Section,
    context: Context<'_>,
    embedded: bool,
) -> Result<Config, Vec<Mistake>> {
    let config = Config::read(document, context, embedded)?;
    let checked = [
        demo::check(config.demo.enabled, &config.listen, &config.auth),
        room_for_answers(&config.applications, &config.limits),
    ];
    let mut mistakes: Vec<Mistake> = checked.into_iter().filter_map(Result::err).collect();
    mistakes.extend(each_has_its_destination(&config.applications));
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// Of two applications with one destination the second would never be asked. Names of variables
/// make no difference.
fn each_has_its_destination(applications: &[Application]) -> Vec<Mistake> {
    let nameless = |application: &Application| {
        let mut parts = application.destination.split('{');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for (inside, rest) in parts.filter_map(|part| part.split_once('}')) {
            let expression = inside.split_once(':').map_or("", |(_, expression)| expression);
            text += &format!("{{{expression}}}{rest}");
        }
        text
    };
    let names: Vec<String> = applications.iter().map(nameless).collect();
    let repeated = (0..names.len()).filter(|at| names[..*at].contains(&names[*at]));
    let mistake = |at: usize| {
        Mistake::new(
            &format!("application[{at}].destination"),
            &quoted(&applications[at].destination),
            "a destination that no [[application]] before it has",
        )
    };
    repeated.map(mistake).collect()
}

/// A frame is read only when there is room for everything that its application publishes, so there
/// must be that much room at all.
fn room_for_answers(applications: &[Application], limits: &Limits) -> Result<(), Mistake> {
    let entries = |application: &Application| match &application.to {
        ReplyTo::Destinations(list) => list.len() as u32 + 1,
        ReplyTo::User(_) | ReplyTo::Default => 2,
    };
    let most = applications.iter().map(entries).max().unwrap_or(1);
    let accepted = format!("at least {most}, for the [[application]] that answers to most");
    let mailbox = limits.mailbox.min(MAILBOX_LEAST);
    for (key, bound) in [("mailbox", mailbox), ("message-blocks", limits.message_blocks)] {
        if bound < most {
            return Err(Mistake::new(&format!("limits.{key}"), &bound.to_string(), &accepted));
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

    fn parse(toml: &str) -> Result<Config, Mistake> {
        sources(&[]).parse(toml, false).map_err(ConfigError::only)
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
        ("a = \n", "", "\"a =\"", "TOML ("),
        ("\n\n[a\n", "", "\"[a\"", "TOML ("),
        ("listen.address = 'x'", "listen.address", "\"x\"", "an address with its port"),
        ("listen.address = ['1.2.3.4:5', 6]", "listen.address", "6", "an address with its"),
        ("listen.api-address = '1'", "listen.api-address", "\"1\"", "an address with its"),
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
            ("RINGPUSH_LISTEN__ADDRESS", "x", "\"x\"", "an address with"),
            ("RINGPUSH_ENDPOINT__0__PATH", "x", "\"x\"", "a path such as"),
            ("RINGPUSH_ENDPOINT__9__PATH", "/x", "\"/x\"", "an entry of [[endpoint]]"),
        ];
        for (name, text, value, accepted) in cases {
            let error = sources(&[(name, text)]).load().expect_err(name).only();
            assert_eq!((error.key.as_str(), error.value.as_str()), (name, value), "{error}");
            assert!(error.accepted.starts_with(accepted), "{error}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once_each_with_its_line() {
        let toml = "[engine]\nshard = 2\npin = 'yes'\n\n[listen]\nshards = 1\n\n[[endpoint]]\n\
                    protocol = 'mqtt'\n[[endpoint]]\npath = '/a'\nsockjs.heartbeet = '1s'\n\
                    [[allow]]\naction = 'send'\n[broker]\nprefixes = ['topic']\n[[batch]]\n\
                    destination = '/news/a'\nwindow = '1ms'\n[limits]\nstomp-frame = 'x'\n\
                    send-tim = '1s'\n";
        let file = PathBuf::from("ringpush.toml");
        let variable = ("RINGPUSH_LIMITS__SEND_BITES".to_string(), "1".to_string());
        let environment = vec![variable];
        let sources = Sources { path: Some(file), environment, ..Sources::default() };
        let error = sources.parse(toml, false).expect_err("much is wrong").to_string();
        let expected = [
            "ringpush.toml:2: engine.shard = 2: did you mean shards? accepted: only the keys",
            "ringpush.toml:3: engine.pin = \"yes\": accepted: true or false",
            "ringpush.toml:6: listen.shards = 1: did you mean engine.shards? accepted: only",
            "ringpush.toml:8: endpoint[0].path = nothing: accepted: a path such as",
            "ringpush.toml:9: endpoint[0].protocol = \"mqtt\": accepted: \"raw\" or",
            "ringpush.toml:12: endpoint[1].sockjs.heartbeet = \"1s\": did you mean heartbeat?",
            "ringpush.toml:13: allow[0].destination = nothing: accepted: a pattern",
            "ringpush.toml:16: broker.prefixes = \"topic\": accepted: prefixes",
            "ringpush.toml:21: limits.stomp-frame = \"x\": accepted: a whole number",
            "ringpush.toml:22: limits.send-tim = \"1s\": did you mean send-time?",
            "RINGPUSH_LIMITS__SEND_BITES = 1: did you mean RINGPUSH_LIMITS__SEND_BYTES?",
        ];
        assert_eq!(error.lines().count(), expected.len(), "{error}");
        for (line, expected) in error.lines().zip(expected) {
            assert!(line.starts_with(expected), "{line}\n{expected}");
        }
        let error = sources.parse("a = \n[b\nc = 1", false).expect_err("not TOML").to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("ringpush.toml:1: \"a =\": accepted: TOML ("), "{error}");
        assert!(lines[1].starts_with("ringpush.toml:2: \"[b\": accepted: TOML ("), "{error}");
    }

    #[test]
    fn a_file_to_start_from_is_accepted_without_a_warning() {
        let config = parse(STARTING).expect("good");
        assert_eq!(config.warnings, [""; 0]);
        assert_eq!(config.endpoints.len(), 1);
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
            let error = without.parse(text, false).expect_err("a named secret is not set").only();
            assert_eq!(error.value, format!("\"{name}\""));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_of_the_flag() {
        let path = Some(PathBuf::from("no/such/file.toml"));
        let error = Sources { path, ..Sources::default() }.load().expect_err("no file").only();
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

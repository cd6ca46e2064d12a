//! `[[allow]]`, `[[slow]]`, `[[batch]]`, `[[application]]`: the rules for destinations.

use super::Mistake;
use super::context::{Context, Destinations};
use super::kind::{
    Kind, always, flag, list_in, listed, one_of, parsed, parsed_in, short_span, text, value,
    variant, word,
};
use super::reader::{quoted, show};
use super::sections::broker_text;
use super::syntax::{
    below, is_destination, is_pattern, is_template, is_url, variables, variables_are_plain,
};
use super::table::{Entry, table};
use crate::limits::WINDOW_MAX;
use crate::time::Micros;
use toml::Value;

const ACTIONS: &[(&str, Action)] = &[("send", Action::Send), ("subscribe", Action::Subscribe)];
/// The words of `slow-consumer`.
pub(super) const SLOW: &[(&str, SlowConsumer)] = &[
    ("close", SlowConsumer::Close),
    ("drop-oldest", SlowConsumer::DropOldest),
    ("conflate", SlowConsumer::Conflate),
];

const ALLOWED: &str = "a pattern such as \"/topic/**\"; {user}, a whole segment before any **, is \
                       the user's own name";
const READ_SLOWLY: &str =
    "a destination or pattern such as \"/topic/prices/**\" or \"/user/queue/prices\"";
const COLLECTED: &str = "a destination or pattern of the broker such as \"/topic/dashboards/**\"";
const SERVED: &str =
    "a pattern below the application prefixes, such as \"/trade\" or \"/call/{id}\"";

table! {
    /// One `[[allow]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Allow {
        action "action": Action, word(ACTIONS), Reload;
            "what the rule is about"
        destination "destination": String, allowed(), Reload;
            "where: a destination or a pattern, in which `{user}` is the user's own name"
        users "users": Users = Users::Everyone,
            value(always("\"*\", \"authenticated\" or a list of names"), users, Users::written),
            Reload;
            "who may: everybody, everybody with a name, or these"
    }
}

impl Entry for Allow {}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SEND.
    Send,
    /// SUBSCRIBE.
    Subscribe,
}

/// To whom a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// Everybody, including anonymous clients.
    Everyone,
    /// Everybody with a name.
    Authenticated,
    /// These.
    Named(Vec<String>),
}

impl Users {
    fn written(&self) -> String {
        match self {
            Users::Everyone => quoted("*"),
            Users::Authenticated => quoted("authenticated"),
            Users::Named(names) => listed(names),
        }
    }
}

fn users(value: &Value, _: &Context<'_>) -> Option<Users> {
    match value {
        Value::String(word) if word == "*" => Some(Users::Everyone),
        Value::String(word) if word == "authenticated" => Some(Users::Authenticated),
        Value::Array(list) => {
            let names = list.iter().map(|name| name.as_str().map(str::to_string));
            names.collect::<Option<Vec<_>>>().map(Users::Named)
        }
        _ => None,
    }
}

fn allowed() -> Kind<String> {
    parsed_in(always(ALLOWED), |text, context| {
        let separator = char::from(context.destinations.as_ref()?.separator);
        let fits = is_pattern(text) && variables_are_plain(text, separator);
        fits.then(|| text.to_string())
    })
}

table! {
    /// One `[[slow]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Slow {
        destination "destination": String, read_slowly(), Reload;
            "destination or pattern; with the user prefix for destinations of users"
        policy "policy": SlowConsumer, word(SLOW), Reload;
            "what happens to its messages for a client that reads too slowly"
    }
}

impl Entry for Slow {}

/// `slow-consumer`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its connection is closed.
    #[default]
    Close,
    /// It loses its oldest messages.
    DropOldest,
    /// It keeps only the newest of each destination.
    Conflate,
}

fn read_slowly() -> Kind<String> {
    parsed_in(always(READ_SLOWLY), |text, context| {
        let known = context.destinations.as_ref()?;
        let fits = is_pattern(text) && (below(&known.user_prefix, text) || may_meet(known, text));
        fits.then(|| text.to_string())
    })
}

/// Whether a destination or pattern is one of the broker's, or may match one.
fn may_meet(known: &Destinations, text: &str) -> bool {
    let first =
        text.trim_start_matches('/').split(char::from(known.separator)).next().unwrap_or("");
    let has_wildcard = first.contains(['*', '?', '{']);
    has_wildcard || known.prefixes.iter().any(|prefix| below(prefix, text))
}

table! {
    /// One `[[batch]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Batch {
        destination "destination": String, collected(), Reload;
            "destination or pattern of the broker"
        window "window": Micros, short_span(WINDOW_MAX), Reload;
            "how long its messages are collected before they are sent together; there is no order \
             between destinations with different windows"
    }
}

impl Entry for Batch {}

fn collected() -> Kind<String> {
    parsed_in(always(COLLECTED), |text, context| {
        let fits = is_pattern(text) && may_meet(context.destinations.as_ref()?, text);
        fits.then(|| text.to_string())
    })
}

table! {
    /// One `[[application]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Application checked by application_fits {
        destination "destination": String,
            parsed(SERVED, |text| is_pattern(text).then(|| text.to_string())), Reload;
            "destination or pattern below each application prefix"
        answer "answer": Answer = Answer::Unset, answer(), Reload;
            "what happens to a message"
        to "to": ReplyTo = ReplyTo::Default, reply_to(), Reload;
            "where the reply goes"
        broadcast "broadcast": bool = true, flag(), Reload;
            "a reply by `to-user` goes to all sessions of the user; false: only to the session \
             that sent the message"
    }
}

impl Entry for Application {
    fn name(&self) -> Option<&str> {
        Some(&self.destination)
    }
}

/// What an application destination does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Replies with this body.
    Reply(Reply),
    /// Posts to this URL; the answer's body is the reply.
    Hook(String),
    /// Publishes the message to this destination.
    Forward(String),
    /// Nothing is set: the sender is told which key to set.
    Unset,
}

/// A body from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub body: String,
    /// Whether it was written as a TOML table or list: then it is JSON.
    pub json: bool,
}

impl Reply {
    fn written(&self) -> String {
        let table = self.json.then(|| serde_json::from_str::<Value>(&self.body).ok()).flatten();
        table.map_or_else(|| quoted(&self.body), |table| show(&table))
    }
}

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// To this destination of the sender.
    User(String),
    /// To these broker destinations.
    Destinations(Vec<String>),
    /// To `/topic` + destination.
    Default,
}

fn answer() -> Kind<Answer> {
    let body = "a text without NUL, or a table or list that becomes JSON";
    one_of([
        variant(
            "reply",
            value(always(body), reply, Reply::written),
            Answer::Reply,
            |answer| match answer {
                Answer::Reply(reply) => Some(reply),
                _ => None,
            },
            "the reply is this text, or what is written as TOML, as JSON",
        ),
        variant(
            "hook",
            text("an http or https URL", is_url),
            Answer::Hook,
            |answer| match answer {
                Answer::Hook(url) => Some(url),
                _ => None,
            },
            "the message is POSTed there; the body of the answer is the reply",
        ),
        variant(
            "forward",
            parsed_in(broker_text, target),
            Answer::Forward,
            |answer| match answer {
                Answer::Forward(destination) => Some(destination),
                _ => None,
            },
            "the message is published there, and there is no reply; `{variables}` are those of \
             `destination`",
        ),
    ])
}

fn reply_to() -> Kind<ReplyTo> {
    one_of([
        variant(
            "to-user",
            text("a destination such as \"/queue/sub\"", is_destination),
            ReplyTo::User,
            |to| match to {
                ReplyTo::User(destination) => Some(destination),
                _ => None,
            },
            "the reply goes to this destination of the sender",
        ),
        variant(
            "to",
            list_in(broker_text, target),
            ReplyTo::Destinations,
            |to| match to {
                ReplyTo::Destinations(list) => Some(list),
                _ => None,
            },
            "the reply goes to these destinations; without `to` and `to-user` it goes to `/topic` \
             + destination",
        ),
    ])
}

fn target(text: &str, context: &Context<'_>) -> Option<String> {
    let fits = is_template(text) && context.destinations.as_ref()?.has(text);
    fits.then(|| text.to_string())
}

fn reply(value: &Value, context: &Context<'_>) -> Option<Reply> {
    let refuses = context.destinations.as_ref()?.refuses_nul;
    match value {
        Value::String(text) if text.contains('\0') && refuses => None,
        Value::String(text) => Some(Reply { body: text.clone(), json: false }),
        Value::Table(_) | Value::Array(_) => {
            Some(Reply { body: serde_json::to_string(value).ok()?, json: true })
        }
        _ => None,
    }
}

fn application_fits(
    application: &mut Application,
    at: &str,
    context: &mut Context<'_>,
) -> Result<(), Mistake> {
    reply_goes_somewhere(application, at)?;
    variables_are_known(application, at, context)
}

/// Refuses keys that have no effect together with the others.
fn reply_goes_somewhere(application: &Application, at: &str) -> Result<(), Mistake> {
    let refused = |key: &str, value: &str, accepted: &str| {
        Err(Mistake::new(&format!("{at}.{key}"), value, accepted))
    };
    if matches!(application.answer, Answer::Forward(_)) {
        let accepted = "nothing with forward, which sends no reply";
        match &application.to {
            ReplyTo::User(destination) => {
                return refused("to-user", &quoted(destination), accepted);
            }
            ReplyTo::Destinations(list) => return refused("to", &listed(list), accepted),
            ReplyTo::Default => {}
        }
    }
    match (&application.answer, &application.to) {
        (Answer::Reply(_), ReplyTo::Destinations(list)) if list.is_empty() => {
            refused("to", "[]", "a list of one or more")
        }
        (_, ReplyTo::Destinations(_) | ReplyTo::Default) if !application.broadcast => {
            let accepted = "true without to-user: a reply to a destination goes to all subscribers";
            refused("broadcast", "false", accepted)
        }
        _ => Ok(()),
    }
}

fn variables_are_known(
    application: &Application,
    at: &str,
    context: &Context<'_>,
) -> Result<(), Mistake> {
    let names = variables(&application.destination).unwrap_or_default();
    let forward = match &application.answer {
        Answer::Forward(destination) => Some(("forward", destination)),
        _ => None,
    };
    let to: &[String] = match &application.to {
        ReplyTo::Destinations(list) => list,
        _ => &[],
    };
    for (key, text) in forward.into_iter().chain(to.iter().map(|text| ("to", text))) {
        let used = variables(text).unwrap_or_default();
        if !used.iter().all(|name| names.contains(name)) {
            let accepted = format!(
                "{}; a {{variable}} in it must be one of destination = {}",
                broker_text(context),
                quoted(&application.destination)
            );
            return Err(Mistake::new(&format!("{at}.{key}"), &quoted(text), &accepted));
        }
    }
    Ok(())
}

//! `[[endpoint]]`: where browsers connect, and which protocol they speak there.

use super::Mistake;
use super::context::Context;
use super::kind::{
    Key, Kind, always, by_hand, flag, list, maybe, number, of_value, one_of, parsed, period,
    switch, table as table_of, text, value, variant, word,
};
use super::reader::{Section, quoted, show};
use super::sections::broker_destination;
use super::settings::{Change, Lines};
use super::syntax::{below, is_origin, is_path};
use super::table::{Entry, of_nothing, table};
use crate::limits::WS_CONTROL_MAX;
use crate::time::Millis;
use toml::Value;

/// Bytes of a close reason (RFC 6455 §5.5: a control frame with the code).
const REASON_MAX: usize = WS_CONTROL_MAX - 2;
/// The largest window of permessage-deflate, as a power of two (RFC 7692 §7.1.2).
const WINDOW_BITS_MAX: u8 = 15;

const PATH: &str = "a path such as \"/chat\": a slash at its start, none at its end, plain ASCII, \
                    and not one of the server's own (/api, /metrics, …)";
const ORIGINS: &str = "a list of origins such as \"https://a.example.com\", patterns such as \
                       \"https://*.example.com\" or \"https://a.example.com:[*]\", or \"*\"";
const CODES: &str = "a close code that a server may send: 1000 to 1003, 1007 to 1014, 3000 to 4999";
const PROTOCOLS: &[(&str, Protocol)] = &[("raw", Protocol::Raw), ("stomp", Protocol::Stomp)];

table! {
    /// One `[[endpoint]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Endpoint checked by endpoint_fits {
        path "path": String, path(), Restart;
            "its path; no other endpoint or callback may have the same"
        protocol "protocol": Protocol = Protocol::Stomp, word(PROTOCOLS), Restart;
            "what clients speak there: STOMP, or plain messages"
        allowed_origins "allowed-origins": Vec<String> = Vec::new(),
            list(ORIGINS, |text| is_origin(text).then(|| text.to_string())), Reload;
            "pages of these origins may connect; the server's own pages always may"
        sockjs "sockjs": Option<Sockjs> = None, switch(), Restart;
            "SockJS's routes below the path"
        deflate "deflate": Option<Deflate> = Some(of_nothing()), switch(), Restart;
            "permessage-deflate (RFC 7692) for clients that offer it"
        on_open "on-open.close": Option<OnOpen> = None, table_of("a table"), Reload;
            "closes every session as soon as it is open"
        on_message "on-message": Option<OnMessage> = None, maybe(on_message()), Reload;
            "what a raw endpoint does with a message; \"echo\", which is what it does without this \
             key, sends it back"
    }
}

impl Entry for Endpoint {
    // Sessions know their endpoint by its number.
    const STAYS: bool = true;

    fn name(&self) -> Option<&str> {
        Some(&self.path)
    }
}

/// The protocol of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Messages as they are.
    Raw,
    /// STOMP frames.
    Stomp,
}

table! {
    /// `deflate` of an endpoint.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Deflate {
        context_takeover "context-takeover": bool = false, flag(), Restart;
            "a client's messages may refer to those that it sent before, which costs \
             `limits.inflate-histories`"
        // RFC 7692 §7.1.2 begins at 8, but zlib cannot make a stream with a window that small.
        window_bits "window-bits": u8 = WINDOW_BITS_MAX, number(9, WINDOW_BITS_MAX.into()), Restart;
            "how far back they may refer, in bytes as a power of two; each such session keeps that \
             much"
    }
}

table! {
    /// `sockjs` of an endpoint.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Sockjs {
        heartbeat "heartbeat": Millis = Millis::seconds(25), period(), Restart;
            "time from one heart-beat frame to the next"
        websocket "websocket": bool = true, flag(), Restart;
            "whether the websocket transport is offered"
        cookie "cookie": bool = false, flag(), Restart;
            "`cookie_needed` in the answer of `/info`: whether clients should send cookies"
    }
}

table! {
    /// `on-open = { close = … }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OnOpen {
        code "code": u16 = 1000, value(always(CODES), close_code, u16::to_string), Reload;
            "the close code (RFC 6455 §7.4)"
        reason "reason": String = String::new(),
            text("a text of at most 123 bytes", |text| text.len() <= REASON_MAX), Reload;
            "the close reason, up to 123 bytes"
    }
}

/// RFC 6455 §7.4: the others are reserved or never sent.
fn close_code(value: &Value, _: &Context<'_>) -> Option<u16> {
    let code = u16::try_from(value.as_integer()?).ok()?;
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(code)
}

/// `on-message` of a raw endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnMessage {
    /// Sends the message back.
    Echo,
    /// Answers each with this text.
    Reply(String),
    /// Publishes it to this destination.
    Publish(String),
}

/// "echo", or a table with one key.
fn on_message() -> Kind<OnMessage> {
    let accepted = "\"echo\", { reply = \"…\" } or { publish = \"/topic/…\" }";
    let tables = std::rc::Rc::new(one_of([
        variant(
            "on-message.reply",
            text("a text", |_| true),
            OnMessage::Reply,
            |one| match one {
                OnMessage::Reply(text) => Some(text),
                _ => None,
            },
            "answers each message with this text",
        ),
        variant(
            "on-message.publish",
            broker_destination(),
            OnMessage::Publish,
            |one| match one {
                OnMessage::Publish(destination) => Some(destination),
                _ => None,
            },
            "publishes each message to this destination",
        ),
    ]));
    let shown = tables.clone();
    let echo: Kind<OnMessage> = value(always(accepted), |_, _| None, |_| String::new());
    let keys = [&echo, &*tables].map(|kind| kind.keys("on-message", None, Change::Reload, ""));
    let without = |key: Key| Key { default: String::new(), ..key };
    let keys = keys.into_iter().flatten().map(without).collect();
    let read = move |section: &mut Section, key: &str, context: &mut Context<'_>| match section
        .peek(key)
    {
        Some(Value::Table(_)) | None => tables.optional(section, key, context),
        Some(Value::String(word)) if word == "echo" => {
            section.take(key)?;
            Ok(Some(OnMessage::Echo))
        }
        Some(other) => Err(section.error(key, &show(other), accepted)),
    };
    let show = move |value: &OnMessage, key: &str, to: &mut Lines| match value {
        OnMessage::Echo => to.raw(key, quoted("echo")),
        other => shown.show(other, key, to),
    };
    by_hand(always(accepted), read, show, keys)
}

/// A route that the server does not use for itself.
pub(super) fn path() -> Kind<String> {
    parsed(PATH, |text| {
        const OWN: [&str; 8] = [
            "/api",
            "/console",
            "/demo",
            "/healthz",
            "/metrics",
            "/readyz",
            "/sendMsAll",
            "/sendMsToUser",
        ];
        let fits = is_path(text) && !OWN.iter().any(|own| below(own, text));
        fits.then(|| text.to_string())
    })
}

/// Notes a path; a second one of the same text is refused.
pub(super) fn owns_path(path: &str, at: &str, context: &mut Context<'_>) -> Result<(), Mistake> {
    if context.paths.iter().any(|one| one == path) {
        let accepted = "a path that no other [[endpoint]] or [[callback]] has";
        return Err(Mistake::new(&format!("{at}.path"), &quoted(path), accepted));
    }
    context.paths.push(path.to_string());
    Ok(())
}

fn endpoint_fits(
    endpoint: &mut Endpoint,
    at: &str,
    context: &mut Context<'_>,
) -> Result<(), Mistake> {
    match (endpoint.protocol, &endpoint.on_message) {
        (Protocol::Raw, None) => endpoint.on_message = Some(OnMessage::Echo),
        (Protocol::Stomp, Some(written)) => {
            let accepted = "nothing with protocol = \"stomp\": see [[application]]";
            let value = of_value(&on_message(), written);
            return Err(Mistake::new(&format!("{at}.on-message"), &value, accepted));
        }
        (Protocol::Raw, Some(_)) | (Protocol::Stomp, None) => {}
    }
    owns_path(&endpoint.path, at, context)
}

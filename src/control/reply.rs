//! From the outcome of a hook call to what is sent. Pure.

use super::hooks::Call;
use crate::broker::application::Answer;
use crate::broker::command::{Event, ReplyTo};
use crate::broker::core::Effect;
use crate::broker::message::Message;
use crate::broker::reply::{application_of, publications};
use crate::engine::shared::Shared;
use crate::metrics::Refusal;
use std::sync::Arc;

/// Where a sender is told what went wrong behind an application destination.
const ERRORS: &str = "/queue/errors";

/// What a hook answered: status 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// Its `Content-Type`, if it has one.
    pub content_type: Option<Vec<u8>>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What went wrong with a hook call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// All places of the queue are taken.
    Full,
    /// The destination has no hook, or no longer.
    NoHook,
    /// The stand-in provider calls back a user, and the session has none.
    NoUser,
    /// No answer, or only a part of one, within `hooks.timeout`.
    Timeout,
    /// No connection.
    Unreachable,
    /// A connection that broke, or an answer that is not HTTP.
    Broken,
    /// An answer of this status.
    Status(u16),
    /// An answer longer than `hook-body`.
    TooLarge,
    /// An answer that may not be sent: `broker.nul-in-body`.
    NulInBody,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        match fault {
            Fault::Full => Refusal::HookQueueFull,
            Fault::NoHook => Refusal::HookUnset,
            Fault::NoUser => Refusal::HookUserMissing,
            Fault::Timeout => Refusal::HookTimeout,
            Fault::Unreachable => Refusal::HookUnreachable,
            Fault::Broken => Refusal::HookBroken,
            Fault::Status(_) => Refusal::HookStatus,
            Fault::TooLarge => Refusal::HookBodySize,
            Fault::NulInBody => Refusal::HookNulInBody,
        }
    }
}

impl Fault {
    /// A code as of HTTP.
    pub(super) fn code(self) -> u16 {
        match self {
            Fault::Full => 503,
            Fault::NoHook => 501,
            Fault::NoUser => 401,
            Fault::Timeout => 504,
            Fault::Unreachable
            | Fault::Broken
            | Fault::Status(_)
            | Fault::TooLarge
            | Fault::NulInBody => 502,
        }
    }

    /// What the sender is told.
    pub(super) fn text(self) -> String {
        let text = match self {
            Fault::Full => "too many hook calls are waiting: hooks.queue is full",
            Fault::NoHook => "no hook is set for this destination",
            Fault::NoUser => "only a session with a user is called back",
            Fault::Timeout => "the hook did not answer in time",
            Fault::Unreachable => "the hook cannot be reached",
            Fault::Broken => "the connection to the hook broke",
            Fault::Status(status) => return format!("the hook answered with status {status}"),
            Fault::TooLarge => "the hook's answer is too large",
            Fault::NulInBody => "the hook's answer has a NUL: broker.nul-in-body",
        };
        text.to_owned()
    }
}

/// What answers messages to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend<'a> {
    /// The server at this URL.
    Url(&'a str),
    /// The demo's stand-in provider.
    Provider,
}

/// What answers messages to a destination, if anything does.
pub(super) fn backend<'a>(shared: &'a Shared, destination: &str) -> Option<Backend<'a>> {
    let (index, _) = application(shared, destination)?;
    match &shared.applications.at(index).answer {
        Answer::Hook(url) => url.as_deref().map(Backend::Url),
        Answer::Provider => Some(Backend::Provider),
        Answer::Reply { .. } | Answer::Forward(_) => None,
    }
}

/// The destination of the application as it is configured, which no client chooses.
pub(super) fn place<'a>(shared: &'a Shared, destination: &str) -> &'a str {
    let found = application(shared, destination);
    found.map_or("", |(index, _)| &shared.applications.at(index).destination)
}

/// The application of a destination, and the destination below the prefix. It is looked up here,
/// not numbered by the shard, because a reload may have changed the numbers.
fn application<'a>(shared: &Shared, destination: &'a str) -> Option<(usize, &'a str)> {
    application_of(&shared.names, &shared.applications, destination)
}

/// The effect that gives a receipt.
pub(super) fn receipt(reply_to: ReplyTo) -> Option<Effect> {
    Some(Effect::Event(reply_to.shard()?, Event::Sequenced { reply_to, heard: 0 }))
}

/// An answer that may be sent to clients.
pub(super) fn sendable(shared: &Shared, answer: Answered) -> Result<Answered, (Fault, String)> {
    match shared.refuses_body(answer.content_type.as_deref(), &answer.body) {
        true => Err((Fault::NulInBody, String::new())),
        false => Ok(answer),
    }
}

/// What an answer becomes. `number` is the number of the message that goes to one session directly.
pub(super) fn effects(shared: &Shared, call: &Call, answer: &Answered, number: u64) -> Vec<Effect> {
    let Some((index, rest)) = application(shared, &call.destination) else { return Vec::new() };
    if answer.body.is_empty() {
        return Vec::new();
    }
    let user = call.user.as_deref();
    let list = publications(&shared.applications, index, rest, call.session, user);
    list.map(|one| {
        let mut message = Message::default();
        one.write(&shared.names, answer.content_type.as_deref(), &answer.body, &mut message);
        one.effect(&shared.homes, Arc::new(message), ReplyTo::None, number)
    })
    .collect()
}

/// Tells the session that sent the message what went wrong.
pub(super) fn error(shared: &Shared, call: &Call, fault: Fault, number: u64) -> Effect {
    let body = serde_json::json!({
        "code": fault.code(),
        "msg": fault.text(),
        "destination": call.destination,
    });
    let shown = format!("{}{ERRORS}", shared.names.user);
    let mut message = Message::default();
    message.begin(call.user.as_deref(), ERRORS);
    message.header(b"destination", shown.as_bytes());
    message.header(b"content-type", b"application/json");
    message.finish(body.to_string().as_bytes());
    let (message, session) = (Arc::new(message), call.session);
    Effect::Event(session.shard(), Event::DeliverSession { message, session, number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::command::Command;
    use crate::config::Sources;
    use crate::engine::shared::Keys;
    use crate::ids::SessionIndex;
    use crate::ids::{SessionId, ShardId};
    use crate::metrics::Metrics;

    const SETTINGS: &str = "
        [[application]]
        destination = '/call'
        hook = 'http://127.0.0.1:9/call'
        to-user = '/queue/sub'
        [[application]]
        destination = '/one'
        hook = 'http://127.0.0.1:9/one'
        to-user = '/queue/sub'
        broadcast = false
        [[application]]
        destination = '/room/{id}'
        hook = 'http://127.0.0.1:9/room'
        to = ['/topic/room/{id}', '/queue/log']
        [[application]]
        destination = '/fixed'
        reply = 'x'
    ";

    fn shared() -> Shared {
        let config = Sources::default().parse(SETTINGS, false).expect("the test's TOML is good");
        Shared::new(config, 3, Keys::known(7), "abcdef", Metrics::new(3))
    }

    fn call(destination: &str, user: Option<&str>) -> Call {
        Call {
            destination: destination.to_owned(),
            content_type: None,
            body: b"hello".to_vec(),
            session: SessionId::new(ShardId(2), SessionIndex(5), 1),
            user: user.map(Arc::from),
            place: crate::mem::shares::Place::NONE,
        }
    }

    fn ok(body: &str) -> Answered {
        Answered { content_type: Some(b"application/json".to_vec()), body: body.into() }
    }

    #[test]
    fn the_hook_of_a_destination_is_found() {
        let shared = shared();
        assert_eq!(backend(&shared, "/ws/call"), Some(Backend::Url("http://127.0.0.1:9/call")));
        assert_eq!(backend(&shared, "/ws/room/4"), Some(Backend::Url("http://127.0.0.1:9/room")));
        assert_eq!(backend(&shared, "/ws/fixed"), None);
        assert_eq!(backend(&shared, "/ws/none"), None);
        assert_eq!(backend(&shared, "/topic/a"), None);
    }

    #[test]
    fn a_reply_goes_to_all_sessions_or_to_one_or_to_an_anonymous_session() {
        let shared = shared();
        let named = effects(&shared, &call("/ws/call", Some("7")), &ok("{}"), 63);
        let [
            Effect::Command(
                home,
                Command::PublishUser { message, only: None, reply_to: ReplyTo::None },
            ),
        ] = &named[..]
        else {
            panic!("{named:?}");
        };
        assert_eq!(*home, shared.homes.of_user("7"));
        assert_eq!((message.user(), message.destination()), ("7", "/queue/sub"));
        let headers = b"destination:/user/queue/sub\ncontent-type:application/json\n";
        assert_eq!((message.headers(), message.body()), (&headers[..], &b"{}"[..]));
        let one = effects(&shared, &call("/ws/one", Some("7")), &ok("{}"), 63);
        let [Effect::Command(_, Command::PublishUser { only, .. })] = &one[..] else {
            panic!("{one:?}")
        };
        let session = SessionId::new(ShardId(2), SessionIndex(5), 1);
        assert_eq!(*only, Some(session));
        let anonymous = effects(&shared, &call("/ws/call", None), &ok("{}"), 63);
        let [
            Effect::Event(
                ShardId(2),
                Event::DeliverSession { session: asking, number: 63, message },
            ),
        ] = &anonymous[..]
        else {
            panic!("{anonymous:?}");
        };
        assert_eq!((*asking, message.destination()), (session, "/queue/sub"));
    }

    #[test]
    fn a_reply_to_destinations_has_the_variables_filled_in() {
        let shared = shared();
        let effects = effects(&shared, &call("/ws/room/4", Some("7")), &ok("x"), 63);
        let destinations: Vec<&str> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Command(_, Command::Publish { message, reply_to: ReplyTo::None }) => {
                    message.destination()
                }
                effect => panic!("{effect:?}"),
            })
            .collect();
        assert_eq!(destinations, ["/topic/room/4", "/queue/log"]);
    }

    #[test]
    fn an_empty_answer_is_no_reply() {
        assert!(effects(&shared(), &call("/ws/call", Some("7")), &ok(""), 63).is_empty());
    }

    #[test]
    fn a_fault_is_told_to_the_asking_session_as_json() {
        let effect = error(&shared(), &call("/ws/call", Some("7")), Fault::Status(500), 63);
        let Effect::Event(shard, Event::DeliverSession { message, .. }) = effect else {
            panic!("{effect:?}")
        };
        assert_eq!((shard, message.destination()), (ShardId(2), "/queue/errors"));
        let body: serde_json::Value = serde_json::from_slice(message.body()).expect("JSON");
        let expected = serde_json::json!({
            "code": 502, "msg": "the hook answered with status 500", "destination": "/ws/call"
        });
        assert_eq!(body, expected);
    }
}

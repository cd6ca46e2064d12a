#![forbid(unsafe_code)]
//! What each HTTP route asks for, as a request's head says; and what is done with a whole request.

use super::access::Visitor;
use super::answer::{Reply, RequestMeta};
use super::body::{self, Bad, Headers, Item};
use super::push::{OK, Push, ResponseFormat, Work};
use super::request::{Asked, Outcome, SendTo};
use super::route::Route;
use super::{callbacks, handshake, page};
use crate::broker::destination::{Target, decode_user};
use crate::engine::bus::Bus;
use crate::engine::bus::mailbox::Query;
use crate::engine::events::Site;
use crate::engine::net::View;
use crate::engine::session::Sockets;
use crate::http::request::{Head, Method};
use crate::http::url;
use crate::ids::{EndpointIndex, SessionId};
use crate::mem::secret::Random;
use crate::metrics::Refusal;
use crate::stomp;
use serde_json::Value;
use std::sync::Arc;

/// What `GET /sendMsToUser` pushes, as the original application did.
const TEST_TO_USER: &[u8] =
    br#"{"businessType":"TEST","data":{"data":"The Data!","message":"The message!"}}"#;
/// What `GET /sendMsAll` pushes.
const TEST_TO_ALL: &[u8] =
    br#"{"businessType":"TEST All","data":{"data":"The All Data!","message":"The All message!"}}"#;

/// What a request asks for; its head has been admitted. What is wrong with it is answered when its
/// body is whole.
pub fn ask(
    visitor: &Visitor<'_>,
    sockets: &Sockets,
    entropy: &mut Random,
    meta: RequestMeta,
    head: &Head<'_, '_>,
    route: Route<'_>,
) -> Asked {
    let rules = &visitor.view.shared.config.callbacks;
    let asked = match route {
        Route::Endpoint(at, rest) => {
            let what = handshake::ask(visitor, sockets, entropy, meta, head, (at, rest));
            Ok(Asked::Endpoint(EndpointIndex(at as u16), what))
        }
        Route::SendToUser => ask_send(visitor.view, head, true),
        Route::SendToAll => ask_send(visitor.view, head, false),
        Route::Publish => Ok(Asked::Publish),
        Route::UserMessages(user) => Ok(Asked::Message(decoded(user))),
        Route::Users => Ok(Asked::Question(Query::Users, ResponseFormat::Users)),
        Route::User(user) => ask_user(head, user),
        Route::Session(id) => ask_session(id),
        Route::Stats => Ok(Asked::Stats),
        Route::Callback(at) => Ok(Asked::Callback(callbacks::signed(&rules[at], head))),
        Route::Demo(at) => Ok(Asked::Demo(callbacks::signed(&rules[at], head))),
        Route::Metrics => Ok(Asked::Metrics),
        Route::Health => Ok(Asked::Health),
        Route::Ready => Ok(Asked::Ready),
        Route::Page(asset) => Ok(Asked::Page(asset)),
        Route::Console => Ok(Asked::Console(page::endpoint_origin(visitor, head))),
        Route::Nothing => Err(Bad::of(Refusal::HttpNotFound, 404, "there is nothing at this path")),
    };
    asked.unwrap_or_else(Asked::Wrong)
}

/// `/sendMsToUser` and `/sendMsAll`, as the original application had them.
fn ask_send(view: View<'_>, head: &Head<'_, '_>, to_user: bool) -> Result<Asked, Bad> {
    let mut destination = parameter(head, "subscribePath")?;
    if !destination.starts_with('/') {
        // As Spring's messaging template does.
        destination.insert(0, '/');
    }
    let user = if to_user { Some(parameter(head, "userId")?) } else { None };
    if !view.shared.names.is_broker(&destination) {
        return Err((404, format!("{destination} begins with no broker prefix")).into());
    }
    let has_body = head.method == Method::Post;
    Ok(Asked::SendTo(SendTo { user, destination, has_body }))
}

/// `GET` and `DELETE /api/users/{user}`
fn ask_user(head: &Head<'_, '_>, user: &str) -> Result<Asked, Bad> {
    let user: Arc<str> = Arc::from(decoded(user)?);
    Ok(match head.method {
        Method::Delete => {
            Asked::Question(Query::KickUser(user), ResponseFormat::Closed { one: false })
        }
        _ => Asked::Question(Query::Sessions(user.clone()), ResponseFormat::User(user)),
    })
}

/// `DELETE /api/sessions/{id}`
fn ask_session(id: &str) -> Result<Asked, Bad> {
    let id = SessionId::parse(id);
    let id = id.ok_or((404, "there is no such session".to_owned()))?;
    Ok(Asked::Question(Query::KickSession(id), ResponseFormat::Closed { one: true }))
}

/// Does what a whole request asks for.
pub fn execute(reply: Reply<'_>, bus: &mut Bus, asked: Asked, body: &[u8]) -> Outcome {
    let view = reply.view;
    match asked {
        Asked::SendTo(send) => return begin(reply, send_to(view, send, body)),
        Asked::Publish => return begin(reply, publish(view, body)),
        Asked::Message(user) => return begin(reply, message(view, user, body)),
        Asked::Question(query, format) => {
            return Outcome::Park(Work::question(view.shared.shards, query, format));
        }
        Asked::Callback(signed) => return callbacks::receive(reply, bus, &signed, body, false),
        Asked::Demo(signed) => return callbacks::receive(reply, bus, &signed, body, true),
        Asked::Endpoint(at, what) => {
            return what.answer(reply, at).map_or(Outcome::Answered, Outcome::Upgrade);
        }
        Asked::Wrong(bad) => reply.refuse(Site::None, &bad),
        Asked::Stats => reply.json(200, stats(view).as_bytes()),
        Asked::Metrics => answer_metrics(reply),
        Asked::Ready if view.draining.is_some() => {
            reply.error(503, &[], "the server is going down");
        }
        Asked::Health | Asked::Ready => reply.json(200, OK),
        Asked::Page(asset) => page::page(reply, asset),
        Asked::Console(origin) => page::console(reply, origin),
    }
    Outcome::Answered
}

/// Begins work, or says what is wrong with it.
fn begin(reply: Reply<'_>, work: Result<Work, Bad>) -> Outcome {
    match work {
        Ok(work) => Outcome::Park(work),
        Err(bad) => {
            reply.refuse(Site::None, &bad);
            Outcome::Answered
        }
    }
}

fn send_to(view: View<'_>, send: SendTo, body: &[u8]) -> Result<Work, Bad> {
    let SendTo { user, destination, has_body } = send;
    let body = if has_body {
        let json = body::json(body, view.limits.json_depth)?;
        let whole =
            json.get("businessType").is_some_and(Value::is_string) && json.get("data").is_some();
        if !whole {
            return Err((400, "the body is {\"businessType\":…,\"data\":…}".to_owned()).into());
        }
        body.trim_ascii()
    } else if user.is_some() {
        TEST_TO_USER
    } else {
        TEST_TO_ALL
    };
    let (headers, body) = (Push::json_type(), body.to_vec());
    Ok(Work::pushes(vec![Push { user, destination, headers, body, only: None }], false))
}

/// `POST /api/publish`: one item, or an array of them, which are pushed in their order when all of
/// them are good.
fn publish(view: View<'_>, body: &[u8]) -> Result<Work, Bad> {
    let (items, array) = body::items(body, view.limits.json_depth)?;
    let mut list = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let push = push_of(view, item);
        list.push(push.map_err(|bad| if array { bad.of_item(at) } else { bad })?);
    }
    Ok(Work::pushes(list, array))
}

fn push_of(view: View<'_>, item: Item) -> Result<Push, Bad> {
    let Item { destination, headers, body, session } = item;
    if session.is_some() {
        let text = "an item of /api/publish has no session: see /api/users/{user}/messages";
        return Err((400, text.to_owned()).into());
    }
    check_sendable(view, &headers, &body)?;
    let (user, destination) = match view.shared.names.target(&destination) {
        Target::Broker => (None, destination),
        Target::User { user, destination } => {
            (Some(decode_user(user).into_owned()), destination.to_owned())
        }
        Target::Application(_) | Target::Unknown => {
            let text = format!("{destination} begins with no broker or user prefix");
            return Err((404, text).into());
        }
    };
    Ok(Push { user, destination, headers, body, only: None })
}

/// Whether clients can take headers and body of an API item for nothing else.
fn check_sendable(view: View<'_>, headers: &Headers, body: &[u8]) -> Result<(), Bad> {
    if let Some((name, _)) = headers.iter().find(|(n, _)| !stomp::is_forwarded(n.as_bytes())) {
        let text = format!("no header is named {name:?}: it is blank, or the server's own");
        return Err(Bad::of(Refusal::ApiForgedHeader, 400, text));
    }
    let content_type = headers.iter().find(|(name, _)| name == "content-type");
    if view.shared.refuses_body(content_type.map(|(_, value)| value.as_bytes()), body) {
        let text = "the body has a NUL: broker.nul-in-body refuses it";
        return Err(Bad::of(Refusal::BrokerNulInBody, 400, text));
    }
    Ok(())
}

/// `POST /api/users/{user}/messages`
fn message(view: View<'_>, user: Result<String, Bad>, body: &[u8]) -> Result<Work, Bad> {
    let Item { destination, headers, body, session } = body::item(body, view.limits.json_depth)?;
    let destination = view.shared.names.own(&destination).unwrap_or(&destination).to_owned();
    if !view.shared.names.is_broker(&destination) {
        return Err((404, format!("{destination} begins with no broker prefix")).into());
    }
    check_sendable(view, &headers, &body)?;
    let parse = |id: &String| SessionId::parse(id).ok_or_else(|| format!("{id:?} is no session"));
    let only = session.as_ref().map(parse).transpose().map_err(|text| (400, text))?;
    let push = Push { user: Some(user?), destination, headers, body, only };
    Ok(Work::pushes(vec![push], false))
}

fn answer_metrics(reply: Reply<'_>) {
    let mut text = String::new();
    reply.view.shared.metrics.write(&mut text);
    let kind = Some("text/plain; version=0.0.4; charset=utf-8");
    reply.send(200, &[], kind, text.as_bytes());
}

fn stats(view: View<'_>) -> String {
    let shards: Vec<Value> = view
        .shared
        .metrics
        .shards()
        .map(|m| {
            serde_json::json!({
                "connections": m.connections.value(),
                "sessions": m.sessions.value(),
                "rawSessions": m.raw_sessions.value(),
                "users": m.users.value(),
                "published": m.published_total.value(),
                "delivered": m.delivered_total.value(),
                "slowConsumers": m.slow_consumers_total.value(),
                "dropped": m.dropped_oldest.value() + m.dropped_conflated.value(),
            })
        })
        .collect();
    let sum = |name: &str| -> u64 { shards.iter().filter_map(|s| s[name].as_u64()).sum() };
    serde_json::json!({
        "code": 0,
        "connections": sum("connections"),
        "sessions": sum("sessions"),
        "users": sum("users"),
        "published": sum("published"),
        "delivered": sum("delivered"),
        "shards": shards,
    })
    .to_string()
}

fn parameter(head: &Head<'_, '_>, name: &str) -> Result<String, Bad> {
    let mut out = [0; 1024];
    match url::query_value(head.target.query, name, &mut out) {
        Some(Ok(value)) if !value.is_empty() && !value.chars().any(char::is_control) => {
            Ok(value.to_owned())
        }
        Some(Ok(_)) => {
            Err((400, format!("the parameter {name} is empty or has control characters")).into())
        }
        Some(Err(error)) => Err((400, format!("the parameter {name}: {}", error.text())).into()),
        None => Err((400, format!("the parameter {name} is missing")).into()),
    }
}

fn decoded(segment: &str) -> Result<String, Bad> {
    let mut out = [0; 1024];
    match url::decode(segment, &mut out) {
        Ok(text) if crate::identity::is_name(text) => Ok(text.to_owned()),
        _ => Err((400, "the user's name is not one".to_owned()).into()),
    }
}

#![forbid(unsafe_code)]
//! What each HTTP route does with a whole request.

use super::body::{self, Bad, Headers, Item};
use super::conn::State;
use super::events::Site;
use super::mailbox::Query;
use super::push::{OK, Push, ResponseFormat, Work};
use super::refuse::NUL_IN_BODY;
use super::route::{self, Route};
use super::session::Phase;
use super::shard::Shard;
use super::web::RequestMeta;
use crate::broker::destination::{Target, decode_user};
use crate::callback::{self, Denial, Target as CallbackTarget};
use crate::http::request::{Head, Method};
use crate::http::url;
use crate::identity::HeaderLine;
use crate::ids::{SessionId, SessionIndex, Slot};
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::stomp;
use serde_json::Value;
use std::sync::Arc;

impl<R: Ring> Shard<R> {
    /// Does what a request asks for; its head has been admitted.
    pub(super) fn execute(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        body: &[u8],
    ) {
        let shared = self.shared.clone();
        let done = match route::route(&shared, head.target.path, self.serves(slot)) {
            Route::Endpoint(at, rest) => {
                self.at_endpoint(slot, meta, head, at, rest);
                Ok(())
            }
            Route::SendToUser => self.send_to(slot, meta, head, body, true),
            Route::SendToAll => self.send_to(slot, meta, head, body, false),
            Route::Publish => self.api_publish(slot, meta, body),
            Route::UserMessages(user) => self.api_message(slot, meta, user, body),
            Route::Users => {
                self.ask_shards(slot, meta, Query::Users, ResponseFormat::Users);
                Ok(())
            }
            Route::User(user) => self.api_user(slot, meta, head, user),
            Route::Session(id) => self.api_session(slot, meta, id),
            Route::Stats => {
                let body = self.stats();
                self.answer_json(slot, meta, 200, body.as_bytes());
                Ok(())
            }
            Route::Callback(at) => self.callback(slot, meta, head, body, at),
            Route::Demo(at) => self.demo(slot, meta, head, body, at),
            Route::Metrics => {
                let mut text = String::new();
                shared.metrics.write(&mut text);
                let kind = Some("text/plain; version=0.0.4; charset=utf-8");
                self.answer(slot, meta, 200, &[], kind, text.as_bytes());
                Ok(())
            }
            Route::Health => {
                self.answer_json(slot, meta, 200, OK);
                Ok(())
            }
            Route::Ready if self.draining.is_some() => {
                self.answer_error(slot, meta, 503, &[], "the server is going down");
                Ok(())
            }
            Route::Ready => {
                self.answer_json(slot, meta, 200, OK);
                Ok(())
            }
            Route::Page(asset) => {
                self.page(slot, meta, asset);
                Ok(())
            }
            Route::Console => {
                self.console(slot, meta, head);
                Ok(())
            }
            Route::Nothing => {
                Err(Bad::of(Refusal::HttpNotFound, 404, "there is nothing at this path"))
            }
        };
        if let Err(bad) = done {
            let site = match route::route(&shared, head.target.path, self.serves(slot)) {
                Route::Callback(at) | Route::Demo(at) => Site::Callback(at as u16),
                _ => Site::None,
            };
            self.refuse_at(slot, site, bad.refusal, None);
            self.answer_error(slot, meta, bad.status, &[], &bad.text);
        }
    }

    /// `/sendMsToUser` and `/sendMsAll`, as the original application had them.
    fn send_to(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        body: &[u8],
        to_user: bool,
    ) -> Result<(), Bad> {
        let mut destination = parameter(head, "subscribePath")?;
        if !destination.starts_with('/') {
            // As Spring's messaging template does.
            destination.insert(0, '/');
        }
        let user = if to_user { Some(parameter(head, "userId")?) } else { None };
        if !self.shared.names.is_broker(&destination) {
            return Err((404, format!("{destination} begins with no broker prefix")).into());
        }
        let body = match head.method {
            Method::Post => {
                let json = body::json(body, self.limits.json_depth)?;
                let whole = json.get("businessType").is_some_and(Value::is_string)
                    && json.get("data").is_some();
                if !whole {
                    let text = "the body is {\"businessType\":…,\"data\":…}".to_owned();
                    return Err((400, text).into());
                }
                body.trim_ascii().to_vec()
            }
            _ if to_user => TEST_TO_USER.to_vec(),
            _ => TEST_TO_ALL.to_vec(),
        };
        let push = Push { user, destination, headers: json_type(), body, only: None };
        self.park(slot, meta, pushes(vec![push], false));
        Ok(())
    }

    /// `POST /api/publish`: one item, or an array of them, which are pushed in their order when all
    /// of them are good.
    fn api_publish(&mut self, slot: Slot, meta: RequestMeta, body: &[u8]) -> Result<(), Bad> {
        let (items, array) = body::items(body, self.limits.json_depth)?;
        let mut list = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let push = self.api_item(item);
            list.push(push.map_err(|bad| if array { bad.of_item(at) } else { bad })?);
        }
        self.park(slot, meta, pushes(list, array));
        Ok(())
    }

    fn api_item(&self, item: Item) -> Result<Push, Bad> {
        let Item { destination, headers, body, session } = item;
        if session.is_some() {
            let text = "an item of /api/publish has no session: see /api/users/{user}/messages";
            return Err((400, text.to_owned()).into());
        }
        self.check_sendable(&headers, &body)?;
        let (user, destination) = match self.shared.names.target(&destination) {
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
    fn check_sendable(&self, headers: &Headers, body: &[u8]) -> Result<(), Bad> {
        if let Some((name, _)) = headers.iter().find(|(n, _)| !stomp::is_forwarded(n.as_bytes())) {
            let text = format!("no header is named {name:?}: it is blank, or the server's own");
            return Err(Bad::of(Refusal::ApiForgedHeader, 400, text));
        }
        let content_type = headers.iter().find(|(name, _)| name == "content-type");
        if self.shared.refuses_body(content_type.map(|(_, value)| value.as_bytes()), body) {
            let text = "the body has a NUL: broker.nul-in-body refuses it";
            return Err(Bad::of(NUL_IN_BODY.refusal, 400, text));
        }
        Ok(())
    }

    /// `POST /api/users/{user}/messages`
    fn api_message(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        user: &str,
        body: &[u8],
    ) -> Result<(), Bad> {
        let Item { destination, headers, body, session } =
            body::item(body, self.limits.json_depth)?;
        let destination = self.shared.names.own(&destination).unwrap_or(&destination).to_owned();
        if !self.shared.names.is_broker(&destination) {
            return Err((404, format!("{destination} begins with no broker prefix")).into());
        }
        self.check_sendable(&headers, &body)?;
        let parse =
            |id: &String| SessionId::parse(id).ok_or_else(|| format!("{id:?} is no session"));
        let only = session.as_ref().map(parse).transpose().map_err(|text| (400, text))?;
        let user = Some(decoded(user)?);
        let push = Push { user, destination, headers, body, only };
        self.park(slot, meta, pushes(vec![push], false));
        Ok(())
    }

    /// `GET` and `DELETE /api/users/{user}`
    fn api_user(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        user: &str,
    ) -> Result<(), Bad> {
        let user: Arc<str> = Arc::from(decoded(user)?);
        match head.method {
            Method::Delete => {
                let query = Query::KickUser(user);
                self.ask_shards(slot, meta, query, ResponseFormat::Closed { one: false });
            }
            _ => self.ask_shards(
                slot,
                meta,
                Query::Sessions(user.clone()),
                ResponseFormat::User(user),
            ),
        }
        Ok(())
    }

    /// `DELETE /api/sessions/{id}`
    fn api_session(&mut self, slot: Slot, meta: RequestMeta, id: &str) -> Result<(), Bad> {
        let id = SessionId::parse(id);
        let id = id.ok_or((404, "there is no such session".to_owned()))?;
        self.ask_shards(slot, meta, Query::KickSession(id), ResponseFormat::Closed { one: true });
        Ok(())
    }

    fn ask_shards(&mut self, slot: Slot, meta: RequestMeta, query: Query, format: ResponseFormat) {
        let left = self.shared.shards;
        let items = String::new();
        let work = Work::Question { query, next: 0, left, items, count: 0, cut: false, format };
        self.park(slot, meta, work);
    }

    /// What this shard answers to a question: JSON items, how many there are, and whether some of
    /// them are left out.
    pub(super) fn answer_query(&mut self, query: &Query) -> (Arc<str>, u32, bool) {
        let mut items = String::new();
        let mut count = 0;
        let room = self.limits.query_bytes as usize;
        let mut cut = false;
        let mut add = |items: &mut String, item: Value| {
            if items.len() < room {
                if !items.is_empty() {
                    items.push(',');
                }
                items.push_str(&item.to_string());
            } else {
                cut = true;
            }
            count += 1;
        };
        match query {
            Query::Users => {
                for (user, sessions) in self.core.users().iter() {
                    let item = serde_json::json!({
                        "user": &**user, "status": "ON_LINE", "sessions": sessions,
                    });
                    add(&mut items, item);
                }
            }
            Query::Sessions(user) => {
                let mut next = self.sessions.first_of(user);
                while let Some(session) = next {
                    // One that has not said CONNECT hears nothing: it does not make him ON_LINE.
                    if self.sessions.at(session).phase == Phase::Live {
                        add(&mut items, self.describe(session));
                    }
                    next = self.sessions.at(session).same_user.next();
                }
            }
            Query::KickUser(user) => count += self.kick_user(user),
            Query::KickSession(id) => {
                if let Some(session) = self.sessions.find(*id)
                    && self.sessions.at(session).phase != Phase::Leaving
                {
                    let slot = self.sessions.at(session).slot;
                    self.drain(slot, &[], KICKED, "ended by the operator");
                    count += 1;
                }
            }
        }
        (Arc::from(items), count, cut)
    }

    /// Ends all sessions of a user on this shard, raw ones and those before CONNECT among them.
    fn kick_user(&mut self, user: &Arc<str>) -> u32 {
        let mut slots = Vec::new();
        let mut next = self.sessions.first_of(user);
        while let Some(session) = next {
            slots.push(self.sessions.at(session).slot);
            next = self.sessions.at(session).same_user.next();
        }
        let raw = self.conns.raw_users.iter().filter(|(_, name)| *name == user);
        let open = |slot: &Slot| self.conns.at(*slot).state == State::Open;
        slots.extend(raw.map(|(slot, _)| *slot).filter(open));
        for &slot in &slots {
            self.drain(slot, &[], KICKED, "ended by the operator");
        }
        slots.len() as u32
    }

    fn describe(&self, session: SessionIndex) -> Value {
        let state = self.sessions.at(session);
        let conn = self.conns.at(state.slot);
        let prefix = &self.shared.names.user;
        let subscriptions: Vec<Value> = state
            .subscriptions
            .iter()
            .map(|subscription| {
                let destination = self.index.text(subscription.destination);
                let prefix = if subscription.of_user { prefix.as_str() } else { "" };
                serde_json::json!({
                    "id": &**self.index.text(subscription.id),
                    "destination": format!("{prefix}{destination}"),
                })
            })
            .collect();
        serde_json::json!({
            "session": self.sessions.id(session).to_string(),
            "address": conn.address.to_string(),
            "version": state.version.text(),
            "subscriptions": subscriptions,
        })
    }

    fn stats(&self) -> String {
        let shards: Vec<Value> = self
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

    /// A callback of a third party: its signature, then its push.
    fn callback(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        body: &[u8],
        at: usize,
    ) -> Result<(), Bad> {
        let shared = self.shared.clone();
        let rule = &shared.config.callbacks[at];
        let headers: Vec<HeaderLine<'_>> = head.headers.iter().map(|h| (h.name, h.value)).collect();
        let now = self.ring.wall_millis();
        if let Err(denial) = callback::verify(rule, &headers, body, now) {
            self.metrics.callback_denied_total.add(1);
            let text = match denial {
                Denial::Stale => "the signature's timestamp is too far from this server's time",
                _ => "the signature is missing or wrong",
            };
            return Err(Bad::of(denial, denial.status(), text));
        }
        self.push_callback(slot, meta, body, at)
    }

    /// The page's provider panel: the server signs in its place, unless the page shows what a bad
    /// signature gets. Guarded by the loopback test.
    fn demo(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        body: &[u8],
        at: usize,
    ) -> Result<(), Bad> {
        let shared = self.shared.clone();
        let rule = &shared.config.callbacks[at];
        let now = self.ring.wall_millis();
        let signature = callback::sign(rule, body, now);
        let signature = signature.ok_or((500, "this callback has no secret".to_owned()))?;
        let header = &rule.signature_header;
        if head.header(header).is_some() {
            return self.callback(slot, meta, head, body, at);
        }
        let headers: [HeaderLine<'_>; 1] = [(header.as_str(), signature.as_bytes())];
        if callback::verify(rule, &headers, body, now).is_err() {
            let text = "the signature made here was refused here";
            return Err(Bad::of(Denial::Wrong, 500, text));
        }
        self.push_callback(slot, meta, body, at)
    }

    fn push_callback(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        body: &[u8],
        at: usize,
    ) -> Result<(), Bad> {
        let shared = self.shared.clone();
        let rule = &shared.config.callbacks[at];
        let mut payload = Vec::new();
        let mapped = match callback::map(rule, self.limits.json_depth, body, &mut payload) {
            Ok(mapped) => mapped,
            Err(problem) => {
                return Err(Bad::of(problem, problem.status(), problem.to_string()));
            }
        };
        let (user, destination) = match (mapped.target, mapped.user) {
            (CallbackTarget::User(destination), Some(user)) => (Some(user), destination),
            (CallbackTarget::Broker(destination), _) => (None, destination),
            (CallbackTarget::User(_), None) => match &rule.offline {
                crate::config::Offline::Topic(topic) => (None, topic.as_str()),
                _ => {
                    // Nobody is named, and nobody is to get it.
                    self.metrics.callbacks_total.add(1);
                    self.metrics.callback_answer.observe(0);
                    self.answer_json(slot, meta, 200, callback::success(rule));
                    return Ok(());
                }
            },
        };
        let destination = destination.to_owned();
        let push = Push { user, destination, headers: json_type(), body: payload, only: None };
        let until = self.ring.wall_millis() + u64::from(rule.dedupe_window.0);
        let key = mapped.id.map(|id| (shared.fingerprint(&rule.path, &id), until));
        let Some(message) = self.push_message(&push) else {
            let text = "too many messages are in flight";
            return Err(Bad::of(Refusal::LimitMessageBlocks, 503, text));
        };
        let since = self.now;
        let work = Work::Callback { rule: at, key, message: Some(message), done: false, since };
        self.park(slot, meta, work);
        Ok(())
    }
}

/// Close code of a session that the operator ends (RFC 6455 §7.4.1: policy).
const KICKED: u16 = 1008;

/// What `GET /sendMsToUser` pushes, as the original application did.
const TEST_TO_USER: &[u8] =
    br#"{"businessType":"TEST","data":{"data":"The Data!","message":"The message!"}}"#;
/// What `GET /sendMsAll` pushes.
const TEST_TO_ALL: &[u8] =
    br#"{"businessType":"TEST All","data":{"data":"The All Data!","message":"The All message!"}}"#;

fn pushes(list: Vec<Push>, array: bool) -> Work {
    let heard = Vec::with_capacity(list.len());
    Work::Pushes { list, heard, sent: 0, array }
}

fn json_type() -> Headers {
    vec![("content-type".into(), "application/json".into())]
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

#![forbid(unsafe_code)]
//! What HTTP requests do: push to users and destinations, one push after another, each waiting for
//! its home; and questions that every shard answers.

use super::conn::Proto;
use super::mailbox::{Query, ToHome};
use super::shard::Shard;
use super::web::RequestMeta;
use crate::broker::command::{Callback, Command, ReplyTo};
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::ids::{ConnId, SessionId, ShardId, Slot};
use crate::ring::Ring;
use crate::time::Instant;
use std::sync::Arc;

/// One push that a request asks for.
#[derive(Debug)]
pub(super) struct Push {
    /// To this user, or to a broker destination.
    pub user: Option<String>,
    /// Destination, without the user prefix.
    pub destination: String,
    /// Headers of the MESSAGE besides `destination`.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Only to this session of the user.
    pub only: Option<SessionId>,
}

/// What is being done about a parked request.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing yet.
    None,
    /// Pushes: the first `heard.len()` of them are done, the first `sent` in flight. Those in
    /// flight at one time have one home, whose answers come in their order.
    Pushes { list: Vec<Push>, heard: Vec<u32>, sent: usize, array: bool },
    /// A callback that waits for the home of its id, or for that of its push.
    Callback {
        rule: usize,
        /// Fingerprint of its id, and until when it is remembered.
        key: Option<Key>,
        /// The push, until it is in flight.
        message: Option<Arc<Message>>,
        done: bool,
        /// When its request was whole.
        since: Instant,
    },
    /// A question to every shard.
    Question {
        query: Query,
        next: u8,
        left: u8,
        items: String,
        count: u32,
        cut: bool,
        format: ResponseFormat,
    },
}

/// The fingerprint of a callback's id, and until when it is remembered, in wall milliseconds.
pub(super) type Key = ([u64; 2], u64);

/// How the items of a question are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    /// `{"code":0,"users":[…]}`
    Users,
    /// `{"code":0,"user":…,"status":…,"sessions":[…]}`
    User(Arc<str>),
    /// `{"code":0,"closed":n}`, 404 for none if it was one session.
    Closed { one: bool },
}

impl Work {
    /// Bytes that it keeps.
    pub(super) fn held(&self) -> usize {
        match self {
            Work::Pushes { list, .. } => list.iter().map(|push| push.body.len()).sum(),
            Work::Question { items, .. } => items.len(),
            Work::None | Work::Callback { .. } => 0,
        }
    }
}

impl<R: Ring> Shard<R> {
    /// Does the next step of a parked request, as far as there is room.
    pub(super) fn continue_parked(&mut self, slot: Slot) {
        let Some(request) = self.parked(slot) else { return };
        let meta = request.meta;
        let mut work = core::mem::replace(&mut request.work, Work::None);
        let done = match &mut work {
            Work::None => true,
            Work::Pushes { list, heard, sent, .. } => {
                while let Some(push) = list.get(*sent) {
                    let home = self.home_of_push(push);
                    // Those in flight have one home: the first of them says which.
                    let first = &list[heard.len().min(*sent)];
                    if self.home_of_push(first) != home {
                        break;
                    }
                    if !self.has_room_for_frame() {
                        return self.keep_work(slot, work, true);
                    }
                    self.send_push(slot, push);
                    *sent += 1;
                }
                heard.len() == list.len()
            }
            Work::Callback { key, message, done, .. } => {
                if let Some(message_now) = message.take() {
                    // It has its block already, and waits for nobody else's.
                    if !self.has_room_for_callback(*key, &message_now) {
                        *message = Some(message_now);
                        return self.keep_work(slot, work, true);
                    }
                    self.send_callback(slot, *key, message_now);
                }
                *done
            }
            Work::Question { query, next, left, .. } => {
                while *next < self.shared.shards {
                    let shard = ShardId(*next);
                    if !self.has_home_room(shard) {
                        return self.keep_work(slot, work, true);
                    }
                    let conn = self.conns.id(slot);
                    let entry = ToHome::Query { query: query.clone(), shard: self.me, conn };
                    self.mailbox.send(shard.into(), entry);
                    *next += 1;
                }
                *left == 0
            }
        };
        if !done {
            return self.keep_work(slot, work, false);
        }
        self.finish(slot, meta, work);
    }

    /// Puts the work back; the connection stays paused.
    fn keep_work(&mut self, slot: Slot, work: Work, for_room: bool) {
        if let Some(request) = self.parked(slot) {
            request.work = work;
        }
        if for_room { self.pause_for_room(slot) } else { self.pause_for_answer(slot) }
    }

    fn finish(&mut self, slot: Slot, meta: RequestMeta, work: Work) {
        self.conns.at_mut(slot).proto = Proto::HttpIdle;
        match work {
            Work::None => self.answer_json(slot, meta, 200, OK),
            Work::Pushes { list, heard, array, .. } => {
                let body = push_response(&list, &heard, array);
                self.answer_json(slot, meta, 200, body.as_bytes());
            }
            Work::Callback { rule, since, .. } => {
                self.metrics.callbacks_total.add(1);
                self.metrics.callback_answer.observe(self.now.0.saturating_sub(since.0));
                let shared = self.shared.clone();
                let success =
                    shared.config.callbacks.get(rule).map_or(OK, crate::callback::success);
                self.answer_json(slot, meta, 200, success);
            }
            Work::Question { items, count, cut, format, .. } => {
                let cut = if cut { ",\"truncated\":true" } else { "" };
                self.answer_question(slot, meta, &items, count, cut, &format);
            }
        }
    }

    fn answer_question(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        items: &str,
        count: u32,
        cut: &str,
        format: &ResponseFormat,
    ) {
        let body = match format {
            ResponseFormat::Users => format!("{{\"code\":0,\"users\":[{items}]{cut}}}"),
            ResponseFormat::User(user) => {
                let user = serde_json::Value::from(&**user);
                let status = if count > 0 { "ON_LINE" } else { "OFF_LINE" };
                format!(
                    "{{\"code\":0,\"user\":{user},\"status\":\"{status}\",\"sessions\":[{items}]{cut}}}"
                )
            }
            ResponseFormat::Closed { one: true } if count == 0 => {
                return self.answer_error(slot, meta, 404, &[], "there is no such session");
            }
            ResponseFormat::Closed { .. } => format!("{{\"code\":0,\"closed\":{count}}}"),
        };
        self.answer_json(slot, meta, 200, body.as_bytes());
    }

    fn home_of_push(&self, push: &Push) -> ShardId {
        match &push.user {
            Some(user) => self.shared.homes.of_user(user),
            None => self.shared.homes.of_destination(&push.destination),
        }
    }

    /// The caller has seen to room.
    fn send_push(&mut self, slot: Slot, push: &Push) {
        let reply_to = ReplyTo::Request(self.me, self.conns.id(slot));
        let message = self.push_message(push).expect("there is room for a frame");
        self.send_message(message, push.only, reply_to);
    }

    /// A message block of a push; None when all blocks are in flight.
    pub(super) fn push_message(&mut self, push: &Push) -> Option<Arc<Message>> {
        let prefix = push.user.as_ref().map_or("", |_| &self.shared.names.user);
        let shown = format!("{prefix}{}", push.destination);
        self.blocks.make(|message| {
            message.begin(push.user.as_deref(), &push.destination);
            for (name, value) in &push.headers {
                message.header(name.as_bytes(), value.as_bytes());
            }
            message.header(b"destination", shown.as_bytes());
            message.finish(&push.body);
        })
    }

    /// Sends a message to its home. The caller has seen to room.
    fn send_message(&mut self, message: Arc<Message>, only: Option<SessionId>, reply_to: ReplyTo) {
        let home = self.shared.homes.of_message(&message);
        self.command(home, Command::publish(message, only, reply_to));
    }

    /// Whether there is room where a callback goes first: at the home of its id, or of its push.
    fn has_room_for_callback(&self, key: Option<Key>, message: &Message) -> bool {
        let homes = &self.shared.homes;
        let (home, class) = match key {
            Some((key, _)) => (homes.of_fingerprint(key), Class::Dedupe),
            None => (homes.of_message(message), Class::Home),
        };
        self.mailbox.room(home.into(), class) > 0
    }

    /// Whether a parked request waits with a message of its own, for room in one queue alone.
    pub(super) fn holds_message(&mut self, id: ConnId) -> bool {
        self.conns.find(id).is_some()
            && self.parked(id.slot).is_some_and(|request| {
                matches!(request.work, Work::Callback { message: Some(_), .. })
            })
    }

    /// The caller has seen to room. With an id it goes on from the id's home to that of its push,
    /// which answers.
    fn send_callback(&mut self, slot: Slot, key: Option<Key>, message: Arc<Message>) {
        let reply_to = ReplyTo::Request(self.me, self.conns.id(slot));
        let Some((key, until_millis)) = key else {
            return self.send_message(message, None, reply_to);
        };
        let home = self.shared.homes.of_fingerprint(key);
        self.mailbox.send(home.into(), Callback { key, until_millis, message, reply_to });
    }

    /// The home of a callback's id has seen it before.
    pub(super) fn on_duplicate(&mut self, reply_to: ReplyTo) {
        self.metrics.callback_duplicates_total.add(1);
        if let ReplyTo::Request(_, conn) = reply_to {
            self.on_pushed(conn, 0);
        }
    }

    /// A push of a parked request is sequenced.
    pub(super) fn on_pushed(&mut self, conn: ConnId, count: u32) {
        if self.conns.find(conn).is_none() {
            return;
        }
        let Some(request) = self.parked(conn.slot) else { return };
        match &mut request.work {
            Work::Pushes { heard, sent, .. } => {
                heard.push(count);
                if heard.len() < *sent {
                    // Once for all that are in flight, not for each.
                    return;
                }
            }
            Work::Callback { done, .. } => *done = true,
            Work::None | Work::Question { .. } => return,
        }
        self.answered.push_back(conn);
    }

    /// A shard has answered a question.
    pub(super) fn on_query_answer(
        &mut self,
        conn: ConnId,
        more: &str,
        number: u32,
        more_cut: bool,
    ) {
        if self.conns.find(conn).is_none() {
            return;
        }
        let Some(request) = self.parked(conn.slot) else { return };
        if let Work::Question { left, items, count, cut, .. } = &mut request.work {
            *left -= 1;
            *cut |= more_cut;
            *count += number;
            if !items.is_empty() && !more.is_empty() {
                items.push(',');
            }
            items.push_str(more);
            if *left == 0 {
                self.answered.push_back(conn);
            }
            self.note_buffered(conn.slot);
        }
    }
}

/// The plainest answer.
pub(super) const OK: &[u8] = br#"{"code":0}"#;

/// `{"code":0,"sessions":n}` for a push to a user, `subscriptions` for one to a broker destination;
/// of several an array.
fn push_response(list: &[Push], heard: &[u32], array: bool) -> String {
    let one = |(push, heard): (&Push, &u32)| {
        let what = if push.user.is_some() { "sessions" } else { "subscriptions" };
        format!("{{\"code\":0,\"{what}\":{heard}}}")
    };
    let all: Vec<String> = list.iter().zip(heard).map(one).collect();
    if array { format!("[{}]", all.join(",")) } else { all.concat() }
}

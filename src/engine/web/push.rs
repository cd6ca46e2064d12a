#![forbid(unsafe_code)]
//! What parked requests wait for: pushes to users and destinations, one after another, each waiting
//! for its home; and questions that every shard answers.

use super::answer::Reply;
use super::body::Headers;
use crate::broker::command::{Callback, Command, ReplyTo};
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::engine::bus::Bus;
use crate::engine::bus::mailbox::{Query, ToHome};
use crate::engine::net::View;
use crate::ids::{SessionId, ShardId, Slot};
use crate::time::Instant;
use std::sync::Arc;

/// The plainest answer.
pub const OK: &[u8] = br#"{"code":0}"#;

/// One push that a request asks for.
#[derive(Debug)]
pub struct Push {
    /// To this user, or to a broker destination.
    pub user: Option<String>,
    /// Destination, without the user prefix.
    pub destination: String,
    /// Headers of the MESSAGE besides `destination`.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
    /// Only to this session of the user.
    pub only: Option<SessionId>,
}

/// The header of a JSON body.
pub const JSON_TYPE: (&str, &str) = ("content-type", "application/json");

impl Push {
    /// The headers of a JSON body.
    pub fn json_type() -> Headers {
        let (name, value) = JSON_TYPE;
        vec![(name.into(), value.into())]
    }

    /// Bytes that it keeps.
    fn held(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let to = self.destination.len() + self.user.as_ref().map_or(0, String::len);
        to + headers.sum::<usize>() + self.body.len()
    }

    fn home(&self, view: View<'_>) -> ShardId {
        match &self.user {
            Some(user) => view.shared.homes.of_user(user),
            None => view.shared.homes.of_destination(&self.destination),
        }
    }

    /// Writes it into a message block.
    fn write(&self, view: View<'_>, message: &mut Message) {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let to = (self.user.as_deref(), self.destination.as_str());
        write(view, message, to, headers, &self.body);
    }
}

/// Writes a push into a message block: to this user, or to a broker destination.
pub fn write<'h>(
    view: View<'_>,
    message: &mut Message,
    (user, destination): (Option<&str>, &str),
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: &[u8],
) {
    message.begin(user, destination);
    for (name, value) in headers {
        message.header(name.as_bytes(), value.as_bytes());
    }
    match user {
        Some(_) => message.header(b"destination", &view.shared.names.shown(destination)),
        None => message.header(b"destination", destination.as_bytes()),
    }
    message.finish(body);
}

/// What is being done about a parked request.
#[derive(Debug)]
pub enum Work {
    /// Pushes. Those in flight at one time have one home, whose answers come in their order.
    Pushes {
        /// All of them.
        list: Vec<Push>,
        /// What was said of the first ones, which are done: how many hear them.
        heard: Vec<u32>,
        /// Count of those that are done or in flight.
        sent: usize,
        /// They came as an array.
        array: bool,
    },
    /// A callback that waits for the home of its id, or for that of its push.
    Callback {
        /// Its number in the configuration.
        rule: usize,
        /// Fingerprint of its id, and until when it is remembered.
        key: Option<Key>,
        /// The push, until it is in flight.
        message: Option<Arc<Message>>,
        /// Its answer has come.
        done: bool,
        /// When its request was whole.
        since: Instant,
    },
    /// A question to every shard.
    Question {
        /// What is asked.
        query: Query,
        /// The shard that is asked next.
        next: u8,
        /// Count of shards that have not answered.
        left: u8,
        /// What they have said: JSON items.
        items: String,
        /// Count of items.
        count: u32,
        /// Some are left out.
        cut: bool,
        /// How they are shown.
        format: ResponseFormat,
    },
}

/// The fingerprint of a callback's id, and until when it is remembered, in wall milliseconds.
pub type Key = ([u64; 2], u64);

/// How the items of a question are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseFormat {
    /// `{"code":0,"users":[…]}`
    Users,
    /// `{"code":0,"user":…,"status":…,"sessions":[…]}`
    User(Arc<str>),
    /// `{"code":0,"closed":n}`, 404 for none if it was one session.
    Closed {
        /// It was.
        one: bool,
    },
}

/// How far work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is no room for its next step.
    Room,
    /// It waits for answers.
    Answer,
    /// It can be answered.
    Done,
}

impl Work {
    /// Pushes, none of them in flight.
    pub fn pushes(list: Vec<Push>, array: bool) -> Work {
        let heard = Vec::with_capacity(list.len());
        Work::Pushes { list, heard, sent: 0, array }
    }

    /// A question that nobody has been asked yet.
    pub fn question(shards: u8, query: Query, format: ResponseFormat) -> Work {
        let items = String::new();
        Work::Question { query, next: 0, left: shards, items, count: 0, cut: false, format }
    }

    /// Bytes that it keeps.
    pub fn held(&self) -> usize {
        match self {
            Work::Pushes { list, .. } => list.iter().map(Push::held).sum(),
            Work::Question { items, .. } => items.len(),
            Work::Callback { .. } => 0,
        }
    }

    /// Whether it waits with a message of its own, for room in one queue alone.
    pub fn holds_message(&self) -> bool {
        matches!(self, Work::Callback { message: Some(_), .. })
    }

    /// Does its next steps, as far as there is room. `slot` is that of its request.
    pub fn go_on(&mut self, bus: &mut Bus, view: View<'_>, slot: Slot) -> Progress {
        let reply_to = ReplyTo::Request(view.me, view.net.id(slot));
        let is_done = match self {
            Work::Pushes { list, heard, sent, .. } => {
                while let Some(push) = list.get(*sent) {
                    // Those in flight have one home: the first of them says which.
                    let first = &list[heard.len().min(*sent)];
                    if first.home(view) != push.home(view) {
                        break;
                    }
                    if !bus.has_room_for_frame(view.ctx) {
                        return Progress::Room;
                    }
                    let message = bus.message(|message| push.write(view, message));
                    publish(bus, view, message, push.only, reply_to);
                    *sent += 1;
                }
                heard.len() == list.len()
            }
            Work::Callback { key, message, done, .. } => {
                if let Some(pushed) = message.take_if(|push| has_room(bus, view, *key, push)) {
                    send_callback(bus, view, *key, pushed, reply_to);
                }
                if message.is_some() {
                    return Progress::Room;
                }
                *done
            }
            Work::Question { query, next, left, .. } => {
                while *next < view.shared.shards {
                    let shard = ShardId(*next);
                    if !bus.has_home_room(shard) {
                        return Progress::Room;
                    }
                    let conn = view.net.id(slot);
                    let entry = ToHome::Query { query: query.clone(), shard: view.me, conn };
                    bus.send(shard.into(), entry);
                    *next += 1;
                }
                *left == 0
            }
        };
        if is_done { Progress::Done } else { Progress::Answer }
    }

    /// A push is sequenced; `heard` is how many hear it. True if the work may go on.
    pub fn on_pushed(&mut self, count: u32) -> bool {
        match self {
            Work::Pushes { heard, sent, .. } => {
                heard.push(count);
                // Once for all that are in flight, not for each.
                heard.len() >= *sent
            }
            Work::Callback { done, .. } => {
                *done = true;
                true
            }
            Work::Question { .. } => false,
        }
    }

    /// A shard has answered a question. True if all have.
    pub fn on_query_answer(&mut self, more: &str, number: u32, more_cut: bool) -> bool {
        let Work::Question { left, items, count, cut, .. } = self else { return false };
        *left -= 1;
        *cut |= more_cut;
        *count += number;
        if !items.is_empty() && !more.is_empty() {
            items.push(',');
        }
        items.push_str(more);
        *left == 0
    }

    /// Answers its request.
    pub fn finish(self, reply: Reply<'_>) {
        match self {
            Work::Pushes { list, heard, array, .. } => {
                reply.json(200, push_response(&list, &heard, array).as_bytes());
            }
            Work::Callback { rule, since, .. } => {
                let view = reply.view;
                view.metrics.callbacks_total.add(1);
                view.metrics.callback_answer.observe(view.now.0.saturating_sub(since.0));
                let rule = view.shared.config.callbacks.get(rule);
                reply.json(200, rule.map_or(OK, crate::callback::success));
            }
            Work::Question { items, count, cut, format, .. } => {
                let cut = if cut { ",\"truncated\":true" } else { "" };
                answer_question(reply, &items, count, cut, &format);
            }
        }
    }
}

/// Sends a message to its home. The caller has seen to room.
fn publish(
    bus: &mut Bus,
    view: View<'_>,
    message: Arc<Message>,
    only: Option<SessionId>,
    reply_to: ReplyTo,
) {
    let home = view.shared.homes.of_message(&message);
    bus.command(home, Command::publish(message, only, reply_to));
}

/// Whether there is room where a callback goes first: at the home of its id, or of its push. It has
/// its block already, and waits for nobody else's.
fn has_room(bus: &Bus, view: View<'_>, key: Option<Key>, message: &Message) -> bool {
    let homes = &view.shared.homes;
    let (home, class) = match key {
        Some((key, _)) => (homes.of_fingerprint(key), Class::Dedupe),
        None => (homes.of_message(message), Class::Home),
    };
    bus.room(home.into(), class) > 0
}

/// The caller has seen to room. With an id it goes on from the id's home to that of its push, which
/// answers.
fn send_callback(
    bus: &mut Bus,
    view: View<'_>,
    key: Option<Key>,
    message: Arc<Message>,
    reply_to: ReplyTo,
) {
    let Some((key, until_millis)) = key else {
        return publish(bus, view, message, None, reply_to);
    };
    let home = view.shared.homes.of_fingerprint(key);
    bus.send(home.into(), Callback { key, until_millis, message, reply_to });
}

fn answer_question(reply: Reply<'_>, items: &str, count: u32, cut: &str, format: &ResponseFormat) {
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
            return reply.error(404, &[], "there is no such session");
        }
        ResponseFormat::Closed { .. } => format!("{{\"code\":0,\"closed\":{count}}}"),
    };
    reply.json(200, body.as_bytes());
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_pushes_keep_is_counted() {
        let push = |name: &str| Push {
            user: Some("ann".to_owned()),
            destination: "/queue/a".to_owned(),
            headers: vec![(name.to_owned(), "value".to_owned())],
            body: b"body".to_vec(),
            only: None,
        };
        let one = "ann".len() + "/queue/a".len() + "name".len() + "value".len() + "body".len();
        assert_eq!(Work::pushes(vec![push("name")], false).held(), one);
        let long = "x".repeat(10_000);
        let both = vec![push("name"), push(&long)];
        assert_eq!(Work::pushes(both, true).held(), 2 * one + long.len() - "name".len());
    }
}

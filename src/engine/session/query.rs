#![forbid(unsafe_code)]
//! What a shard answers to the API's questions about users and sessions, and how it ends some.

use super::record::Phase;
use super::sockets::Sockets;
use super::stomp::Stomp;
use crate::broker::user::Users;
use crate::engine::bus::mailbox::Query;
use crate::engine::delivery::Delivery;
use crate::engine::net::View;
use crate::ids::{LinkIndex, SessionIndex};
use serde_json::Value;
use std::sync::Arc;

/// Close code of a session that the operator ends (RFC 6455 §7.4.1: policy).
const KICKED: u16 = 1008;

/// JSON items, how many there are, and whether some of them are left out (limit `query-bytes`).
pub type QueryAnswer = (Arc<str>, u32, bool);

/// The items of an answer, as far as they fit.
struct Items {
    text: String,
    count: u32,
    is_cut: bool,
    room: usize,
}

impl Items {
    fn add(&mut self, item: &Value) {
        if self.text.len() < self.room {
            if !self.text.is_empty() {
                self.text.push(',');
            }
            self.text.push_str(&item.to_string());
        } else {
            self.is_cut = true;
        }
        self.count += 1;
    }
}

/// What this shard answers.
pub fn answer_query(
    query: &Query,
    stomp: &Stomp,
    sockets: &Sockets,
    users: &Users,
    delivery: &mut Delivery,
    view: View<'_>,
) -> QueryAnswer {
    let room = view.limits.query_bytes as usize;
    let mut items = Items { text: String::new(), count: 0, is_cut: false, room };
    match query {
        Query::Users => {
            for (user, sessions) in users.iter() {
                items.add(&serde_json::json!({
                    "user": &**user, "status": "ON_LINE", "sessions": sessions,
                }));
            }
        }
        Query::Sessions(user) => {
            for session in stomp.sessions.of_user(user) {
                // One that has not said CONNECT hears nothing: it does not make him ON_LINE.
                if stomp.sessions.at(session).phase == Phase::Live {
                    items.add(&describe(stomp, delivery, view, session));
                }
            }
        }
        Query::KickUser(user) => {
            // Raw ones and those before CONNECT among them.
            let stomp = stomp.sessions.of_user(user).map(|s| stomp.sessions.at(s).link);
            let raw = sockets.raw_slots_of(user).map(LinkIndex::from);
            for link in stomp.chain(raw) {
                items.count += u32::from(kick(delivery, view, link));
            }
        }
        Query::KickSession(id) => {
            let session = stomp.sessions.find(*id).map(|session| stomp.sessions.at(session));
            if let Some(session) = session.filter(|session| session.phase != Phase::Leaving) {
                items.count += u32::from(kick(delivery, view, session.link));
            }
        }
    }
    (Arc::from(items.text), items.count, items.is_cut)
}

/// False if it has ended before.
fn kick(delivery: &mut Delivery, view: View<'_>, link: LinkIndex) -> bool {
    let is_open = delivery.links.is_open(link);
    delivery.links.drain(view, link, KICKED, "ended by the operator");
    is_open
}

fn describe(stomp: &Stomp, delivery: &Delivery, view: View<'_>, session: SessionIndex) -> Value {
    let state = stomp.sessions.at(session);
    let prefix = &view.shared.names.user;
    let subscriptions = state.subscriptions.iter().map(|subscription| {
        let destination = delivery.fanout.text(subscription.destination);
        let prefix = if subscription.of_user { prefix.as_str() } else { "" };
        serde_json::json!({
            "id": &**delivery.fanout.text(subscription.id),
            "destination": format!("{prefix}{destination}"),
        })
    });
    let subscriptions: Vec<Value> = subscriptions.collect();
    serde_json::json!({
        "session": stomp.sessions.id(session).to_string(),
        "address": view.net.client(state.link).address.to_string(),
        "version": state.version.text(),
        "subscriptions": subscriptions,
    })
}

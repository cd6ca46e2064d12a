#![forbid(unsafe_code)]
//! Application destinations: a SEND gets its answer from the configuration, or from a hook at the
//! control thread.

use super::mailbox::ToControl;
use super::shard::Shard;
use crate::broker::application::Answer;
use crate::broker::command::{Command, ReplyTo};
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::broker::reply::{Publication, To, publications};
use crate::ids::{SessionIndex, ShardId};
use crate::mem::shares::{Kind, Place};
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::stomp::Frame;
use smallvec::SmallVec;

/// Where the engine tells a sender what went wrong behind an application destination.
const ERRORS: &str = "/queue/errors";
const SHARE_OF_HOOK_CALLS: &str =
    "this address has its share of the hook calls that wait (hooks.queue, limits.share-least)";

impl<R: Ring> Shard<R> {
    /// A SEND to an application destination. The caller has seen to room for its entries.
    pub(super) fn ask_application(
        &mut self,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        application: usize,
        rest: &str,
    ) {
        let shared = self.shared.clone();
        let found = shared.applications.at(application);
        match &found.answer {
            Answer::Reply { body, json } => {
                let content_type: &[u8] =
                    if *json { b"application/json" } else { b"text/plain;charset=UTF-8" };
                self.give_answer(session, frame, application, rest, body.as_bytes(), content_type);
            }
            Answer::Forward(template) => {
                let destination = shared.applications.fill(application, rest, template);
                let content_type = frame.header(b"content-type").unwrap_or(b"");
                let home = shared.homes.of_destination(&destination);
                let reply_to = self.receipt(session, frame, 1, Some(home));
                self.publish(home, &destination, frame.body(), content_type, reply_to);
            }
            Answer::Hook(None) => {
                self.refuse(self.sessions.at(session).slot, Refusal::HookUnset);
                let text = format!(
                    "set hook in the [[application]] with destination {}",
                    found.destination
                );
                self.tell_error(session, 501, &text);
                self.receipt(session, frame, 0, None);
            }
            Answer::Hook(Some(_)) | Answer::Provider => self.ask_hook(session, frame),
        }
    }

    fn ask_hook(&mut self, session: SessionIndex, frame: &Frame<'_, '_>) {
        let control = self.control();
        if self.mailbox.room(control, Class::Outside) == 0 {
            self.metrics.hooks_refused_total.add(1);
            self.refuse(self.sessions.at(session).slot, Refusal::HookQueueFull);
            self.tell_error(session, 503, "too many hook calls are waiting");
            self.receipt(session, frame, 0, None);
            return;
        }
        let Some(place) = self.take_hook_share(session) else {
            self.metrics.hooks_refused_total.add(1);
            self.refuse(self.sessions.at(session).slot, Refusal::LimitShareOfHookCalls);
            self.tell_error(session, 503, SHARE_OF_HOOK_CALLS);
            self.receipt(session, frame, 0, None);
            return;
        };
        let destination = frame.header(b"destination").unwrap_or(b"");
        let destination = core::str::from_utf8(destination).unwrap_or("");
        let message = self.blocks.make(|message| {
            message.begin(None, destination);
            if let Some(content_type) = frame.header(b"content-type") {
                message.header(b"content-type", content_type);
            }
            message.finish(frame.body());
        });
        let message = message.expect("there is room for a frame");
        // The control thread answers like a home: its receipts keep their order.
        let reply_to = self.receipt(session, frame, 1, Some(ShardId(control.0)));
        let user = self.sessions.at(session).user.clone();
        let session = self.sessions.id(session);
        self.mailbox.send(control, ToControl::Hook { message, user, session, reply_to, place });
    }

    /// Counts one hook call more for the address of a session, if it has room in its share.
    fn take_hook_share(&self, session: SessionIndex) -> Option<Place> {
        let Some(key) = self.share_key(self.sessions.at(session).slot) else {
            return Some(Place::NONE);
        };
        let hooks = self.shared.config.hooks;
        // Those that run have left the queue.
        let bound = self.shared.bound(hooks.queue.saturating_add(hooks.concurrent));
        self.shared.shares.take_share(key, Kind::HookCalls, None, bound)
    }

    /// A fixed reply goes where the application says.
    fn give_answer(
        &mut self,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        application: usize,
        rest: &str,
        body: &[u8],
        content_type: &[u8],
    ) {
        let shared = self.shared.clone();
        let user = self.sessions.at(session).user.clone();
        let id = self.sessions.id(session);
        let list = publications(&shared.applications, application, rest, id, user.as_deref());
        let list: SmallVec<[Publication<'_>; 2]> = list.collect();
        let homes = list.iter().filter_map(|one| one.home(&shared.homes));
        let (answers, last_home) =
            homes.fold((0, None), |(count, _), home| (count + 1, Some(home)));
        let reply_to = self.receipt(session, frame, answers, last_home);
        for one in list {
            let write = |message: &mut Message| {
                one.write(&shared.names, Some(content_type), body, message);
            };
            let message = self.blocks.make(write).expect("there is room for a frame");
            match one.to {
                To::User(user, only) => {
                    let command = Command::PublishUser { message, only, reply_to };
                    self.command(shared.homes.of_user(user), command);
                }
                To::Session(_) => {
                    let number = self.core.next_number();
                    self.deliver_at_once(session, &message, number);
                }
                To::Everybody => {
                    let home = shared.homes.of_destination(&one.destination);
                    self.command(home, Command::Publish { message, reply_to });
                }
            }
        }
    }

    fn publish(
        &mut self,
        home: ShardId,
        destination: &str,
        body: &[u8],
        content_type: &[u8],
        reply_to: ReplyTo,
    ) {
        let message = self.blocks.make(|message| {
            message.begin(None, destination);
            message.header(b"destination", destination.as_bytes());
            if !content_type.is_empty() {
                message.header(b"content-type", content_type);
            }
            message.finish(body);
        });
        let message = message.expect("there is room for a frame");
        self.command(home, Command::Publish { message, reply_to });
    }

    /// Tells one session on its error queue what went wrong.
    fn tell_error(&mut self, session: SessionIndex, code: u16, text: &str) {
        let body = serde_json::json!({ "code": code, "msg": text }).to_string();
        let shown = self.shared.names.shown(ERRORS);
        let message = self.blocks.make(|message| {
            message.begin(None, ERRORS);
            message.header(b"destination", &shown);
            message.header(b"content-type", b"application/json");
            message.finish(body.as_bytes());
        });
        let message = message.expect("there is room for a frame");
        let number = self.core.next_number();
        self.deliver_at_once(session, &message, number);
    }
}

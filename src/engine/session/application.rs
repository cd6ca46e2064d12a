#![forbid(unsafe_code)]
//! Application destinations: a SEND gets its answer from the configuration, or from a hook at the
//! control thread.

use super::table::Sessions;
use crate::broker::application::Answer;
use crate::broker::command::Command;
use crate::broker::core::Class;
use crate::broker::message::Message;
use crate::broker::reply::{Publication, To, publications};
use crate::engine::bus::Bus;
use crate::engine::bus::mailbox::ToControl;
use crate::engine::delivery::Delivery;
use crate::engine::net::View;
use crate::ids::{LinkIndex, SessionIndex, ShardId};
use crate::mem::shares::{Kind, Place};
use crate::metrics::Refusal;
use crate::stomp::Frame;
use smallvec::SmallVec;

/// Where the engine tells a sender what went wrong behind an application destination.
const ERRORS: &str = "/queue/errors";
const SHARE_OF_HOOK_CALLS: &str =
    "this address has its share of the hook calls that wait (hooks.queue, limits.share-least)";

/// An `[[application]]`, and what follows its prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Its number.
    pub at: usize,
    /// The destination without the prefix.
    pub rest: &'a str,
}

/// A SEND to an application destination. The caller has seen to room for its entries.
pub(super) fn ask(
    sessions: &mut Sessions,
    delivery: &mut Delivery,
    bus: &mut Bus,
    view: View<'_>,
    session: SessionIndex,
    frame: &Frame<'_, '_>,
    found: Found<'_>,
) {
    let shared = &view.ctx.shared;
    let application = shared.applications.at(found.at);
    match &application.answer {
        Answer::Reply { .. } => reply(sessions, delivery, bus, view, session, frame, found),
        Answer::Forward(template) => {
            let destination = shared.applications.fill(found.at, found.rest, template);
            let home = shared.homes.of_destination(&destination);
            let reply_to = sessions.receipt(delivery, view, session, frame, (1, Some(home)));
            let message = bus.message(|message| {
                message.begin(None, &destination);
                message.header(b"destination", destination.as_bytes());
                if let Some(kind) = frame.header(b"content-type").filter(|kind| !kind.is_empty()) {
                    message.header(b"content-type", kind);
                }
                message.finish(frame.body());
            });
            bus.command(home, Command::Publish { message, reply_to });
        }
        Answer::Hook(None) => {
            let destination = &application.destination;
            let text = format!("set hook in the [[application]] with destination {destination}");
            let problem = (Refusal::HookUnset, 501, text.as_str());
            answer_error(sessions, delivery, bus, view, session, frame, problem);
        }
        Answer::Hook(Some(_)) | Answer::Provider => {
            if let Err((refusal, text)) = ask_hook(sessions, delivery, bus, view, session, frame) {
                view.metrics.hooks_refused_total.add(1);
                let problem = (refusal, 503, text);
                answer_error(sessions, delivery, bus, view, session, frame, problem);
            }
        }
    }
}

/// The control thread asks the hook; or why not.
fn ask_hook(
    sessions: &mut Sessions,
    delivery: &mut Delivery,
    bus: &mut Bus,
    view: View<'_>,
    session: SessionIndex,
    frame: &Frame<'_, '_>,
) -> Result<(), (Refusal, &'static str)> {
    let control = view.control();
    if bus.room(control, Class::Outside) == 0 {
        return Err((Refusal::HookQueueFull, "too many hook calls are waiting"));
    }
    let state = sessions.at(session);
    let place = take_hook_share(view, state.link);
    let place = place.ok_or((Refusal::LimitShareOfHookCalls, SHARE_OF_HOOK_CALLS))?;
    let destination = frame.header(b"destination").unwrap_or(b"");
    let destination = core::str::from_utf8(destination).unwrap_or("");
    let message = bus.message(|message| {
        message.begin(None, destination);
        if let Some(content_type) = frame.header(b"content-type") {
            message.header(b"content-type", content_type);
        }
        message.finish(frame.body());
    });
    let user = state.user.clone();
    // The control thread answers like a home: its receipts keep their order.
    let home = Some(ShardId(control.0));
    let reply_to = sessions.receipt(delivery, view, session, frame, (1, home));
    let session = sessions.id(session);
    bus.send(control, ToControl::Hook { message, user, session, reply_to, place });
    Ok(())
}

/// Counts one hook call more for an address, if it has room in its share.
fn take_hook_share(view: View<'_>, link: LinkIndex) -> Option<Place> {
    let Some(key) = view.net.client(link).share_key(view.ctx) else { return Some(Place::NONE) };
    let hooks = view.shared.config.hooks;
    // Those that run have left the queue.
    let bound = view.shared.bound(hooks.queue.saturating_add(hooks.concurrent));
    view.shared.shares.take_share(key, Kind::HookCalls, None, bound)
}

/// A fixed reply goes where the application says.
fn reply(
    sessions: &mut Sessions,
    delivery: &mut Delivery,
    bus: &mut Bus,
    view: View<'_>,
    session: SessionIndex,
    frame: &Frame<'_, '_>,
    found: Found<'_>,
) {
    let shared = &view.ctx.shared;
    let Answer::Reply { body, json } = &shared.applications.at(found.at).answer else { return };
    let content_type: &[u8] = if *json { b"application/json" } else { b"text/plain;charset=UTF-8" };
    let user = sessions.at(session).user.clone();
    let id = sessions.id(session);
    let list = publications(&shared.applications, found.at, found.rest, id, user.as_deref());
    let list: SmallVec<[Publication<'_>; 2]> = list.collect();
    let homes = list.iter().filter_map(|one| one.home(&shared.homes));
    let answers = homes.fold((0, None), |(count, _), home| (count + 1, Some(home)));
    let reply_to = sessions.receipt(delivery, view, session, frame, answers);
    for one in list {
        let message = bus.message(|message: &mut Message| {
            one.write(&shared.names, Some(content_type), body.as_bytes(), message);
        });
        match one.to {
            To::User(user, only) => {
                let command = Command::PublishUser { message, only, reply_to };
                bus.command(shared.homes.of_user(user), command);
            }
            To::Session(_) => {
                let number = bus.next_number();
                sessions.deliver_at_once(delivery, view, session, &message, number);
            }
            To::Everybody => {
                let home = shared.homes.of_destination(&one.destination);
                bus.command(home, Command::Publish { message, reply_to });
            }
        }
    }
}

/// Tells one session on its error queue what went wrong, and gives the receipt.
fn answer_error(
    sessions: &mut Sessions,
    delivery: &mut Delivery,
    bus: &mut Bus,
    view: View<'_>,
    session: SessionIndex,
    frame: &Frame<'_, '_>,
    (refusal, code, text): (Refusal, u16, &str),
) {
    view.refuse(sessions.at(session).link, refusal);
    let body = serde_json::json!({ "code": code, "msg": text }).to_string();
    let shown = view.shared.names.shown(ERRORS);
    let message = bus.message(|message| {
        message.begin(None, ERRORS);
        message.header(b"destination", &shown);
        message.header(b"content-type", b"application/json");
        message.finish(body.as_bytes());
    });
    let number = bus.next_number();
    sessions.deliver_at_once(delivery, view, session, &message, number);
    sessions.receipt(delivery, view, session, frame, (0, None));
}

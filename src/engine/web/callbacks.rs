#![forbid(unsafe_code)]
//! Callbacks of third parties: their signature, then their push. And the page's provider panel,
//! which makes callbacks of its own.

use super::answer::Reply;
use super::body::Bad;
use super::push::{self, JSON_TYPE, Work};
use super::request::{Outcome, Signed};
use crate::broker::message::Message;
use crate::callback::{self, Denial, HeaderLine, Target};
use crate::config::{self, Offline};
use crate::engine::bus::Bus;
use crate::engine::events::Site;
use crate::engine::net::View;
use crate::http::request::Head;
use crate::metrics::Refusal;
use smallvec::SmallVec;

/// What has to be kept of a callback's head.
pub fn signed(rule: &config::Callback, head: &Head<'_, '_>) -> Signed {
    let is_named = |name: &str| name.eq_ignore_ascii_case(&rule.signature_header);
    let named = head.headers.iter().filter(|line| is_named(line.name));
    let lines = named.map(|line| (Box::from(line.name), Box::from(line.value))).collect();
    Signed { path: Box::from(rule.path.as_str()), lines }
}

/// Takes a whole callback, or has one made by the page (`is_demo`).
pub fn receive(
    reply: Reply<'_>,
    bus: &mut Bus,
    signed: &Signed,
    body: &[u8],
    is_demo: bool,
) -> Outcome {
    let view = reply.view;
    let rules = &view.ctx.shared.config.callbacks;
    let Some(at) = rules.iter().position(|rule| *rule.path == *signed.path) else {
        // A reload has taken it away since its head came.
        let text = "there is nothing at this path";
        reply.refuse(Site::None, &Bad::of(Refusal::HttpNotFound, 404, text));
        return Outcome::Answered;
    };
    let rule = &rules[at];
    let verified = match is_demo {
        true => verify_demo(view, rule, signed, body),
        false => verify(view, rule, signed, body),
    };
    match verified.and_then(|()| push(view, bus, at, body)) {
        Ok(Some(work)) => return Outcome::Park(work),
        Ok(None) => {
            // Nobody is named, and nobody is to get it.
            view.metrics.callbacks_total.add(1);
            view.metrics.callback_answer.observe(0);
            reply.json(200, callback::success(rule));
        }
        Err(bad) => reply.refuse(Site::Callback(at as u16), &bad),
    }
    Outcome::Answered
}

fn verify(
    view: View<'_>,
    rule: &config::Callback,
    signed: &Signed,
    body: &[u8],
) -> Result<(), Bad> {
    let lines = signed.lines.iter().map(|(name, value)| (&**name, &**value));
    let headers: SmallVec<[HeaderLine<'_>; 1]> = lines.collect();
    callback::verify(rule, &headers, body, view.wall_millis).map_err(|denial| {
        view.metrics.callback_denied_total.add(1);
        let text = match denial {
            Denial::Stale => "the signature's timestamp is too far from this server's time",
            _ => "the signature is missing or wrong",
        };
        Bad::of(denial, denial.status(), text)
    })
}

/// The server signs in the page's place, unless the page shows what a bad signature gets. Guarded
/// by the loopback test.
fn verify_demo(
    view: View<'_>,
    rule: &config::Callback,
    signed: &Signed,
    body: &[u8],
) -> Result<(), Bad> {
    let now = view.wall_millis;
    let signature = callback::sign(rule, body, now);
    let signature = signature.ok_or((500, "this callback has no secret".to_owned()))?;
    if !signed.lines.is_empty() {
        return verify(view, rule, signed, body);
    }
    let line: HeaderLine<'_> = (rule.signature_header.as_str(), signature.as_bytes());
    if callback::verify(rule, &[line], body, now).is_err() {
        let text = "the signature made here was refused here";
        return Err(Bad::of(Denial::Wrong, 500, text));
    }
    Ok(())
}

/// The push of a callback that is genuine; None if it is for nobody. `at` is its number.
fn push(view: View<'_>, bus: &mut Bus, at: usize, body: &[u8]) -> Result<Option<Work>, Bad> {
    let rule = &view.ctx.shared.config.callbacks[at];
    let mut payload = Vec::new();
    let mapped = callback::map(rule, view.limits.json_depth, body, &mut payload)
        .map_err(|problem| Bad::of(problem, problem.status(), problem.to_string()))?;
    let (user, destination) = match (mapped.target, mapped.user) {
        (Target::User(destination), Some(user)) => (Some(user), destination),
        (Target::Broker(destination), _) => (None, destination),
        (Target::User(_), None) => match &rule.offline {
            Offline::Topic(topic) => (None, topic.as_str()),
            Offline::Drop => return Ok(None),
        },
    };
    let until = view.wall_millis + u64::from(rule.dedupe_window.0);
    let key = mapped.id.map(|id| (view.shared.fingerprint(&rule.path, &id), until));
    let to = (user.as_deref(), destination);
    let write = |message: &mut Message| push::write(view, message, to, [JSON_TYPE], &payload);
    let Some(message) = bus.try_message(write) else {
        let text = "too many messages are in flight";
        return Err(Bad::of(Refusal::LimitMessageBlocks, 503, text));
    };
    let since = view.now;
    Ok(Some(Work::Callback { rule: at, key, message: Some(message), done: false, since }))
}

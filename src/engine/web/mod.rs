#![forbid(unsafe_code)]
//! HTTP on a connection: request heads and bodies in, answers out, one request at a time.
//!
//! **What it turns into what.** Bytes of connections that have not been upgraded into requests;
//! requests into answers in their links, and into commands, callbacks and questions for homes; a
//! good handshake into an [`Upgrade`].
//!
//! **What it does not know.** Sockets, the ring, sessions. It pauses and ends links and reports
//! what has changed; the loop does the rest.
//!
//! **How to drive it.** [`Web::read`] with what has come, while there is some and it is used. It
//! routes a request once, at its head, and keeps what is asked for, not the head, until the body is
//! whole. A request that needs another shard parks its connection: nothing more of it is parsed
//! until the answer is queued. [`Web::on_pushed`] and [`Web::on_query_answer`] bring what it waits
//! for and wake its link, [`Web::resume`] goes on with it. When a link has ended
//! [`Web::leave`].
//!
//! **Bounds.** `http-head`, `http-headers`, `http-target`, `http-body`, `json-depth` for one
//! request; `head-time`, `body-time` and `answer-time` for its [`Stage`]s, which the loop watches
//! over; one request a connection.

mod access;
mod answer;
mod api;
mod body;
mod callbacks;
mod handshake;
mod page;
mod push;
mod request;
mod route;

pub use answer::RequestMeta;
pub use handshake::Upgrade;
pub use request::Stage;

use super::bus::Bus;
use super::delivery::{Links, Report};
use super::net::View;
use super::session::Sockets;
use crate::http::{self, Body, BodyKind, Bounds, EMPTY_HEADER, HEADERS_MAX, Method};
use crate::ids::{LinkIndex, Slot};
use crate::mem::secret::Random;
use access::Visitor;
use answer::{Answers, Reply};
use push::Progress;
use request::{Outcome, Receiving, Request};

/// A client that was refused because there was no room may try again after five seconds.
const RETRY: (&str, &str) = ("Retry-After", "5");

/// How far a connection's bytes were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// N of them; it goes on with the rest.
    Used(usize),
    /// N of them; the rest waits.
    Stop(usize),
}

/// All requests of a shard.
#[derive(Debug)]
pub struct Web {
    /// By slot. None: between two requests, or not HTTP any more.
    requests: Vec<Option<Box<Request>>>,
    answers: Answers,
    entropy: Random,
}

impl Web {
    /// None yet; the table does not move while there are at most `slots`. `entropy` is for those
    /// who ask for `/info`.
    pub fn new(slots: u32, entropy: Random) -> Web {
        let requests = Vec::with_capacity(slots as usize);
        Web { requests, answers: Answers::default(), entropy }
    }

    // ---- one connection

    /// Its link has ended: nothing is kept of its request.
    pub fn leave(&mut self, slot: Slot) {
        self.take(slot);
    }

    /// Where a connection is with its requests.
    pub fn stage(&self, slot: Slot) -> Stage {
        self.at(slot).map_or(Stage::Idle, Request::stage)
    }

    /// Bytes that are kept for the request at a slot.
    pub fn held(&self, slot: Slot) -> usize {
        self.at(slot).map_or(0, Request::held)
    }

    /// Whether a parked request waits with a message of its own, for room in one queue alone.
    pub fn holds_message(&self, slot: Slot) -> bool {
        matches!(self.at(slot), Some(Request::Parked { work, .. }) if work.holds_message())
    }

    fn at(&self, slot: Slot) -> Option<&Request> {
        self.requests.get(slot.index())?.as_deref()
    }

    fn at_mut(&mut self, slot: Slot) -> Option<&mut Request> {
        self.requests.get_mut(slot.index())?.as_deref_mut()
    }

    fn put(&mut self, slot: Slot, request: Request) {
        while self.requests.len() <= slot.index() {
            self.requests.push(None);
        }
        match &mut self.requests[slot.index()] {
            Some(place) => **place = request,
            place => *place = Some(Box::new(request)),
        }
    }

    fn take(&mut self, slot: Slot) -> Option<Request> {
        self.requests.get_mut(slot.index())?.take().map(|request| *request)
    }

    // ---- reading

    /// The next of a connection's bytes: a head or a part of one, or some of a body. A good
    /// handshake is handed on; nothing has been answered then.
    pub fn read(
        &mut self,
        links: &mut Links,
        bus: &mut Bus,
        view: View<'_>,
        sockets: &Sockets,
        slot: Slot,
        bytes: &mut [u8],
    ) -> (Step, Option<Box<Upgrade>>) {
        match self.stage(slot) {
            Stage::Idle | Stage::Head => self.read_head(links, bus, view, sockets, slot, bytes),
            Stage::Body => self.read_body(links, bus, view, slot, bytes),
            Stage::Parked => (Step::Stop(0), None),
        }
    }

    /// A request head at the start of `bytes`, or a part of one.
    fn read_head(
        &mut self,
        links: &mut Links,
        bus: &mut Bus,
        view: View<'_>,
        sockets: &Sockets,
        slot: Slot,
        bytes: &[u8],
    ) -> (Step, Option<Box<Upgrade>>) {
        let limits = &view.limits;
        let bounds = Bounds {
            head: limits.http_head,
            headers: limits.http_headers,
            target: limits.http_target,
        };
        let mut storage = [EMPTY_HEADER; HEADERS_MAX];
        let head = match http::parse(bytes, &mut storage, &bounds) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.head_has_begun(links, slot);
                return (Step::Stop(0), None);
            }
            Err(refusal) => {
                self.refuse_bytes(links, view, slot, refusal);
                return (Step::Stop(0), None);
            }
        };
        let visitor = Visitor { view, slot };
        let route = route::route(&view.shared, head.target.path, visitor.serves());
        let meta = RequestMeta {
            minor_version: head.minor_version,
            close: !head.keep_alive || view.draining.is_some(),
            head_only: head.method == Method::Head,
            below_endpoint: matches!(route, route::Route::Endpoint(..)),
        };
        if let Err((status, text, header)) = visitor.admit(&head, &route) {
            // A body that is refused is not read: the connection ends.
            let close = meta.close || head.body != BodyKind::None;
            let reply = self.reply(links, view, slot, RequestMeta { close, ..meta });
            reply.error(status, header.as_slice(), text);
            return (Step::Used(head.len), None);
        }
        let mut decoder = Body::new(head.body);
        // Content-Length alone may be too much already.
        if !decoder.is_done()
            && let Err(refusal) = decoder.next(&[], limits.http_body)
        {
            self.refuse_bytes(links, view, slot, refusal);
            return (Step::Stop(0), None);
        }
        let asked = api::ask(&visitor, sockets, &mut self.entropy, meta, &head, route);
        let behind = &bytes[head.len..];
        if let Some(body) = whole_body(head.body, behind) {
            let used = Step::Used(head.len + body.len());
            let outcome = api::execute(self.reply(links, view, slot, meta), bus, asked, body);
            return (used, self.conclude(links, bus, view, slot, meta, outcome));
        }
        self.put(slot, Request::Body(Receiving::new(meta, asked, decoder)));
        let link = LinkIndex::from(slot);
        links.report(link, Report::Phase);
        if head.expect_continue && behind.is_empty() {
            links.send_http(view, link, http::CONTINUE);
        }
        (Step::Used(head.len), None)
    }

    /// From the first byte of a head its time runs.
    fn head_has_begun(&mut self, links: &mut Links, slot: Slot) {
        if self.stage(slot) == Stage::Idle {
            self.put(slot, Request::Head);
            links.report(LinkIndex::from(slot), Report::Phase);
        }
    }

    /// Some of a request's body.
    fn read_body(
        &mut self,
        links: &mut Links,
        bus: &mut Bus,
        view: View<'_>,
        slot: Slot,
        bytes: &[u8],
    ) -> (Step, Option<Box<Upgrade>>) {
        let Some(Request::Body(receiving)) = self.at_mut(slot) else {
            return (Step::Stop(0), None);
        };
        let (used, taken) = receiving.take(bytes, view.limits.http_body);
        match taken {
            Ok(true) => {}
            Ok(false) => return (Step::Stop(used), None),
            Err(refusal) => {
                self.refuse_bytes(links, view, slot, refusal);
                return (Step::Stop(used), None);
            }
        }
        let Some(Request::Body(Receiving { meta, asked, body, .. })) = self.take(slot) else {
            return (Step::Stop(used), None);
        };
        let outcome = api::execute(self.reply(links, view, slot, meta), bus, asked, &body);
        (Step::Used(used), self.conclude(links, bus, view, slot, meta, outcome))
    }

    /// What a whole request has come to: it is answered, parked, or handed on.
    fn conclude(
        &mut self,
        links: &mut Links,
        bus: &mut Bus,
        view: View<'_>,
        slot: Slot,
        meta: RequestMeta,
        outcome: Outcome,
    ) -> Option<Box<Upgrade>> {
        match outcome {
            Outcome::Answered => None,
            Outcome::Upgrade(upgrade) => Some(upgrade),
            Outcome::Park(work) => {
                self.put(slot, Request::Parked { meta, work });
                links.report(LinkIndex::from(slot), Report::Phase);
                self.go_on(links, bus, view, slot);
                None
            }
        }
    }

    // ---- parked requests

    /// A parked request goes on, as far as there is room.
    pub fn resume(&mut self, links: &mut Links, bus: &mut Bus, view: View<'_>, slot: Slot) {
        self.go_on(links, bus, view, slot);
    }

    fn go_on(&mut self, links: &mut Links, bus: &mut Bus, view: View<'_>, slot: Slot) {
        let Some(Request::Parked { meta, work }) = self.at_mut(slot) else { return };
        let meta = *meta;
        match work.go_on(bus, view, slot) {
            Progress::Room => links.pause_for_room(view.ctx, LinkIndex::from(slot)),
            Progress::Answer => links.pause_for_answer(LinkIndex::from(slot)),
            Progress::Done => {
                if let Some(Request::Parked { work, .. }) = self.take(slot) {
                    work.finish(self.reply(links, view, slot, meta));
                }
            }
        }
    }

    /// A push of a parked request is sequenced; `heard` is how many hear it.
    pub fn on_pushed(&mut self, links: &mut Links, slot: Slot, heard: u32) {
        if let Some(Request::Parked { work, .. }) = self.at_mut(slot)
            && work.on_pushed(heard)
        {
            links.wake(LinkIndex::from(slot));
        }
    }

    /// A shard has answered a question of a parked request: items, how many there are, and whether
    /// some of them are left out.
    pub fn on_query_answer(
        &mut self,
        links: &mut Links,
        slot: Slot,
        more: &str,
        number: u32,
        cut: bool,
    ) {
        if let Some(Request::Parked { work, .. }) = self.at_mut(slot)
            && work.on_query_answer(more, number, cut)
        {
            links.wake(LinkIndex::from(slot));
        }
    }

    // ---- refusing

    /// The answer to what a connection has asked, of which nothing is kept any more.
    fn reply<'a>(
        &'a mut self,
        links: &'a mut Links,
        view: View<'a>,
        slot: Slot,
        meta: RequestMeta,
    ) -> Reply<'a> {
        self.take(slot);
        self.answers.to(links, view, slot, meta)
    }

    /// Refuses what cannot be answered as a request any more, and ends the connection.
    pub fn refuse(
        &mut self,
        links: &mut Links,
        view: View<'_>,
        slot: Slot,
        status: u16,
        text: &str,
    ) {
        self.reply(links, view, slot, RequestMeta::LAST).error(status, &[], text);
    }

    /// The same for bytes that are no request, which is counted.
    fn refuse_bytes(
        &mut self,
        links: &mut Links,
        view: View<'_>,
        slot: Slot,
        refusal: http::Refusal,
    ) {
        view.refuse(slot, refusal);
        self.refuse(links, view, slot, refusal.status(), refusal.text());
    }

    /// More connections than the bounds allow.
    pub fn refuse_capacity(&mut self, links: &mut Links, view: View<'_>, slot: Slot) {
        view.metrics.refused_capacity_total.add(1);
        self.reply(links, view, slot, RequestMeta::LAST).error(503, &[RETRY], "the server is full");
    }

    /// The client that a proxy named in a good handshake has too many connections.
    pub fn refuse_upgrade(
        &mut self,
        links: &mut Links,
        view: View<'_>,
        slot: Slot,
        meta: RequestMeta,
    ) {
        let reply = self.reply(links, view, slot, meta).closing();
        reply.error(503, &[RETRY], "this address has too many connections");
    }
}

/// The body behind a head, if all of it is there: a short one mostly comes with its head, and is
/// read where it lies.
fn whole_body(kind: BodyKind, behind: &[u8]) -> Option<&[u8]> {
    match kind {
        BodyKind::None => Some(&[]),
        BodyKind::Length(len) => usize::try_from(len).ok().and_then(|len| behind.get(..len)),
        BodyKind::Chunked => None,
    }
}

#![forbid(unsafe_code)]
//! HTTP on a connection: request heads and bodies in, answers out, one request at a time.
//!
//! A request that needs another shard or the control thread parks its connection: nothing more of
//! it is parsed until the answer is queued. Bound: `answer-time`, past it 504.

use super::conn::{Proto, State};
use super::intake::Step;
use super::push::Work;
use super::route::{self, Route};
use super::shard::Shard;
use crate::http::request::{self, BodyKind, Bounds, HEADERS_MAX, Method};
use crate::http::response::{self, Response};
use crate::http::{Body, EMPTY_HEADER};
use crate::ids::Slot;
use crate::ring::Ring;
use smallvec::SmallVec;

/// What an answer has to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestMeta {
    /// Minor version of the request.
    pub minor_version: u8,
    /// The connection ends after the answer.
    pub close: bool,
    /// The answer has no body.
    pub head_only: bool,
    /// The SockJS protocol fixes the form of errors: no JSON.
    pub below_endpoint: bool,
}

/// Why a request is refused at its head: status, text, and a header that belongs to it.
pub(super) type NotAdmitted = (u16, &'static str, Option<(&'static str, &'static str)>);

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Request {
    pub(super) meta: RequestMeta,
    /// Its head, as it came; parsed again when the body is there.
    head: Vec<u8>,
    body: Vec<u8>,
    decoder: Body,
    /// What is being done about it.
    pub(super) work: Work,
}

impl Request {
    /// Bytes that it keeps.
    pub(super) fn held(&self) -> usize {
        self.head.len() + self.body.len() + self.work.held()
    }
}

impl<R: Ring> Shard<R> {
    /// A request head at the start of `bytes`, or a part of one.
    pub(super) fn http_head(&mut self, slot: Slot, bytes: &mut [u8]) -> Step {
        let limits = &self.limits;
        let bounds = Bounds {
            head: limits.http_head,
            headers: limits.http_headers,
            target: limits.http_target,
        };
        let mut storage = [EMPTY_HEADER; HEADERS_MAX];
        let head = match request::parse(bytes, &mut storage, &bounds) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.head_has_begun(slot);
                return Step::Stop(0);
            }
            Err(refusal) => {
                self.refuse(slot, refusal);
                self.refuse_request(slot, refusal.status(), refusal.text());
                return Step::Stop(0);
            }
        };
        let used = head.len;
        let mut meta = RequestMeta {
            minor_version: head.minor_version,
            close: !head.keep_alive || self.draining.is_some(),
            head_only: head.method == Method::Head,
            below_endpoint: false,
        };
        let now = self.ms();
        self.conns.at_mut(slot).begin_phase(now);
        let route = route::route(&self.shared, head.target.path, self.serves(slot));
        meta.below_endpoint = matches!(route, Route::Endpoint(..));
        if let Err((status, text, header)) = self.admit(slot, &head, &route) {
            // A body that is refused is not read: the connection ends.
            let close = meta.close || head.body != BodyKind::None;
            let headers = header.as_slice();
            self.answer_error(slot, RequestMeta { close, ..meta }, status, headers, text);
            return Step::Used(used);
        }
        let mut decoder = Body::new(head.body);
        if decoder.is_done() {
            self.execute(slot, meta, &head, &[]);
            return Step::Used(used);
        }
        // Content-Length alone may be too much already.
        if let Err(refusal) = decoder.next(&[], self.limits.http_body) {
            self.refuse(slot, refusal);
            self.refuse_request(slot, refusal.status(), refusal.text());
            return Step::Stop(0);
        }
        let expects = head.expect_continue && bytes.len() == used;
        let request = Request {
            meta,
            head: bytes[..used].to_vec(),
            body: Vec::new(),
            decoder,
            work: Work::None,
        };
        self.conns.at_mut(slot).proto = Proto::HttpBody(Box::new(request));
        if expects {
            self.send_private(slot, response::CONTINUE);
        }
        self.set_timer(slot);
        Step::Used(used)
    }

    /// From the first byte of a head its time runs.
    fn head_has_begun(&mut self, slot: Slot) {
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        if matches!(conn.proto, Proto::HttpIdle) {
            conn.proto = Proto::HttpHead;
            conn.begin_phase(now);
            self.set_timer(slot);
        }
    }

    /// Some of a request's body.
    pub(super) fn http_body(&mut self, slot: Slot, bytes: &mut [u8]) -> Step {
        let body_max = self.limits.http_body;
        let Proto::HttpBody(request) = &mut self.conns.at_mut(slot).proto else {
            return Step::Stop(0);
        };
        let mut used = 0;
        let done = loop {
            match request.decoder.next(&bytes[used..], body_max) {
                Ok((n, chunk, done)) => {
                    used += n;
                    request.body.extend_from_slice(chunk.unwrap_or(&[]));
                    if done || n == 0 {
                        break done;
                    }
                }
                Err(refusal) => {
                    self.refuse(slot, refusal);
                    self.refuse_request(slot, refusal.status(), refusal.text());
                    return Step::Stop(used);
                }
            }
        };
        if !done {
            return Step::Stop(used);
        }
        let proto = core::mem::take(&mut self.conns.at_mut(slot).proto);
        let Proto::HttpBody(request) = proto else { return Step::Stop(used) };
        let bounds = Bounds { head: u32::MAX, headers: u32::MAX, target: u32::MAX };
        let mut storage = [EMPTY_HEADER; HEADERS_MAX];
        let head = request::parse(&request.head, &mut storage, &bounds);
        let head = head.ok().flatten().expect("it was parsed before");
        let now = self.ms();
        self.conns.at_mut(slot).begin_phase(now);
        self.execute(slot, request.meta, &head, &request.body);
        Step::Used(used)
    }

    /// Parks the connection with its work.
    pub(super) fn park(&mut self, slot: Slot, meta: RequestMeta, work: Work) {
        let request = Request {
            meta,
            head: Vec::new(),
            body: Vec::new(),
            decoder: Body::new(BodyKind::None),
            work,
        };
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        conn.proto = Proto::HttpParked(Box::new(request));
        conn.begin_phase(now);
        self.set_timer(slot);
        self.continue_parked(slot);
    }

    /// Queues an answer. The connection goes on with the next request, or ends.
    pub(super) fn answer(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        status: u16,
        headers: &[(&str, &str)],
        content_type: Option<&str>,
        body: &[u8],
    ) {
        self.metrics.requests_total.add(1);
        let close = meta.close || self.draining.is_some();
        // RFC 9110 §6.6.1: an origin server with a clock says the date.
        let date = self.date();
        let mut all: SmallVec<[(&str, &str); 8]> = SmallVec::from_slice(headers);
        all.push(("Date", &date));
        let response = Response {
            status,
            headers: &all,
            content_type,
            body,
            close,
            head_only: meta.head_only,
            minor_version: meta.minor_version,
        };
        let mut bytes = core::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.resize(response.len(), 0);
        let len = response.write(&mut bytes);
        drop(all);
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        conn.proto = Proto::HttpIdle;
        conn.last_in = now;
        self.send_private(slot, &bytes[..len]);
        self.scratch = bytes;
        self.date.1 = date;
        if close {
            self.drain_http(slot);
        } else {
            self.note_buffered(slot);
            self.set_timer(slot);
        }
    }

    /// The date in the form of HTTP, made once a second. The caller puts it back.
    fn date(&mut self) -> String {
        let second = self.ring.wall_millis() / 1000;
        let (of, mut text) = (self.date.0, core::mem::take(&mut self.date.1));
        if of != second || text.is_empty() {
            let now = std::time::UNIX_EPOCH + core::time::Duration::from_secs(second);
            text = httpdate::fmt_http_date(now);
            self.date.0 = second;
        }
        text
    }

    /// An answer without a body.
    pub(super) fn answer_plain(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        status: u16,
        headers: &[(&str, &str)],
    ) {
        self.answer(slot, meta, status, headers, None, &[]);
    }

    /// A JSON answer.
    pub(super) fn answer_json(&mut self, slot: Slot, meta: RequestMeta, status: u16, body: &[u8]) {
        self.answer(slot, meta, status, &[], Some(response::JSON), body);
    }

    /// An error: JSON with a short text, but below an endpoint, where SockJS fixes the form, a 404
    /// is plain and a 405 empty.
    pub(super) fn answer_error(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        status: u16,
        headers: &[(&str, &str)],
        text: &str,
    ) {
        if meta.below_endpoint && matches!(status, 404 | 405) {
            return self.answer_plain(slot, meta, status, headers);
        }
        let mut body = [0; response::JSON_ERROR_MAX];
        let body = response::json_error(status, text, &mut body);
        self.answer(slot, meta, status, headers, Some(response::JSON), body);
    }

    /// Refuses what cannot be answered as a request any more, and ends the connection.
    pub(super) fn refuse_request(&mut self, slot: Slot, status: u16, text: &str) {
        let meta =
            RequestMeta { minor_version: 1, close: true, head_only: false, below_endpoint: false };
        self.answer_error(slot, meta, status, &[], text);
    }

    /// More connections than the bounds allow.
    pub(super) fn refuse_capacity(&mut self, slot: Slot) {
        self.metrics.refused_capacity_total.add(1);
        let meta =
            RequestMeta { minor_version: 1, close: true, head_only: false, below_endpoint: false };
        self.answer_error(slot, meta, 503, &[("Retry-After", "5")], "the server is full");
    }

    /// The parked request of a connection, if it is still there.
    pub(super) fn parked(&mut self, slot: Slot) -> Option<&mut Request> {
        let conn = self.conns.at_mut(slot);
        if conn.state != State::Open {
            return None;
        }
        match &mut conn.proto {
            Proto::HttpParked(request) => Some(request),
            _ => None,
        }
    }
}

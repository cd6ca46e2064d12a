#![forbid(unsafe_code)]
//! HTTP answers: from status, headers and body to bytes in the link of a connection.

use super::body::Bad;
use crate::engine::delivery::{Links, Report};
use crate::engine::events::Site;
use crate::engine::net::View;
use crate::http::response::{self, Response};
use crate::ids::{LinkIndex, Slot};
use core::time::Duration;
use smallvec::SmallVec;
use std::time::UNIX_EPOCH;

/// What an answer has to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct RequestMeta {
    /// Minor version of the request.
    pub minor_version: u8,
    /// The connection ends after the answer.
    pub close: bool,
    /// The answer has no body.
    pub head_only: bool,
    /// The SockJS protocol fixes the form of errors: no JSON.
    pub below_endpoint: bool,
}

impl RequestMeta {
    /// Of what cannot be answered as a request any more: the connection ends.
    pub const LAST: RequestMeta =
        RequestMeta { minor_version: 1, close: true, head_only: false, below_endpoint: false };
}

/// Writes answers. Its buffers live on.
#[derive(Debug, Default)]
pub struct Answers {
    scratch: Vec<u8>,
    date: Date,
}

impl Answers {
    /// The answer that a request at a slot is to be given.
    pub fn to<'a>(
        &'a mut self,
        links: &'a mut Links,
        view: View<'a>,
        slot: Slot,
        meta: RequestMeta,
    ) -> Reply<'a> {
        Reply { answers: self, links, view, slot, meta }
    }
}

/// The date in the form of HTTP, made once a second.
#[derive(Debug, Default)]
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn at(&mut self, wall_millis: u64) -> &str {
        let second = wall_millis / 1000;
        if self.second != second || self.text.is_empty() {
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            self.second = second;
        }
        &self.text
    }
}

/// The answer to one request, not given yet. The connection goes on with the next request after
/// it, or ends.
pub struct Reply<'a> {
    answers: &'a mut Answers,
    links: &'a mut Links,
    /// What is read while it is worked out.
    pub view: View<'a>,
    /// Whose it is.
    pub slot: Slot,
    meta: RequestMeta,
}

impl Reply<'_> {
    /// The connection ends after it.
    pub fn closing(mut self) -> Self {
        self.meta.close = true;
        self
    }

    /// Queues an answer.
    pub fn send(
        self,
        status: u16,
        headers: &[(&str, &str)],
        content_type: Option<&str>,
        body: &[u8],
    ) {
        let Reply { answers, links, view, slot, meta } = self;
        let Answers { scratch, date } = answers;
        view.metrics.requests_total.add(1);
        let close = meta.close || view.draining.is_some();
        // RFC 9110 §6.6.1: an origin server with a clock says the date.
        let mut all: SmallVec<[(&str, &str); 8]> = SmallVec::from_slice(headers);
        all.push(("Date", date.at(view.wall_millis)));
        let response = Response {
            status,
            headers: &all,
            content_type,
            body,
            close,
            head_only: meta.head_only,
            minor_version: meta.minor_version,
        };
        scratch.clear();
        response.parts(|part| scratch.extend_from_slice(part));
        let link = LinkIndex::from(slot);
        links.send_http(view, link, scratch);
        if close {
            links.drain_http(link);
        } else if links.is_open(link) {
            links.report(link, Report::Answered);
        }
    }

    /// An answer without a body.
    pub fn plain(self, status: u16, headers: &[(&str, &str)]) {
        self.send(status, headers, None, &[]);
    }

    /// A JSON answer.
    pub fn json(self, status: u16, body: &[u8]) {
        self.send(status, &[], Some(response::JSON), body);
    }

    /// An error: JSON with a short text, but below an endpoint, where SockJS fixes the form, a 404
    /// is plain and a 405 empty.
    pub fn error(self, status: u16, headers: &[(&str, &str)], text: &str) {
        if self.meta.below_endpoint && matches!(status, 404 | 405) {
            return self.plain(status, headers);
        }
        let mut body = [0; response::JSON_ERROR_MAX];
        let body = response::json_error(status, text, &mut body);
        self.send(status, headers, Some(response::JSON), body);
    }

    /// An error that is counted, and told to the log as of this place.
    pub fn refuse(self, site: Site, bad: &Bad) {
        self.view.refuse_at(self.slot, site, bad.refusal, None);
        self.error(bad.status, &[], &bad.text);
    }
}

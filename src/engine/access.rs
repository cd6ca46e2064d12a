#![forbid(unsafe_code)]
//! Who may ask for what: the API's token, the loopback test of a demonstration, origins; and how
//! whoever is refused, and the operator, hear which key says so.

use super::events::Site;
use super::route::{Guard, Route};
use super::shard::Shard;
use super::web::{NotAdmitted, RequestMeta};
use crate::http::origin::{self, Page, SameOrigin};
use crate::http::request::Head;
use crate::http::response;
use crate::ids::{EndpointIndex, Slot};
use crate::metrics::Refusal;
use crate::ring::Ring;

/// Bytes of an Origin that an answer and the log show.
const ORIGIN_SHOWN: usize = 100;

impl<R: Ring> Shard<R> {
    /// Whether a request may go on to its body: path, method and access.
    pub(super) fn admit(
        &mut self,
        slot: Slot,
        head: &Head<'_, '_>,
        route: &Route<'_>,
    ) -> Result<(), NotAdmitted> {
        if matches!(route, Route::Nothing) {
            self.refuse(slot, Refusal::HttpNotFound);
            return Err((404, "there is nothing at this path", None));
        }
        if let Some(allow) = route.refuses(head.method) {
            self.refuse(slot, Refusal::HttpMethodNotAllowed);
            return Err((405, "this path does not take this method", Some(("Allow", allow))));
        }
        match route.guard() {
            Guard::Nobody => Ok(()),
            // Who can reach the API's own listener is the operator's matter.
            Guard::Metrics if !self.serves(slot).endpoints => Ok(()),
            Guard::Api | Guard::Metrics => self.admit_to_api(slot, head),
            Guard::Demo if self.is_of_demo(slot, head, None) => Ok(()),
            Guard::Demo => {
                self.refuse(slot, Refusal::ApiDemoOnly);
                Err((403, "the demonstration answers this machine only", None))
            }
        }
    }

    fn admit_to_api(&mut self, slot: Slot, head: &Head<'_, '_>) -> Result<(), NotAdmitted> {
        let Some(token) = &self.shared.config.api.token else {
            if self.is_of_demo(slot, head, None) {
                return Ok(());
            }
            self.refuse(slot, Refusal::ApiTokenUnset);
            let text = match self.shared.config.demo.enabled {
                true => {
                    "without api.token-env the API of a demonstration answers this machine only"
                }
                false => {
                    "the API asks for a token: set api.token-env (or, to try it, demo.enabled)"
                }
            };
            return Err((403, text, None));
        };
        let given = head.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        if given.is_some_and(|given| token.matches(given)) {
            return Ok(());
        }
        self.refuse(slot, Refusal::ApiToken);
        Err((401, "the API token is missing or wrong", Some(("WWW-Authenticate", "Bearer"))))
    }

    /// Whether there is a demonstration and the request stands its loopback test. An Origin that
    /// an endpoint allows is not foreign to it.
    pub(super) fn is_of_demo(&self, slot: Slot, head: &Head<'_, '_>, at: Option<usize>) -> bool {
        if !self.shared.config.demo.enabled {
            return false;
        }
        let origin = origin::origin_of(head);
        let same = self.same_origin(slot, head);
        let page = match at {
            _ if origin.is_none() => Page::Own,
            Some(at) if origin::allowed(origin, &self.shared.endpoints[at].origins, same) => {
                Page::Allowed
            }
            None if !origin::is_foreign(origin, same) => Page::Own,
            _ => Page::Foreign,
        };
        origin::loopback_test(self.conns.at(slot).address, head, page)
    }

    /// What is the same origin for this request.
    pub(super) fn same_origin<'a>(&'a self, slot: Slot, head: &Head<'a, '_>) -> SameOrigin<'a> {
        let listen = &self.shared.config.listen;
        let trusted = listen.trusts(self.conns.at(slot).address);
        let forwarded = |name| {
            let value = head.header(name).filter(|_| trusted)?;
            core::str::from_utf8(value).ok()
        };
        let external = listen.external_url.as_deref().unwrap_or("");
        let proven =
            trusted || !self.serves(slot).loopback || origin::is_own_name(head.host, external);
        let host = forwarded("x-forwarded-host").unwrap_or(head.host);
        SameOrigin {
            scheme: forwarded("x-forwarded-proto").unwrap_or("http"),
            host: if proven { host } else { "" },
            external,
        }
    }

    /// Whether an endpoint's rules let a request of this Origin go on.
    pub(super) fn is_allowed(&self, slot: Slot, head: &Head<'_, '_>, at: usize) -> bool {
        let same = self.same_origin(slot, head);
        origin::allowed(origin::origin_of(head), &self.shared.endpoints[at].origins, same)
    }

    /// 403 for an Origin that an endpoint does not allow. The page's developer may read it: it
    /// holds nothing but what the request said and the key to set, and the log has the same.
    pub(super) fn refuse_origin(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        at: usize,
    ) {
        let origin = origin::origin_of(head).unwrap_or("");
        let shown = &origin[..origin.len().min(ORIGIN_SHOWN)];
        let text = if origin::names_host(origin, head.host) {
            format!(
                "the origin {shown} is not known as this server's own: if it is how the outside \
                 sees it, set listen.external-url to it, or name the proxy in \
                 listen.trusted-proxies"
            )
        } else {
            let path = &self.shared.endpoints[at].config.path;
            format!(
                "the origin {shown} may not connect: if it may, list it in allowed-origins of the \
                 [[endpoint]] {path}"
            )
        };
        let site = Site::Endpoint(EndpointIndex(at as u16));
        self.refuse_at(slot, site, Refusal::HttpOrigin, Some(&text));
        let body = serde_json::json!({ "code": 403, "msg": text }).to_string();
        let mut headers = vec![("Vary", "Origin")];
        if !origin.is_empty() && response::is_field_value(origin) {
            headers.push(("Access-Control-Allow-Origin", origin));
            headers.push(("Access-Control-Allow-Credentials", "true"));
        }
        self.answer(slot, meta, 403, &headers, Some(response::JSON), body.as_bytes());
    }
}

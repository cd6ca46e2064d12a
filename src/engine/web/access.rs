#![forbid(unsafe_code)]
//! Who may ask for what: the API's token, the loopback test of a demonstration, origins; and how
//! the client that is refused, and the operator, hear which key says so.

use super::route::{Guard, Route};
use crate::engine::context::Serves;
use crate::engine::net::View;
use crate::http::origin::{self, Page, SameOrigin};
use crate::http::request::Head;
use crate::ids::Slot;
use crate::metrics::Refusal;
use core::net::IpAddr;

/// Bytes of an Origin that an answer and the log show.
const ORIGIN_SHOWN: usize = 100;

/// Why a request is refused at its head: status, text, and a header that belongs to it.
pub type NotAdmitted = (u16, &'static str, Option<(&'static str, &'static str)>);

/// The client at a slot, as one that asks. It only reads.
#[derive(Clone, Copy)]
pub struct Visitor<'a> {
    /// What it reads.
    pub view: View<'a>,
    /// Which client it is.
    pub slot: Slot,
}

impl Visitor<'_> {
    /// What the listener serves that it came by.
    pub fn serves(&self) -> Serves {
        let listener = self.view.net.listener(self.slot);
        self.view.listeners[usize::from(listener.0)]
    }

    /// Its address, or that of its proxy.
    pub fn address(&self) -> IpAddr {
        self.view.net.address(self.slot)
    }

    /// Whether a request may go on to its body: path, method and access.
    pub fn admit(&self, head: &Head<'_, '_>, route: &Route<'_>) -> Result<(), NotAdmitted> {
        if matches!(route, Route::Nothing) {
            self.view.refuse(self.slot, Refusal::HttpNotFound);
            return Err((404, "there is nothing at this path", None));
        }
        if let Some(allow) = route.refuses(head.method) {
            self.view.refuse(self.slot, Refusal::HttpMethodNotAllowed);
            return Err((405, "this path does not take this method", Some(("Allow", allow))));
        }
        match route.guard() {
            Guard::Nobody => Ok(()),
            // Who can reach the API's own listener is the operator's matter.
            Guard::Metrics if !self.serves().endpoints => Ok(()),
            Guard::Api | Guard::Metrics => self.admit_to_api(head),
            Guard::Demo if self.is_of_demo(head, None) => Ok(()),
            Guard::Demo => {
                self.view.refuse(self.slot, Refusal::ApiDemoOnly);
                Err((403, "the demonstration answers this machine only", None))
            }
        }
    }

    fn admit_to_api(&self, head: &Head<'_, '_>) -> Result<(), NotAdmitted> {
        let config = &self.view.shared.config;
        let Some(token) = &config.api.token else {
            if self.is_of_demo(head, None) {
                return Ok(());
            }
            self.view.refuse(self.slot, Refusal::ApiTokenUnset);
            let text = match config.demo.enabled {
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
        self.view.refuse(self.slot, Refusal::ApiToken);
        Err((401, "the API token is missing or wrong", Some(("WWW-Authenticate", "Bearer"))))
    }

    /// Whether there is a demonstration and the request stands its loopback test. An Origin that
    /// an endpoint allows is not foreign to it.
    pub fn is_of_demo(&self, head: &Head<'_, '_>, at: Option<usize>) -> bool {
        let shared = &self.view.shared;
        if !shared.config.demo.enabled {
            return false;
        }
        let origin = origin::origin_of(head);
        let same = self.same_origin(head);
        let page = match at {
            _ if origin.is_none() => Page::Own,
            Some(at) if origin::allowed(origin, &shared.endpoints[at].origins, same) => {
                Page::Allowed
            }
            None if !origin::is_foreign(origin, same) => Page::Own,
            _ => Page::Foreign,
        };
        origin::loopback_test(self.address(), head, page)
    }

    /// What is the same origin for this request.
    pub fn same_origin<'a>(&'a self, head: &Head<'a, '_>) -> SameOrigin<'a> {
        let listen = &self.view.ctx.shared.config.listen;
        let trusted = listen.trusts(self.address());
        let forwarded = |name| {
            let value = head.header(name).filter(|_| trusted)?;
            core::str::from_utf8(value).ok()
        };
        let external = listen.external_url.as_deref().unwrap_or("");
        let proven = trusted || !self.serves().loopback || origin::is_own_name(head.host, external);
        let host = forwarded("x-forwarded-host").unwrap_or(head.host);
        SameOrigin {
            scheme: forwarded("x-forwarded-proto").unwrap_or("http"),
            host: if proven { host } else { "" },
            external,
        }
    }

    /// Whether an endpoint's rules let a request of this Origin go on.
    pub fn is_allowed(&self, head: &Head<'_, '_>, at: usize) -> bool {
        let same = self.same_origin(head);
        origin::allowed(origin::origin_of(head), &self.view.shared.endpoints[at].origins, same)
    }

    /// What is said of an Origin that an endpoint does not allow: which key to set.
    pub fn origin_problem(&self, head: &Head<'_, '_>, at: usize) -> String {
        let origin = origin::origin_of(head).unwrap_or("");
        let shown = &origin[..origin.len().min(ORIGIN_SHOWN)];
        if origin::names_host(origin, head.host) {
            format!(
                "the origin {shown} is not known as this server's own: if it is how the outside \
                 sees it, set listen.external-url to it, or name the proxy in \
                 listen.trusted-proxies"
            )
        } else {
            let path = &self.view.shared.endpoints[at].config.path;
            format!(
                "the origin {shown} may not connect: if it may, list it in allowed-origins of the \
                 [[endpoint]] {path}"
            )
        }
    }
}

#![forbid(unsafe_code)]
//! What stands below an endpoint: the WebSocket upgrade, and SockJS's greeting and `/info`.

use super::access::Visitor;
use super::answer::{Reply, RequestMeta};
use crate::config::Protocol;
use crate::encoding::Encoding;
use crate::engine::events::Site;
use crate::engine::session::Sockets;
use crate::http::origin;
use crate::http::request::{Head, Method};
use crate::http::response;
use crate::http::upgrade::{self, Offer};
use crate::identity::{self, Handshake, HeaderLine, Identity};
use crate::ids::{EndpointIndex, address_block};
use crate::mem::secret::Random;
use crate::metrics::Refusal;
use crate::sockjs::{self, Route};
use crate::ws::{self, Policy};
use core::net::IpAddr;
use smallvec::SmallVec;
use std::sync::Arc;

/// Never kept, never changed in flight (SockJS protocol).
const NO_CACHE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
/// A year, in seconds.
const YEAR: &str = "31536000";

/// A good handshake: what the connection becomes once its address is settled. Nothing has been
/// answered yet.
#[derive(Debug)]
pub struct Upgrade {
    /// The endpoint.
    pub endpoint: EndpointIndex,
    /// It is one for STOMP; else a raw one.
    pub is_stomp: bool,
    /// How messages travel.
    pub encoding: Encoding,
    /// Who it is, if that is known already.
    pub user: Option<Arc<str>>,
    /// The client that a trusted proxy names.
    pub client: Option<IpAddr>,
    /// The client's messages may refer to those before them, by 2^bits bytes.
    pub takeover_bits: Option<u8>,
    /// Of its request.
    pub meta: RequestMeta,
    /// The 101.
    pub answer: SmallVec<[u8; 256]>,
}

/// What a request below an endpoint comes to, as its head says.
#[derive(Debug)]
pub enum AtEndpoint {
    /// SockJS's greeting.
    Greeting,
    /// There is nothing.
    NotFound,
    /// Other methods are allowed: those.
    NotAllowed(&'static str),
    /// `GET` of SockJS's `/info`.
    Info {
        /// The Origin, if an answer can repeat it.
        origin: Option<String>,
        /// What it says.
        info: sockjs::Info<'static>,
    },
    /// `OPTIONS` of the same.
    Preflight {
        /// The Origin, if an answer can repeat it.
        origin: Option<String>,
        /// The headers that the page wants to send.
        headers: Option<String>,
    },
    /// A page of an Origin that the endpoint does not allow.
    Foreign {
        /// The Origin, if there is one and an answer can repeat it.
        origin: Option<String>,
        /// Which key to set.
        text: String,
    },
    /// No good handshake.
    Refused(Refused),
    /// A good one.
    Upgrade(Box<Upgrade>),
}

/// Why there is no handshake.
#[derive(Debug)]
pub struct Refused {
    refusal: Refusal,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    text: &'static str,
    /// The connection ends.
    closes: bool,
    /// The client that a trusted proxy names, once it has been asked for.
    client: Option<IpAddr>,
}

impl Refused {
    fn new(refusal: impl Into<Refusal>, status: u16, text: &'static str) -> Refused {
        let refusal = refusal.into();
        Refused { refusal, status, headers: &[], text, closes: false, client: None }
    }
}

impl AtEndpoint {
    /// Bytes that it keeps.
    pub fn held(&self) -> usize {
        let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            AtEndpoint::Info { origin, .. } => len(origin),
            AtEndpoint::Preflight { origin, headers } => len(origin) + len(headers),
            AtEndpoint::Foreign { origin, text } => len(origin) + text.len(),
            AtEndpoint::Greeting
            | AtEndpoint::NotFound
            | AtEndpoint::NotAllowed(_)
            | AtEndpoint::Refused(_)
            | AtEndpoint::Upgrade(_) => 0,
        }
    }

    /// Answers at once, unless it is an upgrade, which is handed on.
    pub fn answer(self, reply: Reply<'_>, at: EndpointIndex) -> Option<Box<Upgrade>> {
        let (view, slot, site) = (reply.view, reply.slot, Site::Endpoint(at));
        match self {
            AtEndpoint::Upgrade(upgrade) => return Some(upgrade),
            AtEndpoint::Greeting => {
                let text = Some("text/plain; charset=UTF-8");
                reply.send(200, &[], text, sockjs::GREETING.as_bytes());
            }
            AtEndpoint::NotFound => {
                view.refuse_at(slot, site, Refusal::HttpNotFound, None);
                reply.plain(404, &[]);
            }
            AtEndpoint::NotAllowed(allow) => {
                view.refuse_at(slot, site, Refusal::HttpMethodNotAllowed, None);
                reply.plain(405, &[("Allow", allow)]);
            }
            AtEndpoint::Info { origin, info } => answer_info(reply, origin.as_deref(), &info),
            AtEndpoint::Preflight { origin, headers } => {
                answer_preflight(reply, origin.as_deref(), headers.as_deref());
            }
            AtEndpoint::Foreign { origin, text } => {
                view.refuse_at(slot, site, Refusal::HttpOrigin, Some(&text));
                answer_foreign(reply, origin.as_deref(), &text);
            }
            AtEndpoint::Refused(refused) => {
                let Refused { refusal, status, headers, text, closes, client } = refused;
                let address = client.unwrap_or_else(|| view.net.address(slot));
                view.refuse_from(Some(address_block(address)), site, refusal, None);
                let reply = if closes { reply.closing() } else { reply };
                reply.error(status, headers, text);
            }
        }
        None
    }
}

/// What a page of another origin may read, whatever the answer.
fn origin_headers(origin: Option<&str>) -> Vec<(&'static str, &str)> {
    let mut headers = vec![("Vary", "Origin")];
    match origin {
        Some(origin) => {
            headers.push(("Access-Control-Allow-Origin", origin));
            headers.push(("Access-Control-Allow-Credentials", "true"));
        }
        None => headers.push(("Access-Control-Allow-Origin", "*")),
    }
    headers
}

fn answer_info(reply: Reply<'_>, origin: Option<&str>, info: &sockjs::Info<'_>) {
    let mut headers = origin_headers(origin);
    headers.push(("Cache-Control", NO_CACHE));
    let mut body = vec![0; info.len()];
    info.write(&mut body);
    reply.send(200, &headers, Some("application/json; charset=UTF-8"), &body);
}

fn answer_preflight(reply: Reply<'_>, origin: Option<&str>, asked_for: Option<&str>) {
    let mut headers = origin_headers(origin);
    if let Some(value) = asked_for {
        headers.push(("Access-Control-Allow-Headers", value));
    }
    headers.push(("Cache-Control", "public, max-age=31536000"));
    headers.push(("Access-Control-Max-Age", YEAR));
    headers.push(("Access-Control-Allow-Methods", "OPTIONS, GET"));
    reply.plain(204, &headers);
}

/// 403 for an Origin that an endpoint does not allow. The page's developer may read it: it holds
/// nothing but what the request said and the key to set, and the log has the same.
fn answer_foreign(reply: Reply<'_>, origin: Option<&str>, text: &str) {
    let body = serde_json::json!({ "code": 403, "msg": text }).to_string();
    let mut headers = vec![("Vary", "Origin")];
    if let Some(origin) = origin {
        headers.push(("Access-Control-Allow-Origin", origin));
        headers.push(("Access-Control-Allow-Credentials", "true"));
    }
    reply.send(403, &headers, Some(response::JSON), body.as_bytes());
}

/// What a request at or below an endpoint's path asks for; `rest` is what follows the path.
pub fn ask(
    visitor: &Visitor<'_>,
    sockets: &Sockets,
    entropy: &mut Random,
    meta: RequestMeta,
    head: &Head<'_, '_>,
    (at, rest): (usize, &str),
) -> AtEndpoint {
    let upgraded = |encoding: Encoding| {
        let done = shake_hands(visitor, sockets, meta, head, (at, encoding));
        done.map_or_else(|problem| problem, |upgrade| AtEndpoint::Upgrade(Box::new(upgrade)))
    };
    let Some(sockjs) = &visitor.view.shared.endpoints[at].config.sockjs else {
        return if rest.is_empty() { upgraded(Encoding::PLAIN) } else { AtEndpoint::NotFound };
    };
    match sockjs::route(rest) {
        Route::Greeting if upgrade::is_upgrade(head) => upgraded(Encoding::PLAIN),
        Route::Greeting if head.method == Method::Get => AtEndpoint::Greeting,
        Route::Greeting => AtEndpoint::NotAllowed("GET"),
        Route::Info if !visitor.is_allowed(head, at) => foreign(visitor, head, at),
        Route::Info => {
            let origin = origin_shown(head);
            match head.method {
                Method::Get => {
                    let info = sockjs::Info {
                        websocket: sockjs.websocket,
                        cookie_needed: sockjs.cookie,
                        entropy: entropy.number() as u32,
                        base_url: None,
                    };
                    AtEndpoint::Info { origin, info }
                }
                Method::Options => {
                    let asked_for = head.header("access-control-request-headers");
                    let asked_for = asked_for.and_then(|value| core::str::from_utf8(value).ok());
                    let headers = asked_for.filter(|value| !value.is_empty()).map(str::to_owned);
                    AtEndpoint::Preflight { origin, headers }
                }
                _ => AtEndpoint::NotAllowed("OPTIONS, GET"),
            }
        }
        Route::RawWebsocket if sockjs.websocket => upgraded(Encoding::PLAIN),
        Route::Websocket { .. } if sockjs.websocket => {
            upgraded(Encoding::SockJsWebSocket { deflate: 0 })
        }
        // Transports over HTTP are not built yet.
        _ => AtEndpoint::NotFound,
    }
}

/// The Origin of a request, if an answer can repeat it.
fn origin_shown(head: &Head<'_, '_>) -> Option<String> {
    let origin = origin::origin_of(head)?;
    response::is_field_value(origin).then(|| origin.to_owned())
}

fn foreign(visitor: &Visitor<'_>, head: &Head<'_, '_>, at: usize) -> AtEndpoint {
    let origin = origin_shown(head).filter(|origin| !origin.is_empty());
    AtEndpoint::Foreign { origin, text: visitor.origin_problem(head, at) }
}

/// The WebSocket handshake: form, origin, user, then 101. Whether messages are compressed is
/// agreed here.
fn shake_hands(
    visitor: &Visitor<'_>,
    sockets: &Sockets,
    meta: RequestMeta,
    head: &Head<'_, '_>,
    (at, encoding): (usize, Encoding),
) -> Result<Upgrade, AtEndpoint> {
    let Visitor { view, slot } = *visitor;
    let checked = upgrade::check(head).map_err(|refusal| {
        // It asked for an upgrade: nothing sensible follows on this connection.
        let refused = Refused::new(refusal, refusal.status(), refusal.text());
        AtEndpoint::Refused(Refused { headers: refusal.headers(), closes: true, ..refused })
    })?;
    if !visitor.is_allowed(head, at) {
        return Err(foreign(visitor, head, at));
    }
    let is_stomp = view.shared.endpoints[at].config.protocol == Protocol::Stomp;
    let user = match identify(visitor, head, at, is_stomp) {
        Identity::User(name) => Some(Arc::from(name)),
        Identity::Anonymous | Identity::Deferred => None,
        Identity::Refused(refusal) => {
            let refused = Refused::new(refusal, refusal.status(), refusal.word());
            return Err(AtEndpoint::Refused(refused));
        }
    };
    let client = view.net.client_of(view.ctx, slot, head);
    let offer = if is_stomp { upgrade::stomp_subprotocol(head) } else { Offer::Absent };
    let lines = head.header_values("sec-websocket-extensions");
    let Ok(agreement) = ws::negotiate(lines, deflate_policy(visitor, sockets, at)) else {
        let text = "bad Sec-WebSocket-Extensions";
        let refused = Refused::new(Refusal::HttpUpgradeExtensions, 400, text);
        return Err(AtEndpoint::Refused(Refused { closes: true, client, ..refused }));
    };
    let mut extensions = [0; ws::ANSWER_MAX];
    let extensions = agreement.as_ref().map(|agreement| agreement.write(&mut extensions));
    let mut answer = [0; upgrade::UPGRADE_MAX];
    let len = upgrade::write_101(&checked.accept, offer.name(), extensions, &mut answer);
    let takeover = agreement.filter(|agreement| agreement.client_takeover);
    let deflate = agreement.map_or(0, |agreement| agreement.server_window_bits);
    Ok(Upgrade {
        endpoint: EndpointIndex(at as u16),
        is_stomp,
        encoding: encoding.with_deflate(deflate),
        user,
        client,
        takeover_bits: takeover.map(|agreement| agreement.client_window_bits),
        meta,
        answer: SmallVec::from_slice(&answer[..len]),
    })
}

/// What the endpoint lets a client have now. Only the client's messages may refer to those before
/// them: ours are compressed once for all who hear them (RFC 7692 §7.1.1.1 leaves it to each
/// sender).
fn deflate_policy(visitor: &Visitor<'_>, sockets: &Sockets, at: usize) -> Policy {
    let view = visitor.view;
    let deflate = view.shared.endpoints[at].config.deflate;
    let window_bits = deflate.map_or(ws::WINDOW_BITS_MAX, |deflate| deflate.window_bits);
    let wanted = deflate.is_some_and(|deflate| deflate.context_takeover);
    Policy {
        enabled: deflate.is_some(),
        server_takeover: false,
        client_takeover: wanted && sockets.has_history_room(view.ctx, window_bits),
        window_bits,
    }
}

fn identify(visitor: &Visitor<'_>, head: &Head<'_, '_>, at: usize, stomp: bool) -> Identity {
    let headers: Vec<HeaderLine<'_>> = head.headers.iter().map(|h| (h.name, h.value)).collect();
    let config = &visitor.view.shared.config;
    let handshake = Handshake {
        headers: &headers,
        query: head.target.query.as_bytes(),
        trusted_proxy: config.listen.trusts(visitor.address()),
        loopback: visitor.is_of_demo(head, Some(at)),
        stomp,
        now: visitor.view.wall_millis / 1000,
    };
    identity::user_of_handshake(&config.auth, &handshake)
}

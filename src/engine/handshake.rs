#![forbid(unsafe_code)]
//! What stands below an endpoint: the WebSocket upgrade, and SockJS's greeting and `/info`.

use super::conn::{Proto, Raw, State, Stomp};
use super::events::Site;
use super::session::Session;
use super::shard::Shard;
use super::web::RequestMeta;
use crate::config::{self, Protocol};
use crate::encoding::Encoding;
use crate::http::origin;
use crate::http::request::{Head, Method};
use crate::http::upgrade::{self, Offer};
use crate::identity::{self, Handshake, HeaderLine, Identity};
use crate::ids::{EndpointIndex, Slot};
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::sockjs::{self, Route};
use crate::ws::{self, Policy};
use std::sync::Arc;

/// Never kept, never changed in flight (SockJS protocol).
const NO_CACHE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
const TOO_MANY_OF_ADDRESS: &str = "this address has too many connections";
/// A year, in seconds.
const YEAR: &str = "31536000";

/// An endpoint's place in the log.
fn endpoint(at: usize) -> Site {
    Site::Endpoint(EndpointIndex(at as u16))
}

impl<R: Ring> Shard<R> {
    /// A request at or below an endpoint's path; `rest` is what follows it.
    pub(super) fn at_endpoint(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        at: usize,
        rest: &str,
    ) {
        let shared = self.shared.clone();
        let endpoint = &shared.endpoints[at].config;
        let Some(sockjs) = &endpoint.sockjs else {
            return match rest {
                "" => self.upgrade(slot, meta, head, at, Encoding::PLAIN),
                _ => self.answer_not_found(slot, meta, at),
            };
        };
        match sockjs::route(rest) {
            Route::Greeting if upgrade::is_upgrade(head) => {
                self.upgrade(slot, meta, head, at, Encoding::PLAIN);
            }
            Route::Greeting if head.method == Method::Get => {
                let text = Some("text/plain; charset=UTF-8");
                self.answer(slot, meta, 200, &[], text, sockjs::GREETING.as_bytes());
            }
            Route::Greeting => self.answer_not_allowed(slot, meta, at, "GET"),
            Route::Info => self.info(slot, meta, head, at, sockjs),
            Route::RawWebsocket if sockjs.websocket => {
                self.upgrade(slot, meta, head, at, Encoding::PLAIN);
            }
            Route::Websocket { .. } if sockjs.websocket => {
                self.upgrade(slot, meta, head, at, Encoding::SockJsWebSocket { deflate: 0 });
            }
            // The other transports are built with the issue on SockJS.
            _ => self.answer_not_found(slot, meta, at),
        }
    }

    fn answer_not_found(&mut self, slot: Slot, meta: RequestMeta, at: usize) {
        self.refuse_at(slot, endpoint(at), Refusal::HttpNotFound, None);
        self.answer_plain(slot, meta, 404, &[]);
    }

    fn answer_not_allowed(&mut self, slot: Slot, meta: RequestMeta, at: usize, allow: &str) {
        self.refuse_at(slot, endpoint(at), Refusal::HttpMethodNotAllowed, None);
        self.answer_plain(slot, meta, 405, &[("Allow", allow)]);
    }

    fn info(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        at: usize,
        sockjs: &config::Sockjs,
    ) {
        if !self.is_allowed(slot, head, at) {
            return self.refuse_origin(slot, meta, head, at);
        }
        let origin = origin::origin_of(head);
        let mut headers: Vec<(&str, &str)> = vec![("Vary", "Origin")];
        match origin {
            Some(origin) if crate::http::response::is_field_value(origin) => {
                headers.push(("Access-Control-Allow-Origin", origin));
                headers.push(("Access-Control-Allow-Credentials", "true"));
            }
            _ => headers.push(("Access-Control-Allow-Origin", "*")),
        }
        match head.method {
            Method::Get => {
                headers.push(("Cache-Control", NO_CACHE));
                let info = sockjs::Info {
                    websocket: sockjs.websocket,
                    cookie_needed: sockjs.cookie,
                    entropy: self.entropy.number() as u32,
                    base_url: None,
                };
                let mut body = vec![0; info.len()];
                info.write(&mut body);
                let json = Some("application/json; charset=UTF-8");
                self.answer(slot, meta, 200, &headers, json, &body);
            }
            Method::Options => {
                let asked_for = head.header("access-control-request-headers");
                let asked_for = asked_for.and_then(|value| core::str::from_utf8(value).ok());
                if let Some(value) = asked_for.filter(|value| !value.is_empty()) {
                    headers.push(("Access-Control-Allow-Headers", value));
                }
                headers.push(("Cache-Control", "public, max-age=31536000"));
                headers.push(("Access-Control-Max-Age", YEAR));
                headers.push(("Access-Control-Allow-Methods", "OPTIONS, GET"));
                self.answer_plain(slot, meta, 204, &headers);
            }
            _ => self.answer_not_allowed(slot, meta, at, "OPTIONS, GET"),
        }
    }

    /// The WebSocket handshake: form, origin, user, then 101. Whether messages are compressed is
    /// agreed here.
    fn upgrade(
        &mut self,
        slot: Slot,
        meta: RequestMeta,
        head: &Head<'_, '_>,
        at: usize,
        encoding: Encoding,
    ) {
        let accept = match upgrade::check(head) {
            Ok(upgrade) => upgrade.accept,
            Err(refusal) => {
                self.refuse_at(slot, endpoint(at), refusal, None);
                // It asked for an upgrade: nothing sensible follows on this connection.
                let meta = RequestMeta { close: true, ..meta };
                return self.answer_error(
                    slot,
                    meta,
                    refusal.status(),
                    refusal.headers(),
                    refusal.text(),
                );
            }
        };
        if !self.is_allowed(slot, head, at) {
            return self.refuse_origin(slot, meta, head, at);
        }
        let shared = self.shared.clone();
        let stomp = shared.endpoints[at].config.protocol == Protocol::Stomp;
        let user = match self.identify(slot, head, at, stomp) {
            Identity::User(name) => Some(Arc::from(name)),
            Identity::Anonymous | Identity::Deferred => None,
            Identity::Refused(refusal) => {
                self.refuse_at(slot, endpoint(at), refusal, None);
                return self.answer_error(slot, meta, refusal.status(), &[], refusal.word());
            }
        };
        if !self.settle_address(slot, head) {
            let meta = RequestMeta { close: true, ..meta };
            let retry = [("Retry-After", "5")];
            return self.answer_error(slot, meta, 503, &retry, TOO_MANY_OF_ADDRESS);
        }
        let offer = if stomp { upgrade::stomp_subprotocol(head) } else { Offer::Absent };
        let policy = self.deflate_policy(at);
        let lines = head.header_values("sec-websocket-extensions");
        let Ok(agreement) = ws::negotiate(lines, policy) else {
            self.refuse_at(slot, endpoint(at), Refusal::HttpUpgradeExtensions, None);
            let meta = RequestMeta { close: true, ..meta };
            return self.answer_error(slot, meta, 400, &[], "bad Sec-WebSocket-Extensions");
        };
        let mut extensions = [0; ws::ANSWER_MAX];
        let extensions = agreement.as_ref().map(|agreement| agreement.write(&mut extensions));
        let mut answer = [0; upgrade::UPGRADE_MAX];
        let len = upgrade::write_101(&accept, offer.name(), extensions, &mut answer);
        self.send_private(slot, &answer[..len]);
        self.metrics.requests_total.add(1);
        if self.conns.at(slot).state != State::Open {
            return;
        }
        if let Some(agreement) = agreement.filter(|agreement| agreement.client_takeover) {
            self.conns.histories.open(slot, agreement.client_window_bits);
        }
        let deflate = agreement.map_or(0, |agreement| agreement.server_window_bits);
        self.open_websocket(slot, at, stomp, encoding.with_deflate(deflate), user);
    }

    /// What the endpoint lets a client have now. Only the client's messages may refer to those
    /// before them: ours are compressed once for all who hear them (RFC 7692 §7.1.1.1 leaves it to
    /// each sender).
    fn deflate_policy(&self, at: usize) -> Policy {
        let deflate = self.shared.endpoints[at].config.deflate;
        let window_bits = deflate.map_or(ws::WINDOW_BITS_MAX, |deflate| deflate.window_bits);
        let wanted = deflate.is_some_and(|deflate| deflate.context_takeover);
        let has_room =
            self.conns.histories.has_room_for(window_bits, self.limits.inflate_histories);
        Policy {
            enabled: deflate.is_some(),
            server_takeover: false,
            client_takeover: wanted && has_room,
            window_bits,
        }
    }

    fn open_websocket(
        &mut self,
        slot: Slot,
        at: usize,
        stomp: bool,
        encoding: Encoding,
        user: Option<Arc<str>>,
    ) {
        let decoder = ws::Decoder::server();
        let decoder = if encoding.deflate() > 0 { decoder.with_compression() } else { decoder };
        let endpoint = EndpointIndex(at as u16);
        let message = super::conn::Held::default();
        let proto = if stomp {
            let session = self.sessions.insert(Session::new(slot, endpoint));
            if let Some(user) = user {
                // From here on a kick of the user ends it, whether or not CONNECT has come.
                self.sessions.link_user(session, user);
            }
            Proto::Stomp(Stomp { decoder, encoding, session, message })
        } else {
            self.metrics.raw_sessions.set(self.metrics.raw_sessions.value() + 1);
            let is_stranger = user.is_none();
            if let Some(user) = user {
                self.conns.raw_users.insert(slot, user);
            }
            let backlog = super::conn::Held::default();
            Proto::Raw(Box::new(Raw { decoder, endpoint, encoding, message, is_stranger, backlog }))
        };
        let now = self.ms();
        let conn = self.conns.at_mut(slot);
        conn.proto = proto;
        conn.begin_phase(now);
        conn.last_in = now;
        if encoding.has_sockjs_frames() {
            self.send_frame(slot, ws::Opcode::Text, sockjs::OPEN.as_bytes());
        }
        let shared = self.shared.clone();
        if let Some(close) = &shared.endpoints[at].config.on_open {
            self.drain(slot, &[], close.code, &close.reason);
        }
        self.set_timer(slot);
    }

    fn identify(&self, slot: Slot, head: &Head<'_, '_>, at: usize, stomp: bool) -> Identity {
        let headers: Vec<HeaderLine<'_>> = head.headers.iter().map(|h| (h.name, h.value)).collect();
        let config = &self.shared.config;
        let handshake = Handshake {
            headers: &headers,
            query: head.target.query.as_bytes(),
            trusted_proxy: config.listen.trusts(self.conns.at(slot).address),
            loopback: self.is_of_demo(slot, head, Some(at)),
            stomp,
            now: self.ring.wall_millis() / 1000,
        };
        identity::user_of_handshake(&config.auth, &handshake)
    }
}

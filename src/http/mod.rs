#![forbid(unsafe_code)]
//! The server side of HTTP/1.1 and HTTP/1.0, as far as a push engine needs it.
//!
//! **What it turns into what.** Received bytes into a request head and the chunks of its body;
//! status, headers and body into bytes of an answer; a handshake into `101` (RFC 6455 §4.2).
//!
//! **What it does not know.** Sockets, time, routes, users, and what a body means. It can decide
//! whether an origin or a peer may call ([`allowed`], [`loopback_test`]); when to ask is up to the
//! caller.
//!
//! **How to drive it.** [`parse`] everything received so far, again when more has arrived, until it
//! returns a [`Head`]. If it has a body, call [`Body::next`] until it is done. Then
//! [`Response::write`]; the next request begins right after. For an upgrade: [`check`] and
//! [`write_101`]. A [`Refusal`] is answered with its status, and the connection is closed: where
//! the next request would begin is unknown.
//!
//! ```
//! use ringpush::http::{self, Body, Bounds, Method, Response};
//!
//! let input = b"POST /callback?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET";
//! let bounds = Bounds { head: 16_384, headers: 100, target: 8_192 };
//! let mut storage = [http::EMPTY_HEADER; http::HEADERS_MAX];
//! let head = http::parse(input, &mut storage, &bounds).unwrap().unwrap();
//! assert_eq!(head.method, Method::Post);
//! assert_eq!((head.target.path, head.target.query), ("/callback", "x=1"));
//!
//! let mut body = Body::new(head.body);
//! let (consumed, chunk, done) = body.next(&input[head.len..], 1_048_576).unwrap();
//! assert_eq!((consumed, chunk, done), (2, Some(&b"{}"[..]), true));
//!
//! let close = !head.keep_alive;
//! let response = Response { body: b"{\"code\":0}", close, ..Response::new(200) };
//! let mut out = [0; 128];
//! assert!(response.write(&mut out) == response.len());
//! ```
//!
//! **Bounds.** `http-head` and `http-headers` (431), `http-target` (414), `http-body` (413),
//! [`METHOD_MAX`] (501), [`EXTENSIONS_MAX`] (400), [`TRAILERS_MAX`] (431); each of them closes the
//! connection.
//!
//! **State.** None for heads: an incomplete one is parsed again from its start, which costs one
//! `memchr` pass. A [`Body`] is 24 bytes; its diagram is in `body.rs`.

pub mod body;
pub mod forwarded;
pub mod head;
pub mod origin;
pub mod refusal;
pub mod request;
pub mod response;
pub mod upgrade;
pub mod url;

pub use body::{Body, EXTENSIONS_MAX, TRAILERS_MAX};
pub use forwarded::client_of;
pub use head::{BodyKind, Head, Method, Target};
pub use httparse::{EMPTY_HEADER, Header};
pub use origin::{
    Page, Pattern, PatternError, SameOrigin, allowed, is_foreign, is_own_name, loopback_test,
    origin_of,
};
pub use refusal::Refusal;
pub use request::{Bounds, HEADERS_MAX, METHOD_MAX, may_end_head, parse};
pub use response::{
    CONTINUE, JSON, JSON_ERROR_MAX, Response, StreamHead, is_field_value, json_error, reason,
};
pub use upgrade::{
    Offer, UPGRADE_MAX, Upgrade, UpgradeRefusal, check, is_upgrade, stomp_subprotocol, write_101,
};
pub use url::{Authority, UrlError, decode, decode_form, pairs, query_count, query_value};

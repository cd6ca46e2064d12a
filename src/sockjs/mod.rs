#![forbid(unsafe_code)]
//! SockJS: paths below an endpoint become [`Route`]s, and messages become frames and back.
//!
//! Implemented: the greeting, `/info`, and both WebSocket transports. Not yet: the HTTP transports
//! (xhr, xhr_streaming, eventsource, htmlfile, jsonp), whose sessions outlive a connection, and the
//! iframe page. [`route`] recognises them already, as [`Route::Transport`] and [`Route::Iframe`].
//!
//! It does not know sockets, HTTP, WebSocket frames, STOMP or time.
//!
//! # How to drive it
//!
//! Remove the endpoint's path and the query from the request's path and call [`route`].
//! [`Route::RawWebsocket`] is a plain WebSocket without SockJS frames. On [`Route::Websocket`]
//! every text message to the client is a frame: first [`OPEN`], then `a[…]` from [`write_message`]
//! or [`write_messages`], regularly [`HEARTBEAT`], and at the end [`write_close`]. Every text
//! message from the client goes through [`decode()`].
//!
//! ```
//! use ringpush::sockjs::{Messages, Route, decode, message_len, route, write_message};
//!
//! assert_eq!(route("/000/k3j2/websocket"), Route::Websocket { server: "000", session: "k3j2" });
//!
//! let mut messages = Messages::default(); // kept and reused
//! decode(r#"["CONNECT\n\n\u0000","\n"]"#, &mut messages).expect("an array of strings");
//! assert!(messages.iter().eq(["CONNECT\n\n\0", "\n"]));
//!
//! let mut out = [0; 64];
//! let len = write_message("RECEIPT\n\n\0", &mut out);
//! assert_eq!(len, message_len("RECEIPT\n\n\0"));
//! assert_eq!(&out[..len], br#"a["RECEIPT\n\n\u0000"]"#);
//! ```
//!
//! # Bounds
//!
//! None of its own. `limits.message` bounds what the caller passes to [`decode()`]; [`Messages`]
//! has at most as many bytes as the text had, and one `usize` for every three of them. A frame to
//! the client is at most six times as long as its text, plus five bytes.
//!
//! # State
//!
//! None on the WebSocket transports; [`Messages`] is scratch, one per shard.

extern crate alloc;

mod decode;
mod framing;
mod info;
mod url;
mod wrap;

#[doc(inline)]
pub use crate::encoding::Wrap;
pub use decode::{Error, Messages, decode};
pub use framing::{
    HEARTBEAT, MESSAGE_END, MESSAGE_OPENING, OPEN, close_len, message_len, messages_len,
    quoted_len, write_close, write_message, write_messages, write_quoted,
};
pub use info::Info;
pub use url::{Route, Transport, route};
pub use wrap::{
    CHUNK, LAST_CHUNK, unit_len, unwrap_unit, wrapped_len, write_jsonp, write_unit, write_wrapped,
};

/// Body of the answer to [`Route::Greeting`]; its type is `text/plain; charset=UTF-8`.
pub const GREETING: &str = "Welcome to SockJS!\n";

#![forbid(unsafe_code)]
//! Turns a third party's HTTP request (headers, body) into a push: verifies its signature, and
//! finds in its JSON the user who gets it and the id by which a duplicate is recognised.
//!
//! It does not know the broker, the connection, the clock or earlier ids: wall time is an input. A
//! rule whose signature has a timestamp refuses a callback that was signed too long ago. A callback
//! that is sent again before that is recognised by its id, if the rule has one. The configuration
//! ensures that `dedupe-window` is long enough; `dedupe-keys` bounds how many ids are remembered.
//!
//! Drive it: [`verify()`] on the whole body, then [`map`], then [`success`] as the answer once the
//! push is in flight (or the id was a duplicate).
//!
//! ```
//! use ringpush::callback::{map, sign, success, verify};
//! use ringpush::config::Sources;
//!
//! let config = Sources::default().load().expect("the embedded application is good");
//! let inbound = &config.callbacks[1];
//! let body = br#"{"callId":"c-1","agentId":7,"from":"+86"}"#;
//! let now = 1_700_000_000_000;
//! let signature = sign(inbound, body, now).expect("a generic profile signs");
//! verify(inbound, &[("x-signature", signature.as_bytes())], body, now).expect("signed");
//! let mut out = Vec::new();
//! let mapped = map(inbound, config.limits.json_depth, body, &mut out).expect("it has both");
//! assert_eq!((mapped.id.as_deref(), mapped.user.as_deref()), (Some("c-1"), Some("7")));
//! assert!(out.starts_with(br#"{"businessType":"CALL_IN","data":{"callId":"c-1","#));
//! assert_eq!(success(inbound), br#"{"code":0}"#);
//! ```
//!
//! Bounds: `json-depth` (past it 400); ids have at most [`ID_MAX`] bytes, user names
//! [`crate::identity::NAME_MAX`] (past them 400); `http-body` bounds the body. Every body is read a
//! fixed number of times, and nothing recurses.

mod mapping;
mod pointer;
mod profile;
mod verify;

pub use mapping::{ID_MAX, Mapped, Problem, Target, map};
pub use profile::success;
pub use verify::{Denial, sign, verify};

pub use crate::identity::HeaderLine;

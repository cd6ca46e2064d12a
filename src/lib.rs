#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]
//! ringpush: a push engine for Linux on io_uring.
//!
//! Browsers connect by WebSocket, SockJS or STOMP, third parties call by HTTP, and ringpush pushes
//! to the right people at once. Most people want the binary: `ringpush serve`.
//!
//! **As a library** it gives the codecs: [`ws`], [`stomp`], [`http`] and [`sockjs`]. They turn
//! bytes into events and back, know no sockets, no runtime and no clock, and contain no `unsafe`.
//! With `default-features = false` they come alone, with their few dependencies:
//!
//! ```toml
//! ringpush = { version = "0.1", default-features = false }
//! ```
//!
//! Each codec has a program that shows it at work: `examples/frame_parser.rs` (ws),
//! `examples/stomp_frames.rs`, `examples/http_request.rs` and `examples/sockjs_messages.rs`.
//!
//! **What is public.** These four modules are, and follow semantic versioning. Everything else is
//! public for the binary, the tests and the benchmarks of this repository only: it is hidden from
//! this documentation and changes without notice.
//!
//! **Features**, both on by default: `server` is the engine with its configuration, its simulator
//! and the binary; `load` is the load generator, `ringpush load`.
//!
//! For those who change the code: CONTRIBUTING.md says how, and ARCHITECTURE.md gives the overview;
//! each room's `mod.rs` says what it turns into what, what it does not know, how to use it and
//! which bounds apply.

pub mod http;
pub mod sockjs;
pub mod stomp;
pub mod ws;

#[doc(hidden)]
pub mod encoding;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod time;

#[cfg(feature = "server")]
#[doc(hidden)]
pub mod broker;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod callback;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod config;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod console;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod control;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod engine;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod identity;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod ids;
#[cfg(feature = "load")]
#[doc(hidden)]
pub mod load;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod mem;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod metrics;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod ring;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod serve;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod sim;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod transport;

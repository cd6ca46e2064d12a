//! ringpush: a push engine for Linux on io_uring.
//!
//! Browsers connect by WebSocket, SockJS or STOMP, third parties call by HTTP, and ringpush pushes
//! to the right people at once. ARCHITECTURE.md gives the overview; each room's `mod.rs` says what
//! it turns into what, what it does not know, how to use it and which bounds apply.

pub mod ids;
pub mod limits;
pub mod time;

pub mod metrics;

pub mod broker;
pub mod callback;
pub mod config;
pub mod console;
pub mod control;
pub mod encoding;
pub mod engine;
pub mod http;
pub mod identity;
pub mod load;
pub mod mem;
pub mod ring;
pub mod serve;
pub mod sim;
pub mod sockjs;
pub mod stomp;
pub mod transport;
pub mod ws;

//! The oracles: plain functions that panic if a property is violated. The targets call them under
//! libFuzzer, and `tests/fuzz_smoke.rs` on the stable compiler.

pub mod http_head;
pub mod naive_inflate;
pub mod naive_ws;
pub mod stomp_frame;
pub mod ws;
pub mod ws_message;

pub use http_head::http_head;
pub use stomp_frame::stomp_frame;
pub use ws::ws_frame;
pub use ws_message::ws_message;

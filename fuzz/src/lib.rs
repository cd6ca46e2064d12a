//! The oracles: plain functions that panic where a property does not hold. The targets call them
//! under libFuzzer, and `tests/fuzz_smoke.rs` on the stable compiler.

pub mod naive_ws;
pub mod ws;

pub use ws::ws_frame;

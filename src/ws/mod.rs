#![forbid(unsafe_code)]
//! WebSocket frames (RFC 6455).
//!
//! **What it turns into what.** Octets from a peer into [`Event`]s, in place and without a copy;
//! opcode and length into the head of a frame to send.
//!
//! **What it does not know.** The upgrade (room `http`), what messages mean, sockets, time. It
//! answers nothing: whoever drives it sends the Pong and the Close. permessage-deflate is not here
//! yet; its place is kept by [`Decoder::with_compression`] and the `compressed` of [`Event::Data`].
//!
//! **How to drive it.** One [`Decoder`] per direction. Call [`Decoder::next`] with all octets that
//! are not done with, until it is done with none; keep the rest and call again when more have come.
//!
//! ```
//! use ringpush::ws::{Decoder, Event};
//! let mut octets = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89";
//! let mut decoder = Decoder::server();
//! let mut input = &mut octets[..];
//! loop {
//!     let (done, event) = decoder.next(input, 65_536).expect("a peer without fault");
//!     if done == 0 {
//!         break; // `input` is kept: here the first octet of a Ping.
//!     }
//!     if let Some(event) = event {
//!         assert!(matches!(event, Event::Data { payload: b"Hello", last: true, .. }));
//!     }
//!     input = &mut input[done..];
//! }
//! assert_eq!(input, b"\x89");
//! ```
//!
//! (The borrow of an event ends before the next call: take what you need from it first.)
//!
//! **Bounds.** `message` (the caller passes it in): a head that takes its message past it is
//! [`Error::MessageTooBig`] at once, before its payload is read. `WS_CONTROL_MAX`: a longer control
//! frame is an error. What the caller keeps between calls is less than one control frame with its
//! head, 131 octets; data is never kept back.
//!
//! **State.** A [`Decoder`] is at most 32 octets and holds no payload.
//!
//! ```text
//!              head, nothing to hand out: (n, None)
//!                 ┌────┐
//!                 ▼    │    Text | Binary, payload to come
//!   control ──▶ between frames ─────────────────────────────▶ in a payload ──┐
//!   frame   ◀── (message open or not) ◀───────────────────── (message open) ◀┘ piece
//!                                       last octet of the frame
//! ```
//!
//! A message is open from its first head to the piece with `last`. Text is judged octet by octet
//! as it comes: the first impossible octet is an error, wherever the pieces are cut.

mod close;
mod decoder;
mod frame;
pub mod mask;
mod utf8;

pub use close::{close_code_is_valid, close_payload};
pub use decoder::{Decoder, Error, Event};
pub use frame::{Opcode, client_head, frame_len, head, head_len};

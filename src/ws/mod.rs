#![forbid(unsafe_code)]
//! WebSocket frames (RFC 6455) and permessage-deflate (RFC 7692).
//!
//! **What it turns into what.** Bytes from a peer into [`Event`]s, in place and without a copy;
//! opcode and length into the head of a frame to send; offers of extensions into an [`Agreement`];
//! messages into their compressed form and back.
//!
//! **What it does not know.** The upgrade (room `http`), what messages mean, sockets, time. It
//! answers nothing: the caller sends the Pong and the Close.
//!
//! **How to drive it.** One [`Decoder`] per direction. Call [`Decoder::next`] with all unconsumed
//! bytes until it consumes none; keep the rest and call again when more have arrived.
//!
//! ```
//! use ringpush::ws::{Decoder, Event};
//! let mut bytes = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89";
//! let mut decoder = Decoder::server();
//! let mut input = &mut bytes[..];
//! loop {
//!     let (done, event) = decoder.next(input, 65_536).expect("a peer without fault");
//!     if done == 0 {
//!         break; // `input` is kept: here the first byte of a Ping.
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
//! `examples/frame_parser.rs` is a complete program that uses no other room.
//!
//! *Compression.* [`negotiate`] with the handshake's Sec-WebSocket-Extensions; where it gives an
//! [`Agreement`], [`Agreement::write`] writes the answer's header, and the decoder is made
//! [`Decoder::with_compression`]. Keep the `compressed` chunks of a message until the `last` one,
//! then pass all of them to an [`Inflater`]. To send: [`Compressor::compress`] and
//! [`compressed_head`]; if it returns `false`, send the plain message with [`head`]. Compression
//! is worth it from about 512 bytes on: below that, it does not save a TCP segment. One compressor
//! and one inflater serve all sessions of a thread.
//!
//! ```
//! use ringpush::ws::{self, Compressor, Inflater, Opcode, Policy};
//! let offers = [&b"permessage-deflate; client_max_window_bits"[..]];
//! let agreement = ws::negotiate(offers.into_iter(), Policy::default()).expect("a list");
//! let agreement = agreement.expect("an offer for us");
//! assert_eq!(
//!     agreement.write(&mut [0; ws::ANSWER_MAX]),
//!     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
//! );
//! let message = "{\"number\":\"+4930123456\",\"state\":\"ringing\"}".repeat(20);
//! let (mut sent, mut received) = (Vec::new(), Vec::new());
//! let mut compressor = Compressor::new();
//! assert!(compressor.compress(message.as_bytes(), agreement.server_window_bits, &mut sent));
//! let mut inflater = Inflater::new();
//! inflater.begin(Opcode::Text, 65_536);
//! inflater.feed(&sent, &mut received).expect("valid");
//! inflater.finish(&mut received).expect("whole");
//! assert_eq!(received, message.as_bytes());
//! ```
//!
//! **Bounds.** `message` (the caller passes it in): a head that takes its message past the bound is
//! [`Error::MessageTooBig`] at once, before its payload is read. So is the first inflated byte of a
//! compressed message past the bound. `WS_CONTROL_MAX`: a longer control frame is an error. Between
//! calls the caller keeps less than one control frame with its head, 131 bytes, and the compressed
//! chunks of an unfinished message, within `message`. Other data is never buffered.
//!
//! **State.** A [`Decoder`] is at most 32 bytes and has no payload. A session with context takeover
//! (off by default: [`Policy`]) has a [`Window`] for each direction that uses it. It calls
//! [`Inflater::begin_after`] instead of `begin`, and [`Window::push`] once a message is finished.
//!
//! ```text
//!              head, nothing to hand out: (n, None)
//!                 ┌────┐
//!                 ▼    │    Text | Binary, payload to come
//!   control ──▶ between frames ─────────────────────────────▶ in a payload ──┐
//!   frame   ◀── (message open or not) ◀───────────────────── (message open) ◀┘ chunk
//!                                       last byte of the frame
//! ```
//!
//! A message is open from its first head to the chunk with `last`. Text is validated byte by byte
//! as it arrives: the first invalid byte is an error, wherever the chunks are cut.

mod close;
mod decoder;
mod deflate;
mod error;
mod extension;
mod frame;
pub mod mask;
mod utf8;

pub use close::{close_code_is_valid, close_payload};
pub use decoder::{Decoder, Event};
pub use deflate::{Compressor, Inflater, Window, store, stored_len};
pub use error::Error;
pub use extension::{
    ANSWER_MAX, Agreement, Malformed, Policy, WINDOW_BITS_MAX, WINDOW_BITS_MIN, negotiate,
};
pub use frame::{Opcode, client_head, compressed_head, frame_len, head, head_len};

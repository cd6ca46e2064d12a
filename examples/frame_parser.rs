//! The ws room as a library, without the engine: prints the messages in the frames of a file (or of
//! standard input), with permessage-deflate.
//!
//! ```text
//! frame_parser [--client] [FILE]      --client: frames as a server sends them, unmasked
//! ```
//!
//! The order of calls is that of any server or fuzzing harness:
//!
//! 1. `Decoder::server()` (or `client()`), `.with_compression()` if it was negotiated;
//! 2. `Decoder::next` on all received bytes, until it consumes none: keep the rest;
//! 3. per `Event`: data is returned in chunks, joined here into messages; a compressed message goes
//!    through an `Inflater` when its last chunk has arrived;
//! 4. an `Error` has the code to close with.

use ringpush::ws::{Decoder, Error, Event, Inflater, Opcode};
use std::io::{Read, Write};

/// Bytes of the longest message.
const MESSAGE_MAX: u32 = 1 << 20;
/// Bytes of one receive: short, as from a slow network.
const RECEIVE: usize = 1_400;

struct Session {
    decoder: Decoder,
    inflater: Inflater,
    /// Received, not consumed yet.
    input: Vec<u8>,
    /// The chunks of the open message, as received.
    message: Vec<u8>,
    /// The plain form of a compressed message.
    plain: Vec<u8>,
}

impl Session {
    fn new(decoder: Decoder) -> Session {
        let inflater = Inflater::new();
        let (input, message, plain) = (Vec::new(), Vec::new(), Vec::new());
        Session { decoder: decoder.with_compression(), inflater, input, message, plain }
    }

    /// Decodes received bytes and reports the messages. Returns whether the session continues.
    fn receive(
        &mut self,
        bytes: &[u8],
        report: &mut impl FnMut(&str, &[u8]),
    ) -> Result<bool, Error> {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let (done, event) = self.decoder.next(&mut self.input[at..], MESSAGE_MAX)?;
            at += done;
            match event {
                Some(Event::Data { opcode, payload, last, compressed, .. }) => {
                    self.message.extend_from_slice(payload);
                    if last && compressed {
                        self.plain.clear();
                        self.inflater.begin(opcode, MESSAGE_MAX);
                        self.inflater.feed(&self.message, &mut self.plain)?;
                        self.inflater.finish(&mut self.plain)?;
                    }
                    let whole = if compressed { &self.plain } else { &self.message };
                    if last {
                        let name = if opcode == Opcode::Text { "text" } else { "binary" };
                        report(name, whole);
                        self.message.clear();
                    }
                }
                Some(Event::Ping(payload)) => report("ping", payload),
                Some(Event::Pong(payload)) => report("pong", payload),
                Some(Event::Close { code, reason }) => {
                    let code = code.map_or("none".into(), |code| code.to_string());
                    report(&format!("close {code}"), reason.as_bytes());
                    return Ok(false);
                }
                None if done == 0 => break,
                None => {}
            }
        }
        self.input.drain(..at);
        Ok(true)
    }
}

fn main() -> std::io::Result<()> {
    let (mut decoder, mut bytes) = (Decoder::server(), Vec::new());
    let mut file = None;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--client" => decoder = Decoder::client(),
            _ => file = Some(argument),
        }
    }
    match file {
        Some(path) => bytes = std::fs::read(path)?,
        None => drop(std::io::stdin().read_to_end(&mut bytes)?),
    }
    let mut out = std::io::stdout().lock();
    let mut lines = Vec::new();
    let mut report = |name: &str, payload: &[u8]| {
        lines.push(format!("{name}, {} bytes: {}", payload.len(), payload.escape_ascii()));
    };
    let mut session = Session::new(decoder);
    let mut end = None;
    for chunk in bytes.chunks(RECEIVE) {
        match session.receive(chunk, &mut report) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                end = Some(format!("fault: {}; close {}", error.reason(), error.close_code()));
                break;
            }
        }
    }
    lines.extend(end);
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

//! The WebSocket decoder: chunking must not matter, and a naive reader must agree.

use super::naive_ws::{self, End, Options, Seen, Trace};
use ringpush::ws::{Decoder, Error, Event, Opcode, frame_len};

/// A decoder under test. The canaries wrap [`Decoder`] to break it.
pub trait Framer {
    /// As [`Decoder::next`].
    fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        message_max: u32,
    ) -> Result<(usize, Option<Event<'a>>), Error>;
}

impl Framer for Decoder {
    fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        message_max: u32,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        Decoder::next(self, input, message_max)
    }
}

/// The first byte chooses the options, the second the chunks; the rest is the stream.
pub fn ws_frame(data: &[u8]) {
    ws_frame_of(data, |decoder| decoder);
}

/// The oracle over any framer that `wrap` makes of the decoder.
pub fn ws_frame_of<F: Framer>(data: &[u8], wrap: impl Fn(Decoder) -> F) {
    let [choice, seed, stream @ ..] = data else { return };
    let options = Options {
        masked: choice & 1 == 0,
        compression: choice & 2 != 0,
        message_max: [65_536, 600, 16, 0][usize::from(choice >> 2 & 3)],
    };
    let decoder = if options.masked { Decoder::server() } else { Decoder::client() };
    let decoder = if options.compression { decoder.with_compression() } else { decoder };
    let expected = naive_ws::read(stream, options);
    let run = |cuts: &mut dyn Iterator<Item = usize>| {
        agree(&drive(wrap(decoder), stream, cuts, options.message_max), &expected);
    };
    run(&mut std::iter::empty());
    run(&mut std::iter::repeat(1));
    let mut state = u32::from(*seed);
    run(&mut std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Mostly short chunks, some longer than a vector.
        (state >> 24) as usize % if state & 0x10_0000 == 0 { 7 } else { 150 }
    }));
    boundaries(stream);
}

/// Compares the decoder's trace with the naive one. With a fault within a message, how much of the
/// message was returned before depends on the chunks, but it is a prefix of it.
fn agree(trace: &Trace, expected: &Trace) {
    assert_eq!(trace.seen, expected.seen);
    assert_eq!(trace.end, expected.end);
    if let End::Fault(_) = trace.end {
        assert!(expected.open.starts_with(&trace.open));
    } else {
        assert_eq!(trace.open, expected.open);
    }
}

/// Feeds the stream in chunks of the given lengths (then the rest) and records the events.
fn drive(
    mut framer: impl Framer,
    mut stream: &[u8],
    cuts: &mut dyn Iterator<Item = usize>,
    message_max: u32,
) -> Trace {
    let mut trace = Trace::default();
    let mut kept = Vec::new();
    // The type of the open message, once a chunk of it has arrived.
    let mut kind = None;
    while !stream.is_empty() {
        let (chunk, rest) = stream.split_at(cuts.next().unwrap_or(stream.len()).min(stream.len()));
        stream = rest;
        kept.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let (done, event) = match framer.next(&mut kept[at..], message_max) {
                Ok(answer) => answer,
                Err(error) => {
                    assert!(matches!(error.close_code(), 1002 | 1007 | 1009));
                    trace.end = End::Fault(error.reason());
                    return trace;
                }
            };
            assert!(done > 0 || event.is_none());
            if let Some(event) = event
                && let Some(end) = take_down(&mut trace, &mut kind, event)
            {
                trace.end = end;
                return trace;
            }
            at += done;
            if done == 0 {
                break;
            }
        }
        kept.drain(..at);
        assert!(kept.len() < 140, "only an incomplete head or control frame is kept");
    }
    trace
}

fn take_down(
    trace: &mut Trace,
    kind: &mut Option<(Opcode, bool)>,
    event: Event<'_>,
) -> Option<End> {
    match event {
        Event::Data { opcode, payload, first, last, compressed } => {
            assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
            assert_eq!(first, kind.is_none(), "first is said once, at the beginning");
            assert_eq!(*kind.get_or_insert((opcode, compressed)), (opcode, compressed));
            assert!(first || last || !payload.is_empty());
            trace.open.extend_from_slice(payload);
            if last {
                let bytes = std::mem::take(&mut trace.open);
                trace.seen.push(Seen::Message(opcode == Opcode::Text, compressed, bytes));
                *kind = None;
            }
        }
        Event::Ping(payload) => trace.seen.push(Seen::Ping(payload.to_vec())),
        Event::Pong(payload) => trace.seen.push(Seen::Pong(payload.to_vec())),
        Event::Close { code, reason } => return Some(End::Closed(code, reason.to_owned())),
    }
    None
}

/// Once `frame_len` returns a length, it returns the same for every longer prefix.
fn boundaries(stream: &[u8]) {
    let shown = &stream[..stream.len().min(16)];
    let whole = frame_len(shown);
    for len in 0..shown.len() {
        let part = frame_len(&shown[..len]);
        assert!(part.is_none() || part == whole);
        assert!(part.is_none_or(|part| part >= 2));
    }
}

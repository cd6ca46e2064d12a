//! Whole messages with permessage-deflate: chunking must not matter, a naive reader must agree, and
//! a naive reader can inflate what the server compresses.

use super::naive_inflate::{self, Bounds};
use super::naive_ws::{self, End, Options, Seen};
use ringpush::ws::{Compressor, Decoder, Error, Event, Inflater, Opcode, Window};
use std::cell::RefCell;

/// An inflater under test. The canaries wrap [`Inflater`] to break it.
pub trait Unpack {
    /// Inflates a whole message, received in `chunks`, and appends it to `out`.
    fn unpack(&mut self, rule: Rule<'_>, chunks: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error>;
}

/// How a message is to be inflated.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Text or Binary.
    pub opcode: Opcode,
    /// Bytes of the longest message.
    pub message_max: u32,
    /// The earlier messages, with context takeover.
    pub window: Option<&'a Window>,
}

impl Unpack for Inflater {
    fn unpack(&mut self, rule: Rule<'_>, chunks: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        match rule.window {
            Some(window) => self.begin_after(rule.opcode, rule.message_max, window),
            None => self.begin(rule.opcode, rule.message_max),
        }
        chunks.iter().try_for_each(|chunk| self.feed(chunk, out))?;
        self.finish(out)
    }
}

/// Whole messages (is it text, its bytes) and how the stream ends.
type Said = (Vec<(bool, Vec<u8>)>, End);

thread_local! {
    // Made once: they are large, and the engine uses one pair for all sessions as well.
    static SHARED: RefCell<(Compressor, Inflater)> = RefCell::default();
}

/// The first byte chooses the options, the second the chunks; the rest is the stream.
pub fn ws_message(data: &[u8]) {
    SHARED.with_borrow_mut(|(compressor, inflater)| {
        ws_message_of(data, inflater);
        if let [choice, seed, stream @ ..] = data {
            compress(compressor, &expected(stream, *choice).0, 8 + seed % 8, choice & 2 != 0);
        }
    });
}

/// The oracle of receiving, over any inflater.
pub fn ws_message_of(data: &[u8], unpack: &mut impl Unpack) {
    let [choice, seed, stream @ ..] = data else { return };
    let expected = expected(stream, *choice);
    let mut run = |cuts: &mut dyn Iterator<Item = usize>| {
        assert_eq!(assemble(unpack, stream, *choice, cuts), expected);
    };
    run(&mut std::iter::empty());
    run(&mut std::iter::repeat(1));
    let mut state = u32::from(*seed);
    run(&mut std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize % if state & 0x10_0000 == 0 { 7 } else { 150 }
    }));
}

fn options(choice: u8) -> Options {
    Options {
        masked: choice & 1 == 0,
        compression: true,
        message_max: [65_536, 600, 16, 0][usize::from(choice >> 2 & 3)],
    }
}

/// The window that was agreed, with context takeover.
fn window_bits(choice: u8) -> u8 {
    [15, 8, 9, 12][usize::from(choice >> 4 & 3)]
}

/// The naive readers' result of a stream.
fn expected(stream: &[u8], choice: u8) -> Said {
    let options = options(choice);
    let max = options.message_max as usize;
    let trace = naive_ws::read(stream, options);
    let (mut messages, mut history) = (Vec::new(), Vec::new());
    for seen in trace.seen {
        let Seen::Message(text, compressed, bytes) = seen else { continue };
        if !compressed {
            messages.push((text, bytes));
            continue;
        }
        let bounds = Bounds { message_max: max, reach: 1 << 15 };
        let inflated = naive_inflate::inflate(&bytes, &history, bounds);
        let bytes = inflated.bytes;
        // The first faulty byte decides the fault.
        let fits = &bytes[..bytes.len().min(max)];
        let text_ends = inflated.whole && text;
        let fault = match std::str::from_utf8(fits) {
            Err(error) if text && error.error_len().is_some() => "text-not-utf8",
            _ if bytes.len() > max => "message-too-big",
            _ if !inflated.whole => "not-deflate",
            Err(_) if text_ends => "text-not-utf8",
            _ => "",
        };
        if !fault.is_empty() {
            return (messages, End::Fault(fault));
        }
        if choice & 2 != 0 {
            // A client that refers further back than agreed finds nothing there.
            history.extend_from_slice(&bytes);
            history.drain(..history.len().saturating_sub(1 << window_bits(choice)));
        }
        messages.push((text, bytes));
    }
    (messages, trace.end)
}

/// The result of the decoder and an inflater, used as the room's head says.
fn assemble(
    unpack: &mut impl Unpack,
    mut stream: &[u8],
    choice: u8,
    cuts: &mut dyn Iterator<Item = usize>,
) -> Said {
    let options = options(choice);
    let decoder = if options.masked { Decoder::server() } else { Decoder::client() };
    let mut decoder = decoder.with_compression();
    let mut window = Window::new(window_bits(choice));
    let (mut messages, mut kept) = (Vec::new(), Vec::new());
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    while !stream.is_empty() {
        let (chunk, rest) = stream.split_at(cuts.next().unwrap_or(stream.len()).min(stream.len()));
        stream = rest;
        kept.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let (done, event) = match decoder.next(&mut kept[at..], options.message_max) {
                Ok(answer) => answer,
                Err(error) => return (messages, End::Fault(error.reason())),
            };
            match event {
                Some(Event::Data { opcode, payload, last, compressed, .. }) => {
                    chunks.push(payload.to_vec());
                    if last {
                        let chunks = std::mem::take(&mut chunks);
                        let takeover = (choice & 2 != 0).then_some(&mut window);
                        let rule = (opcode, compressed, options.message_max);
                        match whole(unpack, rule, takeover, &chunks) {
                            Ok(bytes) => messages.push((opcode == Opcode::Text, bytes)),
                            Err(error) => return (messages, End::Fault(error.reason())),
                        }
                    }
                }
                Some(Event::Close { code, reason }) => {
                    return (messages, End::Closed(code, reason.to_owned()));
                }
                Some(Event::Ping(_) | Event::Pong(_)) | None => {}
            }
            at += done;
            if done == 0 {
                break;
            }
        }
        kept.drain(..at);
    }
    (messages, End::Open)
}

/// One whole message: opcode, whether it is compressed, its bound; its chunks.
fn whole(
    unpack: &mut impl Unpack,
    (opcode, compressed, message_max): (Opcode, bool, u32),
    mut takeover: Option<&mut Window>,
    chunks: &[Vec<u8>],
) -> Result<Vec<u8>, Error> {
    if !compressed {
        return Ok(chunks.concat());
    }
    let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
    let mut out = Vec::new();
    let rule = Rule { opcode, message_max, window: takeover.as_deref() };
    let end = unpack.unpack(rule, &chunks, &mut out);
    assert!(out.len() <= message_max as usize, "never more than the bound");
    end?;
    if let Some(window) = &mut takeover {
        window.push(&out);
    }
    Ok(out)
}

/// What the server compresses can be inflated, and refers no further back than agreed.
fn compress(compressor: &mut Compressor, messages: &[(bool, Vec<u8>)], bits: u8, takeover: bool) {
    let mut window = Window::new(bits);
    let mut history = Vec::new();
    for (_, message) in messages {
        let mut out = b"before".to_vec();
        let shorter = if takeover {
            compressor.compress_after(message, &mut window, &mut out)
        } else {
            compressor.compress(message, bits, &mut out)
        };
        let compressed = out.strip_prefix(b"before").expect("what was there is left alone");
        if !shorter {
            assert!(compressed.is_empty());
            continue;
        }
        assert!(compressed.len() < message.len());
        let bounds = Bounds { message_max: message.len(), reach: 1 << bits };
        let inflated = naive_inflate::inflate(compressed, &history, bounds);
        assert!(inflated.whole && inflated.bytes == *message);
        if takeover {
            history.extend_from_slice(message);
            assert_eq!(window.held(), history.len().min(1 << bits));
        }
    }
}

//! The decoder of one direction of a connection (RFC 6455 §5).

use super::error::Error;
use super::frame::{self, FIN, MASK, Opcode, RSV, RSV1};
use super::utf8::Utf8;
use super::{close, mask};
use crate::limits::WS_CONTROL_MAX;

/// What the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A chunk of a message, as received.
    Data {
        /// Text or Binary: the message's type, in its continuation frames too.
        opcode: Opcode,
        /// The unmasked bytes; may be empty.
        payload: &'a [u8],
        /// The message begins with this chunk.
        first: bool,
        /// The message ends with this chunk.
        last: bool,
        /// The message is compressed (RSV1): its text has not been validated.
        compressed: bool,
    },
    /// A Ping; a Pong with the same payload is due.
    Ping(&'a [u8]),
    /// A Pong.
    Pong(&'a [u8]),
    /// The peer closes. Everything after it is ignored.
    Close {
        /// The close code, if the peer sent one.
        code: Option<u16>,
        /// The close reason.
        reason: &'a str,
    },
}

/// The state of one direction of a connection; the head of the room draws its states.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Bytes of the data frame's payload not yet received; 0 between frames.
    remaining: u32,
    /// Bytes of the open message that its heads have announced so far.
    message_len: u32,
    /// The data frame's masking key, rotated to start at the next byte. Zero on unmasked frames.
    key: [u8; 4],
    /// The code point at the end of the open text.
    utf8: Utf8,
    /// Text or Binary while a message is open.
    message: Option<Opcode>,
    /// The open message is compressed.
    compressed: bool,
    /// No chunk of the open message has been handed out.
    first: bool,
    /// The data frame ends its message.
    fin: bool,
    /// The MASK bit that every frame must have.
    mask: u8,
    /// RSV1, if it is allowed on the first frame of a message; otherwise 0.
    allowed: u8,
}

const _: () = assert!(core::mem::size_of::<Decoder>() <= 32);

impl Decoder {
    /// A server's: frames must be masked.
    pub const fn server() -> Decoder {
        Decoder::new(MASK)
    }

    /// A client's: frames must not be masked.
    pub const fn client() -> Decoder {
        Decoder::new(0)
    }

    /// Allows compressed messages (permessage-deflate was agreed, RFC 7692).
    pub const fn with_compression(self) -> Decoder {
        Decoder { allowed: RSV1, ..self }
    }

    const fn new(mask: u8) -> Decoder {
        Decoder {
            remaining: 0,
            message_len: 0,
            key: [0; 4],
            utf8: Utf8::new(),
            message: None,
            compressed: false,
            first: false,
            fin: false,
            mask,
            allowed: 0,
        }
    }

    /// Decodes the start of `input`, unmasking it in place. Returns how many bytes were consumed
    /// and the event, if they make one.
    ///
    /// `(0, None)`: more bytes are needed. The caller keeps `input` (fewer than 140 bytes: an
    /// incomplete head or control frame) and calls again when more have arrived. `(n, None)`: call
    /// again with the rest. Data is returned as it arrives, never buffered.
    ///
    /// After an error or a Close the caller must not call again.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        message_max: u32,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        if self.remaining > 0 {
            return if input.is_empty() { Ok((0, None)) } else { self.chunk(input, 0) };
        }
        let [first, second, ..] = *input else { return Ok((0, None)) };
        let opcode = self.validate(first, second)?;
        let Some((len, length_end)) = frame::length(input) else { return Ok((0, None)) };
        frame::validate_length(len, length_end)?;
        if opcode.is_control() {
            return self.control(opcode, input, len as usize, length_end);
        }
        // A u32 and a length below 2^63: no overflow.
        let message_len = u64::from(self.message_len) + len;
        if message_len > u64::from(message_max) {
            return Err(Error::MessageTooBig);
        }
        let Some((key, head_end)) = self.key_at(input, length_end) else { return Ok((0, None)) };
        if opcode != Opcode::Continuation {
            self.message = Some(opcode);
            self.compressed = first & RSV1 != 0;
            self.first = true;
        }
        self.fin = first & FIN != 0;
        self.key = key;
        // Both are at most message_max, a u32.
        self.message_len = message_len as u32;
        self.remaining = len as u32;
        // An empty frame is an event only if a message begins or ends with it.
        let tells = if len == 0 { self.first || self.fin } else { input.len() > head_end };
        if tells { self.chunk(input, head_end) } else { Ok((head_end, None)) }
    }

    /// Validates the first two bytes of a frame, in their order on the wire.
    #[inline]
    fn validate(&self, first: u8, second: u8) -> Result<Opcode, Error> {
        let opcode = Opcode::from_first_byte(first).ok_or(Error::ReservedOpcode)?;
        // RFC 7692 §6.1: only the first frame of a data message may have RSV1.
        let begins = matches!(opcode, Opcode::Text | Opcode::Binary);
        let allowed = if begins { self.allowed } else { 0 };
        // RFC 6455 §5.2: reserved bits and opcodes fail the connection.
        if first & RSV & !allowed != 0 {
            return Err(Error::ReservedBits);
        }
        // RFC 6455 §5.1: a client masks every frame, a server none.
        if second & MASK != self.mask {
            return Err(if self.mask == 0 { Error::Masked } else { Error::NotMasked });
        }
        if opcode.is_control() {
            // RFC 6455 §5.5: control frames are whole and carry at most 125 bytes.
            if first & FIN == 0 {
                return Err(Error::ControlFragmented);
            }
            if usize::from(second & !MASK) > WS_CONTROL_MAX {
                return Err(Error::ControlTooLong);
            }
        } else if begins == self.message.is_some() {
            // RFC 6455 §5.4: messages do not interleave.
            let open = self.message.is_some();
            let error = Error::ContinuationUnexpected;
            return Err(if open { Error::ContinuationExpected } else { error });
        }
        Ok(opcode)
    }

    /// The key that begins at `at`, and where the head ends.
    #[inline]
    fn key_at(&self, input: &[u8], at: usize) -> Option<([u8; 4], usize)> {
        if self.mask == 0 {
            return Some(([0; 4], at));
        }
        Some((*input.get(at..)?.first_chunk()?, at + 4))
    }

    /// A control frame. It may arrive between the frames of a message, and changes no state.
    fn control<'a>(
        &self,
        opcode: Opcode,
        input: &'a mut [u8],
        len: usize,
        length_end: usize,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        let Some((key, head_end)) = self.key_at(input, length_end) else { return Ok((0, None)) };
        let end = head_end + len;
        let Some(payload) = input.get_mut(head_end..end) else { return Ok((0, None)) };
        if self.mask != 0 {
            mask::apply(payload, key, 0);
        }
        let event = match opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            _ => {
                let (code, reason) = close::read(payload)?;
                Event::Close { code, reason }
            }
        };
        Ok((end, Some(event)))
    }

    /// Returns the bytes of the data frame's payload that `input` has from `start` on.
    #[inline]
    fn chunk<'a>(
        &mut self,
        input: &'a mut [u8],
        start: usize,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        let opcode = self.message.expect("the head of a data frame opens its message");
        let end = start + (input.len() - start).min(self.remaining as usize);
        let payload = &mut input[start..end];
        if self.mask != 0 {
            mask::apply(payload, self.key, 0);
            self.key = mask::rotated(self.key, payload.len());
        }
        // At most `remaining`, a u32.
        self.remaining -= payload.len() as u32;
        let last = self.fin && self.remaining == 0;
        // RFC 6455 §8.1, and RFC 7692 §6.2: a compressed text is UTF-8 only after inflation.
        if opcode == Opcode::Text && !self.compressed {
            let valid = self.utf8.push(payload);
            if !valid || (last && !self.utf8.is_complete()) {
                return Err(Error::TextNotUtf8);
            }
        }
        let (first, compressed) = (self.first, self.compressed);
        self.first = false;
        if last {
            self.message = None;
            self.message_len = 0;
        }
        Ok((end, Some(Event::Data { opcode, payload, first, last, compressed })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const MAX: u32 = 1_000;

    /// A masked frame with this first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = [0; 14];
        let len = payload.len() as u64;
        let head = frame::client_head(Opcode::Binary, true, len, KEY, &mut out);
        out[0] = first;
        let mut frame = [&out[..head], payload].concat();
        mask::apply(&mut frame[head..], KEY, 0);
        frame
    }

    fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
        frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
    }

    /// The decoded events, with the chunks of a message joined.
    #[derive(Clone, Debug, PartialEq)]
    enum Seen {
        Message(Opcode, bool, Vec<u8>),
        Control(Opcode, Vec<u8>),
        Close(Option<u16>, String),
    }

    /// Drives a decoder as its doc says, with input that ends at each of `cuts`. Returns the whole
    /// events, the bytes of an unfinished message, and an error or the count of unconsumed bytes.
    fn drive(
        mut decoder: Decoder,
        bytes: &[u8],
        cuts: &[usize],
    ) -> (Vec<Seen>, Vec<u8>, Result<usize, Error>) {
        let (mut seen, mut open) = (Vec::new(), Vec::new());
        let mut kept: Vec<u8> = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            kept.extend_from_slice(&bytes[from..cut]);
            from = cut;
            let mut at = 0;
            loop {
                let (done, event) = match decoder.next(&mut kept[at..], MAX) {
                    Ok(answer) => answer,
                    Err(error) => return (seen, open, Err(error)),
                };
                match event {
                    Some(Event::Data { opcode, payload, first, last, compressed }) => {
                        assert!(!first || open.is_empty());
                        assert!(!payload.is_empty() || first || last);
                        open.extend_from_slice(payload);
                        if last {
                            let whole = std::mem::take(&mut open);
                            seen.push(Seen::Message(opcode, compressed, whole));
                        }
                    }
                    Some(Event::Ping(p)) => seen.push(Seen::Control(Opcode::Ping, p.to_vec())),
                    Some(Event::Pong(p)) => seen.push(Seen::Control(Opcode::Pong, p.to_vec())),
                    Some(Event::Close { code, reason }) => {
                        seen.push(Seen::Close(code, reason.to_owned()));
                        return (seen, open, Ok(0));
                    }
                    None => {}
                }
                at += done;
                if done == 0 {
                    break;
                }
            }
            kept.drain(..at);
            assert!(kept.len() < 140);
        }
        (seen, open, Ok(kept.len()))
    }

    /// Decodes the bytes whole and one by one: both must give the same events and the same end.
    fn decode(decoder: Decoder, bytes: &[u8]) -> (Vec<Seen>, Result<usize, Error>) {
        let (seen, _, end) = drive(decoder, bytes, &[]);
        let each: Vec<usize> = (1..bytes.len()).collect();
        let (seen_each, _, end_each) = drive(decoder, bytes, &each);
        assert_eq!((&seen, end), (&seen_each, end_each));
        (seen, end)
    }

    fn error(bytes: &[u8]) -> Error {
        decode(Decoder::server(), bytes).1.expect_err("a fault of the peer")
    }

    #[test]
    fn fragments_with_a_ping_between_them() {
        // RFC 6455 §5.4, and an empty frame at each place.
        let bytes = frames(&[
            (0x01, b""),
            (0x00, "κό".as_bytes()),
            (0x89, b"p"),
            (0x00, b""),
            (0x80, b""),
            (0x82, b""),
            (0x8a, b""),
            (0x88, &[0x03, 0xe8, b'o', b'k']),
            (0xff, b"not read"),
        ]);
        let (seen, end) = decode(Decoder::server(), &bytes);
        let expected = [
            Seen::Control(Opcode::Ping, b"p".to_vec()),
            Seen::Message(Opcode::Text, false, "κό".into()),
            Seen::Message(Opcode::Binary, false, vec![]),
            Seen::Control(Opcode::Pong, vec![]),
            Seen::Close(Some(1000), "ok".into()),
        ];
        assert_eq!((&seen[..], end), (&expected[..], Ok(0)));
    }

    #[test]
    fn chunks_mark_where_a_message_begins_and_ends() {
        let mut bytes = frames(&[(0x02, b"ab"), (0x00, b""), (0x80, b"c")]);
        let mut decoder = Decoder::server();
        let mut flags = Vec::new();
        // The first head alone, then its payload byte by byte, then the rest.
        for range in [0..6, 6..7, 7..8, 8..14, 14..20, 20..21] {
            let len = range.len();
            let (done, event) = decoder.next(&mut bytes[range], MAX).expect("no fault");
            assert_eq!(done, len);
            flags.push(event.map(|event| match event {
                Event::Data { first, last, payload, .. } => (first, last, payload[0]),
                other => panic!("{other:?}"),
            }));
        }
        let [b, m, e] = [(true, false, b'a'), (false, false, b'b'), (false, true, b'c')];
        assert_eq!(flags, [None, Some(b), Some(m), None, None, Some(e)]);
    }

    #[test]
    fn heads_that_break_a_rule() {
        for bits in [0x40, 0x20, 0x10, 0x70] {
            assert_eq!(error(&frame(0x82 | bits, b"")), Error::ReservedBits);
            assert_eq!(error(&frame(0x89 | bits, b"")), Error::ReservedBits);
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(error(&frame(0x80 | opcode, b"")), Error::ReservedOpcode);
        }
        assert_eq!(error(&[0x81, 0x00]), Error::NotMasked);
        assert_eq!(decode(Decoder::client(), &[0x81, 0x80]).1, Err(Error::Masked));
        assert_eq!(error(&frame(0x09, b"")), Error::ControlFragmented);
        assert_eq!(error(&frame(0x89, &[0; 126])), Error::ControlTooLong);
        assert_eq!(error(&[0x88, 0xfe]), Error::ControlTooLong);
        assert_eq!(error(&frame(0x80, b"")), Error::ContinuationUnexpected);
        assert_eq!(error(&frame(0x00, b"")), Error::ContinuationUnexpected);
        assert_eq!(error(&frames(&[(0x81, b"a"), (0x80, b"")])), Error::ContinuationUnexpected);
        assert_eq!(error(&frames(&[(0x01, b"a"), (0x81, b"")])), Error::ContinuationExpected);
        // RFC 6455 §5.2: shortest form, highest bit 0.
        assert_eq!(error(&[0x82, 0xfe, 0, 125]), Error::LengthNotMinimal);
        assert_eq!(error(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Error::LengthNotMinimal);
        assert_eq!(error(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), Error::LengthHighBit);
    }

    #[test]
    fn a_message_over_the_bound_is_refused_by_its_head() {
        assert_eq!(error(&[0x82, 0xfe, 0x03, 0xe9]), Error::MessageTooBig);
        assert_eq!(error(&[0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]), Error::MessageTooBig);
        let most = frames(&[(0x02, &[7; 600]), (0x80, &[7; 400]), (0x82, &[7; 1_000])]);
        let (seen, end) = decode(Decoder::server(), &most);
        assert_eq!((seen.len(), end), (2, Ok(0)));
        let over = [&frame(0x02, &[7; 600])[..], &[0x80, 0xfe, 0x01, 0x91]].concat();
        assert_eq!(error(&over), Error::MessageTooBig);
        let mut huge = [0x82, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        let answer = Decoder::server().next(&mut huge, u32::MAX);
        assert_eq!(answer, Ok((14, None)));
    }

    #[test]
    fn text_fails_at_the_first_invalid_byte() {
        // Autobahn 6.4.1 to 6.4.4: κόσµε, U+110000, "edited"; validated before the frame ends.
        let text = ["κόσµε".as_bytes(), &[0xf4, 0x90, 0x80, 0x80], b"edited"].concat();
        let bytes = frame(0x81, &text);
        let invalid = 6 + "κόσµε".len() + 2;
        assert_eq!(error(&bytes[..invalid]), Error::TextNotUtf8);
        assert_eq!(decode(Decoder::server(), &bytes[..invalid - 1]).1, Ok(0));
        let split = frames(&[(0x01, &text[..12]), (0x00, &text[12..13])]);
        assert_eq!(error(&split), Error::TextNotUtf8);
        // A code point may be cut by frames, but not by the end of the message.
        let cut = frames(&[(0x01, &[0xce]), (0x89, &[0xff]), (0x80, &[0xba])]);
        assert_eq!(decode(Decoder::server(), &cut).1, Ok(0));
        assert_eq!(error(&frame(0x81, &[0xce])), Error::TextNotUtf8);
        assert_eq!(error(&frames(&[(0x01, &[0xce]), (0x80, b"")])), Error::TextNotUtf8);
        assert_eq!(decode(Decoder::server(), &frame(0x82, &[0xff])).1, Ok(0));
    }

    #[test]
    fn close_payloads() {
        let close = |payload: &[u8]| decode(Decoder::server(), &frame(0x88, payload));
        assert_eq!(close(b""), (vec![Seen::Close(None, String::new())], Ok(0)));
        assert_eq!(close(&[3]).1, Err(Error::CloseLength));
        assert_eq!(close(&[0x03, 0xee]).1, Err(Error::CloseCode));
        assert_eq!(close(&[0x03, 0xe8, 0xff]).1, Err(Error::CloseReason));
    }

    #[test]
    fn compression_only_where_it_was_agreed_and_on_first_frames() {
        let bytes = frames(&[(0x41, &[0xff]), (0x80, &[0xff]), (0x81, b"plain")]);
        let (seen, end) = decode(Decoder::server().with_compression(), &bytes);
        let compressed = Seen::Message(Opcode::Text, true, vec![0xff, 0xff]);
        let plain = Seen::Message(Opcode::Text, false, b"plain".to_vec());
        assert_eq!((seen, end), (vec![compressed, plain], Ok(0)));
        for wrong in [frames(&[(0x41, b""), (0xc0, b"")]), frame(0xc9, b""), frame(0xa1, b"")] {
            let end = decode(Decoder::server().with_compression(), &wrong).1;
            assert_eq!(end, Err(Error::ReservedBits));
        }
    }

    #[test]
    fn what_a_server_sends_a_client_reads() {
        let mut out = [0; 10];
        let head = frame::head(Opcode::Text, true, 300, &mut out);
        let bytes = [&out[..head], &[b'x'; 300]].concat();
        let message = Seen::Message(Opcode::Text, false, vec![b'x'; 300]);
        assert_eq!(decode(Decoder::client(), &bytes), (vec![message], Ok(0)));
    }

    proptest! {
        /// Mostly valid conversations, cut anywhere.
        #[test]
        fn chunking_does_not_matter(
            list in proptest::collection::vec(
                (prop::sample::select(vec![0x01u8, 0x00, 0x80, 0x81, 0x82, 0x89, 0x8a, 0x88]),
                 "\\PC{0,60}"), 0..8),
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let list: Vec<_> = list.iter().map(|(first, text)| (*first, text.as_bytes())).collect();
            let valid = list.iter().filter(|(first, text)| first & 8 == 0 || text.len() <= 125);
            let mut bytes = frames(&valid.copied().collect::<Vec<_>>());
            if let (Some((index, byte)), false) = (damage, bytes.is_empty()) {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let (seen, open, end) = drive(Decoder::server(), &bytes, &cuts);
            let (whole, whole_open, whole_end) = drive(Decoder::server(), &bytes, &[]);
            prop_assert_eq!((&seen, end), (&whole, whole_end));
            // An error discards the rest of its input, so the data before it may differ in length.
            prop_assert!(end.is_err() || open == whole_open);
            prop_assert_eq!(&decode(Decoder::server(), &bytes).0, &seen);
        }
    }
}

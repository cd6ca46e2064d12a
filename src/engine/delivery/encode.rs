#![forbid(unsafe_code)]
//! STOMP frames in the form of their transport: WebSocket, SockJS over WebSocket, or SockJS over
//! HTTP, as units that wait for an answer or as those of a stream.

use crate::broker::message::Message;
use crate::broker::subscription::FrameFormat;
use crate::encoding::Encoding;
use crate::limits::ENCODE_KEEP;
use crate::sockjs;
use crate::stomp;
use crate::ws::{self, Compressor};

/// Collects encoded frames in one run of bytes. Its buffers live on: once warm it allocates
/// nothing.
#[derive(Debug, Default)]
pub struct Encoder {
    pub(super) out: Vec<u8>,
    pub(super) frame: Vec<u8>,
    pub(super) quoted: Vec<u8>,
    pub(super) packer: Packer,
}

/// Compresses what is worth it.
#[derive(Debug, Default)]
pub(super) struct Packer {
    deflated: Vec<u8>,
    pub compressor: Compressor,
    /// Bytes of the shortest message that is compressed (limit `deflate-min`); without it none is.
    pub deflate_min: Option<u32>,
    /// Times that the compressor has run.
    pub deflates: u64,
}

/// Stands for a Close frame without a code (RFC 6455 §7.1.5); it never goes onto the wire.
pub const NO_CODE: u16 = 1005;

/// Bytes that an encoder keeps ready.
pub(super) const KEEP_BYTES: usize = 1 << 20;

/// `{boot}-{number}`, the same for all receivers of a message.
#[derive(Clone, Copy, Debug)]
pub struct MessageId {
    text: [u8; 40],
    len: u8,
}

impl MessageId {
    /// The id of a number.
    pub fn new(boot: &str, number: u64) -> MessageId {
        let mut text = [0; 40];
        let mut digits = [0u8; 20];
        let mut first = digits.len();
        let mut left = number;
        loop {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let number = &digits[first..];
        let len = boot.len() + 1 + number.len();
        text[..boot.len()].copy_from_slice(boot.as_bytes());
        text[boot.len()] = b'-';
        text[boot.len() + 1..len].copy_from_slice(number);
        MessageId { text, len: len as u8 }
    }

    /// The bytes of the header's value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len as usize]
    }
}

impl Encoder {
    /// Compresses messages of at least `deflate_min` bytes.
    pub fn compress_from(&mut self, deflate_min: u32) {
        self.packer.deflate_min = Some(deflate_min);
    }

    /// Forgets what was encoded.
    pub fn clear(&mut self) {
        self.out.clear();
        // One rare large run must not stay resident.
        self.out.shrink_to(KEEP_BYTES);
    }

    /// The turn is over: what a large message needed does not stay resident.
    pub fn give_back(&mut self) {
        if self.out.is_empty() {
            // Nothing was written since the last time: whoever clears it writes, or gives back.
            return;
        }
        self.clear();
        let Encoder { frame, quoted, packer, .. } = self;
        [frame, quoted, &mut packer.deflated].into_iter().for_each(shrink);
    }

    /// Times that the compressor has run.
    pub fn deflates(&self) -> u64 {
        self.packer.deflates
    }

    /// What was encoded since.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Adds bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Adds a WebSocket frame.
    pub fn ws(&mut self, opcode: ws::Opcode, payload: &[u8]) {
        put_ws(&mut self.out, opcode, payload);
    }

    /// Adds a Close frame (RFC 6455 §5.5.1).
    pub fn close(&mut self, code: u16, reason: &str) {
        let mut payload = [0; 125];
        let no_code = code == NO_CODE;
        let len = if no_code { 0 } else { ws::close_payload(code, reason, &mut payload) };
        self.ws(ws::Opcode::Close, &payload[..len]);
    }

    /// Adds SockJS's own close frame, which goes before the WebSocket's.
    pub fn sockjs_close(&mut self, code: u16, reason: &str) {
        let Encoder { out, frame, .. } = self;
        frame.clear();
        frame.resize(sockjs::close_len(code, reason), 0);
        sockjs::write_close(code, reason, frame);
        put_ws(out, ws::Opcode::Text, frame);
    }

    /// Adds a message of `len` bytes that `write` writes, as it travels.
    pub fn message_of(
        &mut self,
        encoding: Encoding,
        opcode: ws::Opcode,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        if encoding == Encoding::PLAIN {
            // The common case is written where it belongs.
            let mut head = [0; 10];
            let head_len = ws::head(opcode, true, len as u64, &mut head);
            let start = self.out.len();
            self.out.resize(start + head_len + len, 0);
            self.out[start..start + head_len].copy_from_slice(&head[..head_len]);
            let written = write(&mut self.out[start + head_len..]);
            debug_assert_eq!(written, len, "a frame is as long as it said");
            return;
        }
        let Encoder { out, frame, quoted, packer } = self;
        frame.clear();
        frame.resize(len, 0);
        let written = write(frame);
        debug_assert_eq!(written, len, "a frame is as long as it said");
        if let Encoding::WebSocket { .. } = encoding {
            return packer.put(out, encoding, opcode, frame);
        }
        // SockJS carries text only: what is not UTF-8 is replaced (a STOMP body of arbitrary
        // bytes has no form there).
        let text = String::from_utf8_lossy(frame);
        quoted.clear();
        if let Encoding::SockJsWebSocket { .. } = encoding {
            quoted.resize(sockjs::message_len(&text), 0);
            sockjs::write_message(&text, quoted);
            packer.put(out, encoding, ws::Opcode::Text, quoted);
        } else {
            quoted.resize(sockjs::quoted_len(&text) + UNIT_QUOTES, 0);
            sockjs::write_unit(&text, quoted);
            put_unit(out, encoding, [quoted, b"", b""]);
        }
    }

    /// Adds the MESSAGE of a block for one subscription id.
    pub fn message(
        &mut self,
        format: FrameFormat,
        message: &Message,
        id: &MessageId,
        subscription: &str,
    ) {
        let frame = frame_of(format, message, id, subscription);
        let len = frame.len(format.version);
        self.message_of(format.encoding, opcode_of(message), len, |out| {
            frame.write(format.version, out)
        });
    }
}

impl Packer {
    /// Adds a WebSocket message to `out`, compressed where that was negotiated and makes it
    /// shorter.
    fn put(&mut self, out: &mut Vec<u8>, encoding: Encoding, opcode: ws::Opcode, payload: &[u8]) {
        self.deflated.clear();
        let worth_it = encoding.deflate() > 0
            && self.deflate_min.is_some_and(|least| payload.len() >= least as usize);
        self.deflates += u64::from(worth_it);
        let shorter =
            worth_it && self.compressor.compress(payload, encoding.deflate(), &mut self.deflated);
        if !shorter {
            return put_ws(out, opcode, payload);
        }
        let mut head = [0; 10];
        let len = ws::compressed_head(opcode, true, self.deflated.len() as u64, &mut head);
        out.extend_from_slice(&head[..len]);
        out.extend_from_slice(&self.deflated);
    }
}

/// Adds a WebSocket frame.
fn put_ws(out: &mut Vec<u8>, opcode: ws::Opcode, payload: &[u8]) {
    let mut head = [0; 10];
    let len = ws::head(opcode, true, payload.len() as u64, &mut head);
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(payload);
}

/// Adds a unit `,"…"` whose bytes come in three parts, as it travels over HTTP.
pub(super) fn put_unit(out: &mut Vec<u8>, encoding: Encoding, unit: [&[u8]; 3]) {
    let Some((wrap, chunked)) = encoding.stream() else {
        return unit.iter().for_each(|part| out.extend_from_slice(part));
    };
    let [front, middle, back] = unit;
    sockjs::write_wrapped(wrap, chunked, &[b"a[", &front[1..], middle, back, b"]"], out);
}

/// The whole length of the unit that begins with `bytes`: what a queue may be cut between. None:
/// too little of it is there to say, so it goes on behind `bytes`.
pub fn unit_len(encoding: Encoding, bytes: &[u8]) -> Option<u64> {
    let Some((wrap, chunked)) = encoding.stream() else {
        return match encoding {
            Encoding::Queued => sockjs::unit_len(bytes).map(|len| len as u64),
            _ => ws::frame_len(bytes),
        };
    };
    sockjs::wrapped_len(wrap, chunked, bytes).map(|(len, _)| len as u64)
}

/// The WebSocket message that a MESSAGE is by itself.
fn opcode_of(message: &Message) -> ws::Opcode {
    if message.is_text() { ws::Opcode::Text } else { ws::Opcode::Binary }
}

/// The WebSocket message that a MESSAGE travels in.
pub(super) fn opcode_in(encoding: Encoding, message: &Message) -> ws::Opcode {
    match encoding {
        Encoding::WebSocket { .. } => opcode_of(message),
        Encoding::SockJsWebSocket { .. }
        | Encoding::Queued
        | Encoding::XhrStreaming { .. }
        | Encoding::EventSource { .. }
        | Encoding::HtmlFile { .. } => ws::Opcode::Text,
    }
}

/// At most how many bytes `Encoder::message` adds.
#[cfg(test)]
pub fn message_bound(
    format: FrameFormat,
    message: &Message,
    id: &MessageId,
    subscription: &str,
) -> usize {
    bound_with(format, bound_without(format, message, id), subscription)
}

/// Bytes of a frame that names no subscription, for [`bound_with`].
pub fn bound_without(format: FrameFormat, message: &Message, id: &MessageId) -> usize {
    frame_of(format, message, id, "").len(format.version)
}

/// The bound of a frame that is so long without its subscription's line.
pub fn bound_with(format: FrameFormat, without: usize, subscription: &str) -> usize {
    // Every byte may be escaped.
    let len = without + SUBSCRIPTION_LINE + 2 * subscription.len();
    match format.encoding {
        Encoding::WebSocket { .. } => len + ws::head_len(len as u64),
        // Every byte may become a six-character escape, and three more when it is not UTF-8.
        Encoding::SockJsWebSocket { .. } | Encoding::Queued => len * 6 + 16,
        // A percent sign becomes three bytes, and is none of those.
        Encoding::XhrStreaming { .. } | Encoding::EventSource { .. } => len * 6 + WRAPPING,
        // Such an escape has a backslash, which is doubled.
        Encoding::HtmlFile { .. } => len * 7 + WRAPPING,
    }
}

/// Gives back what a buffer has beyond what it keeps; what it holds does not matter.
pub(super) fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > ENCODE_KEEP {
        buffer.truncate(ENCODE_KEEP);
        buffer.shrink_to(ENCODE_KEEP);
    }
}

/// A Ping without a payload (RFC 6455 §5.5.2).
pub const PING: &[u8] = b"\x89\0";

/// A STOMP heart-beat as it travels. It is the same each time, and too short to be compressed.
pub fn heart_beat(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::WebSocket { .. } => b"\x81\x01\n",
        Encoding::SockJsWebSocket { .. } => b"\x81\x07a[\"\\n\"]",
        Encoding::Queued => b",\"\\n\"",
        Encoding::XhrStreaming { chunked: true } => b"8\r\na[\"\\n\"]\n\r\n",
        Encoding::XhrStreaming { chunked: false } => b"a[\"\\n\"]\n",
        Encoding::EventSource { chunked: true } => b"11\r\ndata: a[\"\\n\"]\r\n\r\n\r\n",
        Encoding::EventSource { chunked: false } => b"data: a[\"\\n\"]\r\n\r\n",
        Encoding::HtmlFile { chunked: true } => {
            b"25\r\n<script>\np(\"a[\\\"\\\\n\\\"]\");\n</script>\r\n\r\n"
        }
        Encoding::HtmlFile { chunked: false } => {
            b"<script>\np(\"a[\\\"\\\\n\\\"]\");\n</script>\r\n"
        }
    }
}

/// Bytes of a unit beside what is between its quotes: `,""`.
pub(super) const UNIT_QUOTES: usize = 3;
/// Bytes that a stream puts around a frame, and `a[""]`, at most.
const WRAPPING: usize = 64;
const _: () =
    assert!(sockjs::CHUNK + "<script>\np(\"a[\\\"\\\"]\");\n</script>\r\n".len() < WRAPPING);

/// Bytes of `subscription:` and the line's end.
const SUBSCRIPTION_LINE: usize = "subscription:\n".len();

pub(super) fn frame_of<'a>(
    format: FrameFormat,
    message: &'a Message,
    id: &'a MessageId,
    subscription: &'a str,
) -> stomp::Message<'a> {
    stomp::Message {
        headers: message.headers(),
        plain: message.is_plain(),
        // STOMP 1.0 lets a subscription have no id.
        subscription: (!subscription.is_empty()).then_some(subscription.as_bytes()),
        message_id: id.as_bytes(),
        ack: format.acks.then_some(id.as_bytes()),
        body: message.body(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::{Head, Parts, Recent, variant_of};
    use super::*;
    use crate::stomp::Version;

    /// Every way, uncompressed.
    const EVERY: [Encoding; 9] = [
        Encoding::PLAIN,
        Encoding::SockJsWebSocket { deflate: 0 },
        Encoding::Queued,
        Encoding::XhrStreaming { chunked: true },
        Encoding::XhrStreaming { chunked: false },
        Encoding::EventSource { chunked: true },
        Encoding::EventSource { chunked: false },
        Encoding::HtmlFile { chunked: true },
        Encoding::HtmlFile { chunked: false },
    ];

    fn held(encoder: &Encoder, recent: &Recent, parts: &Parts) -> Vec<usize> {
        let Encoder { frame, quoted, packer, .. } = encoder;
        let own = [frame, quoted, &packer.deflated].map(Vec::capacity);
        [&own[..], &recent.held(), &parts.held()].concat()
    }

    #[test]
    fn what_a_large_message_needed_is_given_back_and_what_is_usual_stays() {
        let format = FrameFormat {
            encoding: Encoding::SockJsWebSocket { deflate: 15 },
            version: Version::V1_2,
            acks: false,
        };
        let (mut encoder, mut parts) = (Encoder::default(), Parts::default());
        let mut recent = Recent::default();
        encoder.compress_from(512);
        let mut say = |number: u64, len: usize| {
            let mut message = Message::default();
            message.begin(None, "/topic/a");
            message.finish("\"{}\n".repeat(len / 4).as_bytes());
            let (id, variant) = (MessageId::new("b00t", number), variant_of(format, &message));
            let mut head = Head::default();
            parts.clear();
            let mut frames = Vec::new();
            for _ in 0..3 {
                encoder.clear();
                recent.encode(&mut encoder, format, &message, (number, &id), "sub-0");
                encoder.message_in_parts(
                    (format, variant),
                    &message,
                    &id,
                    "x",
                    (&mut parts, &mut head),
                );
                frames.push(encoder.bytes().to_vec());
            }
            let before = held(&encoder, &recent, &parts);
            encoder.give_back();
            recent.give_back();
            parts.give_back();
            (frames, before, held(&encoder, &recent, &parts))
        };
        let (_, usual, kept) = say(1, 2_000);
        assert_eq!(usual, kept);
        let (large, before, kept) = say(2, 1 << 20);
        assert!(before.iter().filter(|&&bytes| bytes > ENCODE_KEEP).count() >= 5, "{before:?}");
        // What several messages have in common may be more.
        assert!(kept[6] <= KEEP_BYTES && before[6] > KEEP_BYTES, "{kept:?}");
        let over = kept.iter().enumerate().filter(|&(at, &bytes)| at != 6 && bytes > ENCODE_KEEP);
        assert_eq!(over.count(), 0, "{kept:?}");
        // The same once more: nothing that was given back is looked at.
        assert!(say(2, 1 << 20).0 == large);
    }

    /// All that an encoder writes, in every encoding and around each step of a head's length.
    #[test]
    fn units_are_found_again_in_their_bytes() {
        for encoding in EVERY.into_iter().flat_map(|way| [way, way.with_deflate(15)]) {
            let mut encoder = Encoder::default();
            encoder.compress_from(512);
            let mut ends = Vec::new();
            for len in [0, 1, 120, 125, 126, 127, 65_530, 65_535, 65_536, 80_000] {
                // Half of it shrinks.
                let text: String = (0..len).map(|at| if at % 2 == 0 { 'x' } else { '"' }).collect();
                text_of(&mut encoder, encoding, &text);
                ends.push(encoder.bytes().len());
            }
            if matches!(encoding, Encoding::WebSocket { .. } | Encoding::SockJsWebSocket { .. }) {
                encoder.ws(ws::Opcode::Ping, b"");
                ends.push(encoder.bytes().len());
                encoder.sockjs_close(3000, "Go away!");
                ends.push(encoder.bytes().len());
                encoder.close(1000, "");
                ends.push(encoder.bytes().len());
            }
            let (bytes, mut start) = (encoder.bytes(), 0);
            for end in ends {
                let len = (end - start) as u64;
                assert_eq!(unit_len(encoding, &bytes[start..]), Some(len), "{encoding:?}");
                // As much of it as says how long it is; with less nothing is made up.
                let said =
                    (0..=10).map(|short| unit_len(encoding, &bytes[start..end.min(start + short)]));
                assert!(said.into_iter().all(|said| said.is_none() || said == Some(len)));
                assert_eq!(unit_len(encoding, &bytes[start..=start]), None);
                start = end;
            }
            assert_eq!(start, bytes.len());
        }
    }

    fn text_of(encoder: &mut Encoder, encoding: Encoding, text: &str) {
        encoder.message_of(encoding, ws::Opcode::Text, text.len(), |out| {
            out.copy_from_slice(text.as_bytes());
            text.len()
        });
    }

    #[test]
    fn a_heart_beat_is_what_the_encoder_would_write() {
        for way in EVERY {
            for encoding in [way, way.with_deflate(8), way.with_deflate(15)] {
                let mut encoder = Encoder::default();
                encoder.compress_from(0);
                text_of(&mut encoder, encoding, "\n");
                assert_eq!(heart_beat(encoding), encoder.bytes(), "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_ping_is_what_the_encoder_would_write() {
        let mut encoder = Encoder::default();
        encoder.ws(ws::Opcode::Ping, b"");
        assert_eq!(PING, encoder.bytes());
    }

    #[test]
    fn an_id_is_boot_and_number() {
        assert_eq!(MessageId::new("k3", 0).as_bytes(), b"k3-0");
        assert_eq!(MessageId::new("k3", u64::MAX).as_bytes(), b"k3-18446744073709551615");
    }
}

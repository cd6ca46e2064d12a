#![forbid(unsafe_code)]
//! What the frames of one message have in common, quoted and compressed once for all of them.
//!
//! Subscribers with ids of their own see frames that differ in the middle alone:
//!
//! ```text
//! MESSAGE, the sender's headers, subscription: │ its id │ message-id, content-length, the body
//!                     front                    │ middle │                back
//! ```
//! Front and back are quoted (SockJS) and compressed by themselves, once for each variant: quoted
//! or not, size of window, STOMP version where that is to be seen, and whether there is an `ack`
//! (which belongs to the middle, and all before it). A frame then is a copy of them, with the
//! middle as a stored block (RFC 7692 §7.2.1 lets a message be any blocks, and none of a part
//! refers to another part). A front that is too short to be compressed is stored, too.
//! Large groups are compressed whole all the same, which makes their bytes fewer.
//!
//! Bound: [`PARTS_MAX`], kept by the fan-out, which takes fewer messages at a time.

use super::encode::{
    Encoder, KEEP_BYTES, MessageId, Packer, frame_of, opcode_in, put_unit, shrink,
};
use crate::broker::message::Message;
use crate::broker::subscription::FrameFormat;
use crate::encoding::Encoding;
use crate::sockjs::{self, MESSAGE_END, MESSAGE_OPENING};
use crate::stomp::{self, Part, Version};
use crate::ws;

/// Bytes of the parts of several messages at a time; those of one message may be more.
pub const PARTS_MAX: usize = KEEP_BYTES;
/// Members from which on a group is compressed whole.
pub const WHOLE_MEMBERS: usize = 16;
/// Bytes of the middle without what its lines name.
const MIDDLE_NAMES: usize = "\nmessage-id:\nack:".len();
/// No entry.
const NONE: u32 = u32::MAX;

/// Set of variants, one bit each.
pub type Variants = u128;

/// Windows of a compressor, and none.
const WINDOWS: u32 = 9;
/// Ways that parts differ in: each window plain and quoted, and quoted over HTTP.
const WAYS: u32 = 2 * WINDOWS + 1;
/// STOMP versions.
const VERSIONS: u32 = 3;
const _: () = assert!(WAYS * VERSIONS * 2 <= Variants::BITS);

/// The variant of a message's frames with this format, as a bit; none for frames that are written
/// as they are.
pub fn variant_of(format: FrameFormat, message: &Message) -> Variants {
    if format.encoding == Encoding::PLAIN {
        return 0;
    }
    let window = u32::from(format.encoding.deflate().saturating_sub(ws::WINDOW_BITS_MIN - 1));
    // Windows are 0 (none) and 1 to 8; over HTTP there is none, and all ways have their strings in
    // common. How an answer escapes them once more is not kept.
    let way = match format.encoding {
        Encoding::WebSocket { .. } => window,
        Encoding::SockJsWebSocket { .. } => WINDOWS + window,
        Encoding::Queued | Encoding::XhrStreaming { .. } => 2 * WINDOWS,
        Encoding::EventSource { .. } | Encoding::HtmlFile { .. } => return 0,
    };
    let version = match format.version {
        // The same in all versions.
        _ if message.is_plain() => 0,
        Version::V1_2 => 0,
        Version::V1_1 => 1,
        Version::V1_0 => 2,
    };
    1 << (way + WAYS * (version + VERSIONS * u32::from(format.acks)))
}

/// Whether its quoted parts are those of a unit `,"…"`.
fn is_over_http(encoding: Encoding) -> bool {
    encoding == Encoding::Queued || encoding.stream().is_some()
}

/// Variants of one message that several groups have, so that it pays to keep their parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Several {
    once: Variants,
    again: Variants,
}

impl Several {
    /// One more group has this variant. True if it is the second one.
    pub fn note(&mut self, variant: Variants) -> bool {
        let second = self.once & !self.again & variant != 0;
        self.again |= self.once & variant;
        self.once |= variant;
        second
    }

    /// Whether several have this variant.
    pub fn have(&self, variant: Variants) -> bool {
        self.again & variant != 0
    }
}

/// A run of bytes among those of all parts.
type Span = (u32, u32);

/// What is kept of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It is too short to be compressed. SockJS: both parts are quoted.
    Short,
    /// It would not be shorter. SockJS: both parts are quoted.
    Plain,
    /// The back is compressed.
    Back,
    /// Front and back are.
    Both,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    variant: Variants,
    kept: Kept,
    /// Bytes of front and back before they were compressed.
    plain: usize,
    front: Span,
    back: Span,
    /// The next one of the same message.
    next: u32,
}

/// The parts of some messages.
#[derive(Debug, Default)]
pub struct Parts {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Where a front and a back are written before they are compressed.
    front: Vec<u8>,
    back: Vec<u8>,
    /// Parts were made since the last `give_back`.
    is_used: bool,
}

/// The parts of one message: the first of its entries.
#[derive(Clone, Copy, Debug)]
pub struct Head(u32);

impl Default for Head {
    fn default() -> Head {
        Head(NONE)
    }
}

impl Parts {
    /// Forgets all; every [`Head`] has to be made anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
        self.entries.clear();
    }

    /// Gives back what a large message needed. Forgets all. What many messages of a turn have in
    /// common may stay, up to [`PARTS_MAX`].
    pub fn give_back(&mut self) {
        if !self.is_used {
            return;
        }
        self.is_used = false;
        self.clear();
        [&mut self.front, &mut self.back].into_iter().for_each(shrink);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> [usize; 3] {
        [&self.bytes, &self.front, &self.back].map(Vec::capacity)
    }

    fn span(&self, (from, len): Span) -> &[u8] {
        &self.bytes[from as usize..][..len as usize]
    }

    /// The entry of a variant that is good for a frame with `middle` bytes between front and back.
    #[inline]
    fn find(&self, head: Head, variant: Variants, middle: usize, least: usize) -> Option<Entry> {
        let mut at = head.0;
        while at != NONE {
            let entry = self.entries[at as usize];
            let good = entry.kept != Kept::Short || entry.plain + middle < least;
            if entry.variant == variant && good {
                return Some(entry);
            }
            at = entry.next;
        }
        None
    }
}

/// Adds bytes as they are.
fn add(all: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let from = all.len();
    all.extend_from_slice(bytes);
    (from as u32, bytes.len() as u32)
}

/// Makes a buffer at least so long; what it holds does not matter. In large steps: a number that
/// has one digit more is no reason to allocate.
fn make_long(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len.next_power_of_two(), 0);
    }
}

/// The message that was last written for one session.
#[derive(Debug, Default)]
pub struct Recent {
    number: Option<u64>,
    several: Several,
    parts: Parts,
    head: Head,
}

impl Recent {
    /// Has `encoder` add the MESSAGE of a block for one session. When the same one was written
    /// before, in the same variant, what they have in common is made once more at most.
    pub fn encode(
        &mut self,
        encoder: &mut Encoder,
        format: FrameFormat,
        message: &Message,
        (number, id): (u64, &MessageId),
        subscription: &str,
    ) {
        let variant = variant_of(format, message);
        if variant == 0 {
            return encoder.message(format, message, id, subscription);
        }
        if self.number != Some(number) {
            self.parts.clear();
            (self.number, self.several, self.head) =
                (Some(number), Several::default(), Head::default());
        }
        self.several.note(variant);
        if self.several.have(variant) {
            let parts = (&mut self.parts, &mut self.head);
            encoder.message_in_parts((format, variant), message, id, subscription, parts);
        } else {
            encoder.message(format, message, id, subscription);
        }
    }

    /// Forgets the message, and gives back what it needed if it was large.
    pub(super) fn give_back(&mut self) {
        if self.number.is_none() {
            return;
        }
        self.parts.give_back();
        shrink(&mut self.parts.bytes);
        (self.number, self.several, self.head) = (None, Several::default(), Head::default());
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> [usize; 3] {
        self.parts.held()
    }
}

impl Encoder {
    /// Adds the MESSAGE of a block for one subscription id, with the parts that were made for
    /// others, or are made now. The same bytes inflated as [`Encoder::message`] adds, and within
    /// the same bound.
    pub fn message_in_parts(
        &mut self,
        (format, variant): (FrameFormat, Variants),
        message: &Message,
        id: &MessageId,
        subscription: &str,
        (parts, head): (&mut Parts, &mut Head),
    ) {
        if variant == 0 || subscription.is_empty() {
            return self.message(format, message, id, subscription);
        }
        let Encoder { out, frame: buffer, quoted, packer } = self;
        let least = match format.encoding.deflate() {
            0 => usize::MAX,
            _ => packer.deflate_min.map_or(usize::MAX, |least| least as usize),
        };
        let is_itself = !format.encoding.is_quoted()
            && !format.acks
            && stomp::header_is_plain(b"", subscription.as_bytes());
        let middle = if is_itself {
            subscription.as_bytes()
        } else {
            let frame = frame_of(format, message, id, subscription);
            let len = write_part(format, &frame, Part::Middle, quoted, buffer);
            &buffer[..len]
        };
        let entry = parts.find(*head, variant, middle.len(), least).unwrap_or_else(|| {
            let frame = frame_of(format, message, id, subscription);
            let mut entry = parts.make(format, &frame, (middle.len(), least), quoted, packer);
            (entry.variant, entry.next) = (variant, head.0);
            *head = Head(parts.entries.len() as u32);
            parts.entries.push(entry);
            entry
        });
        let plain = entry.plain + middle.len();
        let (front, back) = (parts.span(entry.front), parts.span(entry.back));
        let (packed, stored) = match entry.kept {
            Kept::Both => (front, [&[][..], middle]),
            _ => (&[][..], [front, middle]),
        };
        let stored_len = stored.iter().map(|bytes| bytes.len()).sum();
        let total = packed.len() + ws::stored_len(stored_len) + back.len();
        let mut ws_head = [0; 10];
        match entry.kept {
            Kept::Back | Kept::Both if plain >= least && total < plain => {
                let opcode = opcode_in(format.encoding, message);
                let len = ws::compressed_head(opcode, true, total as u64, &mut ws_head);
                out.extend_from_slice(&ws_head[..len]);
                out.extend_from_slice(packed);
                ws::store(stored, out);
                out.extend_from_slice(back);
            }
            Kept::Short | Kept::Plain if is_over_http(format.encoding) => {
                put_unit(out, format.encoding, [front, middle, back]);
            }
            Kept::Short | Kept::Plain if format.encoding.is_quoted() => {
                let opcode = opcode_in(format.encoding, message);
                let len = ws::head(opcode, true, plain as u64, &mut ws_head);
                out.extend_from_slice(&ws_head[..len]);
                for bytes in [front, middle, back] {
                    out.extend_from_slice(bytes);
                }
            }
            _ => {
                let encoding = format.encoding.with_deflate(0);
                self.message(FrameFormat { encoding, ..format }, message, id, subscription);
            }
        }
    }
}

/// Writes a part as it travels before it is compressed, to the front of `out`; `plain` is to write
/// in what is quoted then. Its length.
fn write_part(
    format: FrameFormat,
    frame: &stomp::Message<'_>,
    part: Part,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> usize {
    // The middle is written for each subscriber: it is not counted before.
    let bound = match part {
        Part::Middle => {
            let [subscription, ack] = [frame.subscription, frame.ack];
            let ids = [subscription, Some(frame.message_id), ack].into_iter().flatten();
            MIDDLE_NAMES + ids.map(|id| 2 * id.len()).sum::<usize>()
        }
        part => frame.part_len(part, format.version),
    };
    if !format.encoding.is_quoted() {
        make_long(out, bound);
        return frame.write_part(part, format.version, out);
    }
    make_long(plain, bound);
    let len = frame.write_part(part, format.version, plain);
    // As for whole frames: parts meet at ASCII, so what is no UTF-8 in one is none in the whole.
    let text = String::from_utf8_lossy(&plain[..len]);
    let (opening, end) = match is_over_http(format.encoding) {
        true => (",\"", "\""),
        false => (MESSAGE_OPENING, MESSAGE_END),
    };
    let opening = if part == Part::Front { opening } else { "" };
    let end = if part == Part::Back { end } else { "" };
    let from = opening.len();
    let len = from + sockjs::quoted_len(&text);
    make_long(out, len + end.len());
    out[..from].copy_from_slice(opening.as_bytes());
    sockjs::write_quoted(&text, &mut out[from..]);
    out[len..len + end.len()].copy_from_slice(end.as_bytes());
    len + end.len()
}

impl Parts {
    /// Makes front and back of a variant. `middle` and `least` say whether a frame is long enough
    /// to be compressed; `plain` is to write in.
    fn make(
        &mut self,
        format: FrameFormat,
        frame: &stomp::Message<'_>,
        (middle, least): (usize, usize),
        plain: &mut Vec<u8>,
        packer: &mut Packer,
    ) -> Entry {
        self.is_used = true;
        let Parts { bytes, front, back, .. } = self;
        let front_len = write_part(format, frame, Part::Front, plain, front);
        let back_len = write_part(format, frame, Part::Back, plain, back);
        let plain = front_len + back_len;
        let (front, back) = (&front[..front_len], &back[..back_len]);
        let mut entry =
            Entry { variant: 0, kept: Kept::Short, plain, front: (0, 0), back: (0, 0), next: NONE };
        if plain + middle >= least {
            entry.kept = Kept::Plain;
            if let Some(span) = packer.pack(format.encoding, back, true, bytes) {
                (entry.kept, entry.back) = (Kept::Back, span);
                let long = front_len >= least;
                let packed = long.then(|| packer.pack(format.encoding, front, false, bytes));
                match packed.flatten() {
                    Some(span) => (entry.kept, entry.front) = (Kept::Both, span),
                    None => entry.front = add(bytes, front),
                }
            }
        }
        if matches!(entry.kept, Kept::Short | Kept::Plain) && format.encoding.is_quoted() {
            (entry.front, entry.back) = (add(bytes, front), add(bytes, back));
        }
        entry
    }
}

impl Packer {
    /// Compresses a part behind those in `out`, if that makes it shorter.
    fn pack(
        &mut self,
        encoding: Encoding,
        part: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Option<Span> {
        self.deflates += 1;
        let from = out.len();
        out.reserve((part.len() + 16).next_power_of_two());
        let shorter = self.compressor.compress_chunk(part, encoding.deflate(), is_last, out);
        shorter.then(|| (from as u32, (out.len() - from) as u32))
    }
}

#[cfg(test)]
#[path = "../../../fuzz/src/naive_inflate.rs"]
mod naive_inflate;

#[cfg(test)]
mod tests;

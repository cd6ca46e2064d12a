#![forbid(unsafe_code)]
//! A link that has no connection of its own: what waits for its client, and the connection that is
//! there to receive it.

use super::kept::Kept;
use crate::encoding::{Encoding, Wrap};
use crate::ids::Slot;
use crate::sockjs;

/// What a request that waits for messages is answered with.
#[derive(Debug)]
pub enum Answer {
    /// One frame, and the answer ends. Its head is given without Content-Length and the empty
    /// line.
    Poll {
        /// The status line and its headers.
        head: Box<[u8]>,
        /// JSONP: the frame comes in a script that calls this.
        callback: Option<Box<str>>,
    },
    /// Frames, until the body is long enough. Its head is queued before.
    Stream {
        /// How frames are wrapped.
        encoding: Encoding,
        /// Bytes of the body: the frame that reaches them is the last one.
        limit: u32,
        /// The end of the answer is the end of the connection (HTTP/1.0).
        closes: bool,
    },
}

/// The connection that receives what a link has.
#[derive(Debug)]
pub(super) struct Receiver {
    pub slot: Slot,
    pub answer: Answer,
    /// All of its answer is queued.
    pub is_done: bool,
}

/// What a link has beside its queue if it has no connection of its own.
#[derive(Debug, Default)]
pub(super) struct Standalone {
    /// What waits and is not in the log.
    pub kept: Kept,
    /// This many messages may wait while nobody receives.
    pub queue: u32,
    pub receiver: Option<Receiver>,
    /// Its client does not know yet that the session is open.
    pub opens: bool,
    /// A heart-beat is due to whoever receives.
    pub beats: bool,
    /// The frame that says why the session has ended.
    pub close: Option<Box<[u8]>>,
    /// Bytes that it keeps, as the loop knows them.
    pub noted: usize,
}

/// A part of an answer, not yet sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    what: What,
    /// Bytes of the answer's body.
    body: u32,
    /// The answer ends with it.
    pub ends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Open,
    /// Units of this many bytes.
    Units(usize),
    Beat,
    Close,
}

impl Standalone {
    /// Bytes that it keeps.
    pub fn held(&self) -> usize {
        self.kept.held() + self.close.as_ref().map_or(0, |frame| frame.len())
    }

    /// Whether units travel to its receiver just as groups have them.
    pub fn receives(&self, encoding: Encoding) -> bool {
        let answer = self.receiver.as_ref().map(|receiver| &receiver.answer);
        let is_same =
            matches!(answer, Some(Answer::Stream { encoding: own, .. }) if *own == encoding);
        is_same && self.kept.is_empty() && !self.opens && !self.beats && self.close.is_none()
    }

    /// Writes the next part of the answer to its receiver, with units of at most `most` bytes.
    /// None if there is nothing to be said.
    pub fn write(&self, most: usize, out: &mut Vec<u8>) -> Option<Piece> {
        let receiver = self.receiver.as_ref().filter(|receiver| !receiver.is_done)?;
        let units = self.kept.front(most);
        let (what, frame): (What, [&[u8]; 3]) = if self.opens {
            (What::Open, [sockjs::OPEN.as_bytes(), b"", b""])
        } else if let Some(units_without_comma) = units.get(1..) {
            (What::Units(units.len()), [b"a[", units_without_comma, b"]"])
        } else if self.beats {
            (What::Beat, [sockjs::HEARTBEAT.as_bytes(), b"", b""])
        } else {
            (What::Close, [self.close.as_deref()?, b"", b""])
        };
        match &receiver.answer {
            Answer::Poll { head, callback } => {
                out.extend_from_slice(head);
                out.extend_from_slice(b"Content-Length: ");
                let digits = out.len();
                out.extend_from_slice(b"\r\n\r\n");
                let start = out.len();
                match callback {
                    Some(callback) => sockjs::write_jsonp(callback, &frame, out),
                    None => {
                        sockjs::write_wrapped(Wrap::Line, false, &frame, out);
                    }
                }
                let body = out.len() - start;
                out.splice(digits..digits, body.to_string().into_bytes());
                Some(Piece { what, body: body as u32, ends: true })
            }
            Answer::Stream { encoding, limit, .. } => {
                let (wrap, chunked) = encoding.stream().expect("a stream has one");
                let body = sockjs::write_wrapped(wrap, chunked, &frame, out) as u32;
                let ends = what == What::Close || body >= *limit;
                if ends && chunked {
                    out.extend_from_slice(sockjs::LAST_CHUNK);
                }
                Some(Piece { what, body, ends })
            }
        }
    }

    /// A part that was written is queued.
    pub fn wrote(&mut self, piece: Piece) {
        match piece.what {
            What::Open => self.opens = false,
            What::Units(len) => self.kept.drop_front(len),
            What::Beat => self.beats = false,
            // It is told again to whoever asks again.
            What::Close => {}
        }
        self.spend(piece.body);
        self.receiver.as_mut().expect("somebody receives").is_done |= piece.ends;
    }

    /// This many bytes of a stream's body are queued. True if the answer has to end with them.
    pub fn spend(&mut self, body: u32) -> bool {
        let receiver = self.receiver.as_mut().expect("somebody receives");
        match &mut receiver.answer {
            Answer::Poll { .. } => true,
            Answer::Stream { limit, .. } => {
                *limit = limit.saturating_sub(body);
                *limit == 0
            }
        }
    }
}

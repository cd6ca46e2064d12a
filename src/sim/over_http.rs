//! The client's end of a session over HTTP: what it says goes as it is, and for what it is told a
//! connection comes, is answered, and goes again. What stands in the answers is read here; how
//! requests reach the engine only `attending` knows.

use super::answer;
use super::random::Random;
use super::violation::{Oracle, Violation};
use crate::encoding::{Encoding, Wrap};
use crate::engine::standalone::Answer;
use crate::sockjs::{CHUNK, LAST_CHUNK};
use crate::time::Instant;
use core::net::SocketAddr;
use std::collections::VecDeque;

/// How a connection receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Poll,
    /// A poll whose answer is a script.
    Script,
    /// Frames, until the body has this many bytes.
    Stream(Encoding, u32),
}

/// All ways of a stream.
const STREAMS: [Encoding; 6] = [
    Encoding::XhrStreaming { chunked: true },
    Encoding::EventSource { chunked: true },
    Encoding::HtmlFile { chunked: true },
    Encoding::XhrStreaming { chunked: false },
    Encoding::EventSource { chunked: false },
    Encoding::HtmlFile { chunked: false },
];
/// The shortest frame that lies in several segments.
const CHUNK_LEAST: u32 = 100;
/// What the script of a poll calls.
const CALLBACK: &str = "cb";

impl Way {
    fn draw(random: &mut Random, own: Encoding) -> Way {
        let limit = random.between(1, 900) as u32;
        match random.below(6) {
            0..=1 => Way::Poll,
            2 => Way::Script,
            // As groups of subscribers have it, so that nothing has to be written anew.
            3..=4 if own.stream().is_some() => Way::Stream(own, limit),
            _ => Way::Stream(*random.pick(&STREAMS), limit),
        }
    }

    /// What the engine answers with.
    pub(super) fn answer(self, random: &mut Random) -> Answer {
        let head = (*b"HTTP/1.1 200 OK\r\n").into();
        match self {
            Way::Poll => Answer::Poll { head, callback: None },
            Way::Script => Answer::Poll { head, callback: Some(CALLBACK.into()) },
            Way::Stream(encoding, limit) => {
                let is_chunked = encoding.stream().is_some_and(|(_, chunked)| chunked);
                Answer::Stream { encoding, limit, closes: !is_chunked || random.chance(200) }
            }
        }
    }
}

/// A frame of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Vec<u8>),
    /// Of the end of the session, with its code.
    Close(u16),
}

/// What the client is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no connection.
    Away,
    /// It has asked for something else, and waits for that answer.
    Asks,
    /// Its connection may receive.
    Ready,
    /// It wants to receive.
    Wants(Way),
    /// It receives: this many bytes of the answer's body have come.
    Receives(Way, u32),
    /// Its connection is of no more use.
    Done,
}

/// The client's end.
#[derive(Debug)]
pub(super) struct OverHttp {
    /// The ring of the shard that the session is at.
    pub(super) ring: usize,
    peer: SocketAddr,
    /// How its groups have what it is sent.
    pub(super) own: Encoding,
    pub(super) stage: Stage,
    /// What it says and nobody has taken yet.
    pub(super) said: VecDeque<Vec<u8>>,
    /// When it goes on by itself.
    pub(super) next_at: Instant,
    /// The server does not know the session, or not any more.
    pub(super) is_gone: bool,
    /// It was told that the session has ended.
    pub(super) is_closed: bool,
    /// It has ended the session itself.
    pub(super) leaves: bool,
    /// Connections that have come since one has received.
    pub(super) tries: u32,
    /// Answers that were whole, and streams among them that ended at their limit.
    pub(super) whole: (u64, u64),
}

impl OverHttp {
    pub(super) fn new(ring: usize, peer: SocketAddr, random: &mut Random) -> OverHttp {
        let own = match random.below(2) {
            0 => Encoding::Queued,
            _ => *random.pick(&STREAMS),
        };
        OverHttp {
            ring,
            peer,
            own,
            stage: Stage::Away,
            said: VecDeque::new(),
            next_at: Instant(0),
            is_gone: false,
            is_closed: false,
            leaves: false,
            tries: 0,
            whole: (0, 0),
        }
    }

    /// A connection has come.
    pub(super) fn begin(&mut self, asks: bool) {
        let never = super::scene::NEVER;
        self.tries += 1;
        (self.stage, self.next_at) =
            if asks { (Stage::Asks, never) } else { (Stage::Ready, Instant(0)) };
    }

    /// The address that its connections come from.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether a connection receives, or nothing more is to be expected.
    pub(super) fn is_owed(&self) -> bool {
        !matches!(self.stage, Stage::Receives(..)) || !self.said.is_empty()
    }

    /// Whether the shard has something to do for it.
    pub(super) fn wants(&self) -> bool {
        matches!(self.stage, Stage::Wants(_)) || !self.said.is_empty()
    }

    /// It wants to receive, in one of the ways.
    pub(super) fn ask(&mut self, random: &mut Random) {
        self.stage = Stage::Wants(Way::draw(random, self.own));
    }

    /// Whether the end of the connection is the end of the answer, as far as one can see.
    pub(super) fn ends_with_fin(&self) -> bool {
        let is_whole = |encoding: Encoding| encoding.stream().is_some_and(|(_, chunked)| !chunked);
        matches!(self.stage, Stage::Receives(Way::Stream(encoding, limit), body)
                if is_whole(encoding) && body >= limit)
    }

    /// The next frame of an answer.
    pub(super) fn hear(&mut self, input: &mut Vec<u8>) -> Result<Option<Frame>, Violation> {
        let frame = match self.stage {
            Stage::Receives(Way::Poll | Way::Script, _) => {
                let Some(answer) = answer::next(input)? else { return Ok(None) };
                if answer.status != 200 {
                    return Err(wrong(&format!("a poll is answered {}", answer.status)));
                }
                let text = String::from_utf8(answer.body).map_err(|_| wrong("not text"))?;
                let frame = match self.stage {
                    Stage::Receives(Way::Script, _) => script_of_poll(&text),
                    _ => text.strip_suffix('\n').map(str::to_owned),
                };
                self.is_whole(false);
                Some(frame.ok_or_else(|| wrong(&format!("the answer to a poll: {text}")))?)
            }
            Stage::Receives(Way::Stream(encoding, limit), body) => {
                self.frame_of_stream(input, encoding, (limit, body))?
            }
            _ => {
                self.hear_other(input)?;
                None
            }
        };
        frame.map(|frame| self.heard(frame, input)).transpose()
    }

    /// An answer without frames: to the question before, or one that the server gives by itself.
    fn hear_other(&mut self, input: &mut Vec<u8>) -> Result<(), Violation> {
        let Some(answer) = answer::next(input)? else { return Ok(()) };
        let is_fine = answer.status == 200 && self.stage == Stage::Asks && !answer.close;
        if !is_fine && !matches!(answer.status, 200 | 408 | 503 | 504) {
            return Err(wrong(&format!("answered {}", answer.status)));
        }
        self.stage = if is_fine { Stage::Ready } else { Stage::Done };
        self.next_at = Instant(0);
        Ok(())
    }

    fn is_whole(&mut self, at_limit: bool) {
        (self.stage, self.next_at) = (Stage::Ready, Instant(0));
        self.whole.0 += 1;
        self.whole.1 += u64::from(at_limit);
    }

    fn frame_of_stream(
        &mut self,
        input: &mut Vec<u8>,
        encoding: Encoding,
        (limit, before): (u32, u32),
    ) -> Result<Option<String>, Violation> {
        let (wrap, chunked) = encoding.stream().expect("a stream has one");
        if chunked && input.starts_with(LAST_CHUNK) {
            // A frame that lies in several segments counts with its chunk's head and end.
            if before + CHUNK as u32 * before / CHUNK_LEAST < limit {
                return Err(wrong(&format!("a stream of {limit} bytes ends after {before}")));
            }
            input.drain(..LAST_CHUNK.len());
            self.is_whole(true);
            return Ok(None);
        }
        let Some((len, body)) = frame_len(input, wrap, chunked)? else { return Ok(None) };
        if before >= limit {
            return Err(wrong(&format!("a stream of {limit} bytes goes on after {before}")));
        }
        let all: Vec<u8> = input.drain(..len).collect();
        let start = if chunked { len - 2 - body } else { 0 };
        let text = String::from_utf8(all[start..start + body].to_vec());
        let text = text.map_err(|_| wrong("not text"))?;
        let frame = unwrapped(&text, wrap).ok_or_else(|| wrong(&format!("in a stream: {text}")))?;
        self.stage = Stage::Receives(Way::Stream(encoding, limit), before + body as u32);
        Ok(Some(frame))
    }

    fn heard(&mut self, frame: String, input: &[u8]) -> Result<Frame, Violation> {
        let Some(reason) = frame.strip_prefix('c') else {
            return Ok(Frame::Message(frame.into_bytes()));
        };
        let (code, _): (u16, String) =
            serde_json::from_str(reason).map_err(|_| wrong(&format!("a close frame: {frame}")))?;
        self.is_closed = true;
        // Behind a whole answer there may be one that the server gives by itself.
        let rest = input;
        let is_last = match self.stage {
            Stage::Receives(Way::Stream(encoding, _), _) => {
                let is_chunked = encoding.stream().is_some_and(|(_, chunked)| chunked);
                let is_end = LAST_CHUNK.starts_with(rest) || rest.starts_with(LAST_CHUNK);
                rest.is_empty() || is_chunked && is_end
            }
            _ => true,
        };
        if !is_last {
            return Err(wrong("something comes after the close frame"));
        }
        Ok(Frame::Close(code))
    }
}

fn wrong(what: &str) -> Violation {
    Violation::new(Oracle::Protocol, format!("over HTTP: {what}"))
}

/// The length of the first frame in a stream with all around it, and without its chunk's head and
/// end; None if it is not there to its end.
fn frame_len(input: &[u8], wrap: Wrap, chunked: bool) -> Result<Option<(usize, usize)>, Violation> {
    let find = |end: &[u8]| input.windows(end.len()).position(|bytes| bytes == end);
    if !chunked {
        let end: &[u8] = match wrap {
            Wrap::Line => b"\n",
            Wrap::Event => b"\r\n\r\n",
            Wrap::Script => b"</script>\r\n",
        };
        return Ok(find(end).map(|at| (at + end.len(), at + end.len())));
    }
    let Some(digits) = find(b"\r\n") else { return Ok(None) };
    let len = core::str::from_utf8(&input[..digits]).ok();
    let len = len.and_then(|text| usize::from_str_radix(text, 16).ok());
    let len = len.ok_or_else(|| wrong("a chunk without a length"))?;
    let all = digits + 2 + len + 2;
    // The last one has no bytes, and may not be there to its end.
    Ok((len > 0 && input.len() >= all).then_some((all, len)))
}

/// The text of a string that a script has between its quotes.
fn script_text(literal: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{literal}\"")).ok()
}

fn script_of_poll(text: &str) -> Option<String> {
    let call = text.strip_prefix("/**/")?.strip_prefix(CALLBACK)?;
    script_text(call.strip_prefix("(\"")?.strip_suffix("\");\r\n")?)
}

/// A frame without what an answer puts around it.
fn unwrapped(text: &str, wrap: Wrap) -> Option<String> {
    match wrap {
        Wrap::Line => text.strip_suffix('\n').map(str::to_owned),
        Wrap::Event => {
            let data = text.strip_prefix("data: ")?.strip_suffix("\r\n\r\n")?;
            Some(data.replace("%25", "%"))
        }
        Wrap::Script => {
            let call = text.strip_prefix("<script>\np(\"")?;
            script_text(call.strip_suffix("\");\n</script>\r\n")?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;
    use crate::sockjs::{write_jsonp, write_wrapped};

    /// What a client hears of bytes that come one by one.
    fn heard(way: Way, bytes: &[u8]) -> Result<(Vec<Frame>, OverHttp), Violation> {
        let mut world = World::new(1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut over = OverHttp::new(0, peer, &mut world.random);
        over.stage = Stage::Receives(way, 0);
        let (mut input, mut all) = (Vec::new(), Vec::new());
        for byte in bytes {
            input.push(*byte);
            all.extend(over.hear(&mut input)?);
        }
        Ok((all, over))
    }

    const FRAMES: [&str; 3] = ["o", "a[\"100 % \\u003c \\\"x\\\"\"]", "c[1001,\"\"]"];

    fn expected() -> Vec<Frame> {
        let message = |frame: &str| Frame::Message(frame.as_bytes().to_vec());
        vec![message(FRAMES[0]), message(FRAMES[1]), Frame::Close(1001)]
    }

    #[test]
    fn frames_are_read_however_they_are_wrapped() {
        for encoding in STREAMS {
            let (wrap, chunked) = encoding.stream().expect("a stream");
            let mut bytes = Vec::new();
            let mut body = 0;
            for frame in FRAMES {
                body = write_wrapped(wrap, chunked, &[frame.as_bytes()], &mut bytes);
            }
            let limit = bytes.len() as u32;
            let (all, over) = heard(Way::Stream(encoding, limit), &bytes).expect("frames");
            assert_eq!(all, expected(), "{encoding:?}");
            assert!(over.is_closed && body > 0);
            let early = heard(Way::Stream(encoding, 1), &bytes).map(|_| ());
            assert!(early.is_err(), "{encoding:?}: it goes on after its limit");
        }
        for (frame, expected) in FRAMES.iter().zip(expected()) {
            let mut body = Vec::new();
            write_jsonp(CALLBACK, &[frame.as_bytes()], &mut body);
            let line = format!("{frame}\n").into_bytes();
            for (way, body) in [(Way::Script, body), (Way::Poll, line)] {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let bytes = [head.as_bytes(), &body].concat();
                let (all, over) = heard(way, &bytes).expect("a frame");
                assert_eq!(all, core::slice::from_ref(&expected));
                assert_eq!((over.stage, over.whole), (Stage::Ready, (1, 0)));
            }
        }
    }

    #[test]
    fn a_stream_ends_at_its_limit_and_nothing_follows_its_close_frame() {
        let stream = Way::Stream(STREAMS[0], 3);
        let (all, over) = heard(stream, b"2\r\no\n\r\n2\r\nh\n\r\n0\r\n\r\n").expect("frames");
        assert_eq!((all.len(), over.stage, over.whole), (2, Stage::Ready, (1, 1)));
        assert!(heard(stream, b"2\r\no\n\r\n0\r\n\r\n").is_err(), "it ends before");
        let mut world = World::new(1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut over = OverHttp::new(0, peer, &mut world.random);
        over.stage = Stage::Receives(Way::Stream(STREAMS[0], 99), 0);
        let mut input = Vec::new();
        input.extend(b"b\r\nc[1001,\"\"]\n\r\n2\r\nh\n\r\n");
        assert!(over.hear(&mut input).is_err(), "a frame after the close frame");
    }
}

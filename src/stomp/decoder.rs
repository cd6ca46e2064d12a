//! Decodes the bytes of a client into frames.

use memchr::{memchr, memchr2, memchr2_iter};

use super::escape;
use super::forge;
use super::frame::{Command, Frame, Header, Span, Step};
use super::{Error, Version};

/// How far the frame at the start of the input has been searched. One per session, 12 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// The end of the head is not before this; once the head has ended, the end of the body is not.
    searched: u32,
    /// Where the body starts; 0 while the head has not ended.
    body: u32,
    /// Length of the whole frame if it has `content-length`; 0 if its first NUL ends it.
    end: u32,
}

const _: () = assert!(size_of::<Decoder>() <= 32);

/// What the header lines of a head have decided.
struct Head {
    command: Command,
    /// The head has escapes that must be undone.
    escapes: bool,
    headers: usize,
    content_length: Option<u32>,
}

impl Decoder {
    /// Whether nothing of a frame has been looked at.
    pub fn is_between_frames(&self) -> bool {
        self.searched == 0
    }

    /// A decoder at a frame boundary.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Looks for one frame, or EOLs, at the start of `input`.
    ///
    /// On [`Step::NeedMore`] the caller keeps all of `input` and calls again with the same bytes
    /// and more after them. Nothing in `input` is changed before its frame is whole; then the
    /// headers are unescaped in place. Nothing is unescaped before CONNECT (`version` is `None`),
    /// in CONNECT and STOMP, or in 1.0, whose values are trimmed instead.
    pub fn next<'a, 'h>(
        &mut self,
        input: &'a mut [u8],
        headers: &'h mut [Header],
        version: Option<Version>,
        frame_max: u32,
    ) -> Result<Step<'a, 'h>, Error> {
        assert!(input.len() >= self.searched as usize, "the caller keeps all unconsumed bytes");
        if self.searched == 0 && input.first().is_none_or(|&byte| byte <= b'\r') {
            match between_frames(input)? {
                Some(0) => {}
                Some(consumed) => return Ok(Step::Eol { consumed }),
                None => return Ok(Step::NeedMore),
            }
        }
        let step = self.frame(input, headers, version, frame_max);
        if !matches!(step, Ok(Step::NeedMore)) {
            *self = Decoder::new();
        }
        step
    }

    fn frame<'a, 'h>(
        &mut self,
        input: &'a mut [u8],
        headers: &'h mut [Header],
        version: Option<Version>,
        frame_max: u32,
    ) -> Result<Step<'a, 'h>, Error> {
        let arrived = input.len();
        // Bytes past the bound cannot belong to an allowed frame, so they are not searched.
        let window = arrived.min(frame_max as usize);
        let unfinished =
            if arrived >= frame_max as usize { Err(Error::TooLarge) } else { Ok(Step::NeedMore) };
        let mut head = None;
        if self.body == 0 {
            let is_new = self.searched == 0;
            let quick = is_new.then(|| quick_head(&input[..window], headers, version)).flatten();
            let (read, body) = match quick {
                Some(found) => found,
                None => {
                    let Some(body) = self.head_end(&input[..window])? else { return unfinished };
                    (read_head(&input[..body], headers, version)?, body)
                }
            };
            self.expect_body(&read, body, frame_max)?;
            head = Some(read);
        }
        let body = self.body as usize;
        let Some(end) = self.frame_end(&input[..window])? else { return unfinished };
        // If the head was complete in an earlier call, its spans were not kept: parse it again.
        let head = match head {
            Some(head) => head,
            None => read_head(&input[..body], headers, version)?,
        };
        if end > body + 1 && !head.command.may_have_body() {
            return Err(Error::BodyNotAllowed);
        }
        let headers = &mut headers[..head.headers];
        if head.escapes {
            settle(input, headers)?;
        }
        let body = Span::new(body, end - 1);
        let frame = Frame { text: input, headers, command: head.command, body };
        Ok(Step::Frame { consumed: end, frame })
    }

    /// Finds the byte after the blank line that ends the head.
    fn head_end(&mut self, window: &[u8]) -> Result<Option<usize>, Error> {
        let from = self.searched as usize;
        for at in memchr2_iter(b'\n', 0, &window[from..]).map(|at| from + at) {
            if window[at] == 0 {
                return Err(Error::NulInHead);
            }
            if matches!(&window[..at], [.., b'\n'] | [.., b'\n', b'\r']) {
                return Ok(Some(at + 1));
            }
        }
        self.searched = window.len() as u32;
        Ok(None)
    }

    /// Switches from the head to the body.
    fn expect_body(&mut self, head: &Head, body: usize, frame_max: u32) -> Result<(), Error> {
        let body = body as u32;
        if let Some(length) = head.content_length {
            let end = u64::from(body) + u64::from(length) + 1;
            self.end = u32::try_from(end).map_err(|_| Error::TooLarge)?;
            if self.end > frame_max {
                return Err(Error::TooLarge);
            }
            if length > 0 && !head.command.may_have_body() {
                return Err(Error::BodyNotAllowed);
            }
        }
        (self.body, self.searched) = (body, body);
        Ok(())
    }

    /// Finds the byte after the NUL that ends the frame.
    fn frame_end(&mut self, window: &[u8]) -> Result<Option<usize>, Error> {
        if self.end > 0 {
            // STOMP 1.2 "Body": content-length bytes of any value, then a NUL.
            let end = self.end as usize;
            return match window.get(end - 1) {
                None => Ok(None),
                Some(0) => Ok(Some(end)),
                Some(_) => Err(Error::NoNulAfterBody),
            };
        }
        let from = self.searched as usize;
        let nul = memchr(0, &window[from..]);
        self.searched = window.len() as u32;
        Ok(nul.map(|at| from + at + 1))
    }

    /// The raw value of a `receipt` header in a refused frame, for the ERROR's `receipt-id`. Best
    /// effort: only whole lines count, and an escaped value, or one that is not UTF-8, gives
    /// `None`, since a wrong receipt is worse than none.
    pub fn faulty_receipt(input: &[u8]) -> Option<&[u8]> {
        let start = input.iter().position(|byte| !matches!(byte, b'\n' | b'\r' | 0))?;
        let mut rest = &input[start..];
        while let Some(at) = memchr(b'\n', rest) {
            let line = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]);
            if line.is_empty() || memchr(0, line).is_some() {
                return None;
            }
            if let Some(value) = line.strip_prefix(b"receipt:") {
                let readable = !value.iter().any(|byte| matches!(byte, b'\\' | b'\r'))
                    && core::str::from_utf8(value).is_ok();
                return readable.then_some(value);
            }
            rest = &rest[at + 1..];
        }
        None
    }
}

/// Length of the EOLs and stray NULs at the start; `None` if more bytes must decide it.
fn between_frames(input: &[u8]) -> Result<Option<usize>, Error> {
    let mut at = 0;
    loop {
        at += match (input.get(at), input.get(at + 1)) {
            (Some(b'\n' | 0), _) => 1,
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(b'\r'), None) | (None, _) if at == 0 => return Ok(None),
            (Some(b'\r'), Some(_)) if at == 0 => return Err(Error::BareCarriageReturn),
            _ => return Ok(Some(at)),
        };
    }
}

/// Heads up to this length are read byte by byte: their lines are too short to be searched for.
const QUICK_HEAD: usize = 512;

/// What a byte of a head is to [`quick_head`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    Colon,
    Lf,
    /// Not ASCII.
    Wide,
    /// It needs more care.
    Other,
}

fn kind_of(byte: u8) -> Kind {
    KINDS[usize::from(byte)]
}

static KINDS: [Kind; 256] = {
    let (mut kinds, mut byte) = ([Kind::Ordinary; 256], 0);
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b':' => Kind::Colon,
            b'\n' => Kind::Lf,
            0 | b'\r' | b'\\' => Kind::Other,
            0x80.. => Kind::Wide,
            _ => Kind::Ordinary,
        };
        byte += 1;
    }
    kinds
};

/// Reads a head in one pass, if it is as nearly all are: whole, short, nothing escaped, nothing
/// wrong. Also says where the body starts. None: [`read_head`] has to look at it.
fn quick_head(
    window: &[u8],
    headers: &mut [Header],
    version: Option<Version>,
) -> Option<(Head, usize)> {
    if version == Some(Version::V1_0) {
        return None;
    }
    let window = &window[..window.len().min(QUICK_HEAD)];
    let (mut command, mut content_length) = (None, None);
    // The first colon of this line lies behind its start.
    let (mut start, mut colon, mut count, mut is_wide) = (0, 0, 0, false);
    let mut at = 0;
    loop {
        at += window[at..].iter().position(|&byte| kind_of(byte) != Kind::Ordinary)?;
        match kind_of(window[at]) {
            Kind::Colon if at > start => colon = if colon > start { colon } else { at },
            Kind::Wide => is_wide = true,
            Kind::Lf if at == start => break,
            Kind::Lf if command.is_none() => {
                command = Some(Command::parse(&window[..at])?);
                start = at + 1;
            }
            Kind::Lf => {
                if colon <= start || !window[start].is_ascii_graphic() {
                    return None;
                }
                let header = headers.get_mut(count)?;
                (header.name, header.value) = (Span::new(start, colon), Span::new(colon + 1, at));
                count += 1;
                if &window[start..colon] == b"content-length" {
                    let length = content_length_of(&window[colon + 1..at]).ok()?;
                    if content_length.is_some_and(|earlier| earlier != length) {
                        return None;
                    }
                    content_length = Some(length);
                }
                start = at + 1;
            }
            Kind::Ordinary | Kind::Colon | Kind::Other => return None,
        }
        at += 1;
    }
    if is_wide {
        simdutf8::basic::from_utf8(&window[..at]).ok()?;
    }
    let head = Head { command: command?, escapes: false, headers: count, content_length };
    Some((head, at + 1))
}

/// Parses the lines of a whole head, and finds every error that they can have.
fn read_head(head: &[u8], headers: &mut [Header], version: Option<Version>) -> Result<Head, Error> {
    // STOMP 1.1 and 1.2 "Augmented BNF": command and headers are UTF-8.
    if !head.is_ascii() {
        simdutf8::basic::from_utf8(head).map_err(|_| Error::NotUtf8)?;
    }
    // Most heads have neither: then no line is searched for them.
    let smooth = memchr2(b'\r', b'\\', head).is_none();
    let mut lines = Lines { head, at: 0, smooth };
    let line = lines.next().expect("a head ends with a blank line")?;
    let command = Command::parse(line.of(head)).ok_or(Error::UnknownCommand)?;
    let escapes = !smooth
        && !command.opens()
        && version.is_some_and(|version| version != Version::V1_0)
        && memchr(b'\\', head).is_some();
    let mut read = Head { command, escapes, headers: 0, content_length: None };
    for line in lines {
        let line = line?;
        let text = line.of(head);
        if text.is_empty() {
            break;
        }
        let colon = memchr(b':', text).ok_or(Error::NoColon)?;
        if forge::is_blank_in_line(&text[..colon], escapes) {
            return Err(Error::EmptyName);
        }
        if escapes {
            escape::check(text)?;
        }
        let slot = headers.get_mut(read.headers).ok_or(Error::TooManyHeaders)?;
        read.headers += 1;
        // Further colons belong to the value: clients older than 1.2 do not escape them.
        let name_end = line.start as usize + colon;
        slot.name = Span::new(line.start as usize, name_end);
        slot.value = Span::new(name_end + 1, line.end as usize);
        if version == Some(Version::V1_0) {
            slot.value = trimmed(head, slot.value);
        }
        if slot.name.of(head) == b"content-length" {
            let length = content_length_of(slot.value.of(head))?;
            if read.content_length.is_some_and(|earlier| earlier != length) {
                return Err(Error::BadContentLength);
            }
            read.content_length = Some(length);
        }
    }
    Ok(read)
}

/// The lines of a head without their ends, the blank one included.
struct Lines<'a> {
    head: &'a [u8],
    at: usize,
    /// The head has no CR.
    smooth: bool,
}

impl Iterator for Lines<'_> {
    type Item = Result<Span, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.head[self.at..];
        let length = memchr(b'\n', rest)?;
        if self.smooth {
            let line = Span::new(self.at, self.at + length);
            self.at += length + 1;
            return Some(Ok(line));
        }
        let text = rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]);
        let line = Span::new(self.at, self.at + text.len());
        self.at += length + 1;
        // STOMP 1.2 "Augmented BNF": a CR is allowed only before the LF that ends its line.
        Some(if text.contains(&b'\r') { Err(Error::BareCarriageReturn) } else { Ok(line) })
    }
}

/// Trims blanks: peers of 1.0 pad their values.
fn trimmed(head: &[u8], value: Span) -> Span {
    let text = value.of(head);
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let front = text.iter().take_while(blank).count();
    let back = text[front..].iter().rev().take_while(blank).count();
    Span::new(value.start as usize + front, value.end as usize - back)
}

fn content_length_of(digits: &[u8]) -> Result<u32, Error> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::BadContentLength);
    }
    // Every length past u32 is too large for any frame, so it need not be exact.
    let push = |n: u32, digit: &u8| n.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    Ok(digits.iter().fold(0, push))
}

/// Unescapes names and values in place.
fn settle(input: &mut [u8], headers: &mut [Header]) -> Result<(), Error> {
    for span in headers.iter_mut().flat_map(|header| [&mut header.name, &mut header.value]) {
        let length = escape::unescape(span.of_mut(input), Version::V1_2)?;
        span.end = span.start + length as u32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{self, Event};
    use super::*;
    use proptest::prelude::*;

    const V1_0: Option<Version> = Some(Version::V1_0);
    const V1_1: Option<Version> = Some(Version::V1_1);
    const V1_2: Option<Version> = Some(Version::V1_2);

    /// All events of `input`, fed whole; asserts that chunking does not change them.
    fn events(input: &[u8], version: Option<Version>, frame_max: u32) -> Vec<Event> {
        let whole = oracle::feed(&[input], version, frame_max);
        let single: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(oracle::feed(&single, version, frame_max), whole, "byte by byte");
        assert_eq!(oracle::naive(input, version, frame_max), whole, "naive");
        whole
    }

    fn only(input: &[u8], version: Option<Version>) -> Event {
        let mut events = events(input, version, 4_096);
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    fn frame(command: Command, headers: &[(&str, &str)], body: &[u8]) -> Event {
        let pair = |&(name, value): &(&str, &str)| (name.into(), value.into());
        Event::Frame(command, headers.iter().map(pair).collect(), body.to_vec())
    }

    fn refused(input: &[u8], version: Option<Version>) -> Error {
        match only(input, version) {
            Event::Refused(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_real_clients_send() {
        assert_eq!(
            only(b"CONNECT\naccept-version:1.1,1.0\nheart-beat:10000,10000\n\n\0", None),
            frame(
                Command::Connect,
                &[("accept-version", "1.1,1.0"), ("heart-beat", "10000,10000")],
                b""
            )
        );
        let send = b"SEND\ndestination:/ws/trade\ncontent-length:3\n\n{\0}\0";
        let headers = [("destination", "/ws/trade"), ("content-length", "3")];
        assert_eq!(only(send, V1_1), frame(Command::Send, &headers, b"{\0}"));
        assert_eq!(
            only(b"SUBSCRIBE\r\nid:sub-0\r\ndestination:/user/queue/sub\r\n\r\n\0", V1_1),
            frame(Command::Subscribe, &[("id", "sub-0"), ("destination", "/user/queue/sub")], b"")
        );
        assert_eq!(only(b"DISCONNECT\n\n\0", V1_1), frame(Command::Disconnect, &[], b""));
    }

    #[test]
    fn ends_of_lines_between_frames_are_life() {
        let two = b"\n\r\n\0SEND\n\na\0\n\n\0\r\nSEND\n\r\nb\0\r\n";
        let send = |body| frame(Command::Send, &[], body);
        assert_eq!(
            events(two, V1_2, 64),
            [Event::Eol, send(b"a"), Event::Eol, send(b"b"), Event::Eol]
        );
        assert_eq!(events(b"", V1_2, 64), []);
        assert_eq!(events(b"\r", V1_2, 64), []);
        assert_eq!(events(b"\r\n", V1_2, 64), [Event::Eol]);
    }

    #[test]
    fn values_are_read_as_their_version_says() {
        let text = b"SEND\nk: a\\c:b\\r \n\n\0";
        assert_eq!(only(text, V1_0), frame(Command::Send, &[("k", "a\\c:b\\r")], b""));
        assert_eq!(only(text, V1_1), frame(Command::Send, &[("k", " a::b\r ")], b""));
        assert_eq!(only(text, V1_2), frame(Command::Send, &[("k", " a::b\r ")], b""));
        assert_eq!(only(text, None), frame(Command::Send, &[("k", " a\\c:b\\r ")], b""));
        let login = b"CONNECT\nlogin:a\\tb\n\n\0";
        assert_eq!(only(login, V1_2), frame(Command::Connect, &[("login", "a\\tb")], b""));
        let name = b"SEND\na\\cb:\\\\n\nx:\n\n\0";
        assert_eq!(only(name, V1_2), frame(Command::Send, &[("a:b", "\\n"), ("x", "")], b""));
        let padded = b"SEND\ncontent-length: 1\n\n\0\0";
        assert_eq!(only(padded, V1_0), frame(Command::Send, &[("content-length", "1")], b"\0"));
    }

    #[test]
    fn each_error_of_a_head_has_a_name() {
        let cases: [(&[u8], Error); 22] = [
            (b"HELLO\n\n\0", Error::UnknownCommand),
            (b"MESSAGE\n\n\0", Error::UnknownCommand),
            (b"send\n\n\0", Error::UnknownCommand),
            (b"\rSEND\n\n\0", Error::BareCarriageReturn),
            (b"SEND\na:b\rc\n\n\0", Error::BareCarriageReturn),
            (b"SEND\r\r\n\n\0", Error::BareCarriageReturn),
            (b"SEND\na:b\0", Error::NulInHead),
            (b"SEND\na:b\n\0", Error::NulInHead),
            (b"SEND\na\n\n\0", Error::NoColon),
            (b"SEND\n:a\n\n\0", Error::EmptyName),
            (b"SEND\n:a:b\n\n\0", Error::EmptyName),
            (b"SEND\n \t\\n\xc2\xa0:a\n\n\0", Error::EmptyName),
            (b"SEND\na:\xff\n\n\0", Error::NotUtf8),
            (b"SEND\na:\\t\n\n\0", Error::BadEscape),
            (b"SEND\na\\:b\n\n\0", Error::BadEscape),
            (b"SEND\ncontent-length:-1\n\n\0", Error::BadContentLength),
            (b"SEND\ncontent-length:\n\n\0", Error::BadContentLength),
            (b"SEND\ncontent-length: 1\n\na\0", Error::BadContentLength),
            (b"SEND\ncontent-length:1\ncontent-length:2\n\na\0", Error::BadContentLength),
            (b"SEND\ncontent-length:1\n\nab\0", Error::NoNulAfterBody),
            (b"ACK\nid:1\n\nbody\0", Error::BodyNotAllowed),
            (b"ACK\ncontent-length:2\n\n", Error::BodyNotAllowed),
        ];
        for (input, error) in cases {
            assert_eq!(refused(input, V1_2), error, "{}", input.escape_ascii());
        }
        let twice = b"SEND\ncontent-length:1\ncontent-length:01\n\na\0";
        assert!(matches!(only(twice, V1_2), Event::Frame(..)));
    }

    #[test]
    fn the_bound_counts_the_whole_frame() {
        let frame = b"SEND\nk:v\n\nbody\0";
        let max = frame.len() as u32;
        assert!(matches!(events(frame, V1_2, max)[..], [Event::Frame(..)]));
        assert_eq!(events(frame, V1_2, max - 1), [Event::Refused(Error::TooLarge)]);
        let announced = b"SEND\ncontent-length:4\n\n";
        let max = announced.len() as u32 + 5;
        assert_eq!(events(announced, V1_2, max), []);
        assert_eq!(events(announced, V1_2, max - 1), [Event::Refused(Error::TooLarge)]);
        let huge = b"SEND\ncontent-length:99999999999999999999999\n\n";
        assert_eq!(events(huge, V1_2, u32::MAX), [Event::Refused(Error::TooLarge)]);
        assert_eq!(events(b"SENDSENDSEND", V1_2, 12), [Event::Refused(Error::TooLarge)]);
        // The EOLs before a frame do not count towards its length.
        assert_eq!(events(b"\n\n\n\n\n\n\n\nSEND\n\n\0", V1_2, 7).len(), 2);
        let many = "SEND\n".to_string() + &"a:b\n".repeat(oracle::HEADERS_MAX + 1) + "\n\0";
        assert_eq!(refused(many.as_bytes(), V1_2), Error::TooManyHeaders);
    }

    #[test]
    fn the_first_of_repeated_headers_counts() {
        let mut input = *b"SEND\na:1\nb:2\na:3\n\n\0";
        let mut headers = [Header::EMPTY; 3];
        let step = Decoder::new().next(&mut input, &mut headers, V1_2, 64);
        let Ok(Step::Frame { frame, consumed }) = step else { panic!("{step:?}") };
        assert_eq!(consumed, 19);
        assert_eq!(frame.header(b"a"), Some(&b"1"[..]));
        assert_eq!(frame.header(b"c"), None);
        let names: Vec<_> = frame.headers().map(|(name, _)| name).collect();
        assert_eq!(names, [b"a", b"b", b"a"]);
    }

    #[test]
    fn a_refused_frame_can_still_name_its_receipt() {
        let receipt = Decoder::faulty_receipt;
        assert_eq!(receipt(b"\nSEND\nx\r\nreceipt:r-1\r\n\nq"), Some(&b"r-1"[..]));
        assert_eq!(receipt(b"SEND\nreceipt:a:b\nno end"), Some(&b"a:b"[..]));
        for none in [&b"SEND\nreceipt:r-1"[..], b"SEND\n\nreceipt:1\n", b"", b"\n\n"] {
            assert_eq!(receipt(none), None);
        }
        assert_eq!(receipt(b"SEND\nreceipt:a\\cb\n\n\0"), None);
        assert_eq!(receipt(b"SEND\na:b\0\nreceipt:1\n"), None);
    }

    #[test]
    fn heads_of_any_length_are_read_alike() {
        for len in QUICK_HEAD - 40..QUICK_HEAD + 8 {
            let value = "x".repeat(len);
            for (colon, end) in [("", "\n"), (":", "\n"), ("\u{7533}", "\n"), ("", "\r\n")] {
                let input = format!("SEND{end}a:{value}{colon}{end}b:{end}{end}body\0");
                let headers = [("a", &*format!("{value}{colon}")), ("b", "")];
                let expected = frame(Command::Send, &headers, b"body");
                assert_eq!(only(input.as_bytes(), V1_2), expected, "{len} {colon:?} {end:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_naive_decoder_agrees_and_chunking_does_not_matter(
            parts in proptest::collection::vec(oracle::part(), 0..14),
            cuts in proptest::collection::vec(1usize..9, 1..9),
            version in proptest::sample::select(vec![None, V1_0, V1_1, V1_2]),
            frame_max in 8u32..80,
        ) {
            let input = parts.concat();
            let whole = events(&input, version, frame_max);
            let mut chunks = Vec::new();
            let (mut rest, mut cut) = (&input[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(oracle::feed(&chunks, version, frame_max), whole);
        }
    }
}

//! Reads a request body from a stream that may be cut anywhere.

use super::head::{BodyKind, is_token};
use super::refusal::Refusal;
use super::url::hex;

/// Bytes of all chunk extensions of one body; past it 400 and close.
pub const EXTENSIONS_MAX: u16 = 1_024;
/// Bytes of all trailers of one body; past it 431 and close.
pub const TRAILERS_MAX: u16 = 4_096;
/// Hexadecimal digits of a chunk size: 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// The state of a body.
///
/// ```text
/// Length ─────────────────────────────────────────────────────────▶ Done
/// Size ─▶ [SizeBlank ─▶ Extension] ─▶ SizeEnd ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size
///                                        └ size 0 ─▶ Trailer ─▶ BodyEnd ─▶ Done
///                              Trailer ─▶ TrailerName ─▶ TrailerValue ─▶ TrailerEnd ─▶ Trailer
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `left` bytes of a body with Content-Length.
    Length,
    /// In a chunk size, after this many digits; `left` is its value so far.
    Size(u8),
    /// Blanks after a chunk size, which only an extension may follow.
    SizeBlank,
    /// In chunk extensions.
    Extension,
    /// LF of the size line.
    SizeEnd,
    /// `left` bytes of a chunk.
    Data,
    /// CR after a chunk.
    DataCr,
    /// LF after a chunk.
    DataLf,
    /// At the start of a trailer line or of the last line.
    Trailer,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// LF of a trailer line.
    TrailerEnd,
    /// LF of the last line.
    BodyEnd,
    /// The whole body has been read.
    Done,
}

/// Reads one request body. 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Bytes of the current chunk or of the body that have not arrived yet.
    left: u64,
    /// Bytes of the chunks begun so far; at most `http-body` by `size_known`.
    total: u32,
    /// Bytes of chunk extensions so far; from the last chunk on, bytes of trailers.
    overhead: u16,
    state: State,
}

const _: () = assert!(size_of::<Body>() <= 24);

impl Body {
    /// A body at its start.
    pub fn new(kind: BodyKind) -> Body {
        let (left, state) = match kind {
            BodyKind::None => (0, State::Done),
            BodyKind::Length(0) => (0, State::Done),
            BodyKind::Length(left) => (left, State::Length),
            BodyKind::Chunked => (0, State::Size(0)),
        };
        Body { left, total: 0, overhead: 0, state }
    }

    /// Consumes bytes from the start of `input`, at most to the end of one chunk of the body.
    /// Returns (consumed, chunk, done). A chunk is never empty; it ends the consumed bytes.
    /// The caller continues with the rest until `done`, or until its input is used up; after `done`
    /// the rest belongs to the next request. The first call may have an empty input: it refuses a
    /// Content-Length past `body_max` (413) before the peer has sent any of the body.
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        body_max: u32,
    ) -> Result<(usize, Option<&'a [u8]>, bool), Refusal> {
        if self.state == State::Length && self.left > u64::from(body_max) {
            return Err(Refusal::BodyTooLarge);
        }
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Done => break,
                State::Length | State::Data => {
                    let chunk = self.take(&input[at..]);
                    return Ok((at + chunk.len(), Some(chunk), self.is_done()));
                }
                _ => self.framing(input[at], body_max)?,
            }
            at += 1;
        }
        Ok((at, None, self.is_done()))
    }

    /// Whether the whole body has been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn take<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        assert!(self.left > 0);
        let len = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        self.left -= len as u64;
        if self.left == 0 {
            self.state = if self.state == State::Data { State::DataCr } else { State::Done };
        }
        &input[..len]
    }

    /// Reads one byte of the framing around the chunks (RFC 9112 §7.1).
    fn framing(&mut self, byte: u8, body_max: u32) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size(1..), b'\r') => self.size_known(State::SizeEnd, body_max)?,
            (State::Size(1..), b';') => self.size_known(State::Extension, body_max)?,
            // The grammar has no blanks here, but they must be understood before `;`.
            (State::Size(1..), b' ' | b'\t') => self.size_known(State::SizeBlank, body_max)?,
            (State::Size(digits), byte) => self.size_digit(digits, byte)?,
            (State::SizeBlank, b' ' | b'\t') => self.extension(State::SizeBlank)?,
            (State::SizeBlank, b';') => State::Extension,
            // No quoted CR or LF: a reader that takes it for a line end would see another body.
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, byte) if is_text(byte) => self.extension(State::Extension)?,
            (State::SizeEnd, b'\n') if self.left > 0 => State::Data,
            (State::SizeEnd, b'\n') => {
                self.overhead = 0;
                State::Trailer
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::Trailer, b'\r') => State::BodyEnd,
            (State::BodyEnd, b'\n') => State::Done,
            (State::Trailer | State::TrailerName, byte) if is_token(byte) => {
                self.trailer(State::TrailerName)?
            }
            (State::TrailerName, b':') => self.trailer(State::TrailerValue)?,
            (State::TrailerValue, b'\r') => State::TrailerEnd,
            (State::TrailerValue, byte) if is_text(byte) => self.trailer(State::TrailerValue)?,
            (State::TrailerEnd, b'\n') => State::Trailer,
            _ => return Err(Refusal::Chunk),
        };
        Ok(())
    }

    fn size_digit(&mut self, digits: u8, byte: u8) -> Result<State, Refusal> {
        let digit = hex(&byte).ok_or(Refusal::Chunk)?;
        if digits == SIZE_DIGITS_MAX {
            return Err(Refusal::Chunk);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size(digits + 1))
    }

    /// The size is complete. The sum is checked against the bound before the chunk arrives.
    fn size_known(&mut self, next: State, body_max: u32) -> Result<State, Refusal> {
        let size = u32::try_from(self.left).map_err(|_| Refusal::BodyTooLarge)?;
        let total = self.total.checked_add(size).filter(|total| *total <= body_max);
        self.total = total.ok_or(Refusal::BodyTooLarge)?;
        Ok(next)
    }

    fn extension(&mut self, next: State) -> Result<State, Refusal> {
        if self.overhead == EXTENSIONS_MAX {
            return Err(Refusal::ChunkExtensions);
        }
        self.overhead += 1;
        Ok(next)
    }

    fn trailer(&mut self, next: State) -> Result<State, Refusal> {
        if self.overhead == TRAILERS_MAX {
            return Err(Refusal::TrailersTooLong);
        }
        self.overhead += 1;
        Ok(next)
    }
}

/// Whether a field value may have this byte (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds the input in parts of the given sizes. Returns the body and the bytes after it, or the
    /// refusal.
    fn read(kind: BodyKind, input: &[u8], chunks: &[usize], max: u32) -> Result<Read, Refusal> {
        let mut body = Body::new(kind);
        let mut out = Vec::new();
        let (mut at, mut arrived, mut sizes) = (0, 0, chunks.iter().cycle());
        loop {
            let (consumed, chunk, done) = body.next(&input[at..arrived], max)?;
            if let Some(chunk) = chunk {
                assert!(!chunk.is_empty());
                assert_eq!(chunk, &input[at + consumed - chunk.len()..at + consumed]);
                out.extend_from_slice(chunk);
            }
            at += consumed;
            assert_eq!(done, body.is_done());
            if done {
                return Ok(Read { body: out, after: Some(at) });
            }
            if at == arrived && arrived == input.len() {
                return Ok(Read { body: out, after: None });
            }
            if at == arrived {
                arrived = (arrived + sizes.next().expect("cycle")).min(input.len());
            }
        }
    }

    #[derive(Debug, PartialEq)]
    struct Read {
        body: Vec<u8>,
        after: Option<usize>,
    }

    fn chunked(input: &str) -> Result<Read, Refusal> {
        let whole = read(BodyKind::Chunked, input.as_bytes(), &[1_000_000], 100);
        assert_eq!(whole, read(BodyKind::Chunked, input.as_bytes(), &[1], 100), "{input:?}");
        whole
    }

    #[test]
    fn chunks_are_joined() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("3\r\nabc\r\n00a\r\n0123456789\r\n0000\r\n\r\n", "abc0123456789"),
            ("1;a=b;c=\"d e\"\r\nx\r\n1 \t;q\r\ny\r\n0;z\r\n\r\n", "xy"),
            ("0\r\nA: b\r\nx-y:\r\n\r\n", ""),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ] {
            let after = Some(input.len());
            let read = Read { body: body.into(), after };
            assert_eq!(chunked(&format!("{input}GET")), Ok(read), "{input:?}");
            for cut in 0..input.len() {
                assert_eq!(chunked(&input[..cut]).map(|read| read.after), Ok(None), "{input:?}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let long_extension = format!("1;{}\r\nx\r\n", "a".repeat(1 + usize::from(EXTENSIONS_MAX)));
        let many_extensions = "1;abc\r\nx\r\n".repeat(400);
        let long_trailer = format!("0\r\na:{}", "b".repeat(usize::from(TRAILERS_MAX)));
        for (input, refusal) in [
            ("\r\n", Refusal::Chunk),
            (";a\r\n", Refusal::Chunk),
            ("g\r\n", Refusal::Chunk),
            ("+1\r\nx\r\n", Refusal::Chunk),
            (" 1\r\nx\r\n", Refusal::Chunk),
            ("1 \r\nx\r\n", Refusal::Chunk),
            ("0x1\r\nx\r\n", Refusal::Chunk),
            ("1\nx\n", Refusal::Chunk),
            ("1\rx", Refusal::Chunk),
            ("1;a\nx", Refusal::Chunk),
            ("1;a\rb\r\nx", Refusal::Chunk),
            ("1;a\0\r\nx", Refusal::Chunk),
            ("1\r\nxy\r\n", Refusal::Chunk),
            ("1\r\nx\n", Refusal::Chunk),
            ("1\r\nx\r\r\n", Refusal::Chunk),
            ("0\r\n\n", Refusal::Chunk),
            ("0\r\n\rx", Refusal::Chunk),
            ("0\r\nab\r\n", Refusal::Chunk),
            ("0\r\n: b\r\n", Refusal::Chunk),
            ("0\r\na : b\r\n", Refusal::Chunk),
            ("0\r\na: b\r\n c\r\n", Refusal::Chunk),
            ("0\r\na: b\0\r\n", Refusal::Chunk),
            ("0\r\na: b\n\r\n", Refusal::Chunk),
            ("00000000000000005\r\nhello\r\n", Refusal::Chunk),
            ("fffffffffffffffff\r\n", Refusal::Chunk),
            ("ffffffffffffffff\r\n", Refusal::BodyTooLarge),
            ("100000000\r\n", Refusal::BodyTooLarge),
            ("65\r\n", Refusal::BodyTooLarge),
            ("1\r\nx\r\n64\r\n", Refusal::BodyTooLarge),
            ("1\r\nx\r\nffffffff\r\n", Refusal::BodyTooLarge),
            (&long_extension, Refusal::ChunkExtensions),
            (&long_trailer, Refusal::TrailersTooLong),
        ] {
            assert_eq!(chunked(input), Err(refusal), "{input:?}");
        }
        let read = read(BodyKind::Chunked, many_extensions.as_bytes(), &[7], 1_000);
        assert_eq!(read, Err(Refusal::ChunkExtensions));
    }

    #[test]
    fn lengths() {
        let full = |kind, max| read(kind, b"helloGET", &[3], max);
        let read = |body: &[u8], after| Ok(Read { body: body.into(), after });
        assert_eq!(full(BodyKind::Length(5), 5), read(b"hello", Some(5)));
        assert_eq!(full(BodyKind::Length(9), 9), read(b"helloGET", None));
        assert_eq!(full(BodyKind::None, 0), read(b"", Some(0)));
        assert_eq!(full(BodyKind::Length(0), 0), read(b"", Some(0)));
        assert_eq!(full(BodyKind::Length(6), 5), Err(Refusal::BodyTooLarge));
        assert_eq!(full(BodyKind::Length(u64::MAX), 5), Err(Refusal::BodyTooLarge));
        // Before a single byte of the body has arrived.
        let early = Body::new(BodyKind::Length(6)).next(b"", 5);
        assert_eq!(early, Err(Refusal::BodyTooLarge));
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_is_read(
            body in prop::collection::vec(any::<u8>(), 0..300),
            chunk in 1_usize..40,
            chunks in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let mut input = Vec::new();
            for chunk in body.chunks(chunk) {
                input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\nrest");
            let expected = Read { body, after: Some(input.len() - 4) };
            prop_assert_eq!(read(BodyKind::Chunked, &input, &chunks, 300), Ok(expected));
        }

        #[test]
        fn chunking_of_anything_does_not_matter(
            input in "([0-9a-fA-F]{0,3}|[;: \t]|\r\n|\r|\n|x|0\r\n|1\r\nx\r\n){0,12}",
            chunks in prop::collection::vec(1_usize..6, 1..8),
        ) {
            let whole = read(BodyKind::Chunked, input.as_bytes(), &[1_000_000], 30);
            prop_assert_eq!(whole, read(BodyKind::Chunked, input.as_bytes(), &chunks, 30));
        }
    }
}

//! The client's side: writes a client's frames and reads a server's. For tests, the simulator and
//! the load generator; the server itself never uses it.

use memchr::memchr;

use super::Version;
use super::encoder::{put_body, put_line};
use super::escape::{Count, Fill, Sink};
use super::frame::Command;

/// A frame that a client sends. CONNECT and STOMP are written unescaped.
#[derive(Clone, Copy, Debug)]
pub struct ClientFrame<'a> {
    /// The command.
    pub command: Command,
    /// Raw headers; `content-length` is added when there is a body.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

impl ClientFrame<'_> {
    /// Bytes that `write` writes for `version`.
    pub fn len(&self, version: Version) -> usize {
        let mut count = Count(0);
        self.put(&mut count, version);
        count.0
    }

    /// Writes the frame and returns its length. Panics if `out` is shorter than `len`.
    pub fn write(&self, version: Version, out: &mut [u8]) -> usize {
        let mut fill = Fill::new(out);
        self.put(&mut fill, version);
        fill.len
    }

    fn put(&self, sink: &mut impl Sink, version: Version) {
        // Before a version is agreed on nothing is escaped, as in 1.0.
        let version = if self.command.opens() { Version::V1_0 } else { version };
        sink.put_all(&[self.command.text().as_bytes(), b"\n"]);
        for (name, value) in self.headers {
            put_line(sink, name.as_bytes(), value.as_bytes(), version);
        }
        if self.body.is_empty() {
            sink.put(b"\n\0");
        } else {
            put_body(sink, self.body);
        }
    }
}

/// A frame of a server, parsed leniently: nothing is unescaped.
#[derive(Clone, Copy, Debug)]
pub struct ServerFrame<'a> {
    command: &'a [u8],
    lines: &'a [u8],
    body: &'a [u8],
    consumed: usize,
}

impl<'a> ServerFrame<'a> {
    /// The first line.
    pub fn command(&self) -> &'a [u8] {
        self.command
    }

    /// The value of the first header of that name, still escaped.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.headers().find(|header| header.0 == name).map(|header| header.1)
    }

    /// All headers in order, still escaped.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.lines.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = memchr(b':', line)?;
            Some((&line[..colon], &line[colon + 1..]))
        })
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Bytes of the input up to and including the frame's NUL.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

/// Reads the frame at the start of `input`, skipping EOLs before it; `None` if it is incomplete.
pub fn parse_server_frame(input: &[u8]) -> Option<ServerFrame<'_>> {
    let start = input.iter().position(|byte| !matches!(byte, b'\n' | b'\r'))?;
    let mut at = start + memchr(b'\n', &input[start..])? + 1;
    let first = &input[start..at - 1];
    let lines = at;
    let mut length = None;
    loop {
        let line = &input[at..at + memchr(b'\n', &input[at..])?];
        at += line.len() + 1;
        match line.strip_suffix(b"\r").unwrap_or(line) {
            [] => break,
            line => {
                if let (Some(digits), None) = (line.strip_prefix(b"content-length:"), length) {
                    length = Some(core::str::from_utf8(digits).ok()?.parse::<usize>().ok()?);
                }
            }
        }
    }
    let rest = &input[at..];
    let length = length.or_else(|| memchr(0, rest))?;
    if rest.get(length) != Some(&0) {
        return None;
    }
    Some(ServerFrame {
        command: first.strip_suffix(b"\r").unwrap_or(first),
        lines: &input[lines..at],
        body: &rest[..length],
        consumed: at + length + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Header, Step};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_servers_frame_is_read_leniently() {
        let input = b"\nMESSAGE\r\na:b:c\r\n\ncontent-length:9\0";
        let frame = parse_server_frame(input).unwrap();
        assert_eq!(frame.command(), b"MESSAGE");
        assert_eq!(frame.header(b"a"), Some(&b"b:c"[..]));
        assert_eq!(frame.body(), b"content-length:9");
        assert_eq!(frame.consumed(), input.len());
        for part in 0..input.len() {
            assert!(parse_server_frame(&input[..part]).is_none());
        }
        assert!(parse_server_frame(b"MESSAGE\ncontent-length:1\n\nab\0").is_none());
    }

    proptest! {
        #[test]
        fn what_a_client_writes_the_decoder_reads(
            pairs in proptest::collection::vec(("[a-z\\\\\n:]{1,5}x", "[\\PC\n]{0,9}"), 0..5),
            body in proptest::collection::vec(any::<u8>(), 0..40),
            version in proptest::sample::select(vec![Version::V1_1, Version::V1_2]),
        ) {
            let headers: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let frame = ClientFrame { command: Command::Send, headers: &headers, body: &body };
            let mut bytes = vec![0; frame.len(version)];
            prop_assert_eq!(frame.write(version, &mut bytes), bytes.len());
            let mut room = [Header::EMPTY; 8];
            let step = Decoder::new().next(&mut bytes, &mut room, Some(version), 4_096);
            let Ok(Step::Frame { frame, .. }) = step else { panic!("{step:?}") };
            prop_assert_eq!(frame.body(), &body[..]);
            let read: Vec<_> = frame.headers().take(headers.len()).collect();
            let raw: Vec<_> = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            prop_assert_eq!(read, raw);
        }
    }
}

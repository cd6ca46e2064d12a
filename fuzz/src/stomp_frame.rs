//! STOMP: the result does not depend on how a client's bytes are cut, and every decoded frame can
//! be encoded again, by a client and by the server.

use ringpush::stomp::{
    ClientFrame, Command, Decoder, Error, Header, Message, Step, Version, canonical_headers,
    escape, heartbeat, negotiate, parse_server_frame, write_canonical_headers,
};

/// How the stream is to be read.
#[derive(Clone, Copy)]
struct Options {
    version: Option<Version>,
    frame_max: u32,
    headers_max: usize,
}

/// What the decoder returned, owned. Several EOLs in a row are one event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Eol,
    Frame(Command, Vec<(String, String)>, Vec<u8>),
    Refused(Error),
}

/// The first byte chooses the version (`0` none yet, `1` 1.0, `2` 1.1, `3` 1.2; `4` to `7` the
/// same with tiny bounds), the second the chunks; the rest is the stream.
pub fn stomp_frame(data: &[u8]) {
    let [first, seed, stream @ ..] = data else { return };
    let version = [None, Some(Version::V1_0), Some(Version::V1_1), Some(Version::V1_2)];
    let (frame_max, headers_max) = if first & 4 == 0 { (65_536, 64) } else { (48, 3) };
    let options = Options { version: version[usize::from(first & 3)], frame_max, headers_max };

    let whole = feed(&[stream], options);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(feed(&single, options), whole, "byte by byte");
    assert_eq!(feed(&chunks(stream, *seed), options), whole, "in chunks");

    for said in &whole {
        if let Said::Frame(_, headers, body) = said {
            said_again_by_a_client(headers, body, options.version);
            said_again_by_the_server(headers, body);
        }
    }
    // These also parse a peer's bytes: they must not panic.
    let _ = Decoder::faulty_receipt(stream);
    let _ = parse_server_frame(stream);
    let _ = heartbeat::parse(stream);
    let _ = negotiate(Some(stream));
}

/// Cuts of 1 to 16 bytes, from the seed.
fn chunks(stream: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut chunks, mut rest, mut state) = (Vec::new(), stream, u32::from(seed) + 1);
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (chunk, tail) = rest.split_at(rest.len().min(1 + (state >> 28) as usize));
        chunks.push(chunk);
        rest = tail;
    }
    chunks
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("names and values are UTF-8")
}

fn feed(chunks: &[&[u8]], options: Options) -> Vec<Said> {
    let Options { version, frame_max, headers_max } = options;
    let mut headers = vec![Header::EMPTY; headers_max];
    let (mut decoder, mut kept, mut all) = (Decoder::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        kept.extend_from_slice(chunk);
        loop {
            let consumed = match decoder.next(&mut kept, &mut headers, version, frame_max) {
                Ok(Step::NeedMore) => {
                    assert!(kept.len() < frame_max as usize, "what is kept is bounded");
                    break;
                }
                Ok(Step::Eol { consumed }) => {
                    if all.last() != Some(&Said::Eol) {
                        all.push(Said::Eol);
                    }
                    consumed
                }
                Ok(Step::Frame { consumed, frame }) => {
                    assert!(consumed <= frame_max as usize);
                    let pairs = frame.headers().map(|(name, value)| (text(name), text(value)));
                    all.push(Said::Frame(frame.command(), pairs.collect(), frame.body().to_vec()));
                    consumed
                }
                Err(error) => {
                    all.push(Said::Refused(error));
                    return all;
                }
            };
            assert!(consumed > 0 && consumed <= kept.len());
            kept.drain(..consumed);
        }
    }
    all
}

/// A SEND with these headers and this body is decoded to the same.
fn said_again_by_a_client(headers: &[(String, String)], body: &[u8], version: Option<Version>) {
    let Some(version) = version else { return };
    let own = |name: &String| name != "content-length";
    let pairs: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| own(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let frame = ClientFrame { command: Command::Send, headers: &pairs, body };
    let mut bytes = vec![0; frame.len(version)];
    assert_eq!(frame.write(version, &mut bytes), bytes.len());

    let options = Options { version: Some(version), frame_max: u32::MAX, headers_max: 65 };
    let again = feed(&[&bytes], options);
    let [Said::Frame(Command::Send, read, read_body)] = &again[..] else { panic!("{again:?}") };
    assert_eq!(read_body, body);
    let read: Vec<_> = read.iter().filter(|(name, _)| own(name)).cloned().collect();
    // STOMP 1.1 has no escape for CR, although this server accepts one.
    let lost = version == Version::V1_1;
    let meant: Vec<_> = pairs
        .iter()
        .map(|(name, value)| match lost {
            true => (name.replace('\r', "_"), value.replace('\r', "")),
            false => (name.to_string(), value.to_string()),
        })
        .collect();
    assert_eq!(read, meant);
}

/// A MESSAGE with these headers reads back in 1.2, and has the same lines in every version.
fn said_again_by_the_server(headers: &[(String, String)], body: &[u8]) {
    let pairs = || headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let (length, plain) = canonical_headers(pairs());
    let mut lines = vec![0; length];
    assert_eq!(write_canonical_headers(pairs(), &mut lines), length);
    let message = Message {
        headers: &lines,
        plain,
        subscription: Some(b"sub-0"),
        message_id: b"b-1",
        ack: None,
        body,
    };
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let mut bytes = vec![0; message.len(version)];
        assert_eq!(message.write(version, &mut bytes), bytes.len());
        let frame = parse_server_frame(&bytes).expect("our own frame");
        assert_eq!(frame.consumed(), bytes.len());
        assert_eq!(frame.body(), body);
        let forwarded = pairs().filter(|(name, _)| ringpush::stomp::is_forwarded(name));
        assert_eq!(frame.headers().count(), forwarded.clone().count() + 3);
        if version == Version::V1_2 {
            for ((name, value), (raw_name, raw_value)) in frame.headers().zip(forwarded) {
                assert_eq!(unescaped(name), raw_name);
                assert_eq!(unescaped(value), raw_value);
            }
        }
    }
}

fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    let length = escape::unescape(&mut copy, Version::V1_2).expect("our own escapes");
    copy.truncate(length);
    copy
}

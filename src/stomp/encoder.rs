//! Encodes a server's frames. `len` is exact, since one code path counts and writes.

use super::Version;
use super::escape::{Count, Fill, Half, Sink, escape, is_special, transcode};
use super::forge::is_forwarded;

/// Runs `write` once: counts, or fills `out`.
macro_rules! len_and_write {
    () => {
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
    };
}

/// A message to a subscriber.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The sender's header lines, each `name:value\n`, in 1.2's escaped form, as
    /// [`write_header_line`] writes them.
    pub headers: &'a [u8],
    /// `headers` has no escapes, so it is the same in all versions.
    pub plain: bool,
    /// The subscription's id, raw. It may be missing in 1.0.
    pub subscription: Option<&'a [u8]>,
    /// Unique name of the message, our own: it needs no escaping.
    pub message_id: &'a [u8],
    /// The id for an ACK of 1.2, likewise; only for subscriptions that acknowledge.
    pub ack: Option<&'a [u8]>,
    /// The body, any bytes.
    pub body: &'a [u8],
}

/// A part of a MESSAGE frame. The frames of one message for different subscription ids differ only
/// in the middle part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From the command to the colon after `subscription`.
    Front,
    /// The subscription's id; with `ack`, everything up to the end of the `ack` line.
    Middle,
    /// From the end of that line on.
    Back,
}

impl Message<'_> {
    len_and_write!();

    /// Bytes that `write_part` writes for `version`.
    pub fn part_len(&self, part: Part, version: Version) -> usize {
        let mut count = Count(0);
        self.put_part(&mut count, part, version);
        count.0
    }

    /// Writes one part and returns its length. Panics if `out` is shorter than `part_len`. The
    /// frame is the three parts in order.
    pub fn write_part(&self, part: Part, version: Version, out: &mut [u8]) -> usize {
        let mut fill = Fill::new(out);
        self.put_part(&mut fill, part, version);
        fill.len
    }

    #[inline]
    fn put(&self, sink: &mut impl Sink, version: Version) {
        self.put_headers(sink, version);
        if let Some(subscription) = self.subscription {
            sink.put(SUBSCRIPTION);
            escape(sink, subscription, version, Half::Value);
            sink.put(b"\n");
        }
        sink.put_all(&[MESSAGE_ID, self.message_id]);
        if let Some(ack) = self.ack {
            sink.put_all(&[ACK, ack]);
        }
        sink.put(b"\n");
        put_body(sink, self.body);
    }

    fn put_part(&self, sink: &mut impl Sink, part: Part, version: Version) {
        match (part, self.ack) {
            (Part::Front, _) => {
                self.put_headers(sink, version);
                sink.put(SUBSCRIPTION);
            }
            (Part::Middle, ack) => {
                let id = self.subscription.expect("a frame written in parts has an id");
                escape(sink, id, version, Half::Value);
                if let Some(ack) = ack {
                    sink.put(b"\n");
                    sink.put_all(&[MESSAGE_ID, self.message_id, ACK, ack]);
                }
            }
            (Part::Back, ack) => {
                sink.put(b"\n");
                if ack.is_none() {
                    sink.put_all(&[MESSAGE_ID, self.message_id, b"\n"]);
                }
                put_body(sink, self.body);
            }
        }
    }

    #[inline(always)] // To count is to add up.
    fn put_headers(&self, sink: &mut impl Sink, version: Version) {
        sink.put(b"MESSAGE\n");
        if self.plain || version == Version::V1_2 {
            debug_assert!(!self.plain || memchr::memchr(b'\\', self.headers).is_none());
            sink.put(self.headers);
        } else {
            put_canonical(sink, self.headers, version);
        }
    }
}

const SUBSCRIPTION: &[u8] = b"subscription:";
const MESSAGE_ID: &[u8] = b"message-id:";
/// Begins with the end of the line before it.
const ACK: &[u8] = b"\nack:";

/// The answer to CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// The version of the session.
    pub version: Version,
    /// The server's heart-beat offer in milliseconds: what it can send, what it wants to receive.
    pub heart_beat: (u32, u32),
    /// Name of the session.
    pub session: &'a [u8],
    /// Name of the server.
    pub server: &'a [u8],
    /// The session's user, as the server has determined it.
    pub user_name: Option<&'a [u8]>,
}

impl Connected<'_> {
    /// Bytes that `write` writes.
    pub fn len(&self) -> usize {
        let mut count = Count(0);
        self.put(&mut count);
        count.0
    }

    /// Always false: a frame has at least its command.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the frame and returns its length. Panics if `out` is shorter than `len`.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut fill = Fill::new(out);
        self.put(&mut fill);
        fill.len
    }

    fn put(&self, sink: &mut impl Sink) {
        let (send, receive) = self.heart_beat;
        sink.put_all(&[b"CONNECTED\nversion:", self.version.text().as_bytes()]);
        sink.put(b"\nheart-beat:");
        put_number(sink, u64::from(send));
        sink.put(b",");
        put_number(sink, u64::from(receive));
        for (name, value) in [
            (&b"\nsession:"[..], Some(self.session)),
            (b"\nserver:", Some(self.server)),
            (b"\nuser-name:", self.user_name),
        ] {
            if let Some(value) = value {
                sink.put(name);
                // STOMP 1.2 "Value Encoding": CONNECTED escapes nothing. Bytes that would end the
                // line or the frame are left out.
                for part in value.split(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                    sink.put(part);
                }
            }
        }
        sink.put(b"\n\n\0");
    }
}

/// The answer to a frame with a `receipt` header.
#[derive(Clone, Copy, Debug)]
pub struct Receipt<'a> {
    /// The value of that header, raw.
    pub receipt_id: &'a [u8],
}

impl Receipt<'_> {
    len_and_write!();

    fn put(&self, sink: &mut impl Sink, version: Version) {
        sink.put(b"RECEIPT\n");
        put_line(sink, b"receipt-id", self.receipt_id, version);
        sink.put(b"\n\0");
    }
}

/// The last frame of a session that went wrong.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFrame<'a> {
    /// A short text: what is wrong.
    pub message: &'a str,
    /// The faulty frame's `receipt`, raw.
    pub receipt_id: Option<&'a [u8]>,
    /// List the versions that this server knows: the client offered none of them.
    pub version_list: bool,
    /// A detailed text.
    pub body: &'a str,
}

impl ErrorFrame<'_> {
    len_and_write!();

    fn put(&self, sink: &mut impl Sink, version: Version) {
        sink.put(b"ERROR\n");
        put_line(sink, b"message", self.message.as_bytes(), version);
        if let Some(receipt_id) = self.receipt_id {
            put_line(sink, b"receipt-id", receipt_id, version);
        }
        if self.version_list {
            // STOMP 1.2 "Protocol Negotiation": the versions the server supports.
            sink.put(b"version:1.0,1.1,1.2\n");
        }
        // No blank in the value: an Android client does not understand one.
        sink.put(b"content-type:text/plain\n");
        put_body(sink, self.body.as_bytes());
    }
}

/// Whether a header's line needs no escaping, and is therefore the same in all versions.
pub fn header_is_plain(name: &[u8], value: &[u8]) -> bool {
    // All bytes are looked at, without a branch for each.
    let special = |half: &[u8]| half.iter().fold(false, |any, &byte| any | is_special(byte));
    !(special(name) | special(value))
}

/// Bytes of the line that [`write_header_line`] writes.
pub fn header_line_len(name: &[u8], value: &[u8]) -> usize {
    let mut count = Count(0);
    put_line(&mut count, name, value, Version::V1_2);
    count.0
}

/// Writes a raw header as a line in 1.2's escaped form and returns its length. Panics if `out` is
/// shorter than [`header_line_len`].
pub fn write_header_line(name: &[u8], value: &[u8], out: &mut [u8]) -> usize {
    let mut fill = Fill::new(out);
    put_line(&mut fill, name, value, Version::V1_2);
    fill.len
}

/// Length of a sender's forwarded headers as lines, and whether they are plain, for
/// [`Message::headers`] and [`Message::plain`].
pub fn canonical_headers<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> (usize, bool) {
    headers.filter(|(name, _)| is_forwarded(name)).fold((0, true), |(len, plain), (name, value)| {
        (len + header_line_len(name, value), plain && header_is_plain(name, value))
    })
}

/// Writes those lines and returns their length. Panics if `out` is too short for them.
pub fn write_canonical_headers<'a>(
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut [u8],
) -> usize {
    let mut fill = Fill::new(out);
    for (name, value) in headers.filter(|(name, _)| is_forwarded(name)) {
        put_line(&mut fill, name, value, Version::V1_2);
    }
    fill.len
}

/// A line from a raw name and value.
pub(super) fn put_line(sink: &mut impl Sink, name: &[u8], value: &[u8], version: Version) {
    escape(sink, name, version, Half::Name);
    sink.put(b":");
    escape(sink, value, version, Half::Value);
    sink.put(b"\n");
}

/// Lines in 1.2's escaped form, for an older version.
fn put_canonical(sink: &mut impl Sink, lines: &[u8], version: Version) {
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let colon = memchr::memchr(b':', line).expect("a header line has a colon");
        transcode(sink, &line[..colon], version, Half::Name);
        sink.put(b":");
        transcode(sink, &line[colon + 1..], version, Half::Value);
    }
}

/// `content-length`, the blank line, the body and the NUL.
#[inline(always)] // To count is to add up.
pub(super) fn put_body(sink: &mut impl Sink, body: &[u8]) {
    sink.put(b"content-length:");
    put_number(sink, body.len() as u64);
    sink.put_all(&[b"\n\n", body, b"\0"]);
}

fn put_number(sink: &mut impl Sink, number: u64) {
    let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    sink.put(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::super::{escape::unescape, parse_server_frame};
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "[a-z\\\\\n\r:\u{4e2d}]{1,5}";
    const VERSIONS: [Version; 3] = [Version::V1_0, Version::V1_1, Version::V1_2];

    fn written(len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
        // One byte more than `len`: an exact `write` leaves it unchanged.
        let mut out = vec![b'#'; len + 1];
        assert_eq!(write(&mut out), len);
        assert_eq!(out.pop(), Some(b'#'));
        out
    }

    fn message(message: &Message<'_>, version: Version) -> Vec<u8> {
        written(message.len(version), |out| message.write(version, out))
    }

    fn canonical(headers: &[(&[u8], &[u8])]) -> (Vec<u8>, bool) {
        let (len, plain) = canonical_headers(headers.iter().copied());
        (written(len, |out| write_canonical_headers(headers.iter().copied(), out)), plain)
    }

    #[test]
    fn a_message_has_the_senders_headers_first_and_its_length_last() {
        let (own, plain) = canonical(&[(b" destination", b"x"), (b"receipt", b"1"), (b"a", b"")]);
        assert!(plain && own == b"a:\n");
        let headers = [&own[..], b"destination:/topic/all\n"].concat();
        let mut frame = Message {
            headers: &headers,
            plain,
            subscription: Some(b"sub-0"),
            message_id: b"k3-17",
            ack: None,
            body: b"{\"a\":\0}",
        };
        let expected = b"MESSAGE\na:\ndestination:/topic/all\nsubscription:sub-0\n\
            message-id:k3-17\ncontent-length:7\n\n{\"a\":\0}\0";
        for version in VERSIONS {
            assert_eq!(message(&frame, version), expected, "{version:?}");
        }
        (frame.ack, frame.body, frame.subscription) = (Some(&b"9"[..]), b"", None);
        let expected = b"MESSAGE\na:\ndestination:/topic/all\nmessage-id:k3-17\nack:9\n\
            content-length:0\n\n\0";
        assert_eq!(message(&frame, Version::V1_2), expected);
    }

    #[test]
    fn headers_are_written_for_the_reader_not_the_sender() {
        let (headers, plain) = canonical(&[(b"a:\rb", b"c:\\\r\nd")]);
        assert_eq!(headers, b"a\\c\\rb:c\\c\\\\\\r\\nd\n");
        assert!(!plain);
        let line = |version| {
            let subscription = Some(&b"x:\n"[..]);
            let (message_id, ack, body) = (&b"1"[..], None, &b""[..]);
            let frame = Message { headers: &headers, plain, subscription, message_id, ack, body };
            let text = String::from_utf8(message(&frame, version)).unwrap();
            text.split('\n').skip(1).take(2).collect::<Vec<_>>().join("|")
        };
        assert_eq!(line(Version::V1_0), "a__b:c:\\d|subscription:x:");
        assert_eq!(line(Version::V1_1), "a\\c_b:c\\c\\\\\\nd|subscription:x\\c\\n");
        assert_eq!(line(Version::V1_2), "a\\c\\rb:c\\c\\\\\\r\\nd|subscription:x\\c\\n");
    }

    #[test]
    fn connected_cannot_be_forged() {
        let frame = Connected {
            version: Version::V1_1,
            heart_beat: (10_000, 0),
            session: b"s-1",
            server: b"ringpush/0.1.0",
            user_name: Some(b"7\nsession:x\r\0\\"),
        };
        let expected = b"CONNECTED\nversion:1.1\nheart-beat:10000,0\nsession:s-1\n\
            server:ringpush/0.1.0\nuser-name:7session:x\\\n\n\0";
        assert_eq!(written(frame.len(), |out| frame.write(out)), expected);
        assert!(!frame.is_empty());
    }

    #[test]
    fn receipts_and_errors() {
        let receipt = Receipt { receipt_id: b"a:1" };
        let write = |version| written(receipt.len(version), |out| receipt.write(version, out));
        assert_eq!(write(Version::V1_0), b"RECEIPT\nreceipt-id:a:1\n\n\0");
        assert_eq!(write(Version::V1_2), b"RECEIPT\nreceipt-id:a\\c1\n\n\0");
        let mut error = ErrorFrame {
            message: "No common version",
            receipt_id: None,
            version_list: true,
            body: "说 1.2",
        };
        let write = |error: &ErrorFrame<'_>| {
            let version = Version::V1_1;
            String::from_utf8(written(error.len(version), |out| error.write(version, out))).unwrap()
        };
        assert_eq!(
            write(&error),
            "ERROR\nmessage:No common version\nversion:1.0,1.1,1.2\n\
            content-type:text/plain\ncontent-length:7\n\n说 1.2\0"
        );
        (error.version_list, error.receipt_id) = (false, Some(&b"r-1"[..]));
        assert!(write(&error).starts_with("ERROR\nmessage:No common version\nreceipt-id:r-1\ncon"));
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 9, 10, 65_536, u64::MAX] {
            let mut out = [0; 20];
            let mut fill = Fill::new(&mut out);
            put_number(&mut fill, number);
            let len = fill.len;
            assert_eq!(&out[..len], number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn a_message_reads_back_in_every_version(
            pairs in proptest::collection::vec((NAME, "[\\PC\n\r]{0,9}"), 0..5),
            subscription in proptest::option::of("[\\PC\n]{1,8}"),
            body in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let raw: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            let (headers, plain) = canonical(&raw);
            let id = subscription.as_ref().map(|text| text.as_bytes());
            let (message_id, ack, body) = (&b"b-1"[..], Some(&b"b-1"[..]), &body[..]);
            let subscription = id;
            let frame = Message { headers: &headers, plain, subscription, message_id, ack, body };
            for version in VERSIONS {
                let bytes = message(&frame, version);
                let read = parse_server_frame(&bytes).expect("our own frame");
                prop_assert_eq!(read.command(), b"MESSAGE");
                prop_assert_eq!(read.body(), body);
                let said = |half, raw: &[u8]| {
                    let mut out = vec![0; 2 * raw.len()];
                    let mut fill = Fill::new(&mut out);
                    escape(&mut fill, raw, version, half);
                    let len = fill.len;
                    let len = unescape(&mut out[..len], version).unwrap();
                    out[..len].to_vec()
                };
                let mut expected: Vec<_> = raw.iter().filter(|(name, _)| is_forwarded(name))
                    .map(|(name, value)| (said(Half::Name, name), said(Half::Value, value)))
                    .collect();
                if let Some(id) = id {
                    expected.push((b"subscription".to_vec(), said(Half::Value, id)));
                }
                expected.push((b"message-id".to_vec(), b"b-1".to_vec()));
                expected.push((b"ack".to_vec(), b"b-1".to_vec()));
                expected.push((b"content-length".to_vec(), body.len().to_string().into_bytes()));
                let plain = |text: &[u8]| {
                    let mut copy = text.to_vec();
                    let len = unescape(&mut copy, version).unwrap();
                    copy.truncate(len);
                    copy
                };
                let found: Vec<_> = read.headers().map(|(n, v)| (plain(n), plain(v))).collect();
                prop_assert_eq!(found, expected, "{:?}", version);
                if version == Version::V1_2 {
                    let sent = raw.iter().filter(|(name, _)| is_forwarded(name));
                    for ((name, value), (raw_name, raw_value)) in read.headers().zip(sent) {
                        prop_assert_eq!(&plain(name)[..], *raw_name);
                        prop_assert_eq!(&plain(value)[..], *raw_value);
                    }
                }
            }
        }
    }
}

use super::*;
use crate::ws::{Inflater, Opcode};
use naive_inflate::{Bounds, inflate};
use proptest::prelude::*;

/// Names of subscriptions: none (STOMP 1.0), short, to be escaped.
// STOMP 1.1 has no escape for a carriage return: nothing is left of the fourth.
const NAMES: [&str; 4] = ["", "sub-0", "a:\n\\\"\u{2028}é", "\r"];

fn message(headers: &[(String, String)], body: &[u8]) -> Message {
    let mut message = Message::default();
    message.begin(None, "/topic/a");
    message.header(b"destination", b"/topic/a");
    for (name, value) in headers {
        message.header(name.as_bytes(), value.as_bytes());
    }
    message.finish(body);
    message
}

/// A frame: whether it is compressed, its opcode, its payload.
fn frame(bytes: &[u8]) -> (bool, u8, &[u8]) {
    let head = match bytes[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let len = ws::frame_len(bytes).expect("a whole head");
    assert_eq!(len, bytes.len() as u64, "one frame");
    (bytes[0] & 0x40 != 0, bytes[0] & 0xf, &bytes[head..])
}

/// The plain variant of a payload, by zlib and by the naive inflater with the agreed window.
fn inflated(payload: &[u8], bits: u8, chunk: usize) -> Vec<u8> {
    let naive = inflate(payload, &[], Bounds { message_max: 1 << 24, reach: 1 << bits });
    assert!(naive.whole, "valid within its window");
    let (mut inflater, mut out) = (Inflater::new(), Vec::new());
    inflater.begin(Opcode::Binary, 1 << 24);
    for chunk in payload.chunks(chunk) {
        inflater.feed(chunk, &mut out).expect("valid");
    }
    inflater.finish(&mut out).expect("whole");
    assert_eq!(out, naive.bytes);
    out
}

/// Encodes a message for all names in one variant; each has to say what a frame by itself says.
fn check(format: FrameFormat, message: &Message, least: u32, chunk: usize, names: &[&str]) -> u64 {
    let id = MessageId::new("b00t", 7);
    let mut encoder = Encoder::default();
    encoder.compress_from(least);
    let mut alone = Encoder::default();
    let (mut parts, mut head) = (Parts::default(), Head::default());
    for name in names {
        encoder.clear();
        alone.clear();
        let variant = variant_of(format, message);
        encoder.message_in_parts((format, variant), message, &id, name, (&mut parts, &mut head));
        // Without compression, which the other half of the tests is about.
        let plain = FrameFormat { encoding: format.encoding.with_deflate(0), ..format };
        alone.message(plain, message, &id, name);
        let bound = super::super::encode::message_bound(format, message, &id, name);
        assert!(encoder.bytes().len() <= bound, "within what is reckoned with");
        if is_over_http(format.encoding) {
            assert!(encoder.bytes() == alone.bytes());
            continue;
        }
        let ((packed, opcode, payload), expected) = (frame(encoder.bytes()), alone.bytes());
        let (_, plain_opcode, plain) = frame(expected);
        assert_eq!(opcode, plain_opcode);
        if packed {
            assert!(payload.len() < plain.len() && plain.len() >= least as usize);
            assert!(inflated(payload, format.encoding.deflate(), chunk) == plain);
        } else {
            assert!(payload == plain);
        }
    }
    encoder.deflates()
}

fn formats() -> impl Iterator<Item = FrameFormat> {
    let ways = [Encoding::PLAIN, Encoding::SockJsWebSocket { deflate: 0 }];
    let windows = [0u8].into_iter().chain(8..=15);
    let over_http = [
        Encoding::Queued,
        Encoding::XhrStreaming { chunked: true },
        Encoding::EventSource { chunked: true },
        Encoding::HtmlFile { chunked: false },
    ];
    let over_http = over_http.into_iter().map(|encoding| FrameFormat {
        encoding,
        version: Version::V1_1,
        acks: true,
    });
    let others = windows.flat_map(move |deflate| {
        ways.into_iter().flat_map(move |way| {
            [Version::V1_0, Version::V1_1, Version::V1_2].map(move |version| FrameFormat {
                encoding: way.with_deflate(deflate),
                version,
                acks: version != Version::V1_1,
            })
        })
    });
    others.chain(over_http)
}

#[test]
fn forms_are_told_apart_where_their_bytes_differ() {
    let plain = message(&[], b"{}");
    let escaped = message(&[("a:b".into(), "c\n".into())], b"{}");
    let count = |message: &Message| {
        let mut variants: Vec<Variants> =
            formats().map(|format| variant_of(format, message)).collect();
        assert!(variants.iter().all(|variant| variant.count_ones() <= 1));
        variants.sort_unstable();
        variants.dedup();
        variants.len()
    };
    // Eight windows and none for SockJS, eight for WebSocket, with and without acks; one over
    // HTTP; and what is written as it is.
    assert_eq!((count(&plain), count(&escaped)), (2 * 17 + 2, 3 * 17 + 2));
    let mut several = Several::default();
    assert!(!several.note(2) && !several.have(2) && !several.note(0) && !several.note(0));
    assert!(several.note(2) && !several.note(2) && several.have(2) && !several.have(0));
}

/// Bodies and headers below and above every window, in every variant.
#[test]
fn every_form_and_window_says_what_a_frame_by_itself_says() {
    let long = "{\"number\":\"+4930123456\",\"state\":\"ringing\"},".repeat(1_000);
    let headers = [("x:y".to_owned(), "long, and said again; ".repeat(90))];
    for format in formats() {
        for len in [0, 200, 4_000, 34_000] {
            for headers in [&[][..], &headers] {
                let message = message(headers, &long.as_bytes()[..len]);
                let deflates = check(format, &message, 512, 1 << 20, &NAMES);
                // Front and back for all names; and the whole for the one that has none.
                assert!(deflates <= 3, "{deflates}");
            }
        }
    }
}

/// The middle is longer than a stored block, which is the longest that deflate has.
#[test]
fn a_name_may_be_longer_than_a_stored_block() {
    let name = "x".repeat(70_000);
    let encoding = Encoding::WebSocket { deflate: 15 };
    let format = FrameFormat { encoding, version: Version::V1_2, acks: false };
    check(format, &message(&[], &[b'y'; 3_000]), 512, 1 << 20, &[&name, "x"]);
}

#[test]
fn what_does_not_shrink_is_tried_once() {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = std::iter::repeat_with(next).take(9_000).collect();
    let encoding = Encoding::WebSocket { deflate: 15 };
    let format = FrameFormat { encoding, version: Version::V1_2, acks: false };
    assert_eq!(check(format, &message(&[], &noise), 512, 1 << 20, &NAMES[1..]), 1);
}

proptest! {
    #[test]
    fn parts_behind_each_other_are_the_frame(
        headers in prop::collection::vec(("[a-c:\\\\\n]{1,4}", "\\PC{0,9}|(ab){0,400}"), 0..4),
        body in prop::collection::vec("[a-e]{1,9}|\\PC{1,3}|\"", 0..300),
        broken in prop::option::of(any::<prop::sample::Index>()),
        which in any::<prop::sample::Index>(),
        least in prop::sample::select(vec![1u32, 100, 512]),
        chunk in prop::sample::select(vec![1usize, 7, 4_096]),
    ) {
        let mut body = body.concat().into_bytes();
        if let (Some(at), false) = (broken, body.is_empty()) {
            // It may be no text any more.
            let at = at.index(body.len());
            body[at] = 0xff;
        }
        let formats: Vec<FrameFormat> = formats().collect();
        let format = formats[which.index(formats.len())];
        check(format, &message(&headers, &body), least, chunk, &NAMES);
    }
}

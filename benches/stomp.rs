//! STOMP frames in and out, and the SockJS frame around them.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringpush::{sockjs, stomp};
use stomp::{Decoder, Header, Message, Step, Version};

const V1_2: Option<Version> = Some(Version::V1_2);
const FRAME_MAX: u32 = 65_536;

fn send(headers: &str, body: usize) -> Vec<u8> {
    let mut frame = format!("SEND\ndestination:/topic/all\n{headers}\n").into_bytes();
    frame.resize(frame.len() + body, b'x');
    frame.push(0);
    frame
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stomp/decode");
    let sized = "content-length:65000\ncontent-type:application/json\n";
    let cases = [
        ("send_small", send("", 32), 32),
        ("send_128B", send("content-length:128\ncontent-type:application/json\n", 128), 128),
        ("send_escaped", send("note:a\\cb\\nc\\\\d\n", 32), 32),
        ("send_64KiB", send(sized, 65_000), 65_000),
        ("send_64KiB_no_length", send("", 65_000), 65_000),
    ];
    for (name, frame, body) in cases {
        group.throughput(Throughput::Bytes(frame.len() as u64));
        let mut headers = [Header::EMPTY; 64];
        let mut decoder = Decoder::new();
        let mut one = |input: &mut Vec<u8>| match decoder.next(
            black_box(input),
            &mut headers,
            V1_2,
            FRAME_MAX,
        ) {
            Ok(Step::Frame { consumed, frame }) => {
                assert_eq!(frame.body().len(), body);
                assert_eq!(frame.header(b"destination"), Some(&b"/topic/all"[..]));
                consumed
            }
            other => panic!("{other:?}"),
        };
        if name == "send_escaped" {
            // Decoding changes these bytes, so each round gets a copy.
            let setup = || frame.clone();
            group.bench_function(name, |bencher| {
                bencher.iter_batched_ref(setup, &mut one, BatchSize::SmallInput);
            });
        } else {
            let mut input = frame.clone();
            group.bench_function(name, |bencher| bencher.iter(|| one(&mut input)));
        }
    }
    group.bench_function("send_4KiB_by_byte", |bencher| {
        let frame = send("", 4_000);
        let (mut headers, mut input) = ([Header::EMPTY; 64], frame.clone());
        bencher.iter(|| {
            let mut decoder = Decoder::new();
            let mut frames = 0;
            for length in 1..=input.len() {
                let step = decoder.next(&mut input[..length], &mut headers, V1_2, FRAME_MAX);
                frames += usize::from(matches!(step, Ok(Step::Frame { .. })));
            }
            assert_eq!(frames, 1);
        });
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stomp/encode");
    let plain = b"destination:/topic/all\ncontent-type:application/json\n";
    let escaped = b"destination:/topic/all\nnote:a\\cb\\nc\\\\d\n";
    let body = [b'x'; 128];
    let cases = [
        ("message_128B", &plain[..], true, Version::V1_2),
        ("message_128B_escaped_1_1", &escaped[..], false, Version::V1_1),
    ];
    for (name, headers, plain, version) in cases {
        let message = Message {
            headers,
            plain,
            subscription: Some(b"sub-0"),
            message_id: b"k3j2-1234567",
            ack: None,
            body: &body,
        };
        let mut out = [0; 512];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let message = black_box(&message);
                let length = message.len(version);
                assert_eq!(message.write(version, &mut out), length);
                assert_eq!(out[length - 2..length], *b"x\0");
            });
        });
    }
    group.finish();
}

fn sockjs_frames(criterion: &mut Criterion) {
    let json = r#"{"businessType":"CALL_IN","data":{"callId":"c-17","from":"+8613800000000"}}"#;
    let message = format!("MESSAGE\ndestination:/queue/sub\nsubscription:sub-0\n\n{json}\0");
    let cases = [
        ("message_json", message),
        ("plain_4KiB", "x".repeat(4_096)),
        ("chinese_4KiB", "来自服务器的消息！".repeat(152)),
    ];
    for (name, text) in cases {
        let mut group = criterion.benchmark_group("sockjs");
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut out = vec![0; 6 * text.len() + 5];
        let length = sockjs::message_len(&text);
        group.bench_function(format!("quote/{name}"), |bencher| {
            bencher.iter(|| assert_eq!(sockjs::write_message(black_box(&text), &mut out), length));
        });
        let frame = String::from_utf8(out[1..length].to_vec()).expect("a frame is text");
        let mut messages = sockjs::Messages::default();
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| {
                sockjs::decode(black_box(&frame), &mut messages).expect("our own frame");
                assert_eq!(messages.iter().next().map(str::len), Some(text.len()));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode, encode, sockjs_frames);
criterion_main!(benches);

//! The ws room: unmasking, UTF-8, decoding and encoding in batches, compression, the upgrade;
//! compared with tungstenite and fastwebsockets. Each bench checks its answer before it is timed.

mod peers;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use ringpush::http::{self, Bounds, HEADERS_MAX};
use ringpush::ws::{self, Compressor, Decoder, Event, Inflater, Opcode, Policy, client_head, mask};
use std::hint::black_box;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Messages of one batch: as many as a busy receive buffer or a turn's send has.
const BATCH: usize = 32;

fn group(criterion: &mut Criterion, throughput: Throughput) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group("ws");
    group.throughput(throughput);
    group
}

/// Compared with copying as much, and with only storing as much, which nothing in place can beat.
/// All begin at the offset of the payload of a frame with a 16-bit length.
fn unmask(criterion: &mut Criterion) {
    const HEAD: usize = 8;
    for size in [16, 64, 256, 1_024, 4_096, 16_384, 65_536, 1_048_576] {
        let mut bytes: Vec<u8> = (0..HEAD + size).map(|i| i as u8).collect();
        let payload = &mut bytes[HEAD..];
        let naive: Vec<u8> = payload.iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b).collect();
        mask::apply(payload, KEY, 0);
        assert_eq!(payload, naive);

        let mut group = group(criterion, Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("unmask", size), |bencher| {
            bencher.iter(|| mask::apply(black_box(payload), black_box(KEY), black_box(0)));
        });
        let mut copy = vec![0; HEAD + size];
        group.bench_function(BenchmarkId::new("memcpy", size), |bencher| {
            bencher.iter(|| black_box(&mut copy[HEAD..]).copy_from_slice(black_box(payload)));
        });
        group.bench_function(BenchmarkId::new("memset", size), |bencher| {
            bencher.iter(|| black_box(&mut copy[HEAD..]).fill(black_box(0)));
        });
        group.finish();
    }
}

/// A batch of masked frames, as in a receive buffer.
fn stream(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; 14];
    let head = client_head(opcode, true, payload.len() as u64, KEY, &mut out);
    let mut masked = payload.to_vec();
    mask::apply(&mut masked, KEY, 0);
    [&out[..head], &masked].concat().repeat(BATCH)
}

/// Decodes everything; the count of messages and their bytes.
fn decode(bytes: &mut [u8]) -> (usize, usize) {
    let mut decoder = Decoder::server();
    let (mut at, mut messages, mut sum) = (0, 0, 0);
    loop {
        match decoder.next(&mut bytes[at..], 65_536) {
            Ok((0, _)) => return (messages, sum),
            Ok((done, event)) => {
                at += done;
                if let Some(Event::Data { payload, last, .. }) = black_box(event) {
                    sum += payload.len();
                    messages += usize::from(last);
                }
            }
            Err(error) => panic!("{}", error.reason()),
        }
    }
}

/// Decoding alone, without a fresh copy: binary messages stay valid when they are unmasked again,
/// so each round masks what the one before it has unmasked.
fn decoding_in_place(criterion: &mut Criterion) {
    for size in [64, 1_024, 4_096, 16_384] {
        let mut bytes = stream(Opcode::Binary, &text(size));
        let plain = bytes.clone();
        assert_eq!(decode(&mut bytes), (BATCH, BATCH * size));
        assert_ne!(bytes, plain);
        assert_eq!(decode(&mut bytes), (BATCH, BATCH * size));
        assert_eq!(bytes, plain);

        let mut group = group(criterion, Throughput::Bytes((BATCH * size) as u64));
        group.bench_function(BenchmarkId::new("decode_in_place", size), |bencher| {
            bencher.iter(|| decode(black_box(&mut bytes)));
        });
        group.finish();
    }
}

fn text(size: usize) -> Vec<u8> {
    b"destination:/topic/a ".iter().copied().cycle().take(size).collect()
}

/// Decoding unmasks in place, so each round starts with a fresh copy, which is part of the time, as
/// receiving into the buffer would be. The other crates copy out of the wire as well.
fn decoding(criterion: &mut Criterion) {
    for size in [1, 64, 1_024, 4_096] {
        let bytes = stream(Opcode::Text, &text(size));
        let mut copy = bytes.clone();
        let all = (BATCH, BATCH * size);
        assert_eq!(decode(&mut copy), all);
        let mut tungstenite = peers::tungstenite(&bytes);
        assert_eq!(peers::tungstenite_decode(&mut tungstenite, BATCH), all);
        let mut fast = peers::fast(&bytes);
        assert_eq!(peers::fast_decode(&mut fast, BATCH), all);

        let mut group = group(criterion, Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| {
                copy.copy_from_slice(&bytes);
                decode(black_box(&mut copy))
            });
        });
        group.bench_function(BenchmarkId::new("decode_tungstenite", size), |bencher| {
            bencher.iter(|| peers::tungstenite_decode(black_box(&mut tungstenite), BATCH));
        });
        group.bench_function(BenchmarkId::new("decode_fastwebsockets", size), |bencher| {
            bencher.iter(|| peers::fast_decode(black_box(&mut fast), BATCH));
        });
        group.finish();
    }
}

/// The cost of validating text: the same bytes as text and as binary; the standard library alone.
fn utf8(criterion: &mut Criterion) {
    let mixed = "Gespräch für die Hotline: κόσµε, 電話 ☎, 😀 ".repeat(100);
    let cut = mixed.floor_char_boundary(4_096);
    for (name, payload) in [("ascii", &text(4_096)[..]), ("mixed", &mixed.as_bytes()[..cut])] {
        assert!(str::from_utf8(payload).is_ok());
        let mut group = group(criterion, Throughput::Bytes((BATCH * payload.len()) as u64));
        for (kind, opcode) in [("text", Opcode::Text), ("binary", Opcode::Binary)] {
            let bytes = stream(opcode, payload);
            let mut copy = bytes.clone();
            group.bench_function(BenchmarkId::new(format!("utf8_{kind}"), name), |bencher| {
                bencher.iter(|| {
                    copy.copy_from_slice(&bytes);
                    decode(black_box(&mut copy))
                });
            });
        }
        group.bench_function(BenchmarkId::new("utf8_std_alone", name), |bencher| {
            bencher.iter(|| (0..BATCH).all(|_| str::from_utf8(black_box(payload)).is_ok()));
        });
        group.finish();
    }
}

/// A batch into one buffer.
fn encode(out: &mut Vec<u8>, payload: &[u8]) -> usize {
    out.clear();
    for _ in 0..BATCH {
        let mut head = [0; 10];
        let len = ws::head(Opcode::Text, true, payload.len() as u64, &mut head);
        out.extend_from_slice(&head[..len]);
        out.extend_from_slice(black_box(payload));
    }
    out.len()
}

fn encoding(criterion: &mut Criterion) {
    for size in [1, 64, 1_024] {
        let payload = text(size);
        let message = String::from_utf8(payload.clone()).expect("ASCII");
        let message = tungstenite::Message::text(message);
        let (mut out, mut one, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        let len = encode(&mut one, &payload);
        let mut socket = peers::tungstenite(b"unread");
        assert_eq!(peers::tungstenite_encode(&mut socket, &message, BATCH), len);
        assert_eq!(socket.get_ref().written, one);
        assert_eq!(peers::fast_encode(&mut out, &mut frame, &payload, BATCH), len);
        assert_eq!(out, one);

        let mut group = group(criterion, Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| encode(black_box(&mut out), &payload));
        });
        group.bench_function(BenchmarkId::new("encode_tungstenite", size), |bencher| {
            bencher.iter(|| peers::tungstenite_encode(&mut socket, black_box(&message), BATCH));
        });
        group.bench_function(BenchmarkId::new("encode_fastwebsockets", size), |bencher| {
            bencher.iter(|| peers::fast_encode(&mut out, &mut frame, black_box(&payload), BATCH));
        });
        group.finish();
    }
}

/// One message at a time, without takeover. JSON like that of a telephony cloud.
fn compression(criterion: &mut Criterion) {
    for size in [512, 2_048, 16_384] {
        let mut json = String::new();
        for call in 0.. {
            json += &format!(
                "{{\"call\":{call},\"number\":\"+4930{}\",\"state\":\"ringing\",\"agent\":{}}},",
                call * 7_919 % 900_000,
                call * 31 % 97
            );
            if json.len() >= size {
                break;
            }
        }
        let json = &json.as_bytes()[..size];
        let (mut compressor, mut compressed) = (Compressor::new(), Vec::new());
        assert!(compressor.compress(json, 15, &mut compressed));
        let (mut inflater, mut back, mut scratch) = (Inflater::new(), Vec::new(), Vec::new());
        let mut inflate = |back: &mut Vec<u8>| {
            back.clear();
            inflater.begin(Opcode::Text, 65_536);
            inflater.feed(black_box(&compressed), back).expect("our own");
            inflater.finish(back).expect("our own");
        };
        inflate(&mut back);
        assert_eq!(back, json);

        let mut group = group(criterion, Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("compress", size), |bencher| {
            bencher.iter(|| {
                scratch.clear();
                compressor.compress(black_box(json), 15, &mut scratch)
            });
        });
        group.bench_function(BenchmarkId::new("inflate", size), |bencher| {
            bencher.iter(|| inflate(&mut back));
        });
        group.finish();
    }
}

const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: push.example.com\r\nConnection: Upgrade\r\n\
    Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
    AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n\
    Origin: https://push.example.com\r\nSec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-DE,de;q=0.9,en;q=0.8\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-WebSocket-Protocol: v12.stomp, v11.stomp\r\n\r\n";

/// A browser's handshake: from the request's bytes to those of the 101, with all decisions between.
fn upgrade(request: &[u8], out: &mut [u8]) -> usize {
    let bounds = Bounds { head: 16_384, headers: 100, target: 8_192 };
    let mut storage = [http::EMPTY_HEADER; HEADERS_MAX];
    let head = http::parse(request, &mut storage, &bounds).expect("valid").expect("whole");
    let accept = http::check(&head).expect("a handshake").accept;
    let stomp = http::stomp_subprotocol(&head).name();
    let lines = head.header_values("sec-websocket-extensions");
    let agreement = ws::negotiate(lines, Policy::default()).expect("a list").expect("an offer");
    let mut answer = [0; ws::ANSWER_MAX];
    http::write_101(&accept, stomp, Some(agreement.write(&mut answer)), out)
}

/// tungstenite's answer knows no subprotocol and no extension; the rest is the same work.
fn upgrading(criterion: &mut Criterion) {
    let mut out = [0; http::UPGRADE_MAX];
    let len = upgrade(REQUEST, &mut out);
    let answer = str::from_utf8(&out[..len]).expect("ASCII");
    let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    assert!(answer.contains(accept) && answer.contains("v12.stomp"));
    assert!(answer.contains("server_no_context_takeover; client_no_context_takeover\r\n"));
    let other = peers::tungstenite_upgrade(REQUEST);
    assert!(str::from_utf8(&other).expect("ASCII").contains(accept));

    let mut group = group(criterion, Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("upgrade", REQUEST.len()), |bencher| {
        bencher.iter(|| upgrade(black_box(REQUEST), &mut out));
    });
    group.bench_function(BenchmarkId::new("upgrade_tungstenite", REQUEST.len()), |bencher| {
        bencher.iter(|| peers::tungstenite_upgrade(black_box(REQUEST)));
    });
    group.finish();
}

criterion_group!(
    benches,
    unmask,
    decoding,
    decoding_in_place,
    utf8,
    encoding,
    compression,
    upgrading
);
criterion_main!(benches);

//! Frames: unmasking and decoding. Each bench checks its answer before it is timed.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringpush::ws::{Decoder, Event, Opcode, client_head, mask};
use std::hint::black_box;
use std::io::{Read, Write};
use tungstenite::protocol::{Message, Role, WebSocket};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SIZES: [usize; 5] = [64, 256, 1_024, 4_096, 16_384];
/// Frames of one decoded buffer: what a busy receive buffer holds.
const FRAMES: usize = 32;

fn unmask(criterion: &mut Criterion) {
    for size in SIZES {
        let mut payload: Vec<u8> = (0..size).map(|i| i as u8).collect();
        let naive: Vec<u8> = payload.iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b).collect();
        let mut once = payload.clone();
        mask::apply(&mut once, KEY, 0);
        assert_eq!(once, naive);

        let mut group = criterion.benchmark_group("ws");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("unmask", size), |bencher| {
            bencher.iter(|| mask::apply(black_box(&mut payload), black_box(KEY), black_box(0)));
        });
        let mut copy = vec![0; size];
        group.bench_function(BenchmarkId::new("memcpy", size), |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&once)));
        });
        group.finish();
    }
}

/// Masked text frames, one after the other, as they lie in a receive buffer.
fn stream(payload: &[u8]) -> Vec<u8> {
    let mut out = [0; 14];
    let head = client_head(Opcode::Text, true, payload.len() as u64, KEY, &mut out);
    let mut masked = payload.to_vec();
    mask::apply(&mut masked, KEY, 0);
    [&out[..head], &masked].concat().repeat(FRAMES)
}

/// Decodes everything; the octets of all messages and their count.
fn decode(octets: &mut [u8]) -> (usize, usize) {
    let mut decoder = Decoder::server();
    let (mut at, mut messages, mut sum) = (0, 0, 0);
    loop {
        match decoder.next(&mut octets[at..], 65_536) {
            Ok((0, _)) => return (messages, sum),
            Ok((done, event)) => {
                at += done;
                if let Some(Event::Data { payload, last, .. }) = black_box(event) {
                    sum += payload.len();
                    messages += usize::from(last);
                }
            }
            Err(error) => panic!("{}", error.label()),
        }
    }
}

/// The peer: tungstenite's socket over the same octets, again and again. It is made once, so that
/// its buffers are not part of the time.
type Peer<'a> = WebSocket<Wire<'a>>;

/// The next `FRAMES` messages of the peer, counted as [`decode`] does.
fn peer_decode(socket: &mut Peer<'_>) -> (usize, usize) {
    let mut sum = 0;
    for _ in 0..FRAMES {
        match black_box(socket.read().expect("no fault in the stream")) {
            Message::Text(text) => sum += text.len(),
            other => panic!("{other:?}"),
        }
    }
    (FRAMES, sum)
}

/// Reads a slice over and over, swallows what is written.
struct Wire<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let done = (&self.octets[self.at..]).read(out)?;
        self.at = (self.at + done) % self.octets.len();
        Ok(done)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn decoding(criterion: &mut Criterion) {
    for size in SIZES {
        let text: Vec<u8> = b"destination:/topic/a ".iter().copied().cycle().take(size).collect();
        let octets = stream(&text);
        let mut copy = octets.clone();
        assert_eq!(decode(&mut copy), (FRAMES, FRAMES * size));
        let wire = Wire { octets: &octets, at: 0 };
        let mut peer = Peer::from_raw_socket(wire, Role::Server, None);
        assert_eq!(peer_decode(&mut peer), (FRAMES, FRAMES * size));

        let mut group = criterion.benchmark_group("ws");
        group.throughput(Throughput::Elements(FRAMES as u64));
        // Decoding unmasks in place, so each round starts with a fresh copy: it is part of the
        // time, as receiving into the buffer would be.
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| {
                copy.copy_from_slice(&octets);
                decode(black_box(&mut copy))
            });
        });
        group.bench_function(BenchmarkId::new("tungstenite", size), |bencher| {
            bencher.iter(|| peer_decode(black_box(&mut peer)));
        });
        group.finish();
    }
}

criterion_group!(benches, unmask, decoding);
criterion_main!(benches);

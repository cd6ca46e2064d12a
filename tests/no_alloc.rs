//! Receiving and sending WebSocket frames allocate nothing once their buffers exist; compressing
//! and inflating nothing once their streams do.

use ringpush::broker::subscription::{FrameFormat, GROUP, Index};
use ringpush::encoding::Encoding;
use ringpush::ids::LinkIndex;
use ringpush::mem::secret::Random;
use ringpush::stomp::Version;
use ringpush::ws::{self, Compressor, Decoder, Event, Inflater, Opcode, Window, mask};

mod counting;

use counting::{allocations, held};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; 14];
    let len = ws::client_head(Opcode::Binary, true, payload.len() as u64, KEY, &mut head);
    head[0] = first;
    let mut masked = payload.to_vec();
    mask::apply(&mut masked, KEY, 0);
    [&head[..len], &masked].concat()
}

/// A session: whole messages and fragments, control frames between them, all forms of the length.
fn session() -> Vec<u8> {
    [
        frame(0x81, b"Hello"),
        frame(0x01, "κόσ".as_bytes()),
        frame(0x89, b"still there?"),
        frame(0x80, "µε".as_bytes()),
        frame(0x82, &[7; 20_000]),
        frame(0x02, &[7; 300]),
        frame(0x00, b""),
        frame(0x80, &[8; 40_000]),
        frame(0x8a, b""),
        frame(0x88, b"\x03\xe8bye"),
    ]
    .concat()
}

/// Decodes in receives of `length` bytes; an unfinished message is collected in `message`.
fn receive(bytes: &mut [u8], length: usize, message: &mut Vec<u8>) -> (usize, Option<u16>) {
    let mut decoder = Decoder::server();
    let (mut at, mut end, mut messages) = (0, 0, 0);
    loop {
        let (done, event) = decoder.next(&mut bytes[at..end], 65_536).expect("no fault");
        at += done;
        match event {
            Some(Event::Data { payload, last, .. }) => {
                message.extend_from_slice(payload);
                if last {
                    messages += 1;
                    message.clear();
                }
            }
            Some(Event::Close { code, .. }) => return (messages, code),
            Some(Event::Ping(_) | Event::Pong(_)) | None => {}
        }
        if done == 0 {
            assert!(end < bytes.len(), "the session ends with a Close");
            end = (end + length).min(bytes.len());
        }
    }
}

#[test]
fn decoding_and_assembling_allocate_nothing() {
    let session = session();
    let mut copies = [session.clone(), session.clone(), session];
    // The connection's buffer stays within its first allocation.
    let mut message = Vec::with_capacity(65_536);
    let (count, answers) = allocations(|| {
        let mut lengths = [1, 1_460, 100_000].into_iter();
        copies
            .each_mut()
            .map(|bytes| receive(bytes, lengths.next().expect("one for each"), &mut message))
    });
    assert_eq!(answers, [(4, Some(1_000)); 3]);
    assert_eq!(count, 0);
}

#[test]
fn encoding_allocates_nothing() {
    let mut out = Vec::with_capacity(200_000);
    let (count, ()) = allocations(|| {
        for len in [0, 125, 126, 65_535, 65_536] {
            let mut head = [0; 10];
            let at = ws::head(Opcode::Text, true, len, &mut head);
            out.extend_from_slice(&head[..at]);
            out.resize(out.len() + len as usize, b'x');
        }
        let mut payload = [0; 125];
        let len = ws::close_payload(4_500, "no CONNECT came", &mut payload);
        let mut head = [0; 10];
        let at = ws::head(Opcode::Close, true, len as u64, &mut head);
        out.extend_from_slice(&head[..at]);
        out.extend_from_slice(&payload[..len]);
    });
    assert_eq!((count, out.len()), (0, 131_322 + 2 + 2 + 4 + 4 + 10 + 2 + 17));
}

/// One round of everything that compresses, into buffers that are reused.
fn round(shared: &mut (Compressor, Inflater), windows: &mut [Window; 2], out: &mut [Vec<u8>; 2]) {
    let (compressor, inflater) = shared;
    let message = [b'x'; 3_000];
    let [sent, received] = out;
    for bits in [9, 15] {
        sent.clear();
        received.clear();
        assert!(compressor.compress(&message, bits, sent));
        inflater.begin(Opcode::Text, 65_536);
        sent.chunks(7).for_each(|chunk| inflater.feed(chunk, received).expect("our own"));
        inflater.finish(received).expect("our own");
        assert_eq!(received, &message);
    }
    sent.clear();
    received.clear();
    let [ours, theirs] = windows;
    assert!(compressor.compress_after(&message, ours, sent));
    inflater.begin_after(Opcode::Text, 65_536, theirs);
    inflater.feed(sent, received).expect("our own");
    inflater.finish(received).expect("our own");
    theirs.push(received);
}

#[test]
fn compression_allocates_nothing_once_warm() {
    let mut shared = (Compressor::new(), Inflater::new());
    let mut windows = [Window::new(12), Window::new(12)];
    let mut out = [Vec::new(), Vec::new()];
    // Two rounds fill the windows.
    for _ in 0..2 {
        round(&mut shared, &mut windows, &mut out);
    }
    let (count, ()) = allocations(|| round(&mut shared, &mut windows, &mut out));
    assert_eq!(count, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| std::hint::black_box(vec![1u8; 10])).0, 1);
}

/// `subscribed-bytes` counts what a group costs: with destinations and ids that nobody else has, at
/// the worst moment of its tables, after many messages at once.
#[test]
fn a_group_costs_no_more_than_is_counted_for_it() {
    let encoding = Encoding::PLAIN;
    let format = FrameFormat { encoding, version: Version::V1_2, acks: false };
    let before = held();
    let mut index = Index::new('/', &mut Random::known(7));
    let mut most = 0;
    for number in 0..9_000u64 {
        let (destination, id) = (format!("/topic/{number}"), format!("id-{number}"));
        let destination = index.names().intern(&destination);
        let id = index.names().intern(&id);
        let (group, _) = index.join(destination, id, format, LinkIndex(0));
        let group = index.group_mut(group);
        group.pending.extend(0..200);
        group.pending.clear();
        group.give_back();
        if number >= 1_000 {
            let cost = held() - before - index.names().bytes() as i64;
            most = most.max(cost as u64 / (number + 1));
        }
    }
    assert!(most <= GROUP, "{most} of {GROUP}");
    assert!(GROUP - most < 100, "{most} of {GROUP}");
}

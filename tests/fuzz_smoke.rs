//! Runs the fuzzers' oracles on the stable compiler: over the corpus, and over pseudo-random
//! changes of it from fixed seeds. Canaries are decoders broken on purpose, which the oracles must
//! catch.

#[path = "../fuzz/src/lib.rs"]
mod oracles;

use oracles::ws::{Framer, ws_frame_of};
use oracles::ws_message::{Rule, Unpack, ws_message_of};
use ringpush::ws::{Decoder, Error, Event, Inflater};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The seed inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).expect("the corpus is part of the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

/// One to four changes: a byte, a bit, a part removed or doubled, another input inserted.
fn mutated(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut data = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len());
        let end = (at + 1 + random.below(12)).min(data.len());
        match random.below(5) {
            0 if !data.is_empty() => data[at] = random.next() as u8,
            1 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            2 => drop(data.drain(at..end)),
            3 => {
                let run = data[at..end].to_vec();
                data.splice(at..at, run);
            }
            _ => {
                let other = &inputs[random.below(inputs.len())];
                data.splice(at.., other.iter().skip(random.below(other.len())).copied());
            }
        }
    }
    data
}

/// Runs an oracle over the corpus and over `rounds` changed inputs. A failure names its seed.
fn smoke(target: &str, rounds: u64, oracle: impl Fn(&[u8])) {
    let inputs = corpus(target);
    inputs.iter().for_each(|input| oracle(input));
    for seed in 0..rounds {
        let data = mutated(&mut Random(seed), &inputs);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| oracle(&data))) {
            eprintln!("{target}: seed {seed}, input {data:02x?}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Whether an oracle rejects at least one input of the corpus.
fn caught(target: &str, oracle: impl Fn(&[u8])) -> bool {
    let failed = |input: &Vec<u8>| catch_unwind(AssertUnwindSafe(|| oracle(input))).is_err();
    corpus(target).iter().any(failed)
}

#[test]
fn ws_frame() {
    smoke("ws_frame", 6_000, oracles::ws_frame);
}

#[test]
fn ws_message() {
    smoke("ws_message", 4_000, oracles::ws_message);
}

#[test]
fn http_head() {
    smoke("http_head", 4_000, oracles::http_head);
}

#[test]
fn stomp_frame() {
    smoke("stomp_frame", 4_000, oracles::stomp_frame);
}

/// Loses its state when a head has no payload.
struct Forgetful(Decoder);

impl Framer for Forgetful {
    fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        message_max: u32,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        let answer = self.0.next(input, message_max)?;
        if answer.0 > 0 && answer.1.is_none() {
            self.0 = Decoder::server();
        }
        Ok(answer)
    }
}

/// Wrong in the same way however the stream is cut: only the naive reader finds it.
struct Confused(Decoder);

impl Framer for Confused {
    fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        message_max: u32,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        let (done, event) = self.0.next(input, message_max)?;
        let event = event.map(|event| match event {
            Event::Pong(payload) => Event::Ping(payload),
            other => other,
        });
        Ok((done, event))
    }
}

#[test]
fn canaries_of_ws_frame_are_caught() {
    assert!(!caught("ws_frame", |data| ws_frame_of(data, |decoder| decoder)));
    assert!(caught("ws_frame", |data| ws_frame_of(data, Forgetful)));
    assert!(caught("ws_frame", |data| ws_frame_of(data, Confused)));
}

/// Accepts a message as whole when its bytes have run out.
struct Credulous(Inflater);

impl Unpack for Credulous {
    fn unpack(&mut self, rule: Rule<'_>, chunks: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        let end = self.0.unpack(rule, chunks, out);
        if end == Err(Error::NotDeflate) { Ok(()) } else { end }
    }
}

/// Ignores the bound.
struct Boundless(Inflater);

impl Unpack for Boundless {
    fn unpack(&mut self, rule: Rule<'_>, chunks: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        self.0.unpack(Rule { message_max: u32::MAX, ..rule }, chunks, out)
    }
}

/// Starts every message with an empty window, agreed or not.
struct Oblivious(Inflater);

impl Unpack for Oblivious {
    fn unpack(&mut self, rule: Rule<'_>, chunks: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        self.0.unpack(Rule { window: None, ..rule }, chunks, out)
    }
}

#[test]
fn canaries_of_ws_message_are_caught() {
    fn found<U: Unpack>(make: impl Fn() -> U) -> bool {
        caught("ws_message", |data| ws_message_of(data, &mut make()))
    }
    assert!(!found(Inflater::new));
    assert!(found(|| Credulous(Inflater::new())));
    assert!(found(|| Boundless(Inflater::new())));
    assert!(found(|| Oblivious(Inflater::new())));
}

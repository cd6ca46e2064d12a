//! Links without a connection of their own, with real connections, segments and fan-out, and a
//! kernel that takes what it is given.

use super::*;
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::broker::subscription::FrameFormat;
use crate::config::Sources;
use crate::engine::delivery::{Audience, Fanout, spoiled};
use crate::engine::events::Events;
use crate::engine::net::Transports;
use crate::engine::shared::{Keys, Shared};
use crate::ids::{GroupIndex, ListenerId, ShardId};
use crate::mem::region::Owner;
use crate::mem::secret::Random;
use crate::metrics::Metrics;
use crate::ring::Op;
use crate::stomp::Version;
use crate::time::Instant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

mod bounds;

const SLOTS: u32 = 4;
const STREAM: Encoding = Encoding::XhrStreaming { chunked: true };

/// A send of a connection: its slot, and the bytes.
type Sent = (Slot, Vec<u8>);

/// Parts of a shard, without its loop.
struct Bench {
    ctx: Context,
    net: Net,
    links: Links,
    fanout: Fanout,
    /// Bytes that each connection has been sent.
    wire: Vec<Vec<u8>>,
    /// What has been reported of links without a connection of their own, and not yet looked at.
    ended: Vec<LinkIndex>,
    released: Vec<LinkIndex>,
    number: u64,
}

struct Everybody;

impl Audience for Everybody {
    fn groups_of(&self, _: LinkIndex) -> impl Iterator<Item = GroupIndex> {
        std::iter::empty()
    }
    fn may_hear(&self, _: &Context, _: LinkIndex, _: &str) -> bool {
        true
    }
}

impl Bench {
    fn new(settings: &str, sessions: u32) -> Bench {
        let config = Sources::default().parse(settings, false).expect("the settings are right");
        let shared = Shared::new(config, 1, Keys::known(7), "b00t", Metrics::new(1));
        let limits = shared.limits.clone();
        let memory = Owner::new(limits.segment_bytes as usize).expect("memory");
        let segments = Segments::new(memory, limits.segment_size, limits.segment_bytes);
        let now = Instant(0);
        let mut links = Links::new(segments, (SLOTS, sessions), now);
        links.configure(limits.deflate_min, limits.message as usize);
        let mut net = Net::new(SLOTS, now, Transports::new(Vec::new()));
        for slot in (0..SLOTS).map(Slot) {
            net.accept(slot, ListenerId(0), ([127, 0, 0, 1], 9).into(), 0);
            links.open(slot);
        }
        let ctx = Context {
            me: ShardId(0),
            now,
            ms: 0,
            wall_millis: 0,
            metrics: shared.metrics.shard(0).clone(),
            limits,
            shared: Arc::new(shared),
            listeners: Vec::new(),
            slots: SLOTS,
            draining: None,
            can_move: false,
            events: Events::default(),
        };
        let fanout = Fanout::new('/', &mut Random::known(3));
        let wire = vec![Vec::new(); SLOTS as usize];
        let (ended, released) = (Vec::new(), Vec::new());
        Bench { ctx, net, links, fanout, wire, ended, released, number: 0 }
    }

    fn open(&mut self, encoding: Encoding, queue: u32) -> LinkIndex {
        let link = self.links.open_standalone(encoding, queue).expect("there is one left");
        let client = crate::engine::net::Client::NONE;
        self.net.set_client(link, client);
        link
    }

    fn join(&mut self, destination: &str, link: LinkIndex) {
        let names = self.fanout.names();
        let (destination, id) = (names.intern(destination), names.intern("sub-0"));
        let encoding = self.links.encoding(link);
        let format = FrameFormat { encoding, version: Version::V1_2, acks: false };
        self.fanout.join(destination, id, format, link);
    }

    fn publish(&mut self, destination: &str, body: &[u8]) {
        let mut message = Message::default();
        message.begin(None, destination);
        message.header(b"destination", destination.as_bytes());
        message.finish(body);
        self.number += 1;
        let message = (Arc::new(message), self.number);
        self.fanout.deliver(&self.ctx, message, &mut Budget::default());
    }

    /// A message for one link alone.
    fn send(&mut self, link: LinkIndex, text: &str) {
        let view = View { ctx: &self.ctx, net: &self.net };
        self.links.send(view, link, |encoder, encoding| {
            encoder.message_of(encoding, crate::ws::Opcode::Text, text.len(), |out| {
                out.copy_from_slice(text.as_bytes());
                text.len()
            });
        });
    }

    fn hear(&mut self) {
        while let Some((link, report)) = self.links.next_report() {
            match (self.links.slot(link), report) {
                (Some(slot), Report::Ended) => self.links.lose_receiver(slot),
                (None, Report::Ended) => self.ended.push(link),
                (None, Report::Released) => self.released.push(link),
                _ => {}
            }
        }
        while let Some(link) = self.links.next_woken() {
            self.links.resume(link);
        }
    }

    fn fan_out(&mut self) {
        if !self.fanout.run(&mut self.links, &Everybody, &self.ctx) {
            self.links.make_room(&mut self.net, &self.ctx);
            self.hear();
        }
    }

    /// The end of a turn.
    fn turn(&mut self) {
        self.fan_out();
        self.links.feed(&mut self.net, &self.ctx);
        self.hear();
        self.links.make_room_if_wanted(&mut self.net, &self.ctx);
        self.hear();
        self.links.flush(&mut self.net, &self.ctx);
        self.hear();
        self.ctx.now = self.ctx.now + crate::time::Millis(5);
        self.ctx.ms += 5;
    }

    /// The kernel takes what is in flight.
    fn take(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        let ops: Vec<Op> = self.net.ops().collect();
        for op in ops {
            if let Op::Send { conn, range } = op {
                let bytes = self.links.segments().bytes(range).to_vec();
                self.wire[conn.slot.index()].extend_from_slice(&bytes);
                let taken = Ok(range.len);
                self.links.on_sent(&mut self.net, &self.ctx, conn.slot, taken);
                self.hear();
                sent.push((conn.slot, bytes));
            }
        }
        sent
    }

    /// Reads an answer: its numbers go on where those before ended, and the session opens once.
    fn read(&mut self, slot: Slot, got: &mut u64, opened: &mut u32) -> Result<(), String> {
        let (numbers, others) = messages(&core::mem::take(&mut self.wire[slot.index()]));
        *opened += others.iter().filter(|frame| *frame == "o").count() as u32;
        for number in numbers {
            *got += 1;
            if number != *got {
                return Err(format!("{number} instead of {got}"));
            }
        }
        Ok(())
    }

    /// Turns until nothing is in flight any more.
    fn settle(&mut self) {
        loop {
            self.turn();
            self.links.invariants(&self.net);
            if self.take().is_empty() && !self.links.has_dirty() {
                return;
            }
        }
    }
}

/// The numbers of the messages in an answer; the frames that are none, as they are.
fn messages(bytes: &[u8]) -> (Vec<u64>, Vec<String>) {
    let mut body = bytes.to_vec();
    let chunked = !bytes.starts_with(b"HTTP/");
    if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| !chunked) {
        let head = String::from_utf8(bytes[..at].to_vec()).expect("a head");
        let len = head.rsplit_once("Content-Length: ").expect("a length").1;
        body = bytes[at + 4..].to_vec();
        assert_eq!(len.parse(), Ok(body.len()), "{head}");
    } else if !bytes.is_empty() {
        body.clear();
        let mut rest = bytes;
        loop {
            let at = rest.iter().position(|byte| *byte == b'\r').expect("a chunk's head");
            let text = core::str::from_utf8(&rest[..at]).expect("digits");
            let len = usize::from_str_radix(text, 16).expect("digits");
            body.extend_from_slice(&rest[at + 2..at + 2 + len]);
            rest = &rest[at + 2 + len + 2..];
            assert!(len > 0 || rest.is_empty(), "the last chunk comes last");
            if rest.is_empty() {
                break;
            }
        }
    }
    let text = String::from_utf8(body).expect("text");
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    for line in text.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        let call = line.strip_prefix("p(").or_else(|| line.strip_prefix("/**/cb("));
        let event = line.strip_prefix("data: ").map(|data| data.replace("%25", "%"));
        let frame = match call.and_then(|call| call.strip_suffix(");")) {
            Some(literal) => serde_json::from_str(literal).expect("a string"),
            None => event.unwrap_or_else(|| line.to_owned()),
        };
        match frame.strip_prefix('a') {
            Some(array) => {
                let all: Vec<String> = serde_json::from_str(array).expect("strings");
                numbers.extend(all.iter().map(|one| number_in(one)));
            }
            None if frame.contains("script>") => {}
            None => others.push(frame),
        }
    }
    (numbers, others)
}

/// `n` and a number stand in every message.
fn number_in(message: &str) -> u64 {
    let at = message.find('#').expect("a number");
    let digits: String = message[at + 1..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

fn text(number: u64) -> String {
    // Of all lengths, with what needs escapes of every kind.
    let filler = "<%\"\\\u{2028}é".repeat((number % 23) as usize);
    format!("#{number} {filler}")
}

/// A small pool, and sends that units are cut by.
const SMALL: &str = "[limits]
send-bytes = 120
send-buffer = 4194304
segment-bytes = 4194304
segment-size = 16384
";

/// What a change of connection may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    Lost,
    Twice,
}

/// An answer of one kind; streams have this many bytes.
fn answer(which: u64, limit: u32) -> Answer {
    let head = (*b"HTTP/1.1 200 OK\r\n").into();
    let encoding = match which {
        0 => return Answer::Poll { head, callback: None },
        1 => return Answer::Poll { head, callback: Some("cb".into()) },
        2 => Encoding::EventSource { chunked: true },
        3 => Encoding::HtmlFile { chunked: true },
        _ => STREAM,
    };
    Answer::Stream { encoding, limit, closes: false }
}

/// A numbered stream of messages over this many connections; what is wrong with what comes.
fn stream(seed: u64, encoding: Encoding, changes: u32, mutation: Mutation) -> Result<(), String> {
    let mut bench = Bench::new(SMALL, 2);
    let link = bench.open(encoding, 1_000_000);
    bench.join("/topic/a", link);
    let mut state = seed;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let (mut put, mut got, mut opened, mut current) = (0, 0, 0, None);
    for change in 0..changes {
        let slot = Slot(next(u64::from(SLOTS)) as u32);
        for phase in 0..3 {
            for _ in 0..next(12) {
                put += 1;
                match next(2) {
                    0 => bench.publish("/topic/a", text(put).as_bytes()),
                    _ => {
                        // What was delivered before goes out before.
                        bench.fan_out();
                        bench.send(link, &text(put));
                    }
                }
            }
            if phase == 0 && bench.links.receiver(link).is_none() {
                let answer = answer(next(5), 1 + next(3_000) as u32);
                bench.links.attach(link, slot, answer);
                current = Some(slot);
            }
            bench.turn();
            // The kernel takes it now, or a turn later.
            if next(2) == 0 {
                bench.take();
            }
        }
        bench.settle();
        match mutation {
            Mutation::Lost if change == changes / 2 => spoiled::kept(&mut bench.links, link, false),
            Mutation::Twice if change == changes / 2 => spoiled::kept(&mut bench.links, link, true),
            _ => {}
        }
        // Streams that wait for more go on.
        let is_over = core::mem::take(&mut bench.released) == [link];
        let Some(slot) = current.take_if(|_| is_over) else { continue };
        bench.read(slot, &mut got, &mut opened)?;
    }
    // All that is left.
    if current.is_none() {
        let (encoding, limit) = (STREAM, u32::MAX);
        bench.links.attach(link, Slot(0), Answer::Stream { encoding, limit, closes: false });
    }
    bench.settle();
    bench.read(current.unwrap_or(Slot(0)), &mut got, &mut opened)?;
    match (got == put, opened, bench.ended.is_empty(), bench.links.kept(link)) {
        (true, 1, true, 0) => Ok(()),
        wrong => Err(format!("{got} of {put}, {wrong:?}")),
    }
}

#[test]
fn nothing_is_lost_or_repeated_when_a_link_changes_its_connection() {
    for (seed, encoding) in [
        (1, STREAM),
        (2, Encoding::Queued),
        (3, Encoding::XhrStreaming { chunked: false }),
        (4, Encoding::EventSource { chunked: true }),
        (5, Encoding::HtmlFile { chunked: true }),
    ] {
        stream(seed, encoding, 400, Mutation::None)
            .unwrap_or_else(|why| panic!("{encoding:?}: {why}"));
    }
}

#[test]
fn a_unit_lost_or_repeated_at_a_change_is_found() {
    for mutation in [Mutation::Lost, Mutation::Twice] {
        for encoding in [STREAM, Encoding::Queued] {
            assert!(stream(1, encoding, 400, mutation).is_err(), "{mutation:?} {encoding:?}");
        }
    }
}

/// A second of 100 MB of other traffic, which is taken, beside detached links that hear something
/// from time to time.
fn busy_second(mutation: Option<fn(&mut Links)>) -> (u64, u64, u64) {
    const DETACHED: u32 = 1_000;
    const TRAFFIC: u64 = 100_000_000;
    let mut bench = Bench::new("", DETACHED);
    let detached: Vec<LinkIndex> = (0..DETACHED).map(|_| bench.open(STREAM, 100)).collect();
    for (at, &link) in detached.iter().enumerate() {
        bench.join(&format!("/topic/calls/{}", at % 100), link);
    }
    bench.links.upgrade(Slot(0), Encoding::PLAIN);
    bench.join("/topic/quotes", Slot(0).into());
    let (mut sent, mut turns) = (0, 0u64);
    while sent < TRAFFIC {
        for _ in 0..8 {
            bench.publish("/topic/quotes", &[b'x'; 8_000]);
        }
        bench.publish(&format!("/topic/calls/{}", turns % 100), b"{\"state\":\"ringing\"}");
        if let Some(spoil) = mutation {
            bench.fan_out();
            spoil(&mut bench.links);
        }
        bench.turn();
        sent += bench.take().iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        bench.wire.iter_mut().for_each(Vec::clear);
        turns += 1;
        if bench.ctx.metrics.segment_shortages_total.value() > 0 {
            break;
        }
    }
    let kept = detached.iter().map(|&link| bench.links.kept(link) as u64).sum();
    (bench.ctx.metrics.segment_shortages_total.value(), sent, kept)
}

#[test]
fn a_thousand_detached_links_pin_nothing_beside_other_traffic() {
    let (shortages, sent, kept) = busy_second(None);
    assert_eq!(shortages, 0);
    assert!(sent >= 100_000_000, "{sent} bytes were taken");
    assert!(kept > 1_000_000, "{kept} bytes wait for those who are away");
}

/// The mutation: what was put into a detached link stays in the log.
#[test]
fn a_detached_link_that_pins_the_log_is_found() {
    let (shortages, sent, _) = busy_second(Some(spoiled::feeding));
    assert!(shortages > 0, "{sent} bytes were taken");
}

#[test]
fn what_may_be_dropped_is_dropped_before_a_link_ends() {
    let mut bench = Bench::new("[limits]\nslow-consumer = \"drop-oldest\"\n", 1);
    let link = bench.open(STREAM, 4);
    bench.join("/topic/a", link);
    (1..=9).for_each(|number| bench.publish("/topic/a", text(number).as_bytes()));
    bench.turn();
    assert_eq!(bench.ctx.metrics.dropped_oldest.value(), 5);
    let (encoding, limit) = (STREAM, 1);
    for _ in 0..2 {
        bench.links.attach(link, Slot(0), Answer::Stream { encoding, limit, closes: false });
        bench.settle();
    }
    let (numbers, _) = messages_of_all(&bench.wire[0]);
    assert_eq!(numbers, [6, 7, 8, 9]);
    assert!(bench.ended.is_empty());
}

/// The same for several answers in chunks behind each other.
fn messages_of_all(bytes: &[u8]) -> (Vec<u64>, Vec<String>) {
    let (mut rest, mut all) = (bytes, (Vec::new(), Vec::new()));
    while let Some(at) = rest.windows(5).position(|w| w == sockjs::LAST_CHUNK) {
        let (numbers, others) = messages(&rest[..at + 5]);
        all.0.extend(numbers);
        all.1.extend(others);
        rest = &rest[at + 5..];
    }
    all
}

#[test]
fn a_link_ends_with_the_connection_that_receives_it() {
    let mut bench = Bench::new("", 1);
    let link = bench.open(STREAM, 10);
    let (encoding, limit) = (STREAM, 1_000);
    bench.links.attach(link, Slot(2), Answer::Stream { encoding, limit, closes: false });
    bench.turn();
    assert!(bench.links.at(Slot(2).into()).is_sending());
    // The kernel has not taken it when the connection is cut.
    bench.links.cut(Slot(2).into());
    bench.hear();
    assert_eq!(bench.ended, [link]);
    bench.links.close_standalone(&mut bench.net, link);
    bench.take();
    bench.links.invariants(&bench.net);
    assert_eq!(bench.open(STREAM, 10), link, "its index is free again");
    assert!(bench.links.open_standalone(STREAM, 1).is_none(), "as many as there may be");
}

#[test]
fn the_boundary_of_a_stream_is_measured_as_the_reference_has_it() {
    // `o` and its line feed, then a frame: with 4,094 bytes it ends the answer, with one less not.
    for (len, ends) in [(4_094, true), (4_093, false)] {
        let mut bench = Bench::new("", 1);
        let link = bench.open(STREAM, 10);
        bench.join("/topic/a", link);
        let (encoding, limit) = (STREAM, 4_096);
        bench.links.attach(link, Slot(0), Answer::Stream { encoding, limit, closes: false });
        bench.settle();
        bench.send(link, &"x".repeat(len - "a[\"\"]\n".len()));
        bench.settle();
        assert_eq!(bench.links.receiver(link).is_none(), ends, "{len}");
        assert_eq!(bench.wire[0].ends_with(sockjs::LAST_CHUNK), ends);
    }
}

/// What spoils links, and a word of the assertion that finds it.
type Spoil = (fn(&mut Links, LinkIndex), &'static str);

#[test]
fn what_does_not_fit_together_is_found() {
    let spoil: [Spoil; 6] = [
        (spoiled::free, "is free once"),
        (spoiled::pin, "pins nothing past its turn"),
        (spoiled::receiver, "is received by one"),
        (|links, _| spoiled::serving(links), "known by its own link"),
        (spoiled::noted, "what it keeps is told"),
        (spoiled::units, "whole units"),
    ];
    for (spoil, expected) in spoil {
        let mut bench = Bench::new("", 2);
        let (away, received) = (bench.open(STREAM, 10), bench.open(STREAM, 10));
        bench.join("/topic/a", away);
        let (encoding, limit) = (STREAM, 1_000);
        bench.links.attach(received, Slot(0), Answer::Stream { encoding, limit, closes: false });
        bench.publish("/topic/a", b"#1");
        bench.settle();
        bench.publish("/topic/a", b"#2");
        bench.turn();
        bench.links.invariants(&bench.net);
        spoil(&mut bench.links, away);
        let said = catch_unwind(AssertUnwindSafe(|| bench.links.invariants(&bench.net)));
        let said = said.expect_err(expected);
        let text = said.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| said.downcast_ref::<&str>().copied());
        assert!(text.is_some_and(|text| text.contains(expected)), "{text:?}: {expected}");
    }
}

#[test]
fn a_heart_beat_ends_a_poll_and_is_only_for_those_who_are_there() {
    let mut bench = Bench::new("", 1);
    let link = bench.open(STREAM, 10);
    let beat = |bench: &mut Bench| {
        let view = View { ctx: &bench.ctx, net: &bench.net };
        bench.links.beat(view, link);
        bench.settle();
    };
    let read = |bench: &mut Bench| messages(&core::mem::take(&mut bench.wire[3])).1;
    beat(&mut bench);
    bench.links.attach(link, Slot(3), answer(0, 0));
    bench.settle();
    assert_eq!(read(&mut bench), ["o"]);
    beat(&mut bench);
    bench.links.attach(link, Slot(3), answer(0, 0));
    bench.settle();
    assert!(bench.wire[3].is_empty(), "nobody was there when it beat");
    beat(&mut bench);
    assert_eq!(read(&mut bench), ["h"]);
    assert_eq!(bench.released, [link, link]);
}

//! Sessions over HTTP that nobody receives, beside all that the simulator plays: what is put into
//! their links is kept, bounded and counted, and nothing of it stays in the log.

use super::ring::SimRing;
use super::run::{Options, Simulation};
use super::script::Stage;
use super::wire::End;
use crate::config::Config;
use crate::encoding::Encoding;
use crate::engine::mailbox::ToShard;
use crate::engine::shard::Shard;
use crate::engine::standalone::{self, Answer, Client};
use crate::ids::{EndpointIndex, LinkIndex, PeerId, Slot};
use crate::time::Millis;
use core::net::Ipv4Addr;

const STEPS: u64 = 20_000;
const QUEUE: u32 = 20;
const CONNECT: &[u8] = b"CONNECT\naccept-version:1.2\nhost:h\nheart-beat:0,1500\n\n\0";
const ENCODINGS: [Encoding; 2] = [Encoding::Queued, Encoding::XhrStreaming { chunked: true }];

/// Opens a session that hears everything, as far as there is room for one more.
fn open(shard: &mut Shard<SimRing>, at: usize) -> Option<LinkIndex> {
    let client = Client::new(Ipv4Addr::LOCALHOST.into(), EndpointIndex(0), 0);
    let parts = shard.parts();
    let link = standalone::open(parts, (ENCODINGS[at % 2], QUEUE), client, None)?;
    standalone::feed(parts, link, &mut CONNECT.to_vec());
    for (id, destination) in ["/topic/t0", "/topic/a/b", "/topic/**"].iter().enumerate() {
        let frame = format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\n\n\0");
        standalone::feed(parts, link, &mut frame.into_bytes());
    }
    Some(link)
}

/// What a session's own input may add between two turns of its shard.
const SLACK: usize = 512;

#[test]
fn detached_sessions_are_bounded_beside_everything_else() {
    let mut simulation = Simulation::new(3, Options::default());
    simulation.arrive(true);
    let shards = simulation.shards.len();
    let bound = simulation.limits.held_bytes as usize + SLACK;
    let (mut links, mut opened, mut most) = (Vec::new(), 0, 0);
    for step in 0..STEPS {
        if step % 50 == 0 {
            let shard = opened % shards;
            links.extend(open(&mut simulation.shards[shard], opened).map(|link| (shard, link)));
            opened += 1;
        }
        // Some end before they have as much as may wait for them.
        if step % 150 == 149 && !links.is_empty() {
            let (shard, link) = links.remove(0);
            standalone::cut(simulation.shards[shard].parts(), link);
        }
        let stepped = simulation.step();
        for shard in &mut simulation.shards {
            shard.invariants();
            let audit = shard.audit();
            assert_eq!(audit.buffered, audit.buffered_counted);
            assert!(audit.buffered <= bound, "{} bytes are kept", audit.buffered);
            most = most.max(audit.buffered);
        }
        stepped.unwrap_or_else(|violation| panic!("step {step}: {violation:?}"));
    }
    assert!(opened > 100 && most > 1_000, "{opened} sessions, {most} bytes at most");
}

/// A server with one session over HTTP, which hears everything and is sent heart-beats.
fn stage(change: impl FnOnce(&mut Config)) -> (Stage, LinkIndex) {
    let mut stage = Stage::new(1, |config| {
        Stage::roomy(config);
        change(config);
    });
    let link = open(&mut stage.shards[0], 0).expect("there is one left");
    stage.settle();
    (stage, link)
}

/// A connection comes for what the session has, and waits for it.
fn polls(stage: &mut Stage, link: LinkIndex) {
    let head = (*b"HTTP/1.1 200 OK\r\n").into();
    let answer = Answer::Poll { head, callback: None };
    standalone::attach(stage.shards[0].parts(), link, Slot(0), answer);
    stage.settle();
}

/// The body of the answer that a client has been given.
fn body(stage: &mut Stage, client: usize) -> Option<String> {
    let wire = &mut stage.clients[client];
    wire.read(65_536, &mut stage.world.borrow_mut());
    let answer = wire.answer().expect("an answer")?;
    Some(String::from_utf8(answer.body).expect("it is text"))
}

fn passes(stage: &mut Stage, millis: u64) {
    stage.world.borrow_mut().advance(millis * 1_000_000);
    stage.turn(0);
    stage.settle();
}

#[test]
fn a_link_that_ends_twice_in_a_turn_is_free_once() {
    let (mut stage, link) = stage(|_| {});
    let shard = &mut stage.shards[0];
    standalone::end_and_cut(shard.parts(), link);
    shard.invariants();
    let links = [(); 2].map(|()| open(shard, 0).expect("there is one left"));
    assert_ne!(links[0], links[1]);
    shard.invariants();
}

#[test]
fn all_that_sessions_over_http_keep_is_bounded_in_each_turn() {
    const SESSIONS: usize = 8;
    let (mut stage, _) = stage(|config| config.limits.held_bytes = 4_096);
    let shard = &mut stage.shards[0];
    (1..SESSIONS).for_each(|at| assert!(open(shard, at).is_some()));
    let sender = stage.session(0, "u1");
    let send = format!("SEND\ndestination:/topic/t0\n\n{}", "x".repeat(300));
    let (mut most, mut ended) = (0, 0);
    for _ in 0..2 {
        stage.says(sender, &[send.as_str()]);
        (0..3).for_each(|_| stage.turn(0));
        stage.shards[0].invariants();
        let audit = stage.shards[0].audit();
        most = most.max(audit.buffered);
        ended = SESSIONS + 1 - audit.sessions;
    }
    assert!(most <= 4_096 && ended > 1, "{most} bytes are kept, {ended} have ended");
}

#[test]
fn who_receives_waits_as_long_as_it_takes_and_is_told_the_end() {
    let (mut stage, link) = stage(|config| {
        let limits = &mut config.limits;
        (limits.idle_time, limits.answer_time) = (Millis(700), Millis(700));
    });
    let client = stage.connects(0, b"");
    stage.settle();
    polls(&mut stage, link);
    assert_eq!(body(&mut stage, client).as_deref(), Some("o\n"));
    polls(&mut stage, link);
    assert_eq!(body(&mut stage, client).map(|text| text.starts_with("a[\"CONNECTED")), Some(true));
    polls(&mut stage, link);
    for _ in 0..20 {
        passes(&mut stage, 500);
        if let Some(beat) = body(&mut stage, client) {
            assert_eq!(beat, "a[\"\\n\"]\n");
            polls(&mut stage, link);
        }
        assert_eq!(stage.shards[0].audit().connections, 1, "it is not idle");
    }
    assert_eq!(stage.metrics.shard(0).timeouts_total.value(), 0);
    stage.control.send(PeerId(0), ToShard::Drain);
    while stage.shards[0].turn() {
        let mut world = stage.world.borrow_mut();
        world.submit(0);
        world.advance(1_000_000);
    }
    assert_eq!(body(&mut stage, client).as_deref(), Some("c[1001,\"\"]\n"));
    assert!(stage.clients[client].is_read_out(), "its connection ends with the answer");
    let client = Client::new(Ipv4Addr::LOCALHOST.into(), EndpointIndex(0), 0);
    let parts = stage.shards[0].parts();
    let link = standalone::open(parts, (Encoding::Queued, QUEUE), client, None);
    assert!(link.is_none(), "nobody comes in any more");
}

#[test]
fn the_connection_of_a_stream_that_closes_it_ends_with_the_stream() {
    let (mut stage, link) = stage(|_| {});
    let client = stage.connects(0, b"");
    stage.settle();
    let encoding = Encoding::XhrStreaming { chunked: false };
    let answer = Answer::Stream { encoding, limit: 1, closes: true };
    standalone::attach(stage.shards[0].parts(), link, Slot(0), answer);
    stage.settle();
    let Stage { clients, world, .. } = &mut stage;
    while clients[client].read(65_536, &mut world.borrow_mut()) {}
    assert_eq!(clients[client].end, Some(End::Eof), "long before the end of its drain");
}

#[test]
fn heart_beats_are_not_kept_for_those_who_are_away() {
    let (mut stage, _) = stage(|_| {});
    let before = stage.shards[0].audit().buffered;
    (0..20).for_each(|_| passes(&mut stage, 500));
    let audit = stage.shards[0].audit();
    assert_eq!((audit.sessions, audit.buffered), (1, before));
}

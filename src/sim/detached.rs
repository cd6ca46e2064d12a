//! Sessions over HTTP that nobody receives, beside all that the simulator plays: what is put into
//! their links is kept, bounded and counted, and nothing of it stays in the log.

use super::run::{Options, Simulation};
use crate::encoding::Encoding;
use crate::engine::standalone::{self, Client};
use crate::ids::{EndpointIndex, LinkIndex};
use core::net::Ipv4Addr;

const STEPS: u64 = 20_000;
const QUEUE: u32 = 20;
const CONNECT: &[u8] = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0";
const ENCODINGS: [Encoding; 2] = [Encoding::Queued, Encoding::XhrStreaming { chunked: true }];

/// Opens a session that hears everything, as far as there is room for one more.
fn open(simulation: &mut Simulation, shard: usize, at: usize) -> Option<LinkIndex> {
    let client = Client::new(Ipv4Addr::LOCALHOST.into(), EndpointIndex(0), 0);
    let parts = simulation.shards[shard].parts();
    let link = standalone::open(parts, (ENCODINGS[at % 2], QUEUE), client, None)?;
    standalone::feed(parts, link, &mut CONNECT.to_vec());
    for (id, destination) in ["/topic/t0", "/topic/a/b", "/topic/**"].iter().enumerate() {
        let frame = format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\n\n\0");
        standalone::feed(parts, link, &mut frame.into_bytes());
    }
    Some(link)
}

#[test]
fn detached_sessions_are_bounded_beside_everything_else() {
    let mut simulation = Simulation::new(3, Options::default());
    simulation.arrive(true);
    let shards = simulation.shards.len();
    let (mut links, mut opened, mut most) = (Vec::new(), 0, 0);
    for step in 0..STEPS {
        if step % 50 == 0 {
            let shard = opened % shards;
            links.extend(open(&mut simulation, shard, opened).map(|link| (shard, link)));
            opened += 1;
        }
        // Some end before they have as much as may wait for them.
        if step % 150 == 149 && !links.is_empty() {
            let (shard, link) = links.remove(0);
            standalone::cut(simulation.shards[shard].parts(), link);
        }
        if simulation.step().is_err() {
            // What nobody here answers for: sessions of which no client of the run knows.
            break;
        }
        for shard in &mut simulation.shards {
            shard.invariants();
            let audit = shard.audit();
            assert_eq!(audit.buffered, audit.buffered_counted);
            most = most.max(audit.buffered);
        }
    }
    assert!(opened > 100 && most > 1_000, "{opened} sessions, {most} bytes at most");
}

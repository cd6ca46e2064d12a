//! Bounds of what links without a connection of their own keep, and what becomes of who meets one.

use super::*;
use crate::limits::ENCODE_KEEP;

#[test]
fn past_its_bounds_a_detached_link_ends_and_tells_who_comes() {
    let mut bench = Bench::new("", 4);
    let of_count = bench.open(STREAM, 10);
    let of_bytes = bench.open(Encoding::Queued, 1_000_000);
    bench.join("/topic/count", of_count);
    for number in 0..10 {
        bench.publish("/topic/count", text(number).as_bytes());
    }
    bench.turn();
    assert!(bench.links.is_open(of_count), "as many as may wait");
    bench.publish("/topic/count", b"one more");
    let most = bench.ctx.limits.send_buffer as usize;
    (0..most / 1_000).for_each(|_| bench.send(of_bytes, &"x".repeat(1_001)));
    bench.turn();
    bench.ended.sort_unstable();
    assert_eq!(bench.ended, [of_count, of_bytes]);
    for link in [of_count, of_bytes] {
        assert!(bench.links.is_ending(link) && bench.links.kept(link) < 100);
        // As often as somebody asks.
        for _ in 0..2 {
            bench.links.attach(link, Slot(1), answer(0, 0));
            bench.settle();
            let (numbers, others) = messages(&core::mem::take(&mut bench.wire[1]));
            let close = "c[4500,\"the client reads too slowly\"]";
            let is_first = others == ["o"];
            assert!(numbers.is_empty() && (is_first || others == [close]), "{others:?}");
        }
        bench.links.cut(link);
        bench.links.close_standalone(&mut bench.net, link);
    }
    bench.hear();
    bench.links.invariants(&bench.net);
}

#[test]
fn what_is_encoded_for_one_link_is_bounded_within_a_turn() {
    for (settings, droppable) in
        [("", None), ("[limits]\nslow-consumer = \"drop-oldest\"\n", Some(Droppable::Oldest))]
    {
        let mut bench = Bench::new(settings, 1);
        let link = bench.open(Encoding::Queued, 1_000_000);
        let limits = &bench.ctx.limits;
        let bound = (limits.send_buffer + limits.message) as usize;
        let unit = [b",\"".to_vec(), vec![b'x'; 9_997], b"\"".to_vec()].concat();
        let mut most = 0;
        for _ in 0..3 * bound / unit.len() {
            let view = View { ctx: &bench.ctx, net: &bench.net };
            bench.links.encoder.clear();
            bench.links.encoder.raw(&unit);
            if bench.links.is_open(link) {
                bench.links.queue(view, link, None, droppable);
            }
            let kept = &bench.links.standalone(link).expect("it has none of its own").kept;
            most = most.max(kept.len());
        }
        assert!(most > bound / 2 && most <= bound, "{most} bytes, {settings}");
        bench.hear();
        assert_eq!(bench.links.is_open(link), droppable.is_some());
    }
}

#[test]
fn what_a_large_message_needed_is_given_back_in_the_turn_that_ends_its_link() {
    let mut bench = Bench::new("", 1);
    let link = bench.open(STREAM, 10);
    bench.send(link, &"x".repeat(2 * ENCODE_KEEP));
    let view = View { ctx: &bench.ctx, net: &bench.net };
    bench.links.drain(view, link, 1001, "");
    bench.links.give_back();
    let encoder = &bench.links.encoder;
    let held = [&encoder.frame, &encoder.quoted].map(Vec::capacity);
    assert!(held.iter().all(|held| *held <= ENCODE_KEEP), "{held:?}");
}

/// A link whose stream waits for room, since another one has all of it.
fn short_of_room() -> (Bench, LinkIndex, Slot) {
    let mut bench = Bench::new(SMALL, 1);
    let link = bench.open(STREAM, 10);
    bench.join("/topic/a", link);
    let (encoding, limit) = (STREAM, 40);
    bench.links.attach(link, Slot(0), Answer::Stream { encoding, limit, closes: false });
    bench.settle();
    bench.publish("/topic/a", b"#1 is longer than the answer may be");
    bench.fan_out();
    // No private byte has room any more.
    let other = Slot(3);
    while let Ok(extents) = bench.links.segments.append(Log::Private, &[b'x'; 5]) {
        for extent in extents {
            let own = bench.links.table.at_mut(other.into());
            own.push(Extent { continued: true, ..extent }, &mut bench.links.segments);
        }
    }
    bench.links.feed(&mut bench.net, &bench.ctx);
    bench.hear();
    assert!(bench.links.needs_room && bench.ended.is_empty(), "it waits for room");
    assert_eq!(bench.links.receiver(link), Some(Slot(0)));
    (bench, link, other)
}

#[test]
fn who_receives_is_not_lost_over_the_end_of_an_answer() {
    let (mut bench, link, other) = short_of_room();
    bench.links.table.at_mut(other.into()).clear(&mut bench.links.segments);
    bench.settle();
    assert_eq!(bench.released, [link]);
    assert_eq!(messages(&bench.wire[0]), (vec![1], vec!["o".to_owned()]));
}

/// Seed 78806513657: the last link of its shard.
#[test]
fn what_has_ended_waits_for_room_no_more() {
    let (mut bench, link, _) = short_of_room();
    assert_eq!(bench.links.waiting(), 1);
    bench.links.cut(link);
    bench.links.close_standalone(&mut bench.net, link);
    assert_eq!(bench.links.waiting(), 0, "or its shard never sleeps again");
}

#[test]
fn what_a_stream_has_no_room_for_leaves_the_log_with_its_end() {
    let mut bench = Bench::new("", 1);
    let link = bench.open(STREAM, 9);
    bench.join("/topic/a", link);
    let answer = Answer::Stream { encoding: STREAM, limit: 20, closes: false };
    bench.links.attach(link, Slot(0), answer);
    bench.settle();
    (1..=2).for_each(|number| bench.publish("/topic/a", text(number).as_bytes()));
    bench.settle();
    assert_eq!(bench.released, [link], "the first of them has reached the limit");
    assert!(bench.links.at(link).is_empty() && bench.links.kept(link) > 0, "the second waits");
}

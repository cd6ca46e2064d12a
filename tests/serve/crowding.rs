//! Clients that send requests and do not read, beside clients that read: which are answered, which
//! wait, and which are closed.

use crate::stalled::{Client, House, frame};
use ringpush::metrics::Refusal;
use ringpush::ws::Opcode;
use std::time::{Duration, Instant};

/// Segments of the pool: it is low under 16 free ones, short under 8, scarce under 4.
const SEGMENTS: u32 = 64;

fn house() -> House {
    House::new(|limits| limits.segment_bytes = limits.segment_size * SEGMENTS)
}

fn is_low(house: &mut House) -> bool {
    (house.audit().segments_free as u32) < SEGMENTS / 4
}

/// Clients of the echo endpoint.
fn clients(house: &mut House, count: usize) -> Vec<Client> {
    (0..count).map(|_| house.upgraded("/raw")).collect()
}

/// In each round, every client of the crowd sends what has room; then each polite client gets its
/// echo.
fn crowd(house: &mut House, crowd: &mut [Client], says: &[u8], rounds: usize) {
    let mut polite = clients(house, 5);
    for round in 0..rounds {
        crowd.iter_mut().for_each(|client| client.says_some(says));
        for client in &mut polite {
            let text = format!("round {round}.");
            client.says_frame(&text);
            house.until("an echo", |_| client.hears(&text));
        }
    }
    let (resets, refused) = (house.metrics().resets_total.value(), Refusal::LimitSegmentBytes);
    assert_eq!((resets, house.metrics().refused(refused)), (0, 0));
}

#[test]
fn clients_that_request_little_and_do_not_read_wait_and_none_is_closed() {
    let pings = frame(Opcode::Ping, &[b'p'; 125]).repeat(16);
    let texts = frame(Opcode::Text, &[b't'; 2_000]).repeat(4);
    for says in [pings, texts] {
        let mut house = house();
        let mut silent = clients(&mut house, 80);
        crowd(&mut house, &mut silent, &says, 60);
        assert_eq!(house.metrics().slow_consumers_total.value(), 0);
        let free = house.audit().segments_free as u32;
        assert!(free >= SEGMENTS / 8, "{free} free segments");
    }
}

#[test]
fn clients_that_request_much_and_do_not_read_are_closed_and_no_others() {
    let mut house = house();
    let mut silent = clients(&mut house, 80);
    crowd(&mut house, &mut silent, &frame(Opcode::Binary, &[7; 60_000]), 100);
    let gone = house.metrics().slow_consumers_total.value();
    assert!(gone > 0 && house.audit().connections >= 5, "{gone} gone");
}

#[test]
fn the_client_that_pins_most_is_closed_first_not_the_one_that_waited_longest() {
    let mut house = house();
    // Two of these per segment, the oldest ones.
    let mut modest = clients(&mut house, 10);
    for client in &mut modest {
        client.says_some(&frame(Opcode::Text, &[b'm'; 30_000]));
    }
    house.until("ten unread echoes", |house| {
        modest.iter_mut().for_each(Client::goes_on);
        house.audit().segment_refcounts >= 10
    });
    let mut greedy = clients(&mut house, 25);
    let mut polite = clients(&mut house, 1).pop().expect("one");
    let mut round = 0;
    let mut go_on = |house: &mut House, greedy: &mut [Client]| {
        greedy.iter_mut().for_each(|c| c.says_some(&frame(Opcode::Binary, &[7; 60_000])));
        round += 1;
        let text = format!("round {round}.");
        polite.says_frame(&text);
        house.until("an echo", |_| polite.hears(&text));
        assert!(round < 20_000, "nobody is closed: {:?}", house.audit());
    };
    // The pool is low, not short, and they do not read: that takes a quarter of a second to decide.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(400) || !is_low(&mut house) {
        go_on(&mut house, &mut greedy);
    }
    assert_eq!(house.metrics().slow_consumers_total.value(), 0);
    greedy.extend(clients(&mut house, 20));
    while house.metrics().slow_consumers_total.value() < 3 {
        go_on(&mut house, &mut greedy);
    }
    drop(greedy);
    for client in &mut modest {
        house.until("the unread echo", |_| client.hears("m".repeat(30_000)));
        client.says_frame("still here");
        house.until("the next one", |_| client.hears("still here"));
    }
}

#[test]
fn only_the_newest_ping_is_answered_while_a_send_is_stalled() {
    let mut house = house();
    let mut client = clients(&mut house, 1).pop().expect("one");
    client.says_some(&frame(Opcode::Text, &[b'e'; 60_000]));
    house.until("an unread echo", |house| {
        client.goes_on();
        house.audit().outbox_most > 0
    });
    for number in 0..100 {
        client.says(&frame(Opcode::Ping, format!("ping {number}.").as_bytes()));
    }
    client.says_frame("last");
    house.until("the echo behind them", |_| client.hears("last"));
    house.until("the pong", |_| client.hears("ping 99."));
    assert_eq!(client.count("ping "), 1);
}

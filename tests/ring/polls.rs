//! Polls for the end of a peer, on connections without a receive.

use crate::bench::{Bench, Shape};
use ringpush::ids::ConnId;
use ringpush::ring::{Done, Op, PollEnd, RecvEnd, Ring};
use std::io::Write;
use std::net::Shutdown;

fn polled(bench: &mut Bench, conn: ConnId) -> PollEnd {
    bench.wait_for(|done| match *done {
        Done::PollEnded { conn: of, end } if of == conn => Some(end),
        _ => None,
    })
}

#[test]
fn a_poll_reports_fin_over_unread_bytes() {
    let mut bench = Shape::default().accept();
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Poll { conn });
    client.write_all(b"unread").expect("the kernel takes it");
    assert_eq!(bench.collect(), [], "bytes alone are no end");
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(polled(&mut bench, conn), PollEnd::HungUp);
    // A new poll reports it again, and nothing is lost.
    bench.ask(Op::Poll { conn }, Done::PollEnded { conn, end: PollEnd::HungUp });
    bench.ring.push(Op::Recv { conn });
    assert_eq!(bench.received(conn), (b"unread".to_vec(), true));
    assert_eq!(bench.recv_ended(conn), RecvEnd::Eof);
    bench.ask(Op::Close { conn }, Done::Closed { conn });
}

#[test]
fn a_poll_reports_a_reset_over_unread_bytes() {
    let mut bench = Shape::default().accept();
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Poll { conn });
    client.write_all(b"unread").expect("the kernel takes it");
    assert_eq!(bench.collect(), []);
    let linger = Some(std::time::Duration::ZERO);
    socket2::SockRef::from(&client).set_linger(linger).expect("an option");
    drop(client);
    assert_eq!(polled(&mut bench, conn), PollEnd::Reset);
    bench.ask(Op::Close { conn }, Done::Closed { conn });
}

#[test]
fn a_poll_is_stopped_and_by_a_shutdown_too() {
    let mut bench = Shape { slots: 1, ..Shape::default() }.accept();
    let (client, conn) = bench.pair();
    let stopped = Done::PollEnded { conn, end: PollEnd::Stopped };
    // Stopped in the same entry, and in a later one.
    bench.ring.push(Op::Poll { conn });
    bench.ask(Op::PollStop { conn }, stopped);
    bench.ring.push(Op::Poll { conn });
    assert_eq!(bench.collect(), []);
    bench.ask(Op::PollStop { conn }, stopped);
    bench.ring.push(Op::PollStop { conn });
    assert_eq!(bench.collect(), [], "stopping an ended poll has no answer");
    bench.ring.push(Op::Poll { conn });
    bench.ask(Op::Shutdown { conn }, stopped);
    bench.wait_for(|done| (*done == Done::ShutDown { conn }).then_some(()));
    bench.ask(Op::Close { conn }, Done::Closed { conn });
    // A late stop does not affect the next use of the slot.
    drop(client);
    let (client, new) = bench.pair();
    bench.ring.push(Op::Poll { conn: new });
    bench.ring.push(Op::PollStop { conn });
    assert_eq!(bench.collect(), []);
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(polled(&mut bench, new), PollEnd::HungUp);
}

#[test]
#[should_panic(expected = "close while 0x40 is in flight")]
fn close_under_a_poll_is_our_bug() {
    let mut bench = Shape::default().accept();
    let (_client, conn) = bench.pair();
    bench.ring.push(Op::Poll { conn });
    bench.ring.push(Op::Close { conn });
}

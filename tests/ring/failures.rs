//! Provoked failures.

use crate::basics::reset;
use crate::bench::{Bench, LISTENER, Shape};
use ringpush::ids::ConnId;
use ringpush::ring::listen::SendBound;
use ringpush::ring::{AcceptEnd, Done, Op, Range, RecvEnd, Ring, Wait};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn receives_starve_and_go_on() {
    let shape = Shape { buffers: 3, buffer_size: 64, ..Shape::default() };
    let mut bench = shape.accept();
    let (mut client, conn) = bench.pair();
    let bytes: Vec<u8> = (0..=255).cycle().take(500).collect();
    client.write_all(&bytes).expect("the socket takes it");
    bench.ring.push(Op::Recv { conn });
    let held: Vec<_> = (0..3).map(|_| bench.received_buffer(conn)).collect();
    assert_eq!(bench.recv_ended(conn), RecvEnd::Starved);
    assert!(bench.ring.stats().starved >= 1);
    // Receiving without a buffer starves again, and loses nothing.
    bench.ring.push(Op::Recv { conn });
    assert_eq!(bench.recv_ended(conn), RecvEnd::Starved);
    let mut got = Vec::new();
    for (buffer, len, _) in held {
        got.extend(bench.take(buffer, len));
    }
    bench.ring.push(Op::Recv { conn });
    while got.len() < bytes.len() {
        let received = bench.wait_for(|done| match *done {
            Done::Received { buffer, len, more, .. } => Some(Some((buffer, len, more))),
            Done::RecvEnded { end: RecvEnd::Starved, .. } => Some(None),
            _ => None,
        });
        let is_over = received.is_none_or(|(_, _, more)| !more);
        if let Some((buffer, len, _)) = received {
            got.extend(bench.take(buffer, len));
        }
        if is_over {
            bench.ring.push(Op::Recv { conn });
        }
    }
    assert!(got == bytes, "nothing is lost, nothing is doubled");
}

#[test]
fn a_full_completion_queue_loses_nothing() {
    const CLIENTS: usize = 60;
    let shape =
        Shape { submission: 8, completion: 16, buffers: 256, buffer_size: 64, ..Shape::default() };
    let mut bench = shape.accept();
    assert_eq!(bench.ring.entries(), (8, 16));
    let mut pairs: Vec<(TcpStream, ConnId)> = (0..CLIENTS).map(|_| bench.pair()).collect();
    for (_, conn) in &pairs {
        bench.ring.push(Op::Recv { conn: *conn });
    }
    assert_eq!(bench.collect(), []);
    let mut got: HashMap<ConnId, Vec<u8>> = HashMap::new();
    for round in 0..5u8 {
        for (client, conn) in &mut pairs {
            client.write_all(&[round, conn.slot.0 as u8]).expect("the socket takes it");
        }
        let mut left = CLIENTS;
        while left > 0 {
            let (conn, buffer, len, more) = bench.wait_for(|done| match *done {
                Done::Received { conn, buffer, len, more } => Some((conn, buffer, len, more)),
                _ => None,
            });
            let bytes = bench.take(buffer, len);
            left -= bytes.len() / 2;
            got.entry(conn).or_default().extend(bytes);
            // The rule: consume first, then look at `more`.
            if !more {
                bench.ring.push(Op::Recv { conn });
            }
        }
    }
    for (_, conn) in &pairs {
        let expected: Vec<u8> = (0..5).flat_map(|round| [round, conn.slot.0 as u8]).collect();
        assert_eq!(got[conn], expected);
    }
    let stats = bench.ring.stats();
    assert!(stats.overflows > 0, "the queue has overflowed: {stats:?}");
    assert!(stats.ended_multishots > 0, "which ends receives that carry bytes: {stats:?}");
}

#[test]
fn a_full_table_drops_just_one() {
    let mut bench = Shape { slots: 3, ..Shape::default() }.accept();
    assert_eq!(bench.ring.slots(), 3);
    let mut clients: Vec<_> = (0..6).map(|_| bench.connect()).collect();
    let conns: Vec<_> = (0..3).map(|_| bench.accepted().0).collect();
    let ended = bench.wait_for(|done| match *done {
        Done::AcceptEnded { listener: LISTENER, end } => Some(end),
        _ => None,
    });
    assert_eq!(ended, AcceptEnd::TableFull);
    assert_eq!(bench.collect(), []);
    // The fourth was dropped by the kernel; the others wait.
    let mut bytes = Vec::new();
    let dropped = clients[3].read_to_end(&mut bytes);
    assert!(dropped.is_ok_and(|len| len == 0), "the dropped client sees the end");
    for conn in conns {
        bench.ask(Op::Close { conn }, Done::Closed { conn });
    }
    bench.ring.push(Op::Accept { listener: LISTENER });
    for client in &clients[4..] {
        assert_eq!(bench.accepted().1, client.local_addr().expect("connected"));
    }
}

/// A connection whose send of `len` bytes of a pattern is parked in the kernel.
fn parked(bench: &mut Bench, len: usize) -> (TcpStream, ConnId, Vec<u8>) {
    let (client, conn) = bench.narrow_pair();
    let bytes: Vec<u8> = (0..len).map(|index| (index * 31 / 7) as u8).collect();
    let range = bench.fill(0, &bytes);
    bench.ring.push(Op::Send { conn, range });
    assert_eq!(bench.collect(), [], "the send is parked");
    (client, conn, bytes)
}

fn narrow() -> Shape {
    Shape { bound: SendBound::Buffer(32_768), ..Shape::default() }
}

#[test]
fn a_cancelled_send_goes_on_where_it_was() {
    let mut bench = narrow().accept();
    let (mut client, conn, bytes) = parked(&mut bench, 1 << 20);
    // The kernel continues a parked send only while the ring is entered.
    client.set_nonblocking(true).expect("a socket can be non-blocking");
    let (mut got, mut chunk) = (Vec::new(), [0; 10_000]);
    while got.len() < 300_000 {
        bench.ring.enter(Wait::No);
        assert_eq!(bench.ring.pop(), None, "the send is parked still");
        if let Ok(len) = client.read(&mut chunk) {
            got.extend(&chunk[..len]);
        }
    }
    client.set_nonblocking(false).expect("a socket can be blocking");
    bench.ring.push(Op::SendCancel { conn });
    let taken = bench.sent(conn).expect("a cancelled send tells a count") as usize;
    assert!((got.len()..bytes.len()).contains(&taken), "{taken}");
    // The socket is full now: the next send does not begin, and its cancellation takes nothing.
    let rest = Range { segment: 0, offset: taken as u32, len: (bytes.len() - taken) as u32 };
    let rest = fill_up(&mut bench, conn, rest);
    // The rest is sent from a copy: changing the original bytes does not change the stream.
    let range = bench.fill(1, &bytes[rest.offset as usize..]);
    bench.fill(0, &vec![0xee; bytes.len()]);
    bench.ring.push(Op::Send { conn, range });
    bench.ring.enter(Wait::No);
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).map(|_| rest)
    });
    assert_eq!(bench.sent(conn), Ok(range.len));
    bench.ask(Op::Shutdown { conn }, Done::ShutDown { conn });
    got.extend(reader.join().expect("no panic").expect("FIN follows"));
    assert!(got == bytes, "the stream is whole");
}

/// Sends and cancels until a cancelled send has taken nothing; returns what is left then.
fn fill_up(bench: &mut Bench, conn: ConnId, mut rest: Range) -> Range {
    for _ in 0..1000 {
        bench.ring.push(Op::Send { conn, range: rest });
        bench.ring.push(Op::SendCancel { conn });
        match bench.sent(conn) {
            Ok(0) => return rest,
            Ok(taken) => {
                rest.offset += taken;
                rest.len -= taken;
            }
            Err(errno) => panic!("a cancelled send reports a count, not {errno}"),
        }
    }
    panic!("a socket whose peer does not read fills up");
}

#[test]
fn a_cancellation_that_comes_too_late_is_ignored() {
    let mut bench = Shape::default().accept();
    let (_client, conn) = bench.pair();
    let range = bench.fill(0, b"gone at once");
    bench.ring.push(Op::Send { conn, range });
    bench.ring.push(Op::SendCancel { conn });
    bench.ring.push(Op::SendCancel { conn });
    assert_eq!(bench.sent(conn), Ok(range.len));
    assert_eq!(bench.collect(), []);
}

#[test]
fn a_vanished_peer_ends_a_parked_send() {
    let mut bench = narrow().accept();
    let (client, conn, bytes) = parked(&mut bench, 1 << 20);
    reset(client);
    let taken = bench.sent(conn).expect("a partial count, not an error") as usize;
    assert!((1..bytes.len()).contains(&taken), "{taken}");
    let range = Range { segment: 0, offset: 0, len: 1 };
    bench.ring.push(Op::Send { conn, range });
    assert!(bench.sent(conn).is_err(), "the next send reports that the peer is gone");
}

#[test]
fn shutdown_ends_everything_and_sends_fin() {
    let mut bench = narrow().accept();
    let (mut client, conn, bytes) = parked(&mut bench, 1 << 20);
    bench.ring.push(Op::Recv { conn });
    assert_eq!(bench.collect(), []);
    bench.ring.push(Op::Shutdown { conn });
    assert_eq!(bench.recv_ended(conn), RecvEnd::Stopped, "ended by this side, not by the peer");
    let taken = bench.sent(conn).expect("a partial count") as usize;
    assert!((1..bytes.len()).contains(&taken), "{taken}");
    bench.wait_for(|done| (*done == Done::ShutDown { conn }).then_some(()));
    bench.ask(Op::Close { conn }, Done::Closed { conn });
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("FIN, not RST");
    assert!(got == bytes[..taken], "{} of {taken} bytes", got.len());
}

#[test]
fn a_shutdown_releases_a_send_that_has_not_begun() {
    let mut bench = narrow().accept();
    let (_client, conn, _) = parked(&mut bench, 1 << 20);
    bench.ring.push(Op::SendCancel { conn });
    let taken = bench.sent(conn).expect("a count");
    let rest = Range { segment: 0, offset: taken, len: (1 << 20) - taken };
    let rest = fill_up(&mut bench, conn, rest);
    bench.ring.push(Op::Send { conn, range: rest });
    assert_eq!(bench.collect(), []);
    bench.ring.push(Op::Shutdown { conn });
    assert_eq!(bench.sent(conn), Err(libc::EPIPE));
}

#[test]
fn a_reused_slot_keeps_generations_apart() {
    let mut bench = Shape { slots: 1, ..Shape::default() }.accept();
    let (client, old) = bench.pair();
    bench.ring.push(Op::Recv { conn: old });
    drop(client);
    assert_eq!(bench.recv_ended(old), RecvEnd::Eof);
    bench.ask(Op::Close { conn: old }, Done::Closed { conn: old });
    let (mut client, new) = bench.pair();
    assert_eq!(old.slot, new.slot);
    assert_ne!(old.generation, new.generation);
    bench.ring.push(Op::Recv { conn: new });
    // Operations of the old connection do not affect the new one.
    bench.ring.push(Op::RecvStop { conn: old });
    bench.ring.push(Op::SendCancel { conn: old });
    assert_eq!(bench.collect(), []);
    client.write_all(b"still here").expect("the ring reads");
    assert_eq!(bench.received(new), (b"still here".to_vec(), true));
}

#[test]
fn a_reset_in_the_backlog_is_seen() {
    let mut bench = Shape { slots: 1, ..Shape::default() }.start();
    let client = bench.connect();
    let address = client.local_addr().expect("connected");
    reset(client);
    bench.ring.push(Op::Accept { listener: LISTENER });
    // The kernel still accepts it, and still knows its peer's address.
    let (conn, peer) = bench.accepted();
    assert_eq!(peer, address);
    bench.ring.push(Op::Recv { conn });
    assert_eq!(bench.recv_ended(conn), RecvEnd::Failed(libc::ECONNRESET));
    bench.ask(Op::Close { conn }, Done::Closed { conn });
}

#[test]
#[should_panic(expected = "operation 0x4 is in flight already")]
fn a_second_send_is_our_bug() {
    let mut bench = Shape::default().accept();
    let (_client, conn) = bench.pair();
    let range = bench.fill(0, b"x");
    bench.ring.push(Op::Send { conn, range });
    bench.ring.push(Op::Send { conn, range });
}

#[test]
#[should_panic(expected = "close while 0x2 is in flight")]
fn close_under_a_receive_is_our_bug() {
    let mut bench = Shape::default().accept();
    let (_client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    bench.ring.push(Op::Close { conn });
}

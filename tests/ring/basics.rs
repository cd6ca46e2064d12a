//! The normal life of a connection.

use crate::bench::{Bench, LISTENER, Shape};
use ringpush::ids::{ConnId, Slot};
use ringpush::ring::listen::SendBound;
use ringpush::ring::{AcceptEnd, Done, Flavor, Op, Range, RecvEnd, Ring, Wait};
use ringpush::time::Millis;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

#[test]
fn peers_are_named_on_both_families() {
    for (listen, connect, expected) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("[::1]:0", "::1", "::1"),
        ("[::]:0", "::1", "::1"),
        // An IPv4 client of a dual-stack listener is an IPv4 peer.
        ("[::]:0", "127.0.0.1", "127.0.0.1"),
    ] {
        let mut bench = Shape { address: listen, ..Shape::default() }.accept();
        let ip = connect.parse().expect("an address");
        let target = SocketAddr::new(ip, bench.address.port());
        let client = TcpStream::connect(target).expect("the ring listens");
        let (_, peer) = bench.accepted();
        assert_eq!(peer.ip().to_string(), expected, "{connect} at {listen}");
        assert_eq!(peer.port(), client.local_addr().expect("connected").port());
    }
}

fn echo(bench: &mut Bench) {
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    for round in 0..100u32 {
        let text = format!("round {round}");
        client.write_all(text.as_bytes()).expect("the ring reads");
        let (bytes, more) = bench.received(conn);
        assert_eq!((bytes.as_slice(), more), (text.as_bytes(), true));
        let range = bench.fill(round % 4, &bytes);
        bench.ring.push(Op::Send { conn, range });
        assert_eq!(bench.sent(conn), Ok(range.len));
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).expect("the echo comes");
        assert_eq!(back, text.as_bytes());
    }
    drop(client);
    assert_eq!(bench.recv_ended(conn), RecvEnd::Eof);
    bench.ask(Op::Close { conn }, Done::Closed { conn });
    assert_eq!(bench.collect(), []);
    assert_eq!(bench.pool.held(), 0);
}

#[test]
fn an_echo_goes_round_on_every_kind_of_ring() {
    for flavor in [Flavor::Full, Flavor::WithArray, Flavor::Cooperative] {
        let mut bench = Shape { flavor: Some(flavor), ..Shape::default() }.accept();
        assert_eq!(bench.ring.flavor(), flavor);
        echo(&mut bench);
        let stats = *bench.ring.stats();
        assert_eq!((stats.overflows, stats.starved, stats.nameless), (0, 0, 0));
        assert!(stats.submitted >= 100 && stats.completed >= 200, "{stats:?}");
    }
}

#[test]
fn fin_is_the_end() {
    let mut bench = Shape::default().accept();
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    client.write_all(b"last words").expect("the ring reads");
    client.shutdown(std::net::Shutdown::Write).expect("connected");
    assert_eq!(bench.received(conn), (b"last words".to_vec(), true));
    assert_eq!(bench.recv_ended(conn), RecvEnd::Eof);
    // The other direction is still open.
    let range = bench.fill(0, b"answer");
    bench.ring.push(Op::Send { conn, range });
    assert_eq!(bench.sent(conn), Ok(6));
    bench.ask(Op::ShutdownWrite { conn }, Done::ShutDown { conn });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("FIN follows the answer");
    assert_eq!(answer, b"answer");
}

#[test]
fn receiving_stops_and_goes_on() {
    let mut bench = Shape::default().accept();
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    client.write_all(b"one").expect("the ring reads");
    assert_eq!(bench.received(conn).0, b"one");
    bench.ring.push(Op::RecvStop { conn });
    assert_eq!(bench.recv_ended(conn), RecvEnd::Stopped);
    client.write_all(b"two").expect("the socket takes it");
    assert_eq!(bench.collect(), [], "bytes wait in the socket");
    // Stopping a stopped receive is no error and has no answer.
    bench.ring.push(Op::RecvStop { conn });
    assert_eq!(bench.collect(), []);
    bench.ring.push(Op::Recv { conn });
    assert_eq!(bench.received(conn).0, b"two");
}

#[test]
fn a_reset_is_a_failure() {
    let mut bench = Shape::default().accept();
    let (client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    bench.ring.enter(Wait::No);
    reset(client);
    assert_eq!(bench.recv_ended(conn), RecvEnd::Failed(libc::ECONNRESET));
    let range = bench.fill(0, b"too late");
    bench.ring.push(Op::Send { conn, range });
    assert_eq!(bench.sent(conn), Err(libc::EPIPE));
    // A second shutdown is answered as well.
    bench.ask(Op::Shutdown { conn }, Done::ShutDown { conn });
    bench.ask(Op::Close { conn }, Done::Closed { conn });
}

/// Closes with RST.
pub fn reset(client: TcpStream) {
    let linger = Some(std::time::Duration::ZERO);
    socket2::SockRef::from(&client).set_linger(linger).expect("a linger is valid");
}

#[test]
fn accepting_stops_and_goes_on() {
    let mut bench = Shape::default().accept();
    let (_first, _) = bench.pair();
    let ended = Done::AcceptEnded { listener: LISTENER, end: AcceptEnd::Stopped };
    bench.ask(Op::AcceptStop { listener: LISTENER }, ended);
    let second = bench.connect();
    assert_eq!(bench.collect(), [], "the connection waits in the backlog");
    bench.ring.push(Op::Accept { listener: LISTENER });
    let (_, peer) = bench.accepted();
    assert_eq!(peer, second.local_addr().expect("connected"));
}

#[test]
fn accepted_comes_before_accept_ended() {
    let mut bench = Shape::default().accept();
    let _clients: Vec<_> = (0..20).map(|_| bench.connect()).collect();
    bench.ring.push(Op::AcceptStop { listener: LISTENER });
    let mut count = 0;
    bench.wait_for(|done| match *done {
        Done::Accepted { .. } => {
            count += 1;
            None
        }
        Done::AcceptEnded { end, .. } => {
            assert_eq!(end, AcceptEnd::Stopped);
            Some(())
        }
        _ => None,
    });
    // The rest waits in the backlog.
    bench.unclaimed.clear();
    bench.ring.push(Op::Accept { listener: LISTENER });
    while count < 20 {
        bench.accepted();
        count += 1;
    }
}

#[test]
fn more_operations_than_fit_the_queue() {
    let shape = Shape { submission: 8, send_chunk: 1000, slots: 100, ..Shape::default() };
    let mut bench = shape.accept();
    let pairs: Vec<_> = (0..100).map(|_| bench.pair()).collect();
    let before = bench.ring.stats().enters;
    let range = bench.fill(0, b"to all");
    for (_, conn) in &pairs {
        bench.ring.push(Op::Recv { conn: *conn });
        bench.ring.push(Op::Send { conn: *conn, range });
    }
    assert!(bench.ring.stats().enters >= before + 24, "a full queue enters the kernel by itself");
    for (mut client, conn) in pairs {
        assert_eq!(bench.sent(conn), Ok(6));
        let mut bytes = [0; 6];
        client.read_exact(&mut bytes).expect("it was sent");
        assert_eq!(&bytes, b"to all");
    }
}

#[test]
fn a_chunk_of_sends_leaves_without_an_enter() {
    let mut bench = Shape { send_chunk: 2, ..Shape::default() }.accept();
    let (mut client, first) = bench.pair();
    let (mut other, second) = bench.pair();
    let range = bench.fill(0, b"now");
    for conn in [first, second] {
        bench.ring.push(Op::Send { conn, range });
    }
    for client in [&mut client, &mut other] {
        let mut bytes = [0; 3];
        client.read_exact(&mut bytes).expect("the second push has sent both");
    }
}

#[test]
fn a_send_takes_its_range_and_no_more() {
    let shape = Shape { segments: 3, segment_size: 64, ..Shape::default() };
    let mut bench = shape.accept();
    let (mut client, conn) = bench.pair();
    for segment in 0..3 {
        bench.fill(segment, &[b'0' + segment as u8; 64]);
    }
    bench.fill(1, b"..abc");
    bench.ring.push(Op::Send { conn, range: Range { segment: 1, offset: 2, len: 62 } });
    assert_eq!(bench.sent(conn), Ok(62));
    bench.ask(Op::Shutdown { conn }, Done::ShutDown { conn });
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("FIN follows");
    assert_eq!(bytes, [b"abc".as_slice(), &[b'1'; 59]].concat());
}

#[test]
#[should_panic(expected = "of a segment of 64")]
fn a_range_past_its_segment_is_our_bug() {
    let mut bench = Shape { segment_size: 64, ..Shape::default() }.accept();
    let (_client, conn) = bench.pair();
    bench.ring.push(Op::Send { conn, range: Range { segment: 1, offset: 2, len: 63 } });
}

#[test]
#[should_panic(expected = "the slot is empty")]
fn an_operation_on_an_empty_slot_is_our_bug() {
    let mut bench = Shape::default().accept();
    let conn = ConnId { slot: Slot(5), generation: 1 };
    bench.ring.push(Op::Recv { conn });
    bench.recv_ended(conn);
}

#[test]
fn a_wait_ends_in_time() {
    let mut bench = Shape::default().start();
    bench.ring.enter(Wait::No);
    let start = bench.ring.now();
    bench.ring.enter(Wait::Until(start));
    bench.ring.enter(Wait::Until(start + Millis(30)));
    let waited = bench.ring.now().millis_since(start);
    assert!((30..5_000).contains(&waited), "{waited} ms");
    assert_eq!(bench.ring.pop(), None);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let wall = wall.expect("after 1970").as_millis() as u64;
    assert!(wall.abs_diff(bench.ring.wall_millis()) < 5_000);
}

#[test]
fn a_wait_ends_when_something_arrives() {
    let mut bench = Shape::default().accept();
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    bench.ring.enter(Wait::No);
    let start = bench.ring.now();
    let sender = std::thread::spawn(move || client.write_all(b"wake up"));
    bench.ring.enter(Wait::Until(start + Millis::seconds(10)));
    assert!(bench.ring.now().millis_since(start) < 9_000, "the bytes end the wait");
    assert_eq!(bench.received(conn).0, b"wake up");
    sender.join().expect("no panic").expect("the ring reads");
}

#[test]
fn an_enter_without_a_wait_sees_arrivals() {
    let mut bench = Shape::default().accept();
    let (mut client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    bench.ring.enter(Wait::No);
    client.write_all(b"here").expect("the ring reads");
    // Over loopback the bytes are in the socket when the write returns.
    let seen = bench.collect();
    assert!(matches!(seen[..], [Done::Received { len: 4, .. }]), "{seen:?}");
}

#[test]
fn the_end_of_a_ring_gives_the_memory_back() {
    let bound = SendBound::Buffer(32_768);
    let mut bench = Shape { bound, ..Shape::default() }.accept();
    let (mut client, conn) = bench.narrow_pair();
    let range = bench.fill(0, &vec![7; 1 << 21]);
    bench.ring.push(Op::Recv { conn });
    bench.ring.push(Op::Send { conn, range });
    bench.ring.enter(Wait::No);
    drop(bench.ring);
    // The owner's reference and the one counted here: neither kernel nor ring has one any more.
    assert_eq!(Arc::strong_count(&bench.segments.lend()), 2);
    assert_eq!(Arc::strong_count(&bench.pool.lend()), 2);
    // And the connection is closed: the client sees the end of what was sent.
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("FIN");
    assert!(bytes.len() < 1 << 21 && bytes.iter().all(|&byte| byte == 7));
}

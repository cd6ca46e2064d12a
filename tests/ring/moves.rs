//! Connections that move from one ring to another.

use crate::basics::reset;
use crate::bench::{Bench, PATIENCE, Shape};
use ringpush::ids::{ConnId, PeerId, Slot};
use ringpush::ring::{Descriptor, Done, Doorbells, Op, RecvEnd, Ring};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// ENFILE and EMFILE.
const TABLE_FULL: i32 = 23;
const TOO_MANY: i32 = 24;

/// Two rings of this shape.
fn two(shape: impl Fn() -> Shape) -> [Bench; 2] {
    let doorbells = Doorbells::new(2).expect("eventfds can be made");
    [0, 1].map(|peer| {
        let doorbells = Some((doorbells.clone(), PeerId(peer)));
        let bench = Shape { doorbells, ..shape() }.accept();
        assert!(bench.ring.can_move(), "this kernel has what a move needs");
        bench
    })
}

/// Takes a connection out of a ring.
fn released(bench: &mut Bench, conn: ConnId) -> Result<Descriptor, i32> {
    bench.ring.push(Op::Release { conn });
    let result = bench.wait_for(|done| match *done {
        Done::Released { conn: of, result } if of == conn => Some(result),
        _ => None,
    });
    result.map(|number| bench.ring.own(number))
}

fn adopted_slot(bench: &mut Bench, number: i32) -> Result<Slot, i32> {
    bench.wait_for(|done| match *done {
        Done::Adopted { number: of, result } if of == number => Some(result),
        _ => None,
    })
}

/// Takes a connection into a ring.
fn adopted(bench: &mut Bench, descriptor: Descriptor, generation: u32) -> ConnId {
    let number = descriptor.number();
    bench.ring.push(Op::Adopt { number });
    let slot = adopted_slot(bench, number).expect("there is a free slot");
    ConnId { slot, generation }
}

/// Sends bytes to its end.
fn send(bench: &mut Bench, conn: ConnId, bytes: &[u8]) {
    let range = bench.fill(0, bytes);
    bench.ring.push(Op::Send { conn, range });
    assert_eq!(bench.sent(conn), Ok(bytes.len() as u32));
}

fn assert_eof(client: &mut TcpStream) {
    let mut rest = Vec::new();
    assert_eq!(client.read_to_end(&mut rest).expect("the end is clean"), 0, "{rest:?}");
}

#[test]
fn a_connection_moves_with_what_is_unread() {
    let [mut a, mut b] = two(|| Shape { slots: 1, ..Shape::default() });
    let (mut client, conn) = a.pair();
    send(&mut a, conn, b"from a");
    client.write_all(b"unread").expect("the socket takes it");
    let descriptor = released(&mut a, conn).expect("there is a number");
    let moved = adopted(&mut b, descriptor, 7);
    b.ring.push(Op::Recv { conn: moved });
    assert_eq!(b.received(moved), (b"unread".to_vec(), true));
    send(&mut b, moved, b"from b");
    // The slot that it had is free: there is only one.
    let (mut second, conn) = a.pair();
    a.ask(Op::Close { conn }, Done::Closed { conn });
    assert_eof(&mut second);
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(b.recv_ended(moved), RecvEnd::Eof);
    b.ask(Op::Close { conn: moved }, Done::Closed { conn: moved });
    let mut got = [0; 12];
    client.read_exact(&mut got).expect("all of it was sent");
    assert_eq!(&got, b"from afrom b");
    assert_eof(&mut client);
}

#[test]
fn a_reset_on_the_way_is_found() {
    let [mut a, mut b] = two(Shape::default);
    let (mut client, conn) = a.pair();
    client.write_all(b"unread").expect("the socket takes it");
    let descriptor = released(&mut a, conn).expect("there is a number");
    reset(client);
    let moved = adopted(&mut b, descriptor, 7);
    b.ring.push(Op::Recv { conn: moved });
    let end = b.wait_for(|done| match *done {
        Done::RecvEnded { conn, end } if conn == moved => Some(end),
        _ => None,
    });
    assert_eq!(end, RecvEnd::Failed(104));
    b.ask(Op::Close { conn: moved }, Done::Closed { conn: moved });
}

#[test]
fn an_end_on_the_way_comes_behind_the_bytes_before_it() {
    let [mut a, mut b] = two(Shape::default);
    let (mut client, conn) = a.pair();
    let descriptor = released(&mut a, conn).expect("there is a number");
    client.write_all(b"last").expect("the socket takes it");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let moved = adopted(&mut b, descriptor, 7);
    b.ring.push(Op::Recv { conn: moved });
    assert_eq!(b.received(moved).0, b"last");
    assert_eq!(b.recv_ended(moved), RecvEnd::Eof);
    b.ask(Op::Close { conn: moved }, Done::Closed { conn: moved });
}

#[test]
fn a_dropped_owner_closes_the_connection() {
    let mut a = Shape::default().accept();
    let (mut client, conn) = a.pair();
    drop(released(&mut a, conn).expect("there is a number"));
    assert_eof(&mut client);
}

#[test]
fn a_ring_that_ends_in_the_middle_of_moves_leaves_nothing_open() {
    let [mut a, mut b] = two(Shape::default);
    let (mut leaving, conn) = a.pair();
    let (mut coming, other) = a.pair();
    let descriptor = released(&mut a, other).expect("there is a number");
    let memory = [a.segments.lend(), b.segments.lend()];
    a.ring.push(Op::Release { conn });
    b.ring.push(Op::Adopt { number: descriptor.number() });
    drop((a.ring, b.ring));
    drop(descriptor);
    assert_eof(&mut leaving);
    assert_eof(&mut coming);
    // A ring that gives up waiting for the kernel keeps its memory for ever.
    drop((a.segments, b.segments));
    assert_eq!(memory.map(|region| Arc::strong_count(&region)), [1, 1]);
}

#[test]
fn a_full_table_takes_nothing() {
    let [mut a, mut b] = two(|| Shape { slots: 1, ..Shape::default() });
    let (mut client, conn) = a.pair();
    let (mut other, other_conn) = b.pair();
    let descriptor = released(&mut a, conn).expect("there is a number");
    let number = descriptor.number();
    b.ring.push(Op::Adopt { number });
    assert_eq!(adopted_slot(&mut b, number), Err(TABLE_FULL));
    // It is still whole.
    b.ask(Op::Close { conn: other_conn }, Done::Closed { conn: other_conn });
    assert_eof(&mut other);
    b.ring.push(Op::Adopt { number });
    let conn = ConnId { slot: adopted_slot(&mut b, number).expect("a free slot"), generation: 9 };
    b.ask(Op::Close { conn }, Done::Closed { conn });
    descriptor.refuse(b"no place");
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("the end is clean");
    assert_eq!(got, b"no place");
}

#[test]
fn more_come_at_once_than_there_are_places() {
    const MANY: usize = 150;
    let shape = || Shape { slots: 256, submission: 8, ..Shape::default() };
    let [mut a, mut b] = two(shape);
    let mut clients = Vec::new();
    let mut descriptors = Vec::new();
    for n in 0..MANY {
        let (mut client, conn) = a.pair();
        client.write_all(&[n as u8]).expect("the socket takes it");
        descriptors.push(released(&mut a, conn).expect("there is a number"));
        clients.push(client);
    }
    for descriptor in &descriptors {
        b.ring.push(Op::Adopt { number: descriptor.number() });
    }
    for (n, descriptor) in descriptors.into_iter().enumerate() {
        let slot = adopted_slot(&mut b, descriptor.number()).expect("there are free slots");
        drop(descriptor);
        let conn = ConnId { slot, generation: n as u32 };
        b.ring.push(Op::Recv { conn });
        assert_eq!(b.received(conn).0, [n as u8], "each is the one of its number");
    }
}

#[test]
fn a_slot_that_is_left_is_taken_at_once() {
    // A queue of one entry, so that each operation is a submission of its own.
    let mut a = Shape { submission: 1, slots: 2, ..Shape::default() }.accept();
    let (mut client, mut conn) = a.pair();
    for _ in 0..500 {
        a.ring.push(Op::Release { conn });
        let next = a.connect();
        let number = a.wait_for(|done| match *done {
            Done::Released { conn: of, result } if of == conn => Some(result),
            _ => None,
        });
        drop(a.ring.own(number.expect("there is a number")));
        assert_eof(&mut client);
        (client, conn) = (next, a.accepted().0);
    }
}

#[test]
#[should_panic(expected = "release while 0x2 is in flight")]
fn a_release_under_a_receive_is_our_bug() {
    let mut bench = Shape::default().accept();
    let (_client, conn) = bench.pair();
    bench.ring.push(Op::Recv { conn });
    bench.ring.push(Op::Release { conn });
}

/// Numbers, each of eight bytes.
#[derive(Default)]
struct Numbers {
    /// Bytes so far.
    at: usize,
}

impl Numbers {
    fn byte(at: usize) -> u8 {
        (at as u64 / 8).to_be_bytes()[at % 8]
    }

    fn write(&mut self, len: usize) -> Vec<u8> {
        let bytes = (self.at..self.at + len).map(Numbers::byte).collect();
        self.at += len;
        bytes
    }

    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(*byte, Numbers::byte(self.at), "byte {}", self.at);
            self.at += 1;
        }
    }
}

/// The client's half of the stream: writes and reads until its end, and says how much.
fn stream(client: &TcpStream) -> (usize, usize) {
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut to, mut numbers) = (client, Numbers::default());
            // The server ends the stream: what was written then is not counted.
            while to.write_all(&numbers.write(1_003)).is_ok() {}
            numbers.at
        });
        let (mut from, mut numbers, mut chunk) = (client, Numbers::default(), [0; 4_096]);
        loop {
            match from.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(len) => numbers.read(&chunk[..len]),
            }
        }
        client.shutdown(Shutdown::Both).ok();
        (writer.join().expect("no panic"), numbers.at)
    })
}

/// Reads until the receive of a connection has ended.
fn read_to_end(bench: &mut Bench, conn: ConnId, numbers: &mut Numbers) -> RecvEnd {
    loop {
        let done = bench.wait_for(|done| match *done {
            Done::Received { conn: of, .. } | Done::RecvEnded { conn: of, .. } if of == conn => {
                Some(*done)
            }
            _ => None,
        });
        match done {
            Done::Received { buffer, len, more, .. } => {
                numbers.read(&bench.take(buffer, len));
                if !more {
                    return RecvEnd::Stopped;
                }
            }
            Done::RecvEnded { end, .. } => return end,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stream_survives_ten_thousand_moves() {
    const MOVES: u32 = 10_000;
    // Few buffers, so that receives end by themselves while they are being stopped.
    let mut rings = two(|| Shape { buffers: 2, buffer_size: 1_024, ..Shape::default() });
    let (client, mut conn) = rings[0].pair();
    let client = std::thread::spawn(move || stream(&client));
    let (mut read, mut written) = (Numbers::default(), Numbers::default());
    let (mut stopped, mut starved) = (0, 0);
    for n in 0..MOVES {
        let (from, to) = (n as usize % 2, (n as usize + 1) % 2);
        let bench = &mut rings[from];
        bench.ring.push(Op::Recv { conn });
        let bytes = written.write(n as usize % 700 + 1);
        let range = bench.fill(0, &bytes);
        bench.ring.push(Op::Send { conn, range });
        assert_eq!(bench.sent(conn), Ok(range.len));
        bench.ring.push(Op::RecvStop { conn });
        match read_to_end(bench, conn, &mut read) {
            RecvEnd::Stopped => stopped += 1,
            RecvEnd::Starved => starved += 1,
            other => panic!("{other:?}"),
        }
        let descriptor = released(bench, conn).expect("there is a number");
        conn = adopted(&mut rings[to], descriptor, n + 1_000);
    }
    let bench = &mut rings[0];
    bench.ask(Op::ShutdownWrite { conn }, Done::ShutDown { conn });
    // What the client has written until it saw the end.
    let mut end = RecvEnd::Stopped;
    while matches!(end, RecvEnd::Stopped | RecvEnd::Starved) {
        bench.ring.push(Op::Recv { conn });
        end = read_to_end(bench, conn, &mut read);
    }
    let (sent, got) = client.join().expect("no panic");
    assert_eq!(got, written.at, "the client has read all of it");
    assert!(read.at > 0 && read.at <= sent, "{} of {sent}", read.at);
    assert!(stopped > 100 && starved > 100, "{stopped} stopped, {starved} starved");
}

/// The process in which descriptors are few: `RLIMIT_NOFILE` is one for all of a process.
const CHILD: &str = "RINGPUSH_FEW_DESCRIPTORS";

#[test]
fn a_release_without_a_number_changes_nothing() {
    if std::env::var_os(CHILD).is_some() {
        return with_few_descriptors();
    }
    let exe = std::env::current_exe().expect("it runs");
    let test = "moves::a_release_without_a_number_changes_nothing";
    let mut child = Command::new("sh");
    child.args(["-c", "ulimit -n 64 && exec \"$0\" --exact \"$1\" --nocapture"]);
    let output = child.arg(exe).arg(test).env(CHILD, "1").output().expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

fn with_few_descriptors() {
    let [mut a, mut b] = two(|| Shape { submission: 8, slots: 16, ..Shape::default() });
    let pairs: Vec<_> = (0..5).map(|_| a.pair()).collect();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    for (_, conn) in &pairs {
        assert_eq!(released(&mut a, *conn).map(|_| ()), Err(TOO_MANY));
    }
    drop(files);
    for (n, (mut client, conn)) in pairs.into_iter().enumerate() {
        client.set_read_timeout(Some(Duration::from_millis(PATIENCE.0.into()))).expect("valid");
        send(&mut a, conn, b"here");
        let mut got = [0; 4];
        client.read_exact(&mut got).expect("it is connected");
        let descriptor = released(&mut a, conn).expect("there are numbers again");
        let moved = adopted(&mut b, descriptor, n as u32);
        send(&mut b, moved, b"there");
        b.ask(Op::Close { conn: moved }, Done::Closed { conn: moved });
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the end is clean");
        assert_eq!((&got, &rest[..]), (b"here", &b"there"[..]));
    }
}

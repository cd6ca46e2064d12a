//! Peers that end while their connection is paused, for each reason of a pause, to the millisecond:
//! a reset ends the connection at once, a FIN one second later, in every case.

use super::script::Stage;
use super::wire::handshake;
use crate::time::Millis;
use crate::ws::Opcode;

/// Why a connection is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Room,
    Answer,
    Deferred,
    Outbox,
    Parked,
    Pipelined,
}

const REASONS: [Reason; 6] = [
    Reason::Room,
    Reason::Answer,
    Reason::Deferred,
    Reason::Outbox,
    Reason::Parked,
    Reason::Pipelined,
];

const SEND: &str = "SEND\ndestination:/topic/t0\n\n";
const REQUEST: &[u8] =
    b"GET /sendMsAll?subscribePath=/topic/t0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HOME: usize = 0;
const FRONT: usize = 1;

/// A client of the shard that is no home. From now on only that shard runs.
fn paused(reason: Reason) -> (Stage, usize) {
    let mut stage = Stage::new(2, |config| {
        Stage::roomy(config);
        let limits = &mut config.limits;
        (limits.answer_time, limits.send_time) = (Millis::seconds(600), Millis::seconds(600));
        match reason {
            Reason::Room => limits.mailbox = 2,
            Reason::Answer => limits.receipts = 2,
            _ => {}
        }
    });
    assert_eq!(stage.shared.homes.of_destination("/topic/t0").index(), HOME);
    let client = match reason {
        Reason::Outbox => {
            let client = stage.connects(FRONT, &handshake("/echo", ""));
            let socket = stage.clients[client].socket;
            stage.world.borrow_mut().size_socket(socket, 65_536, 200);
            client
        }
        Reason::Parked | Reason::Pipelined => stage.connects(FRONT, b""),
        _ => stage.session(FRONT, "u1"),
    };
    stage.settle();
    let begins = "SUBSCRIBE\nid:1\ndestination:/topic/t0\n\n";
    for round in 0..3 {
        match reason {
            Reason::Room => stage.says(client, &[SEND; 4]),
            Reason::Answer => {
                let send = SEND.replace("\n\n", "\nreceipt:r\n\n");
                stage.says(client, &[send.as_str(); 4]);
            }
            Reason::Deferred if round > 0 => stage.says(client, &[SEND]),
            Reason::Deferred => stage.says(client, &[begins, "UNSUBSCRIBE\nid:1\n\n"]),
            Reason::Outbox => {
                let mut world = stage.world.borrow_mut();
                let wire = &mut stage.clients[client];
                wire.put_frame(Opcode::Text, true, &[b'e'; 500], &mut world.random);
                drop(world);
                stage.writes(client, b"");
            }
            Reason::Parked if round > 0 => {}
            Reason::Parked | Reason::Pipelined => stage.writes(client, REQUEST),
        }
        turns(&mut stage);
    }
    let audit = stage.shards[FRONT].audit();
    assert_eq!(audit.watched, usize::from(reason != Reason::Parked), "{reason:?}: {audit:?}");
    assert_eq!(audit.connections, 1);
    (stage, client)
}

/// Runs turns of the front only.
fn turns(stage: &mut Stage) {
    for _ in 0..8 {
        stage.world.borrow_mut().submit(FRONT);
        stage.turn(FRONT);
    }
}

/// Lets time pass for the front; returns how many connections it has then.
fn after(stage: &mut Stage, millis: u64) -> usize {
    stage.world.borrow_mut().advance(millis * 1_000_000);
    turns(stage);
    stage.shards[FRONT].audit().connections
}

/// Home and front have nothing left, once the home runs again.
fn nothing_is_left(mut stage: Stage, reason: Reason) {
    for _ in 0..4 {
        after(&mut stage, 2);
        stage.settle();
    }
    for shard in [HOME, FRONT] {
        let audit = stage.shards[shard].audit();
        let left =
            (audit.sessions, audit.users, audit.buffered, audit.watched, audit.segment_refcounts);
        assert_eq!(left, (0, 0, 0, 0, 0), "{reason:?}: {audit:?}");
    }
}

#[test]
fn after_a_fin_a_paused_connection_has_one_second() {
    for reason in REASONS {
        let (mut stage, client) = paused(reason);
        let socket = stage.clients[client].socket;
        stage.world.borrow_mut().end(socket);
        turns(&mut stage);
        assert_eq!(after(&mut stage, 990), 1, "{reason:?}");
        // The wheel's tick is an eighth of a second.
        assert_eq!(after(&mut stage, 200), 0, "{reason:?}");
        nothing_is_left(stage, reason);
    }
}

/// Seed 670872126049: the end of a peer is known while it is paused, then it is read for a moment,
/// in which its deadlines are worked out, and then it is paused again.
#[test]
fn after_a_fin_the_second_runs_on_though_the_client_is_read_for_a_moment() {
    let mut stage = Stage::new(2, |config| {
        Stage::roomy(config);
        config.limits.mailbox = 4;
    });
    let client = stage.connects(FRONT, &handshake("/portfolio", "?userId=u1"));
    stage.settle();
    let wire = &mut stage.clients[client];
    wire.read(65_536, &mut stage.world.borrow_mut());
    assert_eq!(wire.answer().expect("an answer").expect("to the handshake").status, 101);
    stage.says(client, &["CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,1500\n\n"]);
    stage.settle();
    assert_eq!(stage.hears(client).len(), 1);
    // Four find room at home; two wait here, and six in the socket.
    for sends in [5, 1, 6] {
        stage.says(client, &vec![SEND; sends]);
        turns(&mut stage);
    }
    let audit = stage.shards[FRONT].audit();
    assert_eq!((audit.connections, audit.watched), (1, 1), "{audit:?}");

    // At one moment home has room again, the peer has ended, and a heart-beat is due.
    stage.turn(HOME);
    let socket = stage.clients[client].socket;
    stage.world.borrow_mut().end(socket);
    stage.world.borrow_mut().advance(1_400 * 1_000_000);
    turns(&mut stage);
    let audit = stage.shards[FRONT].audit();
    assert!(audit.buffered > 0 && audit.watched == 0, "it waits again: {audit:?}");
    assert_eq!(after(&mut stage, 990), 1);
    assert_eq!(after(&mut stage, 200), 0);
    nothing_is_left(stage, Reason::Room);
}

#[test]
fn after_a_reset_a_paused_connection_is_gone() {
    for reason in REASONS {
        let (mut stage, client) = paused(reason);
        let socket = stage.clients[client].socket;
        stage.world.borrow_mut().leave(socket, true);
        assert_eq!(after(&mut stage, 0), 0, "{reason:?}");
        nothing_is_left(stage, reason);
    }
}

#[test]
fn who_comes_to_the_slot_of_one_who_waited_waits_once() {
    let (mut stage, _) = paused(Reason::Room);
    for round in 0..5 {
        let client = stage.connects(FRONT, REQUEST);
        turns(&mut stage);
        turns(&mut stage);
        let audit = stage.shards[FRONT].audit();
        assert_eq!((audit.connections, audit.waiting), (2, 2), "round {round}: {audit:?}");
        stage.shards[FRONT].invariants();
        let socket = stage.clients[client].socket;
        stage.world.borrow_mut().leave(socket, true);
        assert_eq!(after(&mut stage, 0), 1);
    }
}

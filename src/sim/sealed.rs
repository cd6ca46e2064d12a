//! Scripts with sealed connections: what is asked for comes in records, what cannot be opened ends
//! its sender alone, and the end is told by a record before the FIN.

use super::script::Stage;
use super::wire::{End, handshake};
use crate::metrics::Refusal;
use crate::ws::Opcode;
use core::net::SocketAddr;

/// A sealed connection with a WebSocket that echoes.
fn echoes(stage: &mut Stage) -> usize {
    let client = stage.connects_sealed(0, &handshake("/echo", ""));
    stage.settle();
    let wire = &mut stage.clients[client];
    wire.read(65_536, &mut stage.world.borrow_mut());
    assert_eq!(wire.answer().expect("an answer").expect("to the handshake").status, 101);
    client
}

/// Sends a frame and reads what comes of it.
fn says(stage: &mut Stage, client: usize, opcode: Opcode, payload: &[u8]) -> Vec<String> {
    let mut world = stage.world.borrow_mut();
    stage.clients[client].put_frame(opcode, true, payload, &mut world.random);
    drop(world);
    stage.writes(client, b"");
    stage.settle();
    stage.hears(client)
}

#[test]
fn a_sealed_client_is_answered_in_records_and_told_the_end_before_the_fin() {
    let mut stage = Stage::new(1, Stage::roomy);
    let client = echoes(&mut stage);
    for len in [1, 100, 599] {
        let text = "x".repeat(len);
        let heard = says(&mut stage, client, Opcode::Text, text.as_bytes());
        assert_eq!(heard, [text]);
    }
    assert!(!stage.clients[client].is_told_the_end());
    let heard = says(&mut stage, client, Opcode::Close, &1000u16.to_be_bytes());
    assert_eq!(heard, ["close 1000"]);
    let wire = &mut stage.clients[client];
    assert!(wire.is_told_the_end() && wire.take_broken().is_none());
    assert_eq!(wire.end, Some(End::Eof));
    stage.shards[0].invariants();
}

#[test]
fn a_record_that_cannot_be_opened_ends_its_sender_alone() {
    let mut stage = Stage::new(1, Stage::roomy);
    let (good, bad) = (echoes(&mut stage), echoes(&mut stage));
    stage.clients[bad].spoil();
    assert_eq!(says(&mut stage, bad, Opcode::Text, b"a"), Vec::<String>::new());
    assert_eq!(stage.metrics.refusals(), [(Refusal::TransportRecord, 1)]);
    assert!(stage.clients[bad].is_alerted(), "it is told why");
    assert_eq!(stage.clients[bad].end, Some(End::Eof));
    assert_eq!(says(&mut stage, good, Opcode::Text, b"b"), ["b"]);
    stage.shards[0].invariants();
}

#[test]
fn a_handshake_has_the_time_of_a_head() {
    let mut stage = Stage::new(1, Stage::roomy);
    let limits = stage.shared.limits.clone();
    assert!(limits.head_time < limits.idle_time, "what is idle may stay for longer");
    let idle = stage.connects_sealed(0, b"");
    let peer = SocketAddr::from(([127, 0, 0, 1], 2_000));
    let silent = stage.world.borrow_mut().connect(0, 1, peer);
    stage.settle();
    let nanos = (u64::from(limits.head_time.0) + 600) * 1_000_000;
    stage.world.borrow_mut().advance(nanos);
    stage.turn(0);
    stage.settle();
    assert_eq!(stage.metrics.refusals(), [(Refusal::LimitHeadTime, 1)]);
    let world = stage.world.borrow();
    let idle = stage.clients[idle].socket;
    assert_eq!((world.is_closed(silent), world.is_closed(idle)), (true, false));
}

#[test]
fn who_has_keys_changed_for_ever_and_does_not_read_is_let_go() {
    let mut stage = Stage::new(1, Stage::roomy);
    let client = echoes(&mut stage);
    let socket = stage.clients[client].socket;
    stage.world.borrow_mut().size_socket(socket, 65_536, 100);
    let most = stage.shared.limits.send_buffer as usize;
    // Each is answered by a record of eight bytes.
    for _ in 0..most / 8 / 50 + 10 {
        stage.clients[client].rekeys(50);
        stage.writes(client, b"");
        stage.settle();
    }
    assert_eq!(stage.metrics.shard(0).slow_consumers_total.value(), 1);
    stage.shards[0].invariants();
}

#[test]
fn an_answer_that_cannot_be_sealed_any_more_holds_nothing_up() {
    let mut stage = Stage::new(1, Stage::roomy);
    let client = stage.connects_sealed(0, b"");
    // A bad request, and behind it in the same receive a record that was spoiled.
    stage.clients[client].spoil_after(b"GET\r\n\r\n", &mut stage.world.borrow_mut());
    stage.settle();
    let refusals = stage.metrics.refusals();
    assert!(refusals.contains(&(Refusal::TransportRecord, 1)) && refusals.len() == 2);
    stage.hears(client);
    assert!(stage.clients[client].is_alerted(), "it is told why");
    assert_eq!(stage.clients[client].end, Some(End::Eof), "before it has ended itself");
    let socket = stage.clients[client].socket;
    stage.world.borrow_mut().end(socket);
    stage.settle();
    assert!(stage.world.borrow().is_closed(socket), "it keeps no slot");
    stage.shards[0].invariants();
}

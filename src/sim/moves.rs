//! Connections that move from one shard to another while something else happens to them, step by
//! step.

use super::faults::FaultRates;
use super::script::Stage;
use super::wire::{End, handshake};
use crate::config::Config;
use crate::engine::mailbox::ToShard;
use crate::ids::{PeerId, ShardId, Slot};
use crate::mem::shares::Kind;
use crate::metrics::Refusal;
use crate::time::Millis;

const HERE: usize = 0;
const THERE: usize = 1;
const OK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const MISSING: &[u8] = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// More steps than a move takes.
const STEPS: usize = 24;

fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    Stage::new(2, |config| {
        Stage::roomy(config);
        change(config);
    })
}

impl Stage {
    /// Statuses of the answers that a client has received.
    fn statuses(&mut self, client: usize) -> Vec<u16> {
        let wire = &mut self.clients[client];
        while wire.read(65_536, &mut self.world.borrow_mut()) {}
        core::iter::from_fn(|| wire.answer().expect("an answer")).map(|one| one.status).collect()
    }

    /// A client that has had one answer, and now asks for nothing.
    fn idle(&mut self, shard: usize) -> usize {
        let client = self.connects(shard, OK);
        self.settle();
        assert_eq!(self.statuses(client), [200]);
        client
    }

    /// Begins to move the client that is here.
    fn moves(&mut self) -> bool {
        self.shards[HERE].move_one(Slot(0), ShardId(THERE as u8))
    }

    /// Connections of each shard.
    fn spread(&mut self) -> [usize; 2] {
        [HERE, THERE].map(|shard| self.shards[shard].audit().connections)
    }

    fn moved(&self) -> u64 {
        self.metrics.shards().map(|shard| shard.moved_total.value()).sum()
    }

    /// One step of one shard: a turn of each, and what each has queued reaches its kernel.
    fn step(&mut self, number: usize) {
        let shard = number / 2 % 2;
        match number % 2 {
            0 => {
                self.turn(shard);
                self.shards[shard].invariants();
            }
            _ => self.world.borrow_mut().submit(shard),
        }
    }

    fn end_of(&mut self, client: usize) -> Option<End> {
        let wire = &mut self.clients[client];
        while wire.read(65_536, &mut self.world.borrow_mut()) {}
        wire.end
    }

    /// Both shards drain, and end.
    fn drains(&mut self, from: usize) {
        for shard in [HERE, THERE] {
            self.control.send(PeerId(shard as u8), ToShard::Drain);
        }
        let mut goes_on = [true; 2];
        for number in from..from + 200 {
            let shard = number / 2 % 2;
            match number % 2 {
                0 if goes_on[shard] => {
                    goes_on[shard] = self.shards[shard].turn();
                    self.shards[shard].invariants();
                }
                0 => {}
                _ => self.world.borrow_mut().submit(shard),
            }
        }
        assert_eq!(goes_on, [false; 2], "both end");
        assert_eq!(self.spread(), [0, 0]);
        self.nothing_is_between();
    }

    /// No connection is in no table, and nothing waits.
    fn nothing_is_between(&mut self) {
        assert_eq!(self.world.borrow().forgotten(crate::time::Instant(0), 0), None);
        for shard in [HERE, THERE] {
            let audit = self.shards[shard].audit();
            assert_eq!((audit.waiting, audit.buffered), (0, 0), "{shard}: {audit:?}");
            self.shards[shard].invariants();
        }
        let all = self.spread().iter().sum::<usize>() as u32;
        let shares = &self.shared.shares;
        assert_eq!((shares.connections(), shares.total(Kind::Connections)), (all, all));
        for to in [HERE, THERE] {
            assert_eq!(self.shared.coming.count(ShardId(to as u8)), 0, "in flight to {to}");
        }
    }
}

/// A kernel without faults but these.
fn faults(stage: &mut Stage, change: impl FnOnce(&mut FaultRates)) {
    let mut rates = FaultRates::default();
    change(&mut rates);
    stage.world.borrow_mut().set_fault_rates(rates);
}

#[test]
fn new_connections_move_to_the_emptiest_shard() {
    let mut stage = stage(|config| config.limits.move_lead = 1);
    let clients: Vec<usize> = (0..8)
        .map(|_| {
            let client = stage.connects(HERE, OK);
            stage.settle();
            client
        })
        .collect();
    for client in clients {
        assert_eq!(stage.statuses(client), [200]);
    }
    let [here, there] = stage.spread();
    assert!(here <= there + 2 && here + there == 8, "{here} and {there}");
    assert_eq!(stage.moved(), there as u64);
    stage.nothing_is_between();
}

#[test]
fn connections_that_come_at_once_move_no_more_than_may() {
    for (moves, most) in [(4, 4), (0, 0)] {
        let mut stage = stage(|config| {
            (config.limits.move_lead, config.limits.moves) = (0, moves);
        });
        let clients: Vec<usize> = (0..7).map(|_| stage.connects(HERE, OK)).collect();
        stage.world.borrow_mut().submit(HERE);
        stage.turn(HERE);
        assert_eq!(stage.shared.coming.count(ShardId(THERE as u8)), most);
        stage.settle();
        assert_eq!(stage.spread(), [7 - most as usize, most as usize]);
        for client in clients {
            assert_eq!(stage.statuses(client), [200]);
        }
    }
}

#[test]
fn an_idle_connection_goes_on_where_it_moves() {
    let mut stage = stage(|_| {});
    let client = stage.idle(HERE);
    assert!(stage.moves());
    stage.turn(HERE);
    stage.settle();
    assert_eq!(stage.spread(), [0, 1]);
    stage.writes(client, &handshake("/portfolio", "?userId=u1"));
    stage.settle();
    assert_eq!(stage.statuses(client), [101]);
    stage.says(client, &["CONNECT\naccept-version:1.2\nhost:x\n\n"]);
    stage.settle();
    assert!(stage.hears(client)[0].starts_with("CONNECTED\n"));
    assert!(!stage.moves(), "an upgraded connection stays");
    stage.nothing_is_between();
}

#[test]
fn the_time_of_an_idle_connection_goes_on_where_it_moves() {
    let mut stage = stage(|config| config.limits.idle_time = Millis::seconds(4));
    let client = stage.idle(HERE);
    for (millis, left) in [(3_500, 1), (1_000, 0)] {
        stage.world.borrow_mut().advance(millis * 1_000_000);
        for shard in [HERE, THERE] {
            stage.turn(shard);
        }
        if left == 1 {
            assert!(stage.moves());
            stage.turn(HERE);
        }
        stage.settle();
        assert_eq!(stage.spread(), [0, left]);
    }
    assert_eq!(stage.end_of(client), Some(End::Eof));
    stage.nothing_is_between();
}

#[test]
fn what_comes_while_it_moves_is_answered_in_order() {
    for at in 0..STEPS {
        let mut stage = stage(|_| {});
        faults(&mut stage, |rates| rates.after_stop = 1_000);
        let client = stage.idle(HERE);
        assert!(stage.moves());
        for step in 0..STEPS {
            if step == at {
                // The end of the second request comes later than its beginning.
                stage.writes(client, &[MISSING, &OK[..20]].concat());
            }
            stage.step(step);
        }
        stage.settle();
        stage.writes(client, &[&OK[20..], MISSING].concat());
        stage.settle();
        assert_eq!(stage.statuses(client), [404, 200, 404], "written at step {at}");
        assert_eq!(stage.spread(), [0, 1]);
        stage.nothing_is_between();
    }
}

#[test]
fn who_keeps_most_is_refused_also_while_he_moves() {
    let mut stage = stage(|config| config.limits.held_bytes = 300);
    faults(&mut stage, |rates| rates.after_stop = 1_000);
    let other = stage.idle(HERE);
    let client = stage.connects(HERE, OK);
    stage.settle();
    assert_eq!(stage.statuses(client), [200]);
    assert!(stage.shards[HERE].move_one(Slot(1), ShardId(THERE as u8)));
    stage.writes(client, &OK.repeat(400 / OK.len() + 1));
    stage.settle();
    assert_eq!(stage.metrics.refusals(), [(Refusal::LimitBufferedBytes, 1)]);
    assert_eq!((stage.statuses(client), stage.statuses(other)), (vec![503], vec![]));
    assert_eq!((stage.end_of(client), stage.end_of(other)), (Some(End::Eof), None));
    assert_eq!(stage.moved(), 0);
    stage.shards[HERE].invariants();
}

#[test]
fn a_receive_that_ends_by_itself_while_it_is_stopped_is_no_obstacle() {
    let mut stage = stage(|config| {
        (config.limits.receive_buffers, config.limits.receive_bytes) = (1, 64);
    });
    faults(&mut stage, |rates| rates.after_stop = 1_000);
    let client = stage.idle(HERE);
    let starved = |stage: &Stage| {
        stage.metrics.shards().next().expect("a shard").receive_starved_total.value()
    };
    let before = starved(&stage);
    assert!(stage.moves());
    stage.turn(HERE);
    // More than one buffer takes: the receive finds no other one.
    stage.writes(client, &[OK, MISSING, OK].concat());
    stage.settle();
    assert!(starved(&stage) > before);
    assert_eq!(stage.statuses(client), [200, 404, 200]);
    assert_eq!((stage.spread(), stage.moved()), ([0, 1], 1));
    stage.nothing_is_between();
}

#[test]
fn a_receive_that_does_not_end_keeps_its_connection_here() {
    let mut stage = stage(|_| {});
    let client = stage.idle(HERE);
    assert!(stage.moves());
    faults(&mut stage, |rates| rates.late = 1_000);
    stage.turn(HERE);
    stage.writes(client, OK);
    for _ in 0..12 {
        stage.world.borrow_mut().advance(100_000_000);
        stage.turn(HERE);
    }
    faults(&mut stage, |_| {});
    stage.settle();
    assert_eq!(stage.statuses(client), [200]);
    assert_eq!((stage.spread(), stage.moved()), ([1, 0], 0));
    stage.nothing_is_between();
}

#[test]
fn a_peer_that_ends_or_resets_on_the_way_is_let_go() {
    for (at, reset) in (0..STEPS).flat_map(|at| [(at, false), (at, true)]) {
        let mut stage = stage(|_| {});
        let client = stage.idle(HERE);
        assert!(stage.moves());
        for step in 0..STEPS {
            if step == at {
                stage.world.borrow_mut().leave(stage.clients[client].socket, reset);
            }
            stage.step(step);
        }
        stage.settle();
        assert_eq!(stage.spread(), [0, 0], "at step {at}, by a reset: {reset}");
        assert_eq!(stage.world.borrow().open_connections(), 0);
        stage.nothing_is_between();
    }
}

#[test]
fn requests_before_the_end_of_a_peer_are_answered_wherever_it_is() {
    for at in 0..STEPS {
        let mut stage = stage(|_| {});
        faults(&mut stage, |rates| rates.after_stop = 1_000);
        let client = stage.idle(HERE);
        assert!(stage.moves());
        for step in 0..STEPS {
            if step == at {
                stage.writes(client, &[OK, MISSING].concat());
                stage.world.borrow_mut().end(stage.clients[client].socket);
            }
            stage.step(step);
        }
        stage.settle();
        assert_eq!(stage.statuses(client), [200, 404], "written at step {at}");
        assert_eq!(stage.end_of(client), Some(End::Eof));
        stage.world.borrow_mut().leave(stage.clients[client].socket, false);
        stage.settle();
        assert_eq!(stage.spread(), [0, 0]);
        stage.nothing_is_between();
    }
}

#[test]
fn without_a_descriptor_a_connection_stays_where_it_is() {
    for is_new in [true, false] {
        let mut stage = stage(|config| config.limits.move_lead = if is_new { 0 } else { 64 });
        faults(&mut stage, |rates| rates.release_fails = 1_000);
        let client = stage.idle(HERE);
        if !is_new {
            assert!(stage.moves());
        }
        stage.writes(client, OK);
        stage.settle();
        assert_eq!(stage.statuses(client), [200]);
        let failed = stage.metrics.shards().next().expect("a shard").moves_failed_total.value();
        assert_eq!((stage.spread(), stage.moved(), failed), ([1, 0], 0, 1));
        stage.nothing_is_between();
    }
}

#[test]
fn without_a_slot_a_connection_is_refused() {
    let mut stage = stage(|_| {});
    faults(&mut stage, |rates| rates.adopt_fails = 1_000);
    let client = stage.idle(HERE);
    assert!(stage.moves());
    stage.turn(HERE);
    stage.settle();
    assert_eq!(stage.statuses(client), [503]);
    assert_eq!(stage.end_of(client), Some(End::Eof));
    assert_eq!(stage.metrics.refused(Refusal::NetMoveFailed), 1);
    assert_eq!(stage.spread(), [0, 0]);
    stage.nothing_is_between();
}

#[test]
fn a_shard_without_a_place_refuses_who_comes() {
    let mut stage = stage(|config| config.limits.stranger_time = Millis::seconds(100));
    let client = stage.idle(HERE);
    while stage.metrics.refused(Refusal::LimitConnections) == 0 {
        stage.connects(THERE, OK);
        stage.settle();
    }
    // Who was refused leaves the slot that is for telling so.
    let refused = stage.clients.last().expect("one connected").socket;
    stage.world.borrow_mut().leave(refused, true);
    stage.settle();
    assert!(stage.moves());
    stage.turn(HERE);
    stage.settle();
    assert_eq!(stage.statuses(client), [503]);
    assert_eq!(stage.metrics.refused(Refusal::LimitConnections), 2);
    stage.world.borrow_mut().leave(stage.clients[client].socket, false);
    stage.settle();
    stage.nothing_is_between();
}

#[test]
fn who_finds_no_room_in_the_mailbox_waits_for_it() {
    for drains in [false, true] {
        let mut stage = stage(|config| config.limits.mailbox = 2);
        let clients: Vec<usize> = (0..4).map(|_| stage.idle(HERE)).collect();
        assert!((0..4).all(|_| stage.moves()) && !stage.moves());
        for _ in 0..6 {
            stage.turn(HERE);
            stage.world.borrow_mut().submit(HERE);
        }
        assert_eq!(stage.shards[HERE].audit().waiting, 2);
        if drains {
            stage.control.send(PeerId(HERE as u8), ToShard::Drain);
            stage.turn(HERE);
            assert_eq!(stage.shards[HERE].audit().waiting, 0, "they are closed at once");
            stage.drains(0);
            assert!(clients.iter().all(|client| stage.end_of(*client) == Some(End::Eof)));
            continue;
        }
        stage.world.borrow_mut().advance(2_000_000);
        for _ in 0..4 {
            stage.turn(THERE);
            stage.turn(HERE);
        }
        stage.settle();
        assert_eq!(stage.spread(), [0, 4]);
        for client in clients {
            stage.writes(client, OK);
            stage.settle();
            assert_eq!(stage.statuses(client), [200]);
        }
        stage.nothing_is_between();
    }
}

#[test]
fn a_drain_ends_connections_wherever_they_are() {
    for at in 0..STEPS {
        let mut stage = stage(|_| {});
        let client = stage.idle(HERE);
        assert!(stage.moves());
        for step in 0..at {
            stage.step(step);
        }
        stage.drains(at);
        assert_eq!(stage.end_of(client), Some(End::Eof), "a drain at step {at}");
    }
}

#[test]
fn a_reload_and_a_kick_leave_a_connection_alone_that_moves() {
    for at in 0..STEPS {
        let mut stage = stage(|_| {});
        let other = stage.session(HERE, "u1");
        let client = stage.idle(HERE);
        assert!(stage.moves());
        for step in 0..STEPS {
            if step == at {
                stage.reload(|config| config.limits.moves = 0);
                let kick = b"DELETE /api/users/u1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
                stage.connects(THERE, kick);
            }
            stage.step(step);
        }
        stage.settle();
        assert_eq!(stage.hears(other), ["close 1008"]);
        assert!(!stage.moves(), "none may move since");
        stage.writes(client, &handshake("/portfolio", "?userId=u1"));
        stage.settle();
        assert_eq!(stage.statuses(client), [101], "at step {at}");
        assert_eq!(stage.moved(), 1);
        stage.nothing_is_between();
    }
}

#[test]
fn an_entry_that_is_thrown_away_closes_its_connection() {
    let mut stage = stage(|_| {});
    let client = stage.idle(HERE);
    assert!(stage.moves());
    for _ in 0..4 {
        stage.turn(HERE);
        stage.world.borrow_mut().submit(HERE);
    }
    let entry = stage.shards[THERE].mailbox().take::<ToShard>(PeerId(HERE as u8));
    assert!(matches!(entry, Some(ToShard::Moved(_))), "{entry:?}");
    drop(entry);
    stage.settle();
    assert_eq!(stage.end_of(client), Some(End::Eof));
    assert_eq!(stage.spread(), [0, 0]);
    stage.nothing_is_between();
}

#[test]
fn requests_are_answered_in_order_over_ten_thousand_moves() {
    const MOVES: u64 = 10_000;
    let mut stage = stage(|_| {});
    faults(&mut stage, |rates| {
        (rates.after_stop, rates.receive_ends, rates.short_receive) = (500, 200, 300);
        (rates.short_take, rates.late) = (300, 200);
    });
    let client = stage.connects(HERE, b"");
    stage.settle();
    // Numbers, a bit each request: they come out as they went in, if none is lost or doubled.
    let (mut written, mut read) = (0u32, 0u32);
    let bit = |at: u32| ((at / 16) >> (at % 16)) & 1 == 1;
    let mut turns = 0u64;
    while stage.moved() < MOVES {
        turns += 1;
        assert!(turns < 40 * MOVES, "{} moves in {turns} turns", stage.moved());
        if written - read < 3 && turns.is_multiple_of(3) {
            let request = if bit(written) { OK } else { MISSING };
            // A part of it now, the rest later.
            let cut = 1 + turns as usize % (request.len() - 1);
            stage.writes(client, &request[..cut]);
            stage.step(turns as usize);
            stage.writes(client, &request[cut..]);
            written += 1;
        }
        for shard in [HERE, THERE] {
            stage.shards[shard].move_one(Slot(0), ShardId(1 - shard as u8));
            stage.turn(shard);
            stage.world.borrow_mut().submit(shard);
        }
        for status in stage.statuses(client) {
            assert_eq!(status, if bit(read) { 200 } else { 404 }, "answer {read}");
            read += 1;
        }
    }
    faults(&mut stage, |_| {});
    stage.settle();
    read += stage.statuses(client).len() as u32;
    assert_eq!(read, written);
    assert!(written > 1_000, "{written} requests");
    stage.nothing_is_between();
}

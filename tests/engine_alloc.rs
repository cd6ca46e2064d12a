//! The whole engine allocates nothing once it is warm: two shards on quiet kernels, browsers that
//! send to topics, to application destinations and with receipts, and heart-beats in between.
//!
//! Not counted, since it may allocate: a session or subscription that begins or ends; a new name
//! (user, destination, subscription id); HTTP other than the upgrade; frames that arrive in parts;
//! a queue that becomes longer than ever before.

use ringpush::stomp::Command;
use ringpush::time::Millis;

mod counting;
#[path = "../benches/engine/house.rs"]
mod house;
#[path = "../benches/engine/quiet.rs"]
mod quiet;

use counting::allocations;
use house::{DEFLATE, House, Session, frame, users};

const SUBSCRIBERS: usize = 200;

/// The frames of a sender, in order, and how many connections receive something at once.
fn script() -> Vec<(Vec<u8>, u64)> {
    let body = "x".repeat(128);
    let send = |headers: &[(&str, &str)]| frame(Command::Send, headers, &body);
    let all = SUBSCRIBERS as u64 * 2;
    vec![
        (send(&[("destination", "/topic/all")]), all),
        (send(&[("destination", "/topic/all"), ("receipt", "r-1")]), all),
        (send(&[("destination", "/topic/any/one")]), all),
        (send(&[("destination", "/topic/none")]), 0),
        (send(&[("destination", "/ws/trade")]), 2),
        (send(&[("destination", "/user/agent3/queue/sub"), ("receipt", "r-2")]), 1),
    ]
}

/// Both senders send everything `rounds` times; every message has to arrive.
fn talk(house: &mut House, senders: &[Session], script: &[(Vec<u8>, u64)], rounds: usize) {
    for _ in 0..rounds {
        for (bytes, expected) in script {
            for &sender in senders {
                let before = house.sent().0;
                house.say(sender, bytes);
                house.settle();
                assert_eq!(house.sent().0 - before, *expected);
            }
        }
        for shard in 0..2 {
            house.kernel(shard).seen.clear();
        }
    }
}

#[test]
fn ten_thousand_messages_without_an_allocation() {
    let mut house = House::new(2, SUBSCRIBERS as u32 + 4);
    let names = users(SUBSCRIBERS);
    let subscriptions = ["/topic/all", "/topic/any/*", "/user/queue/sub"];
    let mut senders = Vec::new();
    for shard in 0..2 {
        let sessions = house.open(shard, &names, &subscriptions);
        senders.push(sessions[3]);
    }
    let script = script();
    talk(&mut house, &senders, &script, 50);
    let rounds = 10_000 / (script.len() * senders.len()) + 1;
    let (count, ()) = allocations(|| {
        talk(&mut house, &senders, &script, rounds);
        house.advance(Millis(10_000));
        house.settle();
    });
    assert_eq!(count, 0, "allocations of {} messages", rounds * script.len() * senders.len());

    // The bytes are those that a browser waits for.
    house.watch(senders[1]);
    let before = house.sent().1;
    house.say(senders[0], &script[0].0);
    house.settle();
    let bytes = house.sent().1 - before;
    let seen = &house.kernel(1).seen;
    assert_eq!(bytes, seen.len() as u64 * SUBSCRIBERS as u64 * 2);
    assert!(seen[4..].starts_with(b"MESSAGE\n") && seen.ends_with(b"xxx\0"));
}

/// Compressed sessions, each with its own ids, subscribed to a topic and of one user: the common
/// parts of their frames are kept per message, in memory that is reused.
#[test]
fn compressed_messages_for_different_ids_without_an_allocation() {
    let mut house = House::new(2, SUBSCRIBERS as u32 + 1);
    let names = users(SUBSCRIBERS);
    // One frame per turn to the topic: several might cross a boundary of segments and make the
    // queue of that session longer than ever before.
    let subscribe = ["/topic/all", "/user/queue/sub", "/user/queue/*"];
    let mut senders = Vec::new();
    for shard in 0..2 {
        let id = |user: &str, number| format!("{user}-{number}-{shard}");
        senders.push(house.open_with(shard, &names, &subscribe, DEFLATE, id)[3]);
    }
    let body = "{\"number\":\"+4930123456\",\"state\":\"ringing\"},".repeat(40);
    let send = |to| frame(Command::Send, &[("destination", to)], &body);
    let all = SUBSCRIBERS as u64 * 2;
    let script = [(send("/topic/all"), all), (send("/user/agent3/queue/sub"), 1)];
    talk(&mut house, &senders, &script, 20);
    let (count, ()) = allocations(|| talk(&mut house, &senders, &script, 200));
    assert_eq!(count, 0);
    let before = house.sent().1;
    talk(&mut house, &senders, &script[..1], 1);
    assert!(house.sent().1 - before < 2 * all * 512, "compressed");
}

/// Repeated bad input makes the engine allocate no more than good input does.
#[test]
fn ten_thousand_refusals_without_an_allocation() {
    let mut house = House::new(1, 4);
    let asking = house.connect(0);
    let wrong = |house: &mut House, times: u32| {
        for time in 0..times {
            house.say(asking, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
            house.settle();
            if time % 100 == 0 {
                house.kernel(0).seen.clear();
                // The next line of the log is due.
                house.advance(Millis(1_024));
            }
        }
    };
    wrong(&mut house, 300);
    let before = house.sent().0;
    let (count, ()) = allocations(|| wrong(&mut house, 10_000));
    assert_eq!((house.sent().0 - before, count), (10_000, 0));
}

/// The answers to three requests of `/info`.
fn entropy(secrets: [u64; 3]) -> Vec<String> {
    let mut house = House::seeded(1, 4, secrets);
    let asking = house.connect(0);
    house.watch(asking);
    (0..3)
        .map(|_| {
            house.kernel(0).seen.clear();
            house.say(asking, b"GET /stomp/info HTTP/1.1\r\nHost: localhost\r\n\r\n");
            house.settle();
            let answer = String::from_utf8_lossy(&house.kernel(0).seen).into_owned();
            let (_, entropy) = answer.split_once("\"entropy\":").expect("an answer with entropy");
            entropy.to_owned()
        })
        .collect()
}

/// From three answers one could once compute the key of all tables.
#[test]
fn the_number_in_info_does_not_depend_on_the_keys_of_tables() {
    let told = entropy([1, 2, 3]);
    assert!(told[0] != told[1] && told[1] != told[2], "{told:?}");
    assert_eq!(told, entropy([4, 5, 3]), "it depends on its own seed only");
    assert_ne!(told, entropy([1, 2, 4]));
}

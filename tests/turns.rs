//! A turn of the loop is bounded: if many clients send much at the same moment, it is handled in
//! several turns, and a client that sends little is answered in the first. And a message needs no
//! more entries between threads than necessary, nor more room than it has headers.

use hmac::{Hmac, KeyInit, Mac};
use ringpush::ids::ShardId;
use ringpush::limits::{Limits, PATTERN_STEPS_A_FRAME, PATTERN_STEPS_FREE, PATTERN_STEPS_SHARED};
use ringpush::stomp::Command;
use sha2::Sha256;

#[allow(dead_code, reason = "the engine's bench does more with it")]
#[path = "../benches/engine/house.rs"]
mod house;
#[allow(dead_code, reason = "the engine's bench does more with it")]
#[path = "../benches/engine/quiet.rs"]
mod quiet;

use house::{House, SECRET, frame, users};

const FLOODERS: usize = 60;
/// SUBSCRIBEs of each client: as many as fit one receive buffer.
const NAMES: usize = 40;
/// SENDs of each with a name of 900 bytes: likewise.
const OWN_FRAMES: usize = 4;

#[test]
fn a_flood_of_names_does_not_keep_others_waiting() {
    let mut house = House::new(1, FLOODERS as u32 + 1);
    let names = users(FLOODERS + 1);
    let flooders = house.open(0, &names[..FLOODERS], &[]);
    let innocent = house.open(0, &names[FLOODERS..], &["/user/queue/sub"])[0];
    house.watch(innocent);
    for (number, &flooder) in flooders.iter().enumerate() {
        let subscribe = |name: usize| {
            let (id, destination) = (name.to_string(), format!("/topic/{number}/{name}"));
            frame(Command::Subscribe, &[("id", &id), ("destination", &destination)], "")
        };
        house.say(flooder, &(0..NAMES).flat_map(subscribe).collect::<Vec<_>>());
    }
    // After all of them.
    house.say(innocent, &frame(Command::Send, &[("destination", "/ws/trade")], ""));

    house.turn();
    let seen = String::from_utf8_lossy(&house.kernel(0).seen).into_owned();
    assert!(seen.contains("\"code\":0"), "not answered in the turn of its request: {seen}");
    // A SUBSCRIBE counts as sixteen frames, and each connection gets a few frames even in a turn
    // whose budget is used up: the first turn does the work of several.
    let fewest = 16 * FLOODERS * NAMES / Limits::default().turn_frames as usize - 4;
    let turns = house.settle() as usize;
    assert!(turns >= fewest, "{turns} turns for what is the work of {fewest}");

    // Nothing is lost.
    let before = house.sent().0;
    let last = format!("/topic/{}/{}", FLOODERS - 1, NAMES - 1);
    house.say(innocent, &frame(Command::Send, &[("destination", &last)], ""));
    house.settle();
    assert_eq!(house.sent().0 - before, 1);
}

/// Expensive patterns of a client cost its own share of a turn: a frame that takes the most steps
/// of patterns counts as several frames.
#[test]
fn expensive_patterns_cost_their_own_session() {
    let mut house = House::new(1, FLOODERS as u32);
    let names = users(FLOODERS);
    let limits = Limits::default();
    let hard = |number| format!("/user/queue/*{}b*", "a".repeat(300 + number));
    let own: Vec<String> = (0..limits.patterns as usize).map(hard).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let flooders = house.open(0, &names, &own);
    let last = flooders[FLOODERS - 1];
    house.watch(last);
    for (flooder, name) in flooders.iter().zip(&names) {
        let destination = format!("/user/{name}/queue/{}", "a".repeat(900));
        let send = frame(Command::Send, &[("destination", &destination), ("receipt", "r")], "");
        house.say(*flooder, &send.repeat(OWN_FRAMES));
    }
    let mut handled = || {
        house.turn();
        let seen = String::from_utf8_lossy(&house.kernel(0).seen).into_owned();
        seen.matches("RECEIPT").count()
    };
    // The others have used up the turn, so the last one gets the thirty-second that each one gets.
    let frame = (limits.patterns * PATTERN_STEPS_FREE + PATTERN_STEPS_SHARED) as usize;
    let go = limits.turn_frames as usize / 32;
    let most = go.div_ceil(frame / PATTERN_STEPS_A_FRAME as usize);
    let first = handled();
    assert!((1..=most).contains(&first) && most < OWN_FRAMES, "{first} handled, at most {most}");
    let all = (0..1_000).map(|_| handled()).find(|&count| count == OWN_FRAMES);
    assert!(all.is_some(), "nothing of it is lost");
}

/// Sender to home, home to the subscriber's shard, home to sender.
#[test]
fn a_send_with_a_receipt_takes_three_entries() {
    let mut house = House::new(3, 2);
    let home = house.shared.homes.of_destination("/topic/a").index();
    let [sender_at, subscriber_at] = [(home + 1) % 3, (home + 2) % 3];
    let names = users(2);
    house.open(subscriber_at, &names[..1], &["/topic/a"]);
    let sender = house.open(sender_at, &names[1..], &[])[0];
    house.watch(sender);
    let (entries, sends) = (house.entries(), house.sent().0);
    let headers = [("destination", "/topic/a"), ("receipt", "r")];
    house.say(sender, &frame(Command::Send, &headers, "x"));
    house.settle();
    let seen = String::from_utf8_lossy(&house.kernel(sender_at).seen).into_owned();
    assert!(seen.contains("RECEIPT"), "{seen}");
    assert_eq!((house.entries() - entries, house.sent().0 - sends), (3, 2));
}

/// From the provider's shard to the home of the id, from there to the user's home, which says it to
/// the shard of his session and answers the provider's. One that came before is answered at once.
#[test]
fn a_callback_takes_four_entries_and_a_repeated_one_two() {
    let mut house = House::new(3, 2);
    let homes = house.shared.homes;
    let (provider_at, id_at, user_at) = (0, 1, 2);
    let mut names = (0..).map(|n| format!("agent{n}"));
    let user = names.find(|name| homes.of_user(name) == ShardId(user_at)).expect("some");
    let fingerprint = |id: &String| house.shared.fingerprint("/callback", id);
    let mut ids = (0..).map(|n| format!("c-{n}"));
    let is_there = |id: &String| homes.of_fingerprint(fingerprint(id)) == ShardId(id_at);
    let id = ids.find(is_there).expect("some");
    house.open(id_at.into(), core::slice::from_ref(&user), &["/user/queue/sub"]);
    let provider = house.connect(provider_at);
    house.watch(provider);
    for (expected_entries, expected_sends) in [(4, 2), (2, 1)] {
        let (entries, sends) = (house.entries(), house.sent().0);
        house.kernel(provider_at).seen.clear();
        house.say(provider, &callback(&id, &user));
        house.settle();
        let seen = String::from_utf8_lossy(&house.kernel(provider_at).seen).into_owned();
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        let found = (house.entries() - entries, house.sent().0 - sends);
        assert_eq!(found, (expected_entries, expected_sends));
    }
}

/// Most frames have few headers; room for more is made when one has them.
#[test]
fn a_frame_may_have_as_many_headers_as_the_limit_says() {
    let mut house = House::new(1, 2);
    let names = users(2);
    let subscriber = house.open(0, &names[..1], &["/topic/a"])[0];
    let sender = house.open(0, &names[1..], &[])[0];
    house.watch(subscriber);
    // Beside the destination and the length of the body.
    let most = Limits::default().stomp_headers as usize - 2;
    for (count, is_heard) in [(1, true), (most, true), (most + 1, false)] {
        let own: Vec<String> = (1..=count).map(|number| format!("h-{number}")).collect();
        let mut headers = vec![("destination", "/topic/a")];
        headers.extend(own.iter().map(|name| (name.as_str(), "x")));
        house.kernel(0).seen.clear();
        house.say(sender, &frame(Command::Send, &headers, "body"));
        house.settle();
        let seen = String::from_utf8_lossy(&house.kernel(0).seen).into_owned();
        assert_eq!(seen.contains(&format!("\nh-{count}:x\n")), is_heard, "{count}: {seen}");
        assert_eq!(seen.ends_with("\n\nbody\0"), is_heard, "{count}: {seen}");
    }
}

/// A provider's request.
fn callback(id: &str, agent: &str) -> Vec<u8> {
    let body = format!(r#"{{"callId":"{id}","agentId":"{agent}"}}"#);
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key will do");
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let len = body.len();
    format!(
        "POST /callback HTTP/1.1\r\nHost: localhost\r\nX-Signature: sha256={hex}\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    )
    .into_bytes()
}

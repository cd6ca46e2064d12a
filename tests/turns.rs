//! A turn of the loop ends whatever comes in: many that bring much at the same moment are handled
//! in several turns, and whoever brings little is answered in the first.

use ringpush::limits::{Limits, PATTERN_STEPS_A_FRAME, PATTERN_STEPS_FREE, PATTERN_STEPS_SHARED};
use ringpush::stomp::Command;

#[allow(dead_code, reason = "the engine's bench does more with it")]
#[path = "../benches/engine/house.rs"]
mod house;
#[allow(dead_code, reason = "the engine's bench does more with it")]
#[path = "../benches/engine/quiet.rs"]
mod quiet;

use house::{House, frame, users};

const FLOODERS: usize = 60;
/// SUBSCRIBEs of each: as many as one receive buffer has room for.
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
    // Behind all of them.
    house.say(innocent, &frame(Command::Send, &[("destination", "/ws/trade")], ""));

    house.turn();
    let seen = String::from_utf8_lossy(&house.kernel(0).seen).into_owned();
    assert!(seen.contains("\"code\":0"), "not answered in the turn in which it asked: {seen}");
    // A SUBSCRIBE counts as sixteen frames, and each connection has a few of its own in a turn that
    // has no time left: the first turn does the work of several.
    let fewest = 16 * FLOODERS * NAMES / Limits::default().turn_frames as usize - 4;
    let turns = house.settle() as usize;
    assert!(turns >= fewest, "{turns} turns for what is the work of {fewest}");

    // Nothing of it is lost.
    let before = house.sent().0;
    let last = format!("/topic/{}/{}", FLOODERS - 1, NAMES - 1);
    house.say(innocent, &frame(Command::Send, &[("destination", &last)], ""));
    house.settle();
    assert_eq!(house.sent().0 - before, 1);
}

/// What a client's own patterns make dear is its own time: a frame that takes as many steps of
/// patterns as it can counts as so many frames.
#[test]
fn patterns_of_ones_own_that_are_hard_to_compare_take_ones_own_time() {
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
    // The others have used the turn up, so the last one has the thirty-second that all have.
    let frame = (limits.patterns * PATTERN_STEPS_FREE + PATTERN_STEPS_SHARED) as usize;
    let go = limits.turn_frames as usize / 32;
    let most = go.div_ceil(frame / PATTERN_STEPS_A_FRAME as usize);
    let first = handled();
    assert!((1..=most).contains(&first) && most < OWN_FRAMES, "{first} handled, at most {most}");
    let all = (0..1_000).map(|_| handled()).find(|&count| count == OWN_FRAMES);
    assert!(all.is_some(), "nothing of it is lost");
}

//! A turn of the loop ends whatever comes in: many that bring much at the same moment are handled
//! in several turns, and whoever brings little is answered in the first.

use ringpush::limits::Limits;
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

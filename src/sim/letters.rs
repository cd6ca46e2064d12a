//! Deliberate bugs in the mail between shards: what lies in a lane is taken out, changed, and put
//! back.

use super::history::PRESENCE;
use super::mutation::Mutation;
use super::random::Random;
use super::ring::SimRing;
use crate::broker::message::Message;
use crate::engine::mailbox::{Lane, Letter};
use crate::engine::shard::Shard;
use crate::ids::PeerId;
use std::sync::Arc;

/// A letter that is kept back to be overtaken: from, to, itself.
pub(super) type Kept = (usize, usize, Letter);

/// Puts the bug into the letters from one shard to another, if any is fit for it. True if it did.
pub(super) fn mutate(
    mutation: Mutation,
    shards: &mut [Shard<SimRing>],
    from: usize,
    to: usize,
    kept: &mut Option<Kept>,
    random: &mut Random,
) -> bool {
    let lane = match mutation {
        Mutation::Lost | Mutation::Twice | Mutation::Order => Lane::Delivery,
        Mutation::Isolation | Mutation::Callback | Mutation::Uncounted => Lane::Delivery,
        Mutation::Presence => Lane::Request,
        Mutation::Leak | Mutation::Limit | Mutation::Wake | Mutation::Policy => return false,
    };
    let (sender, receiver) = (PeerId(from as u8), PeerId(to as u8));
    let mut letters = Vec::new();
    while let Some(letter) = shards[to].post().take(sender, lane) {
        letters.push(letter);
    }
    let room = shards[from].post().room(receiver, lane);
    let done = match mutation {
        Mutation::Order => overtake(&mut letters, room, from, to, kept),
        _ => change(mutation, &mut letters, room, random),
    };
    for letter in letters {
        shards[from].post().send(receiver, letter);
    }
    done
}

fn is_delivery(letter: &Letter) -> bool {
    matches!(letter, Letter::Deliver { message, .. } if message.destination() != PRESENCE)
}

/// Keeps a delivery back until the next one of its lane has gone before it.
fn overtake(
    letters: &mut Vec<Letter>,
    room: usize,
    from: usize,
    to: usize,
    kept: &mut Option<Kept>,
) -> bool {
    let Some(at) = letters.iter().position(is_delivery) else { return false };
    match kept.take() {
        None => *kept = Some((from, to, letters.remove(at))),
        Some((f, t, letter)) if (f, t) == (from, to) && letters.len() < room => {
            letters.insert(at + 1, letter);
            return true;
        }
        other => *kept = other,
    }
    false
}

fn change(mutation: Mutation, letters: &mut Vec<Letter>, room: usize, random: &mut Random) -> bool {
    let fits = |letter: &Letter| match (mutation, letter) {
        (Mutation::Presence, Letter::Publish { message, .. }) => message.destination() == PRESENCE,
        (Mutation::Isolation, Letter::DeliverUser { .. }) => true,
        (Mutation::Callback, Letter::Remembered { fresh, .. }) => !fresh,
        (Mutation::Lost | Mutation::Twice | Mutation::Uncounted, letter) => is_delivery(letter),
        _ => false,
    };
    let Some(at) = letters.iter().position(fits) else { return false };
    match mutation {
        Mutation::Lost | Mutation::Uncounted => drop(letters.remove(at)),
        Mutation::Twice | Mutation::Presence if letters.len() < room => {
            letters.insert(at, letters[at].clone());
        }
        Mutation::Isolation => {
            let Letter::DeliverUser { message, number, .. } = &letters[at] else { return false };
            let (message, number) = (to_another(message, random), *number);
            letters[at] = Letter::DeliverUser { message, number, only: None };
        }
        Mutation::Callback => {
            if let Letter::Remembered { fresh, .. } = &mut letters[at] {
                *fresh = true;
            }
        }
        _ => return false,
    }
    true
}

/// The same message for somebody else.
fn to_another(message: &Message, random: &mut Random) -> Arc<Message> {
    let users: Vec<String> = super::setting::Setting::users().collect();
    let mut other = Message::default();
    let name: &String = random.pick(&users);
    other.begin(Some(name), message.destination());
    other.header(b"destination", b"/user/queue/sub");
    other.finish(message.body());
    Arc::new(other)
}

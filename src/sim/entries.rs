//! Deliberate bugs in the mail between shards: what lies in a class is taken out, changed, and put
//! back.

use super::history::PRESENCE;
use super::mutation::Mutation;
use super::random::Random;
use super::ring::SimRing;
use crate::broker::message::Message;
use crate::engine::mailbox::{Class, Entry};
use crate::engine::shard::Shard;
use crate::ids::PeerId;
use std::sync::Arc;

/// An entry that is kept back to be overtaken: from, to, itself.
pub(super) type Kept = (usize, usize, Entry);

/// Puts the bug into the entries from one shard to another, if any is fit for it. True if it did.
pub(super) fn mutate(
    mutation: Mutation,
    shards: &mut [Shard<SimRing>],
    from: usize,
    to: usize,
    kept: &mut Option<Kept>,
    random: &mut Random,
) -> bool {
    let class = match mutation {
        Mutation::Lost | Mutation::Twice | Mutation::Order => Class::Delivery,
        Mutation::Isolation | Mutation::Callback | Mutation::Uncounted => Class::Delivery,
        Mutation::Presence => Class::Request,
        Mutation::Leak | Mutation::Limit | Mutation::Wake | Mutation::Policy => return false,
    };
    let (sender, receiver) = (PeerId(from as u8), PeerId(to as u8));
    let mut entries = Vec::new();
    while let Some(entry) = shards[to].mailbox().take(sender, class) {
        entries.push(entry);
    }
    let room = shards[from].mailbox().room(receiver, class);
    let done = match mutation {
        Mutation::Order => overtake(&mut entries, room, from, to, kept),
        _ => change(mutation, &mut entries, room, random),
    };
    for entry in entries {
        shards[from].mailbox().send(receiver, entry);
    }
    done
}

fn is_delivery(entry: &Entry) -> bool {
    matches!(entry, Entry::Deliver { message, .. } if message.destination() != PRESENCE)
}

/// Keeps a delivery back until the next one of its class has gone before it.
fn overtake(
    entries: &mut Vec<Entry>,
    room: usize,
    from: usize,
    to: usize,
    kept: &mut Option<Kept>,
) -> bool {
    let Some(at) = entries.iter().position(is_delivery) else { return false };
    match kept.take() {
        None => *kept = Some((from, to, entries.remove(at))),
        Some((f, t, entry)) if (f, t) == (from, to) && entries.len() < room => {
            entries.insert(at + 1, entry);
            return true;
        }
        other => *kept = other,
    }
    false
}

fn change(mutation: Mutation, entries: &mut Vec<Entry>, room: usize, random: &mut Random) -> bool {
    let fits = |entry: &Entry| match (mutation, entry) {
        (Mutation::Presence, Entry::Publish { message, .. }) => message.destination() == PRESENCE,
        (Mutation::Isolation, Entry::DeliverUser { .. }) => true,
        (Mutation::Callback, Entry::Deduped { fresh, .. }) => !fresh,
        (Mutation::Lost | Mutation::Twice | Mutation::Uncounted, entry) => is_delivery(entry),
        _ => false,
    };
    let Some(at) = entries.iter().position(fits) else { return false };
    match mutation {
        Mutation::Lost | Mutation::Uncounted => drop(entries.remove(at)),
        Mutation::Twice | Mutation::Presence if entries.len() < room => {
            entries.insert(at, entries[at].clone());
        }
        Mutation::Isolation => {
            let Entry::DeliverUser { message, number, .. } = &entries[at] else { return false };
            let (message, number) = (to_another(message, random), *number);
            entries[at] = Entry::DeliverUser { message, number, only: None };
        }
        Mutation::Callback => {
            if let Entry::Deduped { fresh, .. } = &mut entries[at] {
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

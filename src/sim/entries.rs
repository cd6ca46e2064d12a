//! Deliberate bugs in the mail between shards: entries of a class are taken out, changed, and put
//! back.

use super::mutation::Mutation;
use super::random::Random;
use super::ring::SimRing;
use super::target::PRESENCE;
use crate::broker::command::{Callback, Command, Event};
use crate::broker::message::Message;
use crate::engine::mailbox::{Entry, ToHome, ToShard};
use crate::engine::shard::Shard;
use crate::ids::PeerId;
use std::sync::Arc;

/// Entries that are delayed so that they are overtaken.
#[derive(Debug, Default)]
struct Kept {
    delivery: Option<KeptEntry<ToShard>>,
    command: Option<KeptEntry<ToHome>>,
}

/// From, to, the entry.
type KeptEntry<E> = (usize, usize, E);

/// The shards, and the two between which a bug is added.
pub(super) struct Mail<'a> {
    pub(super) shards: &'a mut [Shard<SimRing>],
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Mail<'_> {
    /// Changes the entries of a class. The closure also gets the room that they have.
    fn of_class<E: Entry>(&mut self, change: impl FnOnce(&mut Vec<E>, usize) -> bool) -> bool {
        let (sender, receiver) = (PeerId(self.from as u8), PeerId(self.to as u8));
        let mailbox = self.shards[self.to].mailbox();
        let mut entries: Vec<E> = core::iter::from_fn(|| mailbox.take(sender)).collect();
        let room = self.shards[self.from].mailbox().room(receiver, E::CLASS);
        let done = change(&mut entries, room);
        for entry in entries {
            self.shards[self.from].mailbox().send(receiver, entry);
        }
        done
    }
}

/// A run's bug in the mail, and what it keeps.
#[derive(Debug)]
pub(super) struct Bug {
    /// None when there is none, and when one that is added once was.
    pub(super) mutation: Option<Mutation>,
    kept: Kept,
}

impl Bug {
    pub(super) fn new(mutation: Option<Mutation>) -> Bug {
        Bug { mutation, kept: Kept::default() }
    }

    /// Adds it to the entries from one shard to another, if one is suitable.
    pub(super) fn add(&mut self, mail: Mail<'_>, random: &mut Random) {
        let done = |mutation| mutate(mutation, mail, &mut self.kept, random);
        if self.mutation.is_some_and(|mutation| done(mutation) && mutation.is_once()) {
            self.mutation = None;
        }
    }
}

/// Applies the bug to the entries from one shard to another, if one is suitable. True if it did.
fn mutate(mutation: Mutation, mut mail: Mail<'_>, kept: &mut Kept, random: &mut Random) -> bool {
    let pair = (mail.from, mail.to);
    match mutation {
        Mutation::Lost | Mutation::Uncounted => {
            mail.of_class(|entries, _| drop_one(entries, is_delivery))
        }
        Mutation::Effect => mail.of_class(|entries, _| drop_one(entries, is_answer)),
        Mutation::Twice => mail.of_class(|entries, room| repeat(entries, room, copy_delivery)),
        Mutation::Presence => mail.of_class(|entries, room| repeat(entries, room, copy_presence)),
        Mutation::Order => mail.of_class(|entries, room| {
            overtake(entries, room, pair, &mut kept.delivery, is_delivery)
        }),
        Mutation::Overtaken => {
            mail.of_class(|entries, room| overtake(entries, room, pair, &mut kept.command, is_send))
        }
        Mutation::Forgotten => mail.of_class(forget),
        Mutation::Isolation => mail.of_class(|entries, _| misdirect(entries, random)),
        Mutation::Callback => mail.of_class(|entries: &mut Vec<Callback>, _| {
            entries.iter_mut().for_each(|callback| callback.key[1] ^= random.next());
            !entries.is_empty()
        }),
        Mutation::Leak | Mutation::Limit | Mutation::Wake | Mutation::Policy | Mutation::Unsent => {
            false
        }
        // `attending` adds them.
        Mutation::UnitLost | Mutation::UnitTwice | Mutation::Pinned => false,
    }
}

fn is_delivery(entry: &ToShard) -> bool {
    let ToShard::Event(Event::Deliver { message, .. }) = entry else { return false };
    message.destination() != PRESENCE
}

fn is_presence(entry: &ToHome) -> bool {
    let ToHome::Command(Command::Publish { message, .. }) = entry else { return false };
    message.destination() == PRESENCE
}

/// Whether it is a session's publication to a broker destination.
fn is_send(entry: &ToHome) -> bool {
    matches!(entry, ToHome::Command(Command::Publish { .. })) && !is_presence(entry)
}

/// Whether it is an answer that a session waits for.
fn is_answer(entry: &ToShard) -> bool {
    matches!(entry, ToShard::Event(Event::Begun { .. } | Event::Ended { .. }))
}

/// Loses the first connection that is in flight: nobody closes it.
fn forget(entries: &mut Vec<ToShard>, _room: usize) -> bool {
    let at = entries.iter().position(|entry| matches!(entry, ToShard::Moved(_)));
    at.map(|at| core::mem::forget(entries.remove(at))).is_some()
}

fn drop_one<E>(entries: &mut Vec<E>, fits: fn(&E) -> bool) -> bool {
    let at = entries.iter().position(fits);
    at.map(|at| entries.remove(at)).is_some()
}

fn copy_delivery(entry: &ToShard) -> Option<ToShard> {
    match entry {
        ToShard::Event(event) if is_delivery(entry) => Some(ToShard::Event(event.clone())),
        _ => None,
    }
}

fn copy_presence(entry: &ToHome) -> Option<ToHome> {
    is_presence(entry).then(|| entry.clone())
}

/// Doubles the first entry that can be copied.
fn repeat<E>(entries: &mut Vec<E>, room: usize, copy: fn(&E) -> Option<E>) -> bool {
    let copied = entries.iter().enumerate().find_map(|(at, entry)| Some((at, copy(entry)?)));
    let Some((at, copied)) = copied.filter(|_| entries.len() < room) else { return false };
    entries.insert(at, copied);
    true
}

/// Delays an entry until the next such one of its class has overtaken it.
fn overtake<E>(
    entries: &mut Vec<E>,
    room: usize,
    pair: (usize, usize),
    kept: &mut Option<KeptEntry<E>>,
    fits: fn(&E) -> bool,
) -> bool {
    let Some(at) = entries.iter().position(fits) else { return false };
    match kept.take() {
        None => *kept = Some((pair.0, pair.1, entries.remove(at))),
        Some((from, to, entry)) if (from, to) == pair && entries.len() < room => {
            entries.insert(at + 1, entry);
            return true;
        }
        other => *kept = other,
    }
    false
}

/// A message for one user becomes one for another.
fn misdirect(entries: &mut [ToShard], random: &mut Random) -> bool {
    let for_user =
        |entry: &&mut ToShard| matches!(entry, ToShard::Event(Event::DeliverUser { .. }));
    let Some(entry) = entries.iter_mut().find(for_user) else { return false };
    let ToShard::Event(Event::DeliverUser { message, number, .. }) = entry else { return false };
    let (message, number) = (to_another(message, random), *number);
    *entry = ToShard::Event(Event::DeliverUser { message, number, only: None });
    true
}

/// The same message for another user.
fn to_another(message: &Message, random: &mut Random) -> Arc<Message> {
    let users: Vec<String> = super::setting::Setting::users().collect();
    let mut other = Message::default();
    let name: &String = random.pick(&users);
    other.begin(Some(name), message.destination());
    other.header(b"destination", b"/user/queue/sub");
    other.finish(message.body());
    Arc::new(other)
}

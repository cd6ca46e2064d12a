//! A stand-in for the control thread: it accepts hook calls, answers them later, and ends the run.

use super::world::World;
use crate::broker::command::{Event, ReplyTo};
use crate::broker::core::{Class, Effect};
use crate::broker::message::Message;
use crate::broker::reply::{application_of, publications};
use crate::engine::mailbox::{Mailbox, ToControl, ToHome, ToShard};
use crate::engine::shared::Shared;
use crate::ids::{PeerId, SessionId};
use crate::limits::HOMES_MAX;
use crate::mem::shares::{Kind, Shares};
use crate::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;

/// An entry that is to be sent.
#[derive(Debug)]
enum Outgoing {
    Home(PeerId, ToHome),
    Event(PeerId, ToShard),
}

impl Outgoing {
    fn of(effect: Effect) -> Outgoing {
        match effect {
            Effect::Command(home, command) => Outgoing::Home(home.into(), ToHome::Command(command)),
            Effect::Event(shard, event) => Outgoing::Event(shard.into(), ToShard::Event(event)),
        }
    }

    fn has_room(&self, mailbox: &Mailbox) -> bool {
        match self {
            Outgoing::Home(to, _) => mailbox.room(*to, Class::Home) > 0,
            Outgoing::Event(to, _) => mailbox.room(*to, Class::Event) > 0,
        }
    }

    fn send(self, mailbox: &mut Mailbox) {
        match self {
            Outgoing::Home(to, entry) => mailbox.send(to, entry),
            Outgoing::Event(to, entry) => mailbox.send(to, entry),
        }
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Control {
    mailbox: Mailbox,
    shared: Arc<Shared>,
    /// Entries to send, each at its time.
    outgoing: VecDeque<(Instant, Outgoing)>,
    asleep: bool,
    numbers: u64,
    /// The configuration that shards get after a reload, until it is sent.
    reloaded: Option<Arc<Shared>>,
    /// What the log would say has happened, of all causes.
    told: u64,
}

impl Control {
    pub(super) fn new(
        mailbox: Mailbox,
        shared: Arc<Shared>,
        reloaded: Option<Arc<Shared>>,
    ) -> Control {
        let outgoing = VecDeque::new();
        Control { mailbox, shared, outgoing, asleep: false, numbers: 0, reloaded, told: 0 }
    }

    /// How often the log would say that something has happened.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// What each address uses.
    pub(super) fn shares(&self) -> &Shares {
        &self.shared.shares
    }

    /// Its end of the mailboxes.
    pub(super) fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    fn shards(&self) -> u8 {
        self.shared.shards
    }

    /// Whether it has something to do now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.asleep || self.outgoing.front().is_some_and(|(due, ..)| *due <= now)
    }

    /// When it does something next at the latest.
    pub(super) fn next_at(&self) -> Instant {
        self.outgoing.front().map_or(Instant(u64::MAX), |(due, ..)| *due)
    }

    /// Its doorbell was rung.
    pub(super) fn ring(&mut self) {
        self.asleep = false;
    }

    /// Whether it has nothing to do, now or later.
    pub(super) fn is_idle(&self) -> bool {
        self.asleep && self.outgoing.is_empty()
    }

    /// Tells all shards to end.
    pub(super) fn drain(&mut self, now: Instant) {
        for shard in 0..self.shards() {
            self.outgoing.push_front((now, Outgoing::Event(PeerId(shard), ToShard::Drain)));
        }
    }

    /// Reloads the configuration.
    pub(super) fn reload(&mut self, now: Instant) {
        let Some(shared) = self.reloaded.take() else { return };
        for shard in 0..self.shards() {
            let entry = ToShard::Reload(shared.clone());
            self.outgoing.push_front((now, Outgoing::Event(PeerId(shard), entry)));
        }
    }

    /// Whether every shard has the new configuration: its mailbox is empty.
    pub(super) fn has_reloaded(&self) -> bool {
        let waits = |entry: &Outgoing| matches!(entry, Outgoing::Event(_, ToShard::Reload(_)));
        let entries = self.shared.limits.mailbox as usize;
        let is_taken = |shard| self.mailbox.room(PeerId(shard), Class::Event) == entries;
        !self.outgoing.iter().any(|(.., entry)| waits(entry)) && (0..self.shards()).all(is_taken)
    }

    /// One round of its loop.
    pub(super) fn act(&mut self, world: &mut World) {
        self.mailbox.awake();
        for shard in 0..self.shards() {
            while let Some(entry) = self.mailbox.take(PeerId(shard)) {
                self.on_entry(entry, world);
            }
        }
        let now = world.now();
        while let Some((due, entry)) = self.outgoing.front() {
            if *due > now {
                break;
            }
            if !entry.has_room(&self.mailbox) {
                // Try again in a moment.
                let later = Instant(now.0 + 1_000_000);
                self.outgoing[0].0 = later;
                break;
            }
            let (_, entry) = self.outgoing.pop_front().expect("it was just seen");
            entry.send(&mut self.mailbox);
        }
        for peer in self.mailbox.doorbells() {
            world.ring_from_outside(peer);
        }
        self.asleep = self.mailbox.may_sleep();
    }

    fn on_entry(&mut self, entry: ToControl, world: &mut World) {
        let (message, user, session, reply_to) = match entry {
            ToControl::Hook { message, user, session, reply_to, place } => {
                self.shared.shares.give_back(place, Kind::HookCalls);
                (message, user, session, reply_to)
            }
            // It has no log.
            ToControl::Log(event) => {
                self.told += u64::from(event.count);
                return;
            }
        };
        // Its receipt is given when the call is accepted.
        if let Some(shard) = reply_to.shard() {
            let answer = Effect::Event(shard, Event::Sequenced { reply_to, heard: 0 });
            self.outgoing.push_back((world.now(), Outgoing::of(answer)));
        }
        // One queue keeps the order of a session's calls; each takes its time.
        let last = self.outgoing.back().map_or(world.now(), |(due, ..)| *due);
        let due = Instant(last.max(world.now()).0 + world.random.below(3_000_000));
        for effect in self.reply(&message, session, user.as_deref()) {
            self.outgoing.push_back((due, Outgoing::of(effect)));
        }
    }

    /// Its hook answers what it was asked.
    fn reply(&mut self, asked: &Message, session: SessionId, user: Option<&str>) -> Vec<Effect> {
        self.numbers += 1;
        let number = self.numbers * HOMES_MAX as u64 + (HOMES_MAX as u64 - 1);
        let Shared { names, applications, homes, .. } = &*self.shared;
        let found = application_of(names, applications, asked.destination());
        let (application, rest) = found.expect("only applications are asked");
        let list = publications(applications, application, rest, session, user);
        list.map(|one| {
            let mut message = Message::default();
            one.write(names, Some(b"application/json"), asked.body(), &mut message);
            one.effect(homes, Arc::new(message), ReplyTo::None, number)
        })
        .collect()
    }
}

//! A stand-in for the control thread: it takes hook entries, answers them later, and ends the run.

use super::world::World;
use crate::broker::message::Message;
use crate::engine::mailbox::{Class, Entry, Mailbox, ReplyTo};
use crate::engine::shared::Shared;
use crate::ids::{PeerId, ShardId};
use crate::limits::HOMES_MAX;
use crate::mem::shares::{Kind, Shares};
use crate::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;

/// The thread.
#[derive(Debug)]
pub(super) struct Control {
    mailbox: Mailbox,
    shared: Arc<Shared>,
    /// Entries to be sent, each at its time.
    outgoing: VecDeque<(Instant, PeerId, Entry)>,
    asleep: bool,
    numbers: u64,
    /// What the shards are to know after a reload, until they are told.
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

    /// What each address holds.
    pub(super) fn shares(&self) -> &Shares {
        &self.shared.shares
    }

    fn shards(&self) -> u8 {
        self.shared.shards
    }

    /// Whether it would do something now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.asleep || self.outgoing.front().is_some_and(|(due, ..)| *due <= now)
    }

    /// When it does something next at the latest.
    pub(super) fn next_at(&self) -> Instant {
        self.outgoing.front().map_or(Instant(u64::MAX), |(due, ..)| *due)
    }

    /// Somebody rang.
    pub(super) fn ring(&mut self) {
        self.asleep = false;
    }

    /// Whether it has nothing to do and nothing to come.
    pub(super) fn is_idle(&self) -> bool {
        self.asleep && self.outgoing.is_empty()
    }

    /// Tells all shards to end.
    pub(super) fn drain(&mut self, now: Instant) {
        for shard in 0..self.shards() {
            self.outgoing.push_front((now, PeerId(shard), Entry::Drain));
        }
    }

    /// The configuration is loaded anew.
    pub(super) fn reload(&mut self, now: Instant) {
        let Some(shared) = self.reloaded.take() else { return };
        for shard in 0..self.shards() {
            let entry = Entry::Reload(shared.clone());
            self.outgoing.push_front((now, PeerId(shard), entry));
        }
    }

    /// Whether every shard has taken the new configuration: nothing lies in its mailbox.
    pub(super) fn has_reloaded(&self) -> bool {
        let waits = |entry: &Entry| matches!(entry, Entry::Reload(_));
        let entries = self.shared.limits.mailbox as usize;
        let is_taken = |shard| self.mailbox.room(PeerId(shard), Class::Request) == entries;
        !self.outgoing.iter().any(|(.., entry)| waits(entry)) && (0..self.shards()).all(is_taken)
    }

    /// One round of its loop.
    pub(super) fn act(&mut self, world: &mut World) {
        self.mailbox.awake();
        for shard in 0..self.shards() {
            while let Some(entry) = self.mailbox.take(PeerId(shard), Class::Request) {
                self.on_entry(entry, world);
            }
        }
        let now = world.now();
        while let Some((due, to, entry)) = self.outgoing.front() {
            if *due > now {
                break;
            }
            if self.mailbox.room(*to, entry.class()) == 0 {
                // Try again in a moment.
                let later = Instant(now.0 + 1_000_000);
                self.outgoing[0].0 = later;
                break;
            }
            let (_, to, entry) = self.outgoing.pop_front().expect("it was just seen");
            self.mailbox.send(to, entry);
        }
        for peer in self.mailbox.doorbells() {
            world.ring_from_outside(peer);
        }
        self.asleep = self.mailbox.may_sleep();
    }

    fn on_entry(&mut self, entry: Entry, world: &mut World) {
        let (message, user, session, reply_to) = match entry {
            Entry::Hook { message, user, session, reply_to, place, .. } => {
                self.shared.shares.give_back(place, Kind::HookCalls);
                (message, user, session, reply_to)
            }
            // It has no log.
            Entry::Event(event) => {
                self.told += u64::from(event.count);
                return;
            }
            _ => unreachable!("the control thread gets hooks and events"),
        };
        // Its receipt is given when the call is accepted.
        if reply_to != ReplyTo::None {
            let answer = Entry::Sequenced { reply_to, heard: 0 };
            self.outgoing.push_back((world.now(), session.shard().into(), answer));
        }
        // One queue keeps the order of a session's calls; each takes its time.
        let last = self.outgoing.back().map_or(world.now(), |(due, ..)| *due);
        let due = Instant(last.max(world.now()).0 + world.random.below(3_000_000));
        let reply = self.reply(user.as_deref(), &message);
        match user {
            Some(user) => {
                let home: ShardId = self.shared.home_of_name(&user);
                let entry =
                    Entry::PublishUser { message: reply, only: None, reply_to: ReplyTo::None };
                self.outgoing.push_back((due, home.into(), entry));
            }
            None => {
                self.numbers += 1;
                let number = self.numbers * HOMES_MAX as u64 + (HOMES_MAX as u64 - 1);
                let entry = Entry::DeliverSession { message: reply, session, number };
                self.outgoing.push_back((due, session.shard().into(), entry));
            }
        }
    }

    fn reply(&self, user: Option<&str>, asked: &Message) -> Arc<Message> {
        let mut message = Message::default();
        message.begin(user.or(Some("")), "/queue/sub");
        message.header(b"destination", b"/user/queue/sub");
        message.header(b"content-type", b"application/json");
        message.finish(asked.body());
        Arc::new(message)
    }
}

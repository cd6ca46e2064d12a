#![forbid(unsafe_code)]
//! Entries of other shards and of this one: commands for the homes here, and what homes say to this
//! shard. `broker::core` says why no two shards can wait for each other.

use super::mailbox::{Entry, ToHome, ToShard};
use super::session::{Phase, Subscription, SubscriptionState};
use super::shard::Shard;
use crate::broker::command::{Callback, Command, Event, ReplyTo};
use crate::broker::core::{Class, Effect};
use crate::broker::pattern::Budget;
use crate::broker::subscription::FrameFormat;
use crate::ids::ShardId;
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::metrics::Refusal;
use crate::ring::Ring;
use std::sync::Arc;

/// A shard sends entries to itself: a round takes the classes in their order, so that a message
/// that stays on its shard is delivered in the turn it came in. More rounds than this wait a turn.
const ROUNDS: usize = 4;

impl<R: Ring> Shard<R> {
    /// Takes what lies in the mailboxes, of a class while there is room for what its entries
    /// produce. True if there were any.
    pub(super) fn take_entries(&mut self) -> bool {
        for round in 0..ROUNDS {
            let mut found = self.take_class(Shard::on_callback);
            found |= self.take_class(Shard::on_command);
            found |= self.take_class(Shard::on_entry);
            self.run_answered();
            if !found {
                return round > 0;
            }
        }
        true
    }

    fn take_class<E: Entry>(&mut self, handle: fn(&mut Self, E)) -> bool {
        let mut found = false;
        for peer in self.mailbox.with_mail(E::CLASS) {
            let mut left = self.limits.turn_entries;
            while left > 0 {
                if !self.has_room_for(E::CLASS) {
                    self.mailbox.look_first_at(peer, E::CLASS);
                    return found;
                }
                let Some(entry) = self.mailbox.take(peer) else { break };
                found = true;
                self.steps = 0;
                handle(self, entry);
                left = left.saturating_sub(1 + self.steps / PATTERN_STEPS_A_FRAME);
            }
        }
        found
    }

    /// Whether there is room for all that handling an entry of a class may produce.
    fn has_room_for(&self, class: Class) -> bool {
        let has = |needed: usize, class: Class| {
            needed == 0 || self.mailbox.room_everywhere(class) >= needed
        };
        let needs = class.needs();
        has(needs.home, Class::Home) && has(needs.event, Class::Event)
    }

    /// Whether one more command to a home finds room.
    pub(super) fn has_home_room(&self, home: ShardId) -> bool {
        self.mailbox.room(home.into(), Class::Home) > 0
    }

    /// Sends a command to a home. The caller has asked for room.
    pub(super) fn command(&mut self, home: ShardId, command: Command) {
        self.mailbox.send(home.into(), ToHome::Command(command));
    }

    fn on_callback(&mut self, callback: Callback) {
        self.core.on_callback(callback, self.ring.wall_millis(), &self.shared.homes);
        self.send_effects();
    }

    fn on_command(&mut self, entry: ToHome) {
        match entry {
            ToHome::Command(command) => {
                let work = self.core.on(command, self.shared.context());
                self.metrics.published_total.add(work.published.into());
                self.steps += work.steps;
                for _ in 0..work.gave_up {
                    self.refuse_for_nobody(Refusal::BrokerPatternGaveUp);
                }
                self.send_effects();
            }
            ToHome::Query { query, shard, conn } => {
                let (items, count, cut) = self.answer_query(&query);
                self.mailbox.send(shard.into(), ToShard::Answer { conn, items, count, cut });
            }
        }
    }

    fn send_effects(&mut self) {
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Command(home, command) => self.command(home, command),
                Effect::Event(shard, event) => {
                    self.mailbox.send(shard.into(), ToShard::Event(event));
                }
            }
        }
    }

    fn on_entry(&mut self, entry: ToShard) {
        match entry {
            ToShard::Event(event) => self.on_event(event),
            ToShard::Answer { conn, items, count, cut } => {
                self.on_query_answer(conn, &items, count, cut);
            }
            ToShard::Reload(shared) => self.reload(shared),
            ToShard::Drain => self.drain_all(),
        }
    }

    /// What a home says. Changes of subscriptions come after what was delivered before them: when
    /// the pool has no room to encode that, they and what follows them wait, in order.
    fn on_event(&mut self, event: Event) {
        let changes = matches!(event, Event::Begun { .. } | Event::Ended { .. });
        let ordered = changes || matches!(event, Event::Deliver { .. });
        if ordered && (!self.stash.is_empty() || changes && !self.fan_out_before(&event)) {
            return self.stash.push_back(event);
        }
        self.handle_event(event);
    }

    /// What waited for the pool goes on.
    pub(super) fn run_stash(&mut self) {
        while let Some(event) = self.stash.front() {
            let changes = matches!(event, Event::Begun { .. } | Event::Ended { .. });
            if changes {
                // In hand while it is looked at; it goes back where it was.
                let Some(event) = self.stash.pop_front() else { return };
                if !self.fan_out_before(&event) {
                    return self.stash.push_front(event);
                }
                self.handle_event(event);
            } else if let Some(event) = self.stash.pop_front() {
                self.handle_event(event);
            }
        }
    }

    /// Gives what is pending before a subscription changes. Batches end, too, if something waits in
    /// one for the very group that is about to have one member more or fewer.
    fn fan_out_before(&mut self, change: &Event) -> bool {
        if !self.fanout.batches.is_empty() && self.changes_waiting_group(change) {
            self.fanout.end_batches(&mut self.index, None);
        }
        self.fan_out()
    }

    fn changes_waiting_group(&self, change: &Event) -> bool {
        let (Event::Begun { session, key, .. } | Event::Ended { session, key }) = change else {
            return false;
        };
        let Some(session) = self.sessions.find(*session) else { return false };
        let session = self.sessions.at(session);
        let Some(at) = session.by_key(*key) else { return false };
        let Subscription { destination, id, acks, of_user, group, .. } = session.subscriptions[at];
        // One that is leaving is in no group any more.
        if of_user || session.phase != Phase::Live {
            return false;
        }
        if let Some(group) = group.get() {
            return self.index.group(group).batched > 0;
        }
        let format = FrameFormat {
            encoding: self.encoding_of(session.slot),
            version: session.version,
            acks,
        };
        self.index.find(destination, id, format).is_some_and(|group| group.batched > 0)
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Deliver { message, number } => {
                let mut budget = Budget::default();
                let Shard { fanout, index, shared, now, .. } = self;
                fanout.deliver(index, shared, (message, number), *now, &mut budget);
                self.steps += budget.spent();
            }
            Event::DeliverUser { message, number, only } => {
                let mut next = self.sessions.first_of(message.user());
                while let Some(session) = next {
                    // Delivering may end the session.
                    next = self.sessions.at(session).same_user.next();
                    if only.is_none_or(|only| only == self.sessions.id(session)) {
                        // Until its home has ended it, a subscription hears what came before.
                        let hears = |state| state != SubscriptionState::Beginning;
                        self.deliver_to_session(session, (&message, number), hears);
                    }
                }
            }
            Event::DeliverSession { message, session, number } => {
                if let Some(session) = self.sessions.find(session) {
                    self.deliver_at_once(session, &message, number);
                }
            }
            Event::Begun { session, key, refused } => self.on_begun(session, key, refused),
            Event::Ended { session, key } => self.on_ended(session, key),
            Event::Sequenced { reply_to, heard } => match reply_to {
                ReplyTo::None => {}
                ReplyTo::Frame(id, sequence) => {
                    if let Some(session) = self.sessions.find(id) {
                        self.sessions.answer_receipt(session, sequence);
                        self.give_receipts(session);
                    }
                }
                ReplyTo::Request(_, conn) => self.on_pushed(conn, heard),
            },
            Event::Duplicate { reply_to } => self.on_duplicate(reply_to),
        }
    }

    /// Connections whose answer has come go on.
    fn run_answered(&mut self) {
        for _ in 0..self.answered.len() {
            let Some(id) = self.answered.pop_front() else { return };
            self.resume(id);
        }
    }

    /// Makes changes of presence known, as far as there is room.
    pub(super) fn announce_presence(&mut self) {
        while self.core.has_announcements() {
            let shared = self.shared.clone();
            let Some(topic) = &shared.config.presence.topic else {
                self.core.announce();
                continue;
            };
            let home = shared.homes.of_destination(topic);
            if !self.has_home_room(home) || !self.blocks.has_room() {
                return;
            }
            let Some(change) = self.core.announce() else { return };
            let message = self.blocks.make(|message| change.write(topic, message));
            let message = message.expect("there is a free block");
            self.command(home, Command::Publish { message, reply_to: ReplyTo::None });
        }
        self.metrics.users.set(self.core.users().online() as u64);
    }

    /// A new configuration. What belongs to a running session stays as it is.
    fn reload(&mut self, shared: Arc<super::shared::Shared>) {
        // What waits under the old batches goes before what comes under the new ones.
        self.fanout.end_batches(&mut self.index, None);
        let pools = self.limits.clone();
        self.limits = shared.limits.clone();
        self.limits.keep_fixed(&pools);
        self.compress_from();
        let changed = self.shared.rules != shared.rules;
        self.shared = shared;
        if changed {
            self.begin_revoking();
        }
    }
}

#![forbid(unsafe_code)]
//! Entries of other shards and of this one: what a home does with requests, and a shard with
//! deliveries.

use super::mailbox::{Class, Entry, ReplyTo};
use super::session::{Phase, Subscription};
use super::shard::Shard;
use crate::broker::home::{Audience, Claim};
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::broker::subscription::FrameFormat;
use crate::ids::{PeerId, SessionId, ShardId};
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::metrics::Refusal;
use crate::ring::Ring;
use std::sync::Arc;

/// A request produces at most so many deliveries towards one peer: the message and the answer.
const DELIVERIES_OF_A_REQUEST: usize = 2;

/// A shard sends entries to itself: what one round produces is taken by the next, so that a message
/// that stays on its shard is delivered in the turn it came in. More rounds than this wait a turn.
const ROUNDS: usize = 4;

impl<R: Ring> Shard<R> {
    /// Takes what lies in the mailboxes: all deliveries, and requests while there is room for what
    /// they produce. True if there were any.
    pub(super) fn take_entries(&mut self) -> bool {
        for round in 0..ROUNDS {
            let delivered = self.take_class(Class::Delivery);
            let requested = self.take_class(Class::Request);
            self.run_answered();
            if !delivered && !requested {
                return round > 0;
            }
        }
        true
    }

    fn take_class(&mut self, class: Class) -> bool {
        let mut progress = false;
        for peer in 0..self.mailbox.peers() {
            let mut left = self.limits.turn_entries;
            while left > 0 {
                if class == Class::Request && !self.has_delivery_room() {
                    return progress;
                }
                let Some(entry) = self.mailbox.take(PeerId(peer as u8), class) else { break };
                progress = true;
                self.steps = 0;
                match class {
                    Class::Request => self.on_request(entry),
                    Class::Delivery => self.on_delivery(entry),
                }
                left = left.saturating_sub(1 + self.steps / PATTERN_STEPS_A_FRAME);
            }
        }
        progress
    }

    fn has_delivery_room(&self) -> bool {
        let shards = self.shared.shards as usize;
        self.mailbox.room_everywhere(shards, Class::Delivery) >= DELIVERIES_OF_A_REQUEST
    }

    /// Whether one more request to a home finds room.
    pub(super) fn has_request_room(&self, home: ShardId) -> bool {
        self.mailbox.room(home.into(), Class::Request) > 0
    }

    fn on_request(&mut self, entry: Entry) {
        match entry {
            Entry::Publish { message, reply_to } => self.sequence(message, reply_to),
            Entry::PublishUser { message, only, reply_to } => {
                self.sequence_user(message, only, reply_to);
            }
            Entry::Subscribe { destination, session, key, owner } => {
                let claim =
                    Claim { shares: &self.shared.shares, owner, least: self.limits.share_least };
                let refused = self.home.subscribe(&destination, session.shard(), claim).err();
                self.mailbox.send(session.shard().into(), Entry::Begun { session, key, refused });
            }
            Entry::Unsubscribe { destination, session, key } => {
                self.home.unsubscribe(&destination, session.shard(), &self.shared.shares);
                if let Some(key) = key {
                    self.mailbox.send(session.shard().into(), Entry::Ended { session, key });
                }
            }
            Entry::SubscribeUser { user, destination, session, key } => {
                self.users.subscribe(&user, session, &destination);
                let begun = Entry::Begun { session, key, refused: None };
                self.mailbox.send(session.shard().into(), begun);
            }
            Entry::UnsubscribeUser { user, destination, session, key } => {
                self.users.unsubscribe(&user, session, &destination);
                self.mailbox.send(session.shard().into(), Entry::Ended { session, key });
            }
            Entry::Join { user, session } => self.users.join(&user, session),
            Entry::Leave { user, session } => self.users.leave(&user, session),
            Entry::Dedupe { key, until_millis, message, shard, conn } => {
                let fresh = self.dedupe.is_fresh(key, self.ring.wall_millis(), until_millis);
                self.mailbox.send(shard.into(), Entry::Deduped { conn, fresh, message });
            }
            Entry::Query { query, shard, conn } => {
                let (items, count, cut) = self.answer_query(&query);
                self.mailbox.send(shard.into(), Entry::Answer { conn, items, count, cut });
            }
            Entry::Reload(shared) => self.reload(shared),
            Entry::Drain => self.drain_all(),
            Entry::Hook { .. } | Entry::Event(_) => {
                unreachable!("hooks are asked at the control thread")
            }
            Entry::Deliver { .. }
            | Entry::DeliverUser { .. }
            | Entry::Begun { .. }
            | Entry::Ended { .. }
            | Entry::Sequenced { .. }
            | Entry::Deduped { .. }
            | Entry::Answer { .. }
            | Entry::DeliverSession { .. } => unreachable!("deliveries have their own class"),
        }
    }

    /// Numbers a message and sends it to every shard with a subscriber.
    fn sequence(&mut self, message: Arc<Message>, reply_to: ReplyTo) {
        let number = self.next_number();
        self.metrics.published_total.add(1);
        let mut budget = Budget::default();
        let audience = self.home.audience(message.destination(), &mut budget);
        self.steps += budget.spent();
        self.note_given_up(audience);
        for shard in audience.shards() {
            let message = message.clone();
            self.mailbox.send(shard.into(), Entry::Deliver { message, number });
        }
        self.answer_reply_to(reply_to, audience.subscriptions);
    }

    fn sequence_user(&mut self, message: Arc<Message>, only: Option<SessionId>, reply_to: ReplyTo) {
        let number = self.next_number();
        self.metrics.published_total.add(1);
        let (user, destination) = (message.user(), message.destination());
        // What rules keep from a user none of his sessions hears, and none is counted.
        let mut budget = Budget::default();
        let is_kept = self.shared.rules_restrict_patterns
            && !self.may_user_hear_own(Some(user), destination, &mut budget);
        let audience = match is_kept {
            true => Audience::default(),
            false => self.users.audience(user, destination, only, &mut budget),
        };
        self.steps += budget.spent();
        self.note_given_up(audience);
        for shard in audience.shards() {
            let message = message.clone();
            self.mailbox.send(shard.into(), Entry::DeliverUser { message, number, only });
        }
        self.answer_reply_to(reply_to, audience.subscriptions);
    }

    /// Counts a message that some pattern gave up on: its subscribers do not hear it.
    fn note_given_up(&self, audience: Audience) {
        if audience.gave_up {
            self.refuse_for_nobody(Refusal::BrokerPatternGaveUp);
        }
    }

    fn answer_reply_to(&mut self, reply_to: ReplyTo, heard: u32) {
        let shard = match reply_to {
            ReplyTo::None => return,
            ReplyTo::Frame(session, _) => session.shard(),
            ReplyTo::Request(shard, _) => shard,
        };
        self.mailbox.send(shard.into(), Entry::Sequenced { reply_to, heard });
    }

    /// A delivery. Changes of subscriptions come after what was delivered before them: when the
    /// pool has no room to encode that, they and what follows them wait, in order.
    fn on_delivery(&mut self, entry: Entry) {
        let changes = matches!(entry, Entry::Begun { .. } | Entry::Ended { .. });
        let ordered = changes || matches!(entry, Entry::Deliver { .. });
        if ordered && (!self.stash.is_empty() || changes && !self.fan_out_before(&entry)) {
            return self.stash.push_back(entry);
        }
        self.handle_delivery(entry);
    }

    /// What waited for the pool goes on.
    pub(super) fn run_stash(&mut self) {
        while let Some(entry) = self.stash.front() {
            let changes = matches!(entry, Entry::Begun { .. } | Entry::Ended { .. });
            if changes {
                // In hand while it is looked at; it goes back where it was.
                let Some(entry) = self.stash.pop_front() else { return };
                if !self.fan_out_before(&entry) {
                    return self.stash.push_front(entry);
                }
                self.handle_delivery(entry);
            } else if let Some(entry) = self.stash.pop_front() {
                self.handle_delivery(entry);
            }
        }
    }

    /// Gives what is pending before a subscription changes. Batches end, too, if something waits in
    /// one for the very group that is about to have one member more or fewer.
    fn fan_out_before(&mut self, change: &Entry) -> bool {
        if !self.fanout.batches.is_empty() && self.changes_waiting_group(change) {
            self.fanout.end_batches(&mut self.index, None);
        }
        self.fan_out()
    }

    fn changes_waiting_group(&self, change: &Entry) -> bool {
        let (Entry::Begun { session, key, .. } | Entry::Ended { session, key }) = change else {
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

    fn handle_delivery(&mut self, entry: Entry) {
        match entry {
            Entry::Deliver { message, number } => {
                let mut budget = Budget::default();
                let Shard { fanout, index, shared, now, .. } = self;
                fanout.deliver(index, shared, (message, number), *now, &mut budget);
                self.steps += budget.spent();
            }
            Entry::DeliverUser { message, number, only } => {
                let mut next = self.sessions.first_of(message.user());
                while let Some(session) = next {
                    // Delivering may end the session.
                    next = self.sessions.at(session).same_user.next();
                    if only.is_none_or(|only| only == self.sessions.id(session)) {
                        self.deliver_to_session(session, &message, number);
                    }
                }
            }
            Entry::DeliverSession { message, session, number } => {
                if let Some(session) = self.sessions.find(session) {
                    self.deliver_to_session(session, &message, number);
                }
            }
            Entry::Begun { session, key, refused } => self.on_begun(session, key, refused),
            Entry::Ended { session, key } => self.on_ended(session, key),
            Entry::Sequenced { reply_to, heard } => match reply_to {
                ReplyTo::None => {}
                ReplyTo::Frame(id, sequence) => {
                    if let Some(session) = self.sessions.find(id) {
                        self.sessions.answer_receipt(session, sequence);
                        self.give_receipts(session);
                    }
                }
                ReplyTo::Request(_, conn) => self.on_pushed(conn, heard),
            },
            Entry::Deduped { conn, fresh, message } => self.on_deduped(conn, fresh, message),
            Entry::Answer { conn, items, count, cut } => {
                self.on_query_answer(conn, &items, count, cut)
            }
            _ => unreachable!("requests have their own class"),
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
        self.run_unfinished();
        while self.users.has_changes() {
            let shared = self.shared.clone();
            let Some(topic) = &shared.config.presence.topic else {
                self.users.announce();
                continue;
            };
            let home = shared.home_of_destination(topic);
            if !self.has_request_room(home) || !self.blocks.has_room() {
                return;
            }
            let Some(change) = self.users.announce() else { return };
            let status = if change.online { "ON_LINE" } else { "OFF_LINE" };
            let user = serde_json::Value::from(&*change.user);
            let (sessions, epoch) = (change.sessions, change.epoch);
            let body = format!(
                r#"{{"user":{user},"status":"{status}","sessions":{sessions},"epoch":{epoch}}}"#
            );
            let message = self.blocks.make(|message| {
                message.begin(None, topic);
                message.header(b"destination", topic.as_bytes());
                message.header(b"content-type", b"application/json");
                message.finish(body.as_bytes());
            });
            let message = message.expect("there is a free block");
            self.mailbox.send(home.into(), Entry::Publish { message, reply_to: ReplyTo::None });
        }
        self.metrics.users.set(self.users.online() as u64);
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

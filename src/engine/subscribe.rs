#![forbid(unsafe_code)]
//! Subscriptions of sessions: asked for here, begun and ended where their home says so.

use super::refuse::{ACK_MODE, Handled, NUMBER_TAKEN, Problem, UNKNOWN_DESTINATION, no_room};
use super::revoke::permit;
use super::session::{Deferred, Phase, Subscription, SubscriptionState};
use super::shard::Shard;
use super::stomp::required;
use crate::broker::command::Command;
use crate::broker::home::Full;
use crate::broker::pattern::{self, Budget};
use crate::broker::subscription::{FrameFormat, GROUP};
use crate::ids::{GroupIndex, SessionId, SessionIndex, ShardId, Slot};
use crate::mem::intern::Sym;
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::stomp::{Frame, Version};

/// Set in the number under which a receipt waits for the end of a subscription, so that it is told
/// apart from the one that waits for its beginning.
const END: u32 = 1 << 31;
/// Bytes of a subscription beside its names: in its session, in its group, in the home's counts.
/// What the group itself costs is [`GROUP`].
const SUBSCRIPTION: u32 = 64;
/// So many other frames are as much work as a SUBSCRIBE or an UNSUBSCRIBE of a name that nobody
/// else has: measured, with its entries to its home and back, at 4 microseconds.
pub(super) const SUBSCRIBING: u32 = 16;

/// Numbers of frames stay below it.
pub(super) const SEQUENCE_MASK: u32 = END - 1;

impl<R: Ring> Shard<R> {
    pub(super) fn on_subscribe(&mut self, session: SessionIndex, frame: &Frame<'_, '_>) -> Handled {
        let destination = required(frame, b"destination")?;
        let id = match (frame.header(b"id"), self.sessions.at(session).version) {
            // STOMP 1.0 §SUBSCRIBE: the id is optional; MESSAGE then names no subscription.
            (None, Version::V1_0) => "",
            _ => required(frame, b"id")?,
        };
        // STOMP 1.2 §SUBSCRIBE, ack header.
        let acks = match frame.header(b"ack") {
            None | Some(b"auto") => false,
            Some(b"client" | b"client-individual") => true,
            Some(_) => return Err(ACK_MODE),
        };
        let shared = self.shared.clone();
        let own = shared.names.own(destination);
        if own.is_none() && !shared.names.is_broker(destination) {
            return self.unknown_destination(session, frame, UNKNOWN_DESTINATION);
        }
        let user = self.sessions.at(session).user.clone();
        let mut budget = Budget::default();
        let (names, user_name) = (&shared.names, user.as_deref());
        let verdict = shared.rules.may_subscribe(names, destination, user_name, &mut budget);
        self.steps += budget.spent();
        permit(verdict)?;
        if self.has_subscribed(session, id, destination) {
            // The first one stays.
            self.receipt(session, frame, 0, None);
            return Ok(());
        }
        self.fits_session(session, id, destination)?;
        // Answers of homes name a subscription by the number of its frame, and numbers wrap.
        let state = self.sessions.at(session);
        if state.by_key(state.sequence).is_some() {
            return Err(NUMBER_TAKEN);
        }
        let home = self.home_of_subscription(session, destination);
        let state = self.sessions.at_mut(session);
        if let Some(receipt) = frame.header(b"receipt")
            && state.receipts.count() > 0
            && (home.is_none() || state.receipts_home != home)
        {
            // Its RECEIPT may not overtake those that another home still owes, and its first
            // MESSAGE not its RECEIPT: it waits, and the connection with it.
            state.deferred = Some(Box::new(Deferred::Subscribe {
                id: id.to_owned(),
                destination: destination.to_owned(),
                receipt: receipt.to_vec(),
                sequence: state.sequence,
                acks,
            }));
            return Ok(());
        }
        let sequence = self.sessions.at(session).sequence;
        self.subscribe(session, id, destination, frame.header(b"receipt"), sequence, acks);
        Ok(())
    }

    /// Whether a session has this subscription already: by its id, or, where STOMP 1.0 lets it have
    /// none, by its destination.
    fn has_subscribed(&mut self, session: SessionIndex, id: &str, destination: &str) -> bool {
        let Some(known) = self.index.names().find(id) else { return false };
        if !id.is_empty() {
            return self.sessions.at(session).by_id(known).is_some();
        }
        self.by_destination(session, destination, Some(known)).is_some()
    }

    /// The live subscription of a session to a destination, as the client writes it; with an id
    /// only if it has this one.
    fn by_destination(
        &mut self,
        session: SessionIndex,
        destination: &str,
        id: Option<Sym>,
    ) -> Option<usize> {
        let own = self.shared.names.own(destination);
        let (of_user, plain) = (own.is_some(), own.unwrap_or(destination).to_owned());
        let name = self.index.names().find(&plain)?;
        self.sessions.at(session).subscriptions.iter().position(|s| {
            s.destination == name
                && s.of_user == of_user
                && s.state != SubscriptionState::Ending
                && id.is_none_or(|id| id == s.id)
        })
    }

    /// Whether one more subscription keeps the session within its bounds. Patterns are looked at
    /// for each message, so they have a bound of their own.
    fn fits_session(&mut self, session: SessionIndex, id: &str, destination: &str) -> Handled {
        if destination.len().max(id.len()) > self.limits.name_bytes as usize {
            return Err(NAME_TOO_LONG);
        }
        let subscriptions = &self.sessions.at(session).subscriptions;
        if subscriptions.len() >= self.limits.subscriptions as usize {
            return Err(TOO_MANY);
        }
        let own = self.shared.names.own(destination);
        let (of_user, plain) = (own.is_some(), own.unwrap_or(destination));
        let known = self.index.names().find(plain);
        let (mut bytes, mut patterns, mut alike) = (id.len() + destination.len(), 1, 0);
        // A session may have a thousand, and each new one looks at all before it: no text is read.
        for subscription in subscriptions {
            let name = self.index.text(subscription.destination);
            bytes += self.index.text(subscription.id).len() + name.len();
            patterns += u32::from(subscription.is_pattern);
            // One that is ending makes place for another: a page may change all it has at once.
            let is_alike =
                subscription.of_user == of_user && Some(subscription.destination) == known;
            alike += u32::from(is_alike && subscription.state != SubscriptionState::Ending);
        }
        if alike >= self.limits.subscriptions_alike {
            return Err(TOO_MANY_ALIKE);
        }
        let new = (id.len() + destination.len()) as u64;
        let new = new + u64::from(SUBSCRIPTION) + u64::from(!of_user) * GROUP;
        if self.subscribed_bytes() + new > u64::from(self.limits.subscribed_bytes) {
            return Err(NO_ROOM);
        }
        if bytes > self.limits.subscription_bytes as usize {
            return Err(TOO_LONG);
        }
        if pattern::is_pattern(destination) && patterns > self.limits.patterns {
            return Err(TOO_MANY_PATTERNS);
        }
        Ok(())
    }

    /// What all subscriptions of the shard cost. One that is beginning may open a group.
    fn subscribed_bytes(&mut self) -> u64 {
        let names = self.index.names().bytes() as u64;
        let groups = self.index.len() as u64 + u64::from(self.beginning);
        names + u64::from(self.subscriptions) * u64::from(SUBSCRIPTION) + groups * GROUP
    }

    /// A frame that waited goes on when what it waited for is there.
    pub(super) fn run_deferred(&mut self, slot: Slot, session: SessionIndex) {
        let state = self.sessions.at(session);
        let waits = match state.deferred.as_deref() {
            None => return,
            Some(Deferred::Subscribe { .. } | Deferred::Refuse { .. }) => {
                state.receipts.count() > 0
            }
            Some(Deferred::Unsubscribe { key, .. }) => state
                .by_key(*key)
                .is_some_and(|at| state.subscriptions[at].state == SubscriptionState::Beginning),
        };
        if waits {
            return self.pause_for_answer(slot);
        }
        if !self.has_room_for_frame() {
            return self.pause_for_room(slot);
        }
        match self.sessions.at_mut(session).deferred.take().map(|deferred| *deferred) {
            None => {}
            Some(Deferred::Subscribe { id, destination, receipt, sequence, acks }) => {
                // A reload may have come in between.
                let (shared, user) = (self.shared.clone(), self.sessions.at(session).user.clone());
                let (names, user) = (&shared.names, user.as_deref());
                let mut budget = Budget::default();
                let verdict = shared.rules.may_subscribe(names, &destination, user, &mut budget);
                if let Err(problem) = permit(verdict) {
                    let body = self.with_facts(session, problem.body, Some(destination.as_bytes()));
                    let problem = Problem { body: &body, ..problem };
                    return self.refuse_frame(slot, session, problem, Some(&receipt));
                }
                self.subscribe(session, &id, &destination, Some(&receipt), sequence, acks);
            }
            Some(Deferred::Unsubscribe { key, receipt, sequence }) => {
                self.unsubscribe(session, key, receipt.as_deref(), sequence);
            }
            Some(Deferred::Refuse { problem, body, receipt, .. }) => {
                let problem = Problem { body: &body, ..problem };
                self.refuse_frame(slot, session, problem, receipt.as_deref());
            }
        }
    }

    /// The home that a subscription belongs to; None if the session's shard alone knows of it.
    fn home_of_subscription(&self, session: SessionIndex, destination: &str) -> Option<ShardId> {
        if self.shared.names.own(destination).is_none() {
            return Some(self.shared.homes.of_destination(destination));
        }
        let user = self.sessions.at(session).user.as_ref()?;
        Some(self.shared.homes.of_user(user))
    }

    fn subscribe(
        &mut self,
        session: SessionIndex,
        id: &str,
        destination: &str,
        receipt: Option<&[u8]>,
        key: u32,
        acks: bool,
    ) {
        let home = self.home_of_subscription(session, destination);
        let own = self.shared.names.own(destination).map(str::to_owned);
        let of_user = own.is_some();
        let name = self.index.names().intern(own.as_deref().unwrap_or(destination));
        let id = self.index.names().intern(id);
        let state = SubscriptionState::Beginning;
        let subscription = Subscription {
            id,
            destination: name,
            key,
            group: GroupIndex::NONE,
            position: 0,
            state,
            of_user,
            acks,
            is_pattern: pattern::is_pattern(own.as_deref().unwrap_or(destination)),
        };
        self.sessions.at_mut(session).subscriptions.push(subscription);
        self.subscriptions += 1;
        self.beginning += u32::from(!of_user);
        let answers = u32::from(home.is_some());
        if let Some(receipt) = receipt {
            // A local one is begun before its receipt is given, which changes nothing: nothing can
            // come in between.
            self.receipt_of(session, receipt, key, answers, home);
        }
        let Some(home) = home else {
            let at = self.sessions.at(session).by_key(key).expect("just pushed");
            self.sessions.at_mut(session).subscriptions[at].state = SubscriptionState::Active;
            return;
        };
        let destination = self.index.text(name).clone();
        let session_id = self.sessions.id(session);
        let user = self.sessions.at(session).user.clone();
        let command = match user {
            Some(user) if of_user => {
                Command::SubscribeUser { user, destination, session: session_id, key }
            }
            _ => {
                let owner = self.share_key(self.sessions.at(session).slot);
                Command::Subscribe { destination, session: session_id, key, owner }
            }
        };
        self.command(home, command);
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) -> Handled {
        let version = self.sessions.at(session).version;
        let at = match frame.header(b"id") {
            // STOMP 1.0 §UNSUBSCRIBE: by destination if the subscription had no id.
            None if version == Version::V1_0 => {
                let destination = required(frame, b"destination")?;
                self.by_destination(session, destination, None)
            }
            _ => {
                let id = self.index.names().find(required(frame, b"id")?);
                id.and_then(|id| self.sessions.at(session).by_id(id))
            }
        };
        let Some(at) = at else {
            self.receipt(session, frame, 0, None);
            return Ok(());
        };
        let Subscription { key, state, .. } = self.sessions.at(session).subscriptions[at];
        let sequence = self.sessions.at(session).sequence;
        let receipt = frame.header(b"receipt");
        if state == SubscriptionState::Beginning {
            // Its home may yet refuse it: it can end only when it has begun.
            let receipt = receipt.map(<[u8]>::to_vec);
            let deferred = Deferred::Unsubscribe { key, receipt, sequence };
            self.sessions.at_mut(session).deferred = Some(Box::new(deferred));
        } else {
            self.unsubscribe(session, key, receipt, sequence);
        }
        Ok(())
    }

    fn unsubscribe(
        &mut self,
        session: SessionIndex,
        key: u32,
        receipt: Option<&[u8]>,
        sequence: u32,
    ) {
        let Some(at) = self.sessions.at(session).by_key(key) else { return };
        let subscription = self.sessions.at(session).subscriptions[at];
        let id = self.sessions.id(session);
        let destination = self.index.text(subscription.destination).clone();
        let user = self.sessions.at(session).user.clone();
        let (home, command) = match user {
            None if subscription.of_user => {
                self.forget_subscription(session, at);
                if let Some(receipt) = receipt {
                    self.receipt_of(session, receipt, sequence, 0, None);
                }
                return;
            }
            Some(user) if subscription.of_user => (
                self.shared.homes.of_user(&user),
                Command::UnsubscribeUser { user, destination, session: id, key },
            ),
            _ => (
                self.shared.homes.of_destination(&destination),
                Command::Unsubscribe { destination, session: id, key: Some(key) },
            ),
        };
        self.sessions.at_mut(session).subscriptions[at].state = SubscriptionState::Ending;
        if let Some(receipt) = receipt {
            self.receipt_of(session, receipt, key | END, 1, Some(home));
        }
        self.command(home, command);
    }

    /// A home says that a subscription holds from here on. What was sequenced before is encoded
    /// already: it is not for it.
    pub(super) fn on_begun(&mut self, id: SessionId, key: u32, refused: Option<Full>) {
        let Some(session) = self.sessions.find(id) else { return };
        let Some(at) = self.sessions.at(session).by_key(key) else { return };
        let of_user = self.sessions.at(session).subscriptions[at].of_user;
        self.beginning -= u32::from(!of_user);
        if let Some(full) = refused {
            return self.on_refused(session, at, key, full);
        }
        let live = self.sessions.at(session).phase == Phase::Live;
        let subscription = self.sessions.at(session).subscriptions[at];
        let Subscription { destination, id, acks, .. } = subscription;
        self.sessions.at_mut(session).subscriptions[at].state = SubscriptionState::Active;
        if !live {
            // The session has left meanwhile: its record waited for this to tell the home.
            return;
        }
        if !of_user && self.may_begin(session, &subscription) {
            let state = self.sessions.at(session);
            let encoding = self.encoding_of(state.slot);
            let format = FrameFormat { encoding, version: state.version, acks };
            let (group, position) = self.index.join(destination, id, format, session);
            let entry = &mut self.sessions.at_mut(session).subscriptions[at];
            (entry.group, entry.position) = (group, position);
        }
        self.sessions.answer_receipt(session, key);
        self.give_receipts(session);
        self.wake_deferred(session);
    }

    /// Whatever a deferred frame waited for may be there now.
    fn wake_deferred(&mut self, session: SessionIndex) {
        let state = self.sessions.at(session);
        if state.deferred.is_some() && state.phase == Phase::Live {
            let id = self.conns.id(state.slot);
            self.answered.push_back(id);
        }
    }

    /// A home has no room for the destination: the session hears so, with the frame's receipt id,
    /// and ends.
    fn on_refused(&mut self, session: SessionIndex, at: usize, key: u32, full: Full) {
        let live = self.sessions.at(session).phase == Phase::Live;
        let Subscription { destination, .. } = self.sessions.at(session).subscriptions[at];
        let destination = self.index.text(destination).clone();
        self.forget_subscription(session, at);
        if live {
            let slot = self.sessions.at(session).slot;
            // Its own receipt is never given, so the refusal must not wait for it.
            let receipt = self.sessions.cut_receipts(session, key);
            let receipt = receipt.as_deref();
            let problem = no_room(full);
            let body = self.with_facts(session, problem.body, Some(destination.as_bytes()));
            let problem = Problem { body: &body, ..problem };
            self.refuse_frame_in_turn(slot, session, problem, receipt, key);
            self.wake_deferred(session);
        }
    }

    /// A home says that a subscription has ended.
    pub(super) fn on_ended(&mut self, id: SessionId, key: u32) {
        let Some(session) = self.sessions.find(id) else { return };
        let Some(at) = self.sessions.at(session).by_key(key) else { return };
        if self.sessions.at(session).phase == Phase::Live {
            self.leave_group(session, at);
            self.forget_subscription(session, at);
            self.sessions.answer_receipt(session, key | END);
            self.give_receipts(session);
        } else {
            self.forget_subscription(session, at);
        }
    }

    pub(super) fn leave_group(&mut self, session: SessionIndex, at: usize) {
        let Subscription { group, position, .. } = self.sessions.at(session).subscriptions[at];
        if group == GroupIndex::NONE {
            return;
        }
        self.sessions.at_mut(session).subscriptions[at].group = GroupIndex::NONE;
        if self.index.group(group).members.len() == 1 {
            self.fanout.forget_group(&mut self.index, group);
        }
        if let Some(moved) = self.index.leave(group, position) {
            let entries = &mut self.sessions.at_mut(moved).subscriptions;
            let entry = entries.iter_mut().find(|entry| entry.group == group);
            entry.expect("a member has a subscription in its group").position = position;
        }
    }

    fn forget_subscription(&mut self, session: SessionIndex, at: usize) {
        let Subscription { id, destination, .. } =
            self.sessions.at_mut(session).subscriptions.swap_remove(at);
        self.subscriptions -= 1;
        self.release_names(id, destination);
    }

    fn release_names(&mut self, id: Sym, destination: Sym) {
        self.index.names().release(id);
        self.index.names().release(destination);
    }

    /// A session ends: it hears nothing more from now on, and its homes are told as room allows.
    pub(super) fn leave_broker(&mut self, session: SessionIndex) {
        let state = self.sessions.at_mut(session);
        assert!(state.phase != Phase::Leaving, "a session leaves once");
        let was_live = state.phase == Phase::Live;
        state.phase = Phase::Leaving;
        state.partial.take();
        state.deferred = None;
        self.sessions.drop_receipts(session);
        if was_live {
            self.metrics.sessions.set(self.metrics.sessions.value() - 1);
        }
        if self.sessions.at(session).user.is_some() {
            self.sessions.unlink_user(session);
        }
        let count = self.sessions.at(session).subscriptions.len();
        for at in 0..count {
            self.leave_group(session, at);
        }
        // A thousand are work, too.
        self.turn_left = self.turn_left.saturating_sub(count as u32);
        self.leaving.push_back(session);
    }

    /// Tells homes of sessions that have ended, as far as there is room, and a part of a turn.
    pub(super) fn run_leaving(&mut self) {
        let mut most = self.limits.turn_frames.div_ceil(SUBSCRIBING);
        for _ in 0..self.leaving.len() {
            let Some(session) = self.leaving.pop_front() else { return };
            if !self.tell_homes(session, &mut most) {
                self.leaving.push_back(session);
            }
            if most == 0 {
                // The next turn goes on with it, and does not sleep before.
                self.turn_left = 0;
                return;
            }
        }
    }

    /// True when everything is told and the record is gone.
    fn tell_homes(&mut self, session: SessionIndex, most: &mut u32) -> bool {
        let id = self.sessions.id(session);
        let mut at = 0;
        while at < self.sessions.at(session).subscriptions.len() {
            let subscription = self.sessions.at(session).subscriptions[at];
            if !subscription.of_user {
                if subscription.state != SubscriptionState::Active {
                    // Its home has yet to answer.
                    at += 1;
                    continue;
                }
                let destination = self.index.text(subscription.destination).clone();
                let home = self.shared.homes.of_destination(&destination);
                if *most == 0 || !self.has_home_room(home) {
                    return false;
                }
                *most -= 1;
                let command = Command::Unsubscribe { destination, session: id, key: None };
                self.command(home, command);
            }
            self.forget_subscription(session, at);
        }
        if !self.sessions.at(session).subscriptions.is_empty() {
            return false;
        }
        if self.sessions.at(session).joined {
            let user = self.sessions.at(session).user.clone().expect("it joined by its name");
            let home = self.shared.homes.of_user(&user);
            if !self.has_home_room(home) {
                return false;
            }
            self.command(home, Command::Leave { user, session: id });
        }
        self.sessions.remove(session);
        true
    }
}

pub(super) const NAME_TOO_LONG: Problem<'static> = Problem {
    message: "name too long",
    body: "A destination, subscription or receipt id is longer than it may be (limit name-bytes).",
    code: 1008,
    refusal: Refusal::LimitNameBytes,
};

const TOO_MANY: Problem<'static> = Problem {
    message: "too many subscriptions",
    body: "The session has as many subscriptions as it may (limit subscriptions).",
    code: 1008,
    refusal: Refusal::LimitSubscriptions,
};

const TOO_MANY_ALIKE: Problem<'static> = Problem {
    message: "too many subscriptions alike",
    body: "The session has as many subscriptions to this destination as it may \
           (limit subscriptions-alike).",
    code: 1008,
    refusal: Refusal::LimitSubscriptionsAlike,
};

const TOO_LONG: Problem<'static> = Problem {
    message: "subscriptions too long",
    body: "Its destinations and ids are too long together (limit subscription-bytes).",
    code: 1008,
    refusal: Refusal::LimitSubscriptionBytes,
};

const NO_ROOM: Problem<'static> = Problem {
    message: "no room for a subscription",
    body: "The server has as many subscriptions as it may (limit subscribed-bytes).",
    code: 1013,
    refusal: Refusal::LimitSubscribedBytes,
};

const TOO_MANY_PATTERNS: Problem<'static> = Problem {
    message: "too many patterns",
    body: "The session has subscribed to as many patterns as it may (limit patterns).",
    code: 1008,
    refusal: Refusal::LimitPatterns,
};

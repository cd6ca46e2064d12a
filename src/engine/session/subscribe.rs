#![forbid(unsafe_code)]
//! Subscriptions of sessions: asked for here, begun and ended where their home says so; and how
//! sessions leave.

use super::bounds::{Asked, by_destination, fits, has_subscribed};
use super::problem::{
    ACK_MODE, Handled, NUMBER_TAKEN, Problem, UNKNOWN_DESTINATION, no_room, permit,
};
use super::record::{Deferred, END, Phase, Subscription, SubscriptionState};
use super::rules;
use super::stomp::{SUBSCRIBING, Stomp, required};
use crate::broker::command::Command;
use crate::broker::home::Full;
use crate::broker::pattern::{self, Budget};
use crate::broker::subscription::FrameFormat;
use crate::engine::bus::Bus;
use crate::engine::context::Context;
use crate::engine::delivery::{Audience, Delivery, Fanout};
use crate::engine::net::View;
use crate::ids::{GroupIndex, LinkIndex, SessionId, SessionIndex, ShardId};
use crate::stomp::{Frame, Version};

impl Stomp {
    pub(super) fn on_subscribe(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) -> Handled {
        let destination = required(frame, b"destination")?;
        let state = self.sessions.at(session);
        let (user, key) = (state.user.as_deref(), state.sequence);
        let id = match (frame.header(b"id"), state.version) {
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
        let names = &view.shared.names;
        if names.own(destination).is_none() && !names.is_broker(destination) {
            return self.unaddressed(delivery, view, session, frame, UNKNOWN_DESTINATION);
        }
        let mut budget = Budget::default();
        let verdict = rules::may_have(view.ctx, user, destination, &mut budget);
        self.sessions.steps += budget.spent();
        permit(verdict)?;
        let asked = Asked { id, destination, receipt: frame.header(b"receipt"), key, acks };
        let state = self.sessions.at(session);
        if has_subscribed(state, &mut delivery.fanout, view.ctx, asked) {
            // The first one stays.
            self.sessions.receipt(delivery, view, session, frame, (0, None));
            return Ok(());
        }
        let counted = (self.subscriptions, self.beginning);
        fits(self.sessions.at(session), &mut delivery.fanout, view.ctx, asked, counted)?;
        let home = self.home_of_subscription(view.ctx, session, destination);
        let state = self.sessions.at_mut(session);
        // Answers of homes name a subscription by the number of its frame, and numbers wrap.
        if state.by_key(key).is_some() {
            return Err(NUMBER_TAKEN);
        }
        if let Some(receipt) = asked.receipt
            && state.receipts.count() > 0
            && (home.is_none() || state.receipts_home != home)
        {
            // Its RECEIPT may not overtake those that another home still owes, and its first
            // MESSAGE not its RECEIPT: it waits, and the link with it.
            state.deferred = Some(Box::new(Deferred::Subscribe {
                id: id.to_owned(),
                destination: destination.to_owned(),
                receipt: receipt.to_vec(),
                sequence: key,
                acks,
            }));
            return Ok(());
        }
        self.subscribe(delivery, bus, view, session, asked);
        Ok(())
    }

    /// A frame that waited goes on when what it waited for is there.
    pub(super) fn run_deferred(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
    ) {
        let state = self.sessions.at(session);
        let link = state.link;
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
            return delivery.links.pause_for_answer(link);
        }
        if !bus.has_room_for_frame(view.ctx) {
            return delivery.links.pause_for_room(view.ctx, link);
        }
        match self.sessions.at_mut(session).deferred.take().map(|deferred| *deferred) {
            None => {}
            Some(Deferred::Subscribe { id, destination, receipt, sequence, acks }) => {
                // A reload may have come in between.
                let user = self.sessions.at(session).user.as_deref();
                let verdict = rules::may_have(view.ctx, user, &destination, &mut Budget::default());
                if let Err(problem) = permit(verdict) {
                    let body = self.sessions.with_facts(
                        session,
                        problem.body,
                        Some(destination.as_bytes()),
                    );
                    let problem = Problem { body: &body, ..problem };
                    let links = &mut delivery.links;
                    return self.sessions.refuse_now(
                        links,
                        view,
                        (link, session),
                        problem,
                        Some(&receipt),
                    );
                }
                let receipt = Some(&receipt[..]);
                let asked =
                    Asked { id: &id, destination: &destination, receipt, key: sequence, acks };
                self.subscribe(delivery, bus, view, session, asked);
            }
            Some(Deferred::Unsubscribe { key, receipt, sequence }) => {
                let receipt = receipt.as_deref().map(|receipt| (receipt, sequence));
                self.unsubscribe(delivery, bus, view, session, (key, receipt));
            }
            Some(Deferred::Refuse { problem, body, receipt, .. }) => {
                let problem = Problem { body: &body, ..problem };
                let links = &mut delivery.links;
                self.sessions.refuse_now(links, view, (link, session), problem, receipt.as_deref());
            }
        }
    }

    /// The home that a subscription belongs to; None if the session's shard alone knows of it.
    fn home_of_subscription(
        &self,
        ctx: &Context,
        session: SessionIndex,
        destination: &str,
    ) -> Option<ShardId> {
        if ctx.shared.names.own(destination).is_none() {
            return Some(ctx.shared.homes.of_destination(destination));
        }
        let user = self.sessions.at(session).user.as_ref()?;
        Some(ctx.shared.homes.of_user(user))
    }

    fn subscribe(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        asked: Asked<'_>,
    ) {
        let Asked { id, destination, receipt, key, acks } = asked;
        let home = self.home_of_subscription(view.ctx, session, destination);
        let own = view.shared.names.own(destination);
        let (of_user, plain) = (own.is_some(), own.unwrap_or(destination));
        let name = delivery.fanout.names().intern(plain);
        let id = delivery.fanout.names().intern(id);
        // One that no home knows of is begun at once; nothing can come before its receipt.
        let state = match home {
            Some(_) => SubscriptionState::Beginning,
            None => SubscriptionState::Active,
        };
        let subscription = Subscription {
            id,
            destination: name,
            key,
            group: GroupIndex::NONE,
            position: 0,
            state,
            of_user,
            acks,
            is_pattern: pattern::is_pattern(plain),
        };
        self.sessions.at_mut(session).subscriptions.push(subscription);
        self.subscriptions += 1;
        self.beginning += u32::from(!of_user);
        if let Some(receipt) = receipt {
            let answers = (u32::from(home.is_some()), home);
            self.sessions.receipt_of(delivery, view, session, (receipt, key), answers);
        }
        let Some(home) = home else { return };
        let destination = delivery.fanout.text(name).clone();
        let state = self.sessions.at(session);
        let session = self.sessions.id(session);
        let command = match state.user.clone() {
            Some(user) if of_user => Command::SubscribeUser { user, destination, session, key },
            _ => {
                let owner = view.net.client(state.link).share_key(view.ctx);
                Command::Subscribe { destination, session, key, owner }
            }
        };
        bus.command(home, command);
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) -> Handled {
        let version = self.sessions.at(session).version;
        let at = match frame.header(b"id") {
            // STOMP 1.0 §UNSUBSCRIBE: by destination if the subscription had no id.
            None if version == Version::V1_0 => {
                let destination = required(frame, b"destination")?;
                let state = self.sessions.at(session);
                by_destination(state, &mut delivery.fanout, view.ctx, destination, None)
            }
            _ => {
                let id = delivery.fanout.names().find(required(frame, b"id")?);
                id.and_then(|id| self.sessions.at(session).by_id(id))
            }
        };
        let Some(at) = at else {
            self.sessions.receipt(delivery, view, session, frame, (0, None));
            return Ok(());
        };
        let session_state = self.sessions.at_mut(session);
        let Subscription { key, state, .. } = session_state.subscriptions[at];
        let sequence = session_state.sequence;
        let receipt = frame.header(b"receipt");
        if state == SubscriptionState::Beginning {
            // Its home may yet refuse it: it can end only when it has begun.
            let receipt = receipt.map(<[u8]>::to_vec);
            let deferred = Deferred::Unsubscribe { key, receipt, sequence };
            session_state.deferred = Some(Box::new(deferred));
        } else {
            let receipt = receipt.map(|receipt| (receipt, sequence));
            self.unsubscribe(delivery, bus, view, session, (key, receipt));
        }
        Ok(())
    }

    /// Ends the subscription with this key, for a frame with this receipt and number.
    fn unsubscribe(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        (key, receipt): (u32, Option<(&[u8], u32)>),
    ) {
        let state = self.sessions.at(session);
        let Some(at) = state.by_key(key) else { return };
        let subscription = state.subscriptions[at];
        let id = self.sessions.id(session);
        let destination = delivery.fanout.text(subscription.destination).clone();
        let homes = &view.shared.homes;
        let (home, command) = match state.user.clone() {
            None if subscription.of_user => {
                self.forget_subscription(&mut delivery.fanout, session, at);
                if let Some(receipt) = receipt {
                    self.sessions.receipt_of(delivery, view, session, receipt, (0, None));
                }
                return;
            }
            Some(user) if subscription.of_user => (
                homes.of_user(&user),
                Command::UnsubscribeUser { user, destination, session: id, key },
            ),
            _ => (
                homes.of_destination(&destination),
                Command::Unsubscribe { destination, session: id, key: Some(key) },
            ),
        };
        self.sessions.at_mut(session).subscriptions[at].state = SubscriptionState::Ending;
        if let Some((receipt, _)) = receipt {
            self.sessions.receipt_of(
                delivery,
                view,
                session,
                (receipt, key | END),
                (1, Some(home)),
            );
        }
        bus.command(home, command);
    }

    /// A home says that a subscription holds from here on. What was sequenced before is encoded
    /// already: it is not for it.
    pub fn on_begun(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        id: SessionId,
        key: u32,
        refused: Option<Full>,
    ) {
        let Some(session) = self.sessions.find(id) else { return };
        let Some(at) = self.sessions.at(session).by_key(key) else { return };
        let of_user = self.sessions.at(session).subscriptions[at].of_user;
        self.beginning -= u32::from(!of_user);
        if let Some(full) = refused {
            return self.on_refused(delivery, view, session, at, full);
        }
        let state = self.sessions.at_mut(session);
        state.subscriptions[at].state = SubscriptionState::Active;
        let subscription = state.subscriptions[at];
        let link = state.link;
        if state.phase != Phase::Live {
            // The session has left meanwhile: its record waited for this to tell the home.
            return;
        }
        if !of_user && self.may_begin(&delivery.fanout, view.ctx, session, &subscription) {
            let Subscription { destination, id, acks, .. } = subscription;
            let state = self.sessions.at_mut(session);
            let encoding = delivery.links.encoding(link);
            let format = FrameFormat { encoding, version: state.version, acks };
            let (group, position) = delivery.fanout.join(destination, id, format, link);
            let entry = &mut state.subscriptions[at];
            (entry.group, entry.position) = (group, position);
        }
        self.sessions.answer_receipt(session, key);
        self.sessions.give_receipts(delivery, view, session);
        self.wake_deferred(delivery, session);
    }

    /// Whether a subscription that has begun is to hear anything: not where a reload took it away
    /// and its session lives on for its receipts alone.
    fn may_begin(
        &mut self,
        fanout: &Fanout,
        ctx: &Context,
        session: SessionIndex,
        subscription: &Subscription,
    ) -> bool {
        if !rules::is_ending(self.sessions.at(session)) {
            return true;
        }
        let name = rules::written(ctx, subscription, fanout.text(subscription.destination));
        self.is_permitted(ctx, session, &name)
    }

    /// Whether the rules allow a session a subscription that it has, written as its client wrote
    /// it.
    pub(super) fn is_permitted(
        &mut self,
        ctx: &Context,
        session: SessionIndex,
        written: &str,
    ) -> bool {
        let user = self.sessions.at(session).user.as_deref();
        let mut budget = Budget::default();
        let verdict = rules::may_have(ctx, user, written, &mut budget);
        self.sessions.steps += budget.spent();
        verdict.is_allowed()
    }

    /// Whatever a deferred frame waited for may be there now.
    fn wake_deferred(&self, delivery: &mut Delivery, session: SessionIndex) {
        let state = self.sessions.at(session);
        if state.deferred.is_some() && state.phase == Phase::Live {
            delivery.links.wake(state.link);
        }
    }

    /// A home has no room for the destination: the session hears so, with the frame's receipt id,
    /// and ends.
    fn on_refused(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        at: usize,
        full: Full,
    ) {
        let is_live = self.sessions.at(session).phase == Phase::Live;
        let Subscription { destination, key, .. } = self.sessions.at(session).subscriptions[at];
        let destination = delivery.fanout.text(destination).clone();
        self.forget_subscription(&mut delivery.fanout, session, at);
        if is_live {
            // Its own receipt is never given, so the refusal must not wait for it.
            let receipt = self.sessions.cut_receipts(session, key);
            let problem = no_room(full);
            let body =
                self.sessions.with_facts(session, problem.body, Some(destination.as_bytes()));
            let problem = Problem { body: &body, ..problem };
            let frame = (receipt.as_deref(), key);
            self.sessions.refuse_numbered(delivery, view, session, problem, frame);
            self.wake_deferred(delivery, session);
        }
    }

    /// A home says that a subscription has ended.
    pub fn on_ended(&mut self, delivery: &mut Delivery, view: View<'_>, id: SessionId, key: u32) {
        let Some(session) = self.sessions.find(id) else { return };
        let Some(at) = self.sessions.at(session).by_key(key) else { return };
        if self.sessions.at(session).phase == Phase::Live {
            self.leave_group(&mut delivery.fanout, session, at);
            self.forget_subscription(&mut delivery.fanout, session, at);
            self.sessions.answer_receipt(session, key | END);
            self.sessions.give_receipts(delivery, view, session);
        } else {
            self.forget_subscription(&mut delivery.fanout, session, at);
        }
    }

    /// Whether messages wait in a batch for the very group that is about to have one member more
    /// or fewer, since this subscription begins or ends.
    pub fn changes_batched_group(&self, delivery: &Delivery, id: SessionId, key: u32) -> bool {
        let Some(session) = self.sessions.find(id) else { return false };
        let session = self.sessions.at(session);
        let Some(at) = session.by_key(key) else { return false };
        let Subscription { destination, id, acks, of_user, group, .. } = session.subscriptions[at];
        // One that is leaving is in no group any more.
        if of_user || session.phase != Phase::Live {
            return false;
        }
        if let Some(group) = group.get() {
            return delivery.fanout.is_batched(group);
        }
        let encoding = delivery.links.encoding(session.link);
        let format = FrameFormat { encoding, version: session.version, acks };
        delivery.fanout.is_batched_for(destination, id, format)
    }

    pub(super) fn leave_group(&mut self, fanout: &mut Fanout, session: SessionIndex, at: usize) {
        let entry = &mut self.sessions.at_mut(session).subscriptions[at];
        let Subscription { group, position, .. } = *entry;
        if group == GroupIndex::NONE {
            return;
        }
        entry.group = GroupIndex::NONE;
        if let Some(moved) = fanout.leave(group, position) {
            let moved = self.sessions.of(moved).expect("a member has a session");
            let entries = &mut self.sessions.at_mut(moved).subscriptions;
            let entry = entries.iter_mut().find(|entry| entry.group == group);
            entry.expect("a member has a subscription in its group").position = position;
        }
    }

    fn forget_subscription(&mut self, fanout: &mut Fanout, session: SessionIndex, at: usize) {
        let Subscription { id, destination, .. } =
            self.sessions.at_mut(session).subscriptions.swap_remove(at);
        self.subscriptions -= 1;
        fanout.names().release(id);
        fanout.names().release(destination);
    }

    // ---- leaving

    /// The link of a session has ended: it hears nothing more from now on, and its homes are told
    /// as room allows. Says how many frames that is worth: a thousand subscriptions are work, too.
    pub fn leave(&mut self, fanout: &mut Fanout, ctx: &Context, link: LinkIndex) -> u32 {
        let Some(session) = self.sessions.of(link) else { return 0 };
        let state = self.sessions.at_mut(session);
        let was_live = state.phase == Phase::Live;
        state.phase = Phase::Leaving;
        state.partial.take();
        state.deferred = None;
        let has_user = state.user.is_some();
        let count = state.subscriptions.len();
        self.sessions.drop_receipts(session);
        if was_live {
            ctx.metrics.sessions.set(ctx.metrics.sessions.value() - 1);
        }
        if has_user {
            self.sessions.unlink_user(session);
        }
        for at in 0..count {
            self.leave_group(fanout, session, at);
        }
        self.sessions.unlink(link);
        self.leaving.push_back(session);
        count as u32
    }

    /// Whether sessions have yet to leave.
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Tells homes of sessions that have ended, as far as there is room, and a part of a turn.
    /// False if that part is over, and there is more.
    pub fn run_leaving(&mut self, fanout: &mut Fanout, bus: &mut Bus, ctx: &Context) -> bool {
        let mut most = ctx.limits.turn_frames.div_ceil(SUBSCRIBING);
        for _ in 0..self.leaving.len() {
            let Some(session) = self.leaving.pop_front() else { break };
            if !self.tell_homes(fanout, bus, ctx, session, &mut most) {
                self.leaving.push_back(session);
            }
            if most == 0 {
                return false;
            }
        }
        true
    }

    /// True when everything is told and the record is gone.
    fn tell_homes(
        &mut self,
        fanout: &mut Fanout,
        bus: &mut Bus,
        ctx: &Context,
        session: SessionIndex,
        most: &mut u32,
    ) -> bool {
        let id = self.sessions.id(session);
        let homes = &ctx.shared.homes;
        let mut at = 0;
        while let Some(&subscription) = self.sessions.at(session).subscriptions.get(at) {
            if !subscription.of_user {
                if subscription.state != SubscriptionState::Active {
                    // Its home has yet to answer.
                    at += 1;
                    continue;
                }
                let destination = fanout.text(subscription.destination).clone();
                let home = homes.of_destination(&destination);
                if *most == 0 || !bus.has_home_room(home) {
                    return false;
                }
                *most -= 1;
                bus.command(home, Command::Unsubscribe { destination, session: id, key: None });
            }
            self.forget_subscription(fanout, session, at);
        }
        let state = self.sessions.at(session);
        if !state.subscriptions.is_empty() {
            return false;
        }
        if state.joined {
            let user = state.user.clone().expect("it joined by its name");
            let home = homes.of_user(&user);
            if !bus.has_home_room(home) {
                return false;
            }
            bus.command(home, Command::Leave { user, session: id });
        }
        self.sessions.remove(session);
        true
    }
}

impl Audience for Stomp {
    fn groups_of(&self, link: LinkIndex) -> impl Iterator<Item = GroupIndex> {
        let session = self.sessions.of_link(link);
        let subscriptions = session.into_iter().flat_map(|session| &session.subscriptions);
        subscriptions.map(|subscription| subscription.group)
    }

    fn may_hear(&self, ctx: &Context, link: LinkIndex, destination: &str) -> bool {
        let session = self.sessions.of_link(link);
        let user = session.and_then(|session| session.user.as_deref());
        rules::may_hear(ctx, user, destination, &mut Budget::default())
    }
}

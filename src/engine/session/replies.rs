#![forbid(unsafe_code)]
//! What a session is sent: receipts in the order of their frames, messages to its user, and why it
//! ends: ERROR, then the end (STOMP 1.2 §ERROR), after the receipts that homes still owe.

use super::problem::{Problem, VERSIONS};
use super::record::{Deferred, Phase, SEQUENCE_MASK, SubscriptionState};
use super::rules;
use super::table::Sessions;
use crate::broker::command::ReplyTo;
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::engine::delivery::{Delivery, Links, MessageId, Pause};
use crate::engine::net::View;
use crate::ids::{LinkIndex, SessionId, SessionIndex, ShardId};
use crate::metrics::Refusal;
use crate::stomp::{self, Decoder, ErrorFrame, Frame};
use crate::ws::Opcode;
use smallvec::SmallVec;

/// Characters of a destination that an ERROR repeats.
const SHOWN_CHARACTERS: usize = 256;

impl Sessions {
    /// Notes the receipt that a frame asks for; it is given when `answers` have come
    /// from their home, and never before those of earlier frames.
    pub(super) fn receipt(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        answers: (u32, Option<ShardId>),
    ) -> ReplyTo {
        let Some(id) = frame.header(b"receipt") else { return ReplyTo::None };
        let sequence = self.at(session).sequence;
        self.receipt_of(delivery, view, session, (id, sequence), answers)
    }

    /// The same for a receipt whose frame is gone.
    pub(super) fn receipt_of(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        (id, sequence): (&[u8], u32),
        (answers, home): (u32, Option<ShardId>),
    ) -> ReplyTo {
        if !delivery.links.is_open(self.at(session).link) {
            // What the frame has done ended the session: nobody waits for its receipt.
            return ReplyTo::None;
        }
        self.push_receipt(session, id, sequence, answers);
        let state = self.at_mut(session);
        let alone = state.receipts.count() == 1;
        if alone || answers > 0 && state.receipts_home != home {
            state.receipts_home = if alone { home } else { None };
        }
        if answers == 0 {
            self.give_receipts(delivery, view, session);
        }
        ReplyTo::Frame(self.id(session), sequence)
    }

    /// A home has sequenced what a frame published.
    pub fn on_sequenced(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        id: SessionId,
        sequence: u32,
    ) {
        if let Some(session) = self.find(id) {
            self.answer_receipt(session, sequence);
            self.give_receipts(delivery, view, session);
        }
    }

    /// Gives the receipts whose turn has come.
    pub(super) fn give_receipts(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
    ) {
        let state = self.at(session);
        let (link, version) = (state.link, state.version);
        if state.phase != Phase::Live || !delivery.links.is_open(link) {
            return;
        }
        while let Some(receipt) = self.pop_receipt(session) {
            let frame = stomp::Receipt { receipt_id: &receipt.id };
            self.reply(delivery, view, link, frame.len(version), |out| frame.write(version, out));
            if !delivery.links.is_open(link) {
                return;
            }
        }
        let state = self.at(session);
        if state.receipts.count() == 0 && state.disconnecting && state.deferred.is_none() {
            delivery.links.drain(view, link, 1000, "");
        } else if delivery.links.pause(link) == Pause::Answer {
            // For fewer receipts, or for none: it looks for itself.
            delivery.links.wake(link);
        }
    }

    /// Sends a frame to one session.
    pub(super) fn reply(
        &self,
        delivery: &mut Delivery,
        view: View<'_>,
        link: LinkIndex,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        delivery.links.send(view, link, |encoder, encoding| {
            encoder.message_of(encoding, Opcode::Text, len, write);
        });
    }

    /// A message for a user's sessions on this shard, or for one of them.
    pub fn deliver_to_user(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        (message, number): (&Message, u64),
        only: Option<SessionId>,
    ) {
        // Until its home has ended it, a subscription hears what came before.
        let hears = |state| state != SubscriptionState::Beginning;
        let mut next = self.first_of(message.user());
        while let Some(session) = next {
            next = self.at(session).same_user.next();
            if only.is_none_or(|only| only == self.id(session)) {
                self.deliver(delivery, view, session, (message, number), hears);
            }
        }
    }

    /// A message for one session, which no home has sequenced.
    pub fn deliver_to_session(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        (message, number): (&Message, u64),
        id: SessionId,
    ) {
        if let Some(session) = self.find(id) {
            self.deliver_at_once(delivery, view, session, message, number);
        }
    }

    /// The same: what the session no longer wants to hear by now it does not hear.
    pub(super) fn deliver_at_once(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        message: &Message,
        number: u64,
    ) {
        let hears = |state| state == SubscriptionState::Active;
        self.deliver(delivery, view, session, (message, number), hears);
    }

    /// The message of a block, for those subscriptions of one session that hear it and are in a
    /// state that `hears` accepts.
    fn deliver(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        (message, number): (&Message, u64),
        hears: fn(SubscriptionState) -> bool,
    ) {
        let Delivery { links, fanout } = delivery;
        let shared = &view.ctx.shared;
        let state = self.at(session);
        if state.phase != Phase::Live {
            return;
        }
        let id = MessageId::new(&shared.boot, number);
        let shown = shared.sheds.then(|| shared.names.shown(message.destination()));
        let shown = shown.as_deref().and_then(|shown| core::str::from_utf8(shown).ok());
        // What is for one person alone is dropped only where a rule names such destinations.
        let prefix = &shared.config.broker.user_prefix;
        let policy = shown.and_then(|shown| shared.slow.named_below(prefix, shown));
        let policy = policy.unwrap_or_default();
        let mut budget = Budget::default();
        for subscription in &state.subscriptions {
            if !links.is_open(state.link) {
                break;
            }
            let asked = (subscription, &**fanout.text(subscription.destination));
            let hears = subscription.of_user
                && hears(subscription.state)
                && rules::hears_own(view, state, asked, message.destination(), &mut budget);
            if !hears {
                continue;
            }
            let name = fanout.text(subscription.id);
            let droppable = shared.droppable(policy, shown.unwrap_or_default(), name);
            let subscribed = (&**name, state.version, subscription.acks);
            links.send_message(view, state.link, (message, number, &id), subscribed, droppable);
            view.metrics.delivered_total.add(1);
        }
        self.steps += budget.spent();
    }

    // ---- refusing

    /// The body of an ERROR with the facts that help to find its cause.
    pub(super) fn with_facts(
        &self,
        session: SessionIndex,
        body: &str,
        destination: Option<&[u8]>,
    ) -> String {
        let mut text = body.to_owned();
        if let Some(destination) = destination.and_then(|name| core::str::from_utf8(name).ok()) {
            // A name that is too long to be one is cut.
            let shown: String = destination.chars().take(SHOWN_CHARACTERS).collect();
            let cut = if shown.len() < destination.len() { "…" } else { "" };
            text.push_str(&format!("\ndestination: {shown}{cut}"));
        }
        if let Some(user) = &self.at(session).user {
            text.push_str(&format!("\nuser: {user}"));
        }
        text.push_str(&format!("\nsession: {}", self.id(session)));
        text
    }

    /// Answers a frame with ERROR when the receipts of the frames before it have been given: some
    /// home may still owe them, and what has taken effect shall be known.
    pub(super) fn refuse_in_turn(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        problem: Problem<'_>,
        receipt: Option<&[u8]>,
    ) {
        let sequence = self.at(session).sequence;
        self.refuse_numbered(delivery, view, session, problem, (receipt, sequence));
    }

    /// The same for the frame with this number, which is not the last one. Of several refused
    /// frames the first is answered.
    pub(super) fn refuse_numbered(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        problem: Problem<'_>,
        (receipt, sequence): (Option<&[u8]>, u32),
    ) {
        let state = self.at_mut(session);
        if let Some(Deferred::Refuse { sequence: other, .. }) = state.deferred.as_deref()
            && !is_before(sequence, *other)
        {
            return;
        }
        if state.receipts.count() == 0 {
            let link = state.link;
            return self.refuse_now(&mut delivery.links, view, (link, session), problem, receipt);
        }
        let receipt = receipt.map(<[u8]>::to_vec);
        let (body, problem) = (problem.body.to_owned(), Problem { body: "", ..problem });
        state.deferred = Some(Box::new(Deferred::Refuse { problem, body, receipt, sequence }));
        // Nothing behind it is read: it would be answered before it.
        delivery.links.pause_for_answer(state.link);
    }

    /// Answers a frame with ERROR and ends the link.
    pub(super) fn refuse_now(
        &self,
        links: &mut Links,
        view: View<'_>,
        (link, session): (LinkIndex, SessionIndex),
        problem: Problem<'_>,
        receipt: Option<&[u8]>,
    ) {
        view.refuse(link, problem.refusal);
        view.metrics.errors_sent_total.add(1);
        let version = self.at(session).version;
        let frame = ErrorFrame {
            message: problem.message,
            receipt_id: receipt,
            version_list: problem.message == VERSIONS,
            body: problem.body,
        };
        links.drain_after(view, link, problem.code, problem.message, |encoder, encoding| {
            let len = frame.len(version);
            encoder.message_of(encoding, Opcode::Text, len, |out| frame.write(version, out));
        });
    }

    /// Answers bytes that are no frame.
    pub(super) fn refuse_bytes(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        bytes: &[u8],
        error: stomp::Error,
    ) {
        let body =
            self.with_facts(session, "The frame could not be read; the connection ends.", None);
        let problem = Problem {
            message: error.text(),
            body: &body,
            code: error.close_code(),
            refusal: error.into(),
        };
        // It has a number of its own: the frame before it may yet be refused by its home.
        let sequence = &mut self.at_mut(session).sequence;
        *sequence = (*sequence + 1) & SEQUENCE_MASK;
        self.refuse_in_turn(delivery, view, session, problem, Decoder::faulty_receipt(bytes));
    }

    /// A session had to wait too long for an answer.
    pub fn on_unanswered(&mut self, links: &mut Links, view: View<'_>, link: LinkIndex) {
        const BODY: &str =
            "The server could not tell in time what became of a frame (limit answer-time).";
        // The frame that has no answer is the first one whose receipt is still owed.
        let Some(session) = self.of(link) else { return };
        let receipt = self.first_receipt(session).map(SmallVec::<[u8; 24]>::from_slice);
        let problem = Problem {
            message: "no answer in time",
            body: &self.with_facts(session, BODY, None),
            code: 1011,
            refusal: Refusal::LimitAnswerTime,
        };
        self.refuse_now(links, view, (link, session), problem, receipt.as_deref());
    }

    /// Nothing came from a client for too long.
    pub fn on_missed(&mut self, links: &mut Links, view: View<'_>, link: LinkIndex) {
        const BODY: &str = "Nothing came from the client for two of its heart-beat intervals.";
        let Some(session) = self.of(link) else { return };
        view.metrics.heartbeat_missed_total.add(1);
        let problem = Problem {
            message: "heart-beat missed",
            body: &self.with_facts(session, BODY, None),
            code: 1002,
            refusal: Refusal::StompHeartBeatMissed,
        };
        self.refuse_now(links, view, (link, session), problem, None);
    }
}

/// Whether the frame with one number came before that with another; numbers wrap.
fn is_before(one: u32, other: u32) -> bool {
    let ahead = other.wrapping_sub(one) & SEQUENCE_MASK;
    ahead > 0 && ahead <= SEQUENCE_MASK / 2
}

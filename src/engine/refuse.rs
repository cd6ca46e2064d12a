#![forbid(unsafe_code)]
//! Why a STOMP frame is refused, and how its sender hears of it: ERROR, then the end (STOMP 1.2
//! §ERROR), after the receipts that homes still owe for the frames before it.

use super::conn::Proto;
use super::events::{Cause, Key, Site};
use super::mailbox::ToControl;
use super::session::Deferred;
use super::shard::Shard;
use super::subscribe::SEQUENCE_MASK;
use crate::broker::core::Class;
use crate::broker::home::Full;
use crate::ids::{SessionIndex, Slot, address_block};
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::stomp::{self, Decoder, ErrorFrame};
use crate::time::Millis;
use crate::ws::Opcode;

/// Why a frame ends its session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem<'a> {
    /// Short text of the `message` header.
    pub message: &'static str,
    /// What to do about it, for the body.
    pub body: &'a str,
    /// Close code.
    pub code: u16,
    /// What it is counted as.
    pub refusal: Refusal,
}

/// Characters of a destination that an ERROR repeats.
const SHOWN_CHARACTERS: usize = 256;

/// Whether a frame was handled, or why its session ends.
pub(super) type Handled = Result<(), Problem<'static>>;

/// Text of the refusal that lists the versions.
pub(super) const VERSIONS: &str = "version not supported";

/// The rules do not let this user do it.
pub(super) const NOT_PERMITTED: Problem<'static> = Problem {
    message: "not permitted",
    body: "The rules ([[allow]]) do not let this user use this destination.",
    code: 1008,
    refusal: Refusal::BrokerNotPermitted,
};

pub(super) const UNKNOWN_DESTINATION: Problem<'static> = Problem {
    message: "unknown destination",
    body: "The destination begins with none of the configured prefixes.",
    code: 1002,
    refusal: Refusal::BrokerUnknownDestination,
};

/// A SEND to an application destination that no rule takes.
pub(super) const NO_APPLICATION: Problem<'static> = Problem {
    message: "unknown destination",
    body: "The destination begins with an application prefix, and no [[application]] has it.",
    code: 1002,
    refusal: Refusal::BrokerNoApplication,
};

/// A SUBSCRIBE that asks for acknowledgements in no known way.
pub(super) const ACK_MODE: Problem<'static> = Problem {
    message: "unknown ack mode",
    body: "The ack header of SUBSCRIBE is auto, client or client-individual.",
    code: 1002,
    refusal: Refusal::StompAckMode,
};

/// A SUBSCRIBE whose number, after 2^31 frames, is that of a subscription which still lives.
pub(super) const NUMBER_TAKEN: Problem<'static> = Problem {
    message: "too many frames",
    body: "The frames of this session have no numbers left: connect again.",
    code: 1008,
    refusal: Refusal::LimitFrameNumbers,
};

/// What a body with a NUL is refused with.
pub(super) const NUL_IN_BODY: Problem<'static> = Problem {
    message: "NUL in the body",
    body: "Old clients end a frame at a NUL in its body: broker.nul-in-body refuses it.",
    code: 1008,
    refusal: Refusal::BrokerNulInBody,
};

pub(super) const NO_TRANSACTIONS: Problem<'static> = Problem {
    message: "transactions are not supported yet",
    body: "Send the frame without a transaction.",
    code: 1002,
    refusal: Refusal::StompTransactions,
};

/// Why a home has no room for a destination or pattern.
pub(super) fn no_room(full: Full) -> Problem<'static> {
    let (message, body) = match full {
        Full::Table => (
            "too many destinations",
            "The server has as many destinations as it may (limit destinations).",
        ),
        Full::Alike => (
            "too many patterns alike",
            "The server has as many patterns that begin like this one as it may \
             (limit patterns-alike).",
        ),
        Full::Share => (
            "too many destinations of one address",
            "This address has its share of the destinations, a quarter of what others leave free \
             (limits destinations, share-least).",
        ),
        Full::ShareAlike => (
            "too many patterns alike of one address",
            "This address has its share of the patterns that begin like this one, a quarter of \
             what others leave free (limits patterns-alike, share-least).",
        ),
    };
    Problem { message, body, code: 1008, refusal: full.into() }
}

/// When events are offered again that found no room with the control thread.
const EVENTS_AGAIN: Millis = Millis(100);

impl<R: Ring> Shard<R> {
    /// Counts a refusal and tells the log of it. `slot` is that of the connection which caused it.
    pub(super) fn refuse(&self, slot: Slot, refusal: impl Into<Refusal>) {
        self.refuse_at(slot, self.site_of(slot), refusal, None);
    }

    /// The same at `site`, with what there is to say of it.
    pub(super) fn refuse_at(
        &self,
        slot: Slot,
        site: Site,
        refusal: impl Into<Refusal>,
        text: Option<&str>,
    ) {
        let refusal = refusal.into();
        self.metrics.refuse(refusal);
        let block = Some(address_block(self.conns.at(slot).address));
        self.add_event(Key { cause: Cause::Refused(refusal), site, block }, text);
    }

    /// The same for what no connection of this shard has caused.
    pub(super) fn refuse_for_nobody(&self, refusal: Refusal) {
        self.metrics.refuse(refusal);
        self.add_event(Key { cause: Cause::Refused(refusal), site: Site::None, block: None }, None);
    }

    /// Tells the log of what a connection has caused, and which is counted elsewhere.
    pub(super) fn note(&self, cause: Cause, slot: Slot) {
        let block = Some(address_block(self.conns.at(slot).address));
        self.add_event(Key { cause, site: self.site_of(slot), block }, None);
    }

    fn add_event(&self, key: Key, text: Option<&str>) {
        if !self.events.add(self.now, key, text) {
            self.metrics.log_events_merged_total.add(1);
        }
    }

    /// The endpoint of a WebSocket.
    fn site_of(&self, slot: Slot) -> Site {
        match &self.conns.at(slot).proto {
            Proto::Raw(raw) => Site::Endpoint(raw.endpoint),
            Proto::Stomp(stomp) => {
                let session = stomp.session.get().map(|session| self.sessions.at(session));
                session.map_or(Site::None, |session| Site::Endpoint(session.endpoint))
            }
            _ => Site::None,
        }
    }

    /// Hands the control thread what is due for the log.
    pub(super) fn tell_log(&mut self) {
        // What nobody can add to is told at once: the control thread ends after the shards.
        let is_last = self.draining.is_some() && self.conns.is_empty();
        if self.now < self.events.due() && !is_last {
            return;
        }
        let control = self.control();
        while self.mailbox.room(control, Class::Outside) > 0 {
            let Some(event) = self.events.take(self.now, is_last) else { return };
            self.mailbox.send(control, ToControl::Log(event));
        }
        self.events.put_off(self.now + EVENTS_AGAIN);
    }

    /// Answers a frame with ERROR when the receipts of the frames before it have been given: some
    /// home may still owe them, and what has taken effect shall be known.
    pub(super) fn refuse_in_turn(
        &mut self,
        slot: Slot,
        session: SessionIndex,
        problem: Problem<'_>,
        receipt: Option<&[u8]>,
    ) {
        let sequence = self.sessions.at(session).sequence;
        self.refuse_frame_in_turn(slot, session, problem, receipt, sequence);
    }

    /// The same for the frame with this number, which is not the last one. Of several refused
    /// frames the first is answered.
    pub(super) fn refuse_frame_in_turn(
        &mut self,
        slot: Slot,
        session: SessionIndex,
        problem: Problem<'_>,
        receipt: Option<&[u8]>,
        sequence: u32,
    ) {
        let state = self.sessions.at_mut(session);
        if let Some(Deferred::Refuse { sequence: other, .. }) = state.deferred.as_deref()
            && !is_before(sequence, *other)
        {
            return;
        }
        if state.receipts.count() == 0 {
            return self.refuse_frame(slot, session, problem, receipt);
        }
        let receipt = receipt.map(<[u8]>::to_vec);
        let (body, problem) = (problem.body.to_owned(), Problem { body: "", ..problem });
        state.deferred = Some(Box::new(Deferred::Refuse { problem, body, receipt, sequence }));
        // Nothing behind it is read: it would be answered before it.
        self.pause_for_answer(slot);
    }

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
        if let Some(user) = &self.sessions.at(session).user {
            text.push_str(&format!("\nuser: {user}"));
        }
        text.push_str(&format!("\nsession: {}", self.sessions.id(session)));
        text
    }

    /// Answers a frame with ERROR and ends the connection.
    pub(super) fn refuse_frame(
        &mut self,
        slot: Slot,
        session: SessionIndex,
        problem: Problem<'_>,
        receipt: Option<&[u8]>,
    ) {
        self.refuse(slot, problem.refusal);
        self.metrics.errors_sent_total.add(1);
        let version = self.sessions.at(session).version;
        let frame = ErrorFrame {
            message: problem.message,
            receipt_id: receipt,
            version_list: problem.message == VERSIONS,
            body: problem.body,
        };
        let encoding = self.encoding_of(slot);
        // The compressor is the shard's own: to make one for each refusal would cost 0.3 MB.
        let mut encoder = core::mem::take(&mut self.encoder);
        encoder.clear();
        let len = frame.len(version);
        encoder.message_of(encoding, Opcode::Text, len, |out| frame.write(version, out));
        self.drain(slot, encoder.bytes(), problem.code, problem.message);
        self.encoder = encoder;
    }

    /// Answers bytes that are no frame.
    pub(super) fn refuse_bytes(
        &mut self,
        slot: Slot,
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
        let sequence = &mut self.sessions.at_mut(session).sequence;
        *sequence = (*sequence + 1) & SEQUENCE_MASK;
        self.refuse_in_turn(slot, session, problem, Decoder::faulty_receipt(bytes));
    }
}

/// Whether the frame with one number came before that with another; numbers wrap.
fn is_before(one: u32, other: u32) -> bool {
    let ahead = other.wrapping_sub(one) & SEQUENCE_MASK;
    ahead > 0 && ahead <= SEQUENCE_MASK / 2
}

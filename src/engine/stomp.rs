#![forbid(unsafe_code)]
//! STOMP sessions: frames in, publishes and subscription changes out.
//!
//! A frame is only decoded when there is room for everything that it could produce; else the
//! connection is paused. Receipts are given in frame order, when the home has answered.

use super::conn::{Pause, Proto, State};
use super::refuse::{
    Handled, NO_APPLICATION, NO_TRANSACTIONS, NUL_IN_BODY, Problem, UNKNOWN_DESTINATION, VERSIONS,
};
use super::revoke::permit;
use super::session::{Phase, SubscriptionState};
use super::shard::Shard;
use super::subscribe::SEQUENCE_MASK;
use crate::broker::command::{self, ReplyTo};
use crate::broker::core::Class;
use crate::broker::destination::{Target, decode_user};
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::broker::subscription::FrameFormat;
use crate::config::UnknownDestination;
use crate::identity::{self, Identity};
use crate::ids::{SessionIndex, ShardId, Slot};
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::sockjs;
use crate::stomp::{self, Command, Decoder, Frame, Header, Step, Version};
use crate::ws::Opcode;
use std::sync::Arc;

/// Headers of one frame that are ever looked at (limit `stomp-headers` is not above it).
const HEADERS: usize = 128;

/// What this server calls itself in CONNECTED.
const SERVER: &[u8] = concat!("ringpush/", env!("CARGO_PKG_VERSION")).as_bytes();

impl<R: Ring> Shard<R> {
    /// A chunk of a message on a STOMP connection.
    pub(super) fn stomp_chunk(&mut self, slot: Slot, _: Opcode, payload: &mut [u8], last: bool) {
        let Proto::Stomp(state) = &mut self.conns.at_mut(slot).proto else { return };
        if !state.encoding.is_quoted() {
            let session = state.session;
            return self.feed(slot, session, payload);
        }
        // SockJS: the message is a JSON array, whole before it can be read.
        if !last {
            return state.message.extend(payload);
        }
        let mut whole = state.message.take();
        let text: &mut [u8] = match &mut whole {
            Some(whole) => {
                whole.extend(payload);
                whole
            }
            None => payload,
        };
        self.sockjs_message(slot, text);
    }

    fn sockjs_message(&mut self, slot: Slot, text: &mut [u8]) {
        let mut messages = core::mem::take(&mut self.sockjs_messages);
        // A binary message; SockJS has only text.
        let text = core::str::from_utf8(text).map_err(|_| sockjs::Error::BrokenJson);
        match text.and_then(|text| sockjs::decode(text, &mut messages)) {
            Ok(()) => {
                for message in messages.iter() {
                    let Proto::Stomp(state) = &self.conns.at(slot).proto else { break };
                    if self.conns.at(slot).state != State::Open {
                        break;
                    }
                    let session = state.session;
                    let mut bytes = core::mem::take(&mut self.scratch);
                    bytes.clear();
                    bytes.extend_from_slice(message.as_bytes());
                    self.feed(slot, session, &mut bytes);
                    self.scratch = bytes;
                }
            }
            Err(error) => self.refuse_sockjs(slot, error),
        }
        self.sockjs_messages = messages;
    }

    /// Bytes of the stream of frames.
    fn feed(&mut self, slot: Slot, session: SessionIndex, bytes: &mut [u8]) {
        let partial = &mut self.sessions.at_mut(session).partial;
        let paused = self.conns.at(slot).pause != Pause::No;
        match partial.take() {
            None if paused => partial.keep(bytes, Decoder::new()),
            None => {
                let mut decoder = Decoder::new();
                let used = self.run_frames(slot, session, bytes, &mut decoder);
                if self.conns.at(slot).state == State::Open {
                    self.sessions.at_mut(session).partial.keep(&bytes[used..], decoder);
                }
            }
            Some(mut kept) => {
                let (rest, decoder) = &mut *kept;
                rest.extend_from_slice(bytes);
                let used = if paused { 0 } else { self.run_frames(slot, session, rest, decoder) };
                if self.conns.at(slot).state == State::Open {
                    self.sessions.at_mut(session).partial.put_back(kept, used);
                }
            }
        }
    }

    /// Goes on with frames that were kept while the connection was paused.
    pub(super) fn continue_session(&mut self, slot: Slot) {
        let Proto::Stomp(state) = &self.conns.at(slot).proto else { return };
        let session = state.session;
        if self.conns.at(slot).state != State::Open {
            return;
        }
        self.run_deferred(slot, session);
        if self.conns.at(slot).state == State::Open && self.conns.at(slot).pause == Pause::No {
            self.feed(slot, session, &mut []);
        }
    }

    /// Whether every class and pool has room for what any one frame or request step may produce.
    pub(super) fn has_room_for_frame(&mut self) -> bool {
        let most = self.shared.entries_of_a_frame;
        self.mailbox.room_everywhere(Class::Home) >= most && self.blocks.has_room_for(most)
    }

    /// Decodes and handles frames until the input ends or the connection is paused. Says how many
    /// bytes it used.
    fn run_frames(
        &mut self,
        slot: Slot,
        session: SessionIndex,
        bytes: &mut [u8],
        decoder: &mut Decoder,
    ) -> usize {
        let mut headers = [Header::default(); HEADERS];
        let headers_max = (self.limits.stomp_headers as usize).min(HEADERS);
        let mut used = 0;
        while used < bytes.len() {
            let state = self.sessions.at(session);
            if state.receipts.count() >= self.limits.receipts {
                self.pause_for_answer(slot);
                return used;
            }
            if state.disconnecting {
                // STOMP 1.2 §DISCONNECT: what comes after it is ignored.
                return bytes.len();
            }
            if self.pause_for_outbox(slot) || self.had_its_turn(slot) {
                return used;
            }
            if !self.has_room_for_frame() {
                self.pause_for_room(slot);
                return used;
            }
            let state = self.sessions.at(session);
            let live = state.phase == Phase::Live;
            let (version, frame_max) = if live {
                (Some(state.version), self.limits.stomp_frame)
            } else {
                (None, self.limits.stomp_first_frame.min(self.limits.stomp_frame))
            };
            let rest = &mut bytes[used..];
            let step = decoder.next(rest, &mut headers[..headers_max], version, frame_max);
            match step {
                Ok(Step::NeedMore) => return used,
                Ok(Step::Eol { consumed }) => used += consumed,
                Ok(Step::Frame { consumed, frame }) => {
                    self.metrics.frames_received_total.add(1);
                    let work = match frame.command() {
                        Command::Subscribe | Command::Unsubscribe => super::subscribe::SUBSCRIBING,
                        _ => 1,
                    };
                    self.frames_left = self.frames_left.saturating_sub(work);
                    let sequence = &mut self.sessions.at_mut(session).sequence;
                    *sequence = (*sequence + 1) & SEQUENCE_MASK;
                    self.on_frame(slot, session, &frame);
                    used += consumed;
                }
                Err(error) => {
                    self.refuse_bytes(slot, session, &bytes[used..], error);
                    return used;
                }
            }
            if self.conns.at(slot).state != State::Open {
                return used;
            }
            *decoder = Decoder::new();
            if self.sessions.at(session).deferred.is_some() {
                self.pause_for_answer(slot);
                return used;
            }
        }
        used
    }

    fn on_frame(&mut self, slot: Slot, session: SessionIndex, frame: &Frame<'_, '_>) {
        self.steps = 0;
        self.handle_frame(slot, session, frame);
        // What its names and patterns make dear is its sender's time.
        self.frames_left = self.frames_left.saturating_sub(self.steps / PATTERN_STEPS_A_FRAME);
    }

    fn handle_frame(&mut self, slot: Slot, session: SessionIndex, frame: &Frame<'_, '_>) {
        let connecting = self.sessions.at(session).phase == Phase::Connecting;
        let receipt_len = frame.header(b"receipt").map_or(0, <[u8]>::len);
        let handled = match (connecting, frame.command()) {
            _ if receipt_len > self.limits.name_bytes as usize => {
                Err(super::subscribe::NAME_TOO_LONG)
            }
            (true, Command::Connect | Command::Stomp) => self.on_connect(slot, session, frame),
            (true, _) => Err(Problem {
                message: "not connected",
                body: "The first frame of a session is CONNECT or STOMP.",
                code: 1002,
                refusal: Refusal::StompNotConnected,
            }),
            (false, Command::Connect | Command::Stomp) => Err(Problem {
                message: "connected already",
                body: "A session has one CONNECT.",
                code: 1002,
                refusal: Refusal::StompConnectedTwice,
            }),
            (false, Command::Send) => self.on_send(session, frame),
            (false, Command::Subscribe) => self.on_subscribe(session, frame),
            (false, Command::Unsubscribe) => self.on_unsubscribe(session, frame),
            (false, Command::Disconnect) => {
                self.sessions.at_mut(session).disconnecting = true;
                self.receipt(session, frame, 0, None);
                self.give_receipts(session);
                Ok(())
            }
            (false, Command::Ack | Command::Nack) => self.on_ack(session, frame),
            (false, Command::Begin | Command::Commit | Command::Abort) => Err(NO_TRANSACTIONS),
        };
        if let Err(problem) = handled {
            let body = self.with_facts(session, problem.body, frame.header(b"destination"));
            let problem = Problem { body: &body, ..problem };
            self.refuse_in_turn(slot, session, problem, frame.header(b"receipt"));
        }
    }

    /// Nothing is redelivered yet, so a settled message is settled. It is named by `id` in STOMP
    /// 1.2 and by `message-id` before; stompjs 2 says `message-id` whatever the version.
    fn on_ack(&mut self, session: SessionIndex, frame: &Frame<'_, '_>) -> Handled {
        required(frame, b"id").or_else(|_| required(frame, b"message-id"))?;
        self.receipt(session, frame, 0, None);
        Ok(())
    }

    fn on_connect(&mut self, slot: Slot, session: SessionIndex, frame: &Frame<'_, '_>) -> Handled {
        let Some(version) = stomp::negotiate(frame.header(b"accept-version")) else {
            return Err(Problem {
                message: VERSIONS,
                body: "Supported protocol versions are 1.0, 1.1 and 1.2.",
                code: 1002,
                refusal: Refusal::StompVersion,
            });
        };
        let client = match frame.header(b"heart-beat").map(stomp::heartbeat::parse) {
            _ if version == Version::V1_0 => (0, 0),
            None => (0, 0),
            Some(Ok(pair)) => pair,
            Some(Err(error)) => {
                let body = "heart-beat is two non-negative numbers of milliseconds: 10000,10000.";
                return Err(Problem {
                    message: error.text(),
                    body,
                    code: 1002,
                    refusal: error.into(),
                });
            }
        };
        if self.sessions.at(session).user.is_none() {
            self.identify_by_connect(session, frame)?;
        }
        let offered = self.shared.config.broker.heartbeat;
        let offered = (offered[0].0, offered[1].0);
        let state = self.sessions.at_mut(session);
        state.phase = Phase::Live;
        state.version = version;
        state.beat = stomp::heartbeat::negotiate(client, offered);
        let user = state.user.clone();
        let id = self.sessions.id(session);
        self.metrics.sessions.set(self.metrics.sessions.value() + 1);
        // Before the answer: where that finds no room the session ends, and leaves again.
        if let Some(user) = user.clone() {
            let home = self.shared.homes.of_user(&user);
            self.sessions.at_mut(session).joined = true;
            self.command(home, command::Command::Join { user, session: id });
        }
        let name = id.to_string();
        let connected = stomp::Connected {
            version,
            heart_beat: offered,
            session: name.as_bytes(),
            server: SERVER,
            user_name: user.as_deref().map(str::as_bytes),
        };
        self.reply(slot, connected.len(), |out| connected.write(out));
        self.set_timer(slot);
        Ok(())
    }

    /// CONNECT may carry the token that the handshake had no place for.
    fn identify_by_connect(&mut self, session: SessionIndex, frame: &Frame<'_, '_>) -> Handled {
        let now = self.ring.wall_millis() / 1000;
        let auth = &self.shared.config.auth;
        let (passcode, header) = (frame.header(b"passcode"), frame.header(b"Authorization"));
        match identity::user_of_connect(auth, passcode, header, now) {
            Identity::User(name) => self.sessions.link_user(session, Arc::from(name)),
            Identity::Anonymous | Identity::Deferred => {}
            Identity::Refused(refusal) => {
                return Err(Problem {
                    message: refusal.word(),
                    body: "The session is not authenticated.",
                    code: refusal.close_code(),
                    refusal: refusal.into(),
                });
            }
        }
        Ok(())
    }

    fn on_send(&mut self, session: SessionIndex, frame: &Frame<'_, '_>) -> Handled {
        let destination = required(frame, b"destination")?;
        if frame.header(b"transaction").is_some() {
            return Err(NO_TRANSACTIONS);
        }
        let shared = self.shared.clone();
        let user = self.sessions.at(session).user.clone();
        if destination.len() > self.limits.name_bytes as usize {
            return Err(super::subscribe::NAME_TOO_LONG);
        }
        let target = shared.names.target(destination);
        if target == Target::Unknown {
            return self.unknown_destination(session, frame, UNKNOWN_DESTINATION);
        }
        let mut budget = Budget::default();
        let (names, user_name) = (&shared.names, user.as_deref());
        let verdict = shared.rules.may_send(names, destination, user_name, &mut budget);
        self.steps += budget.spent();
        permit(verdict)?;
        if shared.refuses_body(frame.header(b"content-type"), frame.body()) {
            return Err(NUL_IN_BODY);
        }
        match target {
            Target::Broker => {
                let message =
                    self.blocks.make(|m| fill(m, None, destination, destination.as_bytes(), frame));
                let message = message.expect("there is room for a frame");
                let home = shared.homes.of_destination(destination);
                let reply_to = self.receipt(session, frame, 1, Some(home));
                self.command(home, command::Command::Publish { message, reply_to });
            }
            Target::User { user: whose, destination } => {
                let whose = decode_user(whose);
                let shown = shared.names.shown(destination);
                let own = user.as_deref() == Some(&*whose);
                let fill = |m: &mut Message| fill(m, Some(&whose), destination, &shown, frame);
                let message = self.blocks.make(fill).expect("there is room for a frame");
                if own {
                    // Spring's rule: what a user sends to himself comes back to that session only.
                    let number = self.core.next_number();
                    self.deliver_at_once(session, &message, number);
                    self.receipt(session, frame, 0, None);
                } else {
                    let home = shared.homes.of_user(&whose);
                    let reply_to = self.receipt(session, frame, 1, Some(home));
                    self.command(
                        home,
                        command::Command::PublishUser { message, only: None, reply_to },
                    );
                }
            }
            Target::Application(rest) => match self.application_of(rest) {
                Some(application) => self.ask_application(session, frame, application, rest),
                None => return self.unknown_destination(session, frame, NO_APPLICATION),
            },
            Target::Unknown => {}
        }
        Ok(())
    }

    fn application_of(&mut self, rest: &str) -> Option<usize> {
        let mut budget = Budget::default();
        let found = self.shared.applications.find(rest, &mut budget);
        self.steps += budget.spent();
        found
    }

    /// A frame to nobody: an ERROR, or Spring's silence.
    pub(super) fn unknown_destination(
        &mut self,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        problem: Problem<'static>,
    ) -> Handled {
        match self.shared.config.broker.unknown_destination {
            UnknownDestination::Error => Err(problem),
            UnknownDestination::Ignore => {
                self.receipt(session, frame, 0, None);
                Ok(())
            }
        }
    }

    /// Notes the receipt that a frame asks for; it is given when `answers` have come from `home`,
    /// and never before those of earlier frames.
    pub(super) fn receipt(
        &mut self,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        answers: u32,
        home: Option<ShardId>,
    ) -> ReplyTo {
        let Some(id) = frame.header(b"receipt") else { return ReplyTo::None };
        self.receipt_of(session, id, self.sessions.at(session).sequence, answers, home)
    }

    /// The same for a receipt whose frame is gone.
    pub(super) fn receipt_of(
        &mut self,
        session: SessionIndex,
        id: &[u8],
        sequence: u32,
        answers: u32,
        home: Option<ShardId>,
    ) -> ReplyTo {
        if self.sessions.at(session).phase != Phase::Live {
            // What the frame has done ended the session: nobody waits for its receipt.
            return ReplyTo::None;
        }
        self.sessions.push_receipt(session, id, sequence, answers);
        let state = self.sessions.at_mut(session);
        let alone = state.receipts.count() == 1;
        if alone || answers > 0 && state.receipts_home != home {
            state.receipts_home = if alone { home } else { None };
        }
        if answers == 0 {
            self.give_receipts(session);
        }
        ReplyTo::Frame(self.sessions.id(session), sequence)
    }

    /// Gives the receipts whose turn has come.
    pub(super) fn give_receipts(&mut self, session: SessionIndex) {
        let slot = self.sessions.at(session).slot;
        if self.sessions.at(session).phase != Phase::Live {
            return;
        }
        while let Some(receipt) = self.sessions.pop_receipt(session) {
            let frame = stomp::Receipt { receipt_id: &receipt.id };
            let version = self.sessions.at(session).version;
            self.reply(slot, frame.len(version), |out| frame.write(version, out));
            if self.sessions.at(session).phase != Phase::Live {
                return;
            }
        }
        let state = self.sessions.at(session);
        if state.receipts.count() == 0 && state.disconnecting && state.deferred.is_none() {
            self.drain(slot, &[], 1000, "");
        } else if self.conns.at(slot).pause == Pause::Answer {
            // For fewer receipts, or for none: it looks for itself.
            let id = self.conns.id(slot);
            self.answered.push_back(id);
        }
    }

    /// Sends a frame to one session.
    pub(super) fn reply(&mut self, slot: Slot, len: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let encoding = self.encoding_of(slot);
        let mut encoder = core::mem::take(&mut self.encoder);
        encoder.clear();
        encoder.message_of(encoding, Opcode::Text, len, write);
        self.send_private(slot, encoder.bytes());
        self.encoder = encoder;
    }

    /// A message that no home has sequenced, for one session: what it no longer wants to hear by
    /// now it does not hear.
    pub(super) fn deliver_at_once(
        &mut self,
        session: SessionIndex,
        message: &Message,
        number: u64,
    ) {
        let hears = |state| state == SubscriptionState::Active;
        self.deliver_to_session(session, (message, number), hears);
    }

    /// The message of a block, for those subscriptions of one session that hear it and are in a
    /// state that `hears` accepts.
    pub(super) fn deliver_to_session(
        &mut self,
        session: SessionIndex,
        (message, number): (&Message, u64),
        hears: fn(SubscriptionState) -> bool,
    ) {
        let shared = self.shared.clone();
        let id = super::encode::MessageId::new(&shared.boot, number);
        let shown = shared.sheds.then(|| shared.names.shown(message.destination()));
        let shown = shown.as_deref().and_then(|shown| core::str::from_utf8(shown).ok());
        // What is for one person alone is dropped only where a rule names such destinations.
        let prefix = &shared.config.broker.user_prefix;
        let policy = shown.and_then(|shown| shared.slow.named_below(prefix, shown));
        let policy = policy.unwrap_or_default();
        let mut budget = Budget::default();
        for at in 0..self.sessions.at(session).subscriptions.len() {
            let state = self.sessions.at(session);
            if state.phase != Phase::Live {
                break;
            }
            let subscription = state.subscriptions[at];
            let hears = subscription.of_user
                && hears(subscription.state)
                && self.hears_own(session, &subscription, message.destination(), &mut budget);
            if !hears {
                continue;
            }
            let slot = state.slot;
            let format = FrameFormat {
                encoding: self.encoding_of(slot),
                version: state.version,
                acks: subscription.acks,
            };
            let name = self.index.text(subscription.id).clone();
            let mut encoder = core::mem::take(&mut self.encoder);
            encoder.clear();
            encoder.message_for(format, message, (number, &id), &name);
            let droppable = shared.droppable(policy, shown.unwrap_or_default(), &name);
            self.send_droppable(slot, encoder.bytes(), droppable);
            self.encoder = encoder;
            self.metrics.delivered_total.add(1);
        }
        self.steps += budget.spent();
    }
}

/// A header that its command cannot be without.
pub(super) fn required<'a>(
    frame: &Frame<'a, '_>,
    name: &[u8],
) -> Result<&'a str, Problem<'static>> {
    let value = frame.header(name).and_then(|value| core::str::from_utf8(value).ok());
    value.filter(|value| !value.is_empty()).ok_or(Problem {
        message: "missing header",
        body: "SEND needs destination, SUBSCRIBE destination and id, UNSUBSCRIBE id; ACK and NACK \
               need id (before STOMP 1.2: message-id).",
        code: 1002,
        refusal: Refusal::StompMissingHeader,
    })
}

/// Copies a frame into a message block: the sender's headers in their order, but for those that are
/// kept back, then the destination as its receivers know it.
fn fill(
    message: &mut Message,
    user: Option<&str>,
    destination: &str,
    shown: &[u8],
    frame: &Frame<'_, '_>,
) {
    message.begin(user, destination);
    for (name, value) in frame.headers().filter(|(name, _)| stomp::is_forwarded(name)) {
        message.header(name, value);
    }
    message.header(b"destination", shown);
    message.finish(frame.body());
}

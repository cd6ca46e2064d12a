#![forbid(unsafe_code)]
//! STOMP sessions: frames in, publishes and subscription changes out.
//!
//! A frame is only decoded when there is room for everything that it could produce; else the link
//! is paused. Receipts are given in frame order, when the home has answered (`replies`).

use super::application;
use super::problem::{
    Handled, NAME_TOO_LONG, NO_APPLICATION, NO_TRANSACTIONS, NUL_IN_BODY, Problem,
    UNKNOWN_DESTINATION, VERSIONS, permit,
};
use super::record::{Phase, SEQUENCE_MASK, Session};
use super::table::Sessions;
use crate::broker::command;
use crate::broker::destination::{Target, decode_user};
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::config::UnknownDestination;
use crate::engine::bus::Bus;
use crate::engine::context::Context;
use crate::engine::delivery::{Delivery, Report};
use crate::engine::net::View;
use crate::engine::share::Share;
use crate::identity::{self, Identity};
use crate::ids::{LinkIndex, SessionIndex, ShardId};
use crate::limits::PATTERN_STEPS_A_FRAME;
use crate::mem::secret::HashKey;
use crate::metrics::Refusal;
use crate::stomp::heartbeat::Agreed;
use crate::stomp::{self, Command, Decoder, Frame, Header, Step, Version};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Headers of one frame that are ever looked at (limit `stomp-headers` is not above it).
const HEADERS: usize = 128;
/// Most frames have fewer: there is room for these at once, and for all when some frame has more.
const FEW_HEADERS: usize = 16;

/// What this server calls itself in CONNECTED.
const SERVER: &[u8] = concat!("ringpush/", env!("CARGO_PKG_VERSION")).as_bytes();

/// This many other frames are as much work as a SUBSCRIBE or an UNSUBSCRIBE of a name that nobody
/// else has: measured, with its entries to its home and back, at 4 microseconds.
pub(super) const SUBSCRIBING: u32 = 16;

/// The STOMP sessions of a shard.
#[derive(Debug)]
pub struct Stomp {
    pub(super) sessions: Sessions,
    /// Sessions whose end is not known everywhere.
    pub(super) leaving: VecDeque<SessionIndex>,
    /// Subscriptions of all sessions.
    pub(super) subscriptions: u32,
    /// Those of them to broker destinations that their home has not answered yet.
    pub(super) beginning: u32,
}

impl Stomp {
    /// None yet; with the hash key of the table of users.
    pub fn new(shard: ShardId, key: HashKey, slots: u32) -> Stomp {
        Stomp {
            sessions: Sessions::new(shard, key, slots),
            leaving: VecDeque::new(),
            subscriptions: 0,
            beginning: 0,
        }
    }

    /// A connection has been upgraded for STOMP. From here on a kick of its user ends it, whether
    /// or not CONNECT has come.
    pub fn open(&mut self, link: LinkIndex, user: Option<Arc<str>>) {
        let session = self.sessions.insert(Session::new(link));
        if let Some(user) = user {
            self.sessions.link_user(session, user);
        }
    }

    /// Whether no record of a session is left.
    pub fn is_empty(&self) -> bool {
        self.sessions.len() == 0
    }

    /// Whether a link's session is anonymous and has not subscribed to anything.
    pub fn is_stranger(&self, link: LinkIndex) -> bool {
        let session = self.sessions.of_link(link);
        session.is_some_and(|s| s.user.is_none() && s.subscriptions.is_empty())
    }

    /// Where a link's session is in its life, and the heart-beats that were agreed.
    pub fn phase_and_beat(&self, link: LinkIndex) -> Option<(Phase, Agreed)> {
        let session = self.sessions.of_link(link)?;
        Some((session.phase, session.beat))
    }

    /// Bytes that a link's session keeps.
    pub fn held(&self, link: LinkIndex) -> usize {
        self.sessions.of_link(link).map_or(0, |session| session.partial.len())
    }

    /// All sessions, those that are leaving among them.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionIndex, &Session)> {
        self.sessions.indexed()
    }

    /// Count of sessions whose homes have yet to be told of their end.
    pub fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// Subscriptions, and those of them to broker destinations that begin, as counted.
    pub fn counted(&self) -> (usize, usize) {
        (self.subscriptions as usize, self.beginning as usize)
    }

    /// Asserts what holds between sessions and lists. Slow.
    pub fn invariants(&self) {
        self.sessions.invariants();
        let leaving: BTreeSet<SessionIndex> = self.leaving.iter().copied().collect();
        assert_eq!(leaving.len(), self.leaving.len(), "a session leaves once");
        let known = self.sessions.indexed().filter(|(_, session)| session.is_leaving());
        let known: BTreeSet<SessionIndex> = known.map(|(index, _)| index).collect();
        assert_eq!(leaving, known, "the homes of those who leave are being told");
    }

    /// The records of sessions, to send them something.
    pub fn sessions_mut(&mut self) -> &mut Sessions {
        &mut self.sessions
    }

    /// Steps that patterns have taken since the last call.
    pub fn take_steps(&mut self) -> u32 {
        let steps = self.sessions.steps;
        self.sessions.steps = 0;
        steps
    }

    // ---- frames

    /// Bytes of the stream of frames.
    pub fn feed(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        share: &mut Share,
        link: LinkIndex,
        bytes: &mut [u8],
    ) {
        let Some(session) = self.sessions.of(link) else { return };
        let is_paused = !delivery.links.is_read(link);
        let partial = &mut self.sessions.at_mut(session).partial;
        match partial.take() {
            None if is_paused => partial.keep(bytes, Decoder::new()),
            None => {
                let mut decoder = Decoder::new();
                let used =
                    self.run_frames(delivery, bus, view, share, session, (bytes, &mut decoder));
                if delivery.links.is_open(link) {
                    self.sessions.at_mut(session).partial.keep(&bytes[used..], decoder);
                }
            }
            Some(mut kept) => {
                let (rest, decoder) = &mut *kept;
                rest.extend_from_slice(bytes);
                let used = match is_paused {
                    true => 0,
                    false => self.run_frames(delivery, bus, view, share, session, (rest, decoder)),
                };
                if delivery.links.is_open(link) {
                    self.sessions.at_mut(session).partial.put_back(kept, used);
                }
            }
        }
    }

    /// Goes on with what waited while the link was paused.
    pub fn resume(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        share: &mut Share,
        link: LinkIndex,
    ) {
        let Some(session) = self.sessions.of(link) else { return };
        self.run_deferred(delivery, bus, view, session);
        if delivery.links.is_read(link) {
            self.feed(delivery, bus, view, share, link, &mut []);
        }
    }

    /// Decodes and handles frames until the input ends or the link is paused. Says how many bytes
    /// it used.
    fn run_frames(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        share: &mut Share,
        session: SessionIndex,
        (bytes, decoder): (&mut [u8], &mut Decoder),
    ) -> usize {
        let (mut few, mut all) = ([Header::EMPTY; FEW_HEADERS], None::<[Header; HEADERS]>);
        let headers_max = (view.limits.stomp_headers as usize).min(HEADERS);
        let link = self.sessions.at(session).link;
        let mut used = 0;
        while used < bytes.len() {
            if bytes[used] == b'\n' && decoder.is_between_frames() {
                // A heart-beat: it asks for nothing, and passes no gate.
                used += 1;
                continue;
            }
            let state = self.sessions.at(session);
            if state.disconnecting && state.receipts.count() < view.limits.receipts {
                // STOMP 1.2 §DISCONNECT: what comes after it is ignored.
                return bytes.len();
            }
            if !self.may_read_frame(delivery, bus, view, share, session) {
                return used;
            }
            let (version, frame_max) = self.version_and_bound(view.ctx, session);
            let is_few = all.is_none() && headers_max > FEW_HEADERS;
            let headers = match &mut all {
                None => &mut few[..headers_max.min(FEW_HEADERS)],
                Some(all) => &mut all[..headers_max],
            };
            match decoder.next(&mut bytes[used..], headers, version, frame_max) {
                Ok(Step::NeedMore) => return used,
                Ok(Step::Eol { consumed }) => used += consumed,
                Ok(Step::Frame { consumed, frame }) => {
                    self.on_frame(delivery, bus, view, share, session, &frame);
                    used += consumed;
                }
                Err(stomp::Error::TooManyHeaders) if is_few => {
                    // Once more, from its beginning.
                    all = Some([Header::EMPTY; HEADERS]);
                    continue;
                }
                Err(error) => {
                    self.sessions.refuse_bytes(delivery, view, session, &bytes[used..], error);
                    return used;
                }
            }
            if !delivery.links.is_open(link) {
                return used;
            }
            *decoder = Decoder::new();
            if self.sessions.at(session).deferred.is_some() {
                delivery.links.pause_for_answer(link);
                return used;
            }
        }
        used
    }

    /// How a session's frames are read, if CONNECT has said, and bytes of the longest.
    fn version_and_bound(&self, ctx: &Context, session: SessionIndex) -> (Option<Version>, u32) {
        let state = self.sessions.at(session);
        match state.phase {
            Phase::Live => (Some(state.version), ctx.limits.stomp_frame),
            _ => (None, ctx.limits.stomp_first_frame.min(ctx.limits.stomp_frame)),
        }
    }

    /// Whether one more frame of a session may be decoded; else its link is paused. This is the one
    /// gate that frames pass.
    fn may_read_frame(
        &self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        share: &Share,
        session: SessionIndex,
    ) -> bool {
        let state = self.sessions.at(session);
        if state.receipts.count() >= view.limits.receipts {
            delivery.links.pause_for_answer(state.link);
            return false;
        }
        if delivery.links.pause_for_outbox(view, state.link) {
            return false;
        }
        let has_room = !share.is_over() && bus.has_room_for_frame(view.ctx);
        if !has_room {
            delivery.links.pause_for_room(view.ctx, state.link);
        }
        has_room
    }

    fn on_frame(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        share: &mut Share,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) {
        view.metrics.frames_received_total.add(1);
        let work = match frame.command() {
            Command::Subscribe | Command::Unsubscribe => SUBSCRIBING,
            _ => 1,
        };
        share.spend(work);
        let sequence = &mut self.sessions.at_mut(session).sequence;
        *sequence = (*sequence + 1) & SEQUENCE_MASK;
        self.sessions.steps = 0;
        if let Err(problem) = self.handle_frame(delivery, bus, view, session, frame) {
            let destination = frame.header(b"destination");
            let body = self.sessions.with_facts(session, problem.body, destination);
            let problem = Problem { body: &body, ..problem };
            self.sessions.refuse_in_turn(
                delivery,
                view,
                session,
                problem,
                frame.header(b"receipt"),
            );
        }
        // What its names and patterns make dear is its sender's time.
        let steps = self.take_steps();
        share.spend(steps / PATTERN_STEPS_A_FRAME);
    }

    fn handle_frame(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) -> Handled {
        let is_connecting = self.sessions.at(session).phase == Phase::Connecting;
        let receipt_len = frame.header(b"receipt").map_or(0, <[u8]>::len);
        match (is_connecting, frame.command()) {
            _ if receipt_len > view.limits.name_bytes as usize => Err(NAME_TOO_LONG),
            (true, Command::Connect | Command::Stomp) => {
                self.on_connect(delivery, bus, view, session, frame)
            }
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
            (false, Command::Send) => self.on_send(delivery, bus, view, session, frame),
            (false, Command::Subscribe) => self.on_subscribe(delivery, bus, view, session, frame),
            (false, Command::Unsubscribe) => {
                self.on_unsubscribe(delivery, bus, view, session, frame)
            }
            (false, Command::Disconnect) => {
                self.sessions.at_mut(session).disconnecting = true;
                self.sessions.receipt(delivery, view, session, frame, (0, None));
                self.sessions.give_receipts(delivery, view, session);
                Ok(())
            }
            (false, Command::Ack | Command::Nack) => {
                // Nothing is redelivered yet, so a settled message is settled. It is named by `id`
                // in STOMP 1.2 and by `message-id` before; stompjs 2 says `message-id` whatever the
                // version.
                required(frame, b"id").or_else(|_| required(frame, b"message-id"))?;
                self.sessions.receipt(delivery, view, session, frame, (0, None));
                Ok(())
            }
            (false, Command::Begin | Command::Commit | Command::Abort) => Err(NO_TRANSACTIONS),
        }
    }

    fn on_connect(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) -> Handled {
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
            self.identify(view.ctx, session, frame)?;
        }
        let offered = view.shared.config.broker.heartbeat;
        let offered = (offered[0].0, offered[1].0);
        let state = self.sessions.at_mut(session);
        state.phase = Phase::Live;
        state.version = version;
        state.beat = stomp::heartbeat::negotiate(client, offered);
        let (user, link) = (state.user.clone(), state.link);
        let id = self.sessions.id(session);
        view.metrics.sessions.set(view.metrics.sessions.value() + 1);
        // Before the answer: where that finds no room the session ends, and leaves again.
        if let Some(user) = user.clone() {
            let home = view.shared.homes.of_user(&user);
            self.sessions.at_mut(session).joined = true;
            bus.command(home, command::Command::Join { user, session: id });
        }
        let name = id.to_string();
        let connected = stomp::Connected {
            version,
            heart_beat: offered,
            session: name.as_bytes(),
            server: SERVER,
            user_name: user.as_deref().map(str::as_bytes),
        };
        self.sessions.reply(delivery, view, link, connected.len(), |out| connected.write(out));
        delivery.links.report(link, Report::Timer);
        Ok(())
    }

    /// CONNECT may carry the token that the handshake had no place for.
    fn identify(&mut self, ctx: &Context, session: SessionIndex, frame: &Frame<'_, '_>) -> Handled {
        let auth = &ctx.shared.config.auth;
        let (passcode, header) = (frame.header(b"passcode"), frame.header(b"Authorization"));
        match identity::user_of_connect(auth, passcode, header, ctx.wall_millis / 1000) {
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

    fn on_send(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
    ) -> Handled {
        let destination = required(frame, b"destination")?;
        if frame.header(b"transaction").is_some() {
            return Err(NO_TRANSACTIONS);
        }
        if destination.len() > view.limits.name_bytes as usize {
            return Err(NAME_TOO_LONG);
        }
        let shared = &view.ctx.shared;
        let target = shared.names.target(destination);
        if target == Target::Unknown {
            return self.unaddressed(delivery, view, session, frame, UNKNOWN_DESTINATION);
        }
        let mut budget = Budget::default();
        let user = self.sessions.at(session).user.as_deref();
        let verdict = shared.rules.may_send(&shared.names, destination, user, &mut budget);
        self.sessions.steps += budget.spent();
        permit(verdict)?;
        if shared.refuses_body(frame.header(b"content-type"), frame.body()) {
            return Err(NUL_IN_BODY);
        }
        match target {
            Target::Broker => {
                let shown = destination.as_bytes();
                let message = bus.message(|m| fill(m, None, destination, shown, frame));
                let home = shared.homes.of_destination(destination);
                let reply_to =
                    self.sessions.receipt(delivery, view, session, frame, (1, Some(home)));
                bus.command(home, command::Command::Publish { message, reply_to });
            }
            Target::User { user: whose, destination } => {
                let whose = decode_user(whose);
                self.send_to_user(delivery, bus, view, session, frame, (&whose, destination));
            }
            Target::Application(rest) => {
                let mut budget = Budget::default();
                let found = shared.applications.find(rest, &mut budget);
                self.sessions.steps += budget.spent();
                let Some(at) = found else {
                    return self.unaddressed(delivery, view, session, frame, NO_APPLICATION);
                };
                let found = application::Found { at, rest };
                application::ask(&mut self.sessions, delivery, bus, view, session, frame, found);
            }
            Target::Unknown => {}
        }
        Ok(())
    }

    fn send_to_user(
        &mut self,
        delivery: &mut Delivery,
        bus: &mut Bus,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        (whose, destination): (&str, &str),
    ) {
        let shown = view.shared.names.shown(destination);
        let message = bus.message(|m| fill(m, Some(whose), destination, &shown, frame));
        if self.sessions.at(session).user.as_deref() == Some(whose) {
            // Spring's rule: what a user sends to himself comes back to that session only.
            let number = bus.next_number();
            self.sessions.deliver_at_once(delivery, view, session, &message, number);
            self.sessions.receipt(delivery, view, session, frame, (0, None));
        } else {
            let home = view.shared.homes.of_user(whose);
            let reply_to = self.sessions.receipt(delivery, view, session, frame, (1, Some(home)));
            bus.command(home, command::Command::PublishUser { message, only: None, reply_to });
        }
    }

    /// A frame to nobody: an ERROR, or Spring's silence.
    pub(super) fn unaddressed(
        &mut self,
        delivery: &mut Delivery,
        view: View<'_>,
        session: SessionIndex,
        frame: &Frame<'_, '_>,
        problem: Problem<'static>,
    ) -> Handled {
        match view.shared.config.broker.unknown_destination {
            UnknownDestination::Error => Err(problem),
            UnknownDestination::Ignore => {
                self.sessions.receipt(delivery, view, session, frame, (0, None));
                Ok(())
            }
        }
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

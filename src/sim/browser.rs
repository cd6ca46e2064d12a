//! A STOMP session of a browser, over WebSocket or SockJS.

use super::forged;
use super::greed::{self, ALIKE, Greed, PATTERNS_MAX, Provoked, SUBSCRIPTIONS};
use super::history::{Secret, Trade};
use super::scene::{Decision, NEVER, Phase, Scene};
use super::target::{FORWARDED, OWN, PATTERNS, PRESENCE, SECRET, TOPICS, Target, USERS};
use super::wire::{Wire, handshake};
use crate::stomp::{ClientFrame, Command, Version};
use crate::time::{Instant, Micros};
use crate::ws::Opcode;
use std::collections::{BTreeMap, VecDeque};

/// Milliseconds of a heart-beat, on both sides.
pub(super) const BEAT: u64 = 1_500;

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The answer to the handshake has not arrived.
    Upgrading,
    /// SockJS has not opened.
    Opening,
    /// CONNECTED has not arrived.
    LoggingIn,
    Live,
    /// The DISCONNECT or Close is in flight.
    Leaving,
}

/// What a RECEIPT confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnReceipt {
    /// A subscription has begun.
    Begun(usize),
    /// A subscription has ended.
    Left(usize),
    /// A publication took effect.
    Sent(usize),
    /// A trade has been answered.
    Traded(usize),
    /// Everything before DISCONNECT took effect.
    Goodbye,
    /// Only that the frame was answered.
    Nothing,
}

/// A subscription of a session.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) id: String,
    /// Its number in the history.
    pub(super) history: usize,
}

/// Counts of what a session has begun.
#[derive(Debug, Default)]
struct Begun {
    /// Each has an id for its receipt, wanted or not.
    frames: u64,
    subscriptions: u32,
    publications: u32,
}

/// The session.
#[derive(Debug)]
pub(super) struct Browser {
    /// The number of its client.
    pub(super) number: usize,
    pub(super) user: Option<usize>,
    pub(super) sockjs: bool,
    pub(super) version: Version,
    pub(super) beats: bool,
    pub(super) stage: Stage,
    pub(super) subscriptions: Vec<Own>,
    /// Ended ones: messages sequenced before may still arrive.
    pub(super) former: Vec<Own>,
    pub(super) receipts: VecDeque<(u64, OnReceipt)>,
    begun: Begun,
    /// The limit that it will exceed on purpose.
    greed: Option<Greed>,
    /// The ERROR that it has provoked, if any.
    pub(super) provoked: Option<Provoked>,
    /// When its handshake was answered.
    pub(super) open_at: u64,
    /// Number of the last broker message received, for each batch window.
    pub(super) last_numbers: BTreeMap<Micros, u64>,
    actions: u32,
    pub(super) next_action: Instant,
    pub(super) next_beat: Instant,
    /// The server's close code.
    pub(super) closed: Option<u16>,
    /// An ERROR has arrived.
    pub(super) error: Option<String>,
    /// It watches presence only, until the server ends it.
    pub(super) watches: bool,
}

impl Browser {
    /// A session that begins with its handshake.
    pub(super) fn new(
        number: usize,
        user: Option<usize>,
        scene: &mut Scene<'_>,
        wire: &mut Wire,
    ) -> Browser {
        let random = scene.random();
        let sockjs = random.chance(300);
        let version = *random.pick(&[Version::V1_0, Version::V1_1, Version::V1_2, Version::V1_2]);
        let beats = version != Version::V1_0 && random.chance(300);
        let actions = random.between(1, 40) as u32;
        let greed = Greed::draw(random);
        let query = user.map_or(String::new(), |user| format!("?userId=u{user}"));
        let path = match (sockjs, random.chance(300)) {
            (true, _) => "/portfolio/000/abcdef/websocket",
            (false, true) => "/portfolio/websocket",
            (false, false) => "/portfolio",
        };
        let is_over_http = wire.over_http().is_some();
        if !is_over_http {
            wire.put(&handshake(path, &query));
        }
        Browser {
            number,
            user,
            sockjs: sockjs || is_over_http,
            version,
            beats,
            stage: if is_over_http { Stage::Opening } else { Stage::Upgrading },
            subscriptions: Vec::new(),
            former: Vec::new(),
            receipts: VecDeque::new(),
            begun: Begun::default(),
            greed,
            provoked: None,
            open_at: 0,
            last_numbers: BTreeMap::new(),
            actions,
            next_action: NEVER,
            next_beat: NEVER,
            closed: None,
            error: None,
            watches: false,
        }
    }

    /// A session that only watches presence.
    pub(super) fn watcher(number: usize, scene: &mut Scene<'_>, wire: &mut Wire) -> Browser {
        let plain = Browser::new(number, None, scene, wire);
        Browser { watches: true, beats: false, greed: None, ..plain }
    }

    /// The watcher's subscription, once it has begun.
    pub(super) fn watched(&self, scene: &Scene<'_>) -> Option<usize> {
        let subscription = self.subscriptions.first()?.history;
        scene.history.subscriptions[subscription].begun_at.map(|_| subscription)
    }

    /// Subscriptions that are not ended, by their number in the history.
    pub(super) fn open_subscriptions(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.subscriptions.iter().map(|own| own.history)
    }

    /// Whether the session is in order: logged in, and neither side has begun to end it.
    pub(super) fn is_live(&self) -> bool {
        self.stage == Stage::Live && self.closed.is_none() && self.error.is_none()
    }

    pub(super) fn is_owed(&self) -> bool {
        // A DISCONNECT or Close, a handshake, and a frame with a receipt are answered.
        self.stage != Stage::Live || !self.receipts.is_empty() || self.closed.is_some()
    }

    /// Does something of its own accord.
    pub(super) fn step(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) -> Decision {
        let now = scene.world.now();
        if self.closed.is_some() {
            // Both sides have sent a Close frame: the server ends TCP.
            return Decision::Wait(NEVER);
        }
        if self.stage != Stage::Live {
            return match (scene.plan.phase, self.stage) {
                (Phase::Leave, Stage::Upgrading | Stage::Opening | Stage::LoggingIn) => {
                    Decision::Leave(true)
                }
                _ => Decision::Wait(NEVER),
            };
        }
        if self.beats && now >= self.next_beat {
            self.next_beat = Instant(now.0 + BEAT * 500_000);
            self.transmit(&[b"\n".to_vec()], wire, scene);
        }
        if self.watches {
            if self.subscriptions.is_empty() {
                let frame = self.subscribe_to(PRESENCE, false, scene);
                self.transmit(&[frame], wire, scene);
            }
            return Decision::Wait(NEVER);
        }
        if scene.plan.phase == Phase::Leave {
            return self.leave(wire, scene);
        }
        if scene.plan.phase == Phase::Main && now >= self.next_action {
            if self.actions == 0 {
                return self.leave(wire, scene);
            }
            self.actions -= 1;
            self.act(wire, scene);
            let pause = match scene.random().below(20) {
                0 => scene.soon(100_000, 900_000),
                1..=6 => scene.soon(2_000, 20_000),
                _ => scene.soon(10, 2_000),
            };
            self.next_action = pause;
        }
        let action = if scene.plan.phase == Phase::Main { self.next_action } else { NEVER };
        Decision::Wait(action.min(if self.beats { self.next_beat } else { NEVER }))
    }

    fn act(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) {
        let mut frames = Vec::new();
        let count = if scene.random().chance(150) { 3 } else { 1 };
        for _ in 0..count {
            if scene.spend() {
                frames.extend(self.frame(scene));
            }
        }
        if scene.random().chance(30) {
            wire.put_frame(Opcode::Ping, true, b"p", scene.random());
        }
        self.transmit(&frames, wire, scene);
    }

    /// Sends a random frame.
    fn frame(&mut self, scene: &mut Scene<'_>) -> Option<Vec<u8>> {
        if scene.plan.crowd && self.begun.subscriptions == 0 && scene.random().chance(700) {
            return Some(self.subscribe_to("/topic/**", false, scene));
        }
        match scene.random().below(100) {
            0..=44 => Some(self.send_to_topic(scene)),
            45..=59 => self.subscribe(scene),
            60..=67 => self.unsubscribe(scene),
            68..=80 => Some(self.send_to_user(scene)),
            81..=86 => Some(self.trade(scene)),
            87..=92 => Some(self.forward(scene)),
            93..=96 => Some(self.call(scene)),
            _ => Some(b"\n".to_vec()),
        }
    }

    fn publish(&mut self, target: Target, scene: &mut Scene<'_>) -> (usize, String) {
        let sender = Some((self.number, self.begun.publications));
        self.begun.publications += 1;
        let publication = scene.history.publish(sender, target);
        let large = if scene.plan.crowd { 6 } else { 1 };
        let pad = match scene.random().below(12) < large {
            true => scene.random().below(if self.sockjs { 120 } else { 260 }),
            false => scene.random().below(40),
        };
        (publication, body(publication, pad as usize))
    }

    /// Writes a frame, with a receipt if it has something to confirm.
    pub(super) fn frame_of(
        &mut self,
        command: Command,
        headers: &[(&str, &str)],
        body: &[u8],
        receipt: Option<OnReceipt>,
    ) -> Vec<u8> {
        let mut headers = headers.to_vec();
        self.begun.frames += 1;
        let id = format!("r{}", self.begun.frames);
        if let Some(effect) = receipt {
            headers.push(("receipt", &id));
            self.receipts.push_back((self.begun.frames, effect));
        }
        let frame = ClientFrame { command, headers: &headers, body };
        let mut bytes = vec![0; frame.len(self.version)];
        let len = frame.write(self.version, &mut bytes);
        bytes.truncate(len);
        bytes
    }

    fn send_to(&mut self, destination: &str, target: Target, scene: &mut Scene<'_>) -> Vec<u8> {
        let (publication, mut text) = self.publish(target, scene);
        let receipt = scene.random().chance(500).then_some(OnReceipt::Sent(publication));
        let mut headers = vec![("destination", destination)];
        if scene.random().chance(300) {
            headers.push(("content-type", "application/json"));
        }
        if scene.random().chance(100) {
            headers.push(("note", "a:b"));
        }
        if scene.random().chance(100) {
            // Before the destination, so that a lenient client would see it first.
            headers.insert(0, *scene.random().pick(&forged::HEADERS));
        }
        if scene.random().chance(15) {
            // As many headers as a frame may have, content-length and receipt included.
            let room = greed::HEADERS - headers.len() - 1 - usize::from(receipt.is_some());
            headers.extend(&greed::NOTES[..room]);
        } else if scene.random().chance(15) && receipt.is_none() {
            let (command, version) = (Command::Send, self.version);
            let frame = |pad| {
                let body = body(publication, pad);
                ClientFrame { command, headers: &headers, body: body.as_bytes() }.len(version)
            };
            text = greed::fill_frame(frame).map_or(text, |pad| body(publication, pad));
        }
        self.frame_of(Command::Send, &headers, text.as_bytes(), receipt)
    }

    fn send_to_topic(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let topic = *scene.random().pick(&TOPICS);
        self.send_to(topic, Target::Broker(topic), scene)
    }

    fn send_to_user(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let Some(me) = self.user else { return self.send_to_topic(scene) };
        let whom = scene.random().index(USERS);
        let queue = *scene.random().pick(&OWN);
        let target = match whom == me {
            true => Target::Own(self.number, queue),
            false => Target::User(whom, queue),
        };
        self.send_to(&format!("/user/u{whom}{queue}"), target, scene)
    }

    fn forward(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        self.send_to("/ws/forward", Target::Broker(FORWARDED), scene)
    }

    fn call(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        self.send_to("/ws/call", Target::Hook(self.number, self.user), scene)
    }

    fn trade(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let sent_at = scene.history.tick();
        let trade = Trade { client: self.number, user: self.user, sent_at, acked_at: None };
        scene.history.trades.push(trade);
        let effect = OnReceipt::Traded(scene.history.trades.len() - 1);
        let receipt = scene.random().chance(500).then_some(effect);
        self.frame_of(Command::Send, &[("destination", "/ws/trade")], b"{}", receipt)
    }

    fn subscribe(&mut self, scene: &mut Scene<'_>) -> Option<Vec<u8>> {
        if self.greed.is_some_and(Greed::is_of_subscriptions) {
            return None;
        }
        if !self.subscriptions.is_empty() && scene.random().chance(60) {
            return Some(self.subscribe_again(scene));
        }
        // The destination that a reload forbids has many subscribers.
        let tempted = scene.plan.reload_at.is_some() && scene.history.secret == Secret::Open;
        let random = scene.random();
        let (pattern, of_user) = match random.below(10) {
            _ if tempted && random.chance(300) => (SECRET, false),
            0..=3 => (*random.pick(&TOPICS), false),
            4 => (FORWARDED, false),
            5..=6 => (*random.pick(&PATTERNS), false),
            7 => ("/queue/*", true),
            _ => (*random.pick(&OWN), true),
        };
        let may_hear = scene.history.secret == Secret::Open || self.user == Some(0);
        if pattern == SECRET && !may_hear || !self.has_room_for(pattern, of_user, scene) {
            return None;
        }
        Some(self.subscribe_to(pattern, of_user, scene))
    }

    /// Whether one more subscription is within its limits. An ended one counts until the server has
    /// confirmed its end.
    fn has_room_for(&self, pattern: &str, of_user: bool, scene: &Scene<'_>) -> bool {
        let known = |at: usize| {
            let known = &scene.history.subscriptions[at];
            (known.pattern.as_str(), known.of_user)
        };
        let ending = self.receipts.iter().filter_map(|(_, effect)| match effect {
            OnReceipt::Left(at) => Some(known(*at)),
            _ => None,
        });
        let mut all: Vec<(&str, bool)> = self.open_subscriptions().map(known).collect();
        let alike = all.iter().filter(|known| **known == (pattern, of_user)).count();
        all.extend(ending);
        let patterns = all.iter().filter(|known| known.0.contains('*')).count();
        let is_pattern = pattern.contains('*');
        all.len() < SUBSCRIPTIONS && alike < ALIKE && !(is_pattern && patterns >= PATTERNS_MAX)
    }

    /// SUBSCRIBE with an id that is already in use: the first subscription stays.
    fn subscribe_again(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let at = scene.random().index(self.subscriptions.len());
        let id = self.subscriptions[at].id.clone();
        let headers = [("id", id.as_str()), ("destination", TOPICS[scene.random().index(5)])];
        self.frame_of(Command::Subscribe, &headers, b"", Some(OnReceipt::Nothing))
    }

    /// SUBSCRIBE.
    pub(super) fn subscribe_to(
        &mut self,
        pattern: &str,
        of_user: bool,
        scene: &mut Scene<'_>,
    ) -> Vec<u8> {
        // Most pages use the same subscription ids, which puts them into one group.
        self.begun.subscriptions += 1;
        let mine = if scene.plan.crowd { 500 } else { 100 };
        let mut id = match scene.random().chance(mine) {
            true => format!("mine-{}-{}", self.number, self.begun.subscriptions),
            false => format!("sub-{}", self.begun.subscriptions),
        };
        let mut is_used = false;
        match scene.random().below(20) {
            0 if !self.former.is_empty() => {
                // An id may be used again as soon as its UNSUBSCRIBE is sent.
                let at = scene.random().index(self.former.len());
                let former = self.former[at].id.clone();
                is_used = self.subscriptions.iter().all(|own| own.id != former);
                id = if is_used { former } else { id };
            }
            1 => id = greed::full_name(&format!("{id}-")),
            _ => {}
        }
        // Its RECEIPT decides which of the two subscriptions a MESSAGE is for.
        let wants_receipt = self.watches || is_used || scene.random().chance(800);
        let (me, user) = (self.number, self.user);
        let history = scene.history.subscribe(me, user, pattern, of_user, wants_receipt);
        let destination = if of_user { format!("/user{pattern}") } else { pattern.to_owned() };
        self.subscriptions.push(Own { id: id.clone(), history });
        let headers = [("id", id.as_str()), ("destination", destination.as_str())];
        let receipt = wants_receipt.then_some(OnReceipt::Begun(history));
        self.frame_of(Command::Subscribe, &headers, b"", receipt)
    }

    fn unsubscribe(&mut self, scene: &mut Scene<'_>) -> Option<Vec<u8>> {
        if self.subscriptions.is_empty() {
            return None;
        }
        let at = scene.random().index(self.subscriptions.len());
        let own = self.subscriptions.swap_remove(at);
        scene.history.subscriptions[own.history].leave_at = Some(scene.history.tick());
        let receipt = Some(OnReceipt::Left(own.history));
        let frame = self.frame_of(Command::Unsubscribe, &[("id", &own.id)], b"", receipt);
        self.former.push(own);
        Some(frame)
    }

    /// CONNECT.
    pub(super) fn log_in(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) {
        self.stage = Stage::LoggingIn;
        let versions = match self.version {
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.0,1.1",
            Version::V1_2 => "1.1,1.2",
        };
        let beat = if self.beats { format!("{BEAT},{BEAT}") } else { "0,0".to_owned() };
        let headers = [("accept-version", versions), ("host", "localhost"), ("heart-beat", &beat)];
        let frame = self.frame_of(Command::Connect, &headers, b"", None);
        self.transmit(&[frame], wire, scene);
    }

    /// Begins the end of the session, in one of several ways.
    fn leave(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) -> Decision {
        self.stage = Stage::Leaving;
        let vanishing = scene.plan.phase == Phase::Main;
        if let Some(greed) = self.greed {
            let frames = self.provoke(greed, scene);
            self.transmit(&frames, wire, scene);
            return Decision::Wait(NEVER);
        }
        match scene.random().below(10) {
            0..=3 => {
                let receipt = scene.random().chance(700).then_some(OnReceipt::Goodbye);
                let frame = self.frame_of(Command::Disconnect, &[], b"", receipt);
                self.transmit(&[frame], wire, scene);
                Decision::Wait(NEVER)
            }
            4..=5 => {
                wire.put_frame(Opcode::Close, true, &1000u16.to_be_bytes(), scene.random());
                Decision::Wait(NEVER)
            }
            6 => Decision::End,
            7 if vanishing => Decision::Vanish,
            7..=8 => Decision::Leave(true),
            _ => Decision::Leave(false),
        }
    }

    /// The frames that exceed the limit; the last of them is refused.
    fn provoke(&mut self, greed: Greed, scene: &mut Scene<'_>) -> Vec<Vec<u8>> {
        let may = match greed {
            // Ended subscriptions count until the server has confirmed their end.
            _ if greed.is_of_subscriptions() => self.subscriptions.is_empty() && !self.is_ending(),
            Greed::Forbidden => self.user.is_none(),
            Greed::Secret => scene.history.secret == Secret::Kept && self.user != Some(0),
            _ => true,
        };
        let greed = if may { greed } else { Greed::Unaddressed };
        let to = greed.filling().iter();
        let mut frames: Vec<_> = to.map(|to| self.subscribe_to(to, false, scene)).collect();
        let (excess, provoked) = greed.exceed(self.number, scene.random());
        let headers: Vec<(&str, &str)> =
            excess.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        frames.push(self.frame_of(excess.command, &headers, &excess.body, None));
        self.provoked = Some(provoked);
        frames
    }

    /// Whether the server has not yet confirmed the end of a subscription.
    fn is_ending(&self) -> bool {
        self.receipts.iter().any(|(_, effect)| matches!(effect, OnReceipt::Left(_)))
    }

    /// Sends frames: each in a message of its own, several in one, or one in chunks.
    fn transmit(&self, frames: &[Vec<u8>], wire: &mut Wire, scene: &mut Scene<'_>) {
        for frame in frames {
            let text = || String::from_utf8_lossy(frame);
            scene.world.tell(|| format!("client {} says {:?}", self.number, text()));
        }
        if let Some(over_http) = wire.over_http_mut() {
            return over_http.said.extend(frames.iter().cloned());
        }
        let random = scene.random();
        if self.sockjs {
            for frame in frames {
                let text = core::str::from_utf8(frame).expect("frames of clients are text");
                let array = serde_json::json!([text]).to_string();
                wire.put_frame(Opcode::Text, true, array.as_bytes(), random);
            }
            return;
        }
        let joined: Vec<u8> = frames.concat();
        if frames.len() > 1 && joined.len() <= 600 && random.chance(500) {
            return wire.put_frame(Opcode::Text, true, &joined, random);
        }
        for frame in frames {
            let middle = random.index(frame.len() + 1);
            let (first, second) = frame.split_at(middle);
            match random.below(8) {
                0 => {
                    wire.put_frame(Opcode::Text, false, first, random);
                    if random.chance(300) {
                        wire.put_frame(Opcode::Ping, true, b"between", random);
                    }
                    wire.put_frame(Opcode::Continuation, true, second, random);
                }
                1 => {
                    wire.put_frame(Opcode::Binary, true, first, random);
                    wire.put_frame(Opcode::Text, true, second, random);
                }
                _ => wire.put_frame(Opcode::Text, true, frame, random),
            }
        }
    }
}

/// The body of a publication, with padding.
fn body(publication: usize, pad: usize) -> String {
    format!("{{\"p\":{publication},\"x\":\"{}\"}}", "x".repeat(pad))
}

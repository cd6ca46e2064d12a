//! A scripted client: its wire, how it reads, and its role.

use super::browser::Browser;
use super::counts::Event;
use super::echoer::Echoer;
use super::http_client::HttpClient;
use super::misbehaving::Misbehaving;
use super::over_http::{OverHttp, Stage};
use super::scene::{Decision, NEVER, Phase, Scene};
use super::violation::Violation;
use super::wire::{End, Wire};
use super::world::World;
use crate::time::Instant;

/// Nanoseconds after which a client asks again that waits to receive.
const AGAIN: u64 = 5_000_000;

/// Connections of a client in vain after which it gives its session up.
const TRIES: u32 = 50;

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// At once.
    Prompt,
    /// A few bytes at a time, with pauses of this many milliseconds.
    Slow(u64),
    /// At once, but now and then not at all for some seconds.
    Moody,
    /// No longer.
    Never,
}

/// The role of a client.
#[derive(Debug)]
pub(super) enum Role {
    /// A STOMP session.
    Browser(Browser),
    /// A raw WebSocket.
    Echoer(Echoer),
    /// A back end that pushes by HTTP, and a provider that calls back.
    HttpClient(HttpClient),
    /// A misbehaving client.
    Misbehaving(Misbehaving),
}

impl Role {
    /// Whether it never reads.
    pub(super) fn is_deaf(&self) -> bool {
        matches!(self, Role::Echoer(echoer) if echoer.pesters)
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: usize,
    pub(super) wire: Wire,
    pub(super) reading: Reading,
    pub(super) role: Role,
    /// When it reads next, if there is something.
    read_at: Instant,
    /// When it does something next of its own accord.
    wake_at: Instant,
    /// It has released its descriptor.
    pub(super) over: bool,
    /// It has disappeared without an end of the connection.
    pub(super) vanished: bool,
    /// It has ended the connection itself.
    pub(super) left: bool,
}

impl Client {
    pub(super) fn new(number: usize, wire: Wire, reading: Reading, role: Role) -> Client {
        Client {
            number,
            wire,
            reading,
            role,
            read_at: Instant(0),
            wake_at: Instant(0),
            over: false,
            vanished: false,
            left: false,
        }
    }

    /// Whether it reads at all. Before the handshake of a sealed connection nobody could ask for
    /// anything.
    fn reads(&self) -> bool {
        self.reading != Reading::Never || self.wire.is_greeting()
    }

    /// Whether it reads what comes now.
    fn may_read(&self, world: &World) -> bool {
        self.reads() && world.now() >= self.read_at
    }

    /// Whether it would do something now.
    pub(super) fn is_ready(&self, world: &World) -> bool {
        if self.over || self.vanished {
            return false;
        }
        let socket = self.wire.socket;
        self.wire.has_output() && world.can_write(socket)
            || self.may_read(world) && self.wire.end.is_none() && world.can_read(socket)
            || world.now() >= self.wake_at.min(self.over_http_at())
    }

    /// When it does something next at the latest; `NEVER` if it waits for others.
    pub(super) fn next_at(&self, world: &World) -> Instant {
        if self.over || self.vanished {
            return NEVER;
        }
        let reads = self.reads() && world.can_read(self.wire.socket);
        let read_at = if reads && self.wire.end.is_none() { self.read_at } else { NEVER };
        read_at.min(self.wake_at).min(self.over_http_at())
    }

    /// When its session over HTTP goes on.
    fn over_http_at(&self) -> Instant {
        self.wire.over_http().map_or(NEVER, |over| over.next_at)
    }

    /// Who it is and its session over HTTP, if it has one and has not gone.
    pub(super) fn over_http(&self) -> Option<(Option<usize>, &OverHttp)> {
        let Role::Browser(browser) = &self.role else { return None };
        let is_here = !self.over && !self.vanished;
        self.wire.over_http().filter(|_| is_here).map(|over| (browser.user, over))
    }

    /// Does what it wants to do now.
    pub(super) fn act(&mut self, scene: &mut Scene<'_>) -> Result<(), Violation> {
        self.wire.flush(scene.world);
        if self.may_read(scene.world) && self.wire.end.is_none() {
            let max = self.appetite(scene);
            if self.wire.read(max, scene.world) {
                if let Some(violation) = self.wire.take_broken() {
                    return Err(violation);
                }
                self.understand(scene)?;
            }
        }
        if self.wire.over_http().is_some() {
            self.go_on(scene);
        } else if self.wire.end.is_some() {
            self.release(scene, false);
        }
        if self.over {
            return Ok(());
        }
        if scene.world.now() >= self.wake_at {
            let decision = match &mut self.role {
                Role::Browser(browser) => browser.step(&mut self.wire, scene),
                Role::Echoer(echoer) => echoer.step(&mut self.wire, scene),
                Role::HttpClient(http_client) => http_client.step(&mut self.wire, scene),
                Role::Misbehaving(misbehaving) => misbehaving.step(&mut self.wire, scene)?,
            };
            self.decide(decision, scene);
        }
        Ok(())
    }

    fn decide(&mut self, decision: Decision, scene: &mut Scene<'_>) {
        match decision {
            Decision::Wait(until) => self.wake_at = until,
            Decision::Leave(reset) => {
                self.left = true;
                self.release(scene, reset);
            }
            Decision::End if self.has_no_connection() => {
                self.left = true;
                self.release(scene, false);
            }
            Decision::End => {
                self.left = true;
                self.wake_at = NEVER;
                self.wire.end_writing(scene.world);
            }
            Decision::Vanish => {
                scene.world.counts.note(Event::Vanish);
                self.left = true;
                self.vanished = true;
            }
        }
    }

    /// Releases the descriptor.
    pub(super) fn release(&mut self, scene: &mut Scene<'_>, reset: bool) {
        if !core::mem::replace(&mut self.over, true) && !self.has_no_connection() {
            scene.world.leave(self.wire.socket, reset);
        }
    }

    fn has_no_connection(&self) -> bool {
        self.wire.over_http().is_some_and(|over| over.stage == Stage::Away)
    }

    /// Goes on with its session over HTTP: connections come and go.
    fn go_on(&mut self, scene: &mut Scene<'_>) {
        let is_main = scene.plan.phase == Phase::Main;
        let pause = if is_main { 400_000 } else { 2_000 };
        let (end, now) = (self.wire.end, scene.world.now());
        let Some(over) = self.wire.over_http_mut() else { return };
        let (whole, at_limit) = core::mem::take(&mut over.whole);
        scene.world.counts.add(Event::AnswerWhole, whole);
        scene.world.counts.add(Event::StreamAtLimit, at_limit);
        if over.is_closed || over.leaves {
            scene.world.counts.add(Event::SessionClosed, over.is_closed.into());
            return self.release(scene, false);
        }
        if end == Some(End::Eof) && over.ends_with_fin() {
            scene.world.counts.note(Event::StreamAtLimit);
            over.stage = Stage::Done;
        }
        let receives = matches!(over.stage, Stage::Receives(..));
        if end.is_some() && receives || over.is_gone && !receives {
            let event = if receives { Event::ReceiverLost } else { Event::SessionGone };
            scene.world.counts.note(event);
            return self.release(scene, false);
        }
        if (end.is_some() || over.stage == Stage::Done) && over.stage != Stage::Away {
            return match self.left {
                true => self.release(scene, false),
                false => self.drop_connection(scene, pause),
            };
        }
        if now >= over.next_at {
            self.go_on_by_itself(scene, (now, pause));
        }
    }

    fn go_on_by_itself(&mut self, scene: &mut Scene<'_>, (now, pause): (Instant, u64)) {
        let Some(over) = self.wire.over_http_mut() else { return };
        match over.stage {
            _ if self.left => over.next_at = NEVER,
            // The table may be full of others, and stay so.
            Stage::Away if over.tries >= TRIES => self.release(scene, false),
            Stage::Away => {
                let sealed = scene.plan.sealed && scene.world.random.chance(500);
                self.wire.reconnect(sealed, scene.world);
            }
            Stage::Ready if scene.world.random.chance(300) => self.drop_connection(scene, pause),
            Stage::Ready => {
                over.ask(&mut scene.world.random);
                over.next_at = Instant(now.0 + AGAIN);
            }
            // Until the shard has looked.
            Stage::Wants(_) => {
                over.next_at = Instant(now.0 + AGAIN);
                let (ring, socket) = (over.ring, self.wire.socket);
                // It may be on its way there.
                let is_elsewhere = scene.world.place(socket).is_some_and(|place| place.0 != ring);
                if is_elsewhere && scene.random().chance(200) {
                    scene.world.counts.note(Event::Elsewhere);
                    self.drop_connection(scene, 10_000);
                }
            }
            Stage::Asks | Stage::Done | Stage::Receives(..) => over.next_at = NEVER,
        }
    }

    /// The connection goes, and another one comes some time after that.
    fn drop_connection(&mut self, scene: &mut Scene<'_>, pause: u64) {
        let reset = scene.random().chance(300);
        scene.world.leave(self.wire.socket, reset);
        self.wire.end = Some(End::Eof);
        let pause = if scene.random().chance(700) { pause / 50 } else { pause };
        let next_at = scene.soon(10, pause);
        if let Some(over) = self.wire.over_http_mut() {
            (over.stage, over.next_at) = (Stage::Away, next_at);
        }
    }

    /// How many bytes it reads, and when it reads again.
    fn appetite(&mut self, scene: &mut Scene<'_>) -> usize {
        let reading = if scene.plan.phase == Phase::Main { self.reading } else { Reading::Prompt };
        match reading {
            Reading::Prompt | Reading::Never => {}
            Reading::Slow(pause) => {
                scene.world.counts.note(Event::SlowReader);
                self.read_at = scene.soon(pause * 500, pause * 1500);
                return scene.random().between(1, 60) as usize;
            }
            Reading::Moody => {
                if scene.random().chance(8) {
                    scene.world.counts.note(Event::SlowReader);
                    self.read_at = scene.soon(300_000, 4_000_000);
                }
            }
        }
        scene.random().between(64, 2_000) as usize
    }

    fn understand(&mut self, scene: &mut Scene<'_>) -> Result<(), Violation> {
        let next = match &mut self.role {
            Role::Browser(browser) => browser.hear(self.number, &mut self.wire, scene)?,
            Role::Echoer(echoer) => echoer.hear(&mut self.wire, scene)?,
            Role::HttpClient(http_client) => http_client.hear(&mut self.wire, scene)?,
            Role::Misbehaving(misbehaving) => misbehaving.hear(&mut self.wire)?,
        };
        if next {
            self.wake_at = scene.world.now();
        }
        Ok(())
    }

    /// Ends every wait of the client.
    pub(super) fn wake(&mut self, world: &World) {
        self.wake_at = world.now();
        self.read_at = world.now();
    }

    /// Whether the server owes it something.
    pub(super) fn is_owed(&self) -> bool {
        if self.over || self.vanished || self.reading == Reading::Never {
            return false;
        }
        let role = match &self.role {
            Role::Browser(browser) => browser.is_owed(),
            Role::Echoer(echoer) => echoer.is_owed(),
            Role::HttpClient(http_client) => http_client.is_owed(),
            Role::Misbehaving(_) => true,
        };
        let waits = self.wire.over_http().is_some_and(OverHttp::is_owed);
        role || waits || self.wire.has_output() || !self.wire.is_read_out()
    }
}

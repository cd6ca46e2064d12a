//! A scripted client: its wire, how it reads, and its role.

use super::browser::Browser;
use super::counts::Event;
use super::echoer::Echoer;
use super::http_client::HttpClient;
use super::misbehaving::Misbehaving;
use super::scene::{Decision, NEVER, Phase, Scene};
use super::violation::Violation;
use super::wire::Wire;
use super::world::World;
use crate::time::Instant;

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
            || world.now() >= self.wake_at
    }

    /// When it does something next at the latest; `NEVER` if it waits for others.
    pub(super) fn next_at(&self, world: &World) -> Instant {
        if self.over || self.vanished {
            return NEVER;
        }
        let reads = self.reads() && world.can_read(self.wire.socket);
        let read_at = if reads && self.wire.end.is_none() { self.read_at } else { NEVER };
        read_at.min(self.wake_at)
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
        if self.wire.end.is_some() {
            self.release(scene, false);
            return Ok(());
        }
        if !self.over && scene.world.now() >= self.wake_at {
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
        if !core::mem::replace(&mut self.over, true) {
            scene.world.leave(self.wire.socket, reset);
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
        role || self.wire.has_output() || !self.wire.is_read_out()
    }
}

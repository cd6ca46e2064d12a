//! A misbehaving client: incomplete and malformed requests, broken frames, silence. The server has
//! to end it in bounded time, in every case.

use super::counts::Event;
use super::scene::{Decision, Phase, Scene};
use super::violation::{Oracle, Violation};
use super::wire::{Wire, handshake};
use super::wrong::{self, Wrong};
use crate::time::Instant;
use crate::ws::Opcode;

/// Nanoseconds in which the server has to end the connection.
const PATIENCE: u64 = 20_000_000_000;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silence,
    HalfHead,
    HalfBody,
    /// A request that is refused at once.
    Wrong(Wrong),
    Noise,
    /// A sealed connection: a record that is spoiled.
    Spoilt,
    /// The same: no record at all.
    Unsealed,
    /// The same: half of a handshake.
    HalfHello,
    /// A handshake on the STOMP endpoint, and then nothing.
    NoConnect,
    WrongSockJs,
    /// A handshake from a page of another server, at this path.
    Foreign(&'static str),
}

/// Every path of a handshake.
const DOORS: [&str; 6] = [
    "/portfolio",
    "/portfolio/websocket",
    "/portfolio/000/zzz/websocket",
    "/echo",
    "/echo/websocket",
    "/echo/000/zzz/websocket",
];

/// The connection.
#[derive(Debug)]
pub(super) struct Misbehaving {
    kind: Kind,
    begun: Option<Instant>,
    /// It was answered, that is, refused.
    pub(super) answered: bool,
}

impl Misbehaving {
    pub(super) fn new(scene: &mut Scene<'_>, wire: &mut Wire) -> Misbehaving {
        scene.world.counts.note(Event::Malformed);
        let random = scene.random();
        let kind = match random.below(17) {
            at @ 0..=7 if wire.is_sealed() => match at {
                0..=3 => Kind::Spoilt,
                4..=5 => Kind::Unsealed,
                _ => Kind::HalfHello,
            },
            14..=16 => Kind::Foreign(DOORS[random.index(DOORS.len())]),
            0 => Kind::Silence,
            1 => Kind::HalfHead,
            2 => Kind::HalfBody,
            3 => Kind::Noise,
            4 => Kind::NoConnect,
            5 => Kind::WrongSockJs,
            _ => Kind::Wrong(*random.pick(&wrong::ALL)),
        };
        let misbehaving = Misbehaving { kind, begun: None, answered: false };
        misbehaving.speak(wire, scene);
        misbehaving
    }

    fn speak(&self, wire: &mut Wire, scene: &mut Scene<'_>) {
        let random = scene.random();
        match self.kind {
            Kind::Silence => {}
            Kind::HalfHead => wire.put(&handshake("/portfolio", "")[..40]),
            Kind::HalfBody => wire.put(
                b"POST /callback/inbound HTTP/1.1\r\nHost: localhost\r\n\
                  Content-Length: 90\r\n\r\n{",
            ),
            Kind::Spoilt => {
                wire.spoil();
                wire.put(&handshake("/portfolio", ""));
            }
            Kind::Unsealed => {
                wire.unseal();
                wire.put(&handshake("/portfolio", ""));
            }
            Kind::HalfHello => {
                wire.unseal();
                wire.put(&[0, 13, 1, 7, 7]);
            }
            Kind::Wrong(wrong) => wrong.put(wire),
            Kind::Noise => {
                let noise: Vec<u8> = (0..200).map(|_| random.next() as u8).collect();
                wire.put(&noise);
                wire.put(b"\r\n\r\n");
            }
            Kind::NoConnect => wire.put(&handshake("/portfolio", "")),
            Kind::Foreign(door) => {
                let own = String::from_utf8(handshake(door, "")).expect("it is text");
                let foreign = own.replace("Upgrade: ", "Origin: http://other.example\r\nUpgrade: ");
                wire.put(foreign.as_bytes());
            }
            Kind::WrongSockJs => {
                wire.put(&handshake("/portfolio/000/zzz/websocket", ""));
                wire.put_frame(Opcode::Text, true, b"[\"a", random);
            }
        }
    }

    pub(super) fn step(
        &mut self,
        wire: &mut Wire,
        scene: &mut Scene<'_>,
    ) -> Result<Decision, Violation> {
        let now = scene.world.now();
        let begun = *self.begun.get_or_insert(now);
        // The client may not have noticed: some do not read.
        if self.answered || scene.plan.phase == Phase::Leave || scene.world.is_closed(wire.socket) {
            return Ok(Decision::Leave(true));
        }
        if now.0 > begun.0 + PATIENCE {
            let text = format!("{:?} is still connected", self.kind);
            return Err(Violation::new(Oracle::Progress, text));
        }
        Ok(Decision::Wait(Instant(begun.0 + PATIENCE + 1)))
    }

    pub(super) fn hear(&mut self, wire: &mut Wire) -> Result<bool, Violation> {
        if let Kind::Foreign(door) = self.kind {
            let Some(answer) = wire.answer()? else { return Ok(false) };
            self.answered = true;
            return match answer.status {
                403 | 503 | 408 | 504 => Ok(true),
                status => {
                    let text = format!("a foreign page is answered {status} at {door}");
                    Err(Violation::new(Oracle::Isolation, text))
                }
            };
        }
        // It ignores everything that it receives.
        wire.forget();
        Ok(false)
    }
}

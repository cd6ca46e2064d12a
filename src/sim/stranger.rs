//! Somebody who does it wrong: half requests, malformed ones, broken frames, silence. The server
//! has to let go of him in bounded time, whatever he does.

use super::browser::handshake;
use super::client::{Decision, Phase, Scene};
use super::counts::Event;
use super::oracle::{Oracle, Violation};
use super::wire::Wire;
use crate::time::Instant;
use crate::ws::Opcode;

/// Nanoseconds in which the server has to let go.
const PATIENCE: u64 = 20_000_000_000;

/// What he does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silence,
    HalfHead,
    HalfBody,
    /// A request that is refused at once.
    Wrong(&'static str),
    LongHead,
    LargeBody,
    Noise,
    /// A handshake on the STOMP endpoint, and then nothing.
    NoConnect,
    /// A handshake, and then frames that are wrong.
    WrongFrame(u8),
    /// A session, and then a STOMP frame that is wrong.
    WrongStomp(&'static str),
    WrongSockJs,
}

/// Requests that no server may guess at (1-product §4).
const WRONG: [&str; 7] = [
    "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "BREW /pot HTCPCP/1.0\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
];

/// STOMP frames that end their session.
const WRONG_STOMP: [&str; 8] = [
    "SEND\n\nbody\0",
    "SEND\ndestination:/nowhere\n\nbody\0",
    "SUBSCRIBE\ndestination:/topic/t0\n\n\0",
    "FLY\n\n\0",
    "SEND\ndestination:/topic/t0\ncontent-length:99999\n\n",
    "SEND\ndestination:/topic/t0\nbad\\escape:x\n\n\0",
    "CONNECT\naccept-version:1.2\nhost:x\n\n\0",
    "SEND\ndestination:/topic/t0\ntransaction:t\n\n\0",
];

/// The connection.
#[derive(Debug)]
pub(super) struct Stranger {
    kind: Kind,
    begun: Option<Instant>,
}

impl Stranger {
    pub(super) fn new(scene: &mut Scene<'_>, wire: &mut Wire) -> Stranger {
        scene.world.counts.note(Event::Malformed);
        let random = scene.random();
        let kind = match random.below(14) {
            0 => Kind::Silence,
            1 => Kind::HalfHead,
            2 => Kind::HalfBody,
            3..=4 => Kind::Wrong(WRONG[random.index(WRONG.len())]),
            5 => Kind::LongHead,
            6 => Kind::LargeBody,
            7 => Kind::Noise,
            8 => Kind::NoConnect,
            9..=10 => Kind::WrongFrame(random.below(6) as u8),
            11..=12 => Kind::WrongStomp(WRONG_STOMP[random.index(WRONG_STOMP.len())]),
            _ => Kind::WrongSockJs,
        };
        let stranger = Stranger { kind, begun: None };
        stranger.speak(wire, scene);
        stranger
    }

    fn speak(&self, wire: &mut Wire, scene: &mut Scene<'_>) {
        let random = scene.random();
        let connect = b"CONNECT\naccept-version:1.2\nhost:x\n\n\0";
        match self.kind {
            Kind::Silence => {}
            Kind::HalfHead => wire.put(&handshake("/portfolio", "")[..40]),
            Kind::HalfBody => wire.put(
                b"POST /callback/inbound HTTP/1.1\r\nHost: localhost\r\n\
                  Content-Length: 90\r\n\r\n{",
            ),
            Kind::Wrong(request) => wire.put(request.as_bytes()),
            Kind::LongHead => {
                wire.put(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
                wire.put(&vec![b'x'; 1_200]);
            }
            Kind::LargeBody => wire.put(
                b"POST /callback/inbound HTTP/1.1\r\nHost: localhost\r\n\
                  Content-Length: 9000\r\n\r\n",
            ),
            Kind::Noise => {
                let noise: Vec<u8> = (0..200).map(|_| random.next() as u8).collect();
                wire.put(&noise);
                wire.put(b"\r\n\r\n");
            }
            Kind::NoConnect => wire.put(&handshake("/portfolio", "")),
            Kind::WrongFrame(which) => {
                wire.put(&handshake("/echo", ""));
                match which {
                    0 => wire.put(b"\x81\x01a"),
                    1 => wire.put_frame(Opcode::Text, true, b"\xff\xfe", random),
                    2 => wire.put(b"\x83\x80\x00\x00\x00\x00"),
                    3 => wire.put_frame(Opcode::Continuation, true, b"x", random),
                    4 => wire.put(b"\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"),
                    _ => wire.put(b"\x89\xfe\x00\x7e\x00\x00\x00\x00"),
                }
            }
            Kind::WrongStomp(frame) => {
                wire.put(&handshake("/portfolio", "?userId=u5"));
                wire.put_frame(Opcode::Text, true, connect, random);
                wire.put_frame(Opcode::Text, true, frame.as_bytes(), random);
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
        // He need not have noticed: some do not read.
        if scene.plan.phase == Phase::Leave || scene.world.is_closed(wire.socket) {
            return Ok(Decision::Leave(true));
        }
        if now.0 > begun.0 + PATIENCE {
            let text = format!("{:?} is still connected", self.kind);
            return Err(Violation::new(Oracle::Progress, text));
        }
        Ok(Decision::Wait(Instant(begun.0 + PATIENCE + 1)))
    }

    pub(super) fn hear(&mut self, wire: &mut Wire) -> Result<bool, Violation> {
        // Whatever he is told, he does not understand.
        wire.forget();
        Ok(false)
    }
}

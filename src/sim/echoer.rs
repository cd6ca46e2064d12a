//! A client on a raw WebSocket: its messages come back, in order.

use super::scene::{Decision, NEVER, Phase, Scene};
use super::violation::{Oracle, Violation};
use super::wire::{Heard, Wire, handshake};
use crate::ws::Opcode;
use std::collections::VecDeque;

/// Bytes of one message (`Limits::tiny`).
const MESSAGE: usize = 600;

/// The connection.
#[derive(Debug)]
pub(super) struct Echoer {
    open: bool,
    sockjs: bool,
    said: VecDeque<Vec<u8>>,
    actions: u32,
    count: u32,
    pub(super) closed: Option<u16>,
    leaving: bool,
    /// It sends without end, and does not read.
    pub(super) pesters: bool,
    /// It has sent a message that is too long.
    greedy: bool,
}

impl Echoer {
    pub(super) fn new(scene: &mut Scene<'_>, wire: &mut Wire) -> Echoer {
        let sockjs = scene.random().chance(300);
        wire.put(&handshake(if sockjs { "/echo/1/x/websocket" } else { "/echo" }, ""));
        let pesters = scene.random().chance(250);
        let actions = if pesters { 60 } else { scene.random().between(1, 20) as u32 };
        Echoer {
            pesters,
            greedy: false,
            open: false,
            sockjs,
            said: VecDeque::new(),
            actions,
            count: 0,
            closed: None,
            leaving: false,
        }
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.open || self.leaving || !self.said.is_empty() || self.closed.is_some()
    }

    pub(super) fn step(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) -> Decision {
        if self.closed.is_some() || self.leaving {
            return Decision::Wait(NEVER);
        }
        if self.pesters {
            return self.pester(wire, scene);
        }
        if !self.open {
            return match scene.plan.phase {
                Phase::Leave => Decision::Leave(true),
                _ => Decision::Wait(NEVER),
            };
        }
        if self.actions == 0 || scene.plan.phase == Phase::Leave {
            self.leaving = true;
            return match scene.random().below(6) {
                5 if !self.sockjs => {
                    self.greedy = true;
                    self.say_much(MESSAGE + 1, wire, scene);
                    Decision::Wait(NEVER)
                }
                0 => Decision::Leave(true),
                1 => Decision::End,
                _ => {
                    wire.put_frame(Opcode::Close, true, b"", scene.random());
                    Decision::Wait(NEVER)
                }
            };
        }
        if !scene.spend() {
            return Decision::Wait(NEVER);
        }
        self.actions -= 1;
        self.say(wire, scene);
        Decision::Wait(scene.soon(10, 30_000))
    }

    /// Sends pings and texts without end, and does not read the answers.
    fn pester(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) -> Decision {
        if self.actions == 0 || scene.plan.phase != Phase::Main {
            self.leaving = true;
            return Decision::Leave(true);
        }
        self.actions -= 1;
        if scene.random().chance(500) {
            for _ in 0..3 {
                wire.put_frame(Opcode::Ping, true, &[b'?'; 100], scene.random());
            }
        } else {
            self.say(wire, scene);
        }
        Decision::Wait(scene.soon(10, 3_000))
    }

    /// A text of this many bytes.
    fn say_much(&mut self, len: usize, wire: &mut Wire, scene: &mut Scene<'_>) {
        let text = vec![b'm'; len];
        self.said.push_back(text.clone());
        wire.put_frame(Opcode::Text, true, &text, scene.random());
    }

    fn say(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) {
        if !self.sockjs && scene.random().chance(50) {
            return self.say_much(MESSAGE, wire, scene);
        }
        let random = scene.random();
        self.count += 1;
        let len = random.below(if random.clone().chance(100) { 400 } else { 40 }) as usize;
        let text = format!("{}{}", self.count, "é".repeat(len / 2));
        let bytes = text.as_bytes();
        self.said.push_back(bytes.to_vec());
        if self.sockjs {
            let array = serde_json::json!([text]).to_string();
            return wire.put_frame(Opcode::Text, true, array.as_bytes(), random);
        }
        // A character may be split between fragments.
        let (first, second) = bytes.split_at(random.index(bytes.len() + 1));
        let opcode = if random.chance(500) { Opcode::Text } else { Opcode::Binary };
        if random.chance(300) {
            wire.put_frame(opcode, false, first, random);
            wire.put_frame(Opcode::Ping, true, b"?", random);
            wire.put_frame(Opcode::Continuation, true, second, random);
        } else {
            wire.put_frame(opcode, true, bytes, random);
        }
    }

    pub(super) fn hear(
        &mut self,
        wire: &mut Wire,
        scene: &mut Scene<'_>,
    ) -> Result<bool, Violation> {
        let wrong = |what: String| Violation::new(Oracle::Protocol, format!("echo: {what}"));
        if !self.open {
            let Some(answer) = wire.answer()? else { return Ok(false) };
            match answer.status {
                101 => self.open = true,
                503 | 408 | 504 => {
                    self.closed = Some(answer.status);
                    return Ok(false);
                }
                status => return Err(wrong(format!("handshake answered {status}"))),
            }
        }
        while let Some(heard) = wire.hear()? {
            match heard {
                Heard::Message(bytes) if self.sockjs => match bytes.first() {
                    Some(b'o' | b'h' | b'c') => {}
                    Some(b'a') => {
                        let list: Result<Vec<String>, _> = serde_json::from_slice(&bytes[1..]);
                        for text in list.map_err(|_| wrong("not SockJS".into()))? {
                            self.check(text.as_bytes())?;
                        }
                    }
                    _ => return Err(wrong("not SockJS".into())),
                },
                Heard::Message(bytes) => self.check(&bytes)?,
                Heard::Ping(payload) => {
                    wire.put_frame(Opcode::Pong, true, &payload, scene.random());
                }
                Heard::Pong => {}
                Heard::Close(code) => {
                    if self.greedy != (code == 1009) && !matches!(code, 1001 | 1013 | 4500) {
                        let text = format!("echo: Close {code}, greedy: {}", self.greedy);
                        return Err(Violation::new(Oracle::Refusal, text));
                    }
                    self.closed = Some(code);
                    if !self.leaving {
                        wire.put_frame(Opcode::Close, true, b"", scene.random());
                    }
                    break;
                }
            }
        }
        Ok(self.open && self.count == 0)
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let expected = self.said.pop_front();
        if bytes.len() > MESSAGE {
            let text = format!("echo: {} bytes of an answer", bytes.len());
            return Err(Violation::new(Oracle::Limit, text));
        }
        if expected.as_deref() == Some(bytes) {
            return Ok(());
        }
        let text = format!("echo: {bytes:?} instead of {expected:?}");
        Err(Violation::new(Oracle::Order, text))
    }
}

//! What a browser's session receives: the handshake's answer, SockJS frames, STOMP frames.

use super::browser::{Browser, OnReceipt, Stage};
use super::forged::forged;
use super::greed;
use super::history::{Content, Secret};
use super::scene::Scene;
use super::target::{PRESENCE, SECRET, Target};
use super::violation::{Oracle, Violation};
use super::wire::{Heard, Wire};
use crate::stomp::{ServerFrame, parse_server_frame};
use crate::time::Instant;
use crate::ws::Opcode;

fn wrong(browser: &Browser, what: &str) -> Violation {
    Violation::new(Oracle::Protocol, format!("client {}: {what}", browser.number))
}

impl Browser {
    /// Handles received bytes. True if the session wants to do something now.
    pub(super) fn hear(
        &mut self,
        _: usize,
        wire: &mut Wire,
        scene: &mut Scene<'_>,
    ) -> Result<bool, Violation> {
        if self.stage == Stage::Upgrading && !self.upgraded(wire, scene)? {
            return Ok(false);
        }
        let before = self.stage;
        while self.closed.is_none() {
            let Some(heard) = wire.hear()? else { break };
            match heard {
                Heard::Message(bytes) if self.sockjs => self.sockjs(&bytes, wire, scene)?,
                Heard::Message(bytes) => self.stomp(&bytes, scene)?,
                Heard::Ping(payload) => {
                    wire.put_frame(Opcode::Pong, true, &payload, scene.random());
                }
                Heard::Pong => {}
                Heard::Close(code) => {
                    self.check_close(code, scene)?;
                    self.closed = Some(code);
                    if self.stage != Stage::Leaving {
                        let code = if code == 1005 { 1000 } else { code };
                        wire.put_frame(Opcode::Close, true, &code.to_be_bytes(), scene.random());
                    }
                }
            }
        }
        Ok(before != self.stage)
    }

    fn upgraded(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) -> Result<bool, Violation> {
        let Some(answer) = wire.answer()? else { return Ok(false) };
        match answer.status {
            101 => {
                self.open_at = scene.history.tick();
                match self.sockjs {
                    true => self.stage = Stage::Opening,
                    false => self.log_in(wire, scene),
                }
            }
            // Too many, or too late: the server ends the connection.
            503 | 408 | 504 => {
                self.closed = Some(answer.status);
                return Ok(false);
            }
            status => return Err(wrong(self, &format!("handshake answered {status}"))),
        }
        Ok(true)
    }

    fn sockjs(
        &mut self,
        bytes: &[u8],
        wire: &mut Wire,
        scene: &mut Scene<'_>,
    ) -> Result<(), Violation> {
        match (bytes.first(), self.stage) {
            (Some(b'o'), Stage::Opening) if bytes == b"o" => {
                self.open_at = scene.history.tick();
                self.log_in(wire, scene);
            }
            (Some(b'h'), _) if bytes == b"h" => {}
            (Some(b'c'), _) => {}
            (Some(b'a'), Stage::LoggingIn | Stage::Live | Stage::Leaving) => {
                let list: Result<Vec<String>, _> = serde_json::from_slice(&bytes[1..]);
                for text in list.map_err(|_| wrong(self, "not a SockJS array"))? {
                    self.stomp(text.as_bytes(), scene)?;
                }
            }
            _ => return Err(wrong(self, "not a SockJS frame")),
        }
        Ok(())
    }

    fn stomp(&mut self, bytes: &[u8], scene: &mut Scene<'_>) -> Result<(), Violation> {
        let text = || String::from_utf8_lossy(bytes);
        scene.world.tell(|| format!("client {} hears {:?}", self.number, text()));
        if bytes == b"\n" {
            return match self.beats || self.stage == Stage::Live {
                true => Ok(()),
                false => Err(wrong(self, "a heart-beat that was not agreed")),
            };
        }
        let frame = parse_server_frame(bytes);
        let frame = frame.filter(|f| f.consumed() == bytes.len() && bytes[0] != b'\n');
        let Some(frame) = frame else {
            let text = String::from_utf8_lossy(bytes).into_owned();
            return Err(wrong(self, &format!("not one STOMP frame: {text:?}")));
        };
        match (frame.command(), self.stage) {
            (b"CONNECTED", Stage::LoggingIn) => {
                self.stage = Stage::Live;
                self.next_action = scene.world.now();
                self.next_beat = Instant(scene.world.now().0 + super::browser::BEAT * 500_000);
                let id = String::from_utf8_lossy(frame.header(b"session").unwrap_or(b""));
                scene.plan.sessions.push((id.into_owned(), self.number, self.user));
                self.on_connected(&frame)
            }
            (b"RECEIPT", Stage::Live | Stage::Leaving) => self.on_receipt(&frame, scene),
            (b"MESSAGE", Stage::Live | Stage::Leaving) => self.on_message(&frame, scene),
            (b"ERROR", _) => self.on_error(&frame, scene),
            (command, stage) => {
                let command = String::from_utf8_lossy(command).into_owned();
                Err(wrong(self, &format!("{command} while {stage:?}")))
            }
        }
    }

    fn on_connected(&mut self, frame: &ServerFrame<'_>) -> Result<(), Violation> {
        let name = self.user.map(|user| format!("u{user}"));
        if frame.header(b"user-name") != name.as_ref().map(|name| name.as_bytes()) {
            return Err(wrong(self, "CONNECTED names another user"));
        }
        match frame.header(b"version") {
            Some(version) if version == self.version.text().as_bytes() => Ok(()),
            _ => Err(wrong(self, "CONNECTED has another version")),
        }
    }

    /// An ERROR must be one that the session has provoked, or one that any session may get; and it
    /// must come after the RECEIPTs of the frames before the one that it answers.
    fn on_error(
        &mut self,
        frame: &ServerFrame<'_>,
        scene: &mut Scene<'_>,
    ) -> Result<(), Violation> {
        let text = |name: &[u8]| frame.header(name).map(String::from_utf8_lossy);
        let (message, receipt) = (text(b"message").unwrap_or_default(), text(b"receipt-id"));
        let owed = self.receipts.front().map(|(number, _)| format!("r{number}"));
        let provoked = self.provoked.as_ref().filter(|provoked| provoked.message == message);
        let is_kept = matches!(scene.history.secret, Secret::Closing | Secret::Closed(_));
        let may_be_reload = is_kept
            && message == "not permitted"
            && receipt.is_none()
            && (provoked.is_some() || self.has_subscribed_to(SECRET, scene));
        let is_early = match (provoked, &receipt) {
            // The history knows which frames the server must have read before.
            _ if may_be_reload => {
                self.note_overtaken(scene);
                false
            }
            (Some(provoked), _) if provoked.receipt.as_deref() == receipt.as_deref() => {
                owed.is_some()
            }
            (_, Some(id)) => owed.as_deref() != Some(id),
            // The frame that it answers has no receipt.
            (_, None) => false,
        };
        if is_early {
            return Err(wrong(self, "ERROR before the RECEIPTs of earlier frames"));
        }
        if provoked.is_none() && greed::unprovoked(&message, scene.history.secret).is_none() {
            let text = format!("client {}: {message} without a reason", self.number);
            return Err(Violation::new(Oracle::Refusal, text));
        }
        self.error = Some(message.into_owned());
        Ok(())
    }

    /// Whether it has asked for this pattern in its session.
    fn has_subscribed_to(&self, pattern: &str, scene: &Scene<'_>) -> bool {
        let known = &scene.history.subscriptions;
        self.subscriptions
            .iter()
            .chain(&self.former)
            .any(|own| known[own.history].pattern == pattern)
    }

    /// A reload has ended the session: frames whose RECEIPT has not arrived may not have taken
    /// effect.
    fn note_overtaken(&self, scene: &mut Scene<'_>) {
        for (_, effect) in &self.receipts {
            if let OnReceipt::Sent(publication) = effect {
                scene.history.publications[*publication].overtaken = true;
            }
        }
    }

    /// The Close after an ERROR must have its code.
    fn check_close(&self, code: u16, scene: &Scene<'_>) -> Result<(), Violation> {
        let Some(error) = &self.error else { return Ok(()) };
        let provoked = self.provoked.as_ref().filter(|provoked| provoked.message == error);
        let expected = provoked.map(|provoked| provoked.code);
        let expected = expected.or(greed::unprovoked(error, scene.history.secret));
        if expected == Some(code) {
            return Ok(());
        }
        let text = format!("client {}: {error}, and then Close {code}", self.number);
        Err(Violation::new(Oracle::Refusal, text))
    }

    /// Receipts come in the order of their frames.
    fn on_receipt(
        &mut self,
        frame: &ServerFrame<'_>,
        scene: &mut Scene<'_>,
    ) -> Result<(), Violation> {
        let id = frame.header(b"receipt-id").unwrap_or(b"");
        let expected = self.receipts.pop_front();
        let Some((number, effect)) = expected.filter(|(n, _)| format!("r{n}").as_bytes() == id)
        else {
            let text = format!("receipt {} for {expected:?}", String::from_utf8_lossy(id));
            return Err(Violation::new(Oracle::Order, format!("client {}: {text}", self.number)));
        };
        let _ = number;
        let now = scene.history.tick();
        match effect {
            OnReceipt::Begun(s) => scene.history.subscriptions[s].begun_at = Some(now),
            OnReceipt::Left(s) => scene.history.subscriptions[s].left_at = Some(now),
            OnReceipt::Sent(publication) => scene.history.acknowledge(publication),
            OnReceipt::Traded(trade) => scene.history.trades[trade].acked_at = Some(now),
            OnReceipt::Goodbye | OnReceipt::Nothing => {}
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        frame: &ServerFrame<'_>,
        scene: &mut Scene<'_>,
    ) -> Result<(), Violation> {
        let header = |name: &[u8]| {
            frame.header(name).map_or(String::new(), |v| String::from_utf8_lossy(v).into_owned())
        };
        if let Some(forged) = forged(frame) {
            let text =
                format!("client {}: a sender's word for the server's: {forged}", self.number);
            return Err(Violation::new(Oracle::Isolation, text));
        }
        let (id, message_id) = (header(b"subscription"), header(b"message-id"));
        let Some(subscription) = self.subscription_of(&id, scene) else {
            return Err(wrong(self, &format!("MESSAGE for unknown subscription {id}")));
        };
        let state = &scene.history.subscriptions[subscription];
        if state.has_receipt && state.begun_at.is_none() {
            let text = format!("client {}: MESSAGE before the RECEIPT of {id}", self.number);
            return Err(Violation::new(Oracle::Order, text));
        }
        if state.left_at.is_some() {
            let text = format!("client {}: MESSAGE after the end of {id}", self.number);
            return Err(Violation::new(Oracle::Order, text));
        }
        let content = content(frame, &header(b"destination"))
            .ok_or_else(|| wrong(self, "MESSAGE with a strange body"))?;
        let publication = scene.history.receive(subscription, &message_id, content)?;
        if let Some(publication) = publication
            && matches!(scene.history.publications[publication].target, Target::Broker(_))
        {
            let target = scene.history.publications[publication].target;
            let number = scene.history.publications[publication].number.unwrap_or_default();
            // Between destinations with different windows there is no order.
            let last_number = self.last_numbers.entry(scene.history.rules.window(target));
            let last = last_number.or_default();
            if number < *last {
                let text = format!("client {}: {number} came after {last}", self.number);
                return Err(Violation::new(Oracle::Order, text));
            }
            *last = number;
        }
        Ok(())
    }
}

impl Browser {
    /// The subscription of an id. If the id was used again, that is the former one until the
    /// RECEIPT of the new one has arrived.
    fn subscription_of(&self, id: &str, scene: &Scene<'_>) -> Option<usize> {
        let all = self.subscriptions.iter().chain(self.former.iter().rev());
        let mut named = all.filter(|own| own.id == id).map(|own| own.history);
        let has_begun = |at: &usize| {
            let state = &scene.history.subscriptions[*at];
            !state.has_receipt || state.begun_at.is_some()
        };
        let newest = named.clone().next();
        named.find(has_begun).or(newest)
    }
}

/// The content of a MESSAGE.
fn content(frame: &ServerFrame<'_>, destination: &str) -> Option<Content> {
    let body = core::str::from_utf8(frame.body()).ok()?;
    if destination == PRESENCE {
        let json: serde_json::Value = serde_json::from_str(body).ok()?;
        let user = json["user"].as_str()?.strip_prefix('u')?.parse().ok()?;
        let online = match json["status"].as_str()? {
            "ON_LINE" => true,
            "OFF_LINE" => false,
            _ => return None,
        };
        return Some(Content::Presence(user, online));
    }
    if let Some(at) = body.find("\"p\":") {
        let digits = &body[at + 4..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        return digits[..end].parse().ok().map(Content::Publication);
    }
    if body.contains("\"mess\"") {
        return Some(Content::Answer);
    }
    body.contains("\"msg\"").then_some(Content::Error)
}

#![forbid(unsafe_code)]
//! Raw WebSocket endpoints: each message is echoed, answered with a text, or published.

use super::conn::{Pause, Proto, State};
use super::refuse::NUL_IN_BODY;
use super::shard::Shard;
use crate::broker::command::{Command, ReplyTo};
use crate::config::OnMessage;
use crate::ids::Slot;
use crate::ring::Ring;
use crate::sockjs;
use crate::ws::Opcode;

impl<R: Ring> Shard<R> {
    /// A chunk of a message on a raw connection.
    pub(super) fn raw_chunk(&mut self, slot: Slot, opcode: Opcode, payload: &mut [u8], last: bool) {
        let Proto::Raw(raw) = &mut self.conns.at_mut(slot).proto else { return };
        if !last {
            return raw.message.extend(payload);
        }
        raw.is_stranger = false;
        let is_quoted = raw.encoding.is_quoted();
        let mut whole = raw.message.take();
        let message: &[u8] = match &mut whole {
            Some(whole) => {
                whole.extend(payload);
                whole
            }
            None => payload,
        };
        self.metrics.frames_received_total.add(1);
        if is_quoted {
            self.raw_sockjs(slot, message)
        } else {
            self.raw_message(slot, opcode, message)
        }
    }

    fn raw_sockjs(&mut self, slot: Slot, text: &[u8]) {
        let mut messages = core::mem::take(&mut self.sockjs_messages);
        let text = core::str::from_utf8(text).unwrap_or("\u{0}");
        match sockjs::decode(text, &mut messages) {
            Ok(()) => {
                for message in messages.iter() {
                    self.raw_in_turn(slot, message.as_bytes());
                }
            }
            Err(error) => self.refuse_sockjs(slot, error),
        }
        self.sockjs_messages = messages;
    }

    /// Ends the connection for a message that is not SockJS's.
    pub(super) fn refuse_sockjs(&mut self, slot: Slot, error: sockjs::Error) {
        self.refuse(slot, error);
        self.drain(slot, &[], error.close_code(), "Broken framing.");
    }

    /// One of a frame's messages: now, or when the connection is read on.
    fn raw_in_turn(&mut self, slot: Slot, message: &[u8]) {
        if self.conns.at(slot).state != State::Open {
            return;
        }
        if self.may_answer_raw(slot) {
            return self.raw_message(slot, Opcode::Text, message);
        }
        if let Proto::Raw(raw) = &mut self.conns.at_mut(slot).proto {
            raw.backlog.extend(&(message.len() as u32).to_le_bytes());
            raw.backlog.extend(message);
        }
    }

    /// Whether it is the connection's turn and there is room for what one message produces; else it
    /// is paused. A frame may have thousands of messages, so each counts as a frame.
    fn may_answer_raw(&mut self, slot: Slot) -> bool {
        let is_paused = self.conns.at(slot).pause != Pause::No;
        if is_paused || self.pause_for_outbox(slot) || self.had_its_turn(slot) {
            return false;
        }
        let has_room = !self.raw_needs_room(slot) || self.has_room_for_frame();
        match has_room {
            true => self.frames_left -= 1,
            false => self.pause_for_room(slot),
        }
        has_room
    }

    /// Goes on with messages that waited while the connection was paused.
    pub(super) fn continue_raw(&mut self, slot: Slot) {
        let Proto::Raw(raw) = &mut self.conns.at_mut(slot).proto else { return };
        let Some(backlog) = raw.backlog.take() else { return };
        let mut used = 0;
        while let Some((len, rest)) = backlog[used..].split_first_chunk::<4>() {
            if self.conns.at(slot).state != State::Open {
                return;
            }
            if !self.may_answer_raw(slot) {
                break;
            }
            let len = u32::from_le_bytes(*len) as usize;
            self.raw_message(slot, Opcode::Text, &rest[..len]);
            used += 4 + len;
        }
        if let Proto::Raw(raw) = &mut self.conns.at_mut(slot).proto {
            raw.backlog.put_back(backlog, used);
        }
    }

    /// One whole message.
    fn raw_message(&mut self, slot: Slot, opcode: Opcode, message: &[u8]) {
        let Proto::Raw(raw) = &self.conns.at(slot).proto else { return };
        let shared = self.shared.clone();
        let Some(endpoint) = shared.endpoints.get(raw.endpoint.index()) else { return };
        match endpoint.config.on_message.as_ref().unwrap_or(&OnMessage::Echo) {
            OnMessage::Echo => self.raw_send(slot, opcode, message),
            OnMessage::Reply(text) => self.raw_send(slot, Opcode::Text, text.as_bytes()),
            OnMessage::Publish(destination) => {
                let text = if opcode == Opcode::Text { TEXT } else { BYTES };
                if shared.refuses_body(Some(text), message) {
                    self.refuse(slot, NUL_IN_BODY.refusal);
                    // RFC 6455 §7.4.1: 1007 is for what is no text; this is, and breaks a policy.
                    return self.drain(slot, &[], NUL_IN_BODY.code, NUL_IN_BODY.message);
                }
                let block = self.blocks.make(|block| {
                    block.begin(None, destination);
                    block.header(b"destination", destination.as_bytes());
                    block.header(b"content-type", text);
                    block.finish(message);
                });
                let message = block.expect("room was asked for before the message was read");
                let home = shared.homes.of_destination(destination);
                self.command(home, Command::Publish { message, reply_to: ReplyTo::None });
            }
        }
    }

    fn raw_send(&mut self, slot: Slot, opcode: Opcode, message: &[u8]) {
        let mut encoder = core::mem::take(&mut self.encoder);
        encoder.clear();
        encoder.message_of(self.encoding_of(slot), opcode, message.len(), |out| {
            out.copy_from_slice(message);
            message.len()
        });
        self.send_private(slot, encoder.bytes());
        self.encoder = encoder;
    }

    /// Whether a raw endpoint publishes, and so needs room before it reads.
    pub(super) fn raw_needs_room(&self, slot: Slot) -> bool {
        let Proto::Raw(raw) = &self.conns.at(slot).proto else { return false };
        let endpoint = self.shared.endpoints.get(raw.endpoint.index());
        endpoint.is_some_and(|e| matches!(e.config.on_message, Some(OnMessage::Publish(_))))
    }
}

const TEXT: &[u8] = b"text/plain;charset=UTF-8";
const BYTES: &[u8] = b"application/octet-stream";

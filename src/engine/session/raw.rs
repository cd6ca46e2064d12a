#![forbid(unsafe_code)]
//! Raw WebSocket endpoints: each message is echoed, answered with a text, or published.

use super::problem::NUL_IN_BODY;
use crate::broker::command::{Command, ReplyTo};
use crate::config::OnMessage;
use crate::engine::bus::Bus;
use crate::engine::delivery::Links;
use crate::engine::net::View;
use crate::ids::{LinkIndex, Slot};
use crate::ws::Opcode;

/// One whole message. The caller has asked for room.
pub fn answer(links: &mut Links, bus: &mut Bus, view: View<'_>, slot: Slot, message: Message<'_>) {
    let (Message(opcode, bytes), link) = (message, LinkIndex::from(slot));
    let Some(endpoint) = view.net.client(slot.into()).endpoint() else { return };
    let Some(endpoint) = view.shared.endpoints.get(endpoint.index()) else { return };
    match endpoint.config.on_message.as_ref().unwrap_or(&OnMessage::Echo) {
        OnMessage::Echo => send(links, view, link, opcode, bytes),
        OnMessage::Reply(text) => send(links, view, link, Opcode::Text, text.as_bytes()),
        OnMessage::Publish(destination) => {
            let kind = if opcode == Opcode::Text { TEXT } else { BYTES };
            if view.shared.refuses_body(Some(kind), bytes) {
                view.refuse(slot, NUL_IN_BODY.refusal);
                // RFC 6455 §7.4.1: 1007 is for what is no text; this is, and breaks a policy.
                return links.drain(view, link, NUL_IN_BODY.code, NUL_IN_BODY.message);
            }
            let message = bus.message(|block| {
                block.begin(None, destination);
                block.header(b"destination", destination.as_bytes());
                block.header(b"content-type", kind);
                block.finish(bytes);
            });
            let home = view.shared.homes.of_destination(destination);
            bus.command(home, Command::Publish { message, reply_to: ReplyTo::None });
        }
    }
}

/// A message and what kind of WebSocket message it came in.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a>(pub Opcode, pub &'a [u8]);

fn send(links: &mut Links, view: View<'_>, link: LinkIndex, opcode: Opcode, message: &[u8]) {
    links.send(view, link, |encoder, encoding| {
        encoder.message_of(encoding, opcode, message.len(), |out| {
            out.copy_from_slice(message);
            message.len()
        });
    });
}

const TEXT: &[u8] = b"text/plain;charset=UTF-8";
const BYTES: &[u8] = b"application/octet-stream";

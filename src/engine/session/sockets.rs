#![forbid(unsafe_code)]
//! From received bytes to messages: the WebSocket framers of all upgraded connections, SockJS's
//! frames, and messages that are not whole yet.
//!
//! Bytes are read where they lie. Kept are only chunks of a message that has to be whole before it
//! can be read: one that is compressed, SockJS's arrays, and those of raw endpoints. Bound:
//! `message` for each, `held-bytes` for all that connections keep.

use super::histories::Histories;
use super::pongs::{Payload, Pongs};
use crate::config::OnMessage;
use crate::encoding::Encoding;
use crate::engine::context::Context;
use crate::engine::net::{Held, Kept, View};
use crate::ids::Slot;
use crate::limits::Limits;
use crate::sockjs::{self, Messages};
use crate::ws::{self, Event, Opcode};
use hashbrown::HashMap;
use std::sync::Arc;

/// An upgraded connection.
#[derive(Debug, Default)]
enum Socket {
    /// The connection at this slot speaks HTTP.
    #[default]
    None,
    /// A raw endpoint's. Behind a pointer: the other ones are many.
    Raw(Box<Raw>),
    /// A STOMP session's.
    Stomp {
        decoder: ws::Decoder,
        /// Chunks of a message that is not whole yet.
        message: Held,
    },
}

/// Bytes of an upgraded connection.
pub const SOCKET_BYTES: usize = size_of::<Socket>();
const _: () = assert!(SOCKET_BYTES <= 40);

/// State of a raw WebSocket.
#[derive(Debug)]
struct Raw {
    decoder: ws::Decoder,
    /// Chunks of a message that is not whole yet.
    message: Held,
    /// Nobody has said who it is, and it has sent nothing.
    is_stranger: bool,
    /// SockJS only: messages of a frame that wait until the connection is read on, each behind its
    /// length in four bytes.
    backlog: Held,
}

/// What has come of some bytes.
#[derive(Debug)]
pub enum Arrived<'a> {
    /// Nothing to act upon.
    Nothing,
    /// A Ping, to be answered with its payload.
    Ping(&'a [u8]),
    /// The peer's Close frame and its code.
    Close(Option<u16>),
    /// Some bytes of the stream of STOMP frames.
    Stream(&'a mut [u8]),
    /// A whole message of a raw endpoint.
    Message(Opcode, &'a [u8]),
    /// This many messages of one SockJS frame: [`Sockets::message`].
    Messages(usize),
    /// The message is not SockJS's.
    NotSockJs(sockjs::Error),
    /// The frame or its compressed payload is wrong.
    Wrong(ws::Error),
}

/// What one look at the input has come to.
#[derive(Debug)]
pub struct Next<'a> {
    /// Bytes that it took; none: it needs more.
    pub used: usize,
    /// It was a part of a frame that is more than a head, and counts as one.
    pub is_frame: bool,
    /// What inflating was worth, in frames.
    pub inflated: u32,
    /// What has come of it.
    pub arrived: Arrived<'a>,
}

/// Inflating this many bytes counts as a frame.
const DEFLATED_FRAME: usize = 256;

/// All upgraded connections of a shard, by slot.
#[derive(Debug, Default)]
pub struct Sockets {
    list: Vec<Socket>,
    /// What the clients with context takeover said before.
    histories: Histories,
    /// Pings that are answered when the send in flight is over.
    pongs: Pongs,
    /// Users of raw sessions that have one: the others pay nothing for it.
    raw_users: HashMap<Slot, Arc<str>, foldhash::fast::FixedState>,
    inflater: ws::Inflater,
    /// The last message that was compressed, or came in chunks.
    inflated: Vec<u8>,
    whole: Option<Kept>,
    messages: Messages,
    /// One of the messages, to be read in place.
    one: Vec<u8>,
}

impl Sockets {
    /// None yet; the table does not move while there are at most `slots`.
    pub fn new(slots: u32) -> Sockets {
        Sockets { list: Vec::with_capacity(slots as usize), ..Sockets::default() }
    }

    /// A connection has been upgraded for STOMP frames.
    pub fn open_stomp(&mut self, slot: Slot, encoding: Encoding) {
        let socket = Socket::Stomp { decoder: decoder(encoding), message: Held::default() };
        self.put(slot, socket);
    }

    /// A connection has been upgraded at a raw endpoint.
    pub fn open_raw(&mut self, slot: Slot, encoding: Encoding, user: Option<Arc<str>>) {
        let raw = Raw {
            decoder: decoder(encoding),
            message: Held::default(),
            is_stranger: user.is_none(),
            backlog: Held::default(),
        };
        self.put(slot, Socket::Raw(Box::new(raw)));
        if let Some(user) = user {
            self.raw_users.insert(slot, user);
        }
    }

    fn put(&mut self, slot: Slot, socket: Socket) {
        if self.list.len() <= slot.index() {
            self.list.resize_with(slot.index() + 1, Socket::default);
        }
        let former = core::mem::replace(&mut self.list[slot.index()], socket);
        assert!(matches!(former, Socket::None), "a connection is upgraded once");
    }

    fn at(&self, slot: Slot) -> &Socket {
        self.list.get(slot.index()).unwrap_or(&Socket::None)
    }

    /// Whether the connection has been upgraded.
    pub fn is_upgraded(&self, slot: Slot) -> bool {
        !matches!(self.at(slot), Socket::None)
    }

    /// Whether it is that of a raw endpoint.
    pub fn is_raw(&self, slot: Slot) -> bool {
        matches!(self.at(slot), Socket::Raw(_))
    }

    /// Whether it is that of a raw endpoint, of nobody, and has sent nothing.
    pub fn is_raw_stranger(&self, slot: Slot) -> bool {
        matches!(self.at(slot), Socket::Raw(raw) if raw.is_stranger)
    }

    /// Its link has ended: what is not whole is not waited for.
    pub fn leave(&mut self, slot: Slot) {
        self.pongs.take(slot);
        match self.list.get_mut(slot.index()) {
            Some(Socket::Raw(raw)) => {
                raw.message.take();
                raw.backlog.take();
            }
            Some(Socket::Stomp { message, .. }) => drop(message.take()),
            Some(Socket::None) | None => {}
        }
    }

    /// The slot is free again.
    pub fn closed(&mut self, slot: Slot) {
        if let Some(socket) = self.list.get_mut(slot.index()) {
            *socket = Socket::None;
        }
        self.histories.close(slot);
        self.raw_users.remove(&slot);
    }

    /// The client at this slot may refer back to what it said before, by 2^`bits` bytes.
    pub fn open_history(&mut self, slot: Slot, bits: u8) {
        self.histories.open(slot, bits);
    }

    /// Whether one more client may do so (limit `inflate-histories`).
    pub fn has_history_room(&self, ctx: &Context, bits: u8) -> bool {
        self.histories.has_room_for(bits, ctx.limits.inflate_histories)
    }

    /// Bytes that such clients may refer to.
    pub fn history_bytes(&self) -> usize {
        self.histories.bytes()
    }

    /// Slots of a user's raw sessions.
    pub fn raw_slots_of(&self, user: &Arc<str>) -> impl Iterator<Item = Slot> {
        self.raw_users.iter().filter(move |(_, name)| *name == user).map(|(slot, _)| *slot)
    }

    /// Bytes that a connection keeps here.
    pub fn held(&self, slot: Slot) -> usize {
        let kept = match self.at(slot) {
            Socket::None => 0,
            Socket::Raw(raw) => raw.message.len() + raw.backlog.len(),
            Socket::Stomp { message, .. } => message.len(),
        };
        kept + self.pongs.bytes_of(slot)
    }

    /// A Ping has come while a send is in flight: the newest is answered when that is over
    /// (RFC 6455 §5.5.3).
    pub fn owe_pong(&mut self, slot: Slot, payload: &[u8]) {
        self.pongs.owe(slot, payload);
    }

    /// Whether any client has yet to be sent a Pong: asked after each send.
    #[inline]
    pub fn owes_pongs(&self) -> bool {
        self.pongs.any()
    }

    /// The payload of the Ping that is to be answered now, if any is.
    pub fn take_pong(&mut self, slot: Slot) -> Option<Payload> {
        self.pongs.take(slot)
    }

    /// Whether the connection's endpoint publishes what it is sent, and so needs room first.
    pub fn publishes(&self, view: View<'_>, slot: Slot) -> bool {
        let endpoint = self.is_raw(slot).then(|| view.net.client(slot.into()).endpoint()).flatten();
        let endpoint = endpoint.and_then(|at| view.shared.endpoints.get(at.index()));
        endpoint.is_some_and(|e| matches!(e.config.on_message, Some(OnMessage::Publish(_))))
    }

    /// Reads the next part of a frame. It is in place or copied: what has come lives until the
    /// next call.
    pub fn next<'a>(
        &'a mut self,
        slot: Slot,
        encoding: Encoding,
        limits: &Limits,
        bytes: &'a mut [u8],
    ) -> Next<'a> {
        let mut next = Next { used: 0, is_frame: false, inflated: 0, arrived: Arrived::Nothing };
        let is_stomp = !self.is_raw(slot);
        let message_max = message_max(limits, encoding, is_stomp);
        let decoder = match self.list.get_mut(slot.index()) {
            Some(Socket::Raw(raw)) => &mut raw.decoder,
            Some(Socket::Stomp { decoder, .. }) => decoder,
            Some(Socket::None) | None => return next,
        };
        let (used, event) = match decoder.next(bytes, message_max) {
            Ok(found) => found,
            Err(error) => {
                next.arrived = Arrived::Wrong(error);
                return next;
            }
        };
        next.used = used;
        next.is_frame = event.is_some();
        let (opcode, len, last, compressed) = match event {
            None | Some(Event::Pong(_)) => return next,
            Some(Event::Ping(payload)) => {
                // It ends what was used.
                let len = payload.len();
                next.arrived = Arrived::Ping(&bytes[used - len..used]);
                return next;
            }
            Some(Event::Close { code, reason: _ }) => {
                next.arrived = Arrived::Close(code);
                return next;
            }
            Some(Event::Data { opcode, payload, first: _, last, compressed }) => {
                (opcode, payload.len(), last, compressed)
            }
        };
        // A data event ends with its payload.
        let payload = &mut bytes[used - len..used];
        if compressed {
            if !last {
                self.keep(slot, payload);
                return next;
            }
            let inflated = self.inflate(slot, opcode, payload, message_max);
            // A few bytes may have become many frames, or much work, whatever has come of it.
            next.inflated = (self.inflated.len() / DEFLATED_FRAME) as u32;
            if let Err(error) = inflated {
                next.arrived = Arrived::Wrong(error);
                return next;
            }
            next.arrived = self.whole_message(slot, encoding, opcode, Source::Inflated);
        } else if is_stomp && !encoding.is_quoted() {
            next.arrived = Arrived::Stream(payload);
        } else if !last {
            self.keep(slot, payload);
        } else if self.finish(slot, payload) {
            next.arrived = self.whole_message(slot, encoding, opcode, Source::Kept);
        } else {
            next.arrived = self.whole_message(slot, encoding, opcode, Source::Here(payload));
        }
        next
    }

    /// Keeps a chunk of a message that is not whole.
    fn keep(&mut self, slot: Slot, chunk: &[u8]) {
        if let Some(kept) = self.kept(slot) {
            kept.extend(chunk);
        }
    }

    fn kept(&mut self, slot: Slot) -> Option<&mut Held> {
        match self.list.get_mut(slot.index()) {
            Some(Socket::Raw(raw)) => Some(&mut raw.message),
            Some(Socket::Stomp { message, .. }) => Some(message),
            Some(Socket::None) | None => None,
        }
    }

    /// The last chunk of a message is here. True if there are others before it, so that all of it
    /// is in `whole`.
    fn finish(&mut self, slot: Slot, chunk: &[u8]) -> bool {
        self.whole = self.kept(slot).and_then(Held::take);
        if let Some(whole) = &mut self.whole {
            whole.extend(chunk);
        }
        self.whole.is_some()
    }

    /// Inflates a message whose last chunk is here: a session needs no inflater of its own, and no
    /// window but for context takeover.
    fn inflate(
        &mut self,
        slot: Slot,
        opcode: Opcode,
        last: &[u8],
        message_max: u32,
    ) -> Result<(), ws::Error> {
        let kept = self.kept(slot).and_then(Held::take);
        let Sockets { inflater, inflated: plain, histories, .. } = self;
        plain.clear();
        let mut history = histories.of(slot);
        match &history {
            Some(history) => inflater.begin_after(opcode, message_max, history),
            None => inflater.begin(opcode, message_max),
        }
        inflater.feed(kept.as_ref().map_or(&[][..], |kept| &kept[..]), plain)?;
        inflater.feed(last, plain)?;
        inflater.finish(plain)?;
        // Before it is read, since it is read in place.
        if let Some(history) = &mut history {
            history.push(plain);
        }
        Ok(())
    }

    /// What a whole message is.
    fn whole_message<'a>(
        &'a mut self,
        slot: Slot,
        encoding: Encoding,
        opcode: Opcode,
        source: Source<'a>,
    ) -> Arrived<'a> {
        let Sockets { list, inflated, whole, messages, .. } = self;
        let text: &'a mut [u8] = match (source, whole) {
            (Source::Inflated, _) => inflated,
            (Source::Kept, Some(whole)) => whole,
            (Source::Kept, None) => &mut [],
            (Source::Here(bytes), _) => bytes,
        };
        let is_raw = match &mut list[slot.index()] {
            Socket::Raw(raw) => {
                raw.is_stranger = false;
                true
            }
            Socket::Stomp { .. } | Socket::None => false,
        };
        if encoding.is_quoted() {
            // SockJS has only text: a binary message is none of its.
            let text = core::str::from_utf8(text).map_err(|_| sockjs::Error::BrokenJson);
            return match text.and_then(|text| sockjs::decode(text, messages)) {
                Ok(()) => Arrived::Messages(messages.len()),
                Err(error) => Arrived::NotSockJs(error),
            };
        }
        if is_raw { Arrived::Message(opcode, text) } else { Arrived::Stream(text) }
    }

    /// One of the messages of a SockJS frame, to be read in place.
    pub fn message(&mut self, at: usize) -> &mut [u8] {
        self.one.clear();
        self.one.extend_from_slice(self.messages.at(at).as_bytes());
        &mut self.one
    }

    /// A message of a raw endpoint waits until its connection is read on.
    pub fn put_off(&mut self, slot: Slot, at: usize) {
        let message = self.messages.at(at).as_bytes();
        if let Some(Socket::Raw(raw)) = self.list.get_mut(slot.index()) {
            raw.backlog.extend(&(message.len() as u32).to_le_bytes());
            raw.backlog.extend(message);
        }
    }

    /// Takes out the messages of a raw endpoint that wait.
    pub fn take_backlog(&mut self, slot: Slot) -> Option<Kept> {
        match self.list.get_mut(slot.index()) {
            Some(Socket::Raw(raw)) => raw.backlog.take(),
            _ => None,
        }
    }

    /// Puts them back, without the first `used` bytes.
    pub fn put_back_backlog(&mut self, slot: Slot, backlog: Kept, used: usize) {
        if let Some(Socket::Raw(raw)) = self.list.get_mut(slot.index()) {
            raw.backlog.put_back(backlog, used);
        }
    }

    /// The turn is over: a message that came in chunks does not stay.
    pub fn give_back(&mut self) {
        self.whole = None;
    }

    /// Asserts what holds between the table and what belongs to its entries. Slow.
    pub fn invariants(&self) {
        let is_raw = |slot: &Slot| self.is_raw(*slot);
        assert!(self.raw_users.keys().all(is_raw), "only raw sessions have raw users");
    }
}

/// Where a whole message lies.
enum Source<'a> {
    /// It has been inflated.
    Inflated,
    /// It came in chunks.
    Kept,
    /// It came at once.
    Here(&'a mut [u8]),
}

fn decoder(encoding: Encoding) -> ws::Decoder {
    let decoder = ws::Decoder::server();
    if encoding.deflate() > 0 { decoder.with_compression() } else { decoder }
}

/// Bytes of the longest message. A message of STOMP always has room for a frame that is somewhat
/// too long, so that its sender hears of it by an ERROR; SockJS's quoting makes one longer still.
fn message_max(limits: &Limits, encoding: Encoding, is_stomp: bool) -> u32 {
    if !is_stomp {
        return limits.message;
    }
    let longer = if encoding.is_quoted() { 6 } else { 2 };
    limits.message.max(limits.stomp_frame.saturating_mul(longer))
}

#![forbid(unsafe_code)]
//! What becomes of bytes: requests, frames, messages. A paused link keeps them all, and its
//! receive is stopped so that it does not drain the shared buffers. Bound: `held-bytes` for all
//! that connections keep.

use super::delivery::{Delivery, NO_CODE, unsent};
use super::dispatch::Dispatch;
use super::net::{Peer, State, View};
use super::session::{Arrived, Message, answer_raw};
use super::web::{Stage, Step, Upgrade};
use crate::ids::{ConnId, LinkIndex, Slot};
use crate::limits::WS_CONTROL_MAX;
use crate::metrics::Refusal;
use crate::ring::{PollEnd, RecvEnd};
use crate::sockjs;
use crate::ws::Opcode;
use core::cmp::Reverse;
use smallvec::SmallVec;

impl Dispatch {
    /// Bytes have come in; the receive goes on or not. Where they are sealed, what they say goes
    /// into `opened`.
    pub(super) fn on_received(
        &mut self,
        id: ConnId,
        bytes: &mut [u8],
        opened: &mut Vec<u8>,
        more: bool,
    ) {
        if !self.net.is_current(id) {
            return;
        }
        let slot = id.slot;
        self.net.received(slot, more);
        self.ctx.metrics.received_bytes_total.add(bytes.len() as u64);
        // What comes of one that moves is opened where it goes.
        match self.net.transports().is_sealed(slot) && self.net.state(slot) != State::Moving {
            false => self.take_bytes(slot, bytes),
            true => self.take_sealed(slot, bytes, opened),
        }
        self.hear();
        self.settle(slot);
        if self.holds_too_much() {
            self.refuse_biggest_holder();
        }
    }

    /// Opens bytes and takes what they say. Those that say nothing, such as the first part of a
    /// record or a change of keys, are no sign of life and begin no request.
    fn take_sealed(&mut self, slot: Slot, bytes: &mut [u8], opened: &mut Vec<u8>) {
        let link = LinkIndex::from(slot);
        if !self.delivery.links.is_open(link) {
            return;
        }
        opened.clear();
        let transports = self.net.transports_mut();
        let was_greeting = transports.is_greeting(slot);
        let result = transports.open(slot, bytes, opened);
        if !opened.is_empty() {
            self.take_bytes(slot, opened);
        }
        let transports = self.net.transports();
        if transports.owes(slot) || was_greeting && !transports.is_greeting(slot) {
            // What waited for the handshake, or what the layer answers by itself.
            self.delivery.links.mark_dirty(link);
        }
        if let Err(error) = result {
            View { ctx: &self.ctx, net: &self.net }.refuse(slot, error);
            self.delivery.links.fail(link);
        } else if self.net.transports().is_ended(slot) && self.net.peer(slot) != Peer::Ended {
            self.on_peer_ended(slot);
        } else if self.net.transports().owes_too_much(slot, self.ctx.limits.send_buffer) {
            self.delivery.links.too_slow(View { ctx: &self.ctx, net: &self.net }, link);
        }
    }

    fn take_bytes(&mut self, slot: Slot, bytes: &mut [u8]) {
        let link = LinkIndex::from(slot);
        // In a request its own time runs, whatever comes.
        let is_life = self.sockets.is_upgraded(slot) || self.web.stage(slot) == Stage::Idle;
        self.net.heard(slot, self.ctx.ms, is_life);
        if !self.delivery.links.is_open(link) {
            // Nothing that comes now is answered; the end of it is what is waited for.
            return;
        }
        self.share.begin(&self.ctx, 1);
        if self.delivery.links.at(link).is_paused() {
            self.input.keep(slot, bytes);
            self.net.stop_receiving(slot);
        } else if self.net.state(slot) == State::Moving {
            self.input.keep(slot, bytes);
        } else if self.input.waits(slot) {
            self.input.keep(slot, bytes);
            self.process_tail(slot);
        } else {
            let used = self.process(slot, bytes);
            if self.delivery.links.is_open(link) {
                self.input.keep(slot, &bytes[used..]);
            }
        }
        self.share.end();
    }

    /// Reads what was kept while a connection moved.
    pub(super) fn read_kept(&mut self, slot: Slot) {
        if self.net.transports().is_sealed(slot) {
            let mut wire = self.input.take(slot).map_or_else(Vec::new, |kept| kept.to_vec());
            return self.take_sealed(slot, &mut wire, &mut Vec::new());
        }
        self.share.begin(&self.ctx, 1);
        if self.delivery.links.is_read(slot.into()) {
            self.process_tail(slot);
        }
        self.share.end();
    }

    /// Goes on with what is kept.
    fn process_tail(&mut self, slot: Slot) {
        let Some(mut tail) = self.input.take(slot) else { return };
        let used = self.process(slot, &mut tail);
        if self.delivery.links.is_open(slot.into()) {
            self.input.put_back(slot, tail, used);
        }
    }

    /// Runs what the connection speaks until it stops. Says how many bytes that used.
    fn process(&mut self, slot: Slot, bytes: &mut [u8]) -> usize {
        let link = LinkIndex::from(slot);
        let mut used = 0;
        while used < bytes.len() && self.delivery.links.is_read(link) {
            let is_upgraded = self.sockets.is_upgraded(slot);
            let view = View { ctx: &self.ctx, net: &self.net };
            if self.delivery.links.pause_for_outbox(view, link) {
                break;
            }
            if is_upgraded && self.share.is_over() {
                self.delivery.links.pause_for_room(&self.ctx, link);
                break;
            }
            let rest = &mut bytes[used..];
            let step = if is_upgraded { self.frame(slot, rest) } else { self.request(slot, rest) };
            match step {
                Step::Used(n) => used += n,
                Step::Stop(n) => return used + n,
            }
        }
        used
    }

    fn request(&mut self, slot: Slot, bytes: &mut [u8]) -> Step {
        let Dispatch { ctx, net, delivery, sockets, web, bus, .. } = self;
        let view = View { ctx, net };
        let (step, upgrade) = web.read(&mut delivery.links, bus, view, sockets, slot, bytes);
        if let Some(upgrade) = upgrade {
            self.upgrade(slot, *upgrade);
        }
        step
    }

    /// A handshake is good: the connection becomes a WebSocket.
    fn upgrade(&mut self, slot: Slot, upgrade: Upgrade) {
        let link = LinkIndex::from(slot);
        let has_place = match upgrade.client {
            Some(client) => self.net.settle_address(&self.ctx, slot, client),
            None => true,
        };
        let Dispatch { ctx, net, delivery: Delivery { links, .. }, stomp, sockets, web, .. } = self;
        if !has_place {
            return web.refuse_upgrade(links, View { ctx, net }, slot, upgrade.meta);
        }
        links.send_http(View { ctx, net }, link, &upgrade.answer);
        ctx.metrics.requests_total.add(1);
        if !links.is_open(link) {
            return;
        }
        let encoding = upgrade.encoding;
        net.set_endpoint(slot, upgrade.endpoint);
        net.begin_phase(slot, ctx.ms);
        net.times_mut(slot).last_in = ctx.ms;
        links.upgrade(slot, encoding);
        if let Some(bits) = upgrade.takeover_bits {
            sockets.open_history(slot, bits);
        }
        if upgrade.is_stomp {
            sockets.open_stomp(slot, encoding);
            stomp.open(link, upgrade.user);
        } else {
            ctx.metrics.raw_sessions.set(ctx.metrics.raw_sessions.value() + 1);
            sockets.open_raw(slot, encoding, upgrade.user);
        }
        let view = View { ctx, net };
        if encoding.has_sockjs_frames() {
            links.send_frame(view, link, Opcode::Text, sockjs::OPEN.as_bytes());
        }
        let endpoint = ctx.shared.endpoints.get(upgrade.endpoint.index());
        if let Some(close) = endpoint.and_then(|endpoint| endpoint.config.on_open.as_ref()) {
            links.drain(view, link, close.code, &close.reason);
        }
        self.set_timer(slot);
    }

    /// One event of a WebSocket.
    fn frame(&mut self, slot: Slot, bytes: &mut [u8]) -> Step {
        let link = LinkIndex::from(slot);
        let Dispatch { ctx, net, delivery, stomp, sockets, bus, share, .. } = self;
        let view = View { ctx, net };
        if sockets.publishes(view, slot) && !bus.has_room_for_frame(ctx) {
            delivery.links.pause_for_room(ctx, link);
            return Step::Stop(0);
        }
        let encoding = delivery.links.encoding(link);
        let next = sockets.next(slot, encoding, &ctx.limits, bytes);
        let used = next.used;
        share.spend(u32::from(next.is_frame) + next.inflated);
        match next.arrived {
            Arrived::Nothing if used == 0 && !next.is_frame => return Step::Stop(0),
            Arrived::Nothing => {}
            // RFC 6455 §5.5.3: of several pings the newest may be answered alone.
            Arrived::Ping(payload) if net.sending(slot).is_on() => {
                let payload: SmallVec<[u8; WS_CONTROL_MAX]> = SmallVec::from_slice(payload);
                sockets.owe_pong(slot, &payload);
            }
            Arrived::Ping(payload) => {
                delivery.links.send_frame(view, link, Opcode::Pong, payload);
            }
            Arrived::Close(code) => {
                // RFC 6455 §5.5.1: the code goes back; a Close without one gets one without.
                delivery.links.drain(view, link, code.unwrap_or(NO_CODE), "");
                return Step::Stop(used);
            }
            Arrived::Stream(stream) => stomp.feed(delivery, bus, view, share, link, stream),
            Arrived::Message(opcode, bytes) => {
                ctx.metrics.frames_received_total.add(1);
                answer_raw(&mut delivery.links, bus, view, slot, Message(opcode, bytes));
            }
            Arrived::Messages(count) => self.messages(slot, count),
            Arrived::NotSockJs(error) => {
                let is_raw = sockets.is_raw(slot);
                ctx.metrics.frames_received_total.add(u64::from(is_raw));
                view.refuse(slot, error);
                delivery.links.drain(view, link, error.close_code(), "Broken framing.");
            }
            Arrived::Wrong(error) => {
                view.refuse(slot, error);
                delivery.links.drain(view, link, error.close_code(), error.reason());
            }
        }
        Step::Used(used)
    }

    /// The messages of a SockJS frame.
    fn messages(&mut self, slot: Slot, count: usize) {
        let link = LinkIndex::from(slot);
        let is_raw = self.sockets.is_raw(slot);
        self.ctx.metrics.frames_received_total.add(u64::from(is_raw));
        for at in 0..count {
            if !self.delivery.links.is_open(link) {
                return;
            }
            if is_raw && !self.may_answer_raw(slot) {
                self.sockets.put_off(slot, at);
                continue;
            }
            let Dispatch { ctx, net, delivery, stomp, sockets, bus, share, .. } = self;
            let (view, bytes) = (View { ctx, net }, sockets.message(at));
            if is_raw {
                let message = Message(Opcode::Text, bytes);
                answer_raw(&mut delivery.links, bus, view, slot, message);
            } else {
                stomp.feed(delivery, bus, view, share, link, bytes);
            }
        }
    }

    /// Whether it is the turn of a raw session and there is room for what one message produces;
    /// else it is paused. A frame may have thousands of messages, so each counts as a frame.
    fn may_answer_raw(&mut self, slot: Slot) -> bool {
        let link = LinkIndex::from(slot);
        let Dispatch { ctx, net, delivery, share, sockets, bus, .. } = self;
        let view = View { ctx, net };
        if !delivery.links.is_read(link) || delivery.links.pause_for_outbox(view, link) {
            return false;
        }
        let needs_room = sockets.publishes(view, slot);
        let may = !share.is_over() && (!needs_room || bus.has_room_for_frame(ctx));
        match may {
            true => share.spend(1),
            false => delivery.links.pause_for_room(ctx, link),
        }
        may
    }

    /// Goes on with messages of a raw session that waited while it was paused.
    fn resume_raw(&mut self, slot: Slot) {
        let link = LinkIndex::from(slot);
        let Some(backlog) = self.sockets.take_backlog(slot) else { return };
        let mut used = 0;
        while let Some((len, rest)) = backlog[used..].split_first_chunk::<4>() {
            if !self.delivery.links.is_open(link) {
                return;
            }
            if !self.may_answer_raw(slot) {
                break;
            }
            let len = u32::from_le_bytes(*len) as usize;
            let Dispatch { ctx, net, delivery, bus, .. } = self;
            let message = Message(Opcode::Text, &rest[..len]);
            answer_raw(&mut delivery.links, bus, View { ctx, net }, slot, message);
            used += 4 + len;
        }
        self.sockets.put_back_backlog(slot, backlog, used);
    }

    // ---- the end of the peer's direction

    /// The receive of a connection has ended.
    pub(super) fn on_receive_ended(&mut self, id: ConnId, end: RecvEnd) {
        if !self.net.is_current(id) {
            return;
        }
        self.net.receive_ended(id, end);
        if self.net.state(id.slot) == State::Moving {
            self.on_moving_ended(id.slot, end);
        }
        match end {
            RecvEnd::Stopped => {}
            RecvEnd::Starved => self.ctx.metrics.receive_starved_total.add(1),
            RecvEnd::Eof => self.on_peer_ended(id.slot),
            RecvEnd::Failed(_) => self.delivery.links.reset(&self.ctx, id.slot.into()),
        }
        self.hear();
        self.settle(id.slot);
    }

    /// The peer has ended its direction, and the socket is read to its end.
    pub(super) fn on_peer_ended(&mut self, slot: Slot) {
        self.hang_up(slot, Peer::Ended);
        let links = &mut self.delivery.links;
        let link = LinkIndex::from(slot);
        let has_bytes = unsent(links, &self.net, slot) > 0;
        let is_idle = self.web.stage(slot) == Stage::Idle && !self.sockets.is_upgraded(slot);
        if links.at(link).is_paused() || links.is_ending(link) && has_bytes {
            // It may still read the answer that it asked for, and what it sent before may count.
        } else if links.is_open(link) && is_idle && has_bytes {
            links.drain_http(link);
        } else {
            links.cut(link);
        }
    }

    /// The end of the peer's direction is known. While the link is paused that ends nothing at
    /// once: who sends a request and then FIN waits for its answer, and what came before the FIN
    /// was sent in good faith. But a paused client is not listened to, so nothing else would
    /// tell that the peer has gone: after HANGUP_GRACE the connection ends, whatever it waits for.
    /// That time runs from the first news of the FIN and is never begun anew. A reset ends it at
    /// once.
    fn hang_up(&mut self, slot: Slot, peer: Peer) {
        let is_news = self.net.hang_up(slot, peer);
        if is_news && self.delivery.links.at(slot.into()).is_paused() {
            self.net.times_mut(slot).since = self.ctx.ms;
            self.set_timer(slot);
        }
    }

    /// The poll for the end of a peer is over.
    pub(super) fn on_poll_ended(&mut self, id: ConnId, end: PollEnd) {
        if !self.net.is_current(id) {
            return;
        }
        let link = LinkIndex::from(id.slot);
        self.net.poll_ended(id.slot);
        let is_here = self.net.peer(id.slot) == Peer::Here;
        let is_paused = self.delivery.links.at(link).is_paused();
        match end {
            _ if !self.delivery.links.is_open(link) => {}
            // Who is read again hears of it by its receive.
            PollEnd::HungUp if !is_paused || !is_here => {}
            PollEnd::HungUp => self.hang_up(id.slot, Peer::HungUp),
            PollEnd::Reset => self.delivery.links.reset(&self.ctx, link),
            PollEnd::Stopped => {}
        }
        self.hear();
        self.settle(id.slot);
    }

    // ---- waiting

    /// What a client waited for may be there: it goes on where it stopped.
    fn resume(&mut self, link: LinkIndex) {
        if !self.delivery.links.resume(link) {
            return;
        }
        // Others that wait have as much.
        let clients = self.delivery.links.waiting() as u32 + 1;
        self.share.begin(&self.ctx, clients);
        let Some(slot) = self.delivery.links.slot(link) else { return self.resume_session(link) };
        let is_upgraded = self.sockets.is_upgraded(slot);
        if self.sockets.is_raw(slot) {
            self.resume_raw(slot);
        } else {
            let Dispatch { ctx, net, delivery, stomp, web, bus, share, .. } = self;
            let view = View { ctx, net };
            match is_upgraded {
                true => stomp.resume(delivery, bus, view, share, link),
                false => web.resume(&mut delivery.links, bus, view, slot),
            }
        }
        if self.delivery.links.is_read(link) {
            self.process_tail(slot);
        }
        self.share.end();
        if self.delivery.links.is_read(link) && self.net.peer(slot) == Peer::Ended {
            // What came before its end is read now.
            self.on_peer_ended(slot);
        }
        self.hear();
        if is_upgraded && self.delivery.links.is_read(link) {
            // While it was paused its client was not listened to: its time begins anew.
            self.net.heard(slot, self.ctx.ms, true);
            self.set_timer(slot);
        }
        self.settle(slot);
    }

    /// The same for a session whose link has no connection of its own.
    fn resume_session(&mut self, link: LinkIndex) {
        let Dispatch { ctx, net, delivery, stomp, bus, share, .. } = self;
        stomp.resume(delivery, bus, View { ctx, net }, share, link);
        self.share.end();
        self.hear();
        self.note_session(link);
        self.set_timer(link);
    }

    /// What a session over HTTP keeps is counted: what waits for its client, and what it has sent
    /// of a frame.
    pub(super) fn note_session(&mut self, link: LinkIndex) {
        self.input.note_link(link, self.delivery.links.kept(link) + self.stomp.held(link));
    }

    /// What was put into links without a connection of their own leaves the log.
    pub(super) fn feed_links(&mut self) {
        self.delivery.links.feed(&mut self.net, &self.ctx);
        self.hear();
        if self.holds_too_much() {
            // A message for many may have brought much more than one of them gives back.
            let mut all: Vec<LinkIndex> = self.holders().collect();
            all.sort_unstable_by_key(|&link| Reverse(self.input.noted(link)));
            for link in all {
                if !self.holds_too_much() {
                    return;
                }
                // It may have ended with one before it.
                if self.input.noted(link) > 0 {
                    self.refuse_holder(link);
                }
            }
        }
    }

    /// Ends all sessions over HTTP: shutdown. Who receives is told.
    pub(super) fn end_sessions_over_http(&mut self) {
        let all: Vec<LinkIndex> = self.delivery.links.all_standalone().collect();
        for link in all {
            let Dispatch { ctx, net, delivery, .. } = self;
            match delivery.links.receiver(link) {
                Some(slot) => {
                    delivery.links.drain(View { ctx, net }, link, 1001, "");
                    net.begin_phase(slot, ctx.ms);
                    self.set_timer(slot);
                }
                None => delivery.links.cut(link),
            }
        }
        self.hear();
    }

    /// Clients that waited for room try again, each once, as many as this turn has time for. Half
    /// of it is theirs: new input has had the other.
    pub(super) fn run_waiting(&mut self) {
        for _ in 0..self.delivery.links.waiting() {
            if self.share.is_turn_over() {
                return;
            }
            let Some(link) = self.delivery.links.next_waiting() else { return };
            let may_answer = self.delivery.links.segments().may_answer();
            let has_room = may_answer && self.bus.has_room_for_frame(&self.ctx);
            let slot = self.delivery.links.slot(link);
            if has_room || slot.is_some_and(|slot| self.web.holds_message(slot)) {
                self.resume(link);
            } else {
                self.delivery.links.wait_for_room(link);
            }
        }
    }

    /// Clients whose answer has come go on.
    pub(super) fn run_woken(&mut self) {
        for _ in 0..self.delivery.links.woken() {
            let Some(link) = self.delivery.links.next_woken() else { return };
            self.resume(link);
        }
    }

    /// The shard keeps as much as it may: the client that keeps most of it is let go, not the one
    /// that comes next.
    pub(super) fn refuse_biggest_holder(&mut self) {
        if let Some(link) = self.holders().max_by_key(|&link| self.input.noted(link)) {
            self.refuse_holder(link);
        }
    }

    fn holds_too_much(&self) -> bool {
        self.input.held() > self.ctx.limits.held_bytes as usize
    }

    /// Those who may be let go for what they keep.
    fn holders(&self) -> impl Iterator<Item = LinkIndex> {
        let may_end = |slot: &Slot| matches!(self.net.state(*slot), State::Open | State::Moving);
        let slots = self.net.slots().filter(may_end);
        let all = slots.map(LinkIndex::from).chain(self.delivery.links.all_standalone());
        all.filter(|&link| self.input.noted(link) > 0)
    }

    fn refuse_holder(&mut self, link: LinkIndex) {
        let Dispatch { ctx, net, delivery, web, .. } = self;
        let view = View { ctx, net };
        view.refuse(link, Refusal::LimitBufferedBytes);
        let slot = delivery.links.slot(link);
        match slot {
            // What it keeps is what waits for its client.
            None => delivery.links.cut(link),
            Some(_) if delivery.links.has_session(link) => {
                delivery.links.drain(view, link, 1013, "try again later");
            }
            // In the middle of an answer there is no place for another.
            Some(slot) if delivery.links.served_by(slot).is_some() => delivery.links.cut(link),
            Some(slot) => web.refuse_capacity(&mut delivery.links, view, slot),
        }
        self.hear();
        slot.into_iter().for_each(|slot| self.settle(slot));
    }
}

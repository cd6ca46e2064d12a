//! What happens in the fake kernel over time: shutdowns take effect, connections arrive, sockets
//! send and receive bytes.

use super::completion::Key;
use super::counts::Event;
use super::kernel::{BROKEN_PIPE, Kernel, Outside, RESET, Sending};
use super::socket::SocketId;
use crate::ids::{BufferId, ConnId, ListenerId, Slot};
use crate::ring::{AcceptEnd, Done, PollEnd, RecvEnd};

/// ENFILE.
const TABLE_FULL: i32 = 23;
/// ECONNABORTED.
const ABORTED: i32 = 103;

impl Kernel {
    /// Checks everything once, if anything has changed.
    pub(super) fn progress(&mut self, outside: &mut Outside<'_>) {
        if !core::mem::take(&mut self.poked) {
            return;
        }
        for listener in 0..self.listeners.len() {
            self.accept(ListenerId(listener as u8), outside);
        }
        // In random order, so that no slot always gets the buffers first.
        let count = self.slots.len();
        let first = outside.random.index(count);
        for at in 0..count {
            let slot = (first + at) % count;
            if self.slots[slot].socket.is_none() {
                continue;
            }
            if outside.fault_rates.idle > 0 && outside.random.chance(outside.fault_rates.idle) {
                self.poked = true;
                continue;
            }
            let slot = Slot(slot as u32);
            self.send(slot, outside);
            self.shut(slot, outside);
            self.receive(slot, outside);
            self.poll(slot, outside);
        }
    }

    fn accept(&mut self, id: ListenerId, outside: &mut Outside<'_>) {
        let fault_rates = outside.fault_rates;
        while self.listeners[usize::from(id.0)].armed {
            let Some(&socket) = self.listeners[usize::from(id.0)].backlog.front() else { return };
            if outside.random.chance(fault_rates.accept_fails) {
                outside.counts.note(Event::AcceptFails);
                return self.end_accept(id, AcceptEnd::Failed(ABORTED));
            }
            self.listeners[usize::from(id.0)].backlog.pop_front();
            let free = self.slots.iter().position(|slot| slot.socket.is_none());
            let Some(free) = free else {
                // The kernel has accepted the connection, and drops it.
                outside.counts.note(Event::TableFull);
                outside.sockets[socket.0].refuse();
                return self.end_accept(id, AcceptEnd::TableFull);
            };
            if outside.sockets[socket.0].broken || outside.random.chance(fault_rates.nameless) {
                outside.counts.note(Event::Nameless);
                outside.sockets[socket.0].refuse();
                continue;
            }
            self.admit(id, Slot(free as u32), socket, outside);
            if self.is_overflown() || outside.random.chance(fault_rates.accept_ends) {
                outside.counts.note(Event::AcceptEnds);
                return self.end_accept(id, AcceptEnd::Stopped);
            }
        }
    }

    fn admit(&mut self, listener: ListenerId, slot: Slot, id: SocketId, outside: &mut Outside<'_>) {
        self.occupy(slot, id, outside);
        let peer = outside.sockets[id.0].peer;
        self.completions.push(Key::Life, Done::Accepted { listener, slot, peer });
    }

    /// A connection that another ring has released comes into this table.
    pub(super) fn adopt(&mut self, number: i32, outside: &mut Outside<'_>) {
        let id = outside.adrift.socket(number);
        assert!(outside.sockets[id.0].slot.is_none(), "{number}: it is in no table");
        let free = self.slots.iter().position(|slot| slot.socket.is_none());
        let fails = outside.random.chance(outside.fault_rates.adopt_fails);
        let result = match free {
            Some(free) if !fails => {
                outside.counts.note(Event::Adopted);
                let slot = Slot(free as u32);
                self.occupy(slot, id, outside);
                outside.sockets[id.0].ring = usize::from(self.me.0);
                Ok(slot)
            }
            _ => {
                outside.counts.note(Event::AdoptFails);
                Err(TABLE_FULL)
            }
        };
        self.completions.push(Key::Life, Done::Adopted { number, result });
    }

    fn occupy(&mut self, slot: Slot, id: SocketId, outside: &mut Outside<'_>) {
        let state = &mut self.slots[slot.index()];
        state.socket = Some(id);
        state.sealed = outside.sockets[id.0].sealed;
        if let Some(generation) = state.former() {
            outside.counts.note(Event::SlotReused);
            if outside.random.chance(100) {
                // By the generation the engine knows that it is not for the new use of the slot.
                outside.counts.note(Event::StaleCompletion);
                let conn = ConnId { slot, generation };
                let done = Done::PollEnded { conn, end: PollEnd::Reset };
                self.completions.push(Key::Poll(slot), done);
            }
        }
        let socket = &mut outside.sockets[id.0];
        (socket.slot, socket.came_at) = (Some(slot), outside.now);
    }

    fn end_accept(&mut self, listener: ListenerId, end: AcceptEnd) {
        self.listeners[usize::from(listener.0)].armed = false;
        self.completions.push(Key::Life, Done::AcceptEnded { listener, end });
    }

    /// Delivers a socket's bytes to its armed receive.
    pub(super) fn receive(&mut self, slot: Slot, outside: &mut Outside<'_>) {
        while self.slots[slot.index()].receiving {
            let state = &self.slots[slot.index()];
            let conn = state.conn.expect("a receive was asked for by name");
            let socket = &outside.sockets[state.socket.expect("only sockets receive").0];
            if socket.broken {
                return self.end_receive(conn, RecvEnd::Failed(RESET));
            }
            if socket.inbound.is_empty() {
                if state.shut {
                    return self.end_receive(conn, RecvEnd::Stopped);
                }
                if socket.inbound_ended {
                    outside.counts.note(Event::PeerFin);
                    return self.end_receive(conn, RecvEnd::Eof);
                }
                return;
            }
            if self.free_buffers.is_empty() {
                outside.counts.note(Event::BufferRingEmpty);
                return self.end_receive(conn, RecvEnd::Starved);
            }
            self.fill_buffer(conn, outside);
        }
    }

    /// Completes a socket's armed poll at the end of its peer, even if bytes before it are unread.
    fn poll(&mut self, slot: Slot, outside: &mut Outside<'_>) {
        let state = &mut self.slots[slot.index()];
        if !state.polling {
            return;
        }
        let socket = &outside.sockets[state.socket.expect("only sockets are polled").0];
        let end = match (socket.broken, state.shut, socket.inbound_ended) {
            (true, ..) => PollEnd::Reset,
            (_, true, _) => PollEnd::Stopped,
            (_, _, true) => PollEnd::HungUp,
            _ => return,
        };
        match end {
            PollEnd::Reset => outside.counts.note(Event::PollReset),
            PollEnd::HungUp => outside.counts.note(Event::PollHungUp),
            PollEnd::Stopped => outside.counts.note(Event::PollStopped),
        }
        state.polling = false;
        let conn = state.conn.expect("a poll was asked for by name");
        self.completions.push(Key::Poll(slot), Done::PollEnded { conn, end });
    }

    fn fill_buffer(&mut self, conn: ConnId, outside: &mut Outside<'_>) {
        let buffer = self.free_buffers.pop_front().expect("the caller has seen one");
        let id = self.slots[conn.slot.index()].socket.expect("only sockets receive");
        let inbound = &mut outside.sockets[id.0].inbound;
        let mut len = inbound.len().min(self.setup.receive_bytes as usize);
        if outside.random.chance(outside.fault_rates.short_receive) {
            outside.counts.note(Event::ShortReceive);
            len = outside.random.between(1, len as u64) as usize;
        }
        let offset = usize::from(buffer) * self.setup.receive_bytes as usize;
        let (first, second) = inbound.as_slices();
        let first = &first[..first.len().min(len)];
        let second = &second[..len - first.len()];
        self.setup.receive.write_lent(offset, first);
        self.setup.receive.write_lent(offset + first.len(), second);
        inbound.drain(..len);
        self.lent[usize::from(buffer)] = false;
        let overflown = self.is_overflown();
        let more = !overflown && !outside.random.chance(outside.fault_rates.receive_ends);
        if !more {
            let overflow = if overflown { 1 } else { 0 };
            outside.counts.add(Event::QueueOverflow, overflow);
            outside.counts.note(Event::ReceiveEndsWithData);
            self.slots[conn.slot.index()].receiving = false;
        }
        let buffer = BufferId(buffer);
        let done = Done::Received { conn, buffer, len: len as u32, more };
        self.completions.push(Key::Receive(conn.slot), done);
    }

    fn end_receive(&mut self, conn: ConnId, end: RecvEnd) {
        let slot = &mut self.slots[conn.slot.index()];
        slot.receiving = false;
        slot.receive_over = matches!(end, RecvEnd::Eof | RecvEnd::Failed(_));
        self.completions.push(Key::Receive(conn.slot), Done::RecvEnded { conn, end });
    }

    /// Moves bytes of the send in flight into its socket, as far as there is room.
    pub(super) fn send(&mut self, slot: Slot, outside: &mut Outside<'_>) {
        let Some(mut sending) = self.slots[slot.index()].sending else { return };
        let id = self.slots[slot.index()].socket.expect("only sockets send");
        let socket = &mut outside.sockets[id.0];
        if socket.outbound_ended {
            return self.break_send(slot, sending, BROKEN_PIPE, outside);
        }
        if socket.broken {
            return self.break_send(slot, sending, RESET, outside);
        }
        let left = sending.range.len - sending.taken;
        let room = socket.room().min(left as usize) as u32;
        // The kernel begins a send only when a third of its buffer is free again.
        let wants_more =
            sending.taken == 0 && room < left && socket.room() * 3 < socket.outbound_max;
        if room == 0 || wants_more {
            if !core::mem::replace(&mut sending.parked, true) {
                outside.counts.note(Event::SendParked);
            }
            self.slots[slot.index()].sending = Some(sending);
            return;
        }
        let mut len = room;
        if room > 1 && outside.random.chance(outside.fault_rates.short_take) {
            outside.counts.note(Event::ShortTake);
            len = outside.random.between(1, u64::from(room - 1)) as u32;
            self.poked = true;
        }
        if sending.looks > 0 {
            outside.counts.note(Event::BytesReadLate);
        }
        sending.looks += 1;
        let start = sending.range.segment as usize * self.setup.segment_size as usize
            + (sending.range.offset + sending.taken) as usize;
        let mut bytes = Vec::with_capacity(len as usize);
        self.setup.segments.read_lent(start, len as usize, &mut bytes);
        assert!(socket.take(&bytes), "it was not broken a moment ago");
        sending.taken += len;
        if sending.taken < sending.range.len {
            self.poked |= socket.broken || socket.room() > 0;
            self.slots[slot.index()].sending = Some(sending);
            return;
        }
        self.end_send(slot, Ok(sending.taken));
    }

    fn break_send(&mut self, slot: Slot, sending: Sending, errno: i32, outside: &mut Outside<'_>) {
        // A send that was partly taken reports its count, not an error.
        if sending.taken > 0 {
            outside.counts.note(Event::PeerVanishesParked);
            self.end_send(slot, Ok(sending.taken));
        } else {
            outside.counts.note(Event::SendRefused);
            self.end_send(slot, Err(errno));
        }
    }

    fn end_send(&mut self, slot: Slot, result: Result<u32, i32>) {
        let state = &mut self.slots[slot.index()];
        state.sending = None;
        let conn = state.conn.expect("a send was asked for by name");
        self.completions.push(Key::Send(slot), Done::Sent { conn, result });
    }

    /// A shutdown takes effect; the kernel's workers do it asynchronously.
    fn shut(&mut self, slot: Slot, outside: &mut Outside<'_>) {
        let Some(both) = self.slots[slot.index()].shutting else { return };
        if outside.random.chance(outside.fault_rates.late_shutdown) {
            self.poked = true;
            return;
        }
        let state = &mut self.slots[slot.index()];
        state.shutting = None;
        state.shut |= both;
        let conn = state.conn.expect("a shutdown was asked for by name");
        let socket = &mut outside.sockets[state.socket.expect("only sockets shut down").0];
        socket.outbound_ended = true;
        if both {
            if let Some(sending) = state.sending.take() {
                let result = match sending.taken {
                    0 => Err(BROKEN_PIPE),
                    taken => Ok(taken),
                };
                let begun = sending.taken > 0;
                let event =
                    if begun { Event::ShutdownEndsSend } else { Event::ShutdownRefusesSend };
                outside.counts.note(event);
                self.completions.push(Key::Send(slot), Done::Sent { conn, result });
            }
            if self.slots[slot.index()].receiving {
                outside.counts.note(Event::ShutdownEndsReceive);
                // The receive, which is checked next, finds the end.
            }
        }
        self.completions.push(Key::Shutdown(slot), Done::ShutDown { conn });
        self.poked = true;
    }
}

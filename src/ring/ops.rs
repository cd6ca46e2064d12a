//! Turns each operation into one entry of the submission queue.
//!
//! Entries name memory by address. What keeps that memory valid: for receive buffers, `buffers.rs`
//! and `ReceivePool`; for bytes of sends, the `SENDING` flag of the slot (and the engine, which
//! keeps the range until `Sent`); for addresses, the `NAMING` flag and `names.rs`; for numbers of
//! connections that come, `moving.rs`. Options are in a static.

use super::buffers::GROUP;
use super::doorbell::Way;
use super::moving::{Moving, NUMBER_SIZE};
use super::names::{NAME_SIZE, Names};
use super::slots::{NAMING, POLLING, RECEIVING, SENDING, SHUTTING};
use super::token::{Kind, Token};
use super::uring::Uring;
use super::{Op, Range};
use crate::ids::{ConnId, ListenerId, PeerId, Slot};
use io_uring::{opcode, squeue, types};
use std::os::fd::AsRawFd;

/// Seconds of silence before the kernel sends a keep-alive probe: 60 to 120.
static KEEPALIVE_SECONDS: [i32; 61] = {
    let mut seconds = [60; 61];
    let mut at = 0;
    while at < 61 {
        seconds[at] += at as i32;
        at += 1;
    }
    seconds
};

/// Instead of an offset in the table: the kernel chooses a free slot (IORING_FILE_INDEX_ALLOC).
const ALLOCATE: i32 = -1;

/// The value written into an eventfd.
static ONE: u64 = 1;

impl Uring {
    /// Queues the entry of an operation.
    pub(super) fn start_operation(&mut self, op: Op) {
        match op {
            Op::Accept { listener } => self.accept(listener),
            Op::AcceptStop { listener } => {
                self.cancel(Token::new(Kind::Accept, u32::from(listener.0), 0));
            }
            Op::Recv { conn } => self.recv(conn),
            Op::RecvStop { conn } => self.cancel(Token::of(Kind::Recv, conn)),
            Op::GiveBack { buffer } => self.buffers.give_back(buffer),
            Op::Send { conn, range } => self.send(conn, range),
            Op::SendCancel { conn } => self.cancel(Token::of(Kind::Send, conn)),
            Op::Shutdown { conn } => {
                self.slots.shut(conn.slot);
                self.shutdown(conn, libc::SHUT_RDWR);
            }
            Op::ShutdownWrite { conn } => self.shutdown(conn, libc::SHUT_WR),
            Op::Poll { conn } => self.poll(conn),
            Op::PollStop { conn } => self.cancel(Token::of(Kind::Poll, conn)),
            Op::Close { conn } => self.close(Token::of(Kind::Close, conn)),
            Op::Release { conn } => self.release(conn),
            Op::Adopt { number } => self.adopt(number),
            Op::Doorbell { peer } => self.ring_doorbell(peer),
        }
    }

    fn accept(&mut self, id: ListenerId) {
        let listener = &mut self.listeners[usize::from(id.0)];
        assert!(!listener.armed, "listener {} accepts already", id.0);
        listener.armed = true;
        let entry = opcode::AcceptMulti::new(types::Fd(listener.fd.as_raw_fd()));
        let entry = entry.allocate_file_index(true).build();
        self.queue(&marked(entry, Token::new(Kind::Accept, u32::from(id.0), 0)));
    }

    /// Asks for the peer's address of a descriptor that has just been accepted.
    pub(super) fn ask_name(&mut self, id: ListenerId, slot: Slot) {
        let Some(place) = self.names.take(id, slot) else { return };
        self.slots.begin(slot, NAMING);
        let name_len = self.listeners[usize::from(id.0)].name_len;
        assert!(name_len as usize <= NAME_SIZE, "an address fits into its place");
        let region = self.names.memory.lend();
        let bytes = region.address(Names::offset(place), name_len as usize);
        let mark = u32::from_le_bytes([id.0, place, 0, 0]);
        let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_PEERNAME as u32);
        let entry =
            opcode::GetSockOpt::new(types::Fixed(slot.0), level, name, bytes.cast(), name_len);
        self.queue(&marked(entry.build(), Token::new(Kind::PeerName, slot.0, mark)));
    }

    /// Gives a connection its own keep-alive time. Otherwise connections that arrived at the same
    /// moment would probe their peers at the same moment, too. Of thousands of probes the kernel's
    /// queues drop some, again and again, until it takes live peers for dead.
    pub(super) fn spread_keepalive(&mut self, slot: Slot) {
        let seconds = &KEEPALIVE_SECONDS[slot.index() % KEEPALIVE_SECONDS.len()];
        let (level, name) = (libc::IPPROTO_TCP as u32, libc::TCP_KEEPIDLE as u32);
        let value = std::ptr::from_ref(seconds).cast();
        let size = size_of::<i32>() as u32;
        let entry = opcode::SetSockOpt::new(types::Fixed(slot.0), level, name, value, size);
        let entry = entry.build().flags(squeue::Flags::SKIP_SUCCESS);
        self.queue(&marked(entry, Token::new(Kind::Option, 0, 0)));
    }

    fn recv(&mut self, conn: ConnId) {
        self.slots.begin(conn.slot, RECEIVING);
        let entry = opcode::RecvMulti::new(types::Fixed(conn.slot.0), GROUP).build();
        self.queue(&marked(entry, Token::of(Kind::Recv, conn)));
    }

    fn send(&mut self, conn: ConnId, range: Range) {
        assert!(range.len > 0, "a send has at least one byte");
        let end = range.offset.checked_add(range.len).expect("a range ends within 32 bits");
        assert!(end <= self.segment_size, "{range:?} of a segment of {}", self.segment_size);
        self.slots.begin(conn.slot, SENDING);
        let start = range.segment as usize * self.segment_size as usize + range.offset as usize;
        let bytes = self.segments.address(start, range.len as usize);
        let entry = opcode::Send::new(types::Fixed(conn.slot.0), bytes.cast_const(), range.len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.queue(&marked(entry, Token::of(Kind::Send, conn)));
        self.count_send();
    }

    fn shutdown(&mut self, conn: ConnId, how: i32) {
        self.slots.begin(conn.slot, SHUTTING);
        let entry = opcode::Shutdown::new(types::Fixed(conn.slot.0), how).build();
        self.queue(&marked(entry, Token::of(Kind::Shutdown, conn)));
    }

    fn poll(&mut self, conn: ConnId) {
        self.slots.begin(conn.slot, POLLING);
        let entry = opcode::PollAdd::new(types::Fixed(conn.slot.0), libc::POLLRDHUP as u32).build();
        self.queue(&marked(entry, Token::of(Kind::Poll, conn)));
    }

    /// Releases a descriptor, for the engine (`Close`) or before the engine knows of it (`Refuse`).
    pub(super) fn close(&mut self, token: Token) {
        self.slots.begin_close(token.slot());
        let entry = opcode::Close::new(types::Fixed(token.slot().0)).build();
        self.queue(&marked(entry, token));
    }

    /// Gives a descriptor a number. When it has that its slot is closed (`leave`): a linked close
    /// would run some time after its number was told, and the kernel could give away the slot
    /// before anybody here knows that it is free.
    fn release(&mut self, conn: ConnId) {
        assert!(self.moving.is_possible, "the caller has asked whether it can move");
        self.slots.begin_leave(conn.slot);
        let entry = opcode::FixedFdInstall::new(types::Fixed(conn.slot.0), 0).build();
        self.queue(&marked(entry, Token::of(Kind::Number, conn)));
    }

    /// Closes the slot of a connection that has its number.
    pub(super) fn leave(&mut self, conn: ConnId) {
        let entry = opcode::Close::new(types::Fixed(conn.slot.0)).build();
        self.queue(&marked(entry, Token::of(Kind::Leave, conn)));
    }

    /// Takes a number into the table, in a slot of the kernel's choice.
    pub(super) fn adopt(&mut self, number: i32) {
        let Some(place) = self.moving.take(number) else { return };
        let region = self.moving.memory.lend();
        let address = region.address(Moving::offset(place), NUMBER_SIZE);
        let entry = opcode::FilesUpdate::new(address.cast_const().cast(), 1).offset(ALLOCATE);
        self.queue(&marked(entry.build(), Token::new(Kind::Adopt, place.into(), number as u32)));
    }

    /// Cancels an operation. Its own completion has the result; the cancellation's is not needed.
    fn cancel(&mut self, what: Token) {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(what.pack()));
        let entry = entry.build().flags(squeue::Flags::SKIP_SUCCESS);
        self.queue(&marked(entry, Token::new(Kind::Cancel, 0, 0)));
    }

    fn ring_doorbell(&mut self, peer: PeerId) {
        assert_ne!(peer, self.peer, "a thread does not ring its own doorbell");
        let entry = match self.doorbells.way(peer) {
            Way::Ring(fd) => {
                let message = Token::new(Kind::Rung, 0, 0).pack();
                opcode::MsgRingData::new(types::Fd(fd), 0, message, None).build()
            }
            Way::Event(fd) => {
                let one = core::ptr::from_ref(&ONE).cast();
                opcode::Write::new(types::Fd(fd), one, size_of_val(&ONE) as u32).build()
            }
        };
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        self.queue(&marked(entry, Token::new(Kind::Doorbell, u32::from(peer.0), 0)));
    }

    /// Watches the eventfd of this ring's own doorbell. Nothing reads it: each write is an event
    /// for a multishot poll.
    pub(super) fn watch_doorbell(&mut self) {
        let fd = types::Fd(self.doorbells.event(self.peer).as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.queue(&marked(entry, Token::new(Kind::EventFd, 0, 0)));
    }
}

fn marked(entry: squeue::Entry, token: Token) -> squeue::Entry {
    entry.user_data(token.pack())
}

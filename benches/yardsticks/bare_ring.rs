//! The kernel's limit: a ring that sends the same bytes to every socket, and does nothing else.
//!
//! The same flags, chunk and kind of send as ringpush's own ring: SINGLE_ISSUER, DEFER_TASKRUN, no
//! array, registered ring descriptor, multishot accept into direct descriptors, SEND with WAITALL
//! and NOSIGNAL, 256 of them per entry. There is one outbox for all, no subscription, no limit, no
//! timer: whatever a server does beyond this is its own cost.
//!
//! A message of any client goes to all clients. Messages that arrive while sends are in flight are
//! sent together afterwards.
#![allow(unsafe_code)]

mod shared;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use std::os::fd::AsRawFd;

const SLOTS: u32 = 20_000;
const SUBMISSION: u32 = 1024;
const COMPLETION: u32 = 16_384;
/// Sends per entry into the kernel.
const CHUNK: usize = 256;
/// Bytes of a receive: enough for sixteen messages of a closed loop.
const RECEIVE: usize = 16_384;

const ACCEPT: u64 = 0;
const RECV: u64 = 1;
const SEND: u64 = 2;
const GREET: u64 = 3;
const CLOSE: u64 = 4;

#[derive(Default)]
struct Client {
    is_open: bool,
    /// Bytes of an incomplete frame or request.
    pending: Vec<u8>,
    /// The 101 while it is sent.
    greeting: Vec<u8>,
}

struct Server {
    ring: IoUring,
    enter_fd: i32,
    enter_flags: EnterFlags,
    clients: Vec<Client>,
    /// Slots of open clients.
    open: Vec<u32>,
    /// [`RECEIVE`] bytes per slot, each lent to the kernel while a receive is armed.
    receive: Vec<u8>,
    /// The bytes being sent; lent to the kernel while `in_flight` is not zero.
    outbox: Vec<u8>,
    in_flight: usize,
    /// The bytes to send next.
    next: Vec<u8>,
    done: Vec<cqueue::Entry>,
}

fn main() {
    let address = shared::address();
    let (_, mut listeners) =
        ringpush::ring::listen::bind(address, 1, Default::default()).expect("listen");
    let listener = listeners.remove(0);
    let mut server = Server::start();
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()));
    server.push(accept.allocate_file_index(true).build(), ACCEPT, 0);
    shared::ready(address);
    loop {
        let is_blocked = server.in_flight > 0 || server.next.is_empty();
        server.enter(server.done.is_empty() && is_blocked);
        server.complete();
        if server.in_flight == 0 && !server.next.is_empty() {
            server.broadcast();
        }
    }
}

impl Server {
    fn start() -> Server {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_taskrun_flag().setup_submit_all().setup_clamp();
        builder.setup_cqsize(COMPLETION).setup_defer_taskrun().setup_no_sqarray();
        let ring = builder.build(SUBMISSION).expect("a ring");
        ring.submitter().register_files_sparse(SLOTS).expect("direct descriptors");
        let (enter_fd, enter_flags) = registered(&ring);
        Server {
            ring,
            enter_fd,
            enter_flags,
            clients: (0..SLOTS).map(|_| Client::default()).collect(),
            open: Vec::new(),
            receive: vec![0; SLOTS as usize * RECEIVE],
            outbox: Vec::new(),
            in_flight: 0,
            next: Vec::new(),
            done: Vec::new(),
        }
    }

    fn push(&mut self, entry: squeue::Entry, kind: u64, slot: u32) {
        let entry = entry.user_data(kind << 32 | u64::from(slot));
        if self.ring.submission().is_full() {
            self.enter(false);
        }
        // SAFETY: the memory an entry names is `receive`, `outbox` or a `greeting`, none of which
        // moves or changes before the entry's completion.
        unsafe { self.ring.submission().push(&entry) }.expect("there is room");
    }

    fn enter(&mut self, wait: bool) {
        let queued = self.ring.submission().len() as u32;
        let flags = self.enter_flags | EnterFlags::GETEVENTS;
        // SAFETY: `enter_fd` is this ring; no argument is passed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                queued,
                u32::from(wait),
                flags.bits(),
                core::ptr::null::<u8>(),
                0usize,
            )
        };
        assert_eq!(result, i64::from(queued), "everything is submitted");
    }

    fn complete(&mut self) {
        let mut done = core::mem::take(&mut self.done);
        done.extend(self.ring.completion());
        for entry in done.drain(..) {
            let (kind, slot) = (entry.user_data() >> 32, entry.user_data() as u32);
            match kind {
                ACCEPT => self.receive(entry.result().try_into().expect("a slot")),
                RECV => self.received(slot, entry.result()),
                GREET => self.clients[slot as usize].greeting.clear(),
                SEND => self.in_flight -= 1,
                _ => {}
            }
        }
        self.done = done;
    }

    fn receive(&mut self, slot: u32) {
        let place = self.receive[slot as usize * RECEIVE..].as_mut_ptr();
        let entry = opcode::Recv::new(types::Fixed(slot), place, RECEIVE as u32).build();
        self.push(entry, RECV, slot);
    }

    fn received(&mut self, slot: u32, result: i32) {
        let index = slot as usize;
        let count = result.max(0) as usize;
        let client = &mut self.clients[index];
        client.pending.extend_from_slice(&self.receive[index * RECEIVE..][..count]);
        let goes_on = count > 0 && self.hear(slot);
        if goes_on {
            self.receive(slot);
        } else {
            self.clients[index] = Client::default();
            self.open.retain(|&open| open != slot);
            self.push(opcode::Close::new(types::Fixed(slot)).build(), CLOSE, slot);
        }
    }

    /// Handles what a client has sent. Returns whether it stays.
    fn hear(&mut self, slot: u32) -> bool {
        let client = &mut self.clients[slot as usize];
        if client.is_open {
            let Some(done) = shared::reframe(&mut client.pending, &mut self.next) else {
                return false;
            };
            client.pending.drain(..done);
            return true;
        }
        if let Some(greeting) = shared::handshake(&client.pending) {
            client.pending.clear();
            client.greeting = greeting;
            client.is_open = true;
            let bytes = &self.clients[slot as usize].greeting;
            let entry = send(slot, bytes);
            self.open.push(slot);
            self.push(entry, GREET, slot);
        }
        true
    }

    fn broadcast(&mut self) {
        self.outbox.clear();
        core::mem::swap(&mut self.outbox, &mut self.next);
        let open = core::mem::take(&mut self.open);
        for chunk in open.chunks(CHUNK) {
            self.in_flight += chunk.len();
            for &slot in chunk {
                let entry = send(slot, &self.outbox);
                self.push(entry, SEND, slot);
            }
            self.enter(false);
            self.reap();
        }
        // Clients that have left are found by `received` later: `reap` keeps their receives.
        self.open = open;
    }

    /// Handles completions of sends; everything else waits until the fan-out is over.
    fn reap(&mut self) {
        let is_send = |entry: &cqueue::Entry| entry.user_data() >> 32 == SEND;
        for entry in self.ring.completion() {
            if is_send(&entry) {
                self.in_flight -= 1;
            } else {
                self.done.push(entry);
            }
        }
    }
}

fn send(slot: u32, bytes: &[u8]) -> squeue::Entry {
    opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
}

/// Registers the ring's own descriptor.
fn registered(ring: &IoUring) -> (i32, EnterFlags) {
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    const REGISTER_RING_FDS: libc::c_uint = 20;
    let fd = ring.as_raw_fd();
    let mut update = Update { offset: u32::MAX, reserved: 0, data: fd as u64 };
    let place = &raw mut update;
    // SAFETY: `fd` is an open ring; `place` is one valid update, read and written in the call only.
    let count =
        unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, place, 1) };
    assert_eq!(count, 1, "the ring's descriptor is registered");
    (update.offset as i32, EnterFlags::REGISTERED_RING)
}

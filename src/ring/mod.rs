//! The seam to the kernel: operations go in, completions come out, both plain data.
//!
//! **What it turns into what.** [`Op`]s into system calls, kernel completions into [`Done`]s.
//!
//! **What it does not know.** Protocols, sessions, what the bytes mean.
//!
//! **How to drive it.** Once per turn: `push` operations, `enter` (submits, and waits if asked),
//! `pop` until `None`. Each operation is answered by the `Done` named in its documentation; errors
//! are values of that `Done`, never a return value of `push`. Stopping or cancelling an operation
//! that has already ended is no error and has no answer. The kernel continues what is in flight,
//! parked sends included, only while the ring is entered.
//!
//! ```
//! use ringpush::ids::{ConnId, ListenerId, PeerId};
//! use ringpush::mem::{receive::ReceivePool, region::Owner};
//! use ringpush::ring::{self, Done, Doorbells, Op, Ring, Setup, Wait, listen};
//! use ringpush::time::Millis;
//!
//! let mut pool = ReceivePool::new(4, 64).unwrap();
//! let segments = Owner::new(1024).unwrap();
//! let any_port = ([127, 0, 0, 1], 0).into();
//! let (address, listeners) = listen::bind(any_port, 1, listen::SendBound::Kernel).unwrap();
//! let mut ring = ring::start(Setup {
//!     submission_entries: 8,
//!     completion_entries: 32,
//!     slots: 2,
//!     receive: pool.lend(),
//!     receive_buffers: 4,
//!     receive_bytes: 64,
//!     segments: segments.lend(),
//!     segment_size: 64,
//!     listeners,
//!     send_chunk: 4,
//!     doorbells: Doorbells::new(1).unwrap(),
//!     peer: PeerId(0),
//!     flavor: None,
//! })
//! .unwrap();
//! ring.push(Op::Accept { listener: ListenerId(0) });
//! let mut client = std::net::TcpStream::connect(address).unwrap();
//! std::io::Write::write_all(&mut client, b"hello").unwrap();
//! let hello = 'turns: loop {
//!     ring.enter(Wait::Until(ring.now() + Millis::seconds(1)));
//!     while let Some(done) = ring.pop() {
//!         match done {
//!             Done::Accepted { slot, .. } => {
//!                 ring.push(Op::Recv { conn: ConnId { slot, generation: 1 } });
//!             }
//!             Done::Received { buffer, len, .. } => {
//!                 pool.on_received(buffer);
//!                 let bytes = pool.bytes(buffer, len).to_vec();
//!                 pool.give_back(buffer);
//!                 ring.push(Op::GiveBack { buffer });
//!                 break 'turns bytes;
//!             }
//!             _ => {}
//!         }
//!     }
//! };
//! assert_eq!(hello, b"hello");
//! ```
//!
//! **Bytes.** They live in two pools of `mem` that the ring does not own: receive buffers and
//! segments. Both are handed over at start; operations name places in them by id. A receive buffer
//! belongs to the engine from `Done::Received` until `Op::GiveBack`; bytes of an `Op::Send` belong
//! to the kernel until its `Done::Sent`.
//!
//! **Moves.** A connection goes from one ring to another by a number: `Op::Release` here,
//! [`Ring::own`] when it has left, `Op::Adopt` there. Between the two its [`Descriptor`] owns it,
//! on whichever thread, and closes it when it is dropped.
//!
//! **Bounds.** `submission-entries`: a full queue enters the kernel. `completion-entries`: an
//! overflow is counted, loses nothing, and ends multishot operations. `receive-buffers`:
//! `RecvEnd::Starved`. `send-chunk`: the ring enters the kernel after this many sends. Descriptor
//! slots (the least of RLIMIT_NOFILE and the configured number): `AcceptEnd::TableFull`, and ENFILE
//! of `Adopted`. Free descriptors: EMFILE of `Released`.
//!
//! **State.** One byte of flags per slot; addresses that are being asked for; the numbers of
//! connections that leave, or have left and have no owner yet, and of those that come. The kernel
//! keeps the rest.

mod buffers;
mod clock;
mod completion;
mod descriptor;
pub mod doorbell;
pub mod listen;
mod moving;
mod names;
mod ops;
mod own_fd;
mod probe;
pub mod process;
mod slots;
mod start;
mod token;
mod uring;

pub use descriptor::{Descriptor, Numbers};
pub use doorbell::Doorbells;
pub use probe::{Flavor, StartError};
pub use start::{Setup, start};
pub use uring::{RingStats, Uring};

pub use crate::ids::Range;
use crate::ids::{BufferId, ConnId, ListenerId, PeerId, Slot};
use crate::time::Instant;
use core::net::SocketAddr;

/// An operation that the engine requests from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Accept connections from a listener until stopped. Answers: `Accepted`, `AcceptEnded`.
    Accept {
        /// The listener.
        listener: ListenerId,
    },
    /// Stop accepting connections. Answer: `AcceptEnded`.
    AcceptStop {
        /// The listener.
        listener: ListenerId,
    },
    /// Receive on a connection until stopped. Answers: `Received`, `RecvEnded`.
    Recv {
        /// The connection.
        conn: ConnId,
    },
    /// Stop receiving. Answer: `RecvEnded`, after everything that was in flight.
    RecvStop {
        /// The connection.
        conn: ConnId,
    },
    /// The engine is done with a receive buffer. No answer.
    GiveBack {
        /// The buffer, which the engine owned until now.
        buffer: BufferId,
    },
    /// Send a whole range of bytes (MSG_WAITALL, MSG_NOSIGNAL). At most one per connection is in
    /// flight. Answer: `Sent`.
    Send {
        /// The connection.
        conn: ConnId,
        /// The bytes, which belong to the kernel until `Sent`.
        range: Range,
    },
    /// Stop the send that is in flight; its `Sent` says how much the kernel took.
    SendCancel {
        /// The connection.
        conn: ConnId,
    },
    /// End both directions: pending receives and sends return. Answer: `ShutDown`.
    Shutdown {
        /// The connection.
        conn: ConnId,
    },
    /// End our direction only (FIN). Answer: `ShutDown`.
    ShutdownWrite {
        /// The connection.
        conn: ConnId,
    },
    /// Report the end of the peer's direction once (POLLRDHUP), even if bytes before it are unread.
    /// For a connection without a receive. Answer: `PollEnded`.
    Poll {
        /// The connection.
        conn: ConnId,
    },
    /// Stop the poll. Answer: its `PollEnded`.
    PollStop {
        /// The connection.
        conn: ConnId,
    },
    /// Release the descriptor. Nothing may be in flight. Answer: `Closed`.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Take a connection out of the table, so that another ring can adopt it. Nothing may be in
    /// flight. Answer: `Released`.
    Release {
        /// The connection.
        conn: ConnId,
    },
    /// Take a released connection into the table. Its [`Descriptor`] is kept until the answer, and
    /// dropped then. Answer: `Adopted`.
    Adopt {
        /// The descriptor's number.
        number: i32,
    },
    /// Wake another thread out of its wait. No answer here; `Rung` there.
    Doorbell {
        /// The peer to wake; not the ring's own.
        peer: PeerId,
    },
}

/// Why receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer sent FIN.
    Eof,
    /// No receive buffer was free; the bytes wait in the socket. Push `Recv` again when some are.
    Starved,
    /// `RecvStop` or `Shutdown` took effect, or the kernel ended a multishot receive without an
    /// error: push `Recv` again if more is wanted.
    Stopped,
    /// The connection failed (reset, timed out, ...), with the positive errno.
    Failed(i32),
}

/// Why a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// The peer sent FIN; bytes before it may be unread.
    HungUp,
    /// The connection failed (reset, timed out), or both directions have ended.
    Reset,
    /// `PollStop` or `Shutdown` took effect, or the kernel ended the poll without news: push `Poll`
    /// again if it is still wanted.
    Stopped,
}

/// Why accepting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptEnd {
    /// `AcceptStop` took effect, or the kernel ended a multishot accept without an error.
    Stopped,
    /// The table of descriptors is full, and the kernel has dropped one connection (ENFILE).
    TableFull,
    /// Something else, with the positive errno.
    Failed(i32),
}

/// What the kernel reports to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A new connection is in descriptor slot `slot`. It may be reset already. IPv4 peers of an
    /// IPv6 listener are unwrapped.
    Accepted {
        /// The listener.
        listener: ListenerId,
        /// Slot of the descriptor, free until now; the engine gives it a generation.
        slot: Slot,
        /// Address of the other end.
        peer: SocketAddr,
    },
    /// The listener accepts no more connections until `Accept` is pushed again.
    AcceptEnded {
        /// The listener.
        listener: ListenerId,
        /// Why.
        end: AcceptEnd,
    },
    /// `len` bytes are at the start of `buffer`. Without `more` the receive has ended (as
    /// `Stopped`), and no `RecvEnded` follows.
    Received {
        /// The connection.
        conn: ConnId,
        /// The buffer, which the engine owns until `Op::GiveBack`.
        buffer: BufferId,
        /// Count of bytes, at least one.
        len: u32,
        /// Whether the receive continues.
        more: bool,
    },
    /// No more bytes will come until `Recv` is pushed again (never after `Eof` and `Failed`).
    RecvEnded {
        /// The connection.
        conn: ConnId,
        /// Why.
        end: RecvEnd,
    },
    /// The send is over: the count of bytes taken (fewer than asked: cancelled or the peer went
    /// away), or the positive errno (nothing was taken).
    Sent {
        /// The connection.
        conn: ConnId,
        /// Bytes taken, or errno. A send cancelled before it began is `Ok(0)`.
        result: Result<u32, i32>,
    },
    /// The shutdown is done.
    ShutDown {
        /// The connection.
        conn: ConnId,
    },
    /// The poll is over; `Poll` may be pushed again.
    PollEnded {
        /// The connection.
        conn: ConnId,
        /// Why.
        end: PollEnd,
    },
    /// The slot is free again.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has left the table: its number, which [`Ring::own`] gives an owner, and the
    /// slot is free again. Or the positive errno: nothing has changed.
    Released {
        /// The connection.
        conn: ConnId,
        /// Number, or errno.
        result: Result<i32, i32>,
    },
    /// A released connection is in this table now, in a slot that was free until now; the engine
    /// gives it a generation. Or the positive errno (ENFILE: the table is full).
    Adopted {
        /// The number that was adopted.
        number: i32,
        /// Slot, or errno.
        result: Result<Slot, i32>,
    },
    /// Somebody rang the doorbell.
    Rung,
}

/// How long `enter` may wait for the first completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: submit, and collect the completions that are there.
    No,
    /// Until a completion is there or the clock reaches this instant.
    Until(Instant),
}

/// A ring: the real one, or the simulator's.
pub trait Ring {
    /// Queues an operation; it reaches the kernel with the next `enter` (or at once when the queue
    /// is full). The order of pushes for one connection is kept.
    fn push(&mut self, op: Op);
    /// Submits what is queued, waits as told, and reads the clock.
    fn enter(&mut self, wait: Wait);
    /// The next completion.
    fn pop(&mut self) -> Option<Done>;
    /// Whether connections can be released and adopted (Linux 6.8).
    fn can_move(&self) -> bool;
    /// The owner of a number that the last `Released` has named. Called once for each.
    fn own(&mut self, number: i32) -> Descriptor;
    /// The monotonic clock as it was when the last `enter` returned.
    fn now(&self) -> Instant;
    /// The same clock when that `enter` began to wait, which it reads to know for how long; where
    /// it did not wait, when it returned.
    fn waited_from(&self) -> Instant;
    /// Wall time as it was then: milliseconds since 1970-01-01 UTC.
    fn wall_millis(&self) -> u64;
}

const _: () = assert!(core::mem::size_of::<Op>() <= 24);

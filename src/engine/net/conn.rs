#![forbid(unsafe_code)]
//! One connection: what the engine knows of a socket, and what the kernel holds of it.
//!
//! ```text
//! Free ─accepted─▶ Open ─drain─▶ Draining ─terminate─▶ Terminated ─close─▶ Closing ─▶ Free
//!                   ├───────────── terminate ───────────▲
//!                   └─ Moving ─▶ Releasing ─▶ Free, or Open again (`moves`)
//! ```

use crate::ids::{EndpointIndex, ListenerId};
use core::net::IpAddr;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The slot is not in use.
    #[default]
    Free,
    /// In use.
    Open,
    /// Its last bytes are being sent; nothing new begins.
    Draining,
    /// Cut; the kernel is giving back what it holds.
    Terminated,
    /// The descriptor is being released.
    Closing,
    /// It goes to another shard; the kernel is giving back what it holds.
    Moving,
    /// It leaves the table for another shard.
    Releasing,
}

/// What is known of the peer's direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// It may send more.
    #[default]
    Here,
    /// It has ended; bytes of it may be unread, in the socket or here.
    HungUp,
    /// It has ended, and the socket is read to its end.
    Ended,
}

/// What the kernel has to do with the peer's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receive {
    /// Nothing.
    #[default]
    Off,
    /// A multishot receive is armed.
    On,
    /// Its end has been asked for.
    Stopping,
    /// It ended because there was no buffer, and is armed again when there are some.
    Starved,
}

/// Whether a send is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sending {
    /// None is.
    #[default]
    No,
    /// One is.
    Yes,
    /// One is, and was asked to stop.
    Stopping,
}

impl Sending {
    /// Whether one is, asked to stop or not.
    #[inline]
    pub fn is_on(self) -> bool {
        self != Sending::No
    }
}

/// When what happened last to a connection, in milliseconds of the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// When bytes last came (HTTP: outside of a request, or the last answer).
    pub last_in: u32,
    /// When bytes last went out.
    pub last_out: u32,
    /// When its present phase began: a request, the time before CONNECT, the wait of a session for
    /// an answer, the end of its peer, the closing.
    pub since: u32,
    /// When the send in flight began.
    pub send_since: u32,
}

/// Stands for no endpoint.
pub(super) const NOWHERE: EndpointIndex = EndpointIndex(u16::MAX);

/// One connection. 52 bytes.
#[derive(Debug)]
pub(super) struct Conn {
    /// How often the slot was used before.
    pub generation: u32,
    /// Where it is in its life.
    pub state: State,
    /// What becomes of the peer's bytes.
    pub receive: Receive,
    /// What becomes of ours.
    pub sending: Sending,
    /// Whether its peer has ended its direction.
    pub peer: Peer,
    /// A poll for the end of its peer is armed: it has been paused with its receive stopped.
    pub watched: bool,
    /// The shutdown of our direction was asked for.
    pub write_ended: bool,
    /// The shutdown of both directions was asked for.
    pub cut: bool,
    /// Operations without a state of their own (shutdowns) in the kernel.
    pub pending_operations: u8,
    /// A ping was sent because nothing came for an interval.
    pub pinged: bool,
    /// It is one of the process's connections, which are counted.
    pub is_counted: bool,
    /// The listener it came from.
    pub listener: ListenerId,
    /// The peer's address; after an upgrade through a trusted proxy its client's.
    pub address: IpAddr,
    /// The endpoint that it was upgraded at.
    pub endpoint: EndpointIndex,
    /// When what happened last.
    pub times: Times,
}

/// The client of a link: a connection's peer, or who opened the session of a link that has no
/// connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address that it is counted for and known by.
    pub address: IpAddr,
    /// The endpoint that its session is at.
    pub(super) endpoint: EndpointIndex,
    /// When what happened last; no send of its own is in flight.
    pub times: Times,
}

/// Bytes of a connection.
pub const CONN_BYTES: usize = size_of::<Conn>();
const _: () = assert!(CONN_BYTES <= 52);

impl Conn {
    pub fn free(generation: u32) -> Conn {
        Conn {
            generation,
            state: State::Free,
            receive: Receive::Off,
            sending: Sending::No,
            peer: Peer::Here,
            watched: false,
            write_ended: false,
            cut: false,
            pending_operations: 0,
            pinged: false,
            is_counted: false,
            listener: ListenerId(0),
            address: IpAddr::from([0, 0, 0, 0]),
            endpoint: NOWHERE,
            times: Times::default(),
        }
    }

    /// Goes on in its life.
    pub fn go(&mut self, from: &[State], to: State) {
        assert!(from.contains(&self.state), "{:?} does not become {to:?}", self.state);
        self.state = to;
    }

    /// Whether it is open, or sends its last bytes.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Open | State::Draining)
    }

    /// Whether both directions are open, as far as is known, and nothing is being sent.
    pub fn is_whole(&self) -> bool {
        self.peer == Peer::Here && self.sending == Sending::No && self.pending_operations == 0
    }

    /// Whether a receive is armed.
    pub fn is_receiving(&self) -> bool {
        matches!(self.receive, Receive::On | Receive::Stopping)
    }

    /// Whether the kernel holds nothing of it.
    pub fn is_joined(&self) -> bool {
        !self.is_receiving()
            && !self.watched
            && self.sending == Sending::No
            && self.pending_operations == 0
    }

    /// Asserts what holds between its fields whenever a turn is over, in use or not. Slow.
    pub fn invariants(&self) {
        use State::{Closing, Draining, Free, Moving, Releasing, Terminated};
        let is_in = |states: &[State]| states.contains(&self.state);
        assert!(self.pending_operations <= 1, "one shutdown at a time");
        let may_be_ended = is_in(&[Draining, Terminated, Closing]);
        assert!(!self.write_ended || may_be_ended, "our end is a drain's");
        assert!(!self.cut || is_in(&[Terminated, Closing]), "only who is terminated is cut");
        assert!(
            !is_in(&[Free, Closing, Releasing]) || self.is_joined(),
            "the kernel holds nothing of it"
        );
        assert!(!is_in(&[Terminated, Moving]) || !self.is_joined(), "it goes on when it is joined");
    }

    /// Asserts that what comes from the peer is received, or that its end is polled for. `waits`:
    /// it is paused with bytes that wait.
    pub fn assert_listened_to(&self, waits: bool) {
        let is_heard = self.receive != Receive::Off || self.peer == Peer::Ended;
        let is_watched = waits && (self.watched || self.peer == Peer::HungUp);
        assert!(!self.is_live() || is_heard || is_watched, "its peer is listened to");
    }
}

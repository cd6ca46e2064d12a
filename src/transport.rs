#![forbid(unsafe_code)]
//! How bytes travel on a socket: as they are, or sealed in the records of a layer such as TLS.
//!
//! **What it turns into what.** A [`Transport`] is the layer of one connection: bytes of the wire
//! into plaintext and back. The lengths differ, both ways.
//!
//! **What it does not know.** Sockets, queues, what the plaintext means. A connection without a
//! layer has no transport: the engine sends and reads its bytes where they lie.
//!
//! **How to drive it.** [`Transport::open`] with all that comes, in order. Whenever nothing of the
//! connection waits to be sent: [`Transport::take_owed`], then [`Transport::seal`] once it is
//! established, and [`Transport::close`] last of all. What these give is sent in their order.
//!
//! **Bounds.** A transport keeps less than one record, or one flight of its handshake
//! ([`Transport::held`]), and opening never gives more bytes than have come. What it owes is not
//! bounded by itself: a peer that makes it answer and does not read is let go when that and what is
//! sealed are more than `send-buffer`.

use core::fmt::{self, Debug};

/// Why the bytes of a peer cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Its handshake is not one, or cannot be agreed to.
    Handshake,
    /// A record is malformed, too long or forged.
    Record,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Handshake => "the handshake is malformed, or nothing in it can be agreed to",
            Error::Record => "a record is malformed, too long or forged",
        })
    }
}

impl core::error::Error for Error {}

/// The layer of one connection.
pub trait Transport: Debug + Send {
    /// Opens bytes that have come, with what it has kept of those before, and appends what they
    /// say to `plain`. Keeps what is no whole record. After an error nothing more is opened, and
    /// what it owes says why.
    fn open(&mut self, wire: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Error>;

    /// Bytes that it keeps of what has come.
    fn held(&self) -> usize;

    /// Nothing more will be opened: gives back what it keeps.
    fn forget(&mut self);

    /// Whether its handshake is over, so that it seals.
    fn is_established(&self) -> bool;

    /// Whether its peer has said that nothing more comes.
    fn is_ended(&self) -> bool;

    /// Bytes that it owes its peer by itself, for its handshake, a change of keys or an alert. Each
    /// record that comes adds one short answer at most; the caller bounds the sum.
    fn owed(&self) -> usize;

    /// Appends these to `wire`; they count as sent.
    fn take_owed(&mut self, wire: &mut Vec<u8>);

    /// The most bytes that this many bytes of plaintext become.
    fn sealed_max(&self, plain: usize) -> usize;

    /// Appends records with all of `plain`, which is not empty, to `wire`; they count as sent.
    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>);

    /// The most bytes of the record that says that nothing more comes.
    fn close_max(&self) -> usize;

    /// Appends that record. Nothing is sealed after it.
    fn close(&mut self, wire: &mut Vec<u8>);
}

/// What gives each connection of a listener its layer.
pub trait MakeTransport: Debug + Send + Sync {
    /// The layer of a new connection.
    fn make(&self) -> Box<dyn Transport>;
}

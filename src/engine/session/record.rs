#![forbid(unsafe_code)]
//! One session: who it is, what it has subscribed to, and what it is owed.
//!
//! ```text
//!   Connecting ──CONNECT──▶ Live ──drain──▶ Leaving ──all its entries are out──▶ gone
//!        └────────────── drain ─────────────────────────────────────────────────▲
//! ```
//! A session that is leaving has no link any more; its record stays until every home knows that it
//! is gone, since what has no room in a mailbox now is kept in the record it is about.

use super::problem::Problem;
use crate::ids::{GroupIndex, LinkIndex, SessionIndex, ShardId};
use crate::mem::intern::Sym;
use crate::stomp::{self, Version};
use smallvec::SmallVec;
use std::sync::Arc;

/// Set in the number under which a receipt waits for the end of a subscription, so that it is told
/// apart from the one that waits for its beginning.
pub(super) const END: u32 = 1 << 31;
/// Numbers of frames stay below it.
pub(super) const SEQUENCE_MASK: u32 = END - 1;

/// Index of no receipt.
pub(super) const NONE: u32 = u32::MAX;

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No CONNECT yet.
    Connecting,
    /// Logged in.
    Live,
    /// Ended; its homes are being told.
    Leaving,
}

/// Where a subscription is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Its home has been asked.
    Beginning,
    /// It hears.
    Active,
    /// Its home has been asked to end it; it still hears what the home sequenced before.
    Ending,
}

/// One subscription of a session. 24 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// The client's id for it.
    pub id: Sym,
    /// Destination or pattern, without the user prefix.
    pub destination: Sym,
    /// Number of the SUBSCRIBE frame: what the home's answers name.
    pub key: u32,
    /// Its group while it hears a broker destination.
    pub group: GroupIndex,
    /// Its place in the group.
    pub position: u32,
    /// Where it is in its life.
    pub state: SubscriptionState,
    /// It is one of a user destination.
    pub of_user: bool,
    /// Its MESSAGEs have an `ack` header.
    pub acks: bool,
    /// Its destination is a pattern.
    pub is_pattern: bool,
}

const _: () = assert!(size_of::<Subscription>() <= 24);

/// A frame that has to wait for a home, and its connection with it.
#[derive(Debug)]
pub enum Deferred {
    /// A SUBSCRIBE whose RECEIPT would overtake those that another home still owes; and its first
    /// MESSAGE may not overtake its RECEIPT.
    Subscribe { id: String, destination: String, receipt: Vec<u8>, sequence: u32, acks: bool },
    /// An UNSUBSCRIBE of a subscription (by its key) that has not begun yet.
    Unsubscribe { key: u32, receipt: Option<Vec<u8>>, sequence: u32 },
    /// A frame that is answered with ERROR when the receipts of those before it are given.
    /// Nothing that the rules keep from its session is heard until then.
    Refuse { problem: Problem<'static>, body: String, receipt: Option<Vec<u8>>, sequence: u32 },
}

/// Bytes of a session's frames that are not handled yet, and how far the decoder is in the first
/// of them: one pointer in every idle session.
#[derive(Debug, Default)]
pub struct Partial(Option<Box<(Vec<u8>, stomp::Decoder)>>);

impl Partial {
    /// Count of bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |rest| rest.0.len())
    }

    /// Takes all of it out.
    pub fn take(&mut self) -> Option<Box<(Vec<u8>, stomp::Decoder)>> {
        self.0.take()
    }

    /// Keeps bytes that no frame has come of yet.
    pub fn keep(&mut self, bytes: &[u8], decoder: stomp::Decoder) {
        assert!(self.0.is_none(), "nothing came in between");
        if !bytes.is_empty() {
            self.0 = Some(Box::new((bytes.to_vec(), decoder)));
        }
    }

    /// Puts back what `take` gave, without the first `used` bytes; frees it when that is all.
    pub fn put_back(&mut self, mut rest: Box<(Vec<u8>, stomp::Decoder)>, used: usize) {
        assert!(self.0.is_none(), "nothing came in between");
        if used < rest.0.len() {
            rest.0.drain(..used);
            self.0 = Some(rest);
        }
    }
}

/// One session. 112 bytes.
#[derive(Debug)]
pub struct Session {
    /// The way to its client; meaningless while leaving.
    pub link: LinkIndex,
    /// Where it is in its life.
    pub phase: Phase,
    /// STOMP version; 1.2 until CONNECT has said.
    pub version: Version,
    /// Bytes of frames not yet handled.
    pub partial: Partial,
    /// Its user, if it has a name.
    pub user: Option<Arc<str>>,
    /// The user's home was told of it.
    pub joined: bool,
    /// Heart-beats agreed: what we send, what we expect, in milliseconds; 0 is none.
    pub beat: stomp::heartbeat::Agreed,
    /// Its subscriptions.
    pub subscriptions: SmallVec<[Subscription; 1]>,
    /// Number of its last frame.
    pub sequence: u32,
    /// Receipts that wait.
    pub receipts: ReceiptList,
    /// The home that all of them wait for; None if they wait for several.
    pub receipts_home: Option<ShardId>,
    /// DISCONNECT has come: the connection ends when the receipts are given.
    pub disconnecting: bool,
    /// A frame that waits for a home.
    pub deferred: Option<Box<Deferred>>,
    /// Neighbours in the list of its user's sessions on this shard.
    pub same_user: Neighbours,
}

/// Bytes of a session.
pub const SESSION_BYTES: usize = size_of::<Session>();
const _: () = assert!(SESSION_BYTES <= 112);

/// The receipts of one session that wait, a list within the shard's table of them.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptList {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) count: u32,
}

impl ReceiptList {
    pub(super) const EMPTY: ReceiptList = ReceiptList { first: NONE, last: NONE, count: 0 };

    /// How many wait.
    pub fn count(self) -> u32 {
        self.count
    }
}

/// The sessions before and behind one in the list of its user's sessions on this shard.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    pub(super) previous: SessionIndex,
    pub(super) next: SessionIndex,
}

impl Neighbours {
    pub(super) const ALONE: Neighbours =
        Neighbours { previous: SessionIndex::NONE, next: SessionIndex::NONE };

    /// The one behind it.
    pub fn next(self) -> Option<SessionIndex> {
        self.next.get()
    }
}

/// A RECEIPT that waits for its home.
#[derive(Debug)]
pub struct WaitingReceipt {
    /// The client's receipt id.
    pub id: SmallVec<[u8; 24]>,
    /// Number of its frame.
    pub sequence: u32,
    /// Answers it still waits for.
    pub answers: u32,
    /// The next one of the session.
    pub next: u32,
}

impl Session {
    /// A session that has just been upgraded.
    pub fn new(link: LinkIndex) -> Session {
        Session {
            link,
            phase: Phase::Connecting,
            version: Version::V1_2,
            partial: Partial::default(),
            user: None,
            joined: false,
            beat: stomp::heartbeat::Agreed { send: 0, receive: 0 },
            subscriptions: SmallVec::new(),
            sequence: 0,
            receipts: ReceiptList::EMPTY,
            receipts_home: None,
            disconnecting: false,
            deferred: None,
            same_user: Neighbours::ALONE,
        }
    }

    /// Asserts what holds between its fields. Slow.
    pub(super) fn invariants(&self) {
        let is_live = self.phase == Phase::Live;
        assert!(is_live || self.receipts.count == 0, "only who is live is owed receipts");
        assert!(is_live || self.deferred.is_none(), "only who is live waits for a home");
        assert!(self.phase != Phase::Leaving || self.partial.len() == 0, "who leaves is not read");
        assert!(!self.joined || self.user.is_some(), "only a user's home is told");
        assert!(!self.disconnecting || self.phase != Phase::Connecting, "CONNECT comes first");
        for (at, subscription) in self.subscriptions.iter().enumerate() {
            assert_eq!(self.by_key(subscription.key), Some(at), "a key is one subscription's");
            let hears = subscription.group != GroupIndex::NONE;
            let may_hear = is_live && subscription.state != SubscriptionState::Beginning;
            assert!(!hears || may_hear && !subscription.of_user, "only who hears is in a group");
        }
    }

    /// Whether it has ended, and its homes are being told.
    pub fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// The subscription that a home's answer names.
    pub fn by_key(&self, key: u32) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| subscription.key == key)
    }

    /// The live subscription of a client's id.
    pub fn by_id(&self, id: Sym) -> Option<usize> {
        let live = |s: &Subscription| s.id == id && s.state != SubscriptionState::Ending;
        self.subscriptions.iter().position(live)
    }
}

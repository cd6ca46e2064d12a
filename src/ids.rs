//! Newtype ids and indices, so that no two can be swapped. Bare are numbers of frames, keys of
//! subscriptions and numbers of segments.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

/// Number of a shard: one data-plane thread with its own ring. At most `SHARDS_MAX` shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The shard's number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One mailbox peer: a shard, or the control thread (whose number is the count of shards).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u8);

impl PeerId {
    /// The peer's number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<ShardId> for PeerId {
    fn from(shard: ShardId) -> PeerId {
        PeerId(shard.0)
    }
}

/// Number of a listening socket of a shard, in the order of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u8);

/// Slot of a direct descriptor in a ring's table, which is also the index of its connection in the
/// shard's table of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Index of a link, the ordered way to one client. The link of a connection has its slot's number
/// as long as the connection lives; above all slots are links that have no connection of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct LinkIndex(pub u32);

impl LinkIndex {
    /// The link as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<Slot> for LinkIndex {
    fn from(slot: Slot) -> LinkIndex {
        LinkIndex(slot.0)
    }
}

/// Index of a session in its shard's table of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SessionIndex(pub u32);

impl SessionIndex {
    /// No session. Used in records where `Option` would cost four bytes; [`Self::get`] returns an
    /// `Option`.
    pub const NONE: SessionIndex = SessionIndex(u32::MAX);

    /// None for `NONE`.
    pub fn get(self) -> Option<SessionIndex> {
        (self != SessionIndex::NONE).then_some(self)
    }
}

/// Index of a group of subscribers in its shard's table of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct GroupIndex(pub u32);

impl GroupIndex {
    /// No group. Used in records where `Option` would cost four bytes; [`Self::get`] returns an
    /// `Option`.
    pub const NONE: GroupIndex = GroupIndex(u32::MAX);

    /// None for `NONE`.
    pub fn get(self) -> Option<GroupIndex> {
        (self != GroupIndex::NONE).then_some(self)
    }
}

/// Number of an endpoint in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct EndpointIndex(pub u16);

impl EndpointIndex {
    /// The endpoint's number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One connection of one shard: the slot of its direct descriptor in the ring's file table, and the
/// generation of that slot, so that a late completion for a reused slot is recognised.
/// A slot has at most 24 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Slot in the ring's table of direct descriptors, which is also the index in the shard's table
    /// of connections.
    pub slot: Slot,
    /// How often the slot was used before.
    pub generation: u32,
}

/// Largest slot number that fits an id.
pub const SLOT_MAX: u32 = (1 << 24) - 1;

/// One receive buffer of a shard's shared pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BufferId(pub u16);

/// A range of bytes in the segment pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Number of the segment.
    pub segment: u32,
    /// First byte within the segment.
    pub offset: u32,
    /// Count of bytes, at least one.
    pub len: u32,
}

/// One session of the process, unique for its whole life: shard, index and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

impl SessionId {
    /// Packs shard (8 bits), index (24 bits) and generation (32 bits).
    pub fn new(shard: ShardId, index: SessionIndex, generation: u32) -> SessionId {
        assert!(index.0 <= SLOT_MAX, "a session index has 24 bits");
        SessionId(u64::from(shard.0) << 56 | u64::from(index.0) << 32 | u64::from(generation))
    }

    /// The shard whose table has the session.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 56) as u8)
    }

    /// Index in that shard's table.
    pub fn index(self) -> SessionIndex {
        SessionIndex((self.0 >> 32) as u32 & SLOT_MAX)
    }

    /// Generation of that index.
    pub fn generation(self) -> u32 {
        self.0 as u32
    }

    /// Parses what `Display` writes. None for anything else.
    pub fn parse(text: &str) -> Option<SessionId> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The block by which clients are distinguished: an IPv4 address, or the /64 of
/// an IPv6 one, since a client that has one has them all (RFC 6177 §2).
pub fn address_block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_round_trips_through_its_text_and_parts() {
        let id = SessionId::new(ShardId(3), SessionIndex(SLOT_MAX), u32::MAX);
        assert_eq!((id.shard(), id.index().0), (ShardId(3), SLOT_MAX));
        assert_eq!(id.generation(), u32::MAX);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse("0"), None);
        assert_eq!(SessionId::parse("00000000000000+1"), None);
    }

    #[test]
    fn a_block_is_what_one_client_can_have() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
        ] {
            let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(address_block(parse(address)), parse(expected), "{address}");
        }
    }
}

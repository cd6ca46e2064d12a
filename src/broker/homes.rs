#![forbid(unsafe_code)]
//! Which shard is the home of what. All shards know it alike, and no client can choose it.

use super::message::Message;
use crate::ids::ShardId;
use crate::mem::secret::HashKey;

/// The homes of a process, for its whole life.
#[derive(Clone, Copy, Debug)]
pub struct Homes {
    key: HashKey,
    shards: u8,
}

impl Homes {
    /// Homes on this many shards, at least one.
    pub fn new(key: HashKey, shards: u8) -> Homes {
        assert!(shards > 0, "somebody has to do it");
        Homes { key, shards }
    }

    /// Count of shards.
    pub fn shards(&self) -> u8 {
        self.shards
    }

    /// The home of a broker destination. One shard sequences all of them, which is what keeps a
    /// sender's order across destinations.
    pub fn of_destination(&self, _destination: &str) -> ShardId {
        ShardId(0)
    }

    /// The home of a user.
    pub fn of_user(&self, name: &str) -> ShardId {
        let hash = self.key.hash(name);
        ShardId(((u128::from(hash) * u128::from(self.shards)) >> 64) as u8)
    }

    /// The home of a fingerprint, by its upper half.
    pub fn of_fingerprint(&self, [upper, _]: [u64; 2]) -> ShardId {
        ShardId((upper % u64::from(self.shards)) as u8)
    }

    /// Where a message is sequenced: at the home of its user, if it has one, or of its destination.
    pub fn of_message(&self, message: &Message) -> ShardId {
        match message.user() {
            "" => self.of_destination(message.destination()),
            user => self.of_user(user),
        }
    }
}

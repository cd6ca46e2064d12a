#![forbid(unsafe_code)]
//! Messages that are to be encoded with the next fan-out, and which groups hear them.

use super::encode::MessageId;
use super::parts::{self, Several};
use crate::broker::message::Message;
use crate::broker::subscription::Index;
use crate::config::SlowConsumer;
use crate::ids::GroupIndex;
use std::sync::Arc;

/// A message to be given to the groups that hear it.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) message: Arc<Message>,
    pub(super) id: MessageId,
    /// Groups that have not got it yet.
    pub(super) groups: u32,
    /// Bytes of all its frames, at most.
    pub(super) bytes: usize,
    /// The longest of them.
    pub(super) longest: usize,
    /// What becomes of it where it cannot be sent soon enough.
    pub(super) policy: SlowConsumer,
    /// Its variants of which parts are kept, bytes of those at most, and where they are.
    pub(super) several: Several,
    pub(super) parts_bound: usize,
    pub(super) parts: parts::Head,
}

/// What is to be encoded with the next fan-out.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) deliveries: Vec<Due>,
    /// Groups that hear some of them.
    pub(super) marked: Vec<GroupIndex>,
    /// Some of the deliveries may be dropped where they cannot be sent soon enough.
    pub(super) sheds: bool,
}

impl Pending {
    /// Marks the groups of a message.
    pub(super) fn take(&mut self, index: &mut Index, delivery: Due, groups: &[GroupIndex]) {
        let place = self.deliveries.len() as u32;
        for &group in groups {
            let pending = &mut index.group_mut(group).pending;
            if pending.is_empty() {
                self.marked.push(group);
            }
            pending.push(place);
        }
        self.sheds |= delivery.policy != SlowConsumer::Close;
        self.deliveries.push(delivery);
    }
}

//! Entries that wait until a mailbox has room for them. Nothing is dropped.

use crate::engine::mailbox::{Class, Entry, Mailbox};
use crate::ids::PeerId;
use std::collections::VecDeque;

/// Entries for each shard and class, oldest first. The sum is bounded by whoever fills it.
#[derive(Debug)]
pub(super) struct Outgoing {
    queues: Vec<[VecDeque<Entry>; 2]>,
    /// Shards that have ended: nobody reads their mailboxes.
    ended: Vec<bool>,
    count: usize,
}

impl Outgoing {
    /// Nothing yet, for so many shards.
    pub(super) fn new(shards: usize) -> Outgoing {
        let queues = (0..shards).map(|_| Default::default()).collect();
        Outgoing { queues, ended: vec![false; shards], count: 0 }
    }

    /// Puts an entry at the end; one to a shard that has ended is gone.
    pub(super) fn push(&mut self, to: PeerId, entry: Entry) {
        if self.ended[to.index()] {
            return;
        }
        let class = entry.class();
        self.queues[to.index()][class as usize].push_back(entry);
        self.count += 1;
    }

    /// Sends what has room.
    pub(super) fn flush(&mut self, mailbox: &mut Mailbox) {
        for (peer, queues) in self.queues.iter_mut().enumerate() {
            let to = PeerId(peer as u8);
            for class in [Class::Request, Class::Delivery] {
                let queue = &mut queues[class as usize];
                for entry in queue.drain(..mailbox.room(to, class).min(queue.len())) {
                    mailbox.send(to, entry);
                    self.count -= 1;
                }
            }
        }
    }

    /// A shard has ended.
    pub(super) fn end(&mut self, shard: PeerId) {
        self.ended[shard.index()] = true;
        for queue in &mut self.queues[shard.index()] {
            self.count -= queue.len();
            queue.clear();
        }
    }

    /// Entries that wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mailbox::connect;
    use crate::ids::{SessionId, SessionIndex, ShardId};

    fn ended(key: u32) -> Entry {
        Entry::Ended { session: SessionId::new(ShardId(0), SessionIndex(0), 0), key }
    }

    #[test]
    fn what_has_no_room_waits_in_its_order_and_holds_up_nobody_else() {
        let mut mailboxes = connect(3, 2);
        let mut mailbox = mailboxes.pop().expect("three mailboxes");
        let mut outgoing = Outgoing::new(2);
        for key in 0..5 {
            outgoing.push(PeerId(0), ended(key));
        }
        outgoing.push(PeerId(0), Entry::Drain);
        outgoing.push(PeerId(1), ended(9));
        let (mut heard, mut rounds) = (Vec::new(), 0);
        while !outgoing.is_empty() {
            outgoing.flush(&mut mailbox);
            rounds += 1;
            assert!(mailboxes[0].take(PeerId(2), Class::Request).is_some() == (rounds == 1));
            assert!(mailboxes[1].take(PeerId(2), Class::Delivery).is_some() == (rounds == 1));
            while let Some(Entry::Ended { key, .. }) = mailboxes[0].take(PeerId(2), Class::Delivery)
            {
                heard.push(key);
            }
        }
        assert_eq!((heard, rounds), (vec![0, 1, 2, 3, 4], 3));
    }

    #[test]
    fn entries_to_a_shard_that_has_ended_are_gone() {
        let mut outgoing = Outgoing::new(2);
        outgoing.push(PeerId(0), ended(1));
        outgoing.push(PeerId(1), ended(2));
        outgoing.end(PeerId(0));
        outgoing.push(PeerId(0), ended(3));
        assert_eq!(outgoing.len(), 1);
    }
}

//! Entries that wait until a mailbox has room for them. Nothing is dropped.

use crate::broker::core::{Class, Effect};
use crate::engine::mailbox::{Mailbox, ToHome, ToShard};
use crate::ids::{PeerId, ShardId};
use std::collections::VecDeque;

/// Entries for one shard, by class, oldest first.
#[derive(Debug, Default)]
struct Queues {
    home: VecDeque<ToHome>,
    event: VecDeque<ToShard>,
    /// The shard has ended: nobody reads its mailbox.
    ended: bool,
}

/// Entries for each shard. The caller bounds their number.
#[derive(Debug)]
pub(super) struct Outgoing {
    queues: Vec<Queues>,
}

impl Outgoing {
    /// Nothing yet, for this number of shards.
    pub(super) fn new(shards: usize) -> Outgoing {
        Outgoing { queues: (0..shards).map(|_| Queues::default()).collect() }
    }

    /// Puts an entry at the end of its queue; one to a shard that has ended is discarded.
    pub(super) fn push(&mut self, effect: Effect) {
        match effect {
            Effect::Command(home, command) => {
                let queues = &mut self.queues[home.index()];
                if !queues.ended {
                    queues.home.push_back(ToHome::Command(command));
                }
            }
            Effect::Event(shard, event) => self.tell(shard, ToShard::Event(event)),
        }
    }

    /// The same for an entry that is not for a home.
    pub(super) fn tell(&mut self, shard: ShardId, entry: ToShard) {
        let queues = &mut self.queues[shard.index()];
        if !queues.ended {
            queues.event.push_back(entry);
        }
    }

    /// Sends what the mailboxes have room for.
    pub(super) fn flush(&mut self, mailbox: &mut Mailbox) {
        for (peer, queues) in self.queues.iter_mut().enumerate() {
            let to = PeerId(peer as u8);
            let room = mailbox.room(to, Class::Home).min(queues.home.len());
            queues.home.drain(..room).for_each(|entry| mailbox.send(to, entry));
            let room = mailbox.room(to, Class::Event).min(queues.event.len());
            queues.event.drain(..room).for_each(|entry| mailbox.send(to, entry));
        }
    }

    /// A shard has ended.
    pub(super) fn end(&mut self, shard: ShardId) {
        self.queues[shard.index()] = Queues { ended: true, ..Queues::default() };
    }

    /// Entries that wait.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(|queues| queues.home.len() + queues.event.len()).sum()
    }

    /// Events that wait for one shard.
    pub(super) fn events_of(&self, shard: ShardId) -> usize {
        self.queues[shard.index()].event.len()
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::command::{Command, Event};
    use crate::engine::mailbox::connect;
    use crate::ids::{SessionId, SessionIndex, ShardId};

    fn session() -> SessionId {
        SessionId::new(ShardId(0), SessionIndex(0), 0)
    }

    fn ended(shard: u8, key: u32) -> Effect {
        Effect::Event(ShardId(shard), Event::Ended { session: session(), key })
    }

    #[test]
    fn what_has_no_room_waits_in_its_order_and_holds_up_nobody_else() {
        let mut mailboxes = connect(3, 2);
        let mut mailbox = mailboxes.pop().expect("three mailboxes");
        let mut outgoing = Outgoing::new(2);
        for key in 0..5 {
            outgoing.push(ended(0, key));
        }
        let join = Command::Join { user: "7".into(), session: session() };
        outgoing.push(Effect::Command(ShardId(0), join));
        outgoing.push(ended(1, 9));
        let (mut heard, mut rounds) = (Vec::new(), 0);
        while !outgoing.is_empty() {
            outgoing.flush(&mut mailbox);
            rounds += 1;
            assert!(mailboxes[0].take::<ToHome>(PeerId(2)).is_some() == (rounds == 1));
            assert!(mailboxes[1].take::<ToShard>(PeerId(2)).is_some() == (rounds == 1));
            while let Some(ToShard::Event(Event::Ended { key, .. })) = mailboxes[0].take(PeerId(2))
            {
                heard.push(key);
            }
        }
        assert_eq!((heard, rounds), (vec![0, 1, 2, 3, 4], 3));
    }

    #[test]
    fn entries_to_a_shard_that_has_ended_are_gone() {
        let mut outgoing = Outgoing::new(2);
        outgoing.push(ended(0, 1));
        outgoing.push(ended(1, 2));
        outgoing.end(ShardId(0));
        outgoing.push(ended(0, 3));
        assert_eq!((outgoing.len(), outgoing.events_of(ShardId(1))), (1, 1));
    }
}

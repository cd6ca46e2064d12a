//! What a trace shows of the entries between threads: who has sent which in a turn.

use super::control::Control;
use super::ring::SimRing;
use super::world::World;
use crate::broker::command::Callback;
use crate::engine::mailbox::{Entry, Mailbox, ToControl, ToHome, ToShard};
use crate::engine::shard::Shard;
use crate::ids::PeerId;
use core::cell::RefCell;
use core::fmt::Debug;

/// Characters of an entry that a trace shows.
const SHOWN_MAX: usize = 300;
/// Queues that a peer has towards another.
const QUEUES: usize = 4;

/// What waits of one peer at all others, in each queue, oldest first.
pub(super) struct Waiting {
    from: usize,
    at: Vec<[Vec<String>; QUEUES]>,
}

impl Waiting {
    /// Looks at all queues of a peer; the control thread is the last one.
    pub(super) fn of(from: usize, shards: &mut [Shard<SimRing>], control: &mut Control) -> Waiting {
        let mailboxes = shards.iter_mut().map(Shard::mailbox).chain([control.mailbox()]);
        let at = mailboxes.map(|mailbox| queues(mailbox, PeerId(from as u8))).collect();
        Waiting { from, at }
    }
}

/// Records that a shard has a turn.
pub(super) fn tell_turn(world: &RefCell<World>, turn: u64, shard: usize) {
    let mut world = world.borrow_mut();
    let operation = world.operations();
    world.tell(|| format!("operation {operation}: turn {turn}, of shard {shard}"));
}

/// Records what a peer has sent in its turn: the entries that were not there `before`. Only the
/// peer itself adds some, and nobody else has taken any since.
pub(super) fn tell(before: Option<Waiting>, now: Option<Waiting>, world: &RefCell<World>) {
    let (Some(before), Some(now)) = (before, now) else { return };
    let (from, control) = (now.from, now.at.len() - 1);
    let name = |peer: usize| match peer {
        _ if peer == control => "control".to_string(),
        _ => format!("shard {peer}"),
    };
    for (to, (now, before)) in now.at.into_iter().zip(&before.at).enumerate() {
        for (now, before) in now.into_iter().zip(before) {
            // What it sends to itself it may have taken in the same turn.
            for entry in now.into_iter().skip(before.len()).filter(|_| to != from) {
                let shown: String = entry.chars().take(SHOWN_MAX).collect();
                let line = format!("{} -> {}: {shown}", name(from), name(to));
                world.borrow_mut().tell(|| line);
            }
        }
    }
}

fn queues(mailbox: &mut Mailbox, from: PeerId) -> [Vec<String>; QUEUES] {
    fn of<E: Entry + Debug>(mailbox: &mut Mailbox, from: PeerId) -> Vec<String> {
        mailbox.waiting::<E>(from)
    }
    [
        of::<Callback>(mailbox, from),
        of::<ToHome>(mailbox, from),
        of::<ToControl>(mailbox, from),
        of::<ToShard>(mailbox, from),
    ]
}

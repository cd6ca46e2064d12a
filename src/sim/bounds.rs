//! The bounds that every shard keeps, looked at after its turns.

use super::counts::Event;
use super::ring::SimRing;
use super::violation::{Oracle, Violation};
use super::world::World;
use crate::broker::core::Class;
use crate::engine::shard::Shard;
use crate::limits::Limits;
use crate::time::Instant;

/// Virtual time in which a shard has to end the connection of a client that is gone, and in which a
/// connection that moves has to be in a table again.
const GONE: u64 = 1_500_000_000;

/// A shard that has had a turn, and what is known of it.
pub(super) struct Look<'a> {
    pub(super) shard: &'a mut Shard<SimRing>,
    /// Its number.
    pub(super) at: usize,
    pub(super) limits: &'a Limits,
    /// Messages are collected.
    pub(super) collects: bool,
    /// Until when each shard was stalled; None: the clock has jumped, and nothing is late.
    pub(super) stalled: Option<&'a [Instant]>,
}

impl Look<'_> {
    /// Checks the bounds. Only for a sample of turns, since it walks the tables.
    pub(super) fn check(self, world: &mut World) -> Result<(), Violation> {
        let Look { shard, at, limits, collects, stalled } = self;
        let audit = shard.audit();
        let bounds = [
            ("outbox", audit.outbox_most as usize, outbox_max(limits, collects)),
            ("answers", audit.answers_most as usize, answers_max(limits)),
            ("receipts", audit.receipts_most as usize, limits.receipts as usize),
            ("subscriptions", audit.subscriptions_most, limits.subscriptions as usize),
            ("held bytes", audit.buffered, (limits.held_bytes + 2 * limits.message) as usize),
            ("destinations", audit.destinations, limits.destinations as usize),
        ];
        for (what, value, bound) in bounds {
            if value > bound {
                let text = format!("shard {at}: {what} {value} > {bound}: {audit:?}");
                return Err(Violation::new(Oracle::Limit, text));
            }
        }
        if audit.buffered != audit.buffered_counted {
            let text = format!("shard {at} miscounts what it holds: {audit:?}");
            return Err(Violation::new(Oracle::Leak, text));
        }
        if let Some(stalled) = stalled {
            late(world, at, stalled)?;
        }
        if audit.blocks_free == 0 {
            world.counts.note(Event::BlocksFull);
        }
        for class in [Class::Dedupe, Class::Home, Class::Event] {
            if shard.mailbox().room_everywhere(class) == 0 {
                world.counts.note(Event::MailboxFull);
            }
        }
        Ok(())
    }
}

/// Whether a connection should have ended, or should be in a table again.
fn late(world: &World, at: usize, stalled: &[Instant]) -> Result<(), Violation> {
    if let Some(socket) = world.overdue(at, stalled[at], GONE) {
        let text = format!("shard {at} does not let go of a client that is gone: {socket}");
        return Err(Violation::new(Oracle::Leak, text));
    }
    // Whoever stalls keeps what is in flight to it.
    let since = stalled.iter().max().copied().unwrap_or_default();
    if let Some(socket) = world.forgotten(since, GONE) {
        let text = format!("a connection that moved is in no table: {socket}");
        return Err(Violation::new(Oracle::Leak, text));
    }
    Ok(())
}

/// Bytes that may wait for one client at the end of a turn. The bound is checked when an outbox
/// is flushed, and until then a turn's messages are queued: as many as one class may have (in
/// all seeds tried so far), and those of batches that end, each of them for every subscription
/// that matches it (seed 987337227343).
fn outbox_max(limits: &Limits, collects: bool) -> usize {
    let batched = if collects { limits.batch_messages } else { 0 };
    let frames = (limits.turn_entries + batched) * limits.subscriptions;
    (limits.send_buffer + frames * limits.message) as usize
}

/// Bytes that may wait for a client that gets answers only. With more than `send-bytes` it is no
/// longer read, but one more message may have been answered before. Quoting may double the length.
fn answers_max(limits: &Limits) -> usize {
    (limits.send_bytes + 2 * limits.message) as usize
}

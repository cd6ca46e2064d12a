#![forbid(unsafe_code)]
//! A shard seen from outside: what it holds, for the simulator's oracles and for tests.

use super::conn::Proto;
use super::mailbox::Mailbox;
use super::shard::Shard;
use crate::ids::Slot;
use crate::ring::Ring;

/// What a shard holds. All but what is free is zero when everybody is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Connections.
    pub connections: usize,
    /// Connections of which a poll for the end of the peer is armed.
    pub watched: usize,
    /// Records of sessions, leaving ones included.
    pub sessions: usize,
    /// Receipts that wait.
    pub receipts: usize,
    /// Bytes of unfinished input, as counted.
    pub buffered: usize,
    /// The same, added up afresh.
    pub buffered_counted: usize,
    /// References to segments.
    pub segment_refcounts: u64,
    /// Free segments.
    pub segments_free: usize,
    /// Receive buffers that were not given back.
    pub buffers_held: u32,
    /// Message blocks that somebody else holds.
    pub blocks: usize,
    /// Message blocks that could be used now.
    pub blocks_free: usize,
    /// Destinations with a subscription, where this shard is their home.
    pub destinations: usize,
    /// Users online, where this shard is their home.
    pub users: usize,
    /// Groups of subscribers.
    pub groups: usize,
    /// Interned names.
    pub names: usize,
    /// Things that wait for room: connections, entries, sessions that leave, messages to be
    /// fanned out, changes of presence.
    pub waiting: usize,
    /// Bytes that wait for the client with the most.
    pub outbox_most: u32,
    /// The same of those that are only answered: raw sessions.
    pub answers_most: u32,
    /// Receipts that wait of the session with the most.
    pub receipts_most: u32,
    /// Subscriptions of the session with the most.
    pub subscriptions_most: usize,
}

impl<R: Ring> Shard<R> {
    /// Looks at everything. Slow: it walks the tables.
    pub fn audit(&mut self) -> Audit {
        let names = self.index.names().len();
        let held = |slot: Slot| {
            let conn = self.conns.at(slot);
            conn.buffered() + self.conns.pongs.bytes_of(slot)
        };
        let sessions = || self.sessions.iter();
        let raw = |slot: &Slot| matches!(self.conns.at(*slot).proto, Proto::Raw(_));
        let answers = self.conns.slots().filter(raw);
        let answers = answers.map(|slot| self.conns.at(slot).outbox.waiting());
        let outboxes = self.conns.slots().map(|slot| self.conns.at(slot).outbox.waiting());
        Audit {
            connections: self.conns.len(),
            watched: self.conns.slots().filter(|&slot| self.conns.at(slot).watched).count(),
            sessions: self.sessions.iter().count(),
            receipts: sessions().map(|session| session.receipts.count() as usize).sum(),
            buffered: self.buffered,
            buffered_counted: self.conns.slots().map(held).sum::<usize>()
                + sessions().map(|session| session.partial.len()).sum::<usize>(),
            segment_refcounts: self.segments.refcounts(),
            segments_free: self.segments.free_count(),
            buffers_held: self.receive.as_ref().map_or(0, |pool| pool.held()),
            blocks: self.blocks.in_flight(),
            blocks_free: self.limits.message_blocks as usize - self.blocks.in_flight(),
            destinations: self.core.destinations(),
            users: self.core.users().online(),
            groups: self.index.len(),
            names,
            waiting: self.waiting.len()
                + self.answered.len()
                + self.stash.len()
                + self.leaving.len()
                + usize::from(!self.fanout.is_empty())
                + usize::from(!self.fanout.batches.is_empty())
                + usize::from(self.core.has_announcements()),
            outbox_most: outboxes.max().unwrap_or(0),
            answers_most: answers.max().unwrap_or(0),
            receipts_most: sessions().map(|session| session.receipts.count()).max().unwrap_or(0),
            subscriptions_most: sessions().map(|s| s.subscriptions.len()).max().unwrap_or(0),
        }
    }

    /// Its end of the mailboxes.
    pub fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }
}

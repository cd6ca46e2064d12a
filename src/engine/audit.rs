#![forbid(unsafe_code)]
//! A shard seen from outside: what it holds, for the simulator's oracles and for tests, and in its
//! gauges.

use super::delivery::unsent;
use super::dispatch::Dispatch;
use crate::ids::Slot;

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
    /// fanned out, changes of presence, connections between two shards.
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

/// What the parts hold together.
pub(super) fn audit(parts: &Dispatch, buffers_held: u32) -> Audit {
    let (net, links, fanout) = (&parts.net, &parts.delivery.links, &parts.delivery.fanout);
    let (stomp, sockets, bus) = (&parts.stomp, &parts.sockets, &parts.bus);
    let held = |slot: Slot| {
        let others = sockets.held(slot) + parts.web.held(slot) + stomp.held(slot.into());
        parts.input.len(slot) + others + net.transports().held(slot)
    };
    let waiting = |slot: Slot| unsent(links, net, slot);
    let answers = net.slots().filter(|&slot| sockets.is_raw(slot)).map(waiting);
    let sessions = || stomp.sessions().map(|(_, session)| session);
    let blocks = bus.messages_in_flight();
    Audit {
        connections: net.len(),
        watched: net.watched(),
        sessions: sessions().count(),
        receipts: sessions().map(|session| session.receipts.count() as usize).sum(),
        buffered: parts.input.held(),
        buffered_counted: net.slots().map(held).sum::<usize>()
            + links.all_standalone().map(|link| links.kept(link) + stomp.held(link)).sum::<usize>(),
        segment_refcounts: links.segments().refcounts(),
        segments_free: links.segments().free_count(),
        buffers_held,
        blocks,
        blocks_free: parts.ctx.limits.message_blocks as usize - blocks,
        destinations: bus.core().destinations(),
        users: bus.core().users().online(),
        groups: fanout.groups(),
        names: fanout.index().names_len(),
        waiting: links.waiting()
            + links.blocked()
            + links.woken()
            + parts.stash.len()
            + stomp.leaving()
            + parts.moves.between()
            + usize::from(!fanout.is_empty())
            + usize::from(fanout.has_batches())
            + usize::from(bus.core().has_announcements())
            + usize::from(bus.has_stuck_mail()),
        outbox_most: net.slots().map(waiting).max().unwrap_or(0),
        answers_most: answers.max().unwrap_or(0),
        receipts_most: sessions().map(|session| session.receipts.count()).max().unwrap_or(0),
        subscriptions_most: sessions().map(|s| s.subscriptions.len()).max().unwrap_or(0),
    }
}

/// What outside is known of the shard: at its start, and after each turn that found something to
/// do.
pub(super) fn set_gauges(parts: &Dispatch) {
    let (links, fanout) = (&parts.delivery.links, &parts.delivery.fanout);
    let metrics = &parts.ctx.metrics;
    metrics.deflates_total.set(links.deflates() + fanout.deflates());
    metrics.connections.set(parts.net.len() as u64);
    metrics.segments_free.set(links.segments().free_count() as u64);
    metrics.inflate_history_bytes.set(parts.sockets.history_bytes() as u64);
    metrics.buffered_bytes.set(parts.input.held() as u64);
    metrics.subscription_groups.set(fanout.groups() as u64);
}

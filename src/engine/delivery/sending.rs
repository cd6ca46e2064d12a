#![forbid(unsafe_code)]
//! The sends that empty the links, and what becomes of clients that do not take them: the whole
//! policy for slow consumers.

use super::link::{Link, Lists, Pause, Way};
use super::links::{Links, unsent};
use super::sealing::seal;
use super::shed::Dropped;
use crate::engine::context::Context;
use crate::engine::net::{Net, PATIENCE, Peer, Sending, State, View};
use crate::ids::{LinkIndex, Range, Slot};
use crate::mem::segment::{Extent, Log, Segments};
use crate::time::Millis;
use hashbrown::HashMap;

/// Up to here copying several extents into one beats a send for each.
const GATHER_MAX: u32 = 16 * 1024;
/// A pool that stays short is looked through so often at most: all connections are looked at.
const ROOM_PAUSE: Millis = Millis(10);
/// The same while somebody waits for room. Those who make them wait stand still for longer.
const ROOM_PAUSE_WANTED: Millis = Millis(4);

impl Links {
    /// Whether something is to be sent, or looked at.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.woken() > 0
    }

    /// Count of links that have no room for what they would seal.
    pub fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// Begins sends, at most `send-chunk` of them, so that a large fan-out does not blind the loop.
    pub fn flush(&mut self, net: &mut Net, ctx: &Context) {
        if !self.blocked.is_empty() {
            self.dirty.append(&mut self.blocked);
        }
        let (mut sends, due) = (0, ctx.now.millis() + u64::from(ctx.limits.send_time.0));
        while sends < ctx.limits.send_chunk {
            let Some(link) = self.dirty.pop_front() else { break };
            let Some(slot) = self.slot(link) else {
                self.feed_one(net, ctx, link);
                continue;
            };
            let state = self.table.at_mut(link);
            state.lists.leave(Lists::DIRTY);
            if state.way == Way::Closed {
                continue;
            }
            let range = if net.transports().is_sealed(slot) {
                let Some(range) = self.next_sealed(net, ctx, slot) else { continue };
                range
            } else if state.is_sending() {
                let is_open = matches!(state.way, Way::Open(_));
                if is_open && state.waiting() > ctx.limits.send_buffer {
                    self.over_bound(View { ctx, net }, link);
                }
                continue;
            } else {
                if state.extents().len() > 1 {
                    let Links { table, segments, gathered, .. } = self;
                    gather(&mut table.list[link.index()], segments, ctx, gathered);
                }
                let state = self.table.at_mut(link);
                let Some(range) = state.begin_send(ctx.limits.send_bytes) else {
                    self.all_is_sent(net, ctx, slot);
                    continue;
                };
                range
            };
            net.send(slot, range, ctx.ms, due);
            sends += 1;
        }
    }

    /// What the sealed connection of a link sends next, if nothing of it is in flight: the rest of
    /// what is sealed, and when that is gone, what is sealed then. If there is no room for it, the
    /// link stays among those to flush.
    #[inline(never)] // Most connections are not sealed.
    fn next_sealed(&mut self, net: &mut Net, ctx: &Context, slot: Slot) -> Option<Range> {
        let link = LinkIndex::from(slot);
        if net.sending(slot).is_on() {
            let is_open = matches!(self.at(link).way, Way::Open(_));
            if is_open && unsent(self, net, slot) > ctx.limits.send_buffer {
                self.over_bound(View { ctx, net }, link);
            }
            return None;
        }
        let transports = net.transports_mut();
        if transports.unsent(slot) == 0 {
            let Links { table, segments, gathered, .. } = self;
            let state = &mut table.list[link.index()];
            let max = ctx.limits.send_bytes;
            if seal((state, segments), transports, slot, max, gathered).is_err() {
                state.lists.enter(Lists::DIRTY);
                transports.block(slot, ctx.ms);
                let is_open = matches!(state.way, Way::Open(_));
                let is_over = state.waiting() > ctx.limits.send_buffer;
                self.needs_room = true;
                self.blocked.push_back(link);
                if is_open && is_over {
                    self.over_bound(View { ctx, net }, link);
                }
                return None;
            }
        }
        let range = transports.begin_send(slot);
        if range.is_none() {
            self.all_is_sent(net, ctx, slot);
        }
        range
    }

    /// All of a connection's link is with the kernel.
    fn all_is_sent(&mut self, net: &mut Net, ctx: &Context, slot: Slot) {
        let link = LinkIndex::from(slot);
        if !self.is_ending(link) {
            return self.go_on_serving(net, ctx, slot);
        }
        if net.peer(slot) == Peer::Ended || net.transports().is_greeting(slot) {
            // A handshake is not gone through for what there is to say in the end.
            self.cut(link);
        } else if net.state(slot) == State::Draining {
            net.end_writing(slot);
        }
    }

    /// A connection's send has ended.
    #[inline]
    pub fn on_sent(&mut self, net: &mut Net, ctx: &Context, slot: Slot, result: Result<u32, i32>) {
        let link = LinkIndex::from(slot);
        let taken = result.unwrap_or(0);
        let was_stopping = net.sent(slot, taken, ctx.ms);
        ctx.metrics.sends_total.add(1);
        ctx.metrics.sent_bytes_total.add(u64::from(taken));
        let Links { table, segments, .. } = self;
        let state = &mut table.list[link.index()];
        let (asked, mut waiting, mut owes) = if net.transports().is_sealed(slot) {
            sealed_sent(net, slot, taken, segments)
        } else {
            let asked = state.in_flight();
            state.end_send(taken, segments);
            (asked, 0, false)
        };
        if was_stopping {
            return self.send_stopped(net, ctx, slot, taken);
        }
        if taken < asked {
            // WAITALL was not satisfied: the peer is gone.
            return self.reset(ctx, link);
        }
        waiting += state.waiting();
        owes |= state.lists.has(Lists::SERVING);
        if waiting == 0 && !owes && state.way == Way::Open(Pause::No) {
            // Most have been sent all that they had.
            return;
        }
        if state.way == Way::Open(Pause::Outbox) && waiting <= ctx.limits.send_bytes {
            self.table.wake(link);
        }
        if waiting > 0 || owes || self.is_ending(link) {
            self.mark_dirty(link);
        }
    }

    /// A cancelled send has come back: what is left moves out of the old segments.
    #[cold]
    fn send_stopped(&mut self, net: &mut Net, ctx: &Context, slot: Slot, taken: u32) {
        let link = LinkIndex::from(slot);
        if self.is_open(link) {
            self.go_on_or_close(net, ctx, slot, taken);
            let is_little = unsent(self, net, slot) <= ctx.limits.send_bytes;
            if self.pause(link) == Pause::Outbox && is_little {
                self.table.wake(link);
            }
        }
        if !self.is_ending(link) {
            return self.mark_dirty(link);
        }
        if let Some(oldest) = self.segments.oldest() {
            self.segments.write_elsewhere(oldest);
            let transports = net.transports_mut();
            if !transports.leave(slot, oldest, &mut self.segments) {
                return self.cut(link);
            }
        }
        self.gathered.clear();
        self.table.list[link.index()].take_bytes(&mut self.segments, &mut self.gathered);
        if !self.gathered.is_empty() {
            let is_large = self.gathered.len() > self.segments.size() as usize / 2;
            if self.segments.is_scarce() || is_large && self.segments.is_short() {
                // To copy it would take as much as its end gives.
                return self.cut(link);
            }
            let Ok(extents) = self.segments.append(Log::Private, &self.gathered) else {
                return self.cut(link);
            };
            for extent in extents {
                // It may begin in the middle of a frame.
                let extent = Extent { continued: true, ..extent };
                self.table.list[link.index()].push(extent, &mut self.segments);
            }
        }
        self.mark_dirty(link);
    }

    /// Whether messages may be dropped for this client instead of closing it.
    pub(super) fn may_shed(&self, ctx: &Context, link: LinkIndex) -> bool {
        ctx.shared.sheds
            && self.is_open(link)
            && self.has_session(link)
            && self.at(link).has_droppable(&self.segments)
    }

    /// More waits for a client than may.
    #[cold]
    fn over_bound(&mut self, view: View<'_>, link: LinkIndex) {
        if self.may_shed(view.ctx, link) {
            let encoding = self.encoding(link);
            let Links { table, segments, shedding, .. } = self;
            let state = &mut table.list[link.index()];
            let most = view.limits.send_buffer;
            let dropped = state.shed(segments, encoding, most / 2, shedding);
            // Not to the last byte: the next look at it shall not come with the next message.
            let is_enough = state.waiting() <= most - most / 8;
            count_dropped(view.ctx, dropped);
            if is_enough {
                return;
            }
        }
        self.too_slow(view, link);
    }

    /// A send is older than `send-time`. Of a client that may lose messages it is asked first how
    /// much the kernel took.
    pub fn stands_still(&mut self, net: &mut Net, ctx: &Context, slot: Slot) {
        let link = LinkIndex::from(slot);
        if self.may_shed(ctx, link) {
            net.stop_sending(slot);
        } else {
            self.too_slow(View { ctx, net }, link);
        }
    }

    /// A send of an open link was stopped: since it stood still too long, or since the pool wants
    /// its segment.
    #[cold]
    fn go_on_or_close(&mut self, net: &mut Net, ctx: &Context, slot: Slot, taken: u32) {
        let (link, age) = (LinkIndex::from(slot), net.send_age(slot, ctx.ms));
        if taken == 0 && age >= ctx.limits.send_time.0 {
            return self.too_slow(View { ctx, net }, link);
        }
        self.leave_wanted(net, ctx, slot);
        if taken == 0 && self.is_open(link) {
            // A send that has stood still: its age is that of the bytes, which nobody takes.
            let range = match net.transports().is_sealed(slot) {
                true => net.transports_mut().begin_send(slot),
                false => self.table.at_mut(link).begin_send(ctx.limits.send_bytes),
            };
            let Some(range) = range else { return };
            net.send_again(slot, range);
            net.set_timer(slot, ctx.now, ctx.limits.send_time.0.saturating_sub(age));
        }
    }

    /// Gets a client out of the segment that the pool wants, or closes it.
    fn leave_wanted(&mut self, net: &mut Net, ctx: &Context, slot: Slot) {
        let link = LinkIndex::from(slot);
        let is_wanted = self.segments.is_wanting() || self.is_wanted;
        let Some(oldest) = self.segments.oldest().filter(|_| is_wanted) else { return };
        // What is copied out must not land in it again.
        self.segments.write_elsewhere(oldest);
        let encoding = self.encoding(link);
        let Links { table, segments, shedding, .. } = self;
        let state = &mut table.list[link.index()];
        let mut is_out = net.transports_mut().leave(slot, oldest, segments);
        if is_out && state.holds(oldest) {
            let (dropped, is_link_out) = state.vacate(segments, encoding, oldest, shedding);
            count_dropped(ctx, dropped);
            is_out = is_link_out;
        }
        if !is_out {
            self.too_slow(View { ctx, net }, link);
        }
    }

    /// Whether the pool is short of room, as far as those who wait for some do not tell.
    #[inline]
    pub fn wants_room(&self) -> bool {
        self.needs_room || self.segments.is_short()
    }

    /// Makes room where the pool is short, or somebody waits for some; not too often.
    pub fn make_room_if_wanted(&mut self, net: &mut Net, ctx: &Context) {
        // Somebody waits for an answer that has no room, or had none when he asked.
        let has_asked = self.needs_room || self.waiting() > 0 && !self.segments.may_answer();
        let pause = if has_asked { ROOM_PAUSE_WANTED } else { ROOM_PAUSE };
        let is_wanted = has_asked || self.segments.is_short();
        if is_wanted && ctx.now >= self.room_made + pause {
            self.needs_room = false;
            self.room_made = ctx.now;
            self.make_room(net, ctx);
        }
    }

    /// The segment pool has no room: clients that hold most and have stood still meet the policy.
    /// What is left of the frame in flight is copied when the cancelled send has come back.
    pub fn make_room(&mut self, net: &mut Net, ctx: &Context) {
        ctx.metrics.segment_shortages_total.add(1);
        self.keep_all();
        let Some(oldest) = self.segments.oldest() else { return };
        for slot in those_to_part_with(self, View { ctx, net }, oldest) {
            let link = LinkIndex::from(slot);
            match self.at(link).way {
                Way::Open(_) if self.may_shed(ctx, link) => match net.sending(slot).is_on() {
                    true => net.stop_sending(slot),
                    // It is blocked itself, and nothing of it is in the kernel's hands.
                    false => self.leave_wanted(net, ctx, slot),
                },
                Way::Open(_) => {
                    self.too_slow(View { ctx, net }, link);
                    if self.is_ending(link) {
                        net.stop_sending(slot);
                    }
                }
                Way::Ending => self.cut(link),
                Way::Closed => {}
            }
        }
    }
}

/// The send of a sealed connection has ended: how many bytes were asked for, how many are sealed
/// and not sent, and whether its layer owes some.
#[inline(never)] // Most connections are not sealed.
fn sealed_sent(net: &mut Net, slot: Slot, taken: u32, segments: &mut Segments) -> (u32, u32, bool) {
    let transports = net.transports_mut();
    let asked = transports.end_send(slot, taken, segments);
    (asked, transports.unsent(slot), transports.owes(slot))
}

/// Copies several small extents into one, which is cheaper than a send for each.
fn gather(state: &mut Link, segments: &mut Segments, ctx: &Context, scratch: &mut Vec<u8>) {
    let most = GATHER_MAX.min(segments.size());
    let Some(mut small) = state.small_extents(most) else { return };
    if ctx.shared.sheds && small.1 > ctx.limits.send_bytes {
        // What goes out in one send: marks of frames are not copied.
        let Some(fewer) = state.small_extents(ctx.limits.send_bytes) else { return };
        small = fewer;
    }
    let (count, bytes) = small;
    if !segments.has_room(Log::Private, bytes as usize) {
        return;
    }
    scratch.clear();
    for extent in &state.extents()[..count] {
        scratch.extend_from_slice(segments.bytes(extent.range));
    }
    if let Ok(extents) = segments.append(Log::Private, scratch) {
        state.replace_front(count, extents[0], segments);
    }
}

/// Those whose end gives the pool what it lacks, at least one segment. Those who hold most come
/// first; but a segment is free only when the last of its holders has gone, so a client whose
/// end would free none stays. Clients that may lose messages instead only leave the oldest one.
fn those_to_part_with(links: &Links, view: View<'_>, oldest: u32) -> Vec<Slot> {
    let mut holders: Vec<(u32, Slot)> = Vec::new();
    let mut freed = Freed::default();
    let transports = view.net.transports();
    for (slot, state) in links.of_connections() {
        let waiting = state.waiting() + transports.unsent(slot);
        if waiting == 0 {
            continue;
        }
        let is_stopping = view.net.sending(slot) == Sending::Stopping;
        if is_stopping || state.way == Way::Closed {
            // It is in flight already.
            freed.add(state.extents().iter().chain(transports.extents(slot)), &links.segments);
        } else if view.net.has_stood_still(slot, view.ms)
            || transports.blocked_for(slot, view.ms) >= PATIENCE.0
        {
            holders.push((waiting, slot));
        }
    }
    holders.sort_unstable_by_key(|&(waiting, _)| core::cmp::Reverse(waiting));
    let (mut chosen, mut useful) = (Vec::new(), 0);
    for (_, slot) in holders {
        if freed.count > 0 && links.segments.free_count() + freed.count >= links.segments.least() {
            break;
        }
        let before = freed.count;
        let state = links.at(slot.into());
        let extents = state.extents().iter().chain(transports.extents(slot));
        if links.may_shed(view.ctx, slot.into()) {
            let mut leaves = extents.filter(|p| p.range.segment == oldest).peekable();
            if leaves.peek().is_none() {
                continue;
            }
            freed.add(leaves, &links.segments);
        } else {
            freed.add(extents, &links.segments);
        }
        chosen.push(slot);
        if freed.count > before {
            useful = chosen.len();
        }
    }
    chosen.truncate(useful);
    chosen
}

pub(super) fn count_dropped(ctx: &Context, dropped: Dropped) {
    ctx.metrics.dropped_oldest.add(dropped.oldest);
    ctx.metrics.dropped_conflated.add(dropped.conflated);
}

/// The segments that would be free without some of their holders.
#[derive(Debug, Default)]
struct Freed {
    /// References that are given back, by segment.
    given: HashMap<u32, u32, foldhash::fast::FixedState>,
    count: usize,
}

impl Freed {
    /// The references of these extents are given back.
    fn add<'a>(&mut self, extents: impl IntoIterator<Item = &'a Extent>, segments: &Segments) {
        for extent in extents {
            let segment = extent.range.segment;
            let given = self.given.entry(segment).or_default();
            *given += 1;
            self.count += usize::from(*given == segments.refcount_of(segment));
        }
    }
}

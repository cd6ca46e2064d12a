#![forbid(unsafe_code)]
//! From one message to many outboxes: encoded once per group, walked once per turn.
//!
//! What homes deliver is collected, and at the end of the turn each group that heard something is
//! encoded in one extent and its members are walked once: one run a member, group and turn, however
//! many messages it holds. A session in several of those groups gets its messages one by one in the
//! home's order, out of the same bytes; so does a subscriber of a pattern when rules keep some
//! destinations from some users.
//!
//! Groups with ids of their own share what their frames have in common (`parts`).
//!
//! Bounds: the segment pool, and the bytes of the parts. A turn takes as many deliveries at a time
//! as surely fit; if not even one does, it takes that one group by group, and the rest waits until
//! segments come back.

use super::batch::{self, Batches};
use super::encode::{Encoder, MessageId, bound_with, bound_without};
use super::parts::{self, PARTS_MAX, Parts, Several, WHOLE_MEMBERS, variant_of};
use super::shard::Shard;
use super::shared::Shared;
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::broker::subscription::Index;
use crate::config::SlowConsumer;
use crate::ids::{GroupIndex, SessionIndex};
use crate::mem::segment::{Extents, Log, Segments};
use crate::metrics::Refusal;
use crate::ring::Ring;
use crate::time::{Instant, Micros};
use smallvec::SmallVec;
use std::sync::Arc;

/// A message to be given to the groups that hear it.
#[derive(Debug)]
pub struct Delivery {
    message: Arc<Message>,
    id: MessageId,
    /// Groups that have not got it yet.
    pub groups: u32,
    /// Bytes of all its frames, at most.
    pub bytes: usize,
    /// The longest of them.
    pub(super) longest: usize,
    /// What becomes of it where it cannot be sent soon enough.
    policy: SlowConsumer,
    /// Its variants of which parts are kept, bytes of those at most, and where they are.
    several: Several,
    parts_bound: usize,
    parts: parts::Head,
}

/// Where one message of one group lies.
#[derive(Debug)]
struct Placed {
    delivery: u32,
    group: GroupIndex,
    extents: Extents,
}

/// What was delivered and not yet encoded.
#[derive(Debug, Default)]
pub struct Fanout {
    deliveries: Vec<Delivery>,
    marked: Vec<GroupIndex>,
    /// The groups of the message that is being looked at. It stays for the next one.
    heard: Vec<GroupIndex>,
    /// Sessions to be given their messages one by one.
    single: Vec<SessionIndex>,
    placed: Vec<Placed>,
    encoder: Encoder,
    parts: Parts,
    turn: u32,
    /// Some of the deliveries may be dropped where they cannot be sent soon enough.
    sheds: bool,
    /// What is not to be encoded yet.
    pub batches: Batches,
}

impl Fanout {
    /// Compresses messages from so many bytes on.
    pub fn compress_from(&mut self, deflate_min: u32) {
        self.encoder.compress_from(deflate_min);
    }

    /// Times that its compressor has run.
    pub fn deflates(&self) -> u64 {
        self.encoder.deflates()
    }

    /// The turn is over: what large messages needed does not stay resident.
    pub fn give_back(&mut self) {
        self.encoder.give_back();
        self.parts.give_back();
    }

    /// Whether something waits to be encoded.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// A home delivers a message: its groups are marked, now or when its window ends.
    pub fn deliver(
        &mut self,
        index: &mut Index,
        shared: &Shared,
        (message, number): (Arc<Message>, u64),
        now: Instant,
        budget: &mut Budget,
    ) {
        let id = MessageId::new(&shared.boot, number);
        let mut heard = core::mem::take(&mut self.heard);
        heard.clear();
        index.heard_by(message.destination(), budget, |group| heard.push(group));
        if !heard.is_empty() {
            self.deliver_to(index, shared, (message, id), &heard, now);
        }
        self.heard = heard;
    }

    fn deliver_to(
        &mut self,
        index: &mut Index,
        shared: &Shared,
        (message, id): (Arc<Message>, MessageId),
        heard: &[GroupIndex],
        now: Instant,
    ) {
        let (mut bytes, mut longest) = (0, 0);
        let (mut several, mut parts_bound) = (Several::default(), 0);
        // Groups have few formats, most of them the same as the one before.
        let (mut format, mut without, mut variant) = (None, 0, 0);
        for &group in heard {
            let state = index.group(group);
            if format != Some(state.format) {
                format = Some(state.format);
                without = bound_without(state.format, &message, &id);
                variant = variant_of(state.format, &message);
            }
            let bound = bound_with(state.format, without, index.text(state.id));
            bytes += bound;
            longest = longest.max(bound);
            if several.note(variant) {
                parts_bound += bound;
            }
        }
        let destination = message.destination();
        let policy = if shared.sheds { shared.slow.of(destination) } else { SlowConsumer::Close };
        let window = if shared.collects { shared.batch_windows.of(destination) } else { Micros(0) };
        let groups = heard.len() as u32;
        let parts = parts::Head::default();
        let delivery =
            Delivery { message, id, groups, bytes, longest, policy, several, parts_bound, parts };
        if window == Micros(0) {
            return self.take(index, delivery, heard);
        }
        let when = (window, now);
        if !self.batches.add(index, delivery, heard, when, &shared.limits, shared.shards) {
            self.end_batches(index, None);
        }
    }

    /// Marks the groups of a message that is to be encoded with the next fan-out.
    fn take(&mut self, index: &mut Index, delivery: Delivery, groups: &[GroupIndex]) {
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

    /// Batches end: those that are due, or all.
    pub fn end_batches(&mut self, index: &mut Index, now: Option<Instant>) {
        let mut batches = core::mem::take(&mut self.batches);
        let mut there = core::mem::take(&mut self.heard);
        batches.end(index, now, |index, mut delivery, groups| {
            there.clear();
            there.extend(groups.iter().copied().filter(batch::is_there));
            delivery.groups = there.len() as u32;
            if !there.is_empty() {
                self.take(index, delivery, &there);
            }
        });
        self.heard = there;
        self.batches = batches;
    }

    /// How many deliveries surely fit the pool, from the first on.
    fn fitting(&self, segments: &Segments) -> usize {
        let size = segments.size() as usize;
        let free = segments.free_to_share();
        let (mut bytes, mut longest, mut frames, mut parts) = (0, 0, 0, 0);
        for (count, delivery) in self.deliveries.iter().enumerate() {
            bytes += delivery.bytes;
            longest = longest.max(delivery.longest);
            frames += delivery.groups as usize;
            parts += delivery.parts_bound;
            // Appended one by one, up to one frame's length is lost at the end of each segment.
            let one_by_one = if longest * 2 <= size {
                bytes.div_ceil(size - longest) + 1
            } else {
                bytes.div_ceil(size) + 2 * frames
            };
            let has_parts_room = count == 0 || parts <= PARTS_MAX;
            if !has_parts_room || one_by_one.max(Segments::of_runs(bytes, size)) > free {
                return count;
            }
        }
        self.deliveries.len()
    }

    /// The parts of the first `count` deliveries are made as they are needed.
    fn begin_parts(&mut self, count: usize) {
        self.parts.clear();
        for delivery in &mut self.deliveries[..count] {
            delivery.parts = parts::Head::default();
        }
    }

    /// Encodes one delivery for a group, behind what is encoded already.
    fn encode(&mut self, index: &Index, group: GroupIndex, delivery: u32) {
        let Fanout { encoder, deliveries, parts, .. } = self;
        let Delivery { message, id, several, parts: head, .. } = &mut deliveries[delivery as usize];
        let group = index.group(group);
        let subscription = index.text(group.id);
        let is_large = group.members.len() >= WHOLE_MEMBERS;
        let variant = if is_large { 0 } else { variant_of(group.format, message) };
        if several.have(variant) {
            let format = (group.format, variant);
            encoder.message_in_parts(format, message, id, subscription, (parts, head));
        } else {
            encoder.message(group.format, message, id, subscription);
        }
    }

    /// A group is about to lose its last member: nobody hears what is pending for it.
    pub fn forget_group(&mut self, index: &mut Index, group: GroupIndex) {
        for place in index.group_mut(group).pending.drain(..) {
            self.deliveries[place as usize].groups -= 1;
        }
        self.marked.retain(|marked| *marked != group);
        self.batches.forget(index, group);
    }

    /// Drops the deliveries that every group has got, and renumbers the rest.
    fn settle(&mut self, index: &mut Index) {
        let done = self.deliveries.iter().take_while(|delivery| delivery.groups == 0).count();
        self.deliveries.drain(..done);
        self.sheds &= !self.deliveries.is_empty();
        self.marked.retain(|&group| {
            let pending = &mut index.group_mut(group).pending;
            pending.iter_mut().for_each(|place| *place -= done as u32);
            !pending.is_empty()
        });
    }
}

impl<R: Ring> Shard<R> {
    /// Gives every marked group what it heard. True if nothing is left.
    pub(super) fn fan_out(&mut self) -> bool {
        while !self.fanout.deliveries.is_empty() {
            let fitting = self.fanout.fitting(&self.segments);
            if fitting == 0 {
                let whole = self.fan_out_one();
                if !whole {
                    // A group that has got all it waited for is no longer marked.
                    self.fanout.settle(&mut self.index);
                    return false;
                }
            } else {
                self.fan_out_first(fitting as u32);
            }
            self.fanout.settle(&mut self.index);
        }
        true
    }

    /// The first delivery, group by group, as far as the pool goes. Messages of one delivery have
    /// no order between groups, so it may stop in between.
    fn fan_out_one(&mut self) -> bool {
        self.fanout.begin_parts(1);
        for at in 0..self.fanout.marked.len() {
            let group = self.fanout.marked[at];
            if self.index.group(group).pending.first() != Some(&0) {
                continue;
            }
            let filtered = self.is_filtered(group);
            let Some(extents) = self.place(group, 1) else {
                if self.fanout.encoder.bytes().len() > self.segments.largest() {
                    // Not even the empty pool could take it, and everything behind it would wait.
                    self.refuse_for_nobody(Refusal::LimitLargestMessage);
                    self.index.group_mut(group).pending.remove(0);
                    self.fanout.deliveries[0].groups -= 1;
                    continue;
                }
                self.make_room();
                return false;
            };
            self.index.group_mut(group).pending.remove(0);
            self.fanout.deliveries[0].groups -= 1;
            for at in 0..self.index.group(group).members.len() {
                let session = self.index.group(group).members[at];
                if !filtered || self.may_hear_delivery(session, 0) {
                    self.give(session, &extents);
                }
            }
            self.let_go(&extents);
        }
        true
    }

    /// The first `count` deliveries to all groups; the pool has room for them.
    fn fan_out_first(&mut self, count: u32) {
        self.fanout.begin_parts(count as usize);
        self.find_single_sessions(count);
        for at in 0..self.fanout.marked.len() {
            let group = self.fanout.marked[at];
            let pending = &self.index.group(group).pending;
            let taken = pending.iter().take_while(|&&place| place < count).count();
            if taken == 0 {
                continue;
            }
            if self.fanout.single.is_empty() {
                let extents = self.place(group, taken).expect("the pool has room");
                self.give_group(group, &extents, taken as u64);
                self.let_go(&extents);
            } else {
                self.place_one_by_one(group, taken);
            }
            let pending = &mut self.index.group_mut(group).pending;
            for place in pending.drain(..taken) {
                self.fanout.deliveries[place as usize].groups -= 1;
            }
            self.index.group_mut(group).give_back();
        }
        self.give_single_sessions();
    }

    /// Encodes the first `taken` pending messages of a group in one go.
    fn place(&mut self, group: GroupIndex, taken: usize) -> Option<Extents> {
        if self.fanout.sheds {
            // Frames that may be dropped are appended each by itself, so that none but a large one
            // lies in two extents.
            let mut run = Extents::new();
            for at in 0..taken {
                let delivery = self.index.group(group).pending[at];
                let extents = self.place_frame(group, delivery)?;
                self.segments.join(&mut run, &extents);
            }
            return Some(run);
        }
        self.fanout.encoder.clear();
        for &delivery in &self.index.group(group).pending[..taken] {
            self.fanout.encode(&self.index, group, delivery);
        }
        self.segments.append(Log::Shared, self.fanout.encoder.bytes()).ok()
    }

    /// Encodes them one by one and remembers where each lies, for the sessions that need them
    /// apart; everyone else in the group still gets the merged run.
    fn place_one_by_one(&mut self, group: GroupIndex, taken: usize) {
        let mut run = Extents::new();
        for at in 0..taken {
            let delivery = self.index.group(group).pending[at];
            let extents = self.place_frame(group, delivery).expect("the pool has room");
            run.extend_from_slice(&extents);
            self.fanout.placed.push(Placed { delivery, group, extents });
        }
        self.give_group(group, &run, taken as u64);
    }

    /// Encodes one message of a group.
    fn place_frame(&mut self, group: GroupIndex, delivery: u32) -> Option<Extents> {
        self.fanout.encoder.clear();
        self.fanout.encode(&self.index, group, delivery);
        let extents = self.segments.append(Log::Shared, self.fanout.encoder.bytes()).ok()?;
        let Delivery { message, policy, .. } = &self.fanout.deliveries[delivery as usize];
        let name = self.index.text(self.index.group(group).id);
        if let Some(droppable) = self.shared.droppable(*policy, message.destination(), name) {
            self.segments.mark(extents[0].range, droppable);
        }
        Some(extents)
    }

    fn give_group(&mut self, group: GroupIndex, extents: &Extents, messages: u64) {
        let turn = self.fanout.turn;
        let singles = !self.fanout.single.is_empty();
        let members = self.index.group(group).members.len();
        for at in 0..members {
            let session = self.index.group(group).members[at];
            if singles && self.sessions.at(session).seen_turn == turn | SINGLE {
                continue;
            }
            self.give(session, extents);
        }
        self.metrics.delivered_total.add(members as u64 * messages);
    }

    /// Marks the sessions that stand in more than one marked group, or behind a rule.
    fn find_single_sessions(&mut self, count: u32) {
        self.fanout.turn = (self.fanout.turn + 1) & !SINGLE;
        let turn = self.fanout.turn;
        let several = self.fanout.marked.len() > 1;
        for at in 0..self.fanout.marked.len() {
            let group = self.fanout.marked[at];
            let filtered = self.is_filtered(group);
            let hears = self.index.group(group).pending.first().is_some_and(|&place| place < count);
            if !hears || !(several || filtered) {
                continue;
            }
            for at in 0..self.index.group(group).members.len() {
                let index = self.index.group(group).members[at];
                let session = self.sessions.at_mut(index);
                if session.seen_turn == turn | SINGLE {
                    continue;
                }
                if session.seen_turn == turn || filtered {
                    session.seen_turn = turn | SINGLE;
                    self.fanout.single.push(index);
                } else {
                    session.seen_turn = turn;
                }
            }
        }
    }

    /// Each gets the messages of its groups one by one, in the home's order.
    fn give_single_sessions(&mut self) {
        let mut placed = core::mem::take(&mut self.fanout.placed);
        let mut single = core::mem::take(&mut self.fanout.single);
        placed.sort_unstable_by_key(|placed| (placed.group, placed.delivery));
        let mut due: SmallVec<[(u32, u32); 32]> = SmallVec::new();
        for &session in &single {
            due.clear();
            for subscription in &self.sessions.at(session).subscriptions {
                let first = placed.partition_point(|placed| placed.group < subscription.group);
                let group = placed[first..].iter().enumerate();
                let group = group.take_while(|(_, placed)| placed.group == subscription.group);
                due.extend(group.map(|(at, placed)| (placed.delivery, (first + at) as u32)));
            }
            due.sort_unstable();
            for &(delivery, at) in &due {
                let one = &placed[at as usize];
                let delivery = delivery as usize;
                if !self.is_filtered(one.group) || self.may_hear_delivery(session, delivery) {
                    self.give(session, &one.extents);
                }
            }
        }
        for one in placed.drain(..) {
            self.let_go(&one.extents);
        }
        single.clear();
        (self.fanout.placed, self.fanout.single) = (placed, single);
    }

    /// Whether rules may keep a destination from a member of this group.
    fn is_filtered(&self, group: GroupIndex) -> bool {
        self.shared.rules_restrict_patterns && self.index.group(group).is_pattern
    }

    fn may_hear_delivery(&self, session: SessionIndex, delivery: usize) -> bool {
        self.may_hear(session, self.fanout.deliveries[delivery].message.destination())
    }

    /// One run for one session.
    fn give(&mut self, session: SessionIndex, extents: &Extents) {
        let slot = self.sessions.at(session).slot;
        for extent in extents {
            self.conns.at_mut(slot).outbox.push_shared(*extent, &mut self.segments);
        }
        self.mark_dirty(slot);
    }

    /// Gives back the references that `append` gave.
    pub(super) fn let_go(&mut self, extents: &Extents) {
        for extent in extents {
            self.segments.release(extent.range.segment);
        }
    }
}

/// Set in `seen_turn` of a session that is given its messages one by one.
const SINGLE: u32 = 1 << 31;

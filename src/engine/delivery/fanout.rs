#![forbid(unsafe_code)]
//! From one message to many links: encoded once per group, walked once per turn.
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
use super::links::Links;
use super::parts::{self, PARTS_MAX, Parts, Several, WHOLE_MEMBERS, variant_of};
use super::pending::{Due, Pending};
use crate::broker::message::Message;
use crate::broker::pattern::Budget;
use crate::broker::subscription::{FrameFormat, Index};
use crate::config::SlowConsumer;
use crate::engine::context::Context;
use crate::engine::shared::Shared;
use crate::ids::{GroupIndex, LinkIndex};
use crate::mem::intern::{Interner, Sym};
use crate::mem::secret::Random;
use crate::mem::segment::{Extents, Log, Segments};
use crate::metrics::Refusal;
use crate::time::{Instant, Micros};
use smallvec::SmallVec;
use std::sync::Arc;

/// Where one message of one group lies.
#[derive(Debug)]
struct Placed {
    delivery: u32,
    group: GroupIndex,
    extents: Extents,
}

/// Who has subscribed to what, and what was delivered and not yet encoded.
#[derive(Debug)]
pub struct Fanout {
    index: Index,
    pending: Pending,
    /// The groups of the message that is being looked at. It stays for the next one.
    heard: Vec<GroupIndex>,
    /// Links to be given their messages one by one.
    single: Vec<LinkIndex>,
    /// The turn in which each link was seen last, where that was looked at.
    seen: Vec<u32>,
    placed: Vec<Placed>,
    encoder: Encoder,
    parts: Parts,
    turn: u32,
    /// What is not to be encoded yet.
    batches: Batches,
}

impl Fanout {
    /// Nobody has subscribed; keys of the tables are drawn.
    pub fn new(separator: char, keys: &mut Random) -> Fanout {
        Fanout {
            index: Index::new(separator, keys),
            pending: Pending::default(),
            heard: Vec::new(),
            single: Vec::new(),
            seen: Vec::new(),
            placed: Vec::new(),
            encoder: Encoder::default(),
            parts: Parts::default(),
            turn: 0,
            batches: Batches::default(),
        }
    }

    /// Names of destinations and subscription ids.
    pub fn names(&mut self) -> &mut Interner {
        self.index.names()
    }

    /// The text of a name.
    pub fn text(&self, name: Sym) -> &Arc<str> {
        self.index.text(name)
    }

    /// Count of groups.
    pub fn groups(&self) -> usize {
        self.index.len()
    }

    /// Puts a link into the group of a destination, an id and a format: which, and where in it.
    pub fn join(
        &mut self,
        destination: Sym,
        id: Sym,
        format: FrameFormat,
        link: LinkIndex,
    ) -> (GroupIndex, u32) {
        self.index.join(destination, id, format, link)
    }

    /// Takes the member at `position` out of a group. The last member moves to its place: gives
    /// its link, so that the caller can note its new position.
    pub fn leave(&mut self, group: GroupIndex, position: u32) -> Option<LinkIndex> {
        if self.index.group(group).members.len() == 1 {
            self.forget_group(group);
        }
        self.index.leave(group, position)
    }

    /// Whether messages wait in a batch for a group.
    pub fn is_batched(&self, group: GroupIndex) -> bool {
        self.index.group(group).batched > 0
    }

    /// The same for the group of a destination, an id and a format, if there is one.
    pub fn is_batched_for(&self, destination: Sym, id: Sym, format: FrameFormat) -> bool {
        self.index.find(destination, id, format).is_some_and(|group| group.batched > 0)
    }

    /// Whether messages wait for the end of a window.
    pub fn has_batches(&self) -> bool {
        !self.batches.is_empty()
    }

    /// When the next window ends.
    pub fn batches_due(&self) -> Option<Instant> {
        self.batches.due()
    }

    /// The groups, for those who look at everything.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Compresses messages of at least `deflate_min` bytes.
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
        self.pending.deliveries.is_empty()
    }

    /// A home delivers a message: its groups are marked, now or when its window ends.
    pub fn deliver(
        &mut self,
        ctx: &Context,
        (message, number): (Arc<Message>, u64),
        budget: &mut Budget,
    ) {
        let id = MessageId::new(&ctx.shared.boot, number);
        let Fanout { index, heard, .. } = self;
        heard.clear();
        index.heard_by(message.destination(), budget, |group| heard.push(group));
        if !heard.is_empty() {
            self.deliver_to_heard(ctx, message, id);
        }
    }

    fn deliver_to_heard(&mut self, ctx: &Context, message: Arc<Message>, id: MessageId) {
        let (index, heard) = (&self.index, &self.heard[..]);
        let shared: &Shared = &ctx.shared;
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
            Due { message, id, groups, bytes, longest, policy, several, parts_bound, parts };
        if window == Micros(0) {
            let Fanout { index, heard, pending, .. } = self;
            return pending.take(index, delivery, heard);
        }
        let Fanout { index, heard, batches, .. } = self;
        let when = (window, ctx.now);
        if !batches.add(index, delivery, heard, when, &shared.limits, shared.shards) {
            self.end_batches(None);
        }
    }

    /// Batches end: those that are due, or all.
    pub fn end_batches(&mut self, now: Option<Instant>) {
        let Fanout { index, pending, heard: there, batches, .. } = self;
        batches.end(index, now, |index, mut delivery, groups| {
            there.clear();
            there.extend(groups.iter().copied().filter(batch::is_there));
            delivery.groups = there.len() as u32;
            if !there.is_empty() {
                pending.take(index, delivery, there);
            }
        });
    }

    /// How many deliveries surely fit the pool, from the first on.
    fn fitting(&self, segments: &Segments) -> usize {
        let size = segments.size() as usize;
        let free = segments.free_to_share();
        let (mut bytes, mut longest, mut frames, mut parts) = (0, 0, 0, 0);
        for (count, delivery) in self.pending.deliveries.iter().enumerate() {
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
        self.pending.deliveries.len()
    }

    /// The parts of the first `count` deliveries are made as they are needed.
    fn begin_parts(&mut self, count: usize) {
        self.parts.clear();
        for delivery in &mut self.pending.deliveries[..count] {
            delivery.parts = parts::Head::default();
        }
    }

    /// Encodes one delivery for a group, behind what is encoded already.
    fn encode(&mut self, group: GroupIndex, delivery: u32) {
        let Fanout { index, encoder, pending, parts, .. } = self;
        let delivery = &mut pending.deliveries[delivery as usize];
        let Due { message, id, several, parts: head, .. } = delivery;
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
    fn forget_group(&mut self, group: GroupIndex) {
        let Fanout { index, pending, batches, .. } = self;
        for place in index.group_mut(group).pending.drain(..) {
            pending.deliveries[place as usize].groups -= 1;
        }
        pending.marked.retain(|marked| *marked != group);
        batches.forget(index, group);
    }

    /// Drops the deliveries that every group has got, and renumbers the rest.
    fn settle(&mut self) {
        let Fanout { index, pending, .. } = self;
        let done = pending.deliveries.iter().take_while(|delivery| delivery.groups == 0).count();
        if done == pending.deliveries.len() {
            // Mostly all of them: then no group has to be looked at.
            pending.deliveries.clear();
            pending.marked.clear();
            pending.sheds = false;
            return;
        }
        pending.deliveries.drain(..done);
        pending.sheds &= !pending.deliveries.is_empty();
        pending.marked.retain(|&group| {
            let pending = &mut index.group_mut(group).pending;
            pending.iter_mut().for_each(|place| *place -= done as u32);
            !pending.is_empty()
        });
    }
}

/// What the fan-out asks of sessions, where a group's members do not all hear the same.
pub trait Audience {
    /// The groups that a link's session is in.
    fn groups_of(&self, link: LinkIndex) -> impl Iterator<Item = GroupIndex>;
    /// Whether the rules let it hear a message to this destination.
    fn may_hear(&self, ctx: &Context, link: LinkIndex, destination: &str) -> bool;
}

impl Fanout {
    /// Gives every marked group what it heard. False if something is left, because there is no
    /// room.
    pub fn run<A: Audience>(&mut self, links: &mut Links, audience: &A, ctx: &Context) -> bool {
        while !self.pending.deliveries.is_empty() {
            let fitting = self.fitting(&links.segments);
            let is_whole = if fitting == 0 {
                self.first_as_far_as_it_goes(links, audience, ctx)
            } else {
                self.first_ones(links, audience, ctx, fitting as u32);
                true
            };
            // A group that has got all it waited for is no longer marked.
            self.settle();
            if !is_whole {
                break;
            }
        }
        links.is_wanted = !self.pending.deliveries.is_empty();
        self.pending.deliveries.is_empty()
    }

    /// The first delivery, group by group, as far as the pool goes. Messages of one delivery have
    /// no order between groups, so it may stop in between.
    fn first_as_far_as_it_goes<A: Audience>(
        &mut self,
        links: &mut Links,
        audience: &A,
        ctx: &Context,
    ) -> bool {
        self.begin_parts(1);
        for at in 0..self.pending.marked.len() {
            let group = self.pending.marked[at];
            if self.index.group(group).pending.first() != Some(&0) {
                continue;
            }
            let is_filtered = self.is_filtered(ctx, group);
            let extents = self.place(links, ctx, group, 1);
            if extents.is_none() && self.encoder.bytes().len() <= links.segments.largest() {
                return false;
            }
            self.index.group_mut(group).pending.remove(0);
            self.pending.deliveries[0].groups -= 1;
            let Some(extents) = extents else {
                // Not even the empty pool could take it, and everything behind it would wait.
                ctx.refuse_for_nobody(Refusal::LimitLargestMessage);
                continue;
            };
            let destination = self.pending.deliveries[0].message.destination();
            let members = &self.index.group(group).members;
            ctx.metrics.delivered_total.add(members.len() as u64);
            for &link in members {
                if !is_filtered || audience.may_hear(ctx, link, destination) {
                    links.share(link, &extents);
                }
            }
            links.segments.release_all(&extents);
        }
        true
    }

    /// The first `count` deliveries to all groups; the pool has room for them.
    fn first_ones<A: Audience>(
        &mut self,
        links: &mut Links,
        audience: &A,
        ctx: &Context,
        count: u32,
    ) {
        self.begin_parts(count as usize);
        self.find_single(ctx, count);
        for at in 0..self.pending.marked.len() {
            let group = self.pending.marked[at];
            let pending = &self.index.group(group).pending;
            let taken = pending.iter().take_while(|&&place| place < count).count();
            if taken == 0 {
                continue;
            }
            if self.single.is_empty() {
                let extents = self.place(links, ctx, group, taken).expect("the pool has room");
                self.give_group(links, ctx, group, &extents, taken as u64);
                links.segments.release_all(&extents);
            } else {
                self.place_one_by_one(links, ctx, group, taken);
            }
            let group = self.index.group_mut(group);
            for place in group.pending.drain(..taken) {
                self.pending.deliveries[place as usize].groups -= 1;
            }
            group.give_back();
        }
        self.give_single(links, audience, ctx);
    }

    /// Encodes the first `taken` pending messages of a group in one go.
    fn place(
        &mut self,
        links: &mut Links,
        ctx: &Context,
        group: GroupIndex,
        taken: usize,
    ) -> Option<Extents> {
        if self.pending.sheds {
            // Frames that may be dropped are appended each by itself, so that none but a large one
            // lies in two extents.
            let mut run = Extents::new();
            for at in 0..taken {
                let delivery = self.index.group(group).pending[at];
                let extents = self.place_frame(links, ctx, group, delivery)?;
                links.segments.join(&mut run, &extents);
            }
            return Some(run);
        }
        self.encoder.clear();
        for at in 0..taken {
            let delivery = self.index.group(group).pending[at];
            self.encode(group, delivery);
        }
        links.segments.append(Log::Shared, self.encoder.bytes()).ok()
    }

    /// Encodes them one by one and remembers where each lies, for the sessions that need them
    /// apart; everyone else in the group still gets the merged run.
    fn place_one_by_one(
        &mut self,
        links: &mut Links,
        ctx: &Context,
        group: GroupIndex,
        taken: usize,
    ) {
        let mut run = Extents::new();
        for at in 0..taken {
            let delivery = self.index.group(group).pending[at];
            let extents = self.place_frame(links, ctx, group, delivery).expect("the pool has room");
            run.extend_from_slice(&extents);
            self.placed.push(Placed { delivery, group, extents });
        }
        self.give_group(links, ctx, group, &run, taken as u64);
    }

    /// Encodes one message of a group.
    fn place_frame(
        &mut self,
        links: &mut Links,
        ctx: &Context,
        group: GroupIndex,
        delivery: u32,
    ) -> Option<Extents> {
        self.encoder.clear();
        self.encode(group, delivery);
        let extents = links.segments.append(Log::Shared, self.encoder.bytes()).ok()?;
        let Due { message, policy, .. } = &self.pending.deliveries[delivery as usize];
        let name = self.index.text(self.index.group(group).id);
        if let Some(droppable) = ctx.shared.droppable(*policy, message.destination(), name) {
            links.segments.mark(extents[0].range, droppable);
        }
        Some(extents)
    }

    fn give_group(
        &self,
        links: &mut Links,
        ctx: &Context,
        group: GroupIndex,
        extents: &Extents,
        messages: u64,
    ) {
        let has_single = !self.single.is_empty();
        let members = &self.index.group(group).members;
        for &link in members {
            if !has_single || self.seen[link.index()] != self.turn | SINGLE {
                links.share(link, extents);
            }
        }
        ctx.metrics.delivered_total.add(members.len() as u64 * messages);
    }

    /// Marks the links that stand in more than one marked group, or behind a rule.
    fn find_single(&mut self, ctx: &Context, count: u32) {
        self.turn = (self.turn + 1) & !SINGLE;
        let several = self.pending.marked.len() > 1;
        for &group in &self.pending.marked {
            let is_filtered = self.is_filtered(ctx, group);
            let group = self.index.group(group);
            let hears = group.pending.first().is_some_and(|&place| place < count);
            if !hears || !(several || is_filtered) {
                continue;
            }
            for &link in &group.members {
                if self.seen.len() <= link.index() {
                    self.seen.resize(link.index() + 1, 0);
                }
                let seen = &mut self.seen[link.index()];
                if *seen == self.turn | SINGLE {
                    continue;
                }
                if *seen == self.turn || is_filtered {
                    *seen = self.turn | SINGLE;
                    self.single.push(link);
                } else {
                    *seen = self.turn;
                }
            }
        }
    }

    /// Each gets the messages of its groups one by one, in the home's order.
    fn give_single<A: Audience>(&mut self, links: &mut Links, audience: &A, ctx: &Context) {
        self.placed.sort_unstable_by_key(|placed| (placed.group, placed.delivery));
        let mut due: SmallVec<[(u32, u32); 32]> = SmallVec::new();
        for &link in &self.single {
            due.clear();
            for own in audience.groups_of(link) {
                let first = self.placed.partition_point(|placed| placed.group < own);
                let group = self.placed[first..].iter().enumerate();
                let group = group.take_while(|(_, placed)| placed.group == own);
                due.extend(group.map(|(at, placed)| (placed.delivery, (first + at) as u32)));
            }
            due.sort_unstable();
            for &(delivery, at) in &due {
                let one = &self.placed[at as usize];
                let destination = self.pending.deliveries[delivery as usize].message.destination();
                let is_filtered = self.is_filtered(ctx, one.group);
                if !is_filtered || audience.may_hear(ctx, link, destination) {
                    links.share(link, &one.extents);
                }
            }
        }
        for one in self.placed.drain(..) {
            links.segments.release_all(&one.extents);
        }
        self.single.clear();
    }

    /// Whether rules may keep a destination from a member of this group.
    fn is_filtered(&self, ctx: &Context, group: GroupIndex) -> bool {
        ctx.shared.rules_restrict_patterns && self.index.group(group).is_pattern
    }
}

/// Set in the turn of a link that is given its messages one by one.
const SINGLE: u32 = 1 << 31;

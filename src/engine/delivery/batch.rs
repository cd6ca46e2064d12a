#![forbid(unsafe_code)]
//! Batches: messages of a destination wait a little, so that each client gets several in
//! one send.
//!
//! A message is given to its groups when it comes, and to their members when its window ends: so a
//! subscription that begins meanwhile in a group of its own hears nothing of it, and one that joins
//! or leaves a group that is waiting ends the batches first. All messages with the same window wait
//! in one list, in the home's order; between different batches no order is kept.
//!
//! Bounds, past which all batches end: `batch-messages`, `batch-bytes`; half of `send-buffer`,
//! since a client is given all of it at once; and of `message-blocks` and `message-bytes` such a
//! share that the shards together leave a publisher half of them.

use super::pending::Due;
use crate::broker::subscription::Index;
use crate::ids::GroupIndex;
use crate::limits::Limits;
use crate::time::{Instant, Micros};

/// Stands for a group that is gone.
const GONE: GroupIndex = GroupIndex::NONE;

/// Messages with the same window.
#[derive(Debug)]
struct Class {
    window: Micros,
    /// When the first of them has waited long enough.
    due: Instant,
    list: Vec<Due>,
    /// The groups of the first one, of the second, and so on.
    groups: Vec<GroupIndex>,
}

/// What waits for the end of a window.
#[derive(Debug, Default)]
pub struct Batches {
    classes: Vec<Class>,
    messages: u32,
    bytes: usize,
    /// Bytes for one client, at least: the longest frame of each message.
    run: usize,
}

impl Batches {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// When the next window ends.
    pub fn due(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        self.classes.iter().filter(|class| !class.list.is_empty()).map(|class| class.due).min()
    }

    /// A message waits for the end of its window. False if too much waits now.
    pub fn add(
        &mut self,
        index: &mut Index,
        delivery: Due,
        groups: &[GroupIndex],
        (window, now): (Micros, Instant),
        limits: &Limits,
        shards: u8,
    ) -> bool {
        let known = self.classes.iter().position(|class| class.window == window);
        let at = known.unwrap_or_else(|| {
            let (list, groups) = (Vec::new(), Vec::new());
            self.classes.push(Class { window, due: now, list, groups });
            self.classes.len() - 1
        });
        let class = &mut self.classes[at];
        if class.list.is_empty() {
            class.due = now + window;
        }
        for &group in groups {
            index.group_mut(group).batched += 1;
        }
        self.messages += 1;
        self.bytes += delivery.bytes;
        self.run += delivery.longest;
        class.groups.extend_from_slice(groups);
        class.list.push(delivery);
        let share = 2 * u32::from(shards);
        let most = limits.batch_messages.min(limits.message_blocks / share);
        let bytes = limits.batch_bytes.min(limits.message_bytes / share) as usize;
        let run = limits.send_buffer as usize / 2;
        self.messages < most && self.bytes < bytes && self.run < run
    }

    /// Ends the batches that are due; without a `now` all of them. Each of their messages goes to
    /// `take`, with its groups.
    pub fn end(
        &mut self,
        index: &mut Index,
        now: Option<Instant>,
        mut take: impl FnMut(&mut Index, Due, &[GroupIndex]),
    ) {
        for class in &mut self.classes {
            if now.is_some_and(|now| class.due > now) {
                continue;
            }
            class.groups.iter().filter(|group| **group != GONE).for_each(|&group| {
                index.group_mut(group).batched -= 1;
            });
            let mut groups = &class.groups[..];
            for delivery in class.list.drain(..) {
                let (own, rest) = groups.split_at(delivery.groups as usize);
                groups = rest;
                self.messages -= 1;
                self.bytes -= delivery.bytes;
                self.run -= delivery.longest;
                take(index, delivery, own);
            }
            class.groups.clear();
        }
    }

    /// A group is about to lose its last member.
    pub fn forget(&mut self, index: &mut Index, group: GroupIndex) {
        if core::mem::take(&mut index.group_mut(group).batched) == 0 {
            return;
        }
        let all = self.classes.iter_mut().flat_map(|class| &mut class.groups);
        all.filter(|entry| **entry == group).for_each(|entry| *entry = GONE);
    }
}

/// Whether a group is still there.
pub fn is_there(group: &GroupIndex) -> bool {
    *group != GONE
}

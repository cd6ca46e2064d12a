#![forbid(unsafe_code)]
//! Between threads: queues, doorbells, and the homes of this shard, whose effects go out by them.
//!
//! **What it turns into what.** Commands into entries for their homes, entries for the homes here
//! into effects, effects into entries.
//!
//! **What it does not know.** What sessions, requests and connections are: it carries their ids.
//!
//! **Bounds.** `mailbox` entries a queue; `message-blocks` and `message-bytes` of messages that
//! somebody holds. A sender has asked for room first.

mod ending;
pub mod mailbox;
mod mask;
mod sleeping;
mod sync;

use super::context::Context;
use crate::broker::command::{Callback, Command, ReplyTo};
use crate::broker::core::{Class, Core, Effect};
use crate::broker::message::{Message, Pool};
use crate::ids::{PeerId, ShardId};
use crate::limits::Limits;
use crate::mem::secret::Random;
use crate::metrics::Refusal;
use crate::time::Millis;
use mailbox::{Entry, Mailbox, ToControl, ToHome, ToShard};
use std::sync::Arc;

/// When events are offered again that found no room with the control thread.
const EVENTS_AGAIN: Millis = Millis(100);

/// A shard's end of the mailboxes, its homes, and the messages that it makes.
#[derive(Debug)]
pub struct Bus {
    mailbox: Mailbox,
    core: Core,
    blocks: Pool,
}

impl Bus {
    /// With the homes of a shard; keys of their tables are drawn.
    pub fn new(
        mailbox: Mailbox,
        me: ShardId,
        separator: char,
        limits: &Limits,
        slots: u32,
        keys: &mut Random,
    ) -> Bus {
        Bus {
            mailbox,
            core: Core::new(me, separator, limits, slots, keys),
            blocks: Pool::new(limits.message_blocks, limits.message_bytes),
        }
    }

    /// Whether every class and pool has room for what any one frame or request step may produce.
    pub fn has_room_for_frame(&mut self, ctx: &Context) -> bool {
        let most = ctx.shared.entries_of_a_frame;
        self.mailbox.room_everywhere(Class::Home) >= most && self.blocks.has_room_for(most)
    }

    /// Whether one more command to a home finds room.
    pub fn has_home_room(&self, home: ShardId) -> bool {
        self.mailbox.room(home.into(), Class::Home) > 0
    }

    /// Sends a command to a home. The caller has asked for room.
    pub fn command(&mut self, home: ShardId, command: Command) {
        self.send(home.into(), ToHome::Command(command));
    }

    /// Free entries of a class towards a peer.
    pub fn room(&self, to: PeerId, class: Class) -> usize {
        self.mailbox.room(to, class)
    }

    /// Sends an entry. The caller has asked for room.
    pub fn send<E: Entry>(&mut self, to: PeerId, entry: E) {
        self.mailbox.send(to, entry);
    }

    /// A message; None when all blocks are in flight.
    pub fn try_message(&mut self, fill: impl FnOnce(&mut Message)) -> Option<Arc<Message>> {
        self.blocks.make(fill)
    }

    /// A message. The caller has asked for room for a frame.
    pub fn message(&mut self, fill: impl FnOnce(&mut Message)) -> Arc<Message> {
        self.blocks.make(fill).expect("there is room for a frame")
    }

    /// The number of a message that no home numbers.
    pub fn next_number(&mut self) -> u64 {
        self.core.next_number()
    }

    /// Whether there is room for all that handling an entry of a class may produce.
    pub fn has_room_to_take(&self, class: Class) -> bool {
        let has = |needed: usize, class: Class| {
            needed == 0 || self.mailbox.room_everywhere(class) >= needed
        };
        let needs = class.needs();
        has(needs.home, Class::Home) && has(needs.event, Class::Event)
    }

    /// A command for the homes here. Gives the steps that its patterns took.
    pub fn on_command(&mut self, command: Command, ctx: &Context) -> u32 {
        let work = self.core.on(command, ctx.shared.context());
        ctx.metrics.published_total.add(work.published.into());
        for _ in 0..work.gave_up {
            ctx.refuse_for_nobody(Refusal::BrokerPatternGaveUp);
        }
        self.send_effects();
        work.steps
    }

    /// A callback for the home of its id.
    pub fn on_callback(&mut self, callback: Callback, ctx: &Context) {
        self.core.on_callback(callback, ctx.wall_millis, &ctx.shared.homes);
        self.send_effects();
    }

    /// Whether entries wait because there is no room for what handling them may produce.
    pub fn has_stuck_mail(&self) -> bool {
        self.mailbox.is_stuck()
    }

    fn send_effects(&mut self) {
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Command(home, command) => self.command(home, command),
                Effect::Event(shard, event) => self.send(shard.into(), ToShard::Event(event)),
            }
        }
    }

    /// Makes changes of presence known, as far as there is room.
    #[inline]
    pub fn announce_presence(&mut self, ctx: &Context) {
        if self.core.has_announcements() {
            self.announce_changes(ctx);
        }
    }

    fn announce_changes(&mut self, ctx: &Context) {
        let shared = &ctx.shared;
        while self.core.has_announcements() {
            let Some(topic) = &shared.config.presence.topic else {
                self.core.announce();
                continue;
            };
            let home = shared.homes.of_destination(topic);
            if !self.has_home_room(home) || !self.blocks.has_room() {
                return;
            }
            let Some(change) = self.core.announce() else { return };
            let message = self.message(|message| change.write(topic, message));
            self.command(home, Command::Publish { message, reply_to: ReplyTo::None });
        }
        ctx.metrics.users.set(self.core.users().online() as u64);
    }

    /// Hands the control thread what is due for the log; all of it if that is the last.
    #[inline]
    pub fn tell_log(&mut self, ctx: &mut Context, is_last: bool) {
        if ctx.now >= ctx.events.due() || is_last {
            self.tell_events(ctx, is_last);
        }
    }

    #[inline(never)] // Most turns have nothing to tell.
    fn tell_events(&mut self, ctx: &mut Context, is_last: bool) {
        let control = ctx.control();
        while self.room(control, Class::Outside) > 0 {
            let Some(event) = ctx.events.take(ctx.now, is_last) else { return };
            self.send(control, ToControl::Log(event));
        }
        ctx.events.put_off(ctx.now + EVENTS_AGAIN);
    }

    /// The homes here.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The homes here, to be spoiled.
    #[cfg(test)]
    pub(crate) fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The messages that are in flight.
    pub fn messages_in_flight(&self) -> usize {
        self.blocks.in_flight()
    }

    /// The mailboxes, for the loop: it takes entries, rings and sleeps.
    pub fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }
}

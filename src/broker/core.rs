#![forbid(unsafe_code)]
//! The homes of one shard as one state machine: commands in, effects out, no mailbox and no clock.
//!
//! **Classes.** What goes from one thread to another is of one of four classes, and they have an
//! order: `Dedupe < Home < Outside < Event`. Each class of each pair of threads has its own bounded
//! queue. Handling an entry of a class produces entries of later classes only, and at most
//! [`Class::needs`] towards any one thread; so an entry is taken when there is room for that many
//! towards every thread, and what it produces never waits.
//!
//! **Nobody waits in a circle.** Suppose that some threads wait for each other for ever. Each has
//! an entry that it does not take, since some queue of a later class is full, and that queue's
//! owner does not take from it. Look at the latest class that is not taken anywhere. It is not
//! `Event`: handling one produces nothing, so shards take all of them, whatever else is full. It is
//! not `Outside`: the control thread takes all of them, and at its bound it answers with a refusal,
//! which is an `Event`. So it is `Dedupe` or `Home`, and all it waits for are queues of later
//! classes, which are taken from: there is room soon. Nobody is left to wait.
//!
//! **Sources.** What arises without a command is no entry and waits in no list: a user whose
//! presence changed is linked in [`super::user`], a session that ends keeps its record; each
//! becomes a command when there is room for it, and that waits for nothing that waits for it.
//!
//! **Order of calls.** [`Core::on`] or [`Core::on_callback`], then [`Core::next_effect`] until
//! there is none.

use super::command::{Callback, Command, Event, ReplyTo};
use super::dedupe::Dedupe;
use super::destination::Names;
use super::home::{Audience, Claim, Home};
use super::homes::Homes;
use super::message::Message;
use super::pattern::Budget;
use super::rule::{Rules, Verdict};
use super::user::{Announcement, Users};
use crate::ids::{SessionId, ShardId};
use crate::limits::{HOMES_MAX, Limits};
use crate::mem::secret::Random;
use crate::mem::shares::Shares;
use std::collections::VecDeque;
use std::sync::Arc;

/// The classes of entries, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Callbacks, at the home of their id.
    Dedupe,
    /// Commands, at the broker home or a user's, and questions to shards.
    Home,
    /// What the control thread is asked for.
    Outside,
    /// What homes and the control thread say to shards.
    Event,
}

/// Entries that handling one may produce towards any one thread, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of class `Home`.
    pub home: usize,
    /// Of class `Event`.
    pub event: usize,
}

impl Class {
    /// All, in their order.
    pub const ALL: [Class; 4] = [Class::Dedupe, Class::Home, Class::Outside, Class::Event];

    /// What handling one of it may produce.
    pub const fn needs(self) -> Needs {
        match self {
            // The publish, or the answer to a duplicate.
            Class::Dedupe => Needs { home: 1, event: 1 },
            // The message and the answer.
            Class::Home => Needs { home: 0, event: 2 },
            Class::Outside => Needs { home: 0, event: 2 },
            Class::Event => Needs { home: 0, event: 0 },
        }
    }
}

/// What is to be sent now.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A command for the homes of a shard.
    Command(ShardId, Command),
    /// An event for a shard.
    Event(ShardId, Event),
}

impl Effect {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Effect::Command(..) => Class::Home,
            Effect::Event(..) => Class::Event,
        }
    }
}

/// What homes read and never change.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where other homes are.
    pub homes: &'a Homes,
    /// Prefixes.
    pub names: &'a Names,
    /// Who may hear what.
    pub rules: &'a Rules,
    /// Whether a rule can keep a destination from a pattern's subscriber.
    pub rules_restrict_patterns: bool,
    /// What each address holds.
    pub shares: &'a Shares,
    /// What each address may have (limit `share-least`).
    pub share_least: u32,
}

/// What handling a command took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Messages that were numbered.
    pub published: u32,
    /// Steps of patterns.
    pub steps: u32,
    /// Comparisons that gave up: whoever they were for hears nothing.
    pub gave_up: u32,
}

/// The homes of one shard.
#[derive(Debug)]
pub struct Core {
    me: ShardId,
    home: Home,
    users: Users,
    dedupe: Dedupe,
    /// Messages numbered so far.
    numbers: u64,
    /// Of the command that was handled last. At most one more than there are shards.
    effects: VecDeque<Effect>,
}

impl Core {
    /// Homes of which nobody has asked anything. Room is made for the users of `slots` sessions and
    /// the effects of a command; keys of tables are drawn.
    pub fn new(
        me: ShardId,
        separator: char,
        limits: &Limits,
        slots: u32,
        keys: &mut Random,
    ) -> Core {
        Core {
            me,
            home: Home::new(separator, limits.destinations, limits.patterns_alike, keys),
            users: Users::new(separator, keys.key(), slots),
            dedupe: Dedupe::new(limits.dedupe_keys),
            numbers: 0,
            effects: VecDeque::with_capacity(HOMES_MAX + 1),
        }
    }

    /// A command of class `Home`.
    pub fn on(&mut self, command: Command, context: Context<'_>) -> Work {
        assert!(self.effects.is_empty(), "the effects of one command go before the next");
        let mut work = Work::default();
        match command {
            Command::Publish { message, reply_to } => {
                self.sequence(message, reply_to, &mut work);
            }
            Command::PublishUser { message, only, reply_to } => {
                self.sequence_user(message, only, reply_to, context, &mut work);
            }
            Command::Subscribe { destination, session, key, owner } => {
                let Context { shares, share_least: least, .. } = context;
                let claim = Claim { shares, owner, least };
                let refused = self.home.subscribe(&destination, session.shard(), claim).err();
                self.say(session.shard(), Event::Begun { session, key, refused });
            }
            Command::Unsubscribe { destination, session, key } => {
                self.home.unsubscribe(&destination, session.shard(), context.shares);
                if let Some(key) = key {
                    self.say(session.shard(), Event::Ended { session, key });
                }
            }
            Command::SubscribeUser { user, destination, session, key } => {
                self.users.subscribe(&user, session, &destination);
                self.say(session.shard(), Event::Begun { session, key, refused: None });
            }
            Command::UnsubscribeUser { user, destination, session, key } => {
                self.users.unsubscribe(&user, session, &destination);
                self.say(session.shard(), Event::Ended { session, key });
            }
            Command::Join { user, session } => self.users.join(&user, session),
            Command::Leave { user, session } => self.users.leave(&user, session),
        }
        work
    }

    /// A callback, of class `Dedupe`, at wall time `now` in milliseconds. A fresh one is pushed
    /// whether or not its caller still waits: its id is remembered, so a retry would push nothing.
    pub fn on_callback(&mut self, callback: Callback, now: u64, homes: &Homes) {
        assert!(self.effects.is_empty(), "the effects of one command go before the next");
        let Callback { key: [upper, lower], until_millis, message, reply_to } = callback;
        let key = u128::from(upper) << 64 | u128::from(lower);
        if self.dedupe.is_fresh(key, now, until_millis) {
            let home = homes.of_message(&message);
            let publish = Command::publish(message, None, reply_to);
            self.effects.push_back(Effect::Command(home, publish));
        } else if let Some(shard) = reply_to.shard() {
            self.say(shard, Event::Duplicate { reply_to });
        }
    }

    /// The next effect of the command that was handled last.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next number of a message that is sequenced here: a counter times [`HOMES_MAX`], plus the
    /// shard.
    pub fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers * HOMES_MAX as u64 + u64::from(self.me.0)
    }

    /// Whether `announce` has something.
    pub fn has_announcements(&self) -> bool {
        self.users.has_changes()
    }

    /// The next change of presence to make known: a source, asked when there is room for a publish.
    pub fn announce(&mut self) -> Option<Announcement> {
        self.users.announce()
    }

    /// Asserts what holds between commands. Slow.
    pub fn invariants(&self) {
        // Nothing else here can hold a message: `tests/tidy.rs` sees to that.
        assert!(self.effects.is_empty(), "a home keeps no message past its turn");
        self.home.invariants();
        self.users.invariants();
        self.dedupe.invariants();
    }

    /// An effect stays.
    #[cfg(test)]
    pub(crate) fn spoil_effects(&mut self) {
        let (message, number) = (Arc::new(Message::default()), self.next_number());
        self.say(self.me, Event::Deliver { message, number });
    }

    /// What is kept of destinations, users and callbacks.
    #[cfg(test)]
    pub(crate) fn tables(&mut self) -> (&mut Home, &mut Users, &mut Dedupe) {
        (&mut self.home, &mut self.users, &mut self.dedupe)
    }

    /// The users whose home this is.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Destinations and patterns with a subscription whose home this is.
    pub fn destinations(&self) -> usize {
        self.home.len()
    }

    fn say(&mut self, shard: ShardId, event: Event) {
        self.effects.push_back(Effect::Event(shard, event));
    }

    /// Numbers a message and sends it to every shard with a subscriber.
    fn sequence(&mut self, message: Arc<Message>, reply_to: ReplyTo, work: &mut Work) {
        let number = self.next_number();
        let mut budget = Budget::default();
        let audience = self.home.audience(message.destination(), &mut budget);
        for shard in audience.shards() {
            self.say(shard, Event::Deliver { message: message.clone(), number });
        }
        self.end_publish(audience, reply_to, &budget, work);
    }

    fn sequence_user(
        &mut self,
        message: Arc<Message>,
        only: Option<SessionId>,
        reply_to: ReplyTo,
        context: Context<'_>,
        work: &mut Work,
    ) {
        let number = self.next_number();
        let (user, destination) = (message.user(), message.destination());
        let mut budget = Budget::default();
        // What rules keep from a user none of his sessions hears, and none is counted.
        let is_kept = context.rules_restrict_patterns
            && !may_hear(context, user, destination, &mut budget, work);
        let audience = match is_kept {
            true => Audience::default(),
            false => self.users.audience(user, destination, only, &mut budget),
        };
        for shard in audience.shards() {
            self.say(shard, Event::DeliverUser { message: message.clone(), number, only });
        }
        self.end_publish(audience, reply_to, &budget, work);
    }

    fn end_publish(
        &mut self,
        audience: Audience,
        reply_to: ReplyTo,
        budget: &Budget,
        work: &mut Work,
    ) {
        work.published += 1;
        work.steps += budget.spent();
        work.gave_up += u32::from(audience.gave_up);
        if let Some(shard) = reply_to.shard() {
            let heard = audience.subscriptions;
            self.say(shard, Event::Sequenced { reply_to, heard });
        }
    }
}

/// Whether the rules let a user hear a destination of his own, given without the prefix.
fn may_hear(
    context: Context<'_>,
    user: &str,
    destination: &str,
    budget: &mut Budget,
    work: &mut Work,
) -> bool {
    let Context { names, rules, .. } = context;
    let shown = names.shown(destination);
    let shown = core::str::from_utf8(&shown).expect("two texts are a text");
    let verdict = rules.may_subscribe(names, shown, Some(user), budget);
    work.gave_up += u32::from(verdict == Verdict::Unclear);
    verdict.is_allowed()
}

#[cfg(test)]
#[path = "core/tests.rs"]
mod tests;

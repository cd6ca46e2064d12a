//! What clients requested and what they received: the only thing that the oracles check.
//!
//! Each entry has a tick, which rises with every entry. So "acknowledged before the other was sent"
//! means that some client knew of the first before a client did the second.

use super::rules::Rules;
use super::target::{PRESENCE, SECRET, Target, matches};
use super::violation::{Oracle, Violation};
use std::collections::BTreeMap;

/// A publication, as its sender knows it.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    /// The client that sent it, and its number among that client's publications.
    pub(super) sender: Option<(usize, u32)>,
    pub(super) target: Target,
    pub(super) sent_at: u64,
    /// When its sender learned that it took effect.
    pub(super) acked_at: Option<u64>,
    /// Its sender requested a RECEIPT, and a reload has ended the session before that arrived.
    pub(super) overtaken: bool,
    /// The number of its message-id, once a client has received it.
    pub(super) number: Option<u64>,
    /// Several senders have posted it, so no sender's order applies to it.
    pub(super) shared: bool,
    /// A presence message: user, online.
    pub(super) presence: Option<(usize, bool)>,
}

/// A subscription, as its client knows it.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) client: usize,
    pub(super) user: Option<usize>,
    /// Destination or pattern, without the user prefix.
    pub(super) pattern: String,
    pub(super) of_user: bool,
    pub(super) asked_at: u64,
    /// A RECEIPT was requested.
    pub(super) has_receipt: bool,
    pub(super) begun_at: Option<u64>,
    pub(super) leave_at: Option<u64>,
    pub(super) left_at: Option<u64>,
    /// Publications in the order of arrival.
    pub(super) received: Vec<usize>,
    /// Fixed answers of the trading application.
    pub(super) answers: u32,
    /// Its session was in order and had read everything when the run settled.
    pub(super) complete: bool,
}

/// A SEND to the trading application.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trade {
    pub(super) client: usize,
    pub(super) user: Option<usize>,
    pub(super) sent_at: u64,
    pub(super) acked_at: Option<u64>,
}

/// Sessions that were ended by the operator: those of a user, or one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kick {
    pub(super) user: Option<usize>,
    pub(super) client: Option<usize>,
    pub(super) asked_at: u64,
    /// When the operator learned that they are ended.
    pub(super) done: bool,
}

/// Who may receive [`SECRET`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Secret {
    /// Everybody.
    #[default]
    Open,
    /// A reload is about to forbid it to all but the first user; messages in flight may arrive.
    Closing,
    /// All shards have the new rule since this tick.
    Closed(u64),
    /// Only the first user, from the beginning.
    Kept,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub(super) struct History {
    tick: u64,
    pub(super) publications: Vec<Publication>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) trades: Vec<Trade>,
    /// The publication of each number. Numbers are unique among the broker and all homes of users.
    by_number: BTreeMap<u64, usize>,
    boot: Option<String>,
    /// Count of actions that clients have taken.
    pub(super) actions: u64,
    /// Who may receive [`SECRET`] now.
    pub(super) secret: Secret,
    pub(super) kicks: Vec<Kick>,
    /// Which messages may be missed, and which are collected in batches.
    pub(super) rules: Rules,
}

/// The content of a MESSAGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A publication of a client.
    Publication(usize),
    /// A change of presence.
    Presence(usize, bool),
    /// A fixed answer of the trading application.
    Answer,
    /// An error of an application destination.
    Error,
}

impl History {
    /// An empty history.
    pub(super) fn new(secret: Secret, rules: Rules) -> History {
        History { secret, rules, ..History::default() }
    }

    /// The next stamp.
    pub(super) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// The last stamp.
    pub(super) fn now(&self) -> u64 {
        self.tick
    }

    /// A client is about to publish; the result goes into the body.
    pub(super) fn publish(&mut self, sender: Option<(usize, u32)>, target: Target) -> usize {
        let sent_at = self.tick();
        self.publications.push(Publication {
            sender,
            target,
            sent_at,
            acked_at: None,
            overtaken: false,
            number: None,
            shared: false,
            presence: None,
        });
        self.publications.len() - 1
    }

    /// Its sender has learned that it took effect.
    pub(super) fn acknowledge(&mut self, publication: usize) {
        let now = self.tick();
        self.publications[publication].acked_at.get_or_insert(now);
    }

    /// A client is about to subscribe.
    pub(super) fn subscribe(
        &mut self,
        client: usize,
        user: Option<usize>,
        pattern: &str,
        of_user: bool,
        has_receipt: bool,
    ) -> usize {
        let asked_at = self.tick();
        self.subscriptions.push(Subscription {
            client,
            user,
            pattern: pattern.to_owned(),
            of_user,
            asked_at,
            has_receipt,
            begun_at: None,
            leave_at: None,
            left_at: None,
            received: Vec::new(),
            answers: 0,
            complete: false,
        });
        self.subscriptions.len() - 1
    }

    /// A MESSAGE has arrived for a subscription. Returns which publication it is.
    pub(super) fn receive(
        &mut self,
        subscription: usize,
        message_id: &str,
        content: Content,
    ) -> Result<Option<usize>, Violation> {
        let number = self.number_of(message_id)?;
        let tick = self.tick();
        let publication = match content {
            Content::Error => return Ok(None),
            Content::Answer => {
                self.subscriptions[subscription].answers += 1;
                return Ok(None);
            }
            Content::Publication(publication) if publication < self.publications.len() => {
                publication
            }
            Content::Publication(publication) => {
                return Err(Violation::new(Oracle::Protocol, format!("made up: {publication}")));
            }
            Content::Presence(user, online) => match self.by_number.get(&number) {
                Some(&known) => known,
                None => {
                    let target = Target::Broker(PRESENCE);
                    let made = self.publish(None, target);
                    self.publications[made].presence = Some((user, online));
                    // It was sequenced at some earlier, unknown time.
                    self.publications[made].sent_at = 0;
                    made
                }
            },
        };
        self.learn_number(publication, number, tick)?;
        if let Content::Presence(user, online) = content
            && self.publications[publication].presence != Some((user, online))
        {
            let text = format!("message {number} has two contents");
            return Err(Violation::new(Oracle::Presence, text));
        }
        self.check_receiver(subscription, publication)?;
        self.subscriptions[subscription].received.push(publication);
        Ok(Some(publication))
    }

    fn number_of(&mut self, message_id: &str) -> Result<u64, Violation> {
        let wrong = || Violation::new(Oracle::Protocol, format!("message-id {message_id}"));
        let (boot, number) = message_id.rsplit_once('-').ok_or_else(wrong)?;
        if *self.boot.get_or_insert_with(|| boot.to_owned()) != boot {
            return Err(wrong());
        }
        number.parse().map_err(|_| wrong())
    }

    fn learn_number(&mut self, publication: usize, number: u64, _: u64) -> Result<(), Violation> {
        let state = &mut self.publications[publication];
        let target = state.target;
        if *state.number.get_or_insert(number) != number {
            let known = state.number.unwrap_or_default();
            let text = format!("{publication} {target:?} was sequenced twice: {known}, {number}");
            return Err(Violation::new(Oracle::Twice, text));
        }
        let owner = *self.by_number.entry(number).or_insert(publication);
        if owner != publication {
            let text = format!("number {number} belongs to {owner} and to {publication}");
            return Err(Violation::new(Oracle::Order, text));
        }
        Ok(())
    }

    /// Whether a subscription may receive a publication at all.
    fn check_receiver(&self, subscription: usize, publication: usize) -> Result<(), Violation> {
        let state = &self.subscriptions[subscription];
        let Publication { target, sent_at, .. } = self.publications[publication];
        let may_hear = match self.secret {
            Secret::Closed(since) if is_kept_from(state.user, target) => sent_at <= since,
            Secret::Kept if is_kept_from(state.user, target) => false,
            _ => true,
        };
        if may_hear && is_for(state, target) {
            return Ok(());
        }
        let text = format!(
            "{publication} {target:?} came to client {} (user {:?}) on {} (of user: {})",
            state.client, state.user, state.pattern, state.of_user
        );
        Err(Violation::new(Oracle::Isolation, text))
    }
}

/// Whether the rule about the secret forbids a target to a user.
fn is_kept_from(user: Option<usize>, target: Target) -> bool {
    target == Target::Broker(SECRET) && user != Some(0)
}

/// Whether a subscription must receive what goes to a target. What a reload forbids at some time is
/// not promised at any time.
pub(super) fn hears(history: &History, subscription: &Subscription, target: Target) -> bool {
    let is_kept = history.secret != Secret::Open && is_kept_from(subscription.user, target);
    !is_kept && is_for(subscription, target)
}

/// Whether a target is for a subscription, if no rule forbids it.
fn is_for(subscription: &Subscription, target: Target) -> bool {
    let Subscription { client, user, ref pattern, of_user, .. } = *subscription;
    match target {
        Target::Broker(destination) => !of_user && matches(pattern, destination),
        Target::User(whose, destination) => {
            of_user && user == Some(whose) && matches(pattern, destination)
        }
        Target::Session(whose, _, destination) | Target::Own(whose, destination) => {
            of_user && client == whose && matches(pattern, destination)
        }
        Target::Hook(requester, whose) => {
            let same = requester == client || user.is_some() && whose == user;
            of_user && same && matches(pattern, "/queue/sub")
        }
        Target::Nobody => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_has_one_number_and_a_number_one_publication() {
        let mut history = History::default();
        let (a, b) = (
            history.publish(Some((0, 0)), Target::Broker("/topic/a")),
            history.publish(Some((0, 1)), Target::Broker("/topic/a")),
        );
        let s = history.subscribe(1, None, "/topic/a", false, false);
        assert!(history.receive(s, "x-64", Content::Publication(a)).is_ok());
        let twice = history.receive(s, "x-128", Content::Publication(a));
        assert_eq!(twice.map_err(|v| v.oracle), Err(Oracle::Twice));
        let shared = history.receive(s, "x-64", Content::Publication(b));
        assert_eq!(shared.map_err(|v| v.oracle), Err(Oracle::Order));
        let boot = history.receive(s, "y-192", Content::Publication(b));
        assert_eq!(boot.map_err(|v| v.oracle), Err(Oracle::Protocol));
    }

    #[test]
    fn a_message_for_one_session_reaches_no_other() {
        let mut history = History::default();
        let [one, other] = [1, 2].map(|c| history.subscribe(c, Some(2), "/queue/*", true, false));
        let p = history.publish(Some((0, 0)), Target::Session(1, 2, "/queue/sub"));
        assert!(history.receive(one, "x-64", Content::Publication(p)).is_ok());
        let wrong = history.receive(other, "x-64", Content::Publication(p));
        assert_eq!(wrong.map_err(|v| v.oracle), Err(Oracle::Isolation));
    }

    #[test]
    fn what_a_reload_forbids_may_arrive_only_if_it_was_sent_before() {
        let mut history = History::default();
        let all = history.subscribe(1, None, "/topic/**", false, false);
        let [early, late] = [0, 1].map(|n| history.publish(Some((0, n)), Target::Broker(SECRET)));
        history.secret = Secret::Closed(history.publications[early].sent_at);
        assert!(!hears(&history, &history.subscriptions[all], Target::Broker(SECRET)));
        assert!(history.receive(all, "x-64", Content::Publication(early)).is_ok());
        let wrong = history.receive(all, "x-128", Content::Publication(late));
        assert_eq!(wrong.map_err(|v| v.oracle), Err(Oracle::Isolation));
    }

    #[test]
    fn a_user_receives_only_his_own_messages() {
        let mut history = History::default();
        let s = history.subscribe(1, Some(2), "/queue/*", true, false);
        let mine = history.publish(Some((0, 0)), Target::User(2, "/queue/sub"));
        let other = history.publish(Some((0, 1)), Target::User(3, "/queue/sub"));
        assert!(history.receive(s, "x-64", Content::Publication(mine)).is_ok());
        let wrong = history.receive(s, "x-128", Content::Publication(other));
        assert_eq!(wrong.map_err(|v| v.oracle), Err(Oracle::Isolation));
    }
}

//! The rules for everything that clients received. Each rule is a naive statement about the whole
//! history; none uses the engine's state.
//!
//! Their model of the broker: one list of messages per home, in the order of their numbers. A
//! subscription is an interval of that list, and its client receives the messages of the interval
//! that its pattern matches. Acknowledgements limit where the interval may begin and end.

use super::history::{History, Kick, Publication, Secret, Subscription, Trade, hears};
use super::overtaken;
use super::target::{Target, matches};
use super::violation::{Oracle, Violation};
use crate::config::SlowConsumer;
use crate::time::Micros;
use std::collections::{BTreeMap, BTreeSet};

/// Checks a finished history.
///
/// Returns the count of messages that clients missed and were allowed to miss.
pub(super) fn validate(history: &History) -> Result<u64, Violation> {
    let mut missed = 0;
    let mut lists: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, subscription) in history.subscriptions.iter().enumerate() {
        missed += validate_local(history, at, subscription)?;
        validate_answers(history, at, subscription)?;
        if subscription.of_user && subscription.user.is_none() {
            continue;
        }
        // Subscriptions with one key receive the same, except messages for one session of a user.
        let secret = history.secret != Secret::Open && subscription.user != Some(0);
        let whose = subscription.of_user.then_some((subscription.user, subscription.client));
        let key = (subscription.pattern.as_str(), whose, secret);
        let list = lists.entry(key).or_insert_with(|| list_of(history, subscription));
        let windows: BTreeSet<Micros> = list.iter().map(|p| window_of(history, *p)).collect();
        for window in windows {
            let of_window = |p: &usize| window_of(history, *p) == window;
            let list: Vec<usize> = list.iter().copied().filter(of_window).collect();
            missed += validate_interval(history, at, subscription, &list, window)?;
        }
        missed += validate_unseen(history, at, subscription)?;
    }
    validate_newest(history)?;
    validate_senders(history)?;
    overtaken::validate(history)?;
    validate_presence(history)?;
    Ok(missed)
}

/// Every missed message must have been dropped on purpose, and counted.
pub(super) fn validate_missed(missed: u64, dropped: u64) -> Result<(), Violation> {
    if missed <= dropped {
        return Ok(());
    }
    let text = format!("clients missed {missed} messages, but {dropped} were dropped");
    Err(Violation::new(Oracle::Lost, text))
}

/// Whether a home numbers it.
fn is_by_home(target: Target) -> bool {
    matches!(target, Target::Broker(_) | Target::User(..) | Target::Session(..))
}

/// The batch window of a publication's destination.
fn window_of(history: &History, publication: usize) -> Micros {
    history.rules.window(history.publications[publication].target)
}

/// Whether a slow reader may miss a publication.
fn may_miss(history: &History, publication: usize) -> bool {
    history.rules.policy(history.publications[publication].target) != SlowConsumer::Close
}

/// What reaches a subscription through a home: known publications in the order of their numbers.
fn list_of(history: &History, subscription: &Subscription) -> Vec<usize> {
    let of_home = |p: &Publication| {
        is_by_home(p.target) && p.number.is_some() && hears(history, subscription, p.target)
    };
    let all = history.publications.iter().enumerate();
    let mut list: Vec<usize> = all.filter(|(_, p)| of_home(p)).map(|(at, _)| at).collect();
    list.sort_by_key(|&at| history.publications[at].number);
    list
}

fn tell(oracle: Oracle, at: usize, s: &Subscription, what: &str) -> Violation {
    let text = format!(
        "client {} (user {:?}), subscription {at} to {} (of user: {}), asked {} begun {:?} leave \
         {:?} left {:?}: {what}",
        s.client, s.user, s.pattern, s.of_user, s.asked_at, s.begun_at, s.leave_at, s.left_at
    );
    Violation::new(oracle, text)
}

/// For each batch window, a subscription receives one interval of its list, with no gap except what
/// a slow reader may miss, and at least what it was promised. Returns the count of missed messages.
fn validate_interval(
    history: &History,
    at: usize,
    subscription: &Subscription,
    list: &[usize],
    window: Micros,
) -> Result<u64, Violation> {
    let number = |p: &usize| history.publications[*p].number;
    let by_home = |p: &&usize| {
        let target = history.publications[**p].target;
        // Messages that a reload forbids later are not on the list, but may have arrived before.
        is_by_home(target)
            && hears(history, subscription, target)
            && window_of(history, **p) == window
    };
    let heard: Vec<usize> = subscription.received.iter().filter(by_home).copied().collect();
    for pair in heard.windows(2) {
        if pair[0] == pair[1] {
            return Err(tell(Oracle::Twice, at, subscription, &format!("{} twice", pair[0])));
        }
        if number(&pair[0]) >= number(&pair[1]) {
            let what = format!("{} came before {}", pair[0], pair[1]);
            return Err(tell(Oracle::Order, at, subscription, &what));
        }
    }
    let place = |p: &usize| {
        list.binary_search_by_key(&number(p), number).expect("a received message is on the list")
    };
    let places: BTreeSet<usize> = heard.iter().map(place).collect();
    let start = places.first().copied().unwrap_or(0);
    let end = places.last().map_or(0, |last| last + 1);
    let mut missed = 0;
    for (place, &p) in list.iter().enumerate() {
        let is_heard = places.contains(&place);
        let publication = &history.publications[p];
        let is_inside = (start..end).contains(&place);
        if !is_heard && (is_inside || is_promised(subscription, publication, place, end)) {
            if !may_miss(history, p) {
                let what = format!("{p} did not come ({publication:?})");
                return Err(tell(Oracle::Lost, at, subscription, &what));
            }
            missed += 1;
        }
        let too_late = subscription.left_at.is_some_and(|left| publication.sent_at > left);
        if too_late && is_heard {
            let what = format!("{p} came after the end ({publication:?})");
            return Err(tell(Oracle::Order, at, subscription, &what));
        }
    }
    Ok(missed)
}

/// The interval in which a publication must have been sequenced. A client's own frames go to the
/// home in order; of other clients' frames only acknowledged ones are known.
fn known(subscription: &Subscription, publication: &Publication) -> (Option<u64>, Option<u64>) {
    let same_client = publication.sender.is_some_and(|(c, _)| c == subscription.client);
    if same_client {
        (Some(subscription.asked_at), Some(publication.sent_at))
    } else {
        (subscription.begun_at, publication.acked_at)
    }
}

/// Whether a subscription must receive the publication at `place` of its list, of which it has
/// received something up to `end`.
fn is_promised(s: &Subscription, publication: &Publication, place: usize, end: usize) -> bool {
    let whole = s.complete || s.left_at.is_some();
    let (since, known_at) = known(s, publication);
    let after = since.is_some_and(|since| publication.sent_at > since);
    let heard_later = place < end;
    let before_leave = match s.leave_at {
        Some(leave_at) => known_at.is_some_and(|known| known < leave_at),
        // It received something later, so it was open then.
        None => s.complete || heard_later,
    };
    after && before_leave && (whole || heard_later)
}

/// Publications that were acknowledged and received by nobody.
fn validate_unseen(history: &History, at: usize, s: &Subscription) -> Result<u64, Violation> {
    let mut missed = 0;
    for (p, publication) in history.publications.iter().enumerate() {
        let (since, known_at) = known(s, publication);
        let (None, Some(since), Some(known_at)) = (publication.number, since, known_at) else {
            continue;
        };
        let begun = publication.sent_at > since;
        let open = match s.leave_at {
            Some(leave_at) => known_at < leave_at && s.left_at.is_some(),
            None => s.complete,
        };
        if begun && open && is_by_home(publication.target) && hears(history, s, publication.target)
        {
            if !may_miss(history, p) {
                let what = format!("{p} came to nobody ({publication:?})");
                return Err(tell(Oracle::Lost, at, s, &what));
            }
            missed += 1;
        }
    }
    Ok(missed)
}

/// A slow reader may miss messages, but never the newest: with `conflate`, the newest of each
/// destination; with `drop-oldest`, the newest of all its destinations. These include destinations
/// that it has left since: the messages that waited for them were newer than the dropped ones.
fn validate_newest(history: &History) -> Result<(), Violation> {
    // For each client: the newest of all, and whether it came.
    let mut newest: BTreeMap<usize, (u64, usize, bool)> = BTreeMap::new();
    for (at, s) in history.subscriptions.iter().enumerate() {
        if !history.rules.shed() || s.of_user {
            continue;
        }
        let oldest_go =
            |p: &&Publication| history.rules.policy(p.target) == SlowConsumer::DropOldest;
        let heard = s.received.iter().map(|p| &history.publications[*p]).filter(oldest_go);
        let heard = heard.filter_map(|p| p.number);
        if let Some(number) = heard.max() {
            note_newest(&mut newest, s.client, (number, at, true));
        }
        if s.leave_at.is_some() || !s.complete {
            continue;
        }
        let mut of_destination: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
        for p in list_of(history, s) {
            let publication = &history.publications[p];
            let Target::Broker(destination) = publication.target else { continue };
            let after = known(s, publication).0.is_some_and(|since| publication.sent_at > since);
            match history.rules.policy(publication.target) {
                SlowConsumer::Close => {}
                SlowConsumer::Conflate => {
                    of_destination.insert(destination, (p, after));
                }
                SlowConsumer::DropOldest => {
                    let number = publication.number.unwrap_or_default();
                    // A message that was not promised may be missing.
                    let came = !after || s.received.contains(&p);
                    note_newest(&mut newest, s.client, (number, at, came));
                }
            }
        }
        let due = of_destination.values().filter(|(_, after)| *after);
        if let Some((p, _)) = due.clone().find(|(p, _)| !s.received.contains(p)) {
            let what = format!("{p}, the newest of its destination, did not come");
            return Err(tell(Oracle::Lost, at, s, &what));
        }
    }
    match newest.values().find(|(.., came)| !came && !history.rules.collect()) {
        Some(&(number, at, _)) => {
            let what = format!("number {number}, the newest of all, did not come");
            Err(tell(Oracle::Lost, at, &history.subscriptions[at], &what))
        }
        None => Ok(()),
    }
}

/// A message that a client might receive: its number, the subscription, and whether it arrived
/// there.
fn note_newest(
    newest: &mut BTreeMap<usize, (u64, usize, bool)>,
    client: usize,
    (number, at, came): (u64, usize, bool),
) {
    let known = newest.entry(client).or_insert((number, at, came));
    if number >= known.0 {
        let same = number == known.0;
        *known = (number, at, came || same && known.2);
    }
}

/// What a session sends to itself, or requests from a hook, arrives at most once, and at least once
/// if it was acknowledged.
fn validate_local(history: &History, at: usize, s: &Subscription) -> Result<u64, Violation> {
    let mut missed = 0;
    let mut count: BTreeMap<usize, u32> = BTreeMap::new();
    for &p in &s.received {
        let times = count.entry(p).or_default();
        *times += 1;
        if *times > 1 {
            return Err(tell(Oracle::Twice, at, s, &format!("{p} twice")));
        }
    }
    for (p, publication) in history.publications.iter().enumerate() {
        let Target::Own(client, _) = publication.target else { continue };
        let due = client == s.client
            && s.begun_at.is_some_and(|begun| publication.sent_at > begun)
            && s.leave_at.is_none()
            && s.complete
            && hears(history, s, publication.target);
        if due && !count.contains_key(&p) {
            if !may_miss(history, p) {
                return Err(tell(Oracle::Lost, at, s, &format!("{p}, its own, did not come")));
            }
            missed += 1;
        }
    }
    Ok(missed)
}

/// Answers of the trading application: at most as many as were requested, at least as many as were
/// acknowledged.
fn validate_answers(history: &History, at: usize, s: &Subscription) -> Result<(), Violation> {
    if !s.of_user || !matches(&s.pattern, "/queue/sub") {
        return match s.answers {
            0 => Ok(()),
            _ => Err(tell(Oracle::Isolation, at, s, "an answer on a wrong destination")),
        };
    }
    let mine = |t: &&Trade| match s.user {
        Some(user) => t.user == Some(user),
        None => t.client == s.client,
    };
    let most = history.trades.iter().filter(mine).count() as u32;
    let due = history
        .trades
        .iter()
        .filter(mine)
        .filter(|t| t.acked_at.is_some() && s.begun_at.is_some_and(|begun| t.sent_at > begun));
    let least = if s.complete && s.leave_at.is_none() { due.count() as u32 } else { 0 };
    if s.answers > most {
        return Err(tell(Oracle::Twice, at, s, &format!("{} answers to {most}", s.answers)));
    }
    if s.answers < least {
        return Err(tell(Oracle::Lost, at, s, &format!("{} answers to {least}", s.answers)));
    }
    Ok(())
}

/// A sender's messages are numbered in the order sent: all broker destinations together, and each
/// user separately.
fn validate_senders(history: &History) -> Result<(), Violation> {
    let mut last: BTreeMap<(usize, Option<usize>), (u32, u64, usize)> = BTreeMap::new();
    for (p, publication) in history.publications.iter().enumerate() {
        let (Some((sender, sequence)), Some(number)) = (publication.sender, publication.number)
        else {
            continue;
        };
        if publication.shared {
            continue;
        }
        let whom = match publication.target {
            Target::Broker(_) => None,
            Target::User(user, _) | Target::Session(_, user, _) => Some(user),
            _ => continue,
        };
        let entry = last.entry((sender, whom)).or_insert((sequence, number, p));
        if sequence > entry.0 && number < entry.1 {
            let text = format!(
                "client {sender} sent {} before {p}, but they are numbered {} and {number}",
                entry.2, entry.1
            );
            return Err(Violation::new(Oracle::Order, text));
        }
        *entry = (sequence, number, p);
    }
    Ok(())
}

/// A client that watches presence without a gap sees each user come and leave alternately.
fn validate_presence(history: &History) -> Result<(), Violation> {
    for (at, s) in history.subscriptions.iter().enumerate() {
        let mut known: BTreeMap<usize, bool> = BTreeMap::new();
        for &p in &s.received {
            let Some((user, online)) = history.publications[p].presence else { continue };
            if known.insert(user, online) == Some(online) {
                let what = format!("user {user} twice in a row online: {online}");
                return Err(tell(Oracle::Presence, at, s, &what));
            }
        }
    }
    Ok(())
}

/// A session that is in order at the end must not be one that the operator has ended, if that was
/// confirmed after its handshake, `open_at`, was answered.
pub(super) fn validate_kicks(
    history: &History,
    client: usize,
    user: Option<usize>,
    open_at: u64,
) -> Result<(), Violation> {
    let is_meant =
        |kick: &&Kick| kick.client == Some(client) || kick.user.is_some() && kick.user == user;
    let mut ended = history.kicks.iter().filter(|kick| kick.done && kick.asked_at > open_at);
    match ended.find(is_meant) {
        Some(kick) => {
            let text = format!("client {client} (user {user:?}) goes on after {kick:?}");
            Err(Violation::new(Oracle::Kick, text))
        }
        None => Ok(()),
    }
}

/// The watcher that received everything must have seen that each user first came and finally left.
pub(super) fn validate_watcher(history: &History, subscription: usize) -> Result<(), Violation> {
    let s = &history.subscriptions[subscription];
    let mut known: BTreeMap<usize, bool> = BTreeMap::new();
    for &p in &s.received {
        let Some((user, online)) = history.publications[p].presence else { continue };
        if !known.contains_key(&user) && !online {
            let what = format!("user {user} left before he came");
            return Err(tell(Oracle::Presence, subscription, s, &what));
        }
        known.insert(user, online);
    }
    match known.iter().find(|(_, online)| **online) {
        Some((user, _)) => {
            let what = format!("user {user} never left");
            Err(tell(Oracle::Presence, subscription, s, &what))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Content;
    use super::super::rules::Rules;
    use super::super::target::PRESENCE;
    use super::*;

    /// A history of one topic: `sent` publications of client 0, all acknowledged, numbered in
    /// order.
    fn history(sent: usize) -> History {
        let mut history = History::default();
        for n in 0..sent {
            let p = history.publish(Some((0, n as u32)), Target::Broker("/topic/a"));
            history.acknowledge(p);
        }
        history
    }

    fn hear(history: &mut History, s: usize, list: &[usize]) -> Result<(), Violation> {
        for &p in list {
            history.receive(s, &format!("b-{}", (p + 1) * 64), Content::Publication(p))?;
        }
        Ok(())
    }

    fn verdict(begun: bool, complete: bool, list: &[usize]) -> Option<Oracle> {
        missed(SlowConsumer::Close, begun, complete, list).err()
    }

    /// The verdict on four messages of which these arrived.
    fn missed(
        policy: SlowConsumer,
        begun: bool,
        complete: bool,
        list: &[usize],
    ) -> Result<u64, Oracle> {
        let mut history = History::new(Secret::Open, Rules::with(policy));
        let s = history.subscribe(1, None, "/topic/a", false, true);
        let all = history.subscribe(2, None, "/topic/*", false, true);
        if begun {
            history.subscriptions[s].begun_at = Some(history.tick());
        }
        history.subscriptions[s].complete = complete;
        for n in 0..4 {
            let p = history.publish(Some((0, n)), Target::Broker("/topic/a"));
            history.acknowledge(p);
        }
        hear(&mut history, all, &[0, 1, 2, 3]).expect("in order");
        let heard = hear(&mut history, s, list);
        heard.and_then(|()| validate(&history)).map_err(|violation| violation.oracle)
    }

    #[test]
    fn a_slow_reader_may_miss_what_is_older_but_not_the_newest() {
        for policy in [SlowConsumer::DropOldest, SlowConsumer::Conflate] {
            assert_eq!(missed(policy, true, true, &[0, 1, 2, 3]), Ok(0));
            assert_eq!(missed(policy, true, true, &[1, 3]), Ok(2));
            assert_eq!(missed(policy, true, true, &[3]), Ok(3));
            assert_eq!(missed(policy, true, true, &[0, 1, 2]), Err(Oracle::Lost));
            assert_eq!(missed(policy, true, true, &[]), Err(Oracle::Lost));
            assert_eq!(missed(policy, true, true, &[2, 1, 3]), Err(Oracle::Order));
            assert_eq!(missed(policy, true, true, &[1, 1, 3]), Err(Oracle::Twice));
            assert_eq!(missed(policy, true, false, &[1]), Ok(1), "it left early");
        }
        assert!(validate_missed(3, 3).is_ok());
        assert_eq!(validate_missed(4, 3).map_err(|v| v.oracle), Err(Oracle::Lost));
    }

    #[test]
    fn what_waited_for_a_subscription_that_has_ended_is_newer_too() {
        // The newest of those that it still has was dropped as the oldest waiting message; the
        // messages after it were for a subscription that has ended since (seed 7035597).
        let mut history = History::new(Secret::Open, Rules::with(SlowConsumer::DropOldest));
        let stays = history.subscribe(1, None, "/topic/a", false, true);
        let left = history.subscribe(1, None, "/topic/b", false, true);
        for s in [stays, left] {
            history.subscriptions[s].begun_at = Some(history.tick());
        }
        let all = history.subscribe(2, None, "/topic/*", false, true);
        for (n, topic) in ["/topic/a", "/topic/b"].into_iter().enumerate() {
            let p = history.publish(Some((0, n as u32)), Target::Broker(topic));
            history.acknowledge(p);
        }
        hear(&mut history, all, &[0, 1]).expect("in order");
        history.subscriptions[stays].complete = true;
        history.subscriptions[left].leave_at = Some(history.tick());
        assert_eq!(
            validate(&history).map_err(|v| v.oracle),
            Err(Oracle::Lost),
            "nothing newer came"
        );
        hear(&mut history, left, &[1]).expect("in order");
        assert_eq!(validate(&history).map_err(|v| v.oracle), Ok(1));
    }

    #[test]
    fn intervals_are_checked() {
        assert_eq!(verdict(true, true, &[0, 1, 2, 3]), None);
        assert_eq!(verdict(false, false, &[1, 2]), None);
        assert_eq!(verdict(true, true, &[0, 1, 3]), Some(Oracle::Lost));
        assert_eq!(verdict(true, true, &[0, 1, 2]), Some(Oracle::Lost));
        assert_eq!(verdict(true, false, &[0, 1, 2]), None, "it left early");
        assert_eq!(verdict(true, false, &[1, 2]), Some(Oracle::Lost));
        assert_eq!(verdict(false, true, &[1, 2, 3]), None, "it may have begun late");
        assert_eq!(verdict(true, true, &[]), Some(Oracle::Lost));
        assert_eq!(verdict(true, true, &[0, 1, 1, 2, 3]), Some(Oracle::Twice));
        assert_eq!(verdict(true, true, &[0, 2, 1, 3]), Some(Oracle::Order));
    }

    #[test]
    fn what_is_acknowledged_and_reaches_nobody_is_lost() {
        let mut history = history(0);
        let s = history.subscribe(1, None, "/topic/a", false, true);
        history.subscriptions[s].begun_at = Some(history.tick());
        history.subscriptions[s].complete = true;
        let p = history.publish(Some((0, 0)), Target::Broker("/topic/a"));
        assert!(validate(&history).is_ok());
        history.acknowledge(p);
        assert_eq!(validate(&history).map(|_| ()).map_err(|v| v.oracle), Err(Oracle::Lost));
    }

    #[test]
    fn messages_arrive_in_their_senders_order() {
        let mut history = history(2);
        let s = history.subscribe(1, None, "/topic/a", false, false);
        history.receive(s, "b-128", Content::Publication(0)).expect("a first number");
        assert!(validate(&history).is_ok());
        history.subscriptions[s].received.clear();
        history.receive(s, "b-64", Content::Publication(1)).expect("a first number");
        assert_eq!(validate(&history).map(|_| ()).map_err(|v| v.oracle), Err(Oracle::Order));
    }

    #[test]
    fn presence_alternates_and_ends() {
        let mut history = history(0);
        let s = history.subscribe(1, None, PRESENCE, false, false);
        history.receive(s, "b-64", Content::Presence(3, true)).expect("new");
        assert!(validate(&history).is_ok());
        assert_eq!(validate_watcher(&history, s).map_err(|v| v.oracle), Err(Oracle::Presence));
        history.receive(s, "b-128", Content::Presence(3, false)).expect("new");
        assert!(validate_watcher(&history, s).is_ok());
        history.receive(s, "b-192", Content::Presence(3, false)).expect("new");
        assert_eq!(validate(&history).map(|_| ()).map_err(|v| v.oracle), Err(Oracle::Presence));
    }
}

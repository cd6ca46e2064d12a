#![forbid(unsafe_code)]
//! What holds between the parts of a shard whenever a turn is over. The parts assert what holds
//! within each of them.

use super::dispatch::Dispatch;
use super::net::State;
use super::session::SubscriptionState;
use super::web::Stage;
use crate::ids::{LinkIndex, Slot};

/// Asserts that everything fits together. Slow: it walks all tables.
pub(super) fn invariants(parts: &Dispatch) {
    let links = &parts.delivery.links;
    let waits = |slot: Slot| links.at(slot.into()).is_paused() && parts.input.waits(slot);
    parts.net.invariants(waits);
    parts.input.invariants();
    parts.moves.invariants(&parts.net);
    links.invariants(&parts.net);
    parts.sockets.invariants();
    parts.stomp.invariants();
    parts.bus.core().invariants();
    connections_have_their_links(parts);
    subscriptions_have_their_groups(parts);
}

fn connections_have_their_links(parts: &Dispatch) {
    let (net, links, stomp) = (&parts.net, &parts.delivery.links, &parts.stomp);
    for slot in net.slots() {
        let link = LinkIndex::from(slot);
        let is_same = match net.state(slot) {
            State::Free | State::Terminated | State::Closing => {
                !links.is_open(link) && !links.is_ending(link)
            }
            State::Open | State::Moving => links.is_open(link),
            // It may have ended meanwhile.
            State::Releasing => !links.is_ending(link),
            State::Draining => links.is_ending(link),
        };
        assert!(is_same, "{slot:?}: link and connection are at the same point");
        let is_sealed = net.transports().is_sealed(slot);
        let is_same = is_sealed || net.sending(slot).is_on() == links.at(link).is_sending();
        assert!(is_same, "{slot:?}: one send, known to both");
        let others = parts.sockets.held(slot) + parts.web.held(slot) + stomp.held(link);
        let kept = parts.input.len(slot) + others + net.transports().held(slot);
        assert_eq!(parts.input.noted(link), kept, "{slot:?}: what it keeps is counted");
        let may_keep = links.is_open(link) || !parts.input.waits(slot);
        assert!(may_keep, "{slot:?}: only who is open keeps input");
        let stage = parts.web.stage(slot);
        let may_ask = links.is_open(link) && !parts.sockets.is_upgraded(slot);
        assert!(stage == Stage::Idle || may_ask, "{slot:?}: who is gone asks for nothing");
        let is_parked = stage == Stage::Parked;
        assert!(!is_parked || links.at(link).is_paused(), "{slot:?}: a parked request waits");
        let has_session = stomp.phase_and_beat(link).is_some();
        let is_stomp = parts.sockets.is_upgraded(slot) && !parts.sockets.is_raw(slot);
        let is_expected = links.is_open(link) && is_stomp;
        assert_eq!(has_session, is_expected, "{slot:?}: who is open has its session");
        assert_eq!(links.has_session(link), parts.sockets.is_upgraded(slot), "{slot:?}: upgraded");
    }
    for (index, session) in stomp.sessions().filter(|(_, session)| !session.is_leaving()) {
        let is_used = match links.slot(session.link) {
            Some(slot) => net.state(slot) != State::Free,
            None => links.is_open(session.link),
        };
        assert!(is_used, "{index:?}: a session has a link in use");
    }
    for link in links.all_standalone() {
        let kept = links.kept(link) + stomp.held(link);
        assert_eq!(parts.input.noted(link), kept, "{link:?}: what it keeps is counted");
        let has_session = stomp.phase_and_beat(link).is_some();
        assert_eq!(has_session, links.is_open(link), "{link:?}: who is open has its session");
    }
    let free = |slot: &Slot| net.state(*slot) == State::Free;
    let slots = (0..parts.ctx.slots).map(Slot).filter(|slot| net.knows(*slot));
    for slot in slots.filter(free) {
        let is_clean = !parts.sockets.is_upgraded(slot) && parts.web.held(slot) == 0;
        let link = links.at(slot.into());
        let is_empty = link.is_empty() && !link.keeps_memory();
        let keeps_nothing = is_clean && is_empty && parts.sockets.held(slot) == 0;
        assert!(keeps_nothing, "{slot:?}: a free slot keeps nothing");
    }
}

fn subscriptions_have_their_groups(parts: &Dispatch) {
    let (mut all, mut beginning, mut members) = (0, 0, 0);
    let index = parts.delivery.fanout.index();
    for (at, session) in parts.stomp.sessions() {
        all += session.subscriptions.len();
        for subscription in &session.subscriptions {
            let has_begun = subscription.state != SubscriptionState::Beginning;
            beginning += usize::from(!has_begun && !subscription.of_user);
            let Some(group) = subscription.group.get() else { continue };
            members += 1;
            let group = index.group(group);
            let (named, known) =
                ((subscription.destination, subscription.id), (group.destination, group.id));
            assert_eq!(named, known, "{at:?}: a group has what it is subscribed to");
            let member = group.members.get(subscription.position as usize);
            assert_eq!(member, Some(&session.link), "{at:?}: it knows its place in the group");
            let encoding = parts.delivery.links.encoding(session.link);
            let own = (encoding, session.version, subscription.acks);
            let known = (group.format.encoding, group.format.version, group.format.acks);
            assert_eq!(own, known, "members of a group see the same bytes");
        }
    }
    assert_eq!(members, index.invariants(), "each member has subscribed");
    assert_eq!(parts.stomp.counted(), (all, beginning), "subscriptions are counted");
}

//! Records of a shard spoiled on purpose, one at a time: `Shard::invariants` has to find each.

use super::conn::{Pause, Proto, State};
use super::session::{Phase, Session, Subscription};
use super::shard::Shard;
use crate::ids::{GroupIndex, SessionIndex, Slot};
use crate::ring::Ring;

/// What is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corruption {
    /// One byte more waits than is queued.
    Waiting,
    /// More of an extent is taken than it has.
    Taken,
    /// A send that is not in flight is being stopped.
    Stopping,
    /// Nobody receives for an open connection.
    Deaf,
    /// What waits is neither in flight nor to be sent.
    Forgotten,
    /// A connection waits for room, and nobody knows.
    Paused,
    /// Input that is kept and not counted.
    Buffered,
    /// A session of another's connection.
    Elsewhere,
    /// A connection without its session.
    Orphan,
    /// A session that leaves and is not told of.
    Leaving,
    /// A session in the list of another user.
    User,
    /// A subscription that has forgotten its group.
    Group,
    /// A subscription at another's place in its group.
    Place,
    /// One subscription too many in the count.
    Count,
    /// A segment that nobody gives back.
    Hold,
    /// A segment that is free before its bytes are sent.
    Free,
}

impl Corruption {
    /// All of them, with a word of the assertion that finds it.
    pub(crate) const ALL: [(Corruption, &str); 16] = [
        (Corruption::Waiting, "waits or is taken"),
        (Corruption::Taken, "lies in the first extent"),
        (Corruption::Stopping, "only a send is stopped"),
        (Corruption::Deaf, "is listened to"),
        (Corruption::Forgotten, "what waits for it is sent"),
        (Corruption::Paused, "is asked again"),
        (Corruption::Buffered, "what it keeps is counted"),
        (Corruption::Elsewhere, "has one connection"),
        (Corruption::Orphan, "who is open has its session"),
        (Corruption::Leaving, "leaves the list"),
        (Corruption::User, "a user has one list"),
        (Corruption::Group, "each member has subscribed"),
        (Corruption::Place, "knows its place"),
        (Corruption::Count, "subscriptions are counted"),
        (Corruption::Hold, "outboxes hold it"),
        (Corruption::Free, "outboxes hold it"),
    ];
}

impl<R: Ring> Shard<R> {
    /// Spoils something. False where there is nothing yet to spoil so.
    pub(crate) fn corrupt(&mut self, corruption: Corruption) -> bool {
        use Corruption::*;
        match corruption {
            Waiting | Taken | Stopping | Deaf | Forgotten | Paused | Buffered => {
                self.corrupt_connection(corruption)
            }
            Elsewhere | Orphan | Leaving | User | Group | Place => self.corrupt_session(corruption),
            Count => {
                self.subscriptions += 1;
                true
            }
            Hold | Free => {
                let Some(segment) = self.segments.oldest() else { return false };
                match corruption {
                    Hold => self.segments.retain(segment),
                    _ => self.segments.release(segment),
                }
                true
            }
        }
    }

    fn corrupt_connection(&mut self, corruption: Corruption) -> bool {
        let wants_sending = matches!(corruption, Corruption::Taken | Corruption::Forgotten);
        let fits = |slot: &Slot| {
            let conn = self.conns.at(*slot);
            let is_at_rest = conn.state == State::Open && conn.pause == Pause::No && !conn.dirty;
            is_at_rest
                && conn.receiving
                && !conn.receive_stopping
                && !conn.send_stopping
                && conn.outbox.is_sending() == wants_sending
        };
        let Some(slot) = self.conns.slots().find(fits) else { return false };
        let conn = self.conns.at_mut(slot);
        match corruption {
            Corruption::Waiting => conn.outbox.waiting += 1,
            Corruption::Taken => {
                let rest = conn.outbox.extents()[0].range.len - conn.outbox.sent;
                conn.outbox.sent += rest;
                conn.outbox.waiting -= rest;
            }
            Corruption::Stopping => conn.send_stopping = true,
            Corruption::Deaf => conn.receiving = false,
            Corruption::Forgotten => conn.outbox.in_flight = 0,
            Corruption::Paused => conn.pause = Pause::Room,
            _ => conn.buffered_noted += 1,
        }
        true
    }

    /// The next frame of each session has this number.
    pub(crate) fn number_frames(&mut self, next: u32) {
        let all: Vec<SessionIndex> = self.sessions.indexed().map(|(index, _)| index).collect();
        for index in all {
            self.sessions.at_mut(index).sequence = next - 1;
        }
    }

    fn corrupt_session(&mut self, corruption: Corruption) -> bool {
        let in_group = |s: &Subscription| s.group != GroupIndex::NONE;
        let fits = |session: &Session| {
            let is_at_rest = session.receipts.count() == 0 && session.partial.len() == 0;
            let has_all = session.user.is_some() && session.subscriptions.iter().any(in_group);
            session.phase == Phase::Live && is_at_rest && session.deferred.is_none() && has_all
        };
        let found = self.sessions.indexed().find(|(_, session)| fits(session));
        let Some((index, Session { slot, user, .. })) = found else { return false };
        let (slot, user) = (*slot, user.clone().expect("one with a user was looked for"));
        let first = self.sessions.first_of(&user).expect("it is in his list");
        let session = self.sessions.at_mut(index);
        let subscription = session.subscriptions.iter_mut().find(|s| in_group(s));
        let subscription = subscription.expect("one in a group was looked for");
        match corruption {
            Corruption::Elsewhere => session.slot = Slot(slot.0 ^ 1),
            Corruption::Orphan => {
                let Proto::Stomp(stomp) = &mut self.conns.at_mut(slot).proto else { return false };
                stomp.session = SessionIndex::NONE;
            }
            Corruption::Leaving => {
                session.subscriptions.iter_mut().for_each(|s| s.group = GroupIndex::NONE);
                session.phase = Phase::Leaving;
            }
            Corruption::User => self.sessions.at_mut(first).user = Some("somebody else".into()),
            Corruption::Group => subscription.group = GroupIndex::NONE,
            _ => subscription.position += 1,
        }
        true
    }
}

//! Sessions spoiled on purpose: the invariants have to find it.

use super::record::{Phase, Session, Subscription};
use super::stomp::Stomp;

use crate::ids::{GroupIndex, LinkIndex, SessionIndex};

/// What is spoiled of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// It says that it is another link's.
    Elsewhere,
    /// Its link does not know it.
    Orphan,
    /// It leaves, and nobody is told.
    Leaving,
    /// It stands in the list of another user.
    User,
    /// One subscription has forgotten its group.
    Group,
    /// One subscription is at another's place in its group.
    Place,
}

impl Stomp {
    /// The next frame of each session has this number.
    pub fn number_frames(&mut self, next: u32) {
        let all: Vec<SessionIndex> = self.sessions.indexed().map(|(index, _)| index).collect();
        for index in all {
            self.sessions.at_mut(index).sequence = next - 1;
        }
    }

    /// One subscription too many is counted.
    pub fn spoil_count(&mut self) {
        self.subscriptions += 1;
    }

    /// Spoils a session with a user and a subscription in a group. False if there is none.
    pub fn spoil(&mut self, spoil: Spoil) -> bool {
        let in_group = |s: &Subscription| s.group != GroupIndex::NONE;
        let fits = |session: &Session| {
            let is_at_rest = session.receipts.count() == 0 && session.partial.len() == 0;
            let has_all = session.user.is_some() && session.subscriptions.iter().any(in_group);
            session.phase == Phase::Live && is_at_rest && session.deferred.is_none() && has_all
        };
        let found = self.sessions.indexed().find(|(_, session)| fits(session));
        let Some((index, Session { link, user, .. })) = found else { return false };
        let (link, user) = (*link, user.clone().expect("one with a user was looked for"));
        let first = self.sessions.first_of(&user).expect("it is in his list");
        let session = self.sessions.at_mut(index);
        let subscription = session.subscriptions.iter_mut().find(|s| in_group(s));
        let subscription = subscription.expect("one in a group was looked for");
        match spoil {
            Spoil::Elsewhere => session.link = LinkIndex(link.0 ^ 1),
            Spoil::Orphan => self.sessions.unlink(link),
            Spoil::Leaving => {
                session.subscriptions.iter_mut().for_each(|s| s.group = GroupIndex::NONE);
                session.phase = Phase::Leaving;
            }
            Spoil::User => self.sessions.at_mut(first).user = Some("somebody else".into()),
            Spoil::Group => subscription.group = GroupIndex::NONE,
            Spoil::Place => subscription.position += 1,
        }
        true
    }
}

//! Records of a shard spoiled on purpose, one at a time: `Shard::invariants` has to find each.

use super::delivery::spoiled;
use super::session::Spoil;
use super::shard::Shard;
use crate::broker::core::Core;
use crate::ids::LinkIndex;
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
    /// More of what is sealed is taken than the kernel was given.
    Sealed,
    /// A connection waits for room, and nobody knows.
    Paused,
    /// Input that is kept and not counted.
    Buffered,
    /// A session that says it is another link's.
    Elsewhere,
    /// A link without its session.
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
    /// A message that a home keeps.
    Kept,
    /// A destination at its home without a subscription.
    Unheard,
    /// A pattern that its home does not find.
    Unfound,
    /// A user's session that his home has forgotten.
    Absent,
    /// A user who is to be announced, and does not stand in the list.
    Unlisted,
    /// A callback that is remembered for ever.
    Remembered,
}

impl Corruption {
    /// All of them, with a word of the assertion that finds it.
    pub(crate) const ALL: [(Corruption, &str); 23] = [
        (Corruption::Waiting, "waits or is taken"),
        (Corruption::Taken, "lies in the first extent"),
        (Corruption::Stopping, "one send, known to both"),
        (Corruption::Deaf, "is listened to"),
        (Corruption::Forgotten, "what waits for it is sent"),
        (Corruption::Sealed, "a flight's send lies in its first extent"),
        (Corruption::Paused, "is asked again"),
        (Corruption::Buffered, "what it keeps is counted"),
        (Corruption::Elsewhere, "has one link"),
        (Corruption::Orphan, "a link has its session"),
        (Corruption::Leaving, "leaves the list"),
        (Corruption::User, "a user has one list"),
        (Corruption::Group, "each member has subscribed"),
        (Corruption::Place, "knows its place"),
        (Corruption::Count, "subscriptions are counted"),
        (Corruption::Hold, "links hold it"),
        (Corruption::Free, "links hold it"),
        (Corruption::Kept, "keeps no message past its turn"),
        (Corruption::Unheard, "a destination has a subscription"),
        (Corruption::Unfound, "is found by how it begins"),
        (Corruption::Absent, "a change of presence is listed"),
        (Corruption::Unlisted, "who is listed stands in the list"),
        (Corruption::Remembered, "is forgotten one day"),
    ];
}

fn corrupt_home(core: &mut Core, corruption: Corruption) -> bool {
    if corruption == Corruption::Kept {
        core.spoil_effects();
        return true;
    }
    let (home, users, dedupe) = core.tables();
    match corruption {
        Corruption::Unheard | Corruption::Unfound => home.spoil(corruption == Corruption::Unfound),
        Corruption::Remembered => dedupe.spoil(),
        _ => users.spoil(corruption == Corruption::Absent),
    }
}

impl<R: Ring> Shard<R> {
    /// Spoils something. False where there is nothing yet to spoil so.
    pub(crate) fn corrupt(&mut self, corruption: Corruption) -> bool {
        use Corruption::*;
        let parts = self.parts();
        match corruption {
            Waiting | Taken | Stopping | Deaf | Forgotten | Sealed | Paused | Buffered => {
                self.corrupt_connection(corruption)
            }
            Elsewhere => parts.stomp.spoil(Spoil::Elsewhere),
            Orphan => parts.stomp.spoil(Spoil::Orphan),
            Leaving => parts.stomp.spoil(Spoil::Leaving),
            User => parts.stomp.spoil(Spoil::User),
            Group => parts.stomp.spoil(Spoil::Group),
            Place => parts.stomp.spoil(Spoil::Place),
            Count => {
                parts.stomp.spoil_count();
                true
            }
            Kept | Unheard | Unfound | Absent | Unlisted | Remembered => {
                corrupt_home(parts.bus.core_mut(), corruption)
            }
            Hold | Free => spoiled::segment(&mut parts.delivery.links, corruption == Hold),
        }
    }

    fn corrupt_connection(&mut self, corruption: Corruption) -> bool {
        use Corruption::{Forgotten, Taken};
        let wants_sealed = corruption == Corruption::Sealed;
        let wants_sending = wants_sealed || matches!(corruption, Taken | Forgotten);
        let parts = self.parts();
        let (net, links) = (&mut parts.net, &mut parts.delivery.links);
        let found = net.slots().find(|&slot| {
            let is_meant = net.transports().is_sealed(slot) == wants_sealed;
            is_meant
                && net.is_at_rest(slot, wants_sending)
                && spoiled::is_at_rest(links, slot.into())
        });
        let Some(slot) = found else { return false };
        let link = LinkIndex::from(slot);
        match corruption {
            Corruption::Waiting => spoiled::waiting(links, link),
            Corruption::Taken => spoiled::taken(links, link),
            Corruption::Stopping => net.spoil_sending(slot),
            Corruption::Deaf => net.spoil_receive(slot),
            Corruption::Sealed => net.transports_mut().spoil(slot),
            Corruption::Forgotten => spoiled::flight(links, link),
            Corruption::Paused => spoiled::pause(links, link),
            _ => parts.input.spoil(slot),
        }
        true
    }

    /// The next frame of each session has this number.
    pub(crate) fn number_frames(&mut self, next: u32) {
        self.parts().stomp.number_frames(next);
    }
}

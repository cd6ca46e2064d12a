#![forbid(unsafe_code)]
//! What holds between the parts of a shard whenever a turn is over. The parts assert what holds
//! within each of them.

use super::conn::{Pause, Proto, State};
use super::session::{Phase, Session, SubscriptionState};
use super::shard::Shard;
use crate::broker::subscription::FrameFormat;
use crate::ids::{SessionIndex, Slot};
use crate::ring::Ring;
use std::collections::BTreeSet;

impl<R: Ring> Shard<R> {
    /// Asserts that everything fits together. Slow: it walks all tables.
    pub fn invariants(&self) {
        self.conns.invariants();
        self.sessions.invariants();
        self.segments.invariants();
        self.connections_have_their_sessions();
        self.subscriptions_have_their_groups();
        self.outboxes_hold_the_segments();
        self.lists_name_who_waits();
    }

    fn connections_have_their_sessions(&self) {
        for slot in self.conns.slots() {
            if let Proto::Stomp(stomp) = &self.conns.at(slot).proto
                && let Some(session) = stomp.session.get()
            {
                assert!(self.sessions.contains(session), "{slot:?}: its session is there");
                assert_eq!(self.sessions.at(session).slot, slot, "a session has one connection");
            }
            let conn = self.conns.at(slot);
            let bytes = conn.buffered() + self.partial(slot) + self.conns.pongs.bytes_of(slot);
            assert_eq!(conn.buffered_noted as usize, bytes, "{slot:?}: what it keeps is counted");
        }
        let noted = self.conns.slots().map(|slot| self.conns.at(slot).buffered_noted as usize);
        assert_eq!(self.buffered, noted.sum::<usize>(), "what all keep is added up");
        let mut leaving: BTreeSet<SessionIndex> = self.leaving.iter().copied().collect();
        assert_eq!(leaving.len(), self.leaving.len(), "a session leaves once");
        for (index, session) in self.sessions.indexed() {
            if session.phase == Phase::Leaving {
                assert!(leaving.remove(&index), "{index:?}: its homes are being told");
                continue;
            }
            let is_its = |stomp: &super::conn::Stomp| stomp.session == index;
            let proto = &self.conns.at(session.slot).proto;
            let has_it = matches!(proto, Proto::Stomp(stomp) if is_its(stomp));
            assert!(has_it, "{index:?}: a session has a connection");
        }
        assert!(leaving.is_empty(), "who leaves is there");
    }

    /// Bytes of a frame that its session keeps.
    fn partial(&self, slot: Slot) -> usize {
        match &self.conns.at(slot).proto {
            Proto::Stomp(stomp) => {
                stomp.session.get().map_or(0, |session| self.sessions.at(session).partial.len())
            }
            _ => 0,
        }
    }

    fn subscriptions_have_their_groups(&self) {
        let (mut all, mut beginning, mut members) = (0, 0, 0);
        for (index, session) in self.sessions.indexed() {
            all += session.subscriptions.len();
            for subscription in &session.subscriptions {
                let has_begun = subscription.state != SubscriptionState::Beginning;
                beginning += usize::from(!has_begun && !subscription.of_user);
                let Some(group) = subscription.group.get() else { continue };
                members += 1;
                let group = self.index.group(group);
                let (named, known) =
                    ((subscription.destination, subscription.id), (group.destination, group.id));
                assert_eq!(named, known, "{index:?}: a group has what it is subscribed to");
                let member = group.members.get(subscription.position as usize);
                assert_eq!(member, Some(&index), "{index:?}: it knows its place in the group");
                self.sees_what_the_group_sees(session, subscription.acks, group.format);
            }
        }
        assert_eq!(members, self.index.invariants(), "each member has subscribed");
        assert_eq!(self.subscriptions as usize, all, "subscriptions are counted");
        assert_eq!(self.beginning as usize, beginning, "those that begin are counted");
    }

    fn sees_what_the_group_sees(&self, session: &Session, acks: bool, format: FrameFormat) {
        let encoding = self.conns.at(session.slot).encoding();
        let own = (encoding, session.version, acks);
        let known = (Some(format.encoding), format.version, format.acks);
        assert_eq!(own, known, "members of a group see the same bytes");
    }

    /// Between two turns nobody else does.
    fn outboxes_hold_the_segments(&self) {
        let mut holds = vec![0; self.segments.count()];
        for slot in self.conns.slots() {
            for extent in self.conns.at(slot).outbox.extents() {
                holds[extent.range.segment as usize] += 1;
            }
        }
        for (segment, holds) in holds.into_iter().enumerate() {
            let known = self.segments.refcount_of(segment as u32);
            assert_eq!(known, holds, "segment {segment}: outboxes hold it");
        }
    }

    fn lists_name_who_waits(&self) {
        let dirty: BTreeSet<Slot> = self.dirty.iter().copied().collect();
        for slot in self.conns.slots() {
            let conn = self.conns.at(slot);
            assert!(!conn.dirty || dirty.contains(&slot), "{slot:?}: it is to be flushed");
            let waits = conn.state == State::Open && conn.pause == Pause::Room;
            let is_listed = || self.waiting.contains(&self.conns.id(slot));
            assert!(!waits || is_listed(), "{slot:?}: who waits for room is asked again");
        }
    }
}

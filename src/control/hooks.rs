//! Which hook calls wait, which run, which are refused. Pure: no clock, no socket.
//!
//! ```text
//!                 no room
//!  has_room ──────────────▶ refused
//!    │ take
//!    ▼
//!  waiting in its session's queue ──next──▶ calling ──done──▶ gone
//!  (the queue is in `ready` while its session has no call running)
//! ```
//!
//! One session has one call at a time, so its calls reach the application in the order sent, and a
//! slow one delays nobody else. Sessions take turns.

use crate::broker::message::Message;
use crate::ids::SessionId;
use crate::mem::shares::Place;
use crate::stomp::{Version, escape::unescape};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// One hook call. It owns its bytes: the shard's message block is returned at once, so that slow
/// hooks do not use up the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The destination as the client sent it.
    pub destination: String,
    /// The client's `content-type`.
    pub content_type: Option<Vec<u8>>,
    /// The client's body.
    pub body: Vec<u8>,
    /// Who sent it.
    pub session: SessionId,
    /// The user, if the session has one.
    pub user: Option<Arc<str>>,
    /// Where its address's share is counted.
    pub place: Place,
}

impl Call {
    /// The call that a message asks for.
    pub fn new(message: &Message, session: SessionId, user: Option<Arc<str>>) -> Call {
        Call {
            destination: message.destination().to_owned(),
            content_type: content_type(message),
            body: message.body().to_owned(),
            session,
            user,
            place: Place::NONE,
        }
    }

    /// The same call, counted there.
    pub fn at(self, place: Place) -> Call {
        Call { place, ..self }
    }
}

/// The sender's `content-type`, as it was before it was written into the message block.
fn content_type(message: &Message) -> Option<Vec<u8>> {
    let mut lines = message.headers().split(|&byte| byte == b'\n');
    let mut value = lines.find_map(|line| line.strip_prefix(b"content-type:"))?.to_vec();
    let len = unescape(&mut value, Version::V1_2).ok()?;
    value.truncate(len);
    Some(value)
}

/// The calls of one session.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Call>,
    calling: bool,
}

/// All calls.
#[derive(Debug, Default)]
pub struct Calls {
    lines: HashMap<SessionId, Line>,
    /// Sessions whose next call may begin.
    ready: VecDeque<SessionId>,
    waiting: usize,
    calling: usize,
}

impl Calls {
    /// Whether one of `queue` places is free for a call of a session. A call that can begin at once
    /// needs no place.
    pub fn has_room(&self, session: SessionId, queue: u32, concurrent: u32) -> bool {
        let line = self.lines.get(&session);
        let own = line.map_or(0, |line| line.waiting.len());
        let at_once = self.calling + self.ready.len() < concurrent as usize && line.is_none();
        let free = (queue as usize).saturating_sub(self.waiting);
        // One session fills at most half of what is free, so that others always find room.
        at_once || free > 0 && (own == 0 || own < free)
    }

    /// Accepts a call. The caller has asked for room.
    pub fn take(&mut self, call: Call) {
        let session = call.session;
        let line = self.lines.entry(session).or_default();
        if line.waiting.is_empty() && !line.calling {
            self.ready.push_back(session);
        }
        line.waiting.push_back(call);
        self.waiting += 1;
    }

    /// The next call to begin, while fewer than `concurrent` run.
    pub fn next(&mut self, concurrent: u32) -> Option<Call> {
        if self.calling >= concurrent as usize {
            return None;
        }
        let session = self.ready.pop_front()?;
        let line = self.lines.get_mut(&session).expect("a ready line exists");
        assert!(!line.calling, "a ready line has no call running");
        let call = line.waiting.pop_front().expect("a ready line is not empty");
        line.calling = true;
        self.waiting -= 1;
        self.calling += 1;
        Some(call)
    }

    /// The call of a session is over.
    pub fn done(&mut self, session: SessionId) {
        let line = self.lines.get_mut(&session).expect("a call that runs has a line");
        assert!(line.calling, "only a call that runs is over");
        line.calling = false;
        self.calling -= 1;
        if line.waiting.is_empty() {
            self.lines.remove(&session);
        } else {
            self.ready.push_back(session);
        }
    }

    /// Calls that wait or run.
    pub fn len(&self) -> usize {
        self.waiting + self.calling
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SessionIndex, ShardId};
    use proptest::prelude::*;

    fn call(session: u32, number: u32) -> Call {
        let mut message = Message::default();
        message.begin(None, "/ws/call");
        message.finish(&number.to_be_bytes());
        Call::new(&message, SessionId::new(ShardId(0), SessionIndex(session), 0), None)
    }

    fn take(calls: &mut Calls, call: Call, queue: u32, concurrent: u32) -> bool {
        let has_room = calls.has_room(call.session, queue, concurrent);
        if has_room {
            calls.take(call);
        }
        has_room
    }

    fn number(call: &Call) -> u32 {
        u32::from_be_bytes(call.body[..].try_into().expect("four bytes"))
    }

    #[test]
    fn a_call_has_the_content_type_as_it_was_sent() {
        let mut message = Message::default();
        message.begin(None, "/ws/call");
        message.header(b"content-type", b"text/x;a=\"b:c\"");
        message.header(b"content-type", b"second");
        message.finish(b"");
        let call =
            Call::new(&message, SessionId::new(ShardId(0), SessionIndex(0), 0), Some("7".into()));
        assert_eq!(call.content_type.as_deref(), Some(&b"text/x;a=\"b:c\""[..]));
    }

    #[test]
    fn the_queue_is_bounded_and_what_begins_at_once_needs_no_place() {
        let mut calls = Calls::default();
        assert!(take(&mut calls, call(0, 0), 1, 2));
        assert!(take(&mut calls, call(1, 1), 1, 2));
        assert!(calls.next(2).is_some() && calls.next(2).is_some() && calls.next(2).is_none());
        assert!(take(&mut calls, call(2, 2), 1, 2));
        assert!(!take(&mut calls, call(3, 3), 1, 2));
        assert_eq!((calls.next(2).is_none(), calls.len()), (true, 3));
        calls.done(SessionId::new(ShardId(0), SessionIndex(0), 0));
        assert_eq!(calls.next(2).map(|call| number(&call)), Some(2));
        assert!(take(&mut calls, call(3, 3), 1, 2));
    }

    #[test]
    fn one_session_alone_fills_half_of_the_queue() {
        let mut calls = Calls::default();
        let accepted = (0..200).filter(|&n| take(&mut calls, call(7, n), 100, 4)).count();
        assert_eq!(accepted, 50);
        assert!(take(&mut calls, call(8, 0), 100, 4));
    }

    #[test]
    fn a_newcomer_with_nothing_waiting_takes_the_last_place() {
        let mut calls = Calls::default();
        for session in 0..3 {
            assert!(take(&mut calls, call(session, 0), 2, 1));
            let _ = calls.next(1);
        }
        assert!(!take(&mut calls, call(3, 0), 2, 1));
    }

    proptest! {
        /// Whatever happens: bounds hold, each session's calls run one by one in their order, and
        /// every accepted call runs exactly once.
        #[test]
        fn every_accepted_call_runs_once_and_in_its_order(
            steps in prop::collection::vec((0u8..3, 0u32..4), 1..200),
            queue in 0u32..8,
            concurrent in 1u32..4,
        ) {
            let mut calls = Calls::default();
            let mut accepted: Vec<Vec<u32>> = vec![Vec::new(); 4];
            let mut ran = accepted.clone();
            let mut running: Vec<u32> = Vec::new();
            let mut count = 0;
            let drain = core::iter::repeat_n((2u8, 0u32), 1000);
            for (step, session) in steps.into_iter().chain(drain) {
                match step {
                    0 => {
                        count += 1;
                        if take(&mut calls, call(session, count), queue, concurrent) {
                            accepted[session as usize].push(count);
                        }
                    }
                    1 => if let Some(call) = calls.next(concurrent) {
                        let session = call.session.index().0;
                        prop_assert!(!running.contains(&session));
                        running.push(session);
                        ran[session as usize].push(number(&call));
                    },
                    _ => {
                        if let Some(session) = running.pop() {
                            calls.done(SessionId::new(ShardId(0), SessionIndex(session), 0));
                        }
                        if let Some(call) = calls.next(concurrent) {
                            running.push(call.session.index().0);
                            ran[call.session.index().0 as usize].push(number(&call));
                        }
                    }
                }
                prop_assert!(running.len() <= concurrent as usize);
                prop_assert!(calls.len() <= (queue + concurrent) as usize);
            }
            prop_assert!(calls.is_empty());
            prop_assert_eq!(accepted, ran);
        }
    }
}

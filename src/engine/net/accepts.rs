#![forbid(unsafe_code)]
//! Which listeners accept: while there are slots, and never into a full table.

use crate::ids::ListenerId;
use crate::ring::Op;
use crate::time::{Instant, Millis};

/// After an accept that failed.
const ACCEPT_PAUSE: Millis = Millis(100);

/// A listener's accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Off,
    On,
    Stopping,
}

/// The accepts of all listeners.
#[derive(Debug)]
pub struct Accepts {
    list: Vec<Accepting>,
    /// Nothing is accepted before.
    after: Instant,
    /// What all listeners were asked for last, if none has stopped by itself since.
    steady: Option<bool>,
}

impl Accepts {
    /// None of the listeners accepts yet.
    pub fn new(listeners: usize, now: Instant) -> Accepts {
        Accepts { list: vec![Accepting::Off; listeners], after: now, steady: None }
    }

    /// Whether [`Accepts::steer`] has nothing to do: asked each turn.
    #[inline]
    pub fn is_steady(&self, is_wanted: bool, now: Instant) -> bool {
        self.steady == Some(is_wanted && now >= self.after)
    }

    /// What is to be done so that all accept, or none.
    pub fn steer(&mut self, is_wanted: bool, now: Instant) -> impl Iterator<Item = Op> {
        let is_wanted = is_wanted && now >= self.after;
        self.steady = Some(is_wanted);
        self.list.iter_mut().enumerate().filter_map(move |(at, state)| {
            let listener = ListenerId(at as u8);
            match (*state, is_wanted) {
                (Accepting::Off, true) => {
                    *state = Accepting::On;
                    Some(Op::Accept { listener })
                }
                (Accepting::On, false) => {
                    *state = Accepting::Stopping;
                    Some(Op::AcceptStop { listener })
                }
                _ => None,
            }
        })
    }

    /// The accept of a listener has ended.
    pub fn ended(&mut self, listener: ListenerId) {
        self.list[usize::from(listener.0)] = Accepting::Off;
        self.steady = None;
    }

    /// An accept has failed. Whatever it was is not over in the next turn.
    pub fn pause(&mut self, now: Instant) {
        self.after = now + ACCEPT_PAUSE;
    }

    /// When they may accept again, if they pause.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        (self.after > now).then_some(self.after)
    }

    /// Whether none accepts.
    pub fn are_off(&self) -> bool {
        self.list.iter().all(|accepting| *accepting == Accepting::Off)
    }
}

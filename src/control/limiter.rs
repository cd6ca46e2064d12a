//! Which lines of the log are written when many are alike, so that bad input cannot fill the log:
//! one a second for each cause and place, which says how many were left out. Pure: no clock.
//!
//! Drive it: [`Limiter::admit`] for each line. When [`Limiter::next_due`] has come, take all that
//! [`Limiter::due`] gives: what was left out after the last line that was written.
//!
//! Bound: [`LOG_PLACES`] causes and places are told apart; those beyond share one place for each
//! cause.

use crate::limits::LOG_PLACES;
use hashbrown::HashMap;
use std::hash::RandomState;
use std::time::{Duration, Instant};

/// How often a line of one cause and place is written.
const EVERY: Duration = Duration::from_millis(crate::limits::LOG_EVENT_EVERY.0 as u64);
/// Bytes of a place that are compared.
const PLACE_MAX: usize = 128;

/// A cause (the line's text, which no client chooses) and a place (which one may choose).
type Key = (&'static str, Box<str>);

/// Lines that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Their text.
    pub cause: &'static str,
    /// Where they came from; empty where many places share one.
    pub place: Box<str>,
    /// How many.
    pub count: u64,
}

/// What was written recently.
#[derive(Debug, Default)]
pub struct Limiter {
    /// When the last line was written, and how many were left out since. The hasher is random:
    /// clients may choose places.
    written: HashMap<Key, (Instant, u64), RandomState>,
}

impl Limiter {
    /// Asks about a line at `now`. `Some`: it is to be written, and this many like it were left out
    /// since the last one.
    pub fn admit(&mut self, cause: &'static str, place: &str, now: Instant) -> Option<u64> {
        let place = &place[..place.floor_char_boundary(PLACE_MAX)];
        let mut key: Key = (cause, place.into());
        if !self.written.contains_key(&key) && self.written.len() >= LOG_PLACES {
            key.1 = "".into();
        }
        let (last, left_out) = match self.written.entry(key) {
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                vacant.insert((now, 0));
                return Some(0);
            }
            hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        };
        if now.duration_since(*last) < EVERY {
            *left_out += 1;
            return None;
        }
        *last = now;
        Some(core::mem::take(left_out))
    }

    /// When to call [`Limiter::due`], if ever.
    pub fn next_due(&self) -> Option<Instant> {
        self.written.values().map(|(last, _)| *last + EVERY).min()
    }

    /// What was left out in seconds that are over. Places that are quiet are forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<LeftOut> {
        let is_over = |last: Instant| now.duration_since(last) >= EVERY;
        self.written.retain(|_, (last, left_out)| *left_out > 0 || !is_over(*last));
        let over = self.written.iter_mut().filter(|(_, (last, _))| is_over(*last));
        over.map(|((cause, place), (last, left_out))| {
            *last = now;
            LeftOut { cause, place: place.clone(), count: core::mem::take(left_out) }
        })
        .collect()
    }

    /// Everything that was left out and not reported yet.
    pub fn rest(&mut self) -> Vec<LeftOut> {
        let written = self.written.drain().filter(|(_, (_, left_out))| *left_out > 0);
        written.map(|((cause, place), (_, count))| LeftOut { cause, place, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: &str = "a hook call failed";

    fn left(place: &str, count: u64) -> LeftOut {
        LeftOut { cause: CAUSE, place: place.into(), count }
    }

    #[test]
    fn one_line_a_second_says_how_many_were_left_out() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(limiter.next_due(), None);
        assert_eq!(limiter.admit(CAUSE, "/call", at(0)), Some(0));
        for millis in 1..1000 {
            assert_eq!(limiter.admit(CAUSE, "/call", at(millis)), None);
        }
        // Another place and another cause have lines of their own.
        assert_eq!(limiter.admit(CAUSE, "/other", at(500)), Some(0));
        assert_eq!(limiter.admit("another cause", "/call", at(500)), Some(0));
        assert_eq!(limiter.admit(CAUSE, "/call", at(1000)), Some(999));
        // What no line follows is reported when its second is over.
        assert_eq!(limiter.admit(CAUSE, "/call", at(1001)), None);
        assert_eq!(limiter.next_due(), Some(at(1500)));
        assert_eq!(limiter.due(at(1500)), []);
        assert_eq!(limiter.next_due(), Some(at(2000)));
        assert_eq!(limiter.due(at(2000)), [left("/call", 1)]);
        assert_eq!(limiter.admit(CAUSE, "/call", at(2999)), None, "that was a line, too");
        assert_eq!(limiter.rest(), [left("/call", 1)]);
        assert_eq!((limiter.next_due(), limiter.rest()), (None, vec![]));
    }

    #[test]
    fn places_beyond_the_bound_share_one() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        let long = "坐".repeat(100);
        for place in 0..LOG_PLACES as u64 {
            assert_eq!(limiter.admit(CAUSE, &format!("{place}{long}"), now), Some(0));
        }
        assert_eq!(limiter.admit(CAUSE, "one more", now), Some(0));
        for place in 0..1000 {
            assert_eq!(limiter.admit(CAUSE, &format!("more {place}"), now), None);
        }
        assert_eq!(limiter.written.len(), LOG_PLACES + 1);
        assert!(limiter.written.keys().all(|(_, place)| place.len() <= PLACE_MAX));
        assert_eq!(limiter.due(now + EVERY), [left("", 1000)]);
        assert_eq!(limiter.admit(CAUSE, "one more", now + EVERY), Some(0), "there is room again");
    }
}

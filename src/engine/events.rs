#![forbid(unsafe_code)]
//! What a shard tells the log: small typed values, which the control thread makes lines of
//! (`control::events`). A client that sends bad input must keep neither that thread nor the disk
//! busy, so events are few: of each cause, endpoint and address block the first at once, then one a
//! second, with how many there were.
//!
//! Drive it: [`Events::add`] whenever something happens; at the end of a turn, when
//! [`Events::due`] has come, [`Events::take`] until it gives none. Nothing that was added is lost:
//! it is counted until it has been taken.
//!
//! Bounds: [`LOG_EVENT_KEYS`] causes, endpoints and address blocks are told apart; what happens
//! beyond is counted together, as [`Cause::Others`]. [`LOG_EVENTS_A_SECOND`] are taken in a second;
//! the others wait. [`LOG_EVENT_TEXT`] bytes of a text; the rest is cut.

use crate::ids::EndpointIndex;
use crate::limits::{LOG_EVENT_EVERY, LOG_EVENT_KEYS, LOG_EVENT_TEXT, LOG_EVENTS_A_SECOND};
use crate::metrics::Refusal;
use crate::time::Instant;
use core::cell::RefCell;
use core::net::IpAddr;
use std::sync::Arc;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something was refused.
    Refused(Refusal),
    /// A client was closed because it read too slowly.
    SlowConsumer,
    /// Things of several kinds, for which there was no room of their own.
    Others,
}

/// Where it has happened. The control thread says its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Nowhere that has a path in the configuration.
    None,
    /// At a callback, by its number in the configuration.
    Callback(u16),
    /// At an endpoint.
    Endpoint(EndpointIndex),
}

/// What tells events apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// What has happened.
    pub cause: Cause,
    /// Where.
    pub site: Site,
    /// Whom it came from ([`crate::ids::address_block`]), if from somebody.
    pub block: Option<IpAddr>,
}

/// Something that has happened so often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What, where and from whom.
    pub key: Key,
    /// How often, since the last event of this key.
    pub count: u32,
    /// What there is to say of the first of them. Never a token, a body or a query string.
    pub text: Option<Arc<str>>,
}

/// A key that is told apart.
#[derive(Debug)]
struct Row {
    key: Key,
    /// Not taken yet.
    count: u32,
    text: Option<Arc<str>>,
    /// Until then no more is taken.
    quiet_until: Instant,
}

impl Row {
    fn new(key: Key) -> Row {
        Row { key, count: 0, text: None, quiet_until: Instant(0) }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        now < self.quiet_until
    }
}

#[derive(Debug)]
struct Table {
    /// The first is that of [`Cause::Others`].
    rows: Vec<Row>,
    /// Where the next one to be taken is looked for, so that all have their turn.
    next: usize,
    /// Something may be taken then.
    due: Instant,
    /// The second that began last, and how many were taken in it.
    second: Instant,
    taken: u32,
}

/// Nothing waits.
const NEVER: Instant = Instant(u64::MAX);

/// What a shard has to tell the log. One thread's own: what only reads the shard may add, too.
#[derive(Debug)]
pub struct Events(RefCell<Table>);

impl Default for Events {
    fn default() -> Events {
        // All that it will ever need: bad input must not make a shard allocate.
        let mut rows = Vec::with_capacity(1 + LOG_EVENT_KEYS);
        rows.push(Row::new(Key { cause: Cause::Others, site: Site::None, block: None }));
        let second = Instant(0);
        Events(RefCell::new(Table { rows, next: 0, due: NEVER, second, taken: 0 }))
    }
}

impl Events {
    /// It has happened at `now`. Allocates for a text that is to be taken, and else nothing. False
    /// if there was no room for this key, so that it counts among others.
    pub fn add(&self, now: Instant, key: Key, text: Option<&str>) -> bool {
        let mut table = self.0.borrow_mut();
        let at = table.place(now, key);
        let row = &mut table.rows[at];
        if row.count == 0 && at > 0 {
            let cut = |text: &str| Arc::from(&text[..text.floor_char_boundary(LOG_EVENT_TEXT)]);
            row.text = text.map(cut);
        }
        row.count = row.count.saturating_add(1);
        let due = row.quiet_until.max(now);
        table.due = table.due.min(due);
        at > 0
    }

    /// When [`Events::take`] may give something; far away when nothing waits.
    #[inline]
    pub fn due(&self) -> Instant {
        self.0.borrow().due
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().rows.iter().all(|row| row.count == 0)
    }

    /// There is no room for events: they are taken at `then`.
    pub fn put_off(&mut self, then: Instant) {
        self.0.get_mut().due = then;
    }

    /// The next event, if one is due; where the shard ends (`is_last`) all are.
    pub fn take(&mut self, now: Instant, is_last: bool) -> Option<Event> {
        let table = self.0.get_mut();
        if now >= table.second + LOG_EVENT_EVERY {
            (table.second, table.taken) = (now, 0);
        }
        if table.taken >= LOG_EVENTS_A_SECOND && !is_last {
            table.due = table.second + LOG_EVENT_EVERY;
            return None;
        }
        let count = table.rows.len();
        let is_due = |row: &Row| row.count > 0 && (is_last || !row.is_quiet(now));
        let mut all = (table.next..table.next + count).map(|at| at % count);
        let Some(at) = all.find(|at| is_due(&table.rows[*at])) else {
            let waiting = table.rows.iter().filter(|row| row.count > 0);
            table.due = waiting.map(|row| row.quiet_until).min().unwrap_or(NEVER);
            return None;
        };
        table.next = at + 1;
        table.taken += 1;
        let row = &mut table.rows[at];
        row.quiet_until = now + LOG_EVENT_EVERY;
        let count = core::mem::take(&mut row.count);
        Some(Event { key: row.key, count, text: row.text.take() })
    }
}

impl Table {
    /// The row of a key: its own, that of a key which is forgotten, or that of all others.
    fn place(&mut self, now: Instant, key: Key) -> usize {
        if let Some(at) = self.rows.iter().position(|row| row.key == key) {
            return at;
        }
        if self.rows.len() <= LOG_EVENT_KEYS {
            self.rows.push(Row::new(key));
            return self.rows.len() - 1;
        }
        let forgotten = |row: &Row| row.count == 0 && !row.is_quiet(now);
        match self.rows[1..].iter().position(forgotten) {
            Some(at) => {
                self.rows[1 + at] = Row::new(key);
                1 + at
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    const HOST: Key =
        Key { cause: Cause::Refused(Refusal::HttpHost), site: Site::None, block: None };

    fn from(number: u32) -> Key {
        Key { block: Some(IpAddr::from(number.to_be_bytes())), ..HOST }
    }

    fn at(millis: u32) -> Instant {
        Instant(5_000_000_000) + Millis(millis)
    }

    /// All that is due at a moment: the last byte of whose address, and how often.
    fn taken(events: &mut Events, now: Instant) -> Vec<(Option<IpAddr>, u32)> {
        let mut all = Vec::new();
        while let Some(event) = events.take(now, false) {
            all.push((event.key.block, event.count));
        }
        all
    }

    #[test]
    fn the_first_at_once_then_one_a_second_with_how_many_there_were() {
        let mut events = Events::default();
        assert!(events.due() > at(1_000_000) && events.is_empty());
        let site = Key { site: Site::Endpoint(EndpointIndex(0)), ..HOST };
        for millis in 0..1_500 {
            assert!(events.add(at(millis), HOST, None));
            let expected = match millis {
                0 => vec![(None, 1)],
                1_000 => vec![(None, 1_000)],
                _ => vec![],
            };
            assert_eq!(taken(&mut events, at(millis)), expected, "{millis}");
        }
        // Another endpoint, and another cause, have events of their own.
        events.add(at(1_500), site, None);
        events.add(at(1_500), Key { cause: Cause::SlowConsumer, ..HOST }, None);
        assert_eq!(events.due(), at(1_500));
        assert_eq!(taken(&mut events, at(1_500)), [(None, 1), (None, 1)]);
        // What nobody follows is told when its second is over.
        assert_eq!((events.due(), events.is_empty()), (at(2_000), false));
        assert_eq!(taken(&mut events, at(2_000)), [(None, 499)]);
        assert!(events.due() > at(1_000_000) && events.is_empty());
    }

    #[test]
    fn keys_beyond_the_bound_are_counted_together_until_others_are_quiet() {
        let mut events = Events::default();
        let (keys, more) = (LOG_EVENT_KEYS as u32, 1_000);
        for number in 0..keys + more {
            assert_eq!(events.add(at(0), from(number), None), number < keys);
        }
        let mut seen = 0;
        let mut lines = 0;
        let mut now = 0;
        while !events.is_empty() {
            let all = taken(&mut events, at(now));
            assert!(all.len() <= LOG_EVENTS_A_SECOND as usize, "{all:?}");
            lines += all.len();
            seen += all.iter().map(|(_, count)| count).sum::<u32>();
            now += LOG_EVENT_EVERY.0;
        }
        assert_eq!((seen, lines), (keys + more, LOG_EVENT_KEYS + 1));
        assert!(events.add(at(now), from(keys), None), "there is room again");
        assert_eq!(events.0.borrow().rows.capacity(), 1 + LOG_EVENT_KEYS);
    }

    #[test]
    fn the_text_is_that_of_the_first_and_what_ends_takes_all() {
        let mut events = Events::default();
        let long = "坐".repeat(LOG_EVENT_TEXT);
        events.add(at(0), HOST, Some("one"));
        events.add(at(0), HOST, Some("other"));
        let event = events.take(at(0), false).expect("it is due");
        assert_eq!((event.count, event.text.as_deref()), (2, Some("one")));
        events.add(at(1), HOST, Some(&long));
        events.put_off(at(7));
        assert_eq!((events.due(), events.take(at(7), false)), (at(7), None));
        assert_eq!(events.due(), at(1_000));
        let event = events.take(at(7), true).expect("it is the end");
        let text = event.text.expect("it has one");
        assert!(text.len() <= LOG_EVENT_TEXT && text.len() > LOG_EVENT_TEXT - 4);
        assert!(events.is_empty());
    }
}

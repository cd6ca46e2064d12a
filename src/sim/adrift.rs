//! Connections that one ring has released and no ring has adopted yet: numbers of the fake kernel.

use super::counts::{Counts, Event};
use super::random::Random;
use super::socket::{Socket, SocketId};
use crate::ring::{Descriptor, Numbers};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the owner of a number does to it.
#[derive(Debug)]
enum Act {
    Close(i32),
    Send(i32, Vec<u8>),
}

/// Where owners leave word for the fake kernel. They may be on any thread, as owners of real ones.
#[derive(Debug, Default)]
struct Acts(Mutex<Vec<Act>>);

impl Acts {
    fn add(&self, act: Act) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(act);
    }

    fn take(&self) -> Vec<Act> {
        core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Numbers for Acts {
    fn close(&self, number: i32) {
        self.add(Act::Close(number));
    }

    fn send(&self, number: i32, bytes: &[u8]) {
        self.add(Act::Send(number, bytes.to_vec()));
    }
}

/// All numbers.
#[derive(Debug, Default)]
pub(super) struct Adrift {
    sockets: BTreeMap<i32, (SocketId, Instant)>,
    next: i32,
    acts: Arc<Acts>,
}

impl Adrift {
    /// A number for a connection that leaves a table.
    pub(super) fn number(&mut self, id: SocketId, now: Instant) -> i32 {
        self.next += 1;
        self.sockets.insert(self.next, (id, now));
        self.next
    }

    /// The owner of a number.
    pub(super) fn own(&self, number: i32) -> Descriptor {
        assert!(
            self.sockets.contains_key(&number),
            "{number}: only what was released has an owner"
        );
        Descriptor::other(number, self.acts.clone())
    }

    /// The connection of a number.
    pub(super) fn socket(&self, number: i32) -> SocketId {
        self.sockets.get(&number).expect("its owner keeps the number until it is adopted").0
    }

    /// Whether a connection has a number.
    pub(super) fn has(&self, id: SocketId) -> bool {
        self.sockets.values().any(|(of, _)| *of == id)
    }

    /// A connection that was released before this time and still has its number.
    pub(super) fn released_before(&self, time: Instant) -> Option<SocketId> {
        self.sockets.values().find(|(_, at)| *at < time).map(|(id, _)| *id)
    }

    /// Does what owners want.
    pub(super) fn settle(
        &mut self,
        sockets: &mut [Socket],
        random: &mut Random,
        counts: &mut Counts,
    ) {
        for act in self.acts.take() {
            match act {
                Act::Send(number, bytes) => {
                    counts.note(Event::MoveRefused);
                    let socket = &mut sockets[self.socket(number).0];
                    let room = socket.room().min(bytes.len());
                    if !socket.broken {
                        socket.take(&bytes[..room]);
                    }
                }
                Act::Close(number) => {
                    let (id, _) = self.sockets.remove(&number).expect("a number is closed once");
                    let socket = &mut sockets[id.0];
                    if socket.slot.is_none() {
                        counts.note(Event::MoveThrownAway);
                        socket.close(random, counts);
                    }
                }
            }
        }
    }
}

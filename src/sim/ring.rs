//! The ring on the fake kernel.

use super::world::{Clock, World};
use crate::ring::{Descriptor, Done, Op, Ring, Wait};
use crate::time::Instant;
use std::cell::RefCell;
use std::rc::Rc;

/// One ring of a [`World`]. `enter` never waits: the simulation enters a ring only when its wait
/// would be over ([`World::is_ready`]).
#[derive(Debug)]
pub struct SimRing {
    world: Rc<RefCell<World>>,
    number: usize,
    clock: Clock,
    waited_from: Instant,
}

impl SimRing {
    /// The ring with this number, which [`World::add_ring`] gave.
    pub fn new(world: Rc<RefCell<World>>, number: usize) -> SimRing {
        let now = world.borrow().now();
        SimRing { world, number, clock: Clock { now, wall_millis: 0 }, waited_from: now }
    }
}

impl Ring for SimRing {
    fn push(&mut self, op: Op) {
        self.world.borrow_mut().push(self.number, op);
    }

    fn enter(&mut self, wait: Wait) {
        let before = self.clock.now;
        self.clock = self.world.borrow_mut().enter(self.number, wait);
        // Nothing takes time here but waits.
        self.waited_from = if wait == Wait::No { self.clock.now } else { before };
    }

    fn pop(&mut self) -> Option<Done> {
        self.world.borrow_mut().pop(self.number)
    }

    fn can_move(&self) -> bool {
        true
    }

    fn own(&mut self, number: i32) -> Descriptor {
        self.world.borrow().own(number)
    }

    fn now(&self) -> Instant {
        self.clock.now
    }

    fn waited_from(&self) -> Instant {
        self.waited_from
    }

    fn wall_millis(&self) -> u64 {
        self.clock.wall_millis
    }
}

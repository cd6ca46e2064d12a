//! The ring on the fake kernel.

use super::world::{Clock, World};
use crate::ring::{Done, Op, Ring, Wait};
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
}

impl SimRing {
    /// The ring with this number, which [`World::add_ring`] gave.
    pub fn new(world: Rc<RefCell<World>>, number: usize) -> SimRing {
        let now = world.borrow().now();
        SimRing { world, number, clock: Clock { now, wall_millis: 0 } }
    }
}

impl Ring for SimRing {
    fn push(&mut self, op: Op) {
        self.world.borrow_mut().push(self.number, op);
    }

    fn enter(&mut self, wait: Wait) {
        self.clock = self.world.borrow_mut().enter(self.number, wait);
    }

    fn pop(&mut self) -> Option<Done> {
        self.world.borrow_mut().pop(self.number)
    }

    fn now(&self) -> Instant {
        self.clock.now
    }

    fn wall_millis(&self) -> u64 {
        self.clock.wall_millis
    }
}

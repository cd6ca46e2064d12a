//! Sessions over HTTP as their owner sees them: what clients of `over_http` ask for is done at the
//! engine between two turns of a shard, and nobody comes for ever for what waits.
//!
//! Requests that reach the engine by themselves can take the place of this: what a client asks
//! for, `serve` does.

use super::counts::Event;
use super::mutation::Mutation;
use super::over_http::{Stage, Way};
use super::run::{Simulation, Sleep};
use super::scene::Phase;
use super::sessions::{Owner, Session};
use super::socket::SocketId;
use crate::engine::standalone;
use crate::ids::{EndpointIndex, LinkIndex, ShardId, Slot};
use crate::time::Instant;
use std::sync::Arc;

/// Messages that may wait for a session that nobody receives.
const QUEUE: u64 = 12;

/// Nanoseconds in which an owner gives up a session whose client does not come again, at most.
const PATIENCE: u64 = 3_000_000_000;

/// The owner looks after its sessions once in this many steps.
const OFTEN: u64 = 32;

/// What is to be done with a session after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stays,
    /// The engine does not have it any more, or will not.
    Gone,
}

impl Owner for Simulation {
    fn look_after(&mut self) {
        // A step of a phase in which nobody comes may be a second long.
        let is_main = self.plan.phase == Phase::Main;
        if self.sessions.list.is_empty() || is_main && !self.steps.is_multiple_of(OFTEN) {
            return;
        }
        let mut world = self.world.borrow_mut();
        let now = world.now();
        for session in &mut self.sessions.list {
            let client = &self.clients[session.client];
            if !client.over && !client.vanished {
                session.abandoned = None;
                continue;
            }
            let due = match session.abandoned {
                _ if !is_main => now,
                Some(due) => due,
                None => Instant(now.0 + world.random.below(PATIENCE)),
            };
            session.abandoned = Some(due);
            let is_over = self.sleeps[session.shard] == Sleep::Over;
            self.sessions.asked[session.shard] |= now >= due && !is_over;
        }
    }

    fn bring(&mut self, client: usize) {
        let wire = &self.clients[client].wire;
        let Some(over) = wire.over_http() else { return };
        self.sessions.ask(over);
        let mut world = self.world.borrow_mut();
        let Some((at, slot)) = world.place(wire.socket) else { return };
        let may = self.sleeps[at] != Sleep::Over && world.now() >= self.stalled[at];
        let wants = matches!(over.stage, Stage::Wants(_)) && at != over.ring;
        if may && wants && world.random.chance(500) {
            self.sessions.asked[at] = true;
            self.shards[at].move_one(slot, ShardId(over.ring as u8));
        }
    }

    fn serve(&mut self, at: usize) {
        let mut list = core::mem::take(&mut self.sessions.list);
        list.retain_mut(|session| {
            session.shard != at || is_known(self, session) || is_gone(self, session)
        });
        list.retain_mut(|session| {
            session.shard != at || attend(self, session) == Next::Stays || is_gone(self, session)
        });
        self.sessions.list = list;
    }

    fn end_sessions(&mut self) {
        for session in core::mem::take(&mut self.sessions.list) {
            is_gone(self, &session);
        }
    }
}

/// Its client learns that the server does not have the session. Never true.
fn is_gone(run: &mut Simulation, session: &Session) -> bool {
    let client = &mut run.clients[session.client];
    if let Some(over) = client.wire.over_http_mut() {
        over.is_gone = true;
    }
    client.wake(&run.world.borrow());
    false
}

/// Whether the engine still has a session, or has yet to open it.
fn is_known(run: &mut Simulation, session: &Session) -> bool {
    let parts = run.shards[session.shard].parts();
    session.link.is_none_or(|link| standalone::is_in_use(parts, link))
}

/// Does what its client asks for.
fn attend(run: &mut Simulation, session: &mut Session) -> Next {
    let Some(link) = session.link else { return open(run, session) };
    if !is_known(run, session) {
        return Next::Gone;
    }
    let world = run.world.clone();
    let mut world = world.borrow_mut();
    let shard = &mut run.shards[session.shard];
    let is_due = session.abandoned.is_some_and(|due| world.now() >= due);
    let is_last = run.sessions.drains && standalone::receiver(shard.parts(), link).is_none();
    if is_due || is_last {
        let event = if is_due { Event::Abandoned } else { Event::EndedAtDrain };
        world.counts.note(event);
        world.tell(|| format!("the session of client {} is given up", session.client));
        run.sessions.asked[session.shard] = run.sleeps[session.shard] != Sleep::Over;
        standalone::cut(shard.parts(), link);
        return Next::Gone;
    }
    if run.bug.mutation == Some(Mutation::Pinned)
        && run.history.actions >= 50
        && standalone::pin(shard.parts(), link)
    {
        run.bug.mutation = None;
    }
    let Some(over) = run.clients[session.client].wire.over_http_mut() else {
        return Next::Stays;
    };
    while !over.said.is_empty() && standalone::may_feed(shard.parts(), link) {
        let mut bytes = over.said.pop_front().expect("it is not empty");
        standalone::feed(shard.parts(), link, &mut bytes);
        run.sessions.asked[session.shard] = true;
    }
    if !standalone::is_open(shard.parts(), link) {
        // Nobody reads what its client says now.
        over.said.clear();
    }
    let Stage::Wants(way) = over.stage else { return Next::Stays };
    drop(world);
    attach(run, session, link, way);
    Next::Stays
}

fn open(run: &mut Simulation, session: &mut Session) -> Next {
    let client = &mut run.clients[session.client];
    let Some((user, over)) = client.over_http() else { return Next::Gone };
    let mut world = run.world.borrow_mut();
    let parts = run.shards[session.shard].parts();
    let user = user.map(|user| Arc::from(format!("u{user}")));
    let known = standalone::Client::new(over.peer().ip(), EndpointIndex(0), standalone::now(parts));
    let queue = world.random.between(2, QUEUE) as u32;
    session.link = standalone::open(parts, (over.own, queue), known, user);
    run.sessions.asked[session.shard] = true;
    if session.link.is_none() {
        return Next::Gone;
    }
    world.tell(|| format!("client {} has session {:?}", session.client, session.link));
    Next::Stays
}

/// The client's connection receives, if it is there and may.
fn attach(run: &mut Simulation, session: &mut Session, link: LinkIndex, way: Way) {
    let mut world = run.world.borrow_mut();
    let wire = &mut run.clients[session.client].wire;
    let socket = wire.socket;
    let shard = &mut run.shards[session.shard];
    let Some(slot) = place(&world, session.shard, socket) else { return };
    if !standalone::may_attach(shard.parts(), link, slot) {
        return;
    }
    let is_change = session.last.replace(socket).is_some_and(|last| last != socket);
    if is_change {
        world.counts.note(Event::ReceiverChanged);
        let lost = run.bug.mutation == Some(Mutation::UnitLost);
        let twice = run.bug.mutation == Some(Mutation::UnitTwice);
        if (lost || twice) && standalone::spoil_unit(shard.parts(), link, twice) {
            run.bug.mutation = None;
        }
    }
    let waited = standalone::kept(shard.parts(), link) > 0;
    world.counts.add(Event::WaitedForReceiver, waited.into());
    world.tell(|| format!("client {} receives by {socket:?}: {way:?}", session.client));
    let answer = way.answer(&mut world.random);
    standalone::attach(shard.parts(), link, slot, answer);
    let over = wire.over_http_mut().expect("it was there");
    over.stage = Stage::Receives(way, 0);
    over.tries = 0;
    over.next_at = super::scene::NEVER;
    run.sessions.asked[session.shard] = true;
}

/// The slot of a connection, if it is in the table of this shard.
fn place(world: &super::world::World, shard: usize, socket: SocketId) -> Option<Slot> {
    world.place(socket).filter(|(ring, _)| *ring == shard).map(|(_, slot)| slot)
}

#![forbid(unsafe_code)]
//! How much is done for whom in a turn, in frames: so that nobody waits for one who sends much.

use super::context::Context;

/// When a turn has no time left a client still has this part of one.
const GOES: u32 = 32;

/// What all clients together may still have done in this turn, and the one that is being read.
#[derive(Debug, Default)]
pub struct Share {
    turn: u32,
    client: u32,
    /// What the client that is being read had when it began.
    begun: u32,
}

impl Share {
    /// A turn begins: half of what it may do is for what comes anew.
    pub fn begin_turn(&mut self, ctx: &Context) {
        self.turn = ctx.limits.turn_frames / 2;
    }

    /// What is new has been read: the other half is for clients that waited.
    pub fn add_rest(&mut self, ctx: &Context) {
        self.turn += ctx.limits.turn_frames.div_ceil(2);
    }

    /// Whether nothing of the turn is left.
    pub fn is_turn_over(&self) -> bool {
        self.turn == 0
    }

    /// The turn has done the work of `frames`.
    pub fn spend_turn(&mut self, frames: u32) {
        self.turn = self.turn.saturating_sub(frames);
    }

    /// Nothing more is done in this turn, and the next one follows at once.
    pub fn end_turn(&mut self) {
        self.turn = 0;
    }

    /// One of `clients` that want to be read is: it may have an equal part of the turn done now,
    /// and a few frames in any case.
    pub fn begin(&mut self, ctx: &Context, clients: u32) {
        self.begun = (self.turn / clients).max((ctx.limits.turn_frames / GOES).max(1));
        self.client = self.begun;
    }

    /// It has been given the work of `frames`.
    pub fn spend(&mut self, frames: u32) {
        self.client = self.client.saturating_sub(frames);
    }

    /// Whether it has had its turn, so that others are to have theirs. A message of 250 bytes may
    /// be compressed from ten thousand frames.
    pub fn is_over(&self) -> bool {
        self.client == 0
    }

    /// It is not read any more.
    pub fn end(&mut self) {
        self.spend_turn(self.begun - self.client);
        (self.begun, self.client) = (0, 0);
    }
}

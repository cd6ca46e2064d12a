//! A broken rule, and what was observed.

use core::fmt;

/// The rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// A message is missing.
    Lost,
    /// A message arrived more than once.
    Twice,
    /// Two receivers, or a sender and a receiver, differ about an order.
    Order,
    /// ON_LINE and OFF_LINE do not alternate.
    Presence,
    /// Something is left when all clients are gone.
    Leak,
    /// A bound was exceeded.
    Limit,
    /// Something takes for ever.
    Progress,
    /// A client received a message that was not for it.
    Isolation,
    /// A session that the operator has ended is still open.
    Kick,
    /// A refusal that nobody has provoked, or a missing one.
    Refusal,
    /// Bytes that no correct server sends.
    Protocol,
    /// No rule: the run has reached the operation at which it was to stop.
    Until,
    /// A failed assertion of the engine, or of the fake kernel about the engine.
    Panic,
}

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub oracle: Oracle,
    /// What was observed.
    pub text: String,
}

impl Violation {
    pub(super) fn new(oracle: Oracle, text: String) -> Violation {
        Violation { oracle, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.oracle, self.text)
    }
}

impl core::error::Error for Violation {}

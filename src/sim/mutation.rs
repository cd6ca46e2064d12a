//! Bugs added on purpose, outside the product's code but for those in links over HTTP: each has to
//! be found by its oracle.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A delivery between two shards is dropped.
    Lost,
    /// A delivery between two shards is doubled.
    Twice,
    /// Two deliveries between two shards change places.
    Order,
    /// A change of presence is announced twice.
    Presence,
    /// A receive buffer that was given back is not lent again.
    Leak,
    /// Sixteen times as much as `send-buffer` may wait for a client.
    Limit,
    /// A doorbell wakes nobody.
    Wake,
    /// A message for one user is delivered to another one.
    Isolation,
    /// A repeated callback is taken for a new one.
    Callback,
    /// Messages are dropped for slow readers that may not be.
    Policy,
    /// A delivery is dropped, of a destination whose messages slow readers may miss.
    Uncounted,
    /// An effect of a home is dropped: what says that a subscription has begun or ended.
    Effect,
    /// A command overtakes the one before it in its class.
    Overtaken,
    /// The rest of a cancelled send never goes out.
    Unsent,
    /// A connection in flight to another shard is dropped without being closed.
    Forgotten,
    /// A unit is lost when a link changes its connection.
    UnitLost,
    /// A unit comes twice when a link changes its connection.
    UnitTwice,
    /// A link that nobody receives pins the log.
    Pinned,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 18] = [
        Mutation::Lost,
        Mutation::Twice,
        Mutation::Order,
        Mutation::Presence,
        Mutation::Leak,
        Mutation::Limit,
        Mutation::Wake,
        Mutation::Isolation,
        Mutation::Callback,
        Mutation::Policy,
        Mutation::Uncounted,
        Mutation::Effect,
        Mutation::Overtaken,
        Mutation::Unsent,
        Mutation::Forgotten,
        Mutation::UnitLost,
        Mutation::UnitTwice,
        Mutation::Pinned,
    ];

    /// Whether it is in the fake kernel or in the configuration, not in the mail between shards.
    pub(super) fn is_of_kernel(self) -> bool {
        use Mutation::{Leak, Limit, Policy, Unsent, Wake};
        matches!(self, Leak | Limit | Wake | Policy | Unsent)
    }

    /// Whether it happens only once in a run; the others happen whenever they can.
    pub(super) fn is_once(self) -> bool {
        !matches!(self, Mutation::Isolation | Mutation::Callback | Mutation::Overtaken)
    }
}

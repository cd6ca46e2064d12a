#![forbid(unsafe_code)]
//! Why a STOMP frame is refused: what its sender hears by ERROR, and what it is counted as.

use crate::broker::home::Full;
use crate::broker::rule::Verdict;
use crate::metrics::Refusal;

/// Why a frame ends its session.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Short text of the `message` header.
    pub message: &'static str,
    /// What to do about it, for the body.
    pub body: &'a str,
    /// Close code.
    pub code: u16,
    /// What it is counted as.
    pub refusal: Refusal,
}

/// Whether a frame was handled, or why its session ends.
pub type Handled = Result<(), Problem<'static>>;

/// Text of the refusal that lists the versions.
pub(super) const VERSIONS: &str = "version not supported";

/// The rules do not let this user do it.
pub(super) const NOT_PERMITTED: Problem<'static> = Problem {
    message: "not permitted",
    body: "The rules ([[allow]]) do not let this user use this destination.",
    code: 1008,
    refusal: Refusal::BrokerNotPermitted,
};

pub(super) const UNKNOWN_DESTINATION: Problem<'static> = Problem {
    message: "unknown destination",
    body: "The destination begins with none of the configured prefixes.",
    code: 1002,
    refusal: Refusal::BrokerUnknownDestination,
};

/// A SEND to an application destination that no rule takes.
pub(super) const NO_APPLICATION: Problem<'static> = Problem {
    message: "unknown destination",
    body: "The destination begins with an application prefix, and no [[application]] has it.",
    code: 1002,
    refusal: Refusal::BrokerNoApplication,
};

/// A SUBSCRIBE that asks for acknowledgements in no known way.
pub(super) const ACK_MODE: Problem<'static> = Problem {
    message: "unknown ack mode",
    body: "The ack header of SUBSCRIBE is auto, client or client-individual.",
    code: 1002,
    refusal: Refusal::StompAckMode,
};

/// A SUBSCRIBE whose number, after 2^31 frames, is that of a subscription which still lives.
pub(super) const NUMBER_TAKEN: Problem<'static> = Problem {
    message: "too many frames",
    body: "The frames of this session have no numbers left: connect again.",
    code: 1008,
    refusal: Refusal::LimitFrameNumbers,
};

/// What a body with a NUL is refused with.
pub(super) const NUL_IN_BODY: Problem<'static> = Problem {
    message: "NUL in the body",
    body: "Old clients end a frame at a NUL in its body: broker.nul-in-body refuses it.",
    code: 1008,
    refusal: Refusal::BrokerNulInBody,
};

pub(super) const NO_TRANSACTIONS: Problem<'static> = Problem {
    message: "transactions are not supported yet",
    body: "Send the frame without a transaction.",
    code: 1002,
    refusal: Refusal::StompTransactions,
};

/// Why a home has no room for a destination or pattern.
pub(super) fn no_room(full: Full) -> Problem<'static> {
    let (message, body) = match full {
        Full::Table => (
            "too many destinations",
            "The server has as many destinations as it may (limit destinations).",
        ),
        Full::Alike => (
            "too many patterns alike",
            "The server has as many patterns that begin like this one as it may \
             (limit patterns-alike).",
        ),
        Full::Share => (
            "too many destinations of one address",
            "This address has its share of the destinations, a quarter of what others leave free \
             (limits destinations, share-least).",
        ),
        Full::ShareAlike => (
            "too many patterns alike of one address",
            "This address has its share of the patterns that begin like this one, a quarter of \
             what others leave free (limits patterns-alike, share-least).",
        ),
    };
    Problem { message, body, code: 1008, refusal: full.into() }
}

pub(super) const NAME_TOO_LONG: Problem<'static> = Problem {
    message: "name too long",
    body: "A destination, subscription or receipt id is longer than it may be (limit name-bytes).",
    code: 1008,
    refusal: Refusal::LimitNameBytes,
};

pub(super) const TOO_MANY: Problem<'static> = Problem {
    message: "too many subscriptions",
    body: "The session has as many subscriptions as it may (limit subscriptions).",
    code: 1008,
    refusal: Refusal::LimitSubscriptions,
};

pub(super) const TOO_MANY_ALIKE: Problem<'static> = Problem {
    message: "too many subscriptions alike",
    body: "The session has as many subscriptions to this destination as it may \
           (limit subscriptions-alike).",
    code: 1008,
    refusal: Refusal::LimitSubscriptionsAlike,
};

pub(super) const TOO_LONG: Problem<'static> = Problem {
    message: "subscriptions too long",
    body: "Its destinations and ids are too long together (limit subscription-bytes).",
    code: 1008,
    refusal: Refusal::LimitSubscriptionBytes,
};

pub(super) const NO_ROOM: Problem<'static> = Problem {
    message: "no room for a subscription",
    body: "The server has as many subscriptions as it may (limit subscribed-bytes).",
    code: 1013,
    refusal: Refusal::LimitSubscribedBytes,
};

pub(super) const TOO_MANY_PATTERNS: Problem<'static> = Problem {
    message: "too many patterns",
    body: "The session has subscribed to as many patterns as it may (limit patterns).",
    code: 1008,
    refusal: Refusal::LimitPatterns,
};

pub(super) const UNCLEAR: Problem<'static> = Problem {
    body: "The rules cannot be compared with this destination: it takes too many steps.",
    refusal: Refusal::BrokerPatternGaveUp,
    ..NOT_PERMITTED
};

/// What a frame hears of a verdict.
pub(super) fn permit(verdict: Verdict) -> Handled {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Refused => Err(NOT_PERMITTED),
        Verdict::Unclear => Err(UNCLEAR),
    }
}

//! A session that exceeds a limit by one, or asks for something that is refused by name, and the
//! ERROR that it must get. Every other session stays within all limits, to the last byte: an ERROR
//! that nobody has provoked breaks a rule, as does one that is missing.

use super::browser::{Browser, OnReceipt};
use super::history::Secret;
use super::random::Random;
use super::scene::Scene;
use super::target::{PATTERNS, SECRET, TOPICS};
use crate::limits::Limits;
use crate::stomp::Command;

/// The most subscriptions of a session (`Limits::tiny`).
pub(super) const SUBSCRIPTIONS: usize = 3;
/// Those of them to one destination (`Limits::tiny`).
pub(super) const ALIKE: usize = 2;
/// Bytes of a whole frame, headers of one, bytes of a name (`Limits::tiny`).
pub(super) const FRAME: usize = 512;
pub(super) const HEADERS: usize = 12;
const NAME: usize = 80;

/// The last thing that a session does, which the server has to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greed {
    Subscriptions,
    Alike,
    Patterns,
    LongId,
    LongDestination,
    LongTarget,
    LongReceipt,
    Bytes,
    Headers,
    Unaddressed,
    Unknown,
    Forbidden,
    Secret,
    Transaction,
    Twice,
    Blank,
    Nul,
}

const ALL: [Greed; 17] = [
    Greed::Subscriptions,
    Greed::Alike,
    Greed::Patterns,
    Greed::LongId,
    Greed::LongDestination,
    Greed::LongTarget,
    Greed::LongReceipt,
    Greed::Bytes,
    Greed::Headers,
    Greed::Unaddressed,
    Greed::Unknown,
    Greed::Forbidden,
    Greed::Secret,
    Greed::Transaction,
    Greed::Twice,
    Greed::Blank,
    Greed::Nul,
];

/// The ERROR that a session must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provoked {
    pub(super) message: &'static str,
    /// The receipt that its frame has requested.
    pub(super) receipt: Option<String>,
    /// The code of the Close after it.
    pub(super) code: u16,
}

/// The ERRORs that a session within its limits may get, with their close codes: a session cannot
/// know whether a home has room, or whether the rules have changed.
pub(super) fn unprovoked(message: &str, secret: Secret) -> Option<u16> {
    let is_kept = matches!(secret, Secret::Closing | Secret::Closed(_));
    match message {
        "too many destinations"
        | "too many patterns alike"
        | "too many destinations of one address"
        | "too many patterns alike of one address" => Some(1008),
        "not permitted" if is_kept => Some(1008),
        "heart-beat missed" => Some(1002),
        "no answer in time" => Some(1011),
        _ => None,
    }
}

impl Greed {
    /// The limit that a session will exceed, if any.
    pub(super) fn draw(random: &mut Random) -> Option<Greed> {
        random.chance(250).then(|| *random.pick(&ALL))
    }

    /// Whether the session must have no other subscriptions.
    pub(super) fn is_of_subscriptions(self) -> bool {
        matches!(self, Greed::Subscriptions | Greed::Alike | Greed::Patterns)
    }

    /// The `message` of the ERROR, and the close code.
    fn refusal(self) -> (&'static str, u16) {
        match self {
            Greed::Subscriptions => ("too many subscriptions", 1008),
            Greed::Alike => ("too many subscriptions alike", 1008),
            Greed::Patterns => ("too many patterns", 1008),
            Greed::LongId | Greed::LongDestination | Greed::LongTarget | Greed::LongReceipt => {
                ("name too long", 1008)
            }
            Greed::Bytes => ("The frame is too large.", 1009),
            Greed::Headers => ("The frame has too many headers.", 1009),
            Greed::Unaddressed => ("missing header", 1002),
            Greed::Unknown => ("unknown destination", 1002),
            Greed::Forbidden | Greed::Secret => ("not permitted", 1008),
            Greed::Transaction => ("transactions are not supported yet", 1002),
            Greed::Twice => ("connected already", 1002),
            Greed::Blank => ("A header's name is empty or blank.", 1002),
            Greed::Nul => ("NUL in the body", 1008),
        }
    }
}

fn long(start: &str, len: usize) -> String {
    format!("{start}{}", "n".repeat(len - start.len()))
}

impl Browser {
    /// The frames that exceed the limit; the last of them is refused.
    pub(super) fn provoke(&mut self, greed: Greed, scene: &mut Scene<'_>) -> Vec<Vec<u8>> {
        let may = match greed {
            // Ended subscriptions count until the server has confirmed their end.
            _ if greed.is_of_subscriptions() => self.subscriptions.is_empty() && !self.is_ending(),
            Greed::Forbidden => self.user.is_none(),
            Greed::Secret => scene.history.secret == Secret::Kept && self.user != Some(0),
            _ => true,
        };
        let greed = if may { greed } else { Greed::Unaddressed };
        let mut frames = self.fill(greed, scene);
        let (message, code) = greed.refusal();
        frames.push(self.excess(greed, message, code, scene));
        frames
    }

    /// As many subscriptions as it may have.
    fn fill(&mut self, greed: Greed, scene: &mut Scene<'_>) -> Vec<Vec<u8>> {
        let to: &[&str] = match greed {
            Greed::Subscriptions => &TOPICS[..SUBSCRIPTIONS],
            Greed::Alike => &[TOPICS[0]; ALIKE],
            Greed::Patterns => &PATTERNS[..Limits::tiny().patterns as usize],
            _ => &[],
        };
        to.iter().map(|destination| self.subscribe_to(destination, false, scene)).collect()
    }

    fn excess(
        &mut self,
        greed: Greed,
        message: &'static str,
        code: u16,
        scene: &mut Scene<'_>,
    ) -> Vec<u8> {
        let (id, long_id) = (format!("more-{}", self.number), long("i", NAME + 1));
        let (target, far) = (long("/topic/", NAME + 1), long("/ws/forward", NAME + 1));
        let subscribe = |to: &'static str| vec![("id", "more"), ("destination", to)];
        let send = |to: &'static str| vec![("destination", to)];
        let mut body: &[u8] = b"";
        let mut command = Command::Send;
        let pad = "x".repeat(FRAME);
        let headers: Vec<(&str, &str)> = match greed {
            Greed::Subscriptions => subscribe(TOPICS[SUBSCRIPTIONS]),
            Greed::Alike => subscribe(TOPICS[0]),
            Greed::Patterns => subscribe(PATTERNS[Limits::tiny().patterns as usize]),
            Greed::LongId => vec![("id", &long_id), ("destination", TOPICS[0])],
            Greed::LongDestination => vec![("id", &id), ("destination", &target)],
            Greed::LongTarget => vec![("destination", &far)],
            Greed::Bytes => {
                body = pad.as_bytes();
                send(TOPICS[0])
            }
            Greed::Headers => {
                // content-length is one of them.
                body = b"x";
                [&send(TOPICS[0])[..], &NOTES].concat()
            }
            Greed::Unaddressed => vec![],
            Greed::Unknown => send("/nowhere"),
            Greed::Forbidden => send("/user/u1/queue/sub"),
            Greed::Secret => subscribe(SECRET),
            Greed::Transaction => vec![("destination", TOPICS[0]), ("transaction", "t")],
            Greed::Twice => {
                command = Command::Connect;
                vec![("accept-version", "1.2"), ("host", "x")]
            }
            Greed::Blank => vec![("destination", TOPICS[0]), (" \t", "v")],
            Greed::Nul => {
                body = b"{\"a\":\"\0\"}";
                vec![("destination", TOPICS[0]), ("content-type", "application/json")]
            }
            Greed::LongReceipt => send(TOPICS[0]),
        };
        if headers.first().is_some_and(|(name, _)| *name == "id") {
            command = Command::Subscribe;
        }
        let mut headers = headers;
        // The ERROR for bytes that cannot be parsed as a frame names no receipt.
        let is_frame = !matches!(greed, Greed::Bytes | Greed::Headers | Greed::Blank);
        let wants_receipt = is_frame && scene.random().chance(700);
        let receipt = match greed {
            Greed::LongReceipt => Some(long("r", NAME + 1)),
            _ => wants_receipt.then(|| format!("more-{}", self.number)),
        };
        if let Some(receipt) = &receipt {
            headers.push(("receipt", receipt));
        }
        let frame = self.frame_of(command, &headers, body, None);
        self.provoked = Some(Provoked { message, receipt, code });
        frame
    }

    /// Whether the server has not yet confirmed the end of a subscription.
    fn is_ending(&self) -> bool {
        self.receipts.iter().any(|(_, effect)| matches!(effect, OnReceipt::Left(_)))
    }
}

/// Fills a body so that its whole frame is as long as a frame may be. `frame` writes it with the
/// given bytes of padding.
pub(super) fn fill_frame(mut frame: impl FnMut(usize) -> usize) -> Option<usize> {
    // The number of digits of content-length may change, so the exact padding is found by trying.
    let spare = FRAME.checked_sub(frame(0))?;
    (spare.saturating_sub(4)..=spare).rev().find(|&pad| frame(pad) == FRAME)
}

/// Headers without a meaning.
pub(super) const NOTES: [(&str, &str); HEADERS - 1] = [
    ("h1", "v"),
    ("h2", "v"),
    ("h3", "v"),
    ("h4", "v"),
    ("h5", "v"),
    ("h6", "v"),
    ("h7", "v"),
    ("h8", "v"),
    ("h9", "v"),
    ("h10", "v"),
    ("h11", "v"),
];

/// A name of the greatest allowed length.
pub(super) fn full_name(start: &str) -> String {
    long(start, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_server() {
        let limits = Limits::tiny();
        let ours = [SUBSCRIPTIONS, ALIKE, FRAME, HEADERS, NAME].map(|n| n as u32);
        let theirs = [
            limits.subscriptions,
            limits.subscriptions_alike,
            limits.stomp_frame,
            limits.stomp_headers,
            limits.name_bytes,
        ];
        assert_eq!(ours, theirs);
        assert_eq!(full_name("/topic/").len(), NAME);
        let digits = |pad: usize| 100 + pad.to_string().len() + pad;
        assert_eq!(fill_frame(digits).map(digits), Some(FRAME));
    }
}

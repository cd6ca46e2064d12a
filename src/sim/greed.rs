//! A session that exceeds a limit by one, or asks for something that is refused by name, and the
//! ERROR that it must get. Every other session stays within all limits, to the last byte: an ERROR
//! that nobody has provoked breaks a rule, as does one that is missing.

use super::history::Secret;
use super::random::Random;
use super::target::{PATTERNS, SECRET, TOPICS};
use crate::stomp::Command;

/// The most subscriptions of a session (`Limits::tiny`).
pub(super) const SUBSCRIPTIONS: usize = 3;
/// Those of them to one destination (`Limits::tiny`).
pub(super) const ALIKE: usize = 2;
/// The most subscriptions of a session to patterns (`Limits::tiny`).
pub(super) const PATTERNS_MAX: usize = 2;
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

    /// Where the session subscribes before: as many subscriptions as it may have.
    pub(super) fn filling(self) -> &'static [&'static str] {
        match self {
            Greed::Subscriptions => &TOPICS[..SUBSCRIPTIONS],
            Greed::Alike => &[TOPICS[0]; ALIKE],
            Greed::Patterns => &PATTERNS[..PATTERNS_MAX],
            _ => &[],
        }
    }

    /// The frame of a client that exceeds the limit, and the ERROR for it.
    pub(super) fn exceed(self, client: usize, random: &mut Random) -> (Excess, Provoked) {
        let mut excess = self.excess(client);
        // The ERROR for bytes that cannot be parsed as a frame names no receipt.
        let is_frame = !matches!(self, Greed::Bytes | Greed::Headers | Greed::Blank);
        let wants_receipt = is_frame && random.chance(700);
        let receipt = match self {
            Greed::LongReceipt => Some(long("r", NAME + 1)),
            _ => wants_receipt.then(|| format!("more-{client}")),
        };
        excess.headers.extend(receipt.clone().map(|receipt| ("receipt", receipt)));
        let (message, code) = self.refusal();
        (excess, Provoked { message, receipt, code })
    }

    fn excess(self, client: usize) -> Excess {
        let subscribe = |id: String, to: &str| Excess {
            command: Command::Subscribe,
            headers: vec![("id", id), ("destination", to.to_owned())],
            body: Vec::new(),
        };
        let more = |to: &str| subscribe("more".to_owned(), to);
        let send = |to: &str, others: &[(&'static str, &str)], body: &[u8]| {
            let others = others.iter().map(|(name, value)| (*name, (*value).to_owned()));
            let headers = [("destination", to.to_owned())].into_iter().chain(others).collect();
            Excess { command: Command::Send, headers, body: body.to_vec() }
        };
        match self {
            Greed::Subscriptions => more(TOPICS[SUBSCRIPTIONS]),
            Greed::Alike => more(TOPICS[0]),
            Greed::Patterns => more(PATTERNS[PATTERNS_MAX]),
            Greed::LongId => subscribe(long("i", NAME + 1), TOPICS[0]),
            Greed::LongDestination => {
                subscribe(format!("more-{client}"), &long("/topic/", NAME + 1))
            }
            Greed::LongTarget => send(&long("/ws/forward", NAME + 1), &[], b""),
            Greed::Bytes => send(TOPICS[0], &[], "x".repeat(FRAME).as_bytes()),
            // content-length is one of them.
            Greed::Headers => send(TOPICS[0], &NOTES, b"x"),
            Greed::Unaddressed => {
                Excess { command: Command::Send, headers: Vec::new(), body: Vec::new() }
            }
            Greed::Unknown => send("/nowhere", &[], b""),
            Greed::Forbidden => send("/user/u1/queue/sub", &[], b""),
            Greed::Secret => more(SECRET),
            Greed::Transaction => send(TOPICS[0], &[("transaction", "t")], b""),
            Greed::Twice => Excess {
                command: Command::Connect,
                headers: vec![("accept-version", "1.2".to_owned()), ("host", "x".to_owned())],
                body: Vec::new(),
            },
            Greed::Blank => send(TOPICS[0], &[(" \t", "v")], b""),
            Greed::Nul => {
                send(TOPICS[0], &[("content-type", "application/json")], b"{\"a\":\"\0\"}")
            }
            Greed::LongReceipt => send(TOPICS[0], &[], b""),
        }
    }
}

/// The frame that the server has to refuse.
pub(super) struct Excess {
    pub(super) command: Command,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

fn long(start: &str, len: usize) -> String {
    format!("{start}{}", "n".repeat(len - start.len()))
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
    use crate::limits::Limits;

    #[test]
    fn the_limits_are_those_of_the_server() {
        let limits = Limits::tiny();
        let ours = [SUBSCRIPTIONS, ALIKE, PATTERNS_MAX, FRAME, HEADERS, NAME].map(|n| n as u32);
        let theirs = [
            limits.subscriptions,
            limits.subscriptions_alike,
            limits.patterns,
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

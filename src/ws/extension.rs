//! Negotiation of permessage-deflate (RFC 7692 §7.1) in Sec-WebSocket-Extensions (RFC 6455 §9.1).
//! Only the server's side; nothing is allocated.

use core::fmt;

/// Bytes of the longest answer.
pub const ANSWER_MAX: usize = 101;
/// The largest window, as a power of two (RFC 7692 §7.1.2).
pub const WINDOW_BITS_MAX: u8 = 15;
/// The smallest window.
pub const WINDOW_BITS_MIN: u8 = 8;

/// What an endpoint offers to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Compress at all.
    pub enabled: bool,
    /// Compress a session's messages with references to earlier ones. This compresses better, but
    /// each session needs a window of memory and its own compression. If it is not set, the answer
    /// says that the server does not do it (RFC 7692 §7.1.1.1).
    pub server_takeover: bool,
    /// Allow the client to do so; each session then needs a window of memory. If it is not set,
    /// the answer forbids it (no client can insist on it: RFC 7692 §7.1.1.2).
    pub client_takeover: bool,
    /// The largest window that a session with takeover may keep, 8 to 15.
    pub window_bits: u8,
}

impl Default for Policy {
    /// Compression that costs an idle session nothing.
    fn default() -> Policy {
        Policy {
            enabled: true,
            server_takeover: false,
            client_takeover: false,
            window_bits: WINDOW_BITS_MAX,
        }
    }
}

/// What both sides have agreed on once the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The server's messages may refer to those before them.
    pub server_takeover: bool,
    /// The client's messages may refer to those before them.
    pub client_takeover: bool,
    /// How far back the server's messages may refer, as a power of two: 8 to 15.
    pub server_window_bits: u8,
    /// How far back the client's messages may refer, as a power of two: 8 to 15.
    pub client_window_bits: u8,
    /// The answer names the server's window.
    names_server_bits: bool,
    /// The answer names the client's window.
    names_client_bits: bool,
}

/// A header that does not follow the grammar; RFC 6455 §9.1: the handshake fails (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sec-WebSocket-Extensions does not follow its grammar")
    }
}

impl core::error::Error for Malformed {}

/// Chooses among the offers of a handshake: `lines` are the values of all its
/// Sec-WebSocket-Extensions lines. `None`: go on without compression.
///
/// Offers are in the peer's order of preference (RFC 7692 §5.1). The first permessage-deflate
/// offer without an unknown, wrong or repeated parameter is accepted; the others are declined.
pub fn negotiate<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    policy: Policy,
) -> Result<Option<Agreement>, Malformed> {
    let mut agreement = None;
    for line in lines {
        let mut cursor = Cursor(line);
        loop {
            cursor.skip(b",");
            if cursor.0.is_empty() {
                break;
            }
            let offer = cursor.offer()?;
            // Every offer is read, so that a malformed one is refused wherever it is in the list.
            agreement = agreement.or(offer.map(|offer| offer.agree(policy)));
        }
    }
    Ok(agreement.filter(|_| policy.enabled))
}

impl Agreement {
    /// Writes the value of the answer's Sec-WebSocket-Extensions.
    pub fn write<'a>(&self, out: &'a mut [u8; ANSWER_MAX]) -> &'a str {
        let mut at = 0;
        let mut part = |text: &[u8]| {
            out[at..at + text.len()].copy_from_slice(text);
            at += text.len();
        };
        part(NAME);
        if !self.server_takeover {
            part(b"; ");
            part(SERVER_NO_TAKEOVER);
        }
        if !self.client_takeover {
            part(b"; ");
            part(CLIENT_NO_TAKEOVER);
        }
        for (named, name, bits) in [
            (self.names_server_bits, SERVER_BITS, self.server_window_bits),
            (self.names_client_bits, CLIENT_BITS, self.client_window_bits),
        ] {
            if named {
                part(b"; ");
                part(name);
                // RFC 7692 §7.1.2: no leading zero.
                let digits = [b'0' + bits / 10, b'0' + bits % 10];
                part(b"=");
                part(if bits < 10 { &digits[1..] } else { &digits });
            }
        }
        str::from_utf8(&out[..at]).expect("all parts are ASCII")
    }
}

const NAME: &[u8] = b"permessage-deflate";
const SERVER_NO_TAKEOVER: &[u8] = b"server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &[u8] = b"client_no_context_takeover";
const SERVER_BITS: &[u8] = b"server_max_window_bits";
const CLIENT_BITS: &[u8] = b"client_max_window_bits";

/// The parameters of an acceptable offer.
#[derive(Clone, Copy, Default)]
struct Offer {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<u8>,
}

impl Offer {
    /// Adds a parameter. `false` declines the offer (RFC 7692 §7.1): the parameter is unknown, has
    /// an invalid value, or is repeated.
    fn take(&mut self, name: &[u8], value: Value) -> bool {
        let flag = |place: &mut bool| value == Value::Absent && !core::mem::replace(place, true);
        let bits = |place: &mut Option<u8>, bits: u8| {
            (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits) && place.replace(bits).is_none()
        };
        match (name, value) {
            (SERVER_NO_TAKEOVER, _) => flag(&mut self.server_no_takeover),
            (CLIENT_NO_TAKEOVER, _) => flag(&mut self.client_no_takeover),
            (SERVER_BITS, Value::Number(number)) => bits(&mut self.server_bits, number),
            (CLIENT_BITS, Value::Number(number)) => bits(&mut self.client_bits, number),
            // RFC 7692 §7.1.2.2: without a value, it only allows the answer to have one.
            (CLIENT_BITS, Value::Absent) => bits(&mut self.client_bits, WINDOW_BITS_MAX),
            _ => false,
        }
    }

    /// The agreement that the policy allows for this offer.
    fn agree(self, policy: Policy) -> Agreement {
        let most = policy.window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let server_takeover = policy.server_takeover && !self.server_no_takeover;
        let server_bits = self.server_bits.unwrap_or(WINDOW_BITS_MAX);
        // RFC 7692 §7.1.2.2: the answer may name client_max_window_bits only if the client offered
        // it. If its window is larger than allowed, its takeover is forbidden (§7.1.1.2).
        let bounded = self.client_bits.is_some() || most == WINDOW_BITS_MAX;
        let client_takeover = policy.client_takeover && !self.client_no_takeover && bounded;
        let client_bits = self.client_bits.filter(|_| client_takeover);
        Agreement {
            server_takeover,
            client_takeover,
            server_window_bits: if server_takeover { server_bits.min(most) } else { server_bits },
            client_window_bits: client_bits.map_or(WINDOW_BITS_MAX, |bits| bits.min(most)),
            // RFC 7692 §7.1.2.1: a server that accepts the parameter repeats it in its answer.
            names_server_bits: self.server_bits.is_some(),
            names_client_bits: client_bits.is_some(),
        }
    }
}

/// The value of a parameter, as far as the known parameters need it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Absent,
    /// A decimal number of at most two digits, without leading zero.
    Number(u8),
    Other,
}

impl Value {
    /// The value with one more byte at its end.
    fn then(self, byte: u8) -> Value {
        match (self, byte) {
            (Value::Absent, b'0'..=b'9') => Value::Number(byte - b'0'),
            (Value::Number(ten @ 1..=9), b'0'..=b'9') => Value::Number(ten * 10 + (byte - b'0')),
            _ => Value::Other,
        }
    }
}

/// The unread rest of a line.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Skips blanks and `others`.
    fn skip(&mut self, others: &[u8]) {
        while let [byte, rest @ ..] = self.0
            && (matches!(byte, b' ' | b'\t') || others.contains(byte))
        {
            self.0 = rest;
        }
    }

    /// Consumes `symbol` if it is next, with the blanks before it.
    fn eat(&mut self, symbol: u8) -> bool {
        self.skip(b"");
        let rest = self.0.strip_prefix(&[symbol]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        self.skip(b"");
        let end = self.0.iter().position(|byte| !is_token(*byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Reads one extension to its end. `None`: it is another extension, or its offer is declined.
    fn offer(&mut self) -> Result<Option<Offer>, Malformed> {
        let mut offer = Offer::default();
        let mut acceptable = self.token()? == NAME;
        while self.eat(b';') {
            let name = self.token()?;
            let value = if self.eat(b'=') { self.value()? } else { Value::Absent };
            acceptable &= offer.take(name, value);
        }
        self.skip(b"");
        if !matches!(self.0, [] | [b',', ..]) {
            return Err(Malformed);
        }
        Ok(acceptable.then_some(offer))
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        if !self.eat(b'"') {
            let token = self.token()?;
            return Ok(token.iter().fold(Value::Absent, |value, byte| value.then(*byte)));
        }
        let mut value = Value::Absent;
        loop {
            let byte = match self.0 {
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                    let quoted = self.0[0] == b'\\' && self.0.len() > 1;
                    self.0 = rest;
                    if *byte == b'"' && !quoted {
                        break;
                    }
                    *byte
                }
                [] => return Err(Malformed),
            };
            // RFC 6455 §9.1: a quoted value must be a token once it is unquoted.
            if !is_token(byte) {
                return Err(Malformed);
            }
            value = value.then(byte);
        }
        if value == Value::Absent { Err(Malformed) } else { Ok(value) }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(takeover: bool, window_bits: u8) -> Policy {
        Policy {
            server_takeover: takeover,
            client_takeover: takeover,
            window_bits,
            ..Policy::default()
        }
    }

    /// The answer to lines of offers; `None`: no extension.
    fn answer(lines: &[&str], policy: Policy) -> Result<Option<String>, Malformed> {
        let agreement = negotiate(lines.iter().map(|line| line.as_bytes()), policy)?;
        Ok(agreement.map(|agreement| agreement.write(&mut [0; ANSWER_MAX]).to_owned()))
    }

    fn plain(line: &str) -> Result<Option<String>, Malformed> {
        answer(&[line], Policy::default())
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn what_browsers_offer() {
        for line in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
            "x-webkit-deflate-frame, permessage-deflate",
        ] {
            assert_eq!(plain(line), Ok(Some(PLAIN.into())), "{line}");
        }
    }

    /// Autobahn 13.1 to 13.7: the offers of its fuzzing client. All of them let the server forbid
    /// the client's takeover and bound its window; some ask the server for the same.
    #[test]
    fn offers_of_autobahn_13() {
        let start = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
        let (no_takeover, bits) = ("; server_no_context_takeover", "; server_max_window_bits=");
        for (offer, bits_of_answer) in [
            (start.to_owned(), ""),
            (format!("{start}{no_takeover}"), ""),
            (format!("{start}{bits}9"), "9"),
            (format!("{start}{bits}15"), "15"),
            (format!("{start}{no_takeover}{bits}9"), "9"),
            (format!("{start}{no_takeover}{bits}15"), "15"),
            (format!("{start}{no_takeover}{bits}9, {start}{no_takeover}, {start}"), "9"),
        ] {
            let bits = if bits_of_answer.is_empty() { "" } else { bits };
            let expected = format!("{PLAIN}{bits}{bits_of_answer}");
            assert_eq!(plain(&offer), Ok(Some(expected)), "{offer}");
        }
    }

    #[test]
    fn nonsense_is_declined_and_the_next_offer_tried() {
        for parameter in [
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"true\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=010",
            "server_max_window_bits=115",
            "server_max_window_bits=271",
            "server_max_window_bits=1e",
            "server_max_window_bits=+9",
            "server_max_window_bits=9; server_max_window_bits=9",
            "client_max_window_bits=7",
            "client_max_window_bits=0",
            "client_max_window_bits; client_max_window_bits=10",
            "client_max_window_bits=a",
            "Server_no_context_takeover",
            "compression_level=9",
        ] {
            let offer = format!("permessage-deflate; {parameter}");
            assert_eq!(plain(&offer), Ok(None), "{offer}");
            let both = format!("{offer}, permessage-deflate; server_max_window_bits=8");
            let second = format!("{PLAIN}; server_max_window_bits=8");
            assert_eq!(plain(&both), Ok(Some(second)), "{both}");
        }
        for line in ["", " , ,", "permessage-bzip2", "permessage-deflate2", "a; b=\"c\", d"] {
            assert_eq!(plain(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn blanks_quotes_and_several_lines() {
        let bits = |number: u8| Ok(Some(format!("{PLAIN}; server_max_window_bits={number}")));
        assert_eq!(plain("permessage-deflate;server_max_window_bits=\"10\""), bits(10));
        assert_eq!(plain("permessage-deflate;server_max_window_bits = \"\\1\\0\" "), bits(10));
        assert_eq!(plain("\t,, permessage-deflate\t;  server_max_window_bits\t=9\t,"), bits(9));
        let lines = ["a, b; c=d", "", "permessage-deflate; x", "permessage-deflate"];
        assert_eq!(answer(&lines, Policy::default()), Ok(Some(PLAIN.into())));
        assert_eq!(answer(&[], Policy::default()), Ok(None));
    }

    /// RFC 6455 §9.1: a malformed entry is refused wherever it is in the list.
    #[test]
    fn an_invalid_list_of_extensions_is_malformed() {
        for wrong in [
            ";",
            "permessage-deflate;",
            "permessage-deflate; =9",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; server_max_window_bits=\"9\\",
            "permessage-deflate; server_max_window_bits=\"9\\\"",
            "permessage-deflate; server_max_window_bits=\"9 \"",
            "permessage-deflate; server_max_window_bits=\"9\"9",
            "permessage deflate",
            "permessage-deflate, a/b",
            "\u{e9}",
        ] {
            assert_eq!(plain(wrong), Err(Malformed), "{wrong}");
            assert_eq!(plain(&format!("permessage-deflate, {wrong}")), Err(Malformed));
            assert_eq!(answer(&["permessage-deflate", wrong], Policy::default()), Err(Malformed));
        }
    }

    #[test]
    fn takeover_where_the_policy_allows_and_the_peer_does_not_refuse() {
        let given = |line: &str, bits: u8| {
            let answer = answer(&[line], policy(true, bits)).expect("a list").expect("an answer");
            answer.strip_prefix("permessage-deflate").expect("its name").to_owned()
        };
        assert_eq!(given("permessage-deflate", 15), "");
        assert_eq!(given("permessage-deflate", 12), "; client_no_context_takeover");
        assert_eq!(
            given("permessage-deflate; client_max_window_bits", 12),
            "; client_max_window_bits=12"
        );
        assert_eq!(
            given("permessage-deflate; client_max_window_bits=9; server_max_window_bits=15", 12),
            "; server_max_window_bits=12; client_max_window_bits=9"
        );
        assert_eq!(
            given("permessage-deflate; server_no_context_takeover; client_max_window_bits", 15),
            "; server_no_context_takeover; client_max_window_bits=15"
        );
        let refused = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
        assert_eq!(given(refused, 15), "; client_no_context_takeover");
    }

    #[test]
    fn takeover_by_the_client_only() {
        let policy = Policy { client_takeover: true, window_bits: 12, ..Policy::default() };
        let given = |line: &str| {
            let answer = answer(&[line], policy).expect("a list").expect("an answer");
            answer
                .strip_prefix("permessage-deflate; server_no_context_takeover")
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            given("permessage-deflate; client_max_window_bits"),
            "; client_max_window_bits=12"
        );
        assert_eq!(given("permessage-deflate"), "; client_no_context_takeover");
        // Without takeover a window costs nothing, so the peer's own choice is accepted.
        assert_eq!(
            given("permessage-deflate; server_max_window_bits=15; client_no_context_takeover"),
            "; client_no_context_takeover; server_max_window_bits=15"
        );
    }

    #[test]
    fn a_policy_that_does_not_compress() {
        let off = Policy { enabled: false, ..Policy::default() };
        assert_eq!(answer(&["permessage-deflate"], off), Ok(None));
        assert_eq!(answer(&["permessage-deflate;"], off), Err(Malformed));
    }

    #[test]
    fn the_longest_answer_fits() {
        let mut longest = 0;
        for index in 0..1 << 7 {
            let bit = |place: u32| index >> place & 1 == 1;
            let offer = Offer {
                server_no_takeover: bit(0),
                client_no_takeover: bit(1),
                server_bits: bit(2).then_some(15),
                client_bits: bit(3).then_some(15),
            };
            let agreement = offer.agree(policy(bit(4), if bit(5) { 15 } else { 8 }));
            longest = longest.max(agreement.write(&mut [0; ANSWER_MAX]).len());
        }
        assert_eq!(longest, ANSWER_MAX);
    }

    proptest! {
        /// For any offers: no panic, and every answer is valid for them (RFC 7692 §7.1).
        #[test]
        fn answers_are_valid(
            line in prop_oneof![
                "[ -~]{0,40}",
                "(permessage-deflate|a)(; ?(server_no_context_takeover|client_max_window_bits(=9)?\
                |server_max_window_bits=\"?1?[0-9]\"?|client_no_context_takeover)){0,4}",
            ],
            takeover in any::<bool>(),
            window_bits in 8u8..=15,
        ) {
            if let Ok(Some(text)) = answer(&[&line], policy(takeover, window_bits)) {
                prop_assert!(line.contains("permessage-deflate"));
                for name in ["server_max_window_bits", "client_max_window_bits"] {
                    prop_assert!(!text.contains(name) || line.contains(name));
                }
                let refused = line.contains("server_no_context_takeover");
                prop_assert!(!refused || text.contains("server_no_context_takeover"));
                prop_assert!(takeover || text.contains("client_no_context_takeover"));
                // The answer is itself a list of extensions that could be accepted.
                prop_assert!(matches!(plain(&text), Ok(Some(_))));
            }
        }
    }
}

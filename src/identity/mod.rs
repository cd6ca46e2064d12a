#![forbid(unsafe_code)]
//! Maps a handshake (headers, query, peer) to the name of its user.
//!
//! It does not know sockets, endpoints, the broker or the clock: the caller passes the time, and
//! says whether the peer is a trusted proxy and whether the request passes the demo's loopback
//! test.
//!
//! Drive it: at the handshake, [`user_of_handshake`]. `User` and `Anonymous` apply to the whole
//! session; `Refused` is a 401; `Deferred` (STOMP endpoints only) means that CONNECT may carry the
//! token: then call [`user_of_connect`], which never returns `Deferred`.
//!
//! ```
//! use ringpush::config::{Method, Sources};
//! use ringpush::identity::{Handshake, Identity, user_of_handshake};
//!
//! let config = Sources::default().load().expect("the embedded application is good");
//! assert_eq!(config.auth.methods, [Method::Query]);
//! let mut handshake = Handshake { query: b"userId=7", loopback: true, ..Handshake::default() };
//! assert_eq!(user_of_handshake(&config.auth, &handshake), Identity::User("7".to_string()));
//! handshake.loopback = false;
//! assert_eq!(user_of_handshake(&config.auth, &handshake), Identity::Anonymous);
//! ```
//!
//! Bounds: a name has at most [`NAME_MAX`] bytes, longer ones are refused; `http-head` and
//! `stomp-first-frame` bound the length of tokens.

mod query;
mod token;
mod verifier;

use crate::config::{Auth, Method, Token, TokenSource};
use core::fmt;

/// Bytes of the longest user name.
pub const NAME_MAX: usize = 128;

/// A header line: name and value, the name in any case.
pub type HeaderLine<'a> = (&'a str, &'a [u8]);

/// The parts of a handshake that may name a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The header lines of the request.
    pub headers: &'a [HeaderLine<'a>],
    /// The part of the target after the question mark, not decoded.
    pub query: &'a [u8],
    /// Whether the peer is one of `listen.trusted-proxies`.
    pub trusted_proxy: bool,
    /// Whether the demo is enabled and the request passes its loopback test.
    pub loopback: bool,
    /// Whether this is a STOMP session, whose CONNECT may carry a token.
    pub stomp: bool,
    /// Wall time, in seconds since 1970.
    pub now: u64,
}

/// Who the user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The user of this name.
    User(String),
    /// No method names a user, and anonymous sessions are allowed.
    Anonymous,
    /// CONNECT may name the user: call [`user_of_connect`].
    Deferred,
    /// The handshake is refused.
    Refused(Refusal),
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No method names a user, and anonymous sessions are not allowed.
    Nobody,
    /// The name is empty, too long, not UTF-8 or has control characters.
    Name,
    /// The user header is repeated.
    Ambiguous,
    /// Not a token: three parts, JSON in base64url.
    Malformed,
    /// Its algorithm is not among the accepted ones.
    Algorithm,
    /// Its signature is wrong.
    Signature,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    Early,
    /// Its issuer is not the configured one.
    Issuer,
    /// It is meant for another audience.
    Audience,
    /// It has no user claim, or one that is not a string or number.
    Claim,
}

impl Refusal {
    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        401
    }

    /// The close code after an ERROR if CONNECT had the token (RFC 6455 §7.4.1: policy).
    pub fn close_code(self) -> u16 {
        1008
    }

    /// The reason's name in the answer.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::Nobody => "not-authenticated",
            Refusal::Name => "bad-user-name",
            Refusal::Ambiguous => "ambiguous-user-header",
            Refusal::Malformed => "malformed-token",
            Refusal::Algorithm => "token-algorithm",
            Refusal::Signature => "token-signature",
            Refusal::Expired => "token-expired",
            Refusal::Early => "token-not-yet-valid",
            Refusal::Issuer => "token-issuer",
            Refusal::Audience => "token-audience",
            Refusal::Claim => "token-without-user",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl core::error::Error for Refusal {}

/// A method's result: none, a name, or a refusal.
type Found = Result<Option<String>, Refusal>;

/// Tries the methods in order; the first that names or refuses a user decides.
pub fn user_of_handshake(auth: &Auth, handshake: &Handshake<'_>) -> Identity {
    for method in &auth.methods {
        let found = match method {
            Method::Token => match &auth.token {
                Some(token) => by_token(token, handshake),
                None => Ok(None),
            },
            Method::Header => by_header(&auth.header, handshake),
            Method::Query => by_query(&auth.query, handshake),
        };
        match found {
            Ok(None) => {}
            Ok(Some(name)) => return named(name),
            Err(refusal) => return Identity::Refused(refusal),
        }
    }
    if handshake.stomp && stomp_token(auth).is_some() {
        return Identity::Deferred;
    }
    nobody(auth)
}

/// Tries CONNECT's passcode and `Authorization` header, after a handshake that was `Deferred`.
pub fn user_of_connect(
    auth: &Auth,
    passcode: Option<&[u8]>,
    authorization: Option<&[u8]>,
    now: u64,
) -> Identity {
    let Some(rule) = stomp_token(auth) else { return nobody(auth) };
    // Old pages send a passcode that was meant for another broker ("guest"), so a passcode counts
    // only if it has the form of a token. A bearer token in the header always counts.
    let passcode = passcode.filter(|text| text.iter().filter(|byte| **byte == b'.').count() == 2);
    match authorization.and_then(bearer).or(passcode) {
        None => nobody(auth),
        Some(text) => match token::user(rule, text, now) {
            Ok(name) => named(name),
            Err(refusal) => Identity::Refused(refusal),
        },
    }
}

/// Whether a text can name a user: not empty, at most [`NAME_MAX`] bytes, no control characters.
/// In a destination, a slash of the name is percent-encoded.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}

fn named(name: String) -> Identity {
    if is_name(&name) { Identity::User(name) } else { Identity::Refused(Refusal::Name) }
}

fn nobody(auth: &Auth) -> Identity {
    if auth.anonymous { Identity::Anonymous } else { Identity::Refused(Refusal::Nobody) }
}

fn stomp_token(auth: &Auth) -> Option<&Token> {
    let asked = auth.methods.contains(&Method::Token);
    auth.token.as_ref().filter(|token| asked && token.from.contains(&TokenSource::Stomp))
}

fn by_token(rule: &Token, handshake: &Handshake<'_>) -> Found {
    for source in &rule.from {
        let text: Option<Vec<u8>> = match source {
            TokenSource::Bearer => {
                let mut values = values(handshake.headers, "authorization");
                values.find_map(bearer).map(<[u8]>::to_vec)
            }
            TokenSource::Cookie(name) => cookie(handshake.headers, name).map(<[u8]>::to_vec),
            TokenSource::Query(name) => query::parameter(handshake.query, name),
            TokenSource::Stomp => None,
        };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            return token::user(rule, &text, handshake.now).map(Some);
        }
    }
    Ok(None)
}

fn by_header(name: &str, handshake: &Handshake<'_>) -> Found {
    // Any other peer could claim to be any user.
    if !handshake.trusted_proxy {
        return Ok(None);
    }
    let mut values = values(handshake.headers, name);
    let Some(value) = values.next() else { return Ok(None) };
    // A proxy that appends a line, and replaces none, leaves the client's own line first.
    if values.next().is_some() {
        return Err(Refusal::Ambiguous);
    }
    match value.trim_ascii() {
        b"" => Ok(None),
        value => text(value.to_vec()).map(Some),
    }
}

fn by_query(name: &str, handshake: &Handshake<'_>) -> Found {
    if !handshake.loopback {
        return Ok(None);
    }
    match query::parameter(handshake.query, name) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => text(value).map(Some),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes).map_err(|_| Refusal::Name)
}

fn values<'a>(headers: &[HeaderLine<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers.iter().filter(move |(header, _)| header.eq_ignore_ascii_case(name));
    named.map(|(_, value)| *value)
}

/// The token of `Bearer …`; the scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The value of a cookie (RFC 6265 §4.2.1), without its quotes.
fn cookie<'a>(headers: &[HeaderLine<'a>], name: &str) -> Option<&'a [u8]> {
    let pairs = values(headers, "cookie").flat_map(|value| value.split(|byte| *byte == b';'));
    let mut found = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const NOW: u64 = 1_000_000;

    fn auth(toml: &str) -> Auth {
        let secret = ("RINGPUSH_TOKEN_SECRET".to_string(), "a secret of the tests".to_string());
        let sources = Sources { environment: vec![secret], ..Sources::default() };
        sources.parse(toml, false).expect("the test's TOML is good").auth
    }

    fn user(name: &str) -> Identity {
        Identity::User(name.to_string())
    }

    fn good() -> String {
        token::tests::signed(r#"{"sub":"7"}"#)
    }

    fn ask(toml: &str, headers: &[HeaderLine<'_>], query: &[u8]) -> Identity {
        let handshake = Handshake { headers, query, now: NOW, ..Handshake::default() };
        user_of_handshake(&auth(toml), &handshake)
    }

    #[test]
    fn a_token_is_found_where_the_rule_says() {
        let token = good();
        let bearer = format!("bearer  {token}");
        let cookie = format!("a=b; token={token}; c=d");
        let quoted = format!("token=\"{token}\"");
        let query = format!("x=1&access_token={token}");
        let line = |name, value: &'static str| (name, value.as_bytes());
        assert_eq!(ask("", &[("AUTHORIZATION", bearer.as_bytes())], b""), user("7"));
        assert_eq!(ask("", &[("Cookie", cookie.as_bytes())], b""), user("7"));
        assert_eq!(ask("", &[("cookie", quoted.as_bytes())], b""), user("7"));
        assert_eq!(ask("", &[], query.as_bytes()), user("7"));
        // Another scheme is ignored; a bearer token that is bad is refused.
        assert_eq!(ask("", &[line("Authorization", "Basic YTpi")], b""), Identity::Anonymous);
        let refused = Identity::Refused(Refusal::Malformed);
        assert_eq!(ask("", &[line("Authorization", "Bearer YTpi")], b""), refused);
        // The order of the sources decides.
        let order = "auth.token.from = ['query:t', 'bearer']";
        assert_eq!(ask(order, &[("authorization", bearer.as_bytes())], b"t=bad"), refused);
        let only = "auth.token.from = ['query:t']";
        assert_eq!(ask(only, &[("authorization", bearer.as_bytes())], b""), Identity::Anonymous);
    }

    #[test]
    fn the_header_is_believed_from_a_trusted_proxy_only_and_once() {
        let auth = auth("auth.methods = ['header']\nauth.anonymous = false");
        let one: [HeaderLine<'_>; 1] = [("x-user-id", b" 7 ")];
        let mut handshake = Handshake { headers: &one, ..Handshake::default() };
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Refused(Refusal::Nobody));
        handshake.trusted_proxy = true;
        assert_eq!(user_of_handshake(&auth, &handshake), user("7"));
        let two: [HeaderLine<'_>; 2] = [("x-user-id", b"7"), ("X-User-Id", b"8")];
        handshake.headers = &two;
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Refused(Refusal::Ambiguous));
        let bad: [HeaderLine<'_>; 1] = [("x-user-id", b"\xff")];
        handshake.headers = &bad;
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Refused(Refusal::Name));
    }

    #[test]
    fn the_first_method_that_answers_wins() {
        let auth = auth("auth.methods = ['header', 'query']\ndemo.enabled = true");
        let headers: [HeaderLine<'_>; 1] = [("x-user-id", b"7")];
        let mut handshake =
            Handshake { headers: &headers, query: b"userId=8", ..Handshake::default() };
        (handshake.trusted_proxy, handshake.loopback) = (true, true);
        assert_eq!(user_of_handshake(&auth, &handshake), user("7"));
        handshake.trusted_proxy = false;
        assert_eq!(user_of_handshake(&auth, &handshake), user("8"));
        handshake.loopback = false;
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Anonymous);
        (handshake.query, handshake.loopback) = (b"userId=%00", true);
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Refused(Refusal::Name));
        handshake.query = b"userId=";
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Anonymous);
    }

    #[test]
    fn a_stomp_session_may_name_itself_at_connect() {
        let auth = auth("auth.anonymous = false");
        let handshake = Handshake { stomp: true, now: NOW, ..Handshake::default() };
        assert_eq!(user_of_handshake(&auth, &handshake), Identity::Deferred);
        let raw = Handshake { stomp: false, ..handshake };
        let nobody = Identity::Refused(Refusal::Nobody);
        assert_eq!(user_of_handshake(&auth, &raw), nobody);
        let token = good();
        let bearer = format!("Bearer {token}");
        let connect = |passcode: Option<&[u8]>, authorization: Option<&[u8]>| {
            user_of_connect(&auth, passcode, authorization, NOW)
        };
        assert_eq!(connect(Some(token.as_bytes()), None), user("7"));
        assert_eq!(connect(None, Some(bearer.as_bytes())), user("7"));
        assert_eq!(connect(Some(b"guest"), None), nobody);
        assert_eq!(connect(None, None), nobody);
        assert_eq!(connect(Some(b"a.b.c"), None), Identity::Refused(Refusal::Malformed));
        let off = self::auth("auth.token.from = ['bearer']");
        assert_eq!(user_of_handshake(&off, &handshake), Identity::Anonymous);
        assert_eq!(user_of_connect(&off, Some(token.as_bytes()), None, NOW), Identity::Anonymous);
    }

    #[test]
    fn names_table() {
        for good in ["7", "a/b", "客服", "a b", &"x".repeat(128)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a\0", "a\n", "\u{85}", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn every_refusal_has_its_own_name() {
        let all = [
            Refusal::Nobody,
            Refusal::Name,
            Refusal::Ambiguous,
            Refusal::Malformed,
            Refusal::Algorithm,
            Refusal::Signature,
            Refusal::Expired,
            Refusal::Early,
            Refusal::Issuer,
            Refusal::Audience,
            Refusal::Claim,
        ];
        let words: std::collections::BTreeSet<_> = all.iter().map(|one| one.word()).collect();
        assert_eq!(words.len(), all.len());
    }
}

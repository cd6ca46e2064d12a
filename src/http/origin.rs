//! Who may call: allowed origins (RFC 6454), same origin, and the loopback test of the demo.
//!
//! Compiled patterns allocate, once, when the configuration is read; matching does not.

use super::head::Head;
use super::url::{Authority, default_port};
use core::fmt;
use core::net::IpAddr;
use core::str;

/// One entry of `allowed-origins`.
///
/// ```
/// use ringpush::http::{Pattern, SameOrigin, allowed};
///
/// let patterns = [Pattern::parse("https://*.example.com:[443,8443]").unwrap()];
/// let same = SameOrigin { scheme: "http", host: "push.example.org", external: "" };
/// assert!(allowed(Some("https://app.example.com:8443"), &patterns, same));
/// assert!(allowed(Some("http://push.example.org"), &patterns, same));
/// assert!(!allowed(Some("https://example.net"), &patterns, same));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Lower case, without the default port of its scheme; `*` stands for any bytes.
    text: Box<str>,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ports {
    /// The text is matched against the whole origin, with its port.
    AsWritten,
    /// `:[*]`: the text is matched without the port.
    Any,
    /// `:[8080,8081]`: likewise, and the port must be one of these.
    List(Box<[u16]>),
}

/// Why an entry of `allowed-origins` is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// `null` is the origin of any sandboxed page, file or redirect.
    Null,
    /// Something follows the host and the port.
    Path,
    /// The list in `:[…]` is neither `*` nor port numbers.
    Ports,
    /// It does not begin with a scheme and `://`.
    Scheme,
}

impl PatternError {
    /// A sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            PatternError::Null => "the origin null belongs to everybody and cannot be allowed",
            PatternError::Path => "an origin has no path: https://host or https://host:port",
            PatternError::Ports => "ports are written :[8080,8081] or :[*]",
            PatternError::Scheme => "an origin begins with its scheme: https://host, or is *",
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for PatternError {}

impl Pattern {
    /// Compiles an exact origin, a pattern or `*`.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix('/').unwrap_or(&text);
        if text == "null" {
            return Err(PatternError::Null);
        }
        let authority = match text.split_once("://") {
            Some((_, authority)) => authority,
            None if text.starts_with('*') => text,
            None => return Err(PatternError::Scheme),
        };
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(PatternError::Path);
        }
        let (text, ports) = match text.strip_suffix(']').and_then(|t| t.rsplit_once(":[")) {
            Some((text, "*")) => (text, Ports::Any),
            Some((text, list)) => {
                let ports = list.split(',').map(|port| port.trim().parse::<u16>());
                let ports = ports.collect::<Result<_, _>>().map_err(|_| PatternError::Ports)?;
                (text, Ports::List(ports))
            }
            None => (without_default_port(text), Ports::AsWritten),
        };
        Ok(Pattern { text: text.into(), ports })
    }

    /// Whether it is `*`, which also matches `null` and values that are no origin.
    pub fn is_any(&self) -> bool {
        &*self.text == "*" && self.ports == Ports::AsWritten
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        match &self.ports {
            Ports::AsWritten => glob(self.text.as_bytes(), origin.text.as_bytes()),
            Ports::Any => glob(self.text.as_bytes(), origin.without_port.as_bytes()),
            Ports::List(ports) => {
                origin.port.is_some_and(|port| ports.contains(&port))
                    && glob(self.text.as_bytes(), origin.without_port.as_bytes())
            }
        }
    }
}

/// This server's origin, as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SameOrigin<'a> {
    /// The listener's scheme, or the one that a trusted proxy names.
    pub scheme: &'a str,
    /// Host with its port, from the Host header or from a trusted proxy. Empty if the Host proves
    /// nothing: see [`is_own_name`].
    pub host: &'a str,
    /// `external-url`, which is the same origin on every listener; empty if it is not set.
    pub external: &'a str,
}

/// The relation of a request's Origin to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// No Origin, or this server's own.
    Own,
    /// Another origin that the endpoint allows.
    Allowed,
    /// Any other origin.
    Foreign,
}

/// Whether a handshake or a cross-origin request is allowed. Without an Origin it is not a
/// browser's cross-origin request; the same origin is always allowed; patterns decide on others.
pub fn allowed(origin: Option<&str>, patterns: &[Pattern], same: SameOrigin<'_>) -> bool {
    let Some(text) = origin else { return true };
    let Some(origin) = Origin::parse(text) else { return patterns.iter().any(Pattern::is_any) };
    origin.is_same(same) || patterns.iter().any(|pattern| pattern.matches(&origin))
}

/// Whether the request has an Origin that is not the server's own.
pub fn is_foreign(origin: Option<&str>, same: SameOrigin<'_>) -> bool {
    origin.is_some_and(|text| !Origin::parse(text).is_some_and(|origin| origin.is_same(same)))
}

/// Whether a Host is this server's own on a listener that is bound to loopback: a loopback name, or
/// the host of `external-url`. Any other name that resolves to 127.0.0.1 would make a foreign
/// page's request same-origin (DNS rebinding).
pub fn is_own_name(host: &str, external: &str) -> bool {
    let own = authority_of(external).and_then(Authority::parse);
    Authority::parse(host).is_some_and(|host| {
        host.is_loopback() || own.is_some_and(|own| own.host.eq_ignore_ascii_case(host.host))
    })
}

/// Whether an Origin and a Host header name the same host; scheme and port are ignored.
pub fn names_host(origin: &str, host: &str) -> bool {
    let origin = Origin::parse(origin).map(|origin| origin.host);
    let host = Authority::parse(host).map(|host| host.host);
    origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

/// The part of a URL between the scheme and the path.
fn authority_of(url: &str) -> Option<&str> {
    url.split_once("://").and_then(|(_, rest)| rest.split('/').next())
}

/// The Origin of a request. One that is repeated or not ASCII gives an empty text, which is foreign
/// and allowed only by `*`.
pub fn origin_of<'b>(head: &Head<'b, '_>) -> Option<&'b str> {
    let mut values = head.header_values("origin");
    let first = values.next()?;
    let only = values.next().is_none() && first.is_ascii();
    Some(if only { str::from_utf8(first).unwrap_or("") } else { "" })
}

/// Whether a request comes from this machine, and not through a foreign page or a proxy. The demo
/// requires this. A listed Origin is accepted even if Sec-Fetch-Site says that it is another site.
pub fn loopback_test(peer: IpAddr, head: &Head<'_, '_>, page: Page) -> bool {
    let other_site = |word| head.has_token("sec-fetch-site", word);
    // The Host must be a loopback name too: a foreign name that resolves to 127.0.0.1 makes a
    // foreign page's request same-origin (DNS rebinding).
    peer.to_canonical().is_loopback()
        && match page {
            Page::Own => !other_site("cross-site") && !other_site("same-site"),
            Page::Allowed => true,
            Page::Foreign => false,
        }
        && !head.headers.iter().any(|line| is_of_proxy(line.name))
        && Authority::parse(head.host).is_some_and(|host| host.is_loopback())
}

/// Whether only proxies write this header. Some write `_` for `-`, and some servers treat the two
/// names as equal.
fn is_of_proxy(name: &str) -> bool {
    const EXACT: [&str; 5] = ["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"];
    const PREFIXES: [&str; 2] = ["x-forwarded", "cf-"];
    let begins = |known: &str| {
        let pairs = name.bytes().zip(known.bytes());
        let same = |(byte, known): (u8, u8)| {
            byte.eq_ignore_ascii_case(&known) || (byte == b'_' && known == b'-')
        };
        name.len() >= known.len() && { pairs }.all(same)
    };
    EXACT.iter().any(|known| name.len() == known.len() && begins(known))
        || PREFIXES.iter().any(|known| begins(known))
}

/// A well-formed Origin: scheme, host, port and nothing else.
struct Origin<'o> {
    scheme: &'o str,
    host: &'o str,
    /// The port, or the scheme's default if none is named.
    port: Option<u16>,
    /// Without a trailing slash and without the scheme's default port.
    text: &'o str,
    without_port: &'o str,
}

impl<'o> Origin<'o> {
    fn parse(text: &'o str) -> Option<Origin<'o>> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (scheme, rest) = text.split_once("://")?;
        let well_formed = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(well_formed) {
            return None;
        }
        let authority = Authority::parse(rest)?;
        let without_port = &text[..scheme.len() + "://".len() + authority.host.len()];
        let is_default = authority.port.is_none() || authority.port == default_port(scheme);
        Some(Origin {
            scheme,
            host: authority.host,
            port: authority.port_or_default(scheme),
            text: if is_default { without_port } else { text },
            without_port,
        })
    }

    fn is_same(&self, same: SameOrigin<'_>) -> bool {
        self.is_of(same.scheme, same.host) || self.is_of_url(same.external)
    }

    fn is_of(&self, scheme: &str, authority: &str) -> bool {
        Authority::parse(authority).is_some_and(|own| {
            self.scheme.eq_ignore_ascii_case(scheme)
                && self.host.eq_ignore_ascii_case(own.host)
                && self.port == own.port_or_default(scheme)
        })
    }

    fn is_of_url(&self, url: &str) -> bool {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        scheme.zip(authority_of(url)).is_some_and(|(scheme, own)| self.is_of(scheme, own))
    }
}

fn without_default_port(text: &str) -> &str {
    let port = match text.split_once("://") {
        Some(("https", _)) => ":443",
        Some(("http", _)) => ":80",
        _ => return text,
    };
    text.strip_suffix(port).unwrap_or(text)
}

/// Whether a lower-case pattern matches the text in any case; `*` matches any bytes, or none. On a
/// mismatch only the last `*` is extended by one byte: an earlier one never needs to be.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == text[t].to_ascii_lowercase() => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, taken_to)) = star else { return false };
                star = Some((after_star, taken_to + 1));
                p = after_star;
                t = taken_to + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::with_head;
    use proptest::prelude::*;

    const OWN: SameOrigin<'_> =
        SameOrigin { scheme: "http", host: "push.example.org:8080", external: "" };

    fn matches(pattern: &str, origin: &str) -> bool {
        allowed(Some(origin), &[Pattern::parse(pattern).expect(pattern)], OWN)
    }

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            ("https://a.com", "https://A.com", "http://a.com"),
            ("https://A.com/", "https://a.com:443", "https://a.com:8443"),
            ("https://a.com:443", "https://a.com/", "https://a.com.evil.com"),
            ("http://a.com:80", "http://a.com", "http://a.com:443"),
            ("http://a.com:8080", "http://a.com:8080", "http://a.com"),
            ("https://*.a.com", "https://b.c.a.com", "https://a.com"),
            ("https://*.a.com", "https://b.a.com:443", "https://b.a.com:8443"),
            ("https://*.a.com", "https://x.a.com", "https://evil.com/.a.com"),
            ("https://*.a.com", "https://y.a.com", "https://evil.com#.a.com"),
            ("https://*.a.com", "https://y.a.com", "https://evil.com:80.a.com"),
            ("https://*.a.com:[8080,8081]", "https://b.a.com:8081", "https://b.a.com:8082"),
            ("https://*.a.com:[443]", "https://b.a.com", "https://b.a.com:8080"),
            ("https://a.com:[*]", "https://a.com:1", "https://b.com:1"),
            ("https://a.com:[*]", "https://a.com", "http://a.com"),
            ("http://localhost:*", "http://localhost:3000", "http://localhost"),
            ("http://[::1]:3000", "http://[::1]:3000", "http://[::1]"),
            ("http://[::1]:[*]", "http://[::1]:3000", "http://[::2]:3000"),
            ("*.a.com", "https://b.a.com", "https://ba.com"),
            ("https://*", "https://a.com:9", "http://a.com"),
            ("capacitor://localhost", "capacitor://localhost", "null"),
            ("capacitor://localhost:80", "capacitor://localhost:80", "capacitor://localhost"),
            ("*.a.com:80", "x://b.a.com:80", "http://b.a.com"),
            ("*.a.com", "x+y-1.z://b.a.com", "x y://b.a.com"),
            ("*.a.com", "x://b.a.com", "://b.a.com"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
        for origin in ["null", "", "https://", "what ever", "https://a.com"] {
            assert!(matches("*", origin), "{origin}");
            assert!(!matches("https://b.com", origin), "{origin}");
        }
    }

    #[test]
    fn patterns_that_are_mistakes() {
        for (text, error) in [
            ("null", PatternError::Null),
            ("a.com", PatternError::Scheme),
            ("", PatternError::Scheme),
            ("https://", PatternError::Scheme),
            ("https://a.com/x", PatternError::Path),
            ("https://u@a.com", PatternError::Path),
            ("https://a.com:[80,x]", PatternError::Ports),
            ("https://a.com:[]", PatternError::Ports),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        for (error, begin) in [
            (PatternError::Null, "the origin null "),
            (PatternError::Path, "an origin has no path"),
            (PatternError::Ports, "ports are written "),
            (PatternError::Scheme, "an origin begins with its scheme"),
        ] {
            assert!(error.text().starts_with(begin), "{error:?}");
        }
    }

    #[test]
    fn same_origin_and_none() {
        assert!(allowed(None, &[], OWN));
        assert!(!is_foreign(None, OWN));
        let own = |scheme, host| SameOrigin { scheme, host, external: "" };
        let external = |external| SameOrigin { scheme: "http", host: "127.0.0.1:8080", external };
        for (origin, same, yes) in [
            ("http://push.example.org:8080", OWN, true),
            ("HTTP://Push.Example.ORG:8080", OWN, true),
            ("https://push.example.org:8080", OWN, false),
            ("http://push.example.org", OWN, false),
            ("https://a.com", own("https", "a.com:443"), true),
            ("https://a.com:443", own("https", "a.com"), true),
            ("http://a.com:80", own("http", "a.com"), true),
            ("http://a.com:443", own("https", "a.com"), false),
            ("http://a.com", own("http", ""), false),
            ("null", own("http", "null"), false),
            ("https://a.com", external("https://a.com"), true),
            ("https://A.com:443", external("https://a.com/push/"), true),
            ("https://a.com:8443", external("https://a.com:8443/push"), true),
            ("http://a.com", external("https://a.com"), false),
            ("https://a.com.evil.com", external("https://a.com"), false),
            ("https://a.com:8443", external("https://a.com"), false),
            ("http://127.0.0.1:8080", external("https://a.com"), true),
            ("null", external(""), false),
        ] {
            assert_eq!(allowed(Some(origin), &[], same), yes, "{origin}");
            assert_eq!(is_foreign(Some(origin), same), !yes, "{origin}");
        }
    }

    #[test]
    fn names_of_a_server_on_loopback() {
        let external = "https://csms.example.com:8443/push";
        for host in ["localhost:1", "127.0.0.1", "[::1]:1", "a.localhost", "CSMS.example.com"] {
            assert!(is_own_name(host, external), "{host}");
        }
        for host in ["rebound.example.com", "127.0.0.1.example.com", "example.com", "", "a b"] {
            assert!(!is_own_name(host, external), "{host}");
        }
        assert!(is_own_name("localhost", "") && !is_own_name("csms.example.com", ""));
    }

    fn local(peer: &str, host: &str, lines: &str) -> bool {
        let text = format!("GET /api/users HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
        let peer = peer.parse().expect("an address");
        with_head(&text, |head| {
            let same = SameOrigin { scheme: "http", host: head.host, external: "" };
            let foreign = is_foreign(origin_of(head), same);
            loopback_test(peer, head, if foreign { Page::Foreign } else { Page::Own })
        })
    }

    #[test]
    fn loopback() {
        for (peer, host) in [
            ("127.0.0.1", "127.0.0.1:8080"),
            ("::1", "localhost:8080"),
            ("::ffff:127.0.0.1", "[::1]"),
            ("127.0.0.1", "api.localhost"),
        ] {
            assert!(local(peer, host, ""), "{peer} {host}");
            assert!(local(peer, host, &format!("Origin: http://{host}\r\n")), "{peer} {host}");
        }
        // As long as names of proxies' headers, and none of them.
        for line in ["DNT: 1", "X-Real-IQ: 1", "x-client-iq: 1", "True-Client-IQ: 1", "CF: 1"] {
            assert!(local("127.0.0.1", "localhost", &format!("{line}\r\n")), "{line}");
        }
        assert!(!local("192.168.1.1", "localhost", ""));
        assert!(!local("::ffff:10.0.0.1", "localhost", ""));
        assert!(!local("127.0.0.1", "rebound.example.com", ""));
        for line in [
            "Forwarded: for=1.2.3.4",
            "X-Forwarded-For: 1.2.3.4",
            "x-forwarded-anything: 1",
            "X_Forwarded_For: 1.2.3.4",
            "X-Forwarded: 1",
            "x-forwardedfor: 1.2.3.4",
            "X-Real-IP: 1.2.3.4",
            "X_Real_IP: 1.2.3.4",
            "X-Client-IP: 1.2.3.4",
            "True-Client-IP: 1.2.3.4",
            "CF-Connecting-IP: 1.2.3.4",
            "cf-ray: 1",
            "CF_RAY: 1",
            "Via: 1.1 proxy",
            "Origin: https://evil.com",
            "Origin: null",
            "Origin: http://localhost:81",
            "Origin: http://localhost\r\nOrigin: http://localhost",
            "Origin:",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: Same-Site",
        ] {
            assert!(!local("127.0.0.1", "localhost", &format!("{line}\r\n")), "{line}");
        }
        for line in ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", "Vial: 1", "CF: 1"] {
            assert!(local("127.0.0.1", "localhost", &format!("{line}\r\n")), "{line}");
        }
        // A page that the endpoint lists may be of another site; every other check still applies.
        let listed = |lines: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
            with_head(&text, |head| loopback_test([127, 0, 0, 1].into(), head, Page::Allowed))
        };
        assert!(listed("Sec-Fetch-Site: cross-site\r\n"));
        assert!(!listed("Via: 1.1 proxy\r\n"));
        // The target's authority counts, not the Host header that it overrides.
        let target = "GET http://evil.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let peer = IpAddr::from([127, 0, 0, 1]);
        assert!(!with_head(target, |head| loopback_test(peer, head, Page::Own)));
    }

    fn naive_glob(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| naive_glob(rest, &text[n..])),
            Some((byte, rest)) => {
                text.first().is_some_and(|t| t.to_ascii_lowercase() == *byte)
                    && naive_glob(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn glob_agrees_with_a_naive_matcher(pattern in "[ab*]{0,8}", text in "[abA]{0,12}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob(pattern, text), naive_glob(pattern, text));
        }
    }
}

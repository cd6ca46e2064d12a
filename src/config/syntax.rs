//! What a path, a destination, an origin, a URL, an address range and a JSON pointer look like.

use std::net::{IpAddr, Ipv6Addr};

/// Bytes of a path or destination of the configuration.
const NAME_MAX: usize = 1024;

/// A range of peer addresses: one address, or a CIDR block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: Ipv6Addr,
    prefix: u8,
}

impl Network {
    /// Parses `127.0.0.1`, `10.0.0.0/8`, `::1`, `fd00::/8`.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        if bits > most {
            return None;
        }
        Some(Network { address: widened(address), prefix: bits + (128 - most) })
    }

    /// Whether the address lies in the range. An IPv4 peer of an IPv6 socket is an IPv4 peer.
    pub fn contains(&self, address: IpAddr) -> bool {
        let difference = self.address.to_bits() ^ widened(address).to_bits();
        // A shift by 128 is not possible. A prefix of 0 bits matches everything.
        self.prefix == 0 || difference >> (128 - u32::from(self.prefix)) == 0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address.to_ipv4_mapped() {
            Some(four) if self.prefix >= 96 => write!(f, "{four}/{}", self.prefix - 96),
            _ => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

fn widened(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    }
}

/// A JSON pointer (RFC 6901), parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Parses `/call/id`; `~1` is a slash and `~0` a tilde.
    pub fn parse(text: &str) -> Option<Pointer> {
        let rest = text.strip_prefix('/')?;
        let tokens = rest.split('/').map(unescaped).collect::<Option<Vec<_>>>()?;
        Some(Pointer { text: text.to_string(), tokens })
    }

    /// The pointer as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names (or array indices) from the root to the value.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

// RFC 6901 §3: a tilde is followed by 0 or 1, and ~1 is replaced before ~0.
fn unescaped(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

fn plain(text: &str) -> bool {
    text.len() <= NAME_MAX && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// A route: it starts with a slash, does not end with one, and needs no percent-encoding.
pub(super) fn is_path(text: &str) -> bool {
    text.len() > 1
        && text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains("//")
        && text.is_ascii()
        && plain(text)
        && !text.contains(['?', '#', '%', '*', '{', '}', '\\', '"'])
}

/// A prefix of destinations.
pub(super) fn is_prefix(text: &str) -> bool {
    is_path(text)
}

/// Where a message can go: a destination without wildcards or variables.
pub(super) fn is_destination(text: &str) -> bool {
    is_template(text) && !text.contains(['{', '}'])
}

/// A destination that may have `{variables}`.
pub(super) fn is_template(text: &str) -> bool {
    is_pattern(text) && !text.contains(['*', '?'])
}

/// A destination that may have wildcards and `{variables}`.
pub(super) fn is_pattern(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/') && plain(text) && variables(text).is_some()
}

/// Whether each variable of a pattern can be read out of a destination: it is a whole segment, has
/// no expression, and stands before any `**`.
pub(super) fn variables_are_plain(text: &str, separator: char) -> bool {
    let mut behind = false;
    text.split(separator).all(|segment| {
        let inside = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let is_plain = match inside {
            Some(name) => !behind && !name.contains(['{', '}', ':']),
            None => !segment.contains('{'),
        };
        behind |= segment == "**";
        is_plain
    })
}

/// The names in braces, None if the braces do not match.
pub(super) fn variables(text: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let inside = rest[open..].strip_prefix('{')?;
        let close = inside.find(['{', '}'])?;
        if close == 0 || !inside[close..].starts_with('}') {
            return None;
        }
        names.push(&inside[..close]);
        rest = &inside[close + 1..];
    }
    Some(names)
}

/// An allowed origin: exact, a pattern with `*` in the host or `:[ports]`, or `*`.
pub(super) fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let scheme_fits = !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (host, port) = match rest.strip_prefix('[').and_then(|six| six.split_once(']')) {
        Some((six, port)) => {
            if six.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            ("six", port.strip_prefix(':').or(if port.is_empty() { None } else { Some("") }))
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let host_fits =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
    scheme_fits && host_fits && port.is_none_or(ports_fit)
}

// Spring's patterns: `:[*]` is any port, `:[8080,8081]` a list.
fn ports_fit(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some("*") => true,
        Some(list) => list.split(',').all(is_port),
        None => is_port(text),
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// An `http` or `https` URL without user information or fragment.
pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    is_origin(&format!("http://{authority}"))
        && !authority.contains('*')
        && plain(text)
        && !text.contains(['#', '"', '\\'])
}

/// A name of a header, cookie or environment variable, as far as one rule can tell (RFC 9110
/// §5.6.2: token).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether the path or destination is the prefix or stands below it.
pub(super) fn below(prefix: &str, destination: &str) -> bool {
    destination.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "9.9.9.9", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe00::1", false),
        ];
        for (network, address, inside) in cases {
            let parsed = Network::parse(network).expect(network);
            assert_eq!(parsed.contains(address.parse().expect(address)), inside, "{network}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "localhost", "10.0.0.0/", "10.0.0.0/+8", "1.2.3"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert_eq!(Network::parse("10.0.0.0/8").expect("good").to_string(), "10.0.0.0/8");
        assert_eq!(Network::parse("::1").expect("good").to_string(), "::1/128");
    }

    #[test]
    fn pointers_are_split_and_unescaped() {
        let pointer = Pointer::parse("/a~1b/~0/0").expect("good");
        assert_eq!(pointer.tokens(), ["a/b", "~", "0"]);
        assert_eq!(pointer.text(), "/a~1b/~0/0");
        for bad in ["", "a", "/~", "/~2"] {
            assert_eq!(Pointer::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn forms_table() {
        type Form =
            (&'static str, fn(&str) -> bool, &'static [&'static str], &'static [&'static str]);
        let forms: [Form; 5] = [
            ("path", is_path, &["/a", "/a/b-c"], &["", "/", "a", "/a/", "/a//b", "/a?b", "/é"]),
            (
                "pattern",
                is_pattern,
                &["/topic/**", "/a/{id}"],
                &["/", "topic", "/a/{", "/{}", "/ "],
            ),
            ("destination", is_destination, &["/queue/sub"], &["/topic/*", "/a/{id}", "queue"]),
            (
                "origin",
                is_origin,
                &["*", "https://a.b", "https://*.a.b:[*]", "http://a:[80,81]", "http://[::1]:80"],
                &["a.b", "https://", "https://a/", "http://a:x", "http://a:99999", "http://[::1]x"],
            ),
            (
                "url",
                is_url,
                &["http://a", "https://a.b:1/c?d=e", "http://[::1]/x"],
                &["ftp://a", "http://", "http://u@a/", "http://a b", "http://a#b", "http://*/"],
            ),
        ];
        for (name, fits, good, bad) in forms {
            for text in good {
                assert!(fits(text), "{name} takes {text}");
            }
            for text in bad {
                assert!(!fits(text), "{name} refuses {text}");
            }
        }
    }
}

//! Parts of URLs: percent-decoding, query parameters, host and port.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str;

/// Why a text could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// `%` without two hexadecimal digits.
    Escape,
    /// The decoded text does not fit the caller's buffer.
    TooLong,
    /// The decoded bytes are not UTF-8.
    Utf8,
}

impl UrlError {
    /// A sentence for the peer.
    pub const fn text(self) -> &'static str {
        match self {
            UrlError::Escape => "malformed percent-encoding",
            UrlError::TooLong => "the decoded text is too long",
            UrlError::Utf8 => "the decoded text is not UTF-8",
        }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for UrlError {}

/// Decodes percent-encoding (RFC 3986 §2.1) into `out`; `+` stays `+`.
pub fn decode<'o>(text: &str, out: &'o mut [u8]) -> Result<&'o str, UrlError> {
    decode_into(Bytes { rest: text.as_bytes(), plus: false }, out)
}

/// Decodes a name or value of `application/x-www-form-urlencoded` into `out`: as [`decode`], and
/// `+` is a space.
pub fn decode_form<'o>(text: &str, out: &'o mut [u8]) -> Result<&'o str, UrlError> {
    decode_into(Bytes { rest: text.as_bytes(), plus: true }, out)
}

/// The first value of the parameter `name` (given decoded), decoded into `out`. `None`: there is no
/// such parameter. A parameter without `=` has an empty value.
pub fn query_value<'o>(
    query: &str,
    name: &str,
    out: &'o mut [u8],
) -> Option<Result<&'o str, UrlError>> {
    let (_, value) = pairs(query).find(|(raw, _)| is_named(raw, name))?;
    Some(decode_form(value, out))
}

/// How often the parameter `name` (given decoded) occurs.
pub fn query_count(query: &str, name: &str) -> usize {
    pairs(query).filter(|(raw, _)| is_named(raw, name)).count()
}

/// Raw (name, value) of each parameter, in order; empty parameters are skipped.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

fn is_named(raw: &str, name: &str) -> bool {
    let mut expected = name.as_bytes().iter();
    for byte in (Bytes { rest: raw.as_bytes(), plus: true }) {
        let Ok(byte) = byte else { return false };
        if expected.next() != Some(&byte) {
            return false;
        }
    }
    expected.next().is_none()
}

fn decode_into<'o>(bytes: Bytes<'_>, out: &'o mut [u8]) -> Result<&'o str, UrlError> {
    let mut len = 0;
    for byte in bytes {
        let byte = byte?;
        *out.get_mut(len).ok_or(UrlError::TooLong)? = byte;
        len += 1;
    }
    str::from_utf8(&out[..len]).map_err(|_| UrlError::Utf8)
}

/// Iterates over the decoded bytes of a percent-encoded text.
struct Bytes<'b> {
    rest: &'b [u8],
    plus: bool,
}

impl Iterator for Bytes<'_> {
    type Item = Result<u8, UrlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b'+' if self.plus => Some(Ok(b' ')),
            b'%' => match (rest.first().and_then(hex), rest.get(1).and_then(hex)) {
                (Some(high), Some(low)) => {
                    self.rest = &rest[2..];
                    Some(Ok(high << 4 | low))
                }
                _ => Some(Err(UrlError::Escape)),
            },
            _ => Some(Ok(first)),
        }
    }
}

/// Value of a hexadecimal digit.
pub(super) fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).map(|value| value as u8)
}

/// Host and port as in Host, in an Origin or in an http URI, without user information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'b> {
    /// Name or address, an IPv6 address in its brackets.
    pub host: &'b str,
    /// The port, if one is named.
    pub port: Option<u16>,
}

impl<'b> Authority<'b> {
    /// Splits and checks `host [":" port]` (RFC 3986 §3.2.2 and §3.2.3). `None`: malformed.
    pub fn parse(text: &'b str) -> Option<Authority<'b>> {
        let host_len = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']')?;
                rest[..end].parse::<Ipv6Addr>().ok()?;
                end + 2
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, tail) = text.split_at(host_len);
        if host.is_empty() || !(host.starts_with('[') || is_registered_name(host)) {
            return None;
        }
        let port = match tail.strip_prefix(':') {
            None if tail.is_empty() => None,
            None => return None,
            Some("") => None,
            // `parse` alone would accept a sign.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        Some(Authority { host, port })
    }

    /// The named port, or the scheme's default.
    pub fn port_or_default(&self, scheme: &str) -> Option<u16> {
        self.port.or(default_port(scheme))
    }

    /// Whether the host is `localhost`, a name below it, or a loopback address.
    pub fn is_loopback(&self) -> bool {
        if let Some(inner) = self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address = inner.parse::<Ipv6Addr>();
            return address.is_ok_and(|address| IpAddr::V6(address).to_canonical().is_loopback());
        }
        if let Ok(address) = self.host.parse::<Ipv4Addr>() {
            return address.is_loopback();
        }
        // RFC 6761 §6.3: localhost and the names below it.
        let host = self.host.as_bytes();
        let name = b"localhost";
        let Some(at) = host.len().checked_sub(name.len()) else { return false };
        host[at..].eq_ignore_ascii_case(name) && (at == 0 || host[at - 1] == b'.')
    }
}

/// The default port of a scheme.
pub fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") {
        Some(443)
    } else {
        None
    }
}

/// RFC 3986 §3.2.2: unreserved, sub-delims and percent-encoded bytes.
fn is_registered_name(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&b);
    host.bytes().all(allowed)
        && Bytes { rest: host.as_bytes(), plus: false }.all(|byte| byte.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        let query = "userId=7&subscribePath=%2Fqueue%2Fsub&&flag&a=b=c&n%61me=x+y%2B&userId=8";
        let mut out = [0; 32];
        let mut value = |name| query_value(query, name, &mut out).map(|v| v.map(str::to_owned));
        assert_eq!(value("userId"), Some(Ok("7".to_owned())));
        assert_eq!(value("subscribePath"), Some(Ok("/queue/sub".to_owned())));
        assert_eq!(value("flag"), Some(Ok(String::new())));
        assert_eq!(value("a"), Some(Ok("b=c".to_owned())));
        assert_eq!(value("name"), Some(Ok("x y+".to_owned())));
        assert_eq!(value("nam"), None);
        assert_eq!(value("names"), None);
        assert_eq!(value("userid"), None);
        assert_eq!(value(""), None);
        assert_eq!(query_count(query, "userId"), 2);
        assert_eq!(pairs("").count(), 0);
    }

    #[test]
    fn decoding_refuses_what_it_must() {
        let mut out = [0; 4];
        assert_eq!(decode("a+b", &mut out), Ok("a+b"));
        assert_eq!(decode("%e5%92%8c", &mut out), Ok("和"));
        assert_eq!(decode("abcd%", &mut out), Err(UrlError::Escape));
        for bad in ["%", "%4", "%4g", "%g4", "%+1", "% 1"] {
            assert_eq!(decode(bad, &mut out), Err(UrlError::Escape), "{bad}");
        }
        assert_eq!(decode("abcde", &mut out), Err(UrlError::TooLong));
        assert_eq!(decode("%ff", &mut out), Err(UrlError::Utf8));
        assert_eq!(decode("%c0%80", &mut out), Err(UrlError::Utf8));
    }

    #[test]
    fn authorities() {
        let good = |text| Authority::parse(text).map(|a| (a.host, a.port));
        assert_eq!(good("example.com"), Some(("example.com", None)));
        assert_eq!(good("example.com:8080"), Some(("example.com", Some(8080))));
        assert_eq!(good("example.com:"), Some(("example.com", None)));
        assert_eq!(good("[::1]:80"), Some(("[::1]", Some(80))));
        assert_eq!(good("a_b%20c"), Some(("a_b%20c", None)));
        for bad in [
            "", ":80", "a:b", "a:65536", "a:+8", "a:-8", "a:8:8", "[::1", "[::1]x", "[]", "[a]",
            "u@a", "a/b", "a b", "a?b", "a#b", "a\\b", "a%", "a%4", "::1", "a,b/", "é",
        ] {
            assert_eq!(good(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback_names() {
        let loopback = |text| Authority::parse(text).expect("well-formed").is_loopback();
        for yes in [
            "localhost",
            "LocalHost:80",
            "a.localhost",
            "127.0.0.1",
            "127.9.8.7:1",
            "[::1]:9",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(loopback(yes), "{yes}");
        }
        for no in [
            "example.com",
            "localhost.example.com",
            "mylocalhost",
            "127.0.0.1.example.com",
            "128.0.0.1",
            "[::2]",
            "127.1",
            "0.0.0.0",
        ] {
            assert!(!loopback(no), "{no}");
        }
    }
}

#![forbid(unsafe_code)]
//! Finds the client behind trusted proxies by `X-Forwarded-For`, to whose end each proxy appends
//! the address that it was called from.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str;

/// The address from which the outermost trusted proxy was called. `elements` are all elements of
/// the header in order; those before that address may be forged by the client. None: an element of
/// a trusted proxy cannot be parsed, or all elements are trusted proxies.
pub fn client_of<'a>(
    elements: impl Iterator<Item = &'a [u8]>,
    trusts: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    elements.fold(None, |client, element| match address(element) {
        Some(address) if trusts(address) => client,
        other => other,
    })
}

/// Parses an element: an address, optionally with a port; IPv6 optionally in brackets and quotes.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?.trim().trim_matches('"');
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    bare().or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(value: &str) -> Option<IpAddr> {
        let proxies = ["10.0.0.1", "10.0.0.2", "fd00::1"];
        let trusts = |address: IpAddr| {
            proxies.iter().any(|proxy| address == proxy.parse::<IpAddr>().expect("an address"))
        };
        client_of(value.split(',').map(str::as_bytes), trusts)
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        for (value, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            // Elements that the client itself sent are not believed.
            ("1.1.1.1, 203.0.113.7", Some("203.0.113.7")),
            ("1.1.1.1, 203.0.113.7, 10.0.0.2,10.0.0.1", Some("203.0.113.7")),
            ("10.0.0.2, 203.0.113.7, 10.0.0.1", Some("203.0.113.7")),
            ("203.0.113.7:4711", Some("203.0.113.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("\"[2001:db8::7]:443\"", Some("2001:db8::7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("1.1.1.1, ::ffff:10.0.0.1, fd00::1", Some("1.1.1.1")),
            // An element of a trusted proxy that cannot be parsed names nobody.
            ("1.1.1.1, unknown", None),
            ("1.1.1.1, unknown, 10.0.0.1", None),
            ("1.1.1.1, ", None),
            ("10.0.0.1", None),
            ("", None),
            ("[203.0.113.7]", None),
        ] {
            let expected = expected.map(|text| text.parse::<IpAddr>().expect("an address"));
            assert_eq!(client(value), expected, "{value}");
        }
    }
}

//! Verifies signatures of the body.

use super::HeaderLine;
use crate::config::{Callback, Encoding, FormPart, Secret, SignatureForm};
use crate::limits::SIGNATURE_ELEMENTS_MAX;
use crate::time::Millis;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use smallvec::SmallVec;

/// Bytes of an HMAC-SHA256.
const SIGNATURE_BYTES: usize = 32;

/// Why a callback is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The signature header is missing.
    Missing,
    /// The signature header, or the timestamp in it, is repeated.
    Ambiguous,
    /// The header does not have the rule's form.
    Garbled,
    /// The signature does not match this body and the rule's secrets.
    Wrong,
    /// The signature is valid, but its time is too far in the past or future: a possible replay.
    Stale,
}

impl Denial {
    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Denial::Missing
            | Denial::Ambiguous
            | Denial::Garbled
            | Denial::Wrong
            | Denial::Stale => 401,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::Missing => "the signature is missing",
            Denial::Ambiguous => "there is more than one signature or timestamp",
            Denial::Garbled => "the signature does not have the configured form",
            Denial::Wrong => "the signature does not match",
            Denial::Stale => "the signed time is too far from now",
        })
    }
}

impl core::error::Error for Denial {}

/// Verifies the signature of the body and, if the form has a timestamp, its time. `now` is the wall
/// time in milliseconds since 1970.
pub fn verify(
    rule: &Callback,
    headers: &[HeaderLine<'_>],
    body: &[u8],
    now: u64,
) -> Result<(), Denial> {
    let header = &rule.signature_header;
    let mut named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
    let (_, value) = named.next().ok_or(Denial::Missing)?;
    if named.next().is_some() {
        return Err(Denial::Ambiguous);
    }
    let found = find(&rule.signature_form, value.trim_ascii())?;
    // Constant time: an attacker must not be able to measure how much of a guess is right.
    let is_ours = |secret: &Secret| {
        let mac = mac(secret, found.timestamp, body);
        found.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
    };
    if !rule.secrets.iter().any(is_ours) {
        return Err(Denial::Wrong);
    }
    match found.timestamp {
        None => Ok(()),
        Some(digits) if is_near(digits, now, rule.timestamp_tolerance.unwrap_or_default()) => {
            Ok(())
        }
        Some(_) => Err(Denial::Stale),
    }
}

/// Signs a body at `now`, wall time in milliseconds. Returns the header's value; None without a
/// secret.
pub fn sign(rule: &Callback, body: &[u8], now: u64) -> Option<String> {
    let form = &rule.signature_form;
    let seconds = (now / 1000).to_string();
    let timestamp = form.has_timestamp().then_some(seconds.as_bytes());
    let bytes = mac(rule.secrets.first()?, timestamp, body).finalize().into_bytes();
    let text = match form.encoding() {
        Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Encoding::Base64 => STANDARD.encode(bytes),
    };
    Some(form.fill(&text, &seconds))
}

fn mac(secret: &Secret, timestamp: Option<&[u8]>, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = secret.hmac();
    if let Some(timestamp) = timestamp {
        mac.update(timestamp);
        mac.update(b".");
    }
    mac.update(body);
    mac
}

/// Whether a time in seconds is less than `tolerance` before or after `now`.
fn is_near(digits: &[u8], now: u64, tolerance: Millis) -> bool {
    let digits = core::str::from_utf8(digits).ok();
    let seconds = digits.and_then(|digits| digits.parse::<u64>().ok());
    let millis = seconds.and_then(|seconds| seconds.checked_mul(1000));
    millis.is_some_and(|millis| millis.abs_diff(now) < u64::from(tolerance.0))
}

/// The elements of a signature header.
#[derive(Default)]
struct Found<'a> {
    /// One signature, or several if the header is a list.
    signatures: SmallVec<[[u8; SIGNATURE_BYTES]; 2]>,
    /// The digits of the timestamp, if the form has one.
    timestamp: Option<&'a [u8]>,
}

/// Parses a header: the form's elements in any order; a list may have others as well.
fn find<'a>(form: &SignatureForm, value: &'a [u8]) -> Result<Found<'a>, Denial> {
    let is_list = form.has_timestamp();
    let elements: SmallVec<[&[u8]; 4]> = match is_list {
        true => value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect(),
        false => SmallVec::from_slice(&[value]),
    };
    if elements.len() > SIGNATURE_ELEMENTS_MAX {
        return Err(Denial::Garbled);
    }
    let mut found = Found::default();
    for parts in form.elements() {
        let mut fits = false;
        for element in &elements {
            let Some((signature, timestamp)) = read(parts, element) else { continue };
            fits = true;
            found.signatures.extend(signature);
            if let Some(digits) = timestamp
                && found.timestamp.replace(digits).is_some()
            {
                return Err(Denial::Ambiguous);
            }
        }
        if !fits {
            return Err(Denial::Garbled);
        }
    }
    Ok(found)
}

/// The variable part of one element of a header, if the element has the form of these parts.
type Element<'a> = (Option<[u8; SIGNATURE_BYTES]>, Option<&'a [u8]>);

fn read<'a>(parts: &[FormPart], element: &'a [u8]) -> Option<Element<'a>> {
    let (mut rest, mut signature, mut timestamp) = (element, None, None);
    for part in parts {
        match part {
            FormPart::Text(text) => rest = rest.strip_prefix(text.as_bytes())?,
            FormPart::Signature(encoding) => {
                let (text, behind) = rest.split_at_checked(encoded_len(*encoding))?;
                (signature, rest) = (Some(decode(*encoding, text)?), behind);
            }
            FormPart::Timestamp => {
                let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (digits, behind) = rest.split_at(len);
                (timestamp, rest) = (Some(digits).filter(|digits| !digits.is_empty()), behind);
                timestamp?;
            }
        }
    }
    rest.is_empty().then_some((signature, timestamp))
}

/// Length of a signature in its written form.
fn encoded_len(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Hex => 2 * SIGNATURE_BYTES,
        Encoding::Base64 => SIGNATURE_BYTES.div_ceil(3) * 4,
    }
}

fn decode(encoding: Encoding, text: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let mut bytes = [0; SIGNATURE_BYTES];
    match encoding {
        Encoding::Hex => {
            for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                *byte = digit(pair[0])? << 4 | digit(pair[1])?;
            }
        }
        Encoding::Base64 => bytes = STANDARD.decode(text).ok()?.try_into().ok()?,
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::tests::rule;
    use super::*;
    /// Milliseconds since 1970.
    const NOW: u64 = 1_700_000_000_000;

    // RFC 4231 §4.3, test case 2.
    const BODY: &[u8] = b"what do ya want for nothing?";
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn jefe(form: &str) -> Callback {
        let mut rule = rule(&format!("signature-form = '{form}'"));
        rule.secrets = vec![Secret::new("Jefe")];
        rule
    }

    fn check(rule: &Callback, value: &str) -> Result<(), Denial> {
        verify(rule, &[("x-signature", value.as_bytes())], BODY, NOW)
    }

    #[test]
    fn the_vector_of_rfc_4231_is_good_in_every_form() {
        let hex = jefe("sha256={hex}");
        assert_eq!(sign(&hex, BODY, NOW), Some(format!("sha256={HEX}")));
        assert_eq!(check(&hex, &format!("sha256={HEX}")), Ok(()));
        assert_eq!(check(&hex, &format!(" sha256={} ", HEX.to_uppercase())), Ok(()));
        let bare = jefe("{hex}");
        assert_eq!(check(&bare, HEX), Ok(()));
        let base = jefe("v1,{base64};");
        let value = "v1,W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=;";
        assert_eq!(sign(&base, BODY, NOW).as_deref(), Some(value));
        assert_eq!(check(&base, value), Ok(()));
        assert_eq!(check(&base, "v1,AAAA;"), Err(Denial::Garbled));
    }

    #[test]
    fn rfc_4231_cases_with_other_keys() {
        let long = [0xaa; 131];
        let cases: [(&[u8], &[u8], &str); 2] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                &long,
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, body, expected) in cases {
            let mut rule = jefe("{hex}");
            rule.secrets = vec![Secret::new(key)];
            assert_eq!(sign(&rule, body, NOW).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_missing_garbled_or_wrong_is_denied() {
        let rule = jefe("sha256={hex}");
        assert_eq!(verify(&rule, &[], BODY, NOW), Err(Denial::Missing));
        let good = format!("sha256={HEX}");
        let line = ("X-Signature", good.as_bytes());
        assert_eq!(verify(&rule, &[line, line], BODY, NOW), Err(Denial::Ambiguous));
        assert_eq!(verify(&rule, &[line], b"what do ya want", NOW), Err(Denial::Wrong));
        let garbled = ["", "sha256=", HEX, "sha1=00", &good[..good.len() - 1], "sha256=é"];
        for value in garbled {
            assert_eq!(check(&rule, value), Err(Denial::Garbled), "{value}");
        }
        let signs = good.replace("sha256=5b", "sha256=+b");
        assert_eq!(check(&rule, &signs), Err(Denial::Garbled));
        // A change of any digit is detected.
        for at in "sha256=".len()..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(verify(&rule, &[("x-signature", &bytes)], BODY, NOW), Err(Denial::Wrong));
        }
    }

    const SIGNED: &str = "t=1700000000,v1=";

    /// A rule for signatures like Stripe's.
    fn stripe() -> Callback {
        jefe("t={timestamp},v1={hex}")
    }

    fn hex_of(secret: &str, bytes: &[u8]) -> String {
        let mac = mac(&Secret::new(secret), None, bytes).finalize().into_bytes();
        mac.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_time_and_the_body_are_signed_together() {
        let rule = stripe();
        let good = hex_of("Jefe", &[b"1700000000.", BODY].concat());
        let value = format!("{SIGNED}{good}");
        assert_eq!(sign(&rule, BODY, NOW + 999), Some(value.clone()));
        assert_eq!(check(&rule, &value), Ok(()));
        // A signature of only the body, another time, another body.
        assert_eq!(check(&rule, &format!("{SIGNED}{HEX}")), Err(Denial::Wrong));
        assert_eq!(check(&rule, &format!("t=1700000001,v1={good}")), Err(Denial::Wrong));
        let line = [("x-signature", value.as_bytes())];
        assert_eq!(verify(&rule, &line, b"what", NOW), Err(Denial::Wrong));
        let joined = jefe("{timestamp}.{base64}");
        let value = sign(&joined, BODY, NOW).expect("generic");
        assert_eq!(check(&joined, &value), Ok(()));
        assert_eq!(check(&joined, &value.replace("0.", "1.")), Err(Denial::Wrong));
    }

    #[test]
    fn a_list_may_be_in_any_order_and_have_more_elements() {
        let rule = stripe();
        let good = hex_of("Jefe", &[b"1700000000.", BODY].concat());
        let other = "00".repeat(SIGNATURE_BYTES);
        for value in [
            format!("v1={good},t=1700000000"),
            format!(" t=1700000000 , v1={good} , v0={other},x"),
            format!("t=1700000000,v1={other},v1={good}"),
        ] {
            assert_eq!(check(&rule, &value), Ok(()), "{value}");
        }
        let many = format!("{SIGNED}{good}{}", ",v0=".repeat(SIGNATURE_ELEMENTS_MAX - 1));
        for (value, expected) in [
            (format!("t=1700000000,t=1700000000,v1={good}"), Denial::Ambiguous),
            (format!("v1={good}"), Denial::Garbled),
            (format!("t=,v1={good}"), Denial::Garbled),
            (format!("t=-1,v1={good}"), Denial::Garbled),
            (format!("t=1700000000v1={good}"), Denial::Garbled),
            (format!("{SIGNED}{}", &good[1..]), Denial::Garbled),
            (format!("{SIGNED}{good}0"), Denial::Garbled),
            (format!("{SIGNED}{other}"), Denial::Wrong),
            (many, Denial::Garbled),
        ] {
            assert_eq!(check(&rule, &value), Err(expected), "{value}");
        }
    }

    #[test]
    fn a_replay_beyond_the_tolerance_is_stale() {
        let mut rule = stripe();
        let value = sign(&rule, BODY, NOW).expect("generic");
        let at = |rule: &Callback, now: u64| {
            verify(rule, &[("x-signature", value.as_bytes())], BODY, now)
        };
        let five_minutes = 300_000;
        for (now, expected) in [
            (NOW - five_minutes, Err(Denial::Stale)),
            (NOW - five_minutes + 1, Ok(())),
            (NOW + five_minutes - 1, Ok(())),
            (NOW + five_minutes, Err(Denial::Stale)),
            (0, Err(Denial::Stale)),
            (u64::MAX, Err(Denial::Stale)),
        ] {
            assert_eq!(at(&rule, now), expected, "{now}");
        }
        assert_eq!(Denial::Stale.status(), 401);
        rule.timestamp_tolerance = Some(Millis(1));
        assert_eq!((at(&rule, NOW), at(&rule, NOW + 1)), (Ok(()), Err(Denial::Stale)));
        // None of these spellings is a valid time.
        let far = "9".repeat(40);
        let signed = hex_of("Jefe", &[far.as_bytes(), b".", BODY].concat());
        assert_eq!(check(&rule, &format!("t={far},v1={signed}")), Err(Denial::Stale));
    }

    #[test]
    fn any_of_several_secrets_makes_it_good_and_the_first_signs() {
        let mut rule = jefe("{hex}");
        rule.secrets.insert(0, Secret::new("new"));
        assert_eq!(check(&rule, HEX), Ok(()));
        assert_eq!(sign(&rule, BODY, NOW), Some(hex_of("new", BODY)));
        assert_eq!(check(&rule, &hex_of("new", BODY)), Ok(()));
        assert_eq!(check(&rule, &hex_of("old", BODY)), Err(Denial::Wrong));
    }
}

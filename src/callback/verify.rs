//! Signatures over the body.

use super::HeaderLine;
use crate::config::{Callback, Encoding, Profile, SignatureForm};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Octets of an HMAC-SHA256.
const SIGNATURE_BYTES: usize = 32;

/// Why a callback is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The signature header is missing.
    Missing,
    /// The signature header stands there twice.
    Ambiguous,
    /// The header has not the form that the rule says.
    Garbled,
    /// The signature is not that of this body with our secret.
    Wrong,
    /// The profile is built later.
    NotBuilt,
}

impl Denial {
    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Denial::Missing | Denial::Ambiguous | Denial::Garbled | Denial::Wrong => 401,
            Denial::NotBuilt => 501,
        }
    }

    /// The word in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Denial::Missing => "signature-missing",
            Denial::Ambiguous => "signature-ambiguous",
            Denial::Garbled => "signature-garbled",
            Denial::Wrong => "signature-wrong",
            Denial::NotBuilt => "profile-not-built",
        }
    }
}

/// Checks who signed the body.
pub fn verify(rule: &Callback, headers: &[HeaderLine<'_>], body: &[u8]) -> Result<(), Denial> {
    let Profile::Generic { header, form } = &rule.profile else { return Err(Denial::NotBuilt) };
    let mut named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
    let (_, value) = named.next().ok_or(Denial::Missing)?;
    if named.next().is_some() {
        return Err(Denial::Ambiguous);
    }
    let signature = parse(form, value.trim_ascii()).ok_or(Denial::Garbled)?;
    // Constant time: how much of a guess is right must not be measurable.
    mac(rule, body).verify_slice(&signature).map_err(|_| Denial::Wrong)
}

/// The header's value for a body of ours, None for a profile that is built later.
pub fn sign(rule: &Callback, body: &[u8]) -> Option<String> {
    let Profile::Generic { form, .. } = &rule.profile else { return None };
    let octets = mac(rule, body).finalize().into_bytes();
    let text = match form.encoding {
        Encoding::Hex => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
        Encoding::Base64 => STANDARD.encode(octets),
    };
    Some(format!("{}{text}{}", form.before, form.after))
}

fn mac(rule: &Callback, body: &[u8]) -> Hmac<Sha256> {
    let key = rule.secret.expose();
    let mut mac = Hmac::new_from_slice(key).expect("a key of an HMAC may have any length");
    mac.update(body);
    mac
}

fn parse(form: &SignatureForm, value: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let text = value.strip_prefix(form.before.as_bytes())?;
    let text = text.strip_suffix(form.after.as_bytes())?;
    let mut octets = [0; SIGNATURE_BYTES];
    match form.encoding {
        Encoding::Hex => {
            if text.len() != 2 * SIGNATURE_BYTES {
                return None;
            }
            for (octet, pair) in octets.iter_mut().zip(text.chunks_exact(2)) {
                *octet = digit(pair[0])? << 4 | digit(pair[1])?;
            }
        }
        Encoding::Base64 => octets = STANDARD.decode(text).ok()?.try_into().ok()?,
    }
    Some(octets)
}

fn digit(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::super::mapping::tests::rule;
    use super::*;
    use crate::config::Secret;

    // RFC 4231 §4.3, test case 2.
    const BODY: &[u8] = b"what do ya want for nothing?";
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn jefe(form: &str) -> Callback {
        let mut rule = rule(&format!("signature-form = '{form}'"));
        rule.secret = Secret::new("Jefe");
        rule
    }

    fn check(rule: &Callback, value: &str) -> Result<(), Denial> {
        verify(rule, &[("x-signature", value.as_bytes())], BODY)
    }

    #[test]
    fn the_vector_of_rfc_4231_is_good_in_every_form() {
        let hex = jefe("sha256={hex}");
        assert_eq!(sign(&hex, BODY), Some(format!("sha256={HEX}")));
        assert_eq!(check(&hex, &format!("sha256={HEX}")), Ok(()));
        assert_eq!(check(&hex, &format!(" sha256={} ", HEX.to_uppercase())), Ok(()));
        let bare = jefe("{hex}");
        assert_eq!(check(&bare, HEX), Ok(()));
        let base = jefe("v1,{base64};");
        let value = "v1,W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=;";
        assert_eq!(sign(&base, BODY).as_deref(), Some(value));
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
            rule.secret = Secret::new(key);
            assert_eq!(sign(&rule, body).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_missing_garbled_or_wrong_is_denied() {
        let rule = jefe("sha256={hex}");
        assert_eq!(verify(&rule, &[], BODY), Err(Denial::Missing));
        let good = format!("sha256={HEX}");
        let line = ("X-Signature", good.as_bytes());
        assert_eq!(verify(&rule, &[line, line], BODY), Err(Denial::Ambiguous));
        assert_eq!(verify(&rule, &[line], b"what do ya want"), Err(Denial::Wrong));
        let garbled = ["", "sha256=", HEX, "sha1=00", &good[..good.len() - 1], "sha256=é"];
        for value in garbled {
            assert_eq!(check(&rule, value), Err(Denial::Garbled), "{value}");
        }
        let signs = good.replace("sha256=5b", "sha256=+b");
        assert_eq!(check(&rule, &signs), Err(Denial::Garbled));
        // Every digit counts.
        for at in "sha256=".len()..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(verify(&rule, &[("x-signature", &bytes)], BODY), Err(Denial::Wrong));
        }
    }

    #[test]
    fn a_profile_that_is_built_later_is_never_believed() {
        let rule = rule("profile = 'twilio'");
        assert_eq!(check(&rule, "sha256="), Err(Denial::NotBuilt));
        assert_eq!((Denial::NotBuilt.status(), Denial::Wrong.status()), (501, 401));
        assert_eq!(sign(&rule, BODY), None);
    }
}

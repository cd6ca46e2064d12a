//! Signed tokens (JWT, RFC 7519): the signature, then the claims against the time passed in.

use super::Refusal;
use crate::config::{Token, TokenAlgorithm};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value};

/// The user that a token names, if the token satisfies the rule.
pub(super) fn user(rule: &Token, token: &[u8], now: u64) -> Result<String, Refusal> {
    let claims = verified(rule, token)?;
    let leeway = f64::from(rule.leeway.0) / 1000.0;
    // Seconds since 1970 are exact in an f64 for 285 million years.
    let now = now as f64;
    if date(&claims, "exp")?.is_some_and(|expiry| now >= expiry + leeway) {
        return Err(Refusal::Expired);
    }
    if date(&claims, "nbf")?.is_some_and(|start| now + leeway < start) {
        return Err(Refusal::Early);
    }
    if let Some(issuer) = &rule.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Refusal::Issuer);
    }
    if let Some(audience) = &rule.audience
        && !is_for(&claims, audience)
    {
        return Err(Refusal::Audience);
    }
    match claims.get(&rule.user_claim) {
        Some(Value::String(name)) => Ok(name.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(Refusal::Claim),
    }
}

fn verified(rule: &Token, token: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let algorithms = rule.algorithms.iter().map(|algorithm| match algorithm {
        TokenAlgorithm::Hs256 => Algorithm::HS256,
        TokenAlgorithm::Hs384 => Algorithm::HS384,
        TokenAlgorithm::Hs512 => Algorithm::HS512,
    });
    let mut validation = Validation::new(Algorithm::HS256);
    validation.algorithms = algorithms.collect();
    // The library would read the clock, so the claims are checked here.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    // Once per process; nothing else installs a provider.
    let _ = super::verifier::PROVIDER.install_default();
    let key = DecodingKey::from_secret(rule.secret.expose());
    let decoded = decode::<Map<String, Value>>(token, &key, &validation);
    decoded.map(|data| data.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Refusal::Algorithm,
        _ => Refusal::Malformed,
    })
}

/// A NumericDate (RFC 7519 §2). A value that is not a number must not count as absent.
fn date(claims: &Map<String, Value>, claim: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Refusal::Malformed),
    }
}

// RFC 7519 §4.1.3: one audience, or a list of them.
fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Secret, TokenSource};
    use crate::time::Millis;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit, Mac};

    /// Signed without the library, so that it is not checked against itself.
    pub(in crate::identity) fn signed(claims: &str) -> String {
        sign(r#"{"alg":"HS256","typ":"JWT"}"#, claims, b"a secret of the tests")
    }

    fn sign(head: &str, claims: &str, key: &[u8]) -> String {
        sign_with::<Hmac<sha2::Sha256>>(head, claims, key)
    }

    fn sign_with<M: Mac + KeyInit>(head: &str, claims: &str, key: &[u8]) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let mac = <M as KeyInit>::new_from_slice(key).expect("any length is a key");
        let mac = mac.chain_update(text.as_bytes()).finalize().into_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    fn rule() -> Token {
        Token {
            secret: Secret::new("a secret of the tests"),
            algorithms: vec![TokenAlgorithm::Hs256],
            user_claim: "sub".to_string(),
            from: vec![TokenSource::Bearer],
            issuer: None,
            audience: None,
            leeway: Millis::seconds(60),
        }
    }

    const NOW: u64 = 1_000_000;

    fn claims(rule: &Token, claims: &str) -> Result<String, Refusal> {
        user(rule, signed(claims).as_bytes(), NOW)
    }

    #[test]
    fn claims_table() {
        let named = |name: &str| Ok(name.to_string());
        let cases = [
            (r#"{"sub":"7"}"#, named("7")),
            (r#"{"sub":7}"#, named("7")),
            (r#"{"sub":"7","exp":1000000}"#, named("7")),
            (r#"{"sub":"7","exp":999941}"#, named("7")),
            (r#"{"sub":"7","exp":999940}"#, Err(Refusal::Expired)),
            (r#"{"sub":"7","exp":999940.5}"#, named("7")),
            (r#"{"sub":"7","exp":"tomorrow"}"#, Err(Refusal::Malformed)),
            (r#"{"sub":"7","exp":null}"#, Err(Refusal::Malformed)),
            (r#"{"sub":"7","nbf":1000060}"#, named("7")),
            (r#"{"sub":"7","nbf":1000061}"#, Err(Refusal::Early)),
            (r#"{"name":"7"}"#, Err(Refusal::Claim)),
            (r#"{"sub":null}"#, Err(Refusal::Claim)),
            (r#"["sub"]"#, Err(Refusal::Malformed)),
            ("", Err(Refusal::Malformed)),
        ];
        for (text, expected) in cases {
            assert_eq!(claims(&rule(), text), expected, "{text}");
        }
        let rule = Token { user_claim: "uid".to_string(), ..rule() };
        assert_eq!(claims(&rule, r#"{"uid":["7"]}"#), Err(Refusal::Claim));
        assert_eq!(claims(&rule, r#"{"uid":true,"sub":"7"}"#), Err(Refusal::Claim));
    }

    #[test]
    fn issuer_and_audience_are_required_if_the_rule_names_them() {
        let mut rule = rule();
        rule.issuer = Some("sso".to_string());
        assert_eq!(claims(&rule, r#"{"sub":"7","iss":"sso"}"#), Ok("7".to_string()));
        assert_eq!(claims(&rule, r#"{"sub":"7","iss":"other"}"#), Err(Refusal::Issuer));
        assert_eq!(claims(&rule, r#"{"sub":"7"}"#), Err(Refusal::Issuer));
        (rule.issuer, rule.audience) = (None, Some("push".to_string()));
        assert_eq!(claims(&rule, r#"{"sub":"7","aud":"push"}"#), Ok("7".to_string()));
        assert_eq!(claims(&rule, r#"{"sub":"7","aud":["a","push"]}"#), Ok("7".to_string()));
        assert_eq!(claims(&rule, r#"{"sub":"7","aud":["a"]}"#), Err(Refusal::Audience));
        assert_eq!(claims(&rule, r#"{"sub":"7"}"#), Err(Refusal::Audience));
    }

    #[test]
    fn only_our_signature_and_algorithm_count() {
        let body = r#"{"sub":"7"}"#;
        let with = |head: &str, key: &[u8]| user(&rule(), sign(head, body, key).as_bytes(), NOW);
        assert_eq!(with(r#"{"alg":"HS256"}"#, b"a secret of the tests"), Ok("7".to_string()));
        assert_eq!(with(r#"{"alg":"HS256"}"#, b"other"), Err(Refusal::Signature));
        assert_eq!(with(r#"{"alg":"HS384"}"#, b"a secret of the tests"), Err(Refusal::Algorithm));
        assert_eq!(with(r#"{"alg":"RS256"}"#, b"a secret of the tests"), Err(Refusal::Algorithm));
        assert!(with(r#"{"alg":"none"}"#, b"a secret of the tests").is_err());
        let good = signed(body);
        let unsigned = &good[..good.rfind('.').expect("three parts") + 1];
        assert!(user(&rule(), unsigned.as_bytes(), NOW).is_err());
        let none = sign(r#"{"alg":"none"}"#, body, b"");
        let none = &none[..none.rfind('.').expect("three parts") + 1];
        assert!(user(&rule(), none.as_bytes(), NOW).is_err());
        for bad in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "\u{fffd}.x.y"] {
            assert!(user(&rule(), bad.as_bytes(), NOW).is_err(), "{bad}");
        }
        // A change of any single byte is detected.
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(user(&rule(), &bytes, NOW).is_err(), "{at}");
        }
    }

    #[test]
    fn each_algorithm_that_the_rule_names_is_checked_with_its_own_hash() {
        type Sign = fn(&str, &str, &[u8]) -> String;
        let all: [(&str, TokenAlgorithm, Sign); 3] = [
            ("HS256", TokenAlgorithm::Hs256, sign_with::<Hmac<sha2::Sha256>>),
            ("HS384", TokenAlgorithm::Hs384, sign_with::<Hmac<sha2::Sha384>>),
            ("HS512", TokenAlgorithm::Hs512, sign_with::<Hmac<sha2::Sha512>>),
        ];
        for (said, _, _) in &all {
            for (named, algorithm, _) in &all {
                for (hashed, _, sign) in &all {
                    let rule = Token { algorithms: vec![*algorithm], ..rule() };
                    let head = format!("{{\"alg\":\"{said}\"}}");
                    let token = sign(&head, r#"{"sub":"7"}"#, rule.secret.expose());
                    let expected = match (said == named, said == hashed) {
                        (true, true) => Ok("7".to_string()),
                        (true, false) => Err(Refusal::Signature),
                        (false, _) => Err(Refusal::Algorithm),
                    };
                    let found = user(&rule, token.as_bytes(), NOW);
                    assert_eq!(found, expected, "{said}, {named} allowed, hashed with {hashed}");
                }
            }
        }
    }

    #[test]
    fn a_token_of_rfc_7515_is_good() {
        // RFC 7515 §A.1, the key in base64url.
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwj\
                   AzZr1Z9CAow";
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEz\
                     MDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CV\
                     P-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let mut rule = rule();
        rule.secret = Secret::new(URL_SAFE_NO_PAD.decode(key).expect("good"));
        rule.user_claim = "iss".to_string();
        assert_eq!(user(&rule, token.as_bytes(), 1_300_819_379), Ok("joe".to_string()));
        assert_eq!(user(&rule, token.as_bytes(), 1_300_819_440), Err(Refusal::Expired));
    }
}

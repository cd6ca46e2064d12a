//! Maps the posted JSON to a push.

use super::pointer::{find, nesting, string};
use crate::config::{Callback, Pointer};
use crate::identity::is_name;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::fmt;

/// Bytes of the longest id: each is stored for the whole dedupe window.
pub const ID_MAX: usize = 256;

/// A mapped callback. Its payload is in the buffer that [`map`] was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped<'a> {
    /// The id by which a duplicate is recognised, if the rule has one.
    pub id: Option<Cow<'a, str>>,
    /// The user who gets it. None with [`Target::User`]: the JSON names no user, and the rule's
    /// `offline` decides.
    pub user: Option<Cow<'a, str>>,
    /// Its destination.
    pub target: Target<'a>,
}

/// The destination of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// This destination of the user.
    User(&'a str),
    /// This broker destination.
    Broker(&'a str),
}

/// Why the body cannot be mapped. Each is a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// Not UTF-8, or not JSON.
    NotJson,
    /// Deeper than `json-depth`.
    TooDeep,
    /// The body has no value at this pointer of the rule.
    Missing(&'a Pointer),
    /// The value there is not a string or number, or is empty or too long.
    Unfit(&'a Pointer),
}

impl Problem<'_> {
    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        400
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NotJson => f.write_str("the body is not JSON"),
            Problem::TooDeep => f.write_str("the JSON is nested too deeply"),
            Problem::Missing(pointer) => write!(f, "the JSON has no {}", pointer.text()),
            Problem::Unfit(pointer) => {
                write!(f, "{} is not a short text or number", pointer.text())
            }
        }
    }
}

/// Finds id and user, and appends the payload to `out`.
pub fn map<'a>(
    rule: &'a Callback,
    json_depth: u32,
    body: &'a [u8],
    out: &mut Vec<u8>,
) -> Result<Mapped<'a>, Problem<'a>> {
    let text = simdutf8::basic::from_utf8(body).map_err(|_| Problem::NotJson)?;
    // With fewer brackets than that nothing can be nested too deeply.
    let opened = body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opened > json_depth as usize && nesting(body) > json_depth {
        return Err(Problem::TooDeep);
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Problem::NotJson)?;
    let id = match &rule.id {
        None => None,
        Some(pointer) => {
            let id = scalar(text, pointer)?.ok_or(Problem::Unfit(pointer))?;
            Some(Some(id).filter(|id| id.len() <= ID_MAX).ok_or(Problem::Unfit(pointer))?)
        }
    };
    let user = match &rule.user {
        None => None,
        Some(pointer) => {
            let user = scalar(text, pointer)?;
            if user.as_deref().is_some_and(|name| !is_name(name)) {
                return Err(Problem::Unfit(pointer));
            }
            user
        }
    };
    let target = match rule.user {
        Some(_) => Target::User(&rule.destination),
        None => Target::Broker(&rule.destination),
    };
    payload(rule, body, out);
    Ok(Mapped { id, user, target })
}

/// The text of a string or number. Null and the empty string are None: the field is there, but it
/// names nobody.
fn scalar<'a>(json: &'a str, pointer: &'a Pointer) -> Result<Option<Cow<'a, str>>, Problem<'a>> {
    let value = find(json, pointer.tokens()).ok_or(Problem::Missing(pointer))?;
    match value.as_bytes().first() {
        Some(b'"') => {
            let text = string(value).ok_or(Problem::Unfit(pointer))?;
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        // The digits as posted: a 64-bit id must not pass through a float.
        Some(b'-' | b'0'..=b'9') => Ok(Some(Cow::Borrowed(value))),
        Some(b'n') => Ok(None),
        _ => Err(Problem::Unfit(pointer)),
    }
}

/// Bytes around a business type without escapes and its data.
const FRAME: usize = r#"{"businessType":"","data":}"#.len();

fn payload(rule: &Callback, body: &[u8], out: &mut Vec<u8>) {
    let data = body.trim_ascii();
    match &rule.business_type {
        None => out.extend_from_slice(data),
        Some(business_type) => {
            out.reserve(FRAME + business_type.len() + data.len());
            out.extend_from_slice(br#"{"businessType":"#);
            serde_json::to_writer(&mut *out, business_type).expect("writing to a Vec cannot fail");
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data);
            out.push(b'}');
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Sources;
    use proptest::prelude::*;

    /// A rule with id and user, and these further keys.
    pub(in crate::callback) fn rule(keys: &str) -> Callback {
        let both = "id = '/callId'\nuser = '/agent/id'\ndestination = '/queue/sub'";
        bare(&format!("{both}\n{keys}"))
    }

    fn bare(keys: &str) -> Callback {
        let secret = ("RINGPUSH_CALLBACK_SECRET".to_string(), "a secret of the tests".to_string());
        let sources = Sources { environment: vec![secret], ..Sources::default() };
        let toml = format!("[[callback]]\npath = '/c'\n{keys}");
        sources.parse(&toml, false).expect("the test's TOML is good").callbacks.remove(0)
    }

    fn try_map<'a>(rule: &'a Callback, body: &'a str) -> Result<(Mapped<'a>, String), Problem<'a>> {
        let mut out = Vec::new();
        let mapped = map(rule, 4, body.as_bytes(), &mut out);
        if mapped.is_err() {
            assert!(out.is_empty(), "nothing is written for a refused body");
        }
        Ok((mapped?, String::from_utf8(out).expect("text in, text out")))
    }

    #[test]
    fn id_user_and_payload_are_found() {
        let rule = rule("business-type = 'CALL_\"IN'");
        let body = "\n {\"callId\":12345678901234567890123, \"agent\":{\"id\":\"张\\u0037\"}} \t";
        let (mapped, payload) = try_map(&rule, body).expect("good");
        assert_eq!(mapped.id.as_deref(), Some("12345678901234567890123"));
        assert_eq!(mapped.user.as_deref(), Some("张7"));
        assert_eq!(mapped.target, Target::User("/queue/sub"));
        let expected = format!(r#"{{"businessType":"CALL_\"IN","data":{}}}"#, body.trim());
        assert_eq!(payload, expected);
    }

    #[test]
    fn without_pointers_it_goes_to_a_broker_destination_as_it_is() {
        let rule = bare("destination = '/topic/calls'");
        let (mapped, payload) = try_map(&rule, " [1] ").expect("good");
        assert_eq!((mapped.id, mapped.user), (None, None));
        assert_eq!(mapped.target, Target::Broker("/topic/calls"));
        assert_eq!(payload, "[1]");
    }

    #[test]
    fn problems_table() {
        let rule = rule("");
        let long = format!(r#"{{"callId":"{}","agent":{{"id":1}}}}"#, "x".repeat(257));
        let name = format!(r#"{{"callId":1,"agent":{{"id":"{}"}}}}"#, "x".repeat(129));
        let cases = [
            ("", "the body is not JSON"),
            ("{", "the body is not JSON"),
            ("{} {}", "the body is not JSON"),
            ("\u{feff}{}", "the body is not JSON"),
            ("{'a':1}", "the body is not JSON"),
            ("[[[[[1]]]]]", "the JSON is nested too deeply"),
            ("[[[[1]]]]", "the JSON has no /callId"),
            ("{}", "the JSON has no /callId"),
            ("[]", "the JSON has no /callId"),
            (r#"{"callId":1}"#, "the JSON has no /agent/id"),
            (r#"{"callId":1,"agent":7}"#, "the JSON has no /agent/id"),
            (r#"{"callId":null,"agent":{"id":1}}"#, "/callId is not a short text or number"),
            (r#"{"callId":"","agent":{"id":1}}"#, "/callId is not a short text or number"),
            (r#"{"callId":{},"agent":{"id":1}}"#, "/callId is not a short text or number"),
            (r#"{"callId":"\ud800","agent":{"id":1}}"#, "/callId is not a short text or number"),
            (r#"{"callId":1,"agent":{"id":true}}"#, "/agent/id is not a short text or number"),
            (r#"{"callId":1,"agent":{"id":"a\n"}}"#, "/agent/id is not a short text or number"),
            (&long, "/callId is not a short text or number"),
            (&name, "/agent/id is not a short text or number"),
        ];
        for (body, expected) in cases {
            let problem = try_map(&rule, body).expect_err(body);
            assert_eq!(problem.to_string(), expected, "{body}");
            assert_eq!(problem.status(), 400);
        }
        assert_eq!(map(&rule, 4, b"\"\xff\"", &mut Vec::new()), Err(Problem::NotJson));
        let problem = |body| try_map(&rule, body).expect_err(body);
        assert_eq!((problem("{"), problem("[[[[[1]]]]]")), (Problem::NotJson, Problem::TooDeep));
    }

    #[test]
    fn a_user_who_is_null_or_empty_is_absent_not_missing() {
        let rule = rule("");
        for id in ["null", "\"\""] {
            let body = format!(r#"{{"callId":1,"agent":{{"id":{id}}}}}"#);
            let (mapped, _) = try_map(&rule, &body).expect("it is there");
            assert_eq!((mapped.user, mapped.target), (None, Target::User("/queue/sub")));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_handled(body: Vec<u8>, text in "[\\[\\]{}\",:\\\\au1 ]{0,32}") {
            let rule = rule("");
            let _ = map(&rule, 8, &body, &mut Vec::new()).is_ok();
            let _ = map(&rule, 8, text.as_bytes(), &mut Vec::new()).is_ok();
        }

        #[test]
        fn any_text_is_kept_as_an_id(id in ".{1,60}") {
            let rule = rule("");
            let posted = serde_json::to_string(&id).expect("a text can be written");
            let body = format!(r#"{{"callId":{posted},"agent":{{"id":7}}}}"#);
            let (mapped, payload) = try_map(&rule, &body).expect("good");
            prop_assert_eq!(mapped.id.as_deref(), Some(&*id));
            prop_assert_eq!(&payload, &body);
        }
    }
}

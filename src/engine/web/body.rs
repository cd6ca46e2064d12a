#![forbid(unsafe_code)]
//! JSON bodies of the API: what they may say, and what is answered when they say something else.

use crate::metrics::Refusal;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Why a request is answered with an error.
#[derive(Debug)]
pub struct Bad {
    /// Of the answer.
    pub status: u16,
    /// What is wrong.
    pub text: String,
    /// What it is counted as.
    pub refusal: Refusal,
}

impl From<(u16, String)> for Bad {
    /// What the API cannot serve.
    fn from((status, text): (u16, String)) -> Bad {
        Bad { status, text, refusal: Refusal::ApiRequest }
    }
}

impl Bad {
    /// Counted as something of its own.
    pub fn of(refusal: impl Into<Refusal>, status: u16, text: impl Into<String>) -> Bad {
        Bad { status, text: text.into(), refusal: refusal.into() }
    }

    /// The same, said of one item of an array: its index, from 0 on.
    pub fn of_item(mut self, index: usize) -> Bad {
        self.text = format!("item {index}: {}", self.text);
        self
    }
}

/// Headers of a message besides its destination.
pub type Headers = Vec<(String, String)>;

/// An item of `POST /api/publish`, or the body of `POST /api/users/{user}/messages`.
pub struct Item {
    /// Where it goes, as it was written.
    pub destination: String,
    /// With a `content-type`, whether it was given or not.
    pub headers: Headers,
    /// What is pushed.
    pub body: Vec<u8>,
    /// Id of the only session that is meant.
    pub session: Option<String>,
}

/// An item as it was written: a body that is read and written again may have lost digits of its
/// numbers, and the order of its keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    destination: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(borrow)]
    body: &'a RawValue,
    session: Option<String>,
}

/// The items of a body, and whether it is an array of them. The first bad one ends it.
pub fn items(body: &[u8], depth_max: u32) -> Result<(Vec<Item>, bool), Bad> {
    if !body.trim_ascii_start().starts_with(b"[") {
        return Ok((vec![item(body, depth_max)?], false));
    }
    check_depth(body, depth_max)?;
    let list: Vec<&RawValue> = serde_json::from_slice(body).map_err(unfit)?;
    let read =
        |(at, item): (usize, &RawValue)| read(item.get().as_bytes()).map_err(|bad| bad.of_item(at));
    Ok((list.into_iter().enumerate().map(read).collect::<Result<_, _>>()?, true))
}

/// The one item of a body.
pub fn item(body: &[u8], depth_max: u32) -> Result<Item, Bad> {
    check_depth(body, depth_max)?;
    read(body)
}

/// A string goes out as it is, any other JSON as JSON.
fn read(written: &[u8]) -> Result<Item, Bad> {
    // Of an array its elements would be taken for the fields.
    if written.trim_ascii_start().starts_with(b"[") {
        return Err((400, "an item is an object".to_owned()).into());
    }
    let Written { destination, headers, body, session } =
        serde_json::from_slice(written).map_err(unfit)?;
    let (kind, body) = match serde_json::from_str::<String>(body.get()) {
        Ok(text) => ("text/plain;charset=UTF-8", text.into_bytes()),
        Err(_) => ("application/json", body.get().as_bytes().to_vec()),
    };
    let is_typed = headers.contains_key("content-type");
    let kind = (!is_typed).then(|| ("content-type".to_owned(), kind.to_owned()));
    let headers = kind.into_iter().chain(headers).collect();
    Ok(Item { destination, headers, body, session })
}

/// What serde says without the place, which counts from the item's own beginning, and without our
/// name for an item.
fn unfit(error: serde_json::Error) -> Bad {
    if error.is_syntax() || error.is_eof() {
        return not_json();
    }
    let text = error.to_string().replace("struct Written", "an object");
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    (400, text.to_owned()).into()
}

fn not_json() -> Bad {
    (400, "the body is not JSON".to_owned()).into()
}

/// A body as JSON, nested at most so deeply (limit `json-depth`).
pub fn json(body: &[u8], depth_max: u32) -> Result<Value, Bad> {
    check_depth(body, depth_max)?;
    serde_json::from_slice(body).map_err(|_| not_json())
}

/// Counts brackets outside of strings; whether they belong together is for the parser to say.
fn check_depth(body: &[u8], depth_max: u32) -> Result<(), Bad> {
    let (mut depth, mut in_text, mut escaped) = (0u32, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return Err((400, "the JSON is nested too deeply".to_owned()).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        match item(body.as_bytes(), 8) {
            Ok(_) => String::new(),
            Err(bad) => bad.text,
        }
    }

    #[test]
    fn an_item_says_what_it_may_and_nothing_else() {
        for (body, expected) in [
            (r#"{"destination":"/topic/a","body":1}"#, ""),
            (r#"{"destination":"/topic/a","body":null,"headers":{"a":"b"}}"#, ""),
            (r#"{"destination":"/topic/a"}"#, "missing field `body`"),
            (r#"{"body":1}"#, "missing field `destination`"),
            (r#"{"destination":"/topic/a","body":1,"body":2}"#, "duplicate field `body`"),
            (
                r#"{"destination":"/topic/a","body":1,"colour":2}"#,
                "unknown field `colour`, expected one of `destination`, `headers`, `body`, \
                 `session`",
            ),
            (
                r#"{"destination":"/topic/a","body":1,"headers":{"a":1}}"#,
                "invalid type: integer `1`, expected a string",
            ),
            ("x", "the body is not JSON"),
            (r#"{"destination":"/topic/a","body":1"#, "the body is not JSON"),
            (r#"["/topic/a",{},1,null]"#, "an item is an object"),
            ("1", "invalid type: integer `1`, expected an object"),
            ("[[[[[[[[[1]]]]]]]]]", "the JSON is nested too deeply"),
            (
                r#"{"destination":"/topic/a","body":{"a":[[[[[[[1]]]]]]]}}"#,
                "the JSON is nested too deeply",
            ),
            (r#"{"destination":"/topic/a","body":{"a":[[[[[["]\\\"]]"]]]]]]}}"#, ""),
        ] {
            assert_eq!(refused(body), expected, "{body}");
        }
    }

    #[test]
    fn a_text_goes_out_as_it_is_and_other_json_as_it_was_written() {
        for (body, kind, expected) in [
            (r#""a\n\u00e9""#, "text/plain;charset=UTF-8", "a\n\u{e9}"),
            (r#"{"b":1.00,"a":[ ]}"#, "application/json", r#"{"b":1.00,"a":[ ]}"#),
            ("null", "application/json", "null"),
        ] {
            let body = format!(r#"{{"destination":"/topic/a","body":{body}}}"#);
            let item = item(body.as_bytes(), 8).unwrap_or_else(|bad| panic!("{}", bad.text));
            assert_eq!(item.headers, [("content-type".to_owned(), kind.to_owned())]);
            assert_eq!(String::from_utf8(item.body).expect("text"), expected);
        }
    }
}

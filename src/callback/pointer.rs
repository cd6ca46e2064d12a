//! Finds the value of a JSON pointer in the text itself, so that a number keeps its digits.
//!
//! The text must be valid JSON: [`nesting`] and the parser have checked it before.

use std::borrow::Cow;

/// How deep lists and objects are nested. For text that is not JSON, some number.
pub(super) fn nesting(text: &[u8]) -> u32 {
    let (mut depth, mut deepest, mut at) = (0_u32, 0, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = after_string(text, at) - 1,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            // More closed than opened is not JSON; the parser will refuse it.
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// The text of the value at the end of the path; None if there is none.
pub(super) fn find<'a>(json: &'a str, way: &[String]) -> Option<&'a str> {
    let mut value = json.trim_matches([' ', '\t', '\n', '\r']);
    for token in way {
        value = match value.as_bytes().first()? {
            b'{' => member(value, token)?,
            b'[' => element(value, token)?,
            _ => return None,
        };
    }
    Some(value)
}

/// The value of the last member of that name, which is the one that browsers' parsers use.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let text = object.as_bytes();
    let mut found = None;
    let mut at = after_blanks(text, 1);
    while text.get(at) == Some(&b'"') {
        let end = after_string(text, at);
        let key = &object[at..end];
        let value = after_blanks(text, after_blanks(text, end) + 1);
        let value_end = after_value(text, value);
        if is_name(key, name) {
            found = Some(&object[value..value_end]);
        }
        at = after_comma(text, value_end);
    }
    found
}

// RFC 6901 §4: digits without a leading zero.
fn element<'a>(list: &'a str, token: &str) -> Option<&'a str> {
    let digits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (token.len() > 1 && token.starts_with('0')) {
        return None;
    }
    let mut left: usize = token.parse().ok()?;
    let text = list.as_bytes();
    let mut at = after_blanks(text, 1);
    while at < text.len() && text[at] != b']' {
        let end = after_value(text, at);
        if left == 0 {
            return Some(&list[at..end]);
        }
        left -= 1;
        at = after_comma(text, end);
    }
    None
}

fn is_name(quoted: &str, name: &str) -> bool {
    let plain = &quoted[1..quoted.len() - 1];
    if has_escapes(plain) { string(quoted).as_deref() == Some(name) } else { plain == name }
}

/// The unescaped text of a JSON string. None if it has an unpaired surrogate.
pub(super) fn string(quoted: &str) -> Option<Cow<'_, str>> {
    let plain = &quoted[1..quoted.len() - 1];
    if has_escapes(plain) {
        return serde_json::from_str(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(plain))
}

fn has_escapes(text: &str) -> bool {
    text.as_bytes().contains(&b'\\')
}

fn after_blanks(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

fn after_comma(text: &[u8], at: usize) -> usize {
    let at = after_blanks(text, at);
    if text.get(at) == Some(&b',') { after_blanks(text, at + 1) } else { at }
}

/// The text after the string that begins here; empty if the string does not end.
fn after_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The text after the value that begins here.
fn after_value(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_u32);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = after_string(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            // The end of the list or object around a bare number, true, false or null.
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn way(pointer: &str) -> Vec<String> {
        pointer.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect()
    }

    #[test]
    fn the_text_of_a_value_is_found() {
        let json = r#" { "a" : 1.50e3 , "b":{"c":[ true,"x,\"]}", 12345678901234567890123 ]},
            "d\u0041":"é", "a/b":null, "":[], "b2" :false} "#;
        let cases = [
            ("/a", Some("1.50e3")),
            ("/b/c/0", Some("true")),
            ("/b/c/1", Some(r#""x,\"]}""#)),
            ("/b/c/2", Some("12345678901234567890123")),
            ("/b/c/3", None),
            ("/b/c/-", None),
            ("/b/c/00", None),
            ("/b/c/+1", None),
            ("/dA", Some("\"é\"")),
            ("/a~1b", Some("null")),
            ("/", Some("[]")),
            ("/b2", Some("false")),
            ("/a/b", None),
            ("/none", None),
        ];
        for (pointer, expected) in cases {
            assert_eq!(find(json, &way(pointer)), expected, "{pointer}");
        }
        assert_eq!(find(r#"{"a":1,"a":{"a":2}}"#, &way("/a")), Some(r#"{"a":2}"#));
        assert_eq!(find("{}", &way("/a")), None);
        assert_eq!(find("[]", &way("/0")), None);
        assert_eq!(find(" 7 ", &[]), Some("7"));
    }

    #[test]
    fn nesting_table() {
        for (text, depth) in [
            ("7", 0),
            ("[]", 1),
            (r#"{"a":[{}]}"#, 3),
            (r#"["[[[","\"[[",[]]"#, 2),
            (r#"[["a"],["b"]]"#, 2),
            ("[],[]", 1),
            ("]]][", 1),
            ("\"", 0),
        ] {
            assert_eq!(nesting(text.as_bytes()), depth, "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ab\"\\\\/~é]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn ways(value: &Value, here: &mut Vec<String>, out: &mut Vec<(Vec<String>, Value)>) {
        out.push((here.clone(), value.clone()));
        let below: Vec<(String, &Value)> = match value {
            Value::Array(list) => {
                list.iter().enumerate().map(|(at, one)| (at.to_string(), one)).collect()
            }
            Value::Object(map) => map.iter().map(|(key, one)| (key.clone(), one)).collect(),
            _ => Vec::new(),
        };
        for (key, one) in below {
            here.push(key);
            ways(one, here, out);
            here.pop();
        }
    }

    proptest! {
        /// Compares with the parsed tree.
        #[test]
        fn every_value_is_found_at_its_place(value in json(), pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&value)
            } else {
                serde_json::to_string(&value)
            }.expect("a tree can be written");
            let mut all = Vec::new();
            ways(&value, &mut Vec::new(), &mut all);
            for (way, expected) in all {
                let found = find(&text, &way).expect("it is there");
                let parsed: Value = serde_json::from_str(found).expect("one whole value");
                prop_assert_eq!(parsed, expected);
            }
        }

        /// Callers must not pass text that is not JSON, but it does not panic.
        #[test]
        fn any_text_is_handled_without_a_panic(text in "[\\[\\]{}\",:\\\\a1 é]{0,24}") {
            nesting(text.as_bytes());
        }
    }
}

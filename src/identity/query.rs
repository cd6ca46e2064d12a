//! Finds and decodes a parameter of a query string.

/// The value of the first parameter of that name. A parameter without `=` has the empty value.
pub(super) fn parameter(query: &[u8], name: &str) -> Option<Vec<u8>> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(at);
        let found = decoded(key) == name.as_bytes();
        found.then(|| decoded(value.strip_prefix(b"=").unwrap_or(value)))
    })
}

/// Decodes `application/x-www-form-urlencoded` text as browsers do: a plus is a blank, and a
/// percent sign without two digits stays as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            (other, _) => out.push(*other),
        }
    }
    out
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_table() {
        let cases: [(&[u8], Option<&[u8]>); 11] = [
            (b"userId=7", Some(b"7")),
            (b"userId=%e5%AF%a0", Some(b"\xe5\xaf\xa0")),
            (b"a=b&userId=7&userId=8", Some(b"7")),
            (b"userId", Some(b"")),
            (b"userId=", Some(b"")),
            (b"userid=7", None),
            (b"", None),
            (b"userId=a%2Fb+c", Some(b"a/b c")),
            (b"user%49d=7", Some(b"7")),
            (b"userId=100%", Some(b"100%")),
            (b"userId=%zz=%E5", Some(b"%zz=\xe5")),
        ];
        for (query, expected) in cases {
            assert_eq!(parameter(query, "userId").as_deref(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(value: Vec<u8>) {
            let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
            let query = format!("a=1&u={encoded}&b=2");
            prop_assert_eq!(parameter(query.as_bytes(), "u"), Some(value));
        }

        #[test]
        fn any_query_is_handled_without_a_panic(query: Vec<u8>) {
            parameter(&query, "u");
        }
    }
}

//! `signature-form`: what a header with a signature looks like.
//!
//! A text with one `{hex}` or `{base64}`, for the HMAC-SHA256, and at most one `{timestamp}`, for
//! seconds since 1970. With a timestamp the bytes `timestamp.body` are signed, and the header is a
//! list, as Stripe's is: its elements are separated by commas and in any order, others are ignored,
//! and of several signatures one must be valid (a signer that changes its secret sends both).

use std::fmt;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64 with padding (RFC 4648 §4).
    Base64,
}

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormPart {
    /// A literal text.
    Text(String),
    /// The signature.
    Signature(Encoding),
    /// When it was signed: decimal digits.
    Timestamp,
}

/// A form, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureForm {
    text: String,
    elements: Vec<Vec<FormPart>>,
    encoding: Encoding,
    has_timestamp: bool,
}

/// What a form may be.
pub(super) const ACCEPTED: &str = "a text with one {hex} or {base64} in it, such as \
                                   \"sha256={hex}\", and at most one {timestamp}, not directly \
                                   followed by a digit or the signature, such as \
                                   \"t={timestamp},v1={hex}\"";

impl SignatureForm {
    /// Parses a form. None: it is not one.
    pub fn parse(text: &str) -> Option<SignatureForm> {
        let has_timestamp = text.contains("{timestamp}");
        let elements: Vec<Vec<FormPart>> = match has_timestamp {
            true => text.split(',').map(|one| parts(one.trim())).collect::<Option<_>>()?,
            false => vec![parts(text)?],
        };
        let all = elements.iter().flatten();
        let mut encodings = all.clone().filter_map(|part| match part {
            FormPart::Signature(encoding) => Some(*encoding),
            FormPart::Text(_) | FormPart::Timestamp => None,
        });
        let encoding = encodings.next()?;
        let timestamps = all.filter(|part| **part == FormPart::Timestamp).count();
        let is_clear = encodings.next().is_none() && timestamps <= 1;
        is_clear.then(|| SignatureForm {
            text: text.to_string(),
            elements,
            encoding,
            has_timestamp,
        })
    }

    /// Its elements: one, or with a timestamp those of a list.
    pub fn elements(&self) -> &[Vec<FormPart>] {
        &self.elements
    }

    /// How the signature is written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the time is signed, too.
    pub fn has_timestamp(&self) -> bool {
        self.has_timestamp
    }

    /// The header's value for a signature and, where the form has one, its timestamp.
    pub fn fill(&self, signature: &str, timestamp: &str) -> String {
        let mark = match self.encoding {
            Encoding::Hex => "{hex}",
            Encoding::Base64 => "{base64}",
        };
        self.text.replace(mark, signature).replace("{timestamp}", timestamp)
    }
}

impl Default for SignatureForm {
    fn default() -> SignatureForm {
        SignatureForm::parse("sha256={hex}").expect("it is a form")
    }
}

impl fmt::Display for SignatureForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parts(text: &str) -> Option<Vec<FormPart>> {
    let mut parts: Vec<FormPart> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let marks = [
            ("{hex}", FormPart::Signature(Encoding::Hex)),
            ("{base64}", FormPart::Signature(Encoding::Base64)),
            ("{timestamp}", FormPart::Timestamp),
        ];
        let mark = marks.into_iter().find(|(mark, _)| rest.starts_with(mark));
        let part = match mark {
            Some((mark, part)) => {
                rest = &rest[mark.len()..];
                part
            }
            None => {
                let end = rest.find('{').unwrap_or(rest.len());
                let (plain, behind) = rest.split_at(end);
                let printable = plain.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'}');
                if plain.is_empty() || !printable {
                    return None;
                }
                rest = behind;
                FormPart::Text(plain.to_string())
            }
        };
        let after_digits = parts.last() == Some(&FormPart::Timestamp);
        let ends_digits = match &part {
            FormPart::Text(text) => !text.starts_with(|c: char| c.is_ascii_digit()),
            FormPart::Signature(_) | FormPart::Timestamp => false,
        };
        if after_digits && !ends_digits {
            return None;
        }
        parts.push(part);
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_parsed_and_filled() {
        for (text, filled) in [
            ("sha256={hex}", "sha256=S"),
            ("v1,{base64};", "v1,S;"),
            ("t={timestamp},v1={hex}", "t=7,v1=S"),
            ("{hex}", "S"),
            ("v1={base64}, t={timestamp}", "v1=S, t=7"),
            ("{timestamp}.{hex}", "7.S"),
        ] {
            let form = SignatureForm::parse(text).expect(text);
            assert_eq!((form.to_string().as_str(), form.fill("S", "7").as_str()), (text, filled));
            assert_eq!(form.has_timestamp(), text.contains("time"), "{text}");
        }
        let list = SignatureForm::parse("t={timestamp}, v1={hex}").expect("good");
        let [time, signature] = list.elements() else { panic!("two") };
        assert_eq!(time, &[FormPart::Text("t=".into()), FormPart::Timestamp]);
        assert_eq!(signature, &[FormPart::Text("v1=".into()), FormPart::Signature(Encoding::Hex)]);
        assert_eq!(SignatureForm::default().elements().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_back_is_no_form() {
        for bad in [
            "",
            "sha256=",
            "{timestamp}",
            "{hex}{base64}",
            "{hex},{hex}",
            "{hex} {nonce}",
            "{Hex}",
            "{hex",
            "{hex}}",
            "é{hex}",
            "{hex}\n",
            "t={timestamp},{timestamp},{hex}",
            "{timestamp}{hex}",
            "{timestamp}0,{hex}",
            "t={timestamp},,v1={hex}",
        ] {
            assert_eq!(SignatureForm::parse(bad), None, "{bad}");
        }
    }
}

//! A secret and where secrets come from. It is never shown.

use crate::limits::SECRET_MAX;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use std::fmt;

/// A secret's bytes, and where they are from. Its `Debug` shows three asterisks; secrets with the
/// same bytes are equal.
#[derive(Clone)]
pub struct Secret {
    bytes: Vec<u8>,
    /// The HMAC of this key before its message: half of the work for a short one.
    keyed: Hmac<Sha256>,
    source: Source,
}

/// Where a secret is from.
#[derive(Clone)]
pub(super) enum Source {
    /// The environment, by the name of the variable.
    Variable(String),
    /// A file, by its path.
    File(String),
    /// It was made up, so there is no name.
    MadeUp,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Secret {}

impl Secret {
    /// The content of a file. The error says why it is not one.
    pub(super) fn of_file(file: &str) -> Result<Secret, String> {
        let mut bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        // The line break that editors put at the end of a file is not part of the secret.
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        match bytes.len() {
            0 => Err("it is empty".to_string()),
            1..=SECRET_MAX => Ok(Secret::from(bytes, Source::File(file.to_string()))),
            _ => Err("it is larger".to_string()),
        }
    }

    /// Where it is from.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret::from(bytes.into(), Source::MadeUp)
    }

    fn from(bytes: Vec<u8>, source: Source) -> Secret {
        let keyed = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Secret { bytes, keyed, source }
    }

    /// Its HMAC-SHA256, still without a message.
    pub fn hmac(&self) -> Hmac<Sha256> {
        self.keyed.clone()
    }

    /// The bytes, for a key or a comparison only.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a peer knows the secret. The time that this takes reveals the length only.
    pub fn matches(&self, claim: &[u8]) -> bool {
        let pairs = self.bytes.iter().zip(claim);
        let difference = pairs.fold(0, |sum, (one, other)| std::hint::black_box(sum | one ^ other));
        self.bytes.len() == claim.len() && difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where secrets come from.
#[derive(Default)]
pub(super) struct Secrets<'a> {
    /// The environment of the process.
    pub(super) environment: &'a [(String, String)],
    /// The value of a secret that is made up; random without it.
    given: Option<&'a str>,
    /// A variable's name, and the secret that is used where the environment does not have it.
    made_up: Option<(&'static str, Secret)>,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(environment: &'a [(String, String)], given: Option<&'a str>) -> Secrets<'a> {
        Secrets { environment, given, made_up: None }
    }

    /// From now on a made-up secret is used where no secret is named and this variable is not set:
    /// for the callbacks of a demo.
    pub(super) fn make_up(&mut self, name: &'static str) {
        let secret = match self.given {
            Some(text) => Secret::new(text),
            None => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).expect("Linux has a source of randomness");
                Secret::new(bytes)
            }
        };
        self.made_up = Some((name, secret));
    }

    /// The secret in a variable, if it is set.
    pub(super) fn variable(&self, name: &str) -> Option<Secret> {
        let set = self.environment.iter().find(|(key, value)| key == name && !value.is_empty());
        set.map(|(_, value)| {
            Secret::from(value.as_bytes().to_vec(), Source::Variable(name.to_string()))
        })
    }

    /// The one that is made up for this variable.
    pub(super) fn made_up(&self, name: &str) -> Option<Secret> {
        let made_up = self.made_up.as_ref().filter(|(known, _)| *known == name);
        made_up.map(|(_, secret)| secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_secret_is_the_same_for_all_who_name_none_and_never_the_same_again() {
        let mut secrets = Secrets::new(&[], None);
        assert_eq!(secrets.made_up("B"), None);
        secrets.make_up("B");
        let (one, two) = (secrets.made_up("B"), secrets.made_up("B"));
        assert!(one.is_some() && one == two);
        assert_eq!(secrets.made_up("A"), None);
        let mut others = Secrets::new(&[], None);
        others.make_up("B");
        assert_ne!(one, others.made_up("B"));
        let mut given = Secrets::new(&[], Some("what it shall be"));
        given.make_up("B");
        assert_eq!(given.made_up("B"), Some(Secret::new("what it shall be")));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("secret")), "***");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("secret");
        assert!(secret.matches(b"secret"));
        for claim in ["", "secre", "secrets", "Secret", "secreT"] {
            assert!(!secret.matches(claim.as_bytes()), "{claim}");
        }
    }
}

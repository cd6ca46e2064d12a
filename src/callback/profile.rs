//! The answer that each profile expects.

use crate::config::{Callback, Profile};

/// The body (JSON, status 200) that tells the third party that its callback was accepted.
pub fn success(rule: &Callback) -> &'static [u8] {
    match rule.profile {
        Profile::Generic => br#"{"code":0}"#,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::tests::rule;
    use super::*;

    #[test]
    fn a_provider_is_answered_with_code_0() {
        assert_eq!(success(&rule("")), br#"{"code":0}"#);
    }
}

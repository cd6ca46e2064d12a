#![forbid(unsafe_code)]
//! What a destination is: the broker's, an application's, a user's, or nobody's.

use smallvec::SmallVec;
use std::borrow::Cow;

/// The prefixes that decide it.
#[derive(Clone, Debug)]
pub struct Names {
    /// Prefixes of broker destinations, such as `/topic`.
    pub broker: Vec<String>,
    /// Prefixes of application destinations, such as `/ws`.
    pub application: Vec<String>,
    /// Prefix of user destinations, such as `/user`.
    pub user: String,
    /// Separator of segments.
    pub separator: char,
}

/// What a SEND addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant says what its fields are")]
pub enum Target<'a> {
    /// A broker destination.
    Broker,
    /// An application destination, without its prefix: `/trade`.
    Application(&'a str),
    /// A user destination: the user's name as it was written (percent-encoded) and the rest.
    User { user: &'a str, destination: &'a str },
    /// None of them.
    Unknown,
}

impl Names {
    /// What a SEND to `destination` addresses.
    pub fn target<'a>(&self, destination: &'a str) -> Target<'a> {
        if let Some(rest) = self.below(&self.user, destination) {
            let rest = &rest[self.separator.len_utf8()..];
            return match rest.find(self.separator) {
                Some(end) if end > 0 => {
                    Target::User { user: &rest[..end], destination: &rest[end..] }
                }
                _ => Target::Unknown,
            };
        }
        for prefix in &self.application {
            if let Some(rest) = self.below(prefix, destination) {
                return Target::Application(rest);
            }
        }
        if self.is_broker(destination) { Target::Broker } else { Target::Unknown }
    }

    /// The rest of a SUBSCRIBE to a destination of one's own: `/user/queue/sub` gives `/queue/sub`.
    pub fn own<'a>(&self, destination: &'a str) -> Option<&'a str> {
        self.below(&self.user, destination).filter(|rest| rest.len() > 1)
    }

    /// Whether the broker serves it. As Spring does, a prefix is a plain string prefix.
    pub fn is_broker(&self, destination: &str) -> bool {
        self.broker.iter().any(|prefix| destination.starts_with(prefix.as_str()))
    }

    /// The reverse: `/queue/sub` as its user sees it.
    pub fn shown(&self, own: &str) -> SmallVec<[u8; 64]> {
        let mut shown = SmallVec::from_slice(self.user.as_bytes());
        shown.extend_from_slice(own.as_bytes());
        shown
    }

    /// The one way to write a destination: `/user/a%2fb%` and `/user/a%2Fb%25` are the same
    /// user's, and a rule about him is about both. Patterns stay patterns.
    pub fn canonical<'a>(&self, destination: &'a str) -> Cow<'a, str> {
        // Most have none: then what they address does not matter.
        if !destination.bytes().fold(false, |any, byte| any | (byte == b'%')) {
            return Cow::Borrowed(destination);
        }
        match self.target(destination) {
            Target::User { user, destination } if user.contains('%') => {
                let (separator, user) = (self.separator, encode_user(&decode_user(user)));
                Cow::Owned(format!("{}{separator}{user}{destination}", self.user))
            }
            _ => Cow::Borrowed(destination),
        }
    }

    /// What follows `prefix`, separator first.
    fn below<'a>(&self, prefix: &str, destination: &'a str) -> Option<&'a str> {
        destination.strip_prefix(prefix).filter(|rest| rest.starts_with(self.separator))
    }
}

/// A user's name out of a destination: `%2F` stands for `/` and `%25` for `%`.
pub fn decode_user(written: &str) -> Cow<'_, str> {
    if !written.contains('%') {
        return Cow::Borrowed(written);
    }
    Cow::Owned(written.replace("%2F", "/").replace("%2f", "/").replace("%25", "%"))
}

/// A user's name as it stands in a destination.
fn encode_user(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            broker: vec!["/topic".into(), "/queue".into()],
            application: vec!["/ws".into()],
            user: "/user".into(),
            separator: '/',
        }
    }

    #[test]
    fn each_kind_is_told_apart() {
        let names = names();
        assert_eq!(names.target("/topic/all"), Target::Broker);
        assert_eq!(names.target("/topicfoo"), Target::Broker);
        assert_eq!(names.target("/ws/trade"), Target::Application("/trade"));
        assert_eq!(names.target("/ws"), Target::Unknown);
        assert_eq!(names.target("/wsx/trade"), Target::Unknown);
        let user = Target::User { user: "a%2Fb", destination: "/queue/sub" };
        assert_eq!(names.target("/user/a%2Fb/queue/sub"), user);
        assert_eq!(names.target("/user/x"), Target::Unknown);
        assert_eq!(names.target("/user//queue"), Target::Unknown);
        assert_eq!(names.own("/user/queue/sub"), Some("/queue/sub"));
        assert_eq!(names.own("/user/"), None);
        assert_eq!(names.own("/userx"), None);
        assert_eq!(decode_user("a%2Fb%25"), "a/b%");
    }

    #[test]
    fn a_user_is_written_one_way() {
        let names = names();
        for (written, expected) in [
            ("/user/a%2fb/queue/sub", "/user/a%2Fb/queue/sub"),
            ("/user/a%2Fb%/queue%2f", "/user/a%2Fb%25/queue%2f"),
            ("/user/a%252Fb/queue", "/user/a%252Fb/queue"),
            ("/user/*%2f{x}/**", "/user/*%2F{x}/**"),
            ("/topic/a%2fb", "/topic/a%2fb"),
            ("/user/a%2fb", "/user/a%2fb"),
        ] {
            assert_eq!(names.canonical(written), expected, "{written}");
        }
    }
}

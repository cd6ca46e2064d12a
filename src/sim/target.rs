//! Where clients publish and subscribe, and who a publication is for.

/// Broker destinations to which clients publish.
pub(super) const TOPICS: [&str; 6] =
    ["/topic/t0", "/topic/t1", "/topic/a/b", "/topic/a/c", "/queue/q0", SECRET];
/// Where the forwarding application publishes.
pub(super) const FORWARDED: &str = "/topic/a/forward";
/// Patterns to which clients subscribe.
pub(super) const PATTERNS: [&str; 5] =
    ["/topic/*", "/topic/a/*", "/topic/**", "/queue/*", "/topic/*/*"];
/// Destinations of users.
pub(super) const OWN: [&str; 2] = ["/queue/sub", "/queue/other"];
/// Count of users with a name.
pub(super) const USERS: usize = 6;
/// Where presence is announced.
pub(super) const PRESENCE: &str = "/topic/presence";
/// Only the first user may receive it, in runs with that rule.
pub(super) const SECRET: &str = "/topic/secret";

/// The target of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a broker destination.
    Broker(&'static str),
    /// To a destination of a user, by way of the user's home.
    User(usize, &'static str),
    /// To one session, by way of its user's home: client, user, destination.
    Session(usize, usize, &'static str),
    /// From a session to itself.
    Own(usize, &'static str),
    /// From a session (and its user) to a hook, which sends it to all sessions of the user, or back
    /// to the session.
    Hook(usize, Option<usize>),
    /// To nobody: no client may ever receive it.
    Nobody,
}

/// A naive matcher of Ant patterns: `*` is one segment, `**` at the end any number of them.
pub(super) fn matches(pattern: &str, destination: &str) -> bool {
    let (mut pattern, mut destination) = (pattern.split('/'), destination.split('/'));
    loop {
        match (pattern.next(), destination.next()) {
            (Some("**"), _) => return true,
            (Some("*"), Some(_)) => {}
            (Some(p), Some(d)) if p == d => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_segments() {
        assert!(matches("/topic/*", "/topic/a") && !matches("/topic/*", "/topic/a/b"));
        assert!(matches("/topic/**", "/topic/a/b") && !matches("/topic/**", "/queue/a"));
        assert!(matches("/topic/a", "/topic/a") && !matches("/topic/a", "/topic/b"));
    }
}

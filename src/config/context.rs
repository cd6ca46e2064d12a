//! What reading a section needs from those before it.

use super::secret::Secrets;
use super::syntax::below;

/// What reading a section needs from those before it.
#[derive(Default)]
pub(super) struct Context<'a> {
    /// What destinations look like, once the broker's section is read.
    pub(super) destinations: Option<Destinations>,
    /// Where secrets come from.
    pub(super) secrets: Secrets<'a>,
    /// The secret of tokens is set.
    pub(super) has_token: bool,
    /// Tables that could have been left out, and were written.
    pub(super) written: Vec<String>,
    /// Paths that are taken.
    pub(super) paths: Vec<String>,
}

/// What destinations look like.
pub(super) struct Destinations {
    /// The broker's are below these.
    pub(super) prefixes: Vec<String>,
    /// Those of users are below this one.
    pub(super) user_prefix: String,
    /// What separates the parts that patterns compare.
    pub(super) separator: u8,
    /// A text body with a NUL is refused.
    pub(super) refuses_nul: bool,
}

impl Destinations {
    /// Whether the destination stands below a prefix of the broker.
    pub(super) fn has(&self, destination: &str) -> bool {
        let inside =
            |prefix: &String| below(prefix, destination) && destination.len() > prefix.len() + 1;
        self.prefixes.iter().any(inside)
    }
}

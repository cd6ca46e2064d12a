//! What reading a section needs from those before it.

use super::secret::Secrets;
use super::syntax::below;
use super::{CALLBACK_SECRET, Mistake};

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
    /// What is wrong so far.
    pub(super) mistakes: Vec<Mistake>,
}

impl Context<'_> {
    /// Notes a mistake, so that reading goes on.
    pub(super) fn note<T>(&mut self, found: Result<T, Mistake>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(mistake) => {
                self.mistakes.push(mistake);
                None
            }
        }
    }

    /// What was read, if no mistake was noted since there were `before`. Otherwise the last of them
    /// is taken back, for the caller to report; so something missing must have been noted.
    pub(super) fn unless_noted<T>(
        &mut self,
        found: Option<T>,
        before: usize,
    ) -> Result<T, Mistake> {
        match found {
            Some(found) if self.mistakes.len() == before => Ok(found),
            _ => Err(self.mistakes.pop().expect("what is missing was noted")),
        }
    }

    /// A section is bad. What later sections need of it is assumed such that they are not refused
    /// because of it.
    pub(super) fn assume(&mut self, section: &str) {
        match section {
            "broker" => self.destinations = Some(Destinations::any()),
            "demo" => self.secrets.make_up(CALLBACK_SECRET),
            _ => {}
        }
    }
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
    /// Every destination is the broker's.
    fn any() -> Destinations {
        let (prefixes, user_prefix) = (vec![String::new()], String::from("\0"));
        Destinations { prefixes, user_prefix, separator: b'/', refuses_nul: false }
    }

    /// Whether the destination stands below a prefix of the broker.
    pub(super) fn has(&self, destination: &str) -> bool {
        let inside =
            |prefix: &String| below(prefix, destination) && destination.len() > prefix.len() + 1;
        self.prefixes.iter().any(inside)
    }
}

#![forbid(unsafe_code)]
//! Application destinations: what answers a SEND to `/ws/trade`, and where the answer goes.

use super::pattern::{self, Budget, Outcome};
use std::borrow::Cow;

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A fixed body, JSON or text.
    Reply {
        /// The body.
        body: String,
        /// It is JSON.
        json: bool,
    },
    /// An HTTP hook; its answer's body is the reply. None: not configured, and the sender hears so.
    Hook(Option<String>),
    /// The stand-in provider of a demonstration.
    Provider,
    /// The body itself goes on, to this broker destination.
    Forward(String),
}

/// One `[[application]]`.
#[derive(Clone, Debug)]
pub struct Application {
    /// Destination below an application prefix; patterns and variables allowed.
    pub destination: String,
    /// What answers.
    pub answer: Answer,
    /// User destination of the reply.
    pub to_user: Option<String>,
    /// Broker destinations of the reply.
    pub to: Vec<String>,
    /// All sessions of the sender, or only the asking one.
    pub broadcast: bool,
}

/// All applications.
#[derive(Clone, Debug, Default)]
pub struct Applications {
    list: Vec<Application>,
    separator: char,
}

impl Applications {
    /// The applications of the configuration.
    pub fn new(list: Vec<Application>, separator: char) -> Applications {
        Applications { list, separator }
    }

    /// The application of a destination without its prefix: a literal one before a pattern,
    /// patterns in the order of the configuration. Where nobody knows whether a pattern matches, it
    /// is none: not even one behind it.
    pub fn find(&self, destination: &str, budget: &mut Budget) -> Option<usize> {
        let literal = self.list.iter().position(|app| app.destination == destination);
        literal.or_else(|| {
            let mut outcome =
                |app: &Application| budget.compare(&app.destination, destination, self.separator);
            let first = |(at, app)| match outcome(app) {
                Outcome::NoMatch => None,
                Outcome::Match => Some(Some(at)),
                Outcome::GaveUp => Some(None),
            };
            self.list.iter().enumerate().find_map(first).flatten()
        })
    }

    /// The application of a number.
    pub fn at(&self, index: usize) -> &Application {
        &self.list[index]
    }

    /// `template` with the variables that `destination` gives filled in.
    pub fn fill<'a>(&self, index: usize, destination: &str, template: &'a str) -> Cow<'a, str> {
        if !template.contains('{') {
            return Cow::Borrowed(template);
        }
        let mut filled = template.to_owned();
        let pattern = &self.list[index].destination;
        if let Some(variables) = pattern::captures(pattern, destination, self.separator) {
            for (name, value) in variables {
                filled = filled.replace(&format!("{{{name}}}"), value);
            }
        }
        Cow::Owned(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(apps: &Applications, destination: &str) -> Option<usize> {
        apps.find(destination, &mut Budget::default())
    }

    fn app(destination: &str) -> Application {
        Application {
            destination: destination.into(),
            answer: Answer::Reply { body: String::new(), json: true },
            to_user: None,
            to: vec!["/topic/room/{id}".into()],
            broadcast: true,
        }
    }

    #[test]
    fn a_literal_destination_beats_a_pattern_and_variables_are_filled() {
        let apps = Applications::new(vec![app("/room/{id}"), app("/room/7")], '/');
        assert_eq!(find(&apps, "/room/7"), Some(1));
        assert_eq!(find(&apps, "/room/8"), Some(0));
        assert_eq!(find(&apps, "/none"), None);
        let hard = format!("/room/*{}b*", "a?".repeat(10));
        let apps = Applications::new(vec![app(&hard), app("/room/{id}")], '/');
        assert_eq!(find(&apps, "/room/ab"), Some(1));
        assert_eq!(find(&apps, &format!("/room/{}", "a".repeat(1_000))), None, "nobody knows");
        assert_eq!(apps.fill(1, "/room/8", &apps.at(0).to[0]), "/topic/room/8");
    }
}

#![forbid(unsafe_code)]
//! Who may send where and subscribe to what: `[[allow]]`, first match decides.

use super::destination::{Names, Target, decode_user};
use super::pattern;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SEND.
    Send,
    /// SUBSCRIBE.
    Subscribe,
}

/// Whom a rule lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everyone.
    All,
    /// Everyone with a name.
    Authenticated,
    /// These users.
    Users(Vec<String>),
}

/// One `[[allow]]`. A variable `{user}` in the destination stands for the asker's own name.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is about.
    pub action: Action,
    /// Destination or Ant pattern.
    pub destination: String,
    /// Who passes; everyone else is refused what this rule matches.
    pub users: Who,
}

impl Rule {
    fn names_user(&self) -> bool {
        self.destination.contains("{user}") || self.destination.contains("{user:")
    }

    /// None: the rule is about something else.
    fn decide(
        &self,
        action: Action,
        destination: &str,
        user: Option<&str>,
        separator: char,
    ) -> Option<bool> {
        if self.action != action {
            return None;
        }
        let variables = pattern::captures(&self.destination, destination, separator)?;
        let mut names = variables.iter().filter(|(name, _)| *name == "user").map(|(_, name)| *name);
        // A variable that could not be read is nobody's name.
        let own =
            !self.names_user() || names.clone().next().is_some() && names.all(|n| Some(n) == user);
        let listed = match &self.users {
            Who::All => true,
            Who::Authenticated => user.is_some(),
            Who::Users(list) => user.is_some_and(|user| list.iter().any(|name| name == user)),
        };
        Some(own && listed)
    }
}

/// All rules, in order, with the defaults behind them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// The rules of the configuration.
    pub fn new(rules: Vec<Rule>) -> Rules {
        Rules { rules }
    }

    /// Whether `user` may SEND to `destination`. By default: to application destinations and to the
    /// own user destinations.
    pub fn may_send(&self, names: &Names, destination: &str, user: Option<&str>) -> bool {
        if let Some(decision) = self.decide(Action::Send, destination, user, names.separator) {
            return decision;
        }
        match names.target(destination) {
            Target::Application(_) => true,
            Target::User { user: whose, .. } => Some(decode_user(whose).as_str()) == user,
            Target::Broker | Target::Unknown => false,
        }
    }

    /// Whether `user` may SUBSCRIBE to `destination`. By default: to everything the broker serves
    /// and to the own user destinations.
    pub fn may_subscribe(&self, names: &Names, destination: &str, user: Option<&str>) -> bool {
        self.decide(Action::Subscribe, destination, user, names.separator).unwrap_or(true)
    }

    /// Whether any rule can keep a destination from somebody who subscribed to a pattern over it.
    pub fn restrict_subscribers(&self) -> bool {
        self.rules.iter().any(|rule| {
            rule.action == Action::Subscribe && (rule.users != Who::All || rule.names_user())
        })
    }

    fn decide(
        &self,
        action: Action,
        destination: &str,
        user: Option<&str>,
        separator: char,
    ) -> Option<bool> {
        self.rules.iter().find_map(|rule| rule.decide(action, destination, user, separator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            broker: vec!["/topic".into()],
            application: vec!["/ws".into()],
            user: "/user".into(),
            separator: '/',
        }
    }

    fn rule(action: Action, destination: &str, users: Who) -> Rule {
        Rule { action, destination: destination.into(), users }
    }

    #[test]
    fn the_defaults_let_a_browser_send_to_applications_and_itself_only() {
        let (rules, names) = (Rules::default(), names());
        assert!(rules.may_send(&names, "/ws/trade", None));
        assert!(rules.may_send(&names, "/user/7/queue/sub", Some("7")));
        assert!(!rules.may_send(&names, "/user/8/queue/sub", Some("7")));
        assert!(!rules.may_send(&names, "/user/8/queue/sub", None));
        assert!(!rules.may_send(&names, "/topic/all", Some("7")));
        assert!(rules.may_subscribe(&names, "/topic/all", None));
    }

    #[test]
    fn the_first_matching_rule_decides_and_user_means_the_own_name() {
        let names = names();
        let rules = Rules::new(vec![
            rule(Action::Send, "/topic/admin/**", Who::Users(vec!["boss".into()])),
            rule(Action::Send, "/topic/**", Who::Authenticated),
            rule(Action::Subscribe, "/topic/desk/{user}", Who::All),
        ]);
        assert!(rules.may_send(&names, "/topic/admin/x", Some("boss")));
        assert!(!rules.may_send(&names, "/topic/admin/x", Some("7")));
        assert!(rules.may_send(&names, "/topic/all", Some("7")));
        assert!(!rules.may_send(&names, "/topic/all", None));
        assert!(rules.may_subscribe(&names, "/topic/desk/7", Some("7")));
        assert!(!rules.may_subscribe(&names, "/topic/desk/8", Some("7")));
        assert!(!rules.may_subscribe(&names, "/topic/desk/8", None));
        assert!(rules.restrict_subscribers());
        for hidden in ["/topic/desk-{user}", "/topic/**/{user}"] {
            let rules = Rules::new(vec![rule(Action::Subscribe, hidden, Who::All)]);
            assert!(!rules.may_subscribe(&names, "/topic/desk-8", Some("7")), "{hidden}");
        }
        assert!(!Rules::default().restrict_subscribers());
    }
}

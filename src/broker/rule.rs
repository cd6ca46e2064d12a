#![forbid(unsafe_code)]
//! Who may send where and subscribe to what: `[[allow]]`, first match decides.

use super::destination::{Names, Target, decode_user};
use super::pattern::{self, Budget, Outcome};

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

/// Whether somebody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// He may.
    Allowed,
    /// He may not.
    Refused,
    /// The pattern of a rule gave up on this destination: he may not either, and it is counted.
    Unclear,
}

impl Verdict {
    /// Whether he may.
    pub fn is_allowed(self) -> bool {
        self == Verdict::Allowed
    }

    fn of(allowed: bool) -> Verdict {
        if allowed { Verdict::Allowed } else { Verdict::Refused }
    }
}

/// One `[[allow]]`. A variable `{user}` in the destination stands for the asker's own name, there
/// percent-encoded as in any destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub action: Action,
    /// Destination or Ant pattern.
    pub destination: String,
    /// Who passes; everyone else is refused what this rule matches.
    pub users: Who,
}

/// What a rule's destination is, so that most destinations can be compared without taking patterns
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One destination.
    Exact,
    /// All from a destination of this length on: `/topic/**`.
    Below(usize),
    /// Any other pattern. Whatever it matches begins with its first segments, of this length.
    Pattern(usize),
}

impl Form {
    fn of(pattern: &str, separator: char) -> Form {
        let Some(wildcard) = pattern.find(pattern::is_wildcard) else { return Form::Exact };
        // `**` may stand for nothing, and the separator before it is missing then.
        let fixed = pattern[..wildcard].rfind(separator).unwrap_or(0);
        let rest = pattern[fixed..].strip_prefix(separator);
        if rest == Some("**") { Form::Below(fixed) } else { Form::Pattern(fixed) }
    }

    fn compare(
        self,
        pattern: &str,
        destination: &str,
        separator: char,
        budget: &mut Budget,
    ) -> Outcome {
        let matches = match self {
            Form::Exact => pattern == destination,
            Form::Below(fixed) => destination
                .strip_prefix(&pattern[..fixed])
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(separator)),
            Form::Pattern(fixed) if destination.starts_with(&pattern[..fixed]) => {
                return budget.compare(pattern, destination, separator);
            }
            Form::Pattern(_) => false,
        };
        if matches { Outcome::Match } else { Outcome::NoMatch }
    }
}

/// A rule, ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ready {
    rule: Rule,
    form: Form,
    /// How often the own name stands in its destination.
    own_names: usize,
}

impl Ready {
    fn new(rule: Rule, separator: char) -> Ready {
        let text = &rule.destination;
        let own_names = text.matches("{user}").count() + text.matches("{user:").count();
        Ready { form: Form::of(text, separator), own_names, rule }
    }

    /// None: the rule is about something else.
    fn decide(
        &self,
        action: Action,
        destination: &str,
        user: Option<&str>,
        separator: char,
        budget: &mut Budget,
    ) -> Option<Verdict> {
        if self.rule.action != action {
            return None;
        }
        match self.form.compare(&self.rule.destination, destination, separator, budget) {
            Outcome::NoMatch => return None,
            Outcome::GaveUp => return Some(Verdict::Unclear),
            Outcome::Match => {}
        }
        let listed = match &self.rule.users {
            Who::All => true,
            Who::Authenticated => user.is_some(),
            Who::Users(list) => user.is_some_and(|user| list.iter().any(|name| name == user)),
        };
        Some(Verdict::of(listed && self.is_own(destination, user, separator)))
    }

    /// Whether all own names in a destination that matches are this user's. A variable that could
    /// not be read is nobody's name.
    fn is_own(&self, destination: &str, user: Option<&str>, separator: char) -> bool {
        if self.own_names == 0 {
            return true;
        }
        let variables = pattern::variables(&self.rule.destination, destination, separator);
        let names = variables.iter().filter(|(name, _)| *name == "user");
        names.filter(|(_, written)| Some(&*decode_user(written)) == user).count() == self.own_names
    }
}

/// All rules, in order, with the defaults behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Ready>,
}

impl Rules {
    /// The rules of the configuration.
    pub fn new(mut rules: Vec<Rule>, names: &Names) -> Rules {
        for rule in rules.iter_mut().filter(|rule| rule.action == Action::Send) {
            rule.destination = names.canonical(&rule.destination).into_owned();
        }
        let ready = |rule| Ready::new(rule, names.separator);
        Rules { rules: rules.into_iter().map(ready).collect() }
    }

    /// Whether `user` may SEND to `destination`. By default: to application destinations and to the
    /// own user destinations.
    pub fn may_send(
        &self,
        names: &Names,
        destination: &str,
        user: Option<&str>,
        budget: &mut Budget,
    ) -> Verdict {
        let canonical = names.canonical(destination);
        let verdict = self.decide(Action::Send, &canonical, user, names.separator, budget);
        if let Some(verdict) = verdict {
            return verdict;
        }
        Verdict::of(match names.target(destination) {
            Target::Application(_) => true,
            Target::User { user: whose, .. } => Some(&*decode_user(whose)) == user,
            Target::Broker | Target::Unknown => false,
        })
    }

    /// Whether `user` may SUBSCRIBE to `destination`, as he writes it, or hear it by a pattern. By
    /// default: everything the broker serves and the own user destinations.
    pub fn may_subscribe(
        &self,
        names: &Names,
        destination: &str,
        user: Option<&str>,
        budget: &mut Budget,
    ) -> Verdict {
        let verdict = self.decide(Action::Subscribe, destination, user, names.separator, budget);
        verdict.unwrap_or(Verdict::Allowed)
    }

    /// Whether any rule can keep a destination from somebody who subscribed to a pattern over it.
    pub fn restrict_subscribers(&self) -> bool {
        self.rules.iter().any(|ready| {
            let restricts = ready.rule.users != Who::All || ready.own_names > 0;
            ready.rule.action == Action::Subscribe && restricts
        })
    }

    fn decide(
        &self,
        action: Action,
        destination: &str,
        user: Option<&str>,
        separator: char,
        budget: &mut Budget,
    ) -> Option<Verdict> {
        let decide = |ready: &Ready| ready.decide(action, destination, user, separator, budget);
        self.rules.iter().find_map(decide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn rules(rules: Vec<Rule>) -> Rules {
        Rules::new(rules, &names())
    }

    fn send(rules: &Rules, destination: &str, user: Option<&str>) -> bool {
        rules.may_send(&names(), destination, user, &mut Budget::default()).is_allowed()
    }

    fn subscribe(rules: &Rules, destination: &str, user: Option<&str>) -> bool {
        rules.may_subscribe(&names(), destination, user, &mut Budget::default()).is_allowed()
    }

    #[test]
    fn the_defaults_let_a_browser_send_to_applications_and_itself_only() {
        let rules = Rules::default();
        assert!(send(&rules, "/ws/trade", None));
        assert!(send(&rules, "/user/7/queue/sub", Some("7")));
        assert!(!send(&rules, "/user/8/queue/sub", Some("7")));
        assert!(!send(&rules, "/user/8/queue/sub", None));
        assert!(!send(&rules, "/topic/all", Some("7")));
        assert!(subscribe(&rules, "/topic/all", None));
    }

    #[test]
    fn the_first_matching_rule_decides_and_user_means_the_own_name() {
        let all = rules(vec![
            rule(Action::Send, "/topic/admin/**", Who::Users(vec!["boss".into()])),
            rule(Action::Send, "/topic/**", Who::Authenticated),
            rule(Action::Subscribe, "/topic/desk/{user}", Who::All),
        ]);
        assert!(send(&all, "/topic/admin/x", Some("boss")));
        assert!(!send(&all, "/topic/admin/x", Some("7")));
        assert!(send(&all, "/topic/all", Some("7")));
        assert!(!send(&all, "/topic/all", None));
        assert!(subscribe(&all, "/topic/desk/7", Some("7")));
        assert!(!subscribe(&all, "/topic/desk/8", Some("7")));
        assert!(!subscribe(&all, "/topic/desk/8", None));
        assert!(all.restrict_subscribers());
        // Written so that a name cannot be read: nobody passes, also where another one can be.
        for (hidden, destination) in [
            ("/topic/desk-{user}", "/topic/desk-7"),
            ("/topic/**/{user}", "/topic/7"),
            ("/topic/{user}/**/{user}", "/topic/7/x/8"),
        ] {
            let rules = rules(vec![rule(Action::Subscribe, hidden, Who::All)]);
            assert!(!subscribe(&rules, destination, Some("7")), "{hidden}");
        }
        // Filters of patterns are worth their time where a rule on SUBSCRIBE keeps somebody out.
        for (action, destination, who, restricts) in [
            (Action::Subscribe, "/topic/a", Who::Authenticated, true),
            (Action::Subscribe, "/topic/{user}", Who::All, true),
            (Action::Subscribe, "/topic/a", Who::All, false),
            (Action::Send, "/topic/a", Who::Authenticated, false),
            (Action::Send, "/topic/{user}", Who::All, false),
        ] {
            let one = rules(vec![rule(action, destination, who)]);
            assert_eq!(one.restrict_subscribers(), restricts, "{action:?} {destination}");
        }
        assert!(!Rules::default().restrict_subscribers());
    }

    #[test]
    fn names_are_compared_decoded() {
        let own = rules(vec![
            rule(Action::Send, "/user/{user}/**", Who::All),
            rule(Action::Subscribe, "/topic/desk/{user}", Who::All),
        ]);
        for rules in [&own, &Rules::default()] {
            for (written, user) in
                [("a%2Fb", "a/b"), ("a%2fb", "a/b"), ("a%252Fb", "a%2Fb"), ("5%", "5%")]
            {
                let destination = format!("/user/{written}/queue/sub");
                assert!(send(rules, &destination, Some(user)), "{written}");
                assert!(!send(rules, &destination, Some(&format!("{user}x"))), "{written}");
            }
            // Written like the other one's place, but it is not his own.
            assert!(!send(rules, "/user/a%2Fb/queue/sub", Some("a%2Fb")));
            assert!(!send(rules, "/user/a%252Fb/queue/sub", Some("a%252Fb")));
        }
        assert!(subscribe(&own, "/topic/desk/a%2Fb", Some("a/b")));
        assert!(!subscribe(&own, "/topic/desk/a%2Fb", Some("a%2Fb")));
    }

    #[test]
    fn a_rule_about_a_user_holds_however_he_is_written() {
        let boss = || Who::Users(vec!["boss".into()]);
        for (rule_of, user) in [("a%2Fb", "a/b"), ("a%2fb", "a/b"), ("5%", "5%")] {
            let kept = format!("/user/{rule_of}/**");
            let rules = rules(vec![
                rule(Action::Send, &kept, boss()),
                rule(Action::Send, "/user/**", Who::All),
            ]);
            let forms: &[&str] = if user == "5%" { &["5%", "5%25"] } else { &["a%2Fb", "a%2fb"] };
            for written in forms {
                let destination = format!("/user/{written}/queue/sub");
                assert!(!send(&rules, &destination, Some("7")), "{rule_of} {written}");
                assert!(send(&rules, &destination, Some("boss")), "{rule_of} {written}");
            }
            assert!(send(&rules, "/user/8/queue/sub", Some("7")));
        }
    }

    #[test]
    fn a_pattern_that_gives_up_refuses() {
        let hard = format!("/topic/*{}b*", "a?".repeat(10));
        for action in [Action::Send, Action::Subscribe] {
            let rules = rules(vec![
                rule(action, &hard, Who::Users(vec!["boss".into()])),
                rule(action, "/topic/**", Who::All),
            ]);
            let ask = |destination: &str, user| match action {
                Action::Send => rules.may_send(&names(), destination, user, &mut Budget::default()),
                Action::Subscribe => {
                    rules.may_subscribe(&names(), destination, user, &mut Budget::default())
                }
            };
            let endless = format!("/topic/{}", "a".repeat(1_000));
            assert_eq!(ask("/topic/x", Some("7")), Verdict::Allowed);
            assert_eq!(ask(&format!("{}b", &endless[..40]), Some("7")), Verdict::Refused);
            assert_eq!(ask(&endless, Some("7")), Verdict::Unclear);
            assert_eq!(ask(&endless, Some("boss")), Verdict::Unclear);
        }
    }

    /// Oracle: the rules, with patterns of one wildcard or name a segment, matched segment by
    /// segment, and names that are split and decoded by hand.
    fn naive(rules: &[Rule], action: Action, destination: &str, user: Option<&str>) -> bool {
        let words = |text: &str| -> Vec<String> {
            let mut words: Vec<String> = text.split('/').map(str::to_owned).collect();
            // Of a destination of a user the name is what matters, not how it is written.
            if action == Action::Send && words.len() > 3 && words[1] == "user" {
                words[2] = decode_user(&words[2]).into_owned();
            }
            words
        };
        let said = words(destination);
        for rule in rules.iter().filter(|rule| rule.action == action) {
            let rule_words = words(&rule.destination);
            let open = rule_words.last().is_some_and(|word| word == "**");
            let fixed = &rule_words[..rule_words.len() - usize::from(open)];
            let long_enough =
                if open { said.len() >= fixed.len() } else { said.len() == fixed.len() };
            let fits = |(word, said): (&String, &String)| {
                word == said || word == "*" || word == "{user}" && !said.is_empty()
            };
            if !long_enough || !fixed.iter().zip(&said).all(fits) {
                continue;
            }
            let own =
                fixed.iter().enumerate().filter(|(_, word)| *word == "{user}").all(|(at, _)| {
                    let raw = destination.split('/').nth(at).expect("as long as the rule");
                    Some(&*decode_user(raw)) == user
                });
            return own
                && match &rule.users {
                    Who::All => true,
                    Who::Authenticated => user.is_some(),
                    Who::Users(list) => user.is_some_and(|user| list.contains(&user.to_owned())),
                };
        }
        match action {
            Action::Subscribe => true,
            Action::Send => match &said[..] {
                [_, first, user_word, _, ..] if first == "user" => {
                    !user_word.is_empty() && Some(user_word.as_str()) == user
                }
                [_, first, _, ..] => first == "ws",
                _ => false,
            },
        }
    }

    const WORDS: [&str; 7] = ["7", "a%2Fb", "a%2fb", "a%252Fb", "%", "%25", "boss"];

    /// A word of a rule that is about `word` in most cases: the same, written in another way, or
    /// standing for it.
    fn word_of_rule(word: &str, pick: usize) -> String {
        match (pick, word) {
            (0, "a%2Fb") => "a%2fb".into(),
            (0, "a%2fb") => "a%2Fb".into(),
            (0, "%") => "%25".into(),
            (0, "%25") => "%".into(),
            (1, _) => "*".into(),
            (2 | 3, _) => "{user}".into(),
            (4, _) => "x".into(),
            (_, word) => word.into(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn like_the_naive_rules(
            first in "user|topic|ws",
            rest in prop::collection::vec(0..WORDS.len(), 1..4),
            list in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(0..7usize, 1..4), any::<bool>(), 0..4usize),
                0..4,
            ),
            user in 0..5usize,
        ) {
            let rest: Vec<&str> = rest.into_iter().map(|at| WORDS[at]).collect();
            let destination = format!("/{first}/{}", rest.join("/"));
            let who = |who| match who {
                0 | 1 => Who::All,
                2 => Who::Authenticated,
                _ => Who::Users(vec!["a/b".into(), "%".into(), "boss".into()]),
            };
            let list: Vec<Rule> = list
                .iter()
                .map(|(sends, picks, open, users)| {
                    let action = if *sends { Action::Send } else { Action::Subscribe };
                    let words = picks.iter().zip(rest.iter().cycle());
                    let words = words.map(|(pick, word)| word_of_rule(word, *pick));
                    let words = words.collect::<Vec<_>>().join("/");
                    let open = if *open { "/**" } else { "" };
                    rule(action, &format!("/{first}/{words}{open}"), who(*users))
                })
                .collect();
            // Whose name stands first, as it is or as it is written, or another one.
            let decoded = decode_user(rest[0]);
            let user = [None, Some(&*decoded), Some(rest[0]), Some("boss"), Some("a/b")][user];
            let ours = rules(list.clone());
            // What is nobody's is refused before any rule is asked.
            if names().target(&destination) != Target::Unknown {
                prop_assert_eq!(
                    send(&ours, &destination, user),
                    naive(&list, Action::Send, &destination, user),
                    "SEND {} by {:?}", destination, user
                );
            }
            prop_assert_eq!(
                subscribe(&ours, &destination, user),
                naive(&list, Action::Subscribe, &destination, user),
                "SUBSCRIBE {} by {:?}", destination, user
            );
        }
    }
}

//! A run's settings for slow consumers and batches, for the server and the oracles alike.

use super::random::Random;
use super::target::{PRESENCE, Target, matches};
use crate::config::{Batch, Config, Slow, SlowConsumer};
use crate::time::Micros;

/// The rules of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    slow: Vec<(&'static str, SlowConsumer)>,
    otherwise: SlowConsumer,
    batches: Vec<(&'static str, Micros)>,
    batch: Micros,
    spin: Micros,
}

impl Rules {
    /// Most runs have none.
    pub(super) fn draw(random: &mut Random) -> Rules {
        let mut rules = Rules::default();
        if random.chance(350) {
            // The watcher must see presence without a gap.
            rules.slow.push((PRESENCE, SlowConsumer::Close));
            match random.below(3) {
                0 => rules.otherwise = SlowConsumer::DropOldest,
                1 => rules.otherwise = SlowConsumer::Conflate,
                _ => {
                    rules.slow.push(("/topic/a/**", SlowConsumer::Conflate));
                    rules.slow.push(("/topic/t1", SlowConsumer::DropOldest));
                    rules.slow.push(("/user/queue/other", SlowConsumer::Conflate));
                }
            }
        }
        if random.chance(300) {
            let micros = *random.pick(&[100, 2_000, 30_000, 400_000]);
            match random.below(3) {
                0 => rules.batch = Micros(micros),
                1 => rules.batches.push(("/topic/a/**", Micros(micros))),
                _ => {
                    rules.batches.push((PRESENCE, Micros(0)));
                    rules.batches.push(("/topic/t0", Micros(micros / 2)));
                    rules.batches.push(("/topic/**", Micros(micros)));
                }
            }
        }
        if random.chance(200) {
            rules.spin = Micros(random.between(20, 500) as u32);
        }
        rules
    }

    /// One policy for all broker destinations.
    #[cfg(test)]
    pub(super) fn with(otherwise: SlowConsumer) -> Rules {
        let slow = vec![(PRESENCE, SlowConsumer::Close)];
        Rules { slow, otherwise, ..Rules::default() }
    }

    /// Writes them into a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        let slow = |&(destination, policy): &(&str, _)| {
            let destination = destination.to_owned();
            Slow { destination, policy }
        };
        let window = |&(destination, window): &(&str, _)| {
            let destination = destination.to_owned();
            Batch { destination, window }
        };
        config.slow = self.slow.iter().map(slow).collect();
        config.slow_consumer = self.otherwise;
        config.batches = self.batches.iter().map(window).collect();
        config.engine.batch_window = self.batch;
        config.engine.spin = self.spin;
    }

    /// Whether messages may be missed at all.
    pub(super) fn shed(&self) -> bool {
        !self.slow.is_empty()
    }

    /// Whether messages of all destinations but presence may be missed.
    pub(super) fn shed_all(&self) -> bool {
        self.otherwise != SlowConsumer::Close
    }

    /// Whether messages are collected in batches.
    pub(super) fn collect(&self) -> bool {
        self.batch > Micros(0) || !self.batches.is_empty()
    }

    /// What may happen to a message for a client that reads too slowly.
    pub(super) fn policy(&self, target: Target) -> SlowConsumer {
        let named = |destination: &str| {
            let rule = self.slow.iter().find(|(rule, _)| matches(rule, destination));
            rule.map(|(_, policy)| *policy)
        };
        match target {
            Target::Broker(destination) => named(destination).unwrap_or(self.otherwise),
            Target::User(_, destination)
            | Target::Session(_, _, destination)
            | Target::Own(_, destination) => {
                let shown = format!("/user{destination}");
                let rules = self.slow.iter().filter(|(rule, _)| rule.starts_with("/user"));
                let mut matching = rules.filter(|(rule, _)| matches(rule, &shown));
                matching.next().map(|(_, policy)| *policy).unwrap_or_default()
            }
            Target::Hook(..) | Target::Nobody => SlowConsumer::Close,
        }
    }

    /// The batch window of a message; there is an order only among messages with the same window.
    pub(super) fn window(&self, target: Target) -> Micros {
        let Target::Broker(destination) = target else { return Micros(0) };
        let rule = self.batches.iter().find(|(rule, _)| matches(rule, destination));
        rule.map_or(self.batch, |(_, window)| *window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_user_is_dropped_only_where_it_is_named() {
        let mut rules = Rules { otherwise: SlowConsumer::DropOldest, ..Rules::default() };
        let user = Target::User(1, "/queue/other");
        assert_eq!(rules.policy(Target::Broker("/topic/t0")), SlowConsumer::DropOldest);
        assert_eq!(rules.policy(user), SlowConsumer::Close);
        rules.slow.push(("/user/queue/other", SlowConsumer::Conflate));
        assert_eq!(rules.policy(user), SlowConsumer::Conflate);
    }
}

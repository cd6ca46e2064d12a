#![forbid(unsafe_code)]
//! What all shards know alike and never change: the configuration, made ready for use.
//!
//! A reload makes a new one and sends it to every shard.

use super::moved::Coming;
use crate::broker::application::{Answer, Application, Applications};
use crate::broker::core::Context;
use crate::broker::destination::Names;
use crate::broker::homes::Homes;
use crate::broker::rule::{Action, Rule, Rules, Who};
use crate::broker::setting::PerDestination;
use crate::config::{self, Config, NulInBody, SlowConsumer};
use crate::http::origin::Pattern;
use crate::limits::Limits;
use crate::mem::marks::Droppable;
use crate::mem::secret::{HashKey, Random};
use crate::mem::shares::{Bound, Shares};
use crate::metrics::Metrics;
use crate::time::Micros;
use core::hash::BuildHasher;
use std::sync::Arc;

/// One `[[endpoint]]`, ready.
#[derive(Debug)]
pub struct Endpoint {
    /// The endpoint as configured.
    pub config: config::Endpoint,
    /// Its compiled origins.
    pub origins: Vec<Pattern>,
}

/// Keys that are the same on all shards and unknown to clients, each for one thing.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// From names to homes.
    homes: HashKey,
    /// Of callbacks that were seen.
    callbacks: HashKey,
    /// Of frames that a newer one stands for.
    frames: HashKey,
    /// Of addresses and what they hold.
    addresses: HashKey,
}

impl Keys {
    /// Drawn for the life of the process.
    pub fn draw(random: &mut Random) -> Keys {
        Keys {
            homes: random.key(),
            callbacks: random.key(),
            frames: random.key(),
            addresses: random.key(),
        }
    }

    /// Those of a number: for tests and the simulator.
    pub fn known(number: u64) -> Keys {
        Keys::draw(&mut Random::known(number))
    }
}

/// The configuration, ready for use.
#[derive(Debug)]
pub struct Shared {
    /// The configuration itself.
    pub config: Config,
    /// Its bounds.
    pub limits: Limits,
    /// Endpoints, in order.
    pub endpoints: Vec<Endpoint>,
    /// Prefixes.
    pub names: Names,
    /// Who may do what.
    pub rules: Rules,
    /// Whether a rule can keep a destination from a pattern's subscriber.
    pub rules_restrict_patterns: bool,
    /// What happens to messages for clients that read too slowly.
    pub slow: PerDestination<SlowConsumer>,
    /// Some messages may be dropped.
    pub sheds: bool,
    /// How long messages are collected.
    pub batch_windows: PerDestination<Micros>,
    /// Some messages are collected.
    pub collects: bool,
    /// Application destinations.
    pub applications: Applications,
    /// Entries that one frame may produce towards one peer, at most.
    pub entries_of_a_frame: usize,
    /// Count of shards.
    pub shards: u8,
    /// Which shard is the home of what.
    pub homes: Homes,
    /// What all shards hash alike.
    pub keys: Keys,
    /// Token of this boot, the first part of every message-id.
    pub boot: String,
    /// The numbers of all shards.
    pub metrics: Metrics,
    /// What each address holds of what all share.
    pub shares: Arc<Shares>,
    /// Connections in flight to each shard.
    pub coming: Coming,
}

impl Shared {
    /// Makes a configuration ready. `keys` and `boot` stay the same over reloads, and so do the
    /// shares: [`Shared::reloaded`].
    pub fn new(config: Config, shards: u8, keys: Keys, boot: &str, metrics: Metrics) -> Shared {
        let separator = char::from(config.broker.separator);
        let names = Names {
            broker: config.broker.prefixes.clone(),
            application: config.broker.application_prefixes.clone(),
            user: config.broker.user_prefix.clone(),
            separator,
        };
        let rules = Rules::new(config.allow.iter().map(rule).collect(), &names);
        let endpoints =
            config.endpoints.iter().map(|one| endpoint(one, config.demo.enabled)).collect();
        let provider = stand_in(&config).is_some();
        let applications = config.applications.iter().map(|one| application(one, provider));
        let list: Vec<Application> = applications.collect();
        let named = config.slow.iter().map(|slow| (slow.destination.clone(), slow.policy));
        let slow = PerDestination::new(named.collect(), config.slow_consumer, separator);
        let named = config.batches.iter().map(|rule| (rule.destination.clone(), rule.window));
        let batch_windows =
            PerDestination::new(named.collect(), config.engine.batch_window, separator);
        let most = list.iter().map(|app| app.to.len() + usize::from(app.to_user.is_some()) + 1);
        Shared {
            entries_of_a_frame: most.max().unwrap_or(1).max(1),
            rules_restrict_patterns: rules.restrict_subscribers(),
            limits: config.limits.clone(),
            endpoints,
            names,
            rules,
            sheds: !slow.is_always(SlowConsumer::Close),
            slow,
            collects: !batch_windows.is_always(Micros(0)),
            batch_windows,
            applications: Applications::new(list, separator),
            shards,
            homes: Homes::new(keys.homes, shards),
            keys,
            boot: boot.to_owned(),
            metrics,
            shares: Arc::new(Shares::new(config.limits.share_addresses, keys.addresses)),
            coming: Coming::new(shards),
            config,
        }
    }

    /// The same process with another configuration.
    pub fn reloaded(&self, config: Config) -> Shared {
        let metrics = self.metrics.clone();
        let new = Shared::new(config, self.shards, self.keys, &self.boot, metrics);
        Shared { shares: self.shares.clone(), coming: self.coming.clone(), ..new }
    }

    /// How much of a table there is for everybody.
    pub fn bound(&self, capacity: u32) -> Bound {
        Bound { capacity, least: self.limits.share_least }
    }

    /// Whether a body may not be sent: old clients would find two frames in it
    /// (`broker.nul-in-body`).
    pub fn refuses_body(&self, content_type: Option<&[u8]>, body: &[u8]) -> bool {
        self.config.broker.nul_in_body == NulInBody::Refuse
            && crate::stomp::splits(content_type, body)
    }

    /// What homes read.
    pub fn context(&self) -> Context<'_> {
        Context {
            homes: &self.homes,
            names: &self.names,
            rules: &self.rules,
            rules_restrict_patterns: self.rules_restrict_patterns,
            shares: &self.shares,
            share_least: self.limits.share_least,
        }
    }

    /// A keyed fingerprint of a callback's id, by the callback's path, which it keeps over a
    /// reload: equal ids have equal ones, and no client can make two different ids meet.
    pub fn fingerprint(&self, path: &str, id: &str) -> [u64; 2] {
        let fingerprint = self.keys.callbacks.fingerprint((path, id));
        [(fingerprint >> 64) as u64, fingerprint as u64]
    }

    /// When a frame of a subscription may be dropped, if ever. `destination` is as its subscriber
    /// knows it.
    pub fn droppable(
        &self,
        policy: SlowConsumer,
        destination: &str,
        subscription: &str,
    ) -> Option<Droppable> {
        match policy {
            SlowConsumer::Close => None,
            SlowConsumer::DropOldest => Some(Droppable::Oldest),
            SlowConsumer::Conflate => {
                // Keyed, so that no client can make two destinations meet.
                let key = self.keys.frames.hash_one((destination, subscription));
                Some(Droppable::Superseded(key))
            }
        }
    }

    /// The callback that a demonstration's stand-in provider makes.
    pub fn stand_in(&self) -> Option<&config::Callback> {
        stand_in(&self.config)
    }
}

/// That of outbound calls, as the reference application has it.
fn stand_in(config: &Config) -> Option<&config::Callback> {
    let mut callbacks = config.callbacks.iter().filter(|_| config.demo.enabled);
    callbacks.find(|callback| callback.path == "/callback/outbound")
}

/// Pages that a developer's own tools serve may connect to every endpoint of a demonstration.
const DEMO_ORIGINS: [&str; 2] = ["http://localhost:[*]", "http://127.0.0.1:[*]"];

fn endpoint(config: &config::Endpoint, demo: bool) -> Endpoint {
    let own = DEMO_ORIGINS.iter().copied().filter(|_| demo);
    let origins = config.allowed_origins.iter().map(String::as_str).chain(own);
    let origins = origins.filter_map(|text| Pattern::parse(text).ok()).collect();
    Endpoint { config: config.clone(), origins }
}

fn rule(allow: &config::Allow) -> Rule {
    Rule {
        action: match allow.action {
            config::Action::Send => Action::Send,
            config::Action::Subscribe => Action::Subscribe,
        },
        destination: allow.destination.clone(),
        users: match &allow.users {
            config::Users::Everyone => Who::All,
            config::Users::Authenticated => Who::Authenticated,
            config::Users::Named(list) => Who::Users(list.clone()),
        },
    }
}

fn application(config: &config::Application, provider: bool) -> Application {
    let (to_user, to) = match &config.to {
        config::ReplyTo::User(destination) => (Some(destination.clone()), Vec::new()),
        config::ReplyTo::Destinations(list) => (None, list.clone()),
        // Spring's default: /topic and the destination.
        config::ReplyTo::Default => (None, vec![format!("/topic{}", config.destination)]),
    };
    Application {
        destination: config.destination.clone(),
        answer: match &config.answer {
            config::Answer::Reply(reply) => {
                Answer::Reply { body: reply.body.clone(), json: reply.json }
            }
            config::Answer::Hook(url) => Answer::Hook(Some(url.clone())),
            config::Answer::Forward(destination) => Answer::Forward(destination.clone()),
            config::Answer::Unset if provider => Answer::Provider,
            config::Answer::Unset => Answer::Hook(None),
        },
        to_user,
        to,
        broadcast: config.broadcast,
    }
}

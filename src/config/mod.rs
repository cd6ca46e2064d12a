#![forbid(unsafe_code)]
//! Turns a TOML file, the environment and the command line's flags into one checked [`Config`].
//!
//! It does not know how anything that it configures works: no socket is opened, no pattern is
//! compiled, no clock is read. The only files it reads are the configuration and the secrets that
//! it names; the environment is passed in.
//!
//! Drive it: fill in [`Sources`], call [`Sources::load`]; an error has all mistakes, one line each
//! that names file and line, the key, the value and what is accepted (the process exits with
//! [`EXIT`]). Only what compares several sections is checked when each section is good by itself.
//! Print [`Config::warnings`].
//! Load the same sources again on SIGHUP and ask [`Config::differences`] what changed and what of
//! it takes effect without a restart. [`check::text`] is what `ringpush check` prints.
//!
//! A key is one row of a table (`table.rs`): from it come how it is read, the error's text, its
//! default, how it is shown, whether a reload changes it, and its line in [`reference::page`]. A
//! section is one line of `sections!` below.
//!
//! ```
//! use ringpush::config::{Protocol, Sources};
//!
//! let mut sources = Sources::default();
//! let config = sources.load().expect("the embedded application is good");
//! assert!(config.embedded && config.warnings.is_empty());
//! assert_eq!(config.endpoints[1].protocol, Protocol::Stomp);
//!
//! sources.environment.push(("RINGPUSH_LIMITS__STOMP_FRAME".into(), "none".into()));
//! let error = sources.load().expect_err("a limit is a number");
//! assert_eq!(
//!     error.to_string(),
//!     "RINGPUSH_LIMITS__STOMP_FRAME = \"none\": accepted: a whole number from 128 to 4294967295"
//! );
//! ```
//!
//! Bounds: every value of `[limits]` is checked against its range and against the others it has to
//! fit (`limits.rs` in this folder); shards by [`crate::limits::SHARDS_MAX`].

mod auth;
mod callbacks;
pub mod check;
mod context;
mod demo;
mod endpoints;
#[cfg(test)]
mod entry_tests;
mod environment;
mod file;
mod kind;
mod limits;
mod mistake;
mod not_built;
mod places;
mod reader;
pub mod reference;
mod rules;
mod secret;
mod secrets;
mod sections;
mod settings;
mod signature;
mod syntax;
mod table;
mod warnings;

pub use auth::{Auth, Method, Token, TokenAlgorithm, TokenSource};
pub use callbacks::{Callback, Offline, Profile};
pub use endpoints::{Deflate, Endpoint, OnMessage, OnOpen, Protocol, Sockjs};
pub use file::{STARTING, Sources};
pub use mistake::{ConfigError, Mistake};
pub use rules::{
    Action, Allow, Answer, Application, Batch, Reply, ReplyTo, Slow, SlowConsumer, Users,
};
pub use secret::Secret;
pub use sections::{
    Api, Broker, Demo, Engine, Hooks, Listen, NulInBody, Presence, UnknownDestination,
};
pub use settings::{Difference, Setting};
pub use signature::{Encoding, FormPart, SignatureForm};
pub use syntax::{Network, Pointer};

use crate::limits::Limits;
use context::Context;
use kind::Key;
use reader::Section;
use settings::Lines;
use table::Part;

/// The exit code of a bad configuration.
pub const EXIT: u8 = 2;

/// The environment variable of the callbacks' secret, where none is named.
pub const CALLBACK_SECRET: &str = "RINGPUSH_CALLBACK_SECRET";
/// The environment variable of the tokens' secret, where none is named.
pub const TOKEN_SECRET: &str = "RINGPUSH_TOKEN_SECRET";
/// The environment variable of the API token, where none is named.
pub const API_TOKEN: &str = "RINGPUSH_API_TOKEN";

/// Declares the sections once, in the order in which they are read (a later one may look at an
/// earlier one): a field, the section's name, its type, and a sentence.
macro_rules! sections {
    ($($field:ident $name:literal: $type:ty; $doc:literal)*) => {
        /// All settings, checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = $doc] pub $field: $type,)*
            /// `[limits]` except `slow-consumer`.
            pub limits: Limits,
            /// `[limits] slow-consumer`
            pub slow_consumer: SlowConsumer,
            /// The embedded application runs.
            pub embedded: bool,
            /// One line for each setting that is accepted but looks like a mistake.
            pub warnings: Vec<String>,
        }

        impl Config {
            fn read(
                mut document: Section,
                mut context: Context<'_>,
                embedded: bool,
            ) -> Result<Config, Vec<Mistake>> {
                $(
                    let found = <$type as Part>::read(&mut document, $name, &mut context);
                    let $field = context.note(found);
                    if $field.is_none() {
                        context.assume($name);
                    }
                )*
                let bounds = document.below(limits::SECTION);
                let bounds = bounds.and_then(|section| limits::read(section, &mut context));
                let bounds = context.note(bounds);
                document.finish(&mut context);
                let warnings = Vec::new();
                match ($($field,)* bounds) {
                    ($(Some($field),)* Some((limits, slow_consumer)))
                        if context.mistakes.is_empty() =>
                    {
                        Ok(Config { $($field,)* limits, slow_consumer, embedded, warnings })
                    }
                    _ => Err(context.mistakes),
                }
            }

            fn lines(&self, mut to: Lines) -> Vec<Setting> {
                $(Part::show(&self.$field, $name, &mut to);)*
                limits::show(&self.limits, self.slow_consumer, &mut to);
                to.into_settings()
            }

            /// Prepares this configuration, which was just loaded, for a reload: everything that
            /// needs a restart keeps the value that is running.
            pub fn keep(&mut self, running: &Config) {
                $(Part::keep(&mut self.$field, &running.$field);)*
                self.limits.keep_fixed(&running.limits);
                self.embedded = running.embedded;
            }
        }

        /// What the reference says of each section: its name, whether it is repeated, its sentence
        /// and its keys.
        fn described() -> Vec<(&'static str, bool, &'static str, Vec<Key>)> {
            vec![
                $(($name, <$type as Part>::REPEATED, $doc, <$type as Part>::keys()),)*
                (limits::SECTION, false, limits::DOC, limits::keys()),
            ]
        }
    };
}

sections! {
    listen "listen": Listen;
        "Where the server listens, and its URL."
    engine "engine": Engine;
        "The server's threads."
    demo "demo": Demo;
        "For trying out on one machine."
    auth "auth": Auth;
        "How the user of a handshake is determined."
    api "api": Api;
        "The API for back ends."
    broker "broker": Broker;
        "Destinations, and what applies to all sessions."
    endpoints "endpoint": Vec<Endpoint>;
        "Where browsers connect."
    allow "allow": Vec<Allow>;
        "Who may send and subscribe: the first rule that matches decides. If none does, everybody \
         may subscribe to broker destinations and send to application destinations, and users may \
         do both at their own destinations."
    slow "slow": Vec<Slow>;
        "What a client that reads too slowly loses, by destination: the first rule that matches \
         decides, otherwise `limits.slow-consumer`."
    batches "batch": Vec<Batch>;
        "How long messages are collected, by destination: the first rule that matches decides, \
         otherwise `engine.batch-window`."
    applications "application": Vec<Application>;
        "What answers SENDs below the application prefixes."
    hooks "hooks": Hooks;
        "Outgoing HTTP calls."
    callbacks "callback": Vec<Callback>;
        "Callbacks from third parties: how they are signed, what is read from their JSON, and \
         where it goes."
    presence "presence": Presence;
        "Publishes who is online."
}

#![forbid(unsafe_code)]
//! Turns a TOML file, the environment and the command line's flags into one checked [`Config`].
//!
//! It does not know how anything that it configures works: no socket is opened, no pattern is
//! compiled, no clock is read. The only files it reads are the configuration and the secrets that
//! it names; the environment is passed in.
//!
//! Drive it: fill in [`Sources`], call [`Sources::load`]; an error is one line that names the key,
//! the value and what is accepted (the process exits with [`EXIT`]). Print [`Config::warnings`].
//! Load the same sources again on SIGHUP and ask [`Config::differences`] what changed and what of
//! it takes effect without a restart. [`check::text`] is what `ringpush check` prints.
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
//!     "RINGPUSH_LIMITS__STOMP_FRAME = \"none\": accepted: a whole number from 1 to 4294967295"
//! );
//! ```
//!
//! Bounds: every value of `[limits]` is checked against its range and against the others it has to
//! fit (`limits.rs` in this folder); shards by [`crate::limits::SHARDS_MAX`].

mod auth;
mod callbacks;
pub mod check;
mod demo;
mod entries;
mod environment;
mod file;
mod limits;
mod not_built;
mod reader;
mod secrets;
mod settings;
mod signature;
mod syntax;

pub use file::Sources;
pub use secrets::Secret;
pub use settings::{Difference, Setting};
pub use signature::{Encoding, FormPart, SignatureForm};
pub use syntax::{Network, Pointer};

use crate::limits::Limits;
use crate::time::{Micros, Millis};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The exit code of a bad configuration.
pub const EXIT: u8 = 2;

/// The environment variable of the callbacks' secret, where none is named.
pub const CALLBACK_SECRET: &str = "RINGPUSH_CALLBACK_SECRET";
/// The environment variable of the tokens' secret, where none is named.
pub const TOKEN_SECRET: &str = "RINGPUSH_TOKEN_SECRET";
/// The environment variable of the API token, where none is named.
pub const API_TOKEN: &str = "RINGPUSH_API_TOKEN";

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, variable, flag or place in the file.
    pub key: String,
    /// What stands there.
    pub value: String,
    /// What could stand there.
    pub accepted: String,
}

/// Characters of a value that an error shows.
const SHOWN_MAX: usize = 200;

impl ConfigError {
    fn new(key: &str, value: &str, accepted: &str) -> ConfigError {
        let mut shown: String = value.chars().take(SHOWN_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        ConfigError { key: key.to_string(), value: shown, accepted: accepted.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{} = {}: accepted: {}", self.key, self.value, self.accepted);
        // One line whatever the value was.
        f.write_str(&line.replace(|c: char| c.is_control(), " "))
    }
}

impl std::error::Error for ConfigError {}

/// Everything the server is told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[engine]`
    pub engine: Engine,
    /// `[demo] enabled`: query identity, the API without a token and `/demo/…` exist, for requests
    /// that stand the loopback test. No listener is beyond loopback then.
    pub demo: bool,
    /// `[auth]`
    pub auth: Auth,
    /// `[api]`
    pub api: Api,
    /// `[[endpoint]]`, in the file's order.
    pub endpoints: Vec<Endpoint>,
    /// `[broker]`
    pub broker: Broker,
    /// `[[allow]]`: the first that matches decides, the default rules come after them.
    pub allow: Vec<Allow>,
    /// `[[slow]]`: the first that matches decides, `slow_consumer` comes after them.
    pub slow: Vec<Slow>,
    /// `[[batch]]`: the first that matches decides, `engine.batch_window` comes after them.
    pub batches: Vec<Batch>,
    /// `[[application]]`
    pub applications: Vec<Application>,
    /// `[hooks]`
    pub hooks: Hooks,
    /// `[[callback]]`
    pub callbacks: Vec<Callback>,
    /// `[presence]`
    pub presence: Presence,
    /// `[limits]` but for `slow-consumer`.
    pub limits: Limits,
    /// `[limits] slow-consumer`
    pub slow_consumer: SlowConsumer,
    /// The embedded application runs.
    pub embedded: bool,
    /// One line for each setting that is accepted and looks like a mistake.
    pub warnings: Vec<String>,
}

/// Where the server listens and how the outside sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For browsers and callbacks; at least one.
    pub addresses: Vec<SocketAddr>,
    /// What the endpoints' listeners are bound to, once they are: no port is 0 then.
    pub bound: Vec<SocketAddr>,
    /// For the API, `/metrics` and the console, if they have their own.
    pub api_address: Option<SocketAddr>,
    /// How the outside sees this server, without a slash at the end.
    pub external_url: Option<String>,
    /// Whose `X-Forwarded-…` and user header are believed.
    pub trusted_proxies: Vec<Network>,
}

impl Listen {
    /// Whether the peer is a proxy whose headers are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

/// The shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Their number; 0 is one per usable core.
    pub shards: u32,
    /// Pins each to its core.
    pub pin: bool,
    /// How long messages to destinations without a `[[batch]]` are collected.
    pub batch_window: Micros,
    /// How long a shard looks for work before it sleeps.
    pub spin: Micros,
}

/// Who the user of a handshake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The methods in their order: the first that answers wins.
    pub methods: Vec<Method>,
    /// If none answers: anonymous, or 401.
    pub anonymous: bool,
    /// There whenever `methods` has [`Method::Token`].
    pub token: Option<Token>,
    /// Name of the header that a trusted proxy sets.
    pub header: String,
    /// Name of the query parameter.
    pub query: String,
}

/// One way to name a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token.
    Token,
    /// A header of a trusted proxy.
    Header,
    /// A query parameter, with `[demo]` only.
    Query,
}

impl Method {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Method::Token => "token",
            Method::Header => "header",
            Method::Query => "query",
        }
    }
}

/// `[auth] token`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Key of the HMAC.
    pub secret: Secret,
    /// Accepted algorithms, at least one.
    pub algorithms: Vec<TokenAlgorithm>,
    /// Claim that names the user.
    pub user_claim: String,
    /// Where to look, in this order.
    pub from: Vec<TokenSource>,
    /// The `iss` that a token must have.
    pub issuer: Option<String>,
    /// The `aud` that a token must have among its own.
    pub audience: Option<String>,
    /// How far clocks may be apart.
    pub leeway: Millis,
}

/// An algorithm of signed tokens (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// A place of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …` of the handshake.
    Bearer,
    /// A cookie of this name.
    Cookie(String),
    /// A query parameter of this name.
    Query(String),
    /// Passcode or `Authorization` header of CONNECT.
    Stomp,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The bearer token; without it the API exists with `[demo]` only.
    pub token: Option<Secret>,
}

/// One `[[endpoint]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it stands, unique.
    pub path: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Exact origins, patterns, or `*`; the same origin is always allowed.
    pub allowed_origins: Vec<String>,
    /// The SockJS routes below it.
    pub sockjs: Option<Sockjs>,
    /// permessage-deflate (RFC 7692) where the client offers it.
    pub deflate: Option<Deflate>,
    /// Closes every session as soon as it is open.
    pub on_open: Option<OnOpen>,
    /// What a raw endpoint does with a message.
    pub on_message: OnMessage,
}

/// `deflate` of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// A client's messages may refer to those that it sent before.
    pub context_takeover: bool,
    /// How far back, as a power of two: what such a session keeps.
    pub window_bits: u8,
}

/// The protocol of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Messages as they are.
    Raw,
    /// STOMP frames.
    Stomp,
}

/// `sockjs` of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockjs {
    /// From one heart-beat frame to the next.
    pub heartbeat: Millis,
    /// Whether the websocket transport is offered.
    pub websocket: bool,
    /// Whether the client shall send cookies.
    pub cookie: bool,
}

/// `on-open = { close = … }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnOpen {
    /// Close code.
    pub code: u16,
    /// Close reason.
    pub reason: String,
}

/// `on-message` of a raw endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnMessage {
    /// Sends the message back.
    Echo,
    /// Answers each with this text.
    Reply(String),
    /// Publishes it to this destination.
    Publish(String),
}

/// `[broker]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Prefixes of broker destinations.
    pub prefixes: Vec<String>,
    /// Prefixes of application destinations.
    pub application_prefixes: Vec<String>,
    /// Prefix of user destinations.
    pub user_prefix: String,
    /// What patterns see between two parts of a destination: `/` or `.`.
    pub separator: u8,
    /// Heart-beats that the server offers: what it sends, what it wants to receive.
    pub heartbeat: [Millis; 2],
    /// What a frame to no known prefix gets.
    pub unknown_destination: UnknownDestination,
    /// What becomes of a NUL in a body of text.
    pub nul_in_body: NulInBody,
}

/// `unknown-destination`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownDestination {
    /// An ERROR.
    Error,
    /// Silence.
    Ignore,
}

/// `nul-in-body`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NulInBody {
    /// Its sender is refused: old clients would read a second frame.
    Refuse,
    /// It is sent.
    Allow,
}

/// One `[[allow]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// What is allowed.
    pub action: Action,
    /// Where: a pattern, in which `{user}` is the own name.
    pub destination: String,
    /// To whom.
    pub users: Users,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SEND.
    Send,
    /// SUBSCRIBE.
    Subscribe,
}

/// To whom a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// Everybody, the anonymous too.
    Everyone,
    /// Everybody with a name.
    Authenticated,
    /// These.
    Named(Vec<String>),
}

/// One `[[application]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Pattern below each application prefix.
    pub destination: String,
    /// What happens to a message.
    pub answer: Answer,
    /// Where the reply goes.
    pub to: ReplyTo,
    /// A reply to a user: to all sessions, or to the asking one only.
    pub broadcast: bool,
}

/// What an application destination does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Replies with this body.
    Reply(Reply),
    /// Posts to this URL; the answer's body is the reply.
    Hook(String),
    /// Publishes the message to this destination.
    Forward(String),
    /// Nothing is set: the sender hears which key to set.
    Unset,
}

/// A body from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub body: String,
    /// Whether it was written as a TOML table or list: then it is JSON.
    pub json: bool,
}

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// To this destination of the sender.
    User(String),
    /// To these broker destinations.
    Destinations(Vec<String>),
    /// To `/topic` + destination.
    Default,
}

/// `[hooks]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// From the start of a call to the end of its answer.
    pub timeout: Millis,
    /// Calls at the same time.
    pub concurrent: u32,
    /// Calls that wait; past it the sender hears so.
    pub queue: u32,
}

/// One `[[callback]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Where it stands, unique.
    pub path: String,
    /// Who signs and how it wants to be answered.
    pub profile: Profile,
    /// Keys of the signature, at least one: any of them makes it good.
    pub secrets: Vec<Secret>,
    /// Where the key that recognises duplicates is.
    pub id: Option<Pointer>,
    /// Where the name of the user is.
    pub user: Option<Pointer>,
    /// Destination of that user; without `user` a broker destination.
    pub destination: String,
    /// Goes out as `businessType`; absent: the posted JSON alone is pushed.
    pub business_type: Option<String>,
    /// How long a duplicate is recognised.
    pub dedupe_window: Millis,
    /// When the user is absent or offline.
    pub offline: Offline,
}

/// The profile of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// HMAC-SHA256 of the body in a header.
    Generic {
        /// The header's name.
        header: String,
        /// The header's value.
        form: SignatureForm,
        /// How far a signed timestamp may be from now, where the form has one.
        tolerance: Millis,
    },
}

/// `offline` of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offline {
    /// Nobody gets it.
    Drop,
    /// It goes to this broker destination.
    Topic(String),
}

/// `[presence]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Where changes are published.
    pub topic: Option<String>,
}

/// One `[[slow]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Destination or pattern; those of users with the user prefix.
    pub destination: String,
    /// What happens to its messages for a client that reads too slowly.
    pub policy: SlowConsumer,
}

/// One `[[batch]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Destination or pattern of the broker.
    pub destination: String,
    /// How long its messages are collected.
    pub window: Micros,
}

/// `[limits] slow-consumer`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its connection is closed.
    #[default]
    Close,
    /// It loses its oldest messages.
    DropOldest,
    /// It keeps only the newest of each destination.
    Conflate,
}

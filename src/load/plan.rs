//! The arguments of `ringpush load`, and what they mean for each session.

use super::clock::nanos;
use super::stamp::{Filling, Stamp};
use super::wire::Protocol;
use clap::{Args, Subcommand, ValueEnum};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Sessions that share a source address: fewer than there are ephemeral ports.
const SESSIONS_PER_SOURCE: usize = 20_000;
/// Group of a spread of subscription ids: ids are `sub-0`, `sub-1`, …
const ID: &str = "sub-";

/// Arguments of `ringpush load`.
#[derive(Args, Debug)]
pub struct Options {
    /// The scenario.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The scenario of a run.
#[derive(Subcommand, Debug)]
pub enum Scenario {
    /// Open sessions, keep them open, and measure what each costs.
    Connect(Connect),
    /// One publisher, many subscribers of one destination.
    Fanout(Fanout),
    /// Messages by the HTTP API, each to one of many users.
    Unicast(Unicast),
    /// Each session sends to itself, and again when the message has arrived.
    Echo(Echo),
    /// Signed callbacks of a third party, each to one of many users.
    Callback(CallbackArguments),
    /// Sessions that open, send themselves one message, and close.
    Churn(Churn),
    /// A fan-out while some subscribers do not read.
    Slow(Slow),
    /// A fan-out while other sessions open and close.
    Mixed(Mixed),
}

/// The target, the protocol, and where the result goes.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Address of the server.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub to: SocketAddr,
    /// The protocol of the sessions.
    #[arg(long, value_enum, default_value = "stomp")]
    pub protocol: Protocol,
    /// Path of the endpoint.
    #[arg(long, default_value = "/portfolio")]
    pub path: String,
    /// Count of sessions.
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = whole(1, 1_000_000))]
    pub sessions: usize,
    /// Number of the first session: runs at the same time need different users and addresses.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub first: usize,
    /// Sessions that open at the same time.
    #[arg(long, default_value_t = 64, value_parser = whole(1, 4096))]
    pub concurrent: usize,
    /// Each session has its own user: `?userId=<number>`.
    #[arg(long)]
    pub users: bool,
    /// Subscription ids in use; sessions take them in turn.
    #[arg(long, default_value_t = 1, value_parser = whole(1, 1_000_000))]
    pub ids: usize,
    /// STOMP heart-beats in both directions, in milliseconds; 0 is none.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub heart_beat: u32,
    /// Do not request a RECEIPT for SUBSCRIBE (for servers that send none).
    #[arg(long)]
    pub no_receipts: bool,
    /// Offer permessage-deflate; a server that declines it ends the run.
    #[arg(long)]
    pub deflate: bool,
    /// Process of the server: its CPU time and memory are measured.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Write the result as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one self-contained page with plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the plots as SVG files into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// Neither a progress bar nor a table.
    #[arg(long)]
    pub quiet: bool,
}

/// `load connect`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Connect {
    /// Target.
    #[command(flatten)]
    pub target: Target,
    /// Where each session subscribes; `none` for nothing.
    #[arg(long, default_value = "/user/queue/sub", value_name = "DESTINATION")]
    pub subscribe: String,
    /// How long all sessions stay open.
    #[arg(long, default_value = "3s", value_parser = span, value_name = "TIME")]
    pub hold: Duration,
}

/// `load fanout`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Fanout {
    /// Target.
    #[command(flatten)]
    pub target: Target,
    /// Destination; not used by raw sessions, where the server sends to all.
    #[arg(long, default_value = "/topic/load")]
    pub destination: String,
    /// How messages are paced.
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// `load unicast`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Unicast {
    /// Target.
    #[command(flatten)]
    pub target: Target,
    /// HTTP connections that post; there is no order between messages of different ones.
    #[arg(long, default_value_t = 1, value_parser = whole(1, 256))]
    pub callers: usize,
    /// Environment variable with the API token.
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
    /// How messages are paced.
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// `load echo`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Echo {
    /// Target.
    #[command(flatten)]
    pub target: Target,
    /// How messages are paced; in the closed loop each session has one in flight.
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// `load callback`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct CallbackArguments {
    /// Target.
    #[command(flatten)]
    pub target: Target,
    /// Path of the callback, of the `generic` profile.
    #[arg(long, default_value = "/callback/inbound", value_name = "PATH")]
    pub callback: String,
    /// Environment variable with its secret.
    #[arg(long, default_value = "RINGPUSH_CALLBACK_SECRET", value_name = "NAME")]
    pub secret_env: String,
    /// HTTP connections that post; there is no order between messages of different ones.
    #[arg(long, default_value_t = 1, value_parser = whole(1, 256))]
    pub callers: usize,
    /// How messages are paced.
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// `load churn`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Churn {
    /// Target; its sessions are those open at the same time.
    #[command(flatten)]
    pub target: Target,
    /// Send nothing: close as soon as the session is open.
    #[arg(long)]
    pub silent: bool,
    /// How long.
    #[arg(long, default_value = "5s", value_parser = span, value_name = "TIME")]
    pub duration: Duration,
}

/// `load slow`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Slow {
    /// Target; its sessions include the slow ones.
    #[command(flatten)]
    pub target: Target,
    /// Destination.
    #[arg(long, default_value = "/topic/load")]
    pub destination: String,
    /// Subscribers that stop reading during the measurement, and read again afterwards.
    #[arg(long, default_value_t = 5)]
    pub slow: usize,
    /// Their SO_RCVBUF. Below loopback's segment size (64 KiB) TCP's window hardly ever reopens.
    #[arg(long, default_value_t = 131_072, value_name = "BYTES")]
    pub receive_buffer: usize,
    /// How messages are paced.
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// `load mixed`.
#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Mixed {
    /// Target; its sessions are those that stay.
    #[command(flatten)]
    pub target: Target,
    /// Destination.
    #[arg(long, default_value = "/topic/load")]
    pub destination: String,
    /// Sessions that open, subscribe and close, again and again.
    #[arg(long, default_value_t = 16, value_parser = whole(1, 4096))]
    pub churners: usize,
    /// How messages are paced.
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// The pace and size of messages, and the duration.
#[derive(Args, Clone, Debug)]
pub struct PaceArguments {
    /// Bytes of a message's body.
    #[arg(long, default_value_t = 128, value_parser = whole(32, 1 << 20))]
    pub size: usize,
    /// The content of that body.
    #[arg(long, value_enum, default_value = "letters")]
    pub filling: Filling,
    /// Open loop: messages per second, sent when due even if earlier ones have not arrived.
    #[arg(long, conflicts_with = "window", value_name = "PER SECOND")]
    pub rate: Option<f64>,
    /// Closed loop: messages in flight at the same time; 1 is one message per turn.
    #[arg(long, default_value_t = 1, value_parser = whole(1, 4096))]
    pub window: usize,
    /// How long the load runs before it is measured.
    #[arg(long, default_value = "1s", value_parser = span, value_name = "TIME")]
    pub warm_up: Duration,
    /// How long it is measured.
    #[arg(long, default_value = "5s", value_parser = span, value_name = "TIME")]
    pub duration: Duration,
    /// How the client waits for messages.
    #[arg(long, value_enum, default_value = "spin")]
    pub wait: WaitKind,
}

/// How the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitKind {
    /// It polls while messages are in flight, so that waking it costs a server on the same machine
    /// nothing.
    Spin,
    /// It sleeps in the kernel.
    Sleep,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// One message each this many nanoseconds.
    Every(u64),
    /// This many messages in flight.
    Window(usize),
}

impl PaceArguments {
    /// The pace.
    pub fn pace(&self) -> Pace {
        match self.rate {
            Some(rate) => Pace::Every((1e9 / rate.max(0.001)) as u64),
            None => Pace::Window(self.window),
        }
    }

    /// The body of a message.
    pub fn body(&self, stamp: Stamp) -> Vec<u8> {
        self.filling.body(stamp, self.size)
    }
}

/// What the sessions of a run have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Address of the server.
    pub to: SocketAddr,
    /// The protocol of the sessions.
    pub protocol: Protocol,
    /// Path of the endpoint.
    pub path: String,
    /// Value of the Host header.
    pub host: String,
    /// Where each session subscribes.
    pub subscribe: Option<String>,
    /// Count of subscription ids.
    pub ids: usize,
    /// Number of the first session.
    pub first: usize,
    /// Whether each session has its own user.
    pub users: bool,
    /// Heart-beats in milliseconds.
    pub heart_beat_millis: u32,
    /// Whether SUBSCRIBE asks for a RECEIPT.
    pub receipts: bool,
    /// Whether permessage-deflate is offered.
    pub deflate: bool,
    /// SO_RCVBUF of each session.
    pub receive_buffer: Option<usize>,
}

impl Plan {
    /// The plan of sessions that subscribe to `subscribe`.
    pub fn new(target: &Target, subscribe: &str) -> Plan {
        let is_subscribed = target.protocol.is_stomp() && subscribe != "none";
        Plan {
            to: target.to,
            protocol: target.protocol,
            path: target.path.clone(),
            host: target.to.to_string(),
            subscribe: is_subscribed.then(|| subscribe.to_owned()),
            ids: target.ids,
            first: target.first,
            users: target.users,
            heart_beat_millis: target.heart_beat,
            receipts: !target.no_receipts,
            deflate: target.deflate,
            receive_buffer: None,
        }
    }

    /// The opening handshake of a session.
    pub fn upgrade(&self, session: usize) -> Vec<u8> {
        let user = self.user(session);
        let query = if self.users { format!("userId={user}") } else { String::new() };
        self.protocol.upgrade(&self.host, &self.path, &query, user, self.deflate)
    }

    /// The user of a session.
    pub fn user(&self, session: usize) -> usize {
        self.first + session
    }

    /// The subscription id of a session.
    pub fn subscription_id(&self, session: usize) -> String {
        format!("{ID}{}", session % self.ids)
    }

    /// The source address of a session: one loopback address has ports for fewer sessions than a
    /// run may have. `None` leaves it to the kernel.
    pub fn source(&self, session: usize) -> Option<SocketAddr> {
        let turn = (self.first + session) / SESSIONS_PER_SOURCE;
        if turn == 0 || !self.to.ip().is_loopback() || self.to.is_ipv6() {
            return None;
        }
        let [low, high] = [turn % 250 + 1, turn / 250].map(|part| part as u8);
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, high, low)), 0))
    }

    /// Nanoseconds between heart-beats.
    pub fn heart_beat_nanos(&self) -> u64 {
        nanos(Duration::from_millis(u64::from(self.heart_beat_millis)))
    }
}

/// A whole number within bounds.
fn whole(min: usize, max: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {min} to {max}")),
    }
}

/// A time with its unit: `500ms`, `5s`, `1m`.
fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn fanout(line: &[&str]) -> Fanout {
        let line = ["load", "fanout"].iter().chain(line);
        match Line::parse_from(line).options.scenario {
            Scenario::Fanout(fanout) => fanout,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_valid() {
        use clap::CommandFactory;
        Line::command().debug_assert();
        assert_eq!(fanout(&[]).pace.pace(), Pace::Window(1));
        assert_eq!(fanout(&["--rate", "100"]).pace.pace(), Pace::Every(10_000_000));
        assert_eq!(fanout(&["--window", "16", "--ids", "3"]).pace.pace(), Pace::Window(16));
        assert!(Line::try_parse_from(["load", "fanout", "--size", "31"]).is_err());
        assert!(Line::try_parse_from(["load", "fanout", "--rate", "1", "--window", "2"]).is_err());
    }

    #[test]
    fn sessions_take_ids_and_sources_in_turn() {
        let plan = Plan::new(&fanout(&["--ids", "3"]).target, "/topic/load");
        assert_eq!(
            [0, 1, 2, 3].map(|at| plan.subscription_id(at)).concat(),
            "sub-0sub-1sub-2sub-0"
        );
        let later = Plan { first: 19_999, ..plan.clone() };
        assert_eq!((later.user(1), later.source(1)), (20_000, plan.source(20_000)));
        assert_eq!(plan.source(19_999), None);
        assert_eq!(plan.source(20_000), Some("127.0.0.2:0".parse().expect("an address")));
        assert_eq!(plan.source(5_000_000), Some("127.0.1.1:0".parse().expect("an address")));
    }
}

//! The plain sections: where the server listens, its threads, its broker, and outgoing calls.

use super::context::{Context, Destinations};
use super::kind::{
    Kind, flag, list, maybe, number, parsed, parsed_in, period, short_span, spans, text, word,
};
use super::reader::quoted;
use super::secrets::one_secret;
use super::syntax::{Network, below, is_destination, is_prefix, is_url};
use super::table::table;
use super::{API_TOKEN, CALLBACK_SECRET, Mistake, Secret};
use crate::limits::{HOOKS_CONCURRENT_MAX, HOOKS_QUEUE_MAX, SHARDS_MAX, SPIN_MAX, WINDOW_MAX};
use crate::time::{Micros, Millis};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const ADDRESS: &str = "an address with its port, such as \"127.0.0.1:8080\", \"[::1]:8080\", \
                       \"localhost:8080\", or \":8080\" for all IPv4 addresses";
const URL: &str = "an http or https URL, such as \"https://csms.example.com\"";
const NETWORKS: &str = "a list of IP addresses and blocks, such as [\"127.0.0.1\", \"10.0.0.0/8\"]";
const PREFIXES: &str =
    "prefixes of destinations, each with a slash at its start and none at its end";
const UNKNOWN: &[(&str, UnknownDestination)] =
    &[("error", UnknownDestination::Error), ("ignore", UnknownDestination::Ignore)];
const NUL: &[(&str, NulInBody)] = &[("refuse", NulInBody::Refuse), ("allow", NulInBody::Allow)];

table! {
    /// Where the server listens, and its URL.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Listen checked by addresses_of_their_own {
        addresses "address": Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            list(&format!("{ADDRESS}; or a list of such"), address), Restart;
            "for browsers and callbacks; for port 0 the kernel chooses one"
        api_address "api-address": Option<SocketAddr> = None,
            maybe(parsed(ADDRESS, address)), Restart;
            "a listener of its own for the API, `/metrics` and the console; without it they are \
             served where browsers are"
        external_url "external-url": Option<String> = None,
            maybe(parsed(URL, |text| is_url(text).then(|| text.trim_end_matches('/').to_string()))),
            Restart;
            "this server's URL as browsers see it; a page of this origin counts as the server's own"
        trusted_proxies "trusted-proxies": Vec<Network> = Vec::new(),
            list(NETWORKS, Network::parse), Restart;
            "the only peers whose `X-Forwarded-…` and user headers are believed"
    }
    beside {
        /// What the endpoints' listeners are bound to, once they are; no port is 0 then.
        bound: Vec<SocketAddr> = Vec::new(),
    }
}

/// An address with its port. Names other than this machine's own are not looked up.
fn address(text: &str) -> Option<SocketAddr> {
    let named = || {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host {
            "" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => return None,
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        Some(SocketAddr::from((host, port.parse().ok().filter(|_| digits)?)))
    };
    text.parse().ok().or_else(named)
}

impl Listen {
    /// Whether the peer is a proxy whose headers are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

fn addresses_of_their_own(
    listen: &mut Listen,
    path: &str,
    _: &mut Context<'_>,
) -> Result<(), Mistake> {
    if listen.addresses.is_empty() {
        return Err(Mistake::new(&format!("{path}.address"), "[]", ADDRESS));
    }
    listen.bound.clone_from(&listen.addresses);
    match listen.api_address {
        Some(address) if address.port() != 0 && listen.addresses.contains(&address) => {
            let key = format!("{path}.api-address");
            Err(Mistake::new(&key, &format!("\"{address}\""), "an address of its own"))
        }
        _ => Ok(()),
    }
}

table! {
    /// The shards.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Engine {
        shards "shards": u32 = 0, number(0, SHARDS_MAX as u32), Restart;
            "threads that serve connections; 0 is one per usable core"
        pin "pin": bool = false, flag(), Restart;
            "each of those threads stays on its core"
        batch_window "batch-window": Micros = Micros(0), short_span(WINDOW_MAX), Reload;
            "how long messages to destinations without a `[[batch]]` are collected before they are \
             sent together; 0: only those of one turn of the loop"
        spin "spin": Micros = Micros(0), short_span(SPIN_MAX), Reload;
            "how long a thread polls for work before it sleeps: saves some microseconds of latency \
             and costs each thread a core"
    }
}

table! {
    /// What visitors from the server's own machine, and nobody else, may do for trying it out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Demo checked by makes_a_secret_up {
        enabled "enabled": bool = false, flag(), Restart;
            "a query parameter may name the user, the API asks for no token and `/demo/…` exists, \
             for visitors from this machine; with a listener beyond loopback the server does not \
             start"
    }
}

fn makes_a_secret_up(demo: &mut Demo, _: &str, context: &mut Context<'_>) -> Result<(), Mistake> {
    if demo.enabled {
        context.secrets.make_up(CALLBACK_SECRET);
    }
    Ok(())
}

table! {
    /// The API for back ends.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Api {
        token "token": Option<Secret> = None, maybe(one_secret("token", API_TOKEN)), Reload;
            "the bearer token of the API, at least 16 bytes; without one the API exists with \
             `[demo]` only"
    }
}

table! {
    /// Destinations, and what applies to all sessions.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Broker checked by prefixes_apart {
        prefixes "prefixes": Vec<String> = owned(&["/topic", "/queue"]), prefixes(), Restart;
            "below them are the broker's destinations, to which sessions subscribe"
        application_prefixes "application-prefixes": Vec<String> = owned(&["/ws"]),
            prefixes(), Restart;
            "below them are the destinations of `[[application]]`"
        user_prefix "user-prefix": String = "/user".to_string(),
            text("one such prefix as \"/user\"", is_prefix), Restart;
            "below it each user has destinations of their own"
        separator "separator": u8 = b'/', separator(), Restart;
            "what separates the parts of a destination that patterns compare"
        heartbeat "heartbeat": [Millis; 2] = [Millis::seconds(10); 2], spans(), Restart;
            "STOMP heart-beats that the server offers: how often it sends, and how often it wants \
             to receive; \"0s\" is never"
        unknown_destination "unknown-destination": UnknownDestination = UnknownDestination::Error,
            word(UNKNOWN), Restart;
            "what a SEND or SUBSCRIBE outside all prefixes gets: an ERROR, or silence as with \
             Spring"
        nul_in_body "nul-in-body": NulInBody = NulInBody::Refuse, word(NUL), Restart;
            "a NUL in a text body: refused, or sent although old clients take it for the end of \
             the frame"
    }
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

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| one.to_string()).collect()
}

fn prefixes() -> Kind<Vec<String>> {
    list(PREFIXES, |text| is_prefix(text).then(|| text.to_string()))
}

fn separator() -> Kind<u8> {
    const WORDS: &[(&str, u8)] = &[("/", b'/'), (".", b'.')];
    word(WORDS)
}

/// One destination must belong to one of the prefixes.
fn prefixes_apart(
    broker: &mut Broker,
    path: &str,
    context: &mut Context<'_>,
) -> Result<(), Mistake> {
    let mut before: Vec<&str> = Vec::new();
    let keyed = broker.prefixes.iter().map(|one| ("prefixes", one));
    let keyed =
        keyed.chain(broker.application_prefixes.iter().map(|o| ("application-prefixes", o)));
    for (key, prefix) in keyed.chain([("user-prefix", &broker.user_prefix)]) {
        if let Some(other) = before.iter().find(|one| below(one, prefix) || below(prefix, one)) {
            let accepted = format!("a prefix that is not below or above \"{other}\"");
            return Err(Mistake::new(&format!("{path}.{key}"), &quoted(prefix), &accepted));
        }
        before.push(prefix);
    }
    context.destinations = Some(Destinations {
        prefixes: broker.prefixes.clone(),
        user_prefix: broker.user_prefix.clone(),
        separator: broker.separator,
        refuses_nul: broker.nul_in_body == NulInBody::Refuse,
    });
    Ok(())
}

/// What is said about a destination of the broker.
pub(super) fn broker_text(context: &Context<'_>) -> String {
    match &context.destinations {
        Some(known) => format!("a destination below {}", known.prefixes.join(" or ")),
        None => "a destination below one of `broker.prefixes`".to_string(),
    }
}

/// A destination of the broker.
pub(super) fn broker_destination() -> Kind<String> {
    parsed_in(broker_text, |text, context| {
        let fits = is_destination(text) && context.destinations.as_ref()?.has(text);
        fits.then(|| text.to_string())
    })
}

table! {
    /// Outgoing HTTP calls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Hooks {
        timeout "timeout": Millis = Millis::seconds(5), period(), Reload;
            "from the start of a call to the end of its answer; past it the call has failed"
        concurrent "concurrent": u32 = 64, number(1, HOOKS_CONCURRENT_MAX), Reload;
            "calls at a time; past it they wait"
        queue "queue": u32 = 1000, number(0, HOOKS_QUEUE_MAX), Reload;
            "calls that wait; past it the sender is told so on `/user/queue/errors`"
    }
}

table! {
    /// Publishes who is online.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Presence {
        topic "topic": Option<String> = None, maybe(broker_destination()), Reload;
            "where `ON_LINE` and `OFF_LINE` of users are published; without it nowhere"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_leave_out_what_is_plain() {
        for (text, shown) in [
            ("localhost:8080", Some("127.0.0.1:8080")),
            (":8080", Some("0.0.0.0:8080")),
            ("[::1]:1", Some("[::1]:1")),
            ("1.2.3.4:5", Some("1.2.3.4:5")),
            ("localhost", None),
            ("localhost:", None),
            (":+80", None),
            (":65536", None),
            ("8080", None),
            ("example.com:80", None),
        ] {
            let found = address(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), shown, "{text}");
        }
    }
}

//! The attacks: which clients connect, from where, and what they send. Each has a polite
//! counterpart: as many connections that send as many bytes at the same times, but stay within
//! their bounds and read.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use ringpush::load::wire::put_frame;
use ringpush::ws::Opcode;
use std::time::Duration;

/// The secret of the server's tokens.
pub const SECRET: &str = "attacked, but of thirty-two bytes";
/// The longest payload of an attacker's message.
const MESSAGE: usize = 60_000;

/// A token of `user`, good for this server until 2100 (RFC 7519, HS256).
pub fn token(user: &str) -> String {
    let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = BASE64.encode(format!(r#"{{"sub":"{user}","exp":4102444800}}"#));
    let text = format!("{head}.{claims}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(text.as_bytes());
    format!("{text}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[derive(Clone, Copy)]
pub enum Endpoint {
    /// Raw, answers each message with itself.
    Echo,
    /// STOMP.
    Stomp,
}

/// The connection whose turn it is to send.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Its number in the group.
    pub index: usize,
    /// How often it has connected before.
    pub round: u32,
    /// Its beats of this connection.
    pub beat: u32,
}

type Says = Box<dyn Fn(Turn) -> Vec<u8>>;

/// Clients that do the same.
pub struct Group {
    pub count: usize,
    /// Last number of the first source address, and how many addresses are in use.
    pub source: u8,
    pub sources: u8,
    pub endpoint: Endpoint,
    pub deflate: bool,
    /// They have a token of this name and their number.
    pub user: Option<&'static str>,
    pub reads: bool,
    pub receive_buffer: Option<usize>,
    /// When the first connects.
    pub from: Duration,
    /// From the handshake to the end of the connection; zero: it stays.
    pub life: Duration,
    /// Sent after the handshake.
    pub hello: Says,
    /// Sent repeatedly, at this interval; zero: never.
    pub every: Duration,
    pub beat: Says,
}

impl Group {
    fn new(endpoint: Endpoint, count: usize) -> Group {
        Group {
            count,
            source: 2,
            sources: 1,
            endpoint,
            deflate: false,
            user: None,
            reads: true,
            receive_buffer: None,
            from: Duration::ZERO,
            life: Duration::ZERO,
            hello: Box::new(|_| Vec::new()),
            every: Duration::ZERO,
            beat: Box::new(|_| Vec::new()),
        }
    }

    /// STOMP clients that log in, and then send this at once.
    fn stomp(count: usize, hello: impl Fn(Turn) -> Vec<String> + 'static) -> Group {
        let says = move |turn| {
            let connect = "CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\n\n\0";
            let mut out = messages(&[connect.to_owned()]);
            out.extend(messages(&hello(turn)));
            out
        };
        Group { hello: Box::new(says), ..Group::new(Endpoint::Stomp, count) }
    }

    fn beating(self, millis: u64, beat: impl Fn(Turn) -> Vec<u8> + 'static) -> Group {
        Group { every: Duration::from_millis(millis), beat: Box::new(beat), ..self }
    }

    fn living(self, millis: u64) -> Group {
        Group { life: Duration::from_millis(millis), ..self }
    }

    /// They stop reading after the handshake, with little room in the kernel.
    fn deaf(self, is_deaf: bool) -> Group {
        match is_deaf {
            true => Group { reads: false, receive_buffer: Some(4096), ..self },
            false => self,
        }
    }
}

/// STOMP frames, one message each.
fn messages(frames: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| put_frame(Opcode::Text, frame.as_bytes(), &mut out));
    out
}

/// A SUBSCRIBE of always the same length for names of the same length.
fn subscribe(id: usize, destination: &str, receipt: bool) -> String {
    let receipt = if receipt { format!("receipt:r{id:05}\n") } else { String::new() };
    format!("SUBSCRIBE\nid:s{id:05}\ndestination:{destination}\n{receipt}\n\0")
}

fn unsubscribe(id: usize, pad: usize) -> String {
    format!("UNSUBSCRIBE\nid:s{id:05}\npad:{}\n\n\0", "x".repeat(pad))
}

/// Frames of a polite client with as many bytes as `frames`: it subscribes and unsubscribes its own
/// destinations, one after the other.
fn polite(turn: Turn, frames: &[String]) -> Vec<String> {
    let name = |n: usize| format!("/topic/own/{:04}-{}", turn.index, n % 8);
    let one = |(n, frame): (usize, &String)| match n % 2 {
        0 => {
            let bare = subscribe(n, &name(n / 2), false);
            let pad = frame.len().saturating_sub(bare.len() + 5);
            bare.replace("\n\n", &format!("\npad:{}\n\n", "x".repeat(pad)))
        }
        _ => {
            let bare = unsubscribe(n - 1, 0);
            unsubscribe(n - 1, frame.len().saturating_sub(bare.len()))
        }
    };
    frames.iter().enumerate().map(one).collect()
}

/// An attack: its name, a short description, and the descriptors that the server may have.
pub struct Attack {
    pub name: &'static str,
    pub what: &'static str,
    pub descriptors: Option<u32>,
    groups: fn(bool) -> Vec<Group>,
}

impl Attack {
    /// The clients; `polite`: those that send as much and do no harm.
    pub fn groups(&self, polite: bool) -> Vec<Group> {
        (self.groups)(polite)
    }
}

const fn attack(name: &'static str, what: &'static str, groups: fn(bool) -> Vec<Group>) -> Attack {
    Attack { name, what, descriptors: None, groups }
}

pub const ATTACKS: &[Attack] = &[
    attack("1-refused", "refused SUBSCRIBEs with a receipt, then gone", refused),
    attack("1-stalled", "paused with bytes behind, then gone", stalled),
    attack("2-forged", "SENDs with forged headers", forged),
    attack("3-names", "60 sessions, 5.8 MB of new names each 2 s", names),
    attack("4-ids-10", "10 deflating sessions, 1024 ids for one destination", |p| ids(10, p)),
    attack("4-ids-40", "40 deflating sessions, 1024 ids for one destination", |p| ids(40, p)),
    attack("5-destinations", "97 sessions and their helpers fill `destinations`", destinations),
    attack("5-alike", "32 sessions that fill `patterns-alike`", alike),
    attack("5-hooks", "200 sessions that fill hooks.queue", hooks),
    Attack {
        name: "5-slots",
        what: "one address takes all slots",
        descriptors: Some(4096),
        groups: slots,
    },
    attack("6-pings", "1300 pingers that do not read", pings),
    attack("6-echoes", "700 sessions with unread echoes of 60 KB", echoes),
];

/// 32 sessions that subscribe 32 patterns each, all with the same beginning.
fn fillers(is_polite: bool) -> Group {
    let hello = move |turn: Turn| {
        let name = |n: usize| format!("/topic/*/{:02}-{n:02}", turn.index);
        let frames: Vec<_> = (0..32).map(|n| subscribe(n, &name(n), false)).collect();
        if is_polite { polite(turn, &frames) } else { frames }
    };
    Group { sources: 8, ..Group::stomp(32, hello) }
}

fn refused(is_polite: bool) -> Vec<Group> {
    let hello = move |turn: Turn| {
        let middle = if is_polite { "x" } else { "*" };
        let name = format!("/topic/{middle}/late-{:03}", turn.index);
        let mut frames = vec![subscribe(0, &name, true)];
        // Nothing after it, something refused like it, something allowed, or so much that it waits.
        match turn.index % 4 {
            0 => {}
            1 => frames.push(subscribe(1, &name, false)),
            2 => frames.push("SEND\ndestination:/ws/tell\n\n\0".to_owned()),
            _ => frames.extend((1..100).map(|n| subscribe(n, &format!("/topic/x/n-{n:02}"), true))),
        }
        frames
    };
    // Later bytes find the session waiting, and its socket is no longer read.
    let more = |_| messages(&["SEND\ndestination:/ws/tell\n\n\0".to_owned()]);
    let late = Group {
        user: Some("mallory"),
        from: Duration::from_millis(300),
        ..Group::stomp(50, hello).beating(60, more).living(700)
    };
    vec![fillers(is_polite), late]
}

fn stalled(is_polite: bool) -> Vec<Group> {
    let deaf = !is_polite;
    let pinger = |_| pinging(200);
    let echo = |_| {
        let mut out = Vec::new();
        put_frame(Opcode::Text, &vec![b'e'; MESSAGE], &mut out);
        out
    };
    let ask = |turn: Turn| {
        let frame = |n: usize| {
            let user = "destination:/user/queue/sub";
            match (turn.beat, n) {
                (0, 0) => format!("SUBSCRIBE\nid:s\n{user}\n\n\0"),
                _ => format!("SEND\ndestination:/ws/tell\nreceipt:{n}\n\n{}\0", "x".repeat(200)),
            }
        };
        messages(&(0..100).map(frame).collect::<Vec<_>>())
    };
    let stomp = Group { user: Some("mallory"), ..Group::stomp(60, |_| Vec::new()) };
    vec![
        Group::new(Endpoint::Echo, 60).beating(100, pinger).living(1500).deaf(deaf),
        Group::new(Endpoint::Echo, 60).beating(150, echo).living(1500).deaf(deaf),
        stomp.beating(100, ask).living(1500).deaf(deaf),
    ]
}

fn forged(is_polite: bool) -> Vec<Group> {
    let beat = move |turn: Turn| {
        // All of the same length: a blank, a tab, VT, NBSP (two bytes) before or after the name.
        let forged = [
            " subscription:sub-0\n message-id:forged",
            "\tsubscription:sub-0\nmessage-id :forged",
            "\u{b}subscription:sub-0\n content-length:1",
            "\u{a0}subscription:sub-0\nmessage-id\u{a0}:no",
            "subscription :sub-0\ncontent-length\t:1",
            "\u{a0}destination:/user/queue/sub\ndestination:/user/queue/sub",
        ][(turn.index + turn.beat as usize) % 6];
        let harmless = "x".repeat(forged.len() - 2);
        let extra = if is_polite { format!("x:{harmless}") } else { forged.to_owned() };
        let frame = format!("SEND\ndestination:/topic/board\n{extra}\n\n{}\0", "b".repeat(64));
        messages(&[frame])
    };
    vec![Group::stomp(20, |_| Vec::new()).beating(20, beat)]
}

fn names(is_polite: bool) -> Vec<Group> {
    let hello = move |turn: Turn| {
        let (round, index) = (turn.round, turn.index);
        let name = |n: usize| format!("/topic/{round:03}/{index:02}/{n:04}/{}", "n".repeat(34));
        let frames: Vec<_> = (0..1020).map(|n| subscribe(n, &name(n), false)).collect();
        if is_polite { polite(turn, &frames) } else { frames }
    };
    // One connection per burst, since a burst uses up its subscriptions.
    vec![Group::stomp(60, hello).living(1750)]
}

fn ids(count: usize, is_polite: bool) -> Vec<Group> {
    let hello = move |turn: Turn| {
        // As many as are allowed.
        let many = if turn.round == 0 || is_polite { 1024 } else { 8 };
        let frames: Vec<_> = (0..many).map(|n| subscribe(n, "/topic/news", false)).collect();
        if is_polite {
            let mut all = polite(turn, &frames[2..]);
            all.push(subscribe(2000, "/topic/news", false));
            return all;
        }
        frames
    };
    vec![Group { deflate: true, ..Group::stomp(count, hello) }]
}

fn destinations(is_polite: bool) -> Vec<Group> {
    // A refused client loses what it had, and returns: fewer names per session fill the rest.
    let group = |count: usize, names: usize, mark: &'static str| {
        let hello = move |turn: Turn| {
            let name = |n: usize| format!("/topic/{mark}/{:03}/{n:04}", turn.index);
            let frames: Vec<_> = (0..names).map(|n| subscribe(n, &name(n), false)).collect();
            if is_polite { polite(turn, &frames) } else { frames }
        };
        Group::stomp(count, hello)
    };
    let later = |millis: u64, group: Group| Group { from: Duration::from_millis(millis), ..group };
    vec![
        group(97, 1024, "all"),
        later(1500, group(110, 8, "rest")),
        later(2500, group(20, 1, "last")),
    ]
}

fn alike(is_polite: bool) -> Vec<Group> {
    vec![Group { sources: 1, ..fillers(is_polite) }]
}

fn hooks(is_polite: bool) -> Vec<Group> {
    let beat = move |_: Turn| {
        let to = if is_polite { "/ws/tell" } else { "/ws/ask1" };
        messages(&[format!("SEND\ndestination:{to}\n\n{}\0", "h".repeat(32))])
    };
    let sub = |_| vec![subscribe(0, "/user/queue/sub", false)];
    vec![Group::stomp(200, sub).beating(100, beat)]
}

fn slots(is_polite: bool) -> Vec<Group> {
    // Polite ones stay below what a server with this many descriptors can serve.
    let count = if is_polite { 2900 } else { 4400 };
    vec![Group::new(Endpoint::Echo, count)]
}

fn pinging(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    (0..count).for_each(|_| put_frame(Opcode::Ping, &[b'p'; 125], &mut out));
    out
}

fn pings(is_polite: bool) -> Vec<Group> {
    vec![Group::new(Endpoint::Echo, 1300).beating(100, |_| pinging(64)).deaf(!is_polite)]
}

fn echoes(is_polite: bool) -> Vec<Group> {
    let beat = |_: Turn| {
        let mut out = Vec::new();
        put_frame(Opcode::Text, &vec![b'e'; MESSAGE], &mut out);
        out
    };
    vec![Group::new(Endpoint::Echo, 700).beating(450, beat).deaf(!is_polite)]
}

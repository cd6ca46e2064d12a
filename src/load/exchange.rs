//! `load unicast`, `load echo`, `load callback`: messages that each go to one session.
//!
//! They differ in how a message is posted: by the HTTP API, by the session itself, or as a signed
//! callback of a third party.

use super::clock::{SECOND, nanos};
use super::fleet::{Fleet, Wait};
use super::peer::{Event, message};
use super::plan::{CallbackArguments, Echo, Pace, PaceArguments, Plan, Target, Unicast, WaitKind};
use super::report::{self, Report};
use super::run::{Failure, Watch, ended, open_all};
use super::streams::Streams;
use super::wire::request;
use hdrhistogram::Histogram;
use hmac::{Hmac, KeyInit, Mac};
use std::collections::VecDeque;
use std::fmt::Write as _;

/// The destination on which sessions receive messages for their user.
const USER_QUEUE: &str = "/queue/sub";
const STALL: u64 = 10 * SECOND;
const NAP: u64 = SECOND / 10;
/// Consecutive messages go to sessions this far apart, not to those that were opened together.
const STRIDE: usize = 7919;

/// How a message is posted.
#[derive(Clone, Debug)]
enum Way {
    /// `POST /api/users/{user}/messages`.
    Api { token: Option<String> },
    /// The session sends it to itself.
    Own,
    /// A signed callback.
    Callback { path: String, secret: Vec<u8> },
}

/// `load unicast`.
pub fn unicast(options: &Unicast) -> Result<Report, Failure> {
    let token = options.token_env.as_deref().map(secret).transpose()?;
    let way = Way::Api { token };
    run("unicast", way, &options.target, &options.pace, options.callers)
}

/// `load echo`.
pub fn echo(options: &Echo) -> Result<Report, Failure> {
    let mut pace = options.pace.clone();
    // Each session has one message in flight.
    pace.window = pace.window.max(options.target.sessions);
    run("echo", Way::Own, &options.target, &pace, 0)
}

/// `load callback`.
pub fn callback(options: &CallbackArguments) -> Result<Report, Failure> {
    let secret = secret(&options.secret_env)?.into_bytes();
    let way = Way::Callback { path: options.callback.clone(), secret };
    run("callback", way, &options.target, &options.pace, options.callers)
}

fn secret(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| Failure(format!("the environment has no {name}")))
}

fn run(
    scenario: &'static str,
    way: Way,
    target: &Target,
    pace: &PaceArguments,
    callers: usize,
) -> Result<Report, Failure> {
    let target = &Target { users: true, ..target.clone() };
    let mut watch = Watch::new(target)?;
    let fleet = Fleet::new(Plan::new(target, &format!("/user{USER_QUEUE}")))?;
    let mut report = Report::new(scenario, "deliveries", target);
    report.setting("size", pace.size);
    match pace.pace() {
        Pace::Every(_) => report.setting("rate", pace.rate.unwrap_or_default()),
        Pace::Window(window) => report.setting("window", window),
    }
    let mut exchange = Exchange {
        fleet,
        streams: Streams::new(target.sessions),
        way,
        pace: pace.clone(),
        sessions: target.sessions,
        callers: (0..callers).map(|_| VecDeque::new()).collect(),
        turn: 0,
        answers: report::histogram(),
        refused: 0,
        ended: 0,
        last: 0,
        free: VecDeque::new(),
        events: Vec::new(),
    };
    open_all(&mut exchange.fleet, 0, target.sessions, target.concurrent, &mut watch)?;
    exchange.open_callers()?;
    watch.phase("warming up", nanos(pace.warm_up) / SECOND);
    exchange.load(nanos(pace.warm_up), &mut watch)?;
    exchange.drain(&mut watch)?;
    watch.phase("measuring", nanos(pace.duration) / SECOND);
    exchange.measure(&mut watch, &mut report)?;
    Ok(report)
}

struct Exchange {
    fleet: Fleet,
    streams: Streams,
    way: Way,
    pace: PaceArguments,
    sessions: usize,
    /// Per HTTP connection: when the requests that wait for their answer were due.
    callers: Vec<VecDeque<u64>>,
    /// Counts messages.
    turn: usize,
    /// How long HTTP answers took.
    answers: Histogram<u64>,
    /// Answers other than 200.
    refused: u64,
    ended: u64,
    /// Time of the last arrival.
    last: u64,
    /// Echo: sessions whose message has come back.
    free: VecDeque<usize>,
    events: Vec<Event>,
}

impl Exchange {
    /// HTTP connections come after the sessions.
    fn open_callers(&mut self) -> Result<(), Failure> {
        for caller in 0..self.callers.len() {
            self.fleet.open_caller(self.sessions + caller)?;
        }
        if matches!(self.way, Way::Own) {
            self.free.extend(0..self.sessions);
        }
        Ok(())
    }

    fn measure(&mut self, watch: &mut Watch, report: &mut Report) -> Result<(), Failure> {
        let start = self.fleet.clock.now();
        self.streams.measure(start);
        self.answers.reset();
        let idle = self.fleet.counters.idle_nanos;
        watch.measure(start);
        self.load(nanos(self.pace.duration), watch)?;
        self.drain(watch)?;
        let last = watch.read();
        let wall = (self.fleet.clock.now() - start) as f64;
        let delivered = self.streams.delivered();
        let used = watch.tell(report, &last, delivered, "delivery");
        report.figure("sent", self.streams.sent() as f64);
        report.figure("delivered", delivered as f64);
        report.figure("deliveries_per_s", delivered as f64 * 1e9 / wall);
        if watch.is_measuring() {
            report.figure("server_busy_share", used as f64 / wall);
        }
        for (name, quantile) in [("answer_p50_us", 0.5), ("answer_p99_us", 0.99)] {
            if !self.answers.is_empty() {
                report.figure(name, self.answers.value_at_quantile(quantile) as f64 / 1e3);
            }
        }
        report.busy(1.0 - (self.fleet.counters.idle_nanos - idle) as f64 / wall);
        report.latency(&self.streams.latency);
        report.faults = self.streams.faults();
        for (count, what) in
            [(self.refused, "requests were not answered with 200"), (self.ended, "sessions ended")]
        {
            if count > 0 {
                report.warnings.push(format!("{count} {what}"));
            }
        }
        Ok(())
    }

    fn load(&mut self, length: u64, watch: &mut Watch) -> Result<(), Failure> {
        let start = self.fleet.clock.now();
        let end = start + length;
        let mut due = start;
        self.last = start;
        loop {
            let now = self.fleet.clock.now();
            if now >= end || now > self.last + STALL {
                return Ok(());
            }
            match self.pace.pace() {
                Pace::Every(gap) => {
                    while due <= now {
                        self.post(due);
                        due += gap;
                    }
                }
                Pace::Window(window) => {
                    while self.streams.outstanding() < window && self.post(now) {}
                    due = now + NAP;
                }
            }
            self.turn(due.min(end))?;
            watch.on(now, (now - start) / SECOND, || self.streams.delivered());
        }
    }

    fn drain(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        self.last = self.fleet.clock.now();
        while self.streams.outstanding() > 0 {
            let now = self.fleet.clock.now();
            if now > self.last + STALL {
                break;
            }
            self.turn(now + NAP)?;
            watch.on(now, 0, || self.streams.delivered());
        }
        Ok(())
    }

    /// Sends the next message; `false` if no session may send now.
    fn post(&mut self, due: u64) -> bool {
        let turn = self.turn;
        self.turn += 1;
        let is_free = matches!((&self.way, self.pace.pace()), (Way::Own, Pace::Window(_)));
        let to = match is_free {
            true => match self.free.pop_front() {
                Some(session) => session,
                None => return false,
            },
            false => turn.wrapping_mul(STRIDE) % self.sessions,
        };
        let stamp = self.streams.send(to, due);
        let plan = &self.fleet.plan;
        let (host, user) = (&plan.host, plan.user(to));
        let (from, bytes) = match &self.way {
            Way::Own => {
                let destination = format!("/user/{user}{USER_QUEUE}");
                let mut out = Vec::new();
                message(plan.protocol, &destination, &self.pace.body(stamp), &mut out);
                (to, out)
            }
            Way::Api { token } => {
                let path = format!("/api/users/{user}/messages");
                let body = api_body(&self.pace.filling.value(stamp, self.pace.size));
                let header = token.as_ref().map(|text| format!("Authorization: Bearer {text}\r\n"));
                (self.sessions, request(host, &path, &header.unwrap_or_default(), &body))
            }
            Way::Callback { path, secret } => {
                let body =
                    callback_body(turn, user, &self.pace.filling.value(stamp, self.pace.size));
                (self.sessions, request(host, path, &signature(secret, &body), &body))
            }
        };
        let caller = if self.callers.is_empty() { 0 } else { turn % self.callers.len() };
        if let Some(waiting) = self.callers.get_mut(caller) {
            waiting.push_back(due);
        }
        self.fleet.send(from + caller, &bytes, &mut self.events);
        true
    }

    fn turn(&mut self, until: u64) -> Result<(), Failure> {
        let spins = self.pace.wait == WaitKind::Spin && self.streams.outstanding() > 0;
        let now = self.fleet.clock.now();
        let wait = if spins { Wait::Look } else { Wait::Until(until.min(now + NAP)) };
        self.fleet.turn(wait, &mut self.events)?;
        for event in self.events.drain(..) {
            match event {
                Event::Message { peer, stamp, at } => {
                    self.last = at;
                    if self.streams.on_delivery(peer, stamp, at) && matches!(self.way, Way::Own) {
                        self.free.push_back(peer);
                    }
                }
                Event::Answer { peer, status, at } => {
                    let waiting = &mut self.callers[peer - self.sessions];
                    let due = waiting.pop_front().unwrap_or(at);
                    self.answers.saturating_record(at.saturating_sub(due));
                    self.refused += u64::from(status != 200);
                }
                Event::Closed { peer, ending } if peer >= self.sessions => {
                    return Err(ended(&self.fleet, peer, ending));
                }
                Event::Closed { .. } => self.ended += 1,
                Event::Ready { .. } => {}
            }
        }
        Ok(())
    }
}

/// A message of the API: its body is what is pushed.
fn api_body(value: &str) -> Vec<u8> {
    format!("{{\"destination\":\"{USER_QUEUE}\",\"body\":{value}}}").into_bytes()
}

/// A callback with a note.
fn callback_body(turn: usize, user: usize, note: &str) -> Vec<u8> {
    let process = std::process::id();
    let call = format!("load-{process}-{turn}");
    format!("{{\"callId\":\"{call}\",\"agentId\":\"{user}\",\"note\":{note}}}").into_bytes()
}

/// The header of the `generic` profile.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).expect("HMAC takes any key");
    mac.update(body);
    let mut line = "X-Signature: sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        // Writing to a String does not fail.
        let _ = write!(line, "{byte:02x}");
    }
    line + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::stamp::{Filling, Stamp};

    #[test]
    fn callbacks_are_json_with_a_signature_of_64_digits() {
        let body = callback_body(1, 7, &Filling::Letters.value(Stamp { sequence: 1, due: 2 }, 64));
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(json["agentId"], "7");
        assert_eq!(json["note"].as_str().map(str::len), Some(64));
        // RFC 4231, test case 2.
        let line = signature(b"Jefe", b"what do ya want for nothing?");
        let digits = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(line, format!("X-Signature: sha256={digits}\r\n"));
    }

    #[test]
    fn messages_of_the_api_are_json() {
        let body = api_body(&Filling::Json.value(Stamp { sequence: 1, due: 2 }, 32));
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(json["destination"], USER_QUEUE);
    }
}

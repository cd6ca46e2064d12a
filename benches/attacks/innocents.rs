//! The innocents: clients that echo and subscribers that receive publishes, at a fixed rate that
//! does not depend on the server. Latency counts from when a message was due.

use crate::server::API_TOKEN;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use ringpush::load::clock::Clock;
use ringpush::load::report::histogram;
use ringpush::load::stamp::{Filling, Stamp, Stamps};
use ringpush::load::wire::{self, Protocol, put_frame};
use ringpush::ws::{self, Opcode};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clients that echo, and echoes per second of all of them together.
const ECHOERS: usize = 50;
const ECHOES: u64 = 500;
/// Subscribers of `/topic/news`, and publishes per second.
const HEARERS: usize = 20;
const PUBLISHES: u64 = 100;
/// Bytes of an echo, of every tenth echo, and of a publish.
const ECHO_BYTES: usize = 64;
const LONG_ECHO_BYTES: usize = 16_000;
const NEWS_BYTES: usize = 1024;
/// The last part of a wait polls, since sleeps end late.
const COARSE: u64 = 100_000;
/// What has not arrived this long after the end is lost.
const GRACE: Duration = Duration::from_secs(2);
/// Deadline of a step before the attack.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened to the innocents.
pub struct Tally {
    /// Nanoseconds from due to received; lost ones count as the whole grace time.
    echo: Histogram<u64>,
    /// The same for publishes, of each subscriber.
    publish: Histogram<u64>,
    /// Messages that never arrived.
    pub lost: u64,
    /// Connections that the server ended, publishes that it refused; the first few in words.
    pub ended: u64,
    pub words: Vec<String>,
}

impl Tally {
    pub fn echo(&self) -> &Histogram<u64> {
        &self.echo
    }

    pub fn publish(&self) -> &Histogram<u64> {
        &self.publish
    }
}

/// Messages from the sender to the reader.
struct Shared {
    clock: Clock,
    /// Nothing is sent from this time of the run's clock on.
    until: u64,
    echoes: AtomicU64,
    publishes: AtomicU64,
    is_over: AtomicBool,
}

pub struct Innocents {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
    reader: JoinHandle<Tally>,
}

impl Innocents {
    /// Connects all of them, and lets them run for `span`.
    pub fn start(to: SocketAddr, span: Duration) -> Innocents {
        let echoers: Vec<_> = (0..ECHOERS).map(|_| open(to, Protocol::Raw, "/echo")).collect();
        let hearers: Vec<_> = (0..HEARERS).map(|_| hearer(to)).collect();
        let api = TcpStream::connect(to).expect("the server accepts");
        let clock = Clock::started();
        let until = span.as_nanos() as u64;
        let (echoes, publishes) = (AtomicU64::new(0), AtomicU64::new(0));
        let is_over = AtomicBool::new(false);
        let shared = Arc::new(Shared { clock, until, echoes, publishes, is_over });
        let all: Vec<_> = echoers.iter().chain(&hearers).chain([&api]).map(again).collect();
        let both = shared.clone();
        let reader = thread::spawn(move || read(&both, all));
        let both = shared.clone();
        let sender = thread::spawn(move || send(&both, &echoers, &api, to));
        Innocents { shared, sender, reader }
    }

    /// Waits for what was sent, and returns the result.
    pub fn finish(self) -> Tally {
        self.sender.join().expect("the sender ends well");
        self.shared.is_over.store(true, Ordering::Release);
        self.reader.join().expect("the reader ends well")
    }
}

fn again(stream: &TcpStream) -> TcpStream {
    stream.set_nonblocking(true).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream.try_clone().expect("a descriptor")
}

/// Sends this, and reads until `until` has arrived.
fn ask(stream: &mut TcpStream, say: &[u8], until: &[u8]) {
    stream.write_all(say).expect("the server reads");
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    while memchr::memmem::find(&heard, until).is_none() {
        let count = stream.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "ended after {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&buffer[..count]);
    }
}

fn open(to: SocketAddr, protocol: Protocol, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let upgrade = protocol.upgrade(&to.to_string(), path, "", 0, false);
    ask(&mut stream, &upgrade, b"\r\n\r\n");
    stream
}

fn hearer(to: SocketAddr) -> TcpStream {
    let mut stream = open(to, Protocol::Stomp, "/portfolio");
    let mut out = Vec::new();
    let connect = "CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\n\n\0";
    put_frame(Opcode::Text, connect.as_bytes(), &mut out);
    let subscribe = "SUBSCRIBE\nid:sub-0\ndestination:/topic/news\nreceipt:r\n\n\0";
    put_frame(Opcode::Text, subscribe.as_bytes(), &mut out);
    ask(&mut stream, &out, b"RECEIPT");
    stream
}

/// Sends what is due, even if earlier messages have not arrived.
fn send(shared: &Shared, echoers: &[TcpStream], api: &TcpStream, to: SocketAddr) {
    let (mut echo, mut publish) = (0, 0);
    let host = to.to_string();
    let headers = format!("Authorization: Bearer {API_TOKEN}\r\n");
    loop {
        let (echo_due, publish_due) =
            (echo * 1_000_000_000 / ECHOES, (2 * publish + 1) * 500_000_000 / PUBLISHES);
        let due = echo_due.min(publish_due);
        if due >= shared.until {
            return;
        }
        wait(shared.clock, due);
        // A socket whose connection is gone takes nothing; the reader reports it.
        if echo_due <= publish_due {
            let mut out = Vec::new();
            let stamp = Stamp { sequence: echo, due };
            let bytes = if echo.is_multiple_of(10) { LONG_ECHO_BYTES } else { ECHO_BYTES };
            put_frame(Opcode::Text, &stamp.body(bytes), &mut out);
            let _ = (&echoers[echo as usize * 7 % ECHOERS]).write(&out);
            echo += 1;
            shared.echoes.store(echo, Ordering::Release);
        } else {
            let stamp = Stamp { sequence: publish, due };
            let news = Filling::Json.value(stamp, NEWS_BYTES);
            let body = format!("{{\"destination\":\"/topic/news\",\"body\":{news}}}");
            let request = wire::request(&host, "/api/publish", &headers, body.as_bytes());
            let mut api = api;
            let _ = api.write(&request);
            publish += 1;
            shared.publishes.store(publish, Ordering::Release);
        }
    }
}

fn wait(clock: Clock, due: u64) {
    let left = due.saturating_sub(clock.now());
    if left > COARSE {
        thread::sleep(Duration::from_nanos(left - COARSE));
    }
    while clock.now() < due {
        std::hint::spin_loop();
    }
}

/// One connection as its reader sees it.
struct Line {
    stream: Option<mio::net::TcpStream>,
    tail: Vec<u8>,
}

fn read(shared: &Shared, streams: Vec<TcpStream>) -> Tally {
    let mut poll = Poll::new().expect("an epoll instance");
    let mut lines = Vec::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let registered = poll.registry().register(&mut stream, Token(index), Interest::READABLE);
        registered.expect("room in epoll");
        lines.push(Line { stream: Some(stream), tail: Vec::new() });
    }
    let mut ears = Ears {
        stamps: Stamps::default(),
        tally: Tally {
            echo: histogram(),
            publish: histogram(),
            lost: 0,
            ended: 0,
            words: Vec::new(),
        },
        buffer: vec![0; 128 * 1024],
    };
    let mut events = Events::with_capacity(256);
    let end = shared.until + GRACE.as_nanos() as u64;
    loop {
        let is_whole = shared.is_over.load(Ordering::Acquire) && ears.missing(shared) == (0, 0);
        if is_whole || shared.clock.now() > end {
            return ears.finish(shared);
        }
        match poll.poll(&mut events, Some(Duration::from_millis(20))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
            _ => {}
        }
        for event in &events {
            let Token(index) = event.token();
            if let Err(why) = ears.line(&mut lines[index], index, shared) {
                lines[index].stream = None;
                ears.complain(format!("{}: {why}", whose(index)));
            }
        }
    }
}

fn whose(index: usize) -> &'static str {
    match index {
        0..ECHOERS => "echo",
        _ if index < ECHOERS + HEARERS => "subscriber",
        _ => "publisher",
    }
}

struct Ears {
    stamps: Stamps,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Ears {
    fn complain(&mut self, what: String) {
        self.tally.ended += 1;
        if self.tally.words.len() < 3 {
            self.tally.words.push(what);
        }
    }

    /// Echoes and deliveries that have not arrived.
    fn missing(&self, shared: &Shared) -> (u64, u64) {
        let echoes = shared.echoes.load(Ordering::Acquire);
        let news = shared.publishes.load(Ordering::Acquire) * HEARERS as u64;
        (
            echoes.saturating_sub(self.tally.echo.len()),
            news.saturating_sub(self.tally.publish.len()),
        )
    }

    fn finish(mut self, shared: &Shared) -> Tally {
        let (echoes, news) = self.missing(shared);
        let grace = GRACE.as_nanos() as u64;
        self.tally.echo.record_n(grace, echoes).expect("in bounds");
        self.tally.publish.record_n(grace, news).expect("in bounds");
        self.tally.lost = echoes + news;
        self.tally
    }

    fn line(&mut self, line: &mut Line, index: usize, shared: &Shared) -> Result<(), String> {
        loop {
            let Some(stream) = &mut line.stream else { return Ok(()) };
            let count = match stream.read(&mut self.buffer) {
                Ok(0) => return Err("ended".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let at = shared.clock.now();
            line.tail.extend_from_slice(&self.buffer[..count]);
            let done = match index {
                _ if index == ECHOERS + HEARERS => answers(&line.tail)?,
                _ => self.frames(&line.tail, index < ECHOERS, at)?,
            };
            line.tail.drain(..done);
        }
    }

    fn frames(&mut self, input: &[u8], is_echo: bool, at: u64) -> Result<usize, String> {
        let mut done = 0;
        while let Some(len) = ws::frame_len(&input[done..]) {
            let Some(frame) = input[done..].get(..len as usize) else { break };
            done += frame.len();
            // Frames of a server have no mask (RFC 6455 §5.1).
            if frame[0] & 0x0f == 8 {
                let code = frame.get(2..4).map(|code| u16::from_be_bytes([code[0], code[1]]));
                return Err(format!("closed with {code:?}"));
            }
            let Some((stamp, _)) = self.stamps.find(frame) else { continue };
            let histogram = if is_echo { &mut self.tally.echo } else { &mut self.tally.publish };
            histogram.record(at.saturating_sub(stamp.due)).expect("in bounds");
        }
        Ok(done)
    }
}

/// Answers of the API: all must be successes.
fn answers(input: &[u8]) -> Result<usize, String> {
    let mut done = 0;
    while let Some((status, head, body)) = wire::answer(&input[done..]) {
        let Some(answer) = input[done..].get(..head + body) else { break };
        if status != 200 {
            return Err(String::from_utf8_lossy(answer).into_owned());
        }
        done += answer.len();
    }
    Ok(done)
}

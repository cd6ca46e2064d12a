//! Innocents that come and go during the attack, well within their bounds: they must not be
//! refused. And one that reads headers as the old client libraries do: it must not be deceived.

use crate::scripts::token;
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Between two visits.
const PAUSE: Duration = Duration::from_millis(200);
/// A visitor that is not answered in this time counts as refused.
const PATIENCE: Duration = Duration::from_secs(3);

/// The results of the visits.
#[derive(Default)]
pub struct Visits {
    pub made: u64,
    pub refused: u64,
    /// Messages whose headers an old client would have misread.
    pub forged: u64,
    pub words: Vec<String>,
}

impl Visits {
    fn refuse(&mut self, what: String) {
        self.refused += 1;
        if self.words.len() < 3 {
            self.words.push(what);
        }
    }
}

pub struct Visitors {
    is_over: Arc<AtomicBool>,
    visits: JoinHandle<Visits>,
    victim: JoinHandle<Visits>,
}

impl Visitors {
    pub fn start(to: SocketAddr) -> Visitors {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, over_too) = (is_over.clone(), is_over.clone());
        let visits = thread::spawn(move || come_and_go(to, &over));
        let victim = thread::spawn(move || be_deceived(to, &over_too));
        Visitors { is_over, visits, victim }
    }

    pub fn finish(self) -> Visits {
        self.is_over.store(true, Ordering::Release);
        let mut visits = self.visits.join().expect("visitors end well");
        let victim = self.victim.join().expect("the victim ends well");
        visits.forged = victim.forged;
        visits.refused += victim.refused;
        visits.words.extend(victim.words);
        visits
    }
}

type Client = WebSocket<TcpStream>;
type Result<T> = std::result::Result<T, String>;

fn open(to: SocketAddr, source: u8, path: &str) -> Result<Client> {
    let told = |error: &dyn std::fmt::Display| format!("{path} from 127.0.1.{source}: {error}");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(|e| told(&e))?;
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0));
    socket.bind(&from.into()).map_err(|e| told(&e))?;
    socket.connect_timeout(&to.into(), PATIENCE).map_err(|e| told(&e))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| told(&e))?;
    stream.set_nodelay(true).map_err(|e| told(&e))?;
    let request = format!("ws://{to}{path}").into_client_request().map_err(|e| told(&e))?;
    tungstenite::client(request, stream).map(|done| done.0).map_err(|e| told(&e))
}

/// Sends this, and reads until a message contains the given text.
fn ask(client: &mut Client, say: &str, until: &str) -> Result<()> {
    let step = say.lines().take(3).collect::<Vec<_>>().join(" ");
    client.send(Message::text(say)).map_err(|error| format!("{step}: {error}"))?;
    loop {
        match client.read().map_err(|error| format!("{step}: {error}"))? {
            Message::Text(text) if text.starts_with("ERROR") => {
                return Err(format!("{step}: {}", text.replace('\n', " ")));
            }
            Message::Text(text) if text.contains("/queue/errors") => {
                return Err(format!("{step}: {}", text.replace('\n', " ")));
            }
            Message::Text(text) if text.contains(until) => return Ok(()),
            Message::Close(close) => return Err(format!("{step}: closed, {close:?}")),
            _ => {}
        }
    }
}

const CONNECT: &str = "CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\n\n\0";

/// A user's session: a new destination, a pattern, a request to the application.
fn window(to: SocketAddr, number: u64) -> Result<()> {
    let path = format!("/portfolio?access_token={}", token(&format!("visitor{number}")));
    let mut client = open(to, 1, &path)?;
    ask(&mut client, CONNECT, "CONNECTED")?;
    let subscribe = |id: &str, destination: &str| {
        format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\nreceipt:{id}\n\n\0")
    };
    ask(&mut client, &subscribe("own", "/user/queue/sub"), "receipt-id:own")?;
    ask(&mut client, &subscribe("errors", "/user/queue/errors"), "receipt-id:errors")?;
    ask(&mut client, &subscribe("new", &format!("/topic/new/{number}")), "receipt-id:new")?;
    ask(&mut client, &subscribe("like", &format!("/topic/*/{number}")), "receipt-id:like")?;
    ask(&mut client, "SEND\ndestination:/ws/ask\n\n?\0", "asked")?;
    ask(&mut client, "DISCONNECT\nreceipt:bye\n\n\0", "receipt-id:bye")
}

/// An anonymous visitor that wants one echo.
fn passer_by(to: SocketAddr) -> Result<()> {
    let mut client = open(to, 2, "/echo")?;
    ask(&mut client, "hello", "hello")
}

fn come_and_go(to: SocketAddr, is_over: &AtomicBool) -> Visits {
    let mut visits = Visits::default();
    while !is_over.load(Ordering::Acquire) {
        visits.made += 2;
        for came in [window(to, visits.made), passer_by(to)] {
            came.unwrap_or_else(|what| visits.refuse(what));
        }
        thread::sleep(PAUSE);
    }
    visits
}

/// Reads everything sent to `/topic/board` as stompjs 2.3.3 does.
fn be_deceived(to: SocketAddr, is_over: &AtomicBool) -> Visits {
    let mut visits = Visits::default();
    let mut listen = || -> Result<()> {
        let path = format!("/portfolio?access_token={}", token("victim"));
        let mut client = open(to, 3, &path)?;
        ask(&mut client, CONNECT, "CONNECTED")?;
        let sub = "SUBSCRIBE\nid:sub-0\ndestination:/user/queue/sub\nreceipt:0\n\n\0";
        ask(&mut client, sub, "receipt-id:0")?;
        let board = "SUBSCRIBE\nid:sub-1\ndestination:/topic/board\nreceipt:1\n\n\0";
        ask(&mut client, board, "receipt-id:1")?;
        let short = Some(Duration::from_millis(100));
        client.get_ref().set_read_timeout(short).map_err(|error| error.to_string())?;
        while !is_over.load(Ordering::Acquire) {
            match client.read() {
                Ok(Message::Text(text)) => visits.forged += u64::from(is_forged(&text)),
                Ok(Message::Close(close)) => return Err(format!("victim closed: {close:?}")),
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("victim: {error}")),
                Ok(_) => {}
            }
        }
        Ok(())
    };
    if let Err(what) = listen() {
        visits.refuse(what);
    }
    visits
}

/// Whether a client that trims names and uses the first of several is misled.
fn is_forged(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\n\n") else { return true };
    // What JavaScript's `\s` matches.
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        let found = headers.find(|(name, _)| name.trim_matches(is_blank) == wanted);
        found.map_or("", |(_, value)| value.trim_matches(is_blank))
    };
    let body = body.trim_end_matches('\0');
    header("subscription") != "sub-1"
        || header("destination") != "/topic/board"
        || !header("message-id").contains('-')
        || header("content-length").parse() != Ok(body.len())
}

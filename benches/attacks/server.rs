//! The server under attack: its configuration, its process, its memory and sockets; and the
//! provider that its hook calls.

use crate::scripts::SECRET;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The token of the server's API.
pub const API_TOKEN: &str = "attacked, but nobody knows this one";
/// How long the provider takes: with 64 calls at the same time it answers 640 per second.
const THOUGHT: Duration = Duration::from_millis(100);
/// Deadline of an answer after the attack.
const PATIENCE: Duration = Duration::from_secs(5);

fn configuration(hook: SocketAddr) -> String {
    format!(
        r#"
[api]
token-env = "ATTACKS_API_TOKEN"

[auth]
methods = ["token"]

[auth.token]
secret-env = "ATTACKS_TOKEN_SECRET"
from = ["query:access_token"]

[[endpoint]]
path = "/echo"
protocol = "raw"
on-message = "echo"

[[endpoint]]
path = "/portfolio"
protocol = "stomp"

[broker]
prefixes = ["/topic", "/queue"]
application-prefixes = ["/ws"]

[[allow]]
action = "send"
destination = "/topic/**"
users = "*"

[[application]]
destination = "/ask"
hook = "http://{hook}/"
to-user = "/queue/sub"

[[application]]
destination = "/ask1"
hook = "http://{hook}/"
to-user = "/queue/sub"

[[application]]
destination = "/tell"
reply = "told"
to-user = "/queue/sub"
"#
    )
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Bytes of all pools when they are full, as `ringpush check` prints them.
    pub bound: u64,
}

impl Server {
    /// Starts a server of one shard on the first core, with this many descriptors. `hurried`: with
    /// priority over other work of the machine, if that is permitted.
    pub fn start(descriptors: Option<u32>, hurried: bool) -> Server {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("attacks.toml");
        std::fs::write(&path, configuration(provider())).expect("the folder is writable");
        let bound =
            bound(&command(descriptors, "check", &path).output().expect("it checks").stdout);
        let mut child = command(descriptors, "serve", &path)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("taskset and the binary are there");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = lines.next().expect("a line when it is ready").expect("it is text");
        thread::spawn(move || lines.for_each(drop));
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.and_then(|text| text.parse().ok()).expect("its address");
        if hurried {
            // The shard has priority over the control thread: each runs when it wakes, as on an
            // idle machine.
            hurry(1, child.id(), true);
            let task = |entry: &std::fs::DirEntry| {
                std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|c| c == "shard-0\n")
            };
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
            let name = tasks.flatten().find(task).expect("one shard").file_name();
            hurry(2, name.to_string_lossy().parse().expect("a number"), false);
        }
        Server { child, address, bound }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its peak resident memory in bytes.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
    }

    /// Sockets of the server whose other end is or was an attacker's, and attackers that the server
    /// counts as connected.
    pub fn left(&self) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("there is a table of sockets");
        let port = format!("0100007F:{:04X}", self.address.port());
        let is_left = |line: &&str| {
            let fields: Vec<_> = line.split_whitespace().take(4).collect();
            let [_, local, remote, state] = fields[..] else { return false };
            // 01 is ESTABLISHED, 08 CLOSE-WAIT; attackers come from 127.0.0.2 and up.
            local == port
                && remote[2..8] == *"00007F"
                && &remote[..2] != "01"
                && matches!(state, "01" | "08")
        };
        let sockets = table.lines().skip(1).filter(is_left).count();
        let users = self.get("/api/users").map_or(0, |list| list.matches("mallory").count());
        sockets + users
    }

    /// The body of an answer of the API; `None` if there is none in time.
    fn get(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let host = self.address;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {API_TOKEN}\r\n\
             Connection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which the run has reported by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives a thread, or all threads of its process, priority over normal work on their cores. If that
/// is not permitted the figures are a little rougher.
pub fn hurry(priority: u8, id: u32, all: bool) {
    let mut command = Command::new("chrt");
    if all {
        command.arg("--all-tasks");
    }
    command.args(["--rr", "--pid", &priority.to_string(), &id.to_string()]);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The binary on the first core.
fn command(descriptors: Option<u32>, what: &str, path: &PathBuf) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]);
    if let Some(descriptors) = descriptors {
        command.arg("prlimit").arg(format!("--nofile={descriptors}"));
    }
    let binary = std::env::var_os("RINGPUSH_BIN");
    command.arg(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_ringpush").into()));
    command.arg(what).arg("--config").arg(path).args(["--shards", "1"]);
    command.env("ATTACKS_API_TOKEN", API_TOKEN).env("ATTACKS_TOKEN_SECRET", SECRET);
    command.stderr(Stdio::null());
    command
}

/// The sum of `ringpush check`.
fn bound(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find(|line| line.starts_with("# all shards"));
    let sum = line.and_then(|line| line.rsplit_once('=')?.1.trim().parse().ok());
    sum.expect("check prints a sum")
}

/// A provider that waits before it answers; it ends with the process.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Answers one request after the other, whose bodies have a length.
fn answer(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(end) = memchr::memmem::find(&heard, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&heard[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            if heard.len() < end + 4 + length {
                break;
            }
            heard.drain(..end + 4 + length);
            thread::sleep(THOUGHT);
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                          Content-Length: 11\r\n\r\n{\"asked\":1}";
            stream.write_all(answer.as_bytes()).ok()?;
        }
        let count = stream.read(&mut buffer).ok()?;
        heard.extend_from_slice(buffer.get(..count).filter(|read| !read.is_empty())?);
    }
}

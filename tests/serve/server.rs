//! A running `ringpush serve`, ended by its process id when the test is over.

use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longer than anything takes if it works.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of one test, deleted with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringpush-serve-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Folder(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.file(name), text).expect("the folder can be written");
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with these arguments, and without the environment variables that it would read.
pub fn ringpush(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpush"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGPUSH_") {
            command.env_remove(name);
        }
    }
    command.env("RINGPUSH_CALLBACK_SECRET", "a secret of the tests");
    // `?userId=` names the user, and the API asks for no token.
    command.env(DEMO, "true");
    command
}

/// Enables the demo, as `[demo] enabled` does.
pub const DEMO: &str = "RINGPUSH_DEMO__ENABLED";

/// Runs it to its end: exit code, standard output, standard error.
pub fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = ringpush(arguments).output().expect("the binary can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A server that is ready.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Server {
    /// The embedded application, on any free port.
    pub fn embedded() -> Server {
        Server::start(ringpush(&["serve", "--listen", "127.0.0.1:0", "--shards", "2"]))
    }

    /// With this file, on any free port.
    pub fn with(config: &Path) -> Server {
        let config = config.to_str().expect("a path of the tests is text");
        let place = ["--listen", "127.0.0.1:0", "--shards", "2"];
        Server::start(ringpush(&[&["serve", "--config", config][..], &place].concat()))
    }

    pub fn start(mut command: Command) -> Server {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let out = lines(child.stdout.take().expect("it is piped"));
        let err = lines(child.stderr.take().expect("it is piped"));
        let first = out.recv_timeout(PATIENCE);
        let Some(address) = first.as_deref().ok().and_then(|line| {
            line.strip_prefix("listening on http://")?.split(' ').next()?.parse().ok()
        }) else {
            let _ = child.kill();
            let said: Vec<String> = err.iter().collect();
            panic!("no ready line but {first:?}, {said:?}");
        };
        Server { child, address, out, err }
    }

    /// Sends a signal: `TERM`, `HUP`, `INT`, `USR1`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("kill can be run").success());
    }

    /// The next line of its log that contains `part`; those before it are skipped.
    pub fn logs(&self, part: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.err.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{part:?} is not in the log: {seen:?}"),
            }
        }
    }

    /// The same; None if it has ended without such a line.
    pub fn may_log(&self, part: &str) -> Option<String> {
        loop {
            match self.err.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return Some(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("neither {part:?} nor an end"),
            }
        }
    }

    /// The next line of its standard output.
    pub fn says(&self) -> String {
        self.out.recv_timeout(PATIENCE).expect("a line")
    }

    /// Ends it; returns every unread line of its log.
    pub fn whole_log(mut self) -> Vec<String> {
        self.signal("TERM");
        let lines = core::iter::from_fn(|| self.err.recv_timeout(PATIENCE).ok()).collect();
        self.child.wait().expect("a child can be waited for");
        lines
    }

    /// Waits until it has ended by itself.
    pub fn ends(mut self) -> ExitStatus {
        // Both pipes close when it ends; until then a line may come.
        while self.out.recv_timeout(PATIENCE).is_ok() {}
        while self.err.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("a child can be waited for")
    }

    /// An HTTP request; returns status and body. The connection ends with the answer.
    pub fn get(&self, target: &str) -> (u16, String) {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// The sum of this counter over all shards.
    pub fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Posts JSON: status and body. `more` are header lines.
    pub fn post(&self, target: &str, more: &str, body: &str) -> (u16, String) {
        let len = body.len();
        let rest = format!("Host: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n");
        self.ask(&format!("POST {target} HTTP/1.1\r\n{rest}{more}\r\n{body}"))
    }

    /// A DELETE of `target`.
    pub fn delete(&self, target: &str) -> (u16, String) {
        let rest = "Host: localhost\r\nConnection: close\r\n\r\n";
        self.ask(&format!("DELETE {target} HTTP/1.1\r\n{rest}"))
    }

    fn ask(&self, request: &str) -> (u16, String) {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("the server answers and closes");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    /// The same from this address of this machine.
    pub fn connect_from(&self, host: [u8; 4]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((host, 0)).into()).expect("all of 127/8 is this machine");
        socket.connect(&self.address.into()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a span is fine");
        socket.into()
    }

    /// A connection with a read timeout.
    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a span is fine");
        socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread of their own; the channel ends with the pipe.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

//! A server in a process of its own.

use super::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// A running `ringpush serve`, killed when its test ends.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts the server with the text of a configuration; `name` is unique among tests.
    pub fn start(name: &str, shards: u32, config: &str) -> Server {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
        std::fs::write(&path, config).expect("the folder of tests is writable");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringpush"))
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", &shards.to_string()])
            .arg("--config")
            .arg(&path)
            .env("RINGPUSH_DEMO__ENABLED", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary is there");
        let stdout = child.stdout.take().expect("it is piped");
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // Nothing reads any more when the test has given up.
            let _ = BufReader::new(stdout).read_line(&mut line).map(|_| tell.send(line));
        });
        let line = told.recv_timeout(PATIENCE).expect("a line when it is ready");
        let address = line.trim().strip_prefix("listening on http://");
        server.address = address.and_then(|text| text.parse().ok()).expect("its address");
        server
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// One HTTP request, and the body of its answer, which has to be a 200.
    pub fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.address).expect("the server accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout of some seconds");
        let host = self.address;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("the server answers and closes");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }

    /// Sessions of every shard, as `/api/stats` counts them.
    pub fn sessions(&self) -> Vec<u64> {
        let stats: serde_json::Value =
            serde_json::from_str(&self.get("/api/stats")).expect("it is JSON");
        let shards = stats["shards"].as_array().expect("a list of shards");
        shards.iter().map(|shard| shard["sessions"].as_u64().expect("a count")).collect()
    }

    /// Asks it to end, as an operator does.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.expect("there is kill(1)").success());
    }

    /// Waits for its end, which must be a successful exit.
    pub fn ended(mut self) {
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

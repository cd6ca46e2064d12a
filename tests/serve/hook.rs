//! An application's HTTP server: it passes requests to the test, and answers what the test says,
//! when the test says so.

use crate::server::PATIENCE;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A listening server.
pub struct Hook {
    pub url: String,
    asked: Receiver<Request>,
}

/// A request that waits for its answer. Dropped without one, its connection ends.
pub struct Request {
    pub head: String,
    pub body: String,
    socket: TcpStream,
}

impl Hook {
    pub fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/call", listener.local_addr().expect("bound"));
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let sender = sender.clone();
                std::thread::spawn(move || read(socket.expect("a client"), &sender));
            }
        });
        Hook { url, asked }
    }

    /// The next request.
    pub fn is_asked(&self) -> Request {
        self.asked.recv_timeout(PATIENCE).expect("a request")
    }

    /// Whether no further request has arrived.
    pub fn is_idle(&self) -> bool {
        self.asked.try_recv().is_err()
    }
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&start))
    }

    pub fn answer(mut self, status: u16, body: &str) {
        let head = format!(
            "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        // The server may have given up.
        let _ = self.socket.write_all(format!("{head}{body}").as_bytes());
    }
}

fn read(mut socket: TcpStream, to: &Sender<Request>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(len) = socket.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..len]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                let (head, body) = (head.to_owned(), body.to_owned());
                // The test may be over.
                let _ = to.send(Request { head, body, socket });
                return;
            }
        }
        if len == 0 {
            return;
        }
    }
}

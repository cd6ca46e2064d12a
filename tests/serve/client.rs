//! A STOMP client over WebSocket.

use crate::server::Server;
use std::io::ErrorKind;
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Message, WebSocket};

/// One STOMP session of a browser.
pub struct Session {
    socket: WebSocket<TcpStream>,
}

/// A received frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub command: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Frame {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Session {
    /// A session of a user on `/portfolio`, logged in; without a name an anonymous one.
    pub fn open(server: &Server, user: Option<&str>) -> Session {
        let query = user.map_or(String::new(), |user| {
            format!("?userId={}", user.replace('%', "%25").replace('/', "%2F"))
        });
        let url = format!("ws://{}/portfolio{query}", server.address);
        let (socket, _) =
            tungstenite::client(url, server.connect()).expect("the endpoint upgrades");
        let mut session = Session { socket };
        session.sends("CONNECT", &[("accept-version", "1.2"), ("host", "x")], "");
        let connected = session.receives();
        assert_eq!(connected.command, "CONNECTED");
        assert_eq!(connected.header("user-name"), user);
        session
    }

    /// An anonymous session over an existing connection, optionally with X-Forwarded-For; or the
    /// status of the answer to its handshake.
    pub fn over(server: &Server, socket: TcpStream, forwarded: &str) -> Result<Session, u16> {
        let url = format!("ws://{}/portfolio", server.address);
        let mut request = url.into_client_request().expect("a request");
        if !forwarded.is_empty() {
            let value = forwarded.parse().expect("a header's value");
            request.headers_mut().insert("X-Forwarded-For", value);
        }
        let socket = match tungstenite::client(request, socket) {
            Ok((socket, _)) => socket,
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                return Err(answer.status().as_u16());
            }
            Err(error) => panic!("{error}"),
        };
        let mut session = Session { socket };
        session.sends("CONNECT", &[("accept-version", "1.2"), ("host", "x")], "");
        assert_eq!(session.receives().command, "CONNECTED");
        Ok(session)
    }

    /// The same with subscriptions that have taken effect when this returns.
    pub fn subscribed(server: &Server, user: Option<&str>, destinations: &[&str]) -> Session {
        let mut session = Session::open(server, user);
        for destination in destinations {
            let headers =
                [("id", *destination), ("destination", destination), ("receipt", destination)];
            session.sends("SUBSCRIBE", &headers, "");
            let receipt = session.receives();
            assert_eq!(receipt.command, "RECEIPT", "{receipt:?}");
        }
        session
    }

    pub fn sends(&mut self, command: &str, headers: &[(&str, &str)], body: &str) {
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        self.sends_text(&format!("{command}\n{lines}\n{body}\0"));
    }

    /// Sends one WebSocket message with any number of STOMP frames.
    pub fn sends_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the server reads");
    }

    /// A SEND with a receipt.
    pub fn asks(&mut self, destination: &str, body: &str, receipt: &str) {
        self.sends("SEND", &[("destination", destination), ("receipt", receipt)], body);
    }

    /// The next message. A signal may interrupt the wait, which is not an error.
    fn next(&mut self) -> Message {
        loop {
            match self.socket.read() {
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                read => return read.expect("a message"),
            }
        }
    }

    /// The next frame.
    pub fn receives(&mut self) -> Frame {
        match self.next() {
            Message::Text(text) => frame(&text),
            other => panic!("a frame was expected: {other:?}"),
        }
    }

    /// The next frame's body, which is a MESSAGE to `destination`.
    pub fn hears(&mut self, destination: &str) -> String {
        let frame = self.receives();
        assert_eq!(frame.command, "MESSAGE", "{frame:?}");
        assert_eq!(frame.header("destination"), Some(destination), "{frame:?}");
        frame.body
    }

    /// The next frame, or the code of a Close frame.
    pub fn hears_frame_or_close(&mut self) -> Result<Frame, u16> {
        match self.socket.read().expect("a message") {
            Message::Text(text) => Ok(frame(&text)),
            Message::Close(Some(close)) => Err(close.code.into()),
            other => panic!("a frame or a Close was expected: {other:?}"),
        }
    }

    /// The code of the next message, which is a Close frame.
    pub fn hears_close(mut self) -> u16 {
        match self.next() {
            Message::Close(Some(close)) => close.code.into(),
            other => panic!("a Close was expected: {other:?}"),
        }
    }
}

fn frame(text: &str) -> Frame {
    let text = text.strip_suffix('\0').expect("a frame ends with NUL");
    let (head, body) = text.split_once("\n\n").expect("a head");
    let mut lines = head.lines();
    let command = lines.next().expect("a command").to_owned();
    let pair = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_owned(), value.to_owned())
    };
    Frame { command, headers: lines.map(pair).collect(), body: body.to_owned() }
}

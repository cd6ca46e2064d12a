//! The sockjs room as a library, without the engine: what a server does with a path below its
//! endpoint, and both directions of a session on the websocket transport.
//!
//! 1. `route` with the path behind the endpoint's own;
//! 2. on `Route::Websocket` the server's first message is `OPEN`;
//! 3. each message from the client goes through `decode`, which may give several;
//! 4. each message to the client is an array, from `write_message`; its length is known before.

use ringpush::sockjs::{
    Error, HEARTBEAT, Messages, OPEN, Route, close_len, decode, message_len, route, write_close,
    write_message,
};

/// Returns the frames that a server sends for these messages of a client: an echo of each.
fn echo(received: &[&str]) -> Vec<String> {
    let mut sent = vec![OPEN.to_string()];
    let mut messages = Messages::default();
    for text in received {
        match decode(text, &mut messages) {
            Ok(()) => sent.extend(messages.iter().map(framed)),
            Err(error) => {
                sent.push(closing(error));
                return sent;
            }
        }
    }
    sent.push(HEARTBEAT.to_string());
    sent
}

fn framed(message: &str) -> String {
    let mut out = vec![0; message_len(message)];
    write_message(message, &mut out);
    String::from_utf8(out).expect("a frame is text")
}

fn closing(error: Error) -> String {
    let mut out = vec![0; close_len(error.close_code(), error.text())];
    write_close(error.close_code(), error.text(), &mut out);
    String::from_utf8(out).expect("a frame is text")
}

fn main() {
    for path in ["", "/info", "/000/k3j2/websocket", "/000/k3j2/xhr", "/websocket", "/a/b/c/d"] {
        let found: Route<'_> = route(path);
        println!("{path:24}{found:?}");
    }
    for received in [&["[\"one\",\"two\"]", "\"three\""][..], &["[\"one\"", "never read"]] {
        for frame in echo(received) {
            println!("{frame}");
        }
    }
}

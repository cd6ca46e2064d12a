//! Shared by the yardsticks: the handshake, and turning clients' messages into the broadcast.

use ringpush::http::{self, Bounds};
use ringpush::ws::{self, Decoder, Event};
use std::net::SocketAddr;

/// The address to listen on: the first argument.
pub fn address() -> SocketAddr {
    let argument = std::env::args().nth(1);
    let text = argument.as_deref().unwrap_or("127.0.0.1:9001");
    text.parse().expect("the first argument is an address")
}

/// Prints where the server listens, for the script that waits for it.
pub fn ready(address: SocketAddr) {
    println!("listening on {address}");
}

/// The 101 to the request in `input`, once that is whole.
#[allow(dead_code)]
pub fn handshake(input: &[u8]) -> Option<Vec<u8>> {
    let bounds = Bounds { head: 16_384, headers: 100, target: 8_192 };
    let mut storage = [http::EMPTY_HEADER; http::HEADERS_MAX];
    let head = http::parse(input, &mut storage, &bounds).expect("a sound request")?;
    let upgrade = http::check(&head).expect("a WebSocket handshake");
    let mut out = vec![0; http::UPGRADE_MAX];
    let len = http::write_101(&upgrade.accept, None, None, &mut out);
    out.truncate(len);
    Some(out)
}

/// Appends every whole message of `input` to `out`, framed as by a server. Returns how many bytes
/// were consumed; `None` if the client closes.
#[allow(dead_code)]
pub fn reframe(input: &mut [u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut done = 0;
    loop {
        let rest = &mut input[done..];
        let Some(len) = ws::frame_len(rest).map(|len| len as usize) else { return Some(done) };
        let Some(frame) = rest.get_mut(..len) else { return Some(done) };
        match Decoder::server().next(frame, 1 << 24).expect("a sound frame").1 {
            Some(Event::Data { opcode, payload, .. }) => {
                let mut head = [0; 10];
                let head_len = ws::head(opcode, true, payload.len() as u64, &mut head);
                out.extend_from_slice(&head[..head_len]);
                out.extend_from_slice(payload);
            }
            Some(Event::Close { .. }) => return None,
            _ => {}
        }
        done += len;
    }
}

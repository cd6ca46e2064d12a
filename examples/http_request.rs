//! The http room as a library, without the engine: reads requests from a file (or from an example
//! in this program), with their bodies, and writes the answer to each; a WebSocket handshake is
//! answered with 101.
//!
//! ```text
//! http_request [FILE]
//! ```
//!
//! The order of calls is that of any server:
//!
//! 1. `parse` everything that was received, again when more has arrived, until it gives a `Head`;
//! 2. `Body::next` with what follows the head, until the body is done;
//! 3. `Response::write`, or `check` and `write_101` for an upgrade;
//! 4. the next request begins right behind; a `Refusal` ends the connection.

use ringpush::http::{
    self, Body, Bounds, EMPTY_HEADER, HEADERS_MAX, Head, Refusal, Response, UPGRADE_MAX,
};

const BOUNDS: Bounds = Bounds { head: 16_384, headers: 100, target: 8_192 };
const BODY_MAX: u32 = 1 << 20;

const EXAMPLE: &[u8] =
    b"POST /callback?x=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n\
    GET /push HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Handles the first request; returns how many bytes it has, or `None` if it is not whole.
fn request(input: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut storage = [EMPTY_HEADER; HEADERS_MAX];
    let Some(head) = http::parse(input, &mut storage, &BOUNDS)? else { return Ok(None) };
    let (mut at, mut body, mut text) = (head.len, Body::new(head.body), Vec::new());
    loop {
        let (consumed, chunk, done) = body.next(&input[at..], BODY_MAX)?;
        at += consumed;
        text.extend_from_slice(chunk.unwrap_or_default());
        if done {
            break;
        }
        if consumed == 0 {
            return Ok(None);
        }
    }
    println!(
        "{:?} {} {} {}",
        head.method,
        head.target.path,
        head.target.query,
        text.escape_ascii()
    );
    print!("{}", String::from_utf8_lossy(&answer(&head)));
    Ok(Some(at))
}

fn answer(head: &Head<'_, '_>) -> Vec<u8> {
    if http::is_upgrade(head) {
        let mut out = [0; UPGRADE_MAX];
        match http::check(head) {
            Ok(upgrade) => {
                let len = http::write_101(&upgrade.accept, None, None, &mut out);
                return out[..len].to_vec();
            }
            Err(refusal) => eprintln!("{refusal}"),
        }
    }
    let response =
        Response { body: b"{\"code\":0}", close: !head.keep_alive, ..Response::new(200) };
    let mut out = vec![0; response.len()];
    response.write(&mut out);
    out.push(b'\n');
    out
}

fn main() -> std::io::Result<()> {
    let input = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => EXAMPLE.to_vec(),
    };
    let mut at = 0;
    while at < input.len() {
        match request(&input[at..]) {
            Ok(Some(len)) => at += len,
            Ok(None) => {
                println!("the last request is not whole");
                break;
            }
            Err(refusal) => {
                println!("{} and close: {refusal}", refusal.status());
                break;
            }
        }
    }
    Ok(())
}

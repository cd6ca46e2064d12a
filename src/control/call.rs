//! One hook call over HTTP.

use super::hooks::Call;
use super::reply::{Answered, Fault};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;
use std::time::Duration;

/// How long an unused connection is kept. Shorter than servers keep theirs (5 s is common), so
/// that a POST does not meet a connection that the server is just closing: it could not be tried
/// again.
const KEEP: Duration = Duration::from_secs(4);

const USER: HeaderName = HeaderName::from_static("x-ringpush-user");
const SESSION: HeaderName = HeaderName::from_static("x-ringpush-session");
const DESTINATION: HeaderName = HeaderName::from_static("x-ringpush-destination");

/// The HTTP client of all calls. It goes straight to the URL: no proxy from the environment, no
/// redirects (a 3xx is a failure).
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(KEEP)
        .user_agent(concat!("ringpush/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Posts a call and reads its answer, within `timeout`. The second part of an error is for the log.
pub(super) async fn post(
    client: reqwest::Client,
    url: String,
    call: Call,
    timeout: Duration,
    body_max: u32,
) -> Result<Answered, (Fault, String)> {
    let exchange = exchange(client, url, call, body_max as usize);
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err((Fault::Timeout, String::new())),
    }
}

async fn exchange(
    client: reqwest::Client,
    url: String,
    call: Call,
    body_max: usize,
) -> Result<Answered, (Fault, String)> {
    let request = client.post(url).headers(headers(&call)).body(call.body);
    let mut response = request.send().await.map_err(fault)?;
    let status = response.status();
    if !status.is_success() {
        return Err((Fault::Status(status.as_u16()), String::new()));
    }
    let too_large = || (Fault::TooLarge, String::new());
    if response.content_length().is_some_and(|len| len > body_max as u64) {
        return Err(too_large());
    }
    let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.as_bytes().to_vec());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        if body.len() + chunk.len() > body_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answered { content_type, body })
}

/// The part of an error that the sender may know, and all of it except the URL, which may contain a
/// secret.
fn fault(error: reqwest::Error) -> (Fault, String) {
    let fault = if error.is_connect() { Fault::Unreachable } else { Fault::Broken };
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    (fault, text)
}

fn headers(call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = &call.content_type
        && let Ok(value) = HeaderValue::from_bytes(value)
    {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Some(user) = &call.user {
        headers.insert(USER, header(user));
    }
    headers.insert(SESSION, header(&call.session.to_string()));
    headers.insert(DESTINATION, header(&call.destination));
    headers
}

/// A header value for any text: what is not visible ASCII is percent-encoded (RFC 3986 §2.1), and
/// so is `%`. A user's name thus arrives whole and cannot add a header.
fn header(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            value.push(char::from(byte));
        } else {
            let _ = write!(value, "%{byte:02X}");
        }
    }
    HeaderValue::from_str(&value).expect("visible ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SessionId, SessionIndex, ShardId};
    use std::io::{Read, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    fn call(user: Option<&str>) -> Call {
        Call {
            destination: "/ws/call".to_owned(),
            content_type: Some(b"application/json".to_vec()),
            body: b"{\"n\":1}".to_vec(),
            session: SessionId::new(ShardId(1), SessionIndex(2), 3),
            user: user.map(Arc::from),
            place: crate::mem::shares::Place::NONE,
        }
    }

    /// An HTTP server that answers one request with these bytes (nothing: it waits for the client
    /// to go away) and gives back what it was asked.
    fn server(answer: &'static [u8]) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hook?key=secret", listener.local_addr().expect("bound"));
        let thread = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut asked = Vec::new();
            while !asked.ends_with(b"{\"n\":1}") {
                let mut bytes = [0; 1024];
                let len = socket.read(&mut bytes).expect("a request");
                asked.extend_from_slice(&bytes[..len]);
            }
            let _ = socket.write_all(answer);
            if answer.is_empty() {
                let _ = socket.read(&mut [0; 1]);
            }
            String::from_utf8(asked).expect("text")
        });
        (url, thread)
    }

    /// In the same runtime as the control thread's: reqwest runs on tokio-uring.
    fn ask(url: &str, call: Call, millis: u64, body_max: u32) -> Result<Answered, (Fault, String)> {
        let client = client().expect("a client can be made");
        let timeout = Duration::from_millis(millis);
        tokio_uring::start(post(client, url.to_owned(), call, timeout, body_max))
    }

    #[test]
    fn a_call_carries_body_type_and_who_asks_and_its_answer_comes_back() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nok";
        let (url, thread) = server(answer);
        let answered = ask(&url, call(Some("7 \r\n坐")), 10_000, 2).expect("an answer");
        let content_type = Some(b"text/x".to_vec());
        assert_eq!(answered, Answered { content_type, body: b"ok".to_vec() });
        let asked = thread.join().expect("the server has answered");
        let (head, body) = asked.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /hook?key=secret HTTP/1.1\r\n"), "{head}");
        for line in [
            "content-type: application/json",
            "content-length: 7",
            "x-ringpush-user: 7%20%0D%0A%E5%9D%90",
            "x-ringpush-session: 0100000200000003",
            "x-ringpush-destination: /ws/call",
        ] {
            assert!(head.lines().any(|one| one == line), "{line} in {head}");
        }
        assert_eq!(body, "{\"n\":1}");
    }

    #[test]
    fn what_goes_wrong_has_its_name() {
        let cases: [(&[u8], Fault); 6] = [
            (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", Fault::Status(500)),
            (b"HTTP/1.1 302 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Fault::Status(302)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Fault::TooLarge),
            (b"HTTP/1.1 200 OK\r\n\r\nmore than two bytes", Fault::TooLarge),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1", Fault::Broken),
            (b"what?\r\n\r\n", Fault::Broken),
        ];
        for (answer, expected) in cases {
            let (url, thread) = server(answer);
            let (fault, text) = ask(&url, call(None), 10_000, 2).expect_err("it went wrong");
            assert_eq!(fault, expected, "{text}");
            assert!(!text.contains("secret"), "{text}");
            let asked = thread.join().expect("the server has answered");
            assert!(!asked.contains("x-ringpush-user"), "the sender is anonymous");
        }
    }

    #[test]
    fn silence_and_a_closed_port_are_told_apart() {
        let (url, _thread) = server(b"");
        assert_eq!(ask(&url, call(None), 50, 2), Err((Fault::Timeout, String::new())));
        let (url, _) = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            (format!("http://{}/", listener.local_addr().expect("bound")), ())
        };
        let (fault, text) = ask(&url, call(None), 10_000, 2).expect_err("nobody listens");
        assert_eq!(fault, Fault::Unreachable, "{text}");
    }
}

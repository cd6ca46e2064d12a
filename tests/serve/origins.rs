//! Origins, proxies on the same machine, rebound names, and whom `?userId=` names.

use crate::doors::{Kind, VISITORS, serve, visitor};
use crate::server::{Folder, Server, run};
use crate::web::{Answer, UPGRADE, ask};
use std::net::SocketAddr;
use std::time::Instant;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};

/// Headers from a proxy on this machine that keeps the browser's Host: nginx's `Host $host`.
const BEHIND: &str = "Host: csms.example.com\r\nOrigin: https://csms.example.com\r\n";

fn handshake(server: &Server, lines: &str) -> Answer {
    ask(server.address, "GET /portfolio", &format!("{lines}{UPGRADE}"), "")
}

fn message(answer: &Answer) -> String {
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("the body is JSON");
    assert_eq!(json["code"], answer.status);
    json["msg"].as_str().expect("a text").to_owned()
}

#[test]
fn a_refused_origin_is_readable_and_says_which_key_lets_it_in() {
    let folder = Folder::new();
    let server = serve(&folder, Kind::Plain, "");
    let foreign = "Host: localhost\r\nOrigin: https://a.example.com\r\n";
    let expected = "the origin https://a.example.com may not connect: if it may, list it in \
                    allowed-origins of the [[endpoint]] /portfolio";
    for path in ["/portfolio", "/portfolio/websocket", "/portfolio/0/s/websocket"] {
        let answer =
            ask(server.address, &format!("GET {path}"), &format!("{foreign}{UPGRADE}"), "");
        assert_eq!((answer.status, message(&answer)), (403, expected.to_owned()));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example.com"));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let info = ask(server.address, "GET /portfolio/info", foreign, "");
    assert_eq!((info.status, message(&info)), (403, expected.to_owned()));
    assert_eq!(info.header("access-control-allow-origin"), Some("https://a.example.com"));
    // Invalid and long origins are not echoed as they were.
    let long = "Host: localhost\r\nOrigin: https://";
    let answer = handshake(&server, &format!("{long}{}\r\n", "a".repeat(4000)));
    assert_eq!(answer.status, 403);
    assert!(message(&answer).len() < 300, "{answer:?}");
    let two =
        "Host: localhost\r\nOrigin: https://a.example.com\r\nOrigin: https://b.example.com\r\n";
    let answer = handshake(&server, two);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

/// As `Server::with` starts it.
const SHARDS: usize = 2;

/// However often a page tries: a shard logs one line per second, with the number of attempts.
#[test]
fn refused_origins_are_one_line_of_the_log_a_second() {
    let folder = Folder::new();
    let server = serve(&folder, Kind::Demo, "");
    let foreign = "Host: localhost\r\nOrigin: https://a.example.com\r\n";
    let begin = Instant::now();
    for _ in 0..200 {
        assert_eq!(handshake(&server, foreign).status, 403);
    }
    let seconds = begin.elapsed().as_secs() as usize;
    let (_, metrics) = server.get("/metrics");
    let counted = metrics.lines().filter(|line| line.contains("reason=\"http_origin\""));
    let counted = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert_eq!(counted.sum::<u64>(), 200);
    let lines = server.whole_log();
    let lines: Vec<_> = lines.iter().filter(|l| l.contains("reason=http_origin ")).collect();
    assert!(lines[0].contains(" WARN ") && lines[0].contains(" times=1 "), "{lines:?}");
    for part in ["https://a.example.com", "allowed-origins", "/portfolio"] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
    let times = |line: &String| line.split_once(" times=")?.1.split(' ').next()?.parse().ok();
    assert_eq!(lines.iter().map(|line| times(line).unwrap_or(0)).sum::<u64>(), 200, "{lines:?}");
    // Each of two shards: the first at once, one more for each second that has passed, and the
    // rest at the end.
    assert!(lines.len() <= SHARDS * (seconds + 2), "{lines:?}");
}

#[test]
fn a_proxy_with_the_browsers_host_is_told_by_a_key_that_names_it() {
    let folder = Folder::new();
    let server = serve(&folder, Kind::Plain, "");
    let answer = handshake(&server, BEHIND);
    assert_eq!(answer.status, 403);
    let text = message(&answer);
    for key in ["https://csms.example.com", "listen.external-url", "listen.trusted-proxies"] {
        assert!(text.contains(key), "{key} in {text}");
    }
    let line = server.logs("reason=http_origin ");
    assert!(line.contains("listen.external-url") && line.contains("listen.trusted-proxies"));

    let outside = "external-url = 'https://csms.example.com'";
    let server = serve(&folder, Kind::Plain, outside);
    assert_eq!(handshake(&server, BEHIND).status, 101);
    // Also if the proxy passes the upstream's own Host.
    let upstream = BEHIND.replace("Host: csms.example.com", "Host: 127.0.0.1:8080");
    assert_eq!(handshake(&server, &upstream).status, 101);
    let other = BEHIND.replace("Origin: https://csms", "Origin: https://evil");
    assert_eq!(handshake(&server, &other).status, 403);
    let plain = BEHIND.replace("https:", "http:");
    assert_eq!(handshake(&server, &plain).status, 101, "its Host is a known name");

    let server = serve(&folder, Kind::Plain, "trusted-proxies = ['127.0.0.1']");
    assert_eq!(handshake(&server, BEHIND).status, 403, "without TLS it is another origin");
    let said = format!("{BEHIND}X-Forwarded-Proto: https\r\n");
    assert_eq!(handshake(&server, &said).status, 101);
    let host = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: csms.example.com\r\n";
    assert_eq!(handshake(&server, &format!("{upstream}{host}")).status, 101);
    let server = serve(&folder, Kind::Plain, "");
    assert_eq!(handshake(&server, &format!("{upstream}{host}")).status, 403, "no such proxy");
}

/// The user that CONNECTED names, after a handshake as `?userId=boss`.
fn user_of(to: SocketAddr, path: &str, lines: &str) -> Option<String> {
    let mut request = format!("ws://{to}{path}").into_client_request().expect("a URL");
    for line in lines.lines() {
        let (name, value) = line.split_once(": ").expect("a header line");
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a value"));
    }
    let socket = std::net::TcpStream::connect(to).expect("it listens");
    socket.set_read_timeout(Some(crate::server::PATIENCE)).expect("a span is fine");
    let (mut socket, _) = tungstenite::client(request, socket).expect("the endpoint upgrades");
    socket.send(Message::text("CONNECT\naccept-version:1.2\n\n\0")).expect("the server reads");
    let Message::Text(text) = socket.read().expect("a message") else { panic!("no text") };
    assert!(text.starts_with("CONNECTED\n"), "{text}");
    text.lines().find_map(|line| line.strip_prefix("user-name:")).map(str::to_owned)
}

/// Which visitors may name their user: the cells of `VISITORS`; `None`: the handshake is refused.
const NAMED: [Option<bool>; 11] = [
    Some(true),
    Some(true),
    Some(true),
    None,
    Some(false),
    None,
    Some(false),
    Some(false),
    Some(true),
    Some(true),
    Some(true),
];

#[test]
fn the_query_names_a_user_only_in_the_demo_and_for_its_own_visitors() {
    let folder = Folder::new();
    let demo = serve(&folder, Kind::Query, "");
    let plain = serve(&folder, Kind::Plain, "");
    for ((who, lines), named) in VISITORS.into_iter().zip(NAMED) {
        for path in ["/portfolio?userId=boss", "/bare?userId=boss"] {
            let Some(named) = named else { continue };
            let user = user_of(demo.address, path, &visitor(lines, demo.address));
            assert_eq!(user.as_deref(), named.then_some("boss"), "{who}");
            if !lines.contains(":3000") {
                let user = user_of(plain.address, path, &visitor(lines, plain.address));
                assert_eq!(user, None, "{who}, without the demo");
            }
        }
    }
}

#[test]
fn a_demo_beyond_loopback_exits_with_2_and_says_how_to_reach_it() {
    for command in ["serve", "check"] {
        let (code, out, err) = run(&[command, "--listen", "0.0.0.0:8080"]);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.starts_with("ringpush: --listen = \"0.0.0.0:8080\": accepted: "), "{err}");
        assert!(err.ends_with("ssh -L 8080:127.0.0.1:8080 HOST\n"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

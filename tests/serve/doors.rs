//! Every route and every handshake path, for every kind of visitor, in every kind of server: each
//! with its exact status.

use crate::server::{DEMO, Folder, Server, ringpush};
use crate::web::{UPGRADE, ask};
use std::net::SocketAddr;

const TOKEN: &str = "an API token of the tests";
const SETTINGS: &str = "
    [[endpoint]]
    path = '/chat'
    protocol = 'raw'
    sockjs = true
    [[endpoint]]
    path = '/portfolio'
    protocol = 'stomp'
    sockjs = true
    [[endpoint]]
    path = '/bare'
    protocol = 'stomp'
    [[callback]]
    path = '/callback/inbound'
    id = '/callId'
    destination = '/topic/calls'
";
const CALL: &str = r#"{"callId":"c-1"}"#;
/// HMAC-SHA256 of `CALL` with the secret of the tests.
const SIGNATURE: &str =
    "X-Signature: sha256=b5f1a8dc05ea058a3990f05d8d190c98c70b8119137a8842ef435797d001f44c\r\n";

/// A kind of server: with or without an API token and the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Token,
    Demo,
    Both,
    /// The demo, where `?userId=` names the user.
    Query,
}

/// Kinds of visitors: the header lines of their requests; `PORT` is the listener's.
pub const VISITORS: [(&str, &str); 11] = [
    ("nobody in particular, or a proxy that says nothing", "Host: 127.0.0.1:PORT\r\n"),
    ("a bad token", "Host: localhost:PORT\r\nAuthorization: Bearer wrong\r\n"),
    ("a good token", "Host: localhost:PORT\r\nAuthorization: bearer TOKEN\r\n"),
    ("a foreign page", "Host: localhost:PORT\r\nOrigin: https://evil.example\r\n"),
    ("a foreign Host", "Host: evil.example:PORT\r\n"),
    ("a rebound name", "Host: evil.example:PORT\r\nOrigin: http://evil.example:PORT\r\n"),
    ("a proxy's header", "Host: localhost:PORT\r\nX_Forwarded_For: 192.0.2.1\r\n"),
    ("another site of this host", "Host: localhost:PORT\r\nSec-Fetch-Site: same-site\r\n"),
    ("its own page", "Host: localhost:PORT\r\nOrigin: http://localhost:PORT\r\n"),
    (
        "a page on a port of this machine",
        "Host: localhost:PORT\r\nOrigin: http://localhost:3000\r\n",
    ),
    (
        "the same with its site",
        "Host: localhost:PORT\r\nOrigin: http://127.0.0.1:3000\r\n\
                                Sec-Fetch-Site: cross-site\r\n",
    ),
];

/// In a cell: the row's good status.
const OK: u16 = 0;

/// What guards a route, and thus what each of `VISITORS` gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Api,
    Open,
    Demo,
    /// A handshake or `/info` of an endpoint.
    Endpoint,
}

fn cells(class: Class, kind: Kind) -> [u16; 11] {
    match (class, kind) {
        (Class::Open, _) => [OK; 11],
        (Class::Api, Kind::Plain) => [403; 11],
        (Class::Api, Kind::Token | Kind::Both) => {
            [401, 401, OK, 401, 401, 401, 401, 401, 401, 401, 401]
        }
        (Class::Api, Kind::Demo | Kind::Query) => {
            [OK, OK, OK, 403, 403, 403, 403, 403, OK, 403, 403]
        }
        (Class::Demo, Kind::Plain | Kind::Token) => [404; 11],
        (Class::Demo, Kind::Demo | Kind::Both | Kind::Query) => {
            [OK, OK, OK, 403, 403, 403, 403, 403, OK, 403, 403]
        }
        (Class::Endpoint, Kind::Plain | Kind::Token) => {
            [OK, OK, OK, 403, OK, 403, OK, OK, OK, 403, 403]
        }
        (Class::Endpoint, Kind::Demo | Kind::Both | Kind::Query) => {
            [OK, OK, OK, 403, OK, 403, OK, OK, OK, OK, OK]
        }
    }
}

/// A route: its request, its guard, its answer to an admitted visitor, its methods.
struct Row {
    class: Class,
    first: &'static str,
    lines: &'static str,
    body: &'static str,
    good: u16,
    /// `Allow` of a 405 to PUT; no such answer without it.
    allow: Option<&'static str>,
    /// The answer to HEAD if GET would be admitted.
    head: u16,
}

const fn row(class: Class, first: &'static str, body: &'static str, good: u16) -> Row {
    Row { class, first, lines: "", body, good, allow: Some("POST"), head: 405 }
}

/// A route without side effects.
const fn told(class: Class, first: &'static str) -> Row {
    Row { allow: Some("GET, HEAD"), head: 200, ..row(class, first, "", 200) }
}

const fn upgrade(first: &'static str) -> Row {
    Row { lines: UPGRADE, allow: Some("GET"), ..row(Class::Endpoint, first, "", 101) }
}

const PUSH: &str = "GET, POST";
const ROWS: &[Row] = &[
    Row {
        allow: Some(PUSH),
        ..row(Class::Api, "GET /sendMsToUser?userId=7&subscribePath=/queue/sub", "", 200)
    },
    Row {
        allow: Some(PUSH),
        ..row(
            Class::Api,
            "POST /sendMsToUser?userId=7&subscribePath=/queue/sub",
            r#"{"businessType":"T","data":1}"#,
            200,
        )
    },
    Row { allow: Some(PUSH), ..row(Class::Api, "GET /sendMsAll?subscribePath=/topic/a", "", 200) },
    row(Class::Api, "POST /api/publish", r#"{"destination":"/topic/a","body":"x"}"#, 200),
    row(Class::Api, "POST /api/users/7/messages", r#"{"destination":"/queue/a","body":"x"}"#, 200),
    told(Class::Api, "GET /api/users"),
    Row { allow: Some("GET, HEAD, DELETE"), ..told(Class::Api, "GET /api/users/7") },
    Row { allow: Some("GET, HEAD, DELETE"), ..row(Class::Api, "DELETE /api/users/7", "", 200) },
    // This session does not exist: an admitted visitor is told so.
    Row {
        allow: Some("DELETE"),
        ..row(Class::Api, "DELETE /api/sessions/0000000000000000", "", 404)
    },
    told(Class::Api, "GET /api/stats"),
    told(Class::Api, "GET /metrics"),
    told(Class::Open, "GET /healthz"),
    told(Class::Open, "GET /readyz"),
    told(Class::Open, "GET /"),
    told(Class::Open, "GET /console.js"),
    told(Class::Open, "GET /console.json"),
    row(Class::Demo, "POST /demo/callback/inbound", CALL, 200),
    // Its signature admits it from any visitor.
    row(Class::Open, "POST /callback/inbound", CALL, 401),
    Row { lines: SIGNATURE, ..row(Class::Open, "POST /callback/inbound", CALL, 200) },
    Row { allow: None, head: 404, ..row(Class::Open, "GET /nothing", "", 404) },
    Row { allow: None, head: 404, ..row(Class::Open, "GET /api", "", 404) },
    Row { allow: None, head: 404, ..row(Class::Open, "GET /api/sessions", "", 404) },
    Row { allow: None, head: 404, ..row(Class::Open, "POST /demo/callback/other", "", 404) },
    Row { allow: Some("GET"), ..row(Class::Open, "GET /portfolio", "", 200) },
    Row { allow: Some("OPTIONS, GET"), ..row(Class::Endpoint, "GET /chat/info", "", 200) },
    Row { allow: Some("OPTIONS, GET"), ..row(Class::Endpoint, "GET /portfolio/info", "", 200) },
    upgrade("GET /chat"),
    upgrade("GET /chat/websocket"),
    upgrade("GET /chat/000/abcdefgh/websocket"),
    upgrade("GET /portfolio"),
    upgrade("GET /portfolio/websocket"),
    upgrade("GET /portfolio/000/abcdefgh/websocket"),
    upgrade("GET /bare"),
    Row { allow: None, head: 404, ..row(Class::Open, "GET /bare/info", "", 404) },
];

/// Starts a server of a kind, with more settings of `[listen]`.
pub fn serve(folder: &Folder, kind: Kind, listen: &str) -> Server {
    let auth = if kind == Kind::Query { "[auth]\nmethods = 'query'\n" } else { "" };
    let text = format!("[listen]\n{listen}\n{auth}{SETTINGS}");
    let config = folder.write("config.toml", &text);
    let config = config.to_str().expect("a path of the tests is text");
    let place = ["--listen", "127.0.0.1:0", "--shards", "2"];
    let mut command = ringpush(&[&["serve", "--config", config][..], &place].concat());
    command.env(DEMO, (!matches!(kind, Kind::Plain | Kind::Token)).to_string());
    if kind == Kind::Token || kind == Kind::Both {
        command.env("RINGPUSH_API_TOKEN", TOKEN);
    }
    Server::start(command)
}

pub fn visitor(lines: &str, at: SocketAddr) -> String {
    lines.replace("PORT", &at.port().to_string()).replace("TOKEN", TOKEN)
}

/// Every visitor at one route; `cells` says what each gets.
fn visit(row: &Row, at: SocketAddr, cells: [u16; 11], what: &str) {
    for ((who, lines), cell) in VISITORS.into_iter().zip(cells) {
        let lines = visitor(lines, at) + row.lines;
        let answer = ask(at, row.first, &lines, row.body);
        let expected = if cell == OK { row.good } else { cell };
        assert_eq!(answer.status, expected, "{what}: {} by {who}: {answer:?}", row.first);
    }
    let (_, target) = row.first.split_once(' ').expect("method and target");
    let (_, good) = VISITORS[2];
    let lines = visitor(good, at) + row.lines;
    let wrong = ask(at, &format!("PUT {target}"), &lines, "");
    let exists = cells[2] != 404;
    match row.allow.filter(|_| exists) {
        Some(allow) => {
            assert_eq!(wrong.status, 405, "{what}: PUT {target}: {wrong:?}");
            assert_eq!(wrong.header("allow"), Some(allow), "{what}: {target}");
        }
        None => assert_eq!(wrong.status, 404, "{what}: PUT {target}: {wrong:?}"),
    }
    if row.first.starts_with("GET ") {
        let head = ask(at, &format!("HEAD {target}"), &lines, "");
        let expected = match (row.head, cells[2]) {
            (405, cell) if cell != 404 => 405,
            (head, OK) => head,
            (_, cell) => cell,
        };
        assert_eq!(head.status, expected, "{what}: HEAD {target}: {head:?}");
    }
}

#[test]
fn every_route_answers_every_visitor_as_it_should() {
    for kind in [Kind::Plain, Kind::Token, Kind::Demo, Kind::Both] {
        let folder = Folder::new();
        let server = serve(&folder, kind, "");
        for row in ROWS {
            visit(row, server.address, cells(row.class, kind), &format!("{kind:?}"));
        }
    }
}

#[test]
fn separate_listeners_have_only_their_routes() {
    for kind in [Kind::Plain, Kind::Token, Kind::Demo, Kind::Both] {
        let folder = Folder::new();
        let server = serve(&folder, kind, "api-address = '127.0.0.1:0'");
        let line = server.says();
        let api = line.strip_prefix("listening on http://").and_then(|rest| rest.split(' ').next());
        let api: SocketAddr = api.and_then(|text| text.parse().ok()).expect(&line);
        for row in ROWS {
            let (_, target) = row.first.split_once(' ').expect("method and target");
            let everywhere = target == "/healthz" || target == "/readyz";
            let public = ["/chat", "/portfolio", "/bare", "/callback"];
            let public = public.iter().any(|prefix| target.starts_with(prefix));
            let cells = cells(row.class, kind);
            // A route that a listener does not serve does not exist there, even with a good token.
            let nothing = Row { allow: None, head: 404, good: 404, ..*row };
            let what = format!("{kind:?}, endpoints");
            if everywhere || public {
                visit(row, server.address, cells, &what);
            } else {
                visit(&nothing, server.address, [404; 11], &what);
            }
            let what = format!("{kind:?}, API");
            match target {
                _ if public => visit(&nothing, api, [404; 11], &what),
                // Everybody who can reach this listener may read the metrics.
                "/metrics" => visit(row, api, [OK; 11], &what),
                _ => visit(row, api, cells, &what),
            }
        }
    }
}

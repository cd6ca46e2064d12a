//! The demo: a copy of its example, the stand-in for the provider, what its page is told, and what
//! it prints.

use crate::client::Session;
use crate::server::{DEMO, Folder, Server, ringpush};
use crate::web::{UPGRADE, ask};
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../examples/call-centre.toml");

/// A copy of the example, started with an empty environment.
fn copied(folder: &Folder, text: &str) -> Server {
    let config = folder.write("mine.toml", text);
    let config = config.to_str().expect("a path of the tests is text");
    let place = ["--listen", "127.0.0.1:0", "--shards", "2"];
    let mut command = ringpush(&[&["serve", "--config", config][..], &place].concat());
    command.env_remove(DEMO).env_remove("RINGPUSH_CALLBACK_SECRET");
    Server::start(command)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

#[test]
fn the_copied_example_starts_and_a_call_is_called_back() {
    let folder = Folder::new();
    let server = copied(&folder, EXAMPLE);
    assert!(server.says().starts_with("DEMO: "));
    let queues = ["/user/queue/sub", "/user/queue/errors"];
    let mut sessions = [0, 1].map(|_| Session::subscribed(&server, Some("7"), &queues));
    let mut other = Session::subscribed(&server, Some("8"), &queues);
    let asked = json!({ "callId": "c-1", "agentId": "8", "to": "+86 139" });
    sessions[0].sends("SEND", &[("destination", "/ws/call")], &asked.to_string());
    for session in &mut sessions {
        let taken = parse(&session.hears("/user/queue/sub"));
        assert_eq!(taken, json!({ "code": 0, "callId": "c-1" }));
        let outcome = parse(&session.hears("/user/queue/sub"));
        let data =
            json!({ "callId": "c-1", "agentId": "7", "to": "+86 139", "result": "answered" });
        assert_eq!(outcome, json!({ "businessType": "CALL_OUT", "data": data }));
    }
    // Nobody else has received it: this is the next message there.
    assert_eq!(server.get("/sendMsToUser?userId=8&subscribePath=/queue/sub").0, 200);
    assert!(other.hears("/user/queue/sub").contains("TEST"));
}

#[test]
fn the_stand_in_calls_back_users_only() {
    let server = Server::embedded();
    let mut session = Session::subscribed(&server, None, &["/user/queue/errors"]);
    session.sends("SEND", &[("destination", "/ws/call")], "{}");
    let told = parse(&session.hears("/user/queue/errors"));
    let text = "only a session with a user is called back";
    assert_eq!(told, json!({ "code": 401, "msg": text, "destination": "/ws/call" }));
}

#[test]
fn the_page_is_told_where_it_is() {
    let folder = Folder::new();
    let server = copied(&folder, EXAMPLE);
    let (status, told) = server.get("/console.json");
    let identity = json!({ "methods": ["query"], "query": "userId", "anonymous": true });
    let expected = json!({
        "mode": "demo", "endpoint": null, "path": "/portfolio", "identity": identity,
    });
    assert_eq!((status, parse(&told)), (200, expected));

    // On a separate listener the page is told where the endpoint is, and may connect there.
    let apart = EXAMPLE.replace("[listen]\n", "[listen]\napi-address = \"127.0.0.1:0\"\n");
    let server = copied(&folder, &apart);
    let line = server.says();
    let api = line.strip_prefix("listening on http://").and_then(|rest| rest.split(' ').next());
    let api = api.and_then(|text| text.parse().ok()).expect(&line);
    for host in ["localhost", "127.0.0.1"] {
        let lines = format!("Host: {host}:1\r\n");
        let told = parse(&ask(api, "GET /console.json", &lines, "").body);
        assert_eq!(told["endpoint"], format!("http://{host}:{}", server.address.port()));
    }
    let page = format!("Host: {}\r\nOrigin: http://{api}\r\n{UPGRADE}", server.address);
    assert_eq!(ask(server.address, "GET /portfolio?userId=7", &page, "").status, 101);

    let settings = "[listen]\nexternal-url = 'https://csms.example.com/'\n\
                    api-address = '127.0.0.1:0'\n[auth]\nanonymous = false\n\
                    [[endpoint]]\npath = '/raw'\nprotocol = 'raw'\n";
    let server = copied(&folder, settings);
    let line = server.says();
    let api = line.strip_prefix("listening on http://").and_then(|rest| rest.split(' ').next());
    let api = api.and_then(|text| text.parse().ok()).expect(&line);
    let told = parse(&ask(api, "GET /console.json", "Host: localhost\r\n", "").body);
    let identity = json!({ "methods": [], "query": null, "anonymous": false });
    let expected = json!({
        "mode": "live", "endpoint": "https://csms.example.com", "path": null,
        "identity": identity,
    });
    assert_eq!(told, expected);
}

/// The page shows the answer to a bad signature, also if it is not on the callbacks' listener.
#[test]
fn a_signature_from_the_page_is_not_replaced() {
    let server = Server::embedded();
    let call = r#"{"callId":"c-2","agentId":"7"}"#;
    let own = "Host: localhost\r\n";
    let forged = format!("{own}X-Signature: sha256={}\r\n", "0".repeat(64));
    let target = "POST /demo/callback/inbound";
    assert_eq!(ask(server.address, target, &forged, call).status, 401);
    assert_eq!(ask(server.address, target, own, call).status, 200);
}

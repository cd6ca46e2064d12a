//! A sender cannot forge the server's headers or frames: headers that old clients would trim to the
//! server's own, and NULs at which they would begin another frame. On every path into the server.

use crate::client::{Frame, Session};
use crate::hook::Hook;
use crate::peer::Peer;
use crate::server::{Folder, Server};
use ringpush::ws::Opcode;
use std::io::{Read, Write};

const KEPT: [&str; 12] = [
    "subscription",
    "message-id",
    "ack",
    "destination",
    "content-length",
    "retract",
    "replayed",
    "recovered",
    "kept",
    "redelivered",
    "receipt",
    "transaction",
];

/// A body in which an old client would find a second frame.
const FORGED: &str = "a\0\nMESSAGE\nsubscription:sub-0\nmessage-id:1\n\n{}";

fn serve(config: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let config = format!(
        "[auth]\nmethods = ['query']\n\
         [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\nsockjs = true\n\
         [[endpoint]]\npath = '/raw'\nprotocol = 'raw'\nsockjs = true\n\
         on-message = {{ publish = '/topic/raw' }}\n\
         [[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'\n\
         [[application]]\ndestination = '/forward'\nforward = '/topic/all'\n\
         [[callback]]\npath = '/callback'\nsecret-env = 'RINGPUSH_CALLBACK_SECRET'\n\
         id = '/id'\ndestination = '/topic/all'\n{config}"
    );
    let server = Server::with(&folder.write("config.toml", &config));
    (folder, server)
}

/// Posts JSON: status and body of the answer.
fn post(server: &Server, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let mut socket = server.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat()).expect("the server reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the server answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

fn names(frame: &Frame) -> Vec<&str> {
    frame.headers.iter().map(|(name, _)| name.as_str()).collect()
}

/// The sender receives an ERROR with its receipt, then a Close with 1008.
fn is_refused(mut session: Session, message: &str, code: u16) {
    let error = session.receives();
    assert_eq!(error.command, "ERROR", "{error:?}");
    assert_eq!(error.header("message"), Some(message), "{error:?}");
    assert_eq!(error.header("receipt-id"), Some("r"), "{error:?}");
    assert_eq!(session.hears_close(), code);
}

fn refused(server: &Server, label: &str) -> u64 {
    let (_, text) = server.get("/metrics");
    let reason = format!("reason=\"{label}\"");
    let lines = text.lines().filter(|line| line.contains(&reason));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

const OWN: [&str; 4] = ["destination", "subscription", "message-id", "content-length"];

#[test]
fn headers_that_trim_to_the_servers_own_stay_with_their_sender() {
    let (_folder, server) = serve("");
    let mut session = Session::subscribed(&server, None, &["/topic/all"]);
    let mut sender = Session::open(&server, None);
    for blank in ["", " ", "\t", "\u{b}", "\\n", "\\r", "\u{a0}", "\u{2029}", "\u{feff}", "\u{85}"]
    {
        let forged = KEPT.map(|name| format!("{blank}{name}:sub-0\n{name}{blank}:sub-0\n"));
        // Without a blank, two of them are headers of the SEND itself.
        let is_own = |line: &&String| {
            blank.is_empty() && (line.contains("content-length") || line.contains("transaction"))
        };
        let forged: String = forged.iter().filter(|line| !is_own(line)).cloned().collect();
        let frame = format!("SEND\ndestination:/topic/all\nb:1\n{forged}a:2\nb:3\n\nbody\0");
        sender.sends_text(&frame);
        let heard = session.receives();
        assert_eq!(names(&heard), [&["b", "a", "b"][..], &OWN].concat(), "{blank:?}");
        assert_eq!(heard.header("subscription"), Some("/topic/all"));
        assert_eq!(heard.header("destination"), Some("/topic/all"));
        assert_eq!(heard.header("content-length"), Some("4"));
        if blank.is_empty() {
            assert_eq!(sender.receives().command, "RECEIPT");
        }
    }
}

#[test]
fn a_name_of_blanks_is_refused_by_name() {
    let (_folder, server) = serve("");
    for name in ["", " ", "\t\u{a0}", "\\n\\r"] {
        let mut session = Session::open(&server, None);
        let frame = format!("SEND\ndestination:/topic/all\nreceipt:r\n{name}:x\n\nbody\0");
        session.sends_text(&frame);
        is_refused(session, "A header's name is empty or blank.", 1002);
    }
    assert_eq!(refused(&server, "stomp_empty_name"), 4);
}

#[test]
fn the_api_refuses_headers_that_belong_to_the_server() {
    let (_folder, server) = serve("");
    let mut session = Session::subscribed(&server, Some("7"), &["/topic/all", "/user/queue/sub"]);
    let all = "\"destination\":\"/topic/all\"";
    let mut count = 0;
    for name in KEPT.iter().flat_map(|name| {
        ["", " ", "\\u000b", "\\u0000", "\\u00a0", "\\u0085"]
            .map(|blank| [format!("{blank}{name}"), format!("{name}{blank}")])
            .concat()
    }) {
        let body = format!("{{{all},\"headers\":{{\"{name}\":\"sub-0\"}},\"body\":\"x\"}}");
        let (status, text) = post(&server, "/api/publish", "", body.as_bytes());
        assert!(status == 400 && text.contains("no header is named"), "{name}: {status} {text}");
        count += 1;
    }
    for name in ["", " ", "\\t\\u3000"] {
        let body = format!(
            "{{\"destination\":\"/queue/sub\",\"headers\":{{\"{name}\":\"\"}},\"body\":0}}"
        );
        let (status, text) = post(&server, "/api/users/7/messages", "", body.as_bytes());
        assert!(status == 400 && text.contains("blank"), "{name}: {status} {text}");
        count += 1;
    }
    assert_eq!(refused(&server, "api_forged_header"), count);
    let body =
        format!("{{{all},\"headers\":{{\"x\":\"1\",\"Subscription\":\"2\"}},\"body\":\"x\"}}");
    assert_eq!(post(&server, "/api/publish", "", body.as_bytes()).0, 200);
    let heard = session.receives();
    let own = [&["content-type", "x", "Subscription"][..], &OWN].concat();
    let mut names = names(&heard);
    names[..3].sort_by_key(|name| own.iter().position(|one| one == name));
    assert_eq!(names, own, "nothing came before it: {heard:?}");
}

/// STOMP 1.0 has no escapes, so its headers must not contain anything that would end a line.
#[test]
fn no_name_and_no_value_can_forge_a_line_for_a_subscriber_of_stomp_1_0() {
    let (_folder, server) = serve("");
    let mut old = Peer::open(&server, "/portfolio", "");
    old.sends("CONNECT\n\n\0");
    assert!(old.hears().starts_with("CONNECTED\nversion:1.0\n"));
    old.sends("SUBSCRIBE\nid:s\ndestination:/topic/all\nreceipt:1\n\n\0");
    assert!(old.hears().starts_with("RECEIPT\n"));
    let mut sender = Session::open(&server, None);
    sender.sends_text(
        "SEND\ndestination:/topic/all\na\\nack\\c1\\nb:2\\nsubscription:x\\r\\nack\\c3\nc\\c:\\r\n\nx\0",
    );
    let lines = |text: &str| -> Vec<String> {
        let (head, _) = text.split_once("\n\n").expect("a head");
        head.lines().map(str::to_owned).collect()
    };
    let heard = lines(&old.hears());
    assert_eq!(heard[1..3], ["a_ack_1_b:2subscription:xack:3", "c_:"], "{heard:?}");
    assert_eq!(heard.len(), 7, "{heard:?}");
    let body = "{\"destination\":\"/topic/all\",\"headers\":\
        {\"a\\nack:1\\r\\u0000b\":\"2\\nsubscription:x\\r\\u0000\\nack:3\"},\"body\":0}";
    assert_eq!(post(&server, "/api/publish", "", body.as_bytes()).0, 200);
    let heard = lines(&old.hears());
    assert_eq!(heard[1..3], ["content-type:application/json", "a_ack_1__b:2subscription:xack:3"]);
    assert_eq!(heard.len(), 7, "{heard:?}");
}

#[test]
fn a_nul_in_a_body_is_refused_on_every_path() {
    let (_folder, server) = serve("");
    let mut session = Session::subscribed(&server, None, &["/topic/all", "/topic/raw"]);
    let mut count = 0;
    for destination in ["/topic/all", "/ws/forward"] {
        for (kind, body) in [
            ("text/plain", "a\0b"),
            ("application/vnd.x+json; charset=utf-8", "\0"),
            ("", FORGED),
            ("image/png", FORGED),
        ] {
            let mut sender = Session::open(&server, None);
            let length = body.len().to_string();
            let headers = [
                ("destination", destination),
                ("receipt", "r"),
                ("content-length", &length),
                ("content-type", kind),
            ];
            sender.sends("SEND", &headers, body);
            is_refused(sender, "NUL in the body", 1008);
            count += 1;
        }
    }
    for (opcode, message) in [(Opcode::Text, "a\0b"), (Opcode::Binary, FORGED)] {
        let mut peer = Peer::open(&server, "/raw", "");
        peer.sends_parts(opcode, &[message.as_bytes()]);
        peer.hears_close(1008, "NUL in the body");
    }
    let mut peer = Peer::open(&server, "/raw/000/abcdefgh/websocket", "");
    assert_eq!(peer.hears(), "o");
    peer.sends("[\"a\\u0000b\",\"behind it\"]");
    assert_eq!(peer.hears(), "c[1008,\"NUL in the body\"]");
    peer.hears_close(1008, "NUL in the body");
    count += 3;
    for (path, item) in [
        ("/api/publish", "{\"destination\":\"/topic/all\",\"body\":\"a\\u0000b\"}"),
        ("/api/users/7/messages", "{\"destination\":\"/queue/sub\",\"body\":\"\\u0000\"}"),
        (
            "/api/publish",
            "[{\"destination\":\"/topic/all\",\"headers\":{\"content-type\":\"image/png\"},\
             \"body\":\"\\u0000MESSAGE\\n\\n\"}]",
        ),
    ] {
        let (status, text) = post(&server, path, "", item.as_bytes());
        assert!(status == 400 && text.contains("broker.nul-in-body"), "{status} {text}");
        count += 1;
    }
    assert_eq!(refused(&server, "broker_nul_in_body"), count);
    // JSON has no NUL, so these paths refuse it with any value of the key.
    let json = b"{\"id\":1,\"businessType\":\"a\",\"data\":\"\0\"}";
    assert_eq!(post(&server, "/sendMsAll?subscribePath=/topic/all", "", json).0, 400);
    let signature = signed(json);
    assert_eq!(post(&server, "/callback", &signature, json).0, 400);
    let json = b"{\"id\":1,\"data\":\"\\u0000\"}";
    assert_eq!(post(&server, "/callback", &signed(json), json).0, 200);
    assert_eq!(session.hears("/topic/all").as_bytes(), json, "nothing came before it");
}

/// The header that the provider would send.
fn signed(body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let secret = b"a secret of the tests";
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).expect("any key will do");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|o| format!("{o:02x}")).collect();
    format!("X-Signature: sha256={hex}\r\n")
}

#[test]
fn bytes_may_have_nuls_and_so_may_texts_where_the_key_allows_them() {
    let (_folder, server) = serve("[broker]\nnul-in-body = 'allow'\n");
    let mut sender = Session::subscribed(&server, None, &["/topic/all"]);
    sender.sends("SEND", &[("destination", "/topic/all"), ("content-length", "3")], "a\0b");
    assert_eq!(sender.hears("/topic/all"), "a\0b");
    let (_folder, server) = serve("");
    let mut sender = Session::subscribed(&server, None, &["/topic/all"]);
    let headers = [
        ("destination", "/topic/all"),
        ("content-length", "3"),
        ("content-type", "application/octet-stream"),
    ];
    sender.sends("SEND", &headers, "a\0b");
    assert_eq!(sender.hears("/topic/all"), "a\0b");
}

#[test]
fn a_hooks_answer_with_a_nul_is_reported_to_the_requesting_session() {
    let hook = Hook::start();
    let (_folder, server) = serve(&format!(
        "[[application]]\ndestination = '/call'\nhook = '{}'\nto-user = '/queue/sub'\n",
        hook.url
    ));
    let queues = ["/user/queue/sub", "/user/queue/errors"];
    let mut session = Session::subscribed(&server, Some("7"), &queues);
    session.sends("SEND", &[("destination", "/ws/call")], "");
    hook.is_asked().answer(200, FORGED);
    let told = session.hears("/user/queue/errors");
    assert!(told.contains("\"code\":502") && told.contains("broker.nul-in-body"), "{told}");
}

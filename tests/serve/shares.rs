//! How much of the shared resources one session or one address may use.

use crate::client::Session;
use crate::hook::Hook;
use crate::server::{Folder, PATIENCE, Server, ringpush};
use std::io::{Read, Write};
use std::time::Instant;

/// Two addresses of this machine.
const ONE: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];

/// This many shards with these settings and limits.
fn server(shards: &str, settings: &str, limits: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let config = format!(
        "{settings}\n[[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
         [[endpoint]]\npath = '/echo'\nprotocol = 'raw'\non-message = 'echo'\n\
         [[allow]]\naction = 'send'\ndestination = '/topic/**'\n[limits]\n{limits}\n"
    );
    let config = folder.write("config.toml", &config);
    let config = config.to_str().expect("a path of the tests is text");
    let arguments = ["serve", "--config", config, "--listen", "127.0.0.1:0", "--shards", shards];
    (folder, Server::start(ringpush(&arguments)))
}

fn open(server: &Server, host: [u8; 4]) -> Session {
    Session::over(server, server.connect_from(host), "").expect("the endpoint upgrades")
}

fn subscribe(session: &mut Session, id: &str, destination: &str) -> Result<(), String> {
    let headers = [("id", id), ("destination", destination), ("receipt", id)];
    session.sends("SUBSCRIBE", &headers, "");
    let answer = session.receives();
    match answer.command.as_str() {
        "RECEIPT" => {
            assert_eq!(answer.header("receipt-id"), Some(id));
            Ok(())
        }
        "ERROR" => Err(format!("{}: {}", answer.header("message").unwrap_or(""), answer.body)),
        other => panic!("{other}"),
    }
}

/// The same, if its home agrees: without a receipt, and then with something that has one.
fn try_subscribe(session: &mut Session, id: &str, destination: &str) -> Result<(), String> {
    session.sends("SUBSCRIBE", &[("id", id), ("destination", destination)], "");
    session.asks("/topic/nobody", "", "then");
    let answer = session.receives();
    match answer.command.as_str() {
        "RECEIPT" => Ok(()),
        "ERROR" => Err(format!("{}: {}", answer.header("message").unwrap_or(""), answer.body)),
        other => panic!("{other}"),
    }
}

#[test]
fn subscriptions_of_a_session_to_one_destination_are_bounded() {
    let (_folder, server) = server("1", "", "subscriptions-alike = 3");
    for destination in ["/topic/a", "/topic/**", "/user/queue/sub"] {
        let mut session = Session::open(&server, None);
        for id in ["1", "2", "3"] {
            subscribe(&mut session, id, destination).expect("within the bound");
        }
        // Others have their own count, a user's destination is not the broker's of that name, and
        // after leaving one a session may have another.
        subscribe(&mut session, "b", "/topic/b").expect("another destination");
        subscribe(&mut session, "c", "/queue/sub").expect("another destination");
        session.sends("UNSUBSCRIBE", &[("id", "2")], "");
        subscribe(&mut session, "4", destination).expect("one has gone");
        let refused = subscribe(&mut session, "5", destination).expect_err("past the bound");
        assert!(refused.contains("limit subscriptions-alike"), "{refused}");
        assert_eq!(session.hears_close(), 1008);
    }
    assert_eq!(server.metric("ringpush_refused_total{reason=\"limit_subscriptions_alike\"}"), 3);
}

#[test]
fn an_address_has_a_quarter_of_the_destinations_that_are_free() {
    let limits = "destinations = 16\nshare-least = 1";
    let (_folder, server) = server("2", "", limits);
    // On any shards.
    let mut sessions: Vec<Session> = (0..4).map(|_| open(&server, ONE)).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        let destination = format!("/topic/{number}");
        subscribe(session, "own", &destination).expect("a quarter of sixteen");
        // Subscribing to an existing destination uses nothing.
        subscribe(session, "again", &destination).expect("the same one");
        subscribe(session, "first", "/topic/0").expect("a known one");
    }
    let mut last = open(&server, ONE);
    let refused = try_subscribe(&mut last, "1", "/topic/more").expect_err("past the share");
    assert!(refused.contains("limits destinations, share-least"), "{refused}");
    assert_eq!(last.hears_close(), 1008);
    // Nobody else is affected.
    let mut other = open(&server, OTHER);
    for number in 0..3 {
        subscribe(&mut other, &format!("{number}"), &format!("/queue/{number}"))
            .expect("his share");
    }
    try_subscribe(&mut other, "3", "/queue/3").expect_err("a quarter of twelve");
    // What is given back may be used again.
    drop(sessions);
    let start = Instant::now();
    while try_subscribe(&mut open(&server, ONE), "1", "/topic/more").is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    assert!(server.metric("ringpush_refused_total{reason=\"limit_share_of_destinations\"}") >= 2);
}

#[test]
fn an_address_has_a_quarter_of_the_patterns_that_begin_alike() {
    let (_folder, server) = server("1", "", "patterns-alike = 8\nshare-least = 1");
    let mut session = open(&server, ONE);
    for pattern in ["/topic/a/*", "/topic/a/?", "/topic/b/*"] {
        subscribe(&mut session, pattern, pattern).expect("two of eight");
    }
    let refused = try_subscribe(&mut session, "more", "/topic/a/x*").expect_err("past the share");
    assert!(refused.contains("limits patterns-alike, share-least"), "{refused}");
    subscribe(&mut open(&server, OTHER), "1", "/topic/a/x*").expect("another address");
    let name = "ringpush_refused_total{reason=\"limit_share_of_patterns_alike\"}";
    assert_eq!(server.metric(name), 1);
}

#[test]
fn an_address_has_a_quarter_of_the_hook_calls() {
    let hook = Hook::start();
    let settings = format!(
        "[hooks]\nqueue = 6\nconcurrent = 2\n\
         [[application]]\ndestination = '/call'\nhook = '{}'\nto-user = '/queue/sub'\n",
        hook.url
    );
    let (_folder, server) = server("2", &settings, "share-least = 1");
    let mut sessions: Vec<Session> = (0..3).map(|_| open(&server, ONE)).collect();
    for session in &mut sessions {
        subscribe(session, "errors", "/user/queue/errors").expect("his own");
        subscribe(session, "sub", "/user/queue/sub").expect("his own");
    }
    for session in &mut sessions[..2] {
        session.asks("/ws/call", "x", "r");
        assert_eq!(session.receives().command, "RECEIPT");
    }
    let (first, second) = (hook.is_asked(), hook.is_asked());
    sessions[2].asks("/ws/call", "x", "r");
    let refused = sessions[2].hears("/user/queue/errors");
    assert!(refused.contains("\"code\":503") && refused.contains("share-least"), "{refused}");
    assert_eq!(sessions[2].receives().command, "RECEIPT");
    let mut other = open(&server, OTHER);
    other.asks("/ws/call", "x", "r");
    assert_eq!(other.receives().command, "RECEIPT");
    // Its call has begun; when a call ends there is room again.
    first.answer(200, "{}");
    hook.is_asked().answer(200, "{}");
    second.answer(500, "");
    let start = Instant::now();
    loop {
        sessions[2].asks("/ws/call", "x", "r");
        let frame = sessions[2].receives();
        if frame.command == "RECEIPT" {
            break;
        }
        assert_eq!(sessions[2].receives().command, "RECEIPT");
        assert!(start.elapsed() < PATIENCE);
    }
    hook.is_asked().answer(200, "{}");
    assert_eq!(sessions[2].hears("/user/queue/sub"), "{}");
    let name = "ringpush_refused_total{reason=\"limit_share_of_hook_calls\"}";
    assert!(server.metric(name) >= 1);
}

#[test]
fn connections_of_an_address_are_those_of_all_shards() {
    let (_folder, server) = server("4", "", "connections-per-address = 3");
    let sessions: Vec<Session> = (0..3).map(|_| open(&server, ONE)).collect();
    for _ in 0..4 {
        let refused = Session::over(&server, server.connect_from(ONE), "").err();
        assert_eq!(refused, Some(503));
    }
    let _other = open(&server, OTHER);
    drop(sessions);
    let start = Instant::now();
    while Session::over(&server, server.connect_from(ONE), "").is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    let name = "ringpush_refused_total{reason=\"limit_connections_per_address\"}";
    assert!(server.metric(name) >= 4);
}

#[test]
fn behind_a_trusted_proxy_its_clients_are_counted_and_it_is_not() {
    let settings = "listen.trusted-proxies = ['127.0.0.2', '10.0.0.0/8']";
    let (_folder, server) = server("2", settings, "connections-per-address = 2");
    let through = |forwarded| Session::over(&server, server.connect_from(ONE), forwarded);
    let mut sessions = Vec::new();
    // The proxy itself, and clients that it does not name.
    for _ in 0..5 {
        sessions.push(through("").expect("a proxy is not counted"));
    }
    for forwarded in ["203.0.113.7", "203.0.113.7, 10.0.0.9", "2001:db8::1", "2001:db8:0:0:2::"] {
        sessions.push(through(forwarded).expect("two of each"));
    }
    for forwarded in ["203.0.113.7", "::ffff:203.0.113.7", "1.1.1.1, 203.0.113.7", "2001:db8::3"] {
        assert_eq!(through(forwarded).err(), Some(503), "{forwarded}");
    }
    sessions.push(through("203.0.113.8").expect("another one"));
    sessions.push(through("203.0.113.7, 1.1.1.1").expect("another one"));
    // For a peer that is no trusted proxy, its own address counts.
    let directly = |forwarded| Session::over(&server, server.connect_from(OTHER), forwarded);
    for forwarded in ["1.2.3.4", "1.2.3.5"] {
        sessions.push(directly(forwarded).expect("two"));
    }
    assert_eq!(directly("1.2.3.6").err(), Some(503));
}

#[test]
fn the_bound_of_connections_is_one_for_all_shards() {
    let (_folder, server) = server("4", "", "connections = 10");
    // They have subscribed, so none of them makes room for another.
    let _sessions: Vec<Session> = (0..10)
        .map(|_| {
            let mut session = open(&server, ONE);
            subscribe(&mut session, "1", "/topic/a").expect("room");
            session
        })
        .collect();
    for _ in 0..3 {
        let refused = Session::over(&server, server.connect_from(OTHER), "").err();
        assert_eq!(refused, Some(503));
    }
}

/// The bytes that its peer receives until the end.
fn rest(mut socket: std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("it ends");
    bytes
}

#[test]
fn with_few_slots_strangers_of_the_address_with_most_connections_leave() {
    let limits = "connections = 12\nstranger-time = '1ms'";
    let (_folder, server) = server("1", "", limits);
    // Below three quarters nobody has to leave.
    let mut subscribed: Vec<Session> = (0..3).map(|_| open(&server, ONE)).collect();
    for session in &mut subscribed {
        subscribe(session, "1", "/topic/a").expect("room");
    }
    let idle = server.connect_from(ONE);
    let raw = |says: &str| {
        let mut socket = server.connect_from(ONE);
        let request =
            format!("GET /echo HTTP/1.1\r\nHost: localhost\r\n{}\r\n", crate::web::UPGRADE);
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        if !says.is_empty() {
            // Masked with zeros.
            let frame = [&[0x81, 0x80 | says.len() as u8, 0, 0, 0, 0], says.as_bytes()].concat();
            socket.write_all(&frame).expect("the server reads");
            let mut echo = vec![0; 2 + says.len()];
            socket.read_exact(&mut echo).expect("an echo");
        }
        socket
    };
    let silent = raw("");
    let mut speaking = raw("hello");
    let stranger = open(&server, ONE);
    let mut polite = open(&server, OTHER);
    let mut others = vec![open(&server, OTHER)];
    // The tenth: from here on one leaves for each new one, the oldest first.
    others.push(open(&server, OTHER));
    assert_eq!(rest(idle), b"");
    others.push(open(&server, OTHER));
    assert_eq!(rest(silent)[..4], [0x88, 17, 0x03, 0xf5], "1013");
    // Now the other address has more strangers, but this one has more connections in total.
    others.push(open(&server, [127, 0, 0, 4]));
    assert_eq!(stranger.hears_close(), 1013);
    // A client that has done something stays, and so does one of an address that uses little.
    subscribe(&mut polite, "1", "/topic/b").expect("it is still there");
    for session in &mut subscribed {
        subscribe(session, "2", "/topic/b").expect("it is still there");
    }
    speaking.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).expect("it is still there");
    let mut echo = [0; 3];
    speaking.read_exact(&mut echo).expect("it is still there");
}

/// A server of which three quarters are taken still admits others.
#[test]
fn new_clients_are_spared_while_there_are_slots() {
    let limits = "connections = 40\nstranger-time = '10m'";
    let (_folder, server) = server("1", "", limits);
    let mut sessions: Vec<Session> = (0..31).map(|_| open(&server, ONE)).collect();
    for session in &mut sessions {
        subscribe(session, "1", "/topic/a").expect("room");
    }
    // All of them connect before the first of them has subscribed.
    let mut late: Vec<Session> = (0..5).map(|_| open(&server, OTHER)).collect();
    for session in &mut late {
        subscribe(session, "1", "/topic/a").expect("it is still there");
    }
}

#[test]
fn a_client_that_has_to_leave_and_does_not_is_not_waited_for() {
    let limits = "connections = 8\nstranger-time = '1ms'\nlinger = '10m'";
    let (_folder, server) = server("1", "", limits);
    let start = Instant::now();
    // None of them reads, or answers the Close, or ends.
    let mut deaf = Vec::new();
    while deaf.len() < 20 {
        deaf.extend(Session::over(&server, server.connect_from(ONE), ""));
        assert!(start.elapsed() < PATIENCE, "{} have come in", deaf.len());
    }
}

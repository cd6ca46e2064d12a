//! `[[allow]]`: what it forbids is forbidden, on every path.

use crate::client::{Frame, Session};
use crate::server::{Folder, Server};
use crate::stalled::{Client, House};
use ringpush::time::Millis;

const OPEN: &str = "[auth]\nmethods = ['query']\n\
     [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
     [[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'\n";

/// `destination` is for `users` only.
fn kept(action: &str, destination: &str, users: &str) -> String {
    format!("[[allow]]\naction = '{action}'\ndestination = '{destination}'\nusers = {users}\n")
}

fn server(rules: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let server = Server::with(&folder.write("config.toml", &format!("{OPEN}{rules}")));
    (folder, server)
}

/// A push that this many sessions of the user hear.
fn push(server: &Server, user: &str, destination: &str, sessions: u32) {
    let target = format!("/sendMsToUser?userId={user}&subscribePath={destination}");
    let answer = format!("{{\"code\":0,\"sessions\":{sessions}}}");
    assert_eq!(server.get(&target), (200, answer), "{user} {destination}");
}

/// The session's SEND is answered with the end of the session.
fn is_refused(mut session: Session, destination: &str) {
    session.asks(destination, "", "r");
    ends(session, destination, Some("r"));
}

fn ends(mut session: Session, destination: &str, receipt: Option<&str>) {
    let error = session.receives();
    assert_eq!(error.command, "ERROR", "{error:?}");
    assert_eq!(error.header("message"), Some("not permitted"));
    assert_eq!(error.header("receipt-id"), receipt);
    if receipt.is_none() {
        assert!(error.body.contains(destination), "{error:?}");
    }
    assert_eq!(session.hears_close(), 1008);
}

#[test]
fn a_reload_ends_sessions_with_a_subscription_that_is_no_longer_allowed() {
    let (folder, server) = server("");
    let has = |user, destinations: &[&str]| Session::subscribed(&server, user, destinations);
    // Until each shard has a session: when both have ended, both shards have the new rules.
    let mut exact = Vec::new();
    loop {
        exact.push(has(Some("6"), &["/topic/open", "/topic/secret"]));
        let (_, who) = server.get("/api/users/6");
        if ["00", "01"].iter().all(|shard| who.contains(&format!("\"session\":\"{shard}"))) {
            break;
        }
    }
    let ended = exact.len() as u64 + 3;
    let own = has(Some("7"), &["/user/queue/secret"]);
    let nobody = has(None, &["/user/queue/secret"]);
    let pattern = has(Some("7"), &["/topic/all/*"]);
    let mut stays = [
        has(Some("boss"), &["/topic/secret", "/topic/open"]),
        has(Some("7"), &["/topic/*"]),
        has(None, &["/topic/open"]),
    ];
    let mut own_pattern = has(Some("7"), &["/user/queue/*"]);

    let boss = "['boss']";
    let rules = kept("subscribe", "/topic/secret", boss)
        + &kept("subscribe", "/user/queue/secret", boss)
        + &kept("subscribe", "/topic/all/**", boss);
    folder.write("config.toml", &format!("{OPEN}{rules}"));
    server.signal("HUP");
    for session in exact {
        ends(session, "/topic/secret", None);
    }
    ends(own, "/user/queue/secret", None);
    ends(nobody, "/user/queue/secret", None);
    ends(pattern, "/topic/all/*", None);
    assert_eq!(
        server.metric("ringpush_refused_total{reason=\"broker_no_longer_permitted\"}"),
        ended
    );

    let [boss, seven, nobody] = &mut stays;
    seven.sends("SEND", &[("destination", "/topic/secret")], "kept");
    seven.sends("SEND", &[("destination", "/topic/open")], "open");
    assert_eq!(boss.hears("/topic/secret"), "kept");
    assert_eq!(boss.hears("/topic/open"), "open");
    assert_eq!(seven.hears("/topic/open"), "open");
    assert_eq!(nobody.hears("/topic/open"), "open");
    push(&server, "7", "/queue/secret", 0);
    push(&server, "7", "/queue/sub", 1);
    own_pattern.hears("/user/queue/sub");

    // A reload that changes no rule ends nobody.
    folder.write("config.toml", &format!("{OPEN}{rules}[hooks]\nqueue = 7\n"));
    server.signal("HUP");
    server.logs("reloaded changed=1");
    seven.sends("SEND", &[("destination", "/topic/open")], "again");
    assert_eq!(boss.hears("/topic/open"), "again");
}

/// A session whose subscription a reload has forbidden while the RECEIPT of its SEND to
/// `destination` was outstanding.
fn owed_a_receipt(destination: &str, answer_time: Millis) -> (House, Client) {
    let mut house = House::new(|limits| limits.answer_time = answer_time);
    let mut client = house.session();
    client.says_frame("SUBSCRIBE\nid:1\ndestination:/topic/secret\nreceipt:has\n\n\0");
    client.says_frame("SUBSCRIBE\nid:2\ndestination:/user/queue/own\nreceipt:own\n\n\0");
    house.until_with_home("subscriptions", |_| {
        client.hears("receipt-id:has\n") && client.hears("receipt-id:own\n")
    });
    house.answers_hook("/queue/own");
    house.until("MESSAGE", |_| client.hears("MESSAGE\n"));
    let frames = house.metrics().frames_received_total.value();
    client.says_frame(&format!("SEND\ndestination:{destination}\nreceipt:owed\n\nx\0"));
    house.until("SEND", |house| house.metrics().frames_received_total.value() > frames);
    let rules = kept("subscribe", "/topic/secret", "['boss']");
    house.reloads(&(rules + &kept("subscribe", "/user/queue/own", "['boss']")));
    assert!(!client.hears("ERROR\n"), "its RECEIPT comes first");
    (house, client)
}

#[test]
fn a_reload_gives_outstanding_receipts_before_it_ends_a_session() {
    let (mut house, mut client) = owed_a_receipt("/topic/a", Millis::seconds(600));
    house.until_with_home("ERROR", |_| client.hears("ERROR\n"));
    house.until("Close", |_| client.hears(1008u16.to_be_bytes()));
    assert_eq!(
        (client.count("receipt-id:owed\n"), client.count("message:not permitted\n")),
        (1, 1)
    );
    assert!(client.place("receipt-id:owed\n") < client.place("ERROR\n"));
}

#[test]
fn what_a_reload_forbids_is_not_received_while_receipts_are_outstanding() {
    // Nothing answers the hook.
    let (mut house, mut client) = owed_a_receipt("/ws/call", Millis::seconds(600));
    let mut other = house.session();
    house.answers_hook("/queue/own");
    other.says_frame("SEND\ndestination:/topic/secret\nreceipt:sent\n\nx\0");
    house.until_with_home("RECEIPT", |_| other.hears("receipt-id:sent\n"));
    client.reads();
    assert_eq!(
        (client.count("MESSAGE\n"), client.count("ERROR\n")),
        (1, 0),
        "only what was before"
    );
}

#[test]
fn a_reload_ends_a_session_in_time_even_if_receipts_are_outstanding() {
    let (mut house, mut client) = owed_a_receipt("/topic/a", Millis(300));
    house.until("ERROR", |_| client.hears("no answer in time\n"));
    assert_eq!((client.count("ERROR\n"), client.count("receipt-id:owed\n")), (1, 1));
    house.until("Close", |_| client.hears(1011u16.to_be_bytes()));
}

#[test]
fn a_pattern_over_own_destinations_receives_what_the_rules_allow() {
    let own = kept("subscribe", "/user/queue/desk/{user}", "'*'");
    let (_folder, server) = server(&(kept("subscribe", "/user/queue/secret", "['boss']") + &own));
    let mut seven = Session::subscribed(&server, Some("7"), &["/user/queue/*", "/user/queue/*/*"]);
    let mut boss = Session::subscribed(&server, Some("boss"), &["/user/queue/*"]);
    for (user, secret) in [("7", 0), ("boss", 1)] {
        push(&server, user, "/queue/secret", secret);
        push(&server, user, "/queue/sub", 1);
    }
    seven.hears("/user/queue/sub");
    boss.hears("/user/queue/secret");
    boss.hears("/user/queue/sub");
    push(&server, "7", "/queue/desk/8", 0);
    push(&server, "7", "/queue/desk/7", 1);
    seven.hears("/user/queue/desk/7");
    // A SEND to the own user does not pass through the broker's home.
    seven.asks("/user/7/queue/secret", "", "r");
    assert_eq!(seven.receives().command, "RECEIPT");
    seven.asks("/user/7/queue/sub", "", "r");
    seven.hears("/user/queue/sub");
    assert_eq!(seven.receives().command, "RECEIPT");
    // By its own name it is still refused.
    let headers = [("id", "x"), ("destination", "/user/queue/secret"), ("receipt", "r")];
    seven.sends("SUBSCRIBE", &headers, "");
    ends(seven, "/user/queue/secret", Some("r"));
}

#[test]
fn a_user_is_the_same_in_every_spelling() {
    let own = kept("send", "/user/{user}/**", "'*'");
    for rules in ["", own.as_str()] {
        let (_folder, server) = server(rules);
        let mut slash = Session::subscribed(&server, Some("a/b"), &["/user/queue/sub"]);
        for destination in ["/user/a%2Fb/queue/sub", "/user/a%2fb/queue/sub"] {
            is_refused(Session::open(&server, Some("a%2Fb")), destination);
            slash.sends("SEND", &[("destination", destination)], "own");
            assert_eq!(slash.hears("/user/queue/sub"), "own");
        }
        let mut percent = Session::subscribed(&server, Some("a%2Fb"), &["/user/queue/sub"]);
        percent.sends("SEND", &[("destination", "/user/a%252Fb/queue/sub")], "own");
        assert_eq!(percent.hears("/user/queue/sub"), "own");
        is_refused(slash, "/user/a%252Fb/queue/sub");
        let (_, who) = server.get("/api/users/a%252Fb");
        assert!(who.contains("\"user\":\"a%2Fb\",\"status\":\"ON_LINE\""), "{who}");
        push(&server, "a%252Fb", "/queue/sub", 1);
        assert!(percent.hears("/user/queue/sub").contains("TEST"));
    }
    // A rule about a user applies to every spelling of the name.
    let rules = kept("send", "/user/a%2Fb/**", "['boss']") + &kept("send", "/user/**", "'*'");
    let (_folder, server) = server(&rules);
    for destination in ["/user/a%2Fb/queue/sub", "/user/a%2fb/queue/sub"] {
        is_refused(Session::open(&server, Some("7")), destination);
    }
    let mut boss = Session::open(&server, Some("boss"));
    boss.asks("/user/a%2fb/queue/sub", "", "r");
    assert_eq!(boss.receives().command, "RECEIPT");
}

#[test]
fn a_pattern_that_gives_up_allows_nothing() {
    let hard = format!("/topic/*{}b*", "a?".repeat(10));
    let endless = format!("/topic/{}", "a".repeat(1_000));
    let gave_up = "ringpush_refused_total{reason=\"broker_pattern_gave_up\"}";

    // The rule comes first; the rule that allows everybody comes after it.
    let folder = Folder::new();
    let rules = OPEN.replace("[[allow]]", &(kept("send", &hard, "['boss']") + "[[allow]]"));
    let server = Server::with(&folder.write("config.toml", &rules));
    is_refused(Session::open(&server, Some("7")), &endless);
    assert_eq!(server.metric(gave_up), 1);

    let (_folder, server) = self::server(&kept("subscribe", &hard, "['boss']"));
    let mut listener = Session::subscribed(&server, Some("7"), &["/topic/**"]);
    let mut sender = Session::open(&server, Some("8"));
    for destination in [&endless, "/topic/x"] {
        sender.sends("SEND", &[("destination", destination)], "");
    }
    listener.hears("/topic/x");
    assert_eq!(server.metric(gave_up), 1);
    listener.sends("SUBSCRIBE", &[("id", "e"), ("destination", &endless)], "");
    let Frame { command, .. } = listener.receives();
    assert_eq!((command.as_str(), listener.hears_close()), ("ERROR", 1008));
    assert_eq!(server.metric(gave_up), 2);

    // A subscription whose comparison gives up receives nothing; the others do.
    let (_folder, server) = self::server("");
    let mut hard = Session::subscribed(&server, Some("7"), &[&hard]);
    let mut easy = Session::subscribed(&server, Some("7"), &["/topic/**"]);
    let short = format!("{}b", &endless[..40]);
    for destination in [&endless, &short] {
        easy.sends("SEND", &[("destination", destination)], "");
        easy.hears(destination);
    }
    hard.hears(&short);
    assert_eq!(server.metric(gave_up), 1);
}

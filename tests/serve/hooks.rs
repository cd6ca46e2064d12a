//! Hooks of application destinations.

use crate::client::Session;
use crate::hook::Hook;
use crate::server::{Folder, Server, ringpush};

/// The application with `/ws/call` at a hook.
fn settings(url: &str, hooks: &str) -> String {
    format!(
        "[auth]\nmethods = ['query']\n[hooks]\n{hooks}\n\
         [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
         [[application]]\ndestination = '/call'\nhook = '{url}'\nto-user = '/queue/sub'\n\
         [[application]]\ndestination = '/one'\nhook = '{url}'\nto-user = '/queue/sub'\n\
         broadcast = false\n\
         [[application]]\ndestination = '/room/{{id}}'\nhook = '{url}'\n\
         to = ['/topic/room/{{id}}']\n"
    )
}

fn serve(hook: &Hook, hooks: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let config = folder.write("config.toml", &settings(&hook.url, hooks));
    let server = Server::with(&config);
    (folder, server)
}

const QUEUES: [&str; 2] = ["/user/queue/sub", "/user/queue/errors"];

#[test]
fn a_call_asks_the_hook_and_the_answer_reaches_the_right_sessions() {
    let hook = Hook::start();
    let (_folder, server) = serve(&hook, "");
    let mut asking = Session::subscribed(&server, Some("7"), &QUEUES);
    let mut second = Session::subscribed(&server, Some("7"), &QUEUES);
    let headers = [("destination", "/ws/call"), ("content-type", "application/json")];
    asking.sends("SEND", &headers, "{\"to\":\"+86\"}");
    let request = hook.is_asked();
    assert!(request.head.starts_with("POST /call HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, "{\"to\":\"+86\"}");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-ringpush-user"), Some("7"));
    assert_eq!(request.header("x-ringpush-destination"), Some("/ws/call"));
    assert_eq!(request.header("x-ringpush-session").map(str::len), Some(16));
    request.answer(200, "{\"callId\":\"c-1\"}");
    for session in [&mut asking, &mut second] {
        assert_eq!(session.hears("/user/queue/sub"), "{\"callId\":\"c-1\"}");
    }

    asking.sends("SEND", &[("destination", "/ws/one")], "");
    hook.is_asked().answer(200, "only one");
    assert_eq!(asking.hears("/user/queue/sub"), "only one");
    second.sends("SEND", &[("destination", "/ws/call")], "");
    hook.is_asked().answer(200, "all");
    assert_eq!(second.hears("/user/queue/sub"), "all", "no reply of the other session");
}

#[test]
fn anonymous_senders_and_topics_get_their_answers_and_an_empty_one_is_none() {
    let hook = Hook::start();
    let (_folder, server) = serve(&hook, "");
    let mut other = Session::subscribed(&server, None, &["/user/queue/sub", "/topic/room/5"]);
    let mut session = Session::subscribed(&server, None, &["/user/queue/sub"]);
    session.sends("SEND", &[("destination", "/ws/call")], "empty");
    let request = hook.is_asked();
    assert_eq!(request.header("x-ringpush-user"), None);
    request.answer(204, "");
    session.sends("SEND", &[("destination", "/ws/call")], "full");
    hook.is_asked().answer(200, "full");
    assert_eq!(session.hears("/user/queue/sub"), "full", "the empty answer is no reply");
    session.sends("SEND", &[("destination", "/ws/room/5")], "x");
    hook.is_asked().answer(200, "to the room");
    assert_eq!(other.hears("/topic/room/5"), "to the room", "and not the other one's reply");
}

#[test]
fn errors_are_reported_to_the_requesting_session_only() {
    let hook = Hook::start();
    let (_folder, server) = serve(&hook, "timeout = '200ms'");
    let mut asking = Session::subscribed(&server, Some("7"), &QUEUES);
    let mut second = Session::subscribed(&server, Some("7"), &QUEUES);
    let error = |session: &mut Session| {
        let body = session.hears("/user/queue/errors");
        assert!(body.contains("\"destination\":\"/ws/call\""), "{body}");
        body
    };
    asking.sends("SEND", &[("destination", "/ws/call")], "");
    hook.is_asked().answer(500, "no");
    let body = error(&mut asking);
    assert!(body.contains("\"code\":502") && body.contains("status 500"), "{body}");
    // No answer until the server has given up.
    asking.sends("SEND", &[("destination", "/ws/call")], "");
    let silent = hook.is_asked();
    assert!(error(&mut asking).contains("\"code\":504"));
    drop(silent);
    asking.sends("SEND", &[("destination", "/ws/call")], "");
    hook.is_asked().answer(200, &"x".repeat(65_537));
    let body = error(&mut asking);
    assert!(body.contains("\"code\":502") && body.contains("too large"), "{body}");
    asking.sends("SEND", &[("destination", "/ws/call")], "");
    drop(hook.is_asked());
    assert!(error(&mut asking).contains("\"code\":502"));
    // The other session has received nothing of it.
    second.sends("SEND", &[("destination", "/ws/call")], "");
    hook.is_asked().answer(200, "fine");
    assert_eq!(second.hears("/user/queue/sub"), "fine");
    assert!(server.logs("a hook call failed").contains("status 500"));
}

#[test]
fn a_receipt_says_that_the_call_is_accepted_and_past_the_queue_it_is_refused() {
    let hook = Hook::start();
    let (_folder, server) = serve(&hook, "concurrent = 1\nqueue = 1");
    let mut sessions: Vec<Session> =
        ["1", "2", "3"].map(|user| Session::subscribed(&server, Some(user), &QUEUES)).into();
    sessions[0].asks("/ws/call", "first", "r");
    assert_eq!(sessions[0].receives().header("receipt-id"), Some("r"));
    let first = hook.is_asked();
    sessions[1].asks("/ws/call", "second", "r");
    assert_eq!(sessions[1].receives().header("receipt-id"), Some("r"));
    assert!(hook.is_idle(), "one call at a time");
    sessions[2].asks("/ws/call", "third", "r");
    let refused = sessions[2].hears("/user/queue/errors");
    assert!(refused.contains("\"code\":503") && refused.contains("hooks.queue"), "{refused}");
    assert_eq!(sessions[2].receives().header("receipt-id"), Some("r"));
    first.answer(200, "one");
    assert_eq!(sessions[0].hears("/user/queue/sub"), "one");
    let second = hook.is_asked();
    assert_eq!(second.body, "second");
    second.answer(200, "two");
    assert_eq!(sessions[1].hears("/user/queue/sub"), "two");
    let (_, metrics) = server.get("/metrics");
    let refused = metrics.lines().filter(|line| line.starts_with("ringpush_hooks_refused_total{"));
    let count: u32 =
        refused.map(|line| line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)).sum();
    assert_eq!(count, 1);
}

#[test]
fn without_a_hook_the_sender_is_told_which_key_to_set() {
    let folder = Folder::new();
    let text = settings("", "").replace("hook = ''\n", "");
    let server = Server::with(&folder.write("config.toml", &text));
    let mut session = Session::subscribed(&server, Some("7"), &QUEUES);
    session.sends("SEND", &[("destination", "/ws/call")], "{}");
    let told: serde_json::Value =
        serde_json::from_str(&session.hears("/user/queue/errors")).expect("it is JSON");
    let text = "set hook in the [[application]] with destination /call";
    assert_eq!(told, serde_json::json!({ "code": 501, "msg": text }));
}

#[test]
fn a_dead_hook_writes_one_line_a_second_and_counts_the_others() {
    // Nothing listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/call", listener.local_addr().expect("bound"));
    drop(listener);
    let folder = Folder::new();
    let log = folder.file("log");
    let config = folder.write("config.toml", &settings(&url, ""));
    let [config, log_name] =
        [&config, &log].map(|path| path.to_str().expect("a path of the tests is text"));
    let place = ["--listen", "127.0.0.1:0", "--shards", "1", "--log", log_name];
    let server = Server::start(ringpush(&[&["serve", "--config", config][..], &place].concat()));
    let mut session = Session::subscribed(&server, None, &["/user/queue/errors"]);
    // Destinations that the sender chooses all belong to one entry of the configuration.
    let (calls, begun) = (200, std::time::Instant::now());
    for number in 0..calls {
        session.sends("SEND", &[("destination", &format!("/ws/room/{number}"))], "");
        assert!(session.hears("/user/queue/errors").contains("502"));
    }
    server.signal("TERM");
    assert!(server.ends().success());
    let text = std::fs::read_to_string(&log).expect("the log is there");
    let of_hooks = text.lines().filter(|line| line.contains("a hook call failed"));
    let (written, counts): (Vec<&str>, Vec<&str>) =
        of_hooks.partition(|line| !line.contains("left out"));
    let count = |line: &&str| -> usize {
        let count = line.split_once("left-out=").or(line.split_once("count="));
        count.map_or(0, |(_, count)| count.parse().expect("a number"))
    };
    let left_out: usize = written.iter().chain(&counts).map(count).sum();
    assert_eq!(written.len() + left_out, calls, "{text}");
    // One line per second; one more may report the count that the last one left out.
    let seconds = begun.elapsed().as_secs() as usize;
    assert!(left_out > 0 && written.len() + counts.len() <= 2 * seconds + 2, "{text}");
    assert!(counts.iter().all(|line| line.contains("place=/room/{id} ")), "{text}");
}

//! Shutdown, and errors at start.

use crate::client::Session;
use crate::hook::{Hook, Request};
use crate::server::{Folder, Server, run};
use std::time::{Duration, Instant};

#[test]
fn sigterm_closes_every_session_with_1001_and_exits_0() {
    for signal in ["TERM", "INT"] {
        let server = Server::embedded();
        let mut sessions: Vec<Session> =
            (0..10).map(|_| Session::open(&server, Some("7"))).collect();
        sessions.push(Session::subscribed(&server, None, &["/topic/all", "/user/queue/sub"]));
        server.signal(signal);
        for session in sessions {
            assert_eq!(session.hears_close(), 1001);
        }
        assert_eq!(server.ends().code(), Some(0));
    }
}

fn with_hook(hook: &Hook) -> (Folder, Server) {
    let folder = Folder::new();
    let config = format!(
        "[[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
         [[application]]\ndestination = '/call'\nhook = '{}'\nto-user = '/queue/sub'\n\
         [hooks]\nconcurrent = 1\ntimeout = '1h'\n[limits]\ndrain-time = '1h'\n",
        hook.url
    );
    let server = Server::with(&folder.write("config.toml", &config));
    (folder, server)
}

#[test]
fn accepted_hook_calls_are_made_before_the_end() {
    let hook = Hook::start();
    let (_folder, server) = with_hook(&hook);
    let mut sessions = [Session::open(&server, None), Session::open(&server, None)];
    for session in &mut sessions {
        session.asks("/ws/call", "x", "r");
        assert_eq!(session.receives().command, "RECEIPT");
    }
    let first = hook.is_asked();
    server.signal("TERM");
    for session in sessions {
        assert_eq!(session.hears_close(), 1001);
    }
    first.answer(200, "");
    hook.is_asked().answer(200, "");
    assert_eq!(server.ends().code(), Some(0));
}

/// A second signal so long after the first ends the server at once.
const AGAIN: Duration = Duration::from_secs(1);

/// A server that is ending, and waits for a hook.
struct Ending {
    server: Server,
    asked: Request,
    /// Before it was told to end.
    since: Instant,
    /// When it had said that it ends.
    ending: Instant,
    _hook: (Hook, Folder),
}

fn ending() -> Ending {
    let hook = Hook::start();
    let (folder, server) = with_hook(&hook);
    let mut session = Session::open(&server, None);
    session.asks("/ws/call", "x", "r");
    assert_eq!(session.receives().command, "RECEIPT");
    let asked = hook.is_asked();
    let since = Instant::now();
    server.signal("TERM");
    server.logs(" INFO  ending ");
    Ending { server, asked, since, ending: Instant::now(), _hook: (hook, folder) }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // Neither the call nor the drain is over before the test gives up waiting.
    let Ending { server, asked: _unanswered, ending, _hook, .. } = ending();
    loop {
        let is_late = ending.elapsed() >= AGAIN;
        server.signal("TERM");
        // One that comes within a second is answered by a line.
        let said = server.may_log(" INFO  ending already");
        if said.is_none() {
            break;
        }
        assert!(!is_late, "a signal after more than a second has ended nothing");
    }
    assert_eq!(server.ends().code(), Some(1));
}

#[test]
fn a_second_signal_within_a_second_does_not_cut_the_drain() {
    for signal in ["TERM", "INT"] {
        loop {
            let Ending { server, asked, since, _hook, .. } = ending();
            server.signal(signal);
            let said = server.may_log(" INFO  ending already");
            // A machine so slow that the second was over is asked again.
            if said.is_none() && since.elapsed() >= AGAIN {
                continue;
            }
            assert!(said.is_some(), "it has ended");
            asked.answer(200, "");
            assert_eq!(server.ends().code(), Some(0));
            break;
        }
    }
}

#[test]
fn bad_settings_are_one_line_and_exit_2() {
    let folder = Folder::new();
    let config = folder.write("config.toml", "[limits]\nsend-bufer = 1\n");
    let config = config.to_str().expect("a path of the tests is text");
    for arguments in [
        &["serve", "--config", config][..],
        &["serve", "--config", "/nowhere/at/all.toml"],
        &["serve", "--listen", "here"],
        &["serve", "--shards", "64"],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
    }
    assert!(run(&["serve", "--config", config]).2.contains("limits.send-bufer"));
}

#[test]
fn an_address_that_cannot_be_bound_is_exit_3() {
    let server = Server::embedded();
    let address = server.address.to_string();
    let (code, out, err) = run(&["serve", "--listen", &address]);
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    let expected = format!("ringpush: cannot listen on {address}: Address already in use");
    assert!(err.starts_with(&expected) && err.lines().count() == 1, "{err}");
    let (code, _, err) = run(&["serve", "--listen", "127.0.0.1:0", "--log", "/nowhere/at/all"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("cannot open the log file /nowhere/at/all"), "{err}");
}

#[test]
fn every_listener_is_announced() {
    let folder = Folder::new();
    let config =
        "listen.address = ['127.0.0.1:0', '[::1]:0']\nlisten.api-address = '127.0.0.1:0'\n";
    let config = folder.write("config.toml", config);
    let config = config.to_str().expect("a path of the tests is text");
    let mut command = crate::server::ringpush(&["serve", "--config", config, "--shards", "2"]);
    command.env("RINGPUSH_ENGINE__PIN", "true");
    let server = Server::start(command);
    assert!(server.says().starts_with("listening on http://[::1]:"));
    let api = server.says();
    let address = api.strip_prefix("listening on http://").expect("a listener");
    assert!(address.ends_with(" for the API and the page"), "{api}");
    server.signal("TERM");
    assert!(server.ends().success());
}

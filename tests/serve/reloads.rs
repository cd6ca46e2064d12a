//! SIGHUP.

use crate::client::Session;
use crate::server::{Folder, Server, ringpush};

fn settings(rest: &str) -> String {
    format!(
        "[auth]\nmethods = ['query']\n\
         [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n{rest}"
    )
}

const ALLOW: &str = "[[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'\n";

/// Whether a new session may SEND to a topic: its receipt, or an ERROR.
fn may_send(server: &Server) -> bool {
    let mut session = Session::open(server, Some("7"));
    session.asks("/topic/a", "x", "r");
    match session.receives().command.as_str() {
        "RECEIPT" => true,
        "ERROR" => {
            assert_eq!(session.hears_close(), 1008);
            false
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_changed_rule_applies_to_old_and_new_sessions_and_a_bad_file_changes_nothing() {
    let folder = Folder::new();
    let config = folder.write("config.toml", &settings(""));
    let server = Server::with(&config);
    assert!(!may_send(&server));
    let mut old = Session::subscribed(&server, Some("8"), &["/topic/a"]);

    let more = format!("{ALLOW}[engine]\npin = true\n[limits]\nsegment-bytes = 1000000\n");
    folder.write("config.toml", &settings(&more));
    server.signal("HUP");
    assert!(server.logs("changed").contains("allow[0].action"));
    assert!(server.logs("takes effect after a restart").contains("engine.pin"));
    assert!(server.logs("takes effect after a restart").contains("limits.segment-bytes"));
    server.logs("reloaded");
    // Each try is a new session; the shards get the new rules within their next turns.
    while !may_send(&server) {}
    assert_eq!(old.hears("/topic/a"), "x");
    old.asks("/topic/a", "y", "r");
    let frames = [old.receives(), old.receives()];
    assert!(frames.iter().any(|frame| frame.command == "RECEIPT"), "{frames:?}");

    folder.write("config.toml", &settings("[limits]\nsend-buffer = 'much'"));
    server.signal("HUP");
    let line = server.logs("not reloaded");
    assert!(line.contains("limits.send-buffer") && line.contains("much"), "{line}");
    assert!(may_send(&server), "the old configuration stays");
}

#[test]
fn what_does_not_fit_the_bounds_that_run_changes_nothing() {
    let folder = Folder::new();
    let server = Server::with(&folder.write("config.toml", &settings("")));
    // Good at a start; until then `send-bytes` stays 65,536, which is more than this `send-buffer`.
    let more = format!("{ALLOW}[limits]\nsend-bytes = 1000\nsend-buffer = 1000\n");
    folder.write("config.toml", &settings(&more));
    server.signal("HUP");
    let line = server.logs("reloaded");
    assert!(line.contains("not reloaded, the configuration stays"), "{line}");
    assert!(line.contains("limits.send-buffer") && line.contains("need a restart"), "{line}");
    assert!(!may_send(&server), "the rule that came with it does not apply");
}

#[test]
fn the_embedded_application_is_the_same_after_a_reload() {
    let server = Server::embedded();
    server.signal("HUP");
    assert!(server.logs("reloaded").ends_with("changed=0"));
}

#[test]
fn the_log_file_is_opened_again_under_its_name() {
    for signal in ["HUP", "USR1"] {
        opens_the_log_again(signal);
    }
}

fn opens_the_log_again(signal: &str) {
    let folder = Folder::new();
    let (log, rotated) = (folder.file("log"), folder.file("log.1"));
    let name = log.to_str().expect("a path of the tests is text");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--log", name];
    let server = Server::start(ringpush(&arguments));
    std::fs::rename(&log, &rotated).expect("the log is there");
    server.signal(signal);
    // Nobody waits for this one, and it ends nothing.
    server.signal("USR2");
    server.signal("TERM");
    assert!(server.ends().success());
    let read = |path| std::fs::read_to_string(path).expect("the file is there");
    let (before, after) = (read(&rotated), read(&log));
    assert!(before.contains(" INFO  serving shards=1 "), "{before}");
    assert!(after.contains(" INFO  ended"), "{after}");
    assert!(!before.contains(" INFO  ended"), "{before}");
    assert_eq!(after.contains(" INFO  reloaded"), signal == "HUP", "{after}");
}

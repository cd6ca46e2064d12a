//! User memory of an idle session.
//!
//! (RSS of the server with 10 000 sessions - RSS of the same binary with `connections = 16`) /
//! 10 000. Each session has its own user, one subscription, and heart-beats in both directions; it
//! is measured after every session has had one. Kernel memory of sockets is not included.
//! Figures of the release build: `cargo test --release --test whole memory -- --nocapture`.

use super::browser::Browser;
use super::server::Server;
use super::{CROWD, alone};

/// What an idle session may cost, in bytes.
const MOST: u64 = 1024;

const CONFIG: &str = r#"
[[endpoint]]
path = "/stomp"
protocol = "stomp"

[demo]
enabled = true

[auth]
methods = ["query"]
query = { name = "userId" }

[broker]
heartbeat = ["10s", "10s"]
"#;

/// Resident memory of a server, in bytes.
fn resident(server: &Server) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", server.id());
    let text = std::fs::read_to_string(path).expect("the process of our child");
    let rest = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("it has that line");
    let number = rest.trim().trim_end_matches("kB");
    number.trim().parse::<u64>().expect("a count of kB") * 1024
}

#[test]
fn an_idle_session_costs_less_than_a_kibibyte() {
    let _alone = alone();
    let bound = format!("{CONFIG}\n[limits]\nconnections = 16\n");
    let server = Server::start("memory-16", 1, &bound);
    let few = open(&server, 8);
    let base = resident(&server);
    drop((few, server));

    let server = Server::start("memory", 1, CONFIG);
    let mut crowd = open(&server, CROWD);
    // Each sends a heart-beat and waits for one.
    crowd.iter_mut().for_each(Browser::beat);
    crowd.iter_mut().for_each(Browser::expect_beat);
    let full = resident(&server);
    let each = (full - base) / CROWD as u64;
    println!("with 16 connections at most: {} KiB", base / 1024);
    println!("with {CROWD} sessions: {} KiB", full / 1024);
    println!("a session: {each} bytes, {MOST} allowed");
    if let Ok(path) = std::env::var("SMAPS") {
        std::fs::copy(format!("/proc/{}/smaps", server.id()), path).expect("it can be written");
    }
    assert!(each <= MOST, "an idle session costs {each} bytes");
}

/// Sessions with their subscription, each of a user of its own.
fn open(server: &Server, count: usize) -> Vec<Browser> {
    let path = |user: usize| format!("/stomp?userId=agent{user}");
    let mut all: Vec<_> =
        (0..count).map(|user| Browser::open(server.address, &path(user))).collect();
    all.iter_mut().for_each(|browser| browser.connect("1.2", "10000,10000"));
    for browser in &mut all {
        browser.connected();
        browser.subscribe("sub-0", "/user/queue/sub");
        browser.flush();
    }
    all.iter_mut().for_each(|browser| browser.receipt("sub-0"));
    all
}

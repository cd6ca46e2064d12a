//! Connections move to the shard that has fewest.

use crate::client::Session;
use crate::server::{Server, ringpush};

/// The value of a shard's line in the metrics.
fn of_shard(text: &str, name: &str, shard: usize) -> u64 {
    let start = format!("{name}{{shard=\"{shard}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.expect("each shard has its line").parse().expect("a number")
}

#[test]
fn connections_are_spread_evenly_over_the_shards() {
    const SESSIONS: usize = 40;
    let mut command = ringpush(&["serve", "--listen", "127.0.0.1:0", "--shards", "2"]);
    command.env("RINGPUSH_LIMITS__MOVE_LEAD", "0");
    let server = Server::start(command);
    let mut sessions: Vec<Session> = (0..SESSIONS)
        .map(|_| Session::subscribed(&server, Some("7"), &["/user/queue/sub"]))
        .collect();
    let (_, text) = server.get("/metrics");
    let connections = [0, 1].map(|shard| of_shard(&text, "ringpush_connections", shard));
    let (least, most) = (connections[0].min(connections[1]), connections[0].max(connections[1]));
    // A quarter more than the other one may have, and those that came with the requests.
    assert!(least > 0 && most <= least + least / 4 + 3, "{connections:?}");
    // The first one moved: the other shard had none.
    let moved: u64 =
        [0, 1].map(|shard| of_shard(&text, "ringpush_moved_total", shard)).iter().sum();
    assert!(moved > 0);
    // They are sessions like any other.
    assert_eq!(server.get("/sendMsToUser?userId=7&subscribePath=/queue/sub").0, 200);
    for session in &mut sessions {
        assert!(session.hears("/user/queue/sub").contains("\"businessType\":\"TEST\""));
    }
    server.signal("TERM");
    for session in sessions {
        assert_eq!(session.hears_close(), 1001);
    }
    assert!(server.ends().success());
}

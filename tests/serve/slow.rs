//! Clients that do not read, under each policy, on real sockets; and batches.

use crate::client::{Frame, Session};
use crate::server::{Folder, Server, run};

/// Bytes of a message; together far more than the kernel buffers for one client.
const BODY: usize = 16 * 1024;
/// Messages to a client that does not read: more than all buffers have room for.
const MESSAGES: usize = 1_500;

fn settings(more: &str) -> String {
    format!(
        "{more}\n[[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
         [[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'\n"
    )
}

fn server(more: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let server = Server::with(&folder.write("config.toml", &settings(more)));
    (folder, server)
}

/// Publishes to `/topic/a` and `/topic/b` alternately, to a reader that keeps up.
fn flood(server: &Server) {
    let mut reader = Session::subscribed(server, None, &["/topic/a", "/topic/b"]);
    for number in 0..MESSAGES {
        let destination = if number % 2 == 0 { "/topic/a" } else { "/topic/b" };
        let body = format!("{number} {}", "x".repeat(BODY));
        reader.sends("SEND", &[("destination", destination)], &body);
        assert_eq!(number_of(&reader.hears(destination)), number, "nobody else loses any");
    }
}

fn number_of(body: &str) -> usize {
    body.split(' ').next().and_then(|text| text.parse().ok()).expect("it begins with a number")
}

/// Reads until the receipt of its own frame; returns the received numbers by destination.
fn reads_on(mut slow: Session) -> Vec<(String, usize)> {
    slow.sends("ACK", &[("id", "1"), ("receipt", "here")], "");
    let mut seen = Vec::new();
    loop {
        let frame: Frame = slow.receives();
        if frame.command == "RECEIPT" {
            return seen;
        }
        let destination = frame.header("destination").expect("a MESSAGE has it").to_owned();
        seen.push((destination, number_of(&frame.body)));
    }
}

#[test]
fn a_slow_reader_loses_its_oldest_messages_and_stays() {
    let (_folder, server) = server("limits.slow-consumer = 'drop-oldest'");
    let slow = Session::subscribed(&server, None, &["/topic/a", "/topic/b"]);
    flood(&server);
    let dropped = server.metric("ringpush_dropped_total");
    let seen = reads_on(slow);
    let numbers: Vec<usize> = seen.iter().map(|(_, number)| *number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
    assert_eq!(numbers.last(), Some(&(MESSAGES - 1)), "the newest is there");
    assert_eq!(MESSAGES - numbers.len(), dropped as usize, "what is missing was counted");
    assert!(dropped > 0);
    assert_eq!(server.metric("ringpush_slow_consumers_total"), 0);
}

#[test]
fn a_slow_reader_gets_the_newest_of_each_destination_and_stays() {
    let rule = "[[slow]]\ndestination = '/topic/**'\npolicy = 'conflate'\n";
    let (_folder, server) = server(rule);
    let slow = Session::subscribed(&server, None, &["/topic/a", "/topic/b"]);
    flood(&server);
    assert!(server.metric("ringpush_dropped_total") > 0);
    let seen = reads_on(slow);
    for (destination, newest) in [("/topic/a", MESSAGES - 2), ("/topic/b", MESSAGES - 1)] {
        let own = seen.iter().filter(|(of, _)| of == destination).map(|(_, number)| *number);
        let numbers: Vec<usize> = own.collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
        assert_eq!(numbers.last(), Some(&newest), "{destination}");
    }
    assert_eq!(server.metric("ringpush_slow_consumers_total"), 0);
}

/// A client with a destination of each policy is closed if messages that may not be dropped are too
/// many.
#[test]
fn what_may_not_be_dropped_closes_a_slow_reader() {
    let rules = "[[slow]]\ndestination = '/topic/a'\npolicy = 'close'\n\
                 [[slow]]\ndestination = '/topic/**'\npolicy = 'drop-oldest'\n";
    let (_folder, server) = server(rules);
    let mut slow = Session::subscribed(&server, None, &["/topic/a", "/topic/b"]);
    flood(&server);
    assert_eq!(server.metric("ringpush_slow_consumers_total"), 1);
    let code = loop {
        match slow.hears_frame_or_close() {
            Ok(frame) => assert_eq!(frame.command, "MESSAGE"),
            Err(code) => break code,
        }
    };
    assert_eq!(code, 4500);
}

#[test]
fn a_window_turns_many_messages_into_fewer_sends() {
    let rule = "[[batch]]\ndestination = '/topic/a'\nwindow = '300ms'\n";
    let (_folder, server) = server(rule);
    let mut reader = Session::subscribed(&server, None, &["/topic/a", "/topic/b"]);
    let mut sender = Session::open(&server, None);
    let before = server.metric("ringpush_sends_total");
    for number in 0..50 {
        sender.sends("SEND", &[("destination", "/topic/a")], &number.to_string());
    }
    // The SUBSCRIBE takes effect at once; only messages wait.
    sender.asks("/topic/b", "now", "r");
    assert_eq!(sender.receives().command, "RECEIPT");
    assert_eq!(reader.hears("/topic/b"), "now");
    for number in 0..50 {
        assert_eq!(reader.hears("/topic/a"), number.to_string());
    }
    // The messages in one or two, the other one, the receipt, and the answer with the metrics.
    let sends = server.metric("ringpush_sends_total") - before;
    assert!(sends <= 12, "{sends} sends");
}

/// A window that filled a client's whole `send-buffer` at its end would make a slow consumer of it.
#[test]
fn a_window_ends_before_its_batch_exceeds_what_a_client_may_be_sent_at_once() {
    let rule = "[[batch]]\ndestination = '/topic/a'\nwindow = '10s'\n";
    let (_folder, server) = server(&format!("{rule}[limits]\nsend-buffer = 131072\n"));
    let mut reader = Session::subscribed(&server, None, &["/topic/a", "/topic/b"]);
    let mut sender = Session::open(&server, None);
    // Every four of them fill half of the bound, so they come before what is sent after them and
    // waits for nothing. They are read before more is sent: else the reader would be slow.
    for first in (0..96).step_by(4) {
        for number in first..first + 4 {
            let body = format!("{number} {}", "x".repeat(BODY));
            sender.sends("SEND", &[("destination", "/topic/a")], &body);
        }
        sender.sends("SEND", &[("destination", "/topic/b")], "now");
        for number in first..first + 4 {
            assert_eq!(number_of(&reader.hears("/topic/a")), number);
        }
        assert_eq!(reader.hears("/topic/b"), "now");
    }
}

#[test]
fn a_window_ends_before_a_subscriber_leaves_its_group() {
    let rule = "engine.batch-window = '5s'\n";
    let (_folder, server) = server(&format!("{rule}[limits]\nbatch-messages = 40\n"));
    let mut reader = Session::subscribed(&server, None, &["/topic/a"]);
    let send = [("destination", "/topic/a"), ("receipt", "sent")];
    reader.sends("SEND", &send, "1");
    assert_eq!(reader.receives().command, "RECEIPT");
    reader.sends("UNSUBSCRIBE", &[("id", "/topic/a"), ("receipt", "gone")], "");
    assert_eq!(reader.hears("/topic/a"), "1");
    assert_eq!(reader.receives().header("receipt-id"), Some("gone"));
    // At the bound, and at shutdown, the window ends at once, too.
    let mut reader = Session::subscribed(&server, None, &["/topic/a"]);
    for number in 0..41 {
        reader.sends("SEND", &[("destination", "/topic/a")], &number.to_string());
    }
    for number in 0..40 {
        assert_eq!(reader.hears("/topic/a"), number.to_string());
    }
    reader.sends("SEND", &send, "41");
    assert_eq!(reader.receives().command, "RECEIPT");
    server.signal("TERM");
    assert_eq!(reader.hears("/topic/a"), "40");
    assert_eq!(reader.hears("/topic/a"), "41");
    assert_eq!(reader.hears_close(), 1001);
}

/// Shards that spin instead of sleeping miss no work, and sleep in the end.
#[test]
fn spinning_shards_receive_from_each_other() {
    let (_folder, server) = server("engine.spin = '200us'");
    let mut sessions: Vec<Session> =
        (0..8).map(|_| Session::subscribed(&server, None, &["/topic/a"])).collect();
    for number in 0..200 {
        let at = number % sessions.len();
        sessions[at].sends("SEND", &[("destination", "/topic/a")], &number.to_string());
        for session in &mut sessions {
            assert_eq!(session.hears("/topic/a"), number.to_string());
        }
    }
    assert!(server.metric("ringpush_spins_total") > 0);
}

#[test]
fn bad_policies_and_windows_are_one_line_and_exit_2() {
    let folder = Folder::new();
    let cases = [
        ("[[slow]]\ndestination = '/topic/a'\npolicy = 'wait'", "slow[0].policy = \"wait\""),
        (
            "[[slow]]\ndestination = '/topics'\npolicy = 'close'",
            "slow[0].destination = \"/topics\"",
        ),
        ("[[batch]]\ndestination = '/user/queue/a'\nwindow = '1s'", "batch[0].destination"),
        ("[[slow]]\npolicy = 'close'", "slow[0].destination = nothing"),
        ("[[batch]]\ndestination = '/topic/a'\nwindow = '1h'", "batch[0].window = \"1h\""),
        ("engine.batch-window = 20", "engine.batch-window = 20"),
        ("engine.spin = '5s'", "engine.spin = \"5s\""),
        ("limits.slow-consumer = 'drop'", "limits.slow-consumer = \"drop\""),
    ];
    for (more, says) in cases {
        let config = folder.write("config.toml", more);
        let config = config.to_str().expect("a path of the tests is text");
        let (code, _, err) = run(&["serve", "--config", config]);
        assert_eq!((code, err.lines().count()), (Some(2), 1), "{more}: {err}");
        assert!(err.contains(says) && err.contains("accepted: "), "{more}: {err}");
    }
}

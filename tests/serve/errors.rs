//! What an ERROR says: its receipt, and the facts that help to find its cause.

use crate::client::Session;
use crate::server::Server;

type Headers<'a> = &'a [(&'a str, &'a str)];

#[test]
fn a_frame_that_cannot_be_served_is_answered_with_its_receipt_and_the_facts() {
    let server = Server::embedded();
    let cases: [(&str, Headers, &str, &str); 7] = [
        ("ACK", &[], "missing header", ""),
        ("NACK", &[("subscription", "s")], "missing header", ""),
        (
            "SUBSCRIBE",
            &[("id", "s"), ("destination", "/topic/a"), ("ack", "bogus")],
            "unknown ack mode",
            "\ndestination: /topic/a",
        ),
        ("SEND", &[("destination", "/none/a")], "unknown destination", "\ndestination: /none/a"),
        ("SEND", &[("destination", "/ws/none")], "unknown destination", "no [[application]]"),
        ("SUBSCRIBE", &[("destination", "/topic/a")], "missing header", "\ndestination: /topic/a"),
        ("UNSUBSCRIBE", &[], "missing header", ""),
    ];
    for (command, headers, message, expected) in cases {
        let mut session = Session::open(&server, Some("7"));
        let headers: Vec<_> = headers.iter().copied().chain([("receipt", "r")]).collect();
        session.sends(command, &headers, "");
        let error = session.receives();
        assert_eq!(error.command, "ERROR", "{command}: {error:?}");
        assert_eq!(error.header("message"), Some(message), "{command}");
        assert_eq!(error.header("receipt-id"), Some("r"), "{command}");
        assert!(error.body.contains(expected), "{command}: {error:?}");
        assert!(error.body.contains("\nuser: 7\nsession: 0"), "{command}: {error:?}");
        assert_eq!(session.hears_close(), 1002, "{command}");
    }
}

#[test]
fn a_message_is_acknowledged_by_either_name() {
    let server = Server::embedded();
    let mut session = Session::open(&server, None);
    for (command, name) in [("ACK", "id"), ("NACK", "id"), ("ACK", "message-id")] {
        session.sends(command, &[(name, "m-1"), ("receipt", name)], "");
        let frame = session.receives();
        assert_eq!((&*frame.command, frame.header("receipt-id")), ("RECEIPT", Some(name)));
    }
}

#[test]
fn a_long_destination_is_cut_in_the_error() {
    let server = Server::embedded();
    let mut session = Session::open(&server, None);
    let long = format!("/none/{}", "x".repeat(600));
    session.sends("SEND", &[("destination", &long)], "");
    let error = session.receives();
    assert!(error.body.contains("x…\nsession: "), "{error:?}");
    assert!(error.body.len() < 500, "{}", error.body.len());
}

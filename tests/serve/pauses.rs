//! Paused connections: a refusal, a deadline and the end of the peer reach them nevertheless.

use crate::client::Session;
use crate::server::{Folder, Server};
use crate::stalled::{Client, House, frame};
use ringpush::ws::Opcode;
use std::net::Shutdown;

/// Tables so small that the second pattern alike and the fourth name are refused by their home.
fn server() -> (Folder, Server) {
    let folder = Folder::new();
    let config = "[[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
                  [[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'\n\
                  [limits]\ndestinations = 3\npatterns-alike = 1\n";
    let server = Server::with(&folder.write("config.toml", config));
    (folder, server)
}

/// One message: a SEND, the SUBSCRIBE to this destination, and a SEND that is too late.
fn asks_for_more(session: &mut Session, destination: &str, receipt: &str) {
    session.sends_text(&format!(
        "SEND\ndestination:/topic/a\nreceipt:before\n\n\0\
         SUBSCRIBE\nid:more\ndestination:{destination}\n{receipt}\n\0\
         SEND\ndestination:/topic/a\nreceipt:behind\n\n\0"
    ));
}

#[test]
fn a_subscribe_that_its_home_refuses_is_answered_by_its_receipt_id() {
    let (_folder, server) = server();
    let mut holders = vec![Session::subscribed(&server, None, &["/topic/a", "/topic/x/*"])];
    for destination in ["/topic/x/*/*", "/topic/b"] {
        let mut session = Session::open(&server, None);
        asks_for_more(&mut session, destination, "receipt:asked\n");
        assert_eq!(session.receives().header("receipt-id"), Some("before"));
        let error = session.receives();
        assert_eq!((&*error.command, error.header("receipt-id")), ("ERROR", Some("asked")));
        assert!(error.header("message").is_some_and(|text| text.starts_with("too many ")));
        assert_eq!(session.hears_close(), 1008, "and nothing of what came after it");
        holders.push(Session::subscribed(&server, None, &["/topic/c"]));
    }
    // Without a receipt, too, and with nothing after it that would cause another check.
    let mut session = Session::open(&server, None);
    session.sends("SUBSCRIBE", &[("id", "more"), ("destination", "/topic/b")], "");
    let error = session.receives();
    assert_eq!((&*error.command, error.header("receipt-id")), ("ERROR", None));
    assert_eq!(session.hears_close(), 1008);
}

#[test]
fn a_subscribe_that_its_home_refuses_is_answered_before_bytes_that_are_no_frame() {
    let mut house = House::new(|limits| limits.destinations = 1);
    let mut client = house.session();
    client.says_frame("SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:has\n\n\0");
    house.until_with_home("a subscription", |_| client.hears("receipt-id:has\n"));
    let frames = house.metrics().frames_received_total.value();
    client.says_frame("SUBSCRIBE\nid:2\ndestination:/topic/b\nreceipt:asked\n\n\0NONSENSE\n\n\0");
    house.until("SUBSCRIBE", |house| house.metrics().frames_received_total.value() > frames);
    house.until_with_home("ERROR", |_| client.hears("ERROR\n"));
    let why = ["message:too many destinations\n", "receipt-id:asked\n"];
    assert_eq!(why.map(|why| client.count(why)), [1, 1]);
}

/// Why a connection is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Room,
    Answer,
    Deferred,
    Outbox,
    Parked,
    Pipelined,
}

/// A frame without an answer, which is still read only in its turn.
const FILLER: &str = "SEND\ndestination:/topic/a\n\nfiller\0";

/// A connection paused for this reason. It has sent so much more that its receive has stopped,
/// except for a parked request.
fn paused(reason: Reason) -> (House, Client) {
    let mut house = House::new(|limits| match reason {
        Reason::Room => limits.mailbox = 2,
        Reason::Answer => limits.receipts = 2,
        _ => {}
    });
    let mut client = match reason {
        Reason::Outbox => house.upgraded("/raw"),
        Reason::Parked | Reason::Pipelined => house.connect(),
        _ => house.session(),
    };
    let mut number = 0;
    house.until("a pause", |house| {
        number += 1;
        match reason {
            Reason::Parked if number > 1 => return house.audit().buffered > 0,
            Reason::Parked | Reason::Pipelined => client.publishes(number),
            Reason::Answer => client.says_frame(&FILLER.replace("\n\n", "\nreceipt:r\n\n")),
            Reason::Deferred if number == 1 => client
                .says_frame("SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0UNSUBSCRIBE\nid:1\n\n\0"),
            Reason::Room | Reason::Deferred => client.says_frame(FILLER),
            Reason::Outbox => client.says_some(&frame(Opcode::Binary, &[7; 2_000])),
        }
        house.audit().watched > 0
    });
    assert_eq!(house.audit().connections, 1);
    (house, client)
}

const REASONS: [Reason; 6] = [
    Reason::Room,
    Reason::Answer,
    Reason::Deferred,
    Reason::Outbox,
    Reason::Parked,
    Reason::Pipelined,
];

/// Slot and socket are gone while nothing answers; the session's record once its home knows.
fn is_gone(house: &mut House, reason: Reason) {
    house.until(&format!("{reason:?}: gone"), |house| house.audit().connections == 0);
    house.until_with_home(&format!("{reason:?}: told"), |house| {
        let audit = house.audit();
        (audit.sessions, audit.buffered, audit.watched, audit.segment_refcounts) == (0, 0, 0, 0)
    });
}

#[test]
fn a_paused_client_that_sends_fin_is_gone_a_second_later() {
    for reason in REASONS {
        let (mut house, client) = paused(reason);
        client.socket.shutdown(Shutdown::Write).expect("it is connected");
        is_gone(&mut house, reason);
    }
}

#[test]
fn a_paused_client_that_is_reset_is_gone_at_once() {
    for reason in REASONS {
        let (mut house, client) = paused(reason);
        client.resets();
        is_gone(&mut house, reason);
        let metrics = house.metrics();
        let ends = (metrics.resets_total.value(), metrics.timeouts_total.value());
        assert_eq!(ends, (1, 0), "{reason:?}: no deadline was waited for");
    }
}

#[test]
fn a_client_that_sends_fin_after_its_requests_is_answered() {
    for last in [Reason::Parked, Reason::Pipelined] {
        let (mut house, mut client) = paused(last);
        client.publishes(1_000);
        client.socket.shutdown(Shutdown::Write).expect("it is connected");
        house.until_with_home("answers, and the end", |_| !client.reads());
        assert!(client.count("HTTP/1.1 200 OK") >= 2, "{last:?}");
        assert_eq!(client.count("HTTP/1.1 "), client.count("HTTP/1.1 200 OK"), "{last:?}");
        is_gone(&mut house, last);
    }
}

#[test]
fn a_session_without_an_answer_in_time_gets_an_error() {
    let mut house = House::new(|limits| {
        limits.receipts = 2;
        limits.answer_time = ringpush::time::Millis(300);
    });
    let mut client = house.session();
    for receipt in ["one", "two", "three"] {
        client.says_frame(&FILLER.replace("\n\n", &format!("\nreceipt:{receipt}\n\n")));
    }
    house.until("ERROR", |_| client.hears("no answer in time\n"));
    assert_eq!((client.count("ERROR\n"), client.count("receipt-id:one\n")), (1, 1));
    house.until("Close", |_| client.hears(1011u16.to_be_bytes()));
}

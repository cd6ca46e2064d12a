//! One client sends much at once: nobody else is affected, and nothing is lost.

use crate::client::Session;
use crate::server::{Folder, Server};
use tungstenite::Message;

const SETTINGS: &str = "[auth]\nmethods = ['query']\n\
     [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
     [[endpoint]]\npath = '/pub'\nprotocol = 'raw'\nsockjs = true\n\
     on-message = { publish = '/topic/x' }\n\
     [limits]\nmailbox = 16\nmessage-blocks = 16\nturn-frames = 8\n";

/// One SockJS frame with far more messages than a mailbox has room for.
#[test]
fn a_frame_of_many_messages_is_published_as_room_allows() {
    let folder = Folder::new();
    let server = Server::with(&folder.write("config.toml", SETTINGS));
    let mut session = Session::subscribed(&server, None, &["/topic/x"]);
    let url = format!("ws://{}/pub/000/abcdef/websocket", server.address);
    let (mut socket, _) = tungstenite::client(url, server.connect()).expect("an upgrade");
    assert_eq!(socket.read().expect("SockJS opens"), Message::text("o"));
    let list: Vec<String> = (0..2000).map(|number| format!("\"{number}\"")).collect();
    socket.send(Message::text(format!("[{}]", list.join(",")))).expect("the server reads");
    for number in 0..2000 {
        assert_eq!(session.hears("/topic/x"), number.to_string());
    }
}

/// More frames in one message than one turn handles of a connection, all with a receipt.
#[test]
fn frames_beyond_a_turn_are_handled_in_the_next_ones() {
    let folder = Folder::new();
    let server = Server::with(&folder.write("config.toml", SETTINGS));
    let mut session = Session::open(&server, Some("7"));
    let frames: Vec<String> =
        (0..500).map(|number| format!("ACK\nid:1\nreceipt:{number}\n\n\0")).collect();
    session.sends_text(&frames.concat());
    for number in 0..500 {
        let receipt = session.receives();
        assert_eq!(receipt.header("receipt-id"), Some(number.to_string().as_str()));
    } // Eight per turn: the connection has waited for its next turn several times.
    let waited = server.metric("ringpush_producers_paused_total");
    assert!(waited >= 500 / 8 - 1, "{waited} waits");
}

//! DELETE ends sessions in every state.

use crate::client::Session;
use crate::peer::Peer;
use crate::server::{Folder, Server, ringpush};
use ringpush::ids::{SessionId, SessionIndex, ShardId};

const SETTINGS: &str = "[auth]\nmethods = ['query']\n\
     [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
     [[endpoint]]\npath = '/chat'\nprotocol = 'raw'\non-message = 'echo'\n";

fn server(folder: &Folder, shards: &str) -> Server {
    let config = folder.write("config.toml", SETTINGS);
    let config = config.to_str().expect("a path of the tests is text");
    let place = ["--listen", "127.0.0.1:0", "--shards", shards];
    Server::start(ringpush(&[&["serve", "--config", config][..], &place].concat()))
}

#[test]
fn a_kick_reaches_all_sessions_of_a_user_before_connect_and_raw_ones_too() {
    let folder = Folder::new();
    let server = server(&folder, "2");
    let before = |user: &str| Peer::open(&server, &format!("/portfolio?userId={user}"), "");
    let raw = |user: &str| Peer::open(&server, &format!("/chat?userId={user}"), "");
    let live = Session::open(&server, Some("7"));
    let early: Vec<Peer> = (0..4).map(|_| before("7")).collect();
    let raws: Vec<Peer> = (0..4).map(|_| raw("7")).collect();
    let mut others = (Session::open(&server, Some("8")), before("8"), raw("8"), raw(""));
    // A session that has not sent CONNECT is not online.
    let (_, who) = server.get("/api/users/7");
    assert_eq!(who.matches("\"session\":").count(), 1, "{who}");

    assert_eq!(server.delete("/api/users/7"), (200, "{\"code\":0,\"closed\":9}".to_owned()));
    assert_eq!(live.hears_close(), 1008);
    for mut peer in early.into_iter().chain(raws) {
        peer.hears_close(1008, "ended by the operator");
    }
    assert_eq!(server.delete("/api/users/7"), (200, "{\"code\":0,\"closed\":0}".to_owned()));

    // Nobody else is affected, and the user may come back.
    others.0.asks("/user/8/queue/x", "", "r");
    assert_eq!(others.0.receives().command, "RECEIPT");
    for peer in [&mut others.1, &mut others.2, &mut others.3] {
        peer.pings(b"there?");
        assert_eq!(peer.receives().payload, b"there?");
    }
    Session::open(&server, Some("7"));
}

#[test]
fn a_kick_by_id_reaches_a_session_before_connect() {
    let folder = Folder::new();
    let server = server(&folder, "1");
    let mut early = Peer::open(&server, "/portfolio?userId=7", "");
    let id = SessionId::new(ShardId(0), SessionIndex(0), 0);
    let target = format!("/api/sessions/{id}");
    assert_eq!(server.delete(&target), (200, "{\"code\":0,\"closed\":1}".to_owned()));
    early.hears_close(1008, "ended by the operator");
    assert_eq!(server.delete(&target).0, 404);
}

//! permessage-deflate (RFC 7692) over real sockets.

use crate::peer::{Message, Peer};
use crate::server::{Folder, PATIENCE, Server, ringpush};
use ringpush::ws::Opcode;
use std::time::Instant;

const OFFER: &str = "permessage-deflate";
const TAKEOVER: &str = "permessage-deflate; server_no_context_takeover";
const NONE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// One shard, so that all share its bounds.
fn server(config: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let config = folder.write("config.toml", config);
    let config = config.to_str().expect("a path of the tests is text");
    let arguments = ["serve", "--config", config, "--listen", "127.0.0.1:0", "--shards", "1"];
    let server = Server::start(ringpush(&arguments));
    (folder, server)
}

fn echo(deflate: &str, limits: &str) -> (Folder, Server) {
    server(&format!(
        "[[endpoint]]\npath = '/echo'\nprotocol = 'raw'\non-message = 'echo'\n\
         deflate = {deflate}\n[limits]\n{limits}\n"
    ))
}

/// A text that cannot be compressed to a tenth of itself.
fn noise(len: usize, seed: u32) -> String {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (state >> 24) as u8 % 64)
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn messages_refer_back_where_takeover_was_agreed() {
    let (_folder, server) = echo("{ context-takeover = true }", "");
    let mut peer = Peer::open(&server, "/echo", OFFER);
    assert_eq!(peer.extensions.as_deref(), Some(TAKEOVER));
    let (first, second) = (noise(3_000, 1), noise(20_000, 2));
    // From the third one on everything is in the window, in any number of frames.
    for (round, text) in [&first, &second, &first, &second, &first].into_iter().enumerate() {
        let took = peer.sends_compressed(text, round + 1);
        assert!(if round < 2 { took > text.len() / 10 } else { took < text.len() / 10 }, "{took}");
        assert_eq!(peer.hears(), **text);
        peer.sends("not compressed, and so no context");
        assert_eq!(peer.hears(), "not compressed, and so no context");
    }
    // More than a window is in between.
    peer.sends_compressed(&noise(50_000, 3), 2);
    assert_eq!(peer.hears(), noise(50_000, 3));
    peer.sends_compressed(&first, 1);
    assert_eq!(peer.hears(), first);
}

#[test]
fn takeover_is_granted_while_there_is_memory() {
    let (_folder, server) = echo("{ context-takeover = true }", "inflate-histories = 32768");
    let first = Peer::open(&server, "/echo", OFFER);
    assert_eq!(first.extensions.as_deref(), Some(TAKEOVER));
    // A client that does not offer it uses no memory.
    let mut other = Peer::open(&server, "/echo", NONE);
    assert_eq!(other.extensions.as_deref(), Some(NONE));
    let mut second = Peer::open(&server, "/echo", OFFER);
    assert_eq!(second.extensions.as_deref(), Some(NONE));
    for peer in [&mut other, &mut second] {
        peer.sends_compressed(&noise(900, 1), 1);
        assert_eq!(peer.hears(), noise(900, 1));
    }
    let (_, metrics) = server.get("/metrics");
    let line = metrics.lines().find(|line| line.starts_with("ringpush_inflate_history_bytes"));
    assert!(line.is_some_and(|line| line.ends_with(" 32768")), "{metrics}");
    // When a client has gone, another one may have its window.
    drop(first);
    let start = Instant::now();
    while Peer::open(&server, "/echo", OFFER).extensions.as_deref() != Some(TAKEOVER) {
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn a_small_window_is_announced_and_kept() {
    let (_folder, server) = echo("{ context-takeover = true, window-bits = 9 }", "");
    // Without the parameter the answer cannot name it (RFC 7692 §7.1.2.2).
    assert_eq!(Peer::open(&server, "/echo", OFFER).extensions.as_deref(), Some(NONE));
    let offer = "permessage-deflate; client_max_window_bits";
    let peer = Peer::open(&server, "/echo", offer);
    let expected = format!("{TAKEOVER}; client_max_window_bits=9");
    assert_eq!(peer.extensions.as_deref(), Some(expected.as_str()));
    let mut peer = peer.with_window(9);
    for (round, len) in [200, 200, 3_000, 200, 200].into_iter().enumerate() {
        let took = peer.sends_compressed(&noise(len, 1), 1);
        assert_eq!(took < 50, matches!(round, 1 | 4), "{round}: {took}");
        assert_eq!(peer.hears(), noise(len, 1));
    }
}

#[test]
fn a_reference_to_what_was_not_agreed_ends_the_session() {
    for (deflate, answer) in [("true", Some(NONE)), ("false", None)] {
        let (_folder, server) = echo(deflate, "");
        let mut peer = Peer::open(&server, "/echo", OFFER);
        assert_eq!(peer.extensions.as_deref(), answer);
        peer.sends_compressed(&noise(900, 1), 1);
        if answer.is_none() {
            peer.hears_close(1002, "reserved-bits");
            continue;
        }
        assert_eq!(peer.hears(), noise(900, 1));
        peer.sends_compressed(&noise(900, 1), 1);
        peer.hears_close(1007, "not-deflate");
    }
}

#[test]
fn messages_from_deflate_min_on_are_compressed() {
    let (_folder, server) = echo("true", "deflate-min = 100");
    let mut peer = Peer::open(&server, "/echo", OFFER);
    for (len, compressed) in [(99, false), (100, true), (5_000, true)] {
        peer.sends(&"a".repeat(len));
        let message = peer.receives();
        assert_eq!((message.payload.len(), message.compressed), (len, compressed));
        assert_eq!(message.wire_bytes < len, compressed);
    }
    // A message that would not become shorter is sent uncompressed.
    let bytes: Vec<u8> = (0..=255).collect();
    peer.sends_parts(Opcode::Binary, &[&bytes]);
    let message = peer.receives();
    assert_eq!(
        message,
        Message { opcode: Opcode::Binary, compressed: false, wire_bytes: 256, payload: bytes }
    );
}

#[test]
fn a_stomp_broadcast_is_compressed_for_those_who_agreed() {
    let (_folder, server) = server(
        "[[endpoint]]\npath = '/ws'\ndeflate = { context-takeover = true }\n\
         [[allow]]\naction = 'send'\ndestination = '/topic/**'\n",
    );
    let body = "{\"number\":\"+4930123456\",\"state\":\"ringing\"},".repeat(50);
    let mut peers = [OFFER, "", NONE].map(|offer| {
        let mut peer = Peer::open(&server, "/ws", offer);
        peer.sends("CONNECT\naccept-version:1.2\nhost:x\n\n\0");
        assert!(peer.hears().starts_with("CONNECTED\n"));
        peer.sends("SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:1\n\n\0");
        assert!(peer.hears().starts_with("RECEIPT\n"));
        peer
    });
    for round in 0..3 {
        let send = format!("SEND\ndestination:/topic/a\nround:{round}\n\n{body}\0");
        let took = peers[0].sends_compressed(&send, 2);
        assert!(round == 0 || took < 60, "{took}");
        for peer in &mut peers {
            let message = peer.receives();
            assert_eq!(message.compressed, peer.extensions.is_some());
            let text = String::from_utf8(message.payload).expect("a text");
            assert!(text.contains(&format!("round:{round}\n")) && text.contains(&body), "{text}");
        }
    }
}

/// A page may choose any subscription ids: the body is still compressed only once, and each client
/// reads its own id.
#[test]
fn a_broadcast_to_different_ids_is_compressed_once() {
    let (_folder, server) = server(
        "[[endpoint]]\npath = '/ws'\nsockjs = true\n\
         [[allow]]\naction = 'send'\ndestination = '/topic/**'\n",
    );
    let body = "{\"number\":\"+4930123456\",\"state\":\"ringing\"},".repeat(50);
    let mut peers: Vec<Peer> = (0..20)
        .map(|number| {
            let mut peer = Peer::open(&server, "/ws", OFFER);
            peer.sends("CONNECT\naccept-version:1.2\nhost:x\n\n\0");
            assert!(peer.hears().starts_with("CONNECTED\n"));
            for own in 0..8 {
                let id = format!("id-{number}-{own}");
                peer.sends(&format!(
                    "SUBSCRIBE\nid:{id}\ndestination:/topic/a\nreceipt:{id}\n\n\0"
                ));
                assert!(peer.hears().starts_with("RECEIPT\n"));
            }
            peer
        })
        .collect();
    let before = server.metric("ringpush_deflates_total");
    peers[0].sends(&format!("SEND\ndestination:/topic/a\n\n{body}\0"));
    for (number, peer) in peers.iter_mut().enumerate() {
        let mut seen: Vec<String> = (0..8)
            .map(|_| {
                let message = peer.receives();
                assert!(message.compressed && message.wire_bytes < 600, "{}", message.wire_bytes);
                let text = String::from_utf8(message.payload).expect("a text");
                assert!(text.ends_with(&format!("\n\n{body}\0")), "{text}");
                let line = text.lines().find_map(|line| line.strip_prefix("subscription:"));
                line.expect("it names its subscription").to_owned()
            })
            .collect();
        seen.sort();
        let expected: Vec<String> = (0..8).map(|own| format!("id-{number}-{own}")).collect();
        assert_eq!(seen, expected);
    }
    assert_eq!(server.metric("ringpush_deflates_total") - before, 1);
}

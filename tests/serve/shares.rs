//! What one session or one address may hold of what all share.

use crate::client::Window;
use crate::server::{Folder, Server, ringpush};

/// One shard with these limits.
fn server(limits: &str) -> (Folder, Server) {
    let folder = Folder::new();
    let config = format!(
        "[[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
         [[allow]]\naction = 'send'\ndestination = '/topic/**'\n[limits]\n{limits}\n"
    );
    let config = folder.write("config.toml", &config);
    let config = config.to_str().expect("a path of the tests is text");
    let arguments = ["serve", "--config", config, "--listen", "127.0.0.1:0", "--shards", "1"];
    (folder, Server::start(ringpush(&arguments)))
}

fn subscribe(window: &mut Window, id: &str, destination: &str) -> Result<(), String> {
    let headers = [("id", id), ("destination", destination), ("receipt", id)];
    window.sends("SUBSCRIBE", &headers, "");
    let answer = window.receives();
    assert_eq!(answer.header("receipt-id"), Some(id), "{answer:?}");
    match answer.command.as_str() {
        "RECEIPT" => Ok(()),
        "ERROR" => Err(format!("{}: {}", answer.header("message").unwrap_or(""), answer.body)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_session_has_so_many_subscriptions_to_one_destination() {
    let (_folder, server) = server("subscriptions-alike = 3");
    for destination in ["/topic/a", "/topic/**", "/user/queue/sub"] {
        let mut window = Window::open(&server, None);
        for id in ["1", "2", "3"] {
            subscribe(&mut window, id, destination).expect("within the bound");
        }
        // Others have their own count, a user's destination is not the broker's of that name, and
        // who leaves one may have another.
        subscribe(&mut window, "b", "/topic/b").expect("another destination");
        subscribe(&mut window, "c", "/queue/sub").expect("another destination");
        window.sends("UNSUBSCRIBE", &[("id", "2")], "");
        subscribe(&mut window, "4", destination).expect("one has gone");
        let refused = subscribe(&mut window, "5", destination).expect_err("past the bound");
        assert!(refused.contains("limit subscriptions-alike"), "{refused}");
        assert_eq!(window.hears_close(), 1008);
    }
    assert_eq!(server.metric("ringpush_refused_total{reason=\"too_many_subscriptions_alike\"}"), 3);
}

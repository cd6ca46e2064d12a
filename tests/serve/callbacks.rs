//! Callbacks: signatures, timestamps, and invalid secrets.

use crate::client::Session;
use crate::server::{Folder, Server, ringpush};
use ringpush::callback::sign;
use ringpush::config::{Config, Sources};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRETS: [(&str, &str); 2] =
    [("NEW", "what we sign with from now on"), ("OLD", "what we signed with until now")];

fn settings(names: &str) -> String {
    format!(
        "[auth]\nmethods = ['query']\n[[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n\
         [[callback]]\npath = '/callback'\nsecret-env = {names}\nid = '/id'\nuser = '/user'\n\
         destination = '/queue/sub'\nsignature-header = 'Stripe-Signature'\n\
         signature-form = 't={{timestamp}},v1={{hex}}'\n"
    )
}

/// The configuration of a client that signs with this secret.
fn signer(name: &str) -> Config {
    let environment = SECRETS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let variables = [("RINGPUSH_DEMO__ENABLED".to_owned(), "true".to_owned())];
    let environment = environment.into_iter().chain(variables).collect();
    let sources = Sources { environment, ..Sources::default() };
    sources.parse(&settings(&format!("'{name}'")), false).expect("the settings are good")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    since.as_millis() as u64
}

#[test]
fn a_signed_timestamp_bounds_replays_and_either_secret_is_good() {
    let folder = Folder::new();
    let config = folder.write("config.toml", &settings("['NEW', 'OLD']"));
    let config = config.to_str().expect("a path of the tests is text");
    let place = ["--listen", "127.0.0.1:0", "--shards", "2"];
    let mut command = ringpush(&[&["serve", "--config", config][..], &place].concat());
    let server = Server::start({
        command.envs(SECRETS);
        command
    });
    let mut session = Session::subscribed(&server, Some("7"), &["/user/queue/sub"]);
    let post = |signer: &Config, body: &str, at: u64| {
        let signature = sign(&signer.callbacks[0], body.as_bytes(), at).expect("generic");
        let more = format!("Stripe-Signature: {signature}, v0=ab\r\n");
        server.post("/callback", &more, body)
    };
    let body = |id: &str| format!("{{\"id\":\"{id}\",\"user\":\"7\"}}");
    let (new, old) = (signer("NEW"), signer("OLD"));
    assert_eq!(post(&new, &body("a"), now()), (200, "{\"code\":0}".to_owned()));
    assert_eq!(session.hears("/user/queue/sub"), body("a"));
    // A repetition is accepted, but not pushed.
    assert_eq!(post(&new, &body("a"), now()).0, 200);
    assert_eq!(post(&old, &body("b"), now() - 60_000).0, 200);
    assert_eq!(session.hears("/user/queue/sub"), body("b"));
    // Signed six minutes ago (a replay), or in the future.
    for at in [now() - 360_000, now() + 360_000] {
        let (status, text) = post(&new, &body("c"), at);
        assert_eq!(status, 401, "{text}");
        assert!(text.contains("timestamp"), "{text}");
    }
    let stale = "ringpush_refused_total{reason=\"callback_signature_stale\"}";
    assert_eq!(server.metric(stale), 2);
    assert_eq!(server.metric("ringpush_callback_denied_total"), 2);
    assert_eq!(post(&new, &body("c"), now()).0, 200);
    assert_eq!(session.hears("/user/queue/sub"), body("c"));
    // Those that had success, and the turns that saw to it.
    assert_eq!(server.metric("ringpush_callback_answer_seconds_count{"), 4);
    assert!(server.metric("ringpush_turn_duration_seconds_count{") > 4);
}

#[test]
fn a_secret_that_is_too_short_is_refused_at_start() {
    let folder = Folder::new();
    let config = folder.write("config.toml", &settings("'RINGPUSH_CALLBACK_SECRET'"));
    let config = config.to_str().expect("a path of the tests is text");
    for (name, key) in [
        ("RINGPUSH_CALLBACK_SECRET", "callback[0].secret-env"),
        ("RINGPUSH_TOKEN_SECRET", "auth.token.secret-env"),
        ("RINGPUSH_API_TOKEN", "api.token-env"),
    ] {
        for command in ["check", "serve"] {
            let mut command = ringpush(&[command, "--config", config]);
            let output = command.env(name, "fifteen bytes.!").output().expect("it runs");
            let said = String::from_utf8(output.stderr).expect("text");
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(key) && said.contains("at least 16 bytes"), "{said}");
            assert!(!said.contains("fifteen"), "{said}");
        }
    }
}

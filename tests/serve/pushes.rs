//! The shortest paths: SEND, callback, push.

use crate::client::Session;
use crate::server::Server;

#[test]
fn the_server_is_ready_when_it_says_so() {
    let server = Server::embedded();
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.get("/none").0, 404);
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("ringpush_accepted_total{shard=\"1\"}"), "{metrics}");
}

#[test]
fn a_reply_reaches_all_sessions_of_its_sender_and_nobody_else() {
    let server = Server::embedded();
    let mut sessions: Vec<Session> = ["7", "7", "8"]
        .map(|user| Session::subscribed(&server, Some(user), &["/user/queue/sub"]))
        .into_iter()
        .collect();
    let mut anonymous = Session::subscribed(&server, None, &["/user/queue/sub"]);
    sessions[0].sends("SEND", &[("destination", "/ws/trade")], "{}");
    let reply = "{\"code\":0,\"mess\":\"服务端返回消息！\"}";
    for session in &mut sessions[..2] {
        assert_eq!(session.hears("/user/queue/sub"), reply);
    }
    anonymous.sends("SEND", &[("destination", "/ws/trade")], "{}");
    assert_eq!(anonymous.hears("/user/queue/sub"), reply);
    // The first message for the other user is the one sent to that user.
    assert_eq!(server.get("/sendMsToUser?userId=8&subscribePath=/queue/sub").0, 200);
    let pushed = sessions[2].hears("/user/queue/sub");
    assert!(pushed.contains("\"businessType\":\"TEST\""), "{pushed}");
}

#[test]
fn a_topic_is_received_on_every_shard() {
    let server = Server::embedded();
    let mut sessions: Vec<Session> =
        (0..20).map(|_| Session::subscribed(&server, None, &["/topic/all"])).collect();
    for number in 0..50 {
        let body = number.to_string();
        sessions[0].sends("SEND", &[("destination", "/topic/all")], &body);
    }
    for session in &mut sessions {
        for number in 0..50 {
            assert_eq!(session.hears("/topic/all"), number.to_string());
        }
    }
}

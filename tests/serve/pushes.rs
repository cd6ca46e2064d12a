//! The shortest ways through the house.

use crate::client::Window;
use crate::server::Server;

#[test]
fn it_is_ready_when_it_says_so() {
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
    let mut windows: Vec<Window> = ["7", "7", "8"]
        .map(|user| Window::subscribed(&server, Some(user), &["/user/queue/sub"]))
        .into_iter()
        .collect();
    let mut anonymous = Window::subscribed(&server, None, &["/user/queue/sub"]);
    windows[0].sends("SEND", &[("destination", "/ws/trade")], "{}");
    let reply = "{\"code\":0,\"mess\":\"服务端返回消息！\"}";
    for window in &mut windows[..2] {
        assert_eq!(window.hears("/user/queue/sub"), reply);
    }
    anonymous.sends("SEND", &[("destination", "/ws/trade")], "{}");
    assert_eq!(anonymous.hears("/user/queue/sub"), reply);
    // What comes first to the other user is what was sent to him.
    assert_eq!(server.get("/sendMsToUser?userId=8&subscribePath=/queue/sub").0, 200);
    let pushed = windows[2].hears("/user/queue/sub");
    assert!(pushed.contains("\"businessType\":\"TEST\""), "{pushed}");
}

#[test]
fn a_topic_is_heard_on_every_shard() {
    let server = Server::embedded();
    let mut windows: Vec<Window> =
        (0..20).map(|_| Window::subscribed(&server, None, &["/topic/all"])).collect();
    for number in 0..50 {
        let body = number.to_string();
        windows[0].sends("SEND", &[("destination", "/topic/all")], &body);
    }
    for window in &mut windows {
        for number in 0..50 {
            assert_eq!(window.hears("/topic/all"), number.to_string());
        }
    }
}

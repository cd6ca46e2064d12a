//! The API's answers: the users it lists, the messages it forwards, the errors it names.

use crate::client::Session;
use crate::server::{Folder, Server};
use crate::web::{Answer, ask};
use serde_json::{Value, json};

const HOST: &str = "Host: localhost\r\n";

fn json_of(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(&answer.body).expect("JSON")
}

fn get(server: &Server, target: &str) -> Value {
    json_of(&ask(server.address, &format!("GET {target}"), HOST, ""))
}

#[test]
fn users_and_their_sessions_are_listed() {
    let server = Server::embedded();
    let nobody = json!({"code":0,"user":"7","status":"OFF_LINE","sessions":[]});
    assert_eq!(get(&server, "/api/users/7"), nobody);
    assert_eq!(get(&server, "/api/users"), json!({"code":0,"users":[]}));
    let _one = Session::subscribed(&server, Some("7"), &["/topic/all", "/user/queue/sub"]);
    let _two = Session::subscribed(&server, Some("7"), &["/topic/all"]);
    let user = get(&server, "/api/users/%37");
    assert_eq!((&user["status"], &user["user"]), (&json!("ON_LINE"), &json!("7")));
    assert_eq!(user.get("truncated"), None);
    let sessions = user["sessions"].as_array().expect("a list");
    assert_eq!(sessions.len(), 2);
    let mut heard: Vec<Vec<&str>> = Vec::new();
    for session in sessions {
        assert_eq!(
            (&session["address"], &session["version"]),
            (&json!("127.0.0.1"), &json!("1.2"))
        );
        assert_eq!(session["session"].as_str().map(str::len), Some(16));
        let list = session["subscriptions"].as_array().expect("a list").iter();
        heard.push(list.filter_map(|one| one["destination"].as_str()).collect());
    }
    heard.sort_by_key(Vec::len);
    assert_eq!(heard, [vec!["/topic/all"], vec!["/topic/all", "/user/queue/sub"]]);
    let users = get(&server, "/api/users");
    let users = users["users"].as_array().expect("a list").iter();
    let total: u64 = users.map(|one| one["sessions"].as_u64().expect("a number")).sum();
    assert_eq!(total, 2);
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let folder = Folder::new();
    let file = folder.write(
        "config.toml",
        "auth.methods = ['query']\nlimits.query-bytes = 60\n\
         [[endpoint]]\npath = '/portfolio'\nprotocol = 'stomp'\n",
    );
    let server = Server::with(&file);
    let sessions: Vec<Session> =
        (0..40).map(|user| Session::open(&server, Some(&user.to_string()))).collect();
    let users = get(&server, "/api/users");
    assert_eq!(users["truncated"], true);
    // On each of the two shards (chance leaves neither without users) two begin within 60 bytes.
    assert_eq!(users["users"].as_array().map(Vec::len), Some(4), "{users}");
    drop(sessions);
}

#[test]
fn parameters_are_decoded_and_mistakes_are_named() {
    let server = Server::embedded();
    let mut session = Session::subscribed(&server, Some("a/b"), &["/user/queue/sub"]);
    let push = |first: &str, body: &str| ask(server.address, first, HOST, body);
    let target = "/sendMsToUser?userId=a%2fb&subscribePath=%2Fqueue%2Fsub";
    assert_eq!(push(&format!("GET {target}"), "").status, 200);
    let test: Value = serde_json::from_str(&session.hears("/user/queue/sub")).expect("JSON");
    assert_eq!(test["businessType"], "TEST");
    let posted = " {\"businessType\":\"CALL_IN\", \"data\":1.50}\n";
    assert_eq!(push(&format!("POST {target}"), posted).status, 200);
    let frame = session.receives();
    assert_eq!(frame.header("content-type"), Some("application/json"));
    assert_eq!(frame.body, posted.trim());
    for (first, body, status, msg) in [
        ("GET /sendMsToUser?userId=7", "", 400, "the parameter subscribePath is missing"),
        ("GET /sendMsToUser?subscribePath=/queue/sub", "", 400, "the parameter userId is missing"),
        (
            "GET /sendMsToUser?userId=&subscribePath=/queue/sub",
            "",
            400,
            "the parameter userId is empty or has control characters",
        ),
        (
            "GET /sendMsAll?subscribePath=/topic/%0a",
            "",
            400,
            "the parameter subscribePath is empty or has control characters",
        ),
        ("GET /sendMsAll?subscribePath=/ws/a", "", 404, "/ws/a begins with no broker prefix"),
        ("POST /sendMsAll?subscribePath=/topic/a", "{", 400, "the body is not JSON"),
        (
            "POST /sendMsAll?subscribePath=/topic/a",
            r#"{"data":1}"#,
            400,
            r#"the body is {"businessType":…,"data":…}"#,
        ),
        (
            "POST /sendMsAll?subscribePath=/topic/a",
            r#"{"businessType":1,"data":1}"#,
            400,
            r#"the body is {"businessType":…,"data":…}"#,
        ),
    ] {
        let answer = push(first, body);
        let said: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((answer.status, said["msg"].as_str()), (status, Some(msg)), "{first}");
    }
}

#[test]
fn an_answer_has_the_date() {
    let server = Server::embedded();
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(1);
    let answer = ask(server.address, "GET /healthz", HOST, "");
    let date = httpdate::parse_http_date(answer.header("date").expect("a Date"));
    let date = date.expect("IMF-fixdate");
    assert!(before <= date && date <= std::time::SystemTime::now(), "{answer:?}");
}

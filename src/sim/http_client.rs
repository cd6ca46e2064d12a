//! An HTTP client: a back end that pushes, and a telephony provider that calls back, often twice.

use super::forged;
use super::history::Kick;
use super::scene::{Decision, NEVER, Phase, Scene};
use super::target::{OWN, TOPICS, Target, USERS};
use super::violation::{Oracle, Violation};
use super::wire::Wire;
use crate::callback;
use std::collections::VecDeque;

/// Ids of calls (`Limits::tiny` remembers 16 of a shard).
pub(super) const CALLS: usize = 12;

/// A request that waits for its answer.
#[derive(Debug)]
struct Asked {
    publications: Vec<usize>,
    status: u16,
    /// If it is a kick, its number in the history.
    kick: Option<usize>,
}

/// The connection.
#[derive(Debug)]
pub(super) struct HttpClient {
    number: usize,
    actions: u32,
    sequence: u32,
    asked: VecDeque<Asked>,
    leaving: bool,
    foreign: bool,
}

impl HttpClient {
    /// It is not on this machine, so the API is closed to it.
    pub(super) fn new(number: usize, foreign: bool, scene: &mut Scene<'_>) -> HttpClient {
        let actions = scene.random().between(1, 15) as u32;
        HttpClient { number, actions, sequence: 0, asked: VecDeque::new(), leaving: false, foreign }
    }

    pub(super) fn is_owed(&self) -> bool {
        self.leaving || !self.asked.is_empty()
    }

    pub(super) fn step(&mut self, wire: &mut Wire, scene: &mut Scene<'_>) -> Decision {
        if self.leaving {
            return Decision::Wait(NEVER);
        }
        let may_vanish = scene.plan.phase == Phase::Main && !self.asked.is_empty();
        if may_vanish && scene.random().chance(30) {
            // It does not wait for its answers.
            self.leaving = true;
            return match scene.random().below(3) {
                0 => Decision::End,
                1 => Decision::Vanish,
                _ => Decision::Leave(true),
            };
        }
        let is_last = self.actions == 0 || scene.plan.phase == Phase::Leave;
        if is_last && (self.asked.is_empty() || scene.plan.phase == Phase::Leave) {
            self.leaving = true;
            return match scene.random().below(3) {
                0 => Decision::End,
                1 => Decision::Leave(true),
                _ => Decision::Leave(false),
            };
        }
        if is_last || self.asked.len() >= 3 || !scene.spend() {
            return Decision::Wait(scene.soon(1_000, 50_000));
        }
        self.actions -= 1;
        let request = self.request(scene);
        wire.put(&request);
        Decision::Wait(match scene.random().below(4) {
            // The next request is sent before the answer arrives.
            0 => scene.world.now(),
            _ => scene.soon(100, 60_000),
        })
    }

    fn request(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        if self.foreign {
            return match scene.random().below(2) {
                0 => self.callback(scene),
                _ => self.refused(scene),
            };
        }
        match scene.random().below(20) {
            0..=3 => self.push_to_all(scene),
            4..=6 => self.push_to_user(scene),
            7..=9 => self.api_publish(scene),
            10..=11 => self.api_message(scene),
            12..=15 => self.callback(scene),
            16 => self.odd_callback(scene),
            17 => self.get("/healthz", 200),
            18 => match scene.random().below(3) {
                0 => self.get("/api/users", 200),
                1 => self.get("/api/users/u1", 200),
                _ => self.get("/nothing/here", 404),
            },
            _ => match scene.random().below(4) {
                0 => self.kick(scene),
                1 => self.forge(scene),
                _ => self.get("/sendMsAll", 400),
            },
        }
    }

    /// Ends a user's sessions, or one of them.
    fn kick(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let one = scene.random().chance(500) && !scene.plan.sessions.is_empty();
        let (path, user, client) = match one {
            true => {
                let known = scene.plan.sessions.len();
                let at = scene.random().index(known);
                let (id, client, _) = &scene.plan.sessions[at];
                (format!("/api/sessions/{id}"), None, Some(*client))
            }
            false => {
                let user = scene.random().index(USERS);
                (format!("/api/users/u{user}"), Some(user), None)
            }
        };
        let asked_at = scene.history.tick();
        scene.history.kicks.push(Kick { user, client, asked_at, done: false });
        let kick = Some(scene.history.kicks.len() - 1);
        self.asked.push_back(Asked { publications: Vec::new(), status: 200, kick });
        format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    }

    /// A header that clients would take for the server's own.
    fn forge(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let (name, value) = *scene.random().pick(&forged::HEADERS);
        let p = self.publish(Target::Nobody, scene);
        let body = serde_json::json!({
            "destination": "/topic/t0", "headers": { name: value }, "body": { "p": p },
        });
        let request = self.post("/api/publish", "", &body.to_string(), vec![p]);
        self.expects(400);
        request
    }

    /// The last request is refused with this status.
    fn expects(&mut self, status: u16) {
        if let Some(asked) = self.asked.back_mut() {
            asked.status = status;
        }
    }

    fn get(&mut self, path: &str, status: u16) -> Vec<u8> {
        self.asked.push_back(Asked { publications: Vec::new(), status, kick: None });
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    }

    fn post(&mut self, path: &str, more: &str, body: &str, publications: Vec<usize>) -> Vec<u8> {
        self.asked.push_back(Asked { publications, status: 200, kick: None });
        let len = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n{more}\r\n{body}"
        )
        .into_bytes()
    }

    fn publish(&mut self, target: Target, scene: &mut Scene<'_>) -> usize {
        let sender = Some((self.number, self.sequence));
        self.sequence += 1;
        scene.history.publish(sender, target)
    }

    fn push_to_all(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let topic = *scene.random().pick(&TOPICS);
        let p = self.publish(Target::Broker(topic), scene);
        let body = format!("{{\"businessType\":\"T\",\"data\":{{\"p\":{p}}}}}");
        if scene.random().chance(300) {
            // The same in chunks.
            self.asked.push_back(Asked { publications: vec![p], status: 200, kick: None });
            let (first, second) = body.split_at(5);
            return format!(
                "POST /sendMsAll?subscribePath={topic} HTTP/1.1\r\nHost: localhost\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n\
                 {:x}\r\n{second}\r\n0\r\n\r\n",
                first.len(),
                second.len()
            )
            .into_bytes();
        }
        self.post(&format!("/sendMsAll?subscribePath={topic}"), "", &body, vec![p])
    }

    fn push_to_user(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let (user, queue) = (scene.random().index(USERS), *scene.random().pick(&OWN));
        let p = self.publish(Target::User(user, queue), scene);
        let body = format!("{{\"businessType\":\"T\",\"data\":{{\"p\":{p}}}}}");
        self.post(
            &format!("/sendMsToUser?userId=u{user}&subscribePath={queue}"),
            "",
            &body,
            vec![p],
        )
    }

    fn api_publish(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let topic = *scene.random().pick(&TOPICS);
        let first = self.publish(Target::Broker(topic), scene);
        let item =
            |p: usize, d: &str| format!("{{\"destination\":\"{d}\",\"body\":{{\"p\":{p}}}}}");
        if scene.random().chance(500) {
            return self.post("/api/publish", "", &item(first, topic), vec![first]);
        }
        let user = scene.random().index(USERS);
        let second = self.publish(Target::User(user, OWN[0]), scene);
        let third = self.publish(Target::Broker(topic), scene);
        let to_user = item(second, &format!("/user/u{user}{}", OWN[0]));
        let body = format!("[{},{to_user},{}]", item(first, topic), item(third, topic));
        self.post("/api/publish", "", &body, vec![first, second, third])
    }

    fn api_message(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let queue = *scene.random().pick(&OWN);
        let known = scene.plan.sessions.len();
        if known > 0 && scene.random().chance(600) {
            let at = scene.random().index(known);
            let (id, client, owner) = scene.plan.sessions[at].clone();
            let user = owner.unwrap_or(0);
            // A session of another user, or of none, is not a session of this user.
            let target = match owner {
                Some(user) => Target::Session(client, user, queue),
                None => Target::Nobody,
            };
            let p = self.publish(target, scene);
            let body = format!(
                "{{\"destination\":\"{queue}\",\"session\":\"{id}\",\"body\":{{\"p\":{p}}}}}"
            );
            return self.post(&format!("/api/users/u{user}/messages"), "", &body, vec![p]);
        }
        let user = scene.random().index(USERS);
        let p = self.publish(Target::User(user, queue), scene);
        let body = format!("{{\"destination\":\"{queue}\",\"body\":{{\"p\":{p}}}}}");
        self.post(&format!("/api/users/u{user}/messages"), "", &body, vec![p])
    }

    fn callback(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let forged = scene.random().chance(150);
        let call = scene.random().index(CALLS);
        let agent = call % USERS;
        let p = match scene.plan.calls[call] {
            _ if forged => self.publish(Target::Nobody, scene),
            Some(p) => {
                scene.history.publications[p].shared = true;
                p
            }
            None => {
                let p = self.publish(Target::User(agent, OWN[0]), scene);
                scene.plan.calls[call] = Some(p);
                p
            }
        };
        let body = format!("{{\"callId\":\"c{call}\",\"agentId\":\"u{agent}\",\"p\":{p}}}");
        let signed = callback::sign(&scene.plan.callback, body.as_bytes(), 0);
        let mut signature = signed.expect("the generic profile signs");
        if forged {
            signature = callback::sign(&scene.plan.callback, b"{}", 0).expect("as above");
        }
        let more = format!("X-Signature: {signature}\r\n");
        let request = self.post("/callback/inbound", &more, &body, vec![p]);
        if forged {
            self.expects(401);
        }
        request
    }

    /// A callback with a bad signature, or with a body that cannot be pushed.
    fn odd_callback(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let bodies = ["{", &deep, "{\"agentId\":\"u1\"}", "{\"callId\":{},\"agentId\":\"u1\"}"];
        let body = *scene.random().pick(&bodies);
        let signed = callback::sign(&scene.plan.callback, body.as_bytes(), 0);
        let good = format!("X-Signature: {}\r\n", signed.expect("the generic profile signs"));
        let twice = good.repeat(2);
        let signatures =
            [(good.as_str(), 400), ("", 401), ("X-Signature: sha256=zz\r\n", 401), (&twice, 401)];
        let (signature, status) = *scene.random().pick(&signatures);
        let request = self.post("/callback/inbound", signature, body, Vec::new());
        self.expects(status);
        request
    }

    fn refused(&mut self, scene: &mut Scene<'_>) -> Vec<u8> {
        let p = self.publish(Target::Nobody, scene);
        let body = format!("{{\"businessType\":\"T\",\"data\":{{\"p\":{p}}}}}");
        let request = self.post("/sendMsAll?subscribePath=/topic/t0", "", &body, vec![p]);
        self.expects(403);
        request
    }

    pub(super) fn hear(
        &mut self,
        wire: &mut Wire,
        scene: &mut Scene<'_>,
    ) -> Result<bool, Violation> {
        let mut any = false;
        while let Some(answer) = wire.answer()? {
            if answer.status == 100 {
                continue;
            }
            any = true;
            let wrong = |what: String| {
                Violation::new(Oracle::Protocol, format!("HTTP client {}: {what}", self.number))
            };
            // Before the first answer there may be one that the server sends for its own reasons.
            let expected = self.asked.pop_front();
            let status = expected.as_ref().map_or(0, |asked| asked.status);
            let is_gone =
                answer.status == 404 && expected.as_ref().is_some_and(|a| a.kick.is_some());
            if answer.status == status || is_gone {
                if let Some(kick) = expected.as_ref().and_then(|asked| asked.kick) {
                    scene.history.kicks[kick].done = true;
                }
                for p in expected.into_iter().flat_map(|asked| asked.publications) {
                    if status == 200 {
                        scene.history.acknowledge(p);
                    }
                }
            } else if !matches!(answer.status, 503 | 504 | 408) {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(wrong(format!("{} instead of {status}: {body}", answer.status)));
            }
            if answer.close {
                self.asked.clear();
                self.leaving = true;
            }
        }
        Ok(any)
    }
}

#![forbid(unsafe_code)]
//! The stand-in for a telephony provider, for the demo only: it takes the call that an agent asks
//! for, says so, and calls back a little later, signed and over HTTP as a provider would.
//!
//! It knows one callback of the configuration ([`Shared::stand_in`]) and nothing of the engine.
//!
//! **Bounds.** [`PROVIDER_CALLS_MAX`] calls that are not called back yet; past it 503, as with a
//! full queue of hook calls. They are forgotten when the process ends.

use super::hooks::Call;
use super::log::{Level, Log};
use super::reply::{Answered, Fault};
use crate::callback;
use crate::config;
use crate::engine::shared::Shared;
use crate::limits::PROVIDER_CALLS_MAX;
use serde_json::{Value, json};
use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// From a call to its result.
const CALL_TIME: Duration = Duration::from_secs(2);
/// From the callback's start to its answer: it goes to this process.
const CALLBACK_TIME: Duration = Duration::from_secs(5);
/// Characters of each text of the agent's page that are sent back.
const TEXT_MAX: usize = 64;

/// The provider.
#[derive(Debug, Default)]
pub(super) struct Provider {
    calls: JoinSet<()>,
    numbers: u64,
}

/// A callback that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Callback {
    url: String,
    header: String,
    signature: String,
    body: Vec<u8>,
}

impl Provider {
    /// Takes a call and returns the answer to it.
    pub(super) fn take(
        &mut self,
        call: &Call,
        shared: &Shared,
        client: &reqwest::Client,
        log: &Log,
    ) -> Result<Answered, (Fault, String)> {
        while self.calls.try_join_next().is_some() {}
        if self.calls.len() >= PROVIDER_CALLS_MAX {
            return Err((Fault::Full, String::new()));
        }
        self.numbers += 1;
        let rule = shared.stand_in().ok_or((Fault::NoHook, String::new()))?;
        let user = call.user.as_deref().ok_or((Fault::NoUser, String::new()))?;
        let (id, body) = outcome(call, user, self.numbers);
        let callback = callback(rule, shared, body).ok_or((Fault::NoHook, String::new()))?;
        self.calls.spawn_local(call_back(client.clone(), callback, log.clone()));
        let body = json!({ "code": 0, "callId": id }).to_string().into_bytes();
        Ok(Answered { content_type: Some(b"application/json".to_vec()), body })
    }
}

/// The call's id, and the JSON with its result.
fn outcome(call: &Call, user: &str, number: u64) -> (String, Vec<u8>) {
    let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let text = |key: &str| -> Option<String> {
        let text: String = asked.get(key)?.as_str()?.chars().take(TEXT_MAX).collect();
        Some(text).filter(|text| !text.is_empty())
    };
    let id = text("callId").unwrap_or_else(|| format!("call-{}-{number}", call.session));
    let body = json!({ "callId": id, "agentId": user, "to": text("to"), "result": "answered" });
    (id, body.to_string().into_bytes())
}

fn callback(rule: &config::Callback, shared: &Shared, body: Vec<u8>) -> Option<Callback> {
    let header = &rule.signature_header;
    let to = shared.config.listen.bound.first()?;
    let url = format!("http://{to}{}", rule.path);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let signature = callback::sign(rule, &body, now.as_millis() as u64)?;
    Some(Callback { url, header: header.clone(), signature, body })
}

async fn call_back(client: reqwest::Client, callback: Callback, log: Log) {
    tokio::time::sleep(CALL_TIME).await;
    let Callback { url, header, signature, body } = callback;
    let request = client
        .post(&url)
        .timeout(CALLBACK_TIME)
        .header("content-type", "application/json")
        .header(header, signature)
        .body(body);
    let problem: Box<dyn Display> = match request.send().await {
        Ok(answer) if answer.status().is_success() => return,
        Ok(answer) => Box::new(answer.status()),
        Err(error) => Box::new(error),
    };
    let values: [(&str, &dyn Display); 2] = [("url", &url), ("error", &problem)];
    log.limited(Level::Warn, "the stand-in provider's callback failed", &url, &values);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::engine::shared::Keys;
    use crate::ids::{SessionId, SessionIndex, ShardId};
    use crate::metrics::Metrics;

    const SETTINGS: &str = "
        demo.enabled = true
        [[callback]]
        path = '/callback/outbound'
        id = '/callId'
        user = '/agentId'
        destination = '/queue/sub'
    ";

    fn shared(settings: &str) -> Shared {
        let config = Sources::default().parse(settings, false).expect("the test's TOML is good");
        Shared::new(config, 1, Keys::known(7), "abcdef", Metrics::new(1))
    }

    fn call(body: &str) -> Call {
        Call {
            destination: "/ws/call".into(),
            content_type: None,
            body: body.into(),
            session: SessionId::new(ShardId(0), SessionIndex(5), 1),
            user: Some("7".into()),
            place: crate::mem::shares::Place::NONE,
        }
    }

    #[test]
    fn the_outcome_is_of_the_call_and_of_the_user_who_asked() {
        let asked = r#"{"callId":"c-1","agentId":"8","to":"+86 1","result":"busy"}"#;
        let (id, body) = outcome(&call(asked), "7", 3);
        let json: Value = serde_json::from_slice(&body).expect("JSON");
        let expected =
            json!({ "callId": "c-1", "agentId": "7", "to": "+86 1", "result": "answered" });
        assert_eq!((id.as_str(), json), ("c-1", expected));
        for body in ["", "not JSON", "[]", r#"{"callId":""}"#, r#"{"callId":7}"#] {
            let (id, body) = outcome(&call(body), "7", 3);
            assert!(id.starts_with("call-") && id.ends_with("-3"), "{id}");
            assert!(serde_json::from_slice::<Value>(&body).expect("JSON")["to"].is_null());
        }
        let long = format!(r#"{{"callId":"{}"}}"#, "客".repeat(1000));
        assert_eq!(outcome(&call(&long), "7", 3).0, "客".repeat(TEXT_MAX));
    }

    #[test]
    fn the_callback_is_signed_and_goes_to_this_server() {
        let shared = shared(SETTINGS);
        let rule = shared.stand_in().expect("there is one in a demonstration");
        let made = callback(rule, &shared, b"{}".to_vec()).expect("its profile is built");
        assert_eq!(made.url, "http://127.0.0.1:8080/callback/outbound");
        let line = [(made.header.as_str(), made.signature.as_bytes())];
        assert_eq!(callback::verify(rule, &line, b"{}", 0), Ok(()));
    }

    #[test]
    fn without_a_demonstration_or_its_callback_there_is_none() {
        let secret = ("RINGPUSH_CALLBACK_SECRET".to_string(), "a secret of the tests".to_string());
        let sources = Sources { environment: vec![secret], ..Sources::default() };
        let plain = SETTINGS.replace("true", "false");
        let config = sources.parse(&plain, false).expect("the test's TOML is good");
        assert!(
            Shared::new(config, 1, Keys::known(7), "abcdef", Metrics::new(1)).stand_in().is_none()
        );
        assert!(shared("demo.enabled = true").stand_in().is_none());
    }
}

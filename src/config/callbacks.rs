//! `[[callback]]`: who signs, what is found in the JSON, where it goes.

use super::context::Context;
use super::endpoints::{owns_path, path};
use super::kind::{Kind, maybe, parsed, parsed_in, period, span, text, word};
use super::reader::quoted;
use super::secret::Secret;
use super::secrets::secrets;
use super::sections::broker_text;
use super::signature::{ACCEPTED, SignatureForm};
use super::syntax::{Pointer, below, is_destination, is_token};
use super::table::{Entry, table};
use super::{CALLBACK_SECRET, Mistake};
use crate::limits::SECRETS_MAX;
use crate::time::Millis;
use std::fmt;

/// The default of `timestamp-tolerance`.
const TOLERANCE: Millis = Millis::seconds(300);
const PROFILES: &[(&str, Profile)] = &[("generic", Profile::Generic)];
const POINTER: &str = "a JSON pointer such as \"/callId\"";

table! {
    /// One `[[callback]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Callback checked by callback_fits {
        path "path": String, path(), Reload;
            "its path; no other callback or endpoint may have the same"
        profile "profile": Profile = Profile::Generic, word(PROFILES), Reload;
            "how the third party signs and which answer it expects: HMAC-SHA256 in a header, and \
             `{\"code\":0}`"
        secrets "secret": Vec<Secret>, secrets("secret", CALLBACK_SECRET, SECRETS_MAX), Reload;
            "the key of the signature, at least 16 bytes; with several keys, a signature by any of \
             them is valid"
        signature_header "signature-header": String = "X-Signature".to_string(),
            text("the name of a header", is_token), Reload;
            "the header with the signature"
        signature_form "signature-form": SignatureForm = SignatureForm::default(),
            parsed(ACCEPTED, SignatureForm::parse), Reload;
            "what the header contains; with a `{timestamp}` the bytes `timestamp.body` are signed, \
             and the header is a list like Stripe's"
        timestamp_tolerance "timestamp-tolerance": Option<Millis> = None, maybe(period()), Reload;
            "how far a signed timestamp may be from now; past it 401; \"5m\" unless set, and not \
             allowed if the form has no timestamp"
        id "id": Option<Pointer> = None, maybe(parsed(POINTER, Pointer::parse)), Reload;
            "where in the JSON the key is that identifies duplicates; without it none is recognised"
        user "user": Option<Pointer> = None, maybe(parsed(POINTER, Pointer::parse)), Reload;
            "where in the JSON the name of the user is"
        destination "destination": String,
            text("a destination such as \"/queue/sub\"", is_destination), Reload;
            "a destination of that user; without `user`, one of the broker"
        business_type "business-type": Option<String> = None, maybe(text("a text", |_| true)),
            Reload;
            "the posted JSON is pushed as `data` of `{\"businessType\":…,\"data\":…}`; without \
             this key it is pushed as it is"
        dedupe_window "dedupe-window": Millis = Millis::seconds(600), span(), Reload;
            "how long a duplicate is recognised; with an `id` and a signed timestamp at least \
             twice `timestamp-tolerance`"
        offline "offline": Offline = Offline::Drop, offline(), Reload;
            "what happens if the user is absent or offline: nobody gets it, or the subscribers of \
             a topic"
    }
}

impl Entry for Callback {
    fn name(&self) -> Option<&str> {
        Some(&self.path)
    }
}

/// The profile of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// HMAC-SHA256 of the body in a header.
    Generic,
}

/// `offline` of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offline {
    /// Nobody gets it.
    Drop,
    /// It goes to this broker destination.
    Topic(String),
}

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offline::Drop => f.write_str("drop"),
            Offline::Topic(topic) => write!(f, "topic:{topic}"),
        }
    }
}

fn offline() -> Kind<Offline> {
    let accepted =
        |context: &Context<'_>| format!("\"drop\" or \"topic:\" and {}", broker_text(context));
    parsed_in(accepted, |text, context| {
        if text == "drop" {
            return Some(Offline::Drop);
        }
        let topic = text.strip_prefix("topic:")?;
        let fits = is_destination(topic) && context.destinations.as_ref()?.has(topic);
        fits.then(|| Offline::Topic(topic.to_string()))
    })
}

fn callback_fits(
    callback: &mut Callback,
    at: &str,
    context: &mut Context<'_>,
) -> Result<(), Mistake> {
    let error = |key: &str, value: &str, accepted: &str| {
        Err(Mistake::new(&format!("{at}.{key}"), &quoted(value), accepted))
    };
    if let Some(known) = &context.destinations {
        let destination = &callback.destination;
        if callback.user.is_some() && below(&known.user_prefix, destination) {
            let accepted = "a destination of a user such as \"/queue/sub\"";
            return error("destination", destination, accepted);
        }
        if callback.user.is_none() && !known.has(destination) {
            let accepted = format!("{}, as there is no user pointer", broker_text(context));
            return error("destination", destination, &accepted);
        }
    }
    match (callback.signature_form.has_timestamp(), callback.timestamp_tolerance) {
        (true, None) => callback.timestamp_tolerance = Some(TOLERANCE),
        (false, Some(tolerance)) => {
            let accepted = "nothing, as signature-form has no {timestamp}";
            return error("timestamp-tolerance", &tolerance.to_string(), accepted);
        }
        (true, Some(_)) | (false, None) => {}
    }
    // A signed callback is valid from one tolerance before its timestamp to one after it: if it
    // comes again within that time, it must be recognised.
    let least = callback.timestamp_tolerance.map_or(0, |tolerance| tolerance.0.saturating_mul(2));
    if callback.id.is_some() && callback.dedupe_window.0 < least {
        let accepted = format!(
            "at least twice timestamp-tolerance, \"{}\": a callback could be replayed after it",
            Millis(least)
        );
        return error("dedupe-window", &callback.dedupe_window.to_string(), &accepted);
    }
    owns_path(&callback.path, at, context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, Sources};

    fn parse(keys: &str) -> Result<Config, Mistake> {
        let variables = [("NEW", "the new one, 24 bytes"), ("OLD", "the old one, 24 bytes")];
        let environment = variables.map(|(name, value)| (name.to_string(), value.to_string()));
        let sources = Sources { environment: environment.to_vec(), ..Sources::default() };
        let rest = "path = '/c'\ndestination = '/topic/c'\nsecret-env = ['NEW', 'OLD']";
        let toml = format!("[[callback]]\n{rest}\n{keys}");
        sources.parse(&toml, false).map_err(ConfigError::only)
    }

    const STRIPE: &str = "signature-header = 'Stripe-Signature'\n\
                          signature-form = 't={timestamp},v1={hex}'\n";

    #[test]
    fn a_signed_timestamp_has_its_tolerance_and_the_dedupe_window_covers_it() {
        let good = |keys: &str| {
            let config = parse(&format!("{STRIPE}id = '/id'\n{keys}")).expect(keys);
            config.callbacks[0].timestamp_tolerance
        };
        assert_eq!(good(""), Some(Millis::seconds(300)));
        let six = good("timestamp-tolerance = '6m'\ndedupe-window = '12m'");
        assert_eq!(six, Some(Millis::seconds(360)));
        for (keys, key, accepted) in [
            ("timestamp-tolerance = '6m'", "dedupe-window", "at least twice timestamp-tolerance"),
            ("dedupe-window = '599s'", "dedupe-window", "\"600s\": a callback could be replayed"),
            ("timestamp-tolerance = '0s'", "timestamp-tolerance", "a duration above zero"),
        ] {
            let error = parse(&format!("{STRIPE}id = '/id'\n{keys}")).expect_err(keys);
            assert_eq!(error.key, format!("callback[0].{key}"));
            assert!(error.accepted.contains(accepted), "{error}");
        }
        // Without an id nothing is remembered; without {timestamp} in the form no time is signed.
        assert!(parse(&format!("{STRIPE}dedupe-window = '1s'")).is_ok());
        let error = parse("timestamp-tolerance = '1m'").expect_err("without effect");
        assert!(error.accepted.contains("no {timestamp}"), "{error}");
        let error = parse("signature-form = '{hex}{nonce}'").expect_err("an unknown placeholder");
        assert_eq!(error.key, "callback[0].signature-form");
    }

    #[test]
    fn secrets_stand_side_by_side_and_are_not_shown() {
        let config = parse("").expect("good");
        assert_eq!(config.callbacks[0].secrets.len(), 2);
        let shown = config.settings().into_iter().map(|line| line.value).collect::<String>();
        assert!(shown.contains("[\"NEW\", \"OLD\"]") && !shown.contains("24 bytes"), "{shown}");
    }
}

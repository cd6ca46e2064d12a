//! `[[callback]]`: who signs, what is found in the JSON, where it goes.

use super::entries::{PATH, broker_text, in_broker, required};
use super::file::{below, is_free_path};
use super::reader::{Section, quoted};
use super::secrets::Secrets;
use super::signature::{ACCEPTED, SignatureForm};
use super::syntax::{Pointer, is_destination, is_token};
use super::{Broker, CALLBACK_SECRET, Callback, ConfigError, Offline, Profile};
use crate::limits::SECRETS_MAX;
use crate::time::Millis;

/// `timestamp-tolerance`, where it is not set.
const TOLERANCE: Millis = Millis::seconds(300);

/// Reads every `[[callback]]`.
pub(super) fn read(
    sections: Vec<Section>,
    broker: &Broker,
    secrets: &mut Secrets<'_>,
) -> Result<Vec<Callback>, ConfigError> {
    sections.into_iter().map(|section| callback(section, broker, secrets)).collect()
}

fn callback(
    mut section: Section,
    broker: &Broker,
    secrets: &mut Secrets<'_>,
) -> Result<Callback, ConfigError> {
    let path = section.text("path", PATH, is_free_path)?;
    let path = required(&section, "path", path, PATH)?;
    let profile = profile(&mut section)?;
    let keys = ["secret-env", "secret-file"];
    let secrets = secrets.several(&mut section, keys, CALLBACK_SECRET, SECRETS_MAX)?;
    let accepted = format!(
        "the name of a variable that is set, or secret-file; {CALLBACK_SECRET} is not set either"
    );
    let named = (!secrets.is_empty()).then_some(secrets);
    let secrets = required(&section, "secret-env", named, &accepted)?;
    let pointer = "a JSON pointer such as \"/callId\"";
    let id = section.fit("id", pointer, |value| Pointer::parse(value.as_str()?))?;
    let user = section.fit("user", pointer, |value| Pointer::parse(value.as_str()?))?;
    let of_user = user.is_some();
    let accepted = if of_user {
        "a destination of a user such as \"/queue/sub\"".to_string()
    } else {
        format!("{}, as there is no user pointer", broker_text(broker))
    };
    let destination = section.text("destination", &accepted, |text| {
        is_destination(text)
            && if of_user { !below(&broker.user_prefix, text) } else { in_broker(broker, text) }
    })?;
    let destination = required(&section, "destination", destination, &accepted)?;
    let business_type = section.text("business-type", "a text", |_| true)?;
    let dedupe_window = section.span("dedupe-window")?.unwrap_or(Millis::seconds(600));
    if id.is_some() {
        covers_replays(&section, &profile, dedupe_window)?;
    }
    let accepted = format!("\"drop\" or \"topic:\" and {}", broker_text(broker));
    let offline = section.fit("offline", &accepted, |value| match value.as_str()? {
        "drop" => Some(Offline::Drop),
        text => {
            let topic = text.strip_prefix("topic:")?;
            let fits = is_destination(topic) && in_broker(broker, topic);
            fits.then(|| Offline::Topic(topic.to_string()))
        }
    })?;
    let offline = offline.unwrap_or(Offline::Drop);
    section.finish()?;
    Ok(Callback {
        path,
        profile,
        secrets,
        id,
        user,
        destination,
        business_type,
        dedupe_window,
        offline,
    })
}

fn profile(section: &mut Section) -> Result<Profile, ConfigError> {
    section.text("profile", "\"generic\"", |text| text == "generic")?;
    let header = section.text("signature-header", "the name of a header", is_token)?;
    let form = section.fit("signature-form", ACCEPTED, |v| SignatureForm::parse(v.as_str()?))?;
    let form = form.unwrap_or_default();
    let tolerance = section.period("timestamp-tolerance")?;
    if let Some(tolerance) = tolerance.filter(|_| !form.has_timestamp()) {
        let accepted = "nothing, as signature-form has no {timestamp}";
        return Err(section.error(
            "timestamp-tolerance",
            &quoted(&tolerance.to_string()),
            accepted,
        ));
    }
    Ok(Profile::Generic {
        header: header.unwrap_or_else(|| "X-Signature".to_string()),
        form,
        tolerance: tolerance.unwrap_or(TOLERANCE),
    })
}

/// A signed callback is good from `timestamp-tolerance` before its timestamp to as long after it:
/// whoever sends it again within that time must be recognised.
fn covers_replays(
    section: &Section,
    profile: &Profile,
    dedupe_window: Millis,
) -> Result<(), ConfigError> {
    let Profile::Generic { form, tolerance, .. } = profile;
    let least = tolerance.0.saturating_mul(2);
    if !form.has_timestamp() || dedupe_window.0 >= least {
        return Ok(());
    }
    let accepted = format!(
        "at least twice timestamp-tolerance, \"{}\": a callback could be replayed after it",
        Millis(least)
    );
    Err(section.error("dedupe-window", &quoted(&dedupe_window.to_string()), &accepted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn parse(keys: &str) -> Result<Config, ConfigError> {
        let variables = [("NEW", "the new one, 24 bytes"), ("OLD", "the old one, 24 bytes")];
        let environment = variables.map(|(name, value)| (name.to_string(), value.to_string()));
        let sources = Sources { environment: environment.to_vec(), ..Sources::default() };
        let rest = "path = '/c'\ndestination = '/topic/c'\nsecret-env = ['NEW', 'OLD']";
        sources.parse(&format!("[[callback]]\n{rest}\n{keys}"), false)
    }

    const STRIPE: &str = "signature-header = 'Stripe-Signature'\n\
                          signature-form = 't={timestamp},v1={hex}'\n";

    #[test]
    fn a_signed_timestamp_has_its_tolerance_and_the_dedupe_window_covers_it() {
        let good = |keys: &str| {
            let config = parse(&format!("{STRIPE}id = '/id'\n{keys}")).expect(keys);
            let Profile::Generic { tolerance, .. } = config.callbacks[0].profile;
            tolerance
        };
        assert_eq!(good(""), Millis::seconds(300));
        assert_eq!(good("timestamp-tolerance = '6m'\ndedupe-window = '12m'"), Millis::seconds(360));
        for (keys, key, accepted) in [
            ("timestamp-tolerance = '6m'", "dedupe-window", "at least twice timestamp-tolerance"),
            ("dedupe-window = '599s'", "dedupe-window", "\"600s\": a callback could be replayed"),
            ("timestamp-tolerance = '0s'", "timestamp-tolerance", "a duration above zero"),
        ] {
            let error = parse(&format!("{STRIPE}id = '/id'\n{keys}")).expect_err(keys);
            assert_eq!(error.key, format!("callback[0].{key}"));
            assert!(error.accepted.contains(accepted), "{error}");
        }
        // Nothing is remembered without an id, and nothing is signed with a time without a form.
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
        assert!(shown.contains("[\"***\", \"***\"]") && !shown.contains("24 bytes"), "{shown}");
    }
}

//! `[[callback]]`: who signs, what is found in the JSON, where it goes.

use super::entries::{PATH, broker_text, in_broker, required};
use super::file::{below, is_free_path, later};
use super::reader::Section;
use super::secrets::Secrets;
use super::syntax::{Pointer, is_destination, is_token};
use super::{
    Broker, CALLBACK_SECRET, Callback, ConfigError, Encoding, Offline, Profile, SignatureForm,
};
use crate::time::Millis;

/// Profiles that are built later.
const LATER: [&str; 7] = ["twilio", "vonage", "plivo", "sinch", "aliyun", "tencent", "huawei"];
/// Reads every `[[callback]]`.
pub(super) fn read(
    sections: Vec<Section>,
    broker: &Broker,
    secrets: &mut Secrets<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Callback>, ConfigError> {
    sections.into_iter().map(|section| callback(section, broker, secrets, warnings)).collect()
}

fn callback(
    mut section: Section,
    broker: &Broker,
    secrets: &mut Secrets<'_>,
    warnings: &mut Vec<String>,
) -> Result<Callback, ConfigError> {
    let path = section.text("path", PATH, is_free_path)?;
    let path = required(&section, "path", path, PATH)?;
    let profile = profile(&mut section, warnings)?;
    let secret = secrets.of(&mut section, ["secret-env", "secret-file"], CALLBACK_SECRET)?;
    let accepted = format!(
        "the name of a variable that is set, or secret-file; {CALLBACK_SECRET} is not set either"
    );
    let secret = required(&section, "secret-env", secret, &accepted)?;
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
    let ttl = section.span("ttl")?.unwrap_or(Millis::seconds(3600));
    let accepted = format!("\"drop\", \"keep\" or \"topic:\" and {}", broker_text(broker));
    let offline = section.fit("offline", &accepted, |value| match value.as_str()? {
        "drop" => Some(Offline::Drop),
        "keep" => Some(Offline::Keep),
        text => {
            let topic = text.strip_prefix("topic:")?;
            let fits = is_destination(topic) && in_broker(broker, topic);
            fits.then(|| Offline::Topic(topic.to_string()))
        }
    })?;
    if offline == Some(Offline::Keep) {
        warnings.push(later(&format!("{} = \"keep\"", section.name("offline"))));
    }
    let offline = offline.unwrap_or(Offline::Drop);
    section.finish()?;
    Ok(Callback {
        path,
        profile,
        secret,
        id,
        user,
        destination,
        business_type,
        dedupe_window,
        ttl,
        offline,
    })
}

fn profile(section: &mut Section, warnings: &mut Vec<String>) -> Result<Profile, ConfigError> {
    let accepted = format!("\"generic\", or (built later) {}", LATER.join(", "));
    let name =
        section.text("profile", &accepted, |text| text == "generic" || LATER.contains(&text))?;
    let header = section.text("signature-header", "the name of a header", is_token)?;
    let accepted = "a text with one {hex} or {base64} in it, such as \"sha256={hex}\"";
    let form = section.fit("signature-form", accepted, |value| form(value.as_str()?))?;
    match name {
        Some(name) if name != "generic" => {
            let key = section.name("profile");
            warnings.push(format!(
                "{key} = \"{name}\" is accepted but built later: its callbacks are answered 501"
            ));
            Ok(Profile::Later(name))
        }
        _ => Ok(Profile::Generic {
            header: header.unwrap_or_else(|| "X-Signature".to_string()),
            form: form.unwrap_or(SignatureForm {
                before: "sha256=".to_string(),
                encoding: Encoding::Hex,
                after: String::new(),
            }),
        }),
    }
}

fn form(text: &str) -> Option<SignatureForm> {
    let (mark, encoding) = match (text.contains("{hex}"), text.contains("{base64}")) {
        (true, false) => ("{hex}", Encoding::Hex),
        (false, true) => ("{base64}", Encoding::Base64),
        _ => return None,
    };
    let (before, after) = text.split_once(mark)?;
    let plain =
        |text: &str| text.bytes().all(|b| (b' '..=b'~').contains(&b)) && !text.contains('{');
    (plain(before) && plain(after)).then(|| SignatureForm {
        before: before.to_string(),
        encoding,
        after: after.to_string(),
    })
}

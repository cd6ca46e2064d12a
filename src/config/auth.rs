//! `[auth]`: the methods that name a user, and what each needs.

use super::file::later;
use super::reader::{Section, list_of, pick};
use super::secrets::Secrets;
use super::syntax::{is_token, is_url};
use super::{
    Auth, AuthHook, ConfigError, Method, TOKEN_SECRET, Token, TokenAlgorithm, TokenSource,
};
use crate::time::Millis;

const METHODS: [(&str, Method); 4] = [
    ("token", Method::Token),
    ("header", Method::Header),
    ("hook", Method::Hook),
    ("query", Method::Query),
];
/// The algorithms of tokens by their names.
pub(super) const ALGORITHMS: [(&str, TokenAlgorithm); 3] = [
    ("HS256", TokenAlgorithm::Hs256),
    ("HS384", TokenAlgorithm::Hs384),
    ("HS512", TokenAlgorithm::Hs512),
];

/// Reads the section.
pub(super) fn read(
    mut section: Section,
    secrets: &mut Secrets<'_>,
    warnings: &mut Vec<String>,
) -> Result<Auth, ConfigError> {
    let words = list_of(METHODS.iter().map(|(word, _)| *word));
    let methods = section.fits("methods", &format!("a list of {words}"), |t| pick(t, &METHODS))?;
    let anonymous = section.flag("anonymous")?.unwrap_or(true);
    let token = token(section.part("token")?, secrets, warnings)?;
    let name = "a table such as { name = \"X-User-Id\" }: a name without blanks";
    let mut named = |key, default: &str| -> Result<String, ConfigError> {
        let mut part = section.part(key)?;
        let found = part.text("name", name, is_token)?;
        part.finish()?;
        Ok(found.unwrap_or_else(|| default.to_string()))
    };
    let header = named("header", "X-User-Id")?;
    let query = named("query", "userId")?;
    let hook = match section.section("hook")? {
        Some(part) => Some(auth_hook(part)?),
        None => None,
    };
    if hook.is_some() {
        warnings.push(later("auth.hook"));
    }
    let explicit = methods.is_some();
    let methods = methods.unwrap_or_else(|| token.iter().map(|_| Method::Token).collect());
    let missing = |method| explicit && methods.contains(&method);
    if missing(Method::Token) && token.is_none() {
        let accepted = format!(
            "a list without \"token\" unless its secret is set: auth.token.secret-env, or \
             {TOKEN_SECRET} in the environment"
        );
        return Err(section.error("methods", "[\"token\"]", &accepted));
    }
    if missing(Method::Hook) && hook.is_none() {
        let accepted = "a list without \"hook\" unless auth.hook.url is set";
        return Err(section.error("methods", "[\"hook\"]", accepted));
    }
    section.finish()?;
    Ok(Auth { methods, anonymous, token, header, hook, query })
}

fn token(
    mut section: Section,
    secrets: &mut Secrets<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Token>, ConfigError> {
    let secret = secrets.of(&mut section, ["secret-env", "secret-file"], TOKEN_SECRET)?;
    if section.take("keys-file").is_some() {
        warnings.push(later("auth.token.keys-file"));
    }
    let words = list_of(ALGORITHMS.iter().map(|(word, _)| *word));
    let accepted = format!("a list of {words}; those with public keys are built later");
    let algorithms = section.fits("algorithms", &accepted, |text| pick(text, &ALGORITHMS))?;
    if algorithms.as_ref().is_some_and(Vec::is_empty) {
        return Err(section.error("algorithms", "[]", &accepted));
    }
    let any = |text: &str| !text.is_empty();
    let user_claim = section.text("user-claim", "the name of a claim", any)?;
    let accepted = "a list of \"bearer\", \"cookie:NAME\", \"query:NAME\" and \"stomp\"";
    let from = section.fits("from", accepted, token_source)?;
    let issuer = section.text("issuer", "the iss of good tokens", any)?;
    let audience = section.text("audience", "the aud of good tokens", any)?;
    let leeway = section.span("leeway")?;
    section.finish()?;
    Ok(secret.map(|secret| Token {
        secret,
        algorithms: algorithms.unwrap_or_else(|| vec![TokenAlgorithm::Hs256]),
        user_claim: user_claim.unwrap_or_else(|| "sub".to_string()),
        from: from.unwrap_or_else(|| {
            vec![
                TokenSource::Bearer,
                TokenSource::Cookie("token".to_string()),
                TokenSource::Query("access_token".to_string()),
                TokenSource::Stomp,
            ]
        }),
        issuer,
        audience,
        leeway: leeway.unwrap_or(Millis::seconds(60)),
    }))
}

fn token_source(text: &str) -> Option<TokenSource> {
    match text.split_once(':') {
        None if text == "bearer" => Some(TokenSource::Bearer),
        None if text == "stomp" => Some(TokenSource::Stomp),
        Some(("cookie", name)) if is_token(name) => Some(TokenSource::Cookie(name.to_string())),
        Some(("query", name)) if is_token(name) => Some(TokenSource::Query(name.to_string())),
        _ => None,
    }
}

fn auth_hook(mut section: Section) -> Result<AuthHook, ConfigError> {
    let url = section.text("url", "an http or https URL", is_url)?;
    let cookies = section.texts("cookies", "a list of names of cookies", is_token)?;
    let cache = section.span("cache")?;
    let Some(url) = url else {
        return Err(section.error("url", "nothing", "an http or https URL"));
    };
    section.finish()?;
    let cookies = cookies.unwrap_or_default();
    Ok(AuthHook { url, cookies, cache: cache.unwrap_or(Millis::seconds(10)) })
}

//! `[auth]`: the methods that name a user, and what each needs.

use super::reader::{Section, list_of, pick};
use super::secrets::Secrets;
use super::syntax::is_token;
use super::{Auth, ConfigError, Method, TOKEN_SECRET, Token, TokenAlgorithm, TokenSource};
use crate::time::Millis;

const METHODS: [(&str, Method); 3] =
    [("token", Method::Token), ("header", Method::Header), ("query", Method::Query)];
/// The algorithms of tokens by their names.
pub(super) const ALGORITHMS: [(&str, TokenAlgorithm); 3] = [
    ("HS256", TokenAlgorithm::Hs256),
    ("HS384", TokenAlgorithm::Hs384),
    ("HS512", TokenAlgorithm::Hs512),
];

/// Reads the section.
pub(super) fn read(mut section: Section, secrets: &mut Secrets<'_>) -> Result<Auth, ConfigError> {
    let words = list_of(METHODS.iter().map(|(word, _)| *word));
    let methods = section.fits("methods", &format!("a list of {words}"), |t| pick(t, &METHODS))?;
    let anonymous = section.flag("anonymous")?.unwrap_or(true);
    let token = token(section.part("token")?, secrets)?;
    let name = "a table such as { name = \"X-User-Id\" }: a name without blanks";
    let mut named = |key, default: &str| -> Result<String, ConfigError> {
        let mut part = section.part(key)?;
        let found = part.text("name", name, is_token)?;
        part.finish()?;
        Ok(found.unwrap_or_else(|| default.to_string()))
    };
    let header = named("header", "X-User-Id")?;
    let query = named("query", "userId")?;
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
    section.finish()?;
    Ok(Auth { methods, anonymous, token, header, query })
}

fn token(mut section: Section, secrets: &mut Secrets<'_>) -> Result<Option<Token>, ConfigError> {
    let secret = secrets.of(&mut section, ["secret-env", "secret-file"], TOKEN_SECRET)?;
    let words = list_of(ALGORITHMS.iter().map(|(word, _)| *word));
    let accepted = format!("a list of {words}");
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

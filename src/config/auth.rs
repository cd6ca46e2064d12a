//! `[auth]`: the methods that name a user, and what each needs.

use super::context::Context;
use super::kind::{flag, list, listed, maybe, span, table_with, text, word_of, words};
use super::secrets::one_secret;
use super::syntax::is_token;
use super::table::table;
use super::{Mistake, Secret, TOKEN_SECRET};
use crate::time::Millis;
use std::fmt;

const METHODS: &[(&str, Method)] =
    &[("token", Method::Token), ("header", Method::Header), ("query", Method::Query)];
const ALGORITHMS: &[(&str, TokenAlgorithm)] = &[
    ("HS256", TokenAlgorithm::Hs256),
    ("HS384", TokenAlgorithm::Hs384),
    ("HS512", TokenAlgorithm::Hs512),
];
const NAME: &str = "a name without blanks";
const PLACES: &str = "a list of \"bearer\", \"cookie:NAME\", \"query:NAME\" and \"stomp\"";

table! {
    /// Who the user of a handshake is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Auth checked by tokens_are_used {
        token "token": Option<Token> = None, table_with(Token::has_secret, secret()), Reload;
            "signed tokens (JWT, RFC 7519)"
        methods "methods": Vec<Method> = Vec::new(), words(METHODS).otherwise(by_token), Reload;
            "the first method that finds a user decides: a signed token, a header from \
             `listen.trusted-proxies`, or, with `[demo]`, a query parameter; if the key is absent \
             and the secret of tokens is set: `[\"token\"]`"
        anonymous "anonymous": bool = true, flag(), Reload;
            "a client that no method names is anonymous; false: its handshake gets a 401, or, with \
             \"stomp\" in `token.from`, a CONNECT without a valid token gets an ERROR and close \
             1008"
        header "header.name": String = "X-User-Id".to_string(), text(NAME, is_token), Reload;
            "the header that a trusted proxy sets"
        query "query.name": String = "userId".to_string(), text(NAME, is_token), Reload;
            "the query parameter that names the user, with `[demo]` only"
    }
}

fn by_token(context: &Context<'_>) -> Option<Vec<Method>> {
    context.has_token.then(|| vec![Method::Token])
}

/// The key that `[auth.token]` cannot do without, and what it accepts.
fn secret() -> (&'static str, String) {
    let accepted = format!(
        "the name of a variable that is set, or secret-file; [auth.token] is written, and \
         {TOKEN_SECRET} is not set either"
    );
    ("secret-env", accepted)
}

/// The method `token` needs a secret, and a table of tokens that is written needs the method.
fn tokens_are_used(auth: &mut Auth, path: &str, context: &mut Context<'_>) -> Result<(), Mistake> {
    let is_asked = auth.methods.contains(&Method::Token);
    let is_written = context.written.iter().any(|name| *name == format!("{path}.token"));
    let accepted = match (is_asked, &auth.token) {
        (true, None) => format!(
            "a list without \"token\" unless its secret is set: auth.token.secret-env, or \
             {TOKEN_SECRET} in the environment"
        ),
        (false, Some(_)) if is_written => {
            "a list with \"token\", as [auth.token] is written".to_string()
        }
        (false, Some(_)) => {
            // The environment has a secret that nothing here uses.
            auth.token = None;
            return Ok(());
        }
        (true, Some(_)) | (false, None) => return Ok(()),
    };
    let methods: Vec<&str> = auth.methods.iter().map(|method| method.word()).collect();
    Err(Mistake::new(&format!("{path}.methods"), &listed(&methods), &accepted))
}

/// One way to name a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token.
    Token,
    /// A header of a trusted proxy.
    Header,
    /// A query parameter, with `[demo]` only.
    Query,
}

impl Method {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        word_of(METHODS, self)
    }
}

table! {
    /// `[auth.token]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Token checked by notes_the_secret {
        secret "secret": Secret = Secret::new(""), one_secret("secret", TOKEN_SECRET), Reload;
            "the key of the HMAC, at least 16 bytes; `[auth.token]` must have one if it is written"
        algorithms "algorithms": Vec<TokenAlgorithm> = vec![TokenAlgorithm::Hs256],
            words(ALGORITHMS), Reload;
            "the algorithms that a token may be signed with, at least one"
        user_claim "user-claim": String = "sub".to_string(),
            text("the name of a claim", not_empty), Reload;
            "the claim that names the user; a token without it is refused"
        from "from": Vec<TokenSource> = places(), list(PLACES, TokenSource::parse), Reload;
            "where to look, in this order: `Authorization: Bearer …`, a cookie, a query parameter, \
             passcode or `Authorization` header of CONNECT"
        issuer "issuer": Option<String> = None,
            maybe(text("the iss of valid tokens", not_empty)), Reload;
            "the `iss` that a token must have"
        audience "audience": Option<String> = None,
            maybe(text("the aud of valid tokens", not_empty)), Reload;
            "an `aud` that a token must have"
        leeway "leeway": Millis = Millis::seconds(60), span(), Reload;
            "how far the clocks may be apart, at `exp` and `nbf`"
    }
}

impl Token {
    fn has_secret(&self) -> bool {
        !self.secret.expose().is_empty()
    }
}

fn notes_the_secret(
    token: &mut Token,
    path: &str,
    context: &mut Context<'_>,
) -> Result<(), Mistake> {
    context.has_token = token.has_secret();
    if token.algorithms.is_empty() {
        let accepted = "a list of one or more";
        return Err(Mistake::new(&format!("{path}.algorithms"), "[]", accepted));
    }
    Ok(())
}

/// An algorithm of signed tokens (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// Where a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …` of the handshake.
    Bearer,
    /// A cookie of this name.
    Cookie(String),
    /// A query parameter of this name.
    Query(String),
    /// Passcode or `Authorization` header of CONNECT.
    Stomp,
}

impl TokenSource {
    fn parse(text: &str) -> Option<TokenSource> {
        match text.split_once(':') {
            None if text == "bearer" => Some(TokenSource::Bearer),
            None if text == "stomp" => Some(TokenSource::Stomp),
            Some(("cookie", name)) if is_token(name) => Some(TokenSource::Cookie(name.into())),
            Some(("query", name)) if is_token(name) => Some(TokenSource::Query(name.into())),
            _ => None,
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::Bearer => f.write_str("bearer"),
            TokenSource::Cookie(name) => write!(f, "cookie:{name}"),
            TokenSource::Query(name) => write!(f, "query:{name}"),
            TokenSource::Stomp => f.write_str("stomp"),
        }
    }
}

fn places() -> Vec<TokenSource> {
    ["bearer", "cookie:token", "query:access_token", "stomp"]
        .into_iter()
        .filter_map(TokenSource::parse)
        .collect()
}

fn not_empty(text: &str) -> bool {
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, Method, Mistake, Sources, TOKEN_SECRET};

    fn parse(toml: &str) -> Result<Config, Mistake> {
        let secret = (TOKEN_SECRET.to_string(), "a secret of the tests".to_string());
        let sources = Sources { environment: vec![secret], ..Sources::default() };
        sources.parse(toml, false).map_err(ConfigError::only)
    }

    #[test]
    fn a_table_of_tokens_takes_effect_or_is_refused() {
        for toml in ["[auth.token]", "[auth]\nmethods = ['header', 'token']\n[auth.token]"] {
            let auth = parse(toml).expect(toml).auth;
            assert!(auth.token.is_some() && auth.methods.contains(&Method::Token), "{toml}");
        }
        for methods in ["[]", "['header']"] {
            let toml = format!("[auth]\nmethods = {methods}\n");
            // A secret in the environment alone demands nothing.
            assert_eq!(parse(&toml).expect("good").auth.token, None);
            let error = parse(&format!("{toml}[auth.token]\nissuer = 'x'")).expect_err("unused");
            assert_eq!(error.key, "auth.methods");
            assert_eq!(error.value, methods.replace('\'', "\""));
            assert!(error.accepted.starts_with("a list with \"token\""), "{error}");
        }
    }
}

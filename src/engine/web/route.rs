#![forbid(unsafe_code)]
//! From a request's path to what answers it.

use crate::console::{self, Asset};
use crate::engine::context::Serves;
use crate::engine::shared::{Endpoint, Shared};
use crate::http::request::Method;

/// What answers a path.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// At or below an endpoint: its number and the rest of the path.
    Endpoint(usize, &'a str),
    /// `/sendMsToUser`
    SendToUser,
    /// `/sendMsAll`
    SendToAll,
    /// `/api/publish`
    Publish,
    /// `/api/users`
    Users,
    /// `/api/users/{user}`
    User(&'a str),
    /// `/api/users/{user}/messages`
    UserMessages(&'a str),
    /// `/api/sessions/{id}`
    Session(&'a str),
    /// `/api/stats`
    Stats,
    /// A callback's path, by its number.
    Callback(usize),
    /// The page's provider panel: signs for a callback, by its number.
    Demo(usize),
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/console.json`
    Console,
    /// A file of the page.
    Page(&'static Asset),
    /// Nothing.
    Nothing,
}

/// Finds what answers `path` on a listener.
pub fn route<'a>(shared: &Shared, path: &'a str, serves: Serves) -> Route<'a> {
    match path {
        "/healthz" => return Route::Health,
        "/readyz" => return Route::Ready,
        _ => {}
    }
    if serves.api {
        match at_api(path) {
            Route::Nothing => {}
            route => return route,
        }
    }
    if serves.endpoints {
        let callbacks = &shared.config.callbacks;
        if let Some(at) = callbacks.iter().position(|callback| callback.path == path) {
            return Route::Callback(at);
        }
        if let Some((at, rest)) = at_endpoint(shared, path) {
            return Route::Endpoint(at, rest);
        }
    }
    if serves.api {
        if shared.config.demo.enabled
            && let Some(rest) = path.strip_prefix("/demo")
            && let Some(at) = shared.config.callbacks.iter().position(|c| c.path == rest)
        {
            return Route::Demo(at);
        }
        if path == "/console.json" {
            return Route::Console;
        }
        if let Some(asset) = console::find(path) {
            return Route::Page(asset);
        }
    }
    Route::Nothing
}

fn at_api(path: &str) -> Route<'_> {
    match path {
        "/sendMsToUser" => return Route::SendToUser,
        "/sendMsAll" => return Route::SendToAll,
        "/metrics" => return Route::Metrics,
        "/api/publish" => return Route::Publish,
        "/api/users" => return Route::Users,
        "/api/stats" => return Route::Stats,
        _ => {}
    }
    if let Some(id) = path.strip_prefix("/api/sessions/") {
        return Route::Session(id);
    }
    match path.strip_prefix("/api/users/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        Some((user, "")) if !user.is_empty() => Route::User(user),
        Some((user, "messages")) if !user.is_empty() => Route::UserMessages(user),
        _ => Route::Nothing,
    }
}

/// The endpoint with the longest path that `path` is at or below.
fn at_endpoint<'a>(shared: &Shared, path: &'a str) -> Option<(usize, &'a str)> {
    let below = |(at, endpoint): (usize, &Endpoint)| {
        let rest = path.strip_prefix(endpoint.config.path.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some((at, rest))
    };
    shared.endpoints.iter().enumerate().filter_map(below).min_by_key(|(_, rest)| rest.len())
}

impl Route<'_> {
    /// None if the method fits; else the methods that do, for `Allow`.
    pub fn refuses(&self, method: Method<'_>) -> Option<&'static str> {
        use Method::{Delete, Get, Head, Post};
        let allowed: (&[Method<'_>], &'static str) = match self {
            // The endpoint answers itself.
            Route::Endpoint(..) | Route::Nothing => return None,
            // HEAD has no effect, so it cannot be answered as GET would be.
            Route::SendToUser | Route::SendToAll => (&[Get, Post], "GET, POST"),
            Route::Publish | Route::UserMessages(_) | Route::Callback(_) | Route::Demo(_) => {
                (&[Post], "POST")
            }
            Route::User(_) => (&[Get, Head, Delete], "GET, HEAD, DELETE"),
            Route::Session(_) => (&[Delete], "DELETE"),
            Route::Users
            | Route::Stats
            | Route::Metrics
            | Route::Health
            | Route::Ready
            | Route::Console
            | Route::Page(_) => (&[Get, Head], "GET, HEAD"),
        };
        (!allowed.0.contains(&method)).then_some(allowed.1)
    }

    /// Who is asked before it answers.
    pub fn guard(&self) -> Guard {
        match self {
            Route::SendToUser
            | Route::SendToAll
            | Route::Publish
            | Route::Users
            | Route::User(_)
            | Route::UserMessages(_)
            | Route::Session(_)
            | Route::Stats => Guard::Api,
            Route::Metrics => Guard::Metrics,
            Route::Demo(_) => Guard::Demo,
            // Endpoints and callbacks ask by themselves.
            Route::Endpoint(..)
            | Route::Callback(_)
            | Route::Health
            | Route::Ready
            | Route::Console
            | Route::Page(_)
            | Route::Nothing => Guard::Nobody,
        }
    }
}

/// What guards a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It is open.
    Nobody,
    /// The API's token; in a demonstration without one the loopback test.
    Api,
    /// As the API, but on the API's own listener it is open.
    Metrics,
    /// The loopback test of a demonstration.
    Demo,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_api_are_whole_and_name_somebody() {
        let found = |path| match at_api(path) {
            Route::User(user) => format!("user {user}"),
            Route::UserMessages(user) => format!("messages {user}"),
            Route::Session(id) => format!("session {id}"),
            Route::Nothing => "nothing".to_owned(),
            other => format!("{other:?}"),
        };
        for (path, expected) in [
            ("/api/users", "Users"),
            ("/api/users/7", "user 7"),
            ("/api/users/7/", "user 7"),
            ("/api/users/a%2Fb/messages", "messages a%2Fb"),
            ("/api/users/", "nothing"),
            ("/api/users//messages", "nothing"),
            ("/api/users/7/messages/", "nothing"),
            ("/api/users/7/other", "nothing"),
            ("/api/sessions/00ff", "session 00ff"),
            ("/api/publish", "Publish"),
            ("/api/publish/", "nothing"),
            ("/api", "nothing"),
        ] {
            assert_eq!(found(path), expected, "{path}");
        }
    }
}

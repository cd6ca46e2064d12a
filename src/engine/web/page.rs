#![forbid(unsafe_code)]
//! The page at `/`, and `/console.json`, which tells it what it is the page of.

use super::access::Visitor;
use super::answer::Reply;
use crate::config::{Method, Protocol};
use crate::console::{self, Asset};
use crate::http::request::Head;
use crate::http::response;
use crate::http::url::Authority;
use serde_json::json;

/// Answers with a file of the page.
pub fn page(reply: Reply<'_>, asset: &Asset) {
    let headers = [
        ("Content-Security-Policy", console::CONTENT_SECURITY_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
    ];
    reply.send(200, &headers, Some(asset.content_type), asset.bytes);
}

/// Answers `GET /console.json`: where the page's STOMP endpoint is, who names its user, and whether
/// this is a demonstration. Nothing of it is a secret.
pub fn console(reply: Reply<'_>, endpoint_origin: Option<String>) {
    let config = &reply.view.ctx.shared.config;
    let mut endpoints = config.endpoints.iter();
    let path = endpoints.find(|endpoint| endpoint.protocol == Protocol::Stomp);
    let methods: Vec<&str> = config.auth.methods.iter().map(|method| method.word()).collect();
    let query = config.auth.methods.contains(&Method::Query).then_some(&config.auth.query);
    let body = json!({
        "mode": if config.demo.enabled { "demo" } else { "live" },
        "endpoint": endpoint_origin,
        "path": path.map(|endpoint| &endpoint.path),
        "identity": { "methods": methods, "query": query, "anonymous": config.auth.anonymous },
    });
    let headers = [("Cache-Control", "no-store")];
    reply.send(200, &headers, Some(response::JSON), body.to_string().as_bytes());
}

/// The origin of the endpoints where it is not the page's own: the API has its own listener.
pub fn endpoint_origin(visitor: &Visitor<'_>, head: &Head<'_, '_>) -> Option<String> {
    if visitor.serves().endpoints {
        return None;
    }
    let listen = &visitor.view.shared.config.listen;
    if let Some(url) = &listen.external_url {
        return Some(url.clone());
    }
    let bound = *listen.bound.first()?;
    let asked = Authority::parse(head.host).map(|host| host.host);
    // As the page was asked for, where that may lead to the other listener too.
    let same = bound.ip().is_unspecified() || bound.ip().is_loopback() && visitor.serves().loopback;
    match asked.filter(|_| same) {
        Some(host) => Some(format!("http://{host}:{}", bound.port())),
        None => Some(format!("http://{bound}")),
    }
}

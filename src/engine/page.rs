#![forbid(unsafe_code)]
//! The page at `/`, and `/console.json`, which tells it what it is the page of.

use super::shard::Shard;
use super::web::RequestMeta;
use crate::config::{Method, Protocol};
use crate::console::{self, Asset};
use crate::http::request::Head;
use crate::http::url::Authority;
use crate::ids::Slot;
use crate::ring::Ring;
use serde_json::json;

impl<R: Ring> Shard<R> {
    /// A file of the page.
    pub(super) fn page(&mut self, slot: Slot, meta: RequestMeta, asset: &Asset) {
        let headers = [
            ("Content-Security-Policy", console::CONTENT_SECURITY_POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-cache"),
        ];
        self.answer(slot, meta, 200, &headers, Some(asset.content_type), asset.bytes);
    }

    /// `GET /console.json`: where the page's STOMP endpoint is, who names its user, and whether
    /// this is a demonstration. Nothing of it is a secret.
    pub(super) fn console(&mut self, slot: Slot, meta: RequestMeta, head: &Head<'_, '_>) {
        let config = &self.shared.config;
        let mut endpoints = config.endpoints.iter();
        let path = endpoints.find(|endpoint| endpoint.protocol == Protocol::Stomp);
        let methods: Vec<&str> = config.auth.methods.iter().map(|method| method.word()).collect();
        let query = config.auth.methods.contains(&Method::Query).then_some(&config.auth.query);
        let body = json!({
            "mode": if config.demo.enabled { "demo" } else { "live" },
            "endpoint": self.endpoint_origin(slot, head),
            "path": path.map(|endpoint| &endpoint.path),
            "identity": { "methods": methods, "query": query, "anonymous": config.auth.anonymous },
        });
        let body = body.to_string();
        let headers = [("Cache-Control", "no-store")];
        let json = Some(crate::http::response::JSON);
        self.answer(slot, meta, 200, &headers, json, body.as_bytes());
    }

    /// The origin of the endpoints where it is not the page's own: the API has its own listener.
    fn endpoint_origin(&self, slot: Slot, head: &Head<'_, '_>) -> Option<String> {
        if self.serves(slot).endpoints {
            return None;
        }
        let listen = &self.shared.config.listen;
        if let Some(url) = &listen.external_url {
            return Some(url.clone());
        }
        let bound = *listen.bound.first()?;
        let asked = Authority::parse(head.host).map(|host| host.host);
        // As the page was asked for, where that may lead to the other listener too.
        let same =
            bound.ip().is_unspecified() || bound.ip().is_loopback() && self.serves(slot).loopback;
        match asked.filter(|_| same) {
            Some(host) => Some(format!("http://{host}:{}", bound.port())),
            None => Some(format!("http://{bound}")),
        }
    }
}

//! Maps paths below an endpoint to what they request.

/// What a path below an endpoint means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The endpoint itself: [`GREETING`](super::GREETING).
    Greeting,
    /// Capabilities of the endpoint: [`Info`](super::Info).
    Info,
    /// The hidden page of cross-domain transports.
    Iframe,
    /// A WebSocket without SockJS frames.
    RawWebsocket,
    /// A WebSocket with SockJS frames. The session's name has no meaning: the same URL may be open
    /// twice.
    Websocket {
        /// Balances load; to be ignored.
        server: &'a str,
        /// The session, not percent-decoded.
        session: &'a str,
    },
    /// One of the transports over plain HTTP.
    Transport {
        /// Balances load; to be ignored.
        server: &'a str,
        /// The session, not percent-decoded.
        session: &'a str,
        /// The transport.
        transport: Transport,
    },
    /// Nothing: 404.
    NotFound,
}

/// The transports over plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Receives by polling.
    Xhr,
    /// Receives a stream.
    XhrStreaming,
    /// Sends.
    XhrSend,
    /// Receives server-sent events.
    EventSource,
    /// Receives scripts in an endless page.
    HtmlFile,
    /// Receives one script.
    Jsonp,
    /// Sends a form.
    JsonpSend,
}

/// The route of `rest`, the request's path after the endpoint's path and without the query.
///
/// Case is significant, one slash at the end is not, and nothing is percent-decoded.
pub fn route(rest: &str) -> Route<'_> {
    if matches!(rest, "" | "/") {
        return Route::Greeting;
    }
    let Some(path) = rest.strip_prefix('/') else { return Route::NotFound };
    let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
    match (segments.next(), segments.next(), segments.next(), segments.next()) {
        (Some("info"), None, ..) => Route::Info,
        (Some("websocket"), None, ..) => Route::RawWebsocket,
        (Some(page), None, ..) if is_iframe(page) => Route::Iframe,
        (Some(server), Some(session), Some(last), None) if is_name(server) && is_name(session) => {
            let transport = match last {
                "websocket" => return Route::Websocket { server, session },
                "xhr" => Transport::Xhr,
                "xhr_streaming" => Transport::XhrStreaming,
                "xhr_send" => Transport::XhrSend,
                "eventsource" => Transport::EventSource,
                "htmlfile" => Transport::HtmlFile,
                "jsonp" => Transport::Jsonp,
                "jsonp_send" => Transport::JsonpSend,
                _ => return Route::NotFound,
            };
            Route::Transport { server, session, transport }
        }
        _ => Route::NotFound,
    }
}

/// `iframe[0-9a-z._-]*.html`: the client adds its version, so that caches keep versions apart.
fn is_iframe(page: &str) -> bool {
    let version = page.strip_prefix("iframe").and_then(|rest| rest.strip_suffix(".html"));
    let allowed = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'.' | b'_' | b'-');
    version.is_some_and(|version| version.bytes().all(allowed))
}

fn is_name(segment: &str) -> bool {
    !segment.is_empty() && !segment.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_routes() {
        assert_eq!(route(""), Route::Greeting);
        assert_eq!(route("/"), Route::Greeting);
        assert_eq!(route("/info"), Route::Info);
        assert_eq!(route("/info/"), Route::Info);
        assert_eq!(route("/websocket"), Route::RawWebsocket);
        assert_eq!(route("/websocket/"), Route::RawWebsocket);
        for page in ["/iframe.html", "/iframe-a.html", "/iframe-1.6.1.html", "/iframe0.html/"] {
            assert_eq!(route(page), Route::Iframe, "{page}");
        }
        for path in ["/000/a%2eb/websocket", "/000/a%2eb/websocket/"] {
            assert_eq!(route(path), Route::Websocket { server: "000", session: "a%2eb" });
        }
        let transports = [
            ("xhr", Transport::Xhr),
            ("xhr_streaming", Transport::XhrStreaming),
            ("xhr_send", Transport::XhrSend),
            ("eventsource", Transport::EventSource),
            ("htmlfile", Transport::HtmlFile),
            ("jsonp", Transport::Jsonp),
            ("jsonp_send", Transport::JsonpSend),
        ];
        for (name, transport) in transports {
            let path = format!("/%20/{name}/{name}");
            let (server, session) = ("%20", name);
            assert_eq!(route(&path), Route::Transport { server, session, transport });
        }
    }

    #[test]
    fn unknown_routes() {
        for path in [
            "//",
            "///",
            "//info",
            "/info//",
            "info",
            "/Info",
            "/INFO",
            "/infos",
            "/info/a",
            "/iframe.htm",
            "/iframe",
            "/IFRAME.HTML",
            "/IFRAME",
            "/iframe.HTML",
            "/iframe.xml",
            "/iframe-/.html",
            "/iframe-A.html",
            "/iframe.html?",
            "/a",
            "/a/b",
            "/a/b/c",
            "/a/b/Websocket",
            "/a/b/websocket/c",
            "/a/b/websocket//",
            "//b/websocket",
            "/a//websocket",
            "///websocket",
            "/a./b/xhr",
            "/a/b./xhr",
            "/./b/xhr",
            "/a/../xhr",
            "/a.b/c/xhr",
            "/a/websocket",
            "/xhr",
            "/chunking_test",
        ] {
            assert_eq!(route(path), Route::NotFound, "{path}");
        }
    }
}

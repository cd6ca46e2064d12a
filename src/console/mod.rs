#![forbid(unsafe_code)]
//! The agent console: the web page at `/`, embedded in the binary.
//!
//! **What it turns into what.** A request path into the bytes and the type of a file.
//!
//! **What it does not know.** HTTP, sockets, the broker: the page itself talks to the server as any
//! other client does (STOMP over a WebSocket, the HTTP API), and contains no secret.
//!
//! **How to drive it.** Ask for a path, without its query:
//!
//! ```
//! let page = ringpush::console::find("/").expect("the page exists");
//! assert_eq!(page.content_type, "text/html; charset=utf-8");
//! assert!(ringpush::console::find("/console.js").is_some());
//! assert!(ringpush::console::find("/mod.rs").is_none());
//! ```
//!
//! Send [`CONTENT_SECURITY_POLICY`] along with every asset. The page is plain HTML, CSS and
//! JavaScript modules written here, without a build step or third-party code.
//!
//! **Bounds.** [`TOTAL_BYTES`] for all assets together, checked at compile time.
//!
//! **State.** None: a table of static bytes.

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Path of the request, beginning with a slash.
    pub path: &'static str,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The bytes of the body.
    pub bytes: &'static [u8],
}

/// The file that a path names; `None` for every other path.
pub fn find(path: &str) -> Option<&'static Asset> {
    let path = if path == "/" { "/index.html" } else { path };
    ASSETS.iter().find(|asset| asset.path == path)
}

/// Value of `Content-Security-Policy` for every asset: everything comes from this server, nothing
/// is inline, and no other page may frame it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Upper bound for the bytes of all assets together.
pub const TOTAL_BYTES: usize = 65_536;

/// Every file of the page.
pub const ASSETS: &[Asset] = &[
    Asset {
        path: "/index.html",
        content_type: "text/html; charset=utf-8",
        bytes: include_bytes!("index.html"),
    },
    Asset {
        path: "/console.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("console.css"),
    },
    Asset {
        path: "/console.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("console.js"),
    },
    Asset {
        path: "/stomp.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("stomp.js"),
    },
    Asset {
        path: "/trace.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("trace.js"),
    },
    Asset {
        path: "/favicon.svg",
        content_type: "image/svg+xml",
        bytes: include_bytes!("favicon.svg"),
    },
];

const _: () = {
    let mut total = 0;
    let mut index = 0;
    while index < ASSETS.len() {
        assert!(!ASSETS[index].bytes.is_empty());
        total += ASSETS[index].bytes.len();
        index += 1;
    }
    assert!(total <= TOTAL_BYTES);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        core::str::from_utf8(find(path).expect("asset").bytes).expect("UTF-8")
    }

    #[test]
    fn the_root_is_the_page() {
        assert_eq!(find("/"), find("/index.html"));
        for path in ["", "//", "/index", "/console.js/", "/../mod.rs", "/CONSOLE.JS"] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    /// Every absolute path that the page's files refer to exists.
    #[test]
    fn references_resolve() {
        let mut seen = 0;
        for asset in ASSETS {
            let text = core::str::from_utf8(asset.bytes).expect("UTF-8");
            for (before, after) in [("href=\"", '"'), ("src=\"", '"'), ("from \"", '"')] {
                for (at, _) in text.match_indices(before) {
                    let rest = &text[at + before.len()..];
                    let name = rest.split(after).next().unwrap_or_default();
                    let name = name.split('#').next().unwrap_or_default();
                    assert!(find(name).is_some(), "{}: {name}", asset.path);
                    seen += 1;
                }
            }
        }
        assert!(seen >= 5, "found only {seen} references");
    }

    /// The page has no inline code or style (the policy forbids both) and parses no text as markup.
    #[test]
    fn nothing_inline_and_no_markup_from_text() {
        let page = text("/");
        for banned in ["<style", " style=", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!page.contains(banned), "index.html has {banned}");
        }
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script type=\"module\" src").count()
        );
        for path in ["/console.js", "/trace.js", "/stomp.js"] {
            for banned in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text(path).contains(banned), "{path} has {banned}");
            }
        }
    }
}

#![forbid(unsafe_code)]
//! How the messages of a session travel to its client: what is put around each of them, and
//! whether they are compressed.
//!
//! Each way has its variant, and each question that the engine asks its method, without a default:
//! a new variant does not compile before every question is answered for it.

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One WebSocket message each.
    WebSocket {
        /// Window of permessage-deflate as a power of two (8 to 15); 0: not negotiated.
        deflate: u8,
    },
    /// One SockJS frame `a["…"]` each, in a WebSocket message.
    SockJsWebSocket {
        /// As above.
        deflate: u8,
    },
    /// A quoted string behind a comma each, `,"…"`: what waits for an answer over HTTP, which has
    /// several of them in one SockJS frame.
    Queued,
    /// One SockJS frame and a line feed each, in an answer that goes on.
    XhrStreaming {
        /// Each is an HTTP chunk of its own; HTTP/1.0 has none.
        chunked: bool,
    },
    /// One server-sent event each.
    EventSource {
        /// As above.
        chunked: bool,
    },
    /// One script of a page each, which calls the page around it.
    HtmlFile {
        /// As above.
        chunked: bool,
    },
}

/// What an answer over HTTP puts around a SockJS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrap {
    /// A line.
    Line,
    /// A server-sent event.
    Event,
    /// A script.
    Script,
}

impl Encoding {
    /// A WebSocket without extensions.
    pub const PLAIN: Encoding = Encoding::WebSocket { deflate: 0 };

    /// Window of the compressor as a power of two; 0: nothing is compressed.
    pub fn deflate(self) -> u8 {
        match self {
            Encoding::WebSocket { deflate } | Encoding::SockJsWebSocket { deflate } => deflate,
            Encoding::Queued
            | Encoding::XhrStreaming { .. }
            | Encoding::EventSource { .. }
            | Encoding::HtmlFile { .. } => 0,
        }
    }

    /// The same with another window; over HTTP nothing is compressed.
    pub fn with_deflate(self, deflate: u8) -> Encoding {
        match self {
            Encoding::WebSocket { .. } => Encoding::WebSocket { deflate },
            Encoding::SockJsWebSocket { .. } => Encoding::SockJsWebSocket { deflate },
            Encoding::Queued
            | Encoding::XhrStreaming { .. }
            | Encoding::EventSource { .. }
            | Encoding::HtmlFile { .. } => self,
        }
    }

    /// Whether a message is a JSON string in an array, in both directions. Then it is text, and may
    /// be six times as long as it is by itself.
    pub fn is_quoted(self) -> bool {
        match self {
            Encoding::WebSocket { .. } => false,
            Encoding::SockJsWebSocket { .. }
            | Encoding::Queued
            | Encoding::XhrStreaming { .. }
            | Encoding::EventSource { .. }
            | Encoding::HtmlFile { .. } => true,
        }
    }

    /// Whether the server says with frames of SockJS that a session is open, lives and ends.
    pub fn has_sockjs_frames(self) -> bool {
        match self {
            Encoding::WebSocket { .. } => false,
            Encoding::SockJsWebSocket { .. }
            | Encoding::Queued
            | Encoding::XhrStreaming { .. }
            | Encoding::EventSource { .. }
            | Encoding::HtmlFile { .. } => true,
        }
    }

    /// How what is for one client alone is written: over HTTP it is wrapped for whoever receives.
    pub fn for_one(self) -> Encoding {
        match self {
            Encoding::WebSocket { .. } | Encoding::SockJsWebSocket { .. } => self,
            Encoding::Queued
            | Encoding::XhrStreaming { .. }
            | Encoding::EventSource { .. }
            | Encoding::HtmlFile { .. } => Encoding::Queued,
        }
    }

    /// What is put around each frame of an answer that goes on, and whether that is a chunk.
    pub fn stream(self) -> Option<(Wrap, bool)> {
        match self {
            Encoding::XhrStreaming { chunked } => Some((Wrap::Line, chunked)),
            Encoding::EventSource { chunked } => Some((Wrap::Event, chunked)),
            Encoding::HtmlFile { chunked } => Some((Wrap::Script, chunked)),
            Encoding::WebSocket { .. } | Encoding::SockJsWebSocket { .. } | Encoding::Queued => {
                None
            }
        }
    }
}

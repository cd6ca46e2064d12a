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
}

impl Encoding {
    /// A WebSocket without extensions.
    pub const PLAIN: Encoding = Encoding::WebSocket { deflate: 0 };

    /// Window of the compressor as a power of two; 0: nothing is compressed.
    pub fn deflate(self) -> u8 {
        match self {
            Encoding::WebSocket { deflate } | Encoding::SockJsWebSocket { deflate } => deflate,
        }
    }

    /// The same with another window.
    pub fn with_deflate(self, deflate: u8) -> Encoding {
        match self {
            Encoding::WebSocket { .. } => Encoding::WebSocket { deflate },
            Encoding::SockJsWebSocket { .. } => Encoding::SockJsWebSocket { deflate },
        }
    }

    /// Whether a message is a JSON string in an array, in both directions. Then it is text, and may
    /// be six times as long as it is by itself.
    pub fn is_quoted(self) -> bool {
        match self {
            Encoding::WebSocket { .. } => false,
            Encoding::SockJsWebSocket { .. } => true,
        }
    }

    /// Whether the server says with frames of SockJS that a session is open, lives and ends.
    pub fn has_sockjs_frames(self) -> bool {
        match self {
            Encoding::WebSocket { .. } => false,
            Encoding::SockJsWebSocket { .. } => true,
        }
    }
}

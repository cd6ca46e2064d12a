//! The reasons for which a request is refused, each with its status and text.

use core::fmt;

/// A request that is not served. Every refusal closes the connection: after an invalid head or body
/// it is unknown where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A line that ends with LF alone. RFC 9112 §2.2 allows a server to accept it, but if a proxy
    /// and the server disagree about it, requests can be smuggled.
    BareLineFeed,
    /// A body longer than `http-body`.
    BodyTooLarge,
    /// A chunk that is not `size CRLF data CRLF` (RFC 9112 §7.1), or a malformed trailer.
    Chunk,
    /// Chunk extensions longer than [`EXTENSIONS_MAX`](super::body::EXTENSIONS_MAX).
    ChunkExtensions,
    /// Both Content-Length and Transfer-Encoding (RFC 9112 §6.1).
    ContentLengthAndTransferEncoding,
    /// A Content-Length that is not one number of digits within 64 bits (RFC 9110 §8.6).
    ContentLength,
    /// More than one Content-Length line, equal or not.
    ContentLengthRepeated,
    /// An Expect other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// A field line that begins with a blank: obsolete line folding (RFC 9112 §5.2).
    Folding,
    /// The head is longer than `http-head`.
    HeadTooLong,
    /// A field name that is not a token, or a blank before the colon (RFC 9112 §5.1).
    HeaderName,
    /// A control character, a NUL or a bare CR in a field value (RFC 9110 §5.5).
    HeaderValue,
    /// A Host that is not a host with an optional port.
    Host,
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// A method that is not a token.
    Method,
    /// A method longer than [`METHOD_MAX`](super::request::METHOD_MAX) bytes.
    MethodTooLong,
    /// A request target that is neither a path nor an http URI, or has a byte outside visible
    /// ASCII or a fragment.
    Target,
    /// The request target is longer than `http-target`.
    TargetTooLong,
    /// More header lines than `http-headers`.
    TooManyHeaders,
    /// Trailers longer than [`TRAILERS_MAX`](super::body::TRAILERS_MAX).
    TrailersTooLong,
    /// Transfer-Encoding in HTTP/1.0, which has none (RFC 9112 §6.1).
    TransferEncodingInOld,
    /// A Transfer-Encoding other than exactly `chunked`.
    TransferEncodingUnknown,
    /// The request line does not end with `HTTP/` digit `.` digit.
    Version,
    /// A version other than 1.0 and 1.1.
    VersionUnknown,
}

impl Refusal {
    /// All reasons, for tables and tests.
    pub const ALL: [Refusal; 25] = [
        Refusal::BareLineFeed,
        Refusal::BodyTooLarge,
        Refusal::Chunk,
        Refusal::ChunkExtensions,
        Refusal::ContentLengthAndTransferEncoding,
        Refusal::ContentLength,
        Refusal::ContentLengthRepeated,
        Refusal::Expectation,
        Refusal::Folding,
        Refusal::HeadTooLong,
        Refusal::HeaderName,
        Refusal::HeaderValue,
        Refusal::Host,
        Refusal::HostMissing,
        Refusal::HostRepeated,
        Refusal::Method,
        Refusal::MethodTooLong,
        Refusal::Target,
        Refusal::TargetTooLong,
        Refusal::TooManyHeaders,
        Refusal::TrailersTooLong,
        Refusal::TransferEncodingInOld,
        Refusal::TransferEncodingUnknown,
        Refusal::Version,
        Refusal::VersionUnknown,
    ];

    /// Status of the answer.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// A sentence for the peer.
    pub const fn text(self) -> &'static str {
        self.row().1
    }

    const fn row(self) -> (u16, &'static str) {
        use Refusal::*;
        match self {
            BareLineFeed => (400, "a line must end with CR LF"),
            BodyTooLarge => (413, "the body is too large"),
            Chunk => (400, "malformed chunked body"),
            ChunkExtensions => (400, "the chunk extensions are too long"),
            ContentLengthAndTransferEncoding => (400, "both Content-Length and Transfer-Encoding"),
            ContentLength => (400, "malformed Content-Length"),
            ContentLengthRepeated => (400, "repeated Content-Length"),
            Expectation => (417, "the only expectation met is 100-continue"),
            Folding => (400, "a header line must not begin with a blank"),
            HeadTooLong => (431, "the request head is too long"),
            HeaderName => (400, "malformed header name"),
            HeaderValue => (400, "forbidden character in a header value"),
            Host => (400, "malformed Host"),
            HostMissing => (400, "HTTP/1.1 requires a Host header"),
            HostRepeated => (400, "repeated Host"),
            Method => (400, "malformed request method"),
            MethodTooLong => (501, "no method has such a long name"),
            Target => (400, "malformed request target"),
            TargetTooLong => (414, "the request target is too long"),
            TooManyHeaders => (431, "too many header lines"),
            TrailersTooLong => (431, "the trailers are too long"),
            TransferEncodingInOld => (400, "HTTP/1.0 has no Transfer-Encoding"),
            TransferEncodingUnknown => (501, "the only transfer encoding is chunked"),
            Version => (400, "malformed HTTP version"),
            VersionUnknown => (505, "HTTP/1.1 and HTTP/1.0 are spoken here"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_and_statuses_are_errors() {
        let mut texts: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            assert!((400..600).contains(&refusal.status()));
            assert!(!refusal.text().contains('"'));
        }
    }
}

//! Writes answers: status line, headers and body into the caller's buffer.

/// An answer whose whole body is known.
///
/// ```
/// use ringpush::http::Response;
///
/// let response = Response { body: b"ok", ..Response::new(200) };
/// let mut out = [0; 64];
/// let len = response.write(&mut out);
/// assert_eq!(len, response.len());
/// assert_eq!(&out[..len], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Status code, 100 to 599.
    pub status: u16,
    /// Further header lines; Content-Type, Content-Length and Connection are written without being
    /// listed here.
    pub headers: &'a [(&'a str, &'a str)],
    /// Content-Type; empty if the answer has none.
    pub content_type: Option<&'a str>,
    /// The body; not sent for HEAD, or with a status that has no body.
    pub body: &'a [u8],
    /// The connection closes after this answer.
    pub close: bool,
    /// The request was HEAD: Content-Length as for GET, and no body.
    pub head_only: bool,
    /// Minor version of the request: HTTP/1.0 needs a header if the connection stays open.
    pub minor_version: u8,
}

impl<'a> Response<'a> {
    /// An answer without headers and body on an HTTP/1.1 connection that stays open.
    pub const fn new(status: u16) -> Response<'a> {
        Response {
            status,
            headers: &[],
            content_type: None,
            body: b"",
            close: false,
            head_only: false,
            minor_version: 1,
        }
    }

    /// Bytes that [`write`](Response::write) writes.
    #[expect(clippy::len_without_is_empty, reason = "an answer is never empty")]
    pub fn len(&self) -> usize {
        let mut len = 0;
        self.parts(|part| len += part.len());
        len
    }

    /// Writes the answer at the start of `out`, which has at least [`len`](Response::len) bytes.
    ///
    /// # Panics
    ///
    /// If `out` is too short, or a header contains a control character (see [`is_field_value`]).
    /// Both are bugs of the caller.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut at = 0;
        self.parts(|part| put(out, &mut at, part));
        at
    }

    /// Hands the answer on in its parts, in order, for a buffer that grows.
    ///
    /// # Panics
    ///
    /// As [`write`](Response::write) does for a header.
    pub fn parts(&self, mut part: impl FnMut(&[u8])) {
        status_line(self.status, &mut part);
        header_lines(self.headers, self.content_type, &mut part);
        // RFC 9110 §8.6 and §6.4.1: neither length nor body with 1xx, 204 and 304.
        let has_body = self.status >= 200 && self.status != 204 && self.status != 304;
        if has_body {
            part(b"Content-Length: ");
            part(Decimal::new(self.body.len()).digits());
            part(b"\r\n");
        }
        if self.close {
            part(b"Connection: close\r\n");
        } else if self.minor_version == 0 {
            part(b"Connection: keep-alive\r\n");
        }
        part(b"\r\n");
        if has_body && !self.head_only {
            part(self.body);
        }
    }
}

/// Head of an answer of unknown length. In HTTP/1.1 chunks follow; HTTP/1.0 has none, so the answer
/// ends with the connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamHead<'a> {
    /// Status code.
    pub status: u16,
    /// Further header lines; Content-Type, Transfer-Encoding and Connection are written without
    /// being listed here.
    pub headers: &'a [(&'a str, &'a str)],
    /// Content-Type.
    pub content_type: &'a str,
    /// The connection closes after this answer; always so in HTTP/1.0.
    pub close: bool,
    /// Minor version of the request.
    pub minor_version: u8,
}

impl StreamHead<'_> {
    /// Bytes that [`write`](StreamHead::write) writes.
    #[expect(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub fn len(&self) -> usize {
        let mut len = 0;
        self.parts(|part| len += part.len());
        len
    }

    /// Writes the head at the start of `out`. Panics as [`Response::write`] does.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut at = 0;
        self.parts(|part| put(out, &mut at, part));
        at
    }

    fn parts(&self, mut part: impl FnMut(&[u8])) {
        status_line(self.status, &mut part);
        header_lines(self.headers, Some(self.content_type), &mut part);
        if self.minor_version > 0 {
            part(b"Transfer-Encoding: chunked\r\n");
        }
        if self.close || self.minor_version == 0 {
            part(b"Connection: close\r\n");
        }
        part(b"\r\n");
    }
}

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Content-Type of [`json_error`].
pub const JSON: &str = "application/json";

/// Bytes enough for the body of any [`json_error`] whose text has at most 200 bytes.
pub const JSON_ERROR_MAX: usize = 256;

/// Writes `{"code":…,"msg":"…"}` into `out` and returns it. A text that does not fit is cut.
pub fn json_error<'o>(code: u16, text: &str, out: &'o mut [u8]) -> &'o [u8] {
    const END: &[u8] = b"\"}";
    let mut at = 0;
    put(out, &mut at, b"{\"code\":");
    put(out, &mut at, Decimal::new(usize::from(code)).digits());
    put(out, &mut at, b",\"msg\":\"");
    let text_end = out.len().checked_sub(END.len()).expect("a buffer longer than the empty object");
    for character in text.chars() {
        let mut bytes = [0; 6];
        let escaped = escape(character, &mut bytes);
        if at + escaped.len() > text_end {
            break;
        }
        put(out, &mut at, escaped);
    }
    put(out, &mut at, END);
    &out[..at]
}

/// One character inside a JSON string (RFC 8259 §7).
fn escape(character: char, bytes: &mut [u8; 6]) -> &[u8] {
    match character {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\0'..='\u{1f}' => {
            let code = character as u8;
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            *bytes = [b'\\', b'u', b'0', b'0', digit(code >> 4), digit(code & 15)];
            bytes
        }
        _ => character.encode_utf8(bytes).as_bytes(),
    }
}

/// Whether a text is allowed in a header line: it has no control character except tab. Check this
/// before a text from outside is put into an answer.
pub fn is_field_value(text: &str) -> bool {
    // All bytes are looked at: several at once.
    let is_control = |byte: u8| byte != b'\t' && (byte < b' ' || byte == 0x7f);
    !text.bytes().fold(false, |found, byte| found | is_control(byte))
}

/// The reason phrase of a status; empty for one that ringpush never sends.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// The version is always 1.1: it is the server's own, not the request's (RFC 9110 §6.2).
pub(super) fn status_line(status: u16, part: &mut impl FnMut(&[u8])) {
    assert!((100..600).contains(&status));
    part(b"HTTP/1.1 ");
    part(Decimal::new(usize::from(status)).digits());
    part(b" ");
    part(reason(status).as_bytes());
    part(b"\r\n");
}

pub(super) fn header_line(name: &str, value: &str, part: &mut impl FnMut(&[u8])) {
    // With a line end in a header, its author could forge the rest of the answer.
    assert!(is_field_value(name), "header name {name:?}");
    assert!(is_field_value(value), "value of header {name}: {value:?}");
    part(name.as_bytes());
    part(b": ");
    part(value.as_bytes());
    part(b"\r\n");
}

fn header_lines(
    headers: &[(&str, &str)],
    content_type: Option<&str>,
    part: &mut impl FnMut(&[u8]),
) {
    for (name, value) in headers {
        header_line(name, value, part);
    }
    if let Some(value) = content_type {
        header_line("Content-Type", value, part);
    }
}

/// Appends to the bytes written so far.
pub(super) fn put(out: &mut [u8], at: &mut usize, part: &[u8]) {
    out[*at..*at + part.len()].copy_from_slice(part);
    *at += part.len();
}

/// Formats a number in decimal, without `core::fmt`.
struct Decimal {
    bytes: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(mut number: usize) -> Decimal {
        let mut bytes = [b'0'; 20];
        let mut start = bytes.len() - 1;
        while number > 9 {
            bytes[start] += (number % 10) as u8;
            number /= 10;
            start -= 1;
        }
        bytes[start] += number as u8;
        Decimal { bytes, start }
    }

    fn digits(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response<'_>) -> String {
        let mut out = vec![0; response.len()];
        assert_eq!(response.write(&mut out), out.len());
        String::from_utf8(out).expect("test bodies are text")
    }

    #[test]
    fn whole_answers() {
        let base = Response {
            headers: &[("Allow", "GET")],
            content_type: Some("text/plain;charset=UTF-8"),
            body: b"abcdefghijkl",
            ..Response::new(405)
        };
        let head = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n\
            Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 12\r\n";
        assert_eq!(text(&base), format!("{head}\r\nabcdefghijkl"));
        let only = Response { head_only: true, close: true, ..base };
        assert_eq!(text(&only), format!("{head}Connection: close\r\n\r\n"));
        let old = Response { minor_version: 0, ..base };
        assert_eq!(text(&old), format!("{head}Connection: keep-alive\r\n\r\nabcdefghijkl"));
        assert_eq!(
            text(&Response::new(404)),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn no_length_where_there_is_no_body() {
        for status in [101, 204, 304] {
            let answer = text(&Response { body: b"never", ..Response::new(status) });
            assert!(!answer.contains("Length") && answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }

    #[test]
    fn streams() {
        let head = |close, minor_version| {
            let content_type = "text/event-stream";
            let head = StreamHead { status: 200, headers: &[], content_type, close, minor_version };
            let mut out = vec![0; head.len()];
            assert_eq!(head.write(&mut out), out.len());
            String::from_utf8(out).expect("ASCII")
        };
        let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert_eq!(head(false, 1), format!("{start}{chunked}\r\n"));
        assert_eq!(head(true, 1), format!("{start}{chunked}Connection: close\r\n\r\n"));
        assert_eq!(head(false, 0), format!("{start}Connection: close\r\n\r\n"));
    }

    #[test]
    #[should_panic(expected = "value of header X")]
    fn a_line_end_in_a_header_panics() {
        Response { headers: &[("X", "a\r\nSet-Cookie: b")], ..Response::new(200) }.len();
    }

    #[test]
    fn json_errors_are_json() {
        let mut out = [0; JSON_ERROR_MAX];
        assert_eq!(json_error(400, "bad", &mut out), br#"{"code":400,"msg":"bad"}"#);
        let odd = "a\"b\\c\n\u{1}和\u{7f}😀";
        let value: serde_json::Value =
            serde_json::from_slice(json_error(503, odd, &mut out)).expect("JSON");
        assert_eq!(value["code"], 503);
        assert_eq!(value["msg"], odd);
        for len in 25..60 {
            let body = json_error(400, "和\n\"".repeat(20).as_str(), &mut out[..len]);
            serde_json::from_slice::<serde_json::Value>(body).expect("JSON");
        }
    }

    #[test]
    fn every_status_of_a_refusal_has_a_reason() {
        for refusal in super::super::Refusal::ALL {
            assert!(!reason(refusal.status()).is_empty());
        }
        for number in [0, 9, 10, 99, 100, 1_048_576, usize::MAX] {
            assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
        }
    }
}

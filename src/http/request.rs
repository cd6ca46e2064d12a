//! Parses a request head: request line and header lines, checked so that no two readers can
//! disagree about it.

pub use super::head::{BodyKind, Head, Method, Target};
pub use super::refusal::Refusal;

use super::head::{elements, is_token};
use super::url::Authority;
use core::str;
use httparse::{Header, Status};
use memchr::{memchr, memchr_iter};

/// Bounds of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a head with its blank line: `http-head`.
    pub head: u32,
    /// Header lines: `http-headers`, at most [`HEADERS_MAX`].
    pub headers: u32,
    /// Bytes of the request target: `http-target`.
    pub target: u32,
}

/// The most header lines of one head, even if `http-headers` is larger.
pub const HEADERS_MAX: usize = 128;

/// Bytes of the longest method; past it 501 (RFC 9112 §3).
pub const METHOD_MAX: usize = 24;

/// Parses a request head at the start of `input`. Empty lines before it are skipped (RFC 9112
/// §2.2). `Ok(None)`: more bytes are needed, and no bound is exceeded yet.
///
/// Every prefix of an input gives `Ok(None)` or the same result as the whole input: each check
/// reads only bytes up to the place where it fails, and the checks run in the order of those
/// places. So the result does not depend on how a head was cut into receives. A call on an
/// incomplete head costs one `memchr` pass; a caller can avoid even that with [`may_end_head`].
pub fn parse<'b, 'h>(
    input: &'b [u8],
    storage: &'h mut [Header<'b>; HEADERS_MAX],
    bounds: &Bounds,
) -> Result<Option<Head<'b, 'h>>, Refusal> {
    let head_max = bounds.head as usize;
    let window = &input[..input.len().min(head_max)];
    let unfinished = || if window.len() == head_max { Err(Refusal::HeadTooLong) } else { Ok(None) };

    let mut start = 0;
    while window[start..].starts_with(b"\r\n") {
        start += 2;
    }
    if window[start..].is_empty() || window[start..] == *b"\r" {
        return unfinished();
    }
    let Some(line) = request_line(&window[start..], bounds)? else { return unfinished() };
    let (target, authority) = parse_target(line.target)?;
    let fields_at = start + line.len;
    let Some(fields_len) = fields_len(&window[fields_at..], bounds)? else { return unfinished() };

    let fields = &window[fields_at..fields_at + fields_len];
    let headers = match httparse::parse_headers(fields, &mut storage[..]) {
        Ok(Status::Complete((len, headers))) => {
            assert_eq!(len, fields.len(), "both parsers find the same blank line");
            headers
        }
        Err(httparse::Error::HeaderName) => return Err(Refusal::HeaderName),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        // Never partial: the lines end with a blank line.
        Ok(Status::Partial) | Err(_) => return Err(Refusal::HeaderValue),
    };
    let facts = Facts::collect(headers)?;
    let old = line.minor_version == 0;
    let body = facts.body(old)?;
    let expect_continue = facts.expects_continue(old)? && body != BodyKind::None;
    Ok(Some(Head {
        len: fields_at + fields_len,
        method: Method::from_token(line.method),
        target,
        minor_version: line.minor_version,
        host: facts.host(old, authority)?,
        headers,
        body,
        keep_alive: !facts.close && (!old || facts.keep_alive),
        expect_continue,
    }))
}

/// Whether the bytes from `seen` on can have ended a head or reached a bound. While this is
/// `false`, [`parse`] returns the same for `input` as for `input[..seen]`, unless the request line
/// has become malformed. So a head that arrives in tiny parts costs time linear in its length.
pub fn may_end_head(input: &[u8], seen: usize, bounds: &Bounds) -> bool {
    input.len() >= bounds.head as usize || memchr(b'\n', &input[seen..]).is_some()
}

/// The request line in its three parts.
struct RequestLine<'b> {
    /// Length of the line with its CR LF.
    len: usize,
    method: &'b str,
    target: &'b [u8],
    minor_version: u8,
}

/// Splits the request line (RFC 9112 §3): exactly one space between its parts.
fn request_line<'b>(window: &'b [u8], bounds: &Bounds) -> Result<Option<RequestLine<'b>>, Refusal> {
    let end = memchr(b'\n', window);
    let line = &window[..end.unwrap_or(window.len())];

    let method_len = line.iter().take(METHOD_MAX + 1).take_while(|b| is_token(**b)).count();
    if method_len > METHOD_MAX {
        return Err(Refusal::MethodTooLong);
    }
    let after_method = match line.get(method_len) {
        Some(b' ') if method_len > 0 => &line[method_len + 1..],
        None if end.is_none() => return Ok(None),
        _ => return Err(Refusal::Method),
    };

    let target_end = memchr(b' ', after_method);
    let target = &after_method[..target_end.unwrap_or(after_method.len())];
    if target.len() > bounds.target as usize {
        return Err(Refusal::TargetTooLong);
    }
    let Some(end) = end else { return Ok(None) };
    let Some(target_end) = target_end else { return Err(Refusal::Version) };

    let version = &after_method[target_end + 1..];
    let version = version.strip_suffix(b"\r").ok_or(Refusal::BareLineFeed)?;
    let minor_version = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Refusal::VersionUnknown);
        }
        _ => return Err(Refusal::Version),
    };
    let method = str::from_utf8(&line[..method_len]).expect("token characters are ASCII");
    Ok(Some(RequestLine { len: end + 1, method, target, minor_version }))
}

/// Reduces origin-form and absolute-form (RFC 9112 §3.2.1, §3.2.2) to path and query; the second
/// value is the authority of an absolute-form.
fn parse_target(target: &[u8]) -> Result<(Target<'_>, Option<&str>), Refusal> {
    // A fragment is never sent (RFC 9110 §7.1), and a URI has no bytes past ASCII.
    if !target.iter().all(|b| b.is_ascii_graphic() && *b != b'#') {
        return Err(Refusal::Target);
    }
    let text = str::from_utf8(target).expect("visible ASCII was checked above");
    let (authority, rest) = if text.starts_with('/') {
        (None, text)
    } else {
        let rest = strip_http_scheme(text).ok_or(Refusal::Target)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        Authority::parse(authority).ok_or(Refusal::Target)?;
        (Some(authority), rest)
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = if path.is_empty() { "/" } else { path };
    Ok((Target { path, query }, authority))
}

fn strip_http_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then_some(rest)
}

/// Length of the header lines up to and including the blank line. `None`: it has not arrived yet.
fn fields_len(window: &[u8], bounds: &Bounds) -> Result<Option<usize>, Refusal> {
    let headers_max = (bounds.headers as usize).min(HEADERS_MAX);
    let mut line_at = 0;
    for (count, line_end) in memchr_iter(b'\n', window).enumerate() {
        let line = &window[line_at..line_end];
        if is_blank(line.first()) {
            return Err(Refusal::Folding);
        }
        match line {
            b"\r" => return Ok(Some(line_end + 1)),
            [.., b'\r'] if count < headers_max => line_at = line_end + 1,
            [.., b'\r'] => return Err(Refusal::TooManyHeaders),
            _ => return Err(Refusal::BareLineFeed),
        }
    }
    if is_blank(window.get(line_at)) { Err(Refusal::Folding) } else { Ok(None) }
}

fn is_blank(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b' ' | b'\t'))
}

/// The headers that concern the message itself, collected in one pass.
#[derive(Default)]
struct Facts<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<u64>,
    transfer_encoding: Option<&'b [u8]>,
    encodings: u32,
    expect: Option<&'b [u8]>,
    expects: u32,
    close: bool,
    keep_alive: bool,
}

impl<'b> Facts<'b> {
    fn collect(headers: &[Header<'b>]) -> Result<Facts<'b>, Refusal> {
        let mut facts = Facts::default();
        for header in headers {
            // Comparing lengths first rules out most names.
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            match header.name.len() {
                4 if is("host") => once(&mut facts.host, header.value, Refusal::HostRepeated)?,
                6 if is("expect") => {
                    facts.expect = Some(header.value);
                    facts.expects += 1;
                }
                10 if is("connection") => {
                    for token in elements(header.value) {
                        facts.close |= token.eq_ignore_ascii_case(b"close");
                        facts.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if is("content-length") => {
                    let length = decimal(header.value).ok_or(Refusal::ContentLength)?;
                    once(&mut facts.content_length, length, Refusal::ContentLengthRepeated)?;
                }
                17 if is("transfer-encoding") => {
                    facts.transfer_encoding = Some(header.value);
                    facts.encodings += 1;
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    fn body(&self, old: bool) -> Result<BodyKind, Refusal> {
        match (self.content_length, self.transfer_encoding) {
            (Some(_), Some(_)) => Err(Refusal::ContentLengthAndTransferEncoding),
            (None, Some(_)) if old => Err(Refusal::TransferEncodingInOld),
            (None, Some(coding)) if self.encodings == 1 && is_chunked(coding) => {
                Ok(BodyKind::Chunked)
            }
            (None, Some(_)) => Err(Refusal::TransferEncodingUnknown),
            (None | Some(0), None) => Ok(BodyKind::None),
            (Some(length), None) => Ok(BodyKind::Length(length)),
        }
    }

    fn expects_continue(&self, old: bool) -> Result<bool, Refusal> {
        match self.expect {
            // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
            _ if old => Ok(false),
            None => Ok(false),
            Some(value) if self.expects == 1 && value.eq_ignore_ascii_case(b"100-continue") => {
                Ok(true)
            }
            Some(_) => Err(Refusal::Expectation),
        }
    }

    fn host(&self, old: bool, authority: Option<&'b str>) -> Result<&'b str, Refusal> {
        // RFC 9112 §3.2: Host is required, and must be valid even if the target overrides it.
        let host = match self.host {
            Some(value) => {
                let text = str::from_utf8(value).map_err(|_| Refusal::Host)?;
                Authority::parse(text).ok_or(Refusal::Host)?;
                text
            }
            None if old => "",
            None => return Err(Refusal::HostMissing),
        };
        Ok(authority.unwrap_or(host))
    }
}

/// Sets a value that a head may have only once.
fn once<T>(slot: &mut Option<T>, value: T, repeated: Refusal) -> Result<(), Refusal> {
    if slot.replace(value).is_some() { Err(repeated) } else { Ok(()) }
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

/// Digits only, within 64 bits: no sign, no blank, no list (RFC 9110 §8.6).
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { head: 300, headers: 6, target: 40 };

    /// Parses a whole, valid head and passes it to a closure.
    pub(crate) fn with_head<R>(text: &str, show: impl Fn(&Head<'_, '_>) -> R) -> R {
        let bounds = Bounds { head: 16_384, headers: 100, target: 8_192 };
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let head = parse(text.as_bytes(), &mut storage, &bounds).expect("valid");
        show(&head.expect("whole"))
    }

    /// The result of a head, in a form that outlives its input.
    fn outcome(input: &[u8], bounds: &Bounds) -> Result<Option<String>, Refusal> {
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        Ok(parse(input, &mut storage, bounds)?.map(|head| format!("{head:?}")))
    }

    /// Every prefix gives "not yet", until one gives the same result as the whole input.
    fn check_prefixes(input: &[u8], bounds: &Bounds) -> Result<Option<String>, Refusal> {
        let whole = outcome(input, bounds);
        let mut decided = false;
        let mut lazy = Ok(None);
        let mut seen = 0;
        for len in 0..=input.len() {
            let early = outcome(&input[..len], bounds);
            decided |= early != Ok(None);
            assert_eq!(early, if decided { whole.clone() } else { Ok(None) }, "{len}");
            // Asking only when a head may have ended gives the same result.
            if lazy == Ok(None) && may_end_head(&input[..len], seen, bounds) {
                lazy = early;
            }
            seen = len;
        }
        if whole.is_ok() {
            assert_eq!(lazy, whole);
        }
        whole
    }

    fn refusal(text: &str) -> Option<Refusal> {
        check_prefixes(text.as_bytes(), &BOUNDS).err()
    }

    /// A head with a good request line and Host, and these lines.
    fn lines(text: &str) -> Option<Refusal> {
        refusal(&format!("POST / HTTP/1.1\r\nHost: a\r\n{text}\r\n\r\n"))
    }

    #[test]
    fn smuggling_is_refused() {
        use Refusal::*;
        for (text, expected) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", ContentLengthAndTransferEncoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0", ContentLengthAndTransferEncoding),
            ("Content-Length: 5\r\nContent-Length: 6", ContentLengthRepeated),
            ("Content-Length: 5\r\ncontent-length: 5", ContentLengthRepeated),
            ("Content-Length: 5, 5", ContentLength),
            ("Content-Length: 5,", ContentLength),
            ("Content-Length:", ContentLength),
            ("Content-Length: +5", ContentLength),
            ("Content-Length: -5", ContentLength),
            ("Content-Length: 5 5", ContentLength),
            ("Content-Length: 0x5", ContentLength),
            ("Content-Length: 5.0", ContentLength),
            ("Content-Length: \u{665}", ContentLength),
            ("Content-Length: 18446744073709551616", ContentLength),
            ("Content-Length: 99999999999999999999999999", ContentLength),
            ("Transfer-Encoding: identity", TransferEncodingUnknown),
            ("Transfer-Encoding: gzip, chunked", TransferEncodingUnknown),
            ("Transfer-Encoding: chunked, chunked", TransferEncodingUnknown),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", TransferEncodingUnknown),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TransferEncodingUnknown),
            ("Transfer-Encoding: \"chunked\"", TransferEncodingUnknown),
            ("Transfer-Encoding: chunked;x", TransferEncodingUnknown),
            ("Transfer-Encoding:", TransferEncodingUnknown),
            ("Transfer-Encoding: \u{b}chunked", HeaderValue),
            ("Transfer-Encoding : chunked", HeaderName),
            ("Transfer-Encoding\t: chunked", HeaderName),
            ("Content-Length\r\n: 5", HeaderName),
            ("X: a\r\n b", Folding),
            ("X: a\r\n\tb", Folding),
            ("X:\r\n Content-Length: 5", Folding),
            ("X: a\rContent-Length: 5", HeaderValue),
            ("X: a\r\r\nY: b", HeaderValue),
            ("X: a\nContent-Length: 5", BareLineFeed),
            ("X: a\n", BareLineFeed),
            ("X: a\0b", HeaderValue),
            ("X: a\u{7f}b", HeaderValue),
            ("X: a\u{1}b", HeaderValue),
            ("X\0: a", HeaderName),
            ("X y: a", HeaderName),
            ("X", HeaderName),
            (": a", HeaderName),
            ("é: a", HeaderName),
            ("(x): a", HeaderName),
            ("Host: a", HostRepeated),
            ("Expect: 200-ok", Expectation),
            ("Expect: 100-continue, x", Expectation),
            ("Expect: 100-continue\r\nExpect: 100-continue", Expectation),
            ("1: a\r\n2: b\r\n3: c\r\n4: d\r\n5: e\r\n6: f", TooManyHeaders),
        ] {
            assert_eq!(lines(text), Some(expected), "{text:?}");
        }
        for (text, status) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: gzip", 501),
            ("Expect: x", 417),
        ] {
            assert_eq!(lines(text).map(Refusal::status), Some(status), "{text:?}");
        }
    }

    #[test]
    fn request_lines_that_are_refused() {
        use Refusal::*;
        for (line, expected) in [
            ("GET / HTTP/1.1\nHost: a\r\n", BareLineFeed),
            ("GET /\r\n", Version),
            ("GET / \r\n", Version),
            ("GET  / HTTP/1.1\r\n", Version),
            ("GET /  HTTP/1.1\r\n", Version),
            ("GET / HTTP/1.1 \r\n", Version),
            ("GET / x HTTP/1.1\r\n", Version),
            ("GET / http/1.1\r\n", Version),
            ("GET / HTTP/1.10\r\n", Version),
            ("GET / HTTP/11\r\n", Version),
            ("GET / HTTP/1.1\r\r\n", Version),
            ("GET / HTTP/2.0\r\n", VersionUnknown),
            ("GET / HTTP/1.2\r\n", VersionUnknown),
            ("GET / HTTP/0.9\r\n", VersionUnknown),
            ("PRI * HTTP/2.0\r\n", VersionUnknown),
            (" GET / HTTP/1.1\r\n", Method),
            ("GE(T / HTTP/1.1\r\n", Method),
            ("GET\t/ HTTP/1.1\r\n", Method),
            ("GET\r\n", Method),
            ("\rGET / HTTP/1.1\r\n", Method),
            ("\u{16}\u{3}\u{1}", Method),
            ("\0", Method),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n", MethodTooLong),
            ("GET * HTTP/1.1\r\n", Target),
            ("GET x HTTP/1.1\r\n", Target),
            ("GET ?x HTTP/1.1\r\n", Target),
            ("CONNECT a:80 HTTP/1.1\r\n", Target),
            ("GET /a#b HTTP/1.1\r\n", Target),
            ("GET /a\tb HTTP/1.1\r\n", Target),
            ("GET /a\0b HTTP/1.1\r\n", Target),
            ("GET /\u{7f} HTTP/1.1\r\n", Target),
            ("GET /é HTTP/1.1\r\n", Target),
            ("GET ftp://a/ HTTP/1.1\r\n", Target),
            ("GET http:///x HTTP/1.1\r\n", Target),
            ("GET http://u@a/x HTTP/1.1\r\n", Target),
            ("GET http://a:x/ HTTP/1.1\r\n", Target),
            ("GET /aaaaaaaaaabbbbbbbbbbccccccccccddddddddddd HTTP/1.1\r\n", TargetTooLong),
            ("GET /aaaaaaaaaabbbbbbbbbbccccccccccddddddddddd", TargetTooLong),
        ] {
            assert_eq!(refusal(line), Some(expected), "{line:?}");
            assert_eq!(refusal(&format!("\r\n{line}Host: a\r\n\r\n")), Some(expected), "{line:?}");
        }
        assert_eq!(refusal("GET / HTTP/1.1\r\n Host: a\r\n"), Some(Folding));
    }

    #[test]
    fn hosts() {
        use Refusal::*;
        let host =
            |version: &str, lines: &str| refusal(&format!("GET / HTTP/{version}\r\n{lines}\r\n"));
        assert_eq!(host("1.1", ""), Some(HostMissing));
        assert_eq!(host("1.0", ""), None);
        assert_eq!(host("1.0", "Host: a\r\nHost: a\r\n"), Some(HostRepeated));
        let bad = ["", "a b", "a/b", "u@a", "a:b", "a:99999", "[::1", "[x]", "é", "a,b:c", "a#"];
        for value in bad {
            assert_eq!(host("1.1", &format!("Host: {value}\r\n")), Some(Host), "{value}");
            assert_eq!(host("1.0", &format!("Host: {value}\r\n")), Some(Host), "{value}");
        }
        for value in ["a", "a.b:80", "127.0.0.1", "[::1]:8080", "under_score", "xn--a:"] {
            assert_eq!(host("1.1", &format!("Host: {value}\r\n")), None, "{value}");
        }
        let absolute = "GET HTTP://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n";
        with_head(absolute, |head| {
            assert_eq!((head.host, head.target.path, head.target.query), ("b:81", "/x", "y"));
        });
        with_head("GET https://b?y HTTP/1.1\r\nHost: a\r\n\r\n", |head| {
            assert_eq!((head.host, head.target.path, head.target.query), ("b", "/", "y"));
        });
        let both = "GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n";
        assert_eq!(refusal(both), Some(Host));
        assert_eq!(refusal("GET http://b/ HTTP/1.1\r\n\r\n"), Some(HostMissing));
    }

    #[test]
    fn a_head_is_parsed_into_its_parts() {
        let text = "\r\n\r\nPOST /a%20b?c=d?e HTTP/1.1\r\nhost: a\r\nContent-LENGTH:  007\t\r\n\
            Expect: 100-Continue\r\nX:\r\nA: one,, two\t,\r\na: Three\r\n\r\nrest";
        assert_eq!(refusal(&text[..text.len() - 4]), None);
        with_head(text, |head| {
            assert_eq!(head.len, text.len() - 4);
            assert_eq!(head.method, Method::Post);
            assert_eq!((head.target.path, head.target.query), ("/a%20b", "c=d?e"));
            assert_eq!((head.minor_version, head.host), (1, "a"));
            assert_eq!(head.body, BodyKind::Length(7));
            assert!(head.keep_alive && head.expect_continue);
            assert_eq!(head.header("x"), Some(&b""[..]));
            assert_eq!(head.header("y"), None);
            assert!(head.tokens("A").eq([&b"one"[..], b"two", b"Three"]));
            assert!(head.has_token("a", "THREE") && !head.has_token("a", "thre"));
            assert!(head.header_values("A").eq([&b"one,, two\t,"[..], b"Three"]));
        });
        let max = format!("PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", u64::MAX);
        with_head(&max, |head| {
            assert_eq!(head.method, Method::Other("PATCH"));
            assert_eq!(head.body, BodyKind::Length(u64::MAX));
        });
        let chunked = "PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked \r\n\r\n";
        with_head(chunked, |head| assert_eq!(head.body, BodyKind::Chunked));
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refusal(old), Some(Refusal::TransferEncodingInOld));
        // No `100 Continue` for these: there is no body, or the request is HTTP/1.0.
        for lines in ["1.1\r\nHost: a\r\nExpect: 100-continue", "1.0\r\nExpect: x"] {
            let text = format!("GET / HTTP/{lines}\r\n\r\n");
            with_head(&text, |head| assert!(!head.expect_continue));
        }
    }

    #[test]
    fn keep_alive() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Upgrade, Close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
            with_head(&text, |head| assert_eq!(head.keep_alive, expected, "{text:?}"));
        }
    }

    #[test]
    fn bounds_are_exact_and_applied_before_the_end() {
        let head = "GET /23456 HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
        let exact = Bounds { head: head.len() as u32, headers: 2, target: 6 };
        assert!(check_prefixes(head.as_bytes(), &exact).is_ok_and(|head| head.is_some()));
        for (bounds, refusal) in [
            (Bounds { head: exact.head - 1, ..exact }, Refusal::HeadTooLong),
            (Bounds { headers: 1, ..exact }, Refusal::TooManyHeaders),
            (Bounds { target: 5, ..exact }, Refusal::TargetTooLong),
            (Bounds { head: 0, ..exact }, Refusal::HeadTooLong),
        ] {
            assert_eq!(check_prefixes(head.as_bytes(), &bounds), Err(refusal));
        }
        let endless = [&b"GET / HTTP/1.1\r\nA: "[..], &[b'a'; 300]].concat();
        assert_eq!(check_prefixes(&endless, &BOUNDS), Err(Refusal::HeadTooLong));
        assert_eq!(check_prefixes(&b"\r\n".repeat(200), &BOUNDS), Err(Refusal::HeadTooLong));
        // More lines than the table can store, even if the configuration allows more.
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        let wide = Bounds { head: 10_000, headers: 10_000, target: 10 };
        assert_eq!(check_prefixes(many.as_bytes(), &wide), Err(Refusal::TooManyHeaders));
    }

    /// The rules for one header line, byte by byte.
    fn naive_line(line: &[u8]) -> bool {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
        let value = &line[colon + 1..];
        colon > 0
            && line[..colon].iter().all(|byte| is_token(*byte))
            && value.iter().all(|byte| *byte == b'\t' || (*byte >= 32 && *byte != 127))
    }

    proptest! {
        #[test]
        fn prefixes_of_anything(
            text in "(\r\n|GET /|POST http://a| HTTP/1\\.[01]\r\n|Host: a\r\n|[a-zA-Z: ]|\
                Content-Length: [0-9]{0,3}\r\n|[\0-\u{ff}]|\r\n\r\n|x: y\r\n){0,14}",
            head in 1_u32..120,
        ) {
            let bounds = Bounds { head, headers: 3, target: 12 };
            let _ = check_prefixes(text.as_bytes(), &bounds);
        }

        #[test]
        fn lines_are_as_the_grammar_says(
            line in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(b':'), Just(b'a'), Just(b' '), Just(b'\r')], 1..40,
            ),
        ) {
            prop_assume!(!line.contains(&b'\n') && line[0] != b' ' && line[0] != b'\t');
            prop_assume!(line != b"\r");
            let bounds = Bounds { head: 200, headers: 3, target: 12 };
            let input = [&b"GET / HTTP/1.0\r\n"[..], &line, b"\r\n\r\n"].concat();
            prop_assert_eq!(outcome(&input, &bounds).is_ok(), naive_line(&line));
        }
    }
}

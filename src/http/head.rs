//! A request head that has passed every check of `request`.

use httparse::Header;

/// A request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'b> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// Any other token.
    Other(&'b str),
}

impl<'b> Method<'b> {
    pub(super) fn from_token(token: &'b str) -> Method<'b> {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            // Methods are case-sensitive (RFC 9110 §9.1): "get" is another method.
            other => Method::Other(other),
        }
    }
}

/// The request target, without scheme and authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'b> {
    /// The path, still percent-encoded; begins with `/`.
    pub path: &'b str,
    /// What follows the first `?`, without it.
    pub query: &'b str,
}

/// How the body's end is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none (no length, or the length 0).
    None,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request head that has passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'b, 'h> {
    /// Bytes of the input that it used, with empty lines before it and the blank line after it.
    pub len: usize,
    /// The method.
    pub method: Method<'b>,
    /// The target.
    pub target: Target<'b>,
    /// Minor version of HTTP/1: 0 or 1.
    pub minor_version: u8,
    /// The requested host with port: the target's if it has one (RFC 9112 §3.2.2), else the Host
    /// header's; empty only in HTTP/1.0.
    pub host: &'b str,
    /// The header lines in order, values without surrounding blanks.
    pub headers: &'h [Header<'b>],
    /// How the end of the body is found.
    pub body: BodyKind,
    /// The peer may send another request on this connection.
    pub keep_alive: bool,
    /// The peer waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

impl<'b> Head<'b, '_> {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.header_values(name).next()
    }

    /// The values of every line of a header.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let lines = self.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value)
    }

    /// The elements of a comma-separated header, over all its lines (RFC 9110 §5.6.1).
    pub fn tokens(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.header_values(name).flat_map(elements)
    }

    /// Whether a comma-separated header has an element, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Elements of a comma-separated value without blanks around them; empty ones are skipped.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = value.split(|byte| *byte == b',').map(trim_blanks);
    parts.filter(|element| !element.is_empty())
}

/// Trims optional white space (RFC 9110 §5.6.3) at both ends.
fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

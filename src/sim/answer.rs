//! HTTP answers, as clients read them.

use super::violation::{Oracle, Violation};

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The server ends the connection after it.
    pub(super) close: bool,
}

/// The next HTTP answer, whole. One to a handshake, 101, has no body.
pub(super) fn next(input: &mut Vec<u8>) -> Result<Option<Answer>, Violation> {
    let Some(head) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let wrong = |what: &str| Violation::new(Oracle::Protocol, format!("HTTP answer: {what}"));
    let text = core::str::from_utf8(&input[..head]).map_err(|_| wrong("not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| wrong("status line"))?;
    let (mut len, mut close) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("header line"))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => len = value.trim().parse::<usize>().ok(),
            "connection" => close |= value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let len = match status {
        100 | 101 | 204 => 0,
        _ => len.ok_or_else(|| wrong("no content-length"))?,
    };
    let start = head + 4;
    if input.len() < start + len {
        return Ok(None);
    }
    let body = input[start..start + len].to_vec();
    input.drain(..start + len);
    Ok(Some(Answer { status, body, close }))
}

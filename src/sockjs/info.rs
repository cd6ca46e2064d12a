//! The body of `/info`.

use super::framing::{Count, Fill, Sink, put_number, put_quoted};

/// An endpoint's capabilities. The answer's type is `application/json; charset=UTF-8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info<'a> {
    /// The WebSocket transports are enabled.
    pub websocket: bool,
    /// A load balancer needs cookies.
    pub cookie_needed: bool,
    /// A new random number in every answer, for clients without a good source.
    pub entropy: u32,
    /// Base URL of the transports, if it differs from that of `/info`.
    pub base_url: Option<&'a str>,
}

impl Info<'_> {
    /// Bytes that `write` writes.
    pub fn len(&self) -> usize {
        let mut count = Count(0);
        self.put(&mut count);
        count.0
    }

    /// Always false: the body is a JSON object.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the body and returns its length. Panics if `out` is shorter than `len`.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut fill = Fill::new(out);
        self.put(&mut fill);
        fill.len
    }

    fn put(&self, sink: &mut impl Sink) {
        let word = |yes: bool| if yes { &b"true"[..] } else { b"false" };
        sink.put(b"{\"websocket\":");
        sink.put(word(self.websocket));
        sink.put(b",\"cookie_needed\":");
        sink.put(word(self.cookie_needed));
        // The client no longer reads `origins`, but the protocol still has it.
        sink.put(b",\"origins\":[\"*:*\"],\"entropy\":");
        put_number(sink, self.entropy);
        if let Some(base_url) = self.base_url {
            sink.put(b",\"base_url\":");
            put_quoted(sink, base_url);
        }
        sink.put(b"}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_this_json() {
        let mut info =
            Info { websocket: true, cookie_needed: false, entropy: u32::MAX, base_url: None };
        let mut out = [0; 200];
        let len = info.write(&mut out);
        assert_eq!(len, info.len());
        let expected =
            r#"{"websocket":true,"cookie_needed":false,"origins":["*:*"],"entropy":4294967295}"#;
        assert_eq!(&out[..len], expected.as_bytes());
        (info.websocket, info.cookie_needed, info.entropy) = (false, true, 0);
        info.base_url = Some("https://a.example/\"x");
        let len = info.write(&mut out);
        assert_eq!(len, info.len());
        let json: serde_json::Value = serde_json::from_slice(&out[..len]).unwrap();
        assert_eq!(json["base_url"], "https://a.example/\"x");
        assert_eq!(json["websocket"], false);
        assert_eq!(json["cookie_needed"], true);
        assert_eq!(json["entropy"], 0);
        assert!(!info.is_empty());
    }
}

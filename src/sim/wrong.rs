//! Invalid input, and the reason under which each is counted: HTTP requests, handshakes, WebSocket
//! frames, STOMP frames.

use super::wire::{Wire, handshake};
use crate::metrics::Refusal;
use crate::metrics::Refusal::*;

/// What precedes the wrong bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// A request line of a handshake; the bytes are header lines in place of those of this name.
    Head(&'static str),
    /// A raw WebSocket.
    Raw,
    /// A WebSocket of a STOMP endpoint, before CONNECT; the bytes are a frame.
    Socket,
    /// A STOMP session; the bytes are a frame.
    Session,
}

/// An invalid input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    before: Before,
    bytes: &'static [u8],
    /// The reason under which it is counted.
    pub(super) refusal: Refusal,
}

/// Placeholders for many bytes.
const LONG: &str = "{long}";
const LINES: &str = "{lines}";

const fn wrong(before: Before, bytes: &'static [u8], refusal: Refusal) -> Wrong {
    Wrong { before, bytes, refusal }
}

use Before::{Head, Nothing, Raw, Session, Socket};

/// All invalid inputs.
pub(super) const ALL: [Wrong; 69] = [
    wrong(Nothing, b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", HttpBareLineFeed),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\n\r\n", HttpBareLineFeed),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HttpHost),
    wrong(Nothing, b"GET / HTTP/1.1\r\n\r\n", HttpHostMissing),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HttpHostRepeated),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", HttpHeaderName),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0\r\n\r\n", HttpHeaderValue),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", HttpFolding),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n", HttpExpectation),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n", HttpHeaderCount),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n", HttpHeadSize),
    wrong(Nothing, b"GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n", HttpTargetSize),
    wrong(Nothing, b"GET x HTTP/1.1\r\nHost: localhost\r\n\r\n", HttpTarget),
    wrong(Nothing, b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", HttpMethod),
    wrong(Nothing, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n\r\n", HttpMethodSize),
    wrong(Nothing, b"GET /callback/inbound HTTP/1.1\r\nHost: x\r\n\r\n", HttpMethodNotAllowed),
    wrong(Nothing, b"BREW /pot HTCPCP/1.0\r\n\r\n", HttpVersion),
    wrong(Nothing, b"GET / HTTP/2.0\r\n\r\n", HttpVersionUnknown),
    wrong(Nothing, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", HttpContentLength),
    wrong(
        Nothing,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        HttpContentLengthRepeated,
    ),
    wrong(
        Nothing,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HttpLengthAndEncoding,
    ),
    wrong(
        Nothing,
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        HttpEncodingInOld,
    ),
    wrong(
        Nothing,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        HttpEncodingUnknown,
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        HttpChunk,
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
          1;{long}\r\n",
        HttpChunkExtensions,
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\nX: {long}\r\n",
        HttpTrailersSize,
    ),
    wrong(
        Nothing,
        b"POST /callback/inbound HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n",
        HttpBodySize,
    ),
    wrong(Head("Connection"), b"Connection: close\r\n", HttpUpgradeConnection),
    wrong(Head("Sec-WebSocket-Key"), b"Sec-WebSocket-Key: short\r\n", HttpUpgradeKey),
    wrong(Head("Sec-WebSocket-Version"), b"Sec-WebSocket-Version: 8\r\n", HttpUpgradeVersion),
    wrong(Head("-"), b"Content-Length: 2\r\n\r\n", HttpUpgradeBody),
    wrong(Nothing, b"GET /portfolio/websocket HTTP/1.1\r\nHost: x\r\n\r\n", HttpUpgradeMissing),
    wrong(
        Nothing,
        b"GET /portfolio/websocket HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\n\
          Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
        HttpUpgradeOld,
    ),
    wrong(
        Nothing,
        b"POST /portfolio/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
          Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
        HttpUpgradeMethod,
    ),
    wrong(Head("-"), b"Sec-WebSocket-Extensions: a;=\r\n", HttpUpgradeExtensions),
    wrong(Head("-"), b"Origin: http://other.example\r\n", HttpOrigin),
    wrong(Raw, b"\xc1\x80\0\0\0\0", WsReservedBits),
    wrong(Raw, b"\x83\x80\0\0\0\0", WsReservedOpcode),
    wrong(Raw, b"\x81\x01a", WsNotMasked),
    wrong(Raw, b"\x09\x80\0\0\0\0", WsControlFragmented),
    wrong(Raw, b"\x89\xfe\x00\x7e\0\0\0\0", WsControlSize),
    wrong(Raw, b"\x80\x80\0\0\0\0", WsContinuationUnexpected),
    wrong(Raw, b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", WsContinuationExpected),
    wrong(Raw, b"\x81\xfe\x00\x05\0\0\0\0hello", WsLengthNotMinimal),
    wrong(Raw, b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", WsLengthHighBit),
    wrong(Raw, b"\x81\xff\0\0\0\x01\0\0\0\0\0\0\0\0", WsMessageSize),
    wrong(Raw, b"\x81\x82\0\0\0\0\xff\xfe", WsTextNotUtf8),
    wrong(Raw, b"\x88\x81\0\0\0\0\x03", WsCloseLength),
    wrong(Raw, b"\x88\x82\0\0\0\0\x03\xed", WsCloseCode),
    wrong(Raw, b"\x88\x83\0\0\0\0\x03\xe8\xff", WsCloseReason),
    wrong(Socket, b"SEND\ndestination:/topic/t0\n\n\0", StompNotConnected),
    wrong(Socket, b"CONNECT\naccept-version:9.9\nhost:x\n\n\0", StompVersion),
    wrong(Socket, b"CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0", StompHeartBeat),
    wrong(Session, b"SEND\n\nbody\0", StompMissingHeader),
    wrong(Session, b"SEND\ndestination:/nowhere\n\nbody\0", BrokerUnknownDestination),
    wrong(Session, b"SEND\ndestination:/ws/nothing\n\nbody\0", BrokerNoApplication),
    wrong(Session, b"SUBSCRIBE\nid:1\ndestination:/topic/t0\nack:x\n\n\0", StompAckMode),
    wrong(Session, b"FLY\n\n\0", StompUnknownCommand),
    wrong(Session, b"SEND\na:b\rc\n\n\0", StompBareCr),
    wrong(Session, b"SEND\na:b\0", StompNulInHead),
    wrong(Session, b"SEND\na:\xff\n\n\0", StompNotUtf8),
    wrong(Session, b"SEND\nab\n\n\0", StompNoColon),
    wrong(Session, b"SEND\n:b\n\n\0", StompEmptyName),
    wrong(Session, b"SEND\ndestination:/topic/t0\nbad\\escape:x\n\n\0", StompEscape),
    wrong(Session, b"SEND\ndestination:/topic/t0\ncontent-length:x\n\n\0", StompContentLength),
    wrong(Session, b"SEND\ndestination:/topic/t0\ncontent-length:9999\n\n", StompFrameSize),
    wrong(Session, b"SEND\ndestination:/topic/t0\ncontent-length:1\n\nab\0", StompNoNulAfterBody),
    wrong(Session, b"SUBSCRIBE\nid:1\ndestination:/topic/t0\n\nbody\0", StompBodyNotAllowed),
    wrong(Session, b"BEGIN\ntransaction:t\n\n\0", StompTransactions),
];

/// Reasons that a campaign need not reach: other tests cover them.
const NOT_EXPECTED: &[Refusal] = &[
    // No run has two thousand million frames.
    LimitFrameNumbers,
    // No endpoint of a run has tokens or compression, no client names a user in a header.
    AuthMissing,
    AuthTokenAlgorithm,
    AuthTokenAudience,
    AuthTokenExpired,
    AuthTokenIssuer,
    AuthTokenMalformed,
    AuthTokenNotYetValid,
    AuthTokenSignature,
    AuthTokenUser,
    AuthUserHeaderRepeated,
    AuthUserName,
    WsNotDeflate,
    // No run has the API's token, the demo, or a timestamp in a signature.
    ApiDemoOnly,
    ApiToken,
    CallbackSignatureStale,
    // Those of the control thread; here a stand-in answers for it, and all applications have hooks.
    HookBodySize,
    HookBroken,
    HookNulInBody,
    HookStatus,
    HookTimeout,
    HookUnreachable,
    HookUnset,
    HookUserMissing,
    // Rare: another small mailbox, pool or table is usually full first.
    HookQueueFull,
    LimitMessageBlocks,
    LimitSegmentBytes,
    LimitShareOfHookCalls,
    // Bounds that are not set, or behind others that are reached first.
    BrokerPatternGaveUp,
    LimitBufferedBytes,
    LimitConnectionsPerAddress,
    LimitLargestMessage,
    LimitSubscribedBytes,
    LimitSubscriptionBytes,
    // Those of a client's decoder.
    WsMasked,
];

/// What a campaign must have refused: all other reasons.
pub fn refusals() -> impl Iterator<Item = Refusal> {
    Refusal::ALL.iter().copied().filter(|refusal| !NOT_EXPECTED.contains(refusal))
}

impl Wrong {
    /// Writes the bytes.
    pub(super) fn put(self, wire: &mut Wire) {
        match self.before {
            Nothing => {}
            Head(name) => return wire.put(&self.head(name)),
            Raw => wire.put(&handshake("/echo", "")),
            Socket => wire.put(&handshake("/portfolio", "?userId=u5")),
            Session => {
                wire.put(&handshake("/portfolio", "?userId=u5"));
                put_binary(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0", wire);
            }
        }
        match self.before {
            Socket | Session => put_binary(self.bytes, wire),
            _ => wire.put(&filled(self.bytes)),
        }
    }

    /// A handshake with other header lines.
    fn head(self, name: &str) -> Vec<u8> {
        let own = String::from_utf8(handshake("/portfolio", "")).expect("it is text");
        let other = String::from_utf8_lossy(self.bytes);
        let others = |line: &&str| !line.starts_with(name) && *line != "\r\n";
        let lines: String = own.split_inclusive("\r\n").filter(others).collect();
        format!("{lines}{other}\r\n").into_bytes()
    }
}

/// Bytes of STOMP that need not be text, under a key that changes nothing.
fn put_binary(bytes: &[u8], wire: &mut Wire) {
    let len = bytes.len() as u8;
    assert!(len < 126, "a short frame");
    wire.put(&[0x82, 0x80 | len, 0, 0, 0, 0]);
    wire.put(bytes);
}

fn filled(bytes: &[u8]) -> Vec<u8> {
    match core::str::from_utf8(bytes) {
        Ok(text) => {
            let text = text.replace(LONG, &"a".repeat(5_000));
            text.replace(LINES, &"X: a\r\n".repeat(30)).into_bytes()
        }
        Err(_) => bytes.to_vec(),
    }
}

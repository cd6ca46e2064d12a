//! Heads, bodies and handshakes of HTTP: the result must not depend on how the bytes are cut.

use core::net::{IpAddr, Ipv4Addr};
use ringpush::http::{
    self, Body, BodyKind, Bounds, HEADERS_MAX, Head, Page, Pattern, Refusal, Response, SameOrigin,
};

/// Bytes 0 to 3 choose bounds and cuts, the rest is the stream.
pub fn http_head(data: &[u8]) {
    let Some((seed, input)) = data.split_first_chunk::<4>() else { return };
    let bounds = Bounds {
        head: 16 + 4 * u32::from(seed[0]),
        headers: u32::from(seed[1] % 20),
        target: u32::from(seed[2]),
    };
    let whole = with_head(input, &bounds, |head| {
        check_head(head, &bounds);
        (format!("{head:?}"), head.len, head.body)
    });
    check_prefixes(input, &bounds, &whole);
    if let Err(refusal) = whole {
        check_refusal(refusal);
    }
    if let Ok(Some((_, len, kind))) = whole {
        check_body(kind, &input[len..], seed[3]);
    }
    check_body(BodyKind::Chunked, input, seed[3]);
}

type Whole = Result<Option<(String, usize, BodyKind)>, Refusal>;

fn with_head<R>(
    input: &[u8],
    bounds: &Bounds,
    show: impl Fn(&Head<'_, '_>) -> R,
) -> Result<Option<R>, Refusal> {
    let mut storage = [http::EMPTY_HEADER; HEADERS_MAX];
    Ok(http::parse(input, &mut storage, bounds)?.map(|head| show(&head)))
}

/// Short prefixes give "not yet"; from some length on, all give the result of the whole.
fn check_prefixes(input: &[u8], bounds: &Bounds, whole: &Whole) {
    let mut decided = false;
    for len in 0..=input.len().min(1_200) {
        let early = with_head(&input[..len], bounds, |head| format!("{head:?}"));
        decided |= early != Ok(None);
        match (&early, whole) {
            (Ok(None), _) => assert!(!decided, "{len}: an answer was taken back"),
            (Ok(Some(early)), Ok(Some((head, _, _)))) => assert_eq!(early, head),
            (Err(early), Err(refusal)) => assert_eq!(early, refusal),
            _ => panic!("{len}: {early:?} became {whole:?}"),
        }
    }
    assert!(decided || *whole == Ok(None) || input.len() > 1_200);
}

fn check_head(head: &Head<'_, '_>, bounds: &Bounds) {
    assert!(head.len <= bounds.head as usize);
    assert!(head.headers.len() <= bounds.headers as usize);
    assert!(head.target.path.starts_with('/'));
    assert!(head.minor_version == 1 || head.host.is_empty() || !head.host.contains(' '));
    for line in head.headers {
        assert!(!line.name.is_empty() && !line.name.contains([' ', ':', '\r', '\n']));
        assert!(!line.value.iter().any(|byte| b"\r\n\0".contains(byte)));
    }
    if http::check(head).is_ok() {
        assert!(http::is_upgrade(head) && head.body == BodyKind::None && head.minor_version == 1);
        let _ = http::stomp_subprotocol(head).name();
    }
    let same = SameOrigin { scheme: "http", host: head.host, external: "" };
    let origin = http::origin_of(head);
    let foreign = http::is_foreign(origin, same);
    assert_eq!(foreign, !http::allowed(origin, &[], same));
    if let Ok(pattern) = Pattern::parse(head.target.query) {
        let matched = http::allowed(origin, &[pattern], same);
        assert!(matched || foreign);
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert!(!http::loopback_test(peer, head, Page::Foreign));
    if http::loopback_test(peer, head, Page::Own) {
        assert!(http::loopback_test(peer, head, Page::Allowed));
        assert!(http::is_own_name(head.host, ""));
    }
    let mut out = [0; 64];
    for (name, value) in http::pairs(head.target.query) {
        if let Ok(name) = http::decode_form(name, &mut out).map(str::to_owned) {
            assert!(http::query_count(head.target.query, &name) > 0);
        }
        let _ = http::decode(value, &mut out);
    }
}

/// The answer to a refusal is one head with a body of the stated length.
fn check_refusal(refusal: Refusal) {
    let mut body = [0; http::JSON_ERROR_MAX];
    let body = http::json_error(refusal.status(), refusal.text(), &mut body);
    let response = Response {
        body,
        content_type: Some(http::JSON),
        close: true,
        ..Response::new(refusal.status())
    };
    let mut out = [0; 512];
    let len = response.write(&mut out);
    assert_eq!(len, response.len());
    assert!(out[..len].ends_with(body));
}

/// The result of a body: its bytes and where it ended, or the refusal.
type Read = Result<(Vec<u8>, Option<usize>), Refusal>;

fn check_body(kind: BodyKind, input: &[u8], cut: u8) {
    let whole = read_body(kind, input, input.len().max(1));
    for chunk in [1, 2, 1 + usize::from(cut)] {
        assert_eq!(whole, read_body(kind, input, chunk), "in chunks of {chunk}");
    }
    if let Ok((body, end)) = &whole {
        assert!(body.len() <= BODY_MAX as usize && body.len() <= input.len());
        assert!(end.is_none_or(|end| end <= input.len()));
    }
}

fn read_body(kind: BodyKind, input: &[u8], step: usize) -> Read {
    let mut body = Body::new(kind);
    let mut bytes = Vec::new();
    let (mut at, mut arrived) = (0, 0);
    loop {
        let (consumed, chunk, done) = body.next(&input[at..arrived], BODY_MAX)?;
        bytes.extend_from_slice(chunk.unwrap_or_default());
        at += consumed;
        if done {
            return Ok((bytes, Some(at)));
        }
        if at == arrived && arrived == input.len() {
            return Ok((bytes, None));
        }
        if at == arrived {
            arrived = (arrived + step).min(input.len());
        } else {
            assert!(consumed > 0, "bytes are there and none is taken");
        }
    }
}

/// Small, so that it is reached.
const BODY_MAX: u32 = 100;

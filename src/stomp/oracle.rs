//! The naive decoder that the fast one must agree with, and a driver that feeds chunks.

use super::frame::{Command, Header, Step};
use super::{Decoder, Error, Version};
use proptest::prelude::*;

/// Length of the header slice that [`feed`] passes in.
pub(super) const HEADERS_MAX: usize = 4;

/// What a decoder returned, owned. Several EOLs in a row are one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Eol,
    Frame(Command, Vec<(String, String)>, Vec<u8>),
    Refused(Error),
}

fn push(events: &mut Vec<Event>, event: Event) {
    if event != Event::Eol || events.last() != Some(&Event::Eol) {
        events.push(event);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("heads are UTF-8")
}

/// Drives the real decoder as a session would.
pub(super) fn feed(chunks: &[&[u8]], version: Option<Version>, frame_max: u32) -> Vec<Event> {
    let (mut decoder, mut kept, mut events) = (Decoder::new(), Vec::new(), Vec::new());
    let mut headers = [Header::EMPTY; HEADERS_MAX];
    for chunk in chunks {
        kept.extend_from_slice(chunk);
        loop {
            let before = kept.clone();
            let consumed = match decoder.next(&mut kept, &mut headers, version, frame_max) {
                Ok(Step::NeedMore) => {
                    assert_eq!(kept, before, "nothing is touched before the frame is whole");
                    break;
                }
                Ok(Step::Eol { consumed }) => {
                    push(&mut events, Event::Eol);
                    consumed
                }
                Ok(Step::Frame { consumed, frame }) => {
                    let pairs = frame.headers().map(|(name, value)| (text(name), text(value)));
                    let body = frame.body().to_vec();
                    push(&mut events, Event::Frame(frame.command(), pairs.collect(), body));
                    consumed
                }
                Err(error) => {
                    push(&mut events, Event::Refused(error));
                    return events;
                }
            };
            assert!(consumed > 0 && consumed <= kept.len());
            kept.drain(..consumed);
        }
    }
    events
}

/// Parses everything by splitting strings; slow and simple.
pub(super) fn naive(input: &[u8], version: Option<Version>, frame_max: u32) -> Vec<Event> {
    let (mut events, mut rest) = (Vec::new(), input);
    loop {
        if rest.is_empty() || rest == b"\r" {
            return events;
        }
        let eol = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest[0] <= b'\n') };
        if eol > 0 && matches!(rest[0], b'\r' | b'\n' | 0) {
            push(&mut events, Event::Eol);
            rest = &rest[eol..];
            continue;
        }
        if rest[0] == b'\r' {
            push(&mut events, Event::Refused(Error::BareCarriageReturn));
            return events;
        }
        match naive_frame(rest, version, frame_max as usize) {
            Ok(None) => return events,
            Ok(Some((consumed, event))) => {
                push(&mut events, event);
                rest = &rest[consumed..];
            }
            Err(error) => {
                push(&mut events, Event::Refused(error));
                return events;
            }
        }
    }
}

type Found = Option<(usize, Event)>;

fn naive_frame(input: &[u8], version: Option<Version>, max: usize) -> Result<Found, Error> {
    let more = if input.len() >= max { Err(Error::TooLarge) } else { Ok(None) };
    let window = &input[..input.len().min(max)];
    let blank = (0..window.len()).find(|&at| {
        window[at] == 0 || window[..=at].ends_with(b"\n\n") || window[..=at].ends_with(b"\n\r\n")
    });
    let Some(blank) = blank else { return more };
    if window[blank] == 0 {
        return Err(Error::NulInHead);
    }
    let head = std::str::from_utf8(&window[..=blank]).map_err(|_| Error::NotUtf8)?;
    let mut lines = head.split_inclusive('\n').map(|line| {
        let line = line.strip_suffix('\n').unwrap();
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains('\r') { Err(Error::BareCarriageReturn) } else { Ok(line) }
    });
    let first = lines.next().unwrap()?;
    let command = Command::ALL.into_iter().find(|command| command.text() == first);
    let command = command.ok_or(Error::UnknownCommand)?;
    let version = if command.opens() && version != Some(Version::V1_0) { None } else { version };
    let (mut pairs, mut lengths) = (Vec::new(), Vec::new());
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(Error::NoColon)?;
        let has_escapes = version != Some(Version::V1_0);
        let name = if has_escapes { naive_unescape(name, version)? } else { name.to_string() };
        if super::is_blank_name(name.as_bytes()) {
            return Err(Error::EmptyName);
        }
        let value = match has_escapes {
            false => value.trim_matches([' ', '\t']).into(),
            true => naive_unescape(value, version)?,
        };
        let pair = (name, value);
        if pairs.len() == HEADERS_MAX {
            return Err(Error::TooManyHeaders);
        }
        if pair.0 == "content-length" {
            let number: &str = &pair.1;
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let length = number.parse::<u128>().ok().filter(|_| digits);
            lengths.push(length.ok_or(Error::BadContentLength)? as usize);
            if lengths[0] != *lengths.last().unwrap() {
                return Err(Error::BadContentLength);
            }
        }
        pairs.push(pair);
    }
    let body = &window[blank + 1..];
    let length = match lengths.first() {
        Some(&length) if blank + 1 + length + 1 > max => return Err(Error::TooLarge),
        Some(&length) if length > 0 && command != Command::Send => {
            return Err(Error::BodyNotAllowed);
        }
        Some(&length) => Some(length).filter(|&length| length < body.len()),
        None => body.iter().position(|&byte| byte == 0),
    };
    let Some(length) = length else { return more };
    if body[length] != 0 {
        return Err(Error::NoNulAfterBody);
    }
    if length > 0 && command != Command::Send {
        return Err(Error::BodyNotAllowed);
    }
    let event = Event::Frame(command, pairs, body[..length].to_vec());
    Ok(Some((blank + 1 + length + 1, event)))
}

fn naive_unescape(text: &str, version: Option<Version>) -> Result<String, Error> {
    if version.is_none() {
        return Ok(text.to_string());
    }
    let (mut out, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('c') => ':',
                _ => return Err(Error::BadEscape),
            },
            character => character,
        });
    }
    Ok(out)
}

/// A text that frames are made of, whole or in part.
pub(super) fn part() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: [&[u8]; 28] = [
        b"SEND\n",
        b"SEND\r\n",
        b"SUBSCRIBE\n",
        b"CONNECT\n",
        b"ACK\n",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\0",
        b"\n\n\0",
        b"k:v\n",
        b"k: v\\c\n",
        b"\\n:\\\\\r\n",
        b" \\n\\r:v\n",
        b"\t\\c:v\n",
        b"k:\\t\n",
        b"content-length:3\n",
        b"content-length:0\n",
        b"content-length:3\n\nabc\0",
        b"content-length:3\n\n\0\0\0\0",
        b"receipt:1\n",
        b":",
        b"\\",
        "中".as_bytes(),
        b"\xff",
        b"body",
    ];
    proptest::sample::select(PARTS.as_slice()).prop_map(<[u8]>::to_vec)
}

//! `[limits]`: each bound by its key, then the relations between bounds.

use super::context::Context;
use super::kind::{Key, Kind, always, number, period, value, word};
use super::reader::Section;
use super::rules::SLOW;
use super::settings::{Change, Lines};
use super::{Mistake, SlowConsumer};
use crate::limits::{Limits, Line, Value};

/// The section's name.
pub(super) const SECTION: &str = "limits";
/// What the reference says of the section.
pub(super) const DOC: &str =
    "Every bound, with what happens at it. \"per shard\": each of the engine's threads has one.";

/// The one bound that is neither a number nor a span.
const POLICY: &str = "slow-consumer";
const POLICY_DOC: &str = "what happens to a client that reads too slowly, where no `[[slow]]` \
                          decides: it is closed (4500), or loses its oldest messages, or those \
                          that a newer one of the same destination replaces";

fn count(line: Line) -> Kind<u32> {
    let (least, most) = line.range;
    if !line.power {
        return number(least, most);
    }
    let parse = move |value: &toml::Value, _: &Context<'_>| {
        u32::try_from(value.as_integer()?).ok().filter(|number| line.fits(*number))
    };
    value(always(&format!("a power of two, at most {most}")), parse, u32::to_string)
}

fn change(line: &Line) -> Change {
    if line.reload { Change::Reload } else { Change::Restart }
}

/// Reads the section and checks it.
pub(super) fn read(
    mut section: Section,
    context: &mut Context<'_>,
) -> Result<(Limits, SlowConsumer), Mistake> {
    let before = context.mistakes.len();
    let default = Some(SlowConsumer::Close);
    let policy = word(SLOW).read(&mut section, POLICY, default, context);
    let policy = context.note(policy);
    let mut limits = Limits::default();
    for line in limits.lines() {
        let value = match line.value {
            Value::Number(_) => {
                let found = count(line).optional(&mut section, line.key, context);
                found.map(|number| number.map(|number| Value::Number(u64::from(number))))
            }
            Value::Span(_) => {
                let found = period().optional(&mut section, line.key, context);
                found.map(|span| span.map(Value::Span))
            }
        };
        if let Some(value) = context.note(value).flatten() {
            limits.set(line.key, value).expect("the key and the kind come from the table itself");
        }
    }
    section.finish(context);
    let policy = context.unless_noted(policy, before)?;
    context.mistakes.extend(relations(&limits));
    context.unless_noted(Some((limits, policy)), before)
}

/// Shows the section.
pub(super) fn show(limits: &Limits, policy: SlowConsumer, to: &mut Lines) {
    to.enter(SECTION, None, false);
    to.row(Change::Reload);
    word(SLOW).show(&policy, POLICY, to);
    for line in limits.lines() {
        to.row(change(&line));
        match line.value {
            Value::Number(number) => to.raw(line.key, number.to_string()),
            Value::Span(span) => period().show(&span, line.key, to),
        }
    }
}

/// What the reference says of the section.
pub(super) fn keys() -> Vec<Key> {
    let default = Some(&SlowConsumer::Close);
    let mut keys = word(SLOW).keys(POLICY, default, Change::Reload, POLICY_DOC);
    for line in Limits::default().lines() {
        keys.extend(match line.value {
            Value::Number(number) => {
                let default = u32::try_from(number).ok();
                count(line).keys(line.key, default.as_ref(), change(&line), line.doc)
            }
            Value::Span(span) => period().keys(line.key, Some(&span), change(&line), line.doc),
        });
    }
    keys
}

/// What does not fit in the relations between the bounds.
fn relations(limits: &Limits) -> Vec<Mistake> {
    let l = limits;
    // Each line: key, whether it fits, what fits.
    let table: [(&str, bool, String); 8] = [
        ("completion-entries", l.completion_entries >= l.submission_entries, {
            format!("at least submission-entries ({})", l.submission_entries)
        }),
        ("send-chunk", l.send_chunk <= l.submission_entries, {
            format!("at most submission-entries ({})", l.submission_entries)
        }),
        ("segment-bytes", l.segment_bytes / 4 >= l.segment_size, {
            format!("at least four segments ({})", u64::from(l.segment_size) * 4)
        }),
        ("send-buffer", l.send_buffer >= l.send_bytes, {
            format!("at least send-bytes ({})", l.send_bytes)
        }),
        ("stomp-first-frame", l.stomp_first_frame <= l.stomp_frame, {
            format!("at most stomp-frame ({})", l.stomp_frame)
        }),
        ("http-target", l.http_target <= l.http_head, {
            format!("at most http-head ({})", l.http_head)
        }),
        ("held-bytes", l.held_bytes >= largest_unit(l), {
            format!("at least the largest head, body, frame and message ({})", largest_unit(l))
        }),
        ("message-bytes", l.message_bytes >= largest_unit(l), {
            format!("at least the largest head, body, frame and message ({})", largest_unit(l))
        }),
    ];
    let unfit = table.into_iter().filter(|(_, fits, _)| !fits);
    unfit.map(|(key, _, accepted)| refuse(limits, key, &accepted)).collect()
}

fn largest_unit(limits: &Limits) -> u32 {
    limits.stomp_frame.max(limits.http_head).max(limits.http_body).max(limits.message)
}

fn refuse(limits: &Limits, key: &str, accepted: &str) -> Mistake {
    let line = limits.lines().into_iter().find(|line| line.key == key);
    let value = match line.expect("a key of the table").value {
        Value::Number(number) => number.to_string(),
        Value::Span(span) => format!("\"{span}\""),
    };
    Mistake::new(&format!("limits.{key}"), &value, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    fn parse(toml: &str) -> Result<(Limits, SlowConsumer), Mistake> {
        let table = toml.parse().expect("the test's TOML is good");
        let mut context = Context::default();
        let read = read(Section::new(SECTION, table), &mut context);
        assert_eq!(context.mistakes, []);
        read
    }

    #[test]
    fn both_tables_of_the_engine_fit() {
        assert_eq!(relations(&Limits::default()), []);
        assert_eq!(relations(&Limits::tiny()), []);
        for line in [Limits::default().lines(), Limits::tiny().lines()].concat() {
            if let Value::Number(number) = line.value {
                assert!(line.fits(u32::try_from(number).expect("a u32")), "{line:?}");
            }
        }
        assert_eq!(parse("").expect("defaults"), (Limits::default(), SlowConsumer::Close));
    }

    #[test]
    fn bounds_are_set_by_their_key() {
        let toml = "stomp-frame = 70000\nsend-time = '1m'\nslow-consumer = 'conflate'";
        let (limits, slow) = parse(toml).expect("good");
        assert_eq!(limits.stomp_frame, 70_000);
        assert_eq!(limits.send_time, Millis::seconds(60));
        assert_eq!(slow, SlowConsumer::Conflate);
        assert_eq!(parse("connections = 0").expect("good").0.connections, 0);
    }

    #[test]
    fn bounds_that_do_not_fit_are_refused() {
        let cases = [
            ("receive-buffers = 3000", "receive-buffers", "a power of two, at most 32768"),
            ("receive-buffers = 65536", "receive-buffers", "a power of two, at most 32768"),
            (
                "completion-entries = 512",
                "completion-entries",
                "at least submission-entries (1024)",
            ),
            ("send-chunk = 2048", "send-chunk", "at most submission-entries (1024)"),
            ("receive-bytes = 63", "receive-bytes", "a whole number from 64 to 4294967295"),
            ("segment-size = 255", "segment-size", "a whole number from 256 to 4294967295"),
            ("segment-bytes = 65536", "segment-bytes", "at least four segments (262144)"),
            ("send-buffer = 1000", "send-buffer", "at least send-bytes (65536)"),
            ("send-bytes = 0", "send-bytes", "a whole number from 1 to 4294967295"),
            ("stomp-frame = 127", "stomp-frame", "a whole number from 128 to 4294967295"),
            ("stomp-frame = 16383", "stomp-first-frame", "at most stomp-frame (16383)"),
            ("http-target = 20000", "http-target", "at most http-head (16384)"),
            ("json-depth = 128", "json-depth", "a whole number from 1 to 127"),
            ("mailbox = 1", "mailbox", "a whole number from 2 to 4294967295"),
            ("head-time = '0s'", "head-time", "a duration above zero, such as \"10s\""),
            ("connections = -1", "connections", "a whole number from 0 to 4294967295"),
            (
                "held-bytes = 1048575",
                "held-bytes",
                "at least the largest head, body, frame and message (1048576)",
            ),
        ];
        for (toml, key, accepted) in cases {
            let error = parse(toml).expect_err(toml);
            assert_eq!((error.key, error.accepted.as_str()), (format!("limits.{key}"), accepted));
        }
        let error = parse("slow-consumer = 'wait'").expect_err("no such policy");
        assert_eq!(error.value, "\"wait\"");
        assert_eq!(error.accepted, "\"close\", \"drop-oldest\" or \"conflate\"");
        let error = parse("stomp-fram = 1").expect_err("no such key");
        assert!(error.accepted.starts_with("only the keys \"answer-time\", "), "{error}");
    }
}

//! `[limits]`: each bound by its key, then what has to hold between them.

use super::kind::{Kind, number, period, word};
use super::reader::Section;
use super::rules::SLOW;
use super::settings::Lines;
use super::table::{Change, Context, Key};
use super::{ConfigError, SlowConsumer};
use crate::limits::{Limits, Line, Value};

/// The section's name.
pub(super) const SECTION: &str = "limits";
/// What the reference says of the section.
pub(super) const DOC: &str =
    "Every bound, with what happens at it. \"per shard\": each of the engine's threads has one.";

/// The kernel's bound on the buffers of one group, and on the entries of a submission queue.
const RING_MAX: u32 = 32_768;
/// The kernel's bound on the entries of a completion queue.
const COMPLETIONS_MAX: u32 = 65_536;
/// serde_json's own bound on nesting.
const JSON_DEPTH_MAX: u32 = 127;

/// The one bound that is neither a number nor a span.
const POLICY: &str = "slow-consumer";
const POLICY_DOC: &str = "what happens to a client that reads too slowly, where no `[[slow]]` \
                          decides: it is closed (4500), or loses its oldest messages, or those \
                          that a newer one of the same destination replaces";

fn count(line: &Line) -> Kind<u32> {
    number(u32::from(!line.zero), u32::MAX)
}

fn change(line: &Line) -> Change {
    if line.reload { Change::Reload } else { Change::Restart }
}

/// Reads the section and checks it.
pub(super) fn read(
    mut section: Section,
    context: &mut Context<'_>,
) -> Result<(Limits, SlowConsumer), ConfigError> {
    let default = Some(SlowConsumer::Close);
    let policy = word(SLOW).read(&mut section, POLICY, default, context)?;
    let mut limits = Limits::default();
    for line in limits.lines() {
        let value = match line.value {
            Value::Number(_) => {
                let found = count(&line).optional(&mut section, line.key, context)?;
                found.map(|number| Value::Number(u64::from(number)))
            }
            Value::Span(_) => period().optional(&mut section, line.key, context)?.map(Value::Span),
        };
        if let Some(value) = value {
            limits.set(line.key, value).expect("the key and the kind come from the table itself");
        }
    }
    section.finish()?;
    relations(&limits)?;
    Ok((limits, policy))
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
                count(&line).keys(line.key, default.as_ref(), change(&line), line.doc)
            }
            Value::Span(span) => period().keys(line.key, Some(&span), change(&line), line.doc),
        });
    }
    keys
}

/// What has to hold between the bounds.
fn relations(limits: &Limits) -> Result<(), ConfigError> {
    let power = |n: u32, most: u32| n.is_power_of_two() && n <= most;
    let l = limits;
    // Each line: key, whether it fits, what fits.
    let table: [(&str, bool, String); 15] = [
        ("receive-buffers", power(l.receive_buffers, RING_MAX), power_text(RING_MAX)),
        ("submission-entries", power(l.submission_entries, RING_MAX), power_text(RING_MAX)),
        ("completion-entries", power(l.completion_entries, COMPLETIONS_MAX), {
            power_text(COMPLETIONS_MAX)
        }),
        ("completion-entries", l.completion_entries >= l.submission_entries, {
            format!("at least submission-entries ({})", l.submission_entries)
        }),
        ("send-chunk", l.send_chunk <= l.submission_entries, {
            format!("at most submission-entries ({})", l.submission_entries)
        }),
        ("receive-bytes", l.receive_bytes >= 64, "at least 64".to_string()),
        ("segment-size", l.segment_size >= 256, "at least 256".to_string()),
        ("segment-bytes", l.segment_bytes / 4 >= l.segment_size, {
            format!("at least four segments ({})", u64::from(l.segment_size) * 4)
        }),
        ("send-buffer", l.send_buffer >= l.send_bytes, {
            format!("at least send-bytes ({})", l.send_bytes)
        }),
        ("stomp-frame", l.stomp_frame >= 128, "at least 128".to_string()),
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
        ("json-depth", l.json_depth <= JSON_DEPTH_MAX, format!("at most {JSON_DEPTH_MAX}")),
    ];
    for (key, fits, accepted) in table {
        if !fits {
            return Err(refuse(limits, key, &accepted));
        }
    }
    // Two queue entries are the fewest with which two threads make progress.
    if limits.mailbox < 2 {
        return Err(refuse(limits, "mailbox", "at least 2"));
    }
    Ok(())
}

fn power_text(most: u32) -> String {
    format!("a power of two, at most {most}")
}

fn largest_unit(limits: &Limits) -> u32 {
    limits.stomp_frame.max(limits.http_head).max(limits.http_body).max(limits.message)
}

fn refuse(limits: &Limits, key: &str, accepted: &str) -> ConfigError {
    let line = limits.lines().into_iter().find(|line| line.key == key);
    let value = match line.expect("a key of the table").value {
        Value::Number(number) => number.to_string(),
        Value::Span(span) => format!("\"{span}\""),
    };
    ConfigError::new(&format!("limits.{key}"), &value, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    fn parse(toml: &str) -> Result<(Limits, SlowConsumer), ConfigError> {
        let table = toml.parse().expect("the test's TOML is good");
        read(Section::new(SECTION, table), &mut Context::default())
    }

    #[test]
    fn both_tables_of_the_engine_fit() {
        assert_eq!(relations(&Limits::default()), Ok(()));
        assert_eq!(relations(&Limits::tiny()), Ok(()));
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
            ("receive-bytes = 63", "receive-bytes", "at least 64"),
            ("segment-size = 255", "segment-size", "at least 256"),
            ("segment-bytes = 65536", "segment-bytes", "at least four segments (262144)"),
            ("send-buffer = 1000", "send-buffer", "at least send-bytes (65536)"),
            ("send-bytes = 0", "send-bytes", "a whole number from 1 to 4294967295"),
            ("stomp-frame = 127", "stomp-frame", "at least 128"),
            ("stomp-frame = 16383", "stomp-first-frame", "at most stomp-frame (16383)"),
            ("http-target = 20000", "http-target", "at most http-head (16384)"),
            ("json-depth = 128", "json-depth", "at most 127"),
            ("mailbox = 1", "mailbox", "at least 2"),
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

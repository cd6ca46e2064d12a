//! Every bound that an operator may want to change, its default, and what happens at it. What a
//! protocol fixes stands beside the code that keeps it.

use crate::time::{Micros, Millis};

/// A limit's value as the configuration gives or shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A count or a number of bytes.
    Number(u64),
    /// A span of time.
    Span(Millis),
}

/// What a field of [`Limits`] is made from and shown as.
trait Bound: Copy {
    fn show(self) -> Value;
    fn from_value(value: Value) -> Option<Self>;
}

impl Bound for u32 {
    fn show(self) -> Value {
        Value::Number(u64::from(self))
    }
    fn from_value(value: Value) -> Option<u32> {
        match value {
            Value::Number(n) => u32::try_from(n).ok(),
            Value::Span(_) => None,
        }
    }
}

impl Bound for Millis {
    fn show(self) -> Value {
        Value::Span(self)
    }
    fn from_value(value: Value) -> Option<Millis> {
        match value {
            Value::Span(span) => Some(span),
            Value::Number(_) => None,
        }
    }
}

/// One line of `ringpush check`: key, value, what happens at the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Key in the `[limits]` section.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// Unit and what happens at the bound.
    pub doc: &'static str,
    /// A new value takes effect at a reload; else it waits for a restart.
    pub reload: bool,
    /// The smallest and the largest number that is accepted.
    pub range: (u32, u32),
    /// Only powers of two are.
    pub power: bool,
}

impl Line {
    /// Whether a number is accepted, by itself.
    pub fn fits(&self, number: u32) -> bool {
        let (least, most) = self.range;
        (least..=most).contains(&number) && (!self.power || number.is_power_of_two())
    }
}

/// A row's range: from 1 on, from a number on, or from one to another.
macro_rules! range {
    () => {
        (1, u32::MAX)
    };
    ($least:literal) => {
        ($least, u32::MAX)
    };
    ($least:literal $most:literal) => {
        ($least, $most)
    };
}

/// Declares the table once: field, key, words, range, type, default, tiny value (for tests) and its
/// sentence. `reload`: a new value takes effect at a reload, without this word at a restart, as it
/// has to where a pool or a buffer was made by it. `power`: only powers of two are accepted. A
/// number without a range is one from 1 on.
macro_rules! limits {
    ($($field:ident $key:literal $($word:ident)* $(($least:literal..$($most:literal)?))? :
        $kind:ty = $default:expr, tiny $tiny:expr; $doc:literal)*) => {
        /// All bounds, resolved.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $(#[doc = $doc] pub $field: $kind,)* }

        impl Default for Limits {
            fn default() -> Limits { Limits { $($field: $default,)* } }
        }

        impl Limits {
            /// Bounds so small that tests meet them.
            pub fn tiny() -> Limits { Limits { $($field: $tiny,)* } }

            /// Sets one bound by its key. `Err(true)`: the key exists, the value does not fit it.
            pub fn set(&mut self, key: &str, value: Value) -> Result<(), bool> {
                match key {
                    $($key => self.$field = <$kind as Bound>::from_value(value).ok_or(true)?,)*
                    _ => return Err(false),
                }
                Ok(())
            }

            /// Every bound in the order of this file.
            pub fn lines(&self) -> Vec<Line> {
                vec![$({
                    let words: &[&str] = &[$(stringify!($word)),*];
                    Line {
                        key: $key,
                        value: self.$field.show(),
                        doc: $doc,
                        reload: words.contains(&"reload"),
                        range: range!($($least $($most)?)?),
                        power: words.contains(&"power"),
                    }
                },)*]
            }

            /// Takes over every bound that waits for a restart: pools and queues were made by it.
            pub fn keep_fixed(&mut self, running: &Limits) {
                $(if ![$(stringify!($word)),*].contains(&"reload") {
                    self.$field = running.$field;
                })*
            }
        }
    };
}

limits! {
    // Protocol units.
    stomp_frame "stomp-frame" (128..): u32 = 65_536, tiny 512;
        "bytes of one whole STOMP frame; past it ERROR and close 1009"
    stomp_headers "stomp-headers": u32 = 64, tiny 12;
        "headers of one STOMP frame; past it ERROR and close 1009"
    stomp_first_frame "stomp-first-frame": u32 = 16_384, tiny 512;
        "bytes of CONNECT, before a session is logged in; past it ERROR and close 1009"
    message "message": u32 = 65_536, tiny 600;
        "bytes of one WebSocket message; past it close 1009"
    deflate_min "deflate-min": u32 = 512, tiny 64;
        "bytes of the shortest message that is compressed; below it messages go out as they are"
    http_head "http-head": u32 = 16_384, tiny 1_024;
        "bytes of a request head; past it 431 and close"
    http_headers "http-headers": u32 = 100, tiny 24;
        "header lines of a request head; past it 431 and close"
    http_target "http-target": u32 = 8_192, tiny 256;
        "bytes of a request target; past it 414 and close"
    http_body "http-body": u32 = 1_048_576, tiny 512;
        "bytes of a request body; past it 413, at once when Content-Length says so"
    // 127 is serde_json's own bound.
    json_depth "json-depth" (1..127): u32 = 64, tiny 16;
        "nesting of a JSON body; past it 400"

    // Waits.
    head_time "head-time" reload: Millis = Millis::seconds(10), tiny Millis(900);
        "from the first byte of a request head to its end; past it 408 and close"
    body_time "body-time" reload: Millis = Millis::seconds(30), tiny Millis(1_500);
        "from the end of a request head to the end of its body; past it 408 and close"
    idle_time "idle-time" reload: Millis = Millis::seconds(75), tiny Millis(4_000);
        "a kept-alive connection without a request; past it close"
    first_message "first-message" reload: Millis = Millis::seconds(60), tiny Millis(3_000);
        "an upgraded STOMP socket without CONNECT; past it close 4500"
    answer_time "answer-time" reload: Millis = Millis::seconds(30), tiny Millis(2_000);
        "an HTTP request or a session waiting for another shard or the control thread; past it 504, or ERROR and close 1011"
    send_time "send-time" reload: Millis = Millis::seconds(10), tiny Millis(2_000);
        "age of the oldest byte that the kernel has not taken; past it the slow-consumer policy"
    linger "linger" reload: Millis = Millis::seconds(5), tiny Millis(1_000);
        "from the start of a closing to its end; past it the connection is cut"
    drain_time "drain-time" reload: Millis = Millis::seconds(10), tiny Millis(3_000);
        "graceful shutdown; past it the process ends with what is left"

    // Batches of one shard.
    batch_messages "batch-messages": u32 = 1_024, tiny 3;
        "messages that wait for the end of a batch, per shard, and never more than half of message-blocks; past it the window ends"
    batch_bytes "batch-bytes": u32 = 4_194_304, tiny 1_500;
        "bytes of those messages, encoded for all their groups; past it the window ends"

    // What one client may hold.
    send_buffer "send-buffer" reload: u32 = 524_288, tiny 2_048;
        "bytes waiting for one client; past it the slow-consumer policy"
    send_bytes "send-bytes": u32 = 65_536, tiny 200;
        "bytes of the largest single send; a longer message goes out in several"
    unsent_bytes "unsent-bytes" (0..): u32 = 131_072, tiny 131_072;
        "bytes that may wait in one client's socket behind what is in flight (TCP_NOTSENT_LOWAT), 0 = the kernel's own choice; past it they wait in ringpush's own buffers"
    subscriptions "subscriptions" reload: u32 = 1_024, tiny 3;
        "subscriptions of one session; past it ERROR and close 1008"
    subscriptions_alike "subscriptions-alike" reload: u32 = 8, tiny 2;
        "subscriptions of one session to one destination or pattern; past it ERROR and close 1008"
    subscription_bytes "subscription-bytes": u32 = 65_536, tiny 512;
        "bytes of all destinations and ids that one session has subscribed with; past it ERROR and close 1008"
    subscribed_bytes "subscribed-bytes": u32 = 67_108_864, tiny 65_536;
        "bytes of all subscriptions, their groups and their names, per shard; past it ERROR and close 1013"
    name_bytes "name-bytes": u32 = 1_024, tiny 80;
        "bytes of a destination, subscription id or receipt id; past it ERROR and close 1008"
    patterns "patterns": u32 = 32, tiny 2;
        "subscriptions of one session to patterns; past it ERROR and close 1008"
    receipts "receipts" reload: u32 = 64, tiny 3;
        "receipts of one session that wait for a home; at it the connection is not read"
    connections "connections" (0..): u32 = 0, tiny 40;
        "connections of all shards, 0 = what descriptors and memory carry; past it 503 with Retry-After"
    connections_per_address "connections-per-address" reload (0..): u32 = 0, tiny 0;
        "connections of one address (IPv6: of its first 64 bits), of all shards, 0 = no bound; past it 503 with Retry-After"
    stranger_time "stranger-time" reload: Millis = Millis::seconds(5), tiny Millis(100);
        "how long a client that is anonymous and has neither subscribed nor (raw) sent anything is spared once three quarters of the slots are taken, less as fewer are left; past it the oldest is closed for a new one (1013)"
    moves "moves" reload (0..): u32 = 32, tiny 4;
        "connections of one shard that are in flight to others, and of all to one, 0 = none moves (as before Linux 6.8); past it a connection stays where it was accepted"
    move_lead "move-lead" reload (0..): u32 = 64, tiny 64;
        "connections that a shard may hold beyond the emptiest one's and a quarter of them; past it a new connection moves there"
    share_least "share-least" reload: u32 = 32, tiny 4;
        "what one address may always use of each table that all share (destinations, patterns-alike, hook calls), whatever others use; past it and past a quarter of what they leave free: ERROR and close 1008, or 503"
    share_addresses "share-addresses": u32 = 65_536, tiny 64;
        "addresses that are counted at a time, of all shards; past it new ones have one share together"

    // Pools of one shard.
    segment_bytes "segment-bytes": u32 = 67_108_864, tiny 16_384;
        "bytes in flight to clients, per shard; with less than a quarter free a client gets no further answer before it has read its last one; with less than an eighth free the slow-consumer policy applies to the clients that keep most of it and do not read"
    segment_size "segment-size" (256..): u32 = 65_536, tiny 512;
        "bytes of one segment of that pool"
    // 32,768 is the kernel's bound on a group of buffers, and on a submission queue; 65,536 that on
    // a completion queue.
    receive_buffers "receive-buffers" power (1..32_768): u32 = 2_048, tiny 4;
        "receive buffers, per shard; at it sockets wait for a buffer, nothing is lost"
    receive_bytes "receive-bytes" (64..): u32 = 4_096, tiny 64;
        "bytes of one receive buffer"
    held_bytes "held-bytes": u32 = 33_554_432, tiny 16_384;
        "bytes of unfinished frames, heads and bodies of all connections, per shard; past it 503 or close 1013"
    inflate_histories "inflate-histories": u32 = 16_777_216, tiny 66_000;
        "bytes of the inflate histories of sessions with context takeover, per shard; past it a handshake is answered client_no_context_takeover"
    // Two entries are the fewest with which two threads make progress.
    mailbox "mailbox" (2..): u32 = 4_096, tiny 2;
        "entries of one queue between two threads, fewer with more than 8 threads (MAILBOX_THREADS); at it the producers are not read"
    message_blocks "message-blocks": u32 = 4_096, tiny 6;
        "messages of one shard that are in flight to subscribers; at it the producers are not read"
    message_bytes "message-bytes": u32 = 16_777_216, tiny 4_096;
        "bytes of those messages; at it the producers are not read"
    turn_entries "turn-entries": u32 = 1_024, tiny 4;
        "entries taken from one queue in one turn of the loop"
    turn_frames "turn-frames": u32 = 1_024, tiny 8;
        "frames handled in one turn of the loop, a SUBSCRIBE as sixteen; at it each connection has a thirty-second of that, and the next turns for the rest"
    send_chunk "send-chunk": u32 = 256, tiny 4;
        "sends of one entry into the kernel"
    submission_entries "submission-entries" power (1..32_768): u32 = 1_024, tiny 16;
        "entries of the submission queue"
    completion_entries "completion-entries" power (1..65_536): u32 = 16_384, tiny 64;
        "entries of the completion queue; an overflow loses nothing and is counted"

    // Homes.
    destinations "destinations": u32 = 100_000, tiny 24;
        "destinations and patterns with a subscriber; past it ERROR and close 1008"
    patterns_alike "patterns-alike": u32 = 1_024, tiny 24;
        "patterns of all sessions that have the same segments in front of their first wildcard; past it ERROR and close 1008"
    dedupe_keys "dedupe-keys": u32 = 100_000, tiny 16;
        "callback ids remembered by each shard; past it the oldest is forgotten"
    hook_body "hook-body" reload: u32 = 65_536, tiny 512;
        "bytes of a hook's answer; past it the hook has failed"
    query_bytes "query-bytes": u32 = 1_048_576, tiny 512;
        "bytes that one shard answers to an API query; past it the list is cut and says so"
}

impl Limits {
    /// Entries of one queue between two of `threads` threads. Two are the fewest that make
    /// progress.
    pub fn mailbox_of(&self, threads: u32) -> u32 {
        let share = u64::from(self.mailbox) * u64::from(MAILBOX_THREADS) / u64::from(threads);
        self.mailbox.min((share as u32).max(MAILBOX_LEAST))
    }
}

/// Causes and places of bad input whose lines of log are told apart; those beyond share one line a
/// second and cause.
pub const LOG_PLACES: usize = 256;
/// Bytes of the largest secret, so that a wrong file name does not load a disk image: it is refused
/// at start.
pub const SECRET_MAX: usize = 65_536;
/// The longest `batch-window` and `window` of a `[[batch]]`: longer ones would only hold messages
/// back. A longer one is refused at start.
pub const WINDOW_MAX: Micros = Micros(10_000_000);
/// The longest `spin`; a thread that looks for work longer could as well never sleep. A longer one
/// is refused at start.
pub const SPIN_MAX: Micros = Micros(1_000_000);
/// The largest `hooks.concurrent`; more is refused at start.
pub const HOOKS_CONCURRENT_MAX: u32 = 65_536;
/// The largest `hooks.queue`; more is refused at start.
pub const HOOKS_QUEUE_MAX: u32 = 10_000_000;
/// Bytes of the shortest secret (of tokens, callbacks, the API): a shorter one, which can be
/// guessed, is refused at start with exit 2. Half of SHA-256's security level (RFC 2104 §3 asks
/// for more; 16 random bytes cannot be tried).
pub const SECRET_MIN: usize = 16;
/// Elements of a signature header that is a list; with more it is garbled: 401.
pub const SIGNATURE_ELEMENTS_MAX: usize = 16;
/// Secrets of one `[[callback]]`; more are refused at start.
pub const SECRETS_MAX: usize = 4;
/// Bytes of the longest WebSocket frame head a server sends (RFC 6455 §5.2).
pub const WS_HEAD_MAX: usize = 10;
/// Bytes of the longest WebSocket frame head a client sends, with its mask (RFC 6455 §5.2).
pub const WS_CLIENT_HEAD_MAX: usize = 14;
/// Bytes of a control frame's payload (RFC 6455 §5.5).
pub const WS_CONTROL_MAX: usize = 125;
/// A connection that is not read for the time being, and whose peer has ended its direction: what
/// the peer sent before is still read and answered if that begins within this time; past it the
/// connection ends, a request that waits with 504.
pub const HANGUP_GRACE: Millis = Millis(1_000);
/// A connection whose receive does not end within this time after it was stopped is not moved to
/// another shard.
pub const MOVE_TIME: Millis = Millis(1_000);
/// A client that has to leave for a newcomer is waited for this long after its Close frame, not for
/// `linger`: its slot is wanted.
pub const FAREWELL: Millis = Millis(250);
/// A tick of the timer wheel, in milliseconds, as a power of two: 128 ms.
pub const TICK_SHIFT: u32 = 7;
/// Slots of the timer wheel: a horizon of 65 s.
pub const WHEEL_SLOTS: usize = 512;
/// Calls that a demonstration's stand-in provider has taken and not called back; past it 503.
pub const PROVIDER_CALLS_MAX: usize = 64;
/// A second SIGTERM or SIGINT ends the process at once if it comes so long after the first; one
/// that comes earlier does nothing.
pub const STOP_AGAIN: Millis = Millis(1_000);
/// What a shard tells the log of one cause, endpoint and address block comes so often at most; what
/// happens between is counted, and the next line has the number.
pub const LOG_EVENT_EVERY: Millis = Millis(1_000);
/// Causes, endpoints and address blocks that a shard tells apart at a time for the log; those
/// beyond share one line a second, and are counted (`log_events_merged_total`).
pub const LOG_EVENT_KEYS: usize = 64;
/// Lines that one shard causes in a second; those beyond wait for the next, and their counts grow.
pub const LOG_EVENTS_A_SECOND: u32 = 16;
/// Bytes of the text that one of them has; the rest is cut.
pub const LOG_EVENT_TEXT: usize = 384;
/// Steps (of ten to forty nanoseconds) after which a pattern gives up on a text: an access check
/// then refuses, a delivery is then not made, and it is counted
/// (`broker_pattern_gave_up`). Usual patterns take three to ten. One `**` takes most with a name of
/// `name-bytes` that is nothing but separators and single bytes: its 512 segments, each tried with
/// the rest of the pattern after the `**`, are 1,024 steps for `/**/a/b` and 1,536 for `/**/*a*`.
pub const PATTERN_STEPS_MAX: u32 = 2_048;
/// Steps that each pattern has for itself when one text is compared with many of them.
pub const PATTERN_STEPS_FREE: u32 = 16;
/// Steps beyond those that all patterns have together for one text; past it those that need more
/// than their own give up.
pub const PATTERN_STEPS_SHARED: u32 = PATTERN_STEPS_MAX;
/// Steps for one text that count as a frame, or an entry, of the turn in which they are taken.
pub const PATTERN_STEPS_A_FRAME: u32 = 64;
/// Bytes that each buffer keeps in which messages are written, quoted or compressed; what a larger
/// message needed beyond is given back at the end of the turn.
pub const ENCODE_KEEP: usize = 65_536;
/// The most homes that number messages: the shards and the control thread. A message's number is a
/// counter of its home times this, plus the home.
pub const HOMES_MAX: usize = 64;
/// With more threads than this a queue between two has fewer than `mailbox` entries, so that all
/// queues of a thread together have `mailbox` times this.
pub const MAILBOX_THREADS: u32 = 8;
/// But not fewer than this, unless `mailbox` is.
pub const MAILBOX_LEAST: u32 = 256;
/// A queue of callbacks has fewer entries than one of another class, by this factor; past it the
/// request waits.
pub const MAILBOX_CALLBACKS: u32 = 4;
/// Refused hook calls are told so while fewer than this times `mailbox` events wait at the control
/// thread for the sender's shard; past it only their receipts are given. All are counted.
pub const REFUSALS_WAITING: usize = 2;
/// The most shards of one process.
pub const SHARDS_MAX: usize = HOMES_MAX - 1;
/// Connections of one shard if `connections` sets no bound: the size of its tables.
pub const DESCRIPTORS_MAX: u32 = 131_072;

const _: () = assert!(WS_CONTROL_MAX + WS_CLIENT_HEAD_MAX < 256);
const _: () = assert!(WHEEL_SLOTS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_settable() {
        let lines = Limits::default().lines();
        let mut keys: Vec<_> = lines.iter().map(|line| line.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), lines.len());
        let mut copy = Limits::tiny();
        for line in &lines {
            assert_eq!(copy.set(line.key, line.value), Ok(()));
        }
        assert_eq!(copy, Limits::default());
        assert_eq!(copy.set("stomp-frame", Value::Span(Millis(1))), Err(true));
        assert_eq!(copy.set("stompframe", Value::Number(1)), Err(false));
    }

    #[test]
    fn many_threads_share_what_eight_have() {
        let of = |mailbox, threads| Limits { mailbox, ..Limits::default() }.mailbox_of(threads);
        assert_eq!((of(4_096, 2), of(4_096, 8)), (4_096, 4_096));
        assert_eq!((of(4_096, 9), of(4_096, 16), of(4_096, 64)), (3_640, 2_048, 512));
        // The least, unless the bound itself is less.
        assert_eq!((of(4_096, 1_000), of(100, 1_000)), (MAILBOX_LEAST, 100));
        assert_eq!(of(u32::MAX, 16), u32::MAX / 2);
    }
}

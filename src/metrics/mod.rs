#![forbid(unsafe_code)]
//! Counters of the shards and their Prometheus text.
//!
//! Each shard owns one [`ShardMetrics`], the control thread the [`ControlMetrics`]; its owner is
//! the only one that writes it (plain loads and stores, no locked instruction), and all threads may
//! read all of them. Order of calls: [`Metrics::new`] at start, [`Counter::add`] and
//! [`Counter::set`] on the owner, [`Metrics::write`] for a scrape. Every counter is exported from
//! the start, with 0.

mod histogram;
mod refusal;

pub use histogram::Histogram;
pub use refusal::Refusal;

use core::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One number with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only its owner may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Sets it. Only its owner may.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the table once: field, Prometheus name, type and help text.
macro_rules! counters {
    ($($field:ident $kind:literal $help:literal;)*) => {
        /// The numbers of one shard.
        #[derive(Debug, Default)]
        pub struct ShardMetrics {
            $(#[doc = $help] pub $field: Counter,)*
            /// Messages dropped unsent for slow consumers because they were the oldest.
            pub dropped_oldest: Counter,
            /// Messages dropped unsent for slow consumers because newer ones replaced them.
            pub dropped_conflated: Counter,
            /// Hook calls that had no place in their queue.
            pub hooks_refused_total: Counter,
            refusals: Refusals,
            /// From the end of one wait for the kernel to the next, of turns that found work.
            pub turn_duration: Histogram,
            /// From the turn in which a callback's request was complete to its success.
            pub callback_answer: Histogram,
        }

        impl Metrics {
            /// Appends the Prometheus text of all shards.
            pub fn write(&self, out: &mut String) {
                $({
                    let name = concat!("ringpush_", stringify!($field));
                    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", $help, $kind);
                    for (shard, metrics) in self.shards.iter().enumerate() {
                        let value = metrics.$field.value();
                        let _ = writeln!(out, "{name}{{shard=\"{shard}\"}} {value}");
                    }
                })*
                self.write_hooks_refused(out);
                self.write_dropped(out);
                self.write_refusals(out);
                self.write_histograms(out);
            }
        }
    };
}

counters! {
    connections "gauge" "Open connections.";
    sessions "gauge" "Live STOMP sessions.";
    raw_sessions "gauge" "Open raw WebSocket sessions.";
    subscription_groups "gauge" "Groups of subscribers that see the same bytes.";
    users "gauge" "Users online whose home this shard is.";
    accepted_total "counter" "Connections accepted.";
    moved_total "counter" "Connections given to another shard.";
    moves_failed_total "counter" "Moves for which there was no descriptor.";
    refused_capacity_total "counter" "Connections answered 503 because of a capacity bound.";
    requests_total "counter" "HTTP requests answered.";
    frames_received_total "counter" "STOMP frames and raw messages received.";
    published_total "counter" "Messages sequenced by this shard as a home.";
    delivered_total "counter" "Messages queued for one receiver.";
    received_bytes_total "counter" "Bytes received.";
    sent_bytes_total "counter" "Bytes that the kernel has taken.";
    sends_total "counter" "Sends completed.";
    deflates_total "counter" "Messages, or parts that several frames have in common, compressed.";
    errors_sent_total "counter" "STOMP ERROR frames sent.";
    slow_consumers_total "counter" "Sessions closed because they read too slowly.";
    segment_shortages_total "counter" "Turns in which the segment pool had no room.";
    heartbeat_missed_total "counter" "Sessions closed because nothing came from them.";
    callbacks_total "counter" "Callbacks accepted.";
    callback_duplicates_total "counter" "Callbacks recognised as seen before.";
    callback_denied_total "counter" "Callbacks with a missing or bad signature.";
    producers_paused_total "counter" "Times a connection was not read because a queue had no room.";
    timeouts_total "counter" "Connections ended by a deadline.";
    resets_total "counter" "Connections that failed.";
    receive_starved_total "counter" "Receives that found no buffer.";
    segments_free "gauge" "Free segments.";
    buffered_bytes "gauge" "Bytes of unfinished input of connections.";
    inflate_history_bytes "gauge" "Bytes of inflate histories (context takeover of clients).";
    log_events_merged_total "counter" "Events that the log only counts together with others.";
    turns_total "counter" "Turns of the loop.";
    spins_total "counter" "Turns that looked for work instead of sleeping, and found none.";
}

/// How often each [`Refusal`] was counted.
#[derive(Debug)]
struct Refusals([Counter; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals([const { Counter(AtomicU64::new(0)) }; Refusal::ALL.len()])
    }
}

impl ShardMetrics {
    /// Counts a refusal. Only the shard may.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusals.0[refusal as usize].add(1);
    }

    /// How often it was counted.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refusals.0[refusal as usize].value()
    }
}

/// The numbers of the control thread.
#[derive(Debug, Default)]
pub struct ControlMetrics {
    /// Hook calls that had no place in their queue.
    pub hooks_refused_total: Counter,
    refusals: Refusals,
}

impl ControlMetrics {
    /// Counts a refusal. Only the control thread may.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusals.0[refusal as usize].add(1);
    }

    /// How often it was counted.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refusals.0[refusal as usize].value()
    }
}

/// The numbers of all shards and of the control thread.
#[derive(Clone, Debug)]
pub struct Metrics {
    shards: Arc<[Arc<ShardMetrics>]>,
    control: Arc<ControlMetrics>,
}

impl Metrics {
    /// Zeros for `shards` shards.
    pub fn new(shards: usize) -> Metrics {
        Metrics { shards: (0..shards).map(|_| Arc::default()).collect(), control: Arc::default() }
    }

    /// The numbers of one shard.
    pub fn shard(&self, index: usize) -> &Arc<ShardMetrics> {
        &self.shards[index]
    }

    /// All shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = &ShardMetrics> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// The numbers of the control thread.
    pub fn control(&self) -> &ControlMetrics {
        &self.control
    }

    /// How often all threads together have refused something for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        let shards: u64 = self.shards().map(|shard| shard.refused(refusal)).sum();
        shards + self.control.refused(refusal)
    }

    /// The reasons for which something was refused, and how often.
    pub fn refusals(&self) -> Vec<(Refusal, u64)> {
        let all = Refusal::ALL.iter().map(|&refusal| (refusal, self.refused(refusal)));
        all.filter(|(_, times)| *times > 0).collect()
    }

    fn write_hooks_refused(&self, out: &mut String) {
        let name = "ringpush_hooks_refused_total";
        let help = "Hook calls refused because their queue was full.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (shard, metrics) in self.shards.iter().enumerate() {
            let value = metrics.hooks_refused_total.value();
            let _ = writeln!(out, "{name}{{shard=\"{shard}\"}} {value}");
        }
        let value = self.control.hooks_refused_total.value();
        let _ = writeln!(out, "{name}{{shard=\"control\"}} {value}");
    }

    fn write_dropped(&self, out: &mut String) {
        let name = "ringpush_dropped_total";
        let help = "Messages dropped unsent for slow consumers, by policy.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (shard, metrics) in self.shards.iter().enumerate() {
            let (oldest, conflated) = (&metrics.dropped_oldest, &metrics.dropped_conflated);
            for (policy, counter) in [("drop_oldest", oldest), ("conflate", conflated)] {
                let value = counter.value();
                let _ = writeln!(out, "{name}{{shard=\"{shard}\",policy=\"{policy}\"}} {value}");
            }
        }
    }

    fn write_histograms(&self, out: &mut String) {
        for (name, help, of) in HISTOGRAMS {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
            for (shard, metrics) in self.shards.iter().enumerate() {
                of(metrics).write(name, shard, out);
            }
        }
    }

    fn write_refusals(&self, out: &mut String) {
        let name = "ringpush_refused_total";
        let help = "What was refused, by reason.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for &refusal in Refusal::ALL {
            let (label, value) = (refusal.label(), self.refused(refusal));
            let _ = writeln!(out, "{name}{{reason=\"{label}\"}} {value}");
        }
    }
}

/// A histogram's name, help text, and where it is.
type Row = (&'static str, &'static str, fn(&ShardMetrics) -> &Histogram);

/// All histograms.
const HISTOGRAMS: [Row; 2] = [
    (
        "ringpush_turn_duration_seconds",
        "From the end of one wait for the kernel to the next, of turns that found work.",
        |shard| &shard.turn_duration,
    ),
    (
        "ringpush_callback_answer_seconds",
        "From a callback's complete request to its success.",
        |shard| &shard.callback_answer,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_shard_and_every_reason_from_the_start() {
        let metrics = Metrics::new(2);
        metrics.shard(1).accepted_total.add(3);
        metrics.shard(1).dropped_conflated.add(2);
        metrics.shard(1).hooks_refused_total.add(4);
        metrics.control().hooks_refused_total.add(5);
        metrics.shard(0).refuse(Refusal::WsCloseCode);
        metrics.shard(1).refuse(Refusal::WsCloseCode);
        metrics.control().refuse(Refusal::WsCloseCode);
        metrics.shard(1).callback_answer.observe(5);
        let mut text = String::new();
        metrics.write(&mut text);
        for line in [
            "ringpush_accepted_total{shard=\"1\"} 3",
            "ringpush_dropped_total{shard=\"1\",policy=\"drop_oldest\"} 0",
            "ringpush_dropped_total{shard=\"1\",policy=\"conflate\"} 2",
            "ringpush_hooks_refused_total{shard=\"1\"} 4",
            "ringpush_hooks_refused_total{shard=\"control\"} 5",
            "ringpush_refused_total{reason=\"ws_close_code\"} 3",
            "ringpush_refused_total{reason=\"stomp_header_count\"} 0",
            "# TYPE ringpush_callback_answer_seconds histogram",
            "ringpush_callback_answer_seconds_count{shard=\"1\"} 1",
            "ringpush_turn_duration_seconds_bucket{shard=\"0\",le=\"+Inf\"} 0",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} in {text}");
        }
        let mut labels = text.split(&['{', ',', '}']).filter(|part| part.contains("=\""));
        assert!(labels.all(|label| !label.contains('-')), "not all in snake case: {text}");
        let reasons = text.lines().filter(|line| line.starts_with("ringpush_refused_total{"));
        assert_eq!(reasons.count(), Refusal::ALL.len());
        assert_eq!(metrics.shard(0).refused(Refusal::WsCloseCode), 1);
        assert_eq!(metrics.refusals(), [(Refusal::WsCloseCode, 3)]);
    }
}

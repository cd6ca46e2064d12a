#![forbid(unsafe_code)]
//! Counters of the shards and their Prometheus text.
//!
//! Each shard owns one [`ShardMetrics`] and is the only one that writes it (plain loads and stores,
//! no locked instruction); every thread may read all of them. Order of calls: [`Metrics::new`] at
//! start, [`Counter::add`] and [`Counter::set`] on the shard, [`Metrics::write`] for a scrape.

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
            /// Messages dropped unsent for slow consumers, as their oldest.
            pub dropped_oldest: Counter,
            /// Messages dropped unsent for slow consumers, as newer ones waited.
            pub dropped_conflated: Counter,
            /// Bad input by its label, see [`ShardMetrics::refuse`].
            refusals: Refusals,
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
                self.write_dropped(out);
                self.write_refusals(out);
            }
        }
    };
}

counters! {
    connections "gauge" "Open connections.";
    sessions "gauge" "Live STOMP sessions.";
    raw_sessions "gauge" "Open raw WebSocket sessions.";
    subscription_groups "gauge" "Groups of subscribers that see the same bytes.";
    users "gauge" "Users on line whose home this shard is.";
    accepted_total "counter" "Connections accepted.";
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
    hooks_refused_total "counter" "Hook calls refused because their queue was full.";
    producers_paused_total "counter" "Times a connection was not read because a queue had no room.";
    timeouts_total "counter" "Connections ended by a deadline.";
    resets_total "counter" "Connections that failed.";
    receive_starved_total "counter" "Receives that found no buffer.";
    segments_free "gauge" "Free segments.";
    buffered_bytes "gauge" "Bytes of unfinished input held by connections.";
    inflate_history_bytes "gauge" "Bytes of the windows of sessions with context takeover.";
    turns_total "counter" "Turns of the loop.";
    spins_total "counter" "Turns that looked for work instead of sleeping, and found none.";
}

/// Bad input by the place of its label in `LABELS`.
#[derive(Debug)]
struct Refusals([Counter; REFUSALS]);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals([const { Counter(AtomicU64::new(0)) }; REFUSALS])
    }
}

/// Labels of bad input; more fall into the last one.
const REFUSALS: usize = 128;
/// The labels, in order of their first use; shared by all shards.
static LABELS: std::sync::Mutex<Vec<&'static str>> = std::sync::Mutex::new(Vec::new());

impl ShardMetrics {
    /// Counts bad input of one kind. Not on a hot path.
    pub fn refuse(&self, label: &'static str) {
        let mut labels = LABELS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let index = match labels.iter().position(|known| *known == label) {
            Some(index) => index,
            None if labels.len() < REFUSALS => {
                labels.push(label);
                labels.len() - 1
            }
            None => REFUSALS - 1,
        };
        drop(labels);
        self.refusals.0[index].add(1);
    }

    /// How often bad input of one kind was counted.
    pub fn refused(&self, label: &str) -> u64 {
        let labels = LABELS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        labels.iter().position(|known| *known == label).map_or(0, |i| self.refusals.0[i].value())
    }
}

/// The numbers of all shards.
#[derive(Clone, Debug)]
pub struct Metrics {
    shards: Arc<[Arc<ShardMetrics>]>,
}

impl Metrics {
    /// Zeros for so many shards.
    pub fn new(shards: usize) -> Metrics {
        Metrics { shards: (0..shards).map(|_| Arc::default()).collect() }
    }

    /// The numbers of one shard.
    pub fn shard(&self, index: usize) -> &Arc<ShardMetrics> {
        &self.shards[index]
    }

    /// All shards, in order.
    pub fn shards(&self) -> impl Iterator<Item = &ShardMetrics> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// What all shards have refused: each label that somebody has used, and how often.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        let labels = LABELS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let sum = |(index, label): (usize, &'static str)| {
            let of_label = |shard: &Arc<ShardMetrics>| shard.refusals.0[index].value();
            (label, self.shards.iter().map(of_label).sum())
        };
        labels.into_iter().enumerate().map(sum).filter(|(_, times)| *times > 0).collect()
    }

    fn write_dropped(&self, out: &mut String) {
        let name = "ringpush_dropped_total";
        let help = "Messages dropped unsent for slow consumers, by the policy.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (shard, metrics) in self.shards.iter().enumerate() {
            let (oldest, conflated) = (&metrics.dropped_oldest, &metrics.dropped_conflated);
            for (policy, counter) in [("drop-oldest", oldest), ("conflate", conflated)] {
                let value = counter.value();
                let _ = writeln!(out, "{name}{{shard=\"{shard}\",policy=\"{policy}\"}} {value}");
            }
        }
    }

    fn write_refusals(&self, out: &mut String) {
        let name = "ringpush_refused_total";
        let _ = writeln!(out, "# HELP {name} Bad input, by what was wrong.\n# TYPE {name} counter");
        let labels = LABELS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        for (index, label) in labels.iter().enumerate() {
            let sum: u64 = self.shards.iter().map(|shard| shard.refusals.0[index].value()).sum();
            let _ = writeln!(out, "{name}{{reason=\"{label}\"}} {sum}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_shard_and_reason() {
        let metrics = Metrics::new(2);
        metrics.shard(1).accepted_total.add(3);
        metrics.shard(1).dropped_conflated.add(2);
        metrics.shard(0).refuse("bad_frame");
        metrics.shard(1).refuse("bad_frame");
        let mut text = String::new();
        metrics.write(&mut text);
        assert!(text.contains("ringpush_accepted_total{shard=\"1\"} 3\n"), "{text}");
        let dropped = "ringpush_dropped_total{shard=\"1\",policy=\"conflate\"} 2\n";
        assert!(text.contains(dropped), "{text}");
        assert!(text.contains("ringpush_refused_total{reason=\"bad_frame\"} 2\n"), "{text}");
        assert_eq!(metrics.shard(0).refused("bad_frame"), 1);
        metrics.shard(0).refuse("bad_frame");
        assert_eq!(metrics.shard(0).refused("bad_frame"), 2);
        assert_eq!(metrics.shard(0).refused("never counted"), 0);
    }
}

//! The result of a run: figures, latencies, faults, samples; as a table and as JSON.

use super::clock::SECOND;
use super::plan::Target;
use super::sequence::Faults;
use hdrhistogram::Histogram;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::Write as _;

/// From this share of its time on, the client is the bottleneck.
const BUSY_MAX: f64 = 0.9;
/// The longest latency that is measured, in nanoseconds.
const LATENCY_MAX: u64 = 120 * SECOND;
/// Decimal digits that latencies keep.
const DIGITS: u8 = 3;
/// Quantiles of the table.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Names and values in the order in which they were reported.
#[derive(Clone, Debug)]
pub struct Figures<V>(pub Vec<(String, V)>);

impl<V: Serialize> Serialize for Figures<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<V> Default for Figures<V> {
    fn default() -> Self {
        Figures(Vec::new())
    }
}

/// The state of the run at a moment.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Sample {
    /// Seconds since the measuring began.
    pub seconds: f64,
    /// Messages delivered by then, or sessions opened.
    pub count: u64,
    /// Nanoseconds of CPU that the server had used by then.
    pub server_cpu_ns: u64,
    /// The server's resident memory in bytes.
    pub server_rss_bytes: u64,
}

/// The result of a run.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: &'static str,
    /// Its arguments.
    pub settings: Figures<String>,
    /// What was measured; the unit is the end of the name.
    pub figures: Figures<f64>,
    /// Latencies in microseconds, from when a message was due.
    pub latency_us: Figures<f64>,
    /// The whole distribution: quantile and microseconds.
    pub quantiles: Vec<(f64, f64)>,
    /// Messages that were lost, repeated or out of order.
    pub faults: Faults,
    /// Nanoseconds of each thread of the server while it was measured.
    pub server_threads_ns: Figures<u64>,
    /// The course of the run.
    pub samples: Vec<Sample>,
    /// What the samples count.
    pub counted: &'static str,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

/// An empty histogram of latencies.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX, DIGITS).expect("its bounds are sound")
}

impl Report {
    /// An empty report.
    pub fn new(scenario: &'static str, counted: &'static str, target: &Target) -> Report {
        let mut report = Report {
            scenario,
            settings: Figures::default(),
            figures: Figures::default(),
            latency_us: Figures::default(),
            quantiles: Vec::new(),
            faults: Faults::default(),
            server_threads_ns: Figures::default(),
            samples: Vec::new(),
            counted,
            warnings: Vec::new(),
        };
        report.setting("to", target.to);
        report.setting("protocol", format!("{:?}", target.protocol).to_lowercase());
        report.setting("sessions", target.sessions);
        report
    }

    /// Reports an argument.
    pub fn setting(&mut self, name: &str, value: impl ToString) {
        self.settings.0.push((name.to_owned(), value.to_string()));
    }

    /// Reports a figure.
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.0.push((name.to_owned(), value));
    }

    /// Reports latencies.
    pub fn latency(&mut self, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let micros = |nanos: u64| nanos as f64 / 1e3;
        for (name, quantile) in QUANTILES {
            let value = micros(histogram.value_at_quantile(quantile));
            self.latency_us.0.push((name.to_owned(), value));
        }
        let curve = histogram.iter_quantiles(5);
        self.quantiles = curve
            .map(|step| (step.quantile_iterated_to(), micros(step.value_iterated_to())))
            .collect();
    }

    /// Reports how busy the client was, and warns if it was the bottleneck.
    pub fn busy(&mut self, share: f64) {
        self.figure("client_busy_share", share);
        if share >= BUSY_MAX {
            self.warnings.push(format!(
                "the load generator was busy {:.0} % of the time: it may be what is measured",
                share * 100.0
            ));
        }
    }

    /// Names and values, as they are printed.
    pub fn rows(&self) -> Vec<(String, String)> {
        let plain = self.figures.0.iter().map(|(name, value)| (name.clone(), number(*value)));
        let latency = self.latency_us.0.iter();
        let latency = latency.map(|(name, value)| (format!("latency_{name}_us"), number(*value)));
        let Faults { lost, duplicated, reordered } = self.faults;
        let faults = [("lost", lost), ("duplicated", duplicated), ("reordered", reordered)];
        let faults = faults.map(|(name, value)| (name.to_owned(), value.to_string()));
        plain.chain(latency).chain(faults).collect()
    }

    /// The table.
    pub fn table(&self) -> String {
        let settings: Vec<_> =
            self.settings.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut out = format!("{}: {}\n", self.scenario, settings.join(", "));
        // Writing to a String does not fail.
        for (name, value) in self.rows() {
            let _ = writeln!(out, "  {name:<36} {value:>16}");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "  warning: {warning}");
        }
        out
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and texts have a form in JSON")
    }
}

/// A number with as many decimals as it needs.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn report() -> Report {
        Report {
            scenario: "fanout",
            settings: Figures(vec![("sessions".into(), "2".into())]),
            figures: Figures(vec![("z".into(), 1.0), ("a".into(), 12345.6)]),
            latency_us: Figures::default(),
            quantiles: Vec::new(),
            faults: Faults { lost: 3, ..Faults::default() },
            server_threads_ns: Figures::default(),
            samples: Vec::new(),
            counted: "deliveries",
            warnings: Vec::new(),
        }
    }

    #[test]
    fn figures_keep_their_order_in_both_forms() {
        let report = report();
        let json = report.json();
        assert!(json.find("\"z\"").expect("there") < json.find("\"a\"").expect("there"));
        let table = report.table();
        assert!(table.starts_with("fanout: sessions 2\n"));
        assert!(table.contains("12346") && table.contains("lost"));
    }

    #[test]
    fn a_busy_client_is_warned_of() {
        let mut report = report();
        report.busy(0.5);
        assert!(report.warnings.is_empty());
        report.busy(0.95);
        assert!(report.table().contains("95 %"));
    }

    #[test]
    fn latencies_are_reported_in_microseconds() {
        let mut histogram = histogram();
        (1..=100u64).for_each(|value| histogram.record(value * 1_000_000).expect("in bounds"));
        let mut report = report();
        report.latency(&histogram);
        let p99 = report.latency_us.0.iter().find(|figure| figure.0 == "p99").expect("told").1;
        assert!((98_500.0..99_500.0).contains(&p99), "{p99}");
        assert!(report.quantiles.len() > 5);
    }
}

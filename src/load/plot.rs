//! The report as plots: SVG files, and one self-contained page.

use super::report::{Report, Sample};
use super::run::Failure;
use plotters::prelude::*;
use std::fmt::Write as _;

const SIZE: (u32, u32) = (640, 320);
const INK: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xec);
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1340px;margin:2rem auto;\
    padding:0 1rem;color:#1b1f24}h1{font-size:1.4rem}table{border-collapse:collapse}\
    td{padding:.1rem 1.5rem .1rem 0}td+td{text-align:right;font-variant-numeric:tabular-nums}\
    figure{display:inline-block;margin:1rem 1rem 0 0}svg{max-width:100%;height:auto}\
    .warning{color:#9a3412}";

/// One plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Name of its file, without the ending.
    pub name: &'static str,
    /// The SVG document.
    pub svg: String,
}

/// The content of a plot.
struct Curve<'a> {
    name: &'static str,
    title: &'a str,
    across: &'a str,
    upwards: &'a str,
    points: Vec<(f64, f64)>,
}

/// All plots for which the report has values.
pub fn plots(report: &Report) -> Result<Vec<Plot>, Failure> {
    let mut plots = Vec::new();
    if report.quantiles.len() > 1 {
        plots.push(latency(&report.quantiles)?);
    }
    let counted = report.counted;
    let rate = changes(&report.samples, |from, to| {
        Some((to.count - from.count) as f64 / (to.seconds - from.seconds))
    });
    let cpu = changes(&report.samples, |from, to| {
        let count = to.count - from.count;
        let nanos = to.server_cpu_ns - from.server_cpu_ns;
        (count > 0 && nanos > 0).then(|| nanos as f64 / 1e3 / count as f64)
    });
    let memory = report.samples.iter().filter(|sample| sample.server_rss_bytes > 0);
    let memory =
        memory.map(|sample| (sample.seconds, sample.server_rss_bytes as f64 / 1_048_576.0));
    let each = format!("Server CPU per {}", one_of(counted));
    let curves = [
        ("throughput", "Throughput", format!("{counted} a second"), rate),
        ("cpu", &each, "microseconds".to_owned(), cpu),
        ("memory", "Memory of the server", "MiB resident".to_owned(), memory.collect()),
    ];
    if counted == "sessions" {
        let points = per_session(&report.samples);
        if points.len() > 1 {
            let title = "Memory of the server for each session";
            let (name, across, upwards) = ("session-memory", "sessions", "bytes resident");
            plots.push(draw(&Curve { name, title, across, upwards, points }, None)?);
        }
    }
    for (name, title, upwards, points) in curves {
        if points.len() > 1 {
            let (across, upwards) = ("seconds", &*upwards);
            plots.push(draw(&Curve { name, title, across, upwards, points }, None)?);
        }
    }
    Ok(plots)
}

/// The singular of what is counted.
fn one_of(counted: &str) -> String {
    match counted.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => counted.trim_end_matches('s').to_owned(),
    }
}

/// The growth of memory since the first sample, per session.
fn per_session(samples: &[Sample]) -> Vec<(f64, f64)> {
    let first = samples.first().map_or(0, |sample| sample.server_rss_bytes);
    let grown = samples.iter().filter(|sample| sample.count > 0 && sample.server_rss_bytes > first);
    let each = |sample: &Sample| {
        let count = sample.count as f64;
        (count, (sample.server_rss_bytes - first) as f64 / count)
    };
    grown.map(each).collect()
}

/// A value for each pair of neighbouring samples, at the time of the later one.
fn changes(samples: &[Sample], value: impl Fn(&Sample, &Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    let is_forward = |pair: &&[Sample]| {
        pair[1].seconds > pair[0].seconds
            && pair[1].count >= pair[0].count
            && pair[1].server_cpu_ns >= pair[0].server_cpu_ns
    };
    let pairs = samples.windows(2).filter(is_forward);
    pairs.filter_map(|pair| Some((pair[1].seconds, value(&pair[0], &pair[1])?))).collect()
}

/// Latency over the share of messages that are faster; each step to the right is one more nine.
fn latency(quantiles: &[(f64, f64)]) -> Result<Plot, Failure> {
    let below_one = quantiles.iter().filter(|step| step.0 < 1.0);
    let points = below_one.map(|&(quantile, micros)| (-(1.0 - quantile).log10(), micros / 1e3));
    let curve = Curve {
        name: "latency",
        title: "Latency from when a message was due",
        across: "share of deliveries that were faster",
        upwards: "milliseconds",
        points: points.collect(),
    };
    draw(&curve, Some(&|nines: &f64| percent(*nines)))
}

/// 0 → 0 %, 1 → 90 %, 2 → 99 %, …
fn percent(nines: f64) -> String {
    let decimals = (nines.floor() - 2.0).max(0.0) as usize;
    format!("{:.decimals$} %", 100.0 * (1.0 - 10f64.powf(-nines)))
}

fn draw(curve: &Curve<'_>, label: Option<&dyn Fn(&f64) -> String>) -> Result<Plot, Failure> {
    let mut svg = String::new();
    picture(&mut svg, curve, label)
        .map_err(|error| Failure(format!("cannot draw {}: {error}", curve.name)))?;
    Ok(Plot { name: curve.name, svg })
}

fn picture(
    svg: &mut String,
    curve: &Curve<'_>,
    label: Option<&dyn Fn(&f64) -> String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let largest =
        |value: fn(&(f64, f64)) -> f64| curve.points.iter().map(value).fold(0.0, f64::max);
    let (right, top) = (largest(|point| point.0).max(1e-9), largest(|point| point.1).max(1e-9));
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(curve.title, ("sans-serif", 17))
        .margin(14)
        .margin_right(32)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..right, 0.0..top * 1.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(curve.across).y_desc(curve.upwards).light_line_style(WHITE).bold_line_style(GRID);
    mesh.x_labels(8).y_labels(6);
    let short = |value: &f64| format!("{}", (value * 1e3).round() / 1e3);
    mesh.x_label_formatter(&short).y_label_formatter(&short);
    if let Some(label) = label {
        mesh.x_labels(right.floor() as usize + 1).x_label_formatter(label);
    }
    mesh.draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), INK.stroke_width(2)))?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

/// The self-contained page.
pub fn page(report: &Report) -> Result<String, Failure> {
    let mut out = String::new();
    let title = format!("ringpush load {}", report.scenario);
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style>\n<h1>{title}</h1>\n"
    );
    let settings = report.settings.0.iter().map(|(name, value)| format!("{name} {value}"));
    let settings = settings.collect::<Vec<_>>().join(" · ");
    let _ = writeln!(out, "<p>{}</p>", escaped(&settings));
    for warning in &report.warnings {
        let _ = writeln!(out, "<p class=\"warning\">{}</p>", escaped(warning));
    }
    for plot in plots(report)? {
        let _ = writeln!(out, "<figure>{}</figure>", plot.svg);
    }
    out.push_str("<h2>Figures</h2>\n<table>\n");
    for (name, value) in report.rows() {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escaped(&name), escaped(&value));
    }
    out.push_str("</table>\n</html>\n");
    Ok(out)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    fn sample(seconds: f64, count: u64) -> Sample {
        let server_cpu_ns = count * 5_000;
        Sample { seconds, count, server_cpu_ns, server_rss_bytes: 40 << 20 }
    }

    #[test]
    fn a_page_has_a_plot_of_everything_that_was_measured() {
        let mut report = report();
        report.samples = (0..5u32).map(|at| sample(f64::from(at), u64::from(at) * 1000)).collect();
        report.quantiles = vec![(0.0, 100.0), (0.5, 200.0), (0.9, 900.0), (1.0, 1000.0)];
        let names: Vec<_> = plots(&report).expect("drawn").iter().map(|plot| plot.name).collect();
        assert_eq!(names, ["latency", "throughput", "cpu", "memory"]);
        report.warnings.push("a < b".into());
        let page = page(&report).expect("drawn");
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(page.contains("a &lt; b") && page.contains("deliveries a second"));
        assert!(!page.contains("src=") && !page.contains("href="));
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        assert!(plots(&report()).expect("nothing to draw").is_empty());
    }

    #[test]
    fn each_step_to_the_right_is_one_more_nine() {
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(percent), ["0 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn one_of_many_is_singular() {
        let one = ["deliveries", "sessions", "loops"].map(one_of);
        assert_eq!(one, ["delivery", "session", "loop"]);
    }

    #[test]
    fn changes_are_per_second() {
        let rate = |from: &Sample, to: &Sample| {
            Some((to.count - from.count) as f64 / (to.seconds - from.seconds))
        };
        let samples = [sample(0.0, 0), sample(0.5, 100), sample(0.5, 100), sample(1.0, 50)];
        assert_eq!(changes(&samples, rate), [(0.5, 200.0)]);
    }
}

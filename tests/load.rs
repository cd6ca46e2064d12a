//! `ringpush load` against `ringpush serve`: every scenario, small, with its figures.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const SECRET: &str = "a secret of the tests";

/// A running server of two shards, ended with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpush"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "2"]);
        command.env("RINGPUSH_CALLBACK_SECRET", SECRET);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary can be run");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("the server says where it listens");
        let address = line.trim().rsplit('/').next().expect("a line has an end").to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        Server { child, address }
    }

    /// Runs a scenario; its report.
    fn load(&self, scenario: &str, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(scenario, arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{scenario}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("the report is JSON")
    }

    fn run(&self, scenario: &str, arguments: &[&str]) -> std::process::Output {
        let pid = self.child.id().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpush"));
        command.args(["load", scenario, "--to", &self.address, "--pid", &pid]);
        command.args(["--quiet", "--json", "-"]).args(arguments);
        command.env("RINGPUSH_CALLBACK_SECRET", SECRET).stdin(Stdio::null());
        command.output().expect("the binary can be run")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn figure(report: &serde_json::Value, name: &str) -> f64 {
    let value = report["figures"][name].as_f64();
    value.unwrap_or_else(|| panic!("no figure {name} in {report}"))
}

fn assert_flawless(report: &serde_json::Value) {
    let none = serde_json::json!({ "lost": 0, "duplicated": 0, "reordered": 0 });
    assert_eq!(report["faults"], none, "{report}");
}

const SHORT: [&str; 4] = ["--duration", "400ms", "--warm-up", "100ms"];

#[test]
fn fan_out_reaches_everybody_in_every_form() {
    let server = Server::start();
    for more in [
        &["--protocol", "stomp"][..],
        &["--protocol", "sockjs", "--window", "4"],
        &["--protocol", "stomp", "--deflate", "--filling", "json", "--size", "2048"],
        &["--protocol", "sockjs", "--deflate", "--filling", "json", "--size", "2048"],
        &["--protocol", "stomp", "--ids", "7", "--rate", "100", "--wait", "sleep"],
    ] {
        let all = [&["-n", "60", "--size", "200"], &SHORT[..], more].concat();
        let report = server.load("fanout", &all);
        assert_flawless(&report);
        let published = figure(&report, "published");
        assert!(published >= 1.0);
        assert_eq!(figure(&report, "delivered"), published * 60.0, "{report}");
        assert!(figure(&report, "server_cpu_ns_per_delivery") > 0.0);
        let wire_bytes = figure(&report, "wire_bytes_per_delivery");
        assert!(
            wire_bytes > 200.0 && (wire_bytes < 1_024.0 || !more.contains(&"--deflate")),
            "{report}"
        );
        assert!(report["latency_us"]["p99"].as_f64() >= report["latency_us"]["p50"].as_f64());
    }
}

#[test]
fn messages_to_one_user_arrive_by_each_way() {
    let server = Server::start();
    for (scenario, more) in [
        ("unicast", &["--window", "8"][..]),
        ("unicast", &["--rate", "200"]),
        ("unicast", &["--filling", "json", "--size", "900", "--deflate"]),
        ("echo", &["--protocol", "sockjs"]),
        ("echo", &["--rate", "300"]),
        ("callback", &["--window", "8"]),
        ("callback", &["--rate", "100"]),
    ] {
        let report = server.load(scenario, &[&["-n", "40"], &SHORT[..], more].concat());
        assert_flawless(&report);
        assert!(figure(&report, "delivered") >= 8.0, "{report}");
        assert_eq!(figure(&report, "delivered"), figure(&report, "sent"), "{report}");
        assert!(!report["warnings"].to_string().contains("not answered"), "{report}");
    }
}

#[test]
fn sessions_come_stay_and_go() {
    let server = Server::start();
    let report = server.load("connect", &["-n", "50", "--users", "--hold", "100ms"]);
    assert!(figure(&report, "connects_per_s") > 0.0);
    let report = server.load("churn", &["-n", "4", "--duration", "400ms"]);
    assert!(figure(&report, "loops") > 4.0);
    let all = [&["-n", "30", "--churners", "4", "--rate", "50"], &SHORT[..]].concat();
    let report = server.load("mixed", &all);
    assert_flawless(&report);
    assert!(figure(&report, "connects") > 4.0);
}

#[test]
fn clients_that_do_not_read_are_reported_separately() {
    let server = Server::start();
    let all = [&["-n", "12", "--slow", "2", "--rate", "50", "--size", "4096"], &SHORT[..]].concat();
    let report = server.load("slow", &all);
    assert_flawless(&report);
    assert_eq!(figure(&report, "slow_still_there"), 2.0);
    // The messages that waited arrive once the slow clients read again.
    assert!(figure(&report, "slow_received") >= 2.0 * figure(&report, "published"));
}

#[test]
fn a_load_that_cannot_be_run_says_why() {
    let server = Server::start();
    let failed = |arguments: &[&str]| {
        let output = server.run("connect", arguments);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(failed(&["--path", "/nowhere"]).contains("HTTP status 404"));
    assert!(failed(&["--subscribe", "/elsewhere"]).contains("ERROR"));
    assert!(failed(&["--to", "127.0.0.1:1"]).contains("refused"));
    assert!(failed(&["--sessions", "0"]).contains("a whole number"));
}

#[test]
fn plots_are_written() {
    let server = Server::start();
    let folder = std::env::temp_dir().join(format!("ringpush-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let page = folder.join("page.html");
    let [folder_text, page_text] =
        [&folder, &page].map(|path| path.to_str().expect("a path of the tests is text"));
    let files = ["--html", page_text, "--svg", folder_text];
    server.load("fanout", &[&["-n", "10", "--duration", "900ms"][..], &files].concat());
    let page = std::fs::read_to_string(&page).expect("written");
    assert!(page.contains("<svg") && page.contains("server_cpu_ns_per_delivery"));
    assert!(folder.join("fanout-latency.svg").is_file());
    let _ = std::fs::remove_dir_all(&folder);
}

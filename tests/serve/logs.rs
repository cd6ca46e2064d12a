//! Bad input in the log: few lines, and every event counted.

use crate::doors::{Kind, serve};
use crate::server::{Folder, Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Requests that are written at once.
const AT_ONCE: usize = 100;

/// Sends `request` repeatedly, and reads an answer with this status to each.
fn says(socket: &mut TcpStream, request: &str, times: usize, status: u16) {
    let begin = format!("HTTP/1.1 {status} ");
    for _ in 0..times / AT_ONCE {
        socket.write_all(request.repeat(AT_ONCE).as_bytes()).expect("the server reads");
        let mut answers = String::new();
        while answers.matches(&begin).count() < AT_ONCE || !answers.ends_with('}') {
            let mut bytes = [0; 4096];
            let len = socket.read(&mut bytes).expect("the server answers");
            assert!(len > 0, "it keeps the connection: {answers}");
            answers.push_str(core::str::from_utf8(&bytes[..len]).expect("answers are text"));
        }
        assert_eq!(answers.matches("HTTP/1.1 ").count(), AT_ONCE, "{answers}");
    }
}

/// Lines of a reason, and the sum of their counts.
fn lines_of(log: &[String], reason: &str) -> (usize, u64) {
    let part = format!(" WARN  refused reason={reason} times=");
    let counts = log.iter().filter_map(|line| {
        let (_, rest) = line.split_once(&part)?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    counts.fold((0, 0), |(lines, sum), count| (lines + 1, sum + count))
}

#[test]
fn ten_thousand_bad_requests_are_a_handful_of_lines_whose_counts_add_up() {
    let folder = Folder::new();
    let server: Server = serve(&folder, Kind::Plain, "");
    let begin = Instant::now();
    let mut socket = server.connect();
    let nothing = "GET /nothing?token=hush-hush HTTP/1.1\r\nHost: hush-hush\r\n\r\n";
    let forged = "POST /callback/inbound HTTP/1.1\r\nHost: x\r\nX-Signature: hush-hush\r\n\
                  Content-Length: 9\r\n\r\nhush-hush";
    says(&mut socket, nothing, 5_000, 404);
    says(&mut socket, forged, 5_000, 401);
    let seconds = begin.elapsed().as_secs() as usize + 1;
    let log = server.whole_log();
    for reason in ["http_not_found", "callback_signature_malformed"] {
        let (lines, sum) = lines_of(&log, reason);
        assert_eq!(sum, 5_000, "{reason}: {log:?}");
        // The first at once, then one per second, and the rest at the end.
        assert!(lines <= seconds + 2, "{reason}: {lines} lines in {seconds} s: {log:?}");
    }
    let forged = log.iter().filter(|line| line.contains("callback_signature_malformed"));
    for line in forged {
        let expected = " path=/callback/inbound address=127.0.0.1 why=";
        assert!(line.contains(expected), "{line}");
    }
    assert!(!log.iter().any(|line| line.contains("hush")), "what may be secret: {log:?}");
}

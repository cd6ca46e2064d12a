//! The log: one line of text per event, `time level message key=value …`, to standard error or a
//! file. Any thread hands lines over and never waits; the control thread writes them through its
//! ring, several at once.
//!
//! Drive it: [`channel`] gives the end for all threads ([`Log`]) and the end for the control thread
//! ([`Writer`], which runs until [`Log::finish`]).
//!
//! Lines that clients can cause go through [`Log::limited`]: one a second for each cause and place,
//! with how many were left out (`control::limiter`).
//!
//! Bounds: [`LINES_MAX`] lines wait (a bounded lock-free queue), [`LINE_MAX`] bytes of a line's
//! values; a line past the former is dropped and counted, and the log says how many when it
//! writes again.

use super::limiter::{LeftOut, Limiter};
use std::fmt::{Display, Write};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio_uring::fs::{File, OpenOptions};

/// Lines that wait for the writer; past it a line is dropped and counted.
pub const LINES_MAX: usize = 1024;
/// Bytes of a line; the rest of its values is cut.
pub const LINE_MAX: usize = 4096;
/// Bytes written at once, at most (and one line).
const BATCH: usize = 64 * 1024;
/// Not a place in the file: the descriptor's own position (io_uring, offset -1).
const HERE: u64 = u64::MAX;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It works as it should.
    Info,
    /// Something did not work for somebody, or will not work as configured.
    Warn,
    /// Something does not work.
    Error,
}

impl Level {
    fn label(self) -> &'static str {
        match self {
            Level::Info => "INFO ",
            Level::Warn => "WARN ",
            Level::Error => "ERROR",
        }
    }
}

#[derive(Debug)]
enum Entry {
    Line(String),
    Reopen,
    Finish(oneshot::Sender<()>),
}

/// The end of the log that takes lines; a clone for each thread.
#[derive(Clone, Debug)]
pub struct Log {
    entries: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
    /// Locked for one look-up, and only for a line that may be left out.
    limiter: Arc<Mutex<Limiter>>,
}

/// The end that writes them.
#[derive(Debug)]
pub struct Writer {
    entries: mpsc::Receiver<Entry>,
    dropped: Arc<AtomicU64>,
    limiter: Arc<Mutex<Limiter>>,
    path: Option<PathBuf>,
    file: File,
    batch: Vec<u8>,
    /// Lines in `batch`.
    lines: u64,
}

/// A log to a file, or to standard error. Inside the runtime only.
pub async fn channel(path: Option<PathBuf>) -> io::Result<(Log, Writer)> {
    let file = open(&path).await?;
    let (sender, entries) = mpsc::channel(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let limiter = Arc::default();
    let log = Log { entries: sender, dropped: dropped.clone(), limiter: Arc::clone(&limiter) };
    Ok((log, Writer { entries, dropped, limiter, path, file, batch: Vec::new(), lines: 0 }))
}

async fn open(path: &Option<PathBuf>) -> io::Result<File> {
    match path {
        Some(path) => OpenOptions::new().append(true).create(true).open(path).await,
        None => {
            let copy = io::stderr().as_fd().try_clone_to_owned()?;
            Ok(File::from_std(std::fs::File::from(copy)))
        }
    }
}

impl Log {
    /// Hands a line over.
    pub fn line(&self, level: Level, message: &'static str, values: &[(&str, &dyn Display)]) {
        let line = line(SystemTime::now(), level, message, values);
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line that bad input causes at `place`, an endpoint or a block of addresses
    /// ([`crate::ids::address_block`]): one a second is written for each message and place.
    pub fn limited(
        &self,
        level: Level,
        message: &'static str,
        place: &str,
        values: &[(&str, &dyn Display)],
    ) {
        match locked(&self.limiter).admit(message, place, Instant::now()) {
            None => {}
            Some(0) => self.line(level, message, values),
            Some(count) => {
                let left_out: (&str, &dyn Display) = ("left-out", &count);
                self.line(level, message, &[values, &[left_out]].concat());
            }
        }
    }

    /// It works as it should.
    pub fn info(&self, message: &'static str, values: &[(&str, &dyn Display)]) {
        self.line(Level::Info, message, values);
    }

    /// Something did not work for somebody.
    pub fn warn(&self, message: &'static str, values: &[(&str, &dyn Display)]) {
        self.line(Level::Warn, message, values);
    }

    /// Something does not work.
    pub fn error(&self, message: &'static str, values: &[(&str, &dyn Display)]) {
        self.line(Level::Error, message, values);
    }

    /// Opens the file again under its name, after the lines that wait: for log rotation. Inside the
    /// runtime only.
    pub fn reopen(&self) {
        if self.entries.try_send(Entry::Reopen).is_err() {
            let entries = self.entries.clone();
            // Without a writer, at the end, there is nothing to reopen.
            tokio_uring::spawn(async move { entries.send(Entry::Reopen).await });
        }
    }

    /// Writes what waits and ends the writer.
    pub async fn finish(&self) {
        let (done, written) = oneshot::channel();
        if self.entries.send(Entry::Finish(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

impl Writer {
    /// Writes lines until [`Log::finish`].
    pub async fn run(mut self) {
        while let Some(first) = self.next().await {
            let mut next = Some(first);
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Line(line) => {
                        self.batch.extend_from_slice(line.as_bytes());
                        self.lines += 1;
                    }
                    Entry::Reopen => {
                        self.write().await;
                        self.reopen().await;
                    }
                    Entry::Finish(done) => {
                        let rest = locked(&self.limiter).rest();
                        self.say_left_out(rest);
                        self.write().await;
                        let _ = done.send(());
                        return;
                    }
                }
                if self.batch.len() < BATCH {
                    next = self.entries.try_recv().ok();
                }
            }
            self.write().await;
        }
    }

    /// The next entry. Until it comes, what was left out is reported when its second is over.
    async fn next(&mut self) -> Option<Entry> {
        loop {
            let due = locked(&self.limiter).next_due();
            let Some(due) = due else { return self.entries.recv().await };
            if let Ok(entry) = tokio::time::timeout_at(due.into(), self.entries.recv()).await {
                return entry;
            }
            let left_out = locked(&self.limiter).due(Instant::now());
            self.say_left_out(left_out);
            self.write().await;
        }
    }

    fn say_left_out(&mut self, all: Vec<LeftOut>) {
        for LeftOut { cause, place, count } in all {
            let values: [(&str, &dyn Display); 3] =
                [("cause", &cause), ("place", &place), ("count", &count)];
            self.say(Level::Warn, "lines of the log were left out", &values);
        }
    }

    async fn reopen(&mut self) {
        match open(&self.path).await {
            Ok(file) => self.file = file,
            // The old file stays in use.
            Err(error) => {
                let values: [(&str, &dyn Display); 1] = [("error", &error)];
                self.say(Level::Error, "the log file cannot be opened again", &values);
            }
        }
    }

    fn say(&mut self, level: Level, message: &'static str, values: &[(&str, &dyn Display)]) {
        self.batch.extend_from_slice(line(SystemTime::now(), level, message, values).as_bytes());
        self.lines += 1;
    }

    /// Writes the batch. What cannot be written counts as dropped.
    async fn write(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let lines = self.lines + dropped;
        if dropped > 0 {
            self.say(Level::Warn, "lines of the log were dropped", &[("count", &dropped)]);
        }
        let mut rest = core::mem::take(&mut self.batch);
        let mut written = 0;
        while written < rest.len() {
            let slice = tokio_uring::buf::BoundedBuf::slice(rest, written..);
            let (result, slice) = self.file.write_at(slice, HERE).submit().await;
            rest = slice.into_inner();
            match result {
                Ok(0) | Err(_) => {
                    self.dropped.fetch_add(lines, Ordering::Relaxed);
                    break;
                }
                Ok(count) => written += count,
            }
        }
        rest.clear();
        (self.batch, self.lines) = (rest, 0);
    }
}

/// A thread that panicked while it had the lock has left the table intact.
fn locked(limiter: &Mutex<Limiter>) -> MutexGuard<'_, Limiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line with its end.
fn line(at: SystemTime, level: Level, message: &str, values: &[(&str, &dyn Display)]) -> String {
    let time = humantime::format_rfc3339_millis(at);
    let mut line = format!("{time} {} {message}", level.label());
    for (key, value) in values {
        let value = value.to_string();
        let _ = if is_word(&value) {
            write!(line, " {key}={value}")
        } else {
            // Rust's escapes keep a client's text on this line.
            write!(line, " {key}={value:?}")
        };
    }
    if line.len() > LINE_MAX {
        line.truncate(line.floor_char_boundary(LINE_MAX));
    }
    line.push('\n');
    line
}

/// Whether a value can stand without quotes.
fn is_word(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    !value.is_empty() && value.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("ringpush-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        folder
    }

    /// The lines of a file without their times.
    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("the file is there");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| line["2026-01-01T00:00:00.000Z ".len()..].to_owned()).collect()
    }

    #[test]
    fn a_line_stays_one_line_whatever_its_values_are() {
        let text = line(
            at(1),
            Level::Warn,
            "hook failed",
            &[
                ("destination", &"/ws/call"),
                ("status", &500),
                ("user", &"a b\n\"=坐"),
                ("empty", &""),
            ],
        );
        let expected = "1970-01-01T00:00:01.000Z WARN  hook failed destination=/ws/call status=500 \
                        user=\"a b\\n\\\"=坐\" empty=\"\"\n";
        assert_eq!(text, expected);
        let long = line(at(1), Level::Info, "long", &[("value", &"坐".repeat(LINE_MAX))]);
        assert!(long.len() <= LINE_MAX + 1 && long.ends_with('\n'));
    }

    #[test]
    fn lines_of_several_threads_reach_the_file_and_a_rotated_file_is_left() {
        let folder = folder("rotate");
        let (path, rotated) = (folder.join("log"), folder.join("log.1"));
        std::fs::write(&path, "2026-01-01T00:00:00.000Z INFO  before\n").expect("writable");
        tokio_uring::start(async {
            let (log, writer) = channel(Some(path.clone())).await.expect("the file can be opened");
            let writer = tokio_uring::spawn(writer.run());
            let threads = [0, 1].map(|thread| {
                let log = log.clone();
                std::thread::spawn(move || log.info("from a thread", &[("thread", &thread)]))
            });
            for thread in threads {
                thread.join().expect("a thread can log");
            }
            std::fs::rename(&path, &rotated).expect("the file can be renamed");
            log.reopen();
            log.error("after", &[]);
            log.finish().await;
            writer.await.expect("the writer has ended");
            log.info("to nobody", &[]);
        });
        let mut before = lines(&rotated);
        before.sort();
        assert_eq!(
            before,
            ["INFO  before", "INFO  from a thread thread=0", "INFO  from a thread thread=1"]
        );
        assert_eq!(lines(&path), ["ERROR after"]);
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[test]
    fn what_has_no_room_is_counted_and_the_log_says_so() {
        let folder = folder("dropped");
        let path = folder.join("log");
        tokio_uring::start(async {
            let (log, writer) = channel(Some(path.clone())).await.expect("the file can be opened");
            for number in 0..LINES_MAX + 7 {
                log.info("many", &[("number", &number)]);
            }
            let writer = tokio_uring::spawn(writer.run());
            log.finish().await;
            writer.await.expect("the writer has ended");
        });
        let lines = lines(&path);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines.iter().filter(|line| line.starts_with("INFO  many")).count(), LINES_MAX);
        assert!(lines.contains(&"WARN  lines of the log were dropped count=7".to_owned()));
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[test]
    fn what_bad_input_causes_is_written_once_a_second_and_counted() {
        let folder = folder("limited");
        let path = folder.join("log");
        tokio_uring::start(async {
            let (log, writer) = channel(Some(path.clone())).await.expect("the file can be opened");
            let writer = tokio_uring::spawn(writer.run());
            for number in 0..10_000 {
                log.limited(Level::Warn, "bad", "/a", &[("number", &number)]);
            }
            log.limited(Level::Warn, "bad", "/b", &[("number", &"b")]);
            log.finish().await;
            writer.await.expect("the writer has ended");
        });
        let lines = lines(&path);
        assert_eq!(lines[0], "WARN  bad number=0");
        let counts = lines.iter().filter_map(|line| {
            let count = line.split_once("left-out=").or(line.split_once("place=/a count="))?.1;
            count.parse::<usize>().ok()
        });
        let written = lines.iter().filter(|line| line.starts_with("WARN  bad number=")).count();
        // However long it took: all of them are written or counted.
        assert_eq!(counts.sum::<usize>() + written, 10_001, "{lines:?}");
        assert!(lines.len() < 20 && lines.contains(&"WARN  bad number=b".to_owned()), "{lines:?}");
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[test]
    fn a_full_disk_is_not_an_end() {
        tokio_uring::start(async {
            let path = Some(PathBuf::from("/dev/full"));
            let (log, writer) = channel(path).await.expect("the device can be opened");
            let dropped = writer.dropped.clone();
            let writer = tokio_uring::spawn(writer.run());
            log.info("one", &[]);
            log.finish().await;
            writer.await.expect("the writer has ended");
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
        });
    }
}

//! Measures a process by /proc: CPU time of each of its threads, and memory.

use std::fs;
use std::path::PathBuf;

/// Bytes of a page, the unit of /proc/PID/statm. The usual size on machines with io_uring.
const PAGE: u64 = 4096;

/// A process to be measured.
#[derive(Clone, Debug)]
pub struct Meter {
    folder: PathBuf,
}

/// What a process had used at a moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Nanoseconds on a CPU, all threads together.
    pub cpu_nanos: u64,
    /// The same per thread: number, name, nanoseconds.
    pub threads: Vec<(u32, String, u64)>,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

impl Meter {
    /// A process by its number; `None` if there is none.
    pub fn of(pid: u32) -> Option<Meter> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        folder.join("task").is_dir().then_some(Meter { folder })
    }

    /// Reads everything, memory exactly (the kernel walks the process's map for it).
    pub fn read(&self) -> Reading {
        let threads = self.threads();
        let cpu_nanos = threads.iter().map(|thread| thread.2).sum();
        let rss_bytes = self.exact_rss().unwrap_or_else(|| self.rough_rss());
        Reading { cpu_nanos, threads, rss_bytes }
    }

    /// CPU time, and memory as the kernel counts it anyway: cheap enough to sample regularly.
    pub fn glance(&self) -> (u64, u64) {
        let cpu_nanos = self.threads().iter().map(|thread| thread.2).sum();
        (cpu_nanos, self.rough_rss())
    }

    fn threads(&self) -> Vec<(u32, String, u64)> {
        let Ok(tasks) = fs::read_dir(self.folder.join("task")) else { return Vec::new() };
        let read = |task: fs::DirEntry| {
            let number = task.file_name().to_str()?.parse().ok()?;
            let time = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some((number, name.trim_end().to_owned(), first_number(&time)?))
        };
        // A thread may end while it is being read.
        tasks.flatten().filter_map(read).collect()
    }

    fn exact_rss(&self) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join("smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        Some(first_number(line)? * 1024)
    }

    fn rough_rss(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join("statm")).unwrap_or_default();
        let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
        pages.unwrap_or(0) * PAGE
    }
}

impl Reading {
    /// Nanoseconds of each thread since an earlier reading, the busiest first.
    pub fn threads_since(&self, earlier: &Reading) -> Vec<(String, u64)> {
        let before = |number| earlier.threads.iter().find(|thread| thread.0 == number);
        let since = |thread: &(u32, String, u64)| {
            let used = thread.2 - before(thread.0).map_or(0, |before| before.2);
            (thread.1.clone(), used)
        };
        let mut threads: Vec<_> = self.threads.iter().map(since).collect();
        threads.sort_by_key(|thread| core::cmp::Reverse(thread.1));
        threads
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_threads_time_and_memory() {
        let meter = Meter::of(std::process::id()).expect("we run");
        let first = meter.read();
        assert!(first.rss_bytes > 100_000 && !first.threads.is_empty());
        let mut sum = 0u64;
        // CPU time is accounted by the next tick of the scheduler.
        while meter.glance().0 == first.cpu_nanos {
            sum = core::hint::black_box(sum.wrapping_add(1));
        }
        let second = meter.read();
        let threads = second.threads_since(&first);
        assert!(threads.iter().map(|thread| thread.1).sum::<u64>() > 0);
        assert!(threads.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }

    #[test]
    fn a_process_that_is_not_there_is_not_measured() {
        assert!(Meter::of(u32::MAX).is_none());
    }
}

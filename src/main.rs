//! The `ringpush` binary: arguments in, exit code out.

use clap::{Args, Parser, Subcommand};
use ringpush::config::{self, Config, ConfigError, Sources, check};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A push engine for Linux: WebSocket, SockJS, STOMP and HTTP callbacks on io_uring.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Validate; print resolved settings, limits and the memory footprint.
    Check(Settings),
}

/// Where the settings come from.
#[derive(Args)]
struct Settings {
    /// The configuration; the embedded call-centre application when there is none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here: [listen] address.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Shards: [engine] shards.
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
}

impl Settings {
    /// What a reload reads again.
    fn sources(self) -> Sources {
        let readable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let mut flags = Vec::new();
        flags.extend(self.listen.map(|text| ("--listen", "listen.address", text)));
        flags.extend(self.shards.map(|count| ("--shards", "engine.shards", count.to_string())));
        let environment = std::env::vars_os().filter_map(readable).collect();
        Sources { path: self.config, environment, flags }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check(settings) => load(&settings.sources()).map(|config| check(&config)),
    };
    done.unwrap_or_else(|error| {
        complain(&error.to_string());
        ExitCode::from(config::EXIT)
    })
}

/// Loads the configuration and says what of it is built later.
fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let config = sources.load()?;
    for warning in &config.warnings {
        complain(warning);
    }
    Ok(config)
}

fn check(config: &Config) -> ExitCode {
    let text = check::text(config, machine(), RECORDS);
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads only the first lines closes the pipe.
        Err(_) => ExitCode::FAILURE,
    }
}

/// What a record costs; the engine's own sizes once it is there.
const RECORDS: check::RecordBytes =
    check::RecordBytes { connection: 450, message_block: 1024, letter: 64 };

fn machine() -> check::Machine {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    check::Machine { cores: u32::try_from(cores).unwrap_or(1), descriptors: descriptors(&limits) }
}

/// The soft limit of open files. A server is started with the kernel's default where it is unread.
fn descriptors(limits: &str) -> u32 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft {
        Some("unlimited") => u32::MAX,
        Some(number) => number.parse().unwrap_or(1024),
        None => 1024,
    }
}

/// One line on standard error; nobody is left to tell if that is closed.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "ringpush: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let arguments =
            ["ringpush", "check", "--config", "a.toml", "--listen", "x", "--shards", "3"];
        let Command::Check(settings) = Arguments::parse_from(arguments).command;
        let sources = settings.sources();
        assert_eq!(sources.path, Some(PathBuf::from("a.toml")));
        let flags = [
            ("--listen", "listen.address", "x".to_string()),
            ("--shards", "engine.shards", "3".to_string()),
        ];
        assert_eq!(sources.flags, flags);
    }

    #[test]
    fn descriptors_are_read_from_the_soft_limit() {
        let text = "Limit Soft Hard Units\nMax open files            1048576   2000000  files\n";
        assert_eq!(descriptors(text), 1_048_576);
        assert_eq!(descriptors("Max open files unlimited unlimited files"), u32::MAX);
        assert_eq!(descriptors(""), 1024);
    }
}

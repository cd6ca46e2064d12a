#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]
//! The `ringpush` binary: arguments in, exit code out.

use clap::{Args, Parser, Subcommand};
use ringpush::config::{self, Config, ConfigError, STARTING, Sources, check};
use ringpush::ring::process;
use ringpush::serve::{self, ServeOptions};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
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
    /// Run the server; the embedded call-centre application when no file is given.
    Serve {
        #[command(flatten)]
        settings: Settings,
        /// Write the log to this file (reopened on SIGUSR1 and SIGHUP); standard error without it.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
    /// Validate; print resolved settings, limits and the memory footprint.
    Check(Settings),
    /// Make a configuration.
    #[command(subcommand)]
    Config(Making),
    /// Generate load and measure a server.
    #[cfg(feature = "load")]
    Load(Box<ringpush::load::Options>),
}

#[derive(Subcommand)]
enum Making {
    /// Write a file to start from, with comments; to standard output when none is named.
    Init {
        /// The file; it must not exist yet.
        file: Option<PathBuf>,
    },
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
        Sources { path: self.config, environment, flags, made_up: None }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { settings, log } => {
            let options = ServeOptions { sources: settings.sources(), log };
            match serve::run(options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(&error.to_string(), error.exit_code()),
            }
        }
        Command::Check(settings) => match load(&settings.sources()) {
            Ok(config) => print(&text_of(&config)),
            Err(error) => refuse(&error.to_string(), config::EXIT),
        },
        Command::Config(Making::Init { file: None }) => print(STARTING),
        Command::Config(Making::Init { file: Some(path) }) => init(&path),
        #[cfg(feature = "load")]
        Command::Load(options) => match ringpush::load::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string(), 1),
        },
    }
}

/// Prints the error and returns the exit code.
fn refuse(text: &str, code: u8) -> ExitCode {
    complain(text);
    ExitCode::from(code)
}

/// Loads the configuration and prints warnings.
fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let config = sources.load()?;
    for warning in &config.warnings {
        complain(warning);
    }
    Ok(config)
}

fn text_of(config: &Config) -> String {
    check::text(config, machine(), ringpush::engine::RECORDS)
}

/// Writes a configuration to start from; a file that exists stays as it is.
fn init(path: &Path) -> ExitCode {
    let written = File::create_new(path).and_then(|mut file| file.write_all(STARTING.as_bytes()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("{}: {error}", path.display()), config::EXIT),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does; there is nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The machine as `serve` would find it.
fn machine() -> check::Machine {
    let cores = process::cores().map_or(1, |cores| cores.len());
    let cores = u32::try_from(cores).unwrap_or(1);
    check::Machine { cores, descriptors: process::raise_descriptors() }
}

/// Each line to standard error; if that is closed, nobody can be told.
fn complain(text: &str) {
    for line in text.lines() {
        let _ = writeln!(std::io::stderr(), "ringpush: {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        Arguments::command().debug_assert();
        let arguments =
            ["ringpush", "check", "--config", "a.toml", "--listen", "x", "--shards", "3"];
        let Command::Check(settings) = Arguments::parse_from(arguments).command else {
            panic!("it is a check");
        };
        let sources = settings.sources();
        assert_eq!(sources.path, Some(PathBuf::from("a.toml")));
        let flags = [
            ("--listen", "listen.address", "x".to_string()),
            ("--shards", "engine.shards", "3".to_string()),
        ];
        assert_eq!(sources.flags, flags);
    }
}

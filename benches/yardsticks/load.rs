//! The load generator alone, until the binary has it.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: ringpush::load::Options,
}

fn main() -> ExitCode {
    match ringpush::load::run(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

//! The `llmroof` program: parse, dispatch, and the only place that ends the process.

use std::process::ExitCode;

use clap::Parser;
use llmroof::cli::Cli;
use llmroof::command;

fn main() -> ExitCode {
    match command::run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}

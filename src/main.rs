//! The `llmroof` program: parse, dispatch, and the only place that ends the process.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use llmroof::cli::Cli;
use llmroof::command;
use llmroof::error::{Failure, Result};

fn main() -> ExitCode {
    match parse().and_then(|cli| command::run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}

/// The command line. Help and version are printed and end the process; what is wrong becomes one line like
/// every other error.
fn parse() -> Result<Cli> {
    Cli::try_parse().map_err(|e| match e.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => e.exit(),
        _ => one_line(&e.render().to_string()),
    })
}

/// clap's paragraphs in one line: the first is what is wrong, and its `tip:` the hint.
fn one_line(rendered: &str) -> Failure {
    let mut paragraphs = rendered.split("\n\n").map(str::trim);
    let what = paragraphs.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let tip = paragraphs.find_map(|text| text.strip_prefix("tip: ")).map(str::to_owned);
    Failure::input(what).hint(tip.unwrap_or_else(|| "`llmroof help COMMAND` shows the options".into()))
}

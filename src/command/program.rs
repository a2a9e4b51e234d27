//! The program as a function: from the command line to the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;

use super::machine::Machine;
use crate::cli::Cli;
use crate::error::Failure;

/// Carries out the command line of this process. What fails is one line on stderr and its exit code.
pub fn main(machine: &Arc<dyn Machine>) -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => super::run(cli.command, machine),
        Err(e) if is_help(e.kind()) => {
            // A reader that has gone away is no failure of the help.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
        Err(e) => Err(one_line(&e.render().to_string())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}

/// Help and version are printed as they are; what is wrong becomes one line like every other error.
fn is_help(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// clap's paragraphs in one line: the first is what is wrong, and its `tip:` the hint.
fn one_line(rendered: &str) -> Failure {
    let mut paragraphs = rendered.split("\n\n").map(str::trim);
    let what = paragraphs.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let tip = paragraphs.find_map(|text| text.strip_prefix("tip: ")).map(str::to_owned);
    Failure::input(what).hint(tip.unwrap_or_else(|| "`llmroof help COMMAND` shows the options".into()))
}

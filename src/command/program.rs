//! The program as a function: from the command line to the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;

use super::machine::Machine;
use super::output::{printed, say};
use super::usage;
use crate::cli::Cli;

/// Carries out the command line of this process. What fails is one line on stderr and its exit code.
pub fn main(machine: &Arc<dyn Machine>) -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => super::run(cli.command, machine).map(|()| ExitCode::SUCCESS),
        Err(e) if is_help(e.kind()) => printed(e.print()).map(|()| ExitCode::from(e.exit_code() as u8)),
        Err(e) => Err(usage::wrong(&e)),
    };
    ended.unwrap_or_else(|failure| {
        say(format_args!("error: {failure}"));
        ExitCode::from(failure.code as u8)
    })
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

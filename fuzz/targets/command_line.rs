//! Command lines, a word per line of the input.
#![no_main]

use clap::Parser;
use clap::error::ErrorKind;
use libfuzzer_sys::fuzz_target;
use llmroof::cli::Cli;
use llmroof::command::usage;
use llmroof_fuzz::answered;

fuzz_target!(|text: &str| {
    let Err(e) = Cli::try_parse_from(std::iter::once("llmroof").chain(text.split('\n'))) else { return };
    let help = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    if !help.contains(&e.kind()) {
        answered::<()>(Err(usage::wrong(&e)));
    }
});

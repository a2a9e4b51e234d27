//! One file per subcommand. Only here everything is visible.

use std::sync::Arc;

use crate::cli::Command;
use crate::error::Result;
use machine::Machine;

pub mod again;
pub mod against;
pub mod all_reduces;
pub mod check;
pub mod claims;
pub mod compare;
pub mod device;
pub mod devices;
pub mod findings;
pub mod here;
pub mod host;
pub mod machine;
pub mod measure;
pub mod models;
pub mod output;
pub mod picture;
pub mod plot;
pub mod predict;
pub mod program;
pub mod progress;
pub mod runs;
pub mod selection;
pub mod signals;
pub mod terminal;
pub mod usage;
pub mod verify;
pub mod work;

/// Runs one subcommand on a machine.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(command: Command, machine: &Arc<dyn Machine>) -> Result<()> {
    match command {
        Command::Measure(args) => measure::run(&args, machine.as_ref()),
        Command::Plot(args) => plot::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Verify(args) => verify::run(&args, machine.as_ref()),
        Command::Claims(args) => claims::run(&args),
        Command::Check(args) => check::run(&args, machine),
        Command::Devices(args) => devices::run(&args),
        Command::Models(args) => models::run(&args),
        Command::AllReduces(args) => all_reduces::run(&args),
    }
}

//! `llmroof plot`.

use crate::cli::PlotArgs;
use crate::error::{Failure, Result};

/// Runs `llmroof plot`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(_args: &PlotArgs) -> Result<()> {
    Err(Failure::input("not written yet"))
}

//! `llmroof measure`.

use crate::cli::MeasureArgs;
use crate::error::{Failure, Result};

/// Runs `llmroof measure`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(_args: &MeasureArgs) -> Result<()> {
    Err(Failure::input("not written yet"))
}

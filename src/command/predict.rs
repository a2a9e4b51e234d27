//! `llmroof predict`.

use crate::cli::PredictArgs;
use crate::error::{Failure, Result};

/// Runs `llmroof predict`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(_args: &PredictArgs) -> Result<()> {
    Err(Failure::input("not written yet"))
}

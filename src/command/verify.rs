//! `llmroof verify`.

use crate::cli::VerifyArgs;
use crate::error::{Failure, Result};

/// Runs `llmroof verify`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(_args: &VerifyArgs) -> Result<()> {
    Err(Failure::input("not written yet"))
}

//! `llmroof models`.

use crate::cli::CatalogArgs;
use crate::error::{Failure, Result};

/// Runs `llmroof models`.
///
/// # Errors
/// Whatever ended it, with its exit code.
pub fn run(_args: &CatalogArgs) -> Result<()> {
    Err(Failure::input("not written yet"))
}

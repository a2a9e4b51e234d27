//! `llmroof all-reduces`, which `measure` starts for what NCCL times among GPUs.

use super::output::print;
use crate::backend::cuda::serve_all_reduces;
use crate::cli::AllReducesArgs;
use crate::error::Result;

/// Runs `llmroof all-reduces`.
///
/// # Errors
/// It is no request, or stdout cannot be written to.
pub fn run(args: &AllReducesArgs) -> Result<()> {
    serve_all_reduces(&args.request, &print)
}

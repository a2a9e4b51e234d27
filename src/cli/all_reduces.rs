//! What one process of this program asks another.

use clap::Args;

/// The GPUs and sizes of all-reduces.
#[derive(Debug, Clone, Args)]
pub struct AllReducesArgs {
    /// A request as JSON
    pub request: String,
}

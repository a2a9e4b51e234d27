//! Options about ways past the memory wall.

use clap::Args;

use super::parse::parse_dollars;
use crate::sweep::Sweep;

/// Speculation and its draft, mixed steps, and the table of ways.
#[derive(Debug, Clone, Args)]
pub struct WaysArgs {
    /// Tokens of each sequence that one decode pass verifies, as 1-8: what speculation costs at each batch and context
    #[arg(long, value_name = "SWEEP")]
    pub speculate: Option<Sweep>,
    /// The model that proposes those tokens, a preset or a config.json: what its own steps take counts as well
    #[arg(long, value_name = "NAME|PATH")]
    pub draft: Option<String>,
    /// Tokens of a prompt that also ride along with decode steps, as 256: the mixed step of continuous batching, what it
    /// costs those who decode and what it saves
    #[arg(long, value_name = "SWEEP", env = "LLMROOF_MIX")]
    pub mix: Option<Sweep>,
    /// Show what each way past the memory wall is worth: where not asked for otherwise, int8 and int4 weights, fp8 where the
    /// device has it, 4 and 8 verified tokens, and 2 ranks where a link is known
    #[arg(long)]
    pub ways: bool,
    /// Dollars for an hour of the device, as 2.5: for dollars per million tokens
    #[arg(long, value_parser = parse_dollars, value_name = "DOLLARS")]
    pub price: Option<f64>,
}

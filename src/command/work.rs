//! What the arguments of `measure` and `predict` ask for.

use crate::cli::{PhaseArg, WorkArgs};
use crate::request::Sweeps;
use crate::workload::Phase;

/// The work that these arguments name.
pub fn sweeps(args: &WorkArgs) -> Sweeps {
    Sweeps {
        phases: match args.phase {
            PhaseArg::Prefill => vec![Phase::Prefill],
            PhaseArg::Decode => vec![Phase::Decode],
            PhaseArg::All => vec![Phase::Prefill, Phase::Decode],
        },
        batches: args.batch.0.clone(),
        prompts: args.prompt.0.clone(),
        contexts: args.context.as_ref().map_or_else(Vec::new, |sweep| sweep.0.clone()),
        generate: args.generate,
    }
}

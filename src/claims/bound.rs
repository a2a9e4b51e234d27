//! Which roof decode is under as the batch grows.

use super::{About, Case, Claim, Claimed, Figure, Quantity};
use crate::predict::arithmetic::{LINEAR, compute_share, large_batch};
use crate::workload::{Stage, Workload};

/// Positions attended.
const CONTEXT: u32 = 2048;

pub(super) fn batches(case: &Case) -> Claim {
    let context = CONTEXT.min(case.model.max_position);
    let ridge = case.roof.ridge();
    let large = large_batch(case.model, ridge, context);
    let below = Some(Claimed::at_most(ridge.0));
    let work = Workload::decode(case.model, large, context);
    let lowest = LINEAR.iter().map(|&stage| work.cost(stage).intensity().0).fold(f64::INFINITY, f64::min);
    let mut figures = vec![
        Figure::of(format!("batch {large}: intensity of the whole step"), Quantity::Intensity)
            .predicted(work.total().intensity().0, below)
            .unmeasured(case),
        Figure::of(format!("batch {large}: the lowest of its linear stages"), Quantity::Intensity)
            .predicted(lowest, below)
            .unmeasured(case),
        Figure::of(format!("batch {large}: that of its attention"), Quantity::Intensity)
            .predicted(work.cost(Stage::Attention).intensity().0, below)
            .unmeasured(case),
    ];
    let mut batches = vec![1, 32, large];
    batches.extend(case.machines.iter().filter_map(|machine| machine.batches().last().copied()));
    batches.sort_unstable();
    batches.dedup();
    for batch in batches {
        let share = compute_share(&Workload::decode(case.model, batch, context), case.roof);
        figures.push(
            Figure::of(format!("batch {batch}: time under the compute roof"), Quantity::Share)
                .predicted(share, Some(Claimed::at_most(0.0)))
                .measured(case, About::Any, |machine| machine.compute_share(batch)),
        );
    }
    let crossed = match lowest >= ridge.0 {
        true => {
            format!("Batch {large} is the smallest power of two at which all linear stages lie right of it.")
        }
        false => format!("Up to batch {large} some linear stages lie left of it."),
    };
    case.claim(
        "Decode stays memory-bound at every practical batch size",
        figures,
        format!(
            "Memory-bound is what lies left of the ridge, {}, stage by stage, at context {context}. {crossed} Measured: \
             the share of the stages' time in those that are bound by compute, under that machine's own roofs.",
            Quantity::Intensity.show(ridge.0)
        ),
    )
}

//! Operations per byte: of one projection, of whole steps as the batch grows, and stage by stage.

use super::{Case, Section};
use crate::model::ModelSpec;
use crate::predict::arithmetic::{compute_share, large_batch, limit, q_projection, shortest};
use crate::predict::figure::{four, tokens, whole};
use crate::roofline::Bound;
use crate::units::{Bytes, figures, percent};
use crate::workload::{Stage, Workload};

/// Context at which the stages of a large batch are shown.
const CONTEXT: u32 = 2048;

/// The q projection's intensity with the numbers it is made of.
pub(super) fn q_projection_line(model: &ModelSpec, tokens: u32) -> String {
    let (flops, bytes) = q_projection(model, tokens);
    let intensity = (flops / bytes).0;
    let rows = if tokens == 1 { String::new() } else { format!("{} x ", whole(f64::from(tokens))) };
    format!(
        "q projection: 2 x {rows}{h} x {q} / (2 B x ({h} x {q} + {rows}({h} + {q}))) = {} FLOP/B",
        if intensity < 10.0 { format!("{intensity:.4}") } else { figures(intensity) },
        h = model.hidden,
        q = model.q_width(),
    )
}

/// What weights and caches of this work occupy.
fn occupied(work: &Workload) -> Bytes {
    let cached = work.model.kv_bytes_per_token(work.precision.kv) * work.positions();
    work.model.resident_bytes(work.precision) + cached
}

/// A remark where a work does not fit the device, but its model does; the run's notes tell of the model.
fn fits(case: &Case, work: &Workload) -> String {
    let needed = occupied(work);
    let memory = case.device.memory.value;
    if needed.0 <= memory || work.model.resident_bytes(work.precision).0 > memory {
        return String::new();
    }
    format!(" (needs {}: does not fit {})", needed.human(), Bytes(memory).human())
}

pub(super) fn decode(case: &Case) -> Section {
    let ridge = case.roof.ridge();
    let context = case.sweeps.decode_context();
    let mut section = Section::new(format!(
        "Arithmetic intensity of decode at context {context}: FLOP / compulsory bytes, against the ridge {} / {} = {} \
         FLOP/B",
        four(case.roof.peak.0, "FLOP/s"),
        four(case.roof.bandwidth.0, "B/s"),
        figures(ridge.0)
    ));
    section.line("1 token", q_projection_line(case.model, 1));
    for batch in [1, 4, 16, 64, 256, 1024] {
        let work = Workload::decode(case.model, batch, context);
        let cost = work.total();
        let (time, _) = shortest(&work, case.roof);
        section.line(
            format!("batch {batch}"),
            format!(
                "{} / {} = {} FLOP/B, at most {}{}",
                cost.flops.human(),
                cost.bytes().human(),
                if batch == 1 { format!("{:.3}", cost.intensity().0) } else { figures(cost.intensity().0) },
                tokens(f64::from(batch) / time.0),
                fits(case, &work)
            ),
        );
    }
    section.line(
        "ever more",
        format!(
            "{} FLOP/B: the weights are shared by the batch, the KV cache is not, and dominates in the end",
            figures(limit(case.model, context).0)
        ),
    );
    section
}

pub(super) fn stages(case: &Case) -> Section {
    let context = CONTEXT.min(case.model.max_position);
    let batch = large_batch(case.model, case.roof.ridge(), context);
    let work = Workload::decode(case.model, batch, context);
    let mut section = Section::new(format!(
        "A large batch, judged stage by stage: decode at batch {batch}, context {context}{}",
        fits(case, &work)
    ));
    let ridge = figures(case.roof.ridge().0);
    for stage in Stage::ALL {
        let cost = work.cost(stage);
        let (side, bound) = match case.roof.shortest(cost.flops, cost.bytes()) {
            (_, Bound::Compute) => (">", "compute"),
            _ => ("<", "memory"),
        };
        section.line(
            stage.name(),
            format!(
                "{} / {} = {} FLOP/B {side} {ridge}: {bound}-bound",
                cost.flops.human(),
                cost.bytes().human(),
                figures(cost.intensity().0)
            ),
        );
    }
    let total = work.total();
    let (time, _) = shortest(&work, case.roof);
    section.line(
        "whole step",
        format!(
            "{} FLOP/B alone would call all of it {}-bound; {} of its {} is spent under the compute roof",
            figures(total.intensity().0),
            if total.intensity() < case.roof.ridge() { "memory" } else { "compute" },
            percent(compute_share(&work, case.roof)),
            time.human()
        ),
    );
    section
}

//! The prompt in one pass, and a whole request.

use super::intensity::q_projection_line;
use super::{Case, Section};
use crate::predict::arithmetic::PREFILL_REACHED as REACHED;
use crate::predict::figure::{four, whole};
use crate::units::{Flops, Seconds, figures, percent};
use crate::workload::Workload;

pub(super) fn prefill(case: &Case) -> Section {
    let (m, prompt) = (case.model, case.sweeps.prompt());
    let work = Workload::prefill(m, 1, prompt);
    let total = work.total();
    let tokens = f64::from(prompt);
    let layers = f64::from(m.layers) * m.layer_matrix_parameters();
    let pairs = tokens * (tokens + 1.0) / 2.0;
    let mut section = Section::new(format!("Prefill of {prompt} tokens"));
    section.line(
        "operations",
        format!(
            "layers 2 x {prompt} x {} + attention 4 x {} x {} x {} pairs + head, last token only, 2 x {} = {}",
            whole(layers),
            m.layers,
            m.q_width(),
            whole(pairs),
            whole(m.head_parameters()),
            four(total.flops.0, "FLOP")
        ),
    );
    let time = |share: f64| Flops(total.flops.0) / (case.roof.peak * share);
    section.line(
        "time",
        format!(
            "/ {} = {} at 100% of the peak; {} at {:.0} to {:.0}%, which good engines reach",
            four(case.roof.peak.0, "FLOP/s"),
            time(1.0).human(),
            range(time(REACHED[1]), time(REACHED[0])),
            REACHED[0] * 100.0,
            REACHED[1] * 100.0
        ),
    );
    section.line("intensity", q_projection_line(m, prompt));
    section.line(
        "",
        format!(
            "whole pass: {} / {} = {} FLOP/B; {prompt} would count the weights' bytes alone",
            total.flops.human(),
            total.bytes().human(),
            figures(total.intensity().0)
        ),
    );
    section
}

/// A range of times, below a second in whole milliseconds.
fn range(from: Seconds, to: Seconds) -> String {
    if (0.01..1.0).contains(&from.0) && to.0 < 1.0 {
        format!("{:.0} to {:.0} ms", from.0 * 1e3, to.0 * 1e3)
    } else {
        format!("{} to {}", from.human(), to.human())
    }
}

pub(super) fn request(case: &Case) -> Section {
    let mut section = Section::new("The request, at 100% of the roofs");
    let Some(r) = &case.run.request else {
        section.line("", "needs prefill and decode at batch 1: add them with --phase all and --batch 1,...");
        return section;
    };
    let steps = r.generate.saturating_sub(1);
    section.line(
        "prefill",
        format!(
            "{} to the first token: each stage at its own roof, the head under the memory roof",
            four(r.time_to_first_token_seconds, "s")
        ),
    );
    let decode = Seconds(f64::from(steps) * r.time_per_output_token_seconds);
    section.line(
        "decode",
        format!(
            "{steps} more tokens x {} = {}, at context {}",
            four(r.time_per_output_token_seconds, "s"),
            four(decode.0, "s"),
            case.sweeps.decode_context()
        ),
    );
    section.line(
        "split",
        format!(
            "{} in all: {} prefill, {} decode",
            four(r.total_seconds, "s"),
            percent(r.prefill_share),
            percent(r.decode_share)
        ),
    );
    section
}

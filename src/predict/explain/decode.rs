//! One token: the bytes it reads, the operations it takes, and the wall that they make.

use super::{Case, Section};
use crate::model::{DType, Precision};
use crate::predict::arithmetic::{ceiling, weight_flops};
use crate::predict::figure::{four, percent2, rounded, tokens, whole};
use crate::units::{Bytes, Flops, figures};

const BF16: DType = DType::Bf16;

/// Operations of a decode token for each attended position: q x k and p x v over all heads and layers.
fn flops_per_position(case: &Case) -> f64 {
    4.0 * f64::from(case.model.layers) * f64::from(case.model.q_width())
}

pub(super) fn bytes(case: &Case) -> Section {
    let (m, generate, prompt) = (case.model, case.sweeps.generate, case.sweeps.prompt());
    let kv = m.kv_bytes_per_token(BF16);
    let streamed = m.streamed_bytes(Precision::BF16);
    let resident = m.resident_bytes(Precision::BF16);
    let mut section = Section::new("Bytes");
    section
        .line("resident", format!("{} parameters x 2 B = {}", whole(m.parameters()), four(resident.0, "B")));
    section.line(
        "streamed",
        format!(
            "each decode step reads {} layers x {} + head {} = {} matrix weights and {} norm weights, x 2 B = {} B \
             = {}",
            m.layers,
            whole(m.layer_matrix_parameters()),
            whole(m.head_parameters()),
            whole(m.streamed_matrix_parameters()),
            whole(m.norm_parameters()),
            whole(streamed.0),
            four(streamed.0, "B")
        ),
    );
    section.line(
        "",
        if m.tied_embeddings {
            "(the embedding shares its table with the head, and is one row per token)".to_string()
        } else {
            format!("(the embedding table, {}, is one row per token)", (resident - streamed).human())
        },
    );
    section.line(
        "KV cache",
        format!(
            "2 x {} layers x {} heads x {} x 2 B = {} B per position",
            m.layers,
            m.kv_heads,
            m.head_dim,
            whole(kv.0)
        ),
    );
    let count = f64::from(generate);
    // Token i after the prompt attends prompt + i positions.
    let positions = count * f64::from(prompt) + count * (count + 1.0) / 2.0;
    section.line(
        if generate == 1 { "1 token".into() } else { format!("{generate} tokens") },
        format!(
            "{generate} x {} = {} of weights, + KV: {} positions x {} B = {}",
            four(streamed.0, "B"),
            (streamed * count).human(),
            whole(positions),
            whole(kv.0),
            (kv * positions).human()
        ),
    );
    section
}

pub(super) fn operations(case: &Case) -> Section {
    let m = case.model;
    let context = case.sweeps.decode_context();
    let (fixed, each) = (weight_flops(case.model), flops_per_position(case));
    let mut section = Section::new("Operations of one decode token");
    section.line(
        "weights",
        format!("2 x {} = {} per token", whole(m.streamed_matrix_parameters()), four(fixed, "FLOP")),
    );
    section.line(
        "attention",
        format!("4 x {} layers x {} = {} FLOP per attended position", m.layers, m.q_width(), whole(each)),
    );
    let attention = each * f64::from(context);
    section.line(
        format!("context {context}"),
        format!(
            "{} + {} = {} per token",
            four(fixed, "FLOP"),
            four(attention, "FLOP"),
            four(fixed + attention, "FLOP")
        ),
    );
    section
}

pub(super) fn wall(case: &Case) -> Section {
    let m = case.model;
    let bandwidth = case.roof.bandwidth.0;
    let (streamed, kv) = (m.streamed_bytes(Precision::BF16), m.kv_bytes_per_token(BF16));
    let mut section = Section::new(
        "The wall: bandwidth / (streamed + KV) is the most tokens per second that one sequence can get",
    );
    let mut contexts = vec![0, case.sweeps.decode_context(), 2048, 8192, 32_768, 131_072];
    contexts.retain(|&c| c <= m.max_position);
    contexts.sort_unstable();
    contexts.dedup();
    for context in contexts {
        let read = kv * f64::from(context);
        let rate = tokens(ceiling(bandwidth, streamed, read));
        section.line(
            format!("context {context}"),
            format!(
                "{} / ({} + {}) = {rate}",
                four(bandwidth, "B/s"),
                four(streamed.0, "B"),
                four(read.0, "B")
            ),
        );
    }
    let round = rounded(bandwidth);
    if round != bandwidth {
        section.line(
            "rounded",
            format!(
                "with the bandwidth rounded to {} TB/s: {} at context 0",
                two(round * 1e-12),
                tokens(ceiling(round, streamed, Bytes(0.0)))
            ),
        );
    }
    let resident = m.resident_bytes(Precision::BF16);
    if !m.tied_embeddings {
        section.line(
            "not so",
            format!(
                "dividing by the resident {} gives {}: too low, the embedding table is not streamed",
                four(resident.0, "B"),
                tokens(ceiling(bandwidth, resident, Bytes(0.0)))
            ),
        );
    }
    section
}

/// A quoted bandwidth: `2.0`.
fn two(tera: f64) -> String {
    if tera >= 1.0 { format!("{tera:.1}") } else { format!("{tera:.2}") }
}

pub(super) fn rate(case: &Case) -> Section {
    let streamed = case.model.streamed_bytes(Precision::BF16);
    let flops = weight_flops(case.model);
    let intensity = (Flops(flops) / streamed).0;
    let peak = case.roof.peak.0;
    let mut section = Section::new("At that wall, context 0: FLOP per token are not FLOP per second");
    let mut show = |label: &str, bandwidth: f64| {
        let rate = ceiling(bandwidth, streamed, Bytes(0.0));
        let ridge = peak / bandwidth;
        section.line(
            label,
            format!(
                "{} x {} = {} = {} of {}, the same as intensity / ridge = {:.4} / {}",
                tokens(rate),
                four(flops, "FLOP"),
                four(rate * flops, "FLOP/s"),
                percent2(rate * flops / peak),
                four(peak, "FLOP/s"),
                intensity,
                figures(ridge)
            ),
        );
    };
    show("datasheet", case.roof.bandwidth.0);
    let round = rounded(case.roof.bandwidth.0);
    if round != case.roof.bandwidth.0 {
        show(&format!("at {} TB/s", two(round * 1e-12)), round);
    }
    section
}

//! What 4-bit weights would save: less than the ratio of the widths.

use super::figure::{four, whole};
use super::{Case, Section};
use crate::model::{DType, Precision};

/// A 4-bit format: weights per group, and bits that each group adds.
struct Grouped {
    weights: f64,
    bits: f64,
    adds: &'static str,
}

const FORMATS: [Grouped; 2] = [
    Grouped { weights: 32.0, bits: 16.0, adds: "a 16-bit scale per 32 weights" },
    Grouped { weights: 128.0, bits: 32.0, adds: "a 16-bit scale and zero per 128 weights" },
];

pub(super) fn int4(case: &Case) -> Section {
    let m = case.model;
    let streamed = m.streamed_bytes(Precision::BF16).0;
    let layers = f64::from(m.layers) * m.layer_matrix_parameters();
    let unchanged = (m.head_parameters() + m.norm_parameters()) * DType::Bf16.bytes();
    let mut section = Section::new(
        "int4 weights in the layers, head in bf16: the most that decode can gain at batch 1, context 0",
    );
    for format in FORMATS {
        let bits = 4.0 + format.bits / format.weights;
        let bytes = layers * bits / 8.0 + unchanged;
        section.line(
            format!("{bits} bits"),
            format!(
                "4 + {}/{} ({}): {} x {bits}/8 B + {} = {}; {} / {} = {:.2}x",
                format.bits,
                format.weights,
                format.adds,
                whole(layers),
                four(unchanged, "B"),
                four(bytes, "B"),
                four(streamed, "B"),
                four(bytes, "B"),
                streamed / bytes
            ),
        );
    }
    section.line("not so", "16/4 = 4x leaves out the scales and the head");
    section
}

//! What 4-bit weights would save: less than the ratio of the widths.

use super::{Case, Section};
use crate::model::{DType, Precision};
use crate::predict::arithmetic::Grouped;
use crate::predict::figure::{four, whole};

/// 4-bit formats with what each group adds.
const FORMATS: [(Grouped, &str); 2] = [
    (Grouped { weight: 4.0, group: 32.0, adds: 16.0, head: false }, "a 16-bit scale per 32 weights"),
    (
        Grouped { weight: 4.0, group: 128.0, adds: 32.0, head: false },
        "a 16-bit scale and zero per 128 weights",
    ),
];

pub(super) fn int4(case: &Case) -> Section {
    let m = case.model;
    let streamed = m.streamed_bytes(Precision::BF16).0;
    let layers = f64::from(m.layers) * m.layer_matrix_parameters();
    let unchanged = (m.head_parameters() + m.norm_parameters()) * DType::Bf16.bytes();
    let mut section = Section::new(
        "int4 weights in the layers, head in bf16: the most that decode can gain at batch 1, context 0",
    );
    for (format, adds) in FORMATS {
        let (bits, bytes) = (format.bits(), format.streamed(m).0);
        section.line(
            format!("{bits} bits"),
            format!(
                "4 + {}/{} ({}): {} x {bits}/8 B + {} = {}; {} / {} = {:.2}x",
                format.adds,
                format.group,
                adds,
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

//! The same model on every card of the catalogue.

use super::{Case, Section};
use crate::device::DeviceProfile;
use crate::model::{DType, Precision};
use crate::predict::arithmetic::ceiling;
use crate::predict::figure::{four, tokens};
use crate::units::{Bytes, figures};

pub(super) fn cards(case: &Case, cards: &[&DeviceProfile]) -> Section {
    let m = case.model;
    let (streamed, resident) = (m.streamed_bytes(Precision::BF16), m.resident_bytes(Precision::BF16));
    let mut section = Section::new("Ridge and wall (batch 1, context 0) by card, from their datasheets");
    for card in cards {
        let Some(roof) = card.roofline(DType::Bf16) else { continue };
        let here = if card.name == case.device.name { "  <- this one" } else { "" };
        let fits = if resident.0 > card.memory.value { "  (does not fit)" } else { "" };
        section.line(
            card.name.clone(),
            format!(
                "{:>13} / {:>10} = {:>4} FLOP/B   {:>11}{fits}{here}",
                four(roof.peak.0, "FLOP/s"),
                four(roof.bandwidth.0, "B/s"),
                figures(roof.ridge().0),
                tokens(ceiling(roof.bandwidth.0, streamed, Bytes(0.0))),
            ),
        );
    }
    section
}

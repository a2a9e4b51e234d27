//! Rotary frequencies, for every backend.

use std::f64::consts::TAU;

use crate::model::ModelSpec;

/// Radians per position of rotary pair `i`, with Llama-3's stretching where the model has it.
pub(super) fn frequency(model: &ModelSpec, i: u32) -> f64 {
    let plain = model.rope_theta.powf(-2.0 * f64::from(i) / f64::from(model.head_dim));
    let Some(s) = &model.rope_scaling else { return plain };
    let wavelength = TAU / plain;
    let original = f64::from(s.original_max_position);
    if wavelength < original / s.high_freq_factor {
        return plain;
    }
    if wavelength > original / s.low_freq_factor {
        return plain / s.factor;
    }
    let smooth = (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    plain * ((1.0 - smooth) / s.factor + smooth)
}

/// Turns per position of each pair of a head, in 2^-64 of a turn. Multiplied by a position in 64 bits, whole
/// turns fall off at the top and what is left is the angle, exact to 2^-36 of a turn at position 131072.
pub(super) fn turns(model: &ModelSpec) -> Vec<u64> {
    (0..model.head_dim / 2).map(|i| (frequency(model, i) / TAU * 2f64.powi(64)).round() as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RopeScaling;

    #[test]
    fn an_angle_from_turns_is_the_angle() {
        let stretched = RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position: 8192,
        };
        let model = ModelSpec {
            name: "x".into(),
            hidden: 128,
            ffn: 64,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 128,
            vocab: 64,
            tied_embeddings: true,
            rope_theta: 500_000.0,
            rope_scaling: Some(stretched),
            norm_eps: 1e-5,
            max_position: 131_072,
            source: String::new(),
        };
        for position in [0u64, 1, 63, 8191, 131_071] {
            for (i, turns) in turns(&model).into_iter().enumerate() {
                let fraction = turns.wrapping_mul(position) as f64 / 2f64.powi(64);
                let angle = position as f64 * frequency(&model, i as u32) / TAU;
                let apart = (fraction - angle.rem_euclid(1.0)).abs();
                assert!(apart.min(1.0 - apart) < 1e-9, "pair {i} at {position}");
            }
        }
    }
}

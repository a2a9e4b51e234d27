//! Rotary position embedding: which angle each pair of elements turns by.

use std::f64::consts::TAU;

use crate::model::ModelSpec;

/// Radians per position of each of a head's `head_dim / 2` pairs, with Llama-3's stretching where the model
/// has it.
pub(super) fn frequencies(spec: &ModelSpec) -> Vec<f64> {
    let width = f64::from(spec.head_dim);
    (0..spec.head_dim / 2)
        .map(|i| {
            let frequency = spec.rope_theta.powf(-f64::from(2 * i) / width);
            let Some(scaling) = &spec.rope_scaling else {
                return frequency;
            };
            // How many wavelengths the original context held: many stay, few are stretched, between the two
            // the stretching sets in linearly.
            let turns = f64::from(scaling.original_max_position) * frequency / TAU;
            let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / scaling.factor)
        })
        .collect()
}

/// Turns one head in place. Element i pairs with element i + half, as Hugging Face lays heads out.
pub(super) fn rotate(head: &mut [f64], frequencies: &[f64], position: u32) {
    let half = frequencies.len();
    for (i, frequency) in frequencies.iter().enumerate() {
        let (sin, cos) = (f64::from(position) * frequency).sin_cos();
        let (a, b) = (head[i], head[i + half]);
        head[i] = a * cos - b * sin;
        head[i + half] = b * cos + a * sin;
    }
}

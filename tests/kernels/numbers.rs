//! Seeded values and errors.

pub use llmroof::backend::weights::{from_bf16, to_bf16};

/// `count` values that are close to normal with this deviation, as bf16 bits; none is zero.
pub fn normals(seed: u64, count: usize, deviation: f64) -> Vec<u16> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            let sum: u64 = (0..4).map(|i| z >> (16 * i) & 0xffff).sum();
            let normal = (sum as f64 / 65_536.0 - 2.0) * 3f64.sqrt();
            to_bf16((deviation * if normal == 0.0 { 1e-3 } else { normal }) as f32)
        })
        .collect()
}

/// The exact values of bf16 bits.
pub fn wide(bits: &[u16]) -> Vec<f64> {
    bits.iter().map(|&bits| f64::from(from_bf16(bits))).collect()
}

/// ||out - reference|| / ||reference||; infinite for what is no number.
pub fn relative_error(out: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(out.len(), reference.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error =
        norm(&mut out.iter().zip(reference).map(|(a, b)| a - b)) / norm(&mut reference.iter().copied());
    if error.is_nan() { f64::INFINITY } else { error }
}

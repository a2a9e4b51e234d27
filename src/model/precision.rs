//! The element types that a model runs with, and how weights and keys are made narrower.
//!
//! Quantisation is symmetric and to nearest: no zero point, so that a dot product needs one multiplication by a scale.
//! - int8: one f32 scale for each row of a matrix (output channel), codes -127 to 127.
//! - int4: one bf16 scale for each [`GROUP`] columns of a row, codes -7 to 7.
//! - fp8 (e4m3): one f32 scale for each row, the largest weight at 448.
//! - key/value cache, int8 or fp8: one f32 scale for each head of each position.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DType, ModelSpec, Tensor};
use crate::error::{Failure, Result};

/// Columns that share a scale in int4.
pub const GROUP: u32 = 128;
/// Bytes of the scale of a row, or of a head's key or value.
pub const ROW_SCALE_BYTES: f64 = 4.0;
/// Bytes of the scale of a group.
pub const GROUP_SCALE_BYTES: f64 = 2.0;
/// Largest finite value of e4m3.
const FP8_MOST: f32 = 448.0;

/// The element types that a model runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Precision {
    /// Of the layers' matrices.
    pub weights: DType,
    /// Of the head's matrix. Norms and the embedding are bf16 throughout.
    pub head: DType,
    /// What goes into products with weights: bf16, f32, or int8 quantised per token. With f32 everything stays f32; with
    /// int8 everything but these products is bf16.
    pub activations: DType,
    /// Of the key/value cache.
    pub kv: DType,
}

impl Precision {
    /// Everything in bf16.
    pub const BF16: Precision =
        Precision { weights: DType::Bf16, head: DType::Bf16, activations: DType::Bf16, kv: DType::Bf16 };

    /// bf16 weights with these activations, which the cache is held in too.
    pub fn unquantised(activations: DType) -> Precision {
        Precision { activations, kv: activations, ..Precision::BF16 }
    }

    /// Whether any weights or the cache are quantised.
    pub fn is_quantised(self) -> bool {
        [self.weights, self.head, self.kv].into_iter().any(DType::is_quantised)
    }

    /// Type of the values that cross from stage to stage.
    pub fn border(self) -> DType {
        if self.activations.is_quantised() { DType::Bf16 } else { self.activations }
    }

    /// Type of the numbers that a GPU multiplies in products with the layers' weights, whose peak is the roof.
    pub fn multiplied(self) -> DType {
        if self.activations.is_quantised() { self.activations } else { DType::Bf16 }
    }

    /// `int4`, `int8 weights, bf16 head, int8 cache`: what differs from bf16.
    pub fn name(self) -> String {
        let mut parts = vec![format!("{} weights", self.weights)];
        if self.head != self.weights {
            parts.push(format!("{} head", self.head));
        }
        if self.activations != DType::Bf16 {
            parts.push(format!("{} activations", self.activations));
        }
        if self.kv != self.border() {
            parts.push(format!("{} cache", self.kv));
        }
        parts.join(", ")
    }

    /// Checks that the types go together and fit the model.
    ///
    /// # Errors
    /// int4 on a width that no group divides, f32 or int8 activations that go with other weights, a cache that is
    /// none: what is possible instead is in the hint.
    pub fn check(self, model: &ModelSpec) -> Result<()> {
        for (what, dtype, tensors) in [
            ("--weights", self.weights, &[Tensor::Q, Tensor::O, Tensor::Gate, Tensor::Down][..]),
            ("--head", self.head, &[Tensor::Head][..]),
        ] {
            if !matches!(dtype, DType::Bf16 | DType::Int8 | DType::Int4 | DType::Fp8) {
                return Err(Failure::input(format!("{what} {dtype} does not exist"))
                    .hint("give bf16, int8, int4 or fp8"));
            }
            if dtype != DType::Int4 {
                continue;
            }
            for &tensor in tensors {
                let columns = tensor.shape(model).1;
                if !columns.is_multiple_of(GROUP) {
                    return Err(Failure::input(format!(
                        "{what} int4 has groups of {GROUP} columns, {} has a matrix of {columns}",
                        model.name
                    ))
                    .hint(format!(
                        "give {what} int8 or bf16; int4 needs widths that are multiples of {GROUP}"
                    )));
                }
            }
        }
        let weights_are_bf16 = self.weights == DType::Bf16 && self.head == DType::Bf16;
        match self.activations {
            DType::Bf16 => {}
            DType::F32 if weights_are_bf16 && self.kv == DType::F32 => {}
            DType::F32 => {
                return Err(Failure::input(format!("f32 activations do not go with {}", self.name()))
                    .hint("f32 is for bf16 weights and an f32 cache; give --activations bf16"));
            }
            DType::Int8 if self.weights.is_quantised() => {}
            other => {
                return Err(Failure::input(format!(
                    "{other} activations do not go with {} weights",
                    self.weights
                ))
                .hint("int8 activations need --weights int8 or int4; otherwise give bf16 or f32"));
            }
        }
        if self.kv != self.border() && !matches!(self.kv, DType::Int8 | DType::Fp8) {
            return Err(
                Failure::input(format!("--kv {} does not exist", self.kv)).hint("give bf16, int8 or fp8")
            );
        }
        Ok(())
    }
}

impl From<DType> for Precision {
    /// bf16 weights with these activations.
    fn from(activations: DType) -> Precision {
        Precision::unquantised(activations)
    }
}

impl DType {
    /// Whether values of it need a scale beside them.
    pub fn is_quantised(self) -> bool {
        matches!(self, DType::Int8 | DType::Int4 | DType::Fp8)
    }

    /// Bytes of a matrix of this type with its scales.
    pub fn matrix_bytes(self, rows: u32, columns: u32) -> f64 {
        let (rows, columns) = (f64::from(rows), f64::from(columns));
        let scales = match self {
            DType::Int8 | DType::Fp8 => rows * ROW_SCALE_BYTES,
            DType::Int4 => rows * columns / f64::from(GROUP) * GROUP_SCALE_BYTES,
            _ => 0.0,
        };
        rows * columns * self.bytes() + scales
    }

    /// Type of the norms and the embedding beside matrices of this type.
    pub fn beside(self) -> DType {
        if self.is_quantised() { DType::Bf16 } else { self }
    }

    /// Columns of a row of `columns` that share a scale.
    pub fn group(self, columns: usize) -> usize {
        if self == DType::Int4 { GROUP as usize } else { columns }
    }
}

/// Codes and scale of values that share one: `values[i]` is about `value(dtype, codes[i]) x scale`. Codes of int4 are
/// one to a byte. All zeros have the scale 0.
pub fn quantise(dtype: DType, values: &[f32], codes: &mut [u8]) -> f32 {
    let most = values.iter().fold(0f32, |most, value| most.max(value.abs()));
    let scale = match dtype {
        DType::Int4 => round_to_bf16(most / 7.0),
        DType::Fp8 => most / FP8_MOST,
        _ => most / 127.0,
    };
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    match dtype {
        DType::Int4 => round_to_codes(values, inverse, 7.0, codes),
        DType::Fp8 => {
            for (code, value) in codes.iter_mut().zip(values) {
                *code = to_fp8(value * inverse);
            }
        }
        _ => round_to_codes(values, inverse, 127.0, codes),
    }
    scale
}

/// The nearest integers of `values x inverse` within `most`, ties to even, as signed bytes.
///
/// A model has billions of them, so no call into libm for each: added to 1.5 x 2^23, where neighbouring floats are one
/// apart, a value is rounded by the addition and stands in the lowest bits.
fn round_to_codes(values: &[f32], inverse: f32, most: f32, codes: &mut [u8]) {
    const ONE_APART: f32 = 12_582_912.0;
    for (code, value) in codes.iter_mut().zip(values) {
        *code = ((value * inverse).clamp(-most, most) + ONE_APART).to_bits() as u8;
    }
}

/// The value of a code, without its scale.
pub fn value(dtype: DType, code: u8) -> f32 {
    match dtype {
        DType::Fp8 => from_fp8(code),
        _ => f32::from(code as i8),
    }
}

/// The nearest bf16, ties to even.
fn round_to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

/// The nearest e4m3, ties to even; beyond 448 it is 448.
pub fn to_fp8(value: f32) -> u8 {
    let sign = ((value.to_bits() >> 24) & 0x80) as u8;
    let size = value.abs().min(FP8_MOST);
    // The distance between neighbours: 2^-9 below 2^-6, then an eighth of the power of two below.
    let exponent = (size.to_bits() >> 23) as i32 - 127;
    let step = 2f32.powi(exponent.max(-6) - 3);
    let steps = (size / step).round_ties_even();
    // Rounded up to the next power of two the same value has another exponent.
    let rounded = steps * step;
    let exponent = (rounded.to_bits() >> 23) as i32 - 127;
    if exponent < -6 {
        return sign | (rounded / 2f32.powi(-9)) as u8;
    }
    let mantissa = (rounded.to_bits() >> 20) & 7;
    sign | ((exponent + 7) as u8) << 3 | mantissa as u8
}

/// The value of these e4m3 bits; 0x7f and 0xff are no numbers.
pub fn from_fp8(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let size = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_fp8_number_is_its_own_nearest() {
        for bits in (0..=255u8).filter(|bits| bits & 0x7f != 0x7f) {
            assert_eq!(to_fp8(from_fp8(bits)), bits, "{bits:#x} is {}", from_fp8(bits));
        }
        assert_eq!((from_fp8(0x7e), from_fp8(0x38), from_fp8(1)), (448.0, 1.0, 1.0 / 512.0));
        assert_eq!((to_fp8(1e9), to_fp8(-1e9), to_fp8(464.0)), (0x7e, 0xfe, 0x7e));
    }

    proptest! {
        #[test]
        fn nothing_is_further_than_half_a_step(values in prop::collection::vec(-50f32..50.0, 1..256)) {
            let most = values.iter().fold(0f32, |most, value| most.max(value.abs()));
            for (dtype, part) in [(DType::Int8, 0.51 / 127.0), (DType::Int4, 0.52 / 7.0), (DType::Fp8, 0.51 / 14.0)] {
                let mut codes = vec![0; values.len()];
                let scale = quantise(dtype, &values, &mut codes);
                for (&code, wanted) in codes.iter().zip(&values) {
                    let got = value(dtype, code) * scale;
                    prop_assert!((got - wanted).abs() <= part * most, "{dtype}: {got} for {wanted}");
                }
            }
        }

        #[test]
        fn fp8_is_the_nearest_of_all_its_numbers(value in -500f32..500.0) {
            let nearest = (0..=255u8)
                .map(from_fp8)
                .filter(|x| x.is_finite())
                .map(|x| (x - value.clamp(-448.0, 448.0)).abs())
                .fold(f32::INFINITY, f32::min);
            let got = from_fp8(to_fp8(value));
            prop_assert!(((got - value.clamp(-448.0, 448.0)).abs() - nearest).abs() < 1e-6);
        }
    }

    #[test]
    fn codes_are_rounded_as_the_standard_library_rounds() {
        let values: Vec<f32> =
            (-1300..=1300).map(|i| i as f32 / 10.0).chain([-0.0, 1e-30, 0.49999997]).collect();
        let mut codes = vec![0; values.len()];
        round_to_codes(&values, 1.0, 127.0, &mut codes);
        for (&code, value) in codes.iter().zip(&values) {
            assert_eq!(f32::from(code as i8), value.round_ties_even().clamp(-127.0, 127.0), "{value}");
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for dtype in [DType::Int8, DType::Int4, DType::Fp8] {
            let mut codes = [9; 4];
            assert_eq!(quantise(dtype, &[0.0; 4], &mut codes), 0.0);
            assert!(codes.iter().all(|&code| value(dtype, code) == 0.0));
        }
    }
}

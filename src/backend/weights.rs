//! Where weights come from: seeded random normals, or a checkpoint.

pub use crate::model::Tensor;

/// Gives weights row by row, to many threads at once.
pub trait WeightSource: Sync {
    /// Writes one row as bf16 bits. Norms are one row; `layer` is 0 for tensors outside the layers.
    /// A layer beyond the source's last gives distinct values of the same kind (copies of the model).
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]);
}

/// bf16 bits of `value`, rounded to nearest even. NaN stays NaN.
#[inline]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The value of these bf16 bits; exact.
#[inline]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

//! How activations and the KV cache are held: the three number formats of the kernels.

use crate::backend::weights::{from_bf16, to_bf16};

/// Element of the packed activations; decides the element of the KV cache too.
///
/// A KV panel holds 32 rows of `k` elements, half a panel 16, in an order of its own, given by [`Activation::kv_index`].
pub trait Activation: Copy + Send + Sync + 'static {
    /// Element of the KV cache.
    type Kv: Copy + Send + Sync + 'static;
    /// Packs a value, rounding it as the format says.
    fn new(value: f32) -> Self;
    /// The packed value.
    fn value(self) -> f32;
    /// Packs a value for the KV cache.
    fn kv(value: f32) -> Self::Kv;
    /// A value of the KV cache.
    fn kv_value(element: Self::Kv) -> f32;
    /// Where row `row` of the `rows` (16 or 32) of a panel keeps its element `k`.
    fn kv_index(rows: usize, row: usize, k: usize) -> usize;
}

/// Where row `row` of the `rows` (16 or 32) of a bf16 panel keeps its element `k`: `[k/2][lines][16 rows][2]`.
#[inline(always)]
pub fn panel_index(rows: usize, row: usize, k: usize) -> usize {
    (k / 2) * 2 * rows + row * 2 + k % 2
}

/// bf16 bits, two to a lane of the dot-product instruction.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Bf16(u16);

/// An f32 that was rounded to bf16, for instruction sets without bf16 dot products.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Rounded(f32);

/// A plain f32; the KV cache is f32 too.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Full(f32);

/// `to_bf16` for finite values: no branch, so that loops over it vectorise.
#[inline(always)]
pub fn round_finite(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

impl Activation for Bf16 {
    type Kv = u16;
    #[inline(always)]
    fn new(value: f32) -> Self {
        Bf16(round_finite(value))
    }
    #[inline(always)]
    fn value(self) -> f32 {
        from_bf16(self.0)
    }
    #[inline(always)]
    fn kv(value: f32) -> u16 {
        to_bf16(value)
    }
    #[inline(always)]
    fn kv_value(element: u16) -> f32 {
        from_bf16(element)
    }
    #[inline(always)]
    fn kv_index(rows: usize, row: usize, k: usize) -> usize {
        panel_index(rows, row, k)
    }
}

impl Activation for Rounded {
    type Kv = u16;
    #[inline(always)]
    fn new(value: f32) -> Self {
        Rounded(from_bf16(round_finite(value)))
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self.0
    }
    #[inline(always)]
    fn kv(value: f32) -> u16 {
        to_bf16(value)
    }
    #[inline(always)]
    fn kv_value(element: u16) -> f32 {
        from_bf16(element)
    }
    #[inline(always)]
    fn kv_index(rows: usize, row: usize, k: usize) -> usize {
        panel_index(rows, row, k)
    }
}

impl Activation for Full {
    type Kv = f32;
    #[inline(always)]
    fn new(value: f32) -> Self {
        Full(value)
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self.0
    }
    #[inline(always)]
    fn kv(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn kv_value(element: f32) -> f32 {
        element
    }
    #[inline(always)]
    fn kv_index(rows: usize, row: usize, k: usize) -> usize {
        k * rows + row
    }
}

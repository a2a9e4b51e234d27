//! What the kernels are given: the structs of `kernels/stages.cuh` and `kernels/attention.cuh`, field by field.
//! A kernel takes one of them by value as its only parameter; addresses are device addresses, 0 is none.

use bytemuck::{Pod, Zeroable};

use crate::backend::cuda::driver::Address;

/// `struct Linear` of `kernels/stages.cuh`, which says what each field is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct LinearArgs {
    pub x: Address,
    pub norm: Address,
    pub w0: Address,
    pub w1: Address,
    pub w2: Address,
    pub y: Address,
    pub keys: Address,
    pub values: Address,
    pub turns: Address,
    pub start: Address,
    pub logits: Address,
    pub chosen: Address,
    pub best: Address,
    pub partial: Address,
    pub arrivals: Address,
    pub rows: u32,
    pub k: u32,
    pub n: u32,
    pub x_stride: u32,
    pub tokens: u32,
    pub head_dim: u32,
    pub q_width: u32,
    pub kv_width: u32,
    pub capacity: u32,
    pub splits: u32,
    pub eps: f32,
    pub sequences: u32,
    pub page_shift: u32,
    pub reserved: u32,
    pub s0: Address,
    pub s1: Address,
    pub s2: Address,
    pub pages: Address,
    pub fresh: Address,
    pub key_scales: Address,
    pub value_scales: Address,
    pub x_scales: Address,
}

/// `struct Attention` of `kernels/attention.cuh`, which says what each field is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AttentionArgs {
    pub q: Address,
    pub keys: Address,
    pub values: Address,
    pub out: Address,
    pub start: Address,
    pub partial: Address,
    pub arrivals: Address,
    pub sequences: u32,
    pub tokens: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub capacity: u32,
    pub splits: u32,
    pub scale: f32,
    pub page_shift: u32,
    pub pages: Address,
    pub key_scales: Address,
    pub value_scales: Address,
}

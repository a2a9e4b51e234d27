//! Matrices as the kernels take them, made on the host from `src/model/precision.rs` and the layout that
//! `kernels/weights.cuh` describes.

use llmroof::backend::cuda::driver::Address;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::weights::WeightSource;
use llmroof::model::precision::{GROUP, quantise, value};
use llmroof::model::{DType, Tensor};

use crate::gpu::InterpretedGpu;
use crate::numbers::{from_bf16, normals, to_bf16, wide};

/// Formats with scales.
pub const QUANTISED: [Format; 3] = [Format::Int8, Format::Int4, Format::Fp8];

/// The type that a format is of.
pub fn dtype(format: Format) -> DType {
    match format {
        Format::Bf16 => DType::Bf16,
        Format::Int8 => DType::Int8,
        Format::Int4 => DType::Int4,
        Format::Fp8 => DType::Fp8,
    }
}

/// A matrix.
pub struct Held {
    pub codes: Vec<u8>,
    pub scales: Vec<u8>,
    /// What codes and scales stand for.
    pub values: Vec<f64>,
}

impl Held {
    /// Rows of `k` bf16 values in a format.
    pub fn new(format: Format, rows: &[u16], k: usize) -> Held {
        if format == Format::Bf16 {
            return Held {
                codes: bytemuck::cast_slice(rows).to_vec(),
                scales: Vec::new(),
                values: wide(rows),
            };
        }
        let dtype = dtype(format);
        let count = rows.len() / k;
        let row_bytes = format.row_bytes(k as u32) as usize;
        let mut held = Held {
            codes: vec![0; count * row_bytes],
            scales: vec![0; format.scale_bytes(count as u32, k as u32) as usize],
            values: Vec::new(),
        };
        for (row, values) in rows.chunks_exact(k).enumerate() {
            let group = dtype.group(k);
            for (number, values) in values.chunks_exact(group).enumerate() {
                let values: Vec<f32> = values.iter().map(|&bits| from_bf16(bits)).collect();
                let mut codes = vec![0; group];
                let scale = quantise(dtype, &values, &mut codes);
                let of_code = |&code: &u8| f64::from(value(dtype, code)) * f64::from(scale);
                held.values.extend(codes.iter().map(of_code));
                if format == Format::Int4 {
                    let at = ((row / 8) * (k / GROUP as usize) + number) * 8 + row % 8;
                    held.scales[2 * at..][..2].copy_from_slice(&to_bf16(scale).to_le_bytes());
                } else {
                    held.scales[4 * row..][..4].copy_from_slice(&scale.to_le_bytes());
                }
                for (eight, codes) in codes.chunks_exact(8).enumerate() {
                    let column = number * group + eight * 8;
                    let to = &mut held.codes[row * row_bytes..][..row_bytes];
                    if format == Format::Int4 {
                        let order = [0, 2, 4, 6, 1, 3, 5, 7];
                        let four = order.iter().enumerate();
                        let packed =
                            four.fold(0u32, |bits, (i, &c)| bits | u32::from(codes[c] & 15) << (4 * i));
                        to[column / 2..][..4].copy_from_slice(&packed.to_le_bytes());
                    } else {
                        for (i, c) in [0, 2, 1, 3, 4, 6, 5, 7].into_iter().enumerate() {
                            to[column + i] = codes[c];
                        }
                    }
                }
            }
        }
        held
    }

    /// Puts it on a GPU: addresses of codes and scales.
    pub fn upload(&self, gpu: &mut InterpretedGpu, codes: &str, scales: &str) -> (Address, Address) {
        let at = gpu.upload(&self.codes, codes);
        (at, if self.scales.is_empty() { 0 } else { gpu.upload(&self.scales, scales) })
    }
}

/// Bytes of the codes that are no padding.
pub fn code_bytes(format: Format, rows: u64, k: u64) -> u64 {
    rows * k * 16 / u64::from(format.columns())
}

/// Values of which none has a code that is zero, in rows and groups of different scales.
pub fn spread(seed: u64, k: usize, count: usize, deviation: f64) -> Vec<u16> {
    let values = wide(&normals(seed, count, 1.0));
    let scaled = values.iter().enumerate().map(|(at, value)| {
        let (row, group) = (at / k, at % k / GROUP as usize);
        let factor = [1.0, 0.4, 1.6][(row + 2 * group) % 3] * deviation;
        value.signum() * (0.3 + 0.7 * (value.abs() * 1.7).fract()) * factor
    });
    scaled.map(|value| to_bf16(value as f32)).collect()
}

/// A source of such values.
pub struct Spread;

impl WeightSource for Spread {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        let seed = (tensor as u64) << 40 ^ u64::from(layer) << 32 ^ u64::from(row);
        let deviation = if tensor == Tensor::Embedding { 1.0 } else { 1.5 / (out.len() as f64).sqrt() };
        out.copy_from_slice(&spread(seed << 8, out.len(), out.len(), deviation));
    }
}

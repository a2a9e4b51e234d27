//! Quantising on the device: bit for bit what the reference takes.

use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::launch::quantise::{self, Target};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::held::{Held, QUANTISED};
use crate::numbers::normals;

/// Quantises on the device, in these parts.
fn quantised(gpu: Gpu, format: Format, values: &[u16], k: u32, parts: &[u32]) -> (Vec<u8>, Vec<u8>) {
    let rows = values.len() as u32 / k;
    let mut gpu = InterpretedGpu::new(gpu);
    let from = gpu.upload(values, "from");
    let (code_bytes, scale_bytes) = (format.code_bytes(rows, k), format.scale_bytes(rows, k));
    let codes = gpu.allocate(code_bytes, "codes").unwrap();
    let scales = gpu.allocate(scale_bytes, "scales").unwrap();
    let mut first = 0;
    for &count in parts {
        let part = from + 2 * u64::from(first) * u64::from(k);
        gpu.launch(&quantise::rows(part, Target { format, codes, scales }, first, count, k)).unwrap();
        first += count;
    }
    assert_eq!(first, rows);
    assert!(gpu.profiles.iter().all(|(_, profile)| profile.local_bytes == 0));
    (gpu.download(codes, code_bytes as usize), gpu.download(scales, scale_bytes as usize))
}

#[test]
fn codes_and_scales_are_those_of_the_reference() {
    for format in QUANTISED {
        // A row that ends in half a piece; more groups than a block takes at once; rows that fill no piece of scales.
        let widths: &[usize] = if format == Format::Int4 { &[128, 1152] } else { &[136, 1152] };
        for &k in widths {
            let rows = 21;
            let mut values = normals(k as u64, rows * k, 0.03);
            // Zeros alone, one value alone, what is at ties, what is far apart.
            values[..k].fill(0);
            values[k..2 * k].fill(0);
            values[k + 3] = 0xbf80;
            for (i, value) in values[2 * k..3 * k].iter_mut().enumerate() {
                *value = llmroof::backend::weights::to_bf16(i as f32 % 29.0 / 4.0 - 3.5);
            }
            for (i, value) in values[3 * k..4 * k].iter_mut().enumerate() {
                *value = llmroof::backend::weights::to_bf16(2f32.powi(-(i as i32 % 30)));
            }
            let held = Held::new(format, &values, k);
            for (gpu, parts) in [(a100(), &[21][..]), (h100(), &[8, 8, 5])] {
                let (codes, scales) = quantised(gpu, format, &values, k as u32, parts);
                assert_eq!(codes, held.codes, "{format:?}, {k} columns");
                assert_eq!(scales, held.scales, "{format:?}, {k} columns");
            }
        }
    }
}

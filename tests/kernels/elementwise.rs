//! Embedding look-up and RMS norm against float64, with what they move.

use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::elementwise::{EmbedArgs, RmsNormArgs, embed, rms_norm};
use ptx_interpreter::Traffic;

use super::gpu::{InterpretedGpu, a100, h100};
use super::numbers::{normals, relative_error, wide};

fn traffic<'a>(gpu: &'a InterpretedGpu, name: &str) -> &'a Traffic {
    let (_, profile) = gpu.profiles.last().expect("a launch");
    assert_eq!(profile.local_bytes, 0);
    profile.traffic.iter().find(|traffic| traffic.name == name).expect("touched")
}

#[test]
fn embed_copies_the_rows_of_the_tokens() {
    for (gpu, k) in [(a100(), 72), (a100(), 4104), (h100(), 4096)] {
        let vocabulary = 11;
        let table = normals(1, vocabulary * k, 1.0);
        let tokens: Vec<u32> = vec![10, 0, 7, 3, 5];

        let mut gpu = InterpretedGpu::new(gpu);
        let args = EmbedArgs {
            table: gpu.upload(&table, "table"),
            tokens: gpu.upload(&tokens, "tokens"),
            residual: gpu.allocate((tokens.len() * k * 2) as u64, "residual").unwrap(),
            k: k as u32,
            reserved: 0,
        };
        gpu.launch(&embed(tokens.len() as u32, args)).unwrap();

        let expected: Vec<u16> =
            tokens.iter().flat_map(|&token| &table[token as usize * k..][..k]).copied().collect();
        assert_eq!(gpu.download::<u16>(args.residual, tokens.len() * k), expected);
        let bytes = (tokens.len() * k * 2) as u64;
        assert_eq!((traffic(&gpu, "table").read, traffic(&gpu, "table").unique_read), (bytes, bytes));
        assert_eq!(
            (traffic(&gpu, "residual").written, traffic(&gpu, "residual").unique_written),
            (bytes, bytes)
        );
    }
}

/// Norms `rows` rows of `k`, every `every`-th of those that there are.
fn check_norm(gpu: Gpu, rows: usize, k: usize, every: usize) {
    let x = normals(2, rows * every * k, 3.0);
    let norm = normals(3, k, 1.0);
    let eps = 1e-5;

    let mut gpu = InterpretedGpu::new(gpu);
    let first = (every - 1) * k * 2; // the last row of the first group
    let args = RmsNormArgs {
        x: gpu.upload(&x, "x") + first as u64,
        norm: gpu.upload(&norm, "norm"),
        normed: gpu.allocate((rows * k * 2) as u64, "normed").unwrap(),
        k: k as u32,
        x_stride: (every * k) as u32,
        eps,
        reserved: 0,
    };
    gpu.launch(&rms_norm(rows as u32, args)).unwrap();

    let normed = gpu.download::<u16>(args.normed, rows * k);
    for row in 0..rows {
        let x = wide(&x[(row * every + every - 1) * k..][..k]);
        let mean = x.iter().map(|x| x * x).sum::<f64>() / k as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        let expected: Vec<f64> = x.iter().zip(wide(&norm)).map(|(x, norm)| x * scale * norm).collect();
        let error = relative_error(&wide(&normed[row * k..][..k]), &expected);
        assert!(error < 3e-3, "row {row} of {k}: {error}");
    }
    let bytes = (rows * k * 2) as u64;
    assert_eq!(traffic(&gpu, "x").unique_read, bytes);
    assert_eq!(traffic(&gpu, "norm").unique_read, (k * 2) as u64);
    assert_eq!((traffic(&gpu, "normed").written, traffic(&gpu, "normed").unique_written), (bytes, bytes));
    if k <= 32_768 {
        assert_eq!(traffic(&gpu, "x").read, bytes, "held in registers between the passes");
    }
}

#[test]
fn rms_norm_of_rows() {
    check_norm(a100(), 3, 72, 1);
    check_norm(a100(), 5, 2048, 1);
    check_norm(h100(), 2, 4104, 1);
}

#[test]
fn rms_norm_of_every_sequences_last_row() {
    check_norm(a100(), 3, 520, 7);
}

#[test]
fn rms_norm_of_rows_that_registers_do_not_hold() {
    check_norm(a100(), 2, 32_768, 1);
    check_norm(a100(), 2, 40_008, 1);
}

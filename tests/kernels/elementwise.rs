//! Embedding look-up, RMS norm, and what follows a product of cuBLASLt, against float64, with what they move.

use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::args::LinearArgs;
use llmroof::backend::cuda::launch::elementwise::{
    EmbedArgs, RmsNormArgs, embed, rms_norm, rotate_append, silu_multiply,
};
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

#[test]
fn silu_multiply_of_stored_products() {
    // The last with a row that is longer than its products.
    for (gpu, rows, n, x_stride) in [(a100(), 3, 392, 784), (h100(), 2, 2056, 4112), (a100(), 5, 8, 24)] {
        let x = normals(4, rows * x_stride, 3.0);
        let mut gpu = InterpretedGpu::new(gpu);
        let args = LinearArgs {
            x: gpu.upload(&x, "x"),
            y: gpu.allocate((rows * n * 2) as u64, "y").unwrap(),
            rows: rows as u32,
            n: n as u32,
            x_stride: x_stride as u32,
            ..LinearArgs::default()
        };
        gpu.launch(&silu_multiply(args)).unwrap();

        let y = gpu.download::<u16>(args.y, rows * n);
        for (y, x) in y.chunks_exact(n).zip(x.chunks_exact(x_stride)) {
            let (gate, up) = (wide(&x[..n]), wide(&x[n..2 * n]));
            let expected: Vec<f64> =
                gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            let error = relative_error(&wide(y), &expected);
            assert!(error < 3e-3, "{n}: {error}");
        }
        let bytes = (rows * n * 2) as u64;
        let (x, y) = (traffic(&gpu, "x"), traffic(&gpu, "y"));
        assert_eq!((x.read, x.unique_read), (2 * bytes, 2 * bytes));
        assert_eq!((y.written, y.unique_written), (bytes, bytes));
        assert!(x.widths.keys().eq([&16]) && y.widths.keys().eq([&16]));
    }
}

/// Stored q, k and v of new tokens of sequences that begin at these positions: `(tokens, further)`, so many for each
/// and further ones for the last.
fn check_rotate(
    gpu: Gpu,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    (tokens, further): (usize, usize),
    start: &[u32],
) {
    let (q_width, kv_width, capacity) = (heads * head_dim, kv_heads * head_dim, 300);
    let (rows, n, half) = (start.len() * tokens + further, q_width + 2 * kv_width, head_dim / 2);
    let x = normals(5, rows * n, 2.0);
    let cache = normals(6, start.len() * kv_width * capacity, 1.0);
    let frequency = |i: usize| 10_000f64.powf(-2.0 * i as f64 / head_dim as f64);
    let turns: Vec<u64> =
        (0..half).map(|i| (frequency(i) / std::f64::consts::TAU * 2f64.powi(64)) as u64).collect();

    let mut gpu = InterpretedGpu::new(gpu);
    let args = LinearArgs {
        x: gpu.upload(&x, "x"),
        y: gpu.allocate((rows * q_width * 2) as u64, "q").unwrap(),
        keys: gpu.upload(&cache, "keys"),
        values: gpu.upload(&cache, "values"),
        turns: gpu.upload(&turns, "turns"),
        start: gpu.upload(start, "start"),
        rows: rows as u32,
        n: n as u32,
        x_stride: n as u32,
        tokens: tokens as u32,
        sequences: start.len() as u32,
        head_dim: head_dim as u32,
        q_width: q_width as u32,
        kv_width: kv_width as u32,
        capacity: capacity as u32,
        ..LinearArgs::default()
    };
    gpu.launch(&rotate_append(args)).unwrap();

    let q = gpu.download::<u16>(args.y, rows * q_width);
    let held = [args.keys, args.values].map(|at| gpu.download::<u16>(at, cache.len()));
    let mut appended = [cache.clone(), cache.clone()];
    for (row, x) in x.chunks_exact(n).enumerate() {
        let sequence = (row / tokens).min(start.len() - 1);
        let position = start[sequence] as usize + row - sequence * tokens;
        for (head, stored) in x.chunks_exact(head_dim).enumerate() {
            let values = wide(stored);
            let turned = |i: usize| {
                let (sin, cos) = (position as f64 * frequency(i % half)).sin_cos();
                match i < half {
                    true => values[i] * cos - values[i + half] * sin,
                    false => values[i] * cos + values[i - half] * sin,
                }
            };
            let rotated: Vec<f64> = (0..head_dim).map(turned).collect();
            let line = |head: usize| ((sequence * kv_heads + head) * capacity + position) * head_dim;
            let (out, expected) = match head.checked_sub(heads) {
                None => (&q[row * q_width + head * head_dim..][..head_dim], rotated),
                Some(head) if head < kv_heads => (&held[0][line(head)..][..head_dim], rotated),
                Some(head) => {
                    let out = &held[1][line(head - kv_heads)..][..head_dim];
                    assert_eq!(out, stored, "values go in as they are");
                    (out, values.clone())
                }
            };
            let error = relative_error(&wide(out), &expected);
            assert!(error < 3e-3, "row {row}, head {head} of {head_dim}: {error}");
            if let Some(head) = head.checked_sub(heads) {
                let at = line(head % kv_heads);
                appended[head / kv_heads][at..][..head_dim].copy_from_slice(out);
            }
        }
    }
    assert_eq!(held, appended, "all else in the caches is as it was");
    let (x_bytes, q_bytes, kv_bytes) =
        ((rows * n * 2) as u64, (rows * q_width * 2) as u64, (rows * kv_width * 2) as u64);
    assert_eq!((traffic(&gpu, "x").read, traffic(&gpu, "x").unique_read), (x_bytes, x_bytes));
    for (name, bytes) in [("q", q_bytes), ("keys", kv_bytes), ("values", kv_bytes)] {
        let traffic = traffic(&gpu, name);
        assert_eq!((traffic.read, traffic.written, traffic.unique_written), (0, bytes, bytes), "{name}");
        assert!(traffic.widths.keys().eq([&16]));
    }
}

#[test]
fn rotate_append_of_stored_products() {
    check_rotate(a100(), 4, 2, 64, (43, 0), &[5, 0, 250]);
    check_rotate(h100(), 3, 1, 128, (7, 0), &[17]);
    // A decode step; a head that is no power of two; more pieces than a block has threads.
    check_rotate(a100(), 5, 1, 80, (1, 0), &[0, 1, 2, 299]);
    check_rotate(a100(), 32, 8, 128, (2, 0), &[100]);
    // A mixed step.
    check_rotate(h100(), 4, 2, 64, (1, 40), &[7, 7, 0]);
}

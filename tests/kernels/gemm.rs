//! Products of many token rows: every stage, with every tile, against float64, with what they move and compute.

use llmroof::backend::cuda::driver::Driver;
use llmroof::backend::cuda::launch::args::LinearArgs;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::launch::gemm::{self, Operands, Plan, Tile};
use llmroof::backend::cuda::launch::gemv::LinearStage;
use ptx_interpreter::{MatrixWork, Profile};

use super::gpu::{InterpretedGpu, a100, h100};
use super::held::{Held, QUANTISED, code_bytes, spread};
use super::numbers::{normals, relative_error, wide};

/// `[rows][n]` products of `x[rows][k]` and `w[n][k]`.
fn products(x: &Held, w: &Held, k: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    x.values.chunks_exact(k).flat_map(|x| w.values.chunks_exact(k).map(move |w| dot(x, w))).collect()
}

/// A random matrix of `k` columns in a format.
fn matrix(format: Format, seed: u64, rows: usize, k: usize) -> Held {
    let deviation = 1.0 / (k as f64).sqrt();
    let values = match format {
        Format::Bf16 => normals(seed, rows * k, deviation),
        _ => spread(seed, k, rows * k, 1.5 * deviation),
    };
    Held::new(format, &values, k)
}

/// Random activations of `k` columns, as a product of these takes them.
fn activations(operands: Operands, seed: u64, rows: usize, k: usize) -> Held {
    match operands {
        Operands::Weights(_) => Held::new(Format::Bf16, &normals(seed, rows * k, 1.0), k),
        Operands::Codes => Held::new(Format::Int8, &spread(seed, k, rows * k, 1.0), k),
    }
}

/// A width that operands have: int4 is in groups.
fn fitting(operands: Operands, k: usize) -> usize {
    if operands.format() == Format::Int4 { k.next_multiple_of(128) } else { k }
}

fn assert_rows_close(out: &[u16], expected: &[f64], width: usize) {
    let rows = wide(out);
    assert_eq!(rows.len(), expected.len());
    for (row, (out, expected)) in rows.chunks_exact(width).zip(expected.chunks_exact(width)).enumerate() {
        let error = relative_error(out, expected);
        assert!(error < 4e-3, "row {row}: {error}");
    }
}

/// Runs a product twice, so that counters that were not zero again would show, and checks what holds for all:
/// the padding is zeros, no bank conflicts, no local memory, each tile reads all of its inputs once, in pieces of
/// 16 bytes.
fn run(
    gpu: &mut InterpretedGpu,
    plan: Plan,
    stage: LinearStage,
    mut args: LinearArgs,
    again: impl Fn(&mut InterpretedGpu),
) -> Profile {
    let needs = plan.workspace(stage, &args);
    args.partial = gpu.allocate(needs.partial_bytes.max(16), "partial").unwrap();
    args.arrivals = gpu.upload(&vec![0u32; needs.arrivals.max(1) as usize], "arrivals");
    let launch = plan.launch(stage, args);
    gpu.launch(&launch).unwrap();
    again(gpu);
    gpu.launch(&launch).unwrap();
    assert!(gpu.download::<u32>(args.arrivals, needs.arrivals as usize).iter().all(|&count| count == 0));

    let (_, profile) = gpu.profiles.pop().unwrap();
    let weights = u64::from(args.n) * if stage == LinearStage::GateUp { 2 } else { 1 };
    let [rows, k] = [args.rows, args.k].map(u64::from);
    let (token_tiles, tiles) = (rows.div_ceil(128), u64::from(launch.grid[0]));
    assert_eq!(profile.matrix.effective, 2 * rows * weights * k);
    assert!(profile.matrix.executed >= 2 * tiles * 128 * u64::from(plan.tile.weights) * k);
    assert!(profile.shared_passes > 0);
    assert_eq!(profile.shared_passes, profile.shared_passes_least, "bank conflicts");
    assert_eq!(profile.local_bytes, 0);
    let (operands, format) = (plan.tile.operands, plan.tile.operands.format());
    let of_x = if operands == Operands::Codes { Format::Int8 } else { Format::Bf16 };
    for (name, format, count, times) in
        [("x", of_x, rows, tiles / token_tiles), ("w", format, weights, token_tiles)]
    {
        let bytes = code_bytes(format, count, k);
        let read: Vec<_> = profile.traffic.iter().filter(|traffic| traffic.name == name).collect();
        assert_eq!(read.iter().map(|traffic| traffic.unique_read).sum::<u64>(), bytes, "{name}");
        assert_eq!(read.iter().map(|traffic| traffic.read_by_warps).sum::<u64>(), bytes * times, "{name}");
        // A row may end in half a piece.
        let half = |width: &u32| format.is_quantised() && *width == 8;
        let width = |width: &u32| *width == 16 || half(width);
        assert!(read.iter().all(|t| t.widths.keys().all(width) && t.written == 0), "{name}");
    }
    let scales = match format {
        Format::Bf16 => 0,
        Format::Int4 => 2 * weights * k / 128,
        _ => 4 * weights,
    };
    assert_eq!(unique(&profile, "scales"), (scales, 0));
    assert_eq!(unique(&profile, "x scales"), (if operands == Operands::Codes { 4 * rows } else { 0 }, 0));
    profile
}

/// Distinct bytes read and written of all allocations of a name.
fn unique(profile: &Profile, name: &str) -> (u64, u64) {
    let of_name = || profile.traffic.iter().filter(|traffic| traffic.name == name);
    (of_name().map(|t| t.unique_read).sum(), of_name().map(|t| t.unique_written).sum())
}

/// Every tile with k in one piece and in three.
fn plans() -> impl Iterator<Item = Plan> {
    plans_of(Format::Bf16.into())
}

fn plans_of(operands: Operands) -> impl Iterator<Item = Plan> {
    Tile::all(operands).into_iter().flat_map(|tile| [1, 3].map(|splits| Plan { tile, splits }))
}

/// Everything that is multiplied with weights of codes.
fn quantised() -> impl Iterator<Item = Operands> {
    QUANTISED.map(Operands::from).into_iter().chain([Operands::Codes])
}

fn quantised_plans() -> impl Iterator<Item = Plan> {
    quantised().flat_map(plans_of)
}

/// Everything that is multiplied.
fn all_operands() -> impl Iterator<Item = Operands> {
    [Format::Bf16.into()].into_iter().chain(quantised())
}

fn check_residual(
    gpu: llmroof::backend::cuda::driver::Gpu,
    plan: Plan,
    rows: usize,
    n: usize,
    k: usize,
    x_stride: usize,
) {
    let x = activations(plan.tile.operands, 1, rows, k);
    let w = matrix(plan.tile.operands.format(), 2, n, k);
    let residual = normals(3, rows * n, 1.0);
    let mut gpu = InterpretedGpu::new(gpu);
    let (w0, s0) = w.upload(&mut gpu, "w", "scales");
    let (at, x_scales) = match plan.tile.operands {
        Operands::Codes => x.upload(&mut gpu, "x", "x scales"),
        // Beyond `k` a row has what no product may take.
        Operands::Weights(_) => {
            let row = |row: &[u8]| [row, &vec![0x7f; 2 * (x_stride - k)]].concat();
            let padded: Vec<u8> = x.codes.chunks_exact(2 * k).flat_map(row).collect();
            (gpu.upload(&padded, "x"), 0)
        }
    };
    let args = LinearArgs {
        x: at,
        x_scales,
        w0,
        s0,
        y: gpu.upload(&residual, "y"),
        rows: rows as u32,
        k: k as u32,
        n: n as u32,
        x_stride: x_stride as u32,
        ..LinearArgs::default()
    };
    let profile = run(&mut gpu, plan, LinearStage::Residual, args, |gpu| {
        gpu.write(args.y, bytemuck::cast_slice(&residual)).unwrap()
    });

    let expected: Vec<f64> =
        products(&x, &w, k).iter().zip(wide(&residual)).map(|(product, old)| product + old).collect();
    assert_rows_close(&gpu.download(args.y, rows * n), &expected, n);
    let bytes = (rows * n * 2) as u64;
    assert_eq!(unique(&profile, "y"), (bytes, bytes));
}

#[test]
fn residual_adds_the_product() {
    for plan in plans() {
        check_residual(a100(), plan, 129, 264, 136, 136);
        check_residual(h100(), plan, 65, 328, 264, 272);
    }
}

#[test]
fn residual_adds_the_product_of_quantised_weights() {
    for plan in quantised_plans() {
        let k = fitting(plan.tile.operands, 328);
        check_residual(a100(), plan, 129, 264, k, k);
        check_residual(h100(), plan, 65, 328, k + 128, k + 136);
    }
}

#[test]
fn a_product_shorter_than_a_step() {
    for tile in [Tile::all(Format::Bf16), Tile::all(Operands::Codes)].concat() {
        check_residual(a100(), Plan { tile, splits: 1 }, 65, 72, 8, 8);
    }
}

#[test]
fn more_token_tiles_than_a_group_has() {
    for tile in [Tile::all(Format::Bf16), Tile::all(Operands::Codes)].concat() {
        check_residual(a100(), Plan { tile, splits: 1 }, 16 * 128 + 2, 2 * tile.weights as usize + 8, 24, 24);
    }
}

#[test]
fn gate_up_is_silu_of_gate_times_up() {
    let on_h100 = all_operands().map(|operands| (h100(), Plan { tile: Tile::all(operands)[0], splits: 1 }));
    for (gpu, plan) in plans().chain(quantised_plans()).map(|plan| (a100(), plan)).chain(on_h100) {
        let operands = plan.tile.operands;
        let (rows, n, k) = (200, 152, fitting(operands, 264));
        let x = activations(operands, 4, rows, k);
        let [gate, up] = [5, 6].map(|seed| matrix(operands.format(), seed, n, k));
        let mut gpu = InterpretedGpu::new(gpu);
        let (at, x_scales) = x.upload(&mut gpu, "x", "x scales");
        let [(w0, s0), (w1, s1)] = [&gate, &up].map(|w| w.upload(&mut gpu, "w", "scales"));
        let args = LinearArgs {
            x: at,
            x_scales,
            w0,
            w1,
            s0,
            s1,
            y: gpu.allocate((rows * n * 2) as u64, "y").unwrap(),
            rows: rows as u32,
            k: k as u32,
            n: n as u32,
            x_stride: k as u32,
            ..LinearArgs::default()
        };
        let profile = run(&mut gpu, plan, LinearStage::GateUp, args, |_| ());

        let silu = |x: f64| x / (1.0 + (-x).exp());
        let expected: Vec<f64> = products(&x, &gate, k)
            .iter()
            .zip(products(&x, &up, k))
            .map(|(gate, up)| silu(*gate) * up)
            .collect();
        assert_rows_close(&gpu.download(args.y, rows * n), &expected, n);
        assert_eq!(unique(&profile, "y"), (0, (rows * n * 2) as u64));
    }
}

/// A product of several sequences, each at another position.
struct Qkv {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    tokens: usize,
    /// More of the last sequence.
    further: usize,
    start: Vec<u32>,
}

impl Qkv {
    /// Radians per position of pair `i`.
    fn frequency(&self, i: usize) -> f64 {
        10_000f64.powf(-2.0 * i as f64 / self.head_dim as f64)
    }

    /// `heads` rows of `head_dim`, turned.
    fn rotated(&self, heads: &[f64], position: u32) -> Vec<f64> {
        let half = self.head_dim / 2;
        let turned = |head: &[f64], i: usize| {
            let (sin, cos) = (f64::from(position) * self.frequency(i % half)).sin_cos();
            if i < half { head[i] * cos - head[i + half] * sin } else { head[i] * cos + head[i - half] * sin }
        };
        heads
            .chunks_exact(self.head_dim)
            .flat_map(|head| (0..self.head_dim).map(move |i| turned(head, i)))
            .collect()
    }

    fn check(&self, gpu: llmroof::backend::cuda::driver::Gpu, plan: Plan) {
        let (operands, format) = (plan.tile.operands, plan.tile.operands.format());
        let (k, sequences, capacity) = (fitting(operands, 136), self.start.len(), 300);
        let (rows, q_width, kv_width) = (
            sequences * self.tokens + self.further,
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
        );
        let x = activations(operands, 7, rows, k);
        let [wq, wk, wv] =
            [(8, q_width), (9, kv_width), (10, kv_width)].map(|(seed, width)| matrix(format, seed, width, k));
        let cache = normals(11, sequences * kv_width * capacity, 1.0);
        let turns: Vec<u64> = (0..self.head_dim / 2)
            .map(|i| (self.frequency(i) / std::f64::consts::TAU * 2f64.powi(64)) as u64)
            .collect();

        let mut gpu = InterpretedGpu::new(gpu);
        let [(w0, s0), (w1, s1), (w2, s2)] = [&wq, &wk, &wv].map(|w| w.upload(&mut gpu, "w", "scales"));
        let (at, x_scales) = x.upload(&mut gpu, "x", "x scales");
        let args = LinearArgs {
            x: at,
            x_scales,
            w0,
            w1,
            w2,
            s0,
            s1,
            s2,
            y: gpu.allocate((rows * q_width * 2) as u64, "y").unwrap(),
            keys: gpu.upload(&cache, "keys"),
            values: gpu.upload(&cache, "values"),
            turns: gpu.upload(&turns, "turns"),
            start: gpu.upload(&self.start, "start"),
            rows: rows as u32,
            k: k as u32,
            n: (q_width + 2 * kv_width) as u32,
            x_stride: k as u32,
            tokens: self.tokens as u32,
            sequences: sequences as u32,
            head_dim: self.head_dim as u32,
            q_width: q_width as u32,
            kv_width: kv_width as u32,
            capacity: capacity as u32,
            ..LinearArgs::default()
        };
        let profile = run(&mut gpu, plan, LinearStage::Qkv, args, |_| ());

        let [q, keys, values] = [&wq, &wk, &wv].map(|w| products(&x, w, k));
        let sequence = |row: usize| (row / self.tokens).min(sequences - 1);
        let position = |row: usize| self.start[sequence(row)] + (row - sequence(row) * self.tokens) as u32;
        let expected: Vec<f64> =
            (0..rows).flat_map(|row| self.rotated(&q[row * q_width..][..q_width], position(row))).collect();
        assert_rows_close(&gpu.download(args.y, rows * q_width), &expected, q_width);

        // The caches have the new rows at their positions, and all else as it was.
        let mut expected = [wide(&cache), wide(&cache)];
        for row in 0..rows {
            let new = [
                self.rotated(&keys[row * kv_width..][..kv_width], position(row)),
                values[row * kv_width..][..kv_width].to_vec(),
            ];
            for (expected, new) in expected.iter_mut().zip(new) {
                for (head, new) in new.chunks_exact(self.head_dim).enumerate() {
                    let line = (sequence(row) * self.kv_heads + head) * capacity + position(row) as usize;
                    expected[line * self.head_dim..][..self.head_dim].copy_from_slice(new);
                }
            }
        }
        for (address, expected) in [args.keys, args.values].into_iter().zip(&expected) {
            assert_rows_close(&gpu.download(address, cache.len()), expected, self.head_dim);
        }
        assert_eq!(unique(&profile, "y"), (0, (rows * q_width * 2) as u64));
        for name in ["keys", "values"] {
            assert_eq!(unique(&profile, name), (0, (rows * kv_width * 2) as u64));
        }
    }
}

#[test]
fn qkv_rotates_and_appends() {
    for plan in plans().chain(quantised_plans()) {
        Qkv { heads: 4, kv_heads: 2, head_dim: 64, tokens: 43, further: 0, start: vec![5, 0, 250] }
            .check(a100(), plan);
    }
    for tile in Tile::all(Format::Bf16) {
        Qkv { heads: 3, kv_heads: 1, head_dim: 128, tokens: 65, further: 0, start: vec![17] }
            .check(h100(), Plan { tile, splits: 1 });
    }
}

#[test]
fn qkv_of_a_mixed_step() {
    for plan in plans().chain(quantised_plans()) {
        Qkv { heads: 2, kv_heads: 1, head_dim: 64, tokens: 1, further: 130, start: vec![9, 200, 17] }
            .check(a100(), plan);
    }
}

#[test]
fn qkv_of_heads_that_tiles_cut() {
    for tile in Tile::all(Format::Bf16) {
        Qkv { heads: 5, kv_heads: 1, head_dim: 80, tokens: 1, further: 0, start: (0..70).collect() }
            .check(a100(), Plan { tile, splits: 2 });
    }
}

#[test]
fn lm_head_chooses_the_first_of_the_greatest() {
    let tiles = all_operands().flat_map(Tile::all);
    for (gpu, tile) in tiles.flat_map(|tile| [(a100(), tile), (h100(), tile)]) {
        let format = tile.operands.format();
        let (rows, n, k) = (130, 301, fitting(tile.operands, 72));
        let x = activations(tile.operands, 12, rows, k);
        let mut w = if format.is_quantised() { spread(13, k, n * k, 1.0) } else { normals(13, n * k, 1.0) };
        // Every row of the second half but the last is one of the first again.
        w.copy_within(0..n / 2 * k, n / 2 * k);
        let w = Held::new(format, &w, k);
        let mut gpu = InterpretedGpu::new(gpu);
        let (w0, s0) = w.upload(&mut gpu, "w", "scales");
        let (at, x_scales) = x.upload(&mut gpu, "x", "x scales");
        let args = LinearArgs {
            x: at,
            x_scales,
            w0,
            s0,
            logits: gpu.allocate((rows * n * 4) as u64, "logits").unwrap(),
            chosen: gpu.allocate((rows * 4) as u64, "chosen").unwrap(),
            best: gpu.upload(&vec![0u64; rows], "best"),
            rows: rows as u32,
            k: k as u32,
            n: n as u32,
            x_stride: k as u32,
            ..LinearArgs::default()
        };
        run(&mut gpu, Plan { tile, splits: 1 }, LinearStage::LmHead, args, |_| ());

        let logits = gpu.download::<f32>(args.logits, rows * n);
        let chosen = gpu.download::<u32>(args.chosen, rows);
        let expected = products(&x, &w, k);
        for row in 0..rows {
            let (logits, expected) = (&logits[row * n..][..n], &expected[row * n..][..n]);
            let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
            assert!(relative_error(&wide, expected) < 1e-5);
            let first = (0..n).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(chosen[row] as usize, first, "row {row}");
        }
        assert!(chosen.iter().any(|&token| (token as usize) < n / 2), "no tie was decided");
        assert_eq!(gpu.download::<u64>(args.best, rows), vec![0; rows]);
    }
}

#[test]
fn executed_work_is_that_of_whole_tiles() {
    let (rows, n, k) = (128, 256, 128);
    let mut gpu = InterpretedGpu::new(a100());
    let args = LinearArgs {
        x: gpu.upload(&normals(1, rows * k, 1.0), "x"),
        w0: gpu.upload(&normals(2, n * k, 1.0), "w"),
        y: gpu.upload(&normals(3, rows * n, 1.0), "y"),
        rows: rows as u32,
        k: k as u32,
        n: n as u32,
        x_stride: k as u32,
        ..LinearArgs::default()
    };
    for plan in plans().filter(|plan| plan.splits == 1) {
        let profile = run(&mut gpu, plan, LinearStage::Residual, args, |_| ());
        let flops = 2 * (rows * n * k) as u64;
        assert_eq!(profile.matrix, MatrixWork { executed: flops, effective: flops });
    }
}

/// llama-8b: hidden 4096, ffn 14336, vocabulary 128256.
#[test]
fn the_plan_fills_the_gpu() {
    let product = |rows, n, k| LinearArgs { rows, n, k, ..LinearArgs::default() };
    for gpu in [a100(), h100()] {
        let best = |stage, args| Plan::best(&gpu, stage, Format::Bf16, &args);
        // A long prompt fills it with large tiles.
        let long = best(LinearStage::GateUp, product(8192, 14_336, 4096));
        assert!(long.tile.weights >= 128 && long.splits == 1);
        assert_eq!(best(LinearStage::LmHead, product(128, 128_256, 4096)).splits, 1);
        // A decode step of 128 sequences has 16 tiles of 256 rows: k is split.
        for k in [4096, 14_336] {
            let args = product(128, 4096, k);
            let launch = gemm::launch(&gpu, LinearStage::Residual, Format::Bf16, args);
            let blocks = launch.grid[0] * launch.grid[1];
            assert!(blocks >= gpu.multiprocessors * 3 / 4, "{blocks} blocks");
            let needs = gemm::workspace(&gpu, LinearStage::Residual, Format::Bf16, &args);
            assert_eq!(needs.partial_bytes, u64::from(launch.grid[1]) * 128 * 4096 * 4);
        }
    }
}

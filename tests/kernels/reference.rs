//! The simple kernels against the float64 stages, rounding where those round.

use std::collections::HashMap;

use llmroof::backend::cuda::driver::{Address, Driver};
use llmroof::backend::cuda::launch::args::{AttentionArgs, LinearArgs};
use llmroof::backend::cuda::launch::reference;
use llmroof::model::{ModelSpec, Precision, Tensor};
use llmroof::reference::{Cache, Numerics, Qkv, Rounding, Rows, Stages};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::numbers::{normals, relative_error, wide};

/// Heads in groups of three; widths that are no power of two.
fn model() -> ModelSpec {
    ModelSpec {
        name: "small".into(),
        hidden: 72,
        ffn: 40,
        layers: 1,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        vocab: 101,
        tied_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 64,
        source: String::new(),
    }
}

/// Its weights, as bf16 bits.
struct Weights {
    tensors: HashMap<Tensor, (usize, Vec<u16>)>,
}

impl Weights {
    fn of(model: &ModelSpec) -> Weights {
        let tensors = Tensor::ALL.into_iter().enumerate().map(|(seed, tensor)| {
            let (rows, columns) = tensor.shape(model);
            let deviation = if tensor.is_norm() { 1.0 } else { 1.0 / f64::from(columns).sqrt() };
            let values = normals(seed as u64, rows as usize * columns as usize, deviation);
            (tensor, (columns as usize, values))
        });
        Weights { tensors: tensors.collect() }
    }

    fn upload(&self, gpu: &mut InterpretedGpu, tensor: Tensor) -> Address {
        gpu.upload(&self.tensors[&tensor].1, &format!("{tensor:?}"))
    }
}

impl Rows for Weights {
    fn row(&self, tensor: Tensor, _layer: u32, row: u32, out: &mut [f64]) {
        let (columns, values) = &self.tensors[&tensor];
        out.copy_from_slice(&wide(&values[row as usize * columns..][..*columns]));
    }
}

/// Two sequences of three new tokens, after five positions and after none.
const TOKENS: u32 = 3;
const START: [u32; 2] = [5, 0];
const CAPACITY: u32 = 9;

/// What all linear stages have in common.
fn args(gpu: &mut InterpretedGpu, model: &ModelSpec, x: &[u16], k: u32) -> LinearArgs {
    LinearArgs {
        x: gpu.upload(x, "x"),
        rows: 6,
        k,
        x_stride: k,
        tokens: TOKENS,
        sequences: 2,
        head_dim: model.head_dim,
        eps: model.norm_eps as f32,
        ..LinearArgs::default()
    }
}

/// Sums in f32 instead of float64 round one value in hundreds to another bf16; a rounding in another place does so to
/// many.
const MARGIN: f64 = 5e-4;

fn agrees(gpu: &InterpretedGpu, out: Address, reference: &[f64]) {
    let out = wide(&gpu.download::<u16>(out, reference.len()));
    let error = relative_error(&out, reference);
    assert!(error < MARGIN, "{error}");
}

#[test]
fn qkv_fills_queries_and_caches() {
    check_qkv(TOKENS, [131_000, 131_001, 131_002, 0, 1, 2]);
    // A mixed step: one token of the first sequence, all others of the last.
    check_qkv(1, [131_000, 0, 1, 2, 3, 4]);
}

/// With `tokens` of the first sequence, the rest of the six at `positions` of the second.
fn check_qkv(tokens: u32, positions: [u32; 6]) {
    // Far into a long context, where an angle in f32 would be off by a hundredth of a turn; and at its start.
    const START: [u32; 2] = [131_000, 0];
    const CAPACITY: u32 = 131_072;
    let (model, weights) = (model(), Weights::of(&model()));
    let layout = Qkv::of(&model);
    let x = normals(50, 6 * 72, 1.0);
    let stages = Stages::new(&model, &weights, Numerics::of(Precision::BF16));
    let expected = stages.qkv(0, &wide(&x), &positions);
    let turns: Vec<u64> = (0..model.head_dim / 2)
        .map(|i| {
            let turns =
                model.rope_theta.powf(-f64::from(2 * i) / f64::from(model.head_dim)) / std::f64::consts::TAU;
            (turns * 2f64.powi(64)) as u64
        })
        .collect();
    for device in [a100(), h100()] {
        let mut gpu = InterpretedGpu::new(device);
        let cache_len = 2 * CAPACITY as usize * layout.kv;
        let [keys, values] = ["keys", "values"].map(|name| gpu.allocate(2 * cache_len as u64, name).unwrap());
        let y = gpu.allocate(2 * 6 * layout.q as u64, "y").unwrap();
        let args = LinearArgs {
            norm: weights.upload(&mut gpu, Tensor::AttentionNorm),
            w0: weights.upload(&mut gpu, Tensor::Q),
            w1: weights.upload(&mut gpu, Tensor::K),
            w2: weights.upload(&mut gpu, Tensor::V),
            y,
            keys,
            values,
            turns: gpu.upload(&turns, "turns"),
            start: gpu.upload(&START, "start"),
            n: layout.width() as u32,
            q_width: layout.q as u32,
            kv_width: layout.kv as u32,
            capacity: CAPACITY,
            tokens,
            ..args(&mut gpu, &model, &x, model.hidden)
        };
        gpu.launch(&reference::qkv(&args)).unwrap();

        let width = model.head_dim as usize;
        let (mut out, queries) = (Vec::new(), wide(&gpu.download::<u16>(y, 6 * layout.q)));
        for (token, position) in positions.into_iter().enumerate() {
            out.extend_from_slice(&queries[token * layout.q..][..layout.q]);
            for cache in [keys, values] {
                for head in 0..model.kv_heads {
                    let sequence = (token as u32 / tokens).min(1);
                    let line = (sequence * model.kv_heads + head) * CAPACITY + position;
                    out.extend(wide(
                        &gpu.download::<u16>(cache + 2 * u64::from(line * model.head_dim), width),
                    ));
                }
            }
        }
        let error = relative_error(&out, &expected);
        assert!(error < MARGIN, "{error}");
        let written = |name: &str| {
            gpu.profiles[0].1.traffic.iter().find(|traffic| traffic.name == name).unwrap().unique_written
        };
        // Nothing of the caches but the new positions.
        assert_eq!([written("keys"), written("values")], [2 * 6 * layout.kv as u64; 2]);
    }
}

#[test]
fn projections_are_added_to_the_residual() {
    let (model, weights) = (model(), Weights::of(&model()));
    let stages = Stages::new(&model, &weights, Numerics::of(Precision::BF16));
    let residual = normals(60, 6 * 72, 1.0);
    for (tensor, k) in [(Tensor::O, 96), (Tensor::Down, 40)] {
        let mut gpu = InterpretedGpu::new(a100());
        let x = normals(61, 6 * k as usize, 1.0);
        let y = gpu.upload(&residual, "y");
        let w0 = weights.upload(&mut gpu, tensor);
        let args = LinearArgs { w0, y, n: model.hidden, ..args(&mut gpu, &model, &x, k) };
        gpu.launch(&reference::residual(&args)).unwrap();
        let expected = match tensor {
            Tensor::O => stages.out_proj(0, &wide(&x), &wide(&residual)),
            _ => stages.down(0, &wide(&x), &wide(&residual)),
        };
        // The device keeps the residual stream in bf16.
        let expected: Vec<f64> = expected.into_iter().map(|x| Rounding::Bf16.apply(x)).collect();
        agrees(&gpu, y, &expected);
    }
}

#[test]
fn gate_and_up_meet() {
    let (model, weights) = (model(), Weights::of(&model()));
    let x = normals(70, 6 * 72, 1.0);
    let mut gpu = InterpretedGpu::new(a100());
    let y = gpu.allocate(2 * 6 * 40, "y").unwrap();
    let args = LinearArgs {
        norm: weights.upload(&mut gpu, Tensor::FfnNorm),
        w0: weights.upload(&mut gpu, Tensor::Gate),
        w1: weights.upload(&mut gpu, Tensor::Up),
        y,
        n: model.ffn,
        ..args(&mut gpu, &model, &x, model.hidden)
    };
    gpu.launch(&reference::gate_up(&args)).unwrap();
    agrees(&gpu, y, &Stages::new(&model, &weights, Numerics::of(Precision::BF16)).gate_up(0, &wide(&x)));
}

#[test]
fn logits_of_every_third_row_and_the_first_of_the_largest() {
    let (model, weights) = (model(), Weights::of(&model()));
    // The last token of each sequence: the stride skips the two before.
    let x = normals(80, 6 * 72, 1.0);
    let last: Vec<u16> = [&x[2 * 72..3 * 72], &x[5 * 72..]].concat();
    let mut gpu = InterpretedGpu::new(a100());
    let common = args(&mut gpu, &model, &x, model.hidden);
    let args = LinearArgs {
        x: common.x + 2 * 2 * 72,
        x_stride: 3 * 72,
        rows: 2,
        norm: weights.upload(&mut gpu, Tensor::FinalNorm),
        w0: weights.upload(&mut gpu, Tensor::Head),
        n: model.vocab,
        logits: gpu.allocate(4 * 2 * 101, "logits").unwrap(),
        chosen: gpu.allocate(4 * 2, "chosen").unwrap(),
        ..common
    };
    gpu.launch(&reference::lm_head(&args)).unwrap();
    gpu.launch(&reference::argmax(&args)).unwrap();
    let expected = Stages::new(&model, &weights, Numerics::of(Precision::BF16)).lm_head(&wide(&last));
    let mut logits: Vec<f32> = gpu.download(args.logits, 2 * 101);
    let out: Vec<f64> = logits.iter().copied().map(f64::from).collect();
    let error = relative_error(&out, &expected);
    assert!(error < MARGIN, "{error}");
    let first_of_largest = |logits: &[f32]| {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        logits.iter().position(|logit| *logit == most).unwrap() as u32
    };
    assert_eq!(
        gpu.download::<u32>(args.chosen, 2),
        [first_of_largest(&logits[..101]), first_of_largest(&logits[101..])]
    );
    // Equals: the lowest index wins.
    logits[17] = 100.0;
    logits[90] = 100.0;
    let args = LinearArgs { logits: gpu.upload(&logits, "logits"), ..args };
    gpu.launch(&reference::argmax(&args)).unwrap();
    assert_eq!(gpu.download::<u32>(args.chosen, 1), [17]);
}

#[test]
fn attention_attends_the_cache_up_to_its_own_position() {
    let model = model();
    let weights = Weights::of(&model);
    let stages = Stages::new(&model, &weights, Numerics::of(Precision::BF16));
    let layout = Qkv::of(&model);
    let width = model.head_dim as usize;
    let mut gpu = InterpretedGpu::new(a100());
    // The rest of the caches is never written: reading it would be a fault.
    let bytes = 2 * 2 * u64::from(CAPACITY) * layout.kv as u64;
    let [keys, values] = ["keys", "values"].map(|name| gpu.allocate(bytes, name).unwrap());
    let (mut q, mut expected) = (Vec::new(), Vec::new());
    for (sequence, start) in START.into_iter().enumerate() {
        let held = (start + TOKENS) as usize;
        let rows = normals(90 + sequence as u64, held * layout.width(), 1.0);
        let outputs = stages.attention(&wide(&rows), &mut Cache::default());
        expected.extend_from_slice(&outputs[start as usize * layout.q..]);
        for (position, row) in rows.chunks_exact(layout.width()).enumerate() {
            if position >= start as usize {
                q.extend_from_slice(&row[..layout.q]);
            }
            for (part, cache) in [(layout.q, keys), (layout.q + layout.kv, values)] {
                for head in 0..model.kv_heads as usize {
                    let line = (sequence * model.kv_heads as usize + head) * CAPACITY as usize + position;
                    let row = &row[part + head * width..][..width];
                    gpu.write(cache + 2 * (line * width) as u64, bytemuck::cast_slice(row)).unwrap();
                }
            }
        }
    }
    let out = gpu.allocate(2 * expected.len() as u64, "out").unwrap();
    let args = AttentionArgs {
        q: gpu.upload(&q, "q"),
        keys,
        values,
        out,
        start: gpu.upload(&START, "start"),
        sequences: 2,
        tokens: TOKENS,
        heads: model.heads,
        kv_heads: model.kv_heads,
        capacity: CAPACITY,
        scale: std::f32::consts::LOG2_E / f64::from(model.head_dim).sqrt() as f32,
        ..AttentionArgs::default()
    };
    gpu.launch(&reference::attention(&args, model.head_dim)).unwrap();
    agrees(&gpu, out, &expected);
}

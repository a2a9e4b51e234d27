//! The numerators of every rate: what the kernels execute and move against the ledger of `src/workload.rs`.

use std::collections::BTreeMap;

use llmroof::backend::Residency;
use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::Launch;
use llmroof::backend::cuda::launch::args::{AttentionArgs, LinearArgs};
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::pass::Pass;
use llmroof::backend::cuda::suite::Suite;
use llmroof::backend::weights::{RandomWeights, WeightSource};
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::workload::{Cost, Phase, Stage, Workload};
use ptx_interpreter::Profile;

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::numbers::normals;

/// What a stage executed and moved, summed over its layers.
#[derive(Debug, Default, PartialEq)]
pub struct Counted {
    /// Multiply-adds of the matrix instructions, times two, whose factors are both real.
    pub flops: u64,
    /// Distinct bytes of weights.
    pub weights: u64,
    /// Distinct bytes of keys and values, read or written, and of the table of their pages.
    pub kv: u64,
    /// Distinct bytes of activations, read and written.
    pub activations: u64,
    /// Distinct bytes of matrices, and the bytes of them that warps asked for.
    pub matrices: u64,
    /// See `matrices`.
    pub matrices_asked: u64,
    /// Bytes of local memory.
    pub local: u64,
}

impl Counted {
    fn add(&mut self, profile: &Profile) {
        // A masked pair is scored before it is dropped; what counts is what goes into the output.
        self.flops += match profile.matrix_by_mark.get("values") {
            Some(values) => 2 * values.effective,
            None => profile.matrix.effective,
        };
        for traffic in &profile.traffic {
            let unique = traffic.unique_read + traffic.unique_written;
            let asked = traffic.read_by_warps + traffic.written;
            match traffic.name.split(' ').next() {
                Some("weights") => {
                    assert_eq!(traffic.written, 0, "{} is read only", traffic.name);
                    self.weights += unique;
                    // Every block recomputes the norm: its few weights come from the caches.
                    if !traffic.name.contains("Norm") {
                        self.matrices += unique;
                        self.matrices_asked += asked;
                    }
                }
                Some("keys" | "values" | "pages") => {
                    self.kv += unique;
                }
                Some("residual" | "q" | "attended" | "gated") => self.activations += unique,
                // Positions, rotary turns, partial sums, counters, and the logits of a check.
                _ => {}
            }
        }
        self.local += profile.local_bytes;
    }
}

/// Runs a prompt that fills `context - tokens` positions (before a mixed step, where sequences stand apart, they are made up),
/// then the pass, and counts the pass by stage.
pub fn count(
    gpu: Gpu,
    model: &ModelSpec,
    pass: Pass,
    precision: Precision,
    kv_page: Option<u32>,
    weights: &dyn WeightSource,
) -> BTreeMap<Stage, Counted> {
    let mut suite = Suite::new(InterpretedGpu::new(gpu));
    let residency = Residency { model: model.clone(), layers: model.layers, precision, copies: 1 };
    suite.load(&residency, weights).unwrap();
    suite.begin(pass.sequences(), pass.capacity(), kv_page).unwrap();
    // Distinct tokens, so that every row of the embedding is another one.
    let mut next = 0;
    let mut tokens = |count: &dyn Fn(u32) -> u32| -> Vec<Vec<u32>> {
        let mut sequence = |count| {
            next += count;
            (next - count..next).collect()
        };
        (0..pass.sequences()).map(|number| sequence(count(number))).collect()
    };
    if pass.chunk.is_some() {
        suite.pretend(pass, 5).unwrap();
    } else if pass.context > pass.tokens {
        suite.forward(&tokens(&|_| pass.context - pass.tokens), false).unwrap();
    }
    suite.feed(pass, &tokens(&|sequence| pass.new_tokens(sequence)), false).unwrap();
    let buffers = suite.buffers().unwrap();
    let activations = [
        (buffers.residual, model.hidden),
        (buffers.q, model.q_width()),
        (buffers.attended, model.q_width()),
        (buffers.gated, model.ffn),
    ];
    let mut counted = BTreeMap::<Stage, Counted>::new();
    for (seed, stage) in suite.launches(pass, 0).unwrap().into_iter().enumerate() {
        // An activation may happen to be zero, which would count as padding: every stage is fed values that are not.
        for (buffer, width) in activations {
            let values = normals(seed as u64, (pass.rows() * width) as usize, 1.0);
            suite.driver_mut().write(buffer, bytemuck::cast_slice(&values)).unwrap();
        }
        for launch in &stage.launches {
            // Codes are often zero, and so are sums of products of codes.
            let integers = precision.kv.is_quantised() || precision.activations.is_quantised();
            if stage.stage == Stage::Attention && integers {
                without_zeros(suite.driver_mut(), launch, pass, model, precision.kv);
            }
            if launch.source == "gemm_w8a8" {
                without_zero_codes(suite.driver_mut(), launch);
            }
            suite.driver_mut().profiles.clear();
            suite.driver_mut().launch(launch).unwrap();
            counted.entry(stage.stage).or_default().add(&suite.driver().profiles[0].1);
        }
    }
    counted
}

/// Codes of activations that are zero would count as padding as well.
fn without_zero_codes(gpu: &mut InterpretedGpu, launch: &Launch) {
    let args: LinearArgs = bytemuck::pod_read_unaligned(&launch.parameter);
    let row_bytes = Format::Int8.row_bytes(args.k);
    for row in 0..u64::from(args.rows) {
        let mut codes = vec![0u8; args.k as usize];
        gpu.read(args.x + row * row_bytes, &mut codes).unwrap();
        codes.iter_mut().filter(|code| **code == 0).for_each(|code| *code = 1);
        gpu.write(args.x + row * row_bytes, &codes).unwrap();
    }
}

/// Keys and values that are zero would count as padding as well.
fn without_zeros(gpu: &mut InterpretedGpu, launch: &Launch, pass: Pass, model: &ModelSpec, kv: DType) {
    let args: AttentionArgs = bytemuck::pod_read_unaligned(&launch.parameter);
    let of_one = kv.bytes() as usize;
    let width = of_one * model.head_dim as usize;
    // A chunk's launch begins at its own sequence, but for a pool of pages.
    let sequences = if args.pages == 0 { args.sequences } else { pass.sequences() };
    let rows = u64::from(sequences * model.kv_heads * args.capacity);
    for row in
        [args.keys, args.values].into_iter().flat_map(|at| (0..rows).map(move |row| at + row * width as u64))
    {
        let mut codes = vec![0u8; width];
        // The last page of a sequence may not be full.
        if gpu.machine.read(row, &mut codes).is_ok() {
            // The sign is in the last byte, and the rest of a tiny bf16 is all it takes.
            let is_zero =
                |code: &[u8]| code.iter().rev().enumerate().all(|(i, byte)| byte << u8::from(i == 0) == 0);
            codes.chunks_exact_mut(of_one).filter(|code| is_zero(code)).for_each(|code| code[0] = 1);
            gpu.write(row, &codes).unwrap();
        }
    }
}

/// A model of odd sizes; vocabulary large enough for distinct tokens.
pub fn odd_model(head_dim: u32, heads: u32, kv_heads: u32) -> ModelSpec {
    ModelSpec {
        name: format!("odd, {heads}/{kv_heads} heads of {head_dim}"),
        hidden: 264,
        ffn: 392,
        layers: 2,
        heads,
        kv_heads,
        head_dim,
        vocab: 1003,
        tied_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 4096,
        source: "made up".into(),
    }
}

/// Counts a pass in bf16 and holds it against the ledger.
fn check_bf16(gpu: Gpu, model: &ModelSpec, pass: Pass) {
    check(gpu, model, pass, Precision::BF16, &RandomWeights::new(11, model));
}

/// Counts a pass and holds it against the ledger. A code that is zero would count as padding: the weights have none.
pub fn check(gpu: Gpu, model: &ModelSpec, pass: Pass, precision: Precision, weights: &dyn WeightSource) {
    check_pages(gpu, model, pass, precision, None, weights);
}

/// The same with the cache in pages.
pub fn check_pages(
    gpu: Gpu,
    model: &ModelSpec,
    pass: Pass,
    precision: Precision,
    kv_page: Option<u32>,
    weights: &dyn WeightSource,
) {
    let phase = match pass.chunk {
        Some(_) => Phase::Mixed,
        None if pass.tokens == pass.headed => Phase::Decode,
        None => Phase::Prefill,
    };
    let work = Workload {
        phase,
        tokens: pass.tokens,
        context: pass.context,
        chunk: pass.chunk,
        precision,
        kv_page,
        ..Workload::prefill(model, pass.batch, pass.context)
    };
    for (stage, counted) in count(gpu, model, pass, precision, kv_page, weights) {
        let place = format!("{} {stage} of {}: {pass:?}", phase.name(), model.name);
        let cost: Cost = work.cost(stage);
        assert_eq!(counted.flops as f64, cost.flops.0, "FLOPs, {place}");
        assert_eq!(counted.weights as f64, cost.weight_bytes.0, "weight bytes, {place}");
        assert_eq!(counted.kv as f64, cost.kv_bytes.0, "KV bytes, {place}");
        assert_eq!(counted.activations as f64, cost.activation_bytes.0, "activation bytes, {place}");
        assert_eq!(counted.local, 0, "local memory, {place}");
    }
}

#[test]
fn a_pass_that_verifies_a_draft_gives_every_token_logits() {
    check_bf16(a100(), &odd_model(128, 6, 2), Pass { headed: 4, ..Pass::new(1, 4, 30) });
    check_bf16(h100(), &odd_model(64, 4, 1), Pass { headed: 3, ..Pass::new(5, 3, 9) });
}

#[test]
fn decode_moves_and_computes_what_the_ledger_says() {
    let model = odd_model(128, 6, 2);
    check_bf16(a100(), &model, Pass::new(1, 1, 1));
    check_bf16(h100(), &model, Pass::new(1, 1, 77));
    check_bf16(a100(), &model, Pass::new(8, 1, 20));
    check_bf16(h100(), &odd_model(64, 4, 1), Pass::new(33, 1, 18));
    check_bf16(a100(), &odd_model(64, 4, 4), Pass::new(70, 1, 3));
}

#[test]
fn prefill_moves_and_computes_what_the_ledger_says() {
    check_bf16(a100(), &odd_model(128, 6, 2), Pass::new(1, 130, 130));
    check_bf16(h100(), &odd_model(64, 4, 1), Pass::new(3, 45, 45));
    // A prompt in pieces, and one that is short enough for the products of few rows.
    check_bf16(a100(), &odd_model(64, 6, 2), Pass::new(1, 70, 135));
    check_bf16(a100(), &odd_model(64, 6, 2), Pass::new(2, 9, 9));
}

#[test]
fn caches_of_codes_and_in_pages_move_what_the_ledger_says() {
    for (gpu, kv, kv_page, model) in [
        (a100(), DType::Int8, None, odd_model(128, 6, 2)),
        (h100(), DType::Fp8, None, odd_model(64, 4, 1)),
        (h100(), DType::Bf16, Some(16), odd_model(64, 6, 2)),
        (a100(), DType::Int8, Some(64), odd_model(128, 6, 2)),
        (h100(), DType::Fp8, Some(16), odd_model(128, 4, 1)),
    ] {
        let precision = Precision { kv, ..Precision::BF16 };
        let weights = RandomWeights::new(11, &model);
        for pass in [
            Pass::new(1, 1, 77),
            Pass::new(33, 1, 18),
            Pass::new(1, 70, 135),
            Pass { headed: 4, ..Pass::new(1, 4, 30) },
        ] {
            check_pages(gpu.clone(), &model, pass, precision, kv_page, &weights);
        }
    }
}

#[test]
fn decode_reads_every_weight_once() {
    for gpu in [a100(), h100()] {
        for batch in [1, 8, 16] {
            let model = odd_model(128, 4, 1);
            let (pass, weights) = (Pass::new(batch, 1, 9), RandomWeights::new(11, &model));
            for (stage, counted) in count(gpu.clone(), &model, pass, Precision::BF16, None, &weights) {
                let factor = counted.matrices_asked as f64 / counted.matrices.max(1) as f64;
                assert!(factor <= 1.02, "{stage} at batch {batch} asks for weights {factor} times");
            }
        }
    }
}

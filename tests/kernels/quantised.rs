//! Whole models with quantised weights through the suite: golden checkpoints, every stage of random models, and the
//! ledger.

use std::path::Path;

use llmroof::backend::cuda::driver::Gpu;
use llmroof::backend::cuda::pass::Pass;
use llmroof::backend::cuda::suite::Suite;
use llmroof::backend::weights::{WeightSource, from_bf16, to_bf16};
use llmroof::backend::{Residency, Session};
use llmroof::checkpoint::Checkpoint;
use llmroof::measure::verify::{Extent, Row, check_checkpoint, check_kernels, worst};
use llmroof::model::precision::GROUP;
use llmroof::model::{DType, ModelSpec, Precision, Tensor};
use llmroof::reference::{Numerics, Reference, Rows, quantise};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::held::Spread;
use crate::ledger::{check, odd_model};
use crate::numbers::{relative_error, wide};
use crate::session::SuiteSession;

/// Weights and head of these types.
pub fn precision(weights: DType, head: DType) -> Precision {
    Precision { weights, head, ..Precision::BF16 }
}

/// Checks the logits of a golden checkpoint with these types, and with its cache in pages of these sizes as well.
fn check_golden(name: &str, gpu: Gpu, types: Precision, pages: &[u32]) -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let checkpoint = Checkpoint::open(&folder.join(name)).unwrap();
    let mut session = SuiteSession::open(InterpretedGpu::new(gpu));
    let rows = check_checkpoint(&mut session, &checkpoint, 1, types, pages).unwrap();
    println!("{name}, {}: {:?}", types.name(), worst(&rows));
    assert_eq!(rows.len(), (1 + pages.len()) * 13);
    assert!(rows.iter().all(Row::passed), "{name}: {:?}", worst(&rows));
    rows
}

#[test]
fn golden_checkpoints() {
    for (name, gpu, weights, head) in [
        ("tiny-gqa-hd128", a100(), DType::Int8, DType::Int8),
        ("tiny-gqa-hd128", h100(), DType::Int4, DType::Int4),
        ("tiny-gqa-hd128", h100(), DType::Fp8, DType::Bf16),
        // A tied head that is quantised is a matrix of its own.
        ("tiny-tied-hd64", h100(), DType::Int8, DType::Int4),
        ("tiny-tied-hd64", a100(), DType::Bf16, DType::Int8),
        ("tiny-tied-hd64", a100(), DType::Fp8, DType::Fp8),
    ] {
        let rows = check_golden(name, gpu, precision(weights, head), &[]);
        assert!(rows.iter().all(|row| row.unquantised_error.is_some()));
    }
}

/// Weights and head of these types, with activations in int8.
fn w8a8(weights: DType, head: DType) -> Precision {
    Precision { activations: DType::Int8, ..precision(weights, head) }
}

#[test]
fn golden_checkpoints_with_activations_of_codes() {
    check_golden("tiny-gqa-hd128", a100(), w8a8(DType::Int8, DType::Int8), &[]);
    check_golden("tiny-tied-hd64", h100(), w8a8(DType::Int8, DType::Bf16), &[]);
}

#[test]
fn every_stage_of_odd_models_with_activations_of_codes() {
    for (gpu, types, extent) in [
        (a100(), w8a8(DType::Int8, DType::Int8), Extent::Full),
        (h100(), Precision { kv: DType::Int8, ..w8a8(DType::Int8, DType::Bf16) }, Extent::Short),
    ] {
        let mut session = SuiteSession::open(InterpretedGpu::new(gpu));
        let rows = check_kernels(&mut session, 7, types, None, extent).unwrap();
        println!("{}: {:?}", types.name(), worst(&rows));
        assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
    }
}

/// Weights of this type and a cache of that.
fn with_cache(weights: DType, kv: DType) -> Precision {
    Precision { weights, head: weights, kv, ..Precision::BF16 }
}

#[test]
fn golden_checkpoints_with_caches_of_codes() {
    check_golden("tiny-gqa-hd128", a100(), with_cache(DType::Bf16, DType::Int8), &[16]);
    check_golden("tiny-tied-hd64", h100(), with_cache(DType::Int8, DType::Fp8), &[16]);
}

#[test]
fn every_stage_of_odd_models_with_caches_of_codes() {
    for (gpu, types, extent) in [
        (a100(), with_cache(DType::Bf16, DType::Int8), Extent::Full),
        (h100(), with_cache(DType::Bf16, DType::Fp8), Extent::Short),
        (h100(), with_cache(DType::Int4, DType::Int8), Extent::Short),
    ] {
        let mut session = SuiteSession::open(InterpretedGpu::new(gpu));
        let rows = check_kernels(&mut session, 7, types, None, extent).unwrap();
        for row in &rows {
            println!("{}: {} {:.4} {:?}", types.name(), row.check, row.error, row.element_error);
        }
        assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
    }
}

#[test]
fn every_stage_of_odd_models() {
    for (gpu, dtype) in [(a100(), DType::Int8), (h100(), DType::Int8), (h100(), DType::Fp8)] {
        let mut session = SuiteSession::open(InterpretedGpu::new(gpu));
        let rows = check_kernels(&mut session, 7, precision(dtype, dtype), None, Extent::Full).unwrap();
        println!("{}, {dtype}: {:?}", session.device().name, worst(&rows));
        assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
    }
}

/// [`Spread`] with groups of zeros, and of values so small that next to others they are nothing.
struct Gaps;

impl WeightSource for Gaps {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        Spread.row(tensor, layer, row, out);
        if tensor == Tensor::Head || Tensor::OF_LAYER.contains(&tensor) {
            for (group, values) in out.chunks_mut(GROUP as usize).enumerate() {
                match (row as usize + group) % 4 {
                    0 => values.fill(0),
                    1 => values.iter_mut().for_each(|x| *x = to_bf16(from_bf16(*x) * 2f32.powi(-110))),
                    _ => {}
                }
            }
        }
    }
}

/// Weights as quantising leaves them.
pub struct Quantised<'a>(pub Precision, pub &'a dyn WeightSource);

impl Rows for Quantised<'_> {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [f64]) {
        let mut bits = vec![0; out.len()];
        self.1.row(tensor, layer, row, &mut bits);
        out.copy_from_slice(&wide(&bits));
        let dtype = match tensor {
            Tensor::Head => self.0.head,
            _ if Tensor::OF_LAYER.contains(&tensor) => self.0.weights,
            _ => return,
        };
        if dtype.is_quantised() {
            let group = dtype.group(out.len());
            out.chunks_mut(group).for_each(|group| quantise(dtype, group));
        }
    }
}

/// Of widths that int4 has groups for.
pub fn grouped_model(hidden: u32, ffn: u32, heads: u32, head_dim: u32) -> ModelSpec {
    ModelSpec { hidden, ffn, name: format!("{hidden}x{ffn}"), ..odd_model(head_dim, heads, 2) }
}

#[test]
fn every_stage_of_models_in_groups() {
    let models = [grouped_model(384, 512, 4, 64), grouped_model(256, 640, 4, 128)];
    for (gpu, model) in [a100(), h100()].into_iter().zip(&models) {
        let sources: [&dyn WeightSource; 2] = [&Spread, &Gaps];
        for ((batch, passes), source) in [(1, [5, 1]), (3, [1, 7]), (2, [30, 1]), (1, [70, 66])]
            .into_iter()
            .flat_map(|fed| sources.map(|source| (fed, source)))
        {
            let types = precision(DType::Int4, DType::Int4);
            let rows = Quantised(types, source);
            let mut reference =
                Reference::new(model, &rows, Numerics::of(types), model.layers, batch as usize);
            let mut suite = Suite::new(InterpretedGpu::new(gpu.clone()));
            let residency =
                Residency { model: model.clone(), layers: model.layers, precision: types, copies: 1 };
            suite.load(&residency, source).unwrap();
            suite.begin(batch, passes.iter().sum(), None).unwrap();
            let mut fed = 0;
            for tokens in passes {
                let tokens: Vec<Vec<u32>> = (0..batch)
                    .map(|sequence| {
                        (0..tokens).map(|token| (sequence * 101 + (fed + token) * 7) % 1003).collect()
                    })
                    .collect();
                fed += tokens[0].len() as u32;
                let (outputs, expected) = (suite.forward(&tokens, true).unwrap(), reference.forward(&tokens));
                assert_eq!(outputs.len(), expected.len());
                for (output, expected) in outputs.iter().zip(&expected) {
                    let values: Vec<f64> = output.values.iter().map(|&x| f64::from(x)).collect();
                    let error = relative_error(&values, &expected.values);
                    // Errors of the stages before are in it.
                    assert!(error < 0.02, "{}, layer {}: {error}", output.stage, output.layer);
                }
            }
        }
    }
}

#[test]
fn kernels_move_and_compute_what_the_ledger_says() {
    let on = |gpu: Gpu, model: &ModelSpec, dtype, batch, tokens, context| {
        check(gpu, model, Pass::new(batch, tokens, context), precision(dtype, dtype), &Spread);
    };
    // Widths that end in half a piece of int8.
    let odd = odd_model(128, 4, 2);
    let grouped = grouped_model(384, 512, 4, 64);
    for (gpu, model, dtype) in
        [(a100(), &odd, DType::Int8), (h100(), &odd, DType::Fp8), (h100(), &grouped, DType::Int4)]
    {
        on(gpu.clone(), model, dtype, 1, 1, 5);
        on(gpu.clone(), model, dtype, 6, 1, 2);
        on(gpu.clone(), model, dtype, 33, 1, 2);
        on(gpu, model, dtype, 2, 70, 70);
    }
    // Products of codes of a token, of a decode step and of prompts.
    for (gpu, head, batch, tokens) in
        [(a100(), DType::Int8, 1, 1), (h100(), DType::Bf16, 33, 1), (a100(), DType::Int8, 2, 70)]
    {
        check(gpu, &odd, Pass::new(batch, tokens, tokens), w8a8(DType::Int8, head), &Spread);
    }
    // The layers as they are, the head narrower.
    let head_alone = precision(DType::Bf16, DType::Int4);
    check(a100(), &grouped, Pass::new(2, 1, 3), head_alone, &Spread);
}

#[test]
fn what_there_are_no_kernels_for_is_refused() {
    let refused = |model: &ModelSpec, types: Precision| {
        Suite::<InterpretedGpu>::supports(model, types).unwrap_err().to_string()
    };
    let model = grouped_model(256, 384, 4, 64);
    let text = refused(&model, w8a8(DType::Int4, DType::Int4));
    assert!(text.contains("no int8 activations beside int4 weights"), "{text}");
    let text = refused(&odd_model(64, 4, 2), precision(DType::Int4, DType::Bf16));
    assert!(text.contains("groups of 128 columns"), "{text}");
    assert!(refused(&model, DType::F32.into()).contains("no f32 activations"));
}

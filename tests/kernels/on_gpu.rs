//! The same checks on a GPU, where there is one: `cargo test --test kernels on_gpu -- --ignored`, and again under
//! compute-sanitizer. Both are the same launches of the same PTX, so GPU and interpreter must agree.

use llmroof::backend::Residency;
use llmroof::backend::cuda::driver::Driver;
use llmroof::backend::cuda::suite::Suite;
use llmroof::backend::weights::{RandomWeights, WeightSource};
use llmroof::model::{DType, ModelSpec, Precision};

use crate::device;
use crate::forward::{golden, odd_models};
use crate::gpu::InterpretedGpu;
use crate::held::Spread;
use crate::ledger::odd_model;

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn golden_checkpoints() {
    golden(|| device::open().unwrap());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn every_stage_of_odd_models() {
    odd_models(device::open().unwrap());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gpu_and_interpreter_agree() {
    let grouped = ModelSpec { hidden: 384, ffn: 512, ..odd_model(64, 4, 2) };
    let of = |dtype| Precision { weights: dtype, head: dtype, ..Precision::BF16 };
    let odd = odd_model(128, 6, 2);
    agree(&odd, Precision::BF16, &RandomWeights::new(3, &odd));
    // What both make of a distribution differs in last places, which quantising would make larger: rows do not.
    agree(&odd, of(DType::Int8), &Spread);
    agree(&odd, of(DType::Fp8), &Spread);
    agree(&grouped, of(DType::Int4), &Spread);
}

fn agree(model: &ModelSpec, precision: Precision, weights: &dyn WeightSource) {
    let device = device::open().unwrap();
    let interpreted = InterpretedGpu::new(device.gpu().clone());
    let (mut device, mut interpreted) = (Suite::new(device), Suite::new(interpreted));
    let residency = Residency { model: model.clone(), layers: 2, precision, copies: 1 };
    device.load(&residency, weights).unwrap();
    interpreted.load(&residency, weights).unwrap();
    for batch in [1, 5, 20, 70] {
        device.begin(batch, 64, None).unwrap();
        interpreted.begin(batch, 64, None).unwrap();
        for tokens in [7, 1, 1] {
            let fed: Vec<Vec<u32>> =
                (0..batch).map(|s| (0..tokens).map(|t| (s * 31 + t * 7) % model.vocab).collect()).collect();
            let (on, off) = (device.forward(&fed, true).unwrap(), interpreted.forward(&fed, true).unwrap());
            assert_eq!(on.len(), off.len());
            for (on, off) in on.iter().zip(&off) {
                let error = crate::numbers::relative_error(
                    &on.values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
                    &off.values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
                );
                // The order of additions and the approximate functions differ; through two layers of bf16 that
                // grows to some thousandths.
                assert!(
                    error < 1e-2,
                    "{precision:?}: {:?} {} at batch {batch}, {tokens} tokens: {error}",
                    on.stage,
                    on.layer
                );
            }
        }
    }
}

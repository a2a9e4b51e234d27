//! Whole models through the suite: the golden checkpoints with the logits that transformers computes, and every
//! stage of odd random models, as `llmroof verify` checks them.

use std::env;
use std::path::{Path, PathBuf};

use llmroof::backend::Session;
use llmroof::backend::cuda::driver::Driver;
use llmroof::backend::cuda::step::Products;
use llmroof::checkpoint::Checkpoint;
use llmroof::measure::verify::{Extent, Row, check_checkpoint, check_kernels, worst};
use llmroof::model::{DType, Precision};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::session::SuiteSession;

/// The golden folders, a prompt and twelve decode steps each, on a fresh GPU.
pub fn golden<D: Driver>(gpu: impl Fn() -> D) {
    golden_with(gpu, Products::Own, |_| ());
}

fn golden_with<D: Driver>(gpu: impl Fn() -> D, products: Products, ran: impl Fn(&D)) {
    for name in ["tiny-gqa-hd128", "tiny-tied-hd64"] {
        let checkpoint = Checkpoint::open(&golden_folder().join(name)).unwrap();
        let mut session = SuiteSession::open(gpu()).multiplying(products);
        let rows = check_checkpoint(&mut session, &checkpoint, 1, DType::Bf16.into(), &[]).unwrap();
        assert_eq!(rows.len(), 13);
        assert!(rows.iter().all(|row| row.bound == 0.05));
        assert!(rows.iter().all(Row::passed), "{name}: {:?}", worst(&rows));
        println!("{name}: {:?}", worst(&rows));
        ran(session.driver());
    }
}

/// Where the checkpoints are, also for a test binary that was carried to another machine and runs in a checkout.
fn golden_folder() -> PathBuf {
    let built_at = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    let root = if built_at.is_dir() { built_at } else { env::current_dir().unwrap() };
    root.join("tests/golden")
}

/// Every stage of random models against the reference stage.
pub fn odd_models<D: Driver>(gpu: D) {
    odd_models_with(gpu, Products::Own, |_| ());
}

fn odd_models_with<D: Driver>(gpu: D, products: Products, ran: impl Fn(&D)) {
    let mut session = SuiteSession::open(gpu).multiplying(products);
    let rows = check_kernels(&mut session, 7, DType::Bf16.into(), None, Extent::Full).unwrap();
    assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
    assert!(rows.iter().all(|row| row.rows > 0));
    println!("{}: {:?}", session.device().name, worst(&rows));
    ran(session.driver());
}

#[test]
fn golden_checkpoints_on_sm_80() {
    golden(|| InterpretedGpu::new(a100()));
}

#[test]
fn golden_checkpoints_on_sm_90() {
    golden(|| InterpretedGpu::new(h100()));
}

#[test]
fn every_stage_of_odd_models() {
    odd_models(InterpretedGpu::new(a100()));
    odd_models(InterpretedGpu::new(h100()));
}

#[test]
fn every_stage_of_odd_models_with_caches_in_pages() {
    for (gpu, kv, page, extent) in [
        (a100(), DType::Bf16, 16, Extent::Full),
        (h100(), DType::Bf16, 128, Extent::Short),
        (a100(), DType::Int8, 32, Extent::Short),
        (h100(), DType::Fp8, 16, Extent::Short),
    ] {
        let mut session = SuiteSession::open(InterpretedGpu::new(gpu));
        let types = Precision { kv, ..Precision::BF16 };
        let rows = check_kernels(&mut session, 7, types, Some(page), extent).unwrap();
        println!("{}, pages of {page}: {:?}", types.name(), worst(&rows));
        assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
    }
}

/// Every linear stage of some pass but the head was multiplied by cuBLASLt, and not by our own.
fn cublaslt_ran(gpu: &InterpretedGpu) {
    let ran = |kernel: &str| gpu.profiles.iter().any(|(launch, _)| launch.kernel.starts_with(kernel));
    assert!(ran("rotate_append") && ran("silu_multiply"), "no pass had so many rows");
    assert!(!ran("gemm_qkv") && !ran("gemm_residual") && !ran("gemm_gate_up"));
}

/// cuBLASLt's products are the test's own, on the host; all around them is what ships.
#[test]
fn golden_checkpoints_with_products_of_cublaslt() {
    golden_with(|| InterpretedGpu::new(a100()), Products::CublasLt, cublaslt_ran);
}

#[test]
fn every_stage_of_odd_models_with_products_of_cublaslt() {
    odd_models_with(InterpretedGpu::new(a100()), Products::CublasLt, cublaslt_ran);
    odd_models_with(InterpretedGpu::new(h100()), Products::CublasLt, cublaslt_ran);
}

//! Whole models through the suite: the golden checkpoints with the logits that transformers computes, and every
//! stage of odd random models, as `llmroof verify` checks them.

use std::path::Path;

use llmroof::backend::Session;
use llmroof::checkpoint::Checkpoint;
use llmroof::measure::verify::{Extent, Row, check_checkpoint, check_kernels, worst};
use llmroof::model::DType;

use crate::gpu::{a100, h100};
use crate::session::InterpretedSession;

/// The golden folders, prefill and twelve decode steps each, on the PTX that this GPU would load.
fn golden(gpu: fn() -> llmroof::backend::cuda::driver::Gpu) {
    for folder in ["golden/tiny-gqa-hd128", "golden/tiny-tied-hd64"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let mut session = InterpretedSession::open(gpu());
        let rows = check_checkpoint(&mut session, &checkpoint, 1, DType::Bf16).unwrap();
        assert_eq!(rows.len(), 13);
        assert!(rows.iter().all(|row| row.bound == 0.05));
        assert!(rows.iter().all(Row::passed), "{}: {:?}", folder.display(), worst(&rows));
        println!("{}: {:?}", folder.display(), worst(&rows));
    }
}

#[test]
fn golden_checkpoints_on_sm_80() {
    golden(a100);
}

#[test]
fn golden_checkpoints_on_sm_90() {
    golden(h100);
}

#[test]
fn every_stage_of_odd_models() {
    for gpu in [a100(), h100()] {
        let mut session = InterpretedSession::open(gpu);
        let rows = check_kernels(&mut session, 7, DType::Bf16, Extent::Full).unwrap();
        assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
        assert!(rows.iter().all(|row| row.rows > 0));
        println!("{}: {:?}", session.device().name, worst(&rows));
    }
}

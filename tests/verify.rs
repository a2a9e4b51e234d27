//! The verification passes a device that computes a Llama and fails every one that does not.
#![allow(clippy::unwrap_used)]

mod support;

use llmroof::backend::weights::Tensor;
use llmroof::checkpoint::Checkpoint;
use llmroof::error::Code;
use llmroof::measure::verify::{
    Extent, Row, check_checkpoint, check_kernels, check_support, quick_check, worst,
};
use llmroof::model::DType;
use llmroof::workload::Stage;
use support::session::{Fault, ReferenceSession};

fn golden(folder: &str, fault: Fault, activations: DType) -> Vec<Row> {
    let checkpoint = Checkpoint::open(&support::tests(folder)).unwrap();
    check_checkpoint(&mut ReferenceSession::new(fault), &checkpoint, 1, activations.into(), &[]).unwrap()
}

fn kernels(fault: Fault, activations: DType) -> Vec<Row> {
    check_kernels(&mut ReferenceSession::new(fault), 1, activations.into(), None, Extent::Short).unwrap()
}

#[test]
fn a_right_device_passes_on_the_golden_checkpoints() {
    let rows = golden(support::GOLDEN[0], Fault::None, DType::F32);
    assert_eq!(rows.len(), 13);
    assert_eq!((rows[0].check.as_str(), rows[12].check.as_str()), ("prefill", "decode 12"));
    assert!(rows.iter().all(Row::passed), "{:?}", worst(&rows));
}

#[test]
fn a_right_device_passes_the_kernel_check() {
    for activations in [DType::F32, DType::Bf16] {
        let rows = kernels(Fault::None, activations);
        let checks: Vec<&str> = rows.iter().map(|row| row.check.as_str()).collect();
        assert_eq!(checks, ["embed", "qkv", "attention", "out_proj", "gate_up", "down", "lm_head", "logits"]);
        assert!(rows.iter().all(|row| row.passed() && row.rows > 0), "{:?}", worst(&rows));
    }
}

#[test]
fn a_wrong_model_fails_both_checks() {
    type Make = fn() -> Fault;
    let faults: [(&str, Make); 6] = [
        ("rotary base 5% off", || Fault::Model(|spec| spec.rope_theta *= 1.05)),
        ("no rotary scaling", || Fault::Model(|spec| spec.rope_scaling = None)),
        ("a hundredth of the epsilon", || Fault::Model(|spec| spec.norm_eps *= 0.01)),
        ("keys and values from the layer below", || {
            Fault::Weights(|_, tensor, layer, row| match tensor {
                Tensor::K | Tensor::V => (tensor, layer.saturating_sub(1), row),
                _ => (tensor, layer, row),
            })
        }),
        ("heads in another order", || {
            Fault::Weights(|spec, tensor, layer, row| match tensor {
                Tensor::Q => (tensor, layer, (row + spec.head_dim) % spec.q_width()),
                _ => (tensor, layer, row),
            })
        }),
        ("the step's position is one too high", || {
            // The same token twice: what follows is rotated and attended one position on.
            Fault::Tokens(|pass, tokens| {
                if pass == 1 {
                    tokens.iter_mut().for_each(|own| own.insert(0, 0));
                }
            })
        }),
    ];
    let mut unseen = Vec::new();
    for (name, fault) in faults {
        // The wider of the bounds must find it.
        let mut session = ReferenceSession::new(fault());
        let rows = check_kernels(&mut session, 1, DType::Bf16.into(), None, Extent::Short);
        if rows.is_ok_and(|rows| rows.iter().all(Row::passed)) {
            unseen.push(format!("{name}, kernels"));
        }
        let checkpoint = Checkpoint::open(&support::tests(support::GOLDEN[0])).unwrap();
        let mut session = ReferenceSession::new(fault());
        let rows = check_checkpoint(&mut session, &checkpoint, 1, DType::F32.into(), &[]);
        if rows.is_ok_and(|rows| rows.iter().all(Row::passed)) {
            unseen.push(format!("{name}, golden"));
        }
    }
    assert!(unseen.is_empty(), "not found: {unseen:?}");
}

#[test]
fn a_wrong_output_is_found_and_named() {
    fn change(outputs: &mut [llmroof::backend::StageOutput], stage: Stage, change: fn(&mut Vec<f32>)) {
        outputs.iter_mut().filter(|o| o.stage == stage).for_each(|o| change(&mut o.values));
    }
    let faults: [(&str, Fault); 6] = [
        ("gate_up", Fault::Outputs(|_, all| change(all, Stage::GateUp, |v| v[7] += 0.1))),
        ("attention", Fault::Outputs(|_, all| change(all, Stage::Attention, |v| v[0] = f32::NAN))),
        (
            "down",
            Fault::Outputs(|_, all| change(all, Stage::Down, |v| v.iter_mut().for_each(|x| *x *= 1.02))),
        ),
        ("qkv", Fault::Outputs(|_, all| change(all, Stage::Qkv, |v| v.swap(0, 1)))),
        ("lm_head", Fault::Outputs(|_, all| change(all, Stage::LmHead, |v| v.truncate(3)))),
        // Only in the pass that crosses position 64.
        (
            "attention",
            Fault::Outputs(|pass, all| {
                if pass == 3 {
                    change(all, Stage::Attention, |v| v[70] += 0.1);
                }
            }),
        ),
    ];
    for (stage, fault) in faults {
        let rows = kernels(fault, DType::Bf16);
        let failed: Vec<&str> =
            rows.iter().filter(|row| !row.passed()).map(|row| row.check.as_str()).collect();
        assert!(failed.contains(&stage), "{stage}: {failed:?}");
    }
}

#[test]
fn the_quick_check_stops_a_measurement() {
    let passed =
        quick_check(&mut ReferenceSession::new(Fault::None), 1, &[DType::Bf16.into()], &[], false).unwrap();
    assert!(passed.passed && passed.largest_error < passed.bound);
    let fault = Fault::Model(|spec| spec.rope_theta *= 1.05);
    let failure =
        quick_check(&mut ReferenceSession::new(fault), 1, &[DType::Bf16.into()], &[], false).unwrap_err();
    assert_eq!(failure.code, Code::Invalid);
    assert!(failure.to_string().contains("qkv"), "{failure}");
}

#[test]
fn a_trace_with_a_stage_missing_is_no_llama() {
    let fault = Fault::Outputs(|_, all| drop(all.remove(3)));
    let failure =
        quick_check(&mut ReferenceSession::new(fault), 1, &[DType::F32.into()], &[], false).unwrap_err();
    assert_eq!(failure.code, Code::Invalid);
}

#[test]
fn what_a_device_cannot_run_has_not_passed() {
    let mut session = ReferenceSession::new(Fault::Without(DType::F32));
    for refused in [
        check_support(&session, DType::F32.into(), Extent::Full),
        check_kernels(&mut session, 1, DType::F32.into(), None, Extent::Short).map(drop),
        quick_check(&mut session, 1, &[DType::F32.into()], &[], false).map(drop),
    ] {
        let failure = refused.unwrap_err();
        assert_eq!((failure.code, failure.what.as_str()), (Code::BadInput, "no f32 activations"));
    }
    assert!(check_support(&session, DType::Bf16.into(), Extent::Full).is_ok());
}

//! Every wrong output and every wrong model is caught by the short check that comes before any timing, whatever the
//! seed; on the CPU's real kernels.

#![allow(clippy::unwrap_used)]

use std::fmt::Display;

use faulty::{Faults, FaultySession};
use llmroof::backend::cpu::CpuBackend;
use llmroof::backend::{Backend, OpenOptions};
use llmroof::error::Code;
use llmroof::measure::verify;
use llmroof::model::{DType, Precision, Tensor};
use llmroof::workload::Stage;

const PRECISIONS: [DType; 2] = [DType::F32, DType::Bf16];

/// What the short check says of a CPU with these faults.
fn check(seed: u64, activations: DType, variables: &[(&str, &str)]) -> llmroof::error::Result<()> {
    let real = CpuBackend.open(&OpenOptions { threads: Some(1), ..OpenOptions::default() }).unwrap();
    let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut session = FaultySession::new(real, Faults::of(given).unwrap());
    verify::quick_check(&mut session, seed, &[Precision::unquantised(activations)], &[], false).map(|_| ())
}

/// Asserts that it is caught, by exit 5.
#[track_caller]
fn caught(seed: u64, activations: DType, variables: &[(&str, &str)]) {
    let failure = check(seed, activations, variables)
        .expect_err(&format!("{variables:?} with seed {seed}, {activations}"));
    assert_eq!(failure.code, Code::Invalid, "{failure}");
    assert!(failure.what.starts_with("verification failed: "), "{failure}");
}

/// Each with several seeds, so that no lucky one hides it.
fn each_caught(name: &str, values: impl IntoIterator<Item = impl Display>) {
    for (at, value) in values.into_iter().enumerate() {
        for seed in 0..3 {
            let activations = PRECISIONS[(at + seed as usize) % 2];
            caught(seed, activations, &[(name, &value.to_string())]);
        }
    }
}

#[test]
fn right_kernels_pass() {
    for seed in 0..3 {
        for activations in PRECISIONS {
            check(seed, activations, &[]).unwrap();
        }
    }
}

#[test]
fn an_output_read_before_it_was_written_is_caught_in_every_stage() {
    each_caught("FAULTY_OUTPUT", Stage::ALL.map(|stage| format!("stale:{stage}")));
}

#[test]
fn an_output_whose_second_half_was_not_written_yet_is_caught_in_every_stage() {
    each_caught("FAULTY_OUTPUT", Stage::ALL.map(|stage| format!("half:{stage}")));
}

#[test]
fn the_wrong_weights_are_caught_for_every_tensor() {
    let name = |tensor: Tensor| match tensor {
        Tensor::AttentionNorm => "attention_norm".to_owned(),
        Tensor::FfnNorm => "ffn_norm".to_owned(),
        Tensor::FinalNorm => "final_norm".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    // The final norm is one row: there is no other to mix it up with.
    let tensors = Tensor::ALL.into_iter().filter(|&tensor| tensor != Tensor::FinalNorm);
    each_caught("FAULTY_MODEL", tensors.map(|tensor| format!("weights:{}", name(tensor))));
}

#[test]
fn a_rotation_or_a_norm_that_is_off_is_caught() {
    each_caught("FAULTY_MODEL", ["rope:5%", "rope:-5%", "epsilon:50%", "epsilon:-50%"]);
}

#[test]
fn one_element_that_is_no_number_is_caught_wherever_it_is() {
    for seed in 0..8 {
        let place = seed.to_string();
        caught(seed % 3, PRECISIONS[seed as usize % 2], &[("FAULTY_OUTPUT", "nan"), ("FAULTY_SEED", &place)]);
    }
}

/// The smallest error of a single element that is caught for certain: its bound, and on top of it the largest error that a
/// right kernel makes itself, which may point the other way. f32: 1e-4 and 1e-5; bf16: 5% and 3.5%.
const CERTAIN: [(DType, &str); 2] = [(DType::F32, "0.00012"), (DType::Bf16, "0.09")];

#[test]
fn one_element_off_by_a_little_more_than_its_bound_is_caught_wherever_it_is() {
    for (activations, size) in CERTAIN {
        for seed in 0..10 {
            let variables =
                [("FAULTY_OUTPUT", "element"), ("FAULTY_SIZE", size), ("FAULTY_SEED", &seed.to_string()[..])];
            caught(seed % 3, activations, &variables);
        }
    }
}

#[test]
fn one_element_off_by_less_than_its_bound_passes() {
    // What cannot be told from rounding: without this the test above would prove nothing about its figures.
    for (activations, size) in [(DType::F32, "0.00005"), (DType::Bf16, "0.01")] {
        let variables = [("FAULTY_OUTPUT", "element:qkv"), ("FAULTY_SIZE", size)];
        check(1, activations, &variables).unwrap();
    }
}

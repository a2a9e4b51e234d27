//! The CPU's kernels compute a Llama, with every instruction set that this machine has.
#![allow(clippy::unwrap_used)]

mod support;

use assert_cmd::Command;
use llmroof::backend::cpu::{CpuBackend, InstructionSet};
use llmroof::backend::{Backend, OpenOptions};
use llmroof::checkpoint::Checkpoint;
use llmroof::measure::verify::{Extent, Row, check_checkpoint, check_kernels, quick_check, worst};
use llmroof::model::{DType, Precision};

#[test]
fn every_instruction_set_passes_both_checks() {
    for set in InstructionSet::available() {
        for threads in [1, 2] {
            let options = OpenOptions {
                threads: Some(threads),
                instruction_set: Some(set.name().to_string()),
                ..OpenOptions::default()
            };
            // A machine with one core has no two threads to give.
            let Ok(mut session) = CpuBackend.open(&options) else { continue };
            for activations in [DType::F32, DType::Bf16] {
                for folder in support::GOLDEN {
                    let checkpoint = Checkpoint::open(&support::tests(folder)).unwrap();
                    let rows =
                        check_checkpoint(session.as_mut(), &checkpoint, 1, activations.into(), &[]).unwrap();
                    assert_eq!(rows.len(), 13);
                    assert!(rows.iter().all(Row::passed), "{}: {:?}", set.name(), worst(&rows));
                }
                if threads == 2 {
                    let rows =
                        check_kernels(session.as_mut(), 1, activations.into(), None, Extent::Short).unwrap();
                    assert!(rows.iter().all(Row::passed), "{}: {:?}", set.name(), worst(&rows));
                }
            }
        }
    }
}

/// Weights, activations and cache in every combination that the CPU has.
fn quantised() -> impl Iterator<Item = Precision> {
    let weights = [DType::Bf16, DType::Int8, DType::Int4];
    let heads = |weights| [weights, DType::Bf16];
    let all = weights.into_iter().flat_map(move |w| heads(w).map(|head| (w, head)));
    let all = all.flat_map(|(weights, head)| {
        [DType::Bf16, DType::Int8].into_iter().flat_map(move |activations| {
            [DType::Bf16, DType::Int8].map(|kv| Precision { weights, head, activations, kv })
        })
    });
    let unquantised_inputs = |p: &Precision| p.weights.is_quantised() || p.activations == DType::Bf16;
    all.filter(move |p| p.is_quantised() && unquantised_inputs(p))
}

#[test]
fn quantised_weights_and_caches_pass_on_every_instruction_set() {
    for set in InstructionSet::available() {
        let options = OpenOptions {
            threads: Some(1),
            instruction_set: Some(set.name().to_string()),
            ..OpenOptions::default()
        };
        let mut session = CpuBackend.open(&options).unwrap();
        for precision in quantised() {
            let rows = check_kernels(session.as_mut(), 1, precision, None, Extent::Short).unwrap();
            assert!(rows.iter().all(Row::passed), "{} {precision:?}: {:?}", set.name(), worst(&rows));
        }
    }
}

#[test]
fn caches_in_pages_pass_on_every_instruction_set() {
    for set in InstructionSet::available() {
        let options = OpenOptions {
            threads: Some(1),
            instruction_set: Some(set.name().to_string()),
            ..OpenOptions::default()
        };
        let mut session = CpuBackend.open(&options).unwrap();
        let int8 = Precision { kv: DType::Int8, ..Precision::BF16 };
        for precision in [DType::F32.into(), Precision::BF16, int8] {
            for page in [16, 32, 64, 256] {
                let rows = check_kernels(session.as_mut(), 1, precision, Some(page), Extent::Short).unwrap();
                assert!(
                    rows.iter().all(Row::passed),
                    "{} {precision:?} {page}: {:?}",
                    set.name(),
                    worst(&rows)
                );
            }
        }
    }
}

#[test]
fn a_quantised_checkpoint_is_held_against_its_own_weights_and_the_unquantised_ones() {
    let mut session = CpuBackend.open(&OpenOptions::default()).unwrap();
    let checkpoint = Checkpoint::open(&support::tests(support::GOLDEN[0])).unwrap();
    let grouped = Checkpoint::open(&support::tests(support::GOLDEN[1])).unwrap();
    for precision in quantised() {
        for checkpoint in [&checkpoint, &grouped] {
            if precision.check(checkpoint.spec()).is_err() {
                continue;
            }
            let rows = check_checkpoint(session.as_mut(), checkpoint, 1, precision, &[]).unwrap();
            assert!(rows.iter().all(Row::passed), "{precision:?}: {:?}", worst(&rows));
            // What quantising costs, beside what the kernels err by: four bits cost several percent, eight hardly any.
            let cost = rows.iter().filter_map(|row| row.unquantised_error).fold(0.0, f64::max);
            let range = if precision.weights == DType::Int4 { 0.05..1.0 } else { 0.001..0.15 };
            assert!(range.contains(&cost), "{precision:?}: {cost}");
        }
    }
}

#[test]
fn the_check_before_a_measurement_is_quick() {
    let mut session = CpuBackend.open(&OpenOptions::default()).unwrap();
    let start = std::time::Instant::now();
    let verification = quick_check(session.as_mut(), 1, &[DType::Bf16.into()], &[], false).unwrap();
    assert!(verification.passed && verification.largest_error < verification.bound);
    // Under a second when optimised; this is a test build on whatever else the machine does.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    println!("{:?}: {}", start.elapsed(), verification.description);
}

fn verify(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("llmroof")
        .unwrap()
        .arg("verify")
        // `auto` says on stderr why it is not a GPU.
        .env("LLMROOF_DEVICE", "cpu")
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_good_checkpoint_passes() {
    let folder = support::tests(support::GOLDEN[0]);
    let (code, out, err) = verify(&["--checkpoint", folder.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    let verdicts: Vec<&str> = out.lines().filter(|line| line.starts_with("PASS: ")).collect();
    assert_eq!(verdicts.len(), 2, "{out}");
    assert!(verdicts[0].starts_with("PASS: f32: 13 rows, largest error "), "{out}");
    assert!(verdicts[1].contains("bf16: 13 rows") && verdicts[1].contains("bound 5e-2"), "{out}");
}

#[test]
fn every_format_has_the_same_rows() {
    let folder = support::tests(support::GOLDEN[0]);
    let run =
        |format| verify(&["--checkpoint", folder.to_str().unwrap(), "--activations", "f32", "-o", format]).1;
    let json: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 13);
    assert_eq!(json["passed"], true);
    assert!(json["rows"][0]["error"].as_f64().unwrap() < 1e-4);
    let csv = run("csv");
    assert_eq!(csv.lines().count(), 14);
    assert!(csv.starts_with(
        "types,check,rows,error,bound,element_error,element_bound,against_unquantised,verdict,at,device\n"
    ));
    assert_eq!(run("markdown").lines().filter(|line| line.starts_with('|')).count(), 15);
}

#[test]
fn a_checkpoint_that_gives_other_logits_fails_with_5() {
    let folder = support::copy(&support::tests(support::GOLDEN[0]));
    // Another rotary base in config.json: the kernels now compute another model than the one expected.
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("500000.0", "475000.0")).unwrap();
    let (code, out, err) = verify(&["--checkpoint", folder.path().to_str().unwrap()]);
    assert_eq!(code, 5, "{out}");
    assert!(out.contains("FAIL: f32"), "{out}");
    assert!(err.starts_with("error: verification failed: ") && err.lines().count() == 1, "{err}");
}

#[test]
fn a_folder_without_expected_logits_is_checked_against_the_reference() {
    let folder = support::tests("fixtures/valid/checkpoint/sharded");
    let (code, out, err) = verify(&["--checkpoint", folder.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
}

#[test]
fn bad_input_ends_with_2_and_one_line() {
    for arguments in [
        &["--checkpoint", "no/such/folder"][..],
        &["--device", "tpu"],
        &["--device", "cpu", "--gemm", "cublaslt"],
        &["--isa", "mmx"],
        &["--threads", "4096"],
    ] {
        let (code, out, err) = verify(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{err}");
    }
}

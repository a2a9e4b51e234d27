//! `verify` on fake GPUs: the kernels compute the Llama that transformers computes.

use serde_json::Value;

use crate::fake::FakeDriver;
use crate::program::{Ended, GOLDEN, each, llmroof};

#[test]
fn both_golden_checkpoints_pass_on_both_generations() {
    let cases = ["a100", "h100"].into_iter().flat_map(|gpu| GOLDEN.map(|folder| (gpu, folder))).collect();
    each(cases, |(gpu, folder)| {
        let fake = FakeDriver::new().gpus(gpu);
        let ended = llmroof(&fake, &["verify", "--checkpoint", folder, "-o", "json"]).well();
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((ended.err.as_str(), &report["passed"]), ("", &true.into()));
        assert!(report["device_id"].as_str().unwrap().starts_with("GPU-"));
        let target = if gpu == "a100" { "sm_80" } else { "sm_90" };
        assert_eq!(report["instruction_set"], target);
        let rows = report["rows"].as_array().unwrap();
        assert!(rows.len() >= 10 && rows.iter().all(|row| row["error"].as_f64().unwrap() < 0.05), "{rows:?}");
        // The kernels are exact enough to be seen to differ from the reference at all, and no more.
        assert!(rows.iter().any(|row| row["error"].as_f64().unwrap() > 1e-4), "{rows:?}");
    });
}

#[test]
fn golden_checkpoints_pass_with_quantised_weights() {
    let cases = vec![
        ("a100", GOLDEN[0], "int8", "bf16"),
        ("h100", GOLDEN[1], "int4", "bf16"),
        ("h100", GOLDEN[0], "fp8", "bf16"),
        ("h100", GOLDEN[1], "int8", "int8"),
    ];
    each(cases, |(gpu, folder, weights, activations)| {
        let fake = FakeDriver::new().gpus(gpu).with("cublaslt");
        let options = ["--weights", weights, "--activations", activations, "-o", "json"];
        let ended = llmroof(&fake, &[&["verify", "--checkpoint", folder][..], &options].concat()).well();
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(report["passed"], true, "{}", ended.out);
        let rows: Vec<&Value> =
            report["rows"].as_array().unwrap().iter().filter(|row| row["weights"] == weights).collect();
        assert!(rows.len() >= 10, "{}", ended.out);
        // Nothing but our own kernels multiplies them.
        assert!(rows.iter().all(|row| !row["check"].as_str().unwrap().contains("cublaslt")), "{}", ended.out);
    });
}

#[test]
fn random_shapes_pass_by_our_kernels_and_by_cublaslt() {
    let fake = FakeDriver::new().with("cublaslt");
    let ended = llmroof(&fake, &["verify", "--device", "cuda:0", "-o", "csv"]).well();
    let rows: Vec<&str> = ended.out.lines().skip(1).collect();
    assert!(rows.iter().all(|row| row.contains(",pass,")), "{}", ended.out);
    assert!(rows.iter().any(|row| row.contains(", cublaslt")), "{}", ended.out);
    assert!(rows.iter().filter(|row| row.contains("gate_up")).count() >= 2, "{}", ended.out);
}

#[test]
fn all_gpus_are_verified_one_after_the_other() {
    let arguments = ["verify", "--device", "cuda:all", "--checkpoint", GOLDEN[0], "-o", "json"];
    // The second cannot be opened: the first is verified all the same.
    let fake = FakeDriver::new().gpus("h100,a100,old").fault("cuDevicePrimaryCtxRetain=46@2");
    let Ended { code, out, err } = llmroof(&fake, &arguments);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["passed"]), (Some(4), &true.into()), "{err}");
    assert_eq!(report["device"], "NVIDIA H100 80GB HBM3");
    assert!(report["left_out"][0].as_str().unwrap().contains("f32"));
    assert!(err.lines().next().unwrap().contains("left out: Tesla V100"), "{err}");
    let last = err.lines().last().unwrap();
    assert!(last.starts_with("error: cuda:1 NVIDIA A100-SXM4-80GB GPU-"), "{err}");
}

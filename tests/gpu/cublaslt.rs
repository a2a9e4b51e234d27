//! `--gemm` through the real program on a fake GPU: cuBLASLt found, chosen, verified, and what is said where it is not.

use crate::fake::FakeDriver;
use llmroof::run::Run;

/// Its prompt has 77 tokens: products of many rows.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-gqa-hd128");

/// Exit code, stdout and stderr of `verify` on the golden checkpoint.
fn verify(fake: &FakeDriver, gemm: &str) -> (i32, String, String) {
    let args = ["verify", "--device", "cuda:0", "--checkpoint", GOLDEN, "-o", "csv", "--gemm", gemm];
    let out = fake.llmroof(&args).output().unwrap();
    let [stdout, stderr] = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (out.status.code().unwrap(), stdout, stderr)
}

/// It ended with exit 4 and this in one line on stderr, with a hint that helps.
fn assert_refused(fake: &FakeDriver, gemm: &str, what: &str) {
    let (code, stdout, stderr) = verify(fake, gemm);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (4, "", 1), "{stderr}");
    assert!(stderr.contains(what) && stderr.contains("--gemm own"), "{stderr}");
}

#[test]
fn what_may_be_timed_is_verified() {
    let fake = FakeDriver::new().with("cublaslt");
    for (gemm, own, theirs) in [("auto", 13, 13), ("own", 13, 0), ("cublaslt", 0, 13)] {
        let (code, stdout, stderr) = verify(&fake, gemm);
        assert_eq!(code, 0, "{stdout}{stderr}");
        let rows: Vec<&str> = stdout.lines().skip(1).collect();
        let by_cublaslt = rows.iter().filter(|row| row.contains(", cublaslt")).count();
        assert_eq!((rows.len() - by_cublaslt, by_cublaslt), (own, theirs), "{gemm}: {stdout}");
        assert!(rows.iter().all(|row| row.contains(",pass,")), "{stdout}");
    }
}

#[test]
fn without_a_library_that_starts_only_our_own_multiply() {
    let with = || FakeDriver::new().with("cublaslt");
    for (fake, what) in [
        (FakeDriver::new(), "was not found"),
        (with().fault("cublasLtCreate=1"), "does not start with this driver"),
        (with().without_symbol("cublasLtMatmul"), "has no cublasLtMatmul"),
    ] {
        assert_refused(&fake, "cublaslt", what);
        let (code, stdout, stderr) = verify(&fake, "auto");
        assert_eq!(code, 0, "{stderr}");
        assert!(!stdout.contains("cublaslt"), "{stdout}");
    }
}

#[test]
fn a_product_that_fails_is_one_line() {
    for (fault, what) in [
        ("cublasLtMatmul=13@3", "(status 13)"),
        ("cublasLtMatmulAlgoGetHeuristic=15", "(status 15)"),
        ("cublasLtMatmulDescCreate=3@2", "(status 3)"),
        // A status that nobody has heard of.
        ("cublasLtMatmul=99", "(status 99)"),
    ] {
        assert_refused(&FakeDriver::new().with("cublaslt").fault(fault), "cublaslt", what);
    }
    // What our own compute does not depend on it.
    let (code, _, stderr) = verify(&FakeDriver::new().with("cublaslt").fault("cublasLt*=13"), "own");
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_cpu_has_no_cublaslt() {
    let out =
        FakeDriver::new().llmroof(&["verify", "--device", "cpu", "--gemm", "cublaslt"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(String::from_utf8(out.stderr).unwrap().lines().count(), 1);
}

/// The gemm of each prefill point that has one, of a run of a large model whose kernels are timed and not executed.
fn measured(gemm: &str, weights: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (fake, path) = (FakeDriver::new().with("cublaslt"), folder.path().to_str().unwrap());
    let args = ["measure", "--device", "cuda:0", "--model", "llama-8b", "--phase", "prefill", "--batch", "1"];
    let more = ["--prompt", "512", "--budget", "2s", "--gemm", gemm, "--reports", path, "--weights", weights];
    let out = fake.llmroof(&[&args[..], &more].concat()).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let run = Run::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
    run.points.into_iter().filter_map(|point| point.gemm).collect()
}

#[test]
fn the_run_says_what_multiplied() {
    // The step, qkv, out_proj, gate_up and down. Never the head.
    assert_eq!(measured("cublaslt", "bf16"), vec!["cublaslt 12.8.4"; 5]);
    assert_eq!(measured("own", "bf16"), vec!["own"; 5]);
    let auto = measured("auto", "bf16");
    assert!(auto.len() == 5 && auto.windows(2).all(|pair| pair[0] == pair[1]), "{auto:?}");
}

#[test]
fn quantised_products_are_our_own() {
    assert_eq!(measured("auto", "int8"), vec!["own"; 5]);
    let fake = FakeDriver::new().with("cublaslt");
    let args =
        ["verify", "--device", "cuda:0", "--checkpoint", GOLDEN, "--weights", "int8", "--gemm", "cublaslt"];
    let out = fake.llmroof(&args).output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("cuBLASLt multiplies no int8 weights") && stderr.contains("--gemm own"),
        "{stderr}"
    );
}

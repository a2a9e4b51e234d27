//! `measure` through the real program on fake GPUs: several at once, and what stays of a run that fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/fake.rs"]
mod fake;

use std::path::Path;
use std::process::Output;

use fake::FakeDriver;
use llmroof::run::{Run, RunStatus};

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-tied-hd64");

fn measure(fake: &FakeDriver, device: &str, reports: &Path, more: &[&str]) -> Output {
    let mut args = vec!["measure", "--checkpoint", SMALL, "--device", device, "--prompt", "20"];
    args.extend(["--generate", "10", "--batch", "1,2", "--budget", "6s", "--reports"]);
    args.push(reports.to_str().unwrap());
    args.extend(more);
    fake.llmroof(&args).output().unwrap()
}

fn runs(folder: &Path) -> Vec<Run> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let texts = entries.flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap());
    texts.map(|text| Run::from_json(&text).unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn all_gpus_are_measured_in_turn_and_one_file_is_refused_for_them() {
    let fake = FakeDriver::new().gpus("h100,a100");
    let folder = tempfile::tempdir().unwrap();
    for more in [["-o", "json"], ["-o", "csv"], ["--export", "/tmp/points.csv"]] {
        let out = measure(&fake, "cuda:all", folder.path(), &more);
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("2 GPUs") && stderr.contains(". hint: "), "{stderr}");
        assert_eq!((stderr.lines().count(), out.stdout.len()), (1, 0), "{stderr}");
        assert!(runs(folder.path()).is_empty());
    }
    let out = measure(&fake, "cuda:all", folder.path(), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let mut names: Vec<String> = runs(folder.path()).into_iter().map(|run| run.device.name).collect();
    names.sort();
    assert_eq!(names.len(), 2);
    assert!(names[0].contains("A100") && names[1].contains("H100"), "{names:?}");
    let tables = text(&out.stdout);
    assert!(names.iter().all(|name| tables.contains(&format!(" on {name}"))), "{tables}");
}

#[test]
fn a_gpu_that_fails_midway_leaves_its_points_and_exits_with_4() {
    // The first pass takes some fifty graphs, one for each copy of the weights and each stage: the next one fails.
    let fake = FakeDriver::new().fault("cuGraphInstantiateWithFlags=2@60+");
    let folder = tempfile::tempdir().unwrap();
    let out = measure(&fake, "cuda:0", folder.path(), &[]);
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{stderr}");
    let error = stderr.lines().last().unwrap();
    assert!(error.starts_with("error: ") && error.contains("out of memory"), "{stderr}");
    let run = runs(folder.path()).pop().expect("the run file stays");
    assert_eq!(run.status, RunStatus::Partial);
    assert!(!run.points.is_empty());
    assert!(run.notes.iter().any(|note| note.contains("failed midway")), "{:?}", run.notes);
    assert!(text(&out.stdout).starts_with("PARTIAL"), "the table is printed all the same");
}

#[test]
fn kernels_are_compiled_side_by_side_and_one_that_is_refused_ends_it_in_one_line() {
    let fake = FakeDriver::new().fault("cuModuleLoadDataEx=218@5");
    let folder = tempfile::tempdir().unwrap();
    let out = measure(&fake, "cuda:0", folder.path(), &[]);
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{stderr}");
    let error = stderr.lines().last().unwrap();
    assert!(error.starts_with("error: loading the kernels of ") && error.contains("218"), "{stderr}");
    assert!(runs(folder.path()).is_empty());
}

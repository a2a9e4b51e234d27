//! `reports/collect.py`, which runs everything that one GPU can show, on a fake one.

use std::process::Command;

use crate::fake::FakeDriver;
use crate::program::start;

#[test]
fn everything_that_one_gpu_can_show_is_collected_in_its_folder() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is needed");
        eprintln!("left out: python3 is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeDriver::new().with("cublaslt");
    let mut command = fake.command("python3");
    command.args(["reports/collect.py", "--quick", "--llmroof", env!("CARGO_BIN_EXE_llmroof")]);
    command
        .args(["--measure=--budget=4s", "--measure=--batch=1,32", "--model", "llama-1b"])
        .arg("--out")
        .arg(folder.path());
    let ended = start(command.current_dir(env!("CARGO_MANIFEST_DIR"))).end().well();
    assert!(ended.out.contains("all of it is in "), "{}", ended.out);

    let device = folder.path().join("h100-80gb-hbm3");
    let readme = std::fs::read_to_string(device.join("README.md")).unwrap();
    for words in ["# NVIDIA H100 80GB HBM3", "| driver | 570.86.15 |", "| memory_read  | "] {
        assert!(readme.contains(words), "{words}: {readme}");
    }
    // Of the figures, only what needs PyTorch could not be seen.
    let figures = readme.split("## Figures").nth(1).unwrap().split("## ").next().unwrap();
    let unseen: Vec<&str> = figures.lines().filter(|line| line.contains("| not seen |")).collect();
    assert!(unseen.len() == 2 && unseen.iter().all(|line| line.contains("PyTorch")), "{figures}");
    // Every step that was taken went well; what was left out says why.
    let steps: Vec<&str> = readme.split("## Steps").nth(1).unwrap().lines().skip(4).collect();
    // Whether there is a profiler is this machine's affair.
    let steps = steps.iter().filter(|line| line.starts_with("| ") && !line.starts_with("| counters"));
    let (done, left): (Vec<&str>, Vec<&str>) = steps.partition(|line| line.contains("| 0 |"));
    assert_eq!(done.len(), 16, "{done:?}");
    assert!(left.iter().all(|line| line.contains("| left out | ")), "{left:?}");
    for name in ["first", "second", "prefill-own", "prefill-cublaslt", "prefill-auto", "soaked"] {
        for ending in ["json", "csv", "md", "svg", "txt"] {
            let wanted = format!("-{name}.{ending}");
            let files = std::fs::read_dir(&device).unwrap();
            let found = files.flatten().any(|file| file.file_name().to_string_lossy().ends_with(&wanted));
            assert!(found, "{wanted} is missing");
        }
    }
}

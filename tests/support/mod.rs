//! Shared by the tests. Each test file uses a part of it.
#![allow(dead_code, missing_docs)]

pub mod session;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use llmroof::run::Run;

/// A path under `tests/`.
pub fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// The golden checkpoints: real folders with the logits that transformers computes.
pub const GOLDEN: [&str; 2] = ["golden/tiny-tied-hd64", "golden/tiny-gqa-hd128"];

/// Copies the files of a folder into a fresh one.
pub fn copy(folder: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), target.path().join(entry.file_name())).unwrap();
    }
    target
}

/// The program on this machine's CPU.
pub fn llmroof(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmroof"))
        .args(arguments)
        .env("LLMROOF_DEVICE", "cpu")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

/// The run that it printed as JSON.
pub fn run_of(output: &Output) -> Run {
    Run::from_json(std::str::from_utf8(&output.stdout).unwrap())
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// That these arguments end in one line of error with these words in it, and exit code 2.
pub fn refused(arguments: &[&str], words: &str) {
    let output = llmroof(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(
        said.starts_with("error: ") && said.trim_end().lines().count() == 1 && said.contains(words),
        "{said}"
    );
}

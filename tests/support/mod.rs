//! Shared by the tests. Each test file uses a part of it.
#![allow(dead_code, missing_docs)]

pub mod session;

use std::path::{Path, PathBuf};

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

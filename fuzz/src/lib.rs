//! What the targets share: the bounds that every answer is held against, and folders with one file of the fuzzer's.

use std::fs;
use std::path::Path;

use llmroof::backend::weights::{Tensor, WeightSource};
use llmroof::checkpoint::Checkpoint;
use llmroof::error::{Code, Result};
use tempfile::TempDir;

/// The answer's value, or `None` where it is one line of bad input.
///
/// # Panics
/// It is neither.
pub fn answered<T>(answer: Result<T>) -> Option<T> {
    answer
        .inspect_err(|failure| {
            let message = failure.to_string();
            assert_eq!(failure.code, Code::BadInput, "{message}");
            assert!(!message.chars().any(char::is_control) && message.chars().count() < 2_000, "{message}");
            assert!(failure.hint.is_some(), "{message}");
        })
        .ok()
}

/// A copy of a valid checkpoint folder of the tests.
///
/// # Panics
/// The fixtures are not where they were.
pub fn folder(name: &str) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/valid/checkpoint").join(name);
    let to = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(from).expect("the fixtures") {
        let entry = entry.expect("the fixtures");
        fs::copy(entry.path(), to.path().join(entry.file_name())).expect("the folder is ours");
    }
    to
}

/// Opens the folder with these bytes in one of its files, and reads rows of every tensor.
///
/// # Panics
/// The answer is none.
pub fn open(folder: &TempDir, file: &str, bytes: &[u8]) {
    fs::write(folder.path().join(file), bytes).expect("the folder is ours");
    let Some(checkpoint) = answered(Checkpoint::open(folder.path())) else { return };
    for tensor in Tensor::ALL {
        let (rows, columns) = tensor.shape(checkpoint.spec());
        let mut out = vec![0; columns as usize];
        for row in [0, rows / 2, rows - 1] {
            checkpoint.row(tensor, 3, row, &mut out);
        }
    }
}

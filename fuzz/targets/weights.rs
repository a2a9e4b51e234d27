//! `model.safetensors`, header and data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof_fuzz::{folder, open};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = folder("single");
}

fuzz_target!(|bytes: &[u8]| FOLDER.with(|folder| open(folder, "model.safetensors", bytes)));

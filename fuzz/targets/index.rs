//! `model.safetensors.index.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof_fuzz::{folder, open};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = folder("sharded");
}

fuzz_target!(|bytes: &[u8]| FOLDER.with(|folder| open(folder, "model.safetensors.index.json", bytes)));

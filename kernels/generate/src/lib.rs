//! Makes `kernels/ptx/*.ptx` and `kernels/resources.csv` from `kernels/*.cu`, and checks that they are up to date.
//!
//! `cargo run -p generate-kernels` is the whole of it: it installs the pinned NVRTC and ptxas below `target/` if
//! they are not there yet, compiles every source for every target, and lists what each kernel takes of each GPU.
//! No GPU is needed. The same sources give the same bytes on every machine.

pub mod image;
pub mod nvrtc;
pub mod occupancy;
pub mod ptxas;
pub mod resources;
pub mod source;
pub mod tools;

use std::path::{Path, PathBuf};

/// The folder of the kernels: sources, `ptx/` and `resources.csv`.
pub fn kernels() -> PathBuf {
    let generate = Path::new(env!("CARGO_MANIFEST_DIR"));
    generate.parent().unwrap_or(generate).to_owned()
}

/// What to run when something is out of date.
pub const COMMAND: &str = "cargo run -p generate-kernels";

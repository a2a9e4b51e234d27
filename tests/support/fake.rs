//! The real binary on the fake driver: a folder with `libcuda.so.1` and `libnvidia-ml.so.1`, which is what
//! `tests/fake-driver` was built to, and the environment that goes with it.
#![allow(dead_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

/// The libraries that a folder can have. All names of one folder are one file, so that they share a clock.
const LIBRARIES: [(&str, &[&str]); 4] = [
    ("cuda", &["libcuda.so.1", "libcuda.so"]),
    ("nvml", &["libnvidia-ml.so.1"]),
    ("cublaslt", &["libcublasLt.so.12", "libcublasLt.so"]),
    ("nccl", &["libnccl.so.2"]),
];

/// Where a real driver's libraries lie.
const SYSTEM: [&str; 4] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"];

/// A machine with NVIDIA GPUs, as a program sees it. Without further ado: one H100, its driver and NVML.
pub struct FakeDriver {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What cargo built beside the test.
fn library() -> PathBuf {
    let beside = env::current_exe().expect("a test knows where it is");
    let found = beside.ancestors().skip(1).take(2).map(|folder| folder.join("libfake_driver.so"));
    found.into_iter().find(|path| path.exists()).expect("cargo builds the dev-dependency fake-driver")
}

#[cfg(unix)]
fn link(original: &Path, name: &Path) {
    std::os::unix::fs::symlink(original, name).expect("the folder is ours");
}

impl FakeDriver {
    /// With CUDA and NVML, and neither cuBLASLt nor NCCL.
    pub fn new() -> Self {
        let fake = FakeDriver { folder: tempfile::tempdir().expect("a folder"), variables: Vec::new() };
        let library = library();
        for name in LIBRARIES[..2].iter().flat_map(|(_, names)| *names) {
            link(&library, &fake.folder.path().join(name));
        }
        fake.hide("nccl");
        fake
    }

    /// Where the machine has the real library, an empty file hides it.
    fn hide(&self, library: &str) {
        for name in Self::names(library) {
            if SYSTEM.iter().any(|folder| Path::new(folder).join(name).exists()) {
                fs::write(self.folder.path().join(name), []).expect("the folder is ours");
            }
        }
    }

    /// The folder for `LD_LIBRARY_PATH`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sets a variable of the program: `FAKE_DRIVER_SLOWDOWN`, say.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.into(), value.to_string()));
        self
    }

    /// Which GPUs: `a100,h100`.
    #[must_use]
    pub fn gpus(self, list: &str) -> Self {
        self.set("FAKE_DRIVER_GPUS", list)
    }

    /// What goes wrong: `cuMemAlloc_v2=2@3`. Several are separated by `;`.
    #[must_use]
    pub fn fault(self, rule: &str) -> Self {
        self.set("FAKE_DRIVER_FAULT", rule)
    }

    fn names(library: &str) -> &'static [&'static str] {
        let found = LIBRARIES.iter().find(|(key, _)| *key == library);
        found.map(|(_, names)| *names).expect("cuda, nvml, cublaslt or nccl")
    }

    /// Leaves a library out: `cuda`, `nvml`. Where the machine has the real one, it is hidden.
    #[must_use]
    pub fn without(self, library: &str) -> Self {
        for name in Self::names(library) {
            fs::remove_file(self.folder.path().join(name)).expect("it was there");
        }
        self.hide(library);
        self
    }

    /// Adds a library: `cublaslt`, `nccl`.
    #[must_use]
    pub fn with(self, library: &str) -> Self {
        let first = self.folder.path().join(LIBRARIES[0].1[0]);
        let original = fs::canonicalize(first).expect("there is a libcuda");
        for name in Self::names(library) {
            let path = self.folder.path().join(name);
            // What hides the real one.
            drop(fs::remove_file(&path));
            link(&original, &path);
        }
        self
    }

    /// Takes a function out of the libraries, as if they were older: its name is spoilt in a copy of them.
    #[must_use]
    pub fn without_symbol(self, symbol: &str) -> Self {
        let present: Vec<PathBuf> = LIBRARIES
            .iter()
            .flat_map(|(_, names)| *names)
            .map(|name| self.folder.path().join(name))
            .filter(|path| path.exists())
            .collect();
        let mut bytes = fs::read(&present[0]).expect("there is a library");
        let name = [b"\0", symbol.as_bytes(), b"\0"].concat();
        let places: Vec<usize> = bytes
            .windows(name.len())
            .enumerate()
            .filter(|(_, part)| *part == name)
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "the libraries have no {symbol}");
        for at in places {
            bytes[at + 1] = b'_';
        }
        for path in &present {
            fs::remove_file(path).expect("the folder is ours");
        }
        fs::write(&present[0], bytes).expect("the folder is ours");
        for path in &present[1..] {
            fs::hard_link(&present[0], path).expect("the folder is ours");
        }
        self
    }

    /// A program that finds these libraries and nothing of the caller's settings.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if ["LLMROOF_", "FAKE_", "CUDA_", "NVIDIA_", "NCCL_"].iter().any(|start| text.starts_with(start))
            {
                command.env_remove(&name);
            }
        }
        command.env("LD_LIBRARY_PATH", self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The real binary with these arguments.
    pub fn llmroof(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_llmroof"));
        command.args(arguments);
        command
    }
}

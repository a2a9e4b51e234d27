//! The pinned compilers: where they lie and how they get there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What pip installs, with hashes.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// NVRTC's library and ptxas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The library.
    pub nvrtc: PathBuf,
    /// The program.
    pub ptxas: PathBuf,
    folder: PathBuf,
}

impl Tools {
    /// The tools of the pinned versions, if they are installed; no other version counts.
    pub fn installed() -> Option<Tools> {
        let folder = folder();
        let complete = REQUIREMENTS.lines().filter_map(|line| line.split_once(" --hash")).all(|(pin, _)| {
            let distribution = pin.replace('-', "_").replace("==", "-") + ".dist-info";
            folder.join(distribution).is_dir()
        });
        let tools = Tools {
            nvrtc: folder.join("nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
            ptxas: folder.join("nvidia/cuda_nvcc/bin/ptxas"),
            folder,
        };
        (complete && tools.nvrtc.is_file() && tools.ptxas.is_file()).then_some(tools)
    }

    /// The tools; installs them from PyPI where they are missing.
    ///
    /// # Errors
    /// The machine is none that they run on, or pip fails.
    pub fn install() -> Result<Tools> {
        if let Some(tools) = Tools::installed() {
            return Ok(tools);
        }
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "NVRTC 12.0 is published for Linux on x86-64 alone"
        );
        let folder = folder();
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt");
        let status = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"])
            .arg("--disable-pip-version-check")
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .arg("--target")
            .arg(&folder)
            .arg("--requirement")
            .arg(&requirements)
            .status()
            .context("python3 with pip is needed to install the compilers")?;
        if !status.success() {
            bail!("`python3 -m pip install --requirement {}` failed", requirements.display());
        }
        Tools::installed().context("pip installed something else than NVRTC and ptxas")
    }

    /// Where the machine code of a source for an architecture goes, for a look with nvdisasm.
    pub(crate) fn cubin(&self, source: &str, architecture: &str) -> Result<PathBuf> {
        let folder = self.folder.join("cubin");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder.join(format!("{source}.{architecture}.cubin")))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cuda-tools")
}

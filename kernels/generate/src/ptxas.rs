//! NVIDIA's assembler, asked what each kernel takes of a GPU.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What one kernel takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Name of the entry point.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Shared memory that the kernel declares, in bytes.
    pub static_shared: u32,
    /// Bytes of registers that a thread writes to and reads from memory because there are too few.
    pub spill_bytes: u32,
    /// Local memory of a thread in bytes.
    pub stack_bytes: u32,
}

/// Assembles a PTX file for an architecture, leaving the machine code in `cubin`.
///
/// # Errors
/// The assembler's messages; warnings (serialised wgmma among them) count as errors.
pub fn assemble(ptxas: &Path, ptx: &Path, architecture: &str, cubin: &Path) -> Result<Vec<Usage>> {
    let run = Command::new(ptxas)
        .arg("-v")
        .arg(format!("-arch={architecture}"))
        .arg(ptx)
        .arg("-o")
        .arg(cubin)
        .output()
        .with_context(|| ptxas.display().to_string())?;
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    // What ptxas calls info can be bad news too: C75xx says that matrix instructions wait for each other.
    let complaint = text
        .lines()
        .find(|line| ["warning", "error", "fatal", "(C75"].iter().any(|word| line.contains(word)));
    if !run.status.success() || complaint.is_some() {
        bail!("ptxas -arch={architecture} {}: {}", ptx.display(), complaint.unwrap_or(text.trim()));
    }
    usages(&text).with_context(|| format!("ptxas -v -arch={architecture} {}", ptx.display()))
}

/// Reads what `ptxas -v` says of each kernel.
///
/// # Errors
/// A figure is missing.
pub fn usages(text: &str) -> Result<Vec<Usage>> {
    let mut usages: Vec<Usage> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.split_once("Compiling entry function '").map(|(_, rest)| rest) {
            let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            usages.push(Usage { kernel, ..Usage::default() });
        } else if let Some(usage) = usages.last_mut() {
            if line.contains("bytes stack frame") {
                usage.stack_bytes = before(line, " bytes stack frame").context("no stack frame")?;
                usage.spill_bytes = before(line, " bytes spill stores").context("no spill stores")?
                    + before(line, " bytes spill loads").context("no spill loads")?;
            } else if line.contains("Used ") {
                usage.registers = before(line, " registers").context("no registers")?;
                usage.static_shared = before(line, " bytes smem").unwrap_or(0);
            }
        }
    }
    for usage in &usages {
        ensure!(usage.registers > 0, "nothing is said of {}", usage.kernel);
    }
    Ok(usages)
}

/// The number in front of these words.
fn before(line: &str, words: &str) -> Option<u32> {
    line.split_once(words)?.0.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

//! A PTX file as it is checked in: two lines that say what it was made from, then what NVRTC put out.

use anyhow::{Context, Result, ensure};

use crate::COMMAND;
use crate::nvrtc::Nvrtc;
use crate::source::{Source, Target, sha256};

/// Compiles a source to the whole text of its PTX file.
///
/// # Errors
/// NVRTC's messages where the source does not compile.
pub fn generate(nvrtc: &Nvrtc, source: &Source, target: &Target) -> Result<String> {
    let compiled = nvrtc.compile(source, target)?;
    // NVRTC declares its own nv::target constants in every file; no kernel uses them.
    let mut ptx = String::with_capacity(compiled.len());
    for line in compiled.lines().filter(|line| !line.contains("2nv6target")) {
        ptx.push_str(line.trim_end());
        ptx.push('\n');
    }
    Ok(format!("{}// text sha256 {}\n{ptx}", stamp(source, target), sha256(&ptx)))
}

/// Whether a PTX file was made from this very source and is as it was put out. Needs no compiler.
///
/// # Errors
/// Which of the two it is not, and what to run.
pub fn check(ptx: &str, source: &Source, target: &Target) -> Result<()> {
    let name = source.ptx_name(target);
    let rest = ptx
        .strip_prefix(&stamp(source, target))
        .with_context(|| format!("{name} was made from other sources: run `{COMMAND}`"))?;
    let (line, text) = rest.split_once('\n').unwrap_or_default();
    ensure!(
        line.strip_prefix("// text sha256 ") == Some(&sha256(text)),
        "{name} was changed after it was made: run `{COMMAND}`"
    );
    Ok(())
}

/// The first line: it changes with the sources.
fn stamp(source: &Source, target: &Target) -> String {
    format!("// {COMMAND}: from sources with sha256 {}\n", source.hash(target))
}

/// One kernel's bounds as its PTX declares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the entry point.
    pub kernel: String,
    /// Threads of a block at most.
    pub threads: u32,
    /// Blocks that a multiprocessor must have room for, as far as registers go.
    pub min_blocks: u32,
}

/// The kernels of a PTX text, in its order.
///
/// # Errors
/// A kernel that does not declare how many threads it has.
pub fn entries(ptx: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut entry = None;
    for line in ptx.lines() {
        if let Some(name) = line.split_once(".entry ").map(|(_, name)| name) {
            let kernel = name.trim_end_matches('(').trim().to_owned();
            entry = Some(Entry { kernel, threads: 0, min_blocks: 1 });
        }
        let Some(open) = &mut entry else { continue };
        if let Some(threads) = line.strip_prefix(".maxntid ") {
            open.threads = threads
                .split(',')
                .map(|side| side.trim().parse::<u32>())
                .product::<Result<u32, _>>()
                .with_context(|| format!("{}: {line}", open.kernel))?;
        } else if let Some(blocks) = line.strip_prefix(".minnctapersm ") {
            open.min_blocks = blocks.trim().parse().with_context(|| format!("{}: {line}", open.kernel))?;
        } else if line.starts_with('{') {
            ensure!(open.threads > 0, "{} has no __launch_bounds__", open.kernel);
            entries.extend(entry.take());
        }
    }
    Ok(entries)
}

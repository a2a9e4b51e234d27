//! `kernels/resources.csv`: what every kernel takes of every GPU.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::image::{Entry, entries};
use crate::in_parallel;
use crate::occupancy::{architecture, blocks};
use crate::ptxas::{Usage, assemble};
use crate::source::{Source, Target};
use crate::tools::Tools;

/// The first line. Blocks and warps are those that a multiprocessor holds by threads, registers and declared shared
/// memory; dynamic shared memory is decided at the launch and comes on top.
pub const HEADER: &str = "source,kernel,architecture,threads,min_blocks,registers,static_shared,spill_bytes,\
                          stack_bytes,blocks_per_sm,warps_per_sm";

/// Assembles every PTX file of the folder for all its architectures and returns the table.
///
/// # Errors
/// A file is missing or does not assemble.
pub fn table(tools: &Tools, sources: &[Source], ptx: &Path) -> Result<String> {
    let jobs: Vec<(&Source, &Target, &str)> = sources
        .iter()
        .flat_map(|source| source.targets().iter().map(move |target| (source, target)))
        .flat_map(|(source, target)| target.architectures.iter().map(move |name| (source, target, *name)))
        .collect();
    let rows =
        in_parallel(&jobs, |(source, target, architecture)| rows(tools, source, target, architecture, ptx))?;
    let mut rows = rows.concat();
    rows.sort();
    Ok(rows.iter().fold(format!("{HEADER}\n"), |table, row| table + &row.text + "\n"))
}

/// The lines of a table whose kernels keep registers, or anything else, in local memory.
pub fn spilling(table: &str) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter(|row| row.split(',').skip(7).take(2).any(|bytes| bytes != "0"))
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    source: String,
    kernel: String,
    /// The number of the architecture: 100 comes after 90.
    number: u32,
    text: String,
}

/// The rows of one file on one architecture.
fn rows(tools: &Tools, source: &Source, target: &Target, name: &str, ptx: &Path) -> Result<Vec<Row>> {
    let file = ptx.join(source.ptx_name(target));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let entries = entries(&text)?;
    let cubin = tools.cubin(&source.name, name)?;
    let usages = assemble(&tools.ptxas, &file, name, &cubin)?;
    let row = |usage: &Usage| {
        let Entry { kernel, threads, min_blocks } = entries
            .iter()
            .find(|entry| entry.kernel == usage.kernel)
            .with_context(|| format!("{} is not in {}", usage.kernel, file.display()))?;
        let on = architecture(name).with_context(|| format!("{name} is not known"))?;
        let blocks = blocks(on, *threads, usage.registers, usage.static_shared);
        let Usage { registers, static_shared, spill_bytes, stack_bytes, .. } = usage;
        let warps = blocks * threads.div_ceil(32);
        Ok(Row {
            source: source.name.clone(),
            kernel: kernel.clone(),
            number: name.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0),
            text: format!(
                "{},{kernel},{name},{threads},{min_blocks},{registers},{static_shared},{spill_bytes},{stack_bytes},\
                 {blocks},{warps}",
                source.name
            ),
        })
    };
    usages.iter().map(row).collect()
}

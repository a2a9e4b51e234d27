//! Makes `kernels/ptx/` and `kernels/resources.csv`. With the argument `tools` it only installs the compilers.

use std::collections::BTreeSet;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use generate_kernels::source::{names, sources};
use generate_kernels::tools::Tools;
use generate_kernels::{compile, kernels, resources};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let tools = Tools::install()?;
    match arguments.as_slice() {
        [] => {}
        [only] if only == "tools" => return Ok(()),
        _ => bail!("usage: generate-kernels [tools]"),
    }
    let kernels = kernels();
    let folder = kernels.join("ptx");
    let sources = sources(&kernels)?;
    let mut written = BTreeSet::new();
    for (name, ptx) in compile(&tools, &sources)? {
        let path = folder.join(&name);
        fs::write(&path, ptx).with_context(|| path.display().to_string())?;
        written.insert(name);
    }
    for name in names(&folder, "ptx")?.into_iter().map(|stem| stem + ".ptx") {
        if !written.contains(&name) {
            fs::remove_file(folder.join(&name)).with_context(|| name.clone())?;
            eprintln!("removed {name}, whose source is gone");
        }
    }
    let table = resources::table(&tools, &sources, &folder)?;
    let path = kernels.join("resources.csv");
    fs::write(&path, &table).with_context(|| path.display().to_string())?;
    if let Some(row) = resources::spilling(&table).next() {
        bail!("registers spill to memory: {row}");
    }
    eprintln!("{} PTX files, {} lines of resources.csv", written.len(), table.lines().count());
    Ok(())
}

//! Lists `profiles/` and the generated PTX for embedding, so that adding a device, a model or a kernel source is
//! adding one file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut code = String::new();
    for (folder, constant) in [("devices", "DEVICES"), ("models", "MODELS")] {
        code += &list(&package, &format!("profiles/{folder}"), ".toml", constant)?;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("embedded.rs"), code)?;
    fs::write(out.join("embedded_ptx.rs"), list(&package, "kernels/ptx", ".ptx", "PTX")?)
}

/// Code of a constant: path and text of each file of one folder with this ending, ordered by name.
fn list(package: &Path, folder: &str, ending: &str, constant: &str) -> io::Result<String> {
    println!("cargo:rerun-if-changed={folder}");
    let mut names = Vec::new();
    for entry in fs::read_dir(package.join(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ending) {
            names.push(name);
        }
    }
    names.sort();
    let mut code = format!("const {constant}: &[(&str, &str)] = &[\n");
    for name in names {
        let path = format!("{folder}/{name}");
        println!("cargo:rerun-if-changed={path}");
        // The compiler resolves the path, so no folder of the building machine gets into the list.
        writeln!(
            code,
            "    ({path:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?}))),",
            format!("/{path}")
        )
        .map_err(io::Error::other)?;
    }
    Ok(code + "];\n")
}

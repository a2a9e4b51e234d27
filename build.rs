//! Lists `profiles/` and the generated PTX for embedding, so that adding a device, a model or a kernel source is
//! adding one file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::ZlibEncoder;

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut code = String::new();
    for (folder, constant) in [("devices", "DEVICES"), ("models", "MODELS")] {
        code += &list(&package, &format!("profiles/{folder}"), ".toml", constant)?;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("embedded.rs"), code)?;
    fs::write(out.join("embedded_ptx.rs"), compressed(&package, "kernels/ptx", &out)?)
}

/// Code of `PTX`: name and compressed text of each PTX file, ordered by name. As text they would make up half of the
/// binary.
fn compressed(package: &Path, folder: &str, out: &Path) -> io::Result<String> {
    let mut code = String::from("const PTX: &[(&str, &[u8])] = &[\n");
    for name in names(package, folder, ".ptx")? {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(package.join(folder).join(&name))?)?;
        fs::write(out.join(&name), encoder.finish()?)?;
        let line = format!(
            "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), {:?}))),\n",
            format!("/{name}")
        );
        code += &line;
    }
    Ok(code + "];\n")
}

/// Code of a constant: path and text of each file of one folder with this ending, ordered by name.
fn list(package: &Path, folder: &str, ending: &str, constant: &str) -> io::Result<String> {
    let mut code = format!("const {constant}: &[(&str, &str)] = &[\n");
    for name in names(package, folder, ending)? {
        let path = format!("{folder}/{name}");
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

/// The files of one folder with this ending, ordered. Cargo looks at them and the folder for changes.
fn names(package: &Path, folder: &str, ending: &str) -> io::Result<Vec<String>> {
    println!("cargo:rerun-if-changed={folder}");
    let mut names = Vec::new();
    for entry in fs::read_dir(package.join(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ending) {
            println!("cargo:rerun-if-changed={folder}/{name}");
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

//! The CUDA sources, the headers they include, and what each is compiled for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Version of NVRTC that the sources are compiled with, as in requirements.txt. NVRTC itself tells the first two
/// numbers.
pub const COMPILER: &str = "12.0.140";

/// What a PTX file is compiled for, and the GPUs whose machine code ptxas makes of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// As in the PTX file's name: `sm_80`.
    pub name: &'static str,
    /// As NVRTC takes it: `compute_80`.
    pub virtual_architecture: &'static str,
    /// As ptxas takes them.
    pub architectures: &'static [&'static str],
}

const PORTABLE: &[Target] = &[
    Target { name: "sm_80", virtual_architecture: "compute_80", architectures: &["sm_80", "sm_86", "sm_89"] },
    Target {
        name: "sm_90",
        virtual_architecture: "compute_90",
        architectures: &["sm_90", "sm_100", "sm_120"],
    },
];

/// Code with wgmma and bulk tensor copies runs on 9.0 and nothing else.
const HOPPER: &[Target] =
    &[Target { name: "sm_90a", virtual_architecture: "compute_90a", architectures: &["sm_90a"] }];

/// One `.cu` file with the headers it includes.
#[derive(Debug)]
pub struct Source {
    /// Without its ending: `gemv`.
    pub name: String,
    /// The text.
    pub text: String,
    /// Name and text of every header that it includes, directly or through another.
    pub headers: BTreeMap<String, String>,
}

impl Source {
    /// Reads a source of a folder.
    ///
    /// # Errors
    /// It, or a header that it includes, cannot be read.
    pub fn read(folder: &Path, name: &str) -> Result<Source> {
        let text = read(&folder.join(format!("{name}.cu")))?;
        let mut headers = BTreeMap::new();
        let mut wanted = included(&text)?;
        while let Some(header) = wanted.pop() {
            if let Entry::Vacant(new) = headers.entry(header) {
                let text = read(&folder.join(new.key()))?;
                wanted.extend(included(&text)?);
                new.insert(text);
            }
        }
        Ok(Source { name: name.to_owned(), text, headers })
    }

    /// What it is compiled for.
    pub fn targets(&self) -> &'static [Target] {
        if self.name.starts_with("hopper") { HOPPER } else { PORTABLE }
    }

    /// The file of its PTX for a target.
    pub fn ptx_name(&self, target: &Target) -> String {
        format!("{}.{}.ptx", self.name, target.name)
    }

    /// SHA-256 of everything that its PTX depends on.
    pub fn hash(&self, target: &Target) -> String {
        let mut hasher = Sha256::new();
        let mut add = |part: &str| {
            // The length in front keeps neighbouring parts apart.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        add(COMPILER);
        options(target).iter().for_each(|option| add(option));
        add(&self.name);
        add(&self.text);
        for (name, text) in &self.headers {
            add(name);
            add(text);
        }
        hex(&hasher.finalize())
    }
}

/// NVRTC's options for a target.
pub fn options(target: &Target) -> [String; 2] {
    [format!("--gpu-architecture={}", target.virtual_architecture), "--std=c++17".to_owned()]
}

/// All sources of a folder, ordered by name.
///
/// # Errors
/// One of them cannot be read.
pub fn sources(folder: &Path) -> Result<Vec<Source>> {
    names(folder, "cu")?.iter().map(|name| Source::read(folder, name)).collect()
}

/// Names of a folder's files with this ending, without it, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(ending).and_then(|stem| stem.strip_suffix('.')) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The headers that a text includes.
fn included(text: &str) -> Result<Vec<String>> {
    let mut headers = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix('#').map(str::trim_start) else { continue };
        let Some(rest) = rest.strip_prefix("include") else { continue };
        match rest.split('"').nth(1) {
            Some(name) => headers.push(name.to_owned()),
            None => bail!("`{line}`: only headers of kernels/ may be included"),
        }
    }
    Ok(headers)
}

/// Lower-case hexadecimal SHA-256.
pub fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

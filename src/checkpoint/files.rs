//! The safetensors files of a folder: found, mapped, their headers checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;

use super::header::{self, Header, Once};
use crate::backend::weights::to_bf16;
use crate::error::{Failure, Result};
use crate::input;

const DOWNLOAD: &str = "download the file again";

/// A mapped safetensors file whose header is known to be true.
#[derive(Debug)]
pub(super) struct File {
    pub path: PathBuf,
    /// Name to shape, type and place, the place counted from `data`.
    pub tensors: BTreeMap<String, TensorInfo>,
    map: Mmap,
    /// Where the data begins in the map.
    data: usize,
}

/// Where a tensor lies, in a type that can be read.
#[derive(Debug)]
pub(super) struct Located {
    /// Index of the file.
    pub file: usize,
    /// First byte in the map.
    start: usize,
    dtype: Dtype,
    columns: usize,
}

/// Opens `model.safetensors`, or every shard that the index names.
pub(super) fn open_all(folder: &Path) -> Result<Vec<File>> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if input::present(&single) {
        return Ok(vec![File::open(single)?]);
    }
    if !input::present(&index) {
        return Err(Failure::input(format!(
            "{}: neither model.safetensors nor model.safetensors.index.json",
            folder.display()
        ))
        .hint("convert the weights to safetensors, or give another folder"));
    }
    let names = shard_names(&input::text(&index, input::CHECKPOINT)?).map_err(|e| e.at(index.display()))?;
    let files: Vec<File> = names.iter().map(|name| File::open(folder.join(name))).collect::<Result<_>>()?;
    each_once(&files).map_err(|e| e.at(folder.display()))?;
    Ok(files)
}

/// Checks that no two shards have a tensor of the same name: which one counts would be a guess.
fn each_once(files: &[File]) -> Result<()> {
    let mut seen: HashMap<&str, &Path> = HashMap::new();
    for file in files {
        // In the order of the names, so that the same one is named each time.
        for name in file.tensors.keys() {
            if let Some(other) = seen.insert(name, &file.path) {
                let shown = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
                return Err(Failure::input(format!(
                    "tensor {name} is in {} and in {}",
                    shown(other),
                    shown(&file.path)
                ))
                .hint(DOWNLOAD));
            }
        }
    }
    Ok(())
}

/// The names of the shards that an index file's text lists.
fn shard_names(text: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Once<String>,
    }
    let index: Index = serde_json::from_str(text)
        .map_err(|e| Failure::input(format!("not a safetensors index: {e}")).hint(DOWNLOAD))?;
    let names: BTreeSet<String> = index.weight_map.0.into_values().collect();
    for name in &names {
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || name.contains(['/', '\\', '\0']) {
            return Err(Failure::input(format!("weight_map names the file \"{}\"", name.escape_debug()))
                .hint("shards must lie in the checkpoint's own folder"));
        }
    }
    if names.is_empty() {
        return Err(Failure::input("weight_map is empty").hint(DOWNLOAD));
    }
    Ok(names)
}

impl File {
    fn open(path: PathBuf) -> Result<Self> {
        let unreadable = |e: std::io::Error| {
            Failure::input(format!("cannot be read: {e}")).hint(DOWNLOAD).at(path.display())
        };
        let (mut file, length) = input::open(&path, input::CHECKPOINT)?;
        // Before anything is mapped: the header of a file of any size is small, or refused.
        let Header { tensors, data } =
            header::read(&mut file, length).map_err(|e| e.hint(DOWNLOAD).at(path.display()))?;
        // SAFETY: the map is read-only and private to this process. A file that another process truncates
        // while it is mapped would end this one with SIGBUS, as with every mapped file; nothing here can
        // prevent that, and reading 16 GB into memory first would double what a checkpoint needs.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        if map.len() as u64 != length {
            return Err(Failure::input("changed while it was opened").hint(DOWNLOAD).at(path.display()));
        }
        Ok(File { path, tensors, map, data })
    }
}

impl Located {
    /// The place of a tensor whose rows have `columns` values.
    pub fn new(file: &File, index: usize, name: &str, info: &TensorInfo, columns: usize) -> Result<Self> {
        match info.dtype {
            Dtype::BF16 | Dtype::F16 | Dtype::F32 => {}
            other => {
                return Err(Failure::input(format!("{}: tensor {name} is {other:?}", file.path.display()))
                    .hint("weights must be BF16, F16 or F32: convert them"));
            }
        }
        Ok(Located { file: index, start: file.data + info.data_offsets.0, dtype: info.dtype, columns })
    }

    /// Writes one row as bf16 bits; wider types are rounded to nearest even.
    pub fn row(&self, file: &File, row: u32, out: &mut [u16]) {
        let out = &mut out[..self.columns];
        let size = if self.dtype == Dtype::F32 { 4 } else { 2 };
        let start = self.start + row as usize * self.columns * size;
        // The bytes may lie at an odd address: they are put together one by one.
        let bytes = &file.map[start..start + self.columns * size];
        match self.dtype {
            Dtype::F32 => {
                for (out, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *out = to_bf16(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                }
            }
            Dtype::F16 => {
                for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *out = to_bf16(from_f16(u16::from_le_bytes([b[0], b[1]])));
                }
            }
            _ => {
                for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *out = u16::from_le_bytes([b[0], b[1]]);
                }
            }
        }
    }
}

/// The value of these IEEE half-precision bits; exact.
fn from_f16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::from_f16;

    #[test]
    fn halves_become_floats() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (1, 2f32.powi(-24))] {
            assert_eq!(from_f16(bits), value);
        }
        assert_eq!(from_f16(0x7c00), f32::INFINITY);
        assert!(from_f16(0x7e00).is_nan());
        assert_eq!(from_f16(0x3555), 0.333_251_95);
    }
}

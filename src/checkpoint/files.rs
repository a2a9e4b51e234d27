//! The safetensors files of a folder: found, mapped, their headers checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;

use crate::backend::weights::to_bf16;
use crate::error::{Failure, Result};

/// Most bytes a header or JSON file may have: that of a 405B model has under 1 MB.
const MOST_TEXT: u64 = 64 << 20;

const DOWNLOAD: &str = "download the file again";

/// A mapped safetensors file whose header is known to be true.
#[derive(Debug)]
pub(super) struct File {
    pub path: PathBuf,
    /// Name to shape, type and place, the place counted from `data`.
    pub tensors: HashMap<String, TensorInfo>,
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

/// Reads a text file of bounded size.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let fail = |what: String| Failure::input(what).at(path.display());
    let unreadable = |e: std::io::Error| {
        fail(format!("cannot be read: {e}")).hint("give the folder of a Hugging Face Llama checkpoint")
    };
    // The size is asked for first: a pipe would block, and a huge file fill the memory.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() || about.len() > MOST_TEXT {
        return Err(fail(format!("not a text file of at most {} MiB", MOST_TEXT >> 20)).hint(DOWNLOAD));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes)
        .map_err(|e| fail(format!("not UTF-8 text at byte {}", e.utf8_error().valid_up_to())).hint(DOWNLOAD))
}

/// Opens `model.safetensors`, or every shard that the index names.
pub(super) fn open_all(folder: &Path) -> Result<Vec<File>> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.exists() {
        return Ok(vec![File::open(single)?]);
    }
    if !index.exists() {
        return Err(Failure::input(format!(
            "{}: neither model.safetensors nor model.safetensors.index.json",
            folder.display()
        ))
        .hint("convert the weights to safetensors, or give another folder"));
    }
    let names = shard_names(&read_text(&index)?).map_err(|e| e.at(index.display()))?;
    names.iter().map(|name| File::open(folder.join(name))).collect()
}

/// The names of the shards that an index file's text lists.
fn shard_names(text: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index: Index = serde_json::from_str(text)
        .map_err(|e| Failure::input(format!("not a safetensors index: {e}")).hint(DOWNLOAD))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
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
        let about = std::fs::metadata(&path).map_err(unreadable)?;
        if !about.is_file() {
            return Err(Failure::input("not a file").hint(DOWNLOAD).at(path.display()));
        }
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        // SAFETY: the map is read-only and private to this process. A file that another process truncates
        // while it is mapped would end this one with SIGBUS, as with every mapped file; nothing here can
        // prevent that, and reading 16 GB into memory first would double what a checkpoint needs.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let (data, tensors) = header(&map).map_err(|e| e.hint(DOWNLOAD).at(path.display()))?;
        Ok(File { path, tensors, map, data })
    }
}

/// Reads and checks the header: where the data begins, and the tensors. Written here although the
/// safetensors crate has one, which says less of what is wrong and adds offsets without regard to overflow.
fn header(bytes: &[u8]) -> Result<(usize, HashMap<String, TensorInfo>)> {
    let truncated = |what: &str| Failure::input(format!("truncated: {what}"));
    let (length, rest) = bytes.split_first_chunk().ok_or_else(|| truncated("no header length"))?;
    let length = u64::from_le_bytes(*length);
    if length > MOST_TEXT {
        return Err(Failure::input(format!("not a safetensors file: its header would be {length} bytes")));
    }
    let length = length as usize;
    let text = rest.get(..length).ok_or_else(|| {
        truncated(&format!("the header has {length} bytes, the file {} after its length", rest.len()))
    })?;
    let data = &rest[length..];
    let bad = |e: &dyn std::fmt::Display| Failure::input(format!("the safetensors header is damaged: {e}"));
    let text = std::str::from_utf8(text).map_err(|e| bad(&e))?;
    // In the order of their names, so that of several mistakes the same one is named each time.
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).map_err(|e| bad(&e))?;
    entries.remove("__metadata__");
    let mut tensors = HashMap::with_capacity(entries.len());
    for (name, entry) in entries {
        let info: TensorInfo =
            serde_json::from_value(entry).map_err(|e| bad(&format!("tensor {name}: {e}")))?;
        check_place(&info, data.len()).map_err(|e| e.at(format!("tensor {name}")))?;
        tensors.insert(name, info);
    }
    check_layout(&tensors, data.len())?;
    Ok((8 + length, tensors))
}

/// Checks that the tensor lies inside the data and is as long as its shape.
fn check_place(info: &TensorInfo, data: usize) -> Result<()> {
    let (start, end) = info.data_offsets;
    if start > end || end > data {
        return Err(Failure::input(format!(
            "data_offsets {start}..{end} lie outside the file's {data} bytes of data"
        )));
    }
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |product, &n| product.checked_mul(n));
    match bits {
        Some(bits) if bits % 8 == 0 && bits / 8 == end - start => Ok(()),
        _ => Err(Failure::input(format!(
            "{:?} of shape {:?} does not fill its {} bytes",
            info.dtype,
            info.shape,
            end - start
        ))),
    }
}

/// Checks that the tensors cover the data once: no holes, no overlaps, nothing behind.
fn check_layout(tensors: &HashMap<String, TensorInfo>, data: usize) -> Result<()> {
    let mut places: Vec<_> = tensors.iter().map(|(name, info)| (info.data_offsets, name)).collect();
    places.sort();
    let mut covered = 0;
    for ((start, end), name) in places {
        if start != covered {
            return Err(Failure::input(format!(
                "tensor {name}: begins at byte {start}, the one before it ends at {covered}"
            )));
        }
        covered = end;
    }
    if covered != data {
        return Err(Failure::input(format!("the tensors fill {covered} of {data} bytes of data")));
    }
    Ok(())
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

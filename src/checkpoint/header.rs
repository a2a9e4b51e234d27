//! The header of a safetensors file: read, and checked before anything is believed of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Failure, Result};
use crate::input::CHECKPOINT;

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    /// Name to shape, type and place, the place counted from `data`.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Where the data begins in the file.
    pub data: usize,
}

/// A map whose names must differ: of two entries of one name, neither is to be believed.
#[derive(Debug)]
pub(super) struct Once<T>(pub BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Once<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Once<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Once<T>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value().map_err(|e| Error::custom(format!("{name}: {e}")))?;
                    if entries.contains_key(&name) {
                        return Err(Error::custom(format!("{name} is there twice")));
                    }
                    entries.insert(name, value);
                }
                Ok(Once(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Reads the header of a file of so many bytes. Written here although the safetensors crate has one, which says less
/// of what is wrong and adds offsets without regard to overflow.
pub(super) fn read(file: &mut impl Read, length: u64) -> Result<Header> {
    let failed = |e: std::io::Error| Failure::input(format!("cannot be read: {e}"));
    let truncated = |what: &str| Failure::input(format!("truncated: {what}"));
    let rest = length.checked_sub(8).ok_or_else(|| truncated("no header length"))?;
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(failed)?;
    let size = u64::from_le_bytes(size);
    if size > CHECKPOINT.most {
        return Err(Failure::input(format!("not a safetensors file: its header would be {size} bytes")));
    }
    let data = rest.checked_sub(size).ok_or_else(|| {
        truncated(&format!("the header has {size} bytes, the file {rest} after its length"))
    })?;
    let mut text = vec![0; size as usize];
    file.read_exact(&mut text).map_err(failed)?;
    let data =
        usize::try_from(data).map_err(|_| Failure::input("the file is larger than the address space"))?;
    Ok(Header { tensors: tensors(&text, data)?, data: 8 + size as usize })
}

/// The tensors that a header's text places in so many bytes of data.
fn tensors(text: &[u8], data: usize) -> Result<BTreeMap<String, TensorInfo>> {
    let bad = |e: &dyn fmt::Display| Failure::input(format!("the safetensors header is damaged: {e}"));
    let text = std::str::from_utf8(text).map_err(|e| bad(&e))?;
    // In the order of their names, so that of several mistakes the same one is named each time.
    let Once(mut entries): Once<Box<RawValue>> = serde_json::from_str(text).map_err(|e| bad(&e))?;
    // Free text, which nothing here depends on.
    entries.remove("__metadata__");
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let info: TensorInfo =
            serde_json::from_str(entry.get()).map_err(|e| bad(&format!("tensor {name}: {e}")))?;
        check_place(&info, data).map_err(|e| e.at(format!("tensor {name}")))?;
        tensors.insert(name, info);
    }
    check_layout(&tensors, data)?;
    Ok(tensors)
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
fn check_layout(tensors: &BTreeMap<String, TensorInfo>, data: usize) -> Result<()> {
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

//! Weights on the device, and what is allocated there.

use std::collections::HashMap;

use super::driver::{Address, Driver};
use super::launch::format::Format;
use super::launch::{fill, quantise};
use crate::backend::Residency;
use crate::backend::weights::{Distribution, Tensor, WeightSource};
use crate::error::Result;

/// Bytes of one bf16.
const BF16: u64 = 2;

/// Most bytes that are prepared on the host before they are copied over.
const CHUNK: usize = 16 << 20;
/// Bytes of bf16 that are quantised at once, about.
const PART: u64 = 64 << 20;

/// A matrix `[rows][columns]` as [`Tensor::shape`] says, in the format of its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matrix {
    /// Its codes, or bf16.
    pub codes: Address,
    /// Their scales, behind them in the same allocation; 0 in bf16.
    pub scales: Address,
}

/// The matrices and norms of one layer; norms are bf16.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct LayerWeights {
    pub attention_norm: Address,
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub o: Matrix,
    pub ffn_norm: Address,
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
}

/// The weights that one step reads.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    /// `[vocab][hidden]` bf16
    pub embedding: Address,
    /// In the order they run.
    pub layers: Vec<LayerWeights>,
    /// `[hidden]`
    pub final_norm: Address,
    /// `[vocab][hidden]`; the embedding's where the model ties them and nothing is quantised.
    pub head: Matrix,
    /// Of the layers' matrices.
    pub format: Format,
    /// Of the head.
    pub head_format: Format,
}

/// Everything that was allocated for one purpose, to be given back together.
#[derive(Debug, Default)]
pub struct Allocations(Vec<Address>);

impl Allocations {
    /// Allocates at least 16 bytes and remembers it.
    ///
    /// # Errors
    /// Out of memory.
    pub fn allocate(&mut self, driver: &mut dyn Driver, bytes: u64, what: &str) -> Result<Address> {
        let address = driver.allocate(bytes.max(16), what)?;
        self.0.push(address);
        Ok(address)
    }

    /// Allocates and clears.
    ///
    /// # Errors
    /// Out of memory.
    pub fn zeroed(&mut self, driver: &mut dyn Driver, bytes: u64, what: &str) -> Result<Address> {
        let address = self.allocate(driver, bytes, what)?;
        driver.zero(address, bytes.max(16))?;
        Ok(address)
    }

    /// Gives everything back.
    ///
    /// # Errors
    /// The device failed.
    pub fn free(&mut self, driver: &mut dyn Driver) -> Result<()> {
        self.0.drain(..).try_for_each(|address| driver.free(address))
    }

    /// What a driver takes of memory for an allocation of this size: pages of 2 MiB, or a part of one.
    pub fn taken(bytes: u64) -> u64 {
        bytes.max(16).next_multiple_of(if bytes > 1 << 20 { 2 << 20 } else { 512 })
    }
}

/// Every tensor that a residency holds, with the layer that its source is asked for, in the order of a step, copy
/// after copy: the held layers, the final norm and the head. There is one embedding, and the first copy of a tied
/// head is the embedding itself, unless the head is quantised. Copies beyond the first have layers and a head of their
/// own values.
fn tensors(residency: &Residency) -> Vec<(Tensor, u32)> {
    let held = residency.layers;
    let mut all = vec![(Tensor::Embedding, 0)];
    for copy in 0..residency.copies.max(1) {
        for layer in copy * held..(copy + 1) * held {
            all.extend(Tensor::ALL.into_iter().filter(|tensor| tensor.per_layer()).map(|t| (t, layer)));
        }
        all.push((Tensor::FinalNorm, copy));
        if copy > 0 || !shares_embedding(residency) {
            all.push((Tensor::Head, copy));
        }
    }
    all
}

/// Whether the first copy's head is the embedding.
fn shares_embedding(residency: &Residency) -> bool {
    residency.model.tied_embeddings && !residency.precision.head.is_quantised()
}

/// What a tensor is held in.
fn format(residency: &Residency, tensor: Tensor) -> Format {
    match tensor {
        Tensor::Head => Format::of(residency.precision.head),
        _ if Tensor::OF_LAYER.contains(&tensor) => Format::of(residency.precision.weights),
        _ => Format::Bf16,
    }
}

/// Bytes of one tensor: codes, then scales.
fn tensor_bytes(residency: &Residency, tensor: Tensor) -> u64 {
    let (rows, columns) = tensor.shape(&residency.model);
    match format(residency, tensor) {
        Format::Bf16 => BF16 * u64::from(rows) * u64::from(columns),
        format => format.code_bytes(rows, columns) + format.scale_bytes(rows, columns),
    }
}

/// Bytes of all weights of a residency.
pub fn weight_bytes(residency: &Residency) -> u64 {
    tensors(residency).into_iter().map(|(tensor, _)| tensor_bytes(residency, tensor)).sum()
}

/// Bytes that loading takes besides, for a while: room for a part of a matrix as bf16 before it is quantised.
pub fn loading_bytes(residency: &Residency) -> u64 {
    let quantised =
        tensors(residency).into_iter().filter(|&(tensor, _)| format(residency, tensor).is_quantised());
    quantised.map(|(tensor, _)| Parts::of(tensor.shape(&residency.model)).bytes()).max().unwrap_or_default()
}

/// A matrix in parts that go through memory as bf16 before they are quantised.
#[derive(Debug, Clone, Copy)]
struct Parts {
    rows: u32,
    columns: u32,
    /// Rows of a part; of the last there may be fewer.
    at_once: u32,
}

impl Parts {
    fn of((rows, columns): (u32, u32)) -> Parts {
        let at_once = (PART / (BF16 * u64::from(columns))).max(1) as u32;
        Parts { rows, columns, at_once: at_once.next_multiple_of(quantise::ROWS).min(rows) }
    }

    fn bytes(self) -> u64 {
        BF16 * u64::from(self.at_once) * u64::from(self.columns)
    }

    /// First row and number of rows of each.
    fn iter(self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.rows)
            .step_by(self.at_once as usize)
            .map(move |first| (first, self.at_once.min(self.rows - first)))
    }
}

/// Puts the weights in place: one [`Weights`] for each of the residency's copies. Those of which the source tells
/// only the distribution are made on the device; what is quantised is quantised there.
///
/// # Errors
/// Out of memory.
pub fn load(
    driver: &mut dyn Driver,
    allocations: &mut Allocations,
    residency: &Residency,
    source: &dyn WeightSource,
) -> Result<Vec<Weights>> {
    let model = &residency.model;
    let tensors = tensors(residency);
    let mut pieces = tensors.iter().map(|&(tensor, _)| tensor_bytes(residency, tensor));
    driver.together(&mut pieces, &format!("the weights of {}", model.name))?;
    // All weights are allocated before anything else, so that they lie together.
    let mut placed = HashMap::new();
    for &(tensor, layer) in &tensors {
        let name = format!("weights {tensor:?} {layer}");
        let codes = allocations.allocate(driver, tensor_bytes(residency, tensor), &name)?;
        let format = format(residency, tensor);
        let (rows, columns) = tensor.shape(model);
        let scales = if format.is_quantised() { codes + format.code_bytes(rows, columns) } else { 0 };
        placed.insert((tensor, layer), Matrix { codes, scales });
    }
    let mut scratch = Allocations::default();
    let filled = fill_all(driver, &mut scratch, residency, source, &tensors, &placed);
    // Kernels read weights without waiting for what came before.
    let filled = filled.and_then(|()| driver.synchronise("loading the weights"));
    let freed = scratch.free(driver);
    filled.and(freed)?;

    let at = |tensor: Tensor, layer: u32| placed.get(&(tensor, layer)).copied().unwrap_or_default();
    let embedding = at(Tensor::Embedding, 0);
    let of_layer = |layer: u32| LayerWeights {
        attention_norm: at(Tensor::AttentionNorm, layer).codes,
        q: at(Tensor::Q, layer),
        k: at(Tensor::K, layer),
        v: at(Tensor::V, layer),
        o: at(Tensor::O, layer),
        ffn_norm: at(Tensor::FfnNorm, layer).codes,
        gate: at(Tensor::Gate, layer),
        up: at(Tensor::Up, layer),
        down: at(Tensor::Down, layer),
    };
    Ok((0..residency.copies.max(1))
        .map(|copy| Weights {
            embedding: embedding.codes,
            layers: (copy * residency.layers..(copy + 1) * residency.layers).map(of_layer).collect(),
            final_norm: at(Tensor::FinalNorm, copy).codes,
            head: if shares_embedding(residency) && copy == 0 { embedding } else { at(Tensor::Head, copy) },
            format: Format::of(residency.precision.weights),
            head_format: Format::of(residency.precision.head),
        })
        .collect())
}

/// Fills every tensor; what is quantised goes part by part through `scratch`.
fn fill_all(
    driver: &mut dyn Driver,
    scratch: &mut Allocations,
    residency: &Residency,
    source: &dyn WeightSource,
    tensors: &[(Tensor, u32)],
    placed: &HashMap<(Tensor, u32), Matrix>,
) -> Result<()> {
    let part = match loading_bytes(residency) {
        0 => 0,
        bytes => scratch.allocate(driver, bytes, "weights before they are quantised")?,
    };
    for &(tensor, layer) in tensors {
        let shape = tensor.shape(&residency.model);
        let Matrix { codes, scales } = placed.get(&(tensor, layer)).copied().unwrap_or_default();
        let rows = Rows { source, tensor, layer, columns: shape.1 };
        match format(residency, tensor) {
            Format::Bf16 => rows.put(driver, 0, 0, shape.0, codes)?,
            format => {
                for (number, (first, count)) in (0..).zip(Parts::of(shape).iter()) {
                    rows.put(driver, number, first, count, part)?;
                    let target = quantise::Target { format, codes, scales };
                    driver.launch(&quantise::rows(part, target, first, count, shape.1))?;
                }
            }
        }
    }
    Ok(())
}

/// A tensor of a source.
struct Rows<'a> {
    source: &'a dyn WeightSource,
    tensor: Tensor,
    layer: u32,
    columns: u32,
}

impl Rows<'_> {
    /// Puts `count` rows from `first` on to `address`, as bf16: rows of their values, or any of their distribution, which
    /// are others for each part's `number`.
    fn put(
        &self,
        driver: &mut dyn Driver,
        number: u64,
        first: u32,
        count: u32,
        address: Address,
    ) -> Result<()> {
        match self.source.distribution(self.tensor, self.layer, self.columns) {
            Some(Distribution { seed, stream, mean, deviation }) => {
                let elements = u64::from(count) * u64::from(self.columns);
                let normal = fill::Normal { mean, deviation };
                // A source numbers its streams by what is in the upper bits.
                driver.launch(&fill::normals(driver.gpu(), address, elements, seed, stream ^ number, normal))
            }
            None => self.upload(driver, first, count, address),
        }
    }

    /// Copies rows over.
    fn upload(&self, driver: &mut dyn Driver, first: u32, count: u32, address: Address) -> Result<()> {
        let columns = self.columns as usize;
        let row_bytes = columns * BF16 as usize;
        let rows_at_once = (CHUNK / row_bytes).clamp(1, count as usize);
        let mut values = vec![0u16; rows_at_once * columns];
        for from in (0..count).step_by(rows_at_once) {
            let rows = rows_at_once.min((count - from) as usize);
            for (row, out) in (first + from..).zip(values.chunks_exact_mut(columns).take(rows)) {
                self.source.row(self.tensor, self.layer, row, out);
            }
            let bytes: &[u8] = bytemuck::cast_slice(&values[..rows * columns]);
            driver.write(address + u64::from(from) * row_bytes as u64, bytes)?;
        }
        Ok(())
    }
}

//! What the suite keeps on the device: weights, caches, and the buffers of a pass.

use super::driver::{Address, Driver};
use crate::backend::Residency;
use crate::backend::weights::{Tensor, WeightSource};
use crate::error::Result;
use crate::model::ModelSpec;

/// Bytes of one bf16.
const BF16: u64 = 2;

/// Most bytes that are prepared on the host before they are copied over.
const CHUNK: usize = 16 << 20;

/// The matrices and norms of one layer, `[rows][columns]` bf16 as [`Tensor::shape`] says.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct LayerWeights {
    pub attention_norm: Address,
    pub q: Address,
    pub k: Address,
    pub v: Address,
    pub o: Address,
    pub ffn_norm: Address,
    pub gate: Address,
    pub up: Address,
    pub down: Address,
}

/// The weights that one step reads.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    /// `[vocab][hidden]`
    pub embedding: Address,
    /// In the order they run.
    pub layers: Vec<LayerWeights>,
    /// `[hidden]`
    pub final_norm: Address,
    /// `[vocab][hidden]`; the embedding's where the model ties them.
    pub head: Address,
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
        driver.write(address, &vec![0; bytes.max(16) as usize])?;
        Ok(address)
    }

    /// Gives everything back.
    ///
    /// # Errors
    /// The device failed.
    pub fn free(&mut self, driver: &mut dyn Driver) -> Result<()> {
        self.0.drain(..).try_for_each(|address| driver.free(address))
    }
}

/// Bytes of all weights of a residency: its copies of the held layers and of an untied head, and one embedding.
pub fn weight_bytes(residency: &Residency) -> u64 {
    let copies = u64::from(residency.copies.max(1));
    let of = |tensor: Tensor| {
        let (rows, columns) = tensor.shape(&residency.model);
        BF16 * u64::from(rows) * u64::from(columns)
    };
    Tensor::ALL
        .into_iter()
        .map(|tensor| match tensor {
            Tensor::Embedding => of(tensor),
            Tensor::Head if residency.model.tied_embeddings => (copies - 1) * of(tensor),
            _ if tensor.per_layer() => copies * u64::from(residency.layers) * of(tensor),
            _ => copies * of(tensor),
        })
        .sum()
}

/// Copies the weights over: one [`Weights`] for each of the residency's copies. Copies beyond the first have
/// layers and a head of their own values.
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
    let mut put = |tensor: Tensor, layer: u32| upload(driver, allocations, model, source, tensor, layer);
    let embedding = put(Tensor::Embedding, 0)?;
    (0..residency.copies.max(1))
        .map(|copy| {
            let layers = (copy * residency.layers..(copy + 1) * residency.layers)
                .map(|layer| {
                    Ok(LayerWeights {
                        attention_norm: put(Tensor::AttentionNorm, layer)?,
                        q: put(Tensor::Q, layer)?,
                        k: put(Tensor::K, layer)?,
                        v: put(Tensor::V, layer)?,
                        o: put(Tensor::O, layer)?,
                        ffn_norm: put(Tensor::FfnNorm, layer)?,
                        gate: put(Tensor::Gate, layer)?,
                        up: put(Tensor::Up, layer)?,
                        down: put(Tensor::Down, layer)?,
                    })
                })
                .collect::<Result<_>>()?;
            let head = if model.tied_embeddings && copy == 0 { embedding } else { put(Tensor::Head, copy)? };
            Ok(Weights { embedding, layers, final_norm: put(Tensor::FinalNorm, copy)?, head })
        })
        .collect()
}

fn upload(
    driver: &mut dyn Driver,
    allocations: &mut Allocations,
    model: &ModelSpec,
    source: &dyn WeightSource,
    tensor: Tensor,
    layer: u32,
) -> Result<Address> {
    let (rows, columns) = tensor.shape(model);
    let row_bytes = columns as usize * BF16 as usize;
    let name = format!("weights {tensor:?} {layer}");
    let address = allocations.allocate(driver, u64::from(rows) * row_bytes as u64, &name)?;
    let rows_at_once = (CHUNK / row_bytes).clamp(1, rows as usize);
    let mut values = vec![0u16; rows_at_once * columns as usize];
    for first in (0..rows).step_by(rows_at_once) {
        let count = rows_at_once.min((rows - first) as usize);
        for (row, out) in (first..).zip(values.chunks_exact_mut(columns as usize).take(count)) {
            source.row(tensor, layer, row, out);
        }
        let bytes: &[u8] = bytemuck::cast_slice(&values[..count * columns as usize]);
        driver.write(address + u64::from(first) * row_bytes as u64, bytes)?;
    }
    Ok(address)
}

/// Keys and values of the held layers: each `[sequence][kv_head][capacity][head_dim]` bf16.
#[derive(Debug, Default)]
pub struct Cache {
    /// Keys by layer.
    pub keys: Vec<Address>,
    /// Values by layer.
    pub values: Vec<Address>,
    /// Positions that there is room for.
    pub capacity: u32,
}

impl Cache {
    /// Bytes of the keys, or of the values, of one layer.
    pub fn bytes(model: &ModelSpec, batch: u32, capacity: u32) -> u64 {
        BF16 * u64::from(batch) * u64::from(model.kv_width()) * u64::from(capacity)
    }

    /// Room for `capacity` positions of `batch` sequences in each of `layers` layers; contents undefined.
    ///
    /// # Errors
    /// Out of memory.
    pub fn allocate(
        driver: &mut dyn Driver,
        allocations: &mut Allocations,
        model: &ModelSpec,
        layers: u32,
        batch: u32,
        capacity: u32,
    ) -> Result<Cache> {
        let bytes = Self::bytes(model, batch, capacity);
        let mut cache = Cache { capacity, ..Cache::default() };
        for layer in 0..layers {
            cache.keys.push(allocations.allocate(driver, bytes, &format!("keys {layer}"))?);
            cache.values.push(allocations.allocate(driver, bytes, &format!("values {layer}"))?);
        }
        Ok(cache)
    }
}

/// The buffers of one pass. Activations are bf16.
#[derive(Debug, Clone, Copy, Default)]
pub struct Buffers {
    /// `[batch x tokens]` u32: what is fed.
    pub tokens: Address,
    /// `[batch]` u32: position of each sequence's first new token.
    pub start: Address,
    /// `[head_dim / 2]` u64: turns per position, in 2^-64 of a turn.
    pub turns: Address,
    /// `[batch x tokens][hidden]`: the residual stream.
    pub residual: Address,
    /// `[batch x tokens][hidden]`: normed, for products of many rows.
    pub normed: Address,
    /// `[batch x tokens][heads x head_dim]`
    pub q: Address,
    /// `[batch x tokens][heads x head_dim]`
    pub attended: Address,
    /// `[batch x tokens][ffn]`
    pub gated: Address,
    /// `[batch][vocab]` f32; 0: logits are not stored.
    pub logits: Address,
    /// `[batch]` u64, zero between passes.
    pub best: Address,
    /// `[batch]` u32: the token with the highest logit.
    pub chosen: Address,
    /// `[batch x tokens][q + k + v, or gate + up]`: products of cuBLASLt on their way to the next kernel; 0 without it.
    pub products: Address,
    /// f32 sums of split products and split attention.
    pub partial: Address,
    /// u32 counters, zero between launches.
    pub arrivals: Address,
}

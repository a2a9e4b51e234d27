//! What the suite keeps on the device: weights, caches, and the buffers of a pass.

use std::collections::HashMap;

use super::driver::{Address, Driver};
use super::launch::fill;
use crate::backend::Residency;
use crate::backend::weights::{Distribution, Tensor, WeightSource};
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
/// head is the embedding itself. Copies beyond the first have layers and a head of their own values.
fn tensors(residency: &Residency) -> Vec<(Tensor, u32)> {
    let held = residency.layers;
    let mut all = vec![(Tensor::Embedding, 0)];
    for copy in 0..residency.copies.max(1) {
        for layer in copy * held..(copy + 1) * held {
            all.extend(Tensor::ALL.into_iter().filter(|tensor| tensor.per_layer()).map(|t| (t, layer)));
        }
        all.push((Tensor::FinalNorm, copy));
        if copy > 0 || !residency.model.tied_embeddings {
            all.push((Tensor::Head, copy));
        }
    }
    all
}

/// Bytes of one tensor.
fn tensor_bytes(model: &ModelSpec, tensor: Tensor) -> u64 {
    let (rows, columns) = tensor.shape(model);
    BF16 * u64::from(rows) * u64::from(columns)
}

/// Bytes of all weights of a residency.
pub fn weight_bytes(residency: &Residency) -> u64 {
    tensors(residency).into_iter().map(|(tensor, _)| tensor_bytes(&residency.model, tensor)).sum()
}

/// Puts the weights in place: one [`Weights`] for each of the residency's copies. Those of which the source tells
/// only the distribution are made on the device.
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
    let mut pieces = tensors.iter().map(|&(tensor, _)| tensor_bytes(model, tensor));
    driver.together(&mut pieces, &format!("the weights of {}", model.name))?;
    let mut placed = HashMap::new();
    for (tensor, layer) in tensors {
        let name = format!("weights {tensor:?} {layer}");
        let address = allocations.allocate(driver, tensor_bytes(model, tensor), &name)?;
        let (rows, columns) = tensor.shape(model);
        match source.distribution(tensor, layer, columns) {
            Some(Distribution { seed, stream, mean, deviation }) => {
                let count = u64::from(rows) * u64::from(columns);
                let normal = fill::Normal { mean, deviation };
                let launch = fill::normals(driver.gpu(), address, count, seed, stream, normal);
                driver.launch(&launch)?;
            }
            None => upload(driver, model, source, (tensor, layer), address)?,
        }
        placed.insert((tensor, layer), address);
    }
    // Kernels read weights without waiting for what came before.
    driver.synchronise("loading the weights")?;

    let at = |tensor: Tensor, layer: u32| placed.get(&(tensor, layer)).copied().unwrap_or_default();
    let embedding = at(Tensor::Embedding, 0);
    let of_layer = |layer: u32| LayerWeights {
        attention_norm: at(Tensor::AttentionNorm, layer),
        q: at(Tensor::Q, layer),
        k: at(Tensor::K, layer),
        v: at(Tensor::V, layer),
        o: at(Tensor::O, layer),
        ffn_norm: at(Tensor::FfnNorm, layer),
        gate: at(Tensor::Gate, layer),
        up: at(Tensor::Up, layer),
        down: at(Tensor::Down, layer),
    };
    Ok((0..residency.copies.max(1))
        .map(|copy| Weights {
            embedding,
            layers: (copy * residency.layers..(copy + 1) * residency.layers).map(of_layer).collect(),
            final_norm: at(Tensor::FinalNorm, copy),
            head: if model.tied_embeddings && copy == 0 { embedding } else { at(Tensor::Head, copy) },
        })
        .collect())
}

/// Copies a tensor over, row by row.
fn upload(
    driver: &mut dyn Driver,
    model: &ModelSpec,
    source: &dyn WeightSource,
    (tensor, layer): (Tensor, u32),
    address: Address,
) -> Result<()> {
    let (rows, columns) = tensor.shape(model);
    let row_bytes = columns as usize * BF16 as usize;
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
    Ok(())
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

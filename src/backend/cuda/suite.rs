//! The suite on a GPU: a loaded model whose passes run through the kernels.

use super::driver::{Driver, Gpu};
use super::memory::{self, Allocations, Buffers, Cache, Weights};
use super::step::{Pass, Products, StageLaunches, Step};
use super::{attention, cublaslt};
use crate::backend::rope;
use crate::backend::weights::{WeightSource, from_bf16};
use crate::backend::{Residency, StageOutput};
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec};
use crate::workload::Stage;

/// A model on a GPU.
pub struct Suite<D: Driver> {
    driver: D,
    loaded: Option<Loaded>,
    products: Products,
}

/// The weights, and the sequences that are being fed.
struct Loaded {
    residency: Residency,
    weights: Vec<Weights>,
    held: Allocations,
    sequences: Option<Sequences>,
}

/// Caches of some sequences, and the buffers of the last pass over them.
struct Sequences {
    batch: u32,
    capacity: u32,
    filled: u32,
    cache: Cache,
    held: Allocations,
    buffers: Buffers,
    of_pass: Allocations,
}

impl<D: Driver> Suite<D> {
    /// With nothing loaded.
    pub fn new(driver: D) -> Self {
        Suite { driver, loaded: None, products: Products::Own }
    }

    /// What runs the products of many rows of passes that are fed from now on.
    pub fn set_products(&mut self, products: Products) {
        self.products = products;
    }

    /// The driver underneath.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The driver underneath.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// Whether the kernels can run this model.
    ///
    /// # Errors
    /// A head dimension that attention was not written for, or activations that are not bf16.
    pub fn supports(model: &ModelSpec, activations: DType) -> Result<()> {
        if activations != DType::Bf16 {
            return Err(Failure::input(format!("the GPU kernels have no {activations} activations"))
                .hint("use bf16 activations"));
        }
        if !attention::supports(model.head_dim) {
            return Err(Failure::input(format!(
                "the GPU kernels have no heads of {} elements",
                model.head_dim
            ))
            .hint("heads have 64 or 128 elements"));
        }
        Ok(())
    }

    /// Puts weights in place of those loaded before.
    ///
    /// # Errors
    /// A model that the kernels cannot run, or out of memory.
    pub fn load(&mut self, residency: &Residency, source: &dyn WeightSource) -> Result<()> {
        residency.model.validate()?;
        Self::supports(&residency.model, residency.activations)?;
        self.unload()?;
        let mut held = Allocations::default();
        match memory::load(&mut self.driver, &mut held, residency, source) {
            Ok(weights) => {
                self.loaded = Some(Loaded { residency: residency.clone(), weights, held, sequences: None });
                Ok(())
            }
            Err(failure) => {
                held.free(&mut self.driver)?;
                Err(failure)
            }
        }
    }

    fn unload(&mut self) -> Result<()> {
        self.end()?;
        match self.loaded.take() {
            Some(mut loaded) => loaded.held.free(&mut self.driver),
            None => Ok(()),
        }
    }

    /// Gives the caches and buffers back.
    fn end(&mut self) -> Result<()> {
        if let Some(mut sequences) = self.loaded.as_mut().and_then(|loaded| loaded.sequences.take()) {
            sequences.of_pass.free(&mut self.driver)?;
            sequences.held.free(&mut self.driver)?;
        }
        Ok(())
    }

    /// Empties the caches for `batch` sequences of up to `capacity` positions.
    ///
    /// # Errors
    /// Nothing is loaded, or out of memory.
    pub fn begin(&mut self, batch: u32, capacity: u32) -> Result<()> {
        self.end()?;
        let Some(loaded) = &mut self.loaded else { return Err(nothing_loaded()) };
        let (batch, capacity) = (batch.max(1), capacity.max(1));
        let mut held = Allocations::default();
        match allocate_sequences(&mut self.driver, &mut held, &loaded.residency, batch, capacity) {
            Ok((cache, buffers)) => {
                let of_pass = Allocations::default();
                loaded.sequences =
                    Some(Sequences { batch, capacity, filled: 0, cache, held, buffers, of_pass });
                Ok(())
            }
            Err(failure) => {
                held.free(&mut self.driver)?;
                Err(failure)
            }
        }
    }

    /// Feeds `tokens[sequence]`, all of one length, after what the caches hold. Returns the outputs of every
    /// stage if `trace`, otherwise of lm_head alone.
    ///
    /// # Errors
    /// A token outside the vocabulary, more positions than [`Suite::begin`] gave, or the device failed.
    pub fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        let pass = self.feed(tokens, true)?;
        let stages = self.launches(pass)?;
        let mut outputs = Vec::new();
        for stage in &stages {
            for launch in &stage.launches {
                self.driver.launch(launch)?;
            }
            if trace || stage.stage == Stage::LmHead {
                let values = self.output(pass, stage.stage, stage.layer)?;
                outputs.push(StageOutput { stage: stage.stage, layer: stage.layer, values });
            }
        }
        if let Some(sequences) = self.loaded.as_mut().and_then(|loaded| loaded.sequences.as_mut()) {
            sequences.filled = pass.context;
        }
        Ok(outputs)
    }

    /// Makes room for a pass and writes its tokens and positions; nothing runs yet.
    ///
    /// # Errors
    /// As [`Suite::forward`].
    pub fn feed(&mut self, tokens: &[Vec<u32>], logits: bool) -> Result<Pass> {
        let Some(loaded) = &mut self.loaded else { return Err(nothing_loaded()) };
        let model = &loaded.residency.model;
        let Some(sequences) = &mut loaded.sequences else {
            return Err(Failure::input("no caches are prepared").hint("begin before tokens are fed"));
        };
        let new = tokens.first().map_or(0, Vec::len) as u32;
        let pass = Pass { batch: sequences.batch, tokens: new, context: sequences.filled + new };
        check_tokens(tokens, pass, model.vocab, sequences.capacity)?;

        let driver = &mut self.driver;
        sequences.of_pass.free(driver)?;
        let workspace = Step::<'_>::workspace(driver.gpu(), model, pass);
        let held = &mut sequences.of_pass;
        let rows = u64::from(pass.rows());
        let mut activations =
            |driver: &mut D, width: u32, what: &str| held.allocate(driver, 2 * rows * u64::from(width), what);
        sequences.buffers = Buffers {
            residual: activations(driver, model.hidden, "residual")?,
            normed: activations(driver, model.hidden, "normed")?,
            q: activations(driver, model.q_width(), "q")?,
            attended: activations(driver, model.q_width(), "attended")?,
            gated: activations(driver, model.ffn, "gated")?,
            products: match self.products {
                Products::CublasLt if pass.has_choice() => {
                    activations(driver, cublaslt::width(model), "products")?
                }
                _ => 0,
            },
            tokens: held.allocate(driver, 4 * rows, "tokens")?,
            logits: match logits {
                true => {
                    held.allocate(driver, 4 * u64::from(pass.batch) * u64::from(model.vocab), "logits")?
                }
                false => 0,
            },
            partial: held.allocate(driver, workspace.partial_bytes, "partial sums")?,
            arrivals: held.zeroed(driver, 4 * workspace.arrivals, "arrivals")?,
            ..sequences.buffers
        };
        driver.write(sequences.buffers.tokens, bytemuck::cast_slice(&tokens.concat()))?;
        let start = vec![sequences.filled; pass.batch as usize];
        driver.write(sequences.buffers.start, bytemuck::cast_slice(&start))?;
        Ok(pass)
    }

    /// The launches of a pass that was fed, over the first copy of the weights.
    ///
    /// # Errors
    /// Nothing is loaded or fed.
    pub fn launches(&self, pass: Pass) -> Result<Vec<StageLaunches>> {
        let loaded = self.loaded.as_ref().ok_or_else(nothing_loaded)?;
        let (Some(sequences), Some(weights)) = (&loaded.sequences, loaded.weights.first()) else {
            return Err(nothing_loaded());
        };
        if self.products == Products::CublasLt && pass.has_choice() && sequences.buffers.products == 0 {
            return Err(Failure::input("the pass was fed for other products")
                .hint("choose what multiplies before tokens are fed"));
        }
        let step = Step {
            gpu: self.driver.gpu(),
            model: &loaded.residency.model,
            weights,
            cache: &sequences.cache,
            buffers: &sequences.buffers,
            products: self.products,
        };
        Ok(step.launches(pass))
    }

    /// What a stage put out, as [`StageOutput`] says.
    fn output(&mut self, pass: Pass, stage: Stage, layer: u32) -> Result<Vec<f32>> {
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let Some(sequences) = &loaded.sequences else { return Err(nothing_loaded()) };
        let (model, buffers, rows) = (&loaded.residency.model, sequences.buffers, pass.rows() as usize);
        let driver = &mut self.driver;
        let mut halves = |from, count: usize| -> Result<Vec<f32>> {
            let mut bits = vec![0u16; count];
            driver.read(from, bytemuck::cast_slice_mut(&mut bits))?;
            Ok(bits.into_iter().map(from_bf16).collect())
        };
        match stage {
            Stage::Embed | Stage::OutProj | Stage::Down => {
                halves(buffers.residual, rows * model.hidden as usize)
            }
            Stage::Attention => halves(buffers.attended, rows * model.q_width() as usize),
            Stage::GateUp => halves(buffers.gated, rows * model.ffn as usize),
            Stage::Qkv => {
                let (q_width, d) = (model.q_width() as usize, model.head_dim as usize);
                let q = halves(buffers.q, rows * q_width)?;
                // Of the caches, the new positions alone are sure to be written.
                let new = pass.tokens as usize * d;
                let first = (pass.context - pass.tokens) as usize * d;
                let line = sequences.capacity as usize * d;
                let mut of_heads = |cache: u64| -> Result<Vec<Vec<f32>>> {
                    (0..(pass.batch * model.kv_heads) as usize)
                        .map(|head| halves(cache + 2 * (head * line + first) as u64, new))
                        .collect()
                };
                let keys = of_heads(sequences.cache.keys[layer as usize])?;
                let values = of_heads(sequences.cache.values[layer as usize])?;
                let mut out = Vec::new();
                for (row, q) in q.chunks_exact(q_width).enumerate() {
                    let (sequence, token) = (row / pass.tokens as usize, row % pass.tokens as usize);
                    let heads = sequence * model.kv_heads as usize..(sequence + 1) * model.kv_heads as usize;
                    out.extend_from_slice(q);
                    for cache in [&keys, &values] {
                        out.extend(cache[heads.clone()].iter().flat_map(|head| &head[token * d..][..d]));
                    }
                }
                Ok(out)
            }
            Stage::LmHead => {
                let mut logits = vec![0f32; pass.batch as usize * model.vocab as usize];
                driver.read(buffers.logits, bytemuck::cast_slice_mut(&mut logits))?;
                Ok(logits)
            }
        }
    }

    /// The token with the highest logit of each sequence, after a pass.
    ///
    /// # Errors
    /// No pass has run.
    pub fn chosen(&mut self) -> Result<Vec<u32>> {
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let Some(sequences) = &loaded.sequences else { return Err(nothing_loaded()) };
        let mut chosen = vec![0u32; sequences.batch as usize];
        self.driver.read(sequences.buffers.chosen, bytemuck::cast_slice_mut(&mut chosen))?;
        Ok(chosen)
    }

    /// The buffers of the pass that was fed last.
    pub fn buffers(&self) -> Option<Buffers> {
        Some(self.loaded.as_ref()?.sequences.as_ref()?.buffers)
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        self.driver.gpu()
    }
}

/// Caches, and what does not depend on the pass.
fn allocate_sequences(
    driver: &mut dyn Driver,
    held: &mut Allocations,
    residency: &Residency,
    batch: u32,
    capacity: u32,
) -> Result<(Cache, Buffers)> {
    let cache = Cache::allocate(driver, held, &residency.model, residency.layers, batch, capacity)?;
    let turns = rope::turns(&residency.model);
    let buffers = Buffers {
        turns: held.allocate(driver, 8 * turns.len() as u64, "rope turns")?,
        start: held.allocate(driver, 4 * u64::from(batch), "start positions")?,
        best: held.zeroed(driver, 8 * u64::from(batch), "best logits")?,
        chosen: held.allocate(driver, 4 * u64::from(batch), "chosen tokens")?,
        ..Buffers::default()
    };
    driver.write(buffers.turns, bytemuck::cast_slice(&turns))?;
    Ok((cache, buffers))
}

fn check_tokens(tokens: &[Vec<u32>], pass: Pass, vocab: u32, capacity: u32) -> Result<()> {
    let new = pass.tokens as usize;
    if tokens.len() != pass.batch as usize || new == 0 || tokens.iter().any(|t| t.len() != new) {
        return Err(Failure::input(format!("{} sequences of tokens were given", tokens.len()))
            .hint(format!("give {} sequences, all of one length", pass.batch)));
    }
    if let Some(token) = tokens.iter().flatten().find(|&&token| token >= vocab) {
        return Err(Failure::input(format!("token {token} is outside the vocabulary"))
            .hint(format!("tokens are 0 to {}", vocab - 1)));
    }
    if pass.context > capacity {
        return Err(Failure::input(format!("{} positions are more than fit", pass.context))
            .hint(format!("the caches hold {capacity}")));
    }
    Ok(())
}

fn nothing_loaded() -> Failure {
    Failure::input("no weights are loaded").hint("load them before a pass is prepared")
}

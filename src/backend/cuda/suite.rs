//! The suite on a GPU: a loaded model whose passes run through the kernels.

use super::buffers::{self, Buffer, Buffers, MOST_HEADED};
use super::cache::{Cache, Layout, Pages};
use super::driver::{Driver, Gpu};
use super::launch::attention;
use super::memory::{self, Allocations, Weights};
use super::pass::Pass;
use super::step::{Products, StageLaunches, Step};
use crate::backend::rope;
use crate::backend::weights::{WeightSource, from_bf16};
use crate::backend::{Residency, StageOutput};
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, Precision};
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
    layout: Layout,
    /// Positions of each that are filled.
    filled: Vec<u32>,
    /// More than one where the weights have copies and the caches would stay in L2: executions rotate through them.
    caches: Vec<Cache>,
    held: Allocations,
    buffers: Buffers,
    of_pass: Allocations,
}

impl<D: Driver> Suite<D> {
    /// With nothing loaded.
    pub fn new(driver: D) -> Self {
        Suite { driver, loaded: None, products: Products::Own }
    }

    /// What runs the products of many rows from now on. A pass that was fed for cuBLASLt can be launched without it,
    /// but not the other way round.
    pub fn set_products(&mut self, products: Products) {
        self.products = products;
    }

    /// What runs the products of many rows.
    pub fn products(&self) -> Products {
        self.products
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
    /// A head dimension that attention was not written for, activations that are f32 or go with other weights than int8, or
    /// weights of a width that int4 does not fit.
    pub fn supports(model: &ModelSpec, precision: Precision) -> Result<()> {
        precision.check(model)?;
        match (precision.activations, precision.weights) {
            (DType::Bf16, _) | (DType::Int8, DType::Int8) => {}
            (DType::Int8, weights) => {
                return Err(Failure::input(format!(
                    "the GPU kernels have no int8 activations beside {weights} weights"
                ))
                .hint("give --activations int8 with --weights int8, or bf16 activations"));
            }
            (activations, _) => {
                return Err(Failure::input(format!("the GPU kernels have no {activations} activations"))
                    .hint("use bf16 activations, or int8 with int8 weights"));
            }
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
        Self::supports(&residency.model, residency.precision)?;
        self.unload()?;
        let mut held = Allocations::default();
        match memory::load(&mut self.driver, &mut held, residency, source) {
            Ok(weights) => {
                self.loaded = Some(Loaded { residency: residency.clone(), weights, held, sequences: None });
                Ok(())
            }
            Err(failure) => {
                // On a GPU that failed this fails as well; the first failure says why.
                let _ = held.free(&mut self.driver);
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

    /// Empties the caches for `batch` sequences of up to `capacity` positions, in pages of `kv_page` positions if given.
    ///
    /// # Errors
    /// Nothing is loaded, out of memory, or a page that is no power of two from 16 on.
    pub fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.begin_rotating(batch, capacity, kv_page, 1)
    }

    /// As [`Suite::begin`], with this many caches for executions to rotate through.
    ///
    /// # Errors
    /// As [`Suite::begin`].
    pub fn begin_rotating(
        &mut self,
        batch: u32,
        capacity: u32,
        kv_page: Option<u32>,
        caches: u32,
    ) -> Result<()> {
        self.end()?;
        let Some(loaded) = &mut self.loaded else { return Err(nothing_loaded()) };
        let layout = Layout::new(&loaded.residency, batch, capacity, kv_page)?;
        let mut held = Allocations::default();
        let allocated = allocate_sequences(&mut self.driver, &mut held, &loaded.residency, &layout, caches);
        match allocated {
            Ok((caches, buffers)) => {
                let of_pass = Allocations::default();
                let filled = vec![0; layout.batch as usize];
                loaded.sequences = Some(Sequences { layout, filled, caches, held, buffers, of_pass });
                Ok(())
            }
            Err(failure) => {
                // On a GPU that failed this fails as well; the first failure says why.
                let _ = held.free(&mut self.driver);
                Err(failure)
            }
        }
    }

    /// Fills the caches with seeded normals made on the device, as if all that comes before the pass's new tokens had been
    /// fed.
    ///
    /// # Errors
    /// No caches are there, they hold fewer positions or other sequences, or the device failed.
    pub fn pretend(&mut self, pass: Pass, seed: u64) -> Result<()> {
        let Some(loaded) = &mut self.loaded else { return Err(nothing_loaded()) };
        let Some(sequences) = &mut loaded.sequences else { return Err(no_caches()) };
        if pass.capacity() > sequences.layout.positions {
            return Err(too_many_positions(pass.capacity(), sequences.layout.positions));
        }
        if pass.sequences() != sequences.layout.batch {
            return Err(Failure::input(format!("{} sequences are another number", pass.sequences()))
                .hint(format!("the caches are those of {}", sequences.layout.batch)));
        }
        let mut stream = 0;
        for cache in &sequences.caches {
            let model = &loaded.residency.model;
            stream = cache.fill(&mut self.driver, model, &sequences.layout, seed, stream)?;
        }
        sequences.filled = vec![pass.context - pass.tokens; pass.batch as usize];
        sequences.filled.extend(pass.chunk.map(|chunk| chunk.context - chunk.tokens));
        self.driver.synchronise("filling the caches")
    }

    /// Feeds `tokens[sequence]`, all of one length, after what the caches hold; or a mixed step, one token for each but the
    /// last and a chunk for that. Returns the outputs of every stage if `trace`, otherwise of lm_head alone.
    ///
    /// # Errors
    /// A token outside the vocabulary, more positions than [`Suite::begin`] gave, or the device failed.
    pub fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        let loaded = self.loaded.as_ref().ok_or_else(nothing_loaded)?;
        let sequences = loaded.sequences.as_ref().ok_or_else(no_caches)?;
        let pass = Pass::of(tokens, &sequences.filled)?;
        self.feed(pass, tokens, true)?;
        let stages = self.launches(pass, 0)?;
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
            for (sequence, filled) in (0..).zip(&mut sequences.filled) {
                *filled += pass.new_tokens(sequence);
            }
        }
        Ok(outputs)
    }

    /// Makes room for a pass and writes its `tokens[sequence]` and positions; nothing runs yet. Logits are stored if `logits`;
    /// of a sequence at most [`MOST_HEADED`] tokens get any.
    ///
    /// # Errors
    /// As [`Suite::forward`].
    pub fn feed(&mut self, pass: Pass, tokens: &[Vec<u32>], logits: bool) -> Result<()> {
        let Some(loaded) = &mut self.loaded else { return Err(nothing_loaded()) };
        let model = &loaded.residency.model;
        let Some(sequences) = &mut loaded.sequences else { return Err(no_caches()) };
        pass.check(tokens, &sequences.filled)?;
        if let Some(token) = tokens.iter().flatten().find(|&&token| token >= model.vocab) {
            return Err(Failure::input(format!("token {token} is outside the vocabulary"))
                .hint(format!("tokens are 0 to {}", model.vocab - 1)));
        }
        if pass.capacity() > sequences.layout.positions {
            return Err(too_many_positions(pass.capacity(), sequences.layout.positions));
        }

        let driver = &mut self.driver;
        sequences.of_pass.free(driver)?;
        let workspace = Step::<'_>::workspace(driver.gpu(), &loaded.residency, pass);
        for Buffer { what, bytes, place } in
            buffers::of_pass(&loaded.residency, pass, self.products, workspace, logits)
        {
            *place(&mut sequences.buffers) = match bytes {
                0 => 0,
                _ => sequences.of_pass.allocate(driver, bytes, what)?,
            };
        }
        let arrivals = sequences.buffers.arrivals;
        if arrivals != 0 {
            driver.zero(arrivals, 4 * workspace.arrivals)?;
        }
        driver.write(sequences.buffers.tokens, bytemuck::cast_slice(&tokens.concat()))?;
        driver.write(sequences.buffers.start, bytemuck::cast_slice(&sequences.filled))
    }

    /// The launches of a pass that was fed, over this copy of the weights.
    ///
    /// # Errors
    /// Nothing is loaded or fed.
    pub fn launches(&self, pass: Pass, copy: usize) -> Result<Vec<StageLaunches>> {
        let loaded = self.loaded.as_ref().ok_or_else(nothing_loaded)?;
        let (Some(sequences), Some(weights)) = (&loaded.sequences, loaded.weights.get(copy)) else {
            return Err(nothing_loaded());
        };
        let Some(cache) = sequences.caches.get(copy % sequences.caches.len().max(1)) else {
            return Err(no_caches());
        };
        if self.products == Products::CublasLt && pass.has_choice() && sequences.buffers.products == 0 {
            return Err(Failure::input("the pass was fed for other products")
                .hint("choose what multiplies before tokens are fed"));
        }
        let step = Step {
            gpu: self.driver.gpu(),
            model: &loaded.residency.model,
            weights,
            cache,
            buffers: &sequences.buffers,
            products: self.products,
            activations: loaded.residency.precision.activations,
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
                let mut q = q.chunks_exact(q_width);
                let Some(cache) = sequences.caches.first() else { return Err(no_caches()) };
                let (keys, values) = (cache.keys[layer as usize], cache.values[layer as usize]);
                let mut out = Vec::new();
                for (sequence, &filled) in (0..).zip(&sequences.filled) {
                    // Of the caches, the new positions alone are sure to be written.
                    let new = pass.new_tokens(sequence);
                    let mut of_heads = |matrix| cache.read(driver, model, matrix, sequence, (filled, new));
                    let (keys, values) = (of_heads(keys)?, of_heads(values)?);
                    for (token, q) in q.by_ref().take(new as usize).enumerate() {
                        out.extend_from_slice(q);
                        for heads in [&keys, &values] {
                            out.extend(heads.iter().flat_map(|head| &head[token * d..][..d]));
                        }
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

    /// The token with the highest logit of each row that got logits, after a pass.
    ///
    /// # Errors
    /// No pass has run.
    pub fn chosen(&mut self, pass: Pass) -> Result<Vec<u32>> {
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let Some(sequences) = &loaded.sequences else { return Err(nothing_loaded()) };
        let mut chosen = vec![0u32; (pass.batch * pass.headed) as usize];
        self.driver.read(sequences.buffers.chosen, bytemuck::cast_slice_mut(&mut chosen))?;
        Ok(chosen)
    }

    /// Whether the counters that kernels leave at zero are there, after a pass.
    ///
    /// # Errors
    /// No pass was fed, or the device failed.
    pub fn at_rest(&mut self, pass: Pass) -> Result<bool> {
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let Some(sequences) = &loaded.sequences else { return Err(no_caches()) };
        let arrivals = Step::<'_>::workspace(self.driver.gpu(), &loaded.residency, pass).arrivals;
        let counters = [
            (sequences.buffers.best, 8 * (sequences.layout.batch * MOST_HEADED) as usize),
            (sequences.buffers.arrivals, 4 * arrivals as usize),
        ];
        for (address, bytes) in counters.into_iter().filter(|&(_, bytes)| bytes > 0) {
            let mut values = vec![0u8; bytes];
            self.driver.read(address, &mut values)?;
            if values.iter().any(|&value| value != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is loaded.
    pub fn residency(&self) -> Option<&Residency> {
        Some(&self.loaded.as_ref()?.residency)
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
    layout: &Layout,
    caches: u32,
) -> Result<(Vec<Cache>, Buffers)> {
    let Residency { model, layers, .. } = residency;
    let batch = layout.batch;
    let pages = Pages::allocate(driver, held, layout)?;
    let caches = (0..caches.max(1))
        .map(|_| Cache::allocate(driver, held, model, *layers, layout, pages.clone()))
        .collect::<Result<_>>()?;
    let turns = rope::turns(model);
    let buffers = Buffers {
        turns: held.allocate(driver, 8 * turns.len() as u64, "rope turns")?,
        start: held.allocate(driver, 4 * u64::from(batch), "start positions")?,
        best: held.zeroed(driver, 8 * u64::from(batch * MOST_HEADED), "best logits")?,
        chosen: held.allocate(driver, 4 * u64::from(batch * MOST_HEADED), "chosen tokens")?,
        ..Buffers::default()
    };
    driver.write(buffers.turns, bytemuck::cast_slice(&turns))?;
    Ok((caches, buffers))
}

fn too_many_positions(positions: u32, capacity: u32) -> Failure {
    Failure::input(format!("{positions} positions are more than fit"))
        .hint(format!("the caches hold {capacity}"))
}

fn no_caches() -> Failure {
    Failure::input("no caches are prepared").hint("begin before tokens are fed")
}

fn nothing_loaded() -> Failure {
    Failure::input("no weights are loaded").hint("load them before a pass is prepared")
}

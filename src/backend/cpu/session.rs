//! An opened CPU: loads, probes, prepares and runs.

use std::sync::Mutex;
use std::time::Instant;

use sysinfo::System;

use super::activation::{Activation, Bf16, Full, Rounded};
use super::buffer::huge_page_share;
use super::dot::{Dots, Format};
use super::isa::InstructionSet;
use super::kv::{BLOCK, KvCache, Layout, Rope};
use super::loaded::{self, Loaded};
use super::pass::{self, Extent, Pass};
use super::pool::{Pool, Worker};
use super::probe::Probes;
use super::shape::{Shape, split};
use super::step::Step;
use super::topology::{ASSUMED_CACHE, Caches};
use crate::backend::weights::{RandomWeights, WeightSource};
use crate::backend::{
    DeviceInfo, Execution, Multiplier, Probe, Probed, Residency, Session, Setup, StageOutput, Work,
};
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, Precision};
use crate::units::Bytes;
use crate::workload::{Phase, Stage};

/// Seed of caches and token ids of timed passes.
const SEED: u64 = 0x11a3;
/// Random weights that a thread makes in a second.
const FILL_RATE: f64 = 0.4e9;

/// The CPU with its threads.
pub struct CpuSession {
    info: DeviceInfo,
    isa: InstructionSet,
    pool: Pool,
    probes: Probes,
    loaded: Option<Loaded>,
    ready: Option<Ready>,
}

/// A pass that can run.
struct Ready {
    pass: Pass,
    kv: KvCache,
    kv_copies: usize,
    rope: Rope,
    ids: Vec<u32>,
    /// Copy of the weights whose turn is next.
    turn: usize,
    /// Positions there is room for, and positions filled, in [`Session::forward`].
    capacity: usize,
    filled: Filled,
    batch: usize,
}

/// Positions that the sequences hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filled {
    /// All but the last.
    others: usize,
    /// The last one: more where it was a mixed step's prompt.
    last: usize,
}

impl CpuSession {
    /// On these threads, with this instruction set.
    pub fn new(info: DeviceInfo, isa: InstructionSet, pool: Pool) -> CpuSession {
        CpuSession { info, isa, pool, probes: Probes::default(), loaded: None, ready: None }
    }

    fn format(&self, activations: DType) -> Format {
        match (activations, self.isa) {
            (DType::F32, _) => Format::Full,
            (_, InstructionSet::Avx512Bf16) => Format::Bf16,
            _ => Format::Rounded,
        }
    }

    fn format_loaded(&self) -> Format {
        self.format(self.loaded.as_ref().map_or(DType::Bf16, |loaded| loaded.residency.precision.activations))
    }

    /// What the products of the loaded weights are made of: quantised ones of 8-bit integers, as often as a token has columns
    /// of them.
    fn product(&self) -> Multiplier {
        match (&self.loaded, self.format_loaded()) {
            (Some(loaded), _) if loaded.shape.precision.weights.is_quantised() => {
                Multiplier { dtype: DType::Int8, operations: loaded.shape.integers.columns() as f64 }
            }
            (_, Format::Bf16) => Multiplier::of(DType::Bf16),
            _ => Multiplier::of(DType::F32),
        }
    }

    /// Copies of the cache: as many as of the weights, but no more than it takes to leave the CPU's caches.
    fn kv_copies(copies: usize, bytes: f64) -> usize {
        let cold = 4.0 * Caches::read().last.unwrap_or(ASSUMED_CACHE) as f64;
        copies.min((cold / bytes.max(1.0)).ceil() as usize).max(1)
    }

    /// The cache of a pass with room for so many positions, in pages of `kv_page` positions if any.
    fn kv_layout(
        &self,
        precision: Precision,
        shape: &Shape,
        extent: Extent,
        (positions, kv_page): (usize, Option<u32>),
    ) -> Layout {
        Layout {
            layers: extent.layers,
            sequences: extent.sequences(),
            heads: shape.kv_heads,
            positions,
            width: shape.head_width(),
            element: match precision.kv.is_quantised() {
                true => (1, true),
                false => (elements(self.format(precision.activations)).1, false),
            },
            page: kv_page.map(|page| page as usize),
        }
    }

    /// Bytes of cache, activations and rotary tables of a pass.
    fn pass_bytes(
        &self,
        residency: &Residency,
        shape: &Shape,
        extent: Extent,
        (positions, kv_page): (usize, Option<u32>),
    ) -> f64 {
        let one = self.kv_layout(residency.precision, shape, extent, (positions, kv_page)).bytes();
        let copies = Self::kv_copies(residency.copies.max(1) as usize, one);
        copies as f64 * one + pass::needed(shape, extent) + positions as f64 * shape.head_width() as f64 * 4.0
    }

    /// Allocates what a pass over the loaded layers needs; `positions` is the room in the cache, in pages of `kv_page`.
    fn make_ready(
        &mut self,
        extent: Extent,
        starts: (usize, usize),
        (positions, kv_page): (usize, Option<u32>),
        copies: usize,
    ) -> Result<Ready> {
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let (shape, room) = (&loaded.shape, (positions, kv_page));
        let layout = self.kv_layout(loaded.residency.precision, shape, extent, room);
        layout.check()?;
        self.check_memory(self.pass_bytes(&loaded.residency, shape, extent, room), "this pass")?;
        let kv_copies = Self::kv_copies(copies, layout.bytes());
        Ok(Ready {
            pass: Pass::new(shape, extent, starts)?,
            kv: KvCache::new(kv_copies, layout)?,
            kv_copies,
            rope: Rope::new(loaded.model(), positions, shape.head_width()),
            ids: vec![0; extent.rows()],
            turn: 0,
            capacity: positions,
            filled: Filled { others: starts.0, last: starts.0 },
            batch: extent.batch,
        })
    }

    fn check_memory(&self, needed: f64, what: &str) -> Result<()> {
        let available = self.available_memory();
        if needed <= available.0 {
            return Ok(());
        }
        Err(Failure::device(format!(
            "{what} needs {} of memory, {} are available",
            Bytes(needed).human(),
            available.human()
        ))
        .hint("measure fewer layers, a smaller batch or a shorter context"))
    }

    /// Fills the cache with normals, every thread the share that it will attend.
    fn fill_cache(&mut self, ready: &Ready) {
        let Some(loaded) = &self.loaded else { return };
        let random = RandomWeights::new(SEED, loaded.model());
        let full = self.format_loaded() == Format::Full;
        let kv = &ready.kv;
        let (layers, blocks) = (loaded.layers(), kv.units() * kv.blocks());
        self.pool.run(&|worker: Worker<'_>| {
            for at in 0..ready.kv_copies * layers {
                for index in split(blocks, worker.threads, worker.index) {
                    let (unit, block) = (index / kv.blocks(), index % kv.blocks());
                    for piece in kv.pieces(block) {
                        let stream =
                            ((at * kv.units() + unit) * kv.blocks() * (BLOCK / kv.piece()) + piece) as u64;
                        // SAFETY: the piece is this thread's to fill.
                        unsafe {
                            kv.fill(kv.at(at / layers, at % layers, unit, piece), &random, stream, full)
                        };
                    }
                }
            }
        });
    }

    /// Runs the pass once.
    fn step(
        &mut self,
        ready: &Ready,
        copy: usize,
        trace: Option<&Mutex<Vec<StageOutput>>>,
    ) -> Result<Execution> {
        let format = self.format_loaded();
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let dots = Dots::new(self.isa, format, loaded.shape.integers);
        ready.pass.reset(&loaded.shape);
        let origin = Instant::now();
        let step = Step {
            isa: self.isa,
            dots: &dots,
            loaded,
            shape: &loaded.shape,
            pass: &ready.pass,
            ids: &ready.ids,
            kv: &ready.kv,
            rope: &ready.rope,
            copy: copy % loaded.copies(),
            kv_copy: copy % ready.kv_copies,
            score_scale: 1.0 / (loaded.shape.head_dim as f32).sqrt(),
            origin,
            trace,
        };
        // SAFETY: the buffers were made for this pass, this format and this pool's number of threads.
        self.pool.run(&|worker: Worker<'_>| unsafe {
            match format {
                Format::Bf16 => step.run::<Bf16>(worker),
                Format::Rounded => step.run::<Rounded>(worker),
                Format::Full => step.run::<Full>(worker),
            }
        });
        Ok(ready.pass.execution(origin.elapsed().as_secs_f64()))
    }
}

/// The kind of pass that a work is, whose logits nobody keeps. Tokens of a prompt are known but for the last.
fn extent(work: &Work, layers: usize, element: usize) -> Extent {
    Extent {
        batch: work.batch as usize,
        tokens: work.tokens as usize,
        layers,
        element,
        riding: work.chunk.map_or(0, |chunk| chunk.tokens as usize),
        headed: if work.phase == Phase::Prefill { 1 } else { work.tokens as usize },
        logits: false,
    }
}

/// Positions that there must be room for in every sequence.
fn positions(work: &Work) -> usize {
    work.context.max(work.chunk.map_or(0, |chunk| chunk.context)) as usize
}

/// Bytes of an activation and of an element of the cache.
fn elements(format: Format) -> (usize, usize) {
    match format {
        Format::Bf16 => (size_of::<Bf16>(), size_of::<<Bf16 as Activation>::Kv>()),
        Format::Rounded => (size_of::<Rounded>(), size_of::<<Rounded as Activation>::Kv>()),
        Format::Full => (size_of::<Full>(), size_of::<<Full as Activation>::Kv>()),
    }
}

fn nothing_loaded() -> Failure {
    Failure::input("no weights are loaded").hint("load them before a pass is prepared")
}

impl Session for CpuSession {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn setup(&self) -> Setup {
        Setup {
            instruction_set: self.isa.name().to_owned(),
            threads: Some(self.pool.threads() as u32),
            pinned_cpus: self.pool.pinned().iter().map(|&cpu| cpu as u32).collect(),
            huge_page_share: self.loaded.as_ref().and_then(|loaded| huge_page_share(&loaded.arenas)),
            product: self.product(),
            fill_rate: FILL_RATE * self.pool.threads() as f64,
            // The rest is for the page cache and for others.
            memory_share: 0.6,
        }
    }

    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        precision.check(model)?;
        if [precision.weights, precision.head, precision.kv].contains(&DType::Fp8) {
            return Err(Failure::input("a CPU has no arithmetic for fp8")
                .hint("give int8, which is as small, or a GPU that has fp8"));
        }
        Ok(())
    }

    fn available_memory(&self) -> Bytes {
        let mut system = System::new();
        system.refresh_memory();
        Bytes(system.available_memory() as f64)
    }

    fn needed_memory(&self, residency: &Residency, works: &[Work]) -> Bytes {
        let shape = Shape::new(&residency.model, residency.precision, self.isa, self.pool.threads());
        let (element, _) = elements(self.format(residency.precision.activations));
        let largest = works
            .iter()
            .map(|work| {
                let extent = extent(work, residency.layers as usize, element);
                self.pass_bytes(residency, &shape, extent, (positions(work), work.kv_page))
            })
            .fold(0.0, f64::max);
        Bytes(loaded::needed(residency, &shape) + largest)
    }

    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()> {
        residency.model.validate()?;
        self.ready = None;
        self.loaded = None;
        self.probes.drop_memory();
        let shape = Shape::new(&residency.model, residency.precision, self.isa, self.pool.threads());
        self.check_memory(loaded::needed(residency, &shape), "these weights")?;
        self.loaded = Some(Loaded::new(&mut self.pool, self.isa, residency, weights)?);
        Ok(())
    }

    fn probes(&self) -> Vec<Probe> {
        let types = [DType::Bf16, DType::F32, DType::Int8];
        let memory = [Probe::MemoryRead, Probe::MemoryCopy, Probe::CacheRead];
        memory.into_iter().chain(types.map(Probe::Compute)).collect()
    }

    fn describe_probe(&self, probe: Probe) -> String {
        let threads = self.pool.threads();
        match probe {
            Probe::MemoryRead => format!("sequential read of the weights, {threads} threads"),
            Probe::MemoryCopy => {
                format!("copy between two buffers, bytes read and written, {threads} threads")
            }
            Probe::CacheRead => format!("repeated read of half the last-level cache, {threads} threads"),
            Probe::Compute(_) => format!("register-only loop, {}, {threads} threads", self.isa.name()),
        }
    }

    fn probe(&mut self, probe: Probe, seconds: f64) -> Result<Probed> {
        let arenas = self.loaded.as_ref().map(|loaded| loaded.arenas.as_slice());
        self.probes.run(&mut self.pool, self.isa, arenas, probe, seconds)
    }

    fn prepare(&mut self, work: &Work) -> Result<()> {
        self.ready = None;
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let no_chunk = work.chunk.is_some_and(|chunk| chunk.tokens == 0 || chunk.context < chunk.tokens);
        if work.batch == 0 || work.tokens == 0 || work.context < work.tokens || no_chunk {
            return Err(Failure::input(format!(
                "a pass of {} x {} tokens at context {} does not exist",
                work.batch, work.tokens, work.context
            ))
            .hint("batch and tokens are at least 1, the context includes the new tokens"));
        }
        let extent = extent(work, loaded.layers(), elements(self.format_loaded()).0);
        let (copies, vocab) = (loaded.copies(), loaded.model().vocab);
        let start = |context: u32, tokens: u32| (context - tokens) as usize;
        let starts = (
            start(work.context, work.tokens),
            work.chunk.map_or(0, |chunk| start(chunk.context, chunk.tokens)),
        );
        let mut ready = self.make_ready(extent, starts, (positions(work), work.kv_page), copies)?;
        self.fill_cache(&ready);
        let mut state = SEED;
        for id in &mut ready.ids {
            // Knuth's 64-bit congruential generator: its upper bits are random enough to pick tokens.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *id = ((u128::from(state) * u128::from(vocab)) >> 64) as u32;
        }
        self.ready = Some(ready);
        Ok(())
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        let Some(mut ready) = self.ready.take() else {
            return Err(Failure::input("no pass is prepared").hint("prepare one before it is run"));
        };
        let mut executions = Vec::with_capacity(n);
        for _ in 0..n {
            executions.push(self.step(&ready, ready.turn, None)?);
            ready.turn = ready.turn.wrapping_add(1);
        }
        self.ready = Some(ready);
        Ok(executions)
    }

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.ready = None;
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        let extent = Extent {
            batch: batch.max(1) as usize,
            tokens: 1,
            layers: loaded.layers(),
            element: elements(self.format_loaded()).0,
            riding: 0,
            headed: 1,
            logits: true,
        };
        self.ready = Some(self.make_ready(extent, (0, 0), (capacity.max(1) as usize, kv_page), 1)?);
        Ok(())
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        let (Some(loaded), Some(ready)) = (&self.loaded, &mut self.ready) else {
            return Err(Failure::input("no caches are prepared").hint("begin before tokens are fed"));
        };
        let new = tokens.first().map_or(0, Vec::len);
        let (last, others) = match tokens.split_last() {
            Some((last, others)) => (last.len(), others),
            None => (0, &[][..]),
        };
        let even = others.iter().all(|own| own.len() == new);
        let mixed =
            (last != new || ready.filled.last != ready.filled.others) && new == 1 && !others.is_empty();
        if tokens.len() != ready.batch || new == 0 || last == 0 || !even || (last != new && !mixed) {
            return Err(Failure::input(format!("{} sequences of tokens were given", tokens.len())).hint(
                format!("give {} sequences of one length, or of one token but for the last", ready.batch),
            ));
        }
        let held = ready.filled;
        if !mixed && held.last != held.others {
            return Err(Failure::input("the last sequence holds more positions than the others")
                .hint("give one token of each of the others"));
        }
        let vocab = loaded.model().vocab;
        if let Some(token) = tokens.iter().flatten().find(|&&token| token >= vocab) {
            return Err(Failure::input(format!("token {token} is outside the vocabulary"))
                .hint(format!("tokens are 0 to {}", vocab - 1)));
        }
        let most = (held.others + new).max(held.last + last);
        if most > ready.capacity {
            return Err(Failure::input(format!("{most} positions are more than fit"))
                .hint(format!("the caches hold {}", ready.capacity)));
        }
        let extent = Extent {
            batch: ready.batch - usize::from(mixed),
            tokens: new,
            layers: loaded.layers(),
            element: elements(self.format_loaded()).0,
            riding: if mixed { last } else { 0 },
            headed: 1,
            logits: true,
        };
        let Some(mut ready) = self.ready.take() else { return Err(nothing_loaded()) };
        let Some(loaded) = &self.loaded else { return Err(nothing_loaded()) };
        ready.pass = Pass::new(&loaded.shape, extent, (held.others, held.last))?;
        ready.ids = tokens.concat();
        let outputs = Mutex::new(Vec::new());
        self.step(&ready, 0, Some(&outputs))?;
        ready.filled = Filled { others: held.others + new, last: held.last + last };
        self.ready = Some(ready);
        let mut outputs = outputs.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !trace {
            outputs.retain(|output| output.stage == Stage::LmHead);
        }
        Ok(outputs)
    }
}

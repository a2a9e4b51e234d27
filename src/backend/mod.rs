//! What a device must be able to do to be measured. `cpu` implements it; `cuda` finds GPUs.
//!
//! A backend runs the suite and reports raw device seconds. It holds no statistics and prints nothing.

pub mod cpu;
pub mod cuda;
mod rope;
pub mod weights;

use crate::error::Result;
use crate::model::{DType, ModelSpec};
use crate::units::Bytes;
use crate::workload::{Phase, Stage};
use weights::WeightSource;

/// A kind of device.
pub trait Backend {
    /// `cpu` or `cuda`.
    fn name(&self) -> &'static str;

    /// The devices of this kind on this machine.
    ///
    /// # Errors
    /// In one line why none can be used: which library was not found, or that there is no device.
    fn devices(&self) -> Result<Vec<DeviceInfo>>;

    /// Opens a device for measuring.
    ///
    /// # Errors
    /// The device cannot be used, or an option does not fit it.
    fn open(&self, options: &OpenOptions) -> Result<Box<dyn Session>>;
}

/// What a device is.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// `cpu` or `cuda`.
    pub kind: &'static str,
    /// Model name.
    pub name: String,
    /// UUID or address; `None` where there is none.
    pub id: Option<String>,
    /// Memory in total.
    pub memory: Bytes,
    /// Last-level cache; `None` where not known.
    pub cache: Option<Bytes>,
    /// More that is worth showing, for instance cores and instruction set.
    pub detail: String,
}

/// How to open a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenOptions {
    /// CPU: number of threads; `None` is one per physical core.
    pub threads: Option<usize>,
    /// CPU: name of the instruction set to use; `None` is the best there is.
    pub instruction_set: Option<String>,
}

/// How the session runs its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Instruction set of the kernels.
    pub instruction_set: String,
    /// Threads that compute.
    pub threads: u32,
    /// Logical CPUs that they are pinned to; empty where pinning was not possible.
    pub pinned_cpus: Vec<u32>,
    /// Share of the weights in huge pages; `None` where the system does not say.
    pub huge_page_share: Option<f64>,
    /// Data type of the instructions that the matrix products use: its compute peak is the roof.
    pub product_dtype: DType,
}

/// What stays in memory across all points of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Residency {
    /// The model.
    pub model: ModelSpec,
    /// How many of its layers are held; a step runs exactly these.
    pub layers: u32,
    /// Type that activations are rounded to before matrix products, and that the KV cache is kept in: bf16 or f32.
    pub activations: DType,
    /// Copies of the held layers and head that executions rotate through, so that a model smaller than the
    /// caches is still read from memory.
    pub copies: u32,
}

/// One forward pass to be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Prefill or decode.
    pub phase: Phase,
    /// Sequences.
    pub batch: u32,
    /// New tokens per sequence.
    pub tokens: u32,
    /// Positions attended by the last new token, its own included.
    pub context: u32,
}

/// A ceiling to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Read-only bandwidth over the resident weights (or a buffer as large, before they are loaded).
    MemoryRead,
    /// Copy bandwidth, bytes read plus bytes written.
    MemoryCopy,
    /// Read bandwidth of the last-level cache.
    CacheRead,
    /// Peak of this type from registers alone.
    Compute(DType),
}

/// One execution of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probed {
    /// Bytes moved or operations done.
    pub amount: f64,
    /// Device seconds.
    pub seconds: f64,
}

impl Probed {
    /// Bytes or operations per second.
    pub fn rate(&self) -> f64 {
        self.amount / self.seconds
    }
}

/// Device seconds of one forward pass over the resident layers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Execution {
    /// The whole step.
    pub seconds: f64,
    /// Each stage, in the order of [`Stage::ALL`], summed over the layers. The rest of the step is the bubble.
    pub stages: [f64; 7],
}

/// What one stage put out, for comparison with a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct StageOutput {
    /// The stage.
    pub stage: Stage,
    /// Its layer (0 for embed and lm_head).
    pub layer: u32,
    /// `[sequence][token][element]` in the model's own order, as f32. embed, out_proj, down: the residual
    /// stream; qkv: rotated q, then rotated k, then v of each token; attention: the heads' outputs;
    /// gate_up: silu(gate) x up; lm_head: the logits of each sequence's last token.
    pub values: Vec<f32>,
}

/// An opened device.
pub trait Session {
    /// What it is.
    fn device(&self) -> &DeviceInfo;

    /// How it runs the work.
    fn setup(&self) -> Setup;

    /// Whether the kernels can run this model with these activations.
    ///
    /// # Errors
    /// What they cannot do.
    fn supports(&self, model: &ModelSpec, activations: DType) -> Result<()> {
        let _ = (model, activations);
        Ok(())
    }

    /// Memory that can still be taken.
    fn available_memory(&self) -> Bytes;

    /// Memory that this residency and the largest of these works need.
    fn needed_memory(&self, residency: &Residency, works: &[Work]) -> Bytes;

    /// Puts the weights in place, laid out for the kernels. Replaces what was loaded before.
    ///
    /// # Errors
    /// Out of memory.
    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()>;

    /// Measures a ceiling once, for about this many seconds.
    ///
    /// # Errors
    /// The device does not have what the probe asks for.
    fn probe(&mut self, probe: Probe, seconds: f64) -> Result<Probed>;

    /// Makes ready for a pass: allocates the caches and fills what came before with seeded random values.
    ///
    /// # Errors
    /// Nothing is loaded, or out of memory.
    fn prepare(&mut self, work: &Work) -> Result<()>;

    /// Runs the prepared pass `n` times, rotating through the copies of the weights.
    ///
    /// # Errors
    /// Nothing is prepared, or the device failed.
    fn run(&mut self, n: usize) -> Result<Vec<Execution>>;

    /// Empties the caches for `batch` sequences of up to `capacity` positions, for [`Session::forward`].
    ///
    /// # Errors
    /// Nothing is loaded, or out of memory.
    fn begin(&mut self, batch: u32, capacity: u32) -> Result<()>;

    /// Feeds `tokens[sequence]` (all of one length) after what the caches hold, through the very kernels that
    /// are timed. Returns the outputs of every stage if `trace`, otherwise of lm_head alone, in order.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more positions than [`Session::begin`] gave.
    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>>;
}

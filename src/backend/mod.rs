//! What a device must be able to do to be measured: `cpu` and `cuda` do it.
//!
//! A backend runs the suite and reports raw device seconds. It holds no statistics and prints nothing.

mod all_reduce;
pub mod cpu;
pub mod cuda;
mod reopen;
mod rope;
pub mod weights;

use std::time::{Duration, Instant};

use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, Precision};
use crate::units::Bytes;
use crate::workload::{Chunk, Phase, Stage};
pub use all_reduce::{AllReduced, Reduce, ReducedAmong};
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
    /// GPU: what the driver says of it.
    pub gpu: Option<GpuInfo>,
}

/// What the driver says of a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuInfo {
    /// Its number in the driver's order, which changes with the environment: never an identity.
    pub ordinal: u32,
    /// PCI address, `00000000:3b:00.0`.
    pub pci: String,
    /// Compute capability: (9, 0) for an H100.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Newest CUDA version that the driver runs, `12.8`.
    pub cuda: String,
    /// Highest memory clock in hertz; `None` where the driver does not say.
    pub memory_clock: Option<f64>,
    /// Width of the memory bus in bits; `None` where the driver does not say.
    pub bus_width: Option<u32>,
}

impl GpuInfo {
    /// Bandwidth that memory clock and bus width make, two transfers a clock, in bytes per second.
    pub fn theoretical_bandwidth(&self) -> Option<f64> {
        Some(self.memory_clock? * 2.0 * f64::from(self.bus_width?) / 8.0)
    }
}

/// How to open a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenOptions {
    /// CPU: number of threads; `None` is one per physical core.
    pub threads: Option<usize>,
    /// CPU: name of the instruction set to use; `None` is the best there is.
    pub instruction_set: Option<String>,
    /// GPU: its number in the driver's order.
    pub ordinal: u32,
    /// GPU: what runs the matrix products of many rows.
    pub gemm: Gemm,
    /// GPU: longest wait for one piece of work before the device is given up; `None` is two minutes.
    pub patience: Option<Duration>,
}

/// What runs a GPU's matrix products of many rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gemm {
    /// The faster of the two in each pass; our own where there is no cuBLASLt.
    #[default]
    Auto,
    /// `kernels/gemm.cu`.
    Own,
    /// The machine's cuBLASLt.
    CublasLt,
}

/// How the session runs its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Instruction set of the kernels; on a GPU the target of the PTX, `sm_90`.
    pub instruction_set: String,
    /// Threads that compute; `None` on a GPU.
    pub threads: Option<u32>,
    /// Logical CPUs that they are pinned to; empty where pinning was not possible.
    pub pinned_cpus: Vec<u32>,
    /// Share of the weights in huge pages; `None` where the system does not say.
    pub huge_page_share: Option<f64>,
    /// What the matrix products of the loaded weights are made of: its compute peak is the roof.
    pub product: Multiplier,
    /// Random weights that are made in a second, about: for planning.
    pub fill_rate: f64,
    /// Share of the available memory that may be planned with.
    pub memory_share: f64,
}

/// The instructions that matrix products use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Multiplier {
    /// Their data type.
    pub dtype: DType,
    /// Operations of that type for one of the product: 2 where wider numbers are multiplied in two parts.
    pub operations: f64,
}

impl Multiplier {
    /// Products of one operation each.
    pub fn of(dtype: DType) -> Multiplier {
        Multiplier { dtype, operations: 1.0 }
    }
}

/// What ran on a GPU and what starting it costs, as far as the session has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuSoftware {
    /// Every kernel that was loaded, by name.
    pub kernels: Vec<KernelImage>,
    /// What runs the prepared pass's products of many rows: `own` or `cublaslt 12.8.4`; `None` where it has none.
    pub gemm: Option<String>,
    /// Seconds that one more empty kernel adds to a graph.
    pub graph_node_seconds: Option<f64>,
    /// Host seconds to launch a graph.
    pub graph_launch_seconds: Option<f64>,
}

/// One kernel as the driver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelImage {
    /// Name of its entry point.
    pub kernel: String,
    /// Target of the PTX that the driver compiled: `sm_80`, `sm_90`, `sm_90a`.
    pub target: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread: spills, arrays.
    pub local_bytes: u32,
    /// Bytes of static shared memory of a block.
    pub shared_bytes: u32,
}

/// What stays in memory across all points of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Residency {
    /// The model.
    pub model: ModelSpec,
    /// How many of its layers are held; a step runs exactly these.
    pub layers: u32,
    /// Types of weights, activations and the cache. The device quantises: a weight source gives bf16.
    pub precision: Precision,
    /// Copies of the held layers and head that executions rotate through, so that a model smaller than the
    /// caches is still read from memory.
    pub copies: u32,
}

/// One forward pass to be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Prefill, decode or mixed.
    pub phase: Phase,
    /// Sequences.
    pub batch: u32,
    /// New tokens per sequence.
    pub tokens: u32,
    /// Positions attended by the last new token, its own included.
    pub context: u32,
    /// Of a mixed step what rides along, in one sequence more that comes last; `None` in other phases.
    pub chunk: Option<Chunk>,
    /// Positions of a page of the cache: 16, 32, 64, 128 or 256. `None` where each sequence's cache is contiguous.
    pub kv_page: Option<u32>,
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
    /// Each stage, in the order of [`Stage::ALL`], summed over the layers. The rest of the step is the bubble; on a
    /// GPU, where stages are replayed by themselves, it can be negative: stages overlap in the step.
    pub stages: [f64; 7],
    /// How many executions in a row this is the mean of; more than one where one is too short for the device's
    /// clock. 0 is taken as 1.
    pub repeats: u32,
    /// Host seconds of one execution, from the launch of the first to the end of the last of a run over their number;
    /// `None` where host and device have one clock.
    pub wall_seconds: Option<f64>,
}

/// Executions back to back.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Repeated {
    /// How many.
    pub executions: u64,
    /// Device seconds of all.
    pub seconds: f64,
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
    /// gate_up: silu(gate) x up; lm_head: the logits of each sequence's last token, in a mixed step but the last
    /// sequence's.
    pub values: Vec<f32>,
}

/// An opened device.
pub trait Session {
    /// What it is.
    fn device(&self) -> &DeviceInfo;

    /// How it runs the work.
    fn setup(&self) -> Setup;

    /// Gives back all that is held and opens the device afresh: new contexts, new threads, nothing loaded. Sessions that
    /// [`Backend::open`] gives do it; by itself a session has nothing to open.
    ///
    /// # Errors
    /// It cannot be opened any more.
    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether the kernels can run this model in these types.
    ///
    /// # Errors
    /// What they cannot do.
    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        precision.check(model)
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

    /// The ceilings that this device can measure.
    fn probes(&self) -> Vec<Probe> {
        Vec::new()
    }

    /// How a ceiling is measured, for people: `sequential read of the weights, 2 threads`.
    fn describe_probe(&self, probe: Probe) -> String {
        format!("{probe:?}")
    }

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

    /// Runs the prepared pass back to back for about this many seconds, with nothing in between that would cost
    /// energy.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn repeat(&mut self, seconds: f64) -> Result<Repeated> {
        let (start, mut repeated) = (Instant::now(), Repeated::default());
        while repeated.executions == 0 || start.elapsed().as_secs_f64() < seconds {
            repeated.seconds += self.run(1)?.iter().map(|execution| execution.seconds).sum::<f64>();
            repeated.executions += 1;
        }
        Ok(repeated)
    }

    /// What ran on a GPU; `None` on other devices.
    fn software(&self) -> Option<GpuSoftware> {
        None
    }

    /// Times all-reduces among so many devices of this kind, this one the first of them; the others are opened for it and given
    /// back. What this one holds stays, but needs room beside it for the largest of them.
    ///
    /// # Errors
    /// A device does not answer any more.
    fn all_reduces(&mut self, ranks: u32, reduces: &[Reduce]) -> Result<AllReduced> {
        let _ = reduces;
        Ok(AllReduced::NotTimed(format!("nothing is known that joins {ranks} of {}", self.device().name)))
    }

    /// What may run the matrix products of a pass of this many token rows, each worth being verified; empty where there
    /// is no choice.
    fn gemms(&self, rows: u32) -> Vec<Gemm> {
        let _ = rows;
        Vec::new()
    }

    /// Chooses one of [`Session::gemms`] for [`Session::forward`].
    ///
    /// # Errors
    /// It is none of them.
    fn use_gemm(&mut self, gemm: Gemm) -> Result<()> {
        Err(Failure::input(format!("there is no choice of {gemm:?}")))
    }

    /// Empties the caches for `batch` sequences of up to `capacity` positions, in pages as [`Work::kv_page`] has them, for
    /// [`Session::forward`].
    ///
    /// # Errors
    /// Nothing is loaded, or out of memory.
    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()>;

    /// Feeds `tokens[sequence]` after what the caches hold, through the very kernels that are timed. All are of one length,
    /// or one token each but for the last sequence's several: a mixed step. After one, when the last sequence holds
    /// more positions than the others, only mixed steps can follow. Returns the outputs of every stage if `trace`, otherwise of lm_head
    /// alone, in order.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more positions than [`Session::begin`] gave.
    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>>;
}

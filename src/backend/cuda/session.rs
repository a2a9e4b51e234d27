//! An opened GPU: loads, probes, prepares and runs.

use super::buffers::pass_bytes;
use super::cache::Layout;
use super::driver::gpu::CudaGpu;
use super::driver::{Driver, Gpu};
use super::image::image;
use super::launch::elementwise::{EmbedArgs, embed};
use super::memory::{Allocations, loading_bytes, weight_bytes};
use super::nccl;
use super::pass::Pass;
use super::prepared::{Prepared, StartCosts, label, median};
use super::probes::{self, Probes};
use super::step::Products;
use super::suite::Suite;
use crate::backend::weights::WeightSource;
use crate::backend::{
    AllReduced, DeviceInfo, Execution, Gemm, GpuSoftware, Multiplier, Probe, Probed, Reduce, Repeated,
    Residency, Session, Setup, StageOutput, Work,
};
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, Precision};
use crate::units::Bytes;
use crate::workload::Phase;

/// Seed of caches and token ids of timed passes.
const SEED: u64 = 0x11a3;
/// Random weights that the slowest GPU that is supported makes in a second, about.
const FILL_RATE: f64 = 5e10;
/// Share of the free memory that may be planned with: graphs, kernels and the driver take some.
const MEMORY_SHARE: f64 = 0.95;
/// Caches that copies of the weights rotate through are together this many times L2.
const TIMES_CACHE: f64 = 4.0;
/// Kernels of the two graphs whose difference is the cost of a kernel.
const NODES: usize = 100;
/// Replays of each of them.
const REPLAYS: usize = 9;
/// Turns that our own products and cuBLASLt's take before the faster is chosen.
const TURNS: usize = 3;

/// A GPU with the suite on it.
pub struct CudaSession {
    // Graphs go before the memory that they use.
    prepared: Option<Prepared>,
    probes: Probes,
    costs: Option<StartCosts>,
    suite: Suite<CudaGpu>,
    gemm: Gemm,
    /// What runs the prepared pass's products of many rows.
    ran: Option<String>,
}

impl CudaSession {
    /// With nothing loaded. Products of many rows run as `gemm` says.
    ///
    /// # Errors
    /// cuBLASLt is asked for and not there.
    pub fn new(mut gpu: CudaGpu, gemm: Gemm) -> Result<CudaSession> {
        if gemm != Gemm::Own {
            match gpu.find_cublaslt()? {
                Some(failure) if gemm == Gemm::CublasLt => return Err(failure),
                // A library that does not start is as good as none.
                _ => {}
            }
        }
        let mut suite = Suite::new(gpu);
        if gemm == Gemm::CublasLt {
            suite.set_products(Products::CublasLt);
        }
        Ok(CudaSession { prepared: None, probes: Probes::default(), costs: None, suite, gemm, ran: None })
    }

    /// What may multiply bf16; the last needs the most memory.
    fn offered(&self) -> &'static [Products] {
        match (self.gemm, self.suite.driver().cublaslt()) {
            (Gemm::CublasLt, _) => &[Products::CublasLt],
            (Gemm::Auto, Some(_)) => &[Products::Own, Products::CublasLt],
            _ => &[Products::Own],
        }
    }

    /// What may multiply the weights that are loaded: quantised ones nothing but our own kernels.
    fn choice(&self) -> &'static [Products] {
        match self.suite.residency() {
            Some(residency) if residency.precision.weights.is_quantised() => &[Products::Own],
            _ => self.offered(),
        }
    }

    /// What the buffers must have room for.
    fn largest_choice(&self) -> Products {
        self.choice().last().copied().unwrap_or_default()
    }

    /// Settles what multiplies in a pass that was fed, by the faster where there is a choice: both run in turns.
    fn choose(&mut self, pass: Pass) -> Result<()> {
        let label = label(pass);
        if self.suite.products() == Products::CublasLt {
            let launches: Vec<_> =
                self.suite.launches(pass, 0)?.into_iter().flat_map(|stage| stage.launches).collect();
            // Algorithms are timed on what they will multiply: a GPU is faster with zeros.
            for launch in &launches {
                self.suite.driver_mut().launch(launch)?;
            }
            self.suite.driver_mut().tune(&label, &launches)?;
        }
        let [first, second] = self.choice() else { return Ok(()) };
        let mut graphs = Vec::new();
        for &products in [first, second] {
            self.suite.set_products(products);
            let stages = self.suite.launches(pass, 0)?;
            let launches = stages.iter().flat_map(|stage| &stage.launches);
            graphs.push((products, self.suite.driver_mut().record(&label, launches)?, Vec::new()));
        }
        // The first turn warms up.
        for turn in 0..=TURNS {
            for (_, graph, seconds) in &mut graphs {
                let gpu = self.suite.driver_mut();
                let once = gpu.timed(&label, |gpu| graph.launch(gpu.stream(), &label))?;
                if turn > 0 {
                    seconds.push(once);
                }
            }
        }
        let timed =
            graphs.into_iter().filter_map(|(products, _, seconds)| Some((median(seconds)?, products)));
        if let Some((_, products)) = timed.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
            self.suite.set_products(products);
        }
        Ok(())
    }

    /// What starting kernels and graphs costs, measured once: graphs of many of the smallest kernel there is, the
    /// look-up of one row of eight elements.
    fn start_costs(&mut self) -> Result<StartCosts> {
        const DOING: &str = "many small kernels";
        if let Some(costs) = self.costs {
            return Ok(costs);
        }
        let busy = self.probes.evict(self.suite.driver_mut())?;
        let gpu = self.suite.driver_mut();
        let mut held = Allocations::default();
        let args = EmbedArgs {
            table: held.zeroed(gpu, 16, "a row")?,
            tokens: held.zeroed(gpu, 16, "a token")?,
            residual: held.zeroed(gpu, 16, "its row")?,
            k: 8,
            reserved: 0,
        };
        let mut seconds = [0.0; 2];
        for (seconds, nodes) in seconds.iter_mut().zip([NODES, 2 * NODES]) {
            let launches = vec![embed(1, args); nodes];
            let graph = gpu.record(DOING, &launches)?;
            let mut all = Vec::new();
            for _ in 0..REPLAYS {
                // Something to do meanwhile, so that the graph is queued before its turn comes.
                gpu.launch(&busy)?;
                all.push(gpu.timed(DOING, |gpu| graph.launch(gpu.stream(), DOING))?);
            }
            *seconds = median(all).unwrap_or_default();
        }
        held.free(gpu)?;
        let node = ((seconds[1] - seconds[0]) / NODES as f64).max(0.0);
        let costs = StartCosts { node, graph: (seconds[0] - NODES as f64 * node).max(0.0) };
        self.costs = Some(costs);
        Ok(costs)
    }

    /// Runs the pass's launches one by one and as a graph: both must choose the same tokens and leave every counter
    /// at rest, or what is timed is not what was verified.
    fn check(&mut self, prepared: &mut Prepared, pass: Pass) -> Result<()> {
        for launch in self.suite.launches(pass, 0)?.iter().flat_map(|stage| &stage.launches) {
            self.suite.driver_mut().launch(launch)?;
        }
        self.suite.driver_mut().synchronise(&label(pass))?;
        let alone = self.suite.chosen(pass)?;
        prepared.replay(self.suite.driver_mut())?;
        let together = self.suite.chosen(pass)?;
        if alone != together {
            return Err(Failure::invalid(format!(
                "{}: as a graph the kernels choose other tokens than one by one",
                label(pass)
            ))
            .hint("this is worth a bug report; `llmroof verify` checks the kernels"));
        }
        if !self.suite.at_rest(pass)? {
            return Err(Failure::invalid(format!(
                "{}: a kernel left a counter that is not zero",
                label(pass)
            ))
            .hint("this is worth a bug report; `llmroof verify` checks the kernels"));
        }
        Ok(())
    }
}

impl Session for CudaSession {
    fn device(&self) -> &DeviceInfo {
        self.suite.driver().info()
    }

    fn setup(&self) -> Setup {
        let target = image("gemv", self.suite.gpu().capability).map_or("", |image| image.target);
        Setup {
            instruction_set: target.into(),
            threads: None,
            pinned_cpus: Vec::new(),
            huge_page_share: None,
            product: Multiplier::of(match self.suite.residency() {
                Some(loaded) => loaded.precision.multiplied(),
                None => DType::Bf16,
            }),
            fill_rate: FILL_RATE,
            memory_share: MEMORY_SHARE,
        }
    }

    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        if self.gemm == Gemm::CublasLt && precision.weights.is_quantised() {
            return Err(Failure::input(format!("cuBLASLt multiplies no {} weights", precision.weights))
                .hint("give --gemm own or auto, or --weights bf16"));
        }
        Suite::<CudaGpu>::supports(model, precision)
    }

    fn available_memory(&self) -> Bytes {
        match self.suite.driver().bind() {
            Ok(()) => self.suite.driver().available(),
            Err(_) => Bytes(f64::INFINITY),
        }
    }

    fn needed_memory(&self, residency: &Residency, works: &[Work]) -> Bytes {
        let gpu = self.suite.gpu();
        let largest = works
            .iter()
            .filter_map(|work| {
                // What cannot be prepared says so when it is.
                let layout = layout(residency, work).ok()?;
                let caches = caches(gpu, residency, &layout);
                Some(pass_bytes(gpu, residency, pass(work), &layout, self.largest_choice(), caches))
            })
            .max();
        let weights = Allocations::taken(weight_bytes(residency));
        // What loading takes is given back before a pass takes its own.
        let largest = largest.unwrap_or_default().max(Allocations::taken(loading_bytes(residency)));
        Bytes((weights + largest + self.probes.needed(self.suite.driver())) as f64)
    }

    fn load(&mut self, residency: &Residency, weights: &dyn WeightSource) -> Result<()> {
        self.suite.driver().bind()?;
        self.prepared = None;
        self.suite.load(residency, weights)
    }

    fn probes(&self) -> Vec<Probe> {
        probes::probes(self.suite.gpu())
    }

    fn describe_probe(&self, probe: Probe) -> String {
        probes::describe(self.suite.gpu(), probe)
    }

    fn probe(&mut self, probe: Probe, seconds: f64) -> Result<Probed> {
        self.suite.driver().bind()?;
        self.probes.run(self.suite.driver_mut(), probe, seconds)
    }

    fn prepare(&mut self, work: &Work) -> Result<()> {
        self.suite.driver().bind()?;
        self.prepared = None;
        let Some(residency) = self.suite.residency().cloned() else {
            return Err(Failure::input("no weights are loaded").hint("load them before a pass is prepared"));
        };
        let chunk = work.chunk.map(|chunk| (chunk.tokens, chunk.context));
        for (tokens, context) in [(work.tokens, work.context)].into_iter().chain(chunk) {
            if tokens == 0 || tokens > context {
                return Err(Failure::input(format!("{tokens} new tokens at context {context}"))
                    .hint("the context counts the new tokens as well"));
            }
        }
        self.start_costs()?;
        let pass = pass(work);
        let caches = caches(self.suite.gpu(), &residency, &layout(&residency, work)?);
        self.suite.begin_rotating(pass.sequences(), pass.capacity(), work.kv_page, caches)?;
        self.suite.pretend(pass, SEED)?;
        self.suite.set_products(self.largest_choice());
        self.suite.feed(pass, &tokens(pass, residency.model.vocab), false)?;
        if pass.has_choice() {
            self.choose(pass)?;
        }
        let mut prepared = Prepared::record(&mut self.suite, &residency, pass, caches)?;
        self.check(&mut prepared, pass)?;
        self.prepared = Some(prepared);
        self.ran = pass.has_choice().then(|| match self.suite.products() {
            Products::Own => "own".to_owned(),
            Products::CublasLt => self.suite.driver().cublaslt().unwrap_or("cublaslt").to_owned(),
        });
        Ok(())
    }

    fn run(&mut self, n: usize) -> Result<Vec<Execution>> {
        self.suite.driver().bind()?;
        let costs = self.start_costs()?;
        let evict = self.probes.evict(self.suite.driver_mut())?;
        let Some(prepared) = &mut self.prepared else { return Err(nothing_prepared()) };
        prepared.run(self.suite.driver_mut(), n, costs, &evict)
    }

    fn repeat(&mut self, seconds: f64) -> Result<Repeated> {
        self.suite.driver().bind()?;
        let Some(prepared) = &mut self.prepared else { return Err(nothing_prepared()) };
        prepared.repeat(self.suite.driver_mut(), seconds)
    }

    fn software(&self) -> Option<GpuSoftware> {
        Some(GpuSoftware {
            kernels: self.suite.driver().images(),
            gemm: self.ran.clone(),
            graph_node_seconds: self.costs.map(|costs| costs.node),
            graph_launch_seconds: self.prepared.as_ref().and_then(Prepared::launch_seconds),
        })
    }

    fn all_reduces(&mut self, ranks: u32, reduces: &[Reduce]) -> Result<AllReduced> {
        let gpu = self.suite.driver();
        nccl::all_reduces(gpu.info(), gpu.patience(), ranks, reduces).inspect_err(|_| gpu.abandon())
    }

    fn gemms(&self, rows: u32) -> Vec<Gemm> {
        let one = |&products: &Products| match products {
            Products::Own => Gemm::Own,
            Products::CublasLt => Gemm::CublasLt,
        };
        let pass = Pass::new(rows, 1, 1);
        if pass.has_choice() { self.choice().iter().map(one).collect() } else { Vec::new() }
    }

    fn use_gemm(&mut self, gemm: Gemm) -> Result<()> {
        let products = match gemm {
            Gemm::CublasLt => Products::CublasLt,
            Gemm::Own | Gemm::Auto => Products::Own,
        };
        if !self.offered().contains(&products) {
            return Err(Failure::input(format!("{gemm:?} is not what this session multiplies with"))
                .hint("choose another --gemm"));
        }
        self.suite.set_products(products);
        Ok(())
    }

    fn begin(&mut self, batch: u32, capacity: u32, kv_page: Option<u32>) -> Result<()> {
        self.suite.driver().bind()?;
        self.prepared = None;
        self.suite.begin(batch, capacity, kv_page)
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        self.suite.driver().bind()?;
        self.suite.forward(tokens, trace)
    }
}

fn pass(work: &Work) -> Pass {
    let headed = if work.phase == Phase::Decode { work.tokens } else { 1 };
    Pass { headed, chunk: work.chunk, ..Pass::new(work.batch, work.tokens, work.context) }
}

fn layout(residency: &Residency, work: &Work) -> Result<Layout> {
    let pass = pass(work);
    Layout::new(residency, pass.sequences(), pass.capacity(), work.kv_page)
}

/// Caches to rotate through: as many as there are copies of the weights, but no more than it takes to leave L2.
fn caches(gpu: &Gpu, residency: &Residency, layout: &Layout) -> u32 {
    let one = 2 * u64::from(residency.layers) * layout.bytes(&residency.model);
    let enough = (TIMES_CACHE * gpu.l2 as f64 / one.max(1) as f64).ceil() as u32;
    residency.copies.min(enough).max(1)
}

/// Random tokens for every sequence, the same each time.
fn tokens(pass: Pass, vocab: u32) -> Vec<Vec<u32>> {
    let mut state = SEED;
    let mut next = || {
        // Knuth's 64-bit congruential generator: its upper bits are random enough to pick tokens.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * u128::from(vocab)) >> 64) as u32
    };
    (0..pass.sequences()).map(|sequence| (0..pass.new_tokens(sequence)).map(|_| next()).collect()).collect()
}

fn nothing_prepared() -> Failure {
    Failure::input("no pass is prepared").hint("prepare one before it is run")
}

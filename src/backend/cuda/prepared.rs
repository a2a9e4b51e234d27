//! A pass that is ready to be timed: a graph of the step for each copy of the weights, and one of each stage.

use std::time::Instant;

use super::driver::Driver;
use super::driver::gpu::CudaGpu;
use super::driver::graph::Graph;
use super::driver::stream::Event;
use super::launch::Launch;
use super::pass::Pass;
use super::suite::Suite;
use crate::backend::{Execution, Repeated, Residency};
use crate::error::Result;
use crate::model::ModelSpec;
use crate::workload::{Phase, Stage, Workload};

/// Shortest sample: a thousand times what an event resolves.
const SHORTEST_SAMPLE: f64 = 5e-4;
/// Replays of every stage in one run at most, so that stages cost no more than the steps do.
const STAGE_REPLAYS: usize = 8;
/// Graphs that may be queued ahead of the GPU: enough for it never to wait, too few to block the queue.
const AHEAD: usize = 128;
/// Launch times that are kept.
const LAUNCH_TIMES: usize = 4096;
/// Seconds of executions between two waits, when nothing else is wanted than to keep the GPU busy.
const CHUNK: f64 = 0.1;
/// A stage whose data is this many times L2 is cold by nature.
const TIMES_CACHE: f64 = 4.0;

/// What starting work costs on this GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StartCosts {
    /// Seconds that one more small kernel adds to a graph.
    pub node: f64,
    /// Seconds between two events around a graph without its kernels.
    pub graph: f64,
}

/// A pass as graphs.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What it is, for messages: `decode of batch 1`.
    label: String,
    steps: Vec<Graph>,
    stages: Vec<StageGraph>,
    /// Copy of the weights whose turn is next.
    turn: usize,
    /// Device seconds of one step, about.
    one: f64,
    events: Vec<Event>,
    launch_times: Vec<f64>,
}

/// One stage alone: all its layers, of every copy.
#[derive(Debug)]
struct StageGraph {
    graph: Graph,
    kernels: usize,
    /// How many steps' worth of the stage one replay is.
    steps: f64,
    /// Whether L2 must be emptied before, for the data to be as cold as in use.
    evict: bool,
}

impl Prepared {
    /// Records the graphs of a pass that was fed. `caches` is how many the copies rotate through.
    ///
    /// # Errors
    /// The device failed.
    pub fn record(
        suite: &mut Suite<CudaGpu>,
        residency: &Residency,
        pass: Pass,
        caches: u32,
    ) -> Result<Prepared> {
        let label = label(pass);
        let copies = residency.copies.max(1);
        let mut steps = Vec::new();
        let mut by_stage: [Vec<Launch>; 7] = Default::default();
        for copy in 0..copies as usize {
            let stages = suite.launches(pass, copy)?;
            let launches = stages.iter().flat_map(|stage| &stage.launches);
            steps.push(suite.driver_mut().record(&label, launches)?);
            for stage in stages {
                // There is one embedding.
                if copy == 0 || stage.stage != Stage::Embed {
                    by_stage[stage.stage.index()].extend(stage.launches);
                }
            }
        }
        let cold = TIMES_CACHE * suite.gpu().l2 as f64;
        let mut stages = Vec::new();
        for (stage, launches) in Stage::ALL.into_iter().zip(&by_stage) {
            let what = format!("{} of the {label}", stage.name());
            let (steps, distinct) = match stage {
                Stage::Embed => (1, 1),
                Stage::Attention => (copies, caches.min(copies)),
                _ => (copies, copies),
            };
            let bytes = streamed(residency, pass, stage) * f64::from(distinct);
            stages.push(StageGraph {
                graph: suite.driver_mut().record(&what, launches)?,
                kernels: launches.len(),
                steps: f64::from(steps),
                evict: bytes < cold,
            });
        }
        Ok(Prepared { label, steps, stages, turn: 0, one: 0.0, events: Vec::new(), launch_times: Vec::new() })
    }

    /// Replays the step once.
    ///
    /// # Errors
    /// The device failed.
    pub fn replay(&mut self, gpu: &mut CudaGpu) -> Result<()> {
        let (turn, label) = (self.next(), &self.label);
        let graph = &self.steps[turn];
        self.one = gpu.timed(label, |gpu| graph.launch(gpu.stream(), label))?;
        Ok(())
    }

    /// Times `n` samples of the step, then every stage. A stage's time is that of its replays, less what starting a
    /// graph costs; sample i takes the replay i modulo their number.
    ///
    /// # Errors
    /// The device failed.
    pub fn run(
        &mut self,
        gpu: &mut CudaGpu,
        n: usize,
        costs: StartCosts,
        evict: &Launch,
    ) -> Result<Vec<Execution>> {
        let (seconds, repeats, wall) = self.steps(gpu, n, evict)?;
        let stages = self.stages(gpu, n.min(STAGE_REPLAYS), costs, evict)?;
        let of = |i: usize| {
            let mut one = [0.0; 7];
            for (one, replays) in one.iter_mut().zip(&stages) {
                *one = replays.get(i % replays.len().max(1)).copied().unwrap_or_default();
            }
            one
        };
        Ok(seconds
            .into_iter()
            .enumerate()
            .map(|(i, seconds)| Execution {
                seconds,
                stages: of(i),
                repeats: repeats as u32,
                wall_seconds: Some(wall),
            })
            .collect())
    }

    /// Device seconds of each of `n` samples, how many steps one is the mean of, and host seconds of a step. `busy` is
    /// something for the GPU to do until the first step is queued: an idle one starts its clock before the host has
    /// launched anything.
    fn steps(&mut self, gpu: &mut CudaGpu, n: usize, busy: &Launch) -> Result<(Vec<f64>, usize, f64)> {
        let repeats = (SHORTEST_SAMPLE / self.one.max(1e-7)).ceil().max(1.0) as usize;
        // At least two samples are queued, so that the GPU has work while one is waited for.
        let ahead = (AHEAD / repeats).max(2);
        self.events(gpu, n + 2)?;
        let start = Instant::now();
        gpu.stream().record(&self.events[n + 1])?;
        gpu.launch(busy)?;
        for sample in 0..=n {
            if sample > 0 {
                for _ in 0..repeats {
                    self.launch(gpu)?;
                }
            }
            gpu.stream().record(&self.events[sample])?;
            if sample > ahead {
                gpu.stream().wait(&self.events[sample - ahead], &self.label)?;
            }
        }
        gpu.stream().wait(&self.events[n], &self.label)?;
        let waited = self.events[0].seconds_since(&self.events[n + 1])?;
        let worked = self.events[n].seconds_since(&self.events[0])?;
        let host = (start.elapsed().as_secs_f64() - waited).max(worked);
        let wall = host / (n.max(1) * repeats) as f64;
        let seconds = self.events[..=n]
            .windows(2)
            .map(|pair| Ok(pair[1].seconds_since(&pair[0])? / repeats as f64))
            .collect::<Result<Vec<f64>>>()?;
        if let Some(shortest) = seconds.iter().copied().reduce(f64::min) {
            self.one = shortest;
        }
        Ok((seconds, repeats, wall))
    }

    /// Seconds of each stage in one step, from `replays` replays.
    fn stages(
        &mut self,
        gpu: &mut CudaGpu,
        replays: usize,
        costs: StartCosts,
        evict: &Launch,
    ) -> Result<Vec<Vec<f64>>> {
        self.events(gpu, 2 * replays)?;
        let mut all = Vec::new();
        for stage in &self.stages {
            for (replay, pair) in self.events[..2 * replays].chunks_exact(2).enumerate() {
                // Before the first also for the GPU to have something to do until the graph is queued.
                if stage.evict || replay == 0 {
                    gpu.launch(evict)?;
                }
                gpu.stream().record(&pair[0])?;
                stage.graph.launch(gpu.stream(), &self.label)?;
                gpu.stream().record(&pair[1])?;
            }
            gpu.synchronise(&self.label)?;
            // No kernel is shorter than a small one.
            let least = costs.node * stage.kernels as f64;
            all.push(
                self.events[..2 * replays]
                    .chunks_exact(2)
                    .map(|pair| {
                        let seconds = pair[1].seconds_since(&pair[0])? - costs.graph;
                        Ok(seconds.max(least) / stage.steps)
                    })
                    .collect::<Result<_>>()?,
            );
        }
        Ok(all)
    }

    /// Runs steps back to back for about this many seconds.
    ///
    /// # Errors
    /// The device failed.
    pub fn repeat(&mut self, gpu: &mut CudaGpu, seconds: f64) -> Result<Repeated> {
        let chunk = ((CHUNK / self.one.max(1e-7)).ceil() as usize).clamp(1, AHEAD);
        self.events(gpu, 3)?;
        let (start, mut repeated) = (Instant::now(), Repeated::default());
        gpu.stream().record(&self.events[0])?;
        // While one chunk is waited for, the next is queued.
        for at in 1.. {
            for _ in 0..chunk {
                self.launch(gpu)?;
            }
            repeated.executions += chunk as u64;
            let [before, last] = [at - 1, at].map(|at: usize| at % 3);
            gpu.stream().record(&self.events[last])?;
            gpu.stream().wait(&self.events[before], &self.label)?;
            if at > 1 {
                let earlier = &self.events[(at - 2) % 3];
                repeated.seconds += self.events[before].seconds_since(earlier)?;
            }
            if start.elapsed().as_secs_f64() >= seconds {
                gpu.stream().wait(&self.events[last], &self.label)?;
                repeated.seconds += self.events[last].seconds_since(&self.events[before])?;
                break;
            }
        }
        Ok(repeated)
    }

    /// Median host seconds to launch the step's graph; `None` before the first run.
    pub fn launch_seconds(&self) -> Option<f64> {
        median(self.launch_times.clone())
    }

    fn launch(&mut self, gpu: &CudaGpu) -> Result<()> {
        let turn = self.next();
        let start = Instant::now();
        self.steps[turn].launch(gpu.stream(), &self.label)?;
        if self.launch_times.len() < LAUNCH_TIMES {
            self.launch_times.push(start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn next(&mut self) -> usize {
        let turn = self.turn;
        self.turn = (turn + 1) % self.steps.len().max(1);
        turn
    }

    fn events(&mut self, gpu: &CudaGpu, count: usize) -> Result<()> {
        while self.events.len() < count {
            self.events.push(gpu.event()?);
        }
        Ok(())
    }
}

/// What a pass is called in messages.
pub(super) fn label(pass: Pass) -> String {
    match (pass.tokens, pass.chunk) {
        (_, Some(chunk)) => format!("mixed step of batch {} and {} tokens", pass.batch, chunk.tokens),
        (1, None) => format!("decode of batch {}", pass.batch),
        (tokens, None) => format!("prefill of {} x {tokens} tokens", pass.batch),
    }
}

/// Bytes of weights and caches that a stage reads in a step of the held layers.
fn streamed(residency: &Residency, pass: Pass, stage: Stage) -> f64 {
    let held = ModelSpec { layers: residency.layers, ..residency.model.clone() };
    let phase = match pass.chunk {
        Some(_) => Phase::Mixed,
        None if pass.tokens == 1 => Phase::Decode,
        None => Phase::Prefill,
    };
    let base = Workload::decode(&held, pass.batch, pass.context);
    let precision = residency.precision;
    let cost = Workload { phase, tokens: pass.tokens, chunk: pass.chunk, precision, ..base }.cost(stage);
    cost.weight_bytes.0 + cost.kv_bytes.0
}

/// The middle one, or the upper of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

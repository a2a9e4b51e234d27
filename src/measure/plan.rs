//! How many layers run and how the budget is shared out.

use std::time::Duration;

use super::points::Layout;
use super::{Options, name, pass};
use crate::backend::{Residency, Session, Setup, Work};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::roofline::Roofline;
use crate::run::of_ranks;
use crate::units::Bytes;
use crate::workload::{Phase, Stage, Workload};

/// How many of a model's identical layers to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// As many as memory and budget allow.
    Auto,
    /// Every one.
    All,
    /// This many.
    Count(u32),
}

/// What one point may take.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Allotment {
    /// Seconds in all, preparation and warm-up included.
    pub seconds: f64,
    /// Expected seconds of one sample.
    pub one: f64,
    /// What to call it.
    pub label: String,
}

/// Samples that the stopping rule asks for at least, and the pass that warms up.
const RUNS: f64 = 11.0;
/// Fewest runs that are worth starting: the warm-up and three samples.
const LEAST_RUNS: f64 = 4.0;
/// Share of its roof that a pass is expected to reach when time is planned.
const EXPECTED: f64 = 0.7;
/// Share of the time left that the least number of samples may take.
const SHARE_OF_TIME: f64 = 0.75;
/// The resident weights are this many times the last-level cache at least: cold by nature.
const TIMES_CACHE: f64 = 4.0;
/// Most copies of a small model.
const MOST_COPIES: f64 = 4096.0;
/// On a GPU, where each copy is a graph of its own.
const MOST_COPIES_GPU: f64 = 64.0;
/// Making random weights narrower takes this much longer than making them.
const QUANTISING: f64 = 2.0;
/// A GPU runs the step and replays its stages.
const EXECUTIONS_GPU: f64 = 2.0;
/// Where the cache's size is not known.
const ASSUMED_CACHE: Bytes = Bytes(64e6);

/// What is held in memory and what time the passes need.
#[derive(Debug)]
pub(super) struct Plan {
    /// What is held, one after the other: the same layers in each of the types, of each number of ranks one's shard.
    held: Vec<Held>,
    layers: u32,
    roof: Roofline,
    threads: Option<u32>,
    fill_rate: f64,
    /// What is held is smaller than the caches, in as many copies as are allowed.
    warm: bool,
    /// Executions that a sample costs.
    executions: f64,
}

/// A residency and what it is of.
#[derive(Debug)]
struct Held {
    ranks: u32,
    residency: Residency,
}

/// Refuses what was asked for explicitly and does not fit, with figures.
///
/// # Errors
/// More than fits in memory.
pub(super) fn check_memory(session: &dyn Session, options: &Options, works: &[Workload]) -> Result<()> {
    let total = options.model.layers;
    let layers = match options.layers {
        Layers::Auto => 1,
        Layers::All => total,
        Layers::Count(n) => n,
    };
    let passes: Vec<Work> = works.iter().map(pass).collect();
    let held = held(session, works, layers);
    let each = held.iter().map(|held| session.needed_memory(&held.residency, &passes));
    let needed = each.fold(Bytes(0.0), |most, needed| if needed > most { needed } else { most });
    let available = session.available_memory();
    if needed.0 <= available.0 {
        return Ok(());
    }
    Err(Failure::device(format!(
        "{} with {layers} of {total} layers needs {} of memory, {} are available",
        options.model.name,
        needed.human(),
        available.human()
    ))
    .hint(match longest_context(session, &held, works) {
        Some((context, batch)) => format!(
            "at batch {batch} a --context of {context} fits; otherwise measure fewer layers (--layers auto samples them) \
             or smaller batches"
        ),
        None => "measure fewer layers (--layers auto samples them), smaller batches or a shorter context".into(),
    }))
}

/// The longest context of decode that fits at the largest batch, and that batch; `None` where a shorter one is no help.
fn longest_context(session: &dyn Session, held: &[Held], works: &[Workload]) -> Option<(u32, u32)> {
    let largest = works.iter().filter(|work| work.phase == Phase::Decode).max_by_key(|work| work.batch)?;
    let available = session.available_memory().0;
    let fits = |context: u32| {
        let work = Work { context, ..pass(largest) };
        held.iter().all(|held| session.needed_memory(&held.residency, &[work]).0 <= available)
    };
    let longest = works.iter().map(|work| work.context).max()?;
    if !fits(largest.tokens) || fits(longest) {
        return None;
    }
    let (mut low, mut high) = (largest.tokens, longest);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    Some((low, largest.batch))
}

/// What holding `layers` layers for these passes means: of each type and number of ranks as many copies as it takes to be
/// larger than the caches.
fn held(session: &dyn Session, works: &[Workload], layers: u32) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    for Workload { model, precision, ranks, .. } in works {
        if all.iter().all(|held| (held.residency.precision, held.ranks) != (*precision, *ranks)) {
            let copies = copies(session, model, *precision, layers);
            let residency = Residency { model: model.clone(), layers, precision: *precision, copies };
            all.push(Held { ranks: *ranks, residency });
        }
    }
    all
}

/// Copies to hold: larger than the caches, as far as so many are allowed.
pub(super) fn copies(session: &dyn Session, model: &ModelSpec, precision: Precision, layers: u32) -> u32 {
    let most = if is_gpu(session) { MOST_COPIES_GPU } else { MOST_COPIES };
    cold_copies(session, model, precision, layers).clamp(1.0, most) as u32
}

/// Copies that are larger than the caches.
fn cold_copies(session: &dyn Session, model: &ModelSpec, precision: Precision, layers: u32) -> f64 {
    let cache = session.device().cache.unwrap_or(ASSUMED_CACHE);
    let held = sampled(model, layers).streamed_bytes(precision);
    (TIMES_CACHE * cache.0 / held.0).ceil()
}

fn is_gpu(session: &dyn Session) -> bool {
    session.device().gpu.is_some()
}

/// The model with fewer layers.
fn sampled(model: &ModelSpec, layers: u32) -> ModelSpec {
    ModelSpec { layers, ..model.clone() }
}

impl Plan {
    /// Decides what to hold: all layers where that was asked for, otherwise as many as fit the memory. A CPU, which
    /// makes its weights slowly, also leaves time for the least number of samples of every pass.
    pub fn new(
        session: &dyn Session,
        options: &Options,
        works: &[Workload],
        roof: Roofline,
        left: Duration,
    ) -> Result<Plan> {
        let Setup { threads, fill_rate, memory_share, .. } = session.setup();
        let gpu = is_gpu(session);
        let plan = |layers| {
            let held = held(session, works, layers);
            let cold = |r: &Residency| cold_copies(session, &r.model, r.precision, layers);
            let warm = held.iter().any(|held| f64::from(held.residency.copies) < cold(&held.residency));
            let executions = if gpu { EXECUTIONS_GPU } else { 1.0 };
            Plan { held, layers, roof, threads, fill_rate, warm, executions }
        };
        let total = options.model.layers;
        let layers = match options.layers {
            Layers::All => total,
            Layers::Count(n) => n,
            Layers::Auto => {
                let passes: Vec<Work> = works.iter().map(pass).collect();
                let available = session.available_memory() * memory_share;
                let time = SHARE_OF_TIME * left.as_secs_f64() / f64::from(options.repeat);
                (1..=total)
                    .take_while(|&n| {
                        let candidate = plan(n);
                        let runs: f64 = works.iter().map(|work| candidate.effort(work)).sum();
                        let fits = candidate.needed_memory(session, &passes) <= available;
                        n == 1 || (fits && (gpu || candidate.loading() + runs <= time))
                    })
                    .last()
                    .unwrap_or(1)
            }
        };
        Ok(plan(layers))
    }

    /// What the largest of the residencies needs with these passes.
    fn needed_memory(&self, session: &dyn Session, passes: &[Work]) -> Bytes {
        let each = self.held.iter().map(|held| session.needed_memory(&held.residency, passes).0);
        Bytes(each.fold(0.0, f64::max))
    }

    /// Where what a pass runs on is among what is held.
    fn place(&self, work: &Workload) -> Option<usize> {
        self.held
            .iter()
            .position(|held| (held.residency.precision, held.ranks) == (work.precision, work.ranks))
    }

    /// What a pass runs on.
    pub fn residency(&self, work: &Workload) -> &Residency {
        &self.held[self.place(work).unwrap_or(0)].residency
    }

    /// The order of measuring: type by type and ranks by ranks, since only one of them is held at a time; of each what the
    /// request needs first, then the sweep from its small end, so that a budget that ends early costs the large batches.
    pub fn order(&self, works: &[Workload]) -> Vec<Workload> {
        let mut order = works.to_vec();
        order.sort_by_key(|work| (self.place(work), work.batch, work.phase == Phase::Prefill));
        order
    }

    /// How the points were run.
    pub fn layout(&self) -> Layout {
        Layout { layers: self.layers, threads: self.threads, warm: self.warm }
    }

    /// What a reader must know of it.
    pub fn note(&self) -> Option<String> {
        let held =
            |r: &Residency| sampled(&r.model, r.layers).streamed_bytes(r.precision) * f64::from(r.copies);
        let residencies = self.held.iter().map(|held| &held.residency);
        let smallest = residencies.min_by(|a, b| held(a).0.total_cmp(&held(b).0))?;
        let (held, copies) = (held(smallest), smallest.copies);
        self.warm.then(|| {
            format!(
                "{copies} copies of the weights are {}, too little to be cold: decode reads some of them from the cache \
                 and may lie above the memory roof",
                held.human()
            )
        })
    }

    /// `3 of 32 layers of llama-8b, int4 weights, 4 ranks`.
    pub fn describe(&self, work: &Workload) -> String {
        let Workload { model, precision, ranks, .. } = work;
        let types = if precision.is_quantised() { format!(", {}", precision.name()) } else { String::new() };
        format!("{} of {} layers of {}{types}{}", self.layers, model.layers, model.name, of_ranks(*ranks))
    }

    /// The time for the first of the waiting passes, of `left` seconds; `None` if even the fewest do not fit. `insist`
    /// measures it all the same.
    pub fn allot(&self, waiting: &[&Workload], left: f64, insist: bool) -> Option<Allotment> {
        let first = waiting.first()?;
        let wanted: f64 = waiting.iter().map(|work| self.wanted(work)).sum();
        let own = self.wanted(first);
        let seconds =
            if wanted <= left { own + (left - wanted) / waiting.len() as f64 } else { own * left / wanted };
        let fewest = self.expected(first) * LEAST_RUNS * self.executions;
        // Too little for this one now, but what follows could be given up for it.
        let seconds = if seconds < fewest { fewest } else { seconds };
        if seconds > left && !insist {
            return None;
        }
        Some(Allotment { seconds, one: self.expected(first) * self.executions, label: name(first) })
    }

    /// Expected seconds of one run of the resident layers.
    fn expected(&self, work: &Workload) -> f64 {
        let held = Workload { model: sampled(&work.model, self.layers), ..work.clone() };
        let parts = Stage::ALL.map(|stage| held.cost(stage)).map(|cost| (cost.flops, cost.bytes()));
        self.roof.shortest_of_parts(parts).0.0 / EXPECTED
    }

    /// Seconds for the least number of samples, the least time of sampling and the probes.
    pub fn wanted(&self, work: &Workload) -> f64 {
        self.effort(work).max(0.5) + 0.4
    }

    /// The part of it that grows with the layers: the runs and the cache's filling.
    fn effort(&self, work: &Workload) -> f64 {
        let kv = work.cost(Stage::Attention).kv_bytes.0 / f64::from(work.model.layers);
        // A whole prompt finds its cache empty.
        let filled = match (work.phase, work.context > work.tokens) {
            (Phase::Prefill, false) => 0.0,
            _ => kv * f64::from(self.layers) / 2.0 / self.fill_rate,
        };
        self.expected(work) * RUNS * self.executions + filled
    }

    /// Seconds to put all weights in place, one after the other.
    fn loading(&self) -> f64 {
        self.held.iter().map(|held| self.loading_of(&held.residency)).sum()
    }

    fn loading_of(&self, Residency { model, layers, copies, precision, .. }: &Residency) -> f64 {
        let model = sampled(model, *layers);
        let slower = if precision.is_quantised() { QUANTISING } else { 1.0 };
        let copied = f64::from(copies.saturating_sub(1)) * model.streamed_bytes(*precision).0;
        // Fresh pages take a byte of a further copy as long as making a value takes.
        (model.streamed_matrix_parameters() * slower + copied) / self.fill_rate
    }

    /// Seconds to load what the waiting passes after the first need besides what is loaded for that.
    pub fn later_loads(&self, waiting: &[&Workload]) -> f64 {
        let mut loaded = vec![waiting.first().and_then(|work| self.place(work))];
        let mut seconds = 0.0;
        for work in waiting {
            if !loaded.contains(&self.place(work)) {
                loaded.push(self.place(work));
                seconds += self.loading_of(self.residency(work));
            }
        }
        seconds
    }
}

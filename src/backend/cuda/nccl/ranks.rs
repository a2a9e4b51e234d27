//! The GPUs that reduce together, and how long it takes them.
//!
//! All-reduces are recorded in CUDA graphs, one after the other, as they lie in an engine's step, and each in a group of its
//! own: queued one by one from a single thread, launches to all GPUs take longer than a small all-reduce, and several of
//! one group are merged into one.

use std::ffi::c_int;

use super::library::{Communicators, Nccl};
use crate::backend::cuda::driver::gpu::CudaGpu;
use crate::backend::cuda::driver::graph::{Graph, Recording};
use crate::backend::cuda::driver::stream::Event;
use crate::backend::cuda::driver::{Address, Driver};
use crate::backend::{OpenOptions, Reduce};
use crate::error::Failure;
use crate::workload::Reduction;

/// All-reduces of the graph that says about how long one takes, which is as many as one is timed by at least.
const LEAST: usize = 4;
/// Most all-reduces of a graph.
const MOST: usize = 100;
/// Seconds that a graph is to take: a multiple of what it takes to launch it on eight GPUs.
const ROUND: f64 = 2e-3;
/// Samples of each size, and seconds after which fewer are enough.
const ROUNDS: usize = 11;
const FEWEST_ROUNDS: usize = 3;
const LONG: f64 = 0.3;
/// Bytes of the all-reduce that is checked, at most.
const CHECKED: u64 = 64 << 10;

/// Why there are no times, in words.
#[derive(Debug)]
pub(super) struct Trouble(pub String);

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble(why)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble(failure.what)
    }
}

/// One GPU with its part of what is reduced.
struct Rank {
    gpu: CudaGpu,
    buffer: Address,
    begin: Event,
    end: Event,
}

/// GPUs that are joined. In the order in which they must go.
pub(super) struct Ranks {
    communicators: Communicators,
    ranks: Vec<Rank>,
    bytes: u64,
}

impl Ranks {
    /// Opens the GPUs of these numbers and joins them; `tell` hears what is being done. Each gets a buffer for the largest.
    ///
    /// # Errors
    /// One cannot be opened or has no memory, or NCCL cannot join them.
    pub fn open(
        nccl: &Nccl,
        ordinals: &[u32],
        options: &OpenOptions,
        reduces: &[Reduce],
        tell: &dyn Fn(&'static str),
    ) -> Result<Ranks, Trouble> {
        tell("opening the GPUs");
        let bytes = reduces.iter().map(|reduce| reduce.bytes).max().unwrap_or(0).max(CHECKED);
        let rank = |&ordinal: &u32| {
            let mut gpu = CudaGpu::open(&OpenOptions { ordinal, ..options.clone() })?;
            let buffer = gpu.allocate(bytes, "an all-reduce")?;
            Ok(Rank { begin: gpu.event()?, end: gpu.event()?, buffer, gpu })
        };
        let ranks = ordinals.iter().map(rank).collect::<Result<Vec<_>, Failure>>()?;
        tell("joining the GPUs");
        let numbers: Vec<c_int> = ordinals.iter().map(|&ordinal| ordinal as c_int).collect();
        Ok(Ranks { communicators: nccl.join(&numbers)?, ranks, bytes })
    }

    /// Reduces numbers of which the result is known and compares, then leaves all buffers zero: zeros stay zeros
    /// however often they are reduced.
    ///
    /// # Errors
    /// The result is wrong, or something failed.
    pub fn check(&mut self, tell: &dyn Fn(&'static str)) -> Result<(), Trouble> {
        tell("checking an all-reduce");
        for reduction in [Reduction::Sum, Reduction::Largest] {
            let of_rank: Vec<Vec<u8>> = (0..self.ranks.len()).map(|rank| values(reduction, rank)).collect();
            for (rank, bytes) in self.ranks.iter_mut().zip(&of_rank) {
                rank.gpu.bind()?;
                rank.gpu.write(rank.buffer, bytes)?;
            }
            self.queue(reduction, CHECKED)?;
            let wanted = reduced(reduction, &of_rank);
            for rank in &mut self.ranks {
                rank.gpu.bind()?;
                let mut found = vec![0; wanted.len()];
                rank.gpu.read(rank.buffer, &mut found)?;
                if found != wanted {
                    return Err(Trouble("an all-reduce of known numbers gave others".into()));
                }
            }
        }
        for rank in &mut self.ranks {
            rank.gpu.bind()?;
            rank.gpu.zero(rank.buffer, self.bytes)?;
        }
        Ok(())
    }

    /// Seconds of one all-reduce in several rounds, of each round those of the slowest rank.
    ///
    /// # Errors
    /// Something failed.
    pub fn time(&mut self, reduce: Reduce, tell: &dyn Fn(&'static str)) -> Result<Vec<f64>, Trouble> {
        const DOING: &str = "all-reduces";
        tell(DOING);
        let few = self.record(reduce, LEAST, DOING)?;
        self.round(&few, DOING)?;
        let about = self.round(&few, DOING)? / LEAST as f64;
        // A clock that has not moved says nothing of how many it takes.
        let count = if about > 0.0 { (ROUND / about) as usize } else { MOST }.clamp(LEAST, MOST);
        let graphs = if count > LEAST { self.record(reduce, count, DOING)? } else { few };
        let mut seconds = Vec::new();
        while seconds.len() < ROUNDS {
            tell(DOING);
            seconds.push(self.round(&graphs, DOING)? / count as f64);
            let spent: f64 = seconds.iter().sum::<f64>() * count as f64;
            if seconds.len() >= FEWEST_ROUNDS && spent > LONG {
                break;
            }
        }
        Ok(seconds)
    }

    /// Whether a GPU does not answer any more: then nothing can be given back.
    pub fn hung(&self) -> bool {
        self.ranks.iter().any(|rank| !rank.gpu.answers())
    }

    /// Queues one all-reduce on all ranks.
    fn queue(&self, reduction: Reduction, bytes: u64) -> Result<(), String> {
        let places = self.ranks.iter().map(|rank| (rank.buffer, rank.gpu.stream().raw().cast()));
        self.communicators.all_reduce(reduction, bytes, places)
    }

    /// A graph of so many all-reduces for each rank.
    fn record(&self, reduce: Reduce, count: usize, what: &str) -> Result<Vec<Graph>, Trouble> {
        // All streams record before the first is queued on, and none does any more when the first is instantiated.
        let mut recordings: Vec<Recording> = Vec::new();
        for rank in &self.ranks {
            rank.gpu.bind()?;
            recordings.push(rank.gpu.begin_recording(what)?);
        }
        for _ in 0..count {
            self.queue(reduce.reduction, reduce.bytes)?;
        }
        let mut recorded = Vec::new();
        for (rank, recording) in self.ranks.iter().zip(recordings) {
            rank.gpu.bind()?;
            recorded.push(recording.end()?);
        }
        let mut graphs = Vec::new();
        for (rank, recorded) in self.ranks.iter().zip(recorded) {
            rank.gpu.bind()?;
            graphs.push(recorded.instantiate()?);
        }
        Ok(graphs)
    }

    /// Seconds of the slowest rank for one run of its graph. A run before it, which nobody leaves before all have come, has
    /// all ranks begin at once while the launches of the second are already queued.
    fn round(&self, graphs: &[Graph], doing: &str) -> Result<f64, Trouble> {
        for timed in [false, true] {
            for (rank, graph) in self.ranks.iter().zip(graphs) {
                let stream = rank.gpu.stream();
                rank.gpu.bind()?;
                if timed {
                    stream.record(&rank.begin)?;
                }
                graph.launch(stream, doing)?;
                if timed {
                    stream.record(&rank.end)?;
                }
            }
        }
        let mut slowest: f64 = 0.0;
        for rank in &self.ranks {
            rank.gpu.bind()?;
            rank.gpu.stream().wait(&rank.end, doing)?;
            slowest = slowest.max(rank.end.seconds_since(&rank.begin)?);
        }
        Ok(slowest)
    }
}

/// What a rank has before the all-reduce that is checked: small whole numbers, so that every sum is exact in bf16.
fn values(reduction: Reduction, rank: usize) -> Vec<u8> {
    match reduction {
        Reduction::Sum => {
            (0..CHECKED as usize / 2).flat_map(|i| bf16((i + rank) % 8).to_le_bytes()).collect()
        }
        Reduction::Largest => (0..CHECKED / 8).flat_map(|i| key(i, rank as u64).to_le_bytes()).collect(),
    }
}

/// What all have after it.
fn reduced(reduction: Reduction, ranks: &[Vec<u8>]) -> Vec<u8> {
    let count = ranks.len();
    match reduction {
        Reduction::Sum => (0..CHECKED as usize / 2)
            .flat_map(|i| bf16((0..count).map(|rank| (i + rank) % 8).sum()).to_le_bytes())
            .collect(),
        Reduction::Largest => (0..CHECKED / 8)
            .flat_map(|i| (0..count as u64).map(|rank| key(i, rank)).max().unwrap_or(0).to_le_bytes())
            .collect(),
    }
}

/// A whole number of up to 256 as bf16.
fn bf16(number: usize) -> u16 {
    ((number as f32).to_bits() >> 16) as u16
}

/// A key as the head's argmax has it: what is compared first in its upper half.
fn key(i: u64, rank: u64) -> u64 {
    (((i * 7919 + rank * 104_729) % 1009) << 32) | i
}

//! Counting what a launch does.

use std::collections::BTreeMap;

use crate::memory::{Memory, Touched};
use crate::{MatrixWork, Profile, Traffic};

/// Traffic of one allocation, by one worker.
#[derive(Debug, Clone, Default)]
pub struct Moved {
    pub read: u64,
    pub written: u64,
    pub read_by_warps: u64,
    pub sectors: u64,
    /// Thread accesses by their bytes.
    pub widths: [u64; 17],
}

/// What one worker counted.
#[derive(Debug, Default)]
pub struct Counters {
    pub thread_instructions: u64,
    pub scalar_flops: u64,
    pub matrix: MatrixWork,
    pub by_mark: Vec<MatrixWork>,
    pub moved: Vec<Moved>,
    pub shared_instructions: u64,
    pub shared_passes: u64,
    pub shared_passes_least: u64,
    pub local_bytes: u64,
    pub in_flight: u64,
}

impl Counters {
    /// Zeros for so many allocations and marks.
    pub fn new(allocations: usize, marks: usize) -> Counters {
        Counters {
            moved: vec![Moved::default(); allocations],
            by_mark: vec![MatrixWork::default(); marks],
            ..Counters::default()
        }
    }
}

fn add(to: &mut MatrixWork, from: MatrixWork) {
    to.executed += from.executed;
    to.effective += from.effective;
}

/// The profile of a launch from what its workers counted.
pub fn profile(workers: &[Counters], marks: &[String], memory: &Memory, touched: &[Touched]) -> Profile {
    let mut profile = Profile::default();
    for worker in workers {
        profile.thread_instructions += worker.thread_instructions;
        profile.scalar_flops += worker.scalar_flops;
        add(&mut profile.matrix, worker.matrix);
        profile.shared_instructions += worker.shared_instructions;
        profile.shared_passes += worker.shared_passes;
        profile.shared_passes_least += worker.shared_passes_least;
        profile.local_bytes += worker.local_bytes;
        profile.in_flight = profile.in_flight.max(worker.in_flight);
        for (mark, work) in marks.iter().zip(&worker.by_mark) {
            if work.executed > 0 {
                add(profile.matrix_by_mark.entry(mark.clone()).or_default(), *work);
            }
        }
    }
    for (index, allocation) in memory.allocations.iter().enumerate() {
        let (unique_read, unique_written) = touched[index].unique();
        let mut traffic = Traffic {
            name: allocation.name.clone(),
            address: allocation.base,
            unique_read,
            unique_written,
            ..Traffic::default()
        };
        let mut widths = BTreeMap::new();
        for moved in workers.iter().map(|worker| &worker.moved[index]) {
            traffic.read += moved.read;
            traffic.written += moved.written;
            traffic.read_by_warps += moved.read_by_warps;
            traffic.sectors += moved.sectors;
            for (width, &count) in moved.widths.iter().enumerate().filter(|(_, count)| **count > 0) {
                *widths.entry(width as u32).or_insert(0) += count;
            }
        }
        traffic.widths = widths;
        if traffic.read + traffic.written > 0 {
            profile.traffic.push(traffic);
        }
    }
    profile.traffic.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
    profile
}

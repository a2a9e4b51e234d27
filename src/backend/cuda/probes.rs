//! Measures the ceilings on the device: kernels of `ceilings.rs` that last about as long as was asked for.

use super::driver::gpu::CudaGpu;
use super::driver::{Address, Driver, Gpu};
use super::launch::Launch;
use super::launch::ceilings;
use super::launch::fill::{Normal, normals};
use super::memory::Allocations;
use crate::backend::{Probe, Probed};
use crate::error::{Failure, Result};
use crate::model::DType;

/// Bytes of each of the two buffers that are copied between, where memory and L2 allow.
const HALF: u64 = 512 << 20;
/// What is read must be this many times L2 to come from memory.
const TIMES_CACHE: u64 = 4;
/// A first look at a rate lasts at least this long: against it starting a kernel is short.
const FIRST_LOOK: f64 = 2e-4;
/// No kernel lasts longer, so that an interrupt is heeded and no watchdog barks.
const LONGEST_KERNEL: f64 = 0.25;
/// Seed of the data that is read and copied.
const SEED: u64 = 0x5ca7;
/// Every type whose peak may be asked for, the products' first.
const DTYPES: [DType; 5] = [DType::Bf16, DType::F16, DType::F32, DType::Int8, DType::Fp8];

/// Buffers of the probes, and the rates they gave last.
#[derive(Debug, Default)]
pub(super) struct Probes {
    held: Allocations,
    scratch: Option<Scratch>,
    operands: Vec<(DType, Address)>,
    rates: Vec<(Probe, f64)>,
    /// Where the next read of the weights goes on.
    cursor: u64,
}

/// Memory that nothing else uses.
#[derive(Debug, Clone, Copy)]
struct Scratch {
    address: Address,
    half: u64,
}

/// The ceilings that a GPU can be asked for.
pub(super) fn probes(gpu: &Gpu) -> Vec<Probe> {
    let computes = DTYPES.into_iter().filter(|&dtype| ceilings::peak(gpu, dtype, 0, 32, 0).is_some());
    [Probe::MemoryRead, Probe::MemoryCopy, Probe::CacheRead]
        .into_iter()
        .chain(computes.map(Probe::Compute))
        .collect()
}

/// How a ceiling is measured.
pub(super) fn describe(gpu: &Gpu, probe: Probe) -> String {
    match probe {
        Probe::MemoryRead => "one read of the weights after the other, 16-byte loads".into(),
        Probe::MemoryCopy => "copy of a buffer larger than L2, bytes read plus bytes written".into(),
        Probe::CacheRead => {
            format!("a buffer of {} KiB in L2 read over and over", ceilings::cache_footprint(gpu) >> 10)
        }
        Probe::Compute(dtype) => match ceilings::peak(gpu, dtype, 0, 32, 0) {
            Some((launch, _)) if launch.source == "hopper" => {
                format!("{dtype} products by wgmma from shared memory")
            }
            Some(_) if dtype == DType::F32 => "f32 multiply-adds from registers".into(),
            Some(_) => format!("{dtype} products by mma.sync from registers"),
            None => format!("no {dtype} products on this GPU"),
        },
    }
}

impl Probes {
    /// Memory that the probes will still take.
    pub fn needed(&self, gpu: &CudaGpu) -> u64 {
        let operands = (DTYPES.len() - self.operands.len()) * ceilings::OPERANDS;
        let scratch = match self.scratch {
            Some(_) => 0,
            None => 2 * half(gpu.gpu(), gpu.available().0 as u64),
        };
        scratch + operands as u64
    }

    /// Runs a probe for about this many seconds.
    ///
    /// # Errors
    /// The GPU has no such instructions, is out of memory, or failed.
    pub fn run(&mut self, gpu: &mut CudaGpu, probe: Probe, seconds: f64) -> Result<Probed> {
        let rate = match self.rates.iter().find(|(known, _)| *known == probe) {
            Some((_, rate)) => *rate,
            None => self.first_look(gpu, probe)?,
        };
        let parts = (seconds / LONGEST_KERNEL).ceil().max(1.0);
        let mut launches = Vec::new();
        let mut amount = 0.0;
        for _ in 0..parts as u32 {
            let (more, moved) = self.launches(gpu, probe, rate * seconds / parts)?;
            launches.extend(more);
            amount += moved;
        }
        self.measure(gpu, probe, &launches, amount)
    }

    /// A launch that takes what was read before out of L2.
    ///
    /// # Errors
    /// Out of memory.
    pub fn evict(&mut self, gpu: &mut CudaGpu) -> Result<Launch> {
        let scratch = self.scratch(gpu)?;
        let bytes = (gpu.gpu().l2 * 5 / 2).clamp(16, 2 * scratch.half);
        Ok(ceilings::read(gpu.gpu(), scratch.address, bytes, 0).0)
    }

    /// The rate of a probe, by ever more of it until it lasts long enough.
    fn first_look(&mut self, gpu: &mut CudaGpu, probe: Probe) -> Result<f64> {
        let mut asked = match probe {
            Probe::Compute(_) => 1e9,
            _ => 64e6,
        };
        // The first launch of a kernel loads it, which takes longer than what is looked at.
        let (launches, _) = self.launches(gpu, probe, asked)?;
        launches.iter().try_for_each(|launch| gpu.launch(launch))?;
        loop {
            let (launches, amount) = self.launches(gpu, probe, asked)?;
            let probed = self.measure(gpu, probe, &launches, amount)?;
            if probed.seconds >= FIRST_LOOK {
                return Ok(probed.rate());
            }
            asked = amount.max(asked) * 4.0;
            if !asked.is_finite() || asked > 1e18 {
                return Err(Failure::device(format!("the GPU's clock stands still during {probe:?}"))
                    .hint("its driver is faulty: try another"));
            }
        }
    }

    fn measure(
        &mut self,
        gpu: &mut CudaGpu,
        probe: Probe,
        launches: &[Launch],
        amount: f64,
    ) -> Result<Probed> {
        // Something to do while the start and the first kernel are queued. On an idle GPU the clock would start at once,
        // and the host's time for the launch would make the roof too low.
        let busy = self.evict(gpu)?;
        gpu.launch(&busy)?;
        let seconds = gpu
            .timed("measuring a ceiling", |gpu| launches.iter().try_for_each(|launch| gpu.launch(launch)))?;
        let probed = Probed { amount, seconds };
        if probed.rate().is_finite() {
            match self.rates.iter_mut().find(|(known, _)| *known == probe) {
                Some((_, rate)) => *rate = probed.rate(),
                None if seconds >= FIRST_LOOK => self.rates.push((probe, probed.rate())),
                None => {}
            }
        }
        Ok(probed)
    }

    /// Launches that move or do about `amount`, and how much exactly.
    fn launches(&mut self, gpu: &mut CudaGpu, probe: Probe, amount: f64) -> Result<(Vec<Launch>, f64)> {
        match probe {
            Probe::MemoryRead => self.reads(gpu, amount),
            Probe::MemoryCopy => {
                let Scratch { address, half } = self.scratch(gpu)?;
                let (mut launches, mut moved) = (Vec::new(), 0.0);
                while moved < amount {
                    let bytes = ((amount - moved) / 2.0).clamp(1e6, half as f64) as u64;
                    let (launch, bytes) = ceilings::copy(gpu.gpu(), address, address + half, bytes);
                    launches.push(launch);
                    moved += bytes.0;
                }
                Ok((launches, moved))
            }
            Probe::CacheRead => {
                let scratch = self.scratch(gpu)?;
                let (launch, bytes) = ceilings::read_cache(gpu.gpu(), scratch.address, amount as u64, 0);
                Ok((vec![launch], bytes.0))
            }
            Probe::Compute(dtype) => {
                let operands = self.operands(gpu, dtype)?;
                let peak = |rounds| {
                    ceilings::peak(gpu.gpu(), dtype, operands, rounds, 0).ok_or_else(|| {
                        Failure::device(format!("the {} has no {dtype} products", gpu.gpu().name))
                            .hint("the kernels have fp8 for Hopper alone")
                    })
                };
                let of_round = peak(32)?.1.0 / 32.0;
                let (launch, flops) = peak((amount / of_round).clamp(32.0, f64::from(u32::MAX - 32)) as u32)?;
                Ok((vec![launch], flops.0))
            }
        }
    }

    /// Reads of the weights where the last one ended, or of the scratch memory while they would fit into L2.
    fn reads(&mut self, gpu: &mut CudaGpu, amount: f64) -> Result<(Vec<Launch>, f64)> {
        let mut ranges: Vec<(Address, u64)> = gpu.blocks().collect();
        if ranges.iter().map(|(_, bytes)| bytes).sum::<u64>() < TIMES_CACHE * gpu.gpu().l2 {
            let Scratch { address, half } = self.scratch(gpu)?;
            ranges = vec![(address, 2 * half)];
        }
        let total: u64 = ranges.iter().map(|(_, bytes)| bytes).sum();
        let (mut launches, mut moved) = (Vec::new(), 0.0);
        while moved < amount {
            let mut at = self.cursor % total.max(1);
            let Some(&(address, bytes)) = ranges.iter().find(|(_, bytes)| {
                let inside = at < *bytes;
                if !inside {
                    at -= bytes;
                }
                inside
            }) else {
                break;
            };
            // Neither a short launch here nor a short rest for the next one: both would be slow for their length.
            let wanted = ((amount - moved) as u64).next_multiple_of(32 << 10).max(1 << 20);
            let rest = bytes - at;
            let take = if wanted + wanted / 8 >= rest { rest } else { wanted };
            let (launch, read) = ceilings::read(gpu.gpu(), address + at, take, 0);
            launches.push(launch);
            moved += read.0;
            self.cursor = (self.cursor + take) % total;
            if moved > amount * 0.9 {
                break;
            }
        }
        Ok((launches, moved))
    }

    fn scratch(&mut self, gpu: &mut CudaGpu) -> Result<Scratch> {
        if let Some(scratch) = self.scratch {
            return Ok(scratch);
        }
        let half = half(gpu.gpu(), gpu.available().0 as u64);
        let address = self.held.allocate(gpu, 2 * half, "the probes of the ceilings")?;
        // Neither zeros, which cost memory less energy than data, nor what an earlier program left there.
        let normal = Normal { mean: 0.0, deviation: 1.0 };
        let fill = normals(gpu.gpu(), address, half, SEED, 0, normal);
        gpu.launch(&fill)?;
        let scratch = Scratch { address, half };
        self.scratch = Some(scratch);
        Ok(scratch)
    }

    fn operands(&mut self, gpu: &mut CudaGpu, dtype: DType) -> Result<Address> {
        if let Some((_, address)) = self.operands.iter().find(|(known, _)| *known == dtype) {
            return Ok(*address);
        }
        let address = self.held.allocate(gpu, ceilings::OPERANDS as u64, "operands of the peaks")?;
        gpu.write(address, &ceilings::operands(dtype))?;
        self.operands.push((dtype, address));
        Ok(address)
    }
}

/// Bytes of half the scratch memory: as much as copying needs to be steady, but small against free memory.
fn half(gpu: &Gpu, free: u64) -> u64 {
    let least = (TIMES_CACHE * gpu.l2).max(1 << 20).next_multiple_of(2 << 20);
    (free / 32).min(HALF).next_multiple_of(2 << 20).max(least)
}

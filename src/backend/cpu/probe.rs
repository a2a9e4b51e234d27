//! The ceilings: what memory, cache and arithmetic units give when nothing else is asked of them.

use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::isa::{InstructionSet, per_isa};
use super::peak;
use super::pool::{Pool, Worker};
use super::topology::{ASSUMED_CACHE, Caches};
use crate::backend::{Probe, Probed};
use crate::error::{Failure, Result};
use crate::model::DType;

/// Bytes between two looks at the clock: few, so that threads end together; many against what a look costs.
const CHUNK: usize = 1 << 18;
/// Least size of the private read buffer.
const LEAST_READ: usize = 1 << 30;

/// Buffers of the probes, allocated when first needed, and where the reads go on.
#[derive(Debug, Default)]
pub struct Probes {
    memory: Option<Vec<Buffer>>,
    copy: Option<Vec<Buffer>>,
    cache: Option<Vec<Buffer>>,
    offsets: Vec<usize>,
}

per_isa! {
    /// Adds up all 64-bit words of `bytes` (a multiple of 512) bytes: as fast a read as the set allows.
    ///
    /// # Safety
    /// The bytes are readable and aligned to 8.
    unsafe fn read(from: *const u8, bytes: usize) -> u64 {
        let mut sums = [0u64; 64];
        let from = from.cast::<[u64; 64]>();
        for i in 0..bytes / 512 {
            // SAFETY: inside the range the caller vouches for.
            let words = unsafe { &*from.add(i) };
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        sums.iter().fold(0, |a, b| a.wrapping_add(*b))
    }
}

/// Copies `bytes` (a multiple of 512), past the caches where the set has stores for that.
///
/// # Safety
/// Both ranges are valid, disjoint and aligned to 64.
unsafe fn copy(isa: InstructionSet, from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the sets are only chosen where the CPU has them; the ranges are the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => copy_avx512(from, to, bytes),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => copy_avx2(from, to, bytes),
            _ => std::ptr::copy_nonoverlapping(from, to, bytes),
        }
    }
}

/// See [`copy`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn copy_avx512(from: *const u8, to: *mut u8, bytes: usize) {
    use std::arch::x86_64::*;
    // SAFETY: inside the ranges the caller vouches for.
    unsafe {
        for i in (0..bytes).step_by(256) {
            let lines: [__m512i; 4] = std::array::from_fn(|l| _mm512_load_si512(from.add(i + 64 * l).cast()));
            for (l, line) in lines.into_iter().enumerate() {
                _mm512_stream_si512(to.add(i + 64 * l).cast(), line);
            }
        }
        _mm_sfence();
    }
}

/// See [`copy`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn copy_avx2(from: *const u8, to: *mut u8, bytes: usize) {
    use std::arch::x86_64::*;
    // SAFETY: inside the ranges the caller vouches for.
    unsafe {
        for i in (0..bytes).step_by(128) {
            let halves: [__m256i; 4] =
                std::array::from_fn(|l| _mm256_load_si256(from.add(i + 32 * l).cast()));
            for (l, half) in halves.into_iter().enumerate() {
                _mm256_stream_si256(to.add(i + 32 * l).cast(), half);
            }
        }
        _mm_sfence();
    }
}

/// Runs `work(thread, round)`, which returns the amount it did, on all threads until the time is over. The amounts are
/// added up; the time is from the first thread's start to the last one's end.
fn timed(pool: &mut Pool, seconds: f64, work: &(dyn Fn(usize, usize) -> f64 + Sync)) -> Probed {
    let origin = Instant::now();
    let limit = Duration::from_secs_f64(seconds.clamp(1e-4, 3600.0));
    let results = std::sync::Mutex::new((0.0, Duration::MAX, Duration::ZERO));
    pool.run(&|worker: Worker<'_>| {
        worker.barrier.wait();
        let start = origin.elapsed();
        let (mut amount, mut round) = (0.0, 0);
        while round == 0 || origin.elapsed() - start < limit {
            amount += work(worker.index, round);
            round += 1;
        }
        let end = origin.elapsed();
        if let Ok(mut sum) = results.lock() {
            *sum = (sum.0 + amount, sum.1.min(start), sum.2.max(end));
        }
    });
    let (amount, start, end) = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Probed { amount, seconds: (end - start).as_secs_f64() }
}

/// One buffer per thread, written by it once so that the pages are its own.
fn touched(pool: &mut Pool, bytes: usize) -> Result<Vec<Buffer>> {
    let bytes = bytes.next_multiple_of(2 * CHUNK);
    let buffers = (0..pool.threads()).map(|_| Buffer::new(bytes)).collect::<Result<Vec<_>>>()?;
    pool.run(&|worker: Worker<'_>| {
        // SAFETY: the buffer is this thread's and has so many bytes.
        unsafe { buffers[worker.index].ptr::<u8>().write_bytes(worker.index as u8 | 0x10, bytes) };
    });
    Ok(buffers)
}

impl Probes {
    /// Forgets the private read buffer, once there are weights to read.
    pub fn drop_memory(&mut self) {
        self.memory = None;
        self.copy = None;
        self.offsets.clear();
    }

    /// Runs a probe. `arenas` are the resident weights, one per thread.
    ///
    /// # Errors
    /// Out of memory, or a type without a peak.
    pub fn run(
        &mut self,
        pool: &mut Pool,
        isa: InstructionSet,
        arenas: Option<&[Buffer]>,
        probe: Probe,
        seconds: f64,
    ) -> Result<Probed> {
        let threads = pool.threads();
        let caches = Caches::read();
        let last = caches.last.unwrap_or(ASSUMED_CACHE);
        match probe {
            Probe::MemoryRead => {
                if arenas.is_none() && self.memory.is_none() {
                    self.memory = Some(touched(pool, LEAST_READ.max(4 * last).div_ceil(threads))?);
                }
                let buffers = arenas.or(self.memory.as_deref()).unwrap_or_default();
                self.offsets.resize(threads, 0);
                Ok(read_memory(pool, isa, buffers, &mut self.offsets, seconds))
            }
            Probe::MemoryCopy => {
                if self.copy.is_none() {
                    self.copy = Some(touched(pool, (LEAST_READ / 2).max(4 * last).div_ceil(threads))?);
                }
                let buffers = self.copy.as_deref().unwrap_or_default();
                Ok(timed(pool, seconds, &|thread, round| {
                    let half = buffers[thread].bytes() / 2;
                    let at = round * CHUNK % half;
                    let from = buffers[thread].ptr::<u8>();
                    // SAFETY: both chunks lie in the thread's buffer, one in each half.
                    unsafe { copy(isa, from.add(at), from.add(half + at), CHUNK) };
                    2.0 * CHUNK as f64
                }))
            }
            Probe::CacheRead => {
                if self.cache.is_none() {
                    let beyond = 2 * caches.second.unwrap_or(1 << 20);
                    self.cache = Some(touched(pool, (last / 2).div_ceil(threads).max(beyond))?);
                }
                let buffers = self.cache.as_deref().unwrap_or_default();
                Ok(timed(pool, seconds, &|thread, _| {
                    let bytes = buffers[thread].bytes();
                    // SAFETY: the thread's whole buffer.
                    std::hint::black_box(unsafe { read(isa, buffers[thread].ptr(), bytes) });
                    bytes as f64
                }))
            }
            Probe::Compute(dtype @ (DType::Bf16 | DType::F32 | DType::Int8)) => {
                Ok(timed(pool, seconds, &|_, _| peak::operations(isa, dtype)))
            }
            Probe::Compute(dtype) => Err(Failure::input(format!("the CPU has no arithmetic for {dtype}"))
                .hint("ask for bf16, f32 or int8")),
        }
    }
}

/// Reads on where the last call stopped, every thread its own buffer from end to end.
fn read_memory(
    pool: &mut Pool,
    isa: InstructionSet,
    buffers: &[Buffer],
    offsets: &mut [usize],
    seconds: f64,
) -> Probed {
    let starts: Vec<_> = offsets.iter().map(|&at| std::sync::atomic::AtomicUsize::new(at)).collect();
    let probed = timed(pool, seconds, &|thread, _| {
        let all = buffers[thread].bytes() / 512 * 512;
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let at = starts[thread].load(relaxed);
        let at = if at < all { at } else { 0 };
        let bytes = CHUNK.min(all - at);
        // SAFETY: the chunk lies in the thread's buffer.
        std::hint::black_box(unsafe { read(isa, buffers[thread].ptr::<u8>().add(at), bytes) });
        starts[thread].store(at + bytes, relaxed);
        bytes as f64
    });
    for (offset, at) in offsets.iter_mut().zip(starts) {
        *offset = at.into_inner();
    }
    probed
}

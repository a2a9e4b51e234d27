//! Threads that stay alive and pinned for the whole session, and the barrier between stages.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use super::topology;

/// Spins before a waiting thread starts to give its CPU away: about 100 us.
const SPINS: u32 = 4000;
/// Yields before an idle worker goes to sleep: some milliseconds.
const YIELDS: u32 = 20_000;

/// A value on cache lines of its own, so that threads that spin on it disturb no other.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Waits until `done`. Spins first, then yields, so that more threads than CPUs still get on.
fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Where all threads of a pool meet.
pub struct Barrier {
    threads: usize,
    arrived: Padded<AtomicUsize>,
    round: Padded<AtomicUsize>,
    /// A thread panicked and will never arrive.
    broken: AtomicBool,
}

impl Barrier {
    /// For this many threads.
    pub fn new(threads: usize) -> Barrier {
        Barrier {
            threads,
            arrived: Padded::default(),
            round: Padded::default(),
            broken: AtomicBool::new(false),
        }
    }

    /// Returns once all threads have called it; what they wrote before is visible after.
    ///
    /// # Panics
    /// Another thread of the pool panicked.
    pub fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let round = self.round.0.load(Ordering::Acquire);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.round.0.store(round.wrapping_add(1), Ordering::Release);
        } else {
            wait_until(|| {
                self.round.0.load(Ordering::Acquire) != round || self.broken.load(Ordering::Relaxed)
            });
            assert!(!self.broken.load(Ordering::Relaxed), "another thread of the pool panicked");
        }
    }
}

/// What a job knows of the thread it runs on.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    /// Number of the thread, 0 is the caller.
    pub index: usize,
    /// Number of threads.
    pub threads: usize,
    /// Where they meet.
    pub barrier: &'a Barrier,
}

type Job = *const (dyn Fn(Worker<'_>) + Sync);

struct Shared {
    barrier: Barrier,
    epoch: Padded<AtomicUsize>,
    running: Padded<AtomicUsize>,
    stop: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    panic: std::sync::Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only while no worker runs (`running` is 0) and published by `epoch`; the pointer
// stays valid until `running` is 0 again, which `Pool::run` waits for.
unsafe impl Sync for Shared {}
// SAFETY: see above.
unsafe impl Send for Shared {}

/// Threads, the caller's own the first of them, each pinned to its CPU while the pool lives.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    pinned: Vec<usize>,
}

impl Pool {
    /// Starts `threads` threads on the first of `cpus`; pins none if there are fewer CPUs than threads.
    pub fn new(threads: usize, cpus: &[usize]) -> Pool {
        // Remembered before anything is pinned.
        let _ = topology::affinity();
        let wanted: Vec<usize> = if cpus.len() >= threads { cpus[..threads].to_vec() } else { Vec::new() };
        let shared = Arc::new(Shared {
            barrier: Barrier::new(threads),
            epoch: Padded::default(),
            running: Padded::default(),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            panic: std::sync::Mutex::new(None),
        });
        let workers: Vec<_> = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let cpu = wanted.get(index).copied();
                std::thread::spawn(move || {
                    if let Some(cpu) = cpu {
                        topology::pin(&[cpu]);
                    }
                    work(&shared, index, threads);
                })
            })
            .collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        let pinned = match wanted.first() {
            Some(&first) if topology::pin(&[first]) => wanted,
            _ => Vec::new(),
        };
        Pool { shared, workers, handles, pinned }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// CPUs of the threads; empty if they are not pinned.
    pub fn pinned(&self) -> &[usize] {
        &self.pinned
    }

    /// Runs `job` once on every thread and returns when all are through.
    ///
    /// # Panics
    /// A thread panicked.
    pub fn run(&mut self, job: &(dyn Fn(Worker<'_>) + Sync)) {
        let threads = self.threads();
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; no worker uses the job after this function returns. No worker
        // runs now, so nobody else accesses the cell.
        unsafe {
            *shared.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(Worker<'_>) + Sync + '_), Job>(&raw const *job));
        }
        shared.running.0.store(threads - 1, Ordering::Relaxed);
        shared.epoch.0.fetch_add(1, Ordering::Release);
        for handle in &self.handles {
            handle.unpark();
        }
        let own = catch_unwind(AssertUnwindSafe(|| {
            job(Worker { index: 0, threads, barrier: &shared.barrier });
        }));
        if own.is_err() {
            shared.barrier.broken.store(true, Ordering::Relaxed);
        }
        wait_until(|| shared.running.0.load(Ordering::Acquire) == 0);
        let theirs = shared.panic.lock().map_or(None, |mut panic| panic.take());
        if let Some(panic) = theirs.or(own.err()) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.0.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker hands its panics to `run`, so there is nothing left to learn here.
            let _ = worker.join();
        }
        if let (false, Some(affinity)) = (self.pinned.is_empty(), topology::affinity()) {
            topology::pin(affinity);
        }
    }
}

/// The life of a worker: wait for a job, run it, say so.
fn work(shared: &Shared, index: usize, threads: usize) {
    let mut seen = 0;
    loop {
        let mut idle = 0;
        while shared.epoch.0.load(Ordering::Acquire) == seen {
            idle += 1;
            if idle < SPINS {
                std::hint::spin_loop();
            } else if idle < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
        seen = seen.wrapping_add(1);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the epoch has published the job, and `run` keeps it alive until `running` is 0.
        let job = unsafe { (*shared.job.get()).map(|job| &*job) };
        if let Some(job) = job {
            let result = catch_unwind(AssertUnwindSafe(|| {
                job(Worker { index, threads, barrier: &shared.barrier });
            }));
            if let Err(panic) = result {
                shared.barrier.broken.store(true, Ordering::Relaxed);
                if let Ok(mut slot) = shared.panic.lock() {
                    slot.get_or_insert(panic);
                }
            }
        }
        shared.running.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_and_meets_at_the_barrier() {
        let mut pool = Pool::new(3, &[]);
        let count = AtomicUsize::new(0);
        for _ in 0..50 {
            count.store(0, Ordering::Relaxed);
            pool.run(&|worker: Worker<'_>| {
                for round in 1..=20 {
                    count.fetch_add(1, Ordering::Relaxed);
                    worker.barrier.wait();
                    assert_eq!(count.load(Ordering::Relaxed), round * worker.threads);
                    worker.barrier.wait();
                }
            });
            assert_eq!(count.load(Ordering::Relaxed), 60);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_instead_of_hanging_the_barrier() {
        let mut pool = Pool::new(2, &[]);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|worker: Worker<'_>| {
                assert!(worker.index == 0, "boom");
                worker.barrier.wait();
            });
        }));
        assert!(result.is_err());
    }
}

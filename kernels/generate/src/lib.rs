//! Makes `kernels/ptx/*.ptx` and `kernels/resources.csv` from `kernels/*.cu`, and checks that they are up to date.
//!
//! `cargo run -p generate-kernels` is the whole of it: it installs the pinned NVRTC and ptxas below `target/` if
//! they are not there yet, compiles every source for every target, and lists what each kernel takes of each GPU.
//! No GPU is needed. The same sources give the same bytes on every machine.

pub mod image;
pub mod nvrtc;
pub mod occupancy;
pub mod ptxas;
pub mod resources;
pub mod source;
pub mod tools;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Result, bail};

use nvrtc::Nvrtc;
use source::{Source, Target};
use tools::Tools;

/// The folder of the kernels: sources, `ptx/` and `resources.csv`.
pub fn kernels() -> PathBuf {
    let generate = Path::new(env!("CARGO_MANIFEST_DIR"));
    generate.parent().unwrap_or(generate).to_owned()
}

/// What to run when something is out of date.
pub const COMMAND: &str = "cargo run -p generate-kernels";

/// Compiles every source for each of its targets: file name and text of all PTX files.
///
/// # Errors
/// A source does not compile.
pub fn compile(tools: &Tools, sources: &[Source]) -> Result<Vec<(String, String)>> {
    let nvrtc = Nvrtc::load(&tools.nvrtc)?;
    let jobs: Vec<(&Source, &Target)> = sources
        .iter()
        .flat_map(|source| source.targets().iter().map(move |target| (source, target)))
        .collect();
    in_parallel(&jobs, |(source, target)| {
        Ok((source.ptx_name(target), image::generate(&nvrtc, source, target)?))
    })
}

/// Does each job on one of as many threads as there are processors; the results are in the jobs' order.
fn in_parallel<J: Sync, T: Send>(jobs: &[J], work: impl Fn(&J) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = Mutex::new(jobs.iter().enumerate());
    let take = || next.lock().ok()?.next();
    let mut done: Vec<(usize, Result<T>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    while let Some((at, job)) = take() {
                        done.push((at, work(job)));
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    if done.len() < jobs.len() {
        bail!("a thread ended before its work");
    }
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

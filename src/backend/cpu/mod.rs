//! The CPU: the whole suite on pinned threads, with the fastest instruction set there is.
//!
//! From the weights in memory to one step:
//! - `shape`: the model cut into panels of 32 rows; `loaded`: the panels in one arena per thread, in the
//!   order a step reads them; `claims`: who computes which; `kv`: the cache in the same layout, `kv_quantised` in 8 bits.
//! - `panels`: how bf16, int8 and int4 lie in a panel; `quantised`: activations as integers for the last two.
//! - `dot`: the microkernel, a panel times up to 12 tokens; `product`: matrices made of it;
//!   `attention`: attention made of it; `prefetch`: what both fetch ahead; `elementwise`: what lies between.
//! - `step`: the stages in order on `pool`'s threads; `pass`: their activations and clocks.
//! - `probe`, `peak`: the ceilings, on the same threads and over the same arenas.

mod activation;
mod attention;
mod buffer;
mod claims;
mod dot;
mod elementwise;
mod feed;
mod isa;
mod kv;
mod kv_quantised;
mod loaded;
mod panels;
mod pass;
mod peak;
mod pool;
mod prefetch;
mod probe;
mod product;
mod quantised;
mod session;
mod shape;
#[cfg(target_arch = "x86_64")]
mod softmax_avx512;
mod step;
mod topology;
mod trace;

pub use isa::InstructionSet;

use sysinfo::System;

use self::pool::Pool;
use self::session::CpuSession;
use self::topology::Caches;
use super::reopen::Reopening;
use super::{Backend, DeviceInfo, OpenOptions, Session};
use crate::error::{Failure, Result};
use crate::units::Bytes;

/// The CPU of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>> {
        Ok(vec![describe()])
    }

    fn open(&self, options: &OpenOptions) -> Result<Box<dyn Session>> {
        let isa = match options.instruction_set.as_deref() {
            Some(name) => InstructionSet::named(name)?,
            None => peak::fastest(),
        };
        let (cpus, cores) = topology::cpus();
        // A container may be given less time than it sees cores.
        let allowed = topology::parallelism();
        let most = cpus.len().max(allowed);
        let threads = options.threads.unwrap_or_else(|| cores.min(allowed).max(1));
        if threads == 0 || threads > most {
            return Err(Failure::input(format!("{threads} threads were asked for"))
                .hint(format!("this machine runs 1 to {most}")));
        }
        let open = move || {
            let session = CpuSession::new(describe(), isa, Pool::new(threads, &cpus));
            Ok(Box::new(session) as Box<dyn Session>)
        };
        Ok(Box::new(Reopening::new(Box::new(open))?))
    }
}

/// What the system says of the CPU.
fn describe() -> DeviceInfo {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    let brand = system.cpus().first().map_or("", |cpu| cpu.brand().trim()).to_owned();
    let (_, cores) = topology::cpus();
    let sets: Vec<_> = InstructionSet::available().iter().map(|set| set.name()).collect();
    DeviceInfo {
        kind: "cpu",
        name: if brand.is_empty() { std::env::consts::ARCH.to_owned() } else { brand },
        id: None,
        memory: Bytes(system.total_memory() as f64),
        cache: Caches::read().last.map(|bytes| Bytes(bytes as f64)),
        detail: format!("{cores} cores, {}", sets.join(" ")),
        gpu: None,
    }
}

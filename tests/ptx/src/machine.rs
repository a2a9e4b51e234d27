//! The machine: memory that lives as long as it, and launches.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::exec::{Shape, Worker};
use crate::lower::{Marks, lower};
use crate::memory::{Memory, Touched};
use crate::op::Kernel;
use crate::parse::ast::Global;
use crate::{Fault, FaultKind, Launch, Profile, parse, profile};

/// Instructions that a warp may execute unless the machine is told otherwise.
const BUDGET: u64 = 50_000_000;
/// Shared memory that a block may have on any GPU.
const MOST_SHARED: u64 = 227 * 1024;

/// A parsed PTX text.
#[derive(Debug)]
pub struct Module {
    /// Tells modules apart: each has variables of its own in a machine.
    id: u64,
    target: u32,
    kernels: Vec<Kernel>,
    globals: Vec<Global>,
    marks: Marks,
    lines: Vec<String>,
}

impl Module {
    /// Parses a whole PTX file.
    ///
    /// # Errors
    /// The first line that is not known, with its number.
    pub fn parse(ptx: &str) -> Result<Module, Fault> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let file = parse::parse(ptx)?;
        let lines: Vec<String> = ptx.lines().map(String::from).collect();
        let mut marks = Marks::default();
        for (index, line) in lines.iter().enumerate() {
            if let Some((_, mark)) = line.split_once("//@") {
                let mark = mark.trim().to_string();
                let known = marks.texts.iter().position(|text| *text == mark);
                let number = known.unwrap_or_else(|| {
                    marks.texts.push(mark);
                    marks.texts.len() - 1
                });
                marks.by_line.insert(index + 1, number);
            }
        }
        let kernels =
            file.entries.iter().map(|entry| lower(entry, &marks)).collect::<Result<Vec<Kernel>, Fault>>()?;
        Ok(Module {
            id: IDS.fetch_add(1, Relaxed),
            target: file.target,
            kernels,
            globals: file.globals,
            marks,
            lines,
        })
    }

    /// Names of the entry points, in the order of the file.
    pub fn kernels(&self) -> Vec<&str> {
        self.kernels.iter().map(|kernel| &kernel.name[..]).collect()
    }
}

/// A GPU's memory and what executes kernels on it.
#[derive(Debug)]
pub struct Machine {
    workers: usize,
    budget: u64,
    memory: Memory,
    /// Addresses of the variables of modules, by their id.
    globals: HashMap<u64, Vec<u64>>,
}

fn fault(kind: FaultKind, message: String) -> Fault {
    Fault { kind, line: 0, message }
}

impl Machine {
    /// A machine that runs blocks on this many host threads.
    pub fn new(workers: usize) -> Self {
        Machine {
            workers: workers.max(1),
            budget: BUDGET,
            memory: Memory::default(),
            globals: HashMap::new(),
        }
    }

    /// The same with its memory this far above where it is otherwise, so that several machines share no address.
    #[must_use]
    pub fn above(mut self, bytes: u64) -> Self {
        self.memory.start += bytes;
        self
    }

    /// How many instructions one warp may execute before it is [`FaultKind::Endless`]; 50 million at first.
    pub fn set_budget(&mut self, instructions: u64) {
        self.budget = instructions;
    }

    /// Allocates; 256-byte aligned, contents undefined, with an unmapped gap behind it. `name` is used in messages
    /// and in [`Profile::traffic`].
    pub fn allocate(&mut self, bytes: u64, name: &str) -> u64 {
        self.memory.allocate(bytes, name)
    }

    /// Gives an allocation back; its addresses are invalid from then on.
    ///
    /// # Errors
    /// No allocation starts there.
    pub fn free(&mut self, address: u64) -> Result<(), Fault> {
        if self.memory.free(address) {
            return Ok(());
        }
        Err(fault(FaultKind::OutOfBounds, format!("no allocation starts at {address:#x}")))
    }

    fn find(&self, address: u64, bytes: usize, what: &str) -> Result<usize, Fault> {
        let found = self.memory.find(address, bytes as u64);
        found.map_err(|trouble| fault(trouble.kind, format!("the host {what} {}", trouble.what)))
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// Not inside one allocation.
    pub fn write(&mut self, to: u64, data: &[u8]) -> Result<(), Fault> {
        let allocation = &self.memory.allocations[self.find(to, data.len(), "writes")?];
        allocation.write(to - allocation.base, data);
        Ok(())
    }

    /// Copies to the host, which waits for all kernels before.
    ///
    /// # Errors
    /// Not inside one allocation, or bytes that nothing wrote.
    pub fn read(&self, from: u64, into: &mut [u8]) -> Result<(), Fault> {
        let allocation = &self.memory.allocations[self.find(from, into.len(), "reads")?];
        let offset = from - allocation.base;
        if let Some(byte) = allocation.undefined(offset, into.len() as u64) {
            let message = format!("the host reads byte {byte} of `{}`, which nothing wrote", allocation.name);
            return Err(fault(FaultKind::Uninitialised, message));
        }
        allocation.read(offset, into);
        self.settle();
        Ok(())
    }

    /// Copies to the host what is there at this moment, whether something wrote it or not; kernels may still run.
    ///
    /// # Errors
    /// Not inside one allocation.
    pub fn peek(&self, from: u64, into: &mut [u8]) -> Result<(), Fault> {
        let allocation = &self.memory.allocations[self.find(from, into.len(), "reads")?];
        allocation.read(from - allocation.base, into);
        Ok(())
    }

    /// All kernels have ended: the host waited for them.
    pub fn settle(&self) {
        for allocation in &self.memory.allocations {
            allocation.dirty.store(false, Relaxed);
        }
    }

    fn check(module: &Module, launch: &Launch) -> Result<usize, String> {
        let index = module.kernels.iter().position(|kernel| kernel.name == launch.kernel);
        let index = index.ok_or_else(|| format!("no kernel of this name among {:?}", module.kernels()))?;
        let kernel = &module.kernels[index];
        let threads: u64 = launch.block.iter().map(|&size| u64::from(size)).product();
        let most =
            kernel.max_threads.map_or(1024, |sizes| sizes.iter().map(|&size| u64::from(size)).product());
        if threads == 0 || threads > most.min(1024) || launch.block[2] > 64 {
            return Err(format!("blocks of {:?} threads; the kernel takes up to {most}", launch.block));
        }
        if kernel.exact_threads && kernel.max_threads != Some(launch.block) {
            return Err(format!(
                "blocks of {:?} threads; the kernel takes {:?}",
                launch.block, kernel.max_threads
            ));
        }
        let [x, y, z] = launch.grid;
        if x == 0 || x > i32::MAX as u32 || y == 0 || y > 65_535 || z == 0 || z > 65_535 {
            return Err(format!("a grid of {:?} blocks", launch.grid));
        }
        let shared = kernel.shared_bytes + u64::from(launch.shared);
        if shared > MOST_SHARED {
            return Err(format!("{shared} bytes of shared memory; a block may have {MOST_SHARED}"));
        }
        if launch.parameters.len() as u64 != kernel.parameter_bytes {
            let (given, wanted) = (launch.parameters.len(), kernel.parameter_bytes);
            return Err(format!("{given} bytes of parameters; the kernel takes {wanted}"));
        }
        Ok(index)
    }

    /// The variables of a module; the first launch of its kernels makes them.
    fn variables(&mut self, module: &Module) -> Vec<u64> {
        let memory = &mut self.memory;
        let make = |global: &Global| {
            let address = memory.allocate(global.contents.len() as u64, &global.name);
            if let Some(allocation) = memory.allocations.last() {
                allocation.write(0, &global.contents);
            }
            address
        };
        self.globals.entry(module.id).or_insert_with(|| module.globals.iter().map(make).collect()).clone()
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// The first fault, with the kernel, block, thread and PTX line.
    pub fn launch(&mut self, module: &Module, launch: &Launch) -> Result<Profile, Fault> {
        let index = Self::check(module, launch)
            .map_err(|what| fault(FaultKind::Launch, format!("launch of {}: {what}", launch.kernel)))?;
        let globals = self.variables(module);
        // GPUs before sm_90 start a kernel when the one before has ended.
        let early = launch.early && module.target >= 90;
        if !early {
            self.settle();
        }
        let touched: Vec<Touched> = self
            .memory
            .allocations
            .iter()
            .map(|allocation| Touched::new(allocation.dirty.load(Relaxed)))
            .collect();
        let failed = AtomicU64::new(u64::MAX);
        let shape = Shape {
            kernel: &module.kernels[index],
            memory: &self.memory,
            touched: &touched,
            globals: &globals,
            grid: launch.grid,
            block: launch.block,
            shared: launch.shared,
            early,
            parameters: launch.parameters,
            budget: self.budget,
            marks: module.marks.texts.len(),
            lines: &module.lines,
            failed: &failed,
        };
        let blocks: u64 = launch.grid.iter().map(|&size| u64::from(size)).product();
        let next = AtomicU64::new(0);
        let faults: Mutex<Vec<(u64, Fault)>> = Mutex::new(Vec::new());
        let work = || {
            let mut worker = Worker::new(&shape);
            let mut warps = worker.warps();
            loop {
                // Blocks begin in order: no later block's fault can hide an earlier one's.
                let block = next.fetch_add(1, Relaxed);
                if block >= blocks || failed.load(Relaxed) < block {
                    return worker.counters;
                }
                if let Err(fault) = worker.run(block, &mut warps) {
                    failed.fetch_min(block, Relaxed);
                    faults.lock().expect("no worker panics with the lock").push((block, fault));
                }
            }
        };
        let workers = self.workers.min(blocks.min(1 << 16) as usize);
        let counters = std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut counters = vec![work()];
            counters.extend(others.into_iter().map(|other| other.join().expect("a worker ends")));
            counters
        });
        let faults = faults.into_inner().expect("no worker panics with the lock");
        if let Some((_, fault)) = faults.into_iter().min_by_key(|(block, _)| *block) {
            return Err(fault);
        }
        Ok(profile::profile(&counters, &module.marks.texts, &self.memory, &touched))
    }
}

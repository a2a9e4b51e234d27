//! A GPU made of the PTX interpreter: the suite's driver for tests.

use std::collections::HashMap;

use llmroof::backend::cuda::cublaslt::ProductArgs;
use llmroof::backend::cuda::driver::{Address, Driver, Gpu};
use llmroof::backend::cuda::image::image;
use llmroof::backend::cuda::launch::Launch;
use llmroof::backend::weights::{from_bf16, to_bf16};
use llmroof::error::{Failure, Result};
use llmroof::units::Bytes;
use ptx_interpreter::{Machine, Module, Profile};

/// An A100 (or another GPU) whose kernels are interpreted. Keeps the profile of every launch.
pub struct InterpretedGpu {
    gpu: Gpu,
    /// The memory and what executes.
    pub machine: Machine,
    modules: HashMap<&'static str, Module>,
    /// Every launch with what it did, in order.
    pub profiles: Vec<(Launch, Profile)>,
}

/// A Gpu like an A100 SXM4 80 GB.
pub fn a100() -> Gpu {
    Gpu {
        name: "interpreted A100".into(),
        capability: (8, 0),
        multiprocessors: 108,
        shared_per_block: 163 * 1024,
        shared_per_multiprocessor: 164 * 1024,
        l2: 40 << 20,
        memory: 80 << 30,
    }
}

/// A Gpu like an H100 SXM5.
pub fn h100() -> Gpu {
    Gpu {
        name: "interpreted H100".into(),
        capability: (9, 0),
        multiprocessors: 132,
        shared_per_block: 227 * 1024,
        shared_per_multiprocessor: 228 * 1024,
        l2: 50 << 20,
        memory: 80 << 30,
    }
}

impl InterpretedGpu {
    /// Interprets the PTX that this GPU would load.
    pub fn new(gpu: Gpu) -> Self {
        Self::with_workers(gpu, std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// On this many host threads. With one, blocks run in order: the same block arrives last every time.
    pub fn with_workers(gpu: Gpu, workers: usize) -> Self {
        let machine = Machine::new(workers);
        InterpretedGpu { gpu, machine, modules: HashMap::new(), profiles: Vec::new() }
    }

    /// Allocates and fills.
    pub fn upload<T: bytemuck::Pod>(&mut self, values: &[T], name: &str) -> Address {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let address = self.machine.allocate(bytes.len() as u64, name);
        self.machine.write(address, bytes).expect("inside the allocation");
        address
    }

    /// Reads `count` values that kernels wrote.
    pub fn download<T: bytemuck::Pod>(&self, from: Address, count: usize) -> Vec<T> {
        let mut values = vec![T::zeroed(); count];
        self.machine.read(from, bytemuck::cast_slice_mut(&mut values)).expect("written");
        values
    }

    /// What cuBLASLt does, on the host: sums in f32, one after the other, rounded once.
    fn multiply(&mut self, args: &ProductArgs) -> Result<()> {
        let mut rows = |from: Address, count: u32, width: u32, stride: u32| -> Result<Vec<Vec<f32>>> {
            (0..u64::from(count))
                .map(|row| {
                    let mut bits = vec![0u16; width as usize];
                    self.read(from + 2 * row * u64::from(stride), bytemuck::cast_slice_mut(&mut bits))?;
                    Ok(bits.into_iter().map(from_bf16).collect())
                })
                .collect()
        };
        let (x, w) = (rows(args.x, args.rows, args.k, args.x_stride)?, rows(args.w, args.n, args.k, args.k)?);
        let old = match args.accumulate {
            0 => vec![vec![0.0; args.n as usize]; args.rows as usize],
            _ => rows(args.y, args.rows, args.n, args.y_stride)?,
        };
        for (row, (x, old)) in x.iter().zip(old).enumerate() {
            let dot = |w: &Vec<f32>| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
            let y: Vec<u16> = w.iter().zip(old).map(|(w, old)| to_bf16(dot(w) + old)).collect();
            self.write(args.y + 2 * row as u64 * u64::from(args.y_stride), bytemuck::cast_slice(&y))?;
        }
        Ok(())
    }
}

impl Driver for InterpretedGpu {
    fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    fn available(&self) -> Bytes {
        Bytes(self.gpu.memory as f64)
    }

    fn allocate(&mut self, bytes: u64, what: &str) -> Result<Address> {
        Ok(self.machine.allocate(bytes, what))
    }

    fn free(&mut self, address: Address) -> Result<()> {
        self.machine.free(address).map_err(|fault| Failure::device(fault.to_string()))
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<()> {
        self.machine.write(to, data).map_err(|fault| Failure::device(fault.to_string()))
    }

    fn read(&mut self, from: Address, into: &mut [u8]) -> Result<()> {
        self.machine.read(from, into).map_err(|fault| Failure::device(fault.to_string()))
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        if let Some(product) = ProductArgs::of(launch) {
            return self.multiply(&product);
        }
        let module = self.modules.entry(launch.source).or_insert_with(|| {
            let image = image(launch.source, self.gpu.capability)
                .unwrap_or_else(|| panic!("no image of {} for {:?}", launch.source, self.gpu.capability));
            let ptx = image.ptx().expect("the binary is whole");
            Module::parse(&ptx).unwrap_or_else(|fault| panic!("{}: {fault}", launch.source))
        });
        let interpreted = ptx_interpreter::Launch {
            kernel: launch.kernel,
            grid: launch.grid,
            block: [launch.threads, 1, 1],
            shared: launch.shared,
            early: launch.early,
            parameters: &launch.parameter,
        };
        let profile = self
            .machine
            .launch(module, &interpreted)
            .map_err(|fault| Failure::device(format!("{}: {fault}", launch.kernel)))?;
        self.profiles.push((launch.clone(), profile));
        Ok(())
    }

    fn synchronise(&mut self, _: &str) -> Result<()> {
        self.machine.settle();
        Ok(())
    }
}

//! A real GPU under NVIDIA's driver.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use cudarc::driver::sys;

use super::describe::{Described, describe};
use super::graph::{Graph, Recording};
use super::kernels::Kernels;
use super::library::Library;
use super::status::check;
use super::stream::{Context, Event, Stream};
use super::{Address, Driver, Gpu};
use crate::backend::cuda::cublaslt::{self, CublasLt, ProductArgs};
use crate::backend::cuda::launch::Launch;
use crate::backend::{DeviceInfo, KernelImage, OpenOptions};
use crate::error::{Failure, Result};
use crate::units::Bytes;

/// Longest wait for one piece of work, if the options do not say.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the kernels need: Ampere.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);
/// From here on kernels may start early (programmatic dependent launch) ...
const EARLY_CAPABILITY: (u32, u32) = (9, 0);
/// ... and from here on graphs can record that.
const EARLY_IN_GRAPHS: i32 = 12_030;
/// Alignment of what is carved out of a block.
const ALIGNMENT: u64 = 256;

/// An opened GPU with a stream of its own.
#[derive(Debug)]
pub struct CudaGpu {
    gpu: Gpu,
    info: DeviceInfo,
    version: i32,
    memory: BTreeMap<Address, u64>,
    blocks: Vec<Block>,
    cublaslt: Option<CublasLt>,
    // What follows holds on to the context, which is released with the last of them.
    begin: Event,
    end: Event,
    kernels: Kernels,
    stream: Stream,
    context: Rc<Context>,
}

/// Memory that several allocations share, side by side.
#[derive(Debug)]
struct Block {
    base: Address,
    bytes: u64,
    used: u64,
    pieces: u64,
}

impl Block {
    fn holds(&self, address: Address) -> bool {
        (self.base..self.base + self.bytes).contains(&address)
    }
}

impl CudaGpu {
    /// Opens the GPU that the options name.
    ///
    /// # Errors
    /// No driver, one too old, no such GPU, one that is busy, or one that the kernels were not written for.
    pub fn open(options: &OpenOptions) -> Result<CudaGpu> {
        let library = Library::open()?;
        if options.ordinal as i64 >= i64::from(library.devices) {
            return Err(Failure::device(format!(
                "there is no GPU {}: the driver shows {}",
                options.ordinal, library.devices
            ))
            .hint("`llmroof devices` lists them"));
        }
        let Described { handle, info, gpu } = describe(library, options.ordinal)?;
        if gpu.capability < LEAST_CAPABILITY {
            let (major, minor) = gpu.capability;
            return Err(Failure::device(format!(
                "the {} has compute capability {major}.{minor}, the kernels need 8.0",
                gpu.name
            ))
            .hint("take an Ampere GPU or a newer one, or --device cpu"));
        }
        let context = Context::retain(handle, &gpu.name)?;
        Ok(CudaGpu {
            version: library.version,
            memory: BTreeMap::new(),
            blocks: Vec::new(),
            cublaslt: None,
            begin: Event::new(&context)?,
            end: Event::new(&context)?,
            kernels: Kernels::new(&context, gpu.capability),
            stream: Stream::new(&context, options.patience.unwrap_or(PATIENCE))?,
            context,
            gpu,
            info,
        })
    }

    /// What the GPU is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Every kernel that was loaded.
    pub fn images(&self) -> Vec<KernelImage> {
        self.kernels.images()
    }

    /// Makes the GPU this thread's, which another may have been since.
    ///
    /// # Errors
    /// The device failed.
    pub fn bind(&self) -> Result<()> {
        self.context.bind()
    }

    /// The stream that everything runs on.
    pub(in crate::backend::cuda) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// How long it waits for one piece of work.
    pub(in crate::backend::cuda) fn patience(&self) -> Duration {
        self.stream.patience()
    }

    /// Whether it still answers.
    pub(in crate::backend::cuda) fn answers(&self) -> bool {
        self.context.answers()
    }

    /// Gives it up: nothing of it is given back any more, since the driver would wait for it.
    pub(in crate::backend::cuda) fn abandon(&self) {
        self.context.abandon();
    }

    /// Begins to record its stream, by itself or while other GPUs record theirs. It must be this thread's. `what` names the
    /// graph in messages.
    ///
    /// # Errors
    /// The driver cannot record.
    pub(in crate::backend::cuda) fn begin_recording<'a>(&'a self, what: &'a str) -> Result<Recording<'a>> {
        Recording::begin(&self.context, &self.stream, what)
    }

    /// An event that takes the time.
    ///
    /// # Errors
    /// The device failed.
    pub(in crate::backend::cuda) fn event(&self) -> Result<Event> {
        Event::new(&self.context)
    }

    /// Opens the machine's cuBLASLt, so that its products can be launched, and gives it scratch memory. Returns why
    /// there is none that starts with this driver.
    ///
    /// # Errors
    /// Out of memory, or the device failed.
    pub(in crate::backend::cuda) fn find_cublaslt(&mut self) -> Result<Option<Failure>> {
        if self.cublaslt.is_none() {
            let bytes = cublaslt::workspace_bytes(&self.gpu);
            let workspace = self.allocate(bytes, "cuBLASLt's workspace")?;
            match CublasLt::open((workspace, bytes)) {
                Ok(opened) => self.cublaslt = Some(opened),
                Err(failure) => {
                    self.free(workspace)?;
                    return Ok(Some(failure));
                }
            }
        }
        Ok(None)
    }

    /// `cublaslt 12.8.4`; `None` where it was not opened.
    pub(in crate::backend::cuda) fn cublaslt(&self) -> Option<&str> {
        self.cublaslt.as_ref().map(CublasLt::version)
    }

    /// Lets cuBLASLt's algorithms compete for the products among these launches, which run: what they write to is
    /// written. `doing` names it.
    ///
    /// # Errors
    /// cuBLASLt has no algorithm for one of them, or the device failed.
    pub(in crate::backend::cuda) fn tune(&mut self, doing: &str, launches: &[Launch]) -> Result<()> {
        let (stream, begin, end) = (&self.stream, &self.begin, &self.end);
        let mut time = |work: &mut dyn FnMut()| {
            stream.record(begin)?;
            work();
            stream.record(end)?;
            stream.wait(end, doing)?;
            end.seconds_since(begin)
        };
        let Some(cublaslt) = &mut self.cublaslt else { return Ok(()) };
        launches
            .iter()
            .filter_map(ProductArgs::of)
            .try_for_each(|product| cublaslt.tune(&product, stream.raw().cast(), &mut time))
    }

    /// Records launches as a graph. `what` names it in messages.
    ///
    /// # Errors
    /// A kernel cannot be loaded, or the device failed.
    pub(in crate::backend::cuda) fn record<'a>(
        &mut self,
        what: &str,
        launches: impl IntoIterator<Item = &'a Launch>,
    ) -> Result<Graph> {
        let launches: Vec<&Launch> = launches.into_iter().collect();
        // Loading is not allowed while a stream records.
        for launch in &launches {
            match ProductArgs::of(launch) {
                Some(product) => loaded(&mut self.cublaslt)?.prepare(&product)?,
                None => drop(self.kernels.function(launch)?),
            }
        }
        self.stream.synchronise(what)?;
        let (kernels, cublaslt, stream) = (&mut self.kernels, &mut self.cublaslt, &self.stream);
        let early = self.gpu.capability >= EARLY_CAPABILITY && self.version >= EARLY_IN_GRAPHS;
        Graph::record(&self.context, stream, what, || {
            launches.iter().try_for_each(|launch| start(kernels, cublaslt, stream, launch, early))
        })
    }

    /// Device seconds of what `work` queues. `doing` names it.
    ///
    /// # Errors
    /// The work does, or the device failed.
    pub(in crate::backend::cuda) fn timed(
        &mut self,
        doing: &str,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<f64> {
        self.stream.record(&self.begin)?;
        work(self)?;
        self.stream.record(&self.end)?;
        self.stream.wait(&self.end, doing)?;
        self.end.seconds_since(&self.begin)
    }

    /// The blocks that [`Driver::together`] made, as address and length: the weights.
    pub fn blocks(&self) -> impl Iterator<Item = (Address, u64)> + '_ {
        self.blocks.iter().map(|block| (block.base, block.used))
    }

    fn raw_allocate(&mut self, bytes: u64, what: &str) -> Result<Address> {
        let mut address = 0;
        // SAFETY: the pointer is to a local.
        let result = unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) };
        check(result, format_args!("allocating {} for {what}", Bytes(bytes as f64).human())).map_err(
            |mut failure| {
                if result as u32 == 2 {
                    failure.what += &format!(", {} are free", self.available().human());
                }
                failure
            },
        )?;
        Ok(address)
    }

    fn raw_free(&mut self, address: Address) -> Result<()> {
        // The driver would wait for running work without end.
        self.stream.synchronise("giving memory back")?;
        // SAFETY: the address is an allocation that was not freed before, and nothing runs that would use it.
        check(unsafe { sys::cuMemFree_v2(address) }, "giving memory back")
    }
}

fn loaded(cublaslt: &mut Option<CublasLt>) -> Result<&mut CublasLt> {
    cublaslt.as_mut().ok_or_else(|| {
        Failure::device("a product for cuBLASLt, which was not opened").hint("this is worth a bug report")
    })
}

/// Queues one launch, early if both sides can.
fn start(
    kernels: &mut Kernels,
    cublaslt: &mut Option<CublasLt>,
    stream: &Stream,
    launch: &Launch,
    early: bool,
) -> Result<()> {
    if let Some(product) = ProductArgs::of(launch) {
        return loaded(cublaslt)?.multiply(&product, stream.raw().cast());
    }
    let function = kernels.function(launch)?;
    let mut overlapping = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let [x, y, z] = launch.grid;
    let config = sys::CUlaunchConfig {
        gridDimX: x,
        gridDimY: y,
        gridDimZ: z,
        blockDimX: launch.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: launch.shared,
        hStream: stream.raw(),
        attrs: &mut overlapping,
        numAttrs: u32::from(early && launch.early),
    };
    // As 8-byte words: the kernel's struct has pointers. Every such struct is a multiple of 8 bytes.
    let mut parameter = vec![0u64; launch.parameter.len().div_ceil(8)];
    bytemuck::cast_slice_mut::<u64, u8>(&mut parameter)[..launch.parameter.len()]
        .copy_from_slice(&launch.parameter);
    let mut parameters = [parameter.as_mut_ptr().cast::<c_void>()];
    // SAFETY: the function is loaded; its only parameter is a struct of just these bytes, which are copied by the
    // call; the attribute is a local that is alive.
    let launched =
        unsafe { sys::cuLaunchKernelEx(&config, function, parameters.as_mut_ptr(), ptr::null_mut()) };
    check(launched, format_args!("launching {}", launch.kernel))
}

impl Driver for CudaGpu {
    fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    fn available(&self) -> Bytes {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to locals.
        let result = unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) };
        match check(result, "asking for free memory") {
            Ok(()) => Bytes(free as f64),
            // Whatever is asked of the GPU next fails and says why; that too little is free would not be the reason.
            Err(_) => Bytes(f64::INFINITY),
        }
    }

    fn allocate(&mut self, bytes: u64, what: &str) -> Result<Address> {
        let bytes = bytes.next_multiple_of(ALIGNMENT).max(ALIGNMENT);
        if let Some(block) = self.blocks.last_mut().filter(|block| block.used + bytes <= block.bytes) {
            let address = block.base + block.used;
            block.used += bytes;
            block.pieces += 1;
            return Ok(address);
        }
        let address = self.raw_allocate(bytes, what)?;
        self.memory.insert(address, bytes);
        Ok(address)
    }

    fn together(&mut self, pieces: &mut dyn Iterator<Item = u64>, what: &str) -> Result<()> {
        let bytes = pieces.map(|bytes| bytes.next_multiple_of(ALIGNMENT).max(ALIGNMENT)).sum();
        let base = self.raw_allocate(bytes, what)?;
        self.memory.insert(base, bytes);
        self.blocks.push(Block { base, bytes, used: 0, pieces: 0 });
        Ok(())
    }

    fn free(&mut self, address: Address) -> Result<()> {
        let mut address = address;
        if let Some(at) = self.blocks.iter().position(|block| block.holds(address)) {
            let block = &mut self.blocks[at];
            block.pieces = block.pieces.saturating_sub(1);
            if block.pieces > 0 {
                return Ok(());
            }
            address = block.base;
            self.blocks.remove(at);
        }
        match self.memory.remove(&address) {
            Some(_) => self.raw_free(address),
            None => Err(Failure::device(format!("{address:#x} is given back, but is no allocation"))
                .hint("this is worth a bug report")),
        }
    }

    fn zero(&mut self, address: Address, bytes: u64) -> Result<()> {
        // SAFETY: the range lies in an allocation, as the trait demands.
        check(
            unsafe { sys::cuMemsetD8Async(address, 0, bytes as usize, self.stream.raw()) },
            "clearing memory",
        )
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<()> {
        // SAFETY: the data is as long as said; the address lies in an allocation, as the trait demands. Memory that
        // is not pinned is copied aside before the call returns.
        let result =
            unsafe { sys::cuMemcpyHtoDAsync_v2(to, data.as_ptr().cast(), data.len(), self.stream.raw()) };
        check(result, format_args!("copying {} to the GPU", Bytes(data.len() as f64).human()))
    }

    fn read(&mut self, from: Address, into: &mut [u8]) -> Result<()> {
        // The copy itself would wait without end.
        self.stream.synchronise("waiting for the GPU")?;
        // SAFETY: the buffer is as long as said and stays where it is until the copy has ended.
        let result = unsafe {
            sys::cuMemcpyDtoHAsync_v2(into.as_mut_ptr().cast(), from, into.len(), self.stream.raw())
        };
        check(result, format_args!("copying {} from the GPU", Bytes(into.len() as f64).human()))?;
        self.stream.synchronise("copying from the GPU")
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        let early = self.gpu.capability >= EARLY_CAPABILITY;
        start(&mut self.kernels, &mut self.cublaslt, &self.stream, launch, early)
    }

    fn synchronise(&mut self, doing: &str) -> Result<()> {
        self.stream.synchronise(doing)
    }
}

impl Drop for CudaGpu {
    fn drop(&mut self) {
        // Another GPU may have become this thread's. What fails now is not worth a word. cuBLASLt would wait for a GPU
        // that does not answer.
        let cublaslt = ManuallyDrop::new(self.cublaslt.take());
        if !self.context.answers() || self.bind().is_err() || self.stream.synchronise("closing").is_err() {
            return;
        }
        drop(ManuallyDrop::into_inner(cublaslt));
        for &address in self.memory.keys() {
            // SAFETY: an allocation that was not freed before, and nothing runs that would use it.
            unsafe { sys::cuMemFree_v2(address) };
        }
    }
}
